"""For load balancers and orchestrators. Bounded in time: a probe that hangs says nothing."""

import threading
import time

from django.db import DatabaseError, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from requests_app.domain import store

# Whoever asks more often hears the same again.
KNOWN_FOR_SECONDS = 2.0


@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    """This process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """The database answers within two seconds and takes writes.

    How Redis is stands there too, and says nothing about being ready: people ask, decide and revoke without it.
    """
    wrong = _database.wrong()
    refusal = store.standing().look()
    lines = f"database: {wrong or 'ok'}\nredis: {f'degraded ({refusal})' if refusal else 'ok'}\n"
    return HttpResponse(lines, content_type="text/plain", status=503 if wrong else 200)


class _Database:
    """What keeps the database from taking writes, as it was at most two seconds ago."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self._wrong, self._seen_at = "", -KNOWN_FOR_SECONDS

    def wrong(self) -> str:
        if not self._lock.acquire(timeout=KNOWN_FOR_SECONDS):
            return _SILENT  # somebody has been asking it for so long
        try:
            if time.monotonic() - self._seen_at >= KNOWN_FOR_SECONDS:
                self._wrong = _what_is_wrong()
                self._seen_at = time.monotonic()
            return self._wrong
        finally:
            self._lock.release()


_database = _Database()


def _what_is_wrong() -> str:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 2000")
            cursor.execute("SET LOCAL work_mem = '64kB'")
            cursor.execute(_WRITABLE)
            (read_only,) = cursor.fetchone()
    except DatabaseError as error:
        return "no room on its disk" if getattr(error.__cause__, "sqlstate", "") == _DISK_FULL else _SILENT
    return "read-only" if read_only else ""


_SILENT, _DISK_FULL = "does not answer", "53100"
# A hot standby's transactions are read-only too. Sorting so many rows in so little memory takes a temporary file, which
# a full disk has no room for; nothing is kept.
_WRITABLE = """
SELECT current_setting('transaction_read_only')::boolean
FROM (SELECT FROM (SELECT n FROM generate_series(1, 4000) n ORDER BY n DESC OFFSET 0) sorted OFFSET 3999) one
"""
