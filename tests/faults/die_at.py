"""`python -m tests.faults.die_at before:module.attribute JOB [ARG]`: do one job, and be killed there, as by SIGKILL.

Only what is between two lines of the product is chosen here; everything that runs is the product itself.
"""

import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from typing import Any


def main(point: str, job: str, *arguments: str) -> None:
    import django

    django.setup()
    when, _, place = point.partition(":")
    where, _, attribute = place.rpartition(".")
    module = pkgutil.resolve_name(where)
    setattr(module, attribute, _deadly(getattr(module, attribute), when))
    pkgutil.resolve_name(job)(*map(int, arguments))


def _deadly(function: Callable[..., Any], when: str) -> Callable[..., Any]:
    def deadly(*args: Any, **kwargs: Any) -> Any:
        if when == "after":
            function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    return deadly


if __name__ == "__main__":
    main(*sys.argv[1:])
