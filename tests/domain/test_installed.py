"""What PostgreSQL guards by: put there whole or not at all, compared with what is there, and no door by itself."""

import contextlib
import gzip
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, ProgrammingError, connections
from django.db.migrations.recorder import MigrationRecorder

from requests_app.domain import database, doctor
from requests_app.domain.database import installed
from sandbox.postgres import make_database
from tests import servers

AT_0027 = Path(__file__).with_name("at_0027.sql.gz")
# In place of the guard that keeps an event as it was recorded.
WEAKER = """
CREATE OR REPLACE FUNCTION requests_app_refuse_statement() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$ BEGIN RETURN NULL; END $$
"""
EVENT = (
    "INSERT INTO requests_app_auditevent "
    "(at, action, actor_name, beneficiary_name, subject, channel, user_agent, detail) "
    "VALUES (now(), 'person.changed', 'x', '', '', 'system', '', '{}')"
)
FORGET = "DELETE FROM requests_app_auditevent"


class Scratch:
    """A database of this test's own, on which Django works meanwhile."""

    def __init__(self, name: str) -> None:
        self.name = name

    def as_role(self, role: str) -> psycopg.Connection:
        return psycopg.connect(servers.database_url(role, self.name), autocommit=True)

    def execute(self, statement: str, role: str = "owner") -> Any:
        with self.as_role(role) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else None

    def refuses(self, statement: str, role: str = "owner") -> bool:
        try:
            self.execute(statement, role)
        except psycopg.Error:
            return True
        return False

    def schema(self) -> str:
        """All that pg_dump says of it, the privileges too."""
        dump = Path(json.loads(os.environ["DAYPASS_TEST_SERVERS"])["binaries"]) / "pg_dump"
        url = servers.database_url("superuser", self.name)
        said = subprocess.run([dump, "--schema-only", url], capture_output=True, check=True, text=True).stdout
        return "\n".join(line for line in said.splitlines() if not re.match(r"\\(un)?restrict ", line))


def _scratch(name: str, blocker: Any, make: Callable[[str], None]) -> Iterator[Scratch]:
    name = f"{name}_{servers.worker()}"
    make(name)
    with blocker.unblock():
        servers.point_django_at(name)
        try:
            yield Scratch(name)
        finally:
            servers.point_django_at(servers.database_name())
            with servers.as_superuser("postgres") as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def scratch(django_db_setup: None, django_db_blocker: Any) -> Iterator[Scratch]:
    """As after `migrate`."""
    yield from _scratch("installed", django_db_blocker, servers.make_test_database)


@pytest.fixture
def at_0027(django_db_setup: None, django_db_blocker: Any) -> Iterator[Scratch]:
    """A dump of the demo at version 0027, restored: some months, and two people whose addresses were spelled alike."""

    def restore(name: str) -> None:
        with servers.as_superuser("postgres") as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            make_database(connection, name)
        with psycopg.connect(servers.database_url("owner", name)) as connection:
            connection.execute(gzip.decompress(AT_0027.read_bytes()).decode())

    yield from _scratch("at_0027", django_db_blocker, restore)


def test_what_is_there_already_is_left_untouched(scratch: Scratch) -> None:
    """Every `migrate` asks for it; nobody's work waits for a lock then."""
    with scratch.as_role("app") as someone, someone.transaction():
        someone.execute("LOCK TABLE requests_app_accessrequest IN ROW EXCLUSIVE MODE")
        assert installed.install("owner") is False
    assert installed.difference() == ""


@pytest.mark.parametrize(
    "tampering",
    [
        WEAKER,
        "ALTER TABLE requests_app_auditevent DISABLE TRIGGER for_ever",
        "ALTER FUNCTION requests_app_refuse(text) SET search_path = pg_temp, public",
        "ALTER FUNCTION requests_app_refuse(text) RESET ALL",
        "ALTER FUNCTION requests_app_stamp_event() SECURITY DEFINER",
        "DROP TRIGGER guard_insert ON requests_app_decision",
        "CREATE FUNCTION requests_app_refuse(message varchar) RETURNS void LANGUAGE sql AS 'SELECT'",
        "COMMENT ON FUNCTION requests_app_refuse(text) IS NULL",
    ],
)
def test_what_was_changed_in_the_database_is_said_by_doctor_and_put_back(scratch: Scratch, tampering: str) -> None:
    before = scratch.schema()
    scratch.execute(tampering)
    (finding,) = doctor._guards()
    assert finding.verdict == doctor.Outcome.BAD
    assert "migrate" in finding.advice
    assert installed.install("owner") is True
    assert scratch.schema() == before
    (finding,) = doctor._guards()
    assert finding.verdict == doctor.Outcome.GOOD


def test_another_version_of_the_code_says_so(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    text = installed._text
    monkeypatch.setattr(installed, "_text", lambda subject: text(subject).replace("'5 s'", "'6 s'"))
    assert "another version's" in installed.difference()
    monkeypatch.setattr(installed, "_text", lambda subject: text(subject) + "\n-- Only explained.\n\n")
    assert installed.difference() == ""


def test_an_installation_that_fails_leaves_everything_as_it_was(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, text = scratch.schema(), installed._text
    broken = "CREATE VIEW requests_app_broken AS SELECT nothing FROM nowhere;"
    monkeypatch.setattr(installed, "_text", lambda subject: broken if subject == "records" else text(subject))
    with pytest.raises(ProgrammingError):
        installed.install("owner")
    assert scratch.schema() == before
    scratch.execute(EVENT, "app")
    assert scratch.refuses(FORGET)


def test_it_gives_way_to_whoever_works_and_says_so_if_they_never_end(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = scratch.schema()
    scratch.execute("COMMENT ON FUNCTION requests_app_refuse(text) IS NULL")
    monkeypatch.setattr(installed, "_TRIES", 2)
    with scratch.as_role("app") as someone, someone.transaction():
        someone.execute("LOCK TABLE requests_app_decision IN ROW EXCLUSIVE MODE")
        with pytest.raises(ImproperlyConfigured, match="Run migrate again"):
            installed.install("owner")
        # Whoever works is not the one that is refused, and the guards stood all the time.
        someone.execute(EVENT)
    assert scratch.refuses(FORGET)
    installed.install("owner")
    assert scratch.schema() == before


def test_what_a_migration_took_away_is_refused_until_it_is_installed_again(at_0027: Scratch) -> None:
    """A migration that touches what the guards ask drops that first. If it stops half-way, nothing gets by."""
    servers._migrate(at_0027.name)
    servers.point_django_at(at_0027.name)
    lapse = "UPDATE requests_app_accessrequest SET state = 'lapsed', ended_at = clock_timestamp() WHERE id = {}"
    (pending, *_) = at_0027.execute("SELECT id FROM requests_app_accessrequest WHERE state = 'pending'")
    at_0027.execute("DROP FUNCTION requests_app_may_follow(text, text, text)")
    with at_0027.as_role("app") as someone, pytest.raises(psycopg.errors.UndefinedFunction):
        someone.execute(lapse.format(*pending))
    assert "removed" in installed.difference()
    installed.install("owner")
    assert installed.difference() == ""
    at_0027.execute(lapse.format(*pending), "app")


def test_a_process_from_before_is_held_to_the_new_ones(scratch: Scratch) -> None:
    """Its session planned the old ones; under it they are dropped and made anew."""
    with scratch.as_role("app") as older:
        older.prepare_threshold = 0
        for _ in range(3):
            older.execute(EVENT)
            assert older.execute("SELECT requests_app_may_follow('request', 'pending', 'active')").fetchone() == (
                False,
            )
        scratch.execute("COMMENT ON FUNCTION requests_app_refuse(text) IS NULL")
        assert installed.install("owner") is True
        older.execute(EVENT)
        assert older.execute("SELECT requests_app_may_follow('request', 'pending', 'active')").fetchone() == (False,)
        with pytest.raises(psycopg.Error):
            older.execute("DELETE FROM requests_app_decision")


def test_two_migrate_at_once(scratch: Scratch) -> None:
    """Rolling out on several machines: the second waits for the first, and finds nothing to do."""
    before = scratch.schema()
    scratch.execute("COMMENT ON FUNCTION requests_app_refuse(text) IS NULL")

    def one(_: int) -> bool:
        try:
            return installed.install("owner")
        finally:
            connections["owner"].close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(4))) == [False, False, False, True]
    assert scratch.schema() == before


@contextlib.contextmanager
def _restored(one: Scratch) -> Iterator[Scratch]:
    name = f"restored_{servers.worker()}"
    with servers.as_superuser("postgres") as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            with servers.as_superuser(name) as restored:
                restored.execute(one.schema())
            yield Scratch(name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _as_restored(one: Scratch) -> str:
    """Its schema, restored and dumped once more: PostgreSQL says some constraints otherwise after that."""
    with _restored(one) as restored:
        return restored.schema()


def test_a_restored_database_has_what_it_had(scratch: Scratch) -> None:
    """PostgreSQL reads what it dumped, and may say it otherwise."""
    with _restored(scratch) as restored:
        servers.point_django_at(restored.name)
        try:
            assert installed.difference() == ""
        finally:
            servers.point_django_at(scratch.name)


@pytest.mark.parametrize("setting", ["search_path = pg_catalog", "search_path = other", "quote_all_identifiers = on"])
def test_whoever_looks_sees_the_same(scratch: Scratch, setting: str) -> None:
    """A role, a database or a connection may have settings of its own."""
    with connections["default"].cursor() as cursor:
        cursor.execute(f"SET {setting}")
        assert installed.difference() == ""
        cursor.execute(f"SHOW {setting.partition(' ')[0]}")
        assert cursor.fetchone() == (setting.partition(" = ")[2],)


def test_a_database_from_before_comes_to_the_same(at_0027: Scratch) -> None:
    kept = {
        table: at_0027.execute(f"SELECT to_jsonb(t) - 'email' - 'username' FROM requests_app_{table} t ORDER BY id")
        for table in ("installation", "accessrequest", "decision", "issuedsession", "membership")
    }
    events = at_0027.execute("SELECT to_jsonb(t) FROM requests_app_auditevent t ORDER BY id")
    assert len(events) > 200
    assert kept["installation"]
    servers._migrate(at_0027.name)
    servers.point_django_at(at_0027.name)
    assert _as_restored(at_0027) == _as_restored(Scratch(servers.TEMPLATE))
    for table, rows in kept.items():
        now = at_0027.execute(f"SELECT to_jsonb(t) - 'email' - 'username' FROM requests_app_{table} t ORDER BY id")
        assert [{**after[0], **before[0]} for before, after in zip(rows, now, strict=True)] == [one for (one,) in now]
    after = at_0027.execute("SELECT to_jsonb(t) FROM requests_app_auditevent t ORDER BY id")
    assert after[: len(events)] == events
    # One spelling each; whoever had another's gets one by which nobody gets in.
    emails = dict(at_0027.execute("SELECT name, email FROM requests_app_user"))
    assert "erin@example.com" in emails.values()
    assert sorted(emails[name].partition("@")[2] for name in ("Fiona", "Fiona again")) == [
        "duplicate.invalid",
        "example.com",
    ]
    assert at_0027.refuses(FORGET)
    assert installed.difference() == ""
    # Another cluster than the one that the dump was made of: it is still to be noticed.
    assert at_0027.execute("SELECT home FROM requests_app_installation") == [(kept["installation"][0][0]["home"],)]


def test_an_upgrade_that_stopped_goes_on_when_it_is_run_again(
    at_0027: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in no transaction was done by then, and was not noted as done."""
    record = MigrationRecorder.record_applied

    def stop(recorder: MigrationRecorder, app: str, name: str) -> None:
        if name == "0031_normal_names":
            raise OperationalError("the server closed the connection unexpectedly")
        record(recorder, app, name)

    with monkeypatch.context() as patch:
        patch.setattr(MigrationRecorder, "record_applied", stop)
        with pytest.raises(OperationalError):
            servers._migrate(at_0027.name)
    servers._migrate(at_0027.name)
    servers.point_django_at(at_0027.name)
    assert _as_restored(at_0027) == _as_restored(Scratch(servers.TEMPLATE))


OURS = r"nspname = 'public' AND {0}name LIKE 'requests\_app\_%'"


def test_no_function_view_or_grant_opens_the_database(scratch: Scratch) -> None:
    """An owner's view with a write grant let the application fill the table of transitions."""
    functions = scratch.execute(
        "SELECT p.oid::regprocedure::text, prosecdef FROM pg_proc p "
        f"JOIN pg_namespace n ON n.oid = pronamespace WHERE {OURS.format('pro')}"
    )
    assert len(functions) > 60
    assert [name for name, definer in functions if definer] == []
    views = scratch.execute(
        "SELECT c.oid::regclass::text, coalesce(reloptions::text, '') FROM pg_class c "
        f"JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('v', 'm') AND {OURS.format('rel')}"
    )
    assert [name for name, options in views if "security_invoker=true" not in options] == []
    writes = scratch.execute(
        "SELECT c.oid::regclass::text FROM pg_class c "
        "WHERE relkind IN ('v', 'm') AND relnamespace = 'public'::regnamespace "
        "AND (has_table_privilege('daypass_app', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER') "
        "OR has_any_column_privilege('daypass_app', c.oid, 'INSERT, UPDATE'))"
    )
    assert writes == []
    off = scratch.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'O'")
    assert off == []


def test_a_view_with_the_grants_that_tables_get_loses_them(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    """`GRANT … ON ALL TABLES` means views too."""
    text = installed._text
    view = "CREATE VIEW requests_app_follows WITH (security_invoker = true) AS SELECT * FROM requests_app_transition;"
    monkeypatch.setattr(
        installed, "_text", lambda subject: text(subject) + (f"\n{view}\n" if subject == "refusing" else "")
    )
    database.after_migrate(apps.get_app_config("requests_app"), using="owner")
    assert scratch.execute("SELECT count(*) > 0 FROM requests_app_follows", "app") == [(True,)]
    assert scratch.refuses("INSERT INTO requests_app_follows VALUES (99999, 'request', 'pending', 'active')", "app")
    rights = scratch.execute(
        "SELECT has_table_privilege('daypass_app', 'requests_app_follows', 'INSERT, UPDATE, DELETE')"
    )
    assert rights == [(False,)]
