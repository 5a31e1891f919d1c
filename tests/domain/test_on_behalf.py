"""Asking for somebody else: judged for the beneficiary, counted when they accept, used by nobody else."""

from datetime import timedelta
from typing import Any

import pytest

from requests_app.domain import clock, workflow
from requests_app.domain.errors import Conflict, NotAllowed, TooMany
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    Delivery,
    Edit,
    Entitlement,
    Group,
    Membership,
    Notice,
    Role,
    User,
)
from requests_app.domain.transitions import State
from requests_app.domain.workflow import sweeps
from tests import factories
from tests.domain.expect import refused
from tests.domain.meeting import at_once

HOUR = timedelta(hours=1)


@pytest.fixture
def desk(staged: Entitlement, automatic: Entitlement, leads: Group) -> Group:
    """May ask for those whom the terms reach."""
    desk = factories.group("Service desk")
    staged.askers.add(desk)
    automatic.askers.add(desk)
    return desk


@pytest.fixture
def erin(desk: Group) -> User:
    """Asks for others. She could not have the role herself."""
    return factories.person("erin", desk)


@pytest.fixture
def for_alice(erin: User, alice: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    return factories.wish(erin, administrator, staged, beneficiary=alice)


def told(kind: str) -> list[str]:
    return sorted(Notice.objects.filter(kind=kind).values_list("recipient__username", flat=True))


def test_nothing_counts_before_it_is_accepted(for_alice: AccessRequest, alice: User, bob: User, erin: User) -> None:
    assert (for_alice.requester, for_alice.beneficiary, for_alice.state) == (erin, alice, State.PENDING)
    assert for_alice.waits_for_acceptance
    assert (told("accept"), told("asked")) == (["alice"], [])
    now = clock.now()
    assert not AccessRequest.objects.waiting_for(bob, now).exists()
    assert workflow.who_can_decide(for_alice) == []
    with refused("decision.not_accepted", NotAllowed):
        workflow.approve(for_alice, by=bob)
    with clock.moved(HOUR), refused("remind.not_accepted", Conflict):
        workflow.remind(for_alice, by=erin)

    accepted = workflow.accept(for_alice, by=alice)

    assert not accepted.waits_for_acceptance
    assert told("asked") == ["bob", "carol"]
    assert list(AccessRequest.objects.waiting_for(bob, clock.now())) == [for_alice]
    workflow.approve(for_alice, by=bob)
    assert told("decided") == ["alice", "erin"]
    with refused("accept.not_pending", Conflict):
        workflow.accept(for_alice, by=alice)


def test_only_the_beneficiary_accepts_and_once(
    for_alice: AccessRequest, alice: User, bob: User, erin: User, mallory: User
) -> None:
    for person in (erin, bob, mallory, factories.person("olga", is_operator=True)):
        with refused("accept.not_yours", NotAllowed):
            workflow.accept(for_alice, by=person)
    workflow.accept(for_alice, by=alice)
    with refused("accept.once", Conflict):
        workflow.accept(for_alice, by=alice)
    assert AuditEvent.objects.filter(action="request.accepted").count() == 1


@pytest.mark.parametrize("start", ["at_once", "on_demand"])
def test_automatic_terms_wait_for_the_acceptance_too(
    start: str, erin: User, alice: User, read_only: Role, automatic: Entitlement
) -> None:
    one = factories.wish(erin, read_only, automatic, beneficiary=alice, start=start)
    assert one.state == State.PENDING
    assert sweeps.activate_due() == 0
    assert workflow.accept(one, by=alice).state == (State.ACTIVE if start == "at_once" else State.APPROVED)


def test_only_the_beneficiary_starts_uses_extends_and_gives_back(
    erin: User, alice: User, bob: User, read_only: Role, automatic: Entitlement, aws_clock: object
) -> None:
    Entitlement.objects.update(extensions_most=1, extension_total_seconds=7200)
    one = factories.wish(erin, read_only, automatic, beneficiary=alice)
    workflow.accept(one, by=alice)
    with refused("start.not_yours", NotAllowed):
        workflow.start(one, by=erin)
    with refused("start.not_yours", NotAllowed):
        workflow.deliveries.ask(
            one, by=erin, kind="credentials", recipient_key=factories.recipient_key(), sign_in="a sign-in"
        )
    workflow.start(one, by=alice)
    with refused("mint.not_beneficiary", NotAllowed):
        workflow.deliveries.ask(
            one, by=erin, kind="credentials", recipient_key=factories.recipient_key(), sign_in="a sign-in"
        )
    with refused("extend.not_yours", NotAllowed):
        workflow.extend(one, by=erin, duration=HOUR, justification="it takes longer than that")
    with refused("give_back.not_yours", NotAllowed):
        workflow.give_back(one, by=erin)
    with refused("revoke.not_asked", NotAllowed):
        workflow.revoke(one, by=erin, reason="I asked for it")
    delivery, _ = factories.sealed(one)
    assert delivery.beneficiary == alice
    assert not Delivery.objects.filter(beneficiary=erin).exists()


def test_neither_decides(for_alice: AccessRequest, alice: User, bob: User, erin: User, leads: Group) -> None:
    for person in (alice, erin):
        Membership.objects.create(group=leads, user=person)
    workflow.accept(for_alice, by=alice)
    for person in (alice, erin):
        for decide in (workflow.approve, workflow.deny):
            with refused("decision.own_request", NotAllowed):
                decide(for_alice, by=person)
        assert person not in workflow.who_can_decide(for_alice)
        assert not AccessRequest.objects.waiting_for(person, clock.now()).exists()


@pytest.mark.parametrize("which", ["alice", "erin"])
def test_either_takes_it_back_and_the_other_hears_of_it(
    which: str, for_alice: AccessRequest, alice: User, erin: User
) -> None:
    by, other = (alice, "erin") if which == "alice" else (erin, "alice")
    assert workflow.withdraw(for_alice, by=by).state == State.WITHDRAWN
    assert told("ended") == [other]


def test_nobody_accepted_it_in_time(for_alice: AccessRequest, alice: User) -> None:
    with clock.moved(timedelta(days=1)):
        assert sweeps.lapse_due() == 1
        assert told("ended") == ["alice", "erin"]
        with refused("accept.not_pending", Conflict):
            workflow.accept(for_alice, by=alice)


# --- for whom, and by whom ------------------------------------------------------------------------


def test_it_is_judged_for_the_beneficiary(
    erin: User, alice: User, mallory: User, administrator: Role, staged: Entitlement
) -> None:
    with refused("entitlement.does_not_reach", NotAllowed):
        factories.wish(erin, administrator, staged, beneficiary=mallory)
    with refused("entitlement.does_not_reach", NotAllowed):
        factories.wish(erin, administrator, staged)  # for herself
    workflow.people.deactivate(alice, by=None)
    with pytest.raises(NotAllowed) as refusal:
        factories.wish(erin, administrator, staged, beneficiary=alice)
    # Whom the terms do not reach, and why, is nobody else's business.
    assert refusal.value.message == "Alice may not have this on these terms. Ask an operator."


def test_only_whom_the_terms_name_asks_for_others(
    alice: User, bob: User, erin: User, desk: Group, administrator: Role, staged: Entitlement, engineers: Group
) -> None:
    frank = factories.person("frank", engineers)  # reached himself, and that is not enough
    for person in (bob, frank, factories.person("olga", is_operator=True)):
        with refused("behalf.not_named", NotAllowed):
            factories.wish(person, administrator, staged, beneficiary=alice)
    Edit.objects.create(editor=erin, group=desk, made_at=clock.now())
    with refused("behalf.not_named", NotAllowed):
        factories.wish(erin, administrator, staged, beneficiary=alice)
    Edit.objects.create(editor=erin, entitlement=staged, made_at=clock.now())
    with refused("edit.own", NotAllowed):
        factories.wish(erin, administrator, staged, beneficiary=alice)
    Edit.objects.all().update(confirmed_at=clock.now(), confirmed_by=User.objects.get(username="olga"))
    assert factories.wish(erin, administrator, staged, beneficiary=alice).waits_for_acceptance
    workflow.people.deactivate(erin, by=None)
    with refused("person.deactivated", NotAllowed):
        factories.wish(erin, administrator, staged, beneficiary=alice)


def test_neither_counts_among_those_who_could_decide(
    erin: User, alice: User, bob: User, carol: User, administrator: Role, staged: Entitlement, leads: Group
) -> None:
    Membership.objects.create(group=leads, user=erin)
    workflow.people.deactivate(carol, by=None)
    workflow.people.deactivate(bob, by=None)
    with refused("stage.nobody_can", NotAllowed):
        factories.wish(erin, administrator, staged, beneficiary=alice)


@pytest.mark.parametrize("since", ["left", "frozen", "role"])
def test_what_changed_meanwhile_is_seen_when_it_is_accepted(
    since: str, for_alice: AccessRequest, alice: User, olivia: User
) -> None:
    match since:
        case "left":
            Membership.objects.filter(user=alice).delete()
        case "frozen":
            workflow.freezes.freeze(for_alice.role, by=olivia, reason="an incident")
        case "role":
            Role.objects.update(is_active=False)
    rules = {"left": "entitlement.does_not_reach", "frozen": "freeze", "role": "role.inactive"}
    with refused(rules[since]):
        workflow.accept(for_alice, by=alice)
    for_alice.refresh_from_db()
    assert for_alice.waits_for_acceptance
    assert workflow.withdraw(for_alice, by=alice).state == State.WITHDRAWN


def test_one_who_asked_and_left_the_desk_has_asked(
    for_alice: AccessRequest, erin: User, alice: User, bob: User
) -> None:
    """Who may ask is looked at when asking; what counts later is whether the beneficiary may have it."""
    Membership.objects.filter(user=erin).delete()
    workflow.accept(for_alice, by=alice)
    workflow.approve(for_alice, by=bob)
    for_alice.refresh_from_db()
    assert for_alice.state == State.APPROVED


def test_what_others_ask_for_counts_when_it_is_accepted(
    erin: User, alice: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.update(most_at_once=1)
    waits = factories.wish(erin, administrator, staged, beneficiary=alice)
    own = factories.wish(alice, administrator, staged)
    # The asker learns nothing of what she has.
    again = factories.wish(erin, administrator, staged, beneficiary=alice)
    with refused("terms.at_once", NotAllowed):
        workflow.accept(waits, by=alice)
    workflow.withdraw(own, by=alice)
    workflow.accept(waits, by=alice)
    for asking in (lambda: factories.wish(alice, administrator, staged), lambda: workflow.accept(again, by=alice)):
        with refused("terms.at_once", NotAllowed):
            asking()


def test_the_limit_per_role_counts_what_is_accepted(
    erin: User, alice: User, read_only: Role, automatic: Entitlement, settings: Any
) -> None:
    settings.OPEN_REQUESTS_PER_PERSON_AND_ROLE = 2
    waiting = [factories.wish(erin, read_only, automatic, beneficiary=alice) for _ in range(3)]
    factories.wish(alice, read_only, automatic)
    workflow.accept(waiting[0], by=alice)
    with refused("limit.passes", TooMany):
        factories.wish(alice, read_only, automatic)
    with refused("limit.passes", TooMany):
        workflow.accept(waiting[1], by=alice)
    waiting[1].refresh_from_db()
    assert waiting[1].waits_for_acceptance


@pytest.mark.django_db(transaction=True)
def test_accepting_in_several_tabs_at_once_gives_no_more(
    erin: User, alice: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.update(most_at_once=1)
    ones = [factories.wish(erin, administrator, staged, beneficiary=alice) for _ in range(3)]
    at_once(
        *[lambda one=one: workflow.accept(one, by=alice) for one in ones],
        lambda: factories.wish(alice, administrator, staged),
        held=("requests_app_user", alice.pk),
    )
    assert AccessRequest.objects.wanted().count() == 1


def test_nobody_is_flooded_with_wishes(
    erin: User, alice: User, bob: User, administrator: Role, staged: Entitlement, engineers: Group, settings: Any
) -> None:
    settings.UNACCEPTED_PER_ASKER_AND_PERSON = 3
    for _ in range(2):
        workflow.withdraw(factories.wish(erin, administrator, staged, beneficiary=alice), by=erin)
    open_ = factories.wish(erin, administrator, staged, beneficiary=alice)
    with refused("limit.unaccepted", TooMany):
        factories.wish(erin, administrator, staged, beneficiary=alice)
    # Somebody else is another matter, and what was accepted was welcome.
    factories.wish(erin, administrator, staged, beneficiary=factories.person("frank", engineers))
    workflow.accept(open_, by=alice)
    factories.wish(erin, administrator, staged, beneficiary=alice)


def test_a_stage_that_escalates_begins_with_the_acceptance(
    for_alice: AccessRequest, alice: User, erin: User, administrator: Role, staged: Entitlement, security: Group
) -> None:
    stage = staged.stages.get()
    stage.escalate_seconds = 600
    stage.save()
    stage.more_groups.add(security)
    with clock.moved(-2 * HOUR):
        one = factories.wish(erin, administrator, staged, beneficiary=alice)
    assert one.escalate_at is None
    assert sweeps.escalate_due() == 0
    one = workflow.accept(one, by=alice)
    assert one.escalate_at is not None
    assert one.escalate_at > clock.now()
    with clock.moved(timedelta(minutes=11)):
        assert sweeps.escalate_due() == 1


@pytest.mark.django_db(transaction=True)
def test_accepting_and_declining_at_once(for_alice: AccessRequest, alice: User, erin: User) -> None:
    at_once(
        lambda: workflow.accept(AccessRequest.objects.get(pk=for_alice.pk), by=alice),
        lambda: workflow.withdraw(AccessRequest.objects.get(pk=for_alice.pk), by=erin),
        held=(AccessRequest._meta.db_table, for_alice.pk),
    )
    for_alice.refresh_from_db()
    assert for_alice.state == State.WITHDRAWN
