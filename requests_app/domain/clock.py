"""The one clock of every rule and sweep: the database's, read when asked and never a transaction's start."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta

from requests_app.domain.prepared import Question

_NOW = Question("clock.now", "SELECT clock_timestamp() AS now")
_shift: ContextVar[timedelta] = ContextVar("clock_shift", default=timedelta(0))


def now() -> datetime:
    """The database's wall clock, aware UTC. Read it *after* the lock: waiting takes time."""
    (at,) = _NOW.one()
    return at + _shift.get()


def shift() -> timedelta:
    """How much later `now()` is than the database's own: for a statement that reads the clock itself."""
    return _shift.get()


@contextmanager
def moved(by: timedelta) -> Iterator[None]:
    """Inside, `now()` is `by` later (or earlier): for tests and for the demo's history.

    What is written then is refused by the guards, unless the database's owner lets a history be written.
    """
    token = _shift.set(_shift.get() + by)
    try:
        yield
    finally:
        _shift.reset(token)
