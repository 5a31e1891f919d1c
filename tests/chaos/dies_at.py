"""`python -m tests.chaos.dies_at POINT TIMES PROGRAM …`: run it, and be killed when it has been there so often.

POINT is `before:module.attribute` or `after:…`; PROGRAM is celery or gunicorn, with its arguments. Only what is
between two lines of the product is chosen here; everything that runs is the product itself.
"""

import itertools
import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any


def main(point: str, times: str, program: str, *arguments: str) -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    django.setup()
    when, _, place = point.partition(":")
    where, _, attribute = place.rpartition(".")
    module = pkgutil.resolve_name(where)
    setattr(module, attribute, _deadly(getattr(module, attribute), when, int(times)))
    sys.argv = [program, *arguments]
    (script,) = entry_points(group="console_scripts", name=program)
    sys.exit(script.load()())


def _deadly(function: Callable[..., Any], when: str, times: int) -> Callable[..., Any]:
    calls = itertools.count(1)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        last = next(calls) >= times
        result = None if last and when == "before" else function(*args, **kwargs)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return deadly


if __name__ == "__main__":
    main(*sys.argv[1:])
