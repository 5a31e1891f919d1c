"""Raw SQL as the application's own role sets moments back, ahead and out of reach, and stores what no page can read."""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction

from requests_app.domain import clock, workflow
from requests_app.domain.models import (
    AccessRequest,
    Delivery,
    DenyPolicy,
    Entitlement,
    Extension,
    Group,
    Revocation,
    Role,
    Stage,
    User,
)
from requests_app.domain.terms import StageTerms, Terms
from requests_app.domain.workflow import deliveries, own_edits, preflights
from sandbox.history import open_history
from tests import factories
from tests.domain.test_guards import (
    DELIVERIES,
    EXTENSIONS,
    GUARD,
    PRIVILEGE,
    REQUESTS,
    REVOCATIONS,
    SESSIONS,
    WENT_THROUGH,
    _attempt_decision,
    _decide_raw,
    _new,
    _now_again,
    attempt,
    insert_like,
    update,
)
from tests.servers import database_name, database_url

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# What an honest writer may be late by is taken, so that a slow machine is not refused.
LATE, TOO_LATE, TOO_EARLY = -10 * SECOND, -MINUTE, MINUTE

pytestmark = pytest.mark.django_db


def taken_only_now(attempt_at: Callable[[Any], str | None]) -> None:
    assert attempt_at(clock.now()) is WENT_THROUGH
    assert attempt_at(clock.now() + LATE) is WENT_THROUGH
    for wrong in (clock.now() + TOO_LATE, clock.now() + TOO_EARLY, clock.now() - DAY, "-infinity", "infinity"):
        assert attempt_at(wrong) == GUARD, wrong


# --- requests -------------------------------------------------------------------------------------


@pytest.fixture
def escalating(administrator: Role, engineers: Group, leads: Group, security: Group) -> Entitlement:
    """Security may decide after the least time that a stage can say."""
    factories.person("frank", security)
    terms = factories.entitlement(
        administrator, groups=[engineers], stages=[(leads, 1), (security, 1)], pending_seconds=3600
    )
    for stage in terms.stages.all():
        stage.escalate_seconds = 60
        stage.save()
        stage.more_groups.add(security)
    return terms


@pytest.fixture
def frank(escalating: Entitlement) -> User:
    return User.objects.get(username="frank")


def test_nobody_is_asked_earlier_by_a_request_that_is_said_to_be_old(
    escalating: Entitlement, alice: User, bob: User, frank: User, administrator: Role
) -> None:
    honest = factories.wish(alice, administrator, escalating)

    soon = {"decide_by": clock.now() + 30 * MINUTE}
    taken_only_now(lambda at: _new(honest, asked_at=at, stage_since=at, **soon))
    # The most lateness that is taken opens nothing: a stage waits for a minute at least.
    with connection.cursor() as cursor:
        cursor.execute("SELECT requests_app_clock_may_lag()")
        (lag,) = cursor.fetchone()
    assert LATE > -lag > TOO_LATE
    assert _attempt_decision(honest, frank) == GUARD


def test_the_owner_lets_a_history_be_written_and_the_application_cannot_say_so(
    history: None, pending_request: AccessRequest
) -> None:
    ago = clock.now() - 30 * DAY
    assert _new(pending_request, asked_at=ago, stage_since=ago, decide_by=ago + HOUR) is WENT_THROUGH
    assert attempt("UPDATE requests_app_installation SET history_from = now()") == PRIVILEGE
    assert attempt("CREATE OR REPLACE FUNCTION requests_app_clock_may_lag() RETURNS interval LANGUAGE sql AS ''")


def test_a_history_is_over_when_its_writer_is(pending_request: AccessRequest) -> None:
    ago = clock.now() - DAY
    url = database_url("owner", database_name())

    def of_yesterday() -> str | None:
        return _new(pending_request, asked_at=ago, stage_since=ago, decide_by=ago + HOUR)

    def break_off() -> None:
        with open_history(url), open_history(url):
            assert of_yesterday() is WENT_THROUGH
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert of_yesterday() == GUARD


def test_a_decision_is_dated_when_it_is_made(
    escalating: Entitlement, alice: User, bob: User, frank: User, administrator: Role
) -> None:
    with clock.moved(-30 * MINUTE):
        one = factories.wish(alice, administrator, escalating)
    taken_only_now(lambda at: _attempt_decision(one, bob, decided_at=at))
    taken_only_now(lambda at: _attempt_decision(one, bob, "deny", decided_at=at))


def test_nobody_decides_after_the_deadline_by_an_earlier_date(
    escalating: Entitlement, alice: User, bob: User, administrator: Role
) -> None:
    with clock.moved(-2 * HOUR):
        over = factories.wish(alice, administrator, escalating)
    assert over.decide_by < clock.now()
    for at in (over.decide_by, over.asked_at + MINUTE, clock.now()):
        assert _attempt_decision(over, bob, decided_at=at) == GUARD


def test_a_stage_begins_when_it_does(
    escalating: Entitlement, alice: User, bob: User, frank: User, administrator: Role
) -> None:
    with clock.moved(-30 * MINUTE):
        one = factories.wish(alice, administrator, escalating)
        _decide_raw(one, bob, "approve", decided_at=clock.now())

    taken_only_now(lambda at: update(REQUESTS, one.pk, stage=2, stage_since=at))


def test_it_is_accepted_approved_and_begun_when_it_is(
    alice: User, bob: User, administrator: Role, staged: Entitlement, leads: Group
) -> None:
    staged.askers.add(leads)
    with clock.moved(-30 * MINUTE):
        for_alice = factories.wish(bob, administrator, staged, beneficiary=alice)
        approved = factories.wish(alice, administrator, staged)
        _decide_raw(approved, bob, "approve", decided_at=clock.now())
    taken_only_now(lambda at: update(REQUESTS, for_alice.pk, accepted_at=at, stage_since=at))

    start_by = clock.now() + HOUR
    approval = {"state": "approved", "approved_seconds": 1800, "start_by": start_by}
    taken_only_now(lambda at: update(REQUESTS, approved.pk, **approval | {"approved_at": at}))

    with clock.moved(-25 * MINUTE):
        workflow.approve(approved, by=factories.person("gina", leads))
    end = clock.now() + MINUTE * 5
    taken_only_now(lambda at: update(REQUESTS, approved.pk, state="active", activated_at=at, expires_at=end))


def test_nothing_is_called_over_before_it_is(
    active_request: AccessRequest, alice: User, administrator: Role, staged: Entitlement
) -> None:
    pending_request = factories.wish(alice, administrator, staged)
    for at in (clock.now() + TOO_EARLY, "infinity", "-infinity"):
        assert update(REQUESTS, active_request.pk, state="returned", ended_at=at) == GUARD, at
        assert update(REQUESTS, pending_request.pk, state="lapsed", ended_at=at) == GUARD, at
    # Its keys would work until the end, and nobody could end them sooner.
    assert update(REQUESTS, active_request.pk, state="expired", ended_at=active_request.expires_at) == GUARD
    # However late a writer comes, and though the clock was set back since: an end is not refused.
    ago = pending_request.asked_at - MINUTE
    assert update(REQUESTS, pending_request.pk, state="lapsed", ended_at=ago) is WENT_THROUGH


@pytest.mark.parametrize("column", ["decide_by", "escalate_at", "reminded_at"])
@pytest.mark.parametrize("moment", ["infinity", "-infinity", "294000-01-01Z", "0044-03-15 BC"])
def test_no_time_that_python_cannot_read(column: str, moment: str, pending_request: AccessRequest) -> None:
    assert _new(pending_request, **{column: moment}) == GUARD
    assert update(REQUESTS, pending_request.pk, **{column: moment}) == GUARD


def test_every_moment_that_the_application_writes_is_readable(
    active_request: AccessRequest, aws_clock: object, app_connection: psycopg.Connection
) -> None:
    """Each column of these tables by itself, so that a new one is here too."""
    factories.sealed(active_request)
    columns = app_connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE data_type = 'timestamp with time zone' "
        "AND table_name = ANY (%s)",
        [[REQUESTS, DELIVERIES, SESSIONS]],
    ).fetchall()
    assert len(columns) >= 20
    for table, column in columns:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT max(id) FROM {table}")
            (pk,) = cursor.fetchone()
        for moment in ("infinity", "-infinity"):
            if table != SESSIONS:
                assert update(table, pk, **{column: moment}) == GUARD, (table, column)
            assert insert_like(table, pk, **{column: moment}) in (GUARD, PRIVILEGE), (table, column)


# --- extensions -----------------------------------------------------------------------------------


@pytest.fixture
def running(alice: User, bob: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    Entitlement.objects.update(extensions_most=2, extension_total_seconds=7200)
    staged.refresh_from_db()
    with clock.moved(-30 * MINUTE):
        one = factories.wish(alice, administrator, staged, duration=HOUR)
        workflow.approve(one, by=bob)
        return workflow.start(one, by=alice)


@pytest.fixture
def wanted(running: AccessRequest) -> Extension:
    with clock.moved(-10 * MINUTE):
        return workflow.extend(running, by=running.beneficiary, duration=30 * MINUTE, justification="it takes longer")


def test_an_extension_is_asked_decided_and_granted_when_it_is(
    running: AccessRequest, wanted: Extension, alice: User, bob: User
) -> None:
    workflow.withdraw_extension(wanted, by=alice)
    pending = {"state": "pending", "finished_at": None, "public_id": "00000000-0000-4000-8000-000000000000"}
    taken_only_now(lambda at: insert_like(EXTENSIONS, wanted.pk, **pending, asked_at=at, stage_since=at))
    assert insert_like(EXTENSIONS, wanted.pk, **pending, escalate_at="infinity") == GUARD

    with clock.moved(-5 * MINUTE):
        again = workflow.extend(running, by=alice, duration=30 * MINUTE, justification="it takes longer still")
    of_it: dict[str, Any] = {"extension_id": again.pk, "stage": 1}
    taken_only_now(lambda at: _attempt_decision(running, bob, decided_at=at, **of_it))
    with clock.moved(-4 * MINUTE):
        _decide_raw(running, bob, "approve", decided_at=clock.now(), **of_it)
    assert running.expires_at is not None
    granted = {"state": "granted", "previous_end": running.expires_at, "new_end": running.expires_at + 30 * MINUTE}
    taken_only_now(lambda at: update(EXTENSIONS, again.pk, **granted, finished_at=at))
    for at in (clock.now() + TOO_EARLY, "-infinity"):
        assert update(EXTENSIONS, again.pk, state="lapsed", finished_at=at) == GUARD
    assert update(EXTENSIONS, again.pk, state="lapsed", finished_at=again.asked_at) is WENT_THROUGH


# --- deliveries, sessions and what ends them ------------------------------------------------------


def test_a_delivery_is_asked_claimed_and_sealed_when_it_is(active_request: AccessRequest, aws_clock: object) -> None:
    one = factories.delivery(active_request)
    new = {"public_id": "00000000-0000-4000-8000-000000000000"}
    assert insert_like(DELIVERIES, one.pk, **new, asked_at=clock.now()) is WENT_THROUGH
    for wrong in (clock.now() + TOO_LATE, clock.now() + TOO_EARLY, "-infinity"):
        assert insert_like(DELIVERIES, one.pk, **new, asked_at=wrong) == GUARD
    taken_only_now(lambda at: update(DELIVERIES, one.pk, state="claimed", claimed_at=at))

    order = deliveries.claim(one.pk, worker="w")
    assert order is not None
    assert deliveries.record(order, factories.minted(order), worker="w")
    sealed = {"state": "sealed", "envelope_sha256": "a" * 64}
    taken_only_now(lambda at: update(DELIVERIES, one.pk, **sealed, sealed_at=at))


def test_a_session_is_issued_now_and_lasts_as_sts_has_it(active_request: AccessRequest, aws_clock: object) -> None:
    made = factories.delivery(active_request)
    order = deliveries.claim(made.pk, worker="w")
    assert order is not None

    def recorded(**values: Any) -> str | None:
        row = {
            "delivery_id": order.delivery_id,
            "access_request_id": active_request.pk,
            "beneficiary_id": active_request.beneficiary_id,
            "thumbprint": Delivery.objects.get(pk=order.delivery_id).thumbprint,
            "issued_at": clock.now(),
            "cut_off": order.cut_off,
            "sts_expires_at": clock.now() + 15 * MINUTE,
            "access_key_id": "ASIA1",
            "discarded": False,
            **dict.fromkeys(("role_arn", "session_name", "source_identity", "assumed_role_id", "minted_by"), ""),
            **values,
        }
        return attempt(
            f"INSERT INTO {SESSIONS} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})",
            params=list(row.values()),
        )

    taken_only_now(lambda at: recorded(issued_at=at))
    # An early end would be thought to be over too soon.
    assert recorded(sts_expires_at=clock.now() + 9 * MINUTE) == GUARD
    assert recorded(sts_expires_at=clock.now()) == GUARD
    # Thrown away because a clock was set: it must be on record all the same.
    assert recorded(sts_expires_at=clock.now() + 9 * MINUTE, discarded=True) is WENT_THROUGH
    assert recorded(sts_expires_at="infinity") == GUARD
    assert recorded(cut_off="-infinity") == GUARD
    soon = clock.now() + 2 * MINUTE
    assert recorded(cut_off=soon, sts_expires_at=soon) is WENT_THROUGH  # what ends by itself with the pass


def test_an_early_end_holds_for_as_long_as_a_session_lasts(active_request: AccessRequest, aws_clock: object) -> None:
    delivery, _ = factories.sealed(active_request)
    workflow.revoke(active_request, by=factories.person("oscar", is_operator=True), reason="a stolen laptop")
    active_request.refresh_from_db()
    revocation = active_request.revocation
    session = delivery.issued_session
    assert revocation.keep_until > session.sts_expires_at

    assert update(REVOCATIONS, revocation.pk, state="over") == GUARD
    with clock.moved(revocation.keep_until - clock.now() + SECOND):
        assert update(REVOCATIONS, revocation.pk, state="over") is WENT_THROUGH


def test_an_early_end_is_of_all_that_was_issued_for_as_long_as_that_lasts(
    active_request: AccessRequest, aws_clock: object
) -> None:
    """Put right rather than refused: nobody is kept from ending something, whatever a clock was set to."""
    delivery, _ = factories.sealed(active_request)
    AccessRequest.objects.filter(pk=active_request.pk).update(state="returned", ended_at=clock.now())
    session = delivery.issued_session

    def begun(**values: Any) -> Revocation:
        return Revocation(access_request=active_request, role=active_request.role, **values)

    for moments in ({"asked_at": clock.now() + TOO_EARLY}, {"keep_until": datetime.max.replace(tzinfo=UTC)}):
        with pytest.raises(IntegrityError), transaction.atomic():
            begun(**{"asked_at": clock.now(), "keep_until": session.sts_expires_at, **moments}).save()
    begun(asked_at=clock.now() - DAY, keep_until=clock.now() - DAY).save()
    stored = Revocation.objects.get()
    assert (stored.asked_at, stored.keep_until) == (session.issued_at, session.sts_expires_at)


# --- terms that pages can read --------------------------------------------------------------------

WRONG: tuple[Any, ...] = (None, True, 5, -5, 10**11, "five", [], {}, [None], [{}], {"a": 1})
# PostgreSQL takes them, and Python reads none: an integer of more than 4300 digits, a thousand brackets in each other.
UNREADABLE = {
    "long": "1e5000",
    "below": "-1e5000",
    "in lists": "[{}, [1e5000]]",
    "in objects": '{"a": {"b": 1e16}}',
    "deep": "[" * 1500 + "]" * 1500,
}


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
def test_no_part_of_stored_terms_is_beyond_what_is_read(value: str, pending_request: AccessRequest) -> None:
    """Also of those that are taken unknown."""

    def attempt_with(path: str, value: str) -> str | None:
        values = {**_now_again(REQUESTS, pending_request.pk), "id": 10**12, "public_id": uuid4(), "code": "DP-00000000"}
        return attempt(
            f"""INSERT INTO {REQUESTS} SELECT (jsonb_populate_record(r, %s::jsonb || jsonb_build_object(
                'terms_document', jsonb_set(r.terms_document, %s::text[], %s::jsonb)))).*
                FROM {REQUESTS} r WHERE r.id = %s""",
            params=[json.dumps(values, default=str), path, value, pending_request.pk],
        )

    assert attempt_with("{extra}", '{"any": ["thing", 5, null, 1.5]}') is WENT_THROUGH
    for path in ("{extra}", "{stages,0,extra}", "{justification_min}", "{default_seconds}"):
        assert attempt_with(path, value) == GUARD, path


def test_nothing_that_is_stored_as_json_is_beyond_what_is_read(
    active_request: AccessRequest, olivia: User, aws_clock: object, app_connection: psycopg.Connection
) -> None:
    """Each column by itself, so that a new one is here too."""
    factories.delivery(active_request)
    role = active_request.role
    DenyPolicy.objects.create(role=role, expected=[None])
    preflights.look_soon(Role.objects.all())
    own_edits.note(role, by=olivia, change={"name": ["old", "new"]})
    columns = app_connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables "
        "USING (table_schema, table_name) "
        "WHERE data_type = 'jsonb' AND table_name LIKE 'requests_app_%' AND table_type = 'BASE TABLE'"
    ).fetchall()
    assert len(columns) >= 15
    for table, column in columns:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT max(id) FROM {table}")
            (pk,) = cursor.fetchone()
        assert pk is not None, table
        for value in UNREADABLE.values():
            assert update(table, pk, **{column: value}) in (GUARD, PRIVILEGE), (table, column, value[:20])
            same = f"SELECT (jsonb_populate_record(r, jsonb_build_object('id', 10 ^ 12, '{column}', %s::jsonb))).*"
            tried = attempt(f"INSERT INTO {table} {same} FROM {table} r WHERE id = %s", params=[value, pk])
            assert tried in (GUARD, PRIVILEGE), (table, column, value[:20])


def _reads(document: dict[str, Any]) -> bool:
    """Whether pages can say what these terms are."""
    terms = Terms.from_document(document)
    words = [terms.name, terms.ticket, terms.justification_pattern, terms.ticket_pattern]
    words += [word for stage in terms.stages for word in (stage.asks, stage.more_asks)]
    numbers = [terms.justification_min, terms.default_seconds]
    if not all(type(number) in (int, float) and 0 <= number < 2**31 for number in numbers):  # a page reckons with them
        return False
    return all(isinstance(word, str) for word in words)


@pytest.mark.parametrize("name", Terms.__slots__)
def test_every_part_of_stored_terms_is_readable(name: str, pending_request: AccessRequest) -> None:
    honest = pending_request.terms_document
    assert _new(pending_request, terms_document=honest) is WENT_THROUGH
    without = {key: value for key, value in honest.items() if key != name}
    documents = [without, *({**honest, name: wrong} for wrong in WRONG)]
    for document in documents:
        assert _new(pending_request, terms_document=document) == GUARD or _reads(document), document.get(name, "gone")


@pytest.mark.parametrize("name", StageTerms.__slots__)
def test_every_part_of_a_stored_stage_is_readable(name: str, pending_request: AccessRequest) -> None:
    documents = []
    for wrong in ("gone", *WRONG):
        document = copy.deepcopy(pending_request.terms_document)
        document["stages"][0][name] = wrong
        if wrong == "gone":
            del document["stages"][0][name]
        documents.append(document)
    for document in documents:
        assert _new(pending_request, terms_document=document) == GUARD or _reads(document), document["stages"]


@pytest.mark.parametrize("document", [None, [], {}, 5, "terms", {"stages": 5}, {"stages": {"0": {}}}])
def test_terms_are_a_document(document: Any, pending_request: AccessRequest) -> None:
    assert _new(pending_request, terms_document=document) == GUARD


def test_terms_of_before_and_of_after_this_are_taken(pending_request: AccessRequest) -> None:
    older = copy.deepcopy(pending_request.terms_document)
    for name in ("default_seconds", "justification_pattern", "ticket_pattern"):
        del older[name]
    for name in ("escalate_seconds", "more_groups", "more_users", "more_asks"):
        del older["stages"][0][name]
    newer = {**pending_request.terms_document, "thought_of_later": {"any": ["thing"]}}
    newer["stages"] = [{**stage, "asks_too": 5} for stage in newer["stages"]]

    assert _new(pending_request, terms_document=older) is WENT_THROUGH
    assert Terms.from_document(older).stages
    assert _new(pending_request, terms_document={**newer, "stages": pending_request.terms_document["stages"]}) is None
    assert Stage.objects.exists()
