"""Asking a worker to look. The row is the work; this only saves waiting for the sweep."""

from collections.abc import Callable, Iterable

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import KombuError, OperationalError
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
    """Ask a worker to run `job` once this transaction has committed; the same is asked once, however often it is said.

    A broker that is down costs a second, and the next ones nothing: hence `robust`, and `send`.
    """
    if _is_asked(job, args):
        return

    def ask() -> None:
        send(job, args)

    ask.__dict__["nudge"] = job, args
    transaction.on_commit(ask, robust=True)


def nudge_each(job: str, keys: Iterable[int]) -> None:
    """As `nudge`, once for each key, the first ones first; no more than `MOST_WAITING` wait in a queue.

    The first that is lost is the last that is tried: with the broker down, a hundred would cost minutes, and the
    sweep finds them all.
    """
    keys = list(keys)
    transaction.on_commit(lambda: _send_each(job, [(key,) for key in keys]), robust=True)


def send(job: str, args: tuple[int | str, ...] = ()) -> None:
    """Ask at once, if Redis is not known to be of no use. Never raises: what is lost, somebody finds by looking."""
    _try(job, lambda: _send(job, args))


def _is_asked(job: str, args: tuple[int | str, ...]) -> bool:
    """Whether the transaction asks for it already: in a block that is rolled back only together with this one."""
    connection = transaction.get_connection()
    around = set(connection.savepoint_ids)
    return any(
        set(blocks) <= around and getattr(run, "nudge", None) == (job, args)
        for blocks, run, _ in connection.run_on_commit
    )


def _send_each(job: str, calls: list[tuple[int | str, ...]]) -> None:
    def send_some() -> None:
        for args in calls[: _room(job)]:
            _send(job, args)

    _try(job, send_some)


def _try(job: str, act: Callable[[], None]) -> None:
    standing = store.standing()
    if standing.refusal:
        log.warning("nudge.lost", job=job, error=standing.refusal)
        return
    try:
        act()
    except (KombuError, RedisError, OSError) as error:
        log.warning("nudge.lost", job=job, error=str(error))
        standing.note_failure(error.__cause__ or error)


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
