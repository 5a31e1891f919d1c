"""`killed("before:module.attribute", JOB, ARG)`: one job in a process of its own, which is killed there by SIGKILL.

Only what is between two lines of the product is chosen here; everything that runs is the product itself. A process
that has set Django up and done nothing since (`python -m tests.faults.die_at`) forks one for each job, as gunicorn
does: to set it up takes longer than any job.
"""

import functools
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]


def killed(point: str, job: str, *arguments: int) -> None:
    """Run the job in a process of its own, with the environment of now; it must really be killed at the point."""
    nursery = _nursery()
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(json.dumps([dict(os.environ), point, job, *arguments]) + "\n")
    nursery.stdin.flush()
    ended_by, said = json.loads(nursery.stdout.readline())
    assert ended_by == -signal.SIGKILL, f"it ended by itself:\n{said}"


@functools.cache
def _nursery() -> "subprocess.Popen[str]":
    """Ends with this process, for then nothing more can come to its standard input."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.die_at"],
        cwd=PROJECT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "portal.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _serve() -> None:
    import django

    django.setup()
    for line in sys.stdin:
        environment, *what = json.loads(line)
        with tempfile.TemporaryFile("w+") as said:
            child = os.fork()
            if not child:
                _do(environment, said.fileno(), *what)
            _, status = os.waitpid(child, 0)
            said.seek(0)
            print(json.dumps([os.waitstatus_to_exitcode(status), said.read()]), flush=True)


def _do(environment: dict[str, str], said: int, point: str, job: str, *arguments: int) -> None:
    """Never returns."""
    status = 1
    try:
        os.dup2(said, 1)
        os.dup2(said, 2)
        signal.alarm(60)
        _become(environment)
        when, _, place = point.partition(":")
        where, _, attribute = place.rpartition(".")
        module = pkgutil.resolve_name(where)
        setattr(module, attribute, _deadly(getattr(module, attribute), when))
        pkgutil.resolve_name(job)(*arguments)
        status = 0
    except BaseException:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _become(environment: dict[str, str]) -> None:
    """Whatever a test gives a process in its environment; of what settings read from it, only this."""
    from django.conf import settings

    os.environ.clear()
    os.environ.update(environment)
    settings.FEDERATION_URL = environment.get("FEDERATION_URL") or None


def _deadly(function: Callable[..., Any], when: str) -> Callable[..., Any]:
    def deadly(*args: Any, **kwargs: Any) -> Any:
        if when == "after":
            function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    return deadly


if __name__ == "__main__":
    _serve()
