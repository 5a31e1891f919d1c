"""Raw SQL as the application's own role against the rules of richer terms. Each refusal has its control beside it."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction

from requests_app.domain import clock, workflow
from requests_app.domain.models import (
    AccessRequest,
    Account,
    Delivery,
    Edit,
    Entitlement,
    Extension,
    Group,
    Membership,
    Role,
    Stage,
    User,
)
from requests_app.domain.transitions import EXTENSION, TRANSITIONS, ExtensionState
from tests import factories
from tests.domain.test_guards import (
    DECISIONS,
    DELIVERIES,
    GUARD,
    PRIVILEGE,
    REQUESTS,
    UNIQUE,
    WENT_THROUGH,
    _attempt_decision,
    _decide_raw,
    _decision,
    _new,
    attempt,
    insert_like,
    reason,
    update,
)

EXTENSIONS = "requests_app_extension"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

pytestmark = pytest.mark.django_db


# --- the stored terms are the entitlement's -------------------------------------------------------


Forge = Callable[[dict[str, Any]], Any]
FORGERIES: dict[str, Forge] = {
    "scheduled further ahead": lambda terms: terms.update(schedule_ahead_seconds=10**6),
    "extended more often": lambda terms: terms.update(extensions_most=99),
    "extended for longer": lambda terms: terms.update(extension_total_seconds=10**6),
    "extended, as text": lambda terms: terms.update(extensions_most="99"),
    "without its hours": lambda terms: terms.update(hours=None),
    "hours left out": lambda terms: terms.pop("hours"),
    "hours of every day": lambda terms: terms["hours"].update(days=[1, 2, 3, 4, 5, 6, 7]),
    "hours and a day more": lambda terms: terms["hours"]["days"].append(7),
    "hours elsewhere": lambda terms: terms["hours"].update(zone="Pacific/Apia"),
    "hours with something beside": lambda terms: terms["hours"].update(until="2030"),
    "keys too": lambda terms: terms.update(channels="both"),
    "channels left out": lambda terms: terms.pop("channels"),
    "any number at once": lambda terms: terms.update(most_at_once=None),
    "at once left out": lambda terms: terms.pop("most_at_once"),
    "through the AI gateway": lambda terms: terms.update(not_through_mcp=False),
    "the AI gateway left out": lambda terms: terms.pop("not_through_mcp"),
    "ended by policy": lambda terms: terms.update(ends_by_sts_only=False),
    "how it ends left out": lambda terms: terms.pop("ends_by_sts_only"),
    "escalates sooner": lambda terms: terms["stages"][0].update(escalate_seconds=1),
    "escalates never": lambda terms: terms["stages"][0].pop("escalate_seconds"),
    "my own further approver": lambda terms: terms["stages"][0].update(more_users=[1]),
    "without further approvers": lambda terms: terms["stages"][0].update(more_groups=[]),
}


@pytest.fixture
def rich(staged: Entitlement, security: Group) -> Entitlement:
    Entitlement.objects.filter(pk=staged.pk).update(
        schedule_ahead_seconds=86400,
        extensions_most=2,
        extension_total_seconds=7200,
        hours_days=[1, 2, 3, 4, 5, 6],
        hours_begin="00:00",
        hours_end="23:30",
        channels="console",
        most_at_once=3,
        not_through_mcp=True,
        ends_by_sts_only=True,
    )
    stage = staged.stages.get()
    stage.escalate_seconds = 600
    stage.save()
    stage.more_groups.add(security)
    staged.refresh_from_db()
    return staged


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_terms(forgery: str, rich: Entitlement, alice: User, administrator: Role) -> None:
    honest = factories.wish(alice, administrator, rich)
    terms = dict(honest.terms_document)
    assert _new(honest, terms_document=terms) is WENT_THROUGH
    FORGERIES[forgery](terms)
    assert _new(honest, terms_document=terms) == GUARD


def test_owners_are_those_of_what_is_asked_for(
    alice: User, administrator: Role, read_only: Role, engineers: Group
) -> None:
    owners, others = factories.group("Owners", factories.person("gina")), factories.group("Others")
    Role.objects.filter(pk=administrator.pk).update(owners=owners)
    Role.objects.filter(pk=read_only.pk).update(owners=others)
    terms = factories.entitlement(administrator, read_only, groups=[engineers], approval="staged")
    Stage.objects.create(entitlement=terms, position=1, owners="role")
    honest = factories.wish(alice, administrator, terms)
    assert _new(honest) is WENT_THROUGH
    # The other role's owners are not these.
    assert _new(honest, role_id=read_only.pk) == GUARD
    document = json.loads(json.dumps(honest.terms_document))
    document["stages"][0]["groups"] = [others.pk]
    assert _new(honest, role_id=read_only.pk, terms_document=document) is WENT_THROUGH
    assert _new(honest, terms_document=document) == GUARD


def test_terms_from_before_are_taken_where_nothing_of_it_is_newer(pending_request: AccessRequest) -> None:
    older = dict(pending_request.terms_document)
    for name in ("schedule_ahead_seconds", "extensions_most", "extension_total_seconds", "channels", "hours"):
        del older[name]
    del older["not_through_mcp"], older["ends_by_sts_only"]
    for name in ("escalate_seconds", "more_groups", "more_users"):
        del older["stages"][0][name]
    assert _new(pending_request, terms_document=older, stage_since=None) is WENT_THROUGH
    Stage.objects.update(escalate_seconds=60)
    assert _new(pending_request, terms_document=older, stage_since=None) == GUARD


def test_no_more_at_once_than_the_terms_allow(
    history: None, alice: User, bob: User, administrator: Role, staged: Entitlement, engineers: Group
) -> None:
    Entitlement.objects.update(most_at_once=2)
    staged.refresh_from_db()
    first = factories.wish(alice, administrator, staged)
    assert _new(first) is WENT_THROUGH
    with clock.moved(-HOUR):
        second = factories.wish(alice, administrator, staged, duration=HOUR / 2)
        workflow.approve(second, by=bob)
        second = workflow.start(second, by=alice)
    # By the clock it is over, whatever its row still says; as of when it was active it counts.
    assert second.state == "active"
    assert _new(first) is WENT_THROUGH
    assert _new(first, asked_at=second.activated_at, stage_since=second.activated_at) == GUARD
    third = factories.wish(alice, administrator, staged)
    assert _new(first) == GUARD
    # Neither somebody else's nor those of other terms.
    erin = factories.person("erin", engineers)
    assert _new(first, requester_id=erin.pk, beneficiary_id=erin.pk) is WENT_THROUGH
    workflow.withdraw(third, by=alice)
    assert _new(first) is WENT_THROUGH
    workflow.approve(first, by=bob)
    factories.wish(alice, administrator, staged)
    assert _new(third, state="pending", ended_at=None, ended_by_id=None) == GUARD


def test_what_somebody_asked_for_another_is_not_approved_before_it_is_accepted(
    alice: User, administrator: Role, automatic: Entitlement, read_only: Role
) -> None:
    """Under automatic terms nobody decides, so that no decision is missing either."""
    desk = factories.group("Service desk")
    automatic.askers.add(desk)
    one = factories.wish(factories.person("erin", desk), read_only, automatic, beneficiary=alice)
    assert one.state == "pending"

    now = clock.now()
    approved = {"state": "approved", "approved_at": now, "approved_seconds": 60, "start_by": now + HOUR}
    assert reason(update(REQUESTS, one.pk, **approved)) == "whoever it is for has to accept it first"
    accepted = {"accepted_at": now, "stage_since": now}
    assert update(REQUESTS, one.pk, **approved | accepted) is WENT_THROUGH


def test_as_many_at_once_as_the_terms_say_and_not_one_more(
    alice: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.update(most_at_once=2)
    staged.refresh_from_db()
    first = factories.wish(alice, administrator, staged)
    assert _new(first) is WENT_THROUGH
    factories.wish(alice, administrator, staged)
    assert reason(_new(first)) == "as many as these terms allow at once are open"


def test_extensions_as_many_as_the_terms_say_and_not_one_more(
    running: AccessRequest, wanted: Extension, bob: User
) -> None:
    Entitlement.objects.update(extension_total_seconds=86400)
    workflow.approve_extension(wanted, by=bob)
    now = clock.now()
    pending: dict[str, Any] = {"state": "pending", "finished_at": None, "previous_end": None, "new_end": None}
    pending |= {"seconds": 60}
    pending |= {"asked_at": now, "stage_since": now, "decide_by": now + MINUTE}
    assert insert_like(EXTENSIONS, wanted.pk, **pending) is WENT_THROUGH
    with clock.moved(-MINUTE):
        second = workflow.extend(running, by=running.beneficiary, duration=5 * MINUTE, justification="and longer still")
    workflow.approve_extension(second, by=bob)
    as_terms = "the beneficiary of an active pass asks for more, as its terms allow"
    assert reason(insert_like(EXTENSIONS, wanted.pk, **pending)) == as_terms


def test_no_more_is_accepted_at_once_than_the_terms_allow(
    alice: User, bob: User, administrator: Role, staged: Entitlement, leads: Group
) -> None:
    desk = factories.group("Service desk")
    staged.askers.add(desk)
    Entitlement.objects.update(most_at_once=1)
    staged.refresh_from_db()
    waits = factories.wish(factories.person("erin", desk), administrator, staged, beneficiary=alice)
    own = factories.wish(alice, administrator, staged)
    accepted = {"accepted_at": clock.now()}
    accepted["stage_since"] = accepted["accepted_at"]
    assert update(REQUESTS, waits.pk, **accepted) == GUARD
    workflow.withdraw(own, by=alice)
    assert update(REQUESTS, waits.pk, **accepted) is WENT_THROUGH


# --- when it begins -------------------------------------------------------------------------------


@pytest.fixture
def planned(alice: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    """Asked two hours ago, to begin one hour ago."""
    Entitlement.objects.update(schedule_ahead_seconds=86400)
    staged.refresh_from_db()
    with clock.moved(-2 * HOUR):
        return factories.wish(alice, administrator, staged, start="at_time", start_at=clock.now() + HOUR, duration=HOUR)


def test_a_request_is_inserted_with_a_start_that_its_terms_allow(history: None, planned: AccessRequest) -> None:
    asked, start = planned.asked_at, planned.wanted_start_at
    assert start is not None
    assert _new(planned) is WENT_THROUGH
    for values in (
        {"wanted_start_at": asked + timedelta(days=1, seconds=1), "scheduled_at": asked + timedelta(days=1, seconds=1)},
        {"wanted_start_at": asked - MINUTE, "scheduled_at": asked - MINUTE},
        {"scheduled_at": start - MINUTE},
        {"scheduled_at": None},
        {"wanted_start_at": None, "scheduled_at": None},
        {"start": "at_once"},
        {"offered_seconds": 60},
        {"accepted_at": asked},
        {"stage_since": asked - HOUR},
        {"stage_since": asked + MINUTE},
    ):
        assert _new(planned, **values) == GUARD, values


def test_a_start_is_moved_later_by_raw_sql_and_never_forward(planned: AccessRequest, bob: User) -> None:
    start, asked = planned.scheduled_at, planned.asked_at
    assert start is not None
    assert update(REQUESTS, planned.pk, scheduled_at=start + HOUR) is WENT_THROUGH
    for moved in (start - timedelta(seconds=1), None, asked + timedelta(days=1, seconds=1)):
        assert update(REQUESTS, planned.pk, scheduled_at=moved) == GUARD, moved
    assert update(REQUESTS, planned.pk, wanted_start_at=start + HOUR) == GUARD
    workflow.approve(planned, by=bob, start_at=start + 90 * MINUTE)
    planned.refresh_from_db()
    # Approved, it is fixed.
    assert update(REQUESTS, planned.pk, scheduled_at=start + 2 * HOUR) == GUARD
    active = {"state": "active", "activated_at": clock.now(), "expires_at": clock.now() + MINUTE}
    assert update(REQUESTS, planned.pk, **active) == GUARD, "before its time"


def test_it_begins_at_its_time(history: None, planned: AccessRequest, bob: User) -> None:
    with clock.moved(-90 * MINUTE):
        workflow.approve(planned, by=bob)
    start = planned.scheduled_at
    assert start is not None
    for begins, outcome in ((start, WENT_THROUGH), (start - timedelta(seconds=1), GUARD)):
        values = {"state": "active", "activated_at": begins, "expires_at": begins + HOUR}
        assert update(REQUESTS, planned.pk, **values) == outcome
    late = {"state": "active", "activated_at": start, "expires_at": start + HOUR + timedelta(seconds=1)}
    assert update(REQUESTS, planned.pk, **late) == GUARD


def test_it_lapses_so_long_after_its_start_and_no_later(history: None, planned: AccessRequest, bob: User) -> None:
    _decide_raw(planned, bob, "approve")
    within = timedelta(seconds=planned.terms.start_within_seconds)
    assert planned.scheduled_at is not None
    last = planned.scheduled_at + within
    good = {
        "state": "approved",
        "approved_at": planned.asked_at + MINUTE,
        "approved_seconds": 3600,
        "start_by": last,
    }
    assert update(REQUESTS, planned.pk, **good) is WENT_THROUGH
    later = last + timedelta(seconds=1)
    assert update(REQUESTS, planned.pk, **good | {"start_by": later}) == GUARD


def test_an_approver_shortens_by_raw_sql_and_never_lengthens(pending_request: AccessRequest, bob: User) -> None:
    asked = pending_request.duration_seconds
    assert update(REQUESTS, pending_request.pk, offered_seconds=600) is WENT_THROUGH
    for too_much in (asked + 1, 59, 0):
        assert update(REQUESTS, pending_request.pk, offered_seconds=too_much) == GUARD, too_much
    AccessRequest.objects.filter(pk=pending_request.pk).update(offered_seconds=600)
    for seconds in (601, asked, None):
        assert update(REQUESTS, pending_request.pk, offered_seconds=seconds) == GUARD, seconds
    _decide_raw(pending_request, bob, "approve")
    now = clock.now()
    approved = {"state": "approved", "approved_at": now, "approved_seconds": 600, "start_by": now + HOUR}
    assert update(REQUESTS, pending_request.pk, **approved) is WENT_THROUGH
    assert update(REQUESTS, pending_request.pk, **approved | {"approved_seconds": 601}) == GUARD
    workflow.approve(pending_request, by=User.objects.get(username="carol"))
    assert update(REQUESTS, pending_request.pk, offered_seconds=300) == GUARD


# --- on behalf ------------------------------------------------------------------------------------


@pytest.fixture
def for_alice(alice: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    desk = factories.group("Service desk")
    staged.askers.add(desk)
    return factories.wish(factories.person("erin", desk), administrator, staged, beneficiary=alice)


def test_nobody_asks_for_others_whom_the_terms_do_not_name(
    for_alice: AccessRequest, bob: User, alice: User, mallory: User, pending_request: AccessRequest
) -> None:
    assert _new(for_alice) is WENT_THROUGH
    for values in ({"requester_id": bob.pk}, {"requester_id": mallory.pk}, {"beneficiary_id": mallory.pk}):
        assert _new(for_alice, **values) == GUARD, values
    Membership.objects.filter(user=for_alice.requester).delete()
    assert _new(for_alice) == GUARD
    assert _new(pending_request) is WENT_THROUGH


def test_nothing_counts_before_the_beneficiary_accepted(
    for_alice: AccessRequest, bob: User, read_only: Role, automatic: Entitlement
) -> None:
    assert _attempt_decision(for_alice, bob) == GUARD
    now = clock.now()
    accepted = {"accepted_at": now, "stage_since": now}
    assert update(REQUESTS, for_alice.pk, **accepted) is WENT_THROUGH
    for values in (
        {"accepted_at": now},  # the stage would have begun before
        {"stage_since": now},
        accepted | {"stage_since": now - MINUTE},
        {"accepted_at": for_alice.asked_at - MINUTE, "stage_since": for_alice.asked_at - MINUTE},
        {"accepted_at": now + HOUR, "stage_since": now + HOUR},
        {"accepted_at": for_alice.decide_by + MINUTE, "stage_since": for_alice.decide_by + MINUTE},
    ):
        assert update(REQUESTS, for_alice.pk, **values) == GUARD, values
    AccessRequest.objects.filter(pk=for_alice.pk).update(**accepted)
    assert _attempt_decision(for_alice, bob, decided_at=now) is WENT_THROUGH
    assert _attempt_decision(for_alice, bob, decided_at=now - timedelta(microseconds=1)) == GUARD
    assert _attempt_decision(for_alice, for_alice.requester) == GUARD
    for again in (None, now + MINUTE):
        assert update(REQUESTS, for_alice.pk, accepted_at=again) == GUARD, again

    automatic.askers.add(Group.objects.get(name="Service desk"))
    automatically = factories.wish(for_alice.requester, read_only, automatic, beneficiary=for_alice.beneficiary)
    approved = {"state": "approved", "approved_at": now, "approved_seconds": 60, "start_by": now + HOUR}
    assert update(REQUESTS, automatically.pk, **approved) == GUARD


def test_what_one_asks_for_oneself_is_not_accepted(pending_request: AccessRequest) -> None:
    now = clock.now()
    assert update(REQUESTS, pending_request.pk, accepted_at=now, stage_since=now) == GUARD


# --- escalation -----------------------------------------------------------------------------------


def test_further_people_decide_after_the_time_and_not_before(
    history: None,
    alice: User,
    bob: User,
    mallory: User,
    administrator: Role,
    engineers: Group,
    leads: Group,
    security: Group,
) -> None:
    frank = factories.person("frank", security)
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1)])
    stage = terms.stages.get()
    stage.more_groups.add(security)
    stage.more_users.add(mallory)
    # Named, but no time is set: then never.
    never = factories.wish(alice, administrator, terms)
    with clock.moved(-2 * HOUR):
        long_ago = factories.wish(alice, administrator, terms)
    for person in (frank, mallory):
        assert _attempt_decision(never, person) == GUARD
        assert _attempt_decision(long_ago, person, decided_at=clock.now()) == GUARD
    assert _attempt_decision(never, bob) is WENT_THROUGH

    Stage.objects.update(escalate_seconds=600)
    with clock.moved(-20 * MINUTE):
        one = factories.wish(alice, administrator, terms)
    since = one.asked_at
    for person in (frank, mallory):
        assert _attempt_decision(one, person, decided_at=since + 10 * MINUTE) is WENT_THROUGH
        assert _attempt_decision(one, person, decided_at=since + 10 * MINUTE - timedelta(seconds=1)) == GUARD
    assert _attempt_decision(one, bob, decided_at=since) is WENT_THROUGH
    Edit.objects.create(editor=frank, group=security, made_at=clock.now())
    assert _attempt_decision(one, frank, decided_at=since + 10 * MINUTE) == GUARD

    # Not by a time to come, nor by a stage that is called older than it is.
    young = factories.wish(alice, administrator, terms)
    assert _attempt_decision(young, mallory, decided_at=young.asked_at + 10 * MINUTE) == GUARD
    assert update(REQUESTS, young.pk, stage_since=young.asked_at - HOUR) == GUARD
    assert update(REQUESTS, young.pk, stage_since=None) == GUARD


def test_a_second_stage_is_not_older_than_the_first_ones_agreement(
    history: None,
    alice: User,
    bob: User,
    mallory: User,
    administrator: Role,
    engineers: Group,
    leads: Group,
    security: Group,
) -> None:
    factories.person("frank", security)
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1), (security, 1)])
    last = terms.stages.get(position=2)
    last.escalate_seconds = 600
    last.save()
    last.more_users.add(mallory)
    with clock.moved(-HOUR):
        one = factories.wish(alice, administrator, terms)
    agreed = one.asked_at + 30 * MINUTE
    _decide_raw(one, bob, "approve", decided_at=agreed)
    assert update(REQUESTS, one.pk, stage=2, stage_since=agreed) is WENT_THROUGH
    for since in (agreed - timedelta(seconds=1), one.asked_at, None, clock.now() + MINUTE):
        assert update(REQUESTS, one.pk, stage=2, stage_since=since) == GUARD, since
    assert update(REQUESTS, one.pk, stage=2) == GUARD


# --- extensions -----------------------------------------------------------------------------------


@pytest.fixture
def running(alice: User, bob: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    """Half an hour is left of an hour; may be extended twice, to two hours in all."""
    Entitlement.objects.update(extensions_most=2, extension_total_seconds=7200)
    staged.refresh_from_db()
    with clock.moved(-30 * MINUTE):
        one = factories.wish(alice, administrator, staged, duration=HOUR)
        workflow.approve(one, by=bob)
        return workflow.start(one, by=alice)


@pytest.fixture
def wanted(running: AccessRequest) -> Extension:
    """Pending: half an hour more, asked ten minutes ago."""
    with clock.moved(-10 * MINUTE):
        return workflow.extend(
            running, by=running.beneficiary, duration=30 * MINUTE, justification="it takes longer than that"
        )


def test_a_public_id_never_changes(wanted: Extension, olivia: User) -> None:
    freeze = workflow.freezes.freeze(factories.role(), by=olivia, reason="a stolen laptop")
    entitlement = wanted.access_request.entitlement
    for row in (entitlement, freeze, wanted):
        table, pk = row._meta.db_table, row.pk
        assert update(table, pk, public_id=str(uuid4())) == GUARD
        assert update(table, pk, public_id=str(row.public_id)) is WENT_THROUGH


def test_an_extension_begins_as_pending_for_the_beneficiary_of_an_active_pass(
    history: None,
    wanted: Extension,
    running: AccessRequest,
    alice: User,
    bob: User,
    pending_request: AccessRequest,
    olivia: User,
) -> None:
    assert insert_like(EXTENSIONS, wanted.pk) == UNIQUE  # one at a time
    workflow.withdraw_extension(wanted, by=alice)
    now = clock.now()
    pending = {"state": "pending", "finished_at": None}

    def new(**values: Any) -> str | None:
        return insert_like(EXTENSIONS, wanted.pk, **pending | values)

    assert new() is WENT_THROUGH
    end = running.expires_at
    assert end is not None
    for state in ("granted", "denied", "withdrawn", "lapsed"):
        assert new(state=state, finished_at=now, previous_end=end, new_end=end + HOUR) == GUARD, state
    for values in (
        {"asked_by_id": bob.pk},
        {"access_request_id": pending_request.pk},
        {"previous_end": end, "new_end": end + MINUTE},
        {"decide_by": end + timedelta(seconds=1)},
        {"asked_at": now + MINUTE, "stage_since": now + MINUTE},
        {"asked_at": running.activated_at - MINUTE, "stage_since": running.activated_at - MINUTE},  # type: ignore[operator]
        {"stage_since": wanted.asked_at - HOUR},
        {"stage": 0},
        {"stage": 2},
        {"seconds": 59},
        {"seconds": 3601},
    ):
        assert new(**values) == GUARD, values
    assert new(seconds=3600) is WENT_THROUGH
    freeze = workflow.freezes.freeze(running.role, by=olivia, reason="an incident")
    assert new() == GUARD
    workflow.freezes.lift(freeze, by=olivia)
    assert new() is WENT_THROUGH
    Membership.objects.filter(user=alice).delete()
    assert new() == GUARD


def test_extensions_stay_within_the_stored_limits(running: AccessRequest, bob: User, alice: User) -> None:
    for _ in range(2):
        extension = workflow.extend(running, by=alice, duration=10 * MINUTE, justification="it takes longer than that")
        pending = {"state": "pending", "finished_at": None, "previous_end": None, "new_end": None}
        workflow.approve_extension(extension, by=bob)
        end = AccessRequest.objects.get(pk=running.pk).expires_at
        third = insert_like(EXTENSIONS, extension.pk, **pending, decide_by=end, seconds=60)
        assert insert_like(EXTENSIONS, extension.pk, **pending, decide_by=end, seconds=3001) == GUARD
        assert third == (WENT_THROUGH if Extension.objects.count() == 1 else GUARD)


@pytest.mark.parametrize("after", ExtensionState)
def test_every_transition_of_an_extension(after: ExtensionState, wanted: Extension, bob: User, alice: User) -> None:
    workflow.withdraw_extension(wanted, by=alice)
    values = {"state": str(after), "finished_at": None if after == "pending" else clock.now()}
    assert update(EXTENSIONS, wanted.pk, **values) == GUARD
    assert {pair for pair in TRANSITIONS if pair[0] == EXTENSION} == {
        (EXTENSION, "pending", state) for state in ("granted", "denied", "withdrawn", "lapsed")
    }


def test_what_was_asked_for_never_changes(wanted: Extension, bob: User, pending_request: AccessRequest) -> None:
    for values in (
        {"seconds": 60},
        {"justification": "another"},
        {"asked_by_id": bob.pk},
        {"access_request_id": pending_request.pk},
        {"decide_by": wanted.decide_by - MINUTE},
        {"asked_at": wanted.asked_at - MINUTE},
        {"stage_since": wanted.stage_since - MINUTE},
        {"stage": 2},
        {"previous_end": wanted.decide_by},
    ):
        assert update(EXTENSIONS, wanted.pk, **values) == GUARD, values
    assert attempt(f"DELETE FROM {EXTENSIONS}") == PRIVILEGE
    assert update(EXTENSIONS, wanted.pk, escalate_at=clock.now()) is WENT_THROUGH


def _extension_decision(of: Extension, by: User, verdict: str = "approve", **values: Any) -> str | None:
    statement, params = _decide_extension(of, by, verdict, **values)
    return attempt(statement, params=params)


def _decide_extension(of: Extension, by: User, verdict: str = "approve", **values: Any) -> tuple[str, list[Any]]:
    own = {"extension_id": of.pk, "stage": of.stage, "decided_at": clock.now()}
    return _decision(of.access_request, by, verdict, **own | values)


def test_an_extension_is_granted_by_its_own_decisions_and_moves_the_end_by_what_was_asked(
    wanted: Extension, running: AccessRequest, bob: User, carol: User, olivia: User
) -> None:
    end, now = running.expires_at, clock.now()
    assert end is not None
    granted = {"state": "granted", "finished_at": now, "previous_end": end, "new_end": end + 30 * MINUTE}
    # Bob's yes to the pass is no yes to more of it.
    assert update(EXTENSIONS, wanted.pk, **granted) == GUARD
    assert update(REQUESTS, running.pk, expires_at=end + 30 * MINUTE) == GUARD
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(*_decide_extension(wanted, carol))
        assert update(EXTENSIONS, wanted.pk, **granted) is WENT_THROUGH
        for values in (
            {"new_end": end + 30 * MINUTE + timedelta(seconds=1)},
            {"new_end": end + HOUR},
            {"previous_end": end - MINUTE, "new_end": end + 29 * MINUTE},
            {"previous_end": end - MINUTE},
            {"previous_end": None},
            {"new_end": None},
            {"finished_at": now + HOUR},
            {"finished_at": wanted.asked_at - MINUTE},
            {"seconds": 60},
        ):
            assert update(EXTENSIONS, wanted.pk, **granted | values) == GUARD, values
        _freeze_raw(running, olivia)
        assert update(EXTENSIONS, wanted.pk, **granted) == GUARD
        transaction.set_rollback(True)
    workflow.approve_extension(wanted, by=bob)
    end = AccessRequest.objects.get(pk=running.pk).expires_at
    assert end is not None
    assert end == granted["new_end"]
    # Once: the same grant does not move it again, nor back, nor elsewhere.
    for moved in (end + 30 * MINUTE, end - 30 * MINUTE, end + timedelta(seconds=1), None):
        assert update(REQUESTS, running.pk, expires_at=moved) == GUARD, moved
    assert update(EXTENSIONS, wanted.pk, seconds=600) == GUARD


def _freeze_raw(running: AccessRequest, by: User) -> None:
    """As the verb, whose transaction is durable, would have left it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO requests_app_freeze (role_id, cause, reason, begun_at, begun_by_id) "
            "VALUES (%s, 'operator', 'an incident', now(), %s)",
            [running.role_id, by.pk],
        )


def test_who_decides_an_extension(
    wanted: Extension, running: AccessRequest, alice: User, bob: User, mallory: User, olivia: User, leads: Group
) -> None:
    assert _extension_decision(wanted, bob) is WENT_THROUGH
    Membership.objects.create(group=leads, user=alice)
    for person in (alice, mallory, olivia):
        assert _extension_decision(wanted, person) == GUARD, person
    assert _extension_decision(wanted, bob, stage=2) == GUARD
    assert _extension_decision(wanted, bob, stage=0) == GUARD
    assert _extension_decision(wanted, bob, decided_at=wanted.decide_by + timedelta(seconds=1)) == GUARD
    assert _extension_decision(wanted, bob, decided_at=wanted.asked_at - MINUTE) == GUARD
    # A decision on the extension is none on the request, which is decided, and not on another one's.
    assert _attempt_decision(running, bob) == GUARD
    with connection.cursor() as cursor:
        cursor.execute(*_decide_extension(wanted, bob))
    assert _extension_decision(wanted, bob) == UNIQUE
    assert _extension_decision(wanted, bob, verdict="deny") == UNIQUE
    other = factories.wish(alice, running.role, running.entitlement)
    assert _attempt_decision(other, bob, extension_id=wanted.pk) == GUARD
    assert attempt(f"UPDATE {DECISIONS} SET extension_id = NULL") == PRIVILEGE


def test_a_denied_extension_needs_its_denial(wanted: Extension, bob: User, carol: User) -> None:
    denied = {"state": "denied", "finished_at": clock.now()}
    assert update(EXTENSIONS, wanted.pk, **denied) == GUARD
    with connection.cursor() as cursor:
        cursor.execute(*_decide_extension(wanted, bob, "deny"))
        cursor.execute(*_decide_extension(wanted, carol, "approve"))
    assert update(EXTENSIONS, wanted.pk, **denied) is WENT_THROUGH
    end = wanted.access_request.expires_at
    granted = {"state": "granted", "previous_end": end, "new_end": end + 30 * MINUTE}  # type: ignore[operator]
    assert update(EXTENSIONS, wanted.pk, **denied | granted) == GUARD


def test_an_older_extension_does_not_move_the_end_again(wanted: Extension, running: AccessRequest, bob: User) -> None:
    """Granted, it led from one end to another; from any other end it leads nowhere."""
    Entitlement.objects.update(extension_total_seconds=10_800)
    workflow.approve_extension(wanted, by=bob)
    wanted.refresh_from_db()
    with clock.moved(-5 * MINUTE):
        again = workflow.extend(running, by=running.beneficiary, duration=20 * MINUTE, justification="and longer still")
    workflow.approve_extension(again, by=bob)
    running.refresh_from_db()
    assert running.expires_at is not None
    assert wanted.new_end is not None
    assert running.expires_at == wanted.new_end + 20 * MINUTE

    moved_back = update(REQUESTS, running.pk, expires_at=wanted.new_end)
    assert reason(moved_back) == "the end moves only with the decision of an extension"


def test_nothing_is_granted_to_a_pass_that_has_ended(
    wanted: Extension, running: AccessRequest, bob: User, alice: User
) -> None:
    end = running.expires_at
    workflow.give_back(running, by=alice)
    assert _extension_decision(wanted, bob) == GUARD
    granted = {"state": "granted", "finished_at": clock.now(), "previous_end": end, "new_end": end + HOUR}  # type: ignore[operator]
    assert update(EXTENSIONS, wanted.pk, **granted) == GUARD


# --- channels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "kinds"), [("both", {"credentials", "console"}), ("keys", {"credentials"}), ("console", {"console"})]
)
def test_deliveries_by_the_channels_that_the_terms_give(
    channels: str, kinds: set[str], alice: User, read_only: Role, automatic: Entitlement, aws_clock: object
) -> None:
    Entitlement.objects.update(channels=channels)
    one = factories.wish(alice, read_only, automatic, start="at_once")
    wish: Delivery = factories.delivery(one, kind=next(iter(kinds)))
    for kind in ("credentials", "console"):
        outcome = insert_like(DELIVERIES, wish.pk, public_id="00000000-0000-4000-8000-000000000000", kind=kind)
        assert outcome == (WENT_THROUGH if kind in kinds else GUARD), kind


@pytest.mark.parametrize(
    ("lifted", "known", "kinds"),
    [
        ([], "on", {"credentials"}),
        (["assume-role"], "on", {"credentials"}),
        (["sign-in-tokens"], "on", {"credentials", "console"}),
        ([], "off", {"credentials", "console"}),
        ([], "", {"credentials", "console"}),
    ],
)
def test_deliveries_where_an_accounts_console_asks_for_more(
    lifted: list[str], known: str, kinds: set[str], alice: User, read_only: Role, automatic: Entitlement,
    aws_clock: object,
) -> None:  # fmt: skip
    Entitlement.objects.update(lifted=lifted)
    one = factories.wish(alice, read_only, automatic, start="at_once")
    wish: Delivery = factories.delivery(one)
    Account.objects.filter(pk=read_only.account_id).update(console_authorization=known)
    for kind in ("credentials", "console"):
        outcome = insert_like(DELIVERIES, wish.pk, public_id="00000000-0000-4000-8000-000000000000", kind=kind)
        assert outcome == (WENT_THROUGH if kind in kinds else GUARD), kind
