"""What operators hold stays held, by every verb and past every verb; ending goes on; two let it go on again."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Group as AdminGroup
from django.core import mail as outbox
from django.db import connection

from requests_app.background import mail
from requests_app.domain import clock, workflow
from requests_app.domain.database import AUDITORS
from requests_app.domain.errors import Conflict, DomainError, Invalid, NotAllowed
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    Confirmation,
    Delivery,
    Entitlement,
    Freeze,
    Group,
    IssuedSession,
    Notice,
    Revocation,
    Role,
    User,
)
from requests_app.domain.transitions import DeliveryState
from requests_app.domain.workflow import deliveries, emergency, freezes, live_sessions, sweeps
from requests_app.domain.workflow.freezes import Everything, Scope
from tests import factories, letters, servers
from tests.domain.expect import refused
from tests.domain.meeting import at_once, in_background, wait_until_stuck
from tests.domain.test_guards import (
    DECISIONS,
    DELIVERIES,
    GUARD,
    REQUESTS,
    SESSIONS,
    WENT_THROUGH,
    attempt,
    insert_like,
    reason,
    update,
)

SCOPES = ["everything", "account", "role"]
WHY = "keys of a laptop were stolen"

racing = pytest.mark.django_db(transaction=True)


@pytest.fixture
def oscar(db: Any) -> User:
    """Operates too."""
    return factories.person("oscar", is_staff=True, is_operator=True)


@pytest.fixture(autouse=True)
def no_caps(settings: Any) -> None:
    settings.OPEN_REQUESTS_PER_PERSON_AND_ROLE = 1000


def around(role: Role, name: str) -> Scope:
    scopes: dict[str, Scope] = {"everything": Everything(), "account": role.account, "role": role}
    return scopes[name]


def freeze(scope: Scope, by: User) -> Freeze:
    return freezes.freeze(scope, by=by, reason=WHY)


# --- nothing goes on ----------------------------------------------------------------------------------


@pytest.fixture
def frozen(request: pytest.FixtureRequest, administrator: Role, olivia: User) -> Callable[[], Freeze]:
    return lambda: freeze(around(administrator, request.param), olivia)


every_scope = pytest.mark.parametrize("frozen", SCOPES, indirect=True)


@every_scope
def test_nothing_is_asked_for(frozen: Any, alice: User, administrator: Role, staged: Entitlement) -> None:
    frozen()
    with pytest.raises(NotAllowed, match=WHY) as refusal:
        factories.wish(alice, administrator, staged)
    assert refusal.value.rule == "freeze"
    assert not AccessRequest.objects.exists()


@every_scope
def test_nothing_is_approved_but_denied(frozen: Any, pending_request: AccessRequest, bob: User) -> None:
    frozen()
    with refused("freeze", Conflict):
        workflow.approve(pending_request, by=bob)
    assert not pending_request.decisions.exists()
    workflow.deny(pending_request, by=bob)


@every_scope
def test_nothing_is_started(frozen: Any, approved_request: AccessRequest, alice: User, aws_clock: object) -> None:
    frozen()
    with refused("freeze"):
        workflow.start(approved_request, by=alice)
    with refused("freeze"):
        factories.delivery(approved_request)
    approved_request.refresh_from_db()
    assert approved_request.state == "approved"


@every_scope
def test_nothing_is_minted_at_any_step(
    frozen: Any, active_request: AccessRequest, alice: User, aws_clock: object
) -> None:
    asked, claimed, recorded = (factories.delivery(active_request) for _ in range(3))
    order, late = (deliveries.claim(one.pk, worker="w") for one in (claimed, recorded))
    assert order
    assert late
    assert deliveries.record(late, factories.minted(late), worker="w")
    sealed, envelope = factories.sealed(active_request)
    frozen()

    with refused("freeze"):
        factories.delivery(active_request)
    assert deliveries.claim(asked.pk, worker="w") is None
    assert not deliveries.record(order, factories.minted(order), worker="w")
    assert not deliveries.seal_down(late, "x.y.z.a.b")
    with refused("freeze", Conflict):
        deliveries.hand_over(sealed, by=alice, sign_in="a sign-in", take=lambda _: envelope)
    states = {one.pk: one.state for one in Delivery.objects.all()}
    assert states[asked.pk] == DeliveryState.REFUSED
    assert {states[one.pk] for one in (claimed, recorded, sealed)} == {DeliveryState.DISCARDED}
    assert IssuedSession.objects.get(delivery=claimed).discarded
    assert AuditEvent.objects.filter(action="session.discarded", detail__rule="freeze").count() == 1


@pytest.mark.parametrize("frozen", ["account", "role"], indirect=True)
def test_what_lies_outside_goes_on(frozen: Any, alice: User, engineers: Group, aws_clock: object) -> None:
    elsewhere = factories.role()
    terms = factories.entitlement(elsewhere, groups=[engineers])
    frozen()
    assert deliveries.claim(factories.delivery(factories.wish(alice, elsewhere, terms)).pk, worker="w")


def test_a_role_frozen_leaves_its_neighbour_alone(
    alice: User, administrator: Role, read_only: Role, automatic: Entitlement, olivia: User
) -> None:
    freeze(administrator, olivia)
    factories.wish(alice, read_only, automatic)
    freeze(administrator.account, olivia)
    with refused("freeze"):
        factories.wish(alice, read_only, automatic)


# --- nor by the application's own role, past every verb -----------------------------------------------


@every_scope
def test_raw_sql_gets_nothing_through_either(
    frozen: Any, alice: User, bob: User, carol: User, administrator: Role, staged: Entitlement, leads: Group,
    engineers: Group, security: Group, aws_clock: object,
) -> None:  # fmt: skip
    pending = factories.wish(alice, administrator, staged)
    approved, active = factories.wish(alice, administrator, staged), factories.wish(alice, administrator, staged)
    for one in (approved, active):
        workflow.approve(one, by=bob)
    workflow.start(active, by=alice)
    decided = factories.wish(alice, administrator, staged)
    two = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1), (security, 1)])
    first_agreed = factories.wish(alice, administrator, two)
    for one in (decided, first_agreed):
        assert_stored(decision_on(one, bob, "approve"))
    asked, claimed = factories.delivery(active), factories.delivery(active)
    deliveries.claim(claimed.pk, worker="w")
    recorded = factories.delivery(active)
    order = deliveries.claim(recorded.pk, worker="w")
    assert order
    deliveries.record(order, factories.minted(order), worker="w")
    sealed, _ = factories.sealed(active)
    session = IssuedSession.objects.filter(delivery=recorded).get()
    now = clock.now()
    own = {"access_key_id": "ASIA" + "7" * 16, "delivery_id": claimed.pk, "thumbprint": claimed.thumbprint}

    ways: dict[str, Callable[[], str | None]] = {
        "a new request": lambda: insert_like(REQUESTS, pending.pk, code="DP-00000000"),
        "a yes": lambda: attempt(*decision_on(pending, carol, "approve")),
        "the next stage": lambda: update(REQUESTS, first_agreed.pk, stage=2, stage_since=now),
        "approved": lambda: update(
            REQUESTS, decided.pk, state="approved", approved_at=now, approved_seconds=1800, start_by=now
        ),
        "active": lambda: update(
            REQUESTS, approved.pk, state="active", activated_at=now, expires_at=now + timedelta(minutes=5)
        ),
        "a new delivery": lambda: insert_like(DELIVERIES, asked.pk, public_id=uuid.uuid4()),
        "claimed": lambda: update(DELIVERIES, asked.pk, state="claimed", claimed_at=now),
        "sealed": lambda: update(DELIVERIES, recorded.pk, state="sealed", envelope_sha256="0" * 64, sealed_at=now),
        "delivered": lambda: update(DELIVERIES, sealed.pk, state="delivered"),
        "a session": lambda: insert_like(SESSIONS, session.pk, **own),
    }
    ends: dict[str, Callable[[], str | None]] = {
        "a no": lambda: attempt(*decision_on(pending, carol, "deny")),
        "revoked": lambda: update(REQUESTS, active.pk, state="revoked", ended_at=now),
        "refused": lambda: update(DELIVERIES, asked.pk, state="refused"),
        "discarded": lambda: update(DELIVERIES, sealed.pk, state="discarded"),
        "a session thrown away": lambda: insert_like(SESSIONS, session.pk, **own, discarded=True),
    }
    assert {name: way() for name, way in (ways | ends).items()} == dict.fromkeys(ways | ends, WENT_THROUGH)
    frozen()
    assert {name: way() for name, way in ways.items()} == dict.fromkeys(ways, GUARD)
    assert {name: way() for name, way in ends.items()} == dict.fromkeys(ends, WENT_THROUGH)


def decision_on(one: AccessRequest, by: User, verdict: str) -> tuple[str]:
    return (
        f"INSERT INTO {DECISIONS} (access_request_id, stage, approver_id, approver_name, verdict, comment, decided_at) "
        f"VALUES ({one.pk}, 1, {by.pk}, 'x', '{verdict}', '', clock_timestamp())",
    )


def assert_stored(statements: tuple[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(*statements)


@racing
def test_a_snapshot_from_before_does_not_help(
    active_request: AccessRequest, olivia: User, aws_clock: object, app_connection: psycopg.Connection
) -> None:
    delivery = factories.delivery(active_request)
    with psycopg.connect(servers.database_url("app", servers.database_name())) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT count(*) FROM requests_app_freeze")
        freeze(Everything(), olivia)
        with pytest.raises(psycopg.errors.CheckViolation):
            old.execute(f"UPDATE {DELIVERIES} SET state = 'claimed' WHERE id = %s", [delivery.pk])


# --- at the same moment -------------------------------------------------------------------------------


@racing
@pytest.mark.parametrize("scope", SCOPES)
def test_a_freeze_waits_for_those_who_have_looked_and_stops_those_who_have_not(
    scope: str, approved_request: AccessRequest, pending_request: AccessRequest, alice: User, olivia: User
) -> None:
    another = factories.wish(alice, approved_request.role, approved_request.entitlement)
    bob = User.objects.get(username="bob")
    with psycopg.connect(servers.database_url("app", servers.database_name())) as looked:
        looked.execute(
            f"UPDATE {REQUESTS} SET state = 'active', activated_at = clock_timestamp(), "
            "expires_at = clock_timestamp() + interval '1 min' WHERE id = %s",
            [approved_request.pk],
        )
        freezing = in_background(lambda: freeze(around(approved_request.role, scope), olivia))
        wait_until_stuck([freezing])
        assert not freezing.done()
        late = in_background(lambda: workflow.approve(another, by=bob))
        wait_until_stuck([freezing, late])
        assert not late.done()
        looked.commit()
    begun = freezing.result(timeout=10)
    outcome = late.result(timeout=10)

    approved_request.refresh_from_db()
    assert approved_request.activated_at is not None
    assert approved_request.activated_at < begun.begun_at
    assert isinstance(outcome, DomainError)
    another.refresh_from_db()
    assert another.state == "pending"


@racing
@pytest.mark.parametrize("scope", SCOPES)
def test_after_a_freeze_has_returned_nothing_was_let_through(
    scope: str, alice: User, bob: User, olivia: User, administrator: Role, staged: Entitlement, read_only: Role,
    automatic: Entitlement, aws_clock: object,
) -> None:  # fmt: skip
    waiting = [factories.wish(alice, administrator, staged) for _ in range(4)]
    for one in waiting[1:]:
        workflow.approve(one, by=bob)
    for one in waiting[2:]:
        workflow.start(one, by=alice)
    order = deliveries.claim(factories.delivery(waiting[3]).pk, worker="w")
    assert order
    asked = factories.delivery(waiting[3])
    outcomes = at_once(
        lambda: factories.wish(alice, administrator, staged),
        lambda: workflow.approve(waiting[0], by=bob),
        lambda: workflow.start(waiting[1], by=alice),
        lambda: factories.delivery(waiting[2]),
        lambda: deliveries.record(order, factories.minted(order), worker="w"),
        lambda: deliveries.claim(asked.pk, worker="w2"),
        lambda: freeze(around(administrator, scope), olivia),
    )
    begun = outcomes[-1]
    assert isinstance(begun, Freeze)
    refusals = [one for one in outcomes[:-1] if isinstance(one, DomainError)]
    assert {one.rule for one in refusals} <= {"freeze"}, refusals
    for model, moment in (
        (AccessRequest, "asked_at"),
        (AccessRequest, "approved_at"),
        (AccessRequest, "activated_at"),
        (Delivery, "asked_at"),
        (Delivery, "claimed_at"),
    ):
        assert not model.objects.filter(**{f"{moment}__gt": begun.begun_at}).exists(), moment
    # What AWS gave is recorded whichever came first, and thrown away if the freeze did.
    session = IssuedSession.objects.get()
    assert session.discarded or session.issued_at < begun.begun_at
    assert outcomes[4] is not session.discarded


@racing
def test_a_mint_that_meets_a_freeze_between_look_and_record_is_discarded(
    active_request: AccessRequest, olivia: User, aws_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = factories.delivery(active_request)
    order = deliveries.claim(delivery.pk, worker="w")
    assert order
    look = deliveries._verdict

    def look_and_freeze(*args: Any) -> Any:
        said = look(*args)
        if not Freeze.objects.exists():
            in_background(lambda: freeze(Everything(), olivia)).result(timeout=10)
        return said

    monkeypatch.setattr(deliveries, "_verdict", look_and_freeze)
    assert not deliveries.record(order, factories.minted(order), worker="w")
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.DISCARDED
    assert IssuedSession.objects.get().discarded


@racing
def test_two_who_freeze_the_same_make_one_freeze(olivia: User, administrator: Role) -> None:
    oscar = factories.person("oscar", is_operator=True)
    outcomes = at_once(*[lambda by=by: freeze(administrator, by) for by in (olivia, oscar)])
    assert sorted(type(one).__name__ for one in outcomes) == ["Conflict", "Freeze"]
    assert Notice.objects.filter(kind="frozen").count() == 2


# --- ending goes on -----------------------------------------------------------------------------------


@every_scope
def test_ending_works_while_frozen(
    frozen: Any, alice: User, bob: User, olivia: User, administrator: Role, staged: Entitlement, aws_clock: object
) -> None:
    wishes = [factories.wish(alice, administrator, staged) for _ in range(7)]
    for one in wishes[2:]:
        workflow.approve(one, by=bob)
    for one in wishes[3:]:
        workflow.start(one, by=alice)
    frozen()
    workflow.deny(wishes[0], by=bob)
    workflow.withdraw(wishes[1], by=alice)
    workflow.withdraw(wishes[2], by=alice)
    workflow.give_back(wishes[3], by=alice)
    workflow.revoke(wishes[4], by=bob, reason="over")
    assert emergency.end_all(administrator, by=olivia, reason="over", typed="Administrator").passes == 2
    states = {"denied": 1, "withdrawn": 2, "returned": 1, "revoked": 3}
    assert {state: AccessRequest.objects.filter(state=state).count() for state in states} == states


@every_scope
def test_the_clock_goes_on_while_frozen(frozen: Any, active_request: AccessRequest, alice: User, bob: User) -> None:
    factories.wish(alice, active_request.role, active_request.entitlement)
    frozen()
    with clock.moved(timedelta(days=2)):
        assert (sweeps.expire_due(), sweeps.lapse_due()) == (1, 1)


# --- who freezes, and who lifts -----------------------------------------------------------------------


def test_only_operators_freeze_and_lift(
    mallory: User, dave: User, bob: User, olivia: User, administrator: Role
) -> None:
    for person in (mallory, dave, bob):
        with refused("operator.only", NotAllowed):
            freeze(administrator, person)
    begun = freeze(administrator, olivia)
    for person in (mallory, dave, bob):
        with refused("operator.only", NotAllowed):
            freezes.lift(begun, by=person)
    User.objects.filter(pk=olivia.pk).update(deactivated_at=clock.now())
    with refused("operator.only", NotAllowed):
        freezes.lift(begun, by=olivia)
    assert AuditEvent.objects.filter(action="freeze.begun.refused").count() == 3
    assert AuditEvent.objects.filter(action="freeze.lifted.refused").count() == 4


@pytest.mark.parametrize("reason", ["", "  \n", "zero \x00", "half \ud800"])
def test_a_freeze_says_why(reason: str, olivia: User) -> None:
    with pytest.raises(Invalid) as wrong:
        freezes.freeze(Everything(), by=olivia, reason=reason)
    assert list(wrong.value.fields) == ["reason"]
    assert not Freeze.objects.exists()


def test_a_reason_is_told_whole_or_refused_and_never_cut(olivia: User, administrator: Role) -> None:
    with pytest.raises(Invalid):
        freezes.freeze(Everything(), by=olivia, reason="x" * 501)
    assert not Freeze.objects.exists()
    begun = freezes.freeze(administrator, by=olivia, reason="x" * 497 + "end")
    assert begun.reason.endswith("end")
    assert letters.sentence(Notice.objects.get(recipient=olivia)).endswith("end")


def test_freezing_twice_is_said_and_other_scopes_are_others(olivia: User, administrator: Role) -> None:
    for scope in (Everything(), administrator.account, administrator):
        freeze(scope, olivia)
        with refused("freeze.already", Conflict):
            freeze(scope, olivia)
    assert Freeze.objects.in_force().count() == 3


def test_where_there_are_two_operators_it_takes_both(
    olivia: User, oscar: User, administrator: Role, alice: User, staged: Entitlement
) -> None:
    begun = freeze(administrator, olivia)
    assert freezes.lift(begun, by=olivia).lifted_at is None
    with refused("freeze.second_operator", NotAllowed):
        freezes.lift(begun, by=olivia)
    with refused("freeze"):
        factories.wish(alice, administrator, staged)
    lifted = freezes.lift(begun, by=oscar)
    assert (lifted.lift_asked_by, lifted.lifted_by) == (olivia, oscar)
    factories.wish(alice, administrator, staged)
    with refused("freeze.lifted", Conflict):
        freezes.lift(begun, by=oscar)


def test_where_there_is_one_operator_one_lifts_it(olivia: User, administrator: Role) -> None:
    lifted = freezes.lift(freeze(administrator, olivia), by=olivia)
    assert lifted.lifted_by == lifted.lift_asked_by == olivia


@pytest.mark.parametrize("how", [{"deactivated_at": True}, {"is_operator": False}])
def test_whoever_asked_and_operates_no_more_does_not_count(
    how: dict[str, Any], olivia: User, oscar: User, administrator: Role
) -> None:
    third = factories.person("otto", is_operator=True)
    begun = freeze(administrator, olivia)
    freezes.lift(begun, by=olivia)
    values = {"deactivated_at": clock.now()} if "deactivated_at" in how else how
    User.objects.filter(pk=olivia.pk).update(**values)
    assert lift_by_hand(begun, by=oscar) == GUARD
    assert freezes.lift(begun, by=oscar).lifted_at is None, "this only asks anew"
    assert freezes.lift(begun, by=third).lifted_at is not None


def test_more_operators_than_anybody_counts(olivia: User) -> None:
    with factories.vouched():
        User.objects.bulk_create(
            User(username=f"o{n}", email=f"o{n}@example.com", is_operator=True) for n in range(150)
        )
    begun = freeze(Everything(), olivia)
    one, another = User.objects.filter(is_operator=True).order_by("-pk")[:2]
    assert freezes.lift(begun, by=one).lifted_at is None
    assert freezes.lift(begun, by=another).lifted_at is not None


def test_raw_sql_lifts_nothing_alone(olivia: User, oscar: User, mallory: User, administrator: Role) -> None:
    begun = freeze(administrator, olivia)
    now = clock.now()
    assert lift_by_hand(begun, by=oscar) == GUARD
    assert lift_by_hand(begun, by=oscar, lift_asked_by_id=oscar.pk, lift_asked_at=now) == GUARD
    # Asked and lifted in one statement is no second look.
    assert lift_by_hand(begun, by=oscar, lift_asked_by_id=olivia.pk, lift_asked_at=now) == GUARD
    assert update("requests_app_freeze", begun.pk, lift_asked_by_id=mallory.pk, lift_asked_at=now) == GUARD
    for way in (
        {"role_id": None},
        {"reason": "another"},
        {"begun_by_id": oscar.pk},
        {"begun_at": now + timedelta(days=1)},
    ):
        assert update("requests_app_freeze", begun.pk, **way) == GUARD
    assert attempt(f"DELETE FROM requests_app_freeze WHERE id = {begun.pk}") == "42501"
    assert attempt("TRUNCATE requests_app_freeze CASCADE") == "42501"
    freezes.lift(begun, by=olivia)
    assert lift_by_hand(begun, by=mallory) == GUARD
    assert lift_by_hand(begun, by=olivia) == GUARD
    assert lift_by_hand(begun, by=oscar) is WENT_THROUGH
    freezes.lift(begun, by=oscar)
    assert update("requests_app_freeze", begun.pk, lifted_at=None, lifted_by_id=None) == GUARD


def test_raw_sql_freezes_in_no_other_name(olivia: User, mallory: User, administrator: Role) -> None:
    begun = freeze(administrator, olivia)
    again = {"role_id": None, "public_id": uuid.uuid4()}
    assert insert_like("requests_app_freeze", begun.pk, **again) is WENT_THROUGH
    assert insert_like("requests_app_freeze", begun.pk, **again, begun_by_id=mallory.pk) == GUARD
    assert insert_like("requests_app_freeze", begun.pk, **again, lift_asked_by_id=olivia.pk) == GUARD
    ahead = {"cause": "restored", "begun_by_id": None, "begun_at": clock.now() + timedelta(minutes=1)}
    assert insert_like("requests_app_freeze", begun.pk, **again, **ahead) == GUARD, "it would hide later restorations"


def lift_by_hand(begun: Freeze, *, by: User, **values: Any) -> str | None:
    return update("requests_app_freeze", begun.pk, lifted_at=clock.now(), lifted_by_id=by.pk, **values)


def test_what_was_to_start_at_once_starts_when_it_is_lifted(
    alice: User, bob: User, olivia: User, administrator: Role, staged: Entitlement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("requests_app.domain.workflow.life.begin", lambda *_, **__: None)
    waiting = factories.wish(alice, administrator, staged, start="at_once")
    workflow.approve(waiting, by=bob)
    for scope in (administrator, administrator.account, Everything()):
        begun = freeze(scope, olivia)
        assert sweeps.activate_due() == 0
        freezes.lift(begun, by=olivia)
    assert sweeps.activate_due() == 1
    waiting.refresh_from_db()
    assert waiting.state == "active"


# --- everyone who answers for it is told --------------------------------------------------------------


def test_operators_and_auditors_are_told_once_each(
    olivia: User, oscar: User, dave: User, bob: User, mallory: User, administrator: Role
) -> None:
    oscar.groups.add(AdminGroup.objects.get(name=AUDITORS))
    gone = factories.person("gone", is_operator=True, deactivated_at=clock.now())
    begun = freeze(administrator, olivia)
    freezes.lift(begun, by=olivia)
    freezes.lift(begun, by=oscar)
    for kind in ("frozen", "thawed"):
        told = Notice.objects.filter(kind=kind).values_list("recipient__username", flat=True)
        assert sorted(told) == ["dave", "olivia", "oscar"], kind
    assert gone.pk not in Notice.objects.values_list("recipient", flat=True)
    actions = ["freeze.begun", "freeze.lift_asked", "freeze.lifted"]
    events = AuditEvent.objects.filter(action__startswith="freeze").order_by("pk")
    assert list(events.values_list("action", "subject")) == [(action, str(administrator)) for action in actions]
    assert events[0].detail["reason"] == WHY
    assert events[2].detail["asked_by"] == "Olivia"

    mail.send_due()
    said = [(message.to[0], message.subject, message.body) for message in outbox.outbox]
    (frozen,) = [one for one in said if one[0] == "dave@example.com" and "has frozen" in one[1]]
    assert f"Olivia has frozen Administrator in payments-prod: {WHY}" in frozen[2]
    (thawed,) = [one for one in said if one[0] == "olivia@example.com" and "has lifted" in one[1]]
    assert "Oscar has lifted the freeze of Administrator in payments-prod, as Olivia had asked" in thawed[2]
    assert "/stop/" in thawed[2]


# --- a restored database ------------------------------------------------------------------------------


@pytest.fixture
def restored(active_request: AccessRequest, dave: User, olivia: User, oscar: User) -> Freeze:
    begun = freezes.freeze_restored("an event is missing")
    assert begun is not None
    return begun


def test_a_restored_database_is_frozen_once_and_said_so(restored: Freeze, alice: User, read_only: Role) -> None:
    assert freezes.freeze_restored("again") is None
    assert Notice.objects.filter(kind="restored").count() == 3
    assert AuditEvent.objects.filter(action="freeze.begun", actor=None).count() == 1
    with refused("freeze"):
        factories.delivery(AccessRequest.objects.get())


def test_it_is_lifted_when_each_pass_was_confirmed_or_ended(
    restored: Freeze, active_request: AccessRequest, alice: User, bob: User, olivia: User, oscar: User, staged: Any
) -> None:
    with refused("freeze.unconfirmed", Conflict):
        freezes.lift(restored, by=olivia)
    assert lift_by_hand(restored, by=oscar) == GUARD
    freezes.confirm(active_request, freeze=restored, by=olivia)
    with refused("confirm.nothing", Conflict):
        freezes.confirm(active_request, freeze=restored, by=oscar)
    assert not freezes.unconfirmed(restored).exists()
    freezes.lift(restored, by=olivia)
    freezes.lift(restored, by=oscar)
    active_request.refresh_from_db()
    assert active_request.state == "active"
    assert AuditEvent.objects.get(action="request.confirmed").access_request == active_request


def test_what_was_approved_needs_confirming_too_whoever_writes(
    approved_request: AccessRequest, dave: User, olivia: User, oscar: User
) -> None:
    """Not begun yet, it would begin with the first wish for keys."""
    begun = freezes.freeze_restored("an event is missing")
    assert begun is not None
    with refused("freeze.unconfirmed", Conflict):
        freezes.lift(begun, by=olivia)
    # The database asks for itself, when the other one lifts it.
    asked = {"lift_asked_at": clock.now(), "lift_asked_by_id": olivia.pk}
    lifted = {"lifted_at": clock.now(), "lifted_by_id": oscar.pk}
    assert update("requests_app_freeze", begun.pk, **asked) is None
    Freeze.objects.filter(pk=begun.pk).update(**asked)
    unconfirmed = "a pass in the restored database is neither confirmed nor ended"
    assert reason(update("requests_app_freeze", begun.pk, **lifted)) == unconfirmed
    freezes.confirm(approved_request, freeze=begun, by=olivia)
    assert update("requests_app_freeze", begun.pk, **lifted) is None


def test_whoever_ends_one_need_not_confirm_it(restored: Freeze, active_request: AccessRequest, olivia: User) -> None:
    ended = emergency.end_found(restored, [active_request.pk], by=olivia, reason="nobody knows it")
    assert (ended.passes, ended.left) == (1, False)
    assert freezes.lift(restored, by=olivia).lift_asked_by == olivia


def test_aws_is_told_to_refuse_what_was_issued_in_the_time_that_was_lost(
    restored: Freeze, active_request: AccessRequest, olivia: User
) -> None:
    assert not active_request.deliveries.exists(), "of that time the database knows nothing"
    emergency.end_found(restored, [active_request.pk], by=olivia, reason="nobody knows it")
    revocation = Revocation.objects.get(access_request=active_request)
    longest = timedelta(seconds=active_request.terms.session_ceiling_seconds)
    assert revocation.keep_until == restored.begun_at + longest + live_sessions.MARGIN
    active_request.refresh_from_db()
    assert active_request.expires_at
    # So pages do not say that nothing works any more, until its pass would have been over.
    assert live_sessions.may_work_until([active_request], clock.now()) == {active_request.pk: active_request.expires_at}
    with clock.moved(active_request.expires_at - clock.now()):
        assert live_sessions.may_work_until([active_request], clock.now()) == {}


def test_the_preview_counts_as_in_use_what_may_have_been_issued_in_the_time_that_was_lost(
    active_request: AccessRequest, alice: User
) -> None:
    assert emergency.preview(alice).in_use == 0
    assert freezes.freeze_restored("somebody knows")
    assert emergency.preview(alice).in_use == 1


def test_what_is_asked_for_after_a_restoration_has_no_session_from_before(
    restored: Freeze, active_request: AccessRequest, alice: User, olivia: User, oscar: User, read_only: Role,
    automatic: Entitlement,
) -> None:  # fmt: skip
    freezes.confirm(active_request, freeze=restored, by=olivia)
    freezes.lift(restored, by=olivia)
    freezes.lift(restored, by=oscar)
    workflow.give_back(factories.wish(alice, read_only, automatic, start="at_once"), by=alice)
    assert not Revocation.objects.exists()


def test_ending_what_was_found_touches_nothing_confirmed_and_nothing_else(
    restored: Freeze, active_request: AccessRequest, olivia: User, mallory: User
) -> None:
    freezes.confirm(active_request, freeze=restored, by=olivia)
    assert emergency.end_found(restored, [active_request.pk], by=olivia, reason="x").passes == 0
    with refused("operator.only", NotAllowed):
        emergency.end_found(restored, [active_request.pk], by=mallory, reason="x")


def test_nobody_confirms_their_own_pass(olivia: User, oscar: User, read_only: Role, engineers: Group) -> None:
    terms = factories.entitlement(read_only, users=[olivia])
    own = factories.wish(olivia, read_only, terms, start="at_once")
    begun = freezes.freeze_restored("somebody knows")
    assert begun
    with refused("confirm.own", NotAllowed):
        freezes.confirm(own, freeze=begun, by=olivia)
    freezes.confirm(own, freeze=begun, by=oscar)
    confirmation = Confirmation.objects.get()
    assert update("requests_app_confirmation", confirmation.pk, confirmed_by_id=olivia.pk) == "42501"


def test_raw_sql_confirms_in_no_other_way(
    restored: Freeze, active_request: AccessRequest, olivia: User, mallory: User, alice: User
) -> None:
    def confirmed(freeze: Freeze, by: User) -> str | None:
        return attempt(
            "INSERT INTO requests_app_confirmation (freeze_id, access_request_id, confirmed_by_id, confirmed_at) "
            f"VALUES ({freeze.pk}, {active_request.pk}, {by.pk}, clock_timestamp())"
        )

    plain = freeze(Everything(), olivia)
    assert confirmed(restored, olivia) is WENT_THROUGH
    assert confirmed(restored, mallory) == GUARD
    assert confirmed(plain, olivia) == GUARD
    factories.operates(alice)
    assert confirmed(restored, alice) == GUARD, "her own"


def test_a_restored_freeze_stands_beside_an_operators(restored: Freeze, olivia: User, oscar: User) -> None:
    plain = freeze(Everything(), olivia)
    assert freezes.lift(plain, by=olivia).lift_asked_by == olivia
    assert freezes.lift(plain, by=oscar).lifted_at is not None
    assert list(Freeze.objects.in_force()) == [restored]
