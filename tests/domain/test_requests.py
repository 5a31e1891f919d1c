"""The whole life of a request, as its row and its audit events tell it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from requests_app.domain import audit, clock, workflow
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import AccessRequest, AuditEvent, Entitlement, Group, Role, User
from requests_app.domain.transitions import State
from requests_app.domain.workflow import sweeps
from tests import factories
from tests.domain.expect import refused


def test_nobody_approves_their_own_request(pending_request: AccessRequest, alice: User) -> None:
    with pytest.raises(NotAllowed) as refusal:
        workflow.approve(pending_request, by=alice)

    assert refusal.value.rule == "decision.own_request"
    assert not pending_request.decisions.exists()
    assert AuditEvent.objects.filter(action="request.approved.refused", actor=alice).count() == 1


def test_who_is_asked_stands_in_the_terms_and_nowhere_else(
    pending_request: AccessRequest, alice: User, mallory: User, bob: User
) -> None:
    """What a row says to be found by decides nothing, whoever wrote it there."""
    mallorys = factories.group("Mallory's", mallory)
    AccessRequest.objects.update(deciding_users=[mallory.pk, alice.pk], deciding_groups=[mallorys.pk])
    for person, rule in ((mallory, "decision.not_asked"), (alice, "decision.own_request")):
        with refused(rule, NotAllowed):
            workflow.approve(pending_request, by=person)
    assert workflow.who_can_decide(pending_request) == [bob, *User.objects.filter(username="carol")]
    workflow.approve(pending_request, by=bob)


def test_from_wish_to_expiry(alice: User, bob: User, administrator: Role, staged: Entitlement) -> None:
    access_request = factories.wish(alice, administrator, staged, duration=timedelta(minutes=20), ticket="OPS-1")
    workflow.approve(access_request, by=bob, comment="for the batch")
    active = workflow.start(access_request, by=alice)
    assert active.activated_at is not None
    assert active.expires_at == active.activated_at + timedelta(minutes=20)
    with clock.moved(timedelta(minutes=20)):
        assert sweeps.expire_due() == 1

    access_request.refresh_from_db()
    assert (access_request.state, access_request.ended_at) == (State.EXPIRED, active.expires_at)
    assert _story(access_request) == [
        ("request.submitted", "Alice"),
        ("request.approved", "Bob"),
        ("request.granted", "Bob"),
        ("request.started", "Alice"),
        ("request.expired", "Daypass"),
    ]
    assert {event.beneficiary_name for event in access_request.events.all()} == {"Alice"}


def test_automatic_terms_approve_in_the_same_breath(alice: User, read_only: Role, automatic: Entitlement) -> None:
    access_request = factories.wish(alice, read_only, automatic)

    assert access_request.state == State.APPROVED
    assert _story(access_request) == [("request.submitted", "Alice"), ("request.granted", "Daypass")]


def test_automatic_and_at_once_is_active_at_once(alice: User, read_only: Role, automatic: Entitlement) -> None:
    access_request = factories.wish(alice, read_only, automatic, start="at_once")

    assert access_request.state == State.ACTIVE
    assert access_request.expires_at == access_request.activated_at + timedelta(minutes=30)  # type: ignore[operator]


def test_at_once_begins_with_the_last_approval(
    alice: User, bob: User, administrator: Role, staged: Entitlement
) -> None:
    access_request = factories.wish(alice, administrator, staged, start="at_once")
    decision = workflow.approve(access_request, by=bob)

    access_request.refresh_from_db()
    assert (access_request.state, access_request.activated_at) == (State.ACTIVE, decision.decided_at)


def test_approved_time_is_not_burnt_before_the_start(approved_request: AccessRequest, alice: User) -> None:
    with clock.moved(-timedelta(hours=3)):
        earlier = factories.wish(alice, approved_request.role, approved_request.entitlement)
        workflow.approve(earlier, by=User.objects.get(username="bob"))

    started = workflow.start(earlier, by=alice)

    assert started.expires_at - clock.now() > timedelta(minutes=29)  # type: ignore[operator]


def test_stages_are_asked_in_order_and_each_person_once(
    alice: User, bob: User, carol: User, administrator: Role, engineers: Group, leads: Group, security: Group
) -> None:
    frank = factories.person("frank", security)
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1), (security, 1)])
    access_request = factories.wish(alice, administrator, terms)
    with refused("decision.not_asked"):
        workflow.approve(access_request, by=frank)
    workflow.approve(access_request, by=carol)
    access_request.refresh_from_db()
    assert (access_request.state, access_request.stage) == (State.PENDING, 2)

    # Carol is in Security too, but has had her say.
    with refused("decision.once"):
        workflow.approve(access_request, by=carol)
    with refused("decision.not_asked"):
        workflow.approve(access_request, by=bob)
    workflow.approve(access_request, by=frank)

    access_request.refresh_from_db()
    assert access_request.state == State.APPROVED


def test_nobody_spends_their_say_where_it_leaves_a_later_stage_stuck(
    alice: User, bob: User, carol: User, administrator: Role, engineers: Group, leads: Group, security: Group
) -> None:
    """Carol leads payments and is all of Security: her yes to the first stage would leave nobody for the second."""
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1), (security, 1)])
    access_request = factories.wish(alice, administrator, terms)
    with refused("decision.needed_later"):
        workflow.approve(access_request, by=carol)
    assert not access_request.decisions.exists()
    workflow.approve(access_request, by=bob)
    workflow.approve(access_request, by=carol)
    access_request.refresh_from_db()
    assert access_request.state == State.APPROVED


def test_what_is_stuck_anyway_is_not_blamed_on_who_decides(
    alice: User, bob: User, carol: User, administrator: Role, engineers: Group, leads: Group, security: Group
) -> None:
    frank = factories.person("frank", security)
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1), (security, 1)])
    access_request = factories.wish(alice, administrator, terms)
    for person in (frank, carol):
        person.memberships.filter(group=security).delete()
    workflow.approve(access_request, by=bob)
    access_request.refresh_from_db()
    assert (access_request.state, access_request.stage) == (State.PENDING, 2)


def test_a_quorum_needs_that_many_people(
    alice: User, bob: User, carol: User, administrator: Role, engineers: Group, leads: Group
) -> None:
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 2)])
    access_request = factories.wish(alice, administrator, terms)
    workflow.approve(access_request, by=bob)
    access_request.refresh_from_db()
    assert access_request.state == State.PENDING
    with refused("decision.once"):
        workflow.approve(access_request, by=bob)

    workflow.approve(access_request, by=carol)

    access_request.refresh_from_db()
    assert access_request.state == State.APPROVED


def test_one_denial_ends_it_whatever_was_agreed(
    alice: User, bob: User, carol: User, administrator: Role, engineers: Group, leads: Group
) -> None:
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 2)])
    access_request = factories.wish(alice, administrator, terms)
    workflow.approve(access_request, by=bob)
    workflow.deny(access_request, by=carol, comment="not during the freeze")

    access_request.refresh_from_db()
    assert (access_request.state, access_request.ended_by, access_request.end_reason) == (
        State.DENIED,
        carol,
        "not during the freeze",
    )


def test_overlapping_passes_on_one_role_are_independent(
    alice: User, administrator: Role, staged: Entitlement, bob: User
) -> None:
    first, second = (factories.wish(alice, administrator, staged) for _ in range(2))
    for access_request in (first, second):
        workflow.approve(access_request, by=bob)
        workflow.start(access_request, by=alice)
    assert first.code != second.code

    workflow.give_back(first, by=alice)

    second.refresh_from_db()
    assert second.state == State.ACTIVE


Act = Callable[[AccessRequest, dict[str, User]], Any]
ACTS: dict[str, Act] = {
    "approve": lambda one, cast: workflow.approve(one, by=cast["bob"]),
    "deny": lambda one, cast: workflow.deny(one, by=cast["bob"]),
    "withdraw": lambda one, cast: workflow.withdraw(one, by=cast["alice"]),
    "start": lambda one, cast: workflow.start(one, by=cast["alice"]),
    "give_back": lambda one, cast: workflow.give_back(one, by=cast["alice"]),
    "revoke": lambda one, cast: workflow.revoke(one, by=cast["bob"], reason="incident over"),
    "remind": lambda one, cast: workflow.remind(one, by=cast["alice"]),
    "ask": lambda one, cast: factories.delivery(one),
}
POSSIBLE = {
    State.PENDING: {"approve", "deny", "withdraw", "remind"},
    State.APPROVED: {"withdraw", "start", "revoke", "ask"},
    State.ACTIVE: {"give_back", "revoke", "ask"},
}


def bring_to(state: str, access_request: AccessRequest, cast: dict[str, User]) -> None:
    """By the verbs, from pending, a while ago: the reminder is due and nothing else."""
    way: dict[str, tuple[str, ...]] = {
        "approved": ("approve",),
        "active": ("approve", "start"),
        "denied": ("deny",),
        "withdrawn": ("withdraw",),
        "returned": ("approve", "start", "give_back"),
        "revoked": ("approve", "start", "revoke"),
        "lapsed": (),
        "expired": ("approve", "start"),
    }
    for act in way.get(state, ()):
        ACTS[act](access_request, cast)
    if state in ("lapsed", "expired"):
        with clock.moved(timedelta(days=2)):
            assert sweeps.expire_due() + sweeps.lapse_due() == 1
    access_request.refresh_from_db()
    assert access_request.state == state


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("state", State.values)
def test_each_verb_works_in_its_states_and_is_refused_in_all_others(
    state: str, act: str, alice: User, bob: User, administrator: Role, staged: Entitlement, aws_clock: Any
) -> None:
    cast = {"alice": alice, "bob": bob}
    with clock.moved(-timedelta(minutes=20)):
        access_request = factories.wish(alice, administrator, staged)
        bring_to(state, access_request, cast)
    before = AccessRequest.objects.filter(pk=access_request.pk).values().get()

    if act in POSSIBLE.get(State(state), ()):
        ACTS[act](access_request, cast)
        return
    events = access_request.events.count()
    with pytest.raises(Exception) as refusal:
        ACTS[act](access_request, cast)
    assert getattr(refusal.value, "message", "").endswith(".")
    assert AccessRequest.objects.filter(pk=access_request.pk).values().get() == before
    assert access_request.events.count() == events + 1
    assert access_request.events.latest("id").action.endswith(".refused")


def test_a_refusal_stays_recorded_with_its_rule_and_where_it_came_from(
    pending_request: AccessRequest, mallory: User
) -> None:
    with audit.context(channel="web", ip="192.0.2.7", user_agent="curl\r\nX: y"), refused("decision.not_asked"):
        workflow.approve(pending_request, by=mallory)

    event = AuditEvent.objects.get(action="request.approved.refused")
    assert event.detail["rule"] == "decision.not_asked"
    assert (event.actor_name, event.beneficiary_name, event.subject) == ("Mallory", "Alice", pending_request.code)
    assert (event.channel, event.ip, event.user_agent) == ("web", "192.0.2.7", "curlX: y")


def _story(access_request: AccessRequest) -> list[tuple[str, str]]:
    return [(event.action, event.actor_name) for event in access_request.events.order_by("id")]


def test_terms_are_read_once_from_each_document(pending_request: AccessRequest) -> None:
    terms = pending_request.terms
    assert pending_request.terms is terms
    pending_request.terms_document = {**pending_request.terms_document, "longest_seconds": 77}
    assert pending_request.terms.longest_seconds == 77
    pending_request.refresh_from_db()
    assert pending_request.terms == terms
