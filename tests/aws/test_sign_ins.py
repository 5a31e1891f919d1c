"""Sign-in sessions of a role at the stand-in: found, and ended, and nobody else's."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from requests_app.aws import iam, sign_ins
from requests_app.aws.errors import Refused, Unavailable
from requests_app.aws.sign_ins import SignIn
from sandbox.landscape import revoker_arn

PAYMENTS = "222222222222"
ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def ago(seconds: float = 60) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


@pytest.fixture
def root(revoker: Any) -> Any:
    return revoker.root(PAYMENTS).client("signin")


@pytest.fixture
def log_in(revoker: Any, target_role: Any) -> Any:
    """`aws login` as a session of the role."""
    target_role.put("permissions", ALL)
    return lambda kind="CLI": target_role.session("DP-7K2M9QX4-alice").log_in(kind)


def status(root: Any, arn: str) -> str:
    items = root.list_sessions(principalArn=f"arn:aws:iam::{PAYMENTS}:*")["items"]
    return str(next(one["status"] for one in items if one["sessionArn"] == arn))


def test_those_of_a_role_are_found_whatever_its_path_and_no_others(revoker, target_role, log_in):
    assert "/elevated/" in target_role.place().role_arn
    hers, agents = log_in(), log_in("MCP")
    another = revoker.assume(
        "minter", f"arn:aws:iam::{PAYMENTS}:role/elevated/Administrator", ExternalId="dp-payments-5f1c08e2b7"
    ).log_in()

    listed = sign_ins.active(target_role.place(), since=ago())

    assert listed.complete
    assert {sign_in.arn for sign_in in listed.sign_ins} == {hers, agents}
    assert another not in {sign_in.arn for sign_in in listed.sign_ins}
    assert all(abs(datetime.now(UTC) - sign_in.begun_at) < timedelta(minutes=1) for sign_in in listed.sign_ins)
    assert sign_ins.active(target_role.place(), since=datetime.now(UTC) + timedelta(minutes=1)).sign_ins == ()


def test_all_pages_are_read_but_not_without_end(target_role, log_in, monkeypatch):
    made = {log_in() for _ in range(5)}
    monkeypatch.setattr(sign_ins, "A_PAGE", 2)
    assert {sign_in.arn for sign_in in sign_ins.active(target_role.place(), since=ago()).sign_ins} == made
    monkeypatch.setattr(sign_ins, "MOST_PAGES", 2)
    listed = sign_ins.active(target_role.place(), since=ago(1))

    assert not listed.complete


def test_more_than_aws_takes_at_once_are_revoked_in_lots(target_role, log_in, root):
    made = [log_in() for _ in range(12)]
    place = target_role.place()

    sign_ins.revoke(place, sign_ins.active(place, since=ago()).sign_ins, reason="the pass is over")

    assert {status(root, arn) for arn in made} == {"REVOKED"}
    assert sign_ins.active(place, since=ago()).sign_ins == ()


def test_one_that_is_gone_or_revoked_already_is_no_refusal(target_role, log_in, root):
    place, made = target_role.place(), log_in()
    (sign_in,) = sign_ins.active(place, since=ago()).sign_ins
    sign_ins.revoke(place, [sign_in], reason="over")

    sign_ins.revoke(place, [sign_in, SignIn(made + "x", sign_in.owner, sign_in.begun_at)], reason="over")

    assert status(root, made) == "REVOKED"


ARN = f"arn:aws:signin:us-east-1:{PAYMENTS}:session/x"
FROM_AWS = {"ResponseMetadata": {"RequestId": "r"}}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("TooManyRequestsError", Unavailable),
        ("InternalServerException", Unavailable),
        ("AccessDeniedException", Refused),
        ("ValidationException", Refused),
    ],
)
def test_what_aws_says_of_single_ones_counts(target_role, monkeypatch, code, kind):
    answer = {"revokedSessions": [], "errors": [{"sessionArn": ARN, "code": code, "message": "no"}]}
    monkeypatch.setattr(iam, "call", lambda place, service, operation, read, _, **__: read(answer | FROM_AWS))

    with pytest.raises(kind) as failure:
        sign_ins.revoke(target_role.place(), [SignIn(ARN, "arn", ago())], reason="over")

    assert (failure.value.code, failure.value.message) == (code, "no")


def test_an_answer_that_does_not_name_each_is_none(target_role, monkeypatch):
    answer: dict[str, Any] = {"revokedSessions": [], "errors": []}
    monkeypatch.setattr(iam, "call", lambda place, service, operation, read, _, **__: read(answer | FROM_AWS))

    with pytest.raises(ValueError, match="half an answer"):
        sign_ins.revoke(target_role.place(), [SignIn(ARN, "arn", ago())], reason="over")


def test_a_refusal_names_the_statement_that_is_missing(revoker, target_role, root):
    of_account = revoker.root(PAYMENTS).client("iam")
    name = revoker_arn(PAYMENTS).rsplit("/", 1)[-1]
    before = of_account.get_role_policy(RoleName=name, PolicyName="deny-policies")["PolicyDocument"]
    without = {**before, "Statement": [one for one in before["Statement"] if "iam:GetRole" in one["Action"]]}
    place = target_role.place()
    refusals = []
    of_account.put_role_policy(RoleName=name, PolicyName="deny-policies", PolicyDocument=json.dumps(without))
    try:
        for call in (
            lambda: sign_ins.asks_for_more(place),
            lambda: sign_ins.active(place, since=ago()),
            lambda: sign_ins.revoke(place, [SignIn(ARN, "arn:aws:iam::222222222222:role/x", ago())], reason="over"),
        ):
            with pytest.raises(Refused) as refused:
                call()
            refusals.append(refused.value)
    finally:
        of_account.put_role_policy(RoleName=name, PolicyName="deny-policies", PolicyDocument=json.dumps(before))

    assert {refused.code for refused in refusals} == {"AccessDeniedException"}
    named = [_statement(refused.advice) for refused in refusals]
    assert named[0]["Action"] == ["signin:GetConsoleAuthorizationConfiguration"]
    assert named[1] == named[2]
    assert named[1]["Action"] == ["signin:ListSessions", "signin:BatchRevokeSessions"]


def _statement(advice: str) -> dict[str, Any]:
    statement: dict[str, Any] = json.loads(advice[advice.index("{") : advice.rindex("}") + 1])
    return statement


def test_console_authorization_is_off_on_and_off_again(revoker, target_role):
    place = target_role.place()
    before = sign_ins.asks_for_more(place)
    with revoker.console_authorization(PAYMENTS):
        assert sign_ins.asks_for_more(place) is True
    assert (before, sign_ins.asks_for_more(place)) == (False, False)
