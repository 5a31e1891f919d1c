"""Starting at a time, and what approvers change: later or shorter, never more than was asked for."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from requests_app.domain import clock, workflow
from requests_app.domain.errors import Conflict, Invalid, NotAllowed
from requests_app.domain.models import AccessRequest, AuditEvent, Entitlement, Group, Membership, Notice, Role, User
from requests_app.domain.transitions import State
from requests_app.domain.workflow import sweeps
from tests import factories
from tests.domain.expect import refused

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def earlier() -> Iterator[None]:
    """All of this happened half a day ago: the database takes nothing that is said to have begun in the future."""
    with clock.moved(-DAY / 2):
        yield


@pytest.fixture
def ahead(staged: Entitlement, automatic: Entitlement) -> Entitlement:
    """May be scheduled up to a day ahead; lapses if nobody starts it within ten minutes."""
    Entitlement.objects.update(schedule_ahead_seconds=86400, start_within_seconds=600)
    staged.refresh_from_db()
    automatic.refresh_from_db()
    return staged


@pytest.fixture
def planned(alice: User, administrator: Role, ahead: Entitlement) -> AccessRequest:
    """Pending, for an hour, from an hour from now on."""
    return factories.wish(alice, administrator, ahead, start="at_time", start_at=clock.now() + HOUR, duration=HOUR)


def approved(planned: AccessRequest, by: User, **changes: Any) -> AccessRequest:
    workflow.approve(planned, by=by, **changes)
    planned.refresh_from_db()
    return planned


def test_it_starts_by_itself_at_its_time_and_not_before(planned: AccessRequest, alice: User, bob: User) -> None:
    approved(planned, bob)
    assert planned.scheduled_at is not None
    assert (planned.state, planned.start_by) == (State.APPROVED, planned.scheduled_at + 10 * MINUTE)
    with refused("start.scheduled", NotAllowed):
        workflow.start(planned, by=alice)
    with refused("start.scheduled", NotAllowed):
        factories.delivery(planned)
    assert sweeps.activate_due() == 0
    with clock.moved(HOUR + timedelta(seconds=3)):
        assert sweeps.activate_due() == 1
        assert sweeps.activate_due() == 0
    planned.refresh_from_db()
    assert planned.activated_at is not None
    assert planned.expires_at == planned.activated_at + HOUR
    assert planned.activated_at >= planned.scheduled_at
    started = AuditEvent.objects.get(action="request.started")
    assert (started.actor, started.detail["expires_at"]) == (None, planned.expires_at.isoformat())


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "UTC", "Mars/Olympus"])
def test_whoever_is_too_early_reads_when_by_their_own_clock(
    zone: str, alice: User, bob: User, planned: AccessRequest
) -> None:
    """In a zone that nobody knows it is said in UTC, and that it is."""
    alice.time_zone = zone
    alice.save()
    approved(planned, bob)
    there = ZoneInfo(zone if zone != "Mars/Olympus" else "UTC")
    assert planned.scheduled_at is not None
    begins = f"{planned.scheduled_at.astimezone(there):%d %b %Y %H:%M} {there}"
    with pytest.raises(NotAllowed, match=f"This begins at {begins} and starts by itself"):
        workflow.start(planned, by=alice)
    with pytest.raises(NotAllowed, match=begins):
        factories.delivery(planned)


def test_who_is_quicker_than_the_sweep_starts_it_by_hand_at_its_time(
    planned: AccessRequest, alice: User, bob: User
) -> None:
    approved(planned, bob)
    with clock.moved(HOUR + timedelta(seconds=1)):
        assert workflow.start(planned, by=alice).state == State.ACTIVE


def test_nobody_started_it_in_time(planned: AccessRequest, bob: User) -> None:
    approved(planned, bob)
    with clock.moved(HOUR + 10 * MINUTE):
        assert sweeps.activate_due() == 0
        assert sweeps.lapse_due() == 1
    planned.refresh_from_db()
    assert planned.state == State.LAPSED


def test_approved_late_it_starts_with_the_approval_for_its_whole_time(planned: AccessRequest, bob: User) -> None:
    with clock.moved(-2 * HOUR):
        late = factories.wish(
            planned.requester, planned.role, planned.entitlement, start="at_time", start_at=clock.now() + HOUR
        )
    approved(late, bob)
    assert (late.state, late.activated_at) == (State.ACTIVE, late.approved_at)
    assert late.expires_at == late.activated_at + timedelta(minutes=30)  # type: ignore[operator]


@pytest.mark.parametrize("since", ["frozen", "left", "role", "account", "entitlement", "excluded"])
def test_it_waits_where_it_may_not_be_had_at_its_time(
    since: str, planned: AccessRequest, alice: User, bob: User, olivia: User, engineers: Group
) -> None:
    """And lapses, if that is not mended in time."""
    approved(planned, bob)
    freeze = None
    match since:
        case "frozen":
            freeze = workflow.freezes.freeze(planned.role, by=olivia, reason="an incident")
        case "left":
            Membership.objects.filter(user=alice).delete()
        case "role":
            Role.objects.update(is_active=False)
        case "account":
            planned.role.account.is_active = False
            planned.role.account.save()
        case "entitlement":
            Entitlement.objects.update(is_active=False)
        case "excluded":
            planned.entitlement.excluded_groups.add(engineers)
    with clock.moved(HOUR + MINUTE):
        assert sweeps.activate_due() == 0
    if freeze:
        workflow.freezes.lift(freeze, by=olivia)
        with clock.moved(HOUR + 2 * MINUTE):
            assert sweeps.activate_due() == 1
    else:
        with clock.moved(HOUR + 10 * MINUTE):
            assert sweeps.lapse_due() == 1


def test_bounds_of_a_scheduled_start(alice: User, administrator: Role, ahead: Entitlement) -> None:
    now = clock.now()

    def ask(**values: Any) -> AccessRequest:
        return factories.wish(alice, administrator, ahead, **values)

    assert ask(start="at_time", start_at=now + DAY - MINUTE).scheduled_at == now + DAY - MINUTE
    for values in (
        {"start": "at_time", "start_at": now + DAY + MINUTE},
        {"start": "at_time", "start_at": now - timedelta(seconds=1)},
        {"start": "at_time"},
        {"start": "at_once", "start_at": now + HOUR},
        {"start": "on_demand", "start_at": now + HOUR},
    ):
        with pytest.raises(Invalid) as wrong:
            ask(**values)
        assert set(wrong.value.fields) <= {"start", "start_at"}
    Entitlement.objects.update(schedule_ahead_seconds=0)
    with pytest.raises(Invalid):
        ask(start="at_time", start_at=now + MINUTE)


# --- what an approver changes ---------------------------------------------------------------------


def test_an_approver_moves_it_later_and_shortens_it(planned: AccessRequest, alice: User, bob: User) -> None:
    assert planned.scheduled_at is not None
    later = planned.scheduled_at + 2 * HOUR
    approved(planned, bob, start_at=later, duration=20 * MINUTE)
    assert (planned.scheduled_at, planned.approved_seconds, planned.duration) == (later, 1200, 20 * MINUTE)
    # What was asked for stays as it was.
    assert (planned.wanted_start_at, planned.duration_seconds) == (later - 2 * HOUR, 3600)
    event = AuditEvent.objects.get(action="request.approved")
    assert event.detail["start_at"] == later.isoformat()
    assert event.detail["duration_seconds"] == 1200
    with clock.moved(HOUR + MINUTE):
        assert sweeps.activate_due() == 0
    with clock.moved(3 * HOUR + MINUTE):
        assert sweeps.activate_due() == 1
    planned.refresh_from_db()
    assert planned.expires_at == planned.activated_at + 20 * MINUTE  # type: ignore[operator]


@pytest.mark.parametrize(
    "changes",
    [
        {"start_at": -MINUTE},
        {"start_at": 25 * HOUR},
        {"duration": HOUR + MINUTE},
        {"duration": timedelta(seconds=59)},
        {"duration": timedelta(0)},
        {"duration": -HOUR},
        {"duration": 20 * MINUTE, "start_at": -MINUTE},
    ],
)
def test_an_approver_never_brings_it_forward_or_lengthens_it(
    changes: dict[str, timedelta], planned: AccessRequest, bob: User
) -> None:
    values: dict[str, Any] = dict(changes)
    if "start_at" in changes:
        values["start_at"] = planned.scheduled_at + changes["start_at"]  # type: ignore[operator]
    before = AccessRequest.objects.filter(pk=planned.pk).values().get()
    with pytest.raises(Invalid):
        workflow.approve(planned, by=bob, **values)
    assert AccessRequest.objects.filter(pk=planned.pk).values().get() == before
    assert not planned.decisions.exists()


def test_what_begins_when_the_person_wants_has_no_start_to_move(pending_request: AccessRequest, bob: User) -> None:
    with pytest.raises(Invalid) as wrong:
        workflow.approve(pending_request, by=bob, start_at=clock.now() + HOUR)
    assert set(wrong.value.fields) == {"start_at"}


def test_only_who_may_decide_hears_what_could_be_changed(planned: AccessRequest, alice: User, mallory: User) -> None:
    for person, rule in ((alice, "decision.own_request"), (mallory, "decision.not_asked")):
        with refused(rule, NotAllowed):
            workflow.approve(planned, by=person, duration=9 * HOUR)


def test_two_approvers_both_shorten_and_the_second_never_gives_back(
    alice: User, bob: User, carol: User, administrator: Role, engineers: Group, leads: Group
) -> None:
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 2)], schedule_ahead_seconds=86400)
    start_at = clock.now() + HOUR
    one = factories.wish(alice, administrator, terms, duration=HOUR, start="at_time", start_at=start_at)
    workflow.approve(one, by=bob, duration=30 * MINUTE, start_at=start_at + HOUR)
    for changes in ({"duration": 45 * MINUTE}, {"duration": HOUR}, {"start_at": start_at + MINUTE}):
        with pytest.raises(Invalid):
            workflow.approve(one, by=carol, **changes)
    # The same as stands is no change.
    workflow.approve(one, by=carol, duration=20 * MINUTE, start_at=start_at + HOUR)
    one.refresh_from_db()
    assert (one.approved_seconds, one.scheduled_at) == (1200, start_at + HOUR)


def test_a_change_that_was_refused_with_the_approval_leaves_nothing(
    planned: AccessRequest, alice: User, bob: User
) -> None:
    Membership.objects.filter(user=alice).delete()
    with refused("entitlement.does_not_reach", Conflict):
        workflow.approve(planned, by=bob, duration=20 * MINUTE)
    planned.refresh_from_db()
    assert planned.offered_seconds is None


# --- days and hours -------------------------------------------------------------------------------


def within(entitlement: Entitlement, begin: datetime, end: datetime) -> None:
    """Hours that hold on this day only, from `begin` to `end`."""
    Entitlement.objects.filter(pk=entitlement.pk).update(
        hours_days=[begin.isoweekday()],
        hours_begin=time(begin.hour, begin.minute),
        hours_end=time(end.hour, end.minute),
        schedule_ahead_seconds=14 * 86400,
    )


@pytest.fixture
def noon() -> datetime:
    """The coming noon after the next, so that nothing here is near to now."""
    return (clock.now().astimezone(UTC) + 2 * DAY).replace(hour=12, minute=0, second=0, microsecond=0)


def at(moment: datetime) -> Any:
    return clock.moved(moment - clock.now())


def test_a_pass_ends_when_its_hours_do(alice: User, read_only: Role, automatic: Entitlement, noon: datetime) -> None:
    past = noon - 9 * DAY
    within(automatic, past, past + HOUR)
    with at(past + 40 * MINUTE):
        one = factories.wish(alice, read_only, automatic, duration=HOUR, start="at_once")
    assert (one.state, one.expires_at) == (State.ACTIVE, past + HOUR)
    assert one.approved_seconds == 3600


def test_a_row_that_says_it_ends_after_its_hours_gets_no_credentials(
    alice: User, read_only: Role, automatic: Entitlement, noon: datetime
) -> None:
    """The database holds how long was approved, and no hours: whoever mints asks about them."""
    past = noon - 9 * DAY
    within(automatic, past, past + HOUR)
    with at(past + 30 * MINUTE):
        one = factories.wish(alice, read_only, automatic, duration=HOUR)
        honest = factories.wish(alice, read_only, automatic, duration=HOUR, start="at_once")
    begun = past + 40 * MINUTE
    forged = {"state": "active", "activated_at": begun, "expires_at": begun + HOUR}
    AccessRequest.objects.filter(pk=one.pk).update(**forged)
    with at(past + 41 * MINUTE):
        factories.clock_reading()
        assert factories.delivery(honest)
        with refused("mint.hours", NotAllowed):
            factories.delivery(one)


def test_outside_its_hours_it_waits_for_them(
    alice: User, read_only: Role, automatic: Entitlement, noon: datetime
) -> None:
    """Approved in the evening, it starts in the morning, and has the time to start from then on."""
    past = noon - 9 * DAY
    within(automatic, past, past + HOUR)
    with at(past - 3 * HOUR):
        at_once = factories.wish(alice, read_only, automatic, start="at_once")
        by_hand = factories.wish(alice, read_only, automatic)
        assert {at_once.state, by_hand.state} == {State.APPROVED}
        assert at_once.start_by == past + timedelta(seconds=automatic.start_within_seconds)
        with refused("start.hours", NotAllowed):
            workflow.start(by_hand, by=alice)
        assert sweeps.activate_due() == 0
    with at(past + MINUTE):
        assert sweeps.activate_due() == 1
        workflow.start(by_hand, by=alice)
    at_once.refresh_from_db()
    assert at_once.state == State.ACTIVE


def test_what_waits_for_its_hours_holds_up_nothing_else(
    alice: User, read_only: Role, automatic: Entitlement, engineers: Group, noon: datetime
) -> None:
    """More of them than one sweep looks at, and to be started before the one that could."""
    closed = factories.entitlement(read_only, groups=[engineers], start_within_seconds=60)
    within(closed, noon - 9 * DAY + HOUR, noon - 9 * DAY + 2 * HOUR)
    within(automatic, noon - 9 * DAY, noon - 9 * DAY + 6 * HOUR)
    Entitlement.objects.filter(pk=automatic.pk).update(start_within_seconds=9 * 86400)
    automatic.refresh_from_db()
    with at(noon - 9 * DAY - HOUR):
        for number in range(4):
            factories.wish(factories.person(f"p{number}", engineers), read_only, closed, start="at_once")
        one = factories.wish(alice, read_only, automatic, start="at_once")
        assert sweeps.activate_due(limit=3) == 0
    with at(noon - 9 * DAY + MINUTE):
        assert sweeps.activate_due(limit=3) == 1
        one.refresh_from_db()
        assert one.state == State.ACTIVE
    with at(noon - 9 * DAY + HOUR + timedelta(seconds=1)):
        assert (sweeps.activate_due(limit=3), sweeps.activate_due(limit=3)) == (3, 1)


@pytest.mark.django_db(transaction=True)
def test_terms_from_before_there_were_hours_start_while_others_wait_for_theirs(
    alice: User, read_only: Role, automatic: Entitlement, engineers: Group, noon: datetime,
    superuser_connection: psycopg.Connection,
) -> None:  # fmt: skip
    closed = factories.entitlement(read_only, groups=[engineers])
    within(closed, noon - 9 * DAY + HOUR, noon - 9 * DAY + 2 * HOUR)
    within(automatic, noon - 9 * DAY + HOUR, noon - 9 * DAY + 2 * HOUR)
    with at(noon - 9 * DAY):
        factories.wish(factories.person("erin", engineers), read_only, closed, start="at_once")
        one = factories.wish(alice, read_only, automatic, start="at_once")
        assert one.state == State.APPROVED
        with superuser_connection.transaction():
            superuser_connection.execute("SET LOCAL session_replication_role = replica")
            superuser_connection.execute(
                "UPDATE requests_app_accessrequest SET terms_document = terms_document - 'hours',"
                " start_by = approved_at + interval '8 hours' WHERE id = %s",
                [one.pk],
            )
        assert sweeps.activate_due() == 1
    one.refresh_from_db()
    assert one.state == State.ACTIVE


def test_no_pass_begins_in_the_last_seconds_of_the_hours(
    alice: User, read_only: Role, automatic: Entitlement, noon: datetime
) -> None:
    """Approved then, it has its time from when they open again, and does not run out overnight."""
    past = noon - 9 * DAY
    within(automatic, past - HOUR, past)
    with at(past - timedelta(seconds=30)):
        at_once = factories.wish(alice, read_only, automatic, start="at_once")
        by_hand = factories.wish(alice, read_only, automatic)
        assert (at_once.state, by_hand.state) == (State.APPROVED, State.APPROVED)
        with refused("start.hours", NotAllowed):
            workflow.start(by_hand, by=alice)
    automatic.refresh_from_db()
    opens = automatic.hours.next_opening(past) if automatic.hours else None
    assert opens is not None
    assert by_hand.start_by == at_once.start_by == opens + timedelta(seconds=automatic.start_within_seconds)
    with at(past - timedelta(seconds=90)):
        assert factories.wish(alice, read_only, automatic, start="at_once").state == State.ACTIVE


def test_a_start_is_scheduled_within_the_hours(
    alice: User, administrator: Role, staged: Entitlement, bob: User, noon: datetime
) -> None:
    within(staged, noon, noon + HOUR)
    with pytest.raises(Invalid) as wrong:
        factories.wish(alice, administrator, staged, start="at_time", start_at=noon - MINUTE)
    assert "UTC" in wrong.value.fields["start_at"][0]
    one = factories.wish(alice, administrator, staged, start="at_time", start_at=noon)
    with pytest.raises(Invalid):
        workflow.approve(one, by=bob, start_at=noon + HOUR)
    workflow.approve(one, by=bob, start_at=noon + 59 * MINUTE)


# --- any number of passes for one role ------------------------------------------------------------


@pytest.mark.parametrize("ending", ["expire", "give back", "revoke", "withdraw"])
def test_passes_that_overlap_are_independent(
    ending: str, alice: User, bob: User, administrator: Role, staged: Entitlement, engineers: Group, aws_clock: object
) -> None:
    """Three passes on one role, two of them of one person: one ends, and the others are as they were."""
    erin = factories.person("erin", engineers)

    def active(who: User, minutes: int) -> AccessRequest:
        one = approved(factories.wish(who, administrator, staged, duration=minutes * MINUTE), bob)
        return one if ending == "withdraw" else workflow.start(one, by=who)

    mine, shorter, hers = active(alice, 30), active(alice, 10), active(erin, 30)
    others = AccessRequest.objects.filter(pk__in=[mine.pk, hers.pk]).order_by("pk")
    before = list(others.values())
    match ending:
        case "expire":
            with clock.moved(15 * MINUTE):
                assert sweeps.expire_due() == 1
        case "give back":
            workflow.give_back(shorter, by=alice)
        case "revoke":
            workflow.revoke(shorter, by=bob, reason="enough")
        case "withdraw":
            workflow.withdraw(shorter, by=alice)
    assert list(others.values()) == before
    assert not Notice.objects.filter(access_request__in=others, kind="ended").exists()
    assert factories.delivery(mine).access_request == mine
    assert factories.delivery(hers).access_request == hers
    with pytest.raises((Conflict, NotAllowed)):
        factories.delivery(shorter)
