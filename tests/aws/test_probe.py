"""Proving at the stand-in that a deny policy works, and never saying so when it does not."""

import dataclasses
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from requests_app.aws import probe, sts
from requests_app.aws.deny_policy import Entry, document, policy_name
from requests_app.aws.errors import Refused
from requests_app.aws.probe import HARMLESS, End, Outcome, ProbeOrder
from requests_app.aws.sts import MintedSession, MintOrder

from .conftest import PAYMENTS, keys_of, works


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def order(minter, target_role) -> ProbeOrder:
    return ProbeOrder(
        role_arn=target_role.arn,
        region="us-east-1",
        installation="here",
        generation=7,
        action="sqs:ListQueues",
        external_id=PAYMENTS.external_id,
    )


def put(target_role: Any, *, generation: int = 7, installation: str = "here", **more: Any) -> None:
    text = document(installation=installation, generation=generation, entries=[Entry("DP-7K2M9QX4")], **more)
    target_role.put_text(policy_name(installation), text)


def may_only(target_role: Any, action: str) -> None:
    target_role.put("permissions", {"Effect": "Allow", "Action": action, "Resource": "*"})


# --- the four outcomes ---------------------------------------------------------------------------


def test_refused_is_the_proof_with_awss_own_words_and_time(order, target_role):
    put(target_role)

    proof = probe.prove(order, now)

    assert proof.outcome is Outcome.REFUSED
    assert proof.code == "AccessDenied"
    assert "DP-PROBE-here-7-" in proof.words
    assert proof.words.endswith("with an explicit deny in an identity-based policy")
    assert proof.at
    assert abs(proof.at - now()) < timedelta(seconds=5)


@pytest.mark.parametrize(
    "standing", [{}, {"generation": 6}, {"generation": 77}, {"installation": "here1"}, {"installation": "there"}]
)
def test_not_yet_while_another_document_stands_there(order, target_role, standing):
    if standing:
        put(target_role, **standing)

    proof = probe.prove(order, now)

    assert proof.outcome is Outcome.NOT_YET
    assert proof.at


def test_unprovable_if_the_role_never_could(order, target_role):
    """Refused with nothing revoked: without a control it would have looked like a proof."""
    may_only(target_role, "s3:*")

    proof = probe.prove(order, now)

    assert proof.outcome is Outcome.UNPROVABLE
    assert "no identity-based policy allows" in proof.words
    put(target_role)
    assert probe.prove(order, now).outcome is Outcome.UNPROVABLE
    assert probe.prove(dataclasses.replace(order, action="s3:ListAllMyBuckets"), now).outcome is Outcome.REFUSED


def test_unprovable_if_everybody_is_refused(order, target_role):
    put(target_role)
    target_role.put("closed", {"Effect": "Deny", "Action": "*", "Resource": "*"})

    proof = probe.prove(order, now)

    assert proof.outcome is Outcome.UNPROVABLE
    assert "DP-CONTROL-here-7-" in proof.words


def test_unprovable_if_the_role_does_not_let_us_in(order, target_role):
    put(target_role)

    proof = probe.prove(dataclasses.replace(order, external_id=None), now)

    assert proof.outcome is Outcome.UNPROVABLE
    assert proof.code == "AccessDenied"
    assert "sts:AssumeRole" in proof.words


def test_unknown_if_aws_does_not_answer_the_call(order, target_role, as_worker, minter, server):
    put(target_role)
    closed = server(lambda connection: None)
    closed.close()
    as_worker(minter.profile("minter") | {"AWS_ENDPOINT_URL_SQS": closed.url})

    proof = probe.prove(order, now)

    assert proof.outcome is Outcome.UNKNOWN
    assert proof.code == "EndpointConnectionError"
    assert proof.at is None


def test_unknown_if_aws_does_not_answer_the_mint(order, as_worker, minter, server):
    closed = server(lambda connection: None)
    closed.close()
    as_worker(minter.profile("minter") | {"AWS_ENDPOINT_URL": closed.url})

    assert probe.prove(order, now).outcome is Outcome.UNKNOWN


# --- what is proof and what is not ---------------------------------------------------------------


def test_a_pair_from_before_the_put_sees_it(order, target_role):
    """IAM may remember for a while what an older session was allowed: so the same pair looks again."""
    pair = probe.mint(order, now)
    assert probe.look(pair).outcome is Outcome.NOT_YET

    put(target_role)

    assert probe.look(pair).outcome is Outcome.REFUSED


def test_a_lifted_policy_is_no_longer_proved(order, target_role):
    put(target_role)
    pair = probe.mint(order, now)
    assert probe.look(pair).outcome is Outcome.REFUSED

    target_role.iam.delete_role_policy(RoleName=target_role.name, PolicyName="daypass-here-ended")

    assert probe.look(pair).outcome is Outcome.NOT_YET


def test_the_probes_own_end_is_no_proof(order, target_role, monkeypatch):
    monkeypatch.setattr(probe, "GOOD_FOR", timedelta(seconds=2))
    pair = probe.mint(order, now)
    time.sleep(2.1)

    proof = probe.look(pair)

    assert proof.outcome is Outcome.UNKNOWN
    assert "explicit deny in a session policy" in proof.words


def test_a_control_issued_before_the_fallback_proves_nothing(order, target_role):
    since = now() + timedelta(seconds=2)
    put(target_role, since=since)
    assert probe.prove(order, now).outcome is Outcome.UNPROVABLE

    time.sleep(max(0.0, (since + timedelta(seconds=1) - now()).total_seconds()))

    assert probe.prove(order, now).outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    ("code", "message", "end"),
    [
        ("AccessDenied", "with an explicit deny in an identity-based policy", End.DENIED_BY_ROLE),
        ("AccessDeniedException", "with an explicit deny in an identity-based policy", End.DENIED_BY_ROLE),
        (
            "UnauthorizedOperation",
            "You are not. User: x with an explicit deny in an identity-based policy. Encoded",
            End.DENIED_BY_ROLE,
        ),
        ("AccessDenied", "x" * 600 + " with an explicit deny in an identity-based policy", End.DENIED_BY_ROLE),
        ("AccessDenied", "an explicit deny in an identity-based policy: arn:aws:iam::2:policy/Other", End.DENIED),
        ("AccessDenied", "with an explicit deny in an identity-based policy: arn:aws:iam::2:policy/Other", End.DENIED),
        ("AccessDenied", "with an explicit deny in a session policy", End.DENIED_BY_SESSION),
        ("AccessDenied", "with an explicit deny in a service control policy", End.DENIED),
        ("AccessDenied", "with an explicit deny in a resource-based policy", End.DENIED),
        ("AccessDenied", "with an explicit deny in a permissions boundary", End.DENIED),
        ("AccessDenied", "because no identity-based policy allows the sqs:ListQueues action", End.DENIED),
        ("AccessDenied", "Access Denied", End.DENIED),
        ("Throttling", "with an explicit deny in an identity-based policy", End.NO_ANSWER),
        ("ExpiredToken", "", End.NO_ANSWER),
        ("InternalError", "", End.FAILED),
        ("OptInRequired", "", End.NO_ANSWER),
    ],
)
def test_only_an_explicit_deny_of_the_roles_own_policy_counts(code, message, end):
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}

    assert probe._from_error(ClientError(answer, "ListQueues")).end is end


# --- the sessions it makes -----------------------------------------------------------------------


def test_each_session_is_told_at_once_and_none_has_a_persons_name(order):
    issued: list[probe.Issued] = []

    probe.mint(order, now, issued.append)

    names = [one.session_name.rsplit("-", 1)[0] for one in issued]
    assert names == ["DP-CONTROL-here-7", "DP-PROBE-here-7"]
    assert all(one.access_key_id.startswith("ASIA") for one in issued)
    assert all(len(one.session_name) <= 64 for one in issued)
    assert all(one.expires_at - now() <= timedelta(minutes=15) for one in issued)


def test_the_first_is_told_even_if_the_second_fails(order, assumed, monkeypatch):
    issued: list[probe.Issued] = []

    def only_control(wish: MintOrder) -> MintedSession:
        if "PROBE" in wish.session_name:
            raise Refused("AccessDenied", "No.", "Do.")
        return assumed(wish)

    monkeypatch.setattr(sts, "assume_role", only_control)

    assert probe.prove(order, now, issued.append).outcome is Outcome.UNPROVABLE
    assert len(issued) == 1


def test_the_sessions_may_do_the_one_thing_and_no_other(order, minter, assumed):
    pair = probe.mint(order, now)

    assert len(assumed.sessions) == 2
    for session in assumed.sessions:
        caller = minter.as_session(keys_of(session))
        caller.client("sqs").list_queues()
        assert not works(caller)
        assert session.secret_access_key.reveal() not in repr(pair)
        assert session.session_token.reveal() not in repr(pair)


def test_the_longest_names_fit(order, target_role):
    long = dataclasses.replace(order, installation="x" * 24, generation=10**12)

    assert probe.prove(long, now).outcome is Outcome.NOT_YET


def test_an_action_that_is_not_on_the_list_is_a_fault(order):
    with pytest.raises(ValueError, match="harmless"):
        probe.prove(dataclasses.replace(order, action="iam:CreateUser"), now)


@pytest.mark.parametrize("action", HARMLESS)
def test_every_harmless_action_can_prove(order, target_role, action):
    put(target_role)
    order = dataclasses.replace(order, action=action)

    assert probe.prove(order, now).outcome is Outcome.REFUSED
    assert probe.prove(dataclasses.replace(order, generation=8), now).outcome is Outcome.NOT_YET
