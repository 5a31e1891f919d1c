"""Two at the same moment: one outcome, a record that fits, and a clear sentence for whoever came second."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import transaction
from django.db.models import F

from requests_app.domain import clock, deciders, workflow
from requests_app.domain.errors import DomainError
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    Delivery,
    Entitlement,
    Group,
    IssuedSession,
    Notice,
    Role,
    User,
)
from requests_app.domain.transitions import DeliveryState
from requests_app.domain.workflow import deliveries, sweeps
from tests import factories, servers
from tests.domain.expect import refused
from tests.domain.meeting import at_once, in_background, row_held, wait_until_stuck

pytestmark = pytest.mark.django_db(transaction=True)

REQUESTS = AccessRequest._meta.db_table
ENDINGS = {"denied", "withdrawn", "lapsed", "expired", "returned", "revoked"}


def _later(sweep: Callable[[], int], by: timedelta) -> Callable[[], int]:
    def run() -> int:
        with clock.moved(by):
            return sweep()

    return run


def _acts(pk: int) -> dict[str, Callable[[], Any]]:
    """What can be done to this request; each looks at the row as a page would have, a moment before."""

    def one() -> AccessRequest:
        return AccessRequest.objects.get(pk=pk)

    people = {user.username: user for user in User.objects.all()}
    return {
        "approve": lambda: workflow.approve(one(), by=people["bob"]),
        "approve by carol": lambda: workflow.approve(one(), by=people["carol"]),
        "deny": lambda: workflow.deny(one(), by=people["bob"]),
        "deny by carol": lambda: workflow.deny(one(), by=people["carol"]),
        "withdraw": lambda: workflow.withdraw(one(), by=people["alice"]),
        "start": lambda: workflow.start(one(), by=people["alice"]),
        "give back": lambda: workflow.give_back(one(), by=people["alice"]),
        "revoke": lambda: workflow.revoke(one(), by=people["bob"], reason="incident over"),
        "revoke by carol": lambda: workflow.revoke(one(), by=people["carol"], reason="incident over"),
        "ask": lambda: factories.delivery(one()),
        "remind": lambda: workflow.remind(one(), by=people["alice"]),
        "lapse": _later(sweeps.lapse_due, timedelta(days=1)),
        "expire": _later(sweeps.expire_due, timedelta(hours=2)),
        "announce": _later(sweeps.announce_endings, timedelta(minutes=20)),
    }


PAIRS = [
    # from, one, another, how it may end, how many of the two may succeed
    ("pending", "approve", "approve by carol", {"approved"}, {1}),
    ("pending", "approve", "approve", {"approved"}, {1}),
    ("pending", "approve", "deny by carol", {"approved", "denied"}, {1}),
    ("pending", "approve", "deny", {"approved", "denied"}, {1}),
    ("pending", "deny", "deny by carol", {"denied"}, {1}),
    ("pending", "approve", "withdraw", {"withdrawn"}, {1, 2}),  # approved and then withdrawn is fine too
    ("pending", "deny", "withdraw", {"denied", "withdrawn"}, {1}),
    ("pending", "withdraw", "withdraw", {"withdrawn"}, {1}),
    ("pending", "remind", "remind", {"pending"}, {1}),
    ("pending", "remind", "approve", {"approved"}, {1, 2}),
    ("pending", "approve", "lapse", {"approved", "lapsed"}, {1, 2}),
    ("pending", "deny", "lapse", {"denied", "lapsed"}, {1, 2}),
    ("pending", "lapse", "lapse", {"lapsed"}, {1, 2}),
    ("pending of two", "approve", "approve by carol", {"approved"}, {2}),
    ("pending of two", "approve", "approve", {"pending"}, {1}),
    ("pending of two", "approve", "deny by carol", {"denied"}, {1, 2}),
    ("approved", "start", "start", {"active"}, {1}),
    ("approved", "start", "withdraw", {"active", "withdrawn"}, {1}),
    ("approved", "start", "revoke", {"revoked"}, {1, 2}),
    ("approved", "start", "lapse", {"active", "lapsed"}, {1, 2}),
    ("approved", "start", "ask", {"active"}, {1, 2}),
    ("approved", "ask", "ask", {"active"}, {2}),
    ("approved", "ask", "withdraw", {"active", "withdrawn"}, {1}),
    ("active", "give back", "give back", {"returned"}, {1}),
    ("active", "give back", "revoke", {"returned", "revoked"}, {1}),
    ("active", "revoke", "revoke by carol", {"revoked"}, {1}),
    ("active", "give back", "expire", {"returned", "expired"}, {1, 2}),
    ("active", "revoke", "expire", {"revoked", "expired"}, {1, 2}),
    ("active", "expire", "expire", {"expired"}, {1, 2}),
    ("active", "ask", "give back", {"returned"}, {1, 2}),
    ("active", "ask", "revoke", {"revoked"}, {1, 2}),
    ("active", "announce", "announce", {"active"}, {1, 2}),
    ("active", "announce", "revoke", {"revoked"}, {1, 2}),
]


@pytest.mark.parametrize(("state", "one", "another", "ends", "winners"), PAIRS, ids=lambda value: str(value)[:20])
def test_every_pair_that_can_meet(
    state: str,
    one: str,
    another: str,
    ends: set[str],
    winners: set[int],
    alice: User,
    bob: User,
    carol: User,
    administrator: Role,
    staged: Entitlement,
    engineers: Group,
    leads: Group,
    aws_clock: object,
) -> None:
    two = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 2)])
    for meet_at_the_lock in (True, False, False):
        with clock.moved(-timedelta(minutes=16)):
            made = factories.wish(alice, administrator, two if state == "pending of two" else staged)
            if state in ("approved", "active"):
                workflow.approve(made, by=bob)
        if state == "active":
            workflow.start(made, by=alice)
        acts = _acts(made.pk)
        outcomes = at_once(acts[one], acts[another], held=(REQUESTS, made.pk) if meet_at_the_lock else None)

        made.refresh_from_db()
        assert made.state in ends or (meet_at_the_lock and {one, another} <= {"lapse", "expire"})
        refusals = [outcome for outcome in outcomes if isinstance(outcome, DomainError)]
        assert 2 - len(refusals) in winners, refusals
        _check_record(made, refusals)
        # Nothing of it is left for the next round's sweeps.
        with clock.moved(timedelta(days=2)):
            sweeps.expire_due()
            sweeps.lapse_due()


def _check_record(made: AccessRequest, refusals: list[DomainError]) -> None:
    """The row, its events, its decisions and its mails tell one story."""
    actions = [action.removeprefix("request.") for action in made.events.values_list("action", flat=True)]
    assert [action for action in actions if action in ENDINGS] == [made.state] * (made.state in ENDINGS)
    assert actions.count("granted") == (made.approved_at is not None)
    assert actions.count("started") == (made.activated_at is not None)
    assert actions.count("approved") + actions.count("denied") == made.decisions.count()
    assert sum(action.endswith(".refused") for action in actions) == len(refusals)
    assert all(refusal.message.endswith(".") for refusal in refusals)
    for kind in ("decided", "ended", "ending_soon"):
        assert Notice.objects.filter(access_request=made, kind=kind).count() <= 1
    assert Delivery.objects.filter(access_request=made).count() == actions.count("delivery.asked")


@pytest.mark.parametrize(
    ("state", "act", "after"),
    [
        ("pending", "approve", "lapsed"),
        ("approved", "start", "lapsed"),
        ("active", "give back", "expired"),
        ("active", "ask", "expired"),
    ],
)
def test_time_runs_out_while_waiting_for_the_lock(
    state: str,
    act: str,
    after: str,
    alice: User,
    bob: User,
    administrator: Role,
    staged: Entitlement,
    aws_clock: object,
) -> None:
    """When the verb looked, there was time; when it gets the row, there is none."""
    Entitlement.objects.update(pending_seconds=3600, start_within_seconds=3600)
    last = {"pending": timedelta(hours=1), "approved": timedelta(hours=1), "active": timedelta(minutes=30)}[state]
    with clock.moved(timedelta(seconds=1) - last):
        made = factories.wish(alice, administrator, staged)
        if state != "pending":
            workflow.approve(made, by=bob)
        if state == "active":
            workflow.start(made, by=alice)
    with row_held(REQUESTS, made.pk):
        running = in_background(_acts(made.pk)[act])
        wait_until_stuck([running])
        made.refresh_from_db()
        assert made.due(clock.now()) is None, "too slow a machine for this test"
        time.sleep(max(0.0, (_end_of(made) - clock.now()).total_seconds()) + 0.01)
    outcome = running.result(timeout=10)

    assert isinstance(outcome, DomainError)
    made.refresh_from_db()
    assert made.state == after
    _check_record(made, [outcome])


def _end_of(made: AccessRequest) -> Any:
    return {"pending": made.decide_by, "approved": made.start_by, "active": made.expires_at}[made.state]


def test_many_sweeps_end_each_request_once(alice: User, read_only: Role, automatic: Entitlement) -> None:
    with clock.moved(-timedelta(hours=1)):
        for _ in range(40):
            factories.wish(alice, read_only, automatic, start="at_once")
    ended = at_once(*[lambda: sum(sweeps.expire_due(limit=5) for _ in range(6)) for _ in range(4)])
    assert sum(ended) + sweeps.expire_due() == 40
    assert AuditEvent.objects.filter(action="request.expired").count() == 40
    assert Notice.objects.filter(kind="ended").count() == 40


def test_a_sweep_goes_round_what_somebody_is_at(alice: User, read_only: Role, automatic: Entitlement) -> None:
    with clock.moved(-timedelta(hours=1)):
        at_it, free = (factories.wish(alice, read_only, automatic, start="at_once") for _ in range(2))
    with row_held(REQUESTS, at_it.pk):
        assert in_background(sweeps.expire_due).result(timeout=5) == 1
        free.refresh_from_db()
        assert free.state == "expired"
    assert sweeps.expire_due() == 1


def test_a_verb_waits_to_settle_what_is_due(active_request: AccessRequest) -> None:
    def settle_later() -> None:
        with clock.moved(timedelta(hours=1)):
            sweeps.settle([active_request.pk])

    with row_held(REQUESTS, active_request.pk):
        settling = in_background(settle_later)
        wait_until_stuck([settling])
        assert not settling.done()
    settling.result(timeout=5)
    active_request.refresh_from_db()
    assert active_request.state == "expired"


def test_an_entitlement_edited_while_someone_asks(alice: User, administrator: Role, staged: Entitlement) -> None:
    with transaction.atomic():
        Entitlement.objects.filter(pk=staged.pk).update(longest_seconds=1200, revision=F("revision") + 1)
        # Alice's verb has read the old terms and waits for this edit.
        asking = in_background(lambda: factories.wish(alice, administrator, staged))
        wait_until_stuck([asking])
    outcome = asking.result(timeout=10)
    assert isinstance(outcome, DomainError)
    assert outcome.rule == "terms.changed"
    assert not AccessRequest.objects.exists()


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        ("UPDATE requests_app_entitlement SET is_active = false", "entitlement.does_not_reach"),
        ("UPDATE requests_app_role SET identity_is_access = true", "mint.identity_is_access"),
    ],
)
def test_an_operators_edit_while_a_wish_waits(
    edit: str, rule: str, alice: User, read_only: Role, automatic: Entitlement, aws_clock: object
) -> None:
    """What is joined to a locked row must be read after the lock, not before."""
    active = factories.wish(alice, read_only, automatic, start="at_once", duration=timedelta(minutes=10))
    with row_held(REQUESTS, active.pk) as other:
        asking = in_background(lambda: factories.delivery(active))
        wait_until_stuck([asking])
        other.execute(edit)
        other.commit()
    assert getattr(asking.result(timeout=10), "rule", None) == rule


def test_a_decision_waits_for_what_becomes_of_the_request(pending_request: AccessRequest, bob: User) -> None:
    """Past all of our code: the guard itself looks after the lock, and not at what was so before it."""
    decided = (
        "INSERT INTO requests_app_decision (access_request_id, stage, approver_id, approver_name, verdict, comment, "
        "decided_at) VALUES (%s, 1, %s, 'Bob', 'approve', '', clock_timestamp())"
    )

    def decide() -> str:
        with psycopg.connect(servers.database_url("app", servers.database_name()), autocommit=True) as connection:
            try:
                connection.execute(decided, [pending_request.pk, bob.pk])
            except psycopg.errors.CheckViolation as refusal:
                return str(refusal)
        return "taken"

    with psycopg.connect(servers.database_url("app", servers.database_name())) as other:
        other.execute(
            "UPDATE requests_app_accessrequest SET state = 'withdrawn', ended_at = clock_timestamp() WHERE id = %s",
            [pending_request.pk],
        )
        deciding = in_background(decide)
        wait_until_stuck([deciding])
        other.commit()
    assert "only the present stage of what is pending" in deciding.result(timeout=10)


def test_what_the_database_refuses_is_a_sentence_and_no_crash(
    pending_request: AccessRequest, bob: User, leads: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bob is taken out of the group after the rule was asked and before the row is written."""
    still_there = deciders.facts_of_deciding(pending_request, bob, clock.now())
    bob.memberships.all().delete()
    monkeypatch.setattr(deciders, "facts_of_deciding", lambda *_: still_there)
    with refused("database.refused"):
        workflow.approve(pending_request, by=bob)
    assert AuditEvent.objects.filter(action="request.approved.refused").count() == 1


def test_two_who_deactivate_each_other_do_not_wait_for_ever(bob: User, carol: User) -> None:
    for _ in range(5):
        User.objects.update(deactivated_at=None)
        at_once(
            lambda: workflow.people.deactivate(bob, by=carol),
            lambda: workflow.people.deactivate(carol, by=bob),
        )
        assert not User.objects.filter(deactivated_at=None, username__in=["bob", "carol"]).exists()


@pytest.mark.parametrize("limit", ["PERSON", "ROLE"])
def test_wishes_do_not_outrun_their_limit(
    limit: str, read_only: Role, automatic: Entitlement, engineers: Group, aws_clock: object, settings: Any
) -> None:
    setattr(settings, f"DELIVERIES_PER_{limit}_PER_MINUTE", 3)
    # One person with many roles, or many people with one: only the limit in question is in the way.
    people = [factories.person(f"p{n}", engineers) for n in range(8 if limit == "ROLE" else 1)]
    roles = [read_only, *(factories.role() for _ in range(7 if limit == "PERSON" else 0))]
    automatic.roles.set(roles)
    passes = [factories.wish(person, role, automatic, start="at_once") for person in people for role in roles]
    outcomes = at_once(*[lambda one=one: factories.delivery(one) for one in passes])
    assert Delivery.objects.count() == 3
    assert {one.rule for one in outcomes if isinstance(one, DomainError)} == {f"limit.{limit.lower()}"}


@pytest.mark.parametrize("held", [True, False])
def test_workers_claim_one_delivery(held: bool, active_request: AccessRequest, aws_clock: object) -> None:
    delivery = factories.delivery(active_request)
    claim = [lambda n=n: deliveries.claim(delivery.pk, worker=f"w{n}") for n in range(4)]
    orders = at_once(*claim, held=(REQUESTS, active_request.pk) if held else None)
    assert sum(order is not None for order in orders) == 1


@pytest.mark.parametrize("end", ["revoke", "give back"])
def test_a_session_and_the_end_at_once(end: str, active_request: AccessRequest, carol: User, aws_clock: object) -> None:
    """Either the session is recorded while the pass lives, or it is recorded as discarded: never lost, never handed."""
    delivery = factories.delivery(active_request)
    order = deliveries.claim(delivery.pk, worker="w1")
    assert order is not None
    kept, _ = at_once(
        lambda: deliveries.record(order, factories.minted(order), worker="w1"),
        _acts(active_request.pk)[end],
        held=(REQUESTS, active_request.pk),
    )
    session = IssuedSession.objects.get()
    delivery.refresh_from_db()
    assert session.discarded is not kept
    assert delivery.state == (DeliveryState.CLAIMED if kept else DeliveryState.DISCARDED)
    assert not deliveries.seal_down(order, "x.y.z.a.b")  # and nothing is sealed after the end
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.DISCARDED
    assert AuditEvent.objects.filter(action__in=["session.issued", "session.discarded"]).count() == 1


def test_a_sweep_and_a_late_worker_do_not_wait_for_each_other(active_request: AccessRequest, aws_clock: object) -> None:
    """One has the delivery and writes about the request; the other has the request and wants the delivery."""
    for _ in range(4):
        delivery = factories.delivery(active_request)
        order = deliveries.claim(delivery.pk, worker="w1")
        assert order is not None
        at_once(
            lambda order=order: deliveries.record(order, factories.minted(order), worker="w1"),  # type: ignore[misc]
            _later(deliveries.sweep, timedelta(minutes=1)),
            held=("requests_app_delivery", delivery.pk),
        )
        session = delivery.issued_session
        delivery.refresh_from_db()
        if delivery.state == DeliveryState.UNKNOWN:
            assert session.discarded


def test_a_sweep_that_has_the_delivery_never_waits_for_the_request(
    active_request: AccessRequest, aws_clock: object
) -> None:
    delivery = factories.delivery(active_request)
    deliveries.claim(delivery.pk, worker="w1")
    # A worker's transaction holds the request as the product does, and will want the delivery.
    with transaction.atomic():
        workflow.verb.lock_row(active_request)
        sweeping = in_background(_later(deliveries.sweep, timedelta(minutes=1)))
        assert sweeping.result(timeout=5) == 1


@pytest.mark.parametrize("held", [True, False])
def test_an_envelope_is_handed_over_once(
    held: bool, active_request: AccessRequest, alice: User, aws_clock: object
) -> None:
    delivery, envelope = factories.sealed(active_request)
    store = {str(delivery.public_id): envelope}

    def take_over() -> str:
        return deliveries.hand_over(delivery, by=alice, sign_in="a sign-in", take=lambda key: store.pop(key, None))

    outcomes = at_once(*[take_over] * 3, held=(REQUESTS, active_request.pk) if held else None)
    assert outcomes.count(envelope) == 1
    assert sum(isinstance(one, DomainError) for one in outcomes) == 2
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.DELIVERED
