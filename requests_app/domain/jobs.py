"""Asking a worker to look. The row is the work; this only saves waiting for the sweep."""

from collections.abc import Iterable

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError
from redis import RedisError
from redis import TimeoutError as RedisTimeout

from requests_app.domain import store

log = structlog.get_logger(__name__)
# An old nudge is worth nothing: the sweep has long looked itself. But it expires by its taker's clock, and one that is
# minutes ahead of its sender's must not leave everything lying.
EXPIRES_SECONDS = 600
# With so many waiting nobody is at work there; whoever comes back finds what is due by these.
MOST_WAITING = 1000


def nudge(job: str, *args: int | str) -> None:
    """Ask a worker to run `job` once this transaction has committed.

    A broker that is down costs a second, not a request: hence `robust`.
    """

    def send() -> None:
        try:
            _send(job, args)
        except OperationalError as error:
            log.warning("nudge.lost", job=job, error=str(error))

    transaction.on_commit(send, robust=True)


def nudge_each(job: str, keys: Iterable[int]) -> None:
    """As `nudge`, once for each key, the first ones first; no more than `MOST_WAITING` wait in a queue.

    The first that is lost is the last that is tried: with the broker down, a hundred would cost minutes, and the
    sweep finds them all.
    """
    keys = list(keys)

    def send() -> None:
        try:
            for key in keys[: _room(job)]:
                _send(job, (key,))
        except (OperationalError, RedisError) as error:
            log.warning("nudge.lost", job=job, error=str(error))

    transaction.on_commit(send, robust=True)


def _room(job: str) -> int:
    queue = job.partition(".")[0]
    waiting = store.client().llen(queue)
    assert isinstance(waiting, int)  # noqa: S101 - this client is no asynchronous one
    return max(MOST_WAITING - waiting, 0)


def _send(job: str, args: tuple[int | str, ...]) -> None:
    try:
        current_app.send_task(job, args, expires=EXPIRES_SECONDS, retry=False)
    except OperationalError as error:
        # A connection that Redis closed meanwhile is replaced; a silence is not waited for twice.
        if isinstance(error.__cause__, RedisTimeout):
            raise
        current_app.send_task(job, args, expires=EXPIRES_SECONDS, retry=False)
