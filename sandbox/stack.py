"""The whole product as subprocesses, for tests that look at it from outside and for those that kill parts of it."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Self

import psycopg

from sandbox.aws import AwsStandIn
from sandbox.child import Child, DidNotStart, free_port
from sandbox.federation import TOKEN_LIFE, Federation
from sandbox.processes import PROCESSES, Process, command_line
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer

METRICS_TOKEN = "reads-the-metrics-of-a-stack"
PROJECT = Path(__file__).resolve().parent.parent


class Stack:
    """Web, workers and beat over a given, migrated database, with a Redis and a stand-in for AWS of its own.

    `stack["mint"].kill()`; also `stop`, `start`, `freeze`, `cont`, and the names redis, aws, federation.
    Each process logs to `log(name)`. `proxied`: whatever the workers ask of AWS goes through `aws_proxy` and
    `federation_proxy`, which break it when told to. A context manager.
    """

    aws_proxy: FaultProxy
    federation_proxy: FaultProxy

    def __init__(
        self,
        *,
        app_url: str,
        owner_url: str,
        shortest_session: int = 900,
        token_life: timedelta = TOKEN_LIFE,
        proxied: bool = False,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="daypass-stack-"))
        self.app_url, self.owner_url = app_url, owner_url
        self.redis = RedisServer(log=self.log("redis"))
        self.aws = AwsStandIn(log=self.log("aws"), shortest_session=shortest_session)
        self._token_life = token_life
        self._proxied = proxied
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._children: dict[str, Child] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __getitem__(self, name: str) -> Child:
        """The process of that name, as it runs now."""
        servers: dict[str, RedisServer | AwsStandIn | Federation]
        servers = {"redis": self.redis, "aws": self.aws, "federation": self.federation}
        if name not in servers:
            return self._children[name]
        process = servers[name].process
        assert process is not None
        return process

    def start(self) -> None:
        self.redis.start()
        self.aws.start()
        self.federation = Federation(self.aws.url, log=self.log("federation"), token_life=self._token_life)
        self.federation.start()
        if self._proxied:
            self.aws_proxy, self.federation_proxy = FaultProxy(self.aws.url), FaultProxy(self.federation.url)
            self.aws_proxy.start()
            self.federation_proxy.start()
        self.manage("collectstatic", "--noinput", "--verbosity=0")
        for process in PROCESSES:
            self._children[process.name] = self._child(process)
            self._children[process.name].start()
        self.wait_until_ready()

    def stop(self) -> None:
        """Stop everything. The logs stay for whoever wants to read them, until the machine clears its /tmp."""
        for child in self._children.values():
            child.stop(seconds=5)
        if self._proxied:
            self.aws_proxy.stop()
            self.federation_proxy.stop()
        self.federation.stop()
        self.redis.stop()
        self.aws.__exit__()

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Return when the web answers and every worker takes tasks."""
        self["web"].wait_until(self._web_answers, seconds)
        for name in ("mint", "revoke", "default"):
            self[name].wait_until(lambda name=name: self._worker_is_ready(name), seconds)  # type: ignore[misc]

    def restart(self, name: str, *, seconds: float = 60) -> None:
        """Stop and start one process of the product, and wait until it is ready."""
        self[name].stop()
        self.revive(name, seconds=seconds)

    def revive(self, name: str, *, seconds: float = 60) -> None:
        """Start one that was killed or stopped, and wait until it is ready."""
        mark = self.log(name)
        mark.rename(mark.with_suffix(f".{time.time_ns()}.log"))
        self[name].start()
        if name == "web":
            self["web"].wait_until(self._web_answers, seconds)
        elif name != "beat":
            self[name].wait_until(lambda: self._worker_is_ready(name), seconds)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def logs(self) -> list[Path]:
        """Every log there is, of this run and of processes that were revived."""
        return sorted(self.folder.glob("*.log"))

    def mail(self) -> list[str]:
        """Every message sent so far, oldest first, raw."""
        files = sorted((self.folder / "mail").glob("*.log"), key=lambda file: file.stat().st_mtime_ns)
        return [file.read_text() for file in files]

    @contextlib.contextmanager
    def connection(self, *, owner: bool = False) -> Iterator[psycopg.Connection]:
        """The stack's database, as the application's role or as the owner, in autocommit."""
        with psycopg.connect(self.owner_url if owner else self.app_url, autocommit=True) as connection:
            yield connection

    def manage(self, *arguments: str, typed: str | None = None) -> str:
        """`manage.py …` in the stack's environment; its output. Raises with that output if it fails."""
        return self.python("manage.py", *arguments, typed=typed)

    def python(self, *arguments: str, typed: str | None = None) -> str:
        """`python …` in the stack's environment, the owner's database address included."""
        done = subprocess.run(
            [sys.executable, *arguments],
            input=typed,
            capture_output=True,
            text=True,
            cwd=PROJECT,
            env={**self.environment(), "DATABASE_OWNER_URL": self.owner_url},
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def environment(self, profile: str | None = None) -> dict[str, str]:
        """What a process of the product sees; AWS settings only for one that has an identity there."""
        federation = getattr(self, "federation_proxy", None) or getattr(self, "federation", None)
        aws = self.aws.profile(profile) if profile else {}
        if aws and self._proxied:
            aws["AWS_ENDPOINT_URL"] = self.aws_proxy.url
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": self.app_url,
            "REDIS_URL": self.redis.url(),
            "SECRET_KEY": "a-secret-key-for-tests-only-0123456789abcdefghijklmnopqrstuvwxyz",
            "BASE_URL": self.url,
            "DEBUG": "0",
            "LOG_LEVEL": "INFO",
            # Tests ask far more often than people do; the limits have tests of their own.
            "DELIVERIES_PER_PERSON_PER_MINUTE": "1000",
            "DELIVERIES_PER_ROLE_PER_MINUTE": "1000",
            "OPEN_REQUESTS_PER_PERSON_AND_ROLE": "1000",
            "RETURNED_PER_PERSON_AND_ROLE": "1000",
            "REQUESTS_PER_PERSON_PER_HOUR": "100000",
            "STATIC_ROOT": str(self.folder / "static"),
            "FEDERATION_URL": federation.url if federation else "",
            "EMAIL_URL": f"filemail:///{self.folder / 'mail'}",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            **aws,
        }

    def _child(self, process: Process) -> Child:
        return Child(
            name=process.name,
            command=command_line(process, bind=f"127.0.0.1:{self.port}"),
            log=self.log(process.name),
            environment=self.environment(process.aws_profile) | (self._for_metrics() if process.name == "web" else {}),
            folder=PROJECT,
        )

    def _for_metrics(self) -> dict[str, str]:
        return {"METRICS_TOKEN": METRICS_TOKEN, "PROMETHEUS_MULTIPROC_DIR": str(self.folder / "metrics")}

    def _web_answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/livez", timeout=5).close()
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                raise DidNotStart(f"web answers {error.code}:\n{self['web'].end_of_log()}") from error
        except OSError:
            return False
        return True

    def _worker_is_ready(self, name: str) -> bool:
        log = self.log(name)
        return log.exists() and f"{name}@" in (text := log.read_text(errors="replace")) and " ready." in text
