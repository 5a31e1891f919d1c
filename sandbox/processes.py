"""The processes Daypass consists of: one list for `make run`, the tests and (checked by a test) docker-compose."""

import sys
from dataclasses import dataclass
from pathlib import Path

_CELERY = ("celery", "-A", "portal", "--quiet")
# Gossip and mingle are how workers greet each other; ours meet in the database.
_WORKER = (*_CELERY, "worker", "--loglevel=INFO", "--pool=threads", "--without-gossip", "--without-mingle")


@dataclass(frozen=True)
class Process:
    name: str
    command: tuple[str, ...]
    # The AWS identity it runs as; most have none.
    aws_profile: str | None = None


PROCESSES = (
    Process("web", ("gunicorn", "--config=python:portal.server", "portal.wsgi")),
    Process("mint", (*_WORKER, "--queues=mint,aws", "--concurrency=16", "--hostname=mint@%h"), aws_profile="minter"),
    Process("revoke", (*_WORKER, "--queues=revoke", "--concurrency=4", "--hostname=revoke@%h"), aws_profile="revoker"),
    Process("default", (*_WORKER, "--queues=default", "--concurrency=8", "--hostname=default@%h")),
    Process("beat", (*_CELERY, "beat", "--loglevel=INFO")),
)


def command_line(process: Process, *, bind: str) -> list[str]:
    """What to execute here: this virtual environment's program, and where the web listens (`host:port` or `fd://N`)."""
    program, *arguments = process.command
    where = [f"--bind={bind}"] if process.name == "web" else []
    return [str(Path(sys.executable).parent / program), *arguments, *where]
