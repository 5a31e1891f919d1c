"""Raw SQL as the application's own role tries every way round the rules. Each refusal has its control beside it."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction
from psycopg import sql

from requests_app.domain import clock, workflow
from requests_app.domain.database import APPEND_ONLY, NEVER_DELETED
from requests_app.domain.models import (
    AccessRequest,
    Delivery,
    DenyPolicy,
    Entitlement,
    Group,
    Membership,
    Role,
    User,
)
from requests_app.domain.transitions import DELIVERY, REQUEST, TRANSITIONS, DeliveryState, State
from requests_app.domain.workflow import deliveries
from tests import factories
from tests.domain.test_requests import bring_to
from tests.servers import database_name, database_url

GUARD, PRIVILEGE, UNIQUE, WENT_THROUGH = "23514", "42501", "23505", None
REQUESTS, DECISIONS = "requests_app_accessrequest", "requests_app_decision"
DELIVERIES, SESSIONS = "requests_app_delivery", "requests_app_issuedsession"
EXTENSIONS, REVOCATIONS = "requests_app_extension", "requests_app_revocation"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)

pytestmark = pytest.mark.django_db


def attempt(*statements: str, params: Any = None) -> str | None:
    """The SQLSTATE that refused the last of these statements; None if it went through. Undone either way."""
    with transaction.atomic():
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                for before in statements[:-1]:
                    cursor.execute(before)
                with _told_apart():
                    cursor.execute(statements[-1], params)
            return WENT_THROUGH
        except _Refused as refusal:
            return Sqlstate(refusal)
        finally:
            transaction.set_rollback(True)


class Sqlstate(str):
    """Of a refusal, and what it said: several guards may refuse one statement."""

    reason: str

    def __new__(cls, refusal: "_Refused") -> "Sqlstate":
        made = super().__new__(cls, refusal.sqlstate)
        made.reason = refusal.reason
        return made


def reason(outcome: str | None) -> str:
    """What the guard said, or nothing."""
    return outcome.reason if isinstance(outcome, Sqlstate) else ""


class _Refused(Exception):
    """By the last statement: what leads up to it must work."""

    def __init__(self, cause: Any) -> None:
        super().__init__(cause.sqlstate)
        self.sqlstate, self.reason = cause.sqlstate, cause.diag.message_primary


@contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except DatabaseError as refusal:
        raise _Refused(refusal.__cause__) from refusal


def insert_like(table: str, pk: int, **values: Any) -> str | None:
    """Insert a copy of that row, but for these values and the keys that each has of its own.

    What happened a moment ago happens now, so that a slow machine is not refused for being slow.
    """
    values = {**_now_again(table, pk), "id": 10**12, "public_id": uuid4(), **values}
    document = json.dumps(values, default=str)
    return attempt(
        f"INSERT INTO {table} SELECT (jsonb_populate_record(r, %s::jsonb)).* FROM {table} r WHERE r.id = %s",
        params=[document, pk],
    )


def _now_again(table: str, pk: int) -> dict[str, Any]:
    dated = {REQUESTS: "asked_at", DELIVERIES: "asked_at", EXTENSIONS: "asked_at", SESSIONS: "issued_at"}.get(table)
    if dated is None:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT to_jsonb(r), {dated} > clock_timestamp() - interval '5 min' FROM {table} r WHERE id = %s", [pk]
        )
        text, is_young = cursor.fetchone()
    row, now = json.loads(text), clock.now()
    return {name: now for name in (dated, "stage_since") if is_young and name in row and row[name] == row[dated]}


def update(table: str, pk: int, **values: Any) -> str | None:
    columns = ", ".join(f'"{name}" = %s' for name in values)
    return attempt(f"UPDATE {table} SET {columns} WHERE id = %s", params=[*map(_plain, values.values()), pk])


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


@pytest.fixture(autouse=True)
def as_the_application(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls OR rolreplication, "
            "pg_has_role(current_user, 'daypass_owner', 'MEMBER') FROM pg_roles WHERE rolname = current_user"
        )
        assert cursor.fetchone() == ("daypass_app", False, False)


@pytest.fixture
def temporary_tables(superuser_connection: psycopg.Connection) -> Iterator[None]:
    """As on a PostgreSQL where nobody took this right away: by default it is everybody's."""
    database = sql.Identifier(superuser_connection.info.dbname)
    superuser_connection.execute(sql.SQL("GRANT TEMPORARY ON DATABASE {} TO daypass_app").format(database))
    yield
    superuser_connection.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM daypass_app").format(database))


# --- a request begins as pending, under its entitlement's own terms ---------------------------------


def _new(access_request: AccessRequest, **values: Any) -> str | None:
    return insert_like(REQUESTS, access_request.pk, **{"code": "DP-00000000", **values})


def test_an_honest_request_can_be_inserted(pending_request: AccessRequest) -> None:
    assert _new(pending_request) is WENT_THROUGH


@pytest.mark.parametrize("state", [state for state in State if state != State.PENDING])
def test_no_request_begins_in_any_other_state(state: State, pending_request: AccessRequest) -> None:
    assert _new(pending_request, **_dressed_for(state, pending_request)) == GUARD


def _dressed_for(state: str, of: AccessRequest) -> dict[str, Any]:
    """Every time and length that this state demands, so that only the rule in question can refuse."""
    now = max(clock.now(), of.ended_at or of.asked_at)
    values: dict[str, Any] = {"state": str(state)}
    approved_at, activated_at = of.approved_at or clock.now(), of.activated_at or clock.now()
    if state not in ("pending", "denied", "withdrawn", "lapsed"):
        values |= {
            "approved_at": approved_at,
            "approved_seconds": of.approved_seconds or of.duration_seconds,
            "start_by": of.start_by or approved_at + HOUR,
        }
    if state in ("active", "expired", "returned"):
        values |= {"activated_at": activated_at, "expires_at": of.expires_at or activated_at + MINUTE}
    if state not in ("pending", "approved", "active"):
        values["ended_at"] = values["expires_at"] if state == "expired" else now
    return values


Forge = Callable[[dict[str, Any]], Any]
FORGERIES: dict[str, Forge] = {
    "automatic": lambda terms: terms.update(approval="automatic"),
    "automatic without stages": lambda terms: terms.update(approval="automatic", stages=[]),
    "longer": lambda terms: terms.update(longest_seconds=terms["longest_seconds"] + 1),
    "another revision": lambda terms: terms.update(revision=terms["revision"] + 1),
    "another entitlement": lambda terms: terms.update(entitlement=terms["entitlement"] + 1),
    "no entitlement": lambda terms: terms.pop("entitlement"),
    "quorum of none": lambda terms: terms["stages"][0].update(quorum=0),
    "my own approver": lambda terms: terms["stages"][0].update(users=[1]),
    "nobody's group": lambda terms: terms["stages"][0].update(groups=[]),
    "without stages": lambda terms: terms.update(stages=[]),
    "one stage more": lambda terms: terms["stages"].append({**terms["stages"][0], "position": 2}),
    "longer sessions": lambda terms: terms.update(session_ceiling_seconds=43200),
    "not narrowed": lambda terms: terms.update(narrowing_statements=[]),
    "narrowed by others": lambda terms: terms.update(narrowing_policy_arns=["arn:aws:iam::aws:policy/X"]),
    "denies lifted": lambda terms: terms.update(lifted=["sts:Assume*"]),
    "pending for ever": lambda terms: terms.update(pending_seconds=10**9),
    "startable for ever": lambda terms: terms.update(start_within_seconds=10**9),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_terms(forgery: str, pending_request: AccessRequest, staged: Entitlement) -> None:
    Entitlement.objects.update(narrowing_statements=[{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}])
    staged.refresh_from_db()
    terms = {**pending_request.terms_document, "narrowing_statements": staged.narrowing_statements}
    assert _new(pending_request, terms_document=terms) is WENT_THROUGH
    FORGERIES[forgery](terms)
    assert _new(pending_request, terms_document=terms) == GUARD


def test_automatic_terms_smuggle_no_stages(alice: User, read_only: Role, automatic: Entitlement, mallory: User) -> None:
    # Who stands in a stage may revoke.
    honest = factories.wish(alice, read_only, automatic)
    as_asked = {"state": "pending", "approved_at": None, "approved_seconds": None, "start_by": None}
    assert _new(honest, **as_asked) is WENT_THROUGH
    stage = {"position": 1, "quorum": 1, "groups": [], "users": [mallory.pk], "asks": "Mallory"}
    assert _new(honest, **as_asked, terms_document={**honest.terms_document, "stages": [stage]}) == GUARD
    assert _new(honest, **as_asked, stage=1) == GUARD


def test_insertions_that_the_terms_do_not_cover(
    pending_request: AccessRequest, read_only: Role, mallory: User, staged: Entitlement
) -> None:
    asked_at = pending_request.asked_at
    assert _new(pending_request, duration_seconds=3600) is WENT_THROUGH
    for values in (
        {"duration_seconds": 3601},
        {"role_id": read_only.pk},
        {"beneficiary_id": mallory.pk},
        {"stage": 2},
        {"stage": 0},
        {"asked_at": asked_at, "decide_by": asked_at + timedelta(days=1, seconds=1)},
        {"asked_at": asked_at + HOUR, "decide_by": asked_at + 2 * HOUR},
        {"ended_by_id": mallory.pk},
        {"approved_at": asked_at},
    ):
        assert _new(pending_request, **values) == GUARD, values
    assert _new(pending_request, code=pending_request.code) == UNIQUE
    for code in ("DP-0000000", "dp-00000000", "DP-0000000O", "DP-00000000\n"):
        assert _new(pending_request, code=code) in (GUARD, "22001"), code
    Entitlement.objects.update(is_active=False)
    assert _new(pending_request) == GUARD


# --- what may follow what --------------------------------------------------------------------------


def test_python_and_the_triggers_have_one_table(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT machine, before, after FROM requests_app_transition")
        assert set(cursor.fetchall()) == TRANSITIONS


@pytest.mark.parametrize("before", State)
def test_every_transition_of_a_request(
    history: None, before: State, alice: User, bob: User, administrator: Role, staged: Entitlement
) -> None:
    with clock.moved(-timedelta(minutes=5)):
        one = factories.wish(alice, administrator, staged)
        bring_to(before, one, {"alice": alice, "bob": bob})
    for after in State:
        if after == before:
            continue
        with transaction.atomic():
            if before == State.PENDING and after in (State.APPROVED, State.DENIED):
                _decide_raw(one, bob, "approve" if after == State.APPROVED else "deny")
            went = update(REQUESTS, one.pk, **_dressed_for(after, one))
            transaction.set_rollback(True)
        legal = (REQUEST, before, after) in TRANSITIONS
        assert went == (WENT_THROUGH if legal else GUARD), (before, after)


def _decide_raw(one: AccessRequest, by: User, verdict: str, **values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(*_decision(one, by, verdict, **values))


def _decision(one: AccessRequest, by: User, verdict: str = "approve", **values: Any) -> tuple[str, list[Any]]:
    row = {
        "access_request_id": one.pk,
        "stage": one.stage,
        "approver_id": by.pk,
        "approver_name": "whoever",
        "verdict": verdict,
        "comment": "",
        "decided_at": clock.now(),
        **values,
    }
    return (
        f"INSERT INTO {DECISIONS} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})",
        list(row.values()),
    )


def _attempt_decision(one: AccessRequest, by: User, verdict: str = "approve", **values: Any) -> str | None:
    statement, params = _decision(one, by, verdict, **values)
    return attempt(statement, params=params)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("requester_id", "mallory"),
        ("beneficiary_id", "mallory"),
        ("role_id", "read_only"),
        ("entitlement_id", "automatic"),
        ("code", "DP-00000000"),
        ("terms_document", {}),
        ("justification", "something else entirely"),
        ("ticket", "OPS-2"),
        ("duration_seconds", 3600),
        ("start", "at_once"),
        ("asked_at", timedelta(hours=-1)),
        ("decide_by", timedelta(days=30)),
        ("id", 10**12),
    ],
)
@pytest.mark.parametrize("state", ["pending", "active"])
def test_what_was_asked_never_changes(
    state: str,
    column: str,
    value: Any,
    pending_request: AccessRequest,
    alice: User,
    bob: User,
    request: pytest.FixtureRequest,
) -> None:
    if state == "active":
        bring_to("active", pending_request, {"alice": alice, "bob": bob})
    if value in ("mallory", "read_only", "automatic"):
        value = request.getfixturevalue(value).pk
    if isinstance(value, timedelta):
        value = pending_request.asked_at + value
    assert update(REQUESTS, pending_request.pk, **{column: value}) == GUARD
    assert update(REQUESTS, pending_request.pk, reminded_at=clock.now()) is WENT_THROUGH


# --- approval needs its decisions, and decisions need the right people ------------------------------


def test_no_approval_without_every_decision_of_every_stage(
    history: None,
    alice: User,
    bob: User,
    carol: User,
    administrator: Role,
    engineers: Group,
    leads: Group,
    security: Group,
) -> None:
    frank = factories.person("frank", security)
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 2), (security, 1)])
    with clock.moved(-MINUTE):
        one = factories.wish(alice, administrator, terms)

    def approve_raw() -> str | None:
        return update(REQUESTS, one.pk, **_dressed_for("approved", one))

    assert approve_raw() == GUARD
    _decide_raw(one, bob, "approve")
    assert approve_raw() == GUARD
    assert update(REQUESTS, one.pk, stage=2) == GUARD  # the first stage has not agreed
    assert _attempt_decision(one, frank, stage=2) == GUARD  # nor is the second one asked yet
    _decide_raw(one, carol, "approve")
    assert approve_raw() == GUARD
    assert update(REQUESTS, one.pk, stage=3) == GUARD
    agreed_at = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {REQUESTS} SET stage = 2, stage_since = %s WHERE id = %s", [agreed_at, one.pk])
    one.refresh_from_db()
    assert update(REQUESTS, one.pk, stage=1) == GUARD
    assert approve_raw() == GUARD
    _decide_raw(one, frank, "approve")
    assert approve_raw() is WENT_THROUGH


def test_one_denial_bars_the_approval(pending_request: AccessRequest, bob: User, carol: User) -> None:
    assert update(REQUESTS, pending_request.pk, **_dressed_for("denied", pending_request)) == GUARD
    _decide_raw(pending_request, bob, "approve")
    assert update(REQUESTS, pending_request.pk, **_dressed_for("approved", pending_request)) is WENT_THROUGH
    _decide_raw(pending_request, carol, "deny")
    assert update(REQUESTS, pending_request.pk, **_dressed_for("approved", pending_request)) == GUARD


def test_approved_for_longer_later_or_for_ever(pending_request: AccessRequest, bob: User) -> None:
    _decide_raw(pending_request, bob, "approve")
    good = _dressed_for("approved", pending_request)
    within = timedelta(seconds=pending_request.terms.start_within_seconds)
    assert update(REQUESTS, pending_request.pk, **good | {"start_by": good["approved_at"] + within}) is WENT_THROUGH
    for wrong in (
        {"approved_seconds": pending_request.duration_seconds + 1},
        {"start_by": good["approved_at"] + within + timedelta(seconds=1)},
        {"approved_at": clock.now() + HOUR},
        {"approved_at": pending_request.asked_at - HOUR},
        {"approved_at": pending_request.decide_by + MINUTE},
        {"approved_seconds": None},
        {"approved_at": None},
        {"activated_at": good["approved_at"], "expires_at": good["approved_at"] + MINUTE},
    ):
        assert update(REQUESTS, pending_request.pk, **good | wrong) == GUARD, wrong


def test_who_decides(
    pending_request: AccessRequest, alice: User, bob: User, carol: User, mallory: User, olivia: User, leads: Group
) -> None:
    assert _attempt_decision(pending_request, bob) is WENT_THROUGH
    # Whom the request is for does not decide, even as one of those who are asked.
    Membership.objects.create(group=leads, user=alice)
    for person in (alice, mallory, olivia):
        assert _attempt_decision(pending_request, person) == GUARD, person
    assert _attempt_decision(pending_request, bob, stage=0) == GUARD
    assert _attempt_decision(pending_request, bob, verdict="maybe") == GUARD
    assert _attempt_decision(pending_request, bob, decided_at=pending_request.decide_by + MINUTE) == GUARD
    assert _attempt_decision(pending_request, bob, access_request_id=10**12) == GUARD
    workflow.people.deactivate(carol, by=None)
    assert _attempt_decision(pending_request, carol) == GUARD
    _decide_raw(pending_request, bob, "approve")
    assert _attempt_decision(pending_request, bob) == UNIQUE
    Membership.objects.filter(user=bob, group=leads).delete()
    assert _attempt_decision(pending_request, bob, verdict="deny") == GUARD


def test_a_request_for_somebody_else_is_decided_by_neither(
    pending_request: AccessRequest, alice: User, bob: User, carol: User, leads: Group
) -> None:
    """Bob asked for Alice: he leads payments, and may not decide all the same."""
    pending_request.entitlement.askers.add(leads)
    document = json.dumps({"id": 10**12, "code": "DP-00000000", "requester_id": bob.pk})
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {REQUESTS} SELECT (jsonb_populate_record(r, %s::jsonb)).* FROM {REQUESTS} r WHERE id = %s",
            [document, pending_request.pk],
        )
    for_alice = AccessRequest.objects.get(code="DP-00000000")
    assert _attempt_decision(for_alice, carol) == GUARD, "Alice has not accepted it"
    now = clock.now()
    AccessRequest.objects.filter(pk=for_alice.pk).update(accepted_at=now, stage_since=now)
    assert _attempt_decision(for_alice, bob) == GUARD
    assert _attempt_decision(for_alice, carol) is WENT_THROUGH


@pytest.mark.parametrize("state", [state for state in State if state != State.PENDING])
def test_only_pending_requests_are_decided(
    state: State, pending_request: AccessRequest, alice: User, bob: User, carol: User
) -> None:
    bring_to(state, pending_request, {"alice": alice, "bob": bob})
    assert _attempt_decision(pending_request, carol) == GUARD


# --- the end is fixed -----------------------------------------------------------------------------


def test_the_beginning_and_the_end_fit_the_approval(approved_request: AccessRequest) -> None:
    good = _dressed_for("active", approved_request)
    begun_at, start_by = good["activated_at"], good["start_by"]
    longest = timedelta(seconds=approved_request.approved_seconds or 0)
    assert update(REQUESTS, approved_request.pk, **good | {"expires_at": begun_at + longest}) is WENT_THROUGH
    for begins, ends in (
        (begun_at, begun_at + longest + timedelta(seconds=1)),
        (begun_at, begun_at),
        (begun_at, None),
        (begun_at - MINUTE, begun_at),
        (start_by + MINUTE, start_by + 2 * MINUTE),
        (clock.now() + HOUR, clock.now() + HOUR + MINUTE),  # begun in the future is open until then
    ):
        wrong = good | {"activated_at": begins, "expires_at": ends}
        assert update(REQUESTS, approved_request.pk, **wrong) == GUARD, (begins, ends)


def test_an_active_pass_is_not_moved_lengthened_or_begun_again(active_request: AccessRequest) -> None:
    end = active_request.expires_at
    assert end is not None
    for values in (
        {"expires_at": end + timedelta(seconds=1)},
        {"expires_at": end - timedelta(seconds=1)},
        {"expires_at": None},
        {"activated_at": clock.now(), "expires_at": clock.now() + 30 * MINUTE},
        {"approved_seconds": 3600},
        {"start_by": end},
        {"state": "approved", "activated_at": None, "expires_at": None},
    ):
        assert update(REQUESTS, active_request.pk, **values) == GUARD, values


@pytest.mark.parametrize("state", ["denied", "withdrawn", "lapsed", "expired", "returned", "revoked"])
def test_an_ended_request_never_changes(state: str, pending_request: AccessRequest, alice: User, bob: User) -> None:
    bring_to(state, pending_request, {"alice": alice, "bob": bob})
    assert pending_request.ended_at is not None
    for values in (
        {"ended_at": pending_request.ended_at - timedelta(seconds=1)},
        {"ended_by_id": None if pending_request.ended_by_id else bob.pk},
        {"end_reason": "because"},
        {"ended_at": None},
        {"reminded_at": clock.now()},
        {"stage": 2},
    ):
        assert update(REQUESTS, pending_request.pk, **values) == GUARD, values


# --- deliveries and sessions ----------------------------------------------------------------------


@pytest.fixture
def asked(active_request: AccessRequest, aws_clock: object) -> Delivery:
    return factories.delivery(active_request)


def _delivery_like(of: Delivery, **values: Any) -> str | None:
    return insert_like(DELIVERIES, of.pk, public_id="00000000-0000-4000-8000-000000000000", **values)


def test_deliveries_begin_as_asked_for_the_beneficiary_of_an_active_pass(
    asked: Delivery, mallory: User, read_only: Role, alice: User, staged: Entitlement, administrator: Role
) -> None:
    pending = factories.wish(alice, administrator, staged)
    now = clock.now()
    assert _delivery_like(asked) is WENT_THROUGH
    for state in DeliveryState:
        if state != DeliveryState.ASKED:
            assert _delivery_like(asked, state=str(state), claimed_at=now) == GUARD, state
    for values in (
        {"claimed_at": now},
        {"sealed_at": now},
        {"envelope_sha256": "a" * 64},
        {"beneficiary_id": mallory.pk},
        {"role_id": read_only.pk},
        {"access_request_id": pending.pk},
        {"asked_at": now + HOUR},
        {"asked_at": now - HOUR},
        {"kind": "root"},
    ):
        assert _delivery_like(asked, **values) == GUARD, values
    assert insert_like(DELIVERIES, asked.pk, public_id=asked.public_id) == UNIQUE  # the same public id: a replay
    workflow.give_back(asked.access_request, by=alice)
    assert _delivery_like(asked) == GUARD


def _bring_delivery_to(state: DeliveryState, delivery: Delivery) -> None:
    order = None
    if state == DeliveryState.STALE:
        with clock.moved(MINUTE):
            deliveries.sweep()
    elif state != DeliveryState.ASKED:
        order = deliveries.claim(delivery.pk, worker="w")
        assert order is not None
    if order and state in (DeliveryState.SEALED, DeliveryState.DELIVERED):
        assert deliveries.record(order, factories.minted(order), worker="w")
        assert deliveries.seal_down(order, "a.b.c.d.e")
    elif order and state != DeliveryState.CLAIMED:
        deliveries.fail(order, deliveries.Failure(state, "As arranged."))
    if state == DeliveryState.DELIVERED:
        deliveries.hand_over(delivery, by=delivery.beneficiary, sign_in="a sign-in", take=lambda _: "a.b.c.d.e")
    delivery.refresh_from_db()
    assert delivery.state == state


@pytest.mark.parametrize("before", DeliveryState)
def test_every_transition_of_a_delivery(before: DeliveryState, asked: Delivery) -> None:
    _bring_delivery_to(before, asked)
    for after in DeliveryState:
        if after == before:
            continue
        values: dict[str, Any] = {"state": str(after)}
        if after in (DeliveryState.SEALED, DeliveryState.DELIVERED) and not asked.envelope_sha256:
            values |= {"sealed_at": clock.now(), "envelope_sha256": "a" * 64}
        went = update(DELIVERIES, asked.pk, **values)
        legal = (DELIVERY, before, after) in TRANSITIONS
        if (before, after) == (DeliveryState.CLAIMED, DeliveryState.SEALED):
            assert went == GUARD  # nothing is sealed before its session is recorded
            order = _order_of(asked)
            deliveries.record(order, factories.minted(order), worker="w")
            went = update(DELIVERIES, asked.pk, **values)
        assert went == (WENT_THROUGH if legal else GUARD), (before, after)


def _order_of(delivery: Delivery) -> deliveries.Order:
    known = deliveries._lock_delivery(delivery.pk)
    assert known is not None
    return deliveries._order(known)


@pytest.mark.parametrize("state", [DeliveryState.ASKED, DeliveryState.CLAIMED, DeliveryState.SEALED])
def test_a_delivery_is_not_redirected(
    state: DeliveryState, asked: Delivery, mallory: User, read_only: Role, alice: User, automatic: Entitlement
) -> None:
    _bring_delivery_to(state, asked)
    other_pass = factories.wish(alice, read_only, automatic)
    for values in (
        {"recipient_key": factories.recipient_key()},
        {"thumbprint": "someone-elses"},
        {"sign_in": "another"},
        {"beneficiary_id": mallory.pk},
        {"access_request_id": other_pass.pk},
        {"role_id": read_only.pk},
        {"kind": "console"},
        {"destination": "https://example.com/"},
        {"asked_at": clock.now()},
        {"public_id": "00000000-0000-4000-8000-000000000000"},
        {"envelope_sha256": "b" * 64},
        {"claimed_by": "someone else"},
    ):
        assert update(DELIVERIES, asked.pk, **values) == GUARD, values


def test_an_envelope_is_not_replaced_on_its_last_way(active_request: AccessRequest, aws_clock: object) -> None:
    delivery, _ = factories.sealed(active_request)
    assert update(DELIVERIES, delivery.pk, state="delivered", envelope_sha256="b" * 64) == GUARD
    assert update(DELIVERIES, delivery.pk, state="delivered") is WENT_THROUGH


def _session(of: Delivery, **values: Any) -> str | None:
    row = {
        "delivery_id": of.pk,
        "access_request_id": of.access_request_id,
        "beneficiary_id": of.beneficiary_id,
        "role_arn": "arn:aws:iam::222222222222:role/elevated/Administrator",
        "session_name": "DP-00000000-alice",
        "source_identity": "",
        "access_key_id": "ASIAFORGED",
        "assumed_role_id": "AROA:x",
        "minted_by": "forger",
        "thumbprint": of.thumbprint,
        "issued_at": clock.now(),
        "cut_off": of.access_request.expires_at,
        "sts_expires_at": clock.now() + HOUR,
        "discarded": False,
        **values,
    }
    columns, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    return attempt(f"INSERT INTO {SESSIONS} ({columns}) VALUES ({marks})", params=list(row.values()))


def test_sessions_belong_to_a_claimed_delivery(asked: Delivery, mallory: User, alice: User) -> None:
    assert _session(asked) == GUARD
    order = deliveries.claim(asked.pk, worker="w")
    assert order is not None
    assert _session(asked) is WENT_THROUGH
    assert _session(asked, discarded=True) is WENT_THROUGH
    for values in (
        {"beneficiary_id": mallory.pk},
        {"thumbprint": "someone-elses"},
        {"access_request_id": 10**12},
        {"cut_off": order.expires_at + timedelta(seconds=31)},
        {"issued_at": order.expires_at},
    ):
        assert _session(asked, **values) == GUARD, values
    workflow.give_back(asked.access_request, by=alice)
    assert _session(asked) == GUARD
    assert _session(asked, discarded=True) is WENT_THROUGH
    deliveries.record(order, factories.minted(order), worker="w")
    assert _session(asked, discarded=True) == GUARD  # a discarded delivery has had its session


# --- for ever ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", APPEND_ONLY + NEVER_DELETED)
def test_what_is_for_ever_is_not_the_applications_to_change(table: str) -> None:
    assert attempt(f"SELECT FROM {table} LIMIT 1") is WENT_THROUGH
    assert attempt(f"DELETE FROM {table}") == PRIVILEGE
    assert attempt(f"TRUNCATE {table} CASCADE") == PRIVILEGE
    changed = PRIVILEGE if table in APPEND_ONLY else WENT_THROUGH
    assert attempt(f"UPDATE {table} SET id = id WHERE false") == changed
    if table in APPEND_ONLY:
        assert attempt(f"INSERT INTO {table} SELECT * FROM {table}") is WENT_THROUGH
        over = f"INSERT INTO {table} SELECT * FROM {table} ON CONFLICT (id) DO UPDATE SET id = 0"
        assert attempt(over) == PRIVILEGE


def test_a_persons_keys_never_change(alice: User) -> None:
    assert update("requests_app_user", alice.pk, name="Alice Renamed") is WENT_THROUGH
    assert update("requests_app_user", alice.pk, source_identity="person-0123456789") == GUARD
    assert update("requests_app_user", alice.pk, public_id="00000000-0000-4000-8000-000000000000") == GUARD


def test_an_event_is_stamped_by_the_database_whatever_is_inserted(pending_request: AccessRequest) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO requests_app_auditevent (at, recorded_at, transaction_id, action, actor_name, "
            "beneficiary_name, subject, channel, user_agent, detail) "
            "VALUES ('2001-01-01Z', '2001-01-01Z', '7', 'forged', '', '', '', '', '', '{}') "
            "RETURNING recorded_at, transaction_id = pg_current_xact_id()"
        )
        recorded_at, transaction_is_ours = cursor.fetchone()
    assert abs(recorded_at - clock.now()) < MINUTE
    assert transaction_is_ours


@pytest.mark.django_db(transaction=True)
def test_not_even_the_owner_rewrites_history(
    active_request: AccessRequest,
    aws_clock: object,
    owner_connection: psycopg.Connection,
    superuser_connection: psycopg.Connection,
    olivia: User,
) -> None:
    factories.sealed(active_request)
    factories.own_session(active_request.role)
    restored = workflow.freezes.freeze_restored("for a test")
    assert restored is not None
    workflow.freezes.confirm(active_request, freeze=restored, by=olivia)
    for table in APPEND_ONLY:
        (rows,) = owner_connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[misc]
        assert rows
        for statement in (f"UPDATE {table} SET id = id", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with pytest.raises(psycopg.errors.CheckViolation):
                owner_connection.execute(statement)
    with pytest.raises(psycopg.errors.CheckViolation):
        owner_connection.execute("UPDATE requests_app_accessrequest SET expires_at = expires_at + interval '1 s'")
    # The control: without the triggers the same statements do work.
    with superuser_connection.transaction(force_rollback=True):
        superuser_connection.execute("SET LOCAL session_replication_role = replica")
        for table in APPEND_ONLY:
            superuser_connection.execute(f"UPDATE {table} SET id = id")


# --- what was approved for one role is no pass for another ------------------------------------------


@pytest.mark.parametrize(
    ("table", "column", "value", "free"),
    [
        ("requests_app_role", "name", "OrganizationAccountAccessRole", {"description": "another"}),
        ("requests_app_role", "path", "/", {"is_active": False}),
        ("requests_app_role", "account_id", None, {"power": "read"}),
        ("requests_app_account", "number", "999999999999", {"name": "renamed"}),
        ("requests_app_account", "partition", "aws-cn", {"external_id": "another"}),
    ],
)
def test_the_role_under_a_pass_stays_that_role(
    table: str, column: str, value: Any, free: dict[str, Any], active_request: AccessRequest
) -> None:
    role = active_request.role
    pk = role.pk if table == "requests_app_role" else role.account.pk
    value = factories.account("another").pk if column == "account_id" else value
    assert update(table, pk, **{column: value}) == GUARD
    assert update(table, pk, **free) is WENT_THROUGH


# --- what a guard looks at is what is so now --------------------------------------------------------


def test_no_stage_beyond_the_last(pending_request: AccessRequest, bob: User) -> None:
    _decide_raw(pending_request, bob, "approve")
    assert update(REQUESTS, pending_request.pk, stage=2) == GUARD


DELIVERY_LIKE = f"""
    INSERT INTO {DELIVERIES} SELECT (jsonb_populate_record(d, jsonb_build_object(
        'id', 10 ^ 12, 'public_id', gen_random_uuid(), 'state', 'asked', 'claimed_at', null))).* FROM {DELIVERIES} d
"""
SESSION_LIKE = f"""
    INSERT INTO {SESSIONS} (delivery_id, access_request_id, beneficiary_id, role_arn, session_name, source_identity,
        access_key_id, assumed_role_id, minted_by, thumbprint, issued_at, cut_off, sts_expires_at, discarded)
    SELECT d.id, r.id, r.beneficiary_id, '', '', '', 'ASIAFORGED', '', '', d.thumbprint, clock_timestamp(),
        r.expires_at, r.expires_at, false
    FROM {DELIVERIES} d JOIN {REQUESTS} r ON r.id = d.access_request_id
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("forged", [DELIVERY_LIKE, SESSION_LIKE], ids=["delivery", "session"])
def test_no_look_from_before_the_end_counts(
    forged: str, active_request: AccessRequest, alice: User, aws_clock: Any
) -> None:
    deliveries.claim(factories.delivery(active_request).pk, worker="worker")
    with psycopg.connect(database_url("app", database_name())) as old:
        old.execute(forged)  # the control
        old.rollback()
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute(f"TABLE {REQUESTS}")
        workflow.give_back(active_request, by=alice)
        with pytest.raises(psycopg.errors.CheckViolation):
            old.execute(forged)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("forged", [DELIVERY_LIKE, SESSION_LIKE], ids=["delivery", "session"])
def test_a_pass_does_not_end_between_the_look_and_the_commit(
    forged: str, active_request: AccessRequest, alice: User, aws_clock: Any
) -> None:
    deliveries.claim(factories.delivery(active_request).pk, worker="worker")
    with psycopg.connect(database_url("app", database_name())) as writer:
        writer.execute(forged)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '300ms'")
            with pytest.raises(DatabaseError, match="lock timeout"):
                workflow.give_back(active_request, by=alice)
            cursor.execute("RESET lock_timeout")
    workflow.give_back(active_request, by=alice)


@pytest.mark.django_db(transaction=True)
def test_nobody_decides_by_a_membership_of_before(pending_request: AccessRequest, carol: User, leads: Group) -> None:
    statement, params = _decision(pending_request, carol)
    with psycopg.connect(database_url("app", database_name())) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("TABLE requests_app_membership")
        Membership.objects.filter(user=carol, group=leads).delete()
        with pytest.raises(psycopg.errors.CheckViolation):
            old.execute(statement, params)


# --- switching the guards off -----------------------------------------------------------------------

AROUND = [
    "SET session_replication_role = replica",
    "SELECT set_config('session_replication_role', 'replica', false)",
    "ALTER ROLE daypass_app SET session_replication_role = replica",
    "ALTER ROLE daypass_app SUPERUSER",
    "ALTER TABLE requests_app_accessrequest DISABLE TRIGGER ALL",
    "ALTER TABLE requests_app_accessrequest DISABLE TRIGGER guard_update",
    "ALTER TABLE requests_app_auditevent DISABLE TRIGGER for_ever",
    "DROP TRIGGER guard_update ON requests_app_accessrequest",
    "ALTER TABLE requests_app_accessrequest DROP CONSTRAINT request_has_an_end",
    "DROP TABLE requests_app_decision CASCADE",
    "DROP FUNCTION requests_app_refuse(text) CASCADE",
    "CREATE OR REPLACE FUNCTION requests_app_refuse(message text) RETURNS void LANGUAGE sql AS 'SELECT'",
    "CREATE OR REPLACE FUNCTION requests_app_may_follow(a_machine text, a_before text, an_after text) "
    "RETURNS boolean LANGUAGE sql AS 'SELECT true'",
    "CREATE FUNCTION public.requests_app_refuse(message varchar) RETURNS void LANGUAGE sql AS 'SELECT'",
    "ALTER FUNCTION requests_app_refuse(text) RESET ALL",
    "ALTER FUNCTION requests_app_refuse(text) OWNER TO daypass_app",
    "CREATE RULE nothing AS ON UPDATE TO requests_app_accessrequest DO INSTEAD NOTHING",
    "CREATE TRIGGER mine BEFORE UPDATE ON requests_app_accessrequest FOR EACH ROW "
    "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE OPERATOR public.<> (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = texteq)",
    "CREATE TABLE public.mine (id int)",
    "CREATE SCHEMA mine",
    "CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION pg_catalog.now()",
    "SET ROLE daypass_owner",
    "SET SESSION AUTHORIZATION daypass_owner",
    "GRANT ALL ON requests_app_auditevent TO daypass_app",
    "INSERT INTO requests_app_transition (machine, before, after) VALUES ('request', 'pending', 'active')",
    "UPDATE requests_app_transition SET after = 'active'",
    "DELETE FROM requests_app_transition",
    "TRUNCATE requests_app_transition",
    "DELETE FROM django_migrations",
    "COPY requests_app_auditevent FROM PROGRAM 'true'",
    "COPY requests_app_auditevent TO '/tmp/daypass'",
    "SELECT pg_read_file('/etc/passwd')",
    "LOCK TABLE requests_app_transition IN ACCESS EXCLUSIVE MODE",
]


@pytest.mark.parametrize("statement", AROUND)
def test_the_guards_are_not_the_applications_to_remove(statement: str) -> None:
    # GRANT by someone without grant options is refused by a warning or an error, by version: look at the effect.
    if statement.startswith("GRANT"):
        attempt(statement)
        assert attempt("DELETE FROM requests_app_auditevent") == PRIVILEGE
        return
    assert attempt(statement) in (PRIVILEGE, "42501"), statement


@pytest.mark.django_db(transaction=True)
def test_the_owner_may_do_all_that(owner_connection: psycopg.Connection) -> None:
    """The control: these statements are refused for who asks, not for how they are written."""
    for statement in (
        "ALTER TABLE requests_app_accessrequest DISABLE TRIGGER guard_update",
        "CREATE RULE nothing AS ON UPDATE TO requests_app_accessrequest DO INSTEAD NOTHING",
        "CREATE OR REPLACE FUNCTION requests_app_refuse(message text) RETURNS void LANGUAGE sql AS 'SELECT'",
        "DELETE FROM requests_app_transition",
        "CREATE TABLE public.mine (id int)",
        "CREATE SCHEMA mine",
    ):
        with owner_connection.transaction(force_rollback=True):
            owner_connection.execute(statement)


# Refused by the table of transitions and by nothing else.
OPEN_DOOR = "UPDATE public.requests_app_delivery SET state = 'unavailable'"
FORGED_TRANSITION = (
    "INSERT INTO pg_temp.requests_app_transition (machine, before, after) VALUES ('delivery', 'asked', 'unavailable')"
)
SHADOWS = {
    "pgtrigger's off-switch": ["SELECT set_config('pgtrigger.ignore', 'requests_app_delivery:guard_update', true)"],
    "a table of transitions of my own": [
        "CREATE TEMP TABLE requests_app_transition AS TABLE public.requests_app_transition",
        FORGED_TRANSITION,
    ],
    "the same, found first": [
        "CREATE TEMP TABLE requests_app_transition AS TABLE public.requests_app_transition",
        FORGED_TRANSITION,
        "SET LOCAL search_path = pg_temp, public",
    ],
    "functions of my own": [
        "CREATE FUNCTION pg_temp.requests_app_refuse(message text) RETURNS void LANGUAGE sql AS 'SELECT'",
        "CREATE FUNCTION pg_temp.requests_app_may_follow(a text, b text, c text) RETURNS boolean "
        "LANGUAGE sql AS 'SELECT true'",
        "SET LOCAL search_path = pg_temp, public",
    ],
    "an operator of my own": [
        "CREATE FUNCTION pg_temp.never(varchar, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
        "CREATE OPERATOR pg_temp.<> (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = pg_temp.never)",
        "CREATE OPERATOR pg_temp.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = pg_temp.never)",
        "SET LOCAL search_path = pg_temp, pg_catalog, public",
    ],
    "no schema at all": ["SET LOCAL search_path = ''"],
    "deferred constraints": ["SET CONSTRAINTS ALL DEFERRED"],
    "another time zone": ["SET LOCAL TimeZone = 'Pacific/Kiritimati'", "SET LOCAL DateStyle = 'German'"],
}


@pytest.mark.parametrize("trick", SHADOWS)
@pytest.mark.usefixtures("temporary_tables")
def test_shadows_do_not_fool_the_guards(trick: str, asked: Delivery) -> None:
    assert attempt(*SHADOWS[trick], OPEN_DOOR) == GUARD
    # The control: after the same trick an honest statement still goes through.
    honest = OPEN_DOOR.replace("unavailable", "stale")
    assert attempt(*SHADOWS[trick], honest) is WENT_THROUGH


@pytest.mark.parametrize(
    "shadowed", ["requests_app_decision", "requests_app_membership", "requests_app_entitlement", "requests_app_stage"]
)
@pytest.mark.usefixtures("temporary_tables")
def test_shadowed_rows_do_not_decide(
    shadowed: str, pending_request: AccessRequest, mallory: User, leads: Group
) -> None:
    """Each guard reads real rows: what stands in a temporary table of that name proves nothing."""
    make = f"CREATE TEMP TABLE {shadowed} (LIKE public.{shadowed} INCLUDING DEFAULTS)"
    if shadowed == "requests_app_decision":
        fill = (
            f"INSERT INTO pg_temp.{shadowed} (id, access_request_id, stage, approver_id, approver_name, verdict, "
            f"comment, decided_at) VALUES (1, {pending_request.pk}, 1, 1, '', 'approve', '', now())"
        )
        values = _dressed_for("approved", pending_request)
        grant = (
            f"UPDATE public.{REQUESTS} SET state = 'approved', approved_at = '{values['approved_at']}', "
            f"approved_seconds = 60, start_by = '{values['start_by']}' WHERE id = {pending_request.pk}"
        )
        assert attempt(make, fill, grant) == GUARD
    elif shadowed == "requests_app_membership":
        fill = (
            f"INSERT INTO pg_temp.{shadowed} (id, group_id, user_id, source) "
            f"VALUES (1, {leads.pk}, {mallory.pk}, 'hand')"
        )
        statement, params = _decision(pending_request, mallory)
        statement = statement.replace(DECISIONS, f"public.{DECISIONS}")
        assert attempt(make, fill, statement, params=params) == GUARD
    else:
        # An empty shadow of the entitlement or its stages must not make forged terms look right either.
        forged = {**pending_request.terms_document, "approval": "automatic", "stages": []}
        assert _with_shadow(make, pending_request, forged) == GUARD


# What is not pinned to a search_path is read under that of the guard which asks, whatever its session asked before.
FIRST_MINE = "SET LOCAL search_path = pg_temp, pg_catalog, public"
IN_MY_FAVOUR = {
    "functions of my own": [
        "CREATE FUNCTION pg_temp.requests_app_asked(stage jsonb, asking bigint[]) "
        "RETURNS TABLE (person_id bigint, further boolean) LANGUAGE sql AS 'SELECT {mallory}::bigint, false'",
        "CREATE FUNCTION pg_temp.jsonb_array_elements_text(jsonb) RETURNS SETOF text "
        "LANGUAGE sql AS 'SELECT $${mallory}$$'",
        "CREATE FUNCTION pg_temp.requests_app_deciding(a_person int) RETURNS SETOF text LANGUAGE sql AS 'SELECT $$x$$'",
    ],
    "operators of my own": [
        "CREATE FUNCTION pg_temp.always(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        "CREATE OPERATOR pg_temp.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = pg_temp.always)",
    ],
    "types of my own": ["CREATE DOMAIN pg_temp.text AS varchar(3)", "CREATE DOMAIN pg_temp.jsonb AS varchar"],
    "a membership of my own": [
        "CREATE TEMP TABLE requests_app_membership AS TABLE public.requests_app_membership",
        "UPDATE pg_temp.requests_app_membership SET user_id = {mallory}",
    ],
    "settings": [
        "SET LOCAL plan_cache_mode = force_generic_plan",
        "SET LOCAL standard_conforming_strings = off",
        "SET LOCAL transform_null_equals = on",
        "SET LOCAL array_nulls = off",
        "SET LOCAL enable_seqscan = off",
        "SET LOCAL from_collapse_limit = 1",
        "SET LOCAL join_collapse_limit = 1",
    ],
}


@pytest.mark.parametrize("trick", IN_MY_FAVOUR)
@pytest.mark.usefixtures("temporary_tables")
def test_who_decides_is_not_bent_by_what_a_session_made_or_set(
    trick: str, pending_request: AccessRequest, mallory: User, bob: User
) -> None:
    bent = [one.format(mallory=mallory.pk) for one in IN_MY_FAVOUR[trick]]
    asked_before = f"SELECT is_asked FROM public.requests_app_deciding({mallory.pk}::bigint) LIMIT 0"
    for person, expected in ((mallory, GUARD), (bob, WENT_THROUGH)):
        statement, params = _decision(pending_request, person)
        statement = statement.replace(DECISIONS, f"public.{DECISIONS}")
        assert attempt(*bent, FIRST_MINE, asked_before, statement, params=params) == expected


def _with_shadow(make: str, one: AccessRequest, terms: dict[str, Any]) -> str | None:
    document = json.dumps({"id": 10**12, "code": "DP-00000000", "terms_document": terms})
    return attempt(
        make,
        f"INSERT INTO public.{REQUESTS} SELECT (jsonb_populate_record(r, %s::jsonb)).* FROM public.{REQUESTS} r "
        "WHERE r.id = %s",
        params=[document, one.pk],
    )


@pytest.mark.usefixtures("temporary_tables")
def test_other_ways_to_write_meet_the_same_guards(
    pending_request: AccessRequest, active_request: AccessRequest
) -> None:
    row = f"FROM {REQUESTS} WHERE id = {active_request.pk}"
    for statement in (
        f"INSERT INTO {REQUESTS} SELECT * {row} ON CONFLICT (id) DO UPDATE SET expires_at = now() + interval '1 day'",
        f"INSERT INTO {REQUESTS} SELECT * {row} ON CONFLICT (code) DO UPDATE SET state = 'pending'",
        f"MERGE INTO {REQUESTS} t USING (SELECT 1) s ON t.id = {active_request.pk} "
        "WHEN MATCHED THEN UPDATE SET expires_at = t.expires_at + interval '1 day'",
        f"WITH moved AS (UPDATE {REQUESTS} SET expires_at = expires_at + interval '1 s' RETURNING 1) TABLE moved",
        f"SELECT 1 {row} FOR UPDATE; UPDATE {REQUESTS} SET expires_at = expires_at + interval '1 s'",
        f"DO $$ BEGIN UPDATE {REQUESTS} SET expires_at = expires_at + interval '1 s'; END $$",
    ):
        assert attempt(statement) == GUARD, statement
    view = f"CREATE TEMP VIEW mine AS SELECT * FROM public.{REQUESTS}"
    assert attempt(view, "UPDATE mine SET expires_at = expires_at + interval '1 s'") == GUARD
    assert attempt(view, "UPDATE mine SET reminded_at = now() WHERE ended_at IS NULL") is WENT_THROUGH


def test_copy_meets_the_same_guards(active_request: AccessRequest) -> None:
    assert _copy(active_request, "pending") is WENT_THROUGH
    assert _copy(active_request, "active") == GUARD


def _copy(one: AccessRequest, state: str) -> str | None:
    columns = "requester_id, beneficiary_id, role_id, entitlement_id, terms_document, justification, ticket, "
    columns += "duration_seconds, start, asked_at, decide_by, stage, deciding_groups, deciding_users, end_reason"
    extra = ", approved_at, approved_seconds, start_by, activated_at, expires_at" if state == "active" else ""
    raw = connection.connection
    with transaction.atomic():
        try:
            with transaction.atomic(), raw.cursor() as cursor:
                with cursor.copy(
                    f"COPY (SELECT 'DP-00000000', '{state}', {columns}{extra} FROM {REQUESTS} WHERE id = {one.pk}) "
                    "TO STDOUT"
                ) as out:
                    data = b"".join(bytes(piece) for piece in out)
                with cursor.copy(f"COPY {REQUESTS} (code, state, {columns}{extra}) FROM STDIN") as into:
                    into.write(data)
            return WENT_THROUGH
        except psycopg.Error as refusal:
            return refusal.sqlstate
        finally:
            transaction.set_rollback(True)


SQL = 14  # LANGUAGE sql, as PostgreSQL numbers it


PLANNING = ("plan_cache_mode", "enable_indexscan", "enable_seqscan")


def test_every_guard_pins_where_it_looks_and_lends_nobody_its_rights(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT proname, proconfig, prosecdef, pg_get_userbyid(proowner), prolang, prosrc FROM pg_proc "
            "WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'requests\\_app\\_%'"
        )
        functions = cursor.fetchall()
    assert len(functions) >= 12
    for name, settings, lends, owner, language, text in functions:
        if settings is None and language == SQL:
            # A view with parameters: it is planned into the statement that asks it. So it names what it reads in full.
            assert not re.search(r"(?<!public\.)\brequests_app_", text), name
        else:
            # How it is planned, and whether once or each time, is nobody's right.
            pinned = [one for one in settings if one.partition("=")[0] not in PLANNING]
            assert pinned == ["search_path=pg_catalog, public, pg_temp"], name
        assert not lends, name
        assert owner == "daypass_owner", name


def test_no_guard_was_forgotten(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O'"
        )
        standing = set(cursor.fetchall())
    expected = {(table, "guard_insert") for table in (REQUESTS, DECISIONS, DELIVERIES, SESSIONS)}
    catalog = ("requests_app_role", "requests_app_account")
    expected |= {(table, "guard_update") for table in (REQUESTS, DELIVERIES, "requests_app_user", *catalog)}
    expected |= {(table, "for_ever") for table in (*APPEND_ONLY, *NEVER_DELETED)}
    expected |= {(table, "frozen_insert") for table in (REQUESTS, DECISIONS, DELIVERIES, SESSIONS)}
    expected |= {(table, "frozen_update") for table in (REQUESTS, DELIVERIES)}
    guarded = ("requests_app_revocation", "requests_app_freeze", "requests_app_confirmation")
    guarded += ("requests_app_extension", "requests_app_edit")  # type: ignore[assignment]
    expected |= {("requests_app_organisationalunit", name) for name in ("hold", "place", "moved")}
    expected |= {
        ("requests_app_auditevent", "stamp"),
        (DELIVERIES, "channel"),
        (REQUESTS, "at_once"),
        (REQUESTS, "at_once_accepted"),
        (REQUESTS, "placed"),
        (REQUESTS, "asks_role"),
        ("requests_app_role", "guard_address"),
        ("requests_app_denypolicy", "one_policy"),
        *(("requests_app_user", name) for name in ("sign_in_epoch", "end_sign_ins", "normal_names")),
        *(("requests_app_user", name) for name in ("operator", "operator_made", "operator_made_later")),
        *(("requests_app_user", name) for name in ("operator_ended", "operators_address")),
        *(("mfa_authenticator", name) for name in ("operators_factor", "operators_factor_moved")),
        *(
            (f"requests_app_{table}", "readable")
            for table in ("account", "auditevent", "delivery", "denypolicy", "edit")
        ),
        *((f"requests_app_{table}", "readable") for table in ("entitlement", "notice", "preflight", "role")),
        # Of a migration: for what the version before this one writes.
        ("requests_app_notice", "of_before"),
        *(("mfa_authenticator", name) for name in ("factor_added_or_removed", "factor_replaced")),
        *((f"requests_app_{table}", "public_id") for table in ("entitlement", "extension", "freeze")),
        *((table, "guard") for table in guarded),
        *((table, "as_of_now") for table in (REQUESTS, DECISIONS, DELIVERIES, SESSIONS, EXTENSIONS, REVOCATIONS)),
    }
    assert standing == expected


def test_the_application_owns_nothing(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relowner = 'daypass_app'::regrole "
            "AND relnamespace = 'public'::regnamespace"
        )
        assert cursor.fetchall() == []


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO requests_app_revocation (access_request_id, role_id, asked_at, keep_until, state)"
        " SELECT id, role_id, now(), now(), 'wanted' FROM requests_app_accessrequest",
        "UPDATE requests_app_revocation SET keep_until = now()",
        "UPDATE requests_app_revocation SET state = 'proved', proved_at = now(), written_at = now()",
        "DELETE FROM requests_app_revocation",
        "TRUNCATE requests_app_denypolicy",
        "UPDATE requests_app_installation SET code = 'other'",
    ],
)
@pytest.mark.django_db(transaction=True)
def test_an_early_end_is_neither_invented_nor_shortened(
    change: str, active_request: AccessRequest, alice: User, aws_clock: Any, app_connection: psycopg.Connection
) -> None:
    if not change.startswith("INSERT"):
        factories.delivery(active_request)
        workflow.give_back(active_request, by=alice)
        assert app_connection.execute("SELECT state FROM requests_app_revocation").fetchall() == [("wanted",)]

    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.InsufficientPrivilege)):
        app_connection.execute(change)


def test_every_transition_of_a_revocation(
    active_request: AccessRequest, alice: User, bob: User, aws_clock: Any, history: None
) -> None:
    """Written out, so that a table that was changed by mistake does not agree with itself."""
    legal = {
        "wanted": {"written", "over"},
        "written": {"wanted", "proved", "unprovable", "over"},
        # What AWS refuses is not said to be unproved again, unless somebody lifted it: then it is wanted anew.
        "proved": {"wanted", "over"},
        "unprovable": {"wanted", "proved", "over"},
        "over": set(),
    }
    ways: dict[str, tuple[str, ...]] = {
        "wanted": (),
        "written": ("written",),
        "proved": ("written", "proved"),
        "unprovable": ("written", "unprovable"),
        "over": ("over",),
    }
    factories.delivery(active_request)
    workflow.give_back(active_request, by=alice)
    pk = active_request.revocation.pk
    dressed = ", written_at = coalesce(written_at, now()), proved_at = coalesce(proved_at, now())"
    for before, way in ways.items():
        steps = [f"UPDATE {REVOCATIONS} SET state = '{step}'{dressed} WHERE id = {pk}" for step in way]
        for after in set(legal) - {before}:
            went = attempt(*steps, f"UPDATE {REVOCATIONS} SET state = '{after}'{dressed} WHERE id = {pk}")
            if after in legal[before]:
                assert went is WENT_THROUGH, (before, after)
            else:
                assert reason(went) == f"a revocation may not go from {before} to {after}"


def test_nothing_is_recorded_while_everything_of_its_role_is_denied(
    asked: Delivery, active_request: AccessRequest
) -> None:
    order = deliveries.claim(asked.pk, worker="w")
    assert order is not None

    def recorded(**values: Any) -> str | None:
        row = {
            "delivery_id": asked.pk,
            "access_request_id": active_request.pk,
            "beneficiary_id": active_request.beneficiary_id,
            "thumbprint": asked.thumbprint,
            "issued_at": clock.now(),
            "cut_off": order.cut_off,
            "sts_expires_at": clock.now() + 15 * MINUTE,
            "access_key_id": "ASIA1",
            "discarded": False,
            **dict.fromkeys(("role_arn", "session_name", "source_identity", "assumed_role_id", "minted_by"), ""),
            **values,
        }
        statement = f"INSERT INTO {SESSIONS} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
        return attempt(statement, params=list(row.values()))

    policy = DenyPolicy.objects.create(role=active_request.role, expected=[None])
    assert recorded() is WENT_THROUGH
    policy.held_until = clock.now() + MINUTE
    policy.save()
    held = "nothing is minted on this role while everything of it is denied"
    assert reason(recorded()) == held
    assert recorded(discarded=True) is WENT_THROUGH  # what nobody is given is recorded all the same
    # By the very moment: what was issued then is no longer among what is denied.
    now = clock.now()
    policy.held_until = now
    policy.save()
    assert recorded(issued_at=now) is WENT_THROUGH
    assert reason(recorded(issued_at=now - timedelta(microseconds=1))) == held
