"""What a preflight finds on good roles and on broken ones, before somebody needs them."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from requests_app.aws import iam, preflight, probe, sts
from requests_app.aws.preflight import Check, Door, Outcome, Subject, other_doors
from sandbox.landscape import ACCOUNTS, HUB_ACCOUNT, REVOKER_IN_TARGET, hub_role_arn, revoker_arn, trust_policy
from sandbox.proxy import Fault

from .conftest import PAYMENTS, keys_of, works

MINTER = f"arn:aws:sts::{HUB_ACCOUNT}:assumed-role/daypass-minter/mint-1"
HARMLESS_OF = {"DatabaseOperator": "dynamodb:ListTables"}
GOOD, BAD, UNKNOWN = Outcome.GOOD, Outcome.BAD, Outcome.UNKNOWN


def now() -> datetime:
    return datetime.now(UTC)


def subject_of(role_arn: str, external_id: str | None = PAYMENTS.external_id, **more: Any) -> Subject:
    known: dict[str, Any] = {"region": "us-east-1", "installation": "here", "longest_session": 3600, "chained": True}
    return Subject(role_arn=role_arn, external_id=external_id, **known | more)


@pytest.fixture
def subject(target_role) -> Subject:
    return subject_of(target_role.arn)


def trust(target_role: Any, *statements: dict[str, Any]) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    target_role.iam.update_assume_role_policy(RoleName=target_role.name, PolicyDocument=document)


def may_assume(**more: Any) -> dict[str, Any]:
    principal = {"AWS": hub_role_arn("minter")}
    return {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", **more}


MAY_NAME = may_assume(Action="sts:SetSourceIdentity")
ASKS_FOR_ID = {"StringEquals": {"sts:ExternalId": PAYMENTS.external_id}}


def found(findings: preflight.Findings, check: Check) -> preflight.Finding:
    (finding,) = (finding for finding in findings.findings if finding.check is check)
    return finding


# --- the minter's half ---------------------------------------------------------------------------


@pytest.mark.parametrize(("account", "role"), [(account, role) for account in ACCOUNTS for role in account.roles])
def test_every_role_of_the_landscape_is_good(minter, assumed, account, role):
    findings = preflight.as_minter(subject_of(account.role_arn(role.name), account.external_id), now)

    assert {finding.check: finding.verdict for finding in findings.findings} == {
        Check.TRUST: GOOD,
        Check.SOURCE_IDENTITY: GOOD,
        Check.EXTERNAL_ID: GOOD,
        Check.PROOF: GOOD,
        Check.ENDS_BY_STS: GOOD,
    }
    assert findings.scoping is True
    assert findings.role_id.startswith("AROA")
    assert findings.harmless_action == HARMLESS_OF.get(role.name, "sqs:ListQueues")
    assert len(assumed.orders) == 3


def test_the_action_it_finds_does_prove(minter, target_role, subject):
    target_role.put("permissions", {"Effect": "Allow", "Action": "ssm:Describe*", "Resource": "*"})
    action = preflight.as_minter(subject, now).harmless_action

    order = probe.ProbeOrder(target_role.arn, "us-east-1", "here", 1, action, PAYMENTS.external_id)

    assert action == "ssm:DescribeParameters"
    assert probe.prove(order, now).outcome is probe.Outcome.NOT_YET


def test_a_trust_policy_that_does_not_name_us_is_told_in_awss_words(minter, target_role, subject, assumed):
    trust(target_role, may_assume(Principal={"AWS": hub_role_arn("revoker")}))

    findings = preflight.as_minter(subject, now)

    finding = found(findings, Check.TRUST)
    assert findings.findings == (finding,)
    assert finding.verdict is BAD
    assert finding.code == "AccessDenied"
    assert f"sts:AssumeRole on resource: {target_role.arn}" in finding.words
    assert "trust policy" in finding.advice
    assert len(assumed.orders) == 2


@pytest.mark.parametrize("wrong", ["another", "x" * 40])
def test_another_external_id_is_broken_trust(minter, subject, wrong):
    findings = preflight.as_minter(dataclasses.replace(subject, external_id=wrong), now)

    assert findings.verdict(Check.TRUST) is BAD
    assert findings.verdict(Check.EXTERNAL_ID) is None  # nothing can be said about it


def test_a_role_that_is_missing_is_broken_trust(minter):
    assert preflight.as_minter(subject_of(PAYMENTS.role_arn("NoSuch")), now).verdict(Check.TRUST) is BAD


def test_a_role_that_asks_for_no_external_id_is_open_to_the_confused_deputy(minter, target_role, subject):
    trust(target_role, may_assume(), MAY_NAME)

    finding = found(preflight.as_minter(subject, now), Check.EXTERNAL_ID)

    assert finding.verdict is BAD
    assert "without the external id" in finding.words
    assert "trust policy" in finding.advice


def test_an_account_without_an_external_id_in_the_catalog_is_too(minter, target_role, subject, assumed):
    trust(target_role, may_assume(), MAY_NAME)

    findings = preflight.as_minter(dataclasses.replace(subject, external_id=None), now)

    assert findings.verdict(Check.TRUST) is GOOD
    assert found(findings, Check.EXTERNAL_ID).verdict is BAD
    assert len(assumed.orders) == 2


def test_a_trust_policy_that_does_not_let_us_name_people(minter, target_role, subject, assumed):
    trust(target_role, may_assume(Condition=ASKS_FOR_ID))

    findings = preflight.as_minter(subject, now)

    finding = found(findings, Check.SOURCE_IDENTITY)
    assert finding.verdict is BAD
    assert "sts:SetSourceIdentity" in finding.words
    assert "record that this account does not allow it" in finding.advice
    others = (Check.TRUST, Check.EXTERNAL_ID, Check.PROOF)
    assert [findings.verdict(check) for check in others] == [GOOD, GOOD, GOOD]
    assert len(assumed.orders) == 4


def test_a_role_that_allows_no_harmless_call_cannot_be_proved(minter, target_role, subject):
    target_role.put("permissions", {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"})

    findings = preflight.as_minter(subject, now)

    finding = found(findings, Check.PROOF)
    assert findings.harmless_action == ""
    assert finding.verdict is BAD
    assert "cannot prove" in finding.advice


def test_a_service_that_does_not_say_who_denied_is_no_use_for_a_proof(minter, subject, monkeypatch):
    """Such as S3, which may say `Access Denied` and nothing else."""
    try_action = probe.try_action

    def tight_lipped(session: Any, action: str, region: str) -> probe.Reply:
        reply = try_action(session, action, region)
        silent = reply.end is probe.End.DENIED_BY_SESSION and action == "sqs:ListQueues"
        return dataclasses.replace(reply, end=probe.End.DENIED) if silent else reply

    monkeypatch.setattr(probe, "try_action", tight_lipped)

    assert preflight.as_minter(subject, now).harmless_action == "dynamodb:ListTables"


def test_silence_is_not_held_against_the_role(as_worker, minter, subject, server):
    closed = server(lambda connection: None)
    closed.close()
    as_worker(minter.profile("minter") | {"AWS_ENDPOINT_URL": closed.url})

    (finding,) = preflight.as_minter(subject, now).findings

    assert (finding.check, finding.verdict) == (Check.TRUST, UNKNOWN)
    assert finding.code == "EndpointConnectionError"


@pytest.fixture
def unchained(as_worker, minter, target_role):
    """The worker with a user's own keys, as outside AWS; the role trusts it."""
    hub = minter.root(HUB_ACCOUNT).client("iam")
    user = hub.create_user(UserName="unchained")["User"]["Arn"]
    wide = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:*", "Resource": "*"}})
    hub.put_user_policy(UserName="unchained", PolicyName="wide", PolicyDocument=wide)
    keys = hub.create_access_key(UserName="unchained")["AccessKey"]
    principal = {"AWS": user}
    trust(target_role, may_assume(Principal=principal, Condition=ASKS_FOR_ID), {**MAY_NAME, "Principal": principal})
    as_worker(
        {"AWS_ACCESS_KEY_ID": keys["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"]}
        | {"AWS_ENDPOINT_URL": minter.url}
    )
    yield
    hub.delete_access_key(UserName="unchained", AccessKeyId=keys["AccessKeyId"])
    hub.delete_user_policy(UserName="unchained", PolicyName="wide")
    hub.delete_user(UserName="unchained")


def test_the_longest_session_is_tried_where_it_can_be(unchained, subject, assumed):
    good = preflight.as_minter(dataclasses.replace(subject, chained=False), now)
    assert good.verdict(Check.LONGEST_SESSION) is GOOD

    assumed.orders.clear()
    short = preflight.as_minter(dataclasses.replace(subject, chained=False, longest_session=7200), now)

    finding = found(short, Check.LONGEST_SESSION)
    assert finding.verdict is BAD
    assert "exceeds the MaxSessionDuration" in finding.words
    assert "longest session" in finding.advice
    assert short.verdict(Check.TRUST) is GOOD
    assert short.verdict(Check.SOURCE_IDENTITY) is GOOD
    assert len(assumed.orders) == 4


def test_an_identity_wrongly_thought_unchained_is_found_out(minter, subject):
    findings = preflight.as_minter(dataclasses.replace(subject, chained=False, longest_session=7200), now)

    assert found(findings, Check.LONGEST_SESSION).verdict is BAD
    assert findings.verdict(Check.SOURCE_IDENTITY) is GOOD


def test_its_sessions_can_do_nothing_and_are_told(minter, subject, assumed):
    issued: list[probe.Issued] = []

    preflight.as_minter(subject, now, issued.append)

    assert [one.session_name for one in issued] == ["DP-PREFLIGHT-here"] * 3
    nothing, harmless = (minter.as_session(keys_of(session)) for session in assumed.sessions)
    assert not works(nothing)
    for caller in (nothing, harmless):
        with pytest.raises(ClientError, match="AccessDenied"):
            caller.client("iam").list_users()


QUEUES = {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}
SCOPING = {"Effect": "Allow", "Action": "sts:GetScopedCredentials", "Resource": "*"}


def test_a_role_that_may_not_be_scoped_is_told_the_statement_that_it_lacks(minter, target_role, subject):
    target_role.put("permissions", QUEUES)
    lacking = preflight.as_minter(subject, now)
    finding = found(lacking, Check.ENDS_BY_STS)
    assert (finding.verdict, finding.code, lacking.scoping) == (BAD, "AccessDenied", False)
    statement = json.loads(finding.advice[finding.advice.index("{") : finding.advice.index("}") + 1])
    assert statement == SCOPING
    assert lacking.harmless_action == "sqs:ListQueues"  # all else is found as before

    target_role.put("permissions", QUEUES, statement)
    assert preflight.as_minter(subject, now).scoping is True
    target_role.put("permissions", QUEUES)
    with minter.scoping(needs_allow=False):
        assert preflight.as_minter(subject, now).scoping is True
    target_role.put("permissions", QUEUES, statement)
    with minter.scoping(known=False):  # nobody can mend that
        finding = found(preflight.as_minter(subject, now), Check.ENDS_BY_STS)
    assert (finding.verdict, finding.code) == (GOOD, "InvalidAction")
    with minter.scoping(largest=500):  # nor does the worker's identity leave room for it
        finding = found(preflight.as_minter(subject, now), Check.ENDS_BY_STS)
    assert (finding.verdict, finding.code) == (BAD, "PackedPolicyTooLarge")
    assert "session tags" in finding.advice


def test_that_aws_does_not_answer_is_no_refusal_to_scope(through, proxy, minter, subject, target_role):
    target_role.put("permissions", QUEUES, SCOPING)
    through("minter")
    for fault in (Fault.THROTTLED, Fault.ERROR_500, Fault.RESET_AFTER, Fault.PAGE):
        proxy.fail(fault, actions={"GetScopedCredentials"})
        findings = preflight.as_minter(subject, now)
        proxy.heal()
        assert findings.scoping is None
        assert findings.verdict(Check.ENDS_BY_STS) is UNKNOWN
        assert findings.harmless_action == "sqs:ListQueues"


def test_an_aws_that_does_not_keep_to_the_second_is_not_believed(minter, target_role, subject, monkeypatch):
    target_role.put("permissions", QUEUES, SCOPING)
    scope = sts.scope
    recorded: list[probe.Issued] = []

    def longer(*arguments: Any, **which: Any) -> sts.MintedSession:
        session = scope(*arguments, **which)
        return dataclasses.replace(session, expires_at=session.expires_at + timedelta(minutes=10))

    monkeypatch.setattr(sts, "scope", longer)
    findings = preflight.as_minter(subject, now, recorded.append)
    assert findings.scoping is None
    assert found(findings, Check.ENDS_BY_STS).code == "TooLate"
    assert len({one.access_key_id for one in recorded}) == 3  # all that AWS gave


def test_whether_the_console_takes_such_keys_is_tried_where_that_is_not_known(minter, target_role, subject, federation):
    target_role.put("permissions", QUEUES, SCOPING)
    assert preflight.as_minter(subject, now).scoped_console is None
    asked = dataclasses.replace(subject, federation_url=federation.url)
    assert preflight.as_minter(asked, now).scoped_console is True
    nobody = dataclasses.replace(subject, federation_url="http://127.0.0.1:9/federation")
    assert preflight.as_minter(nobody, now).scoped_console is None
    with minter.scoping(console=False):
        assert preflight.as_minter(asked, now).scoped_console is False


def test_a_middle_box_that_refuses_everybody_says_nothing_of_scoped_keys(
    minter, target_role, subject, federation, proxy, monkeypatch
):
    target_role.put("permissions", QUEUES, SCOPING)
    monkeypatch.setattr(proxy, "upstream", (urlsplit(federation.url).hostname, urlsplit(federation.url).port))
    asked = dataclasses.replace(subject, federation_url=f"http://127.0.0.1:{urlsplit(proxy.url).port}/federation")
    proxy.fail(Fault.DENIED)
    assert preflight.as_minter(asked, now).scoped_console is None


@pytest.mark.parametrize(
    ("used", "packed", "told"), [(79, 99, False), (80, 0, True), (None, 80, True), (None, None, False)]
)
def test_a_token_that_is_nearly_full_before_much_is_narrowed(minter, subject, monkeypatch, used, packed, told):
    scope = sts.scope

    def full(*arguments: Any, **which: Any) -> sts.MintedSession:
        session = scope(*arguments, **which)
        return dataclasses.replace(session, session_token_utilization=used, packed_policy_size=packed)

    monkeypatch.setattr(sts, "scope", full)
    assert preflight.as_minter(subject, now).verdict(Check.SESSION_TOKEN) is (BAD if told else None)


def test_console_authorization_does_not_look_like_a_console_that_takes_no_scoped_keys(
    minter, target_role, subject, federation
):
    target_role.put("permissions", QUEUES, SCOPING)
    asked = dataclasses.replace(subject, federation_url=federation.url)
    with minter.console_authorization(PAYMENTS.id):
        assert preflight.as_minter(asked, now).scoped_console is not False


# --- the revoker's half --------------------------------------------------------------------------


def as_revoker(role_arn: str, account: Any = PAYMENTS, **more: Any) -> preflight.Findings:
    place = iam.Place(role_arn, revoker_arn(account.id), "us-east-1", "here", account.external_id)
    known: dict[str, Any] = {"longest_session": 3600, "minter_arn": MINTER}
    return preflight.as_revoker(place, **known | more)


@pytest.mark.parametrize(("account", "role"), [(account, role) for account in ACCOUNTS for role in account.roles])
def test_every_role_of_the_landscape_is_good_to_the_revoker_too(revoker, account, role):
    findings = as_revoker(account.role_arn(role.name), account, longest_session=role.longest_session)

    assert {finding.check: finding.verdict for finding in findings.findings} == {
        Check.REVOKER: GOOD,
        Check.LONGEST_SESSION: GOOD,
        Check.ROOM: GOOD,
        Check.OTHER_DOORS: GOOD,
        Check.CONSOLE_AUTHORIZATION: GOOD,
    }
    assert findings.console_authorization is False
    assert findings.longest_session == role.longest_session
    assert findings.role_id.startswith("AROA")
    assert findings.doors == ()


def test_other_doors_are_read_from_the_trust_policy(revoker, target_role):
    root = f"arn:aws:iam::{PAYMENTS.id}:root"
    entered = json.loads(trust_policy(PAYMENTS.external_id))["Statement"]
    trust(target_role, *entered, may_assume(Principal={"AWS": root, "Service": "ec2.amazonaws.com"}))

    findings = as_revoker(target_role.arn)

    finding = found(findings, Check.OTHER_DOORS)
    assert {door.principal for door in findings.doors} == {root, "ec2.amazonaws.com"}
    assert finding.verdict is BAD
    assert "other doors" in finding.words
    assert root in finding.words


def test_a_role_that_allows_less_time_than_the_catalog_says(revoker, target_role):
    finding = found(as_revoker(target_role.arn, longest_session=7200), Check.LONGEST_SESSION)

    assert finding.verdict is BAD
    assert "3,600" in finding.words
    assert "7,200" in finding.words


def test_a_role_that_has_little_room_for_denies(revoker, target_role):
    target_role.put("much", {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{'x' * 9_500}"})

    findings = as_revoker(target_role.arn)

    assert findings.verdict(Check.ROOM) is BAD
    assert findings.room is not None
    assert findings.room < 1_000


def test_a_role_on_another_path_than_the_catalog_says(revoker, target_role):
    finding = found(as_revoker(target_role.arn.replace("/elevated/", "/")), Check.REVOKER)

    assert finding.verdict is BAD
    assert target_role.arn in finding.words


def test_a_role_that_the_revoker_may_not_read(revoker):
    (finding,) = as_revoker(revoker_arn(PAYMENTS.id)).findings

    assert (finding.check, finding.verdict, finding.code) == (Check.REVOKER, BAD, "AccessDenied")
    assert "iam:GetRole" in finding.words


def test_a_revokers_role_that_does_not_trust_us(revoker, target_role):
    account = dataclasses.replace(PAYMENTS, external_id="another")

    (finding,) = as_revoker(target_role.arn, account).findings

    assert (finding.check, finding.verdict) == (Check.REVOKER, BAD)
    assert REVOKER_IN_TARGET in finding.words
    assert "revoker role" in finding.advice


def test_half_an_answer_is_not_held_against_the_role(revoker, target_role, monkeypatch):
    monkeypatch.setattr(iam, "ask", lambda *_: {"Role": {"Arn": target_role.arn}})

    (finding,) = as_revoker(target_role.arn).findings

    assert (finding.check, finding.verdict, finding.code) == (Check.REVOKER, UNKNOWN, "MalformedAnswer")


# --- who comes in by which door ------------------------------------------------------------------

OURS = hub_role_arn("minter")
HUB = f"arn:aws:iam::{HUB_ACCOUNT}:root"
ONLY_US = {"ArnEquals": {"aws:PrincipalArn": OURS}}


def doors(*statements: Any, minter_arn: str = MINTER) -> list[str]:
    return [door.principal for door in other_doors({"Statement": list(statements)}, minter_arn)]


@pytest.mark.parametrize(
    "statement",
    [
        may_assume(),
        may_assume(Principal={"AWS": [OURS]}),
        may_assume(Principal={"AWS": MINTER}),
        may_assume(Principal={"AWS": HUB}, Condition=ONLY_US),
        may_assume(Principal={"AWS": HUB_ACCOUNT}, Condition={"StringLike": {"AWS:PrincipalArn": [OURS]}}),
        may_assume(Principal={"AWS": f"arn:aws:iam::{HUB_ACCOUNT}:role/some/path/daypass-minter"}),
        may_assume(Principal={"AWS": "arn:aws:iam::9:root"}, Effect="Deny"),
        may_assume(Principal={"AWS": "arn:aws:iam::9:root"}, Action="sts:SetSourceIdentity"),
        may_assume(Principal={"AWS": "arn:aws:iam::9:root"}, Action=["sts:TagSession"]),
    ],
)
def test_what_is_no_other_door(statement):
    assert doors(statement) == []


@pytest.mark.parametrize(
    ("statement", "principals"),
    [
        (may_assume(Principal="*"), ["*"]),
        (may_assume(Principal={"AWS": "*"}, Condition=ASKS_FOR_ID), ["*"]),
        (may_assume(Principal={"AWS": HUB}), [HUB]),
        (may_assume(Principal={"AWS": HUB}, Condition={"ArnLike": {"aws:PrincipalArn": OURS + "*"}}), [HUB]),
        (may_assume(Principal={"AWS": HUB}, Condition={"ArnEquals": {"aws:PrincipalArn": [OURS, "x"]}}), [HUB]),
        (may_assume(Principal={"AWS": HUB}, Condition={"ArnNotEquals": {"aws:PrincipalArn": OURS}}), [HUB]),
        (may_assume(Principal={"AWS": HUB}, Condition={"ArnEqualsIfExists": {"aws:PrincipalArn": OURS}}), [HUB]),
        (may_assume(Principal={"AWS": [OURS, "AROAGONE"]}), ["AROAGONE"]),
        (
            may_assume(Principal={"AWS": OURS.replace("111111111111", "999999999999")}),
            [OURS.replace("1" * 12, "9" * 12)],
        ),
        (may_assume(Principal={"AWS": f"{OURS}2"}), [f"{OURS}2"]),
        (may_assume(Principal={"Service": "lambda.amazonaws.com"}, Action="sts:*"), ["lambda.amazonaws.com"]),
        (
            may_assume(Principal={"Federated": "arn:x:saml-provider/sso"}, Action="STS:AssumeRoleWithSAML"),
            ["arn:x:saml-provider/sso"],
        ),
        (may_assume(Principal={"AWS": "9" * 12}, Action="*"), ["9" * 12]),
        ({"Effect": "Allow", "Principal": "*", "NotAction": "sts:TagSession"}, ["*"]),
        ({"Effect": "Allow", "NotPrincipal": {"AWS": OURS}, "Action": "sts:AssumeRole"}, [f"everyone but {OURS}"]),
    ],
)
def test_what_is_another_door(statement, principals):
    assert doors(statement) == principals


def test_a_door_says_how_and_on_what_condition():
    statement = may_assume(Principal={"AWS": HUB}, Action="sts:AssumeRole*", Condition=ASKS_FOR_ID)

    (door,) = other_doors({"Statement": statement}, MINTER)

    ways = ("sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity")
    assert door == Door(HUB, ways, json.dumps(ASKS_FOR_ID, separators=(",", ":")))


def test_a_minter_that_is_a_user_or_named_as_a_role():
    user = "arn:aws:iam::111111111111:user/minter"

    assert doors(may_assume(Principal={"AWS": user}), minter_arn=user) == []
    assert doors(may_assume(), minter_arn=OURS) == []
    assert doors(may_assume(), minter_arn=user) == [OURS]


@pytest.mark.parametrize(
    "document", [None, [], {}, {"Statement": None}, {"Statement": [3, "x", None, {"Effect": "Allow"}]}]
)
def test_nonsense_has_no_doors_and_is_no_error(document):
    assert list(other_doors(document, MINTER)) == []


@pytest.mark.parametrize("path", ["/team:a/", "/a*b/", "/r&d/"])
def test_a_role_that_no_session_policy_could_name_is_told_without_asking_aws(path, minter, subject):
    arn = f"arn:aws:iam::222222222222:role{path}Deploy"

    findings = preflight.as_minter(dataclasses.replace(subject, role_arn=arn), now)

    assert findings.verdict(Check.TRUST) is BAD
    assert arn in found(findings, Check.TRUST).words
    assert "under a path of letters and digits" in found(findings, Check.TRUST).advice


def test_console_authorization_is_off_or_on_or_may_not_be_read(revoker):
    read = as_revoker(PAYMENTS.role_arn("Administrator"))
    with revoker.console_authorization(PAYMENTS.id):
        on = as_revoker(PAYMENTS.role_arn("Administrator"))
    iam_of_account = revoker.root(PAYMENTS.id).client("iam")
    name = revoker_arn(PAYMENTS.id).rsplit("/", 1)[-1]
    before = iam_of_account.get_role_policy(RoleName=name, PolicyName="deny-policies")["PolicyDocument"]
    without = {**before, "Statement": [one for one in before["Statement"] if "iam:GetRole" in one["Action"]]}
    iam_of_account.put_role_policy(RoleName=name, PolicyName="deny-policies", PolicyDocument=json.dumps(without))
    try:
        closed = as_revoker(PAYMENTS.role_arn("Administrator"))
    finally:
        iam_of_account.put_role_policy(RoleName=name, PolicyName="deny-policies", PolicyDocument=json.dumps(before))

    assert (read.console_authorization, on.console_authorization, closed.console_authorization) == (False, True, None)
    assert found(on, Check.CONSOLE_AUTHORIZATION).verdict is BAD
    assert "`sign-in-tokens`" in found(on, Check.CONSOLE_AUTHORIZATION).advice
    unread = found(closed, Check.CONSOLE_AUTHORIZATION)
    assert (unread.verdict, unread.code) == (UNKNOWN, "AccessDeniedException")
    statement = json.loads(unread.advice[unread.advice.index("{") : unread.advice.rindex("}") + 1])
    assert statement["Action"] == ["signin:GetConsoleAuthorizationConfiguration"]
    assert closed.verdict(Check.REVOKER) is GOOD  # all else is found as before


def test_that_aws_does_not_answer_says_nothing_of_console_authorization(through, proxy):
    through("revoker")
    for fault in (Fault.THROTTLED, Fault.ERROR_500, Fault.RESET_AFTER, Fault.PAGE):
        proxy.fail(fault, services={"signin"})
        findings = as_revoker(PAYMENTS.role_arn("Administrator"))
        proxy.heal()
        assert findings.console_authorization is None
        assert findings.verdict(Check.CONSOLE_AUTHORIZATION) is UNKNOWN
        assert findings.verdict(Check.REVOKER) is GOOD
