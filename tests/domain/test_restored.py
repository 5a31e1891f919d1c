"""A database that is older than it was is found before anything is minted, and nobody can make it seem so."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from django.core import signing
from django.core.management import CommandError, call_command
from django.db import connections

from requests_app.aws.sts import ClockReading
from requests_app.background import clocks, minting, tasks
from requests_app.domain import clock, restored, workflow
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    AwsClock,
    Delivery,
    Entitlement,
    Freeze,
    Installation,
    Notice,
    Role,
    User,
)
from requests_app.domain.workflow import freezes
from sandbox.postgres import make_database
from tests import factories, servers
from tests.domain.expect import refused

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])

CODE = "restoredtest"
KEY = f"watermark:{CODE}"


@pytest.fixture(autouse=True)
def installation(superuser_connection: Any, redis_server: redis.Redis) -> Installation:
    superuser_connection.execute("DELETE FROM requests_app_installation")
    superuser_connection.execute("INSERT INTO requests_app_installation VALUES (1, %s)", [CODE])
    return Installation.objects.get()


@contextmanager
def restored_copy(dump: bytes) -> Iterator[None]:
    """Inside, Daypass runs on another database of the same cluster, restored from this dump."""
    name = f"restored_{servers.worker()}"
    with servers.as_superuser("postgres") as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        make_database(connection, name)
    restoring = subprocess.run(
        [_tool("pg_restore"), "--exit-on-error", "--dbname", servers.database_url("owner", name)],
        input=dump, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert restoring.returncode == 0, restoring.stderr
    servers.point_django_at(name)
    try:
        yield
    finally:
        servers.point_django_at(servers.database_name())
        with servers.as_superuser("postgres") as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def dumped() -> bytes:
    address = servers.database_url("owner", servers.database_name())
    command = [_tool("pg_dump"), "--format=custom", address]
    return subprocess.run(command, capture_output=True, timeout=60, check=True).stdout


def _tool(name: str) -> str:
    return str(Path(json.loads(os.environ[servers._HANDOVER])["binaries"]) / name)


def in_force() -> list[str]:
    return list(Freeze.objects.in_force().filter(cause="restored").values_list("reason", flat=True))


def test_a_database_that_is_as_it_was_is_left_alone(active_request: AccessRequest, redis_server: redis.Redis) -> None:
    for _ in range(3):
        restored.keep_watch()
        factories.wish(active_request.beneficiary, active_request.role, active_request.entitlement)
        assert restored.look()

    assert redis_server.get(KEY)
    assert not Freeze.objects.exists()


def test_a_dump_from_before_is_held_once_until_each_pass_was_looked_at(
    active_request: AccessRequest, pending_request: AccessRequest, alice: User, bob: User, olivia: User,
    read_only: Role, automatic: Entitlement, aws_clock: AwsClock,
) -> None:  # fmt: skip
    returned_since = factories.wish(alice, read_only, automatic, start="at_once")
    dump = dumped()
    workflow.give_back(returned_since, by=alice)
    restored.keep_watch()

    with restored_copy(dump):
        wish = factories.delivery(active_request)  # before anybody has looked
        minting.mint(wish.pk)

        assert in_force()
        assert "is not in it" in in_force()[0]
        wish.refresh_from_db()
        assert (wish.state, wish.claimed_at) == ("refused", None), "AWS was not asked"
        with refused("freeze"):
            factories.delivery(active_request)
        assert Notice.objects.filter(kind="restored", recipient=olivia).count() == 1

        # The same loss is not found again: not by a sweep, and not after operators have looked.
        tasks.sweep_requests()
        (freeze,) = Freeze.objects.all()
        with refused("freeze.unconfirmed"):
            freezes.lift(freeze, by=olivia)
        freezes.confirm(active_request, freeze=freeze, by=olivia)
        workflow.revoke(returned_since, by=olivia, reason="had been given back")
        freezes.lift(freeze, by=olivia)
        tasks.sweep_requests()
        assert restored.look()
        assert Freeze.objects.count() == 1
        assert factories.delivery(active_request).state == "asked"


def test_the_clock_is_read_and_nothing_minted_where_nobody_can_tell_whether_it_is_the_newest(
    active_request: AccessRequest, aws_clock: AwsClock, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    wish = factories.delivery(active_request)
    reading = ClockReading(-0.5, 0.5, "arn:aws:sts::111111111111:assumed-role/x/y", True)
    monkeypatch.setattr("requests_app.aws.sts.read_clock", lambda at, now: reading)
    settings.REDIS_URL = "redis://127.0.0.1:9/0"

    clocks.read()
    minting.mint(wish.pk)

    assert AwsClock.objects.get().measured_at > aws_clock.measured_at
    wish.refresh_from_db()
    assert wish.state == "asked"


def test_redis_is_silent_and_everything_goes_on(
    active_request: AccessRequest, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"

    assert not restored.look()
    restored.keep_watch()

    assert not Freeze.objects.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"not signed",
        signing.dumps({"of": CODE, "event": 10**9, "at": "2030-01-01T00:00:00+00:00"}, key="guessed").encode(),
        signing.dumps({"of": CODE, "event": 10**9, "at": "2030-01-01T00:00:00+00:00"}, salt="another").encode(),
        # Truly signed, and for another installation; or by a Daypass that writes something else there.
        signing.dumps(
            {"of": "another", "event": 10**9, "at": "2030-01-01T00:00:00+00:00"}, salt=restored.SALT
        ).encode(),
        signing.dumps(["of", CODE], salt=restored.SALT).encode(),
        signing.dumps({"of": CODE, "event": 10**9, "at": "yesterday"}, salt=restored.SALT).encode(),
    ],
    # What is signed has the time in it, and each worker of a test run must give a test the same name.
    ids=["empty", "no text", "unsigned", "another key", "another salt", "another's", "a list", "no time"],
)
def test_whoever_writes_to_redis_cannot_freeze_daypass(
    text: bytes, redis_server: redis.Redis, pending_request: AccessRequest
) -> None:
    redis_server.set(KEY, text)

    assert restored.look()

    assert not Freeze.objects.exists()


def test_what_was_deleted_or_replayed_says_nothing(redis_server: redis.Redis, pending_request: AccessRequest) -> None:
    restored.keep_watch()
    old = redis_server.get(KEY)
    assert old
    redis_server.delete(KEY)
    assert restored.look()
    factories.wish(pending_request.beneficiary, pending_request.role, pending_request.entitlement)
    restored.keep_watch()
    redis_server.set(KEY, old)
    assert restored.look()
    assert not Freeze.objects.exists()


def test_the_watermark_of_a_lost_time_is_replayed_after_operators_have_looked(
    redis_server: redis.Redis, pending_request: AccessRequest, olivia: User
) -> None:
    lost = AuditEvent.objects.latest("pk")
    at = clock.now().isoformat()
    replayed = signing.dumps({"of": CODE, "event": lost.pk + 1000, "at": at}, salt=restored.SALT)
    redis_server.set(KEY, replayed)
    restored.keep_watch()
    (freeze,) = Freeze.objects.all()
    freezes.lift(freeze, by=olivia)

    redis_server.set(KEY, replayed)
    restored.keep_watch()

    assert not Freeze.objects.in_force().exists()


def test_an_id_that_was_given_again_is_not_the_event_it_was(
    redis_server: redis.Redis, pending_request: AccessRequest
) -> None:
    event = AuditEvent.objects.latest("pk")
    at = (event.recorded_at + timedelta(milliseconds=1)).isoformat()
    redis_server.set(KEY, signing.dumps({"of": CODE, "event": event.pk, "at": at}, salt=restored.SALT))

    restored.keep_watch()
    assert in_force()

    restored.keep_watch()
    watermark = signing.loads(bytes(redis_server.get(KEY)).decode(), salt=restored.SALT)  # type: ignore[arg-type]
    assert watermark["event"] > event.pk, "from now on, this database is what is remembered"


def test_a_database_in_another_place_is_found_without_redis_and_even_when_it_was_migrated(
    pending_request: AccessRequest, olivia: User, superuser_connection: psycopg.Connection, redis_server: redis.Redis
) -> None:
    call_command("moved", stdout=StringIO())
    assert restored.look()
    assert not Freeze.objects.exists(), "it is at home"
    dump = dumped()

    with restored_copy(dump):
        call_command("migrate", database="owner", verbosity=0, interactive=False)
        redis_server.flushdb()
        assert restored.look()
        (reason,) = in_force()
        assert "it is in PostgreSQL" in reason
        freezes.lift(Freeze.objects.get(), by=olivia)
        assert restored.look()
        assert not Freeze.objects.in_force().exists(), "operators are not asked twice about the same place"


def test_a_planned_move_is_told_by_the_owner_before_anything_starts(
    pending_request: AccessRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_command("moved", stdout=StringIO())
    restored.keep_watch()
    dump = dumped()

    with restored_copy(dump):
        said = StringIO()
        call_command("moved", stdout=said)
        assert "The newest event in it is of" in said.getvalue()
        assert restored.look()
        assert not Freeze.objects.exists()
        assert AuditEvent.objects.filter(action="installation.moved").count() == 2

    monkeypatch.delitem(connections.databases, "owner")
    with pytest.raises(CommandError, match="DATABASE_OWNER_URL"):
        call_command("moved")


def test_the_application_cannot_say_that_it_moved(app_connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app_connection.execute("UPDATE requests_app_installation SET home = 'here'")


def test_an_operator_who_knows_says_so(pending_request: AccessRequest, olivia: User) -> None:
    said = StringIO()
    call_command("restored", stdout=said)
    call_command("restored", stdout=said)

    assert "Everything is held." in said.getvalue()
    assert "held already" in said.getvalue()
    assert len(in_force()) == 1
    assert Notice.objects.filter(kind="restored", recipient=olivia).count() == 1
    assert Delivery.objects.count() == 0
