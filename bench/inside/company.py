"""A grown company in a database of its own, with Django on it in this process; of the checkout that this runs in."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from bench.inside.limits import NO_LIMITS
from sandbox import postgres
from sandbox.redis_server import RedisServer
from tests import crowd

# What is left to everything else on the machine.
MARGIN = 2 << 30


class TooLittleRoom(SystemExit):
    """Said before anything is written."""


@contextmanager
def company(people: crowd.Crowd) -> Iterator[psycopg.Connection]:
    """Filled, on a durable PostgreSQL, with a Redis for the nudges; a superuser's connection to it."""
    where = Path(tempfile.mkdtemp(prefix="daypass-bench-"))
    folder = where / "postgres"
    with ExitStack() as cleaning:
        cleaning.callback(shutil.rmtree, where, ignore_errors=True)
        cleaning.callback(postgres.clear, folder)
        server = postgres.Postgres(folder)
        _require_room(server.home, people)
        cleaning.enter_context(server)
        _count_statements(server)
        redis = cleaning.enter_context(RedisServer())
        os.environ |= {
            "DATABASE_URL": server.app_url(),
            "DATABASE_OWNER_URL": server.owner_url(),
            "REDIS_URL": redis.url(),
            "SECRET_KEY": "a-secret-key-for-the-bench-only-0123456789abcdefghijklmnopqrstuvw",
            "BASE_URL": "http://testserver",
            "ALLOWED_HOSTS": "testserver",
            "DEBUG": "1",  # static files straight from their sources
            "EMAIL_URL": "memorymail://",
            "LOG_LEVEL": "CRITICAL",
            "DJANGO_SETTINGS_MODULE": "portal.settings",
            **NO_LIMITS,
        }
        _be_django()
        superuser = cleaning.enter_context(psycopg.connect(server.superuser_url(postgres.DATABASE), autocommit=True))
        crowd.fill(superuser, people)
        if look := getattr(crowd, "look_at_roles", None):
            look(superuser)
        os.environ["BENCH_WATCHER"] = server.superuser_url()
        yield superuser


def _require_room(home: Path, people: crowd.Crowd) -> None:
    needed = getattr(people, "bytes_on_disk", lambda: 4 << 30)() + MARGIN
    free = shutil.disk_usage(home).free
    if free < needed:
        raise TooLittleRoom(
            f"This takes about {needed / 1e9:.0f} GB in {home}, and {free / 1e9:.0f} GB are free there. Take fewer "
            "(REQUESTS=, EVENTS=), or name a folder with more room in TMPDIR."
        )


def reach_whoever_waits(superuser: psycopg.Connection) -> None:
    """The crowd's requests are by anybody, so that most of the open ones are of no use any more, as after a company was
    rearranged. People would have to be told of each before nothing is due; so let them be of use."""
    with superuser.transaction():
        superuser.execute("SET LOCAL session_replication_role = replica")
        superuser.execute(
            "INSERT INTO requests_app_entitlementuser (entitlement_id, user_id)"
            " SELECT DISTINCT entitlement_id, beneficiary_id FROM requests_app_accessrequest"
            " WHERE state IN ('pending', 'approved', 'active') ON CONFLICT DO NOTHING"
        )
    superuser.execute("VACUUM (ANALYZE) requests_app_entitlementuser")


def _count_statements(server: postgres.Postgres) -> None:
    """By PostgreSQL itself, and only while it is told to; read in another database, so that reading is not counted."""
    with psycopg.connect(server.superuser_url(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
        connection.execute("ALTER SYSTEM SET max_wal_size = '1GB'")
    server.restart()
    with psycopg.connect(server.superuser_url(), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
        connection.execute("ALTER SYSTEM SET pg_stat_statements.track = 'none'")
        connection.execute("SELECT pg_reload_conf()")


def _be_django() -> None:
    import django
    from django.conf import settings
    from django.core.management import call_command

    django.setup()
    settings.DEBUG = False  # or Django would keep every statement
    import portal.celery  # noqa: F401  (the application that a nudge means)

    call_command("migrate", database="owner", verbosity=0, interactive=False)


def sizes(superuser: psycopg.Connection) -> tuple[float, dict[str, tuple[int, float]]]:
    """Gigabytes in all; and of each big table its rows, and bytes a row with its indexes."""
    row = superuser.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row
    tables = superuser.execute(
        "SELECT relname, reltuples::bigint, pg_total_relation_size(oid) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reltuples >= 5000 ORDER BY 3 DESC"
    ).fetchall()
    return row[0] / 1e9, {name: (rows, size / rows) for name, rows, size in tables}


def settle(superuser: psycopg.Connection) -> None:
    """What was written is in its place: nothing of it is done during what comes next."""
    superuser.execute("VACUUM (ANALYZE)")
    superuser.execute("CHECKPOINT")
    time.sleep(0.2)
