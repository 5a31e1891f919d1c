"""A real Redis that refuses, in each way in which one was seen to: for tests that ask who survives it."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox.redis_server import RedisServer

ADMIN, PASSWORD = "tester", "of-no-use-elsewhere"


@dataclass(frozen=True)
class Refusal:
    """`name` is the word that Redis refuses with; `error` what redis-py makes of it."""

    name: str
    why: str
    error: type[Exception]
    begin: Callable[[RedisServer], None]
    end: Callable[[RedisServer], None]

    @contextlib.contextmanager
    def lasting(self, server: RedisServer) -> Iterator[None]:
        """Everybody's connections are closed when it begins, as by a failover, so that all meet it."""
        with _admin(server) as client:
            client.client_kill_filter(_type="normal", skipme=True)
        self.begin(server)
        with contextlib.suppress(redis.RedisError), _admin(server, ready=False) as client:
            client.client_kill_filter(_type="normal", skipme=True)
        try:
            yield
        finally:
            self.end(server)


@contextlib.contextmanager
def _admin(server: RedisServer, *, ready: bool = True) -> Iterator[Any]:
    """Somebody whom no refusal concerns; made while nothing is refused yet."""
    if ready:
        with server.client() as client:
            client.acl_setuser(ADMIN, enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], categories=["+@all"])
    with redis.Redis(
        host="127.0.0.1",
        port=server.port,
        socket_timeout=10,
        single_connection_client=not ready,
        retry=Retry(NoBackoff(), 0),
        username=ADMIN,
        password=PASSWORD,
    ) as client:
        yield client


def _configured(**settings: str) -> Callable[[RedisServer], None]:
    def configure(server: RedisServer) -> None:
        with _admin(server, ready=False) as client:
            for name, value in settings.items():
                client.config_set(name.replace("_", "-"), value)

    return configure


def _commanded(*commands: str) -> Callable[[RedisServer], None]:
    def command(server: RedisServer) -> None:
        with _admin(server, ready=False) as client:
            for one in commands:
                client.execute_command(*one.split())

    return command


def _wrong_password(server: RedisServer) -> None:
    _configured(requirepass="another-password")(server)


def _right_password(server: RedisServer) -> None:
    _configured(requirepass=server.url().split(":")[2].split("@")[0])(server)


def _disk_fails(server: RedisServer) -> None:
    """Its folder is gone, so nothing can be saved; one that is told to save then takes no writes."""
    shutil.rmtree(server.data)
    with _admin(server, ready=False) as client:
        client.config_set("save", "900 1")
        with contextlib.suppress(redis.ResponseError):
            client.bgsave()
        while client.info("persistence")["rdb_bgsave_in_progress"]:
            pass


def _disk_is_back(server: RedisServer) -> None:
    _configured(save="")(server)
    server.data.mkdir()
    _configured(dir=str(server.data))(server)


def _loading(server: RedisServer) -> None:
    """Started anew on much that it saved before; it reads it slowly."""
    with _admin(server, ready=False) as client:
        # Between two megabytes it answers; so many of them last for longer than a worker that is slow to notice.
        for number in range(100):
            client.setrange(f"ballast:{number}", 2**21, "x")
        client.config_set("rdbcompression", "no")
        client.save()
    server.process.kill()
    server.start(key_load_delay=400_000)


def _loaded(server: RedisServer) -> None:
    server.process.kill()
    for file in server.data.iterdir():
        file.unlink()
    server.start()
    with _admin(server):
        pass


REFUSALS = (
    Refusal("OOM", "maxmemory is reached", redis.OutOfMemoryError,
            _configured(maxmemory_policy="noeviction", maxmemory="1"), _configured(maxmemory="0")),
    Refusal("READONLY", "it became a replica", redis.ReadOnlyError,
            _commanded("REPLICAOF 127.0.0.1 9"), _commanded("REPLICAOF NO ONE")),
    Refusal("MASTERDOWN", "a replica without its master that shows nothing old", redis.ReadOnlyError,
            _commanded("CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 9"),
            _commanded("REPLICAOF NO ONE", "CONFIG SET replica-serve-stale-data yes")),
    Refusal("NOREPLICAS", "too few replicas", redis.ResponseError,
            _configured(min_replicas_to_write="1"), _configured(min_replicas_to_write="0")),
    Refusal("WRONGPASS", "its password was changed", redis.AuthenticationError, _wrong_password, _right_password),
    Refusal("NOPERM", "its user may not write", redis.exceptions.NoPermissionError,
            _commanded("ACL SETUSER default -@write"), _commanded("ACL SETUSER default +@all")),
    Refusal("MISCONF", "it cannot save to disk", redis.ResponseError, _disk_fails, _disk_is_back),
    Refusal("LOADING", "it reads what it had saved", redis.BusyLoadingError, _loading, _loaded),
)  # fmt: skip
