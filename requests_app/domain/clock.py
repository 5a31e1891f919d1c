"""The one clock of every rule and sweep: the database's, read when asked and never a transaction's start."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta

from django.db import connection

_shift: ContextVar[timedelta] = ContextVar("clock_shift", default=timedelta(0))


def now() -> datetime:
    """The database's wall clock, aware UTC. Read it *after* the lock: waiting takes time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (at,) = cursor.fetchone()
    return at + _shift.get()


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
