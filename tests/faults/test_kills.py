"""A worker is killed between any two steps: afterwards nothing is lost, doubled, or claimed to be what it is not."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.core import mail as mailbox

from requests_app.aws import sts
from requests_app.background import mail, minting
from requests_app.domain import clock, envelopes, workflow
from requests_app.domain.errors import Conflict
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    AwsClock,
    Decision,
    Delivery,
    Entitlement,
    IssuedSession,
    Notice,
    Role,
    User,
)
from requests_app.domain.transitions import DeliveryState, State
from requests_app.domain.workflow import deliveries, sweeps
from sandbox.aws import AwsStandIn
from sandbox.federation import Federation
from tests import factories
from tests.faults.die_at import killed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("aws")]

MINTING = "requests_app.background.minting"
SCOPING = "requests_app.aws.scoping"
DELIVERIES = "requests_app.domain.workflow.deliveries"
# One transaction: none of these is there without the others.
WRITTEN_AT_ONCE = ("_INSERT_SESSION.run", "audit.record", "notices.announce_by_key", "_SEAL.run")


@pytest.fixture
def minter(
    aws_stand_in: AwsStandIn, federation: Federation, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> Iterator[None]:
    """This process, and those it starts, are the minting worker."""
    for name, value in {**aws_stand_in.profile("minter"), "FEDERATION_URL": federation.url}.items():
        monkeypatch.setenv(name, value)
    settings.FEDERATION_URL = federation.url
    sts.forget_clients()
    yield
    sts.forget_clients()


@pytest.mark.parametrize(
    ("kind", "point", "sessions", "truth"),
    [
        ("credentials", f"before:{MINTING}.deliveries.claim", 0, DeliveryState.STALE),
        ("credentials", f"after:{MINTING}.deliveries.claim", 0, DeliveryState.UNKNOWN),
        ("credentials", f"before:{MINTING}.sts.assume_role", 0, DeliveryState.UNKNOWN),
        ("credentials", f"after:{MINTING}.sts.assume_role", 0, DeliveryState.UNKNOWN),
        ("credentials", f"before:{SCOPING}.sts.scope", 0, DeliveryState.UNKNOWN),
        ("credentials", f"after:{SCOPING}.sts.scope", 0, DeliveryState.UNKNOWN),
        ("credentials", f"after:{MINTING}.scoping.mint", 0, DeliveryState.UNKNOWN),
        ("credentials", f"before:{MINTING}.sealing.seal", 0, DeliveryState.UNKNOWN),
        ("credentials", f"after:{MINTING}.sealing.seal", 0, DeliveryState.UNKNOWN),
        *(("credentials", f"after:{DELIVERIES}.{line}", 0, DeliveryState.UNKNOWN) for line in WRITTEN_AT_ONCE),
        ("credentials", f"after:{MINTING}.deliveries.record", 1, DeliveryState.LOST),
        ("credentials", f"before:{MINTING}.envelopes.put", 1, DeliveryState.LOST),
        ("credentials", f"after:{MINTING}.envelopes.put", 1, DeliveryState.SEALED),
        ("console", f"after:{MINTING}.deliveries.record", 1, DeliveryState.UNKNOWN),
        ("console", f"before:{MINTING}.console.sign_in", 1, DeliveryState.UNKNOWN),
        ("console", f"after:{MINTING}.console.sign_in", 1, DeliveryState.UNKNOWN),
        ("console", f"after:{MINTING}.sealing.seal", 1, DeliveryState.UNKNOWN),
        ("console", f"after:{MINTING}.deliveries.seal_down", 1, DeliveryState.LOST),
        ("console", f"after:{MINTING}.envelopes.put", 1, DeliveryState.SEALED),
    ],
)
def test_a_minting_worker_is_killed(
    kind: str,
    point: str,
    sessions: int,
    truth: DeliveryState,
    minter: None,
    redis_server: "redis.Redis",
    active_request: AccessRequest,
    aws_clock: AwsClock,
) -> None:
    wish = factories.delivery(active_request, kind=kind)

    killed(point, f"{MINTING}.mint", wish.pk)
    _the_same_message_comes_again(wish)
    if truth == DeliveryState.LOST:
        # It may be on its way; only after a while it is called lost.
        with pytest.raises(deliveries.NotYet):
            deliveries.hand_over(wish, by=wish.beneficiary, sign_in="a sign-in", take=envelopes.take)
    if truth != DeliveryState.SEALED:
        with clock.moved(timedelta(minutes=1)):
            deliveries.sweep()

    wish.refresh_from_db()
    assert wish.state == truth
    assert wish.message or truth == DeliveryState.SEALED
    assert IssuedSession.objects.filter(delivery=wish, discarded=False).count() == sessions
    assert AuditEvent.objects.filter(action="session.issued").count() == sessions
    if truth == DeliveryState.SEALED:
        assert deliveries.hand_over(wish, by=wish.beneficiary, sign_in="a sign-in", take=envelopes.take)
    else:
        with pytest.raises(Conflict):
            deliveries.hand_over(wish, by=wish.beneficiary, sign_in="a sign-in", take=envelopes.take)
    again = factories.delivery(active_request, kind=kind)
    minting.mint(again.pk)
    assert deliveries.hand_over(again, by=again.beneficiary, sign_in="a sign-in", take=envelopes.take)


@pytest.mark.parametrize(
    ("by_sts_only", "point", "truth"),
    [
        (False, f"before:{MINTING}.deliveries.order_again", DeliveryState.UNKNOWN),
        (False, f"after:{MINTING}.deliveries.order_again", DeliveryState.UNKNOWN),
        (False, f"before:{MINTING}.preflights.look_after_refusal", DeliveryState.SEALED),
        (True, f"before:{MINTING}.deliveries.record", DeliveryState.UNKNOWN),
        (True, f"before:{MINTING}.preflights.look_after_refusal", DeliveryState.REFUSED),
    ],
)
def test_a_minting_worker_is_killed_where_aws_does_not_scope(
    by_sts_only: bool,
    point: str,
    truth: DeliveryState,
    minter: None,
    redis_server: "redis.Redis",
    alice: User,
    administrator: Role,
    aws_clock: AwsClock,
    aws_stand_in: AwsStandIn,
) -> None:
    terms = factories.entitlement(administrator, users=[alice], ends_by_sts_only=by_sts_only)
    wish = factories.delivery(factories.wish(alice, administrator, terms, start="at_once"))

    with aws_stand_in.scoping(known=False):
        killed(point, f"{MINTING}.mint", wish.pk)
    _the_same_message_comes_again(wish)
    if truth == DeliveryState.UNKNOWN:
        with clock.moved(timedelta(minutes=1)):
            deliveries.sweep()

    wish.refresh_from_db()
    assert wish.state == truth
    known = IssuedSession.objects.filter(delivery=wish)
    assert known.exists() is (truth != DeliveryState.UNKNOWN)
    assert not known.filter(discarded=truth == DeliveryState.SEALED).exists()


def _the_same_message_comes_again(wish: Delivery) -> None:
    before = IssuedSession.objects.count()
    if wish.__class__.objects.get(pk=wish.pk).state != DeliveryState.ASKED:
        minting.mint(wish.pk)
    assert IssuedSession.objects.count() == before


@pytest.mark.parametrize(
    "point",
    [
        "after:requests_app.domain.workflow.sweeps._take",
        "before:requests_app.domain.audit.record_many",
        "after:requests_app.domain.audit.record_many",
        "after:requests_app.domain.notices.announce_many",
    ],
)
def test_a_sweep_is_killed_between_taking_and_recording(active_request: AccessRequest, point: str) -> None:
    with clock.moved(-timedelta(hours=2)):
        over = _pass_that_began_two_hours_ago(active_request)

    killed(point, "requests_app.domain.workflow.sweeps.expire_due")

    over.refresh_from_db()
    assert over.state == State.ACTIVE, "a sweep that died has moved something without the rest"
    assert sweeps.expire_due() == 1
    over.refresh_from_db()
    assert over.state == State.EXPIRED
    assert AuditEvent.objects.filter(action="request.expired", access_request=over).count() == 1
    assert Notice.objects.filter(kind="ended", access_request=over).count() == 1
    assert sweeps.expire_due() == 0


SWEEPS = "requests_app.domain.workflow.sweeps"


@pytest.mark.parametrize(
    ("sweep", "point", "action", "notice"),
    [
        ("lapse_due", f"after:{SWEEPS}._take", "request.lapsed", "ended"),
        ("lapse_due", "after:requests_app.domain.audit.record_many", "request.lapsed", "ended"),
        ("activate_due", f"after:{SWEEPS}._take", "request.started", None),
        ("activate_due", "after:requests_app.domain.audit.record_each", "request.started", None),
        ("announce_endings", f"after:{SWEEPS}._take", None, "ending_soon"),
        ("announce_endings", "after:requests_app.domain.notices.announce_many", None, "ending_soon"),
    ],
)
def test_each_other_sweep_is_killed_too(
    sweep: str, point: str, action: str | None, notice: str | None, pending_request: AccessRequest
) -> None:
    due = _made_due(sweep, pending_request)
    before = due.state
    done = {"request.lapsed": State.LAPSED, "request.started": State.ACTIVE}.get(action or "", State.ACTIVE)

    killed(point, f"{SWEEPS}.{sweep}")

    due.refresh_from_db()
    assert due.state == before
    assert not AuditEvent.objects.filter(action=action or "", access_request=due).exists()
    assert not Notice.objects.filter(kind=notice or "", access_request=due).exists()
    assert getattr(sweeps, sweep)() == 1
    due.refresh_from_db()
    assert due.state == done
    assert AuditEvent.objects.filter(action=action or "", access_request=due).count() == bool(action)
    assert Notice.objects.filter(kind=notice or "", access_request=due).count() == bool(notice)
    assert getattr(sweeps, sweep)() == 0


def _made_due(sweep: str, pending: AccessRequest) -> AccessRequest:
    """A request for which this sweep has something to do now."""
    if sweep == "lapse_due":
        with clock.moved(-timedelta(days=2)):
            return factories.wish(pending.beneficiary, pending.role, pending.entitlement)
    (approver, *_) = workflow.who_can_decide(pending)
    if sweep == "announce_endings":
        with clock.moved(-timedelta(minutes=20)):
            ending = factories.wish(pending.beneficiary, pending.role, pending.entitlement, start="at_once")
            workflow.approve(ending, by=approver)
        ending.refresh_from_db()
        return ending
    waiting = factories.wish(pending.beneficiary, pending.role, pending.entitlement, start="at_once")
    # Approved, and whoever approved it died before the start: by hand, for the verb does both at once.
    now = clock.now()
    Decision.objects.create(
        access_request=waiting, stage=1, approver=approver, approver_name="", verdict="approve", decided_at=now
    )
    AccessRequest.objects.filter(pk=waiting.pk).update(
        state="approved", approved_at=now, approved_seconds=60, start_by=now + timedelta(hours=1)
    )
    waiting.refresh_from_db()
    return waiting


def test_the_sweep_of_deliveries_is_killed(alice: User, read_only: Role, automatic: Entitlement) -> None:
    with clock.moved(-timedelta(minutes=2)):
        factories.clock_reading()
        old = factories.delivery(factories.wish(alice, read_only, automatic, start="at_once"))
        assert deliveries.claim(old.pk, worker="died")

    killed("after:requests_app.domain.audit.record_each", "requests_app.domain.workflow.deliveries.sweep")

    old.refresh_from_db()
    assert old.state == DeliveryState.CLAIMED
    assert deliveries.sweep() == 1
    old.refresh_from_db()
    assert old.state == DeliveryState.UNKNOWN
    assert AuditEvent.objects.filter(action="session.unaccounted").count() == 1


def _pass_that_began_two_hours_ago(like: AccessRequest) -> AccessRequest:
    again = factories.wish(like.beneficiary, like.role, like.entitlement)
    (approver, *_) = workflow.who_can_decide(again)
    workflow.approve(again, by=approver)
    return workflow.start(again, by=again.beneficiary)


@pytest.mark.parametrize(
    ("point", "sent_before"),
    [("after:requests_app.background.mail.sending._claim", 0), ("after:requests_app.background.mail.sending._send", 1)],
)
def test_the_mailer_is_killed(pending_request: AccessRequest, point: str, sent_before: int) -> None:
    asked = Notice.objects.filter(kind="asked", access_request=pending_request)
    assert asked.count() == 2

    killed(point, "requests_app.background.mail.send_due")

    assert asked.filter(sent_at=None).count() == 2 - sent_before
    assert mail.send_due() == 0, "claimed ones are not due again at once"
    with clock.moved(timedelta(minutes=11)):
        assert mail.send_due() == 2 - sent_before
    assert not asked.filter(sent_at=None).exists()
    assert len(mailbox.outbox) == 2 - sent_before
