"""The workers' own functions while AWS misbehaves: the rows tell the truth, and once it is over the next try works."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from requests_app.aws import sts
from requests_app.aws.errors import Refused
from requests_app.background import clocks, minting, revoking
from requests_app.domain import clock, envelopes, facts, policy, workflow
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    AwsClock,
    Delivery,
    DenyPolicy,
    Installation,
    IssuedSession,
    Revocation,
    User,
)
from requests_app.domain.transitions import DeliveryState
from requests_app.domain.workflow import deliveries, revocations
from sandbox.aws import AwsStandIn
from sandbox.proxy import FEDERATION, Fault, FaultProxy
from tests import factories
from tests.aws.conftest import PAYMENTS, as_worker, failing, impatient, proxy, through
from tests.aws.trouble import SAID, SAID_AT_SIGN_IN, Said

__all__ = ["as_worker", "failing", "impatient", "proxy", "through"]

# One of each kind, where the adapter's own tests have them all.
SOME = (Fault.THROTTLED, Fault.ERROR_500, Fault.RESET_AFTER, Fault.PAGE, Fault.TRUNCATED, Fault.DRIP)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("aws")]


@pytest.fixture(autouse=True)
def often(settings: Any) -> None:
    settings.DELIVERIES_PER_PERSON_PER_MINUTE = settings.DELIVERIES_PER_ROLE_PER_MINUTE = 1000


def minted(wish: Delivery) -> Delivery:
    minting.mint(wish.pk)
    wish.refresh_from_db()
    return wish


def taken(wish: Delivery) -> str:
    return deliveries.hand_over(wish, by=wish.beneficiary, sign_in="a sign-in", take=envelopes.take)


def state_after(said: Said) -> DeliveryState:
    if said.outcome_unknown:
        return DeliveryState.UNKNOWN
    return DeliveryState.REFUSED if said.kind is Refused else DeliveryState.UNAVAILABLE


def test_a_delivery_says_what_became_of_it_and_the_next_one_works(
    active_request: AccessRequest, aws_clock: AwsClock, redis_server: Any, through: Any, proxy: Any, failing: Any,
    subtests: Any,
) -> None:  # fmt: skip
    through("minter")
    taken(minted(factories.delivery(active_request)))
    for fault, said in SAID.items():
        with subtests.test(fault=fault):
            wish, at_aws = factories.delivery(active_request), len(proxy.issued())

            with failing(proxy, fault, actions={"AssumeRole"}):
                minted(wish)

            assert wish.state == state_after(said)
            assert wish.aws_code == said.code
            assert said.words in wish.aws_message
            assert not IssuedSession.objects.filter(delivery=wish).exists()
            assert (
                AuditEvent.objects.filter(action="delivery.failed", detail__delivery=str(wish.public_id)).count() == 1
            )
            assert minted(wish).state == state_after(said), "a second message revived it"
            assert len(proxy.issued()) - at_aws == fault.did_it, "a mint of unknown outcome was repeated"
            taken(minted(factories.delivery(active_request)))


def test_a_console_link_that_fails_leaves_its_session_recorded(
    active_request: AccessRequest, aws_clock: AwsClock, redis_server: Any, through: Any, federation: Any,
    failing: Any, settings: Any, subtests: Any,
) -> None:  # fmt: skip
    through("minter")
    with FaultProxy(federation.url) as broken:
        settings.FEDERATION_URL = broken.url
        for fault in (Fault.DENIED, *SOME):
            with subtests.test(fault=fault):
                kind, code, words = SAID_AT_SIGN_IN[fault]
                wish = factories.delivery(active_request, kind="console")

                with failing(broken, fault, services={FEDERATION}):
                    minted(wish)

                assert wish.state == (DeliveryState.REFUSED if kind is Refused else DeliveryState.UNAVAILABLE)
                assert wish.aws_code == code
                assert words in wish.aws_message
                assert IssuedSession.objects.filter(delivery=wish).count() == 1
                assert envelopes.take(str(wish.public_id)) is None
        taken(minted(factories.delivery(active_request, kind="console")))


def test_without_its_own_identity_a_worker_never_says_that_aws_refused_or_that_it_knows_nothing(
    active_request: AccessRequest, aws_clock: AwsClock, redis_server: Any, through: Any, proxy: Any, failing: Any,
    subtests: Any,
) -> None:  # fmt: skip
    for fault in (Fault.DENIED, Fault.THROTTLED, Fault.ERROR_500, Fault.RESET_AFTER, Fault.MALFORMED, Fault.DRIP):
        with subtests.test(fault=fault):
            through("minter")
            wish = factories.delivery(active_request)
            with failing(proxy, fault):
                minted(wish)
            assert wish.state == DeliveryState.UNAVAILABLE
            assert wish.message
            assert wish.advice
    assert not IssuedSession.objects.exists()
    taken(minted(factories.delivery(active_request)))


# --- AWS's clock ------------------------------------------------------------------------------------


def test_a_clock_that_cannot_be_read_stays_as_it_was_and_is_read_again(
    through: Any, proxy: Any, failing: Any, payments: Any, subtests: Any
) -> None:
    through("minter")
    clocks.read()
    before = AwsClock.objects.values().get()
    for fault in (Fault.DENIED, *SOME):
        with subtests.test(fault=fault):
            with failing(proxy, fault, actions={"GetCallerIdentity"}):
                clocks.read()
            assert AwsClock.objects.values().get() == before
    clocks.read()
    assert AwsClock.objects.get().measured_at > before["measured_at"]


@pytest.mark.parametrize("seconds", [-40, 40])
def test_nothing_is_minted_while_aws_seems_far_apart(
    seconds: int, active_request: AccessRequest, aws_clock: AwsClock, redis_server: Any, through: Any, proxy: Any
) -> None:
    through("minter")
    wish = factories.delivery(active_request)
    proxy.fail(Fault.WRONG_DATE, actions={"GetCallerIdentity"}, seconds=seconds)
    clocks.read()

    assert not policy.clock_is_known(facts.clock("us-east-1"), now=clock.now())
    assert minted(wish).state == DeliveryState.REFUSED
    assert not [one for one in proxy.issued() if one.role_arn == active_request.role.arn]

    proxy.heal()
    clocks.read()
    taken(minted(factories.delivery(active_request)))


def test_a_date_that_is_wrong_gives_nobody_a_second_more(
    active_request: AccessRequest, aws_clock: AwsClock, redis_server: Any, through: Any, proxy: Any
) -> None:
    """AWS itself is not ahead: what it says of the session's end gives the lie to its Date."""
    through("minter")
    proxy.fail(Fault.WRONG_DATE, actions={"GetCallerIdentity"}, seconds=20)
    clocks.read()
    assert minted(factories.delivery(active_request)).state == DeliveryState.DISCARDED
    proxy.heal()
    proxy.fail(Fault.WRONG_DATE, actions={"GetCallerIdentity"}, seconds=-20)
    clocks.read()

    assert taken(minted(factories.delivery(active_request)))

    kept = IssuedSession.objects.get(discarded=False)
    assert active_request.expires_at is not None
    assert kept.cut_off <= active_request.expires_at


# --- ending early ---------------------------------------------------------------------------------------


@pytest.fixture
def installation(db: Any, superuser_connection: Any) -> Installation:
    """One of its own: the stand-in remembers the policies of other tests."""
    superuser_connection.execute("DELETE FROM requests_app_installation")
    superuser_connection.execute("INSERT INTO requests_app_installation VALUES (1, %s)", [f"t{time.time_ns()}"])
    return Installation.objects.get()


@pytest.fixture
def revoked(
    installation: Installation, active_request: AccessRequest, aws_clock: AwsClock, redis_server: Any, through: Any,
    bob: User,
) -> AccessRequest:  # fmt: skip
    """Ended early while its person had a session."""
    through("minter")
    taken(minted(factories.delivery(active_request)))
    workflow.revoke(active_request, by=bob, reason="over")
    return active_request


@pytest.fixture
def standing(aws_stand_in: AwsStandIn, installation: Installation) -> Callable[[], list[str]]:
    """Which policies of this installation AWS has on the role."""
    iam = aws_stand_in.root(PAYMENTS.id).client("iam")

    def standing() -> list[str]:
        names = iam.list_role_policies(RoleName="Administrator")["PolicyNames"]
        return [name for name in names if installation.code in name]

    return standing


def now_due() -> None:
    DenyPolicy.objects.update(due_at=clock.now(), probe_due_at=clock.now())


def test_a_deny_policy_row_says_what_aws_said_until_aws_really_has_it_once(
    revoked: AccessRequest, standing: Any, through: Any, proxy: Any, failing: Any, subtests: Any
) -> None:
    through("revoker")
    role, did_it = revoked.role_id, False
    for tries, (fault, said) in enumerate(SAID.items(), 1):
        with subtests.test(fault=fault):
            now_due()

            with failing(proxy, fault, actions={"PutRolePolicy"}):
                revoking.work(role)

            did_it |= fault.did_it
            row = DenyPolicy.objects.get()
            assert (row.attempts, row.aws_code) == (tries, said.code)
            assert said.words in row.aws_message
            assert row.advice
            assert row.due_at is not None
            assert row.due_at > clock.now()
            assert Revocation.objects.get().state == "wanted"
            assert bool(standing()) is did_it
    now_due()
    revoking.work(role)

    row = DenyPolicy.objects.get()
    assert (row.attempts, row.aws_code, row.denied) == (0, "", [revoked.code])
    assert len(standing()) == 1
    assert row.changed_outside_at is None, "one of our own drafts was taken for somebody else's"
    assert Revocation.objects.get().state == "written"
    through("minter")
    revoking.prove(role)
    assert Revocation.objects.get().state == "proved"


def test_a_put_that_was_lost_is_still_known_as_ours_after_many_that_were_refused(
    revoked: AccessRequest, standing: Any, through: Any, proxy: Any, failing: Any
) -> None:
    through("revoker")
    for fault in (Fault.RESET_AFTER, *[Fault.THROTTLED] * 6):
        now_due()
        with failing(proxy, fault, actions={"PutRolePolicy"}):
            revoking.work(revoked.role_id)
    now_due()
    revoking.work(revoked.role_id)

    assert DenyPolicy.objects.get().changed_outside_at is None
    assert not AuditEvent.objects.filter(action="revocation.lifted").exists()
    assert len(standing()) == 1


def test_without_the_revokers_role_or_a_look_at_what_stands_nothing_is_put(
    revoked: AccessRequest, standing: Any, through: Any, proxy: Any, failing: Any, subtests: Any
) -> None:
    through("revoker")
    sts._ready("us-east-1")  # so that it is not its own identity that fails
    for action in ("AssumeRole", "ListRolePolicies", "GetRolePolicy"):
        for fault in (Fault.DENIED, Fault.THROTTLED, Fault.RESET_AFTER, Fault.PAGE, Fault.MALFORMED):
            with subtests.test(action=action, fault=fault):
                now_due()
                with failing(proxy, fault, actions={action}):
                    revoking.work(revoked.role_id)
                assert DenyPolicy.objects.get().aws_code == SAID[fault].code
                assert Revocation.objects.get().state == "wanted"
                assert not standing()
    now_due()
    revoking.work(revoked.role_id)
    assert len(standing()) == 1


def test_nothing_is_proved_by_trouble(
    revoked: AccessRequest, through: Any, proxy: Any, failing: Any, subtests: Any
) -> None:
    through("revoker")
    revoking.work(revoked.role_id)
    through("minter")
    for service in ("sqs", "sts"):
        for fault in SOME:
            with subtests.test(service=service, fault=fault):
                now_due()
                with failing(proxy, fault, services={service}):
                    revoking.prove(revoked.role_id)
                assert Revocation.objects.get().state == "written"
    now_due()
    revoking.prove(revoked.role_id)
    assert Revocation.objects.get().state == "proved"


def test_a_policy_is_gone_only_when_it_is_gone(
    revoked: AccessRequest, standing: Any, through: Any, proxy: Any, failing: Any, subtests: Any
) -> None:
    through("revoker")
    revoking.work(revoked.role_id)
    with clock.moved(Revocation.objects.get().keep_until - clock.now() + timedelta(seconds=1)):
        revocations.sweep()
        for fault in (Fault.THROTTLED, Fault.PAGE, Fault.BLOCKED, Fault.SILENCE, Fault.RESET_AFTER):
            with subtests.test(fault=fault):
                now_due()
                with failing(proxy, fault, actions={"DeleteRolePolicy"}):
                    revoking.work(revoked.role_id)
                row = DenyPolicy.objects.get()
                assert row.aws_code
                assert row.due_at is not None, "nobody would look again"
                assert bool(standing()) is not fault.did_it
        now_due()
        revoking.work(revoked.role_id)

    row = DenyPolicy.objects.get()
    assert (row.due_at, row.expected, row.aws_code) == (None, [None], "")
    assert not standing()
