"""`make run` as a newcomer meets it: one screen, the real pages behind it, and nothing left when it ends."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import story
from sandbox.child import answers
from sandbox.postgres import clear
from tests import servers

PROJECT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("starts")]


class Running:
    """`python -m sandbox.run` in a copy of the project, so that the developer's own .run is left alone."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.log = folder / "said.log"
        said = self.log.open("ab")
        bare = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.run"], cwd=folder, stdout=said, stderr=said, env={**bare, **environment}
        )

    def said(self) -> str:
        return self.log.read_text()

    def screen(self, seconds: float = 90) -> str:
        until = time.monotonic() + seconds
        while "make reset" not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(0.1)
        return self.said()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    copy = tmp_path / "daypass"
    copy.mkdir()
    for name in ("manage.py", "portal", "requests_app", "sandbox", "templates", "static"):
        (shutil.copy if (PROJECT / name).is_file() else shutil.copytree)(PROJECT / name, copy / name)
    yield copy
    clear(copy / ".run" / "postgres")


def processes_of(folder: Path) -> list[str]:
    """Command lines of what runs in `folder` or keeps its data there."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                here = (entry / "cwd").readlink().is_relative_to(folder)
            except OSError:
                continue
            if command and (here or str(folder) in command):
                found.append(command)
    return found


def wait_until_none_of(folder: Path) -> None:
    until = time.monotonic() + 15
    while left := processes_of(folder):
        assert time.monotonic() < until, left
        time.sleep(0.1)


def test_starts_shows_one_screen_keeps_its_data_and_leaves_nothing_behind(folder: Path) -> None:
    with socket.socket() as busy:  # somebody else's server, to be stepped over
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not answers(8000):
            busy.bind(("127.0.0.1", 8000))
            busy.listen()
        first = Running(folder)
        screen = first.screen()
    address = re.search(r"http://localhost:(\d+)", screen)
    assert address
    assert int(address[1]) > 8000
    for username, *_ in story.PEOPLE:
        assert username in screen
    for thing in story.THINGS_TO_TRY:
        assert thing in screen
    with urllib.request.urlopen(f"http://127.0.0.1:{address[1]}/accounts/login/", timeout=10) as page:
        assert page.status == 200
        stylesheet = re.search(r'href="(/static/[^"]+\.css)"', page.read().decode())
    assert stylesheet
    assert urllib.request.urlopen(f"http://127.0.0.1:{address[1]}{stylesheet[1]}", timeout=10).status == 200
    for secret in ("database", "secret-key", "aws/config", "mail", "log"):
        assert (folder / ".run" / secret).stat().st_mode & 0o077 == 0
    key = (folder / ".run" / "secret-key").read_text()
    assert key not in screen

    assert first.end(signal.SIGINT) == 0
    wait_until_none_of(folder)

    second = Running(folder)
    second.screen()
    assert (folder / ".run" / "secret-key").read_text() == key
    second.end(signal.SIGKILL)
    wait_until_none_of(folder)  # not even then


def test_a_port_that_somebody_wants_meanwhile_is_not_lost(folder: Path) -> None:
    """What starts on the machine between the choice of a port and the web's first breath takes others."""
    running = Running(folder)
    until = time.monotonic() + 60
    while not (folder / ".run" / "log" / "postgres.log").exists():
        assert time.monotonic() < until, running.said()
        time.sleep(0.01)
    with contextlib.ExitStack() as others:
        for port in range(8000, 8060):
            other = others.enter_context(socket.socket())
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                other.bind(("127.0.0.1", port))
                other.listen()
        screen = running.screen()
    address = re.search(r"http://localhost:(\d+)", screen)
    assert address
    assert answers(int(address[1]))
    assert running.end(signal.SIGINT) == 0
    wait_until_none_of(folder)


def test_uses_what_it_is_given_and_starts_nothing_in_its_place(folder: Path, django_db_setup: None) -> None:
    database = f"run_daypass_{servers.worker()}"
    servers.make_test_database(database)
    given = {
        "DATABASE_URL": servers.database_url("app", database),
        "DATABASE_OWNER_URL": servers.database_url("owner", database),
        "REDIS_URL": os.environ["REDIS_URL"],
    }
    running = Running(folder, **given, AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_ACCESS_KEY_ID="none")
    until = time.monotonic() + 60
    while " ready." not in running.said() and running.process.poll() is None:
        assert time.monotonic() < until, running.said()
        time.sleep(0.1)

    commands = " ".join(processes_of(folder))
    assert running.end(signal.SIGTERM) == 0, running.said()
    assert "celery" in commands
    for stand_in in ("postgres -D", "redis-server", "aws_rules", "sandbox.federation"):
        assert stand_in not in commands
    assert not (folder / ".run" / "postgres").exists()
    wait_until_none_of(folder)
