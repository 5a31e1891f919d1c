"""Two who do something at the same moment: real threads, real transactions."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection
from psycopg import sql

from requests_app.domain.errors import DomainError
from tests import servers

Act = Callable[[], Any]
PATIENCE = 10.0


def at_once(*acts: Act, held: "tuple[str, int] | None" = None) -> list[Any]:
    """What each act returned, or the DomainError that it raised; any other exception passes through.

    With `held` (table, id) that row is kept locked until every act waits for it or is over: so all of them
    have passed whatever they looked at before the lock.
    """
    barrier = threading.Barrier(len(acts))
    with ThreadPoolExecutor(len(acts)) as pool:
        if held is None:
            return [_outcome(one) for one in [pool.submit(_run, act, barrier) for act in acts]]
        with row_held(*held):
            running = [pool.submit(_run, act, barrier) for act in acts]
            wait_until_stuck(running)
        return [_outcome(one) for one in running]


@contextmanager
def row_held(table: str, pk: int) -> Iterator[psycopg.Connection]:
    """Somebody else's transaction that has this row."""
    with psycopg.connect(servers.database_url("app", servers.database_name())) as other:
        other.execute(sql.SQL("SELECT FROM {} WHERE id = %s FOR UPDATE").format(sql.Identifier(table)), [pk])
        yield other


def in_background(act: Act) -> "Future[Any]":
    pool = ThreadPoolExecutor(1)
    running = pool.submit(_run, act, threading.Barrier(1))
    pool.shutdown(wait=False)
    return running


def wait_until_stuck(running: "Sequence[Future[Any]]") -> None:
    """Until each of them is over or waits for a lock."""
    until = time.monotonic() + PATIENCE
    with psycopg.connect(servers.database_url("superuser", servers.database_name()), autocommit=True) as looking:
        while time.monotonic() < until:
            (stuck,) = looking.execute(  # type: ignore[misc]
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
            if stuck + sum(one.done() for one in running) >= len(running):
                return
            time.sleep(0.005)
    raise AssertionError("they never met")


def _run(act: Act, barrier: threading.Barrier) -> Any:
    try:
        barrier.wait(PATIENCE)
        return act()
    except DomainError as refusal:
        return refusal
    finally:
        connection.close()


def _outcome(running: "Future[Any]") -> Any:
    return running.result(timeout=2 * PATIENCE)
