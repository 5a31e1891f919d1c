"""Statements of a fixed text: planned once on a connection, and otherwise as Django's own."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import (
    DataError,
    IntegrityError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)
from django.test.utils import CaptureQueriesContext

from requests_app.domain import facts, prepared
from requests_app.domain.database import installed
from requests_app.domain.models import Group
from requests_app.domain.prepared import Question
from tests import factories, plans

pytestmark = pytest.mark.django_db

DOUBLE = Question("tests.double", "SELECT %(number)s::bigint * 2 AS twice")


def prepared_here() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements ORDER BY statement")
        return [statement for (statement,) in cursor.fetchall()]


@pytest.fixture
def fresh_connection(db: Any) -> None:
    """Nothing is prepared on it."""
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")


def test_a_statement_is_prepared_once_whatever_its_values_are(fresh_connection: None) -> None:
    for number in (1, 40_000, 3_000_000_000, -7):
        assert DOUBLE.one(number=number) == (2 * number,)
    assert [one for one in prepared_here() if "tests.double" in one] == [
        "SELECT $1::bigint * 2 AS twice /* tests.double */"
    ]


def test_what_django_asks_is_not_prepared_and_needs_no_types(fresh_connection: None) -> None:
    for _ in range(10):
        assert not Group.objects.filter(name="nobody").exists()
        with connection.cursor() as cursor:
            cursor.execute("SELECT concat_ws(':', %s, %s)", ["a", 1])  # untyped
            assert cursor.fetchone() == ("a:1",)
    assert prepared_here() == []


def test_where_a_pooler_carries_none_nothing_is_prepared(fresh_connection: None) -> None:
    assert connection.connection.prepare_threshold is not None
    connection.connection.prepare_threshold = None
    try:
        for number in range(20):
            assert DOUBLE.one(number=number) == (2 * number,)
        assert prepared_here() == []
    finally:
        connection.connection.prepare_threshold = 5


@dataclass(frozen=True)
class Kinds:
    number: int
    text: str
    at: datetime
    document: dict[str, Any] | None
    key: UUID
    is_so: bool
    nothing: str | None


KINDS = Question(
    "tests.kinds",
    """
    SELECT %(number)s::bigint AS number, %(text)s::text AS text, %(at)s::timestamptz AS at,
           %(document)s::jsonb AS document, %(key)s::uuid AS key, %(is_so)s::boolean AS is_so,
           %(nothing)s::text AS nothing
    """,
    Kinds,
)


@pytest.mark.parametrize("document", [{"a": ["ä", 1.5, None, {"%": "%s"}]}, {}, None])
def test_values_come_back_as_they_went(document: dict[str, Any] | None) -> None:
    sent = Kinds(7, "50 % of 'it'\n", datetime(2026, 12, 31, 23, 59, tzinfo=UTC), document, uuid4(), True, None)
    assert KINDS.one(**vars(sent)) == sent


def test_many_rows_none_and_one() -> None:
    numbers = Question("tests.numbers", "SELECT n FROM unnest(%(keys)s::bigint[]) AS n ORDER BY n")
    assert numbers.all(keys=[3, 1, 2**40]) == [(1,), (3,), (2**40,)]
    assert numbers.all(keys=[]) == []
    assert numbers.first(keys=[]) is None
    assert numbers.first(keys=[2, 1]) == (1,)
    for keys in ([], [1, 2]):
        with pytest.raises(LookupError, match="numbers"):
            numbers.one(keys=keys)


def test_a_parameter_without_a_type_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(ValueError, match="who"):
        Question("tests.untyped", "SELECT %(who)s, %(number)s::bigint")


def test_columns_that_were_exchanged_are_refused() -> None:
    @dataclass(frozen=True)
    class Standing:
        is_active: bool
        is_excluded: bool

    wrong = Question("tests.exchanged", "SELECT true AS is_excluded, false AS is_active", Standing)
    with pytest.raises(TypeError, match="exchanged"):
        wrong.one()


def test_a_value_that_is_missing_is_no_null() -> None:
    with pytest.raises(KeyError):
        DOUBLE.one()


def test_errors_are_djangos_and_end_the_transaction() -> None:
    failing: dict[type[Exception], Question[Any]] = {
        DataError: Question("tests.zero", "SELECT 1 / %(number)s::bigint"),
        ProgrammingError: Question("tests.nowhere", "SELECT * FROM nowhere WHERE id = %(number)s::bigint"),
        IntegrityError: Question(
            "tests.twice", "INSERT INTO requests_app_group (id, name, description) VALUES (%(number)s::bigint, 'a', '')"
        ),
    }
    Group.objects.create(id=0, name="a")
    for error, question in failing.items():
        with pytest.raises(error), transaction.atomic():
            question.run(number=0)
        with transaction.atomic():
            with pytest.raises(error):
                question.run(number=0)
            with pytest.raises(InternalError, match="aborted"):
                DOUBLE.one(number=1)
            transaction.set_rollback(True)
        assert DOUBLE.one(number=1) == (2,)


def test_it_counts_as_a_query(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):
        DOUBLE.one(number=1)
        DOUBLE.all(number=2)
    with CaptureQueriesContext(connection) as made:
        DOUBLE.one(number=21)
    assert "21" in made[0]["sql"]
    assert "tests.double" in made[0]["sql"]
    with plans.watched() as statements:
        DOUBLE.one(number=1)
    assert [one.sql for one in statements] == [DOUBLE.sql]
    assert plans.plan(statements[0]).root["Node Type"] == "Result"


def test_it_is_part_of_the_transaction() -> None:
    insert = Question(
        "tests.insert", "INSERT INTO requests_app_group (name, description) VALUES (%(name)s::text, '') RETURNING id"
    )
    with transaction.atomic():
        (key,) = insert.one(name="inside")
        assert Group.objects.get(name="inside").pk == key
        transaction.set_rollback(True)
    assert not Group.objects.filter(name="inside").exists()
    assert Question("tests.none", "UPDATE requests_app_group SET description = 'x' WHERE name = 'inside'").run() == 0


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_was_closed_is_opened_again(superuser_connection: Any) -> None:
    DOUBLE.one(number=1)
    connection.close()
    assert DOUBLE.one(number=2) == (4,)
    # And one that the server ended, at the next piece of work, as Django has it.
    superuser_connection.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
    with pytest.raises(OperationalError):
        DOUBLE.one(number=3)
    connections["default"].close_if_unusable_or_obsolete()
    assert DOUBLE.one(number=4) == (8,)


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_what_was_planned_before_an_upgrade_is_asked_of_what_is_there_after_it(owner_connection: Any) -> None:
    """The relations are dropped and made anew under a process that goes on."""
    alice, role = factories.person("alice"), factories.role()
    terms = factories.entitlement(role, users=[alice])
    for _ in range(7):
        assert facts.standing_of(terms.pk, alice.pk, role.pk).reaches
    owner_connection.execute("COMMENT ON FUNCTION requests_app_refuse(text) IS NULL")
    assert installed.install("owner")
    assert facts.standing_of(terms.pk, alice.pk, role.pk).reaches
    role.entitlements.clear()
    assert not facts.standing_of(terms.pk, alice.pk, role.pk).reaches


@pytest.mark.django_db(transaction=True)
def test_a_column_that_became_another_type_is_asked_by_the_next_piece_of_work(superuser_connection: Any) -> None:
    """A process that an upgrade left running would else be refused for as long as it keeps its connection."""
    changing = Question("tests.changing", "SELECT c.number FROM requests_app_changing c")
    superuser_connection.execute("CREATE TABLE requests_app_changing AS SELECT 7::int AS number")
    try:
        superuser_connection.execute("GRANT SELECT ON requests_app_changing TO daypass_app")
        assert changing.one() == (7,)
        superuser_connection.execute("ALTER TABLE requests_app_changing ALTER number TYPE bigint")
        with pytest.raises(NotSupportedError):
            changing.one()
        connections["default"].close_if_unusable_or_obsolete()
        assert changing.one() == (7,)
    finally:
        superuser_connection.execute("DROP TABLE requests_app_changing")


def test_after_a_rollback_it_is_planned_again_and_right(fresh_connection: None) -> None:
    group = factories.group("Leads")
    named = Question("tests.named", "SELECT name FROM requests_app_group WHERE id = %(group)s::bigint")
    for name in ("Leads", "Renamed"):
        with transaction.atomic():
            Group.objects.filter(pk=group.pk).update(name=name)
            assert named.one(group=group.pk) == (name,)
            transaction.set_rollback(name == "Renamed")
    assert named.one(group=group.pk) == ("Leads",)


def test_no_generic_plan_is_forced() -> None:
    """Such a plan knows no value, so no partial index is used for one."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW plan_cache_mode")
        assert cursor.fetchone() == ("auto",)


def test_every_question_of_the_product_has_a_name_of_its_own() -> None:
    import sys

    from requests_app import background, delivery  # noqa: F401 - all are made

    modules = [module for name, module in sys.modules.items() if name.startswith("requests_app.")]
    found = {id(one): one for module in modules for one in vars(module).values() if isinstance(one, prepared.Question)}
    names = [one.name for one in found.values()]
    assert len(names) == len(set(names)) > 10


def test_a_moved_clock_is_asked_of_the_database_too() -> None:
    from requests_app.domain import clock

    with clock.moved(timedelta(hours=1)):
        later = clock.now()
    assert timedelta(minutes=59) < later - clock.now() <= timedelta(hours=1)
