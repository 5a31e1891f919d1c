"""Writing what happened before now: for the demo's months and for tests that move the clock.

The guards hold every moment that the application writes to the database's own clock. Only the owner of the tables can
tell them that a history is being written, so only a process that knows the owner's address can: no serving one does.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

_open: dict[str, int] = {}
_lock = threading.Lock()


@contextmanager
def open_history(owner_url: str) -> Iterator[None]:
    """Inside, the guards of that database take a moved clock for the clock. May be nested, in threads too."""
    with _lock:
        if not _open.get(owner_url):
            _say(owner_url, "'2000-01-01Z'")
        _open[owner_url] = _open.get(owner_url, 0) + 1
    try:
        yield
    finally:
        with _lock:
            _open[owner_url] -= 1
            if not _open[owner_url]:
                _say(owner_url, "NULL")


def _say(owner_url: str, moment: str) -> None:
    with psycopg.connect(owner_url, autocommit=True, connect_timeout=5) as owner:
        owner.execute("SET lock_timeout = '5s'")
        # Tests empty this table too.
        owner.execute(
            "INSERT INTO requests_app_installation (id, code) VALUES (1, substr(gen_random_uuid()::text, 1, 8)) "
            "ON CONFLICT DO NOTHING"
        )
        owner.execute(f"UPDATE requests_app_installation SET history_from = {moment}")
