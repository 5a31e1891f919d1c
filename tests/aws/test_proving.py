"""`manage.py prove`: what it asks AWS, what it says of the answers, and what it leaves behind."""

import dataclasses
import io
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from requests_app.aws import sts
from requests_app.aws.probe import End, Reply
from requests_app.aws.proving import ends, keys, moments, policies, role, run, sign_in
from requests_app.aws.proving.asking import SCOPING, Answer, Case, allow, is_denial
from requests_app.aws.proving.role import PATH, Roles

PROJECT = Path(__file__).resolve().parents[2]
ACCOUNT = "555555555555"
REGION = "eu-central-1"
# Settings as of somebody who has neither database nor Redis.
SETTINGS = {
    "SECRET_KEY": "only-for-tests-" * 5,
    "BASE_URL": "https://daypass.example.com",
    "DATABASE_URL": "postgres://nobody:none@127.0.0.1:9/none",
    "REDIS_URL": "redis://127.0.0.1:9/0",
}
# The controls of a switch are the answers without it; of the role that must allow it the role is a new one.
NEEDS_NO_ALLOW = {keys.the_role_must_allow_it: Answer.NO, keys.the_session_policy_must_allow_it: Answer.NO}
USUAL = {
    keys.the_role_must_allow_it: Answer.YES,
    keys.the_session_policy_must_allow_it: Answer.YES,
    policies.a_deny_in_the_parent_holds: Answer.YES,
    policies.a_deny_in_the_scoped_layer_holds: Answer.YES,
    policies.an_allow_in_the_scoped_layer_suffices: Answer.NO,
    policies.an_allow_in_the_parent_suffices: Answer.NO,
    moments.scoped_keys_end_at_their_expiration: Answer.YES,
    moments.a_proof_signed_before_ends_too: Answer.YES,
    moments.the_moment_of_issue_is_the_parents: Answer.NO,
    sign_in.it_takes_a_form: Answer.YES,
    sign_in.it_takes_scoped_keys: Answer.YES,
}

SWITCHES: list[tuple[dict[str, Any], dict[Any, Answer]]] = [
    ({}, {}),
    ({"needs_allow": False}, NEEDS_NO_ALLOW),
    ({"known": False}, dict.fromkeys(set(USUAL) - {sign_in.it_takes_a_form}, Answer.UNTOLD)),
    ({"refused": ["*"]}, dict.fromkeys(set(USUAL) - {sign_in.it_takes_a_form}, Answer.UNTOLD)),
    ({"console": False}, {sign_in.it_takes_scoped_keys: Answer.NO}),
    ({"form": False}, {sign_in.it_takes_a_form: Answer.NO, sign_in.it_takes_scoped_keys: Answer.UNTOLD}),
    ({"issued": "parent"}, {moments.the_moment_of_issue_is_the_parents: Answer.YES}),
    (
        {"layers": "scoped"},
        {
            policies.a_deny_in_the_parent_holds: Answer.NO,
            policies.an_allow_in_the_scoped_layer_suffices: Answer.YES,
        },
    ),
    (
        {"layers": "session"},
        {
            policies.a_deny_in_the_scoped_layer_holds: Answer.NO,
            policies.an_allow_in_the_parent_suffices: Answer.YES,
            moments.the_moment_of_issue_is_the_parents: Answer.NO,
        },
    ),
    (
        {"lingers": 5},
        {moments.scoped_keys_end_at_their_expiration: Answer.NO, moments.a_proof_signed_before_ends_too: Answer.NO},
    ),
]


class Account:
    """Some account in which nobody knows Daypass, and somebody there with the given permissions."""

    def __init__(self, stand_in: Any, federation_url: str, folder: Path) -> None:
        self._root = stand_in.root(ACCOUNT)
        self._iam = self._root.client("iam")
        self._config = folder / "config"
        self.environment = {
            "AWS_CONFIG_FILE": str(self._config),
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": stand_in.url,
            "FEDERATION_URL": federation_url,
            # Not who is asked for: the profile wins.
            "AWS_ACCESS_KEY_ID": "ASIANOBODY",
            "AWS_SECRET_ACCESS_KEY": "nothing",
        }

    def become(self, policy: Any, profile: str = "prover") -> None:
        user = f"prover-{secrets.token_hex(4)}"
        self._iam.create_user(UserName=user)
        self._iam.put_user_policy(UserName=user, PolicyName="may", PolicyDocument=json.dumps(policy))
        made = self._iam.create_access_key(UserName=user)["AccessKey"]
        self._config.write_text(
            f"[profile {profile}]\naws_access_key_id = {made['AccessKeyId']}\n"
            f"aws_secret_access_key = {made['SecretAccessKey']}\n"
        )
        self.secret = made["SecretAccessKey"]

    def roles(self, path: str = PATH) -> list[str]:
        return sorted(found["RoleName"] for found in self._iam.list_roles(PathPrefix=path)["Roles"])

    def make_role(self, name: str, path: str, **more: Any) -> None:
        trust = {"Version": "2012-10-17", "Statement": []}
        self._iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=json.dumps(trust), **more)

    def forget(self) -> None:
        for found in self._iam.list_roles()["Roles"]:
            for policy in self._iam.list_role_policies(RoleName=found["RoleName"])["PolicyNames"]:
                self._iam.delete_role_policy(RoleName=found["RoleName"], PolicyName=policy)
            self._iam.delete_role(RoleName=found["RoleName"])


def documented_policy() -> Any:
    section = (PROJECT / "docs/operations.md").read_text().split("\n## Proving on AWS\n")[1]
    return json.loads(section.split("```json\n")[1].split("```")[0])


@pytest.fixture
def account(aws_stand_in: Any, federation: Any, tmp_path: Path) -> Iterator[Account]:
    """Signed in as somebody with exactly the permissions that are documented."""
    account = Account(aws_stand_in, federation.url, tmp_path)
    account.become(documented_policy())
    yield account
    account.forget()


@pytest.fixture
def as_prover(account: Account, as_worker: Any, settings: Any) -> Iterator[Account]:
    """This process, too."""
    settings.FEDERATION_URL = account.environment["FEDERATION_URL"]
    as_worker({name: value for name, value in account.environment.items() if name.startswith("AWS_")})
    sts.act_as("prover")
    yield account
    sts.act_as(None)


@pytest.fixture
def case(as_prover: Account, federation: Any) -> Case:
    """A role to ask questions on. It does not say that it may be scoped."""
    roles, name = Roles(REGION), role.new_name()
    arn = roles.make(name, sts.read_clock(REGION, lambda: datetime.now(UTC)).identity_arn)
    return Case(roles, name, arn, REGION, "aws", federation.url, ("sqs:ListQueues", "dynamodb:ListTables"))


def let_it_scope(case: Case) -> None:
    case.roles.put(case.role_name, "scoping", [allow(SCOPING)])


def answers(case: Case, *questions: Any) -> dict[Any, Answer]:
    return {question: run._ask(question, case, float("inf")).told.answer for question in questions}


def start(account: Account, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "prove", "--profile", "prover", "--region", REGION, *options],
        cwd=PROJECT,
        env={"PATH": os.defpath, **SETTINGS, **account.environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(words: str, process: subprocess.Popen[str]) -> str:
    """What it says on standard error until there."""
    assert process.stderr
    said = ""
    for line in process.stderr:
        said += line
        if words in line:
            return said
    raise AssertionError(f"it ended without: {words}\n{said}")


def prove(**options: Any) -> tuple[str, str]:
    """In this process. What it prints, and what it says meanwhile."""
    out, said = io.StringIO(), io.StringIO()
    try:
        call_command("prove", profile="prover", region=REGION, stdout=out, stderr=said, **options)
    except SystemExit as end:
        said.write(f"exit code {end.code}")
    return out.getvalue(), said.getvalue()


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Of all questions these alone, and the one that makes the others possible."""
    return lambda *few: monkeypatch.setattr(run, "CHAPTERS", (("Some", (keys.the_role_must_allow_it, *few)),))


def test_every_question_is_answered_and_nothing_is_left_nor_given_away(account, proxy):
    """Without a database, by somebody with the documented permissions and no more."""
    account.environment["AWS_ENDPOINT_URL"] = proxy.url

    process = start(account)
    record, said = process.communicate(timeout=200)

    assert process.returncode == 0, said + record
    assert record.count("\n   - seen: ") == sum(len(questions) for _, questions in run.CHAPTERS)
    assert "CONTRADICT" not in record
    assert "**This was not AWS**" in record
    assert ACCOUNT not in record
    assert "account …5555" in record
    assert account.roles() == []
    assert len(proxy.secrets) > 40, "the control: secrets are noticed"
    assert proxy.told(record + said) == []
    assert account.secret not in record + said


@pytest.mark.parametrize(("switch", "changed"), SWITCHES, ids=[str(switch) for switch, _ in SWITCHES])
def test_an_answer_is_what_aws_does(case, aws_stand_in, monkeypatch, switch, changed):
    """Each is another where AWS is another, and no other answer is."""
    slow = {moments.scoped_keys_end_at_their_expiration, moments.a_proof_signed_before_ends_too}
    asked = [question for question in USUAL if question not in slow or not switch or question in changed]
    monkeypatch.setattr(moments, "_LIFE", 4)
    with aws_stand_in.scoping(**switch):
        assert answers(case, *asked) == {question: (USUAL | changed)[question] for question in asked}


def test_a_question_that_fails_keeps_awss_words_and_stops_no_other(as_prover, aws_stand_in, only):
    only(keys.one_second_is_enough, sign_in.it_takes_a_form)

    with aws_stand_in.scoping(known=False):
        record, said = prove()

    assert record.count("could not be told, because\n   - reason: AWS said InvalidAction “Could not find") == 2
    assert "by POST, and without a SessionDuration?** yes" in record
    assert "1 of 3 questions answered; none contradicts what Daypass rests on; 2 could not be told" in record
    assert "exit code 3" in said


def test_what_contradicts_is_said_loudly(as_prover, aws_stand_in, only):
    only(policies.a_deny_in_the_parent_holds, moments.the_moment_of_issue_is_the_parents)

    with aws_stand_in.scoping(layers="scoped", issued="parent"):
        record, said = prove(show_account=True)

    assert "hold for the scoped keys?** no: **this CONTRADICTS what Daypass rests on it**" in record
    assert f"account {ACCOUNT}" in record
    assert "issued?** yes\n" in record, "nothing rests on it, so that it contradicts nothing"
    assert "CONTRADICTS WHAT DAYPASS RESTS ON: Does a deny that stands only in the parent's" in said
    assert "exit code 1" in said


def test_a_fault_of_ours_gives_nothing_away(as_prover, only, monkeypatch):
    def at_fault(case: Case) -> Any:
        raise KeyError("the secret of a session")

    only(dataclasses.replace(keys.one_second_is_enough, ask=at_fault))

    record, said = prove()

    assert "because\n   - reason: of a fault in Daypass (KeyError)" in record.replace("\\", "")
    assert "secret of a session" not in record + said


def test_a_deny_that_does_not_arrive_is_noticed(case, monkeypatch):
    let_it_scope(case)
    assert answers(case, ends.a_deny_by_userid_reaches_scoped_keys) == {
        ends.a_deny_by_userid_reaches_scoped_keys: Answer.YES
    }
    monkeypatch.setattr(ends, "_LONGEST_WAIT", 2)
    monkeypatch.setattr(Roles, "put", lambda *arguments: None)
    assert answers(case, ends.a_deny_by_userid_reaches_scoped_keys) == {
        ends.a_deny_by_userid_reaches_scoped_keys: Answer.NO
    }


T = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("replies", "answer"),
    [
        ("-1 ok, 0 no, 1 no", Answer.YES),
        ("-1 ok, 0 ok, 1 no", Answer.YES),  # sent before T, answered in its second
        ("-1 ok, 0 ok, 0 ok, 1 no", Answer.NO),  # sent when AWS had said T
        ("-1 ok, 0 no, 1 ok, 2 no", Answer.NO),
        ("-3 ok, -2 no, 0 no, 1 no", Answer.NO),
        ("-1 ok, 1 ok, 31 ok", Answer.NO),
    ],
)
def test_exact_is_by_awss_own_clock(replies, answer):
    refused = Reply(End.DENIED, None, "AccessDenied", "no")
    script = [reply.split() for reply in replies.split(", ")]
    answered = iter(
        [
            dataclasses.replace(refused if word == "no" else Reply(End.WORKED, None), at=T + timedelta(seconds=int(at)))
            for at, word in script
        ]
    )
    seen = moments._watch({"a call": lambda: next(answered)}, T, is_denial)
    assert moments._told(seen, T).answer is answer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE])
def test_whatever_stops_it_the_role_is_gone(account, number):
    process = start(account)
    said = wait_for("Does the deny in the policies", process)
    assert len(account.roles()) == 1, "the control"

    if number == signal.SIGPIPE:  # as before `| head`
        assert process.stderr
        process.stderr.close()
    else:
        process.send_signal(number)
        process.send_signal(number)  # an impatient second press
        said += process.communicate(timeout=60)[1]
        assert "Interrupted" in said
        assert "Traceback" not in said

    # 120 is Python's own, where it cannot write out what nobody takes.
    assert process.wait(60) in (128 + number, 120), said
    assert account.roles() == []


@pytest.mark.parametrize("clean", [True, False])
def test_what_was_killed_is_cleaned_up_by_the_next_one(as_prover, only, clean):
    account, process = as_prover, start(as_prover)
    wait_for("Does the deny in the policies", process)
    process.kill()
    process.communicate(timeout=60)
    (left,) = account.roles()
    # Neither is ours, whatever one of the two signs says.
    account.make_role("somebodys", PATH)
    account.make_role("elsewhere", "/", Tags=[{"Key": "daypass", "Value": "prove"}])
    only()

    record, said = prove(clean=clean)

    assert f"Removed {PATH}{left}, which an earlier run had left behind." in said
    assert account.roles() == ["somebodys"]
    assert account.roles("/") == ["elsewhere", "somebodys"]
    assert (record == "") is clean

    record, said = prove(clean=True)
    assert "No role of an earlier run is there." in said


@pytest.mark.parametrize("missing", ["iam:ListRoles", "iam:CreateRole", "iam:PutRolePolicy"])
def test_whoever_may_not_is_told_what_is_missing(as_prover, missing):
    policy = documented_policy()
    policy["Statement"].append({"Effect": "Deny", "Action": missing, "Resource": "*"})
    as_prover.become(policy)
    sts.forget_clients()

    with pytest.raises(CommandError, match=f"did not let this profile .*{missing}.*“Proving on AWS”") as refused:
        prove()

    assert refused.value.returncode == 4
    assert as_prover.roles() == []


def test_a_role_that_may_not_be_removed_is_named(as_prover, only):
    policy = documented_policy()
    policy["Statement"].append({"Effect": "Deny", "Action": "iam:DeleteRole", "Resource": "*"})
    as_prover.become(policy)
    sts.forget_clients()
    only()

    _, said = prove()

    (left,) = as_prover.roles()
    assert f"THE ROLE COULD NOT BE REMOVED: arn:aws:iam::{ACCOUNT}:role{PATH}{left} (AccessDenied" in said
    assert "exit code 4" in said


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        ("nobody", "AWS does not know who is asking: ProfileNotFound"),
        ("root", "cannot become a role, as the root user"),
    ],
)
def test_whoever_cannot_ask_is_told_why(as_prover, tmp_path, profile, sentence):
    with (tmp_path / "config").open("a") as config:
        config.write(f"[profile root]\naws_access_key_id = {ACCOUNT}\naws_secret_access_key = any\n")
    with pytest.raises(CommandError, match=sentence) as refused:
        call_command("prove", profile=profile, region=REGION, stdout=io.StringIO(), stderr=io.StringIO())
    assert refused.value.returncode == 4


def test_a_role_may_ask_too_and_is_the_only_one_let_in(as_prover, aws_stand_in, only, tmp_path):
    """Under a path, as those of Identity Center are. The role made trusts that very session."""
    name = f"Admin{secrets.token_hex(3)}"
    root = aws_stand_in.root(ACCOUNT).client("iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    arn = root.create_role(RoleName=name, Path="/reserved/", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    root.put_role_policy(RoleName=name, PolicyName="may", PolicyDocument=json.dumps(documented_policy()))
    policy = documented_policy()
    policy["Statement"].append({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": arn})
    as_prover.become(policy, profile="user")
    with (tmp_path / "config").open("a") as config:
        config.write(f"[profile prover]\nrole_arn = {arn}\nsource_profile = user\nrole_session_name = me\n")
    sts.forget_clients()
    only()

    record, said = prove()

    assert "1 of 1 questions answered" in record, said
    assert "as whom: a role session" in record


def test_the_documents_list_every_question():
    """In their order, with nothing else between."""
    section = (PROJECT / "docs/security.md").read_text().split("\n## What only AWS can answer\n")[1].split("\n## ")[0]
    listed = re.findall(r"^\| (.+\?) \|", section, re.MULTILINE)
    assert listed == [question.words for _, questions in run.CHAPTERS for question in questions]
