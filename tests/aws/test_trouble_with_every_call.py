"""Whatever happens on the way to AWS, at whatever call: what is said of it is true, soon, and tells no secret.

Here AWS is the stand-in, behind a proxy that breaks what is named; so the call works before, and again after.
"""

import dataclasses
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from requests_app.aws import console, deny_policy, patience, probe, sign_ins, sts
from requests_app.aws.deny_policy import Entry, Seen, policy_name
from requests_app.aws.errors import AwsError, Unavailable
from requests_app.aws.probe import End
from requests_app.domain import policy
from requests_app.domain.workflow import deliveries
from sandbox.proxy import FEDERATION, Fault

from .conftest import ListeningProxy, everything_in
from .trouble import SAID, SAID_AT_SIGN_IN, SLOW

ALICE = "DP-7K2M9QX4"
GONE = sign_ins.SignIn(
    "arn:aws:signin:us-east-1:222222222222:session/x",
    "arn:aws:iam::222222222222:role/x",
    datetime(2026, 11, 1, tzinfo=UTC),
)
DESTINATION = "https://console.aws.amazon.com/"


class Call(NamedTuple):
    """One call of ours, and the request of it that goes wrong."""

    profile: str
    service: str
    action: str


CALLS = {
    "mint": Call("minter", "sts", "AssumeRole"),
    "clock": Call("minter", "sts", "GetCallerIdentity"),
    "get": Call("revoker", "iam", "GetRolePolicy"),
    "put": Call("revoker", "iam", "PutRolePolicy"),
    "delete": Call("revoker", "iam", "DeleteRolePolicy"),
    "console authorization": Call("revoker", "signin", "GetConsoleAuthorizationConfiguration"),
    "list sign-ins": Call("revoker", "signin", "ListSessions"),
    "revoke sign-ins": Call("revoker", "signin", "BatchRevokeSessions"),
}


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def calls(order, target_role) -> dict[str, Callable[[], object]]:
    """Each call as the workers make it."""
    place = target_role.place()
    name = policy_name("here")

    def delete() -> object:
        target_role.put_text(name, deny_policy.document(installation="here", generation=1, entries=[]))
        return deny_policy.remove(place, [deny_policy.document(installation="here", generation=1, entries=[])])

    def write() -> object:
        return deny_policy.write(place, generation=1, entries=[Entry(ALICE)], expected=[None])

    return {
        "mint": lambda: sts.assume_role(order),
        "clock": lambda: sts.read_clock("us-east-1", now),
        "get": write,
        "put": write,
        "delete": delete,
        "console authorization": lambda: sign_ins.asks_for_more(place),
        "list sign-ins": lambda: sign_ins.active(place, since=now()),
        "revoke sign-ins": lambda: sign_ins.revoke(place, [GONE], reason="over"),
    }


@pytest.mark.parametrize("name", CALLS)
def test_what_is_said_is_true_and_soon(name, calls, through, proxy, failing, caplog, subtests):
    call, do = CALLS[name], calls[name]
    through(call.profile)
    do()  # so that nothing but this call goes out below
    caplog.set_level(logging.DEBUG)
    for fault, said in SAID.items():
        with subtests.test(fault=fault):
            before = _asked(proxy, call)

            with failing(proxy, fault, services={call.service}, actions={call.action}), pytest.raises(AwsError) as no:
                do()

            assert _asked(proxy, call) - before == 1, "it is never repeated by itself"
            assert (type(no.value), no.value.outcome_unknown, no.value.code) == said[:3]
            assert said.words in no.value.message
            assert no.value.advice.endswith(".")
            assert no.value.__cause__ is None
            assert proxy.secrets
            assert not proxy.told(everything_in(no.value) + caplog.text)
            do()


def _asked(proxy: ListeningProxy, call: Call) -> int:
    return sum(n for seen, n in proxy.counts().items() if (seen.service, seen.action) == (call.service, call.action))


# --- a put and a delete are safe to repeat, whatever became of the first --------------------------


def test_a_put_is_repeated_safely(through, proxy, target_role, failing, subtests):
    through("revoker")
    place, name = target_role.place(), policy_name("here")
    for fault in SAID:
        with subtests.test(fault=fault):
            drafts: list[str] = []
            wish: dict[str, Any] = {
                "entries": [Entry(ALICE)],
                "about_to_put": lambda draft, drafts=drafts: drafts.append(draft.document),
            }

            with failing(proxy, fault, actions={"PutRolePolicy"}), pytest.raises(AwsError) as no:
                deny_policy.write(place, generation=1, expected=[None], **wish)
            stands = name in target_role.policies()
            assert stands is fault.did_it
            assert no.value.outcome_unknown or not stands
            written = deny_policy.write(place, generation=2, expected=[None, *drafts], **wish)

            assert written.draft.seen is Seen.AS_WRITTEN, "our own draft was taken for somebody else's"
            assert written.confirmed
            assert set(target_role.policies()) == {"permissions", name}
            assert deny_policy.read(place).codes == {ALICE}
            target_role.iam.delete_role_policy(RoleName=target_role.name, PolicyName=name)


def test_a_delete_is_repeated_safely(through, proxy, target_role, failing, subtests):
    through("revoker")
    place, name = target_role.place(), policy_name("here")
    for fault in SAID:
        with subtests.test(fault=fault):
            written = deny_policy.write(place, generation=1, entries=[Entry(ALICE)], expected=[None]).draft.document

            with failing(proxy, fault, actions={"DeleteRolePolicy"}), pytest.raises(AwsError) as no:
                deny_policy.remove(place, [written])
            stands = name in target_role.policies()
            assert stands is not fault.did_it
            assert no.value.outcome_unknown or stands

            assert deny_policy.remove(place, [written]).removed
            assert set(target_role.policies()) == {"permissions"}


# --- the probe's harmless call ----------------------------------------------------------------------


@pytest.mark.parametrize("action", ["sqs:ListQueues", "iam:ListAccountAliases", "s3:ListAllMyBuckets"])
def test_a_harmless_call_that_goes_wrong_is_no_success_and_no_proof(action, through, proxy, order, failing, subtests):
    """In JSON, in XML, and as S3 speaks."""
    through("minter")
    session = sts.assume_role(dataclasses.replace(order, policy=_ALLOW_ALL))
    service = probe.HARMLESS[action].service
    assert probe.try_action(session, action, "us-east-1").end is End.WORKED
    for fault, said in SAID.items():
        with subtests.test(fault=fault):
            with failing(proxy, fault, services={service}):
                reply = probe.try_action(session, action, "us-east-1")

            assert not proxy.told(repr(reply))
            if fault in (Fault.MALFORMED, Fault.TRUNCATED):
                # botocore passes over JSON that it cannot read: it was AWS's yes all the same.
                assert reply.end is (End.WORKED if service == "sqs" else End.NO_ANSWER)
            else:
                assert reply.end is (End.DENIED if fault is Fault.DENIED else End.NO_ANSWER)
                assert reply.code == said.code
                assert said.words in reply.words
    assert probe.try_action(session, action, "us-east-1").end is End.WORKED


_ALLOW_ALL = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})


# --- the console's sign-in ----------------------------------------------------------------------------


def test_what_is_said_of_the_sign_in_is_true_and_soon(minter, federation, order, failing, caplog, subtests):
    caplog.set_level(logging.DEBUG)
    session = sts.assume_role(order)
    with ListeningProxy(federation.url) as proxy:
        wish = {"federation_url": proxy.url, "destination": DESTINATION, "issuer": "https://daypass.example.com/"}
        console.sign_in(session, **wish)
        proxy.secrets |= {session.secret_access_key.reveal(), session.session_token.reveal()}
        assert len(proxy.secrets) == 3
        for fault, (kind, code, words) in SAID_AT_SIGN_IN.items():
            with subtests.test(fault=fault):
                before = proxy.counts().total()

                with failing(proxy, fault, services={FEDERATION}), pytest.raises(AwsError) as no:
                    console.sign_in(session, **wish)

                assert proxy.counts().total() - before == 1, "it is never repeated by itself"
                assert (type(no.value), no.value.code) == (kind, code)
                assert words in no.value.message
                assert no.value.__cause__ is None
                assert no.value.__context__ is None
                assert not proxy.told(everything_in(no.value) + caplog.text)
                console.sign_in(session, **wish)


# --- AWS's clock ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-3600, -20, 20, 3600])
def test_a_clock_that_is_apart_is_read_with_its_sign_and_stops_nothing_else(through, proxy, order, seconds):
    through("minter")
    proxy.fail(Fault.WRONG_DATE, seconds=seconds)

    reading = sts.read_clock("us-east-1", now)
    session = sts.assume_role(order)

    assert reading.low <= seconds <= reading.high
    assert reading.high - reading.low < 3
    assert session.aws_date is not None
    assert abs((session.aws_date - now()).total_seconds() - seconds) < 3
    assert abs(session.expires_at - now() - timedelta(minutes=15)) < timedelta(seconds=3)


# --- our own identity ---------------------------------------------------------------------------------


def test_without_our_own_identity_nothing_is_minted_and_nothing_told(through, proxy, order, failing, caplog, subtests):
    """Even a refusal is no refusal of what was asked, and the outcome is never unknown."""
    caplog.set_level(logging.DEBUG)
    for fault, said in SAID.items():
        through("minter")
        with subtests.test(fault=fault):
            with failing(proxy, fault), pytest.raises(Unavailable) as no:
                sts.assume_role(order)

            assert not no.value.outcome_unknown
            assert no.value.code == said.code or fault in SLOW
            assert not [one for one in proxy.issued() if one.role_arn == order.role_arn]
            assert not proxy.told(everything_in(no.value) + caplog.text)
    assert proxy.secrets, "the hub's role was never entered, so there was nothing to tell"
    sts.assume_role(order)


# --- how long it may all take -------------------------------------------------------------------------


def test_a_mint_is_over_before_anybody_counts_it_as_lost():
    own = sts._CONFIG.connect_timeout + sts._CONFIG.read_timeout  # type: ignore[attr-defined]
    assert own < patience.LONGEST_CALL < policy.CALL_TAKES_SECONDS
    both = patience.LONGEST_CALL + console._LONGEST_WAIT
    assert both + 10 < deliveries.HEARD_OF_WITHIN.total_seconds()
