"""Nobody profits from their own edit until another operator has confirmed it: by verb, on lists, and by raw SQL."""

import contextlib
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from requests_app.delivery.web import dossiers
from requests_app.domain import clock, facts, policy, workflow
from requests_app.domain.errors import Conflict, DomainError, NotAllowed
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    Edit,
    Entitlement,
    ExcludedGroup,
    Extension,
    Group,
    Membership,
    Notice,
    OrganisationalUnit,
    Role,
    User,
)
from requests_app.domain.workflow import own_edits, sweeps
from tests import factories, letters
from tests.domain.expect import refused
from tests.domain.test_guards import GUARD, PRIVILEGE, WENT_THROUGH, _attempt_decision, _new, attempt, update

EDITS = "requests_app_edit"


@pytest.fixture
def units(payments: Account) -> list[OrganisationalUnit]:
    """Root, Production below it, and Payments below that, which has the account."""
    root = OrganisationalUnit.objects.create(name="Root")
    production = OrganisationalUnit.objects.create(name="Production", parent=root)
    below = OrganisationalUnit.objects.create(name="Payments", parent=production)
    payments.unit = below
    payments.save()
    return [root, production, below]


@pytest.fixture
def peter(db: Any) -> User:
    """The other operator."""
    return factories.person("peter", is_operator=True, is_staff=True)


SUBJECTS = ["entitlement", "role", "account", "unit", "root unit"]
Subject = Callable[[str], Any]


@pytest.fixture
def subject(administrator: Role, staged: Entitlement, units: list[OrganisationalUnit]) -> Subject:
    found = {
        "entitlement": staged,
        "role": administrator,
        "account": administrator.account,
        "unit": units[2],
        "root unit": units[0],
    }
    return found.__getitem__


def changes(who: User, what: Any) -> Edit:
    """What somebody changed; of a group whether they are in it themselves."""
    return own_edits.note(
        what, by=who, change={"name": ["old", "new"]}, member=who if isinstance(what, Group) else None
    )


def places(who: User, whom: User, group: Group) -> Edit:
    """`who` puts somebody into a group."""
    Membership.objects.get_or_create(group=group, user=whom)
    return own_edits.note(group, by=who, change={}, member=whom)


@pytest.mark.parametrize("what", SUBJECTS)
def test_as_the_one_who_asks_and_uses(
    what: str, subject: Subject, alice: User, bob: User, administrator: Role, staged: Entitlement, peter: User
) -> None:
    before = factories.wish(alice, administrator, staged)
    edit = changes(alice, subject(what))
    with refused("edit.own", NotAllowed):
        factories.wish(alice, administrator, staged)
    # Asked before, approved, started, and used: all of it waits for the word of another.
    with refused("edit.own", Conflict):
        workflow.approve(before, by=bob)
    own_edits.confirm(edit, by=peter)
    workflow.approve(before, by=bob)
    changes(alice, subject(what))
    before.refresh_from_db()
    with refused("edit.own", NotAllowed):
        workflow.start(before, by=alice)
    with refused("edit.own", NotAllowed):
        factories.delivery(before)
    assert workflow.withdraw(before, by=alice).state == "withdrawn"


@pytest.mark.parametrize("what", SUBJECTS)
def test_as_the_one_who_approves(
    what: str, subject: Subject, bob: User, pending_request: AccessRequest, peter: User
) -> None:
    def shown() -> bool:
        return AccessRequest.objects.waiting_for(bob, clock.now()).exists()

    assert shown()
    edit = changes(bob, subject(what))
    for decide in (workflow.approve, workflow.deny):
        with refused("edit.own", NotAllowed):
            decide(pending_request, by=bob)
    assert not shown()
    assert bob not in workflow.who_can_decide(pending_request)
    own_edits.confirm(edit, by=peter)
    assert shown()
    workflow.approve(pending_request, by=bob)


def test_what_is_elsewhere_is_no_edit_of_this(
    alice: User, bob: User, administrator: Role, read_only: Role, staged: Entitlement, automatic: Entitlement,
    units: list[OrganisationalUnit],
) -> None:  # fmt: skip
    aside = OrganisationalUnit.objects.create(name="Development", parent=units[0])
    elsewhere = (read_only, automatic, factories.account(), aside, factories.group("Elsewhere"))
    for who in (alice, bob):
        for what in elsewhere:
            changes(who, what)
    workflow.approve(factories.wish(alice, administrator, staged), by=bob)


def test_a_membership_that_one_gave_oneself(
    mallory: User, bob: User, engineers: Group, leads: Group, administrator: Role, staged: Entitlement,
    pending_request: AccessRequest, peter: User,
) -> None:  # fmt: skip
    for group in (engineers, leads):
        Membership.objects.create(group=group, user=mallory)
        changes(mallory, group)
    with refused("entitlement.does_not_reach", NotAllowed):
        factories.wish(mallory, administrator, staged)
    with refused("decision.not_asked", NotAllowed):
        workflow.approve(pending_request, by=mallory)
    assert not AccessRequest.objects.waiting_for(mallory, clock.now()).exists()
    assert mallory not in workflow.who_can_decide(pending_request)
    # Neither does it count among those who could decide.
    Membership.objects.filter(group=leads).exclude(user=mallory).delete()
    with refused("stage.nobody_can", NotAllowed):
        factories.wish(pending_request.requester, administrator, staged)
    for edit in Edit.objects.all():
        own_edits.confirm(edit, by=peter)
    workflow.approve(pending_request, by=mallory)
    # And one joined long ago, left and joined again by one's own hand, waits anew.
    changes(mallory, engineers)
    with refused("entitlement.does_not_reach", NotAllowed):
        factories.wish(mallory, administrator, staged)


def test_leaving_a_group_that_excludes_oneself(
    alice: User, administrator: Role, staged: Entitlement, peter: User
) -> None:
    contractors = factories.group("Contractors", alice)
    ExcludedGroup.objects.create(entitlement=staged, group=contractors)
    Membership.objects.filter(group=contractors).delete()
    edit = changes(alice, contractors)
    with refused("entitlement.excluded", NotAllowed):
        factories.wish(alice, administrator, staged)
    own_edits.confirm(edit, by=peter)
    factories.wish(alice, administrator, staged)


def test_what_others_changed_counts_for_everybody_else(
    alice: User, bob: User, administrator: Role, staged: Entitlement, olivia: User
) -> None:
    changes(olivia, staged)
    workflow.approve(factories.wish(alice, administrator, staged), by=bob)


def test_a_pass_that_runs_is_given_nothing_new_and_runs_to_its_end(
    alice: User, active_request: AccessRequest, aws_clock: object
) -> None:
    wish = factories.delivery(active_request)
    changes(alice, active_request.role)
    assert workflow.deliveries.claim(wish.pk, worker="w") is None
    wish.refresh_from_db()
    assert wish.state == "refused"
    active_request.refresh_from_db()
    assert active_request.state == "active"
    assert workflow.give_back(active_request, by=alice).state == "returned"


# --- memberships of others ------------------------------------------------------------------------


def test_an_approver_whom_the_asking_side_named(
    alice: User, bob: User, carol: User, mallory: User, peter: User, leads: Group, engineers: Group,
    administrator: Role, staged: Entitlement,
) -> None:  # fmt: skip
    edit = places(alice, mallory, leads)
    erin = factories.person("erin", engineers)
    of_alice, of_erin = (factories.wish(one, administrator, staged) for one in (alice, erin))
    asked = Notice.objects.filter(kind="asked", recipient=mallory)
    # For everybody else it counts.
    assert [one.access_request for one in asked] == [of_erin]
    assert list(AccessRequest.objects.waiting_for(mallory, clock.now())) == [of_erin]
    assert workflow.who_can_decide(of_alice) == [bob, carol]
    assert mallory in workflow.who_can_decide(of_erin)
    for decide in (workflow.approve, workflow.deny):
        with refused("decision.not_asked", NotAllowed):
            decide(of_alice, by=mallory)
    assert _attempt_decision(of_alice, mallory) == GUARD
    assert _attempt_decision(of_erin, mallory) is WENT_THROUGH
    workflow.approve(of_erin, by=mallory)
    # Where nobody else is left, nobody is.
    Membership.objects.filter(group=leads).exclude(user=mallory).delete()
    with refused("stage.nobody_can", NotAllowed):
        factories.wish(alice, administrator, staged)
    assert sweeps.tell_stuck() == 1
    own_edits.confirm(edit, by=peter)
    workflow.approve(of_alice, by=mallory)


def test_whoever_put_somebody_there_does_not_decide_for_them(
    alice: User, bob: User, carol: User, mallory: User, peter: User, engineers: Group, administrator: Role,
    staged: Entitlement, pending_request: AccessRequest,
) -> None:  # fmt: skip
    edit = places(bob, mallory, engineers)
    one = factories.wish(mallory, administrator, staged)
    assert [notice.recipient for notice in Notice.objects.filter(kind="asked", access_request=one)] == [carol]
    assert list(AccessRequest.objects.waiting_for(bob, clock.now())) == [pending_request]
    assert workflow.who_can_decide(one) == [carol]
    for decide in (workflow.approve, workflow.deny):
        with refused("edit.own", NotAllowed):
            decide(one, by=bob)
    assert _attempt_decision(one, bob) == GUARD
    assert _attempt_decision(one, carol) is WENT_THROUGH
    assert _attempt_decision(pending_request, bob) is WENT_THROUGH
    own_edits.confirm(edit, by=peter)
    assert _attempt_decision(one, bob) is WENT_THROUGH
    workflow.approve(one, by=bob)


def test_a_group_that_has_nothing_to_do_with_it_changes_nothing(
    alice: User, bob: User, pending_request: AccessRequest
) -> None:
    aside = factories.group("Choir", alice)
    places(bob, alice, aside)
    places(alice, bob, aside)
    workflow.approve(pending_request, by=bob)


def test_whoever_took_somebody_out_of_an_excluded_group_does_not_decide_for_them(
    alice: User, bob: User, carol: User, administrator: Role, staged: Entitlement, peter: User
) -> None:
    contractors = factories.group("Contractors", alice)
    ExcludedGroup.objects.create(entitlement=staged, group=contractors)
    Membership.objects.filter(group=contractors).delete()
    edit = own_edits.note(contractors, by=bob, change={}, member=alice)
    one = factories.wish(alice, administrator, staged)
    with refused("edit.own", NotAllowed):
        workflow.approve(one, by=bob)
    assert _attempt_decision(one, bob) == GUARD
    assert workflow.who_can_decide(one) == [carol]
    own_edits.confirm(edit, by=peter)
    workflow.approve(one, by=bob)


def test_of_two_who_ask_neither_made_the_other_one(
    alice: User, bob: User, mallory: User, administrator: Role, staged: Entitlement, engineers: Group, peter: User
) -> None:
    desk = factories.group("Service desk")
    staged.askers.add(desk)
    erin = factories.person("erin", desk)
    # Erin may ask, for those whom she did not put among the engineers.
    edit = places(erin, mallory, engineers)
    with refused("edit.own", NotAllowed):
        factories.wish(erin, administrator, staged, beneficiary=mallory)
    for_alice = factories.wish(erin, administrator, staged, beneficiary=alice)
    assert _new(for_alice) is WENT_THROUGH
    assert _new(for_alice, beneficiary_id=mallory.pk) == GUARD
    own_edits.confirm(edit, by=peter)
    assert _new(for_alice, beneficiary_id=mallory.pk) is WENT_THROUGH
    # Nor does she ask for the one who put her at the desk; and whoever did decides nothing of what she asks.
    places(alice, erin, desk)
    places(bob, erin, desk)
    with refused("behalf.not_named", NotAllowed):
        factories.wish(erin, administrator, staged, beneficiary=alice)
    assert _new(for_alice) == GUARD
    for_mallory = factories.wish(erin, administrator, staged, beneficiary=mallory)
    for_mallory = workflow.accept(for_mallory, by=mallory)
    with refused("edit.own", NotAllowed):
        workflow.approve(for_mallory, by=bob)
    assert _attempt_decision(for_mallory, bob) == GUARD


def test_more_time_is_decided_by_the_same_rule(
    alice: User, bob: User, carol: User, mallory: User, engineers: Group, leads: Group, administrator: Role,
    staged: Entitlement,
) -> None:  # fmt: skip
    Entitlement.objects.update(extensions_most=1, extension_total_seconds=7200)
    staged.refresh_from_db()
    one = factories.wish(alice, administrator, staged)
    workflow.approve(one, by=bob)
    running = workflow.start(one, by=alice)
    places(alice, mallory, leads)
    places(carol, alice, engineers)
    more = workflow.extend(running, by=alice, duration=timedelta(minutes=10), justification="it takes longer")
    assert workflow.who_can_decide(more) == [bob]
    assert list(Extension.objects.waiting_for(bob, clock.now())) == [more]
    for person, rule in ((mallory, "decision.not_asked"), (carol, "edit.own")):
        assert not Extension.objects.waiting_for(person, clock.now()).exists()
        with refused(rule, NotAllowed):
            workflow.approve_extension(more, by=person)
        assert _attempt_decision(running, person, extension_id=more.pk) == GUARD
    assert _attempt_decision(running, bob, extension_id=more.pk) is WENT_THROUGH


def test_an_operator_who_is_alone_sets_up_everything_for_everybody_else(
    olivia: User, bob: User, mallory: User, engineers: Group, leads: Group, administrator: Role, staged: Entitlement
) -> None:
    """Nobody can confirm whom they put where: that counts, but for what they ask for themselves."""
    Membership.objects.all().delete()
    for person, group in ((mallory, engineers), (bob, leads)):
        places(olivia, person, group)
    one = factories.wish(mallory, administrator, staged)
    with refused("edit.own", NotAllowed):
        workflow.approve(one, by=olivia)
    workflow.approve(one, by=bob)
    assert workflow.start(one, by=mallory).state == "active"
    # Even if they were reached by somebody else's doing, only approvers whom they named are there.
    Membership.objects.create(group=engineers, user=olivia)
    with refused("stage.nobody_can", NotAllowed):
        factories.wish(olivia, administrator, staged)


# --- confirming -----------------------------------------------------------------------------------


def test_another_operator_confirms_once(staged: Entitlement, olivia: User, peter: User, alice: User) -> None:
    edit = changes(olivia, staged)
    told = Notice.objects.filter(kind="unconfirmed")
    assert [notice.recipient for notice in told] == [peter]
    with refused("edit.own", NotAllowed):
        own_edits.confirm(edit, by=olivia)
    with refused("operator.only", NotAllowed):
        own_edits.confirm(edit, by=alice)
    confirmed = own_edits.confirm(edit, by=peter)
    assert (confirmed.confirmed_by, confirmed.confirmed_at is not None) == (peter, True)
    with refused("edit.confirmed", Conflict):
        own_edits.confirm(edit, by=peter)
    events = AuditEvent.objects.filter(action__startswith="edit.confirmed").order_by("pk")
    assert [event.action for event in events] == ["edit.confirmed.refused"] * 2 + ["edit.confirmed"] + [
        "edit.confirmed.refused"
    ]
    assert events[2].detail["editor"] == "Olivia"


def test_neither_editor_nor_member_confirms_a_membership(
    olivia: User, peter: User, mallory: User, leads: Group
) -> None:
    edit = places(olivia, peter, leads)
    assert str(edit) == "Peter in Payments leads"
    for person in (olivia, peter):
        with refused("edit.own", NotAllowed):
            own_edits.confirm(edit, by=person)
        assert update(EDITS, edit.pk, confirmed_by_id=person.pk, confirmed_at=clock.now()) == GUARD
    factories.operates(mallory)
    assert own_edits.confirm(edit, by=mallory).confirmed_by == mallory


def test_others_hear_once_an_hour_of_whoever_fills_a_group(
    olivia: User, peter: User, alice: User, bob: User, mallory: User, leads: Group, engineers: Group
) -> None:
    def told() -> list[str]:
        told = Notice.objects.filter(kind="unconfirmed", recipient=peter).order_by("pk")
        return [letters.sentence(one) for one in told]

    for person in (mallory, alice):
        places(olivia, person, leads)
    (said,) = told()
    assert said.startswith("Olivia changed who is in Payments leads (Mallory first). For Olivia this does not count")
    places(olivia, bob, engineers)
    assert len(told()) == 2
    places(factories.person("oscar", is_operator=True), bob, leads)
    assert len(told()) == 3
    with clock.moved(timedelta(hours=1, seconds=1)):
        places(olivia, bob, leads)
    assert len(told()) == 4


def test_an_operator_who_is_alone_never_profits(olivia: User, administrator: Role, bob: User) -> None:
    terms = factories.entitlement(administrator, users=[olivia])
    edit = changes(olivia, terms)
    assert not Notice.objects.filter(kind="unconfirmed").exists()
    with refused("edit.own", NotAllowed):
        own_edits.confirm(edit, by=olivia)
    with refused("edit.own", NotAllowed):
        factories.wish(olivia, administrator, terms)
    workflow.people.deactivate(olivia, by=None)
    with refused("operator.only", NotAllowed):
        own_edits.confirm(edit, by=bob)


# --- past the verbs, as the application's own role ------------------------------------------------


def test_by_raw_sql_no_edit_is_confirmed_by_its_editor_undone_or_forgotten(
    olivia: User, peter: User, alice: User, staged: Entitlement, automatic: Entitlement
) -> None:
    edit = changes(olivia, staged)
    now = clock.now()

    def confirm(by: User | None, **values: Any) -> str | None:
        return update(EDITS, edit.pk, confirmed_by_id=by.pk if by else None, confirmed_at=now, **values)

    assert confirm(peter) is WENT_THROUGH
    for by in (olivia, alice, None):
        assert confirm(by) == GUARD, by
    others: list[dict[str, Any]] = [
        {"editor_id": alice.pk}, {"entitlement_id": automatic.pk}, {"made_at": now}, {"change": {}},
        {"member_id": alice.pk},
    ]  # fmt: skip
    for values in others:
        assert update(EDITS, edit.pk, **values) == GUARD, values
        assert confirm(peter, **values) == GUARD, values
    assert attempt(f"DELETE FROM {EDITS}") == PRIVILEGE
    assert attempt(f"TRUNCATE {EDITS}") == PRIVILEGE
    born_confirmed = (
        f"INSERT INTO {EDITS} (editor_id, entitlement_id, change, made_at, confirmed_by_id, confirmed_at) "
        "VALUES (%s, %s, '{}', now(), %s, now())"
    )
    assert attempt(born_confirmed, params=[olivia.pk, staged.pk, peter.pk]) == GUARD
    workflow.people.deactivate(peter, by=None)
    assert confirm(peter) == GUARD
    factories.operates(alice)
    own_edits.confirm(edit, by=alice)
    assert update(EDITS, edit.pk, confirmed_at=None, confirmed_by_id=None) == GUARD
    assert update(EDITS, edit.pk, confirmed_by_id=peter.pk) == GUARD


@pytest.mark.parametrize("what", SUBJECTS)
def test_by_raw_sql_it_does_not_count_either(
    what: str, subject: Subject, alice: User, bob: User, carol: User, pending_request: AccessRequest, leads: Group
) -> None:
    assert _new(pending_request) is WENT_THROUGH
    assert _attempt_decision(pending_request, bob) is WENT_THROUGH
    changes(bob, subject(what))
    assert _attempt_decision(pending_request, bob) == GUARD
    assert _attempt_decision(pending_request, bob, verdict="deny") == GUARD
    assert _attempt_decision(pending_request, carol) is WENT_THROUGH
    changes(carol, leads)
    assert _attempt_decision(pending_request, carol) == GUARD
    changes(alice, subject(what))
    assert _new(pending_request) == GUARD


def test_by_raw_sql_for_somebody_else(pending_request: AccessRequest, alice: User, staged: Entitlement) -> None:
    desk = factories.group("Service desk")
    erin = factories.person("erin", desk)
    assert _new(pending_request, requester_id=erin.pk) == GUARD
    staged.askers.add(desk)
    assert _new(pending_request, requester_id=erin.pk) is WENT_THROUGH
    edit = changes(erin, desk)
    assert _new(pending_request, requester_id=erin.pk) == GUARD
    own_edits.confirm(edit, by=factories.person("peter", is_operator=True))
    assert _new(pending_request, requester_id=erin.pk) is WENT_THROUGH
    changes(erin, staged)
    assert _new(pending_request, requester_id=erin.pk) == GUARD


# --- the same everywhere --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rules_lists_and_the_database_agree_on_whose_edits_count(seed: int, db: None) -> None:
    """People who edited this and that, by chance: the pure rules, the querysets and the guards' own functions."""
    chance = random.Random(seed)
    units = [OrganisationalUnit.objects.create(name="Root")]
    for n in range(3):
        units.append(OrganisationalUnit.objects.create(name=f"unit {n}", parent=chance.choice(units)))
    groups = [factories.group(f"group {n}") for n in range(4)]
    people = [factories.person(f"person{n}", *chance.sample(groups, 2)) for n in range(6)]
    peter = factories.person("peter", is_operator=True)
    roles = [factories.role(in_account=factories.account(unit=chance.choice([*units, None]))) for _ in range(3)]
    terms = [
        factories.entitlement(
            *chance.sample(roles, 2),
            groups=chance.sample(groups, 2),
            users=chance.sample(people, 1),
            stages=[(chance.sample([*groups, *people], 3), 1)],
        )
        for _ in range(4)
    ]
    for excluding in terms[:2]:
        ExcludedGroup.objects.create(entitlement=excluding, group=chance.choice(groups))
    terms[-1].askers.add(groups[0])
    for person, role, under in ((p, r, t) for p in people for r in roles for t in terms):
        for asker in (person, chance.choice(people)):
            with contextlib.suppress(DomainError):
                made = factories.wish(asker, role, under, beneficiary=person)
                if made.waits_for_acceptance:
                    workflow.accept(made, by=person)
    subjects = [*terms, *roles, *(role.account for role in roles), *units, *groups]
    for person in people:
        for what in chance.sample(subjects, 3):
            edit = changes(person, what)
            if chance.random() < 0.4:
                own_edits.confirm(edit, by=peter)
        for _ in range(3):
            edit = own_edits.note(chance.choice(groups), by=person, change={}, member=chance.choice(people))
            if chance.random() < 0.4:
                own_edits.confirm(edit, by=peter)
    pending = list(AccessRequest.objects.filter(state="pending"))
    assert len(pending) >= 5
    counted = {"decides": 0, "holds": 0}
    for person in people:
        found = {one.pk for one in AccessRequest.objects.waiting_for(person, clock.now())}
        allowed = {one.pk for one in pending if workflow.may_deny(one, person)}
        assert found == allowed == {one.pk for one in pending if person in workflow.who_can_decide(one)}
        assert allowed == {one.pk for one in pending if _attempt_decision(one, person) is WENT_THROUGH}
        counted["decides"] += len(allowed)
        for under in terms:
            for role in roles:
                holds = policy.still_entitled(facts.standing_of(under.pk, person.pk, role.pk))
                with connection.cursor() as cursor:
                    cursor.execute("SELECT requests_app_holds(%s, %s, %s)", [under.pk, person.pk, role.pk])
                    assert cursor.fetchone() == (bool(holds),), (person, under, role, holds)
                counted["holds"] += bool(holds)
    assert counted["decides"] >= 3
    assert counted["holds"] >= 3
    shown = dossiers.dossiers(pending, clock.now())
    assert [one.can_now for one in shown] == [len(workflow.who_can_decide(one)) for one in pending]
    # To ask for the same again: whoever asked, and for whomever.
    asked_again = set()
    for again in pending:
        verdict = workflow.may_request(
            again.role, by=again.requester, entitlement=again.entitlement, beneficiary=again.beneficiary
        )
        may = bool(verdict) or verdict.rule == "stage.nobody_can"
        now = clock.now()
        anew = _new(again, accepted_at=None, asked_at=now, stage_since=now)
        assert (anew is WENT_THROUGH) is may, verdict
        asked_again.add((may, again.requester == again.beneficiary))
    assert {(True, True), (False, True), (False, False)} <= asked_again
    stuck = {one.pk for one in pending if not workflow.who_can_decide(one)}
    told = sweeps.tell_stuck()
    assert set(Notice.objects.filter(kind="stuck").values_list("access_request", flat=True)) == stuck
    assert told == len(stuck)
