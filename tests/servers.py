"""The real servers that the suite runs against: a pytest plugin, named in pyproject.toml.

PostgreSQL and Redis start before Django reads its settings, once for a whole run; with pytest-xdist each
worker has its own database and its own Redis database. A stand-in for AWS, the federation endpoint and the
whole product start when a test first asks for them.
"""

import contextlib
import functools
import gc
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import psycopg
import pytest
import redis
from psycopg import sql

from sandbox.aws import AwsStandIn
from sandbox.federation import Federation
from sandbox.history import open_history
from sandbox.postgres import Postgres, make_database
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack

# How a pytest-xdist worker learns what its controller started.
_HANDOVER = "DAYPASS_TEST_SERVERS"
TEMPLATE = "template_daypass"
NO_BROWSER = "there is no chromium"
# What takes long begins first, so that the workers end together; by group of pytest-xdist or by file.
LONG_FIRST = (
    *("stack", "starts", "tests/web/test_every_page.py", "aws"),
    *("tests/domain/test_edits.py", "tests/domain/test_invariants.py", "tests/domain/test_scale.py"),
)
# What migrations put there and tests may rely on.
KEPT = (
    *("django_migrations", "django_content_type", "auth_permission", "auth_group", "auth_group_permissions"),
    "requests_app_transition",
)

_started = contextlib.ExitStack()


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    # A wrapper, so that it comes before pytest-django's hook, which reads the settings.
    if _HANDOVER not in os.environ:
        _start_servers()
    _set_environment()
    _forbid_the_outside()
    _read_what_aws_can_do_once()
    yield


@pytest.hookimpl(wrapper=True)  # before pytest-xdist, which reads the groups, and after pytest, which sorts
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    for item in items:
        if {"stack", "in_stack"} & set(getattr(item, "fixturenames", ())):
            # One worker's, so that a small machine runs the whole product once and not twice.
            item.add_marker(pytest.mark.xdist_group("stack"))
        if item.get_closest_marker("browser") and not chromium():
            item.add_marker(pytest.mark.skip(reason=NO_BROWSER))
    yield
    items.sort(key=_long_first)


def _long_first(item: pytest.Item) -> int:
    names = {str(mark.args[0]) for mark in item.iter_markers("xdist_group")} | {item.nodeid.split("::")[0]}
    return min((LONG_FIRST.index(name) for name in names if name in LONG_FIRST), default=len(LONG_FIRST))


def pytest_collection_finish(session: pytest.Session) -> None:
    # Modules and tests stay until the end: nothing is found by going through them again and again.
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    left_out = [report for report in terminalreporter.stats.get("skipped", ()) if NO_BROWSER in str(report.longrepr)]
    if left_out:
        terminalreporter.write_line(f"Left out: {len(left_out)} browser tests, for there is no chromium.", yellow=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    _started.close()


def chromium() -> str | None:
    """Debian's browser; Playwright's own build is never downloaded."""
    return shutil.which("chromium")


def worker() -> str:
    """`gw0`, `gw1`, … under pytest-xdist, else `main`."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


def database_name() -> str:
    return f"test_daypass_{worker()}"


def database_url(role: str, database: str) -> str:
    """The address of `database` for the role `app`, `owner` or `superuser`."""
    url: str = json.loads(os.environ[_HANDOVER])[role]
    return url.rsplit("/", 1)[0] + "/" + database


def make_test_database(name: str) -> None:
    """A migrated, empty database; the migrations run once, as the owner, into a template."""
    with as_superuser("postgres") as connection:
        connection.execute("SELECT pg_advisory_lock(4711)")
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone():
            make_database(connection, TEMPLATE)
            try:
                _migrate(TEMPLATE)
            except BaseException:
                connection.execute(f"DROP DATABASE {TEMPLATE} WITH (FORCE)")
                raise
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        make_database(connection, name, template=TEMPLATE)
    _be_at_home(name)


def make_filled_database(name: str, *, like: str, fill: Callable[[], str | None]) -> str:
    """A copy of the database `like`; what `fill` returned of it.

    Whichever worker comes first makes `like`, and `fill`s it for all of them: for what takes many seconds to arrange.
    `fill` commits, with Django on that database; what it returns is kept with the database.
    """
    with as_superuser("postgres") as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [like])
        said = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
        if not connection.execute(said, [like]).fetchone():
            making, before = f"{like}_{worker()}", database_name_of_django()
            make_test_database(making)
            point_django_at(making)
            try:
                told = fill() or ""
            finally:
                point_django_at(before)
            names = {"making": sql.Identifier(making), "like": sql.Identifier(like), "told": sql.Literal(told)}
            connection.execute(sql.SQL("COMMENT ON DATABASE {making} IS {told}").format(**names))
            connection.execute(sql.SQL("ALTER DATABASE {making} RENAME TO {like}").format(**names))
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        make_database(connection, name, template=like)
        (told,) = connection.execute(said, [like]).fetchone() or ("",)
    _be_at_home(name)
    return told or ""


def drop_database(name: str) -> None:
    with as_superuser("postgres") as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _be_at_home(name: str) -> None:
    with as_superuser(name) as connection:
        # Or it would take itself for a copy of the template, as which Daypass freezes.
        connection.execute("UPDATE requests_app_installation SET home = ''")


def database_name_of_django() -> str:
    """Which database Django's aliases mean now."""
    from django.db import connections

    return str(connections["default"].settings_dict["NAME"])


def point_django_at(name: str) -> None:
    """Let both of Django's aliases (application and owner role) mean the database `name`."""
    from django.db import connections

    for alias in connections:
        connections[alias].close()
        connections[alias].settings_dict["NAME"] = name


def empty_database() -> None:
    """Delete every row that a test committed.

    As superuser: the application's role may not, and append-only triggers would refuse. DELETE and not
    TRUNCATE: for a few rows it is a hundred times cheaper, and with triggers off no order matters.
    """
    with as_superuser(database_name()) as connection, connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '10s'")  # a connection that a test left open says so
        connection.execute("SET LOCAL session_replication_role = replica")
        for table in _filled_tables(connection):
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))


def _filled_tables(connection: psycopg.Connection) -> list[str]:
    names = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> ALL (%s)", [list(KEPT)]
    ).fetchall()
    asked = [
        sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(sql.Literal(name), sql.Identifier(name))
        for (name,) in names
    ]
    return [name for (name,) in connection.execute(sql.SQL(" UNION ALL ").join(asked)).fetchall()]


@pytest.fixture
def app_connection(db: None) -> Iterator[psycopg.Connection]:
    """Raw SQL as the application's own role, in autocommit."""
    with psycopg.connect(database_url("app", database_name()), autocommit=True) as connection:
        yield connection


@pytest.fixture
def owner_connection(db: None) -> Iterator[psycopg.Connection]:
    """Raw SQL as the role that migrates and owns the tables, in autocommit."""
    with psycopg.connect(database_url("owner", database_name()), autocommit=True) as connection:
        yield connection


@pytest.fixture
def history(db: None) -> Iterator[None]:
    """The owner lets a history be written: what the application dates otherwise than now is taken."""
    with open_history(database_url("owner", database_name())):
        yield


@pytest.fixture
def superuser_connection(db: None) -> Iterator[psycopg.Connection]:
    """Raw SQL past every guard, in autocommit: to arrange what must not be possible."""
    with as_superuser(database_name()) as connection:
        yield connection


@pytest.fixture
def redis_server() -> Iterator["redis.Redis"]:
    """This worker's Redis database, as the product uses it; empty before and after."""
    with redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture(scope="session")
def aws_stand_in() -> Iterator[AwsStandIn]:
    """The demo's hub and accounts (`sandbox.landscape`); STS gives sessions from one second on.

    botocore refuses under 900 s itself: `caller.client("sts", checked=False)`.
    """
    with AwsStandIn(shortest_session=1) as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def federation(aws_stand_in: AwsStandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    log = tmp_path_factory.mktemp("federation") / "federation.log"
    with Federation(aws_stand_in.url, log=log) as federation:
        yield federation


@pytest.fixture(scope="session")
def stack_database() -> str:
    name = f"stack_daypass_{worker()}"
    make_test_database(name)
    return name


@pytest.fixture(scope="session")
def stack(django_db_setup: None, stack_database: str) -> Iterator[Stack]:
    """The whole product as subprocesses, on a database, a Redis and a stand-in for AWS of its own."""
    app_url, owner_url = (database_url(role, stack_database) for role in ("app", "owner"))
    with Stack(app_url=app_url, owner_url=owner_url) as stack:
        yield stack


@pytest.fixture
def in_stack(stack: Stack, stack_database: str, django_db_blocker: Any) -> Iterator[Stack]:
    """The stack, while this test's own ORM works on the stack's database (and commits).

    Nudges from here go to the test's Redis, so the stack's workers find such work by their sweeps.
    """
    with django_db_blocker.unblock():
        point_django_at(stack_database)
        try:
            yield stack
        finally:
            point_django_at(database_name())


def _start_servers() -> None:
    postgres = _started.enter_context(Postgres())
    redis_server = _started.enter_context(RedisServer())
    os.environ[_HANDOVER] = json.dumps(
        {
            "app": postgres.app_url(),
            "owner": postgres.owner_url(),
            "superuser": postgres.superuser_url(),
            "redis": redis_server.url().removesuffix("/0"),
            "binaries": str(postgres.binaries),
        }
    )
    _started.callback(os.environ.pop, _HANDOVER)


def _set_environment() -> None:
    """What portal.settings reads; nothing of the developer's own set-up may leak in."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "PG"))]:
        del os.environ[name]
    redis_database = int(worker().removeprefix("gw")) + 1 if worker() != "main" else 0
    settings = {
        "DATABASE_URL": database_url("app", database_name()),
        "DATABASE_OWNER_URL": database_url("owner", database_name()),
        "REDIS_URL": f"{json.loads(os.environ[_HANDOVER])['redis']}/{redis_database}",
        "SECRET_KEY": "a-secret-key-for-tests-only-0123456789abcdefghijklmnopqrstuvwxyz",
        "BASE_URL": "http://testserver",
        "ALLOWED_HOSTS": "testserver",
        "FEDERATION_URL": "",
        # Tests ask far more often than people do; the limits have tests of their own.
        "OPEN_REQUESTS_PER_PERSON_AND_ROLE": "10000",
        "REQUESTS_PER_PERSON_PER_HOUR": "100000",
        "RETURNED_PER_PERSON_AND_ROLE": "10000",
        # Only for static files straight from their sources; pytest-django sets DEBUG to False.
        "DEBUG": "1",
        "EMAIL_URL": "memorymail://",
        # Whoever forgets the stand-in meets a closed door, not somebody's AWS account.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_REGION": "us-east-1",
        # For pytest-xdist's workers: a set in a test's parameters must read the same in each.
        "PYTHONHASHSEED": "0",
    }
    for name in (*settings, "DATABASE_APP_PASSWORD", "DATABASE_OWNER_PASSWORD", "REDIS_PASSWORD", "EMAIL_PASSWORD"):
        os.environ.pop(f"{name}_FILE", None)  # it would win
        os.environ.pop(name, None)
    os.environ |= settings


def _forbid_the_outside() -> None:
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        if not (host in ("localhost", "::1") or str(host).startswith("127.")):
            raise AssertionError(f"a test tried to reach {host}")
        connect(self, address)

    socket.socket.connect = connect_here  # type: ignore[method-assign,assignment]


def _read_what_aws_can_do_once() -> None:
    """botocore reads megabytes of JSON anew for each session, and nearly every test at AWS begins some."""
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)


def _migrate(name: str) -> None:
    from django.core.management import call_command

    point_django_at(name)
    call_command("migrate", database="owner", verbosity=0, interactive=False)
    point_django_at(name)  # closes the connections, which a template must not have


@contextlib.contextmanager
def as_superuser(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url("superuser", database), autocommit=True) as connection:
        yield connection
