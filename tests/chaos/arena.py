"""Where it happens: the running product, and what the faults and the checks may do to it."""

import os
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from sandbox.child import Child
from sandbox.postgres import Postgres
from sandbox.processes import PROCESSES
from sandbox.stack import Stack

ASKERS = 8
OTHER_CLOCK = Path(__file__).parent / "other_clock"
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


@dataclass
class Arena:
    """`postgres` only where the server is this arena's own and may be stopped."""

    stack: Stack
    superuser_url: str
    postgres: Postgres | None = None
    chance: random.Random = field(default_factory=random.Random)
    askers: list[str] = field(default_factory=list)
    # From the form to keys that work, by somebody; raises when it does not go through. The load's.
    use_once: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.clocks = Clocks()

    def wait(self, least: float, most: float | None = None) -> None:
        """Let the load go on for so many seconds, or for a random time between the two."""
        time.sleep(least if most is None else self.chance.uniform(least, most))

    @contextmanager
    def superuser(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.superuser_url, autocommit=True, connect_timeout=5) as connection:
            yield connection

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the application's own role reads."""
        with self.stack.connection() as connection:
            return connection.execute(sql, values).fetchall()

    def database_is_ahead(self) -> float:
        """Seconds between PostgreSQL's clock and this process's."""
        before = time.time()
        ((at,),) = self.rows("SELECT extract(epoch FROM clock_timestamp())")
        return float(at) - (before + time.time()) / 2

    def settle_in(self, askers: int = ASKERS) -> None:
        """The demo's people and terms, and colleagues of Alice's, so that many can ask at once. Before the start."""
        from requests_app.domain.models import Group, Membership, User

        self.stack.python("-m", "sandbox.demo")
        password = User.objects.get(username="alice").password
        groups = Group.objects.filter(name__in=["Engineers", "Payments engineers"])
        for number in range(askers):
            name = f"asker{number}"
            person = User.objects.create(
                username=name, email=f"{name}@example.com", name=name.capitalize(), password=password
            )
            Membership.objects.bulk_create(Membership(group=group, user=person) for group in groups)
            self.askers.append(name)

    def died_by_itself(self) -> list[str]:
        """Processes of the product that ended though nobody killed them; they are started again."""
        dead = [process.name for process in PROCESSES if not self.stack[process.name].alive()]
        for name in dead:
            self.stack.revive(name)
        return dead

    def end(self) -> None:
        """All was looked at: nothing has to end in order."""
        for process in PROCESSES:
            self.stack[process.name].kill()

    def another(self, name: str, *, number: int, command: list[str] | None = None) -> Child:
        """One more process like that of the product; not started yet."""
        like = self.stack[name]
        command = [part.replace(f"{name}@", f"{name}{number}@") for part in command or list(like.command)]
        return Child(
            name=f"{name}{number}",
            command=command,
            log=self.stack.log(f"{name}{number}"),
            environment=like.environment,
            folder=like.folder,
        )


class Clocks:
    """Whose clock is set apart. Each goes by a file that says by how much, and is read again and again."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="daypass-clocks-"))
        self._folder.chmod(0o755)  # PostgreSQL reads it too, as another account
        self._ahead: dict[str, float] = {}

    def of_python(self, name: str) -> dict[str, str]:
        """What a Python process needs in its environment to go by the clock called `name`."""
        self.set(name, 0)
        return {"PYTHONPATH": str(OTHER_CLOCK), "CHAOS_CLOCK": str(self._folder / name)}

    def of_postgres(self) -> dict[str, str]:
        """The same for PostgreSQL, by Debian's libfaketime."""
        self.set("postgres", 0)
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._folder / "postgres"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, name: str, ahead: float) -> None:
        """From now on that clock is so many seconds ahead of the machine's."""
        new = self._folder / f"{name}.new"
        new.write_text(f"{ahead:+.1f}\n")
        new.chmod(0o644)
        new.rename(self._folder / name)
        self._ahead[name] = ahead

    def ahead(self, name: str) -> float:
        return self._ahead.get(name, 0)


@contextmanager
def small_disk(megabytes: int, owner: tuple[int, int] | None = None) -> Iterator[Path]:
    """A folder on a disk of its own; raises CalledProcessError where nothing may be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="daypass-disk-", dir="/var/tmp"))
    uid, gid = owner or (os.geteuid(), os.getegid())
    options = f"size={megabytes}m,mode=700,uid={uid},gid={gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True)
        folder.rmdir()


def can_mount() -> bool:
    try:
        with small_disk(1):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


class Stopwatch:
    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Whether it became so in time. What it raises counts as not yet."""
    watch = Stopwatch()
    while watch.seconds < seconds:
        try:
            if true():
                return True
        except Exception:  # noqa: BLE001 - servers are down on purpose here
            time.sleep(0.2)
        time.sleep(0.1)
    return False


class Repeated:
    """Something done again and again in a thread, until the block is left."""

    def __init__(self, act: Callable[[], None], every: float) -> None:
        self._act, self._every, self._over = act, every, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._over.wait(self._every):
            try:
                self._act()
            except (OSError, psycopg.Error, ValueError):
                continue  # what it acts on is broken too
