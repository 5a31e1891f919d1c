"""One request by one visitor: what it answered, what was logged, what it changed; and then it never happened."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

from django.db import connection, transaction
from django.http import QueryDict
from django.test import Client

# What any request may write, whoever makes it: that somebody was here.
HOUSEKEEPING = frozenset({"django_session", "usersessions_usersession"})
RECORD = "requests_app_auditevent"
# Whoever touches a pass whose time is up lets it expire: the clock did that, not they.
BY_THE_CLOCK = frozenset({"request.expired", "request.lapsed"})
EXPIRING = frozenset({RECORD, "requests_app_accessrequest", "requests_app_notice", "requests_app_extension"})

Fields = dict[str, list[str]]


@dataclass
class Visit:
    """What came of one request."""

    said: str  # who did what where: for whoever reads a failure
    status: int
    response: Any
    logged: list[str]
    # Tables whose rows are not what they were, and the actions of the events that were recorded.
    changed: frozenset[str] = frozenset()
    recorded: tuple[str, ...] = ()
    # The names by which the page looked into the address's query and into what was posted.
    asked_for: frozenset[str] = frozenset()
    problems: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """Why this must not be: nothing where all is well."""
        wrong = [f"answered {self.status}"] if self.status >= 500 and self.status not in (503,) else []
        return [f"{self.said}: {what}" for what in (*wrong, *self.logged, *self.problems)]

    @property
    def truth(self) -> frozenset[str]:
        """What changed beyond housekeeping and refusals that were recorded."""
        acts = {action for action in self.recorded if not action.endswith(".refused")}
        if acts and acts <= BY_THE_CLOCK:
            return self.changed - HOUSEKEEPING - EXPIRING
        return self.changed - HOUSEKEEPING - (frozenset() if acts else {RECORD})


class Walker:
    """Makes requests on the rows as they are, and undoes each."""

    def __init__(self, landscape: str, visitors: dict[str, SimpleCookie]) -> None:
        self.landscape = landscape
        self.visitors = visitors
        self._clients: dict[str, Client] = {}
        self._tables: list[str] = []
        self._before: dict[str, Any] = {}

    def get(self, who: str, address: str, **headers: str) -> Visit:
        return self._visit(who, "GET", address, headers=headers)

    def post(
        self, who: str, address: str, fields: Fields | bytes | None = None, *, times: int = 1, **how: Any
    ) -> Visit:
        """`fields` as a browser posts a form; bytes are sent as they are."""
        body = fields if isinstance(fields, bytes) else encoded(fields or {})
        return self._visit(who, "POST", address, body, times=times, **how)

    def _visit(
        self,
        who: str,
        method: str,
        address: str,
        body: bytes = b"",
        *,
        content_type: str = "application/x-www-form-urlencoded",
        headers: dict[str, str] | None = None,
        times: int = 1,
    ) -> Visit:
        client = self._clients.setdefault(who, Client(raise_request_exception=False))
        client.cookies = SimpleCookie({name: one.value for name, one in self.visitors[who].items()})
        shown = f" {body[:300]!r}" if body else ""
        with undone(), _logged() as logged, _writes() as (written, problems), _asked_for() as names:
            for _ in range(times):
                response = client.generic(method, address, body, content_type, headers=headers)
            # What a commit would find.
            connection.check_constraints()
            changed, recorded = self._compare() if written - HOUSEKEEPING else (frozenset(written), ())
        return Visit(
            f"{who} {method} {address[:200]}{shown}" + (f", {times} times" if times > 1 else ""),
            response.status_code, response, logged, changed, recorded, frozenset(names), problems,
        )  # fmt: skip

    def _compare(self) -> tuple[frozenset[str], tuple[str, ...]]:
        now = self._digests()
        changed = frozenset(table for table in self._tables if now[table] != self._before[table])
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT action FROM {RECORD} WHERE id > %s", [self._last_event])
            return changed, tuple(action for (action,) in cursor.fetchall())

    def look(self) -> None:
        """Remember the rows as they are; what requests do is compared with it."""
        self._tables = sorted(connection.introspection.table_names())
        self._before = self._digests()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT coalesce(max(id), 0) FROM {RECORD}")
            (self._last_event,) = cursor.fetchone()

    def _digests(self) -> dict[str, Any]:
        quoted = [(table, connection.ops.quote_name(table)) for table in self._tables]
        each = [
            f"SELECT '{table}', md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {name} t" for table, name in quoted
        ]
        with connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(each))
            return dict(cursor.fetchall())


def encoded(fields: Fields) -> bytes:
    """As a browser posts them; half of a surrogate pair too, which no browser would."""
    return urlencode(fields, doseq=True, encoding="utf-8", errors="surrogatepass").encode()


@contextmanager
def undone() -> Iterator[None]:
    """Whatever is done inside never happened. Verbs may open their durable transactions in it."""
    block: Any = transaction.atomic()
    block._from_testcase = True
    with block:
        yield
        transaction.set_rollback(True)


@contextmanager
def _logged() -> Iterator[list[str]]:
    """What is logged inside as an error, apart from what Django refuses with a 400. (It warns of each 403.)"""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name.startswith("django.security."):
                return
            error = record.exc_info and record.exc_info[1]
            found.append(f"logged {error!r}" if error else f"logged {record.getMessage()}")

    handler, root = Handler(), logging.getLogger()
    root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        yield found
    finally:
        logging.disable(logging.NOTSET)
        root.removeHandler(handler)


_WRITES = re.compile(r"\s*(?:INSERT INTO|UPDATE|DELETE FROM)\s+\"?(\w+)", re.IGNORECASE)
_LOCKS = re.compile(r"FOR (NO KEY )?UPDATE")


@contextmanager
def _writes() -> Iterator[tuple[set[str], list[str]]]:
    """The tables that the application writes to, and what would not work without the walk's own transaction."""
    tables: set[str] = set()
    problems: list[str] = []
    outside = len(connection.atomic_blocks)

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if found := _WRITES.match(sql):
            tables.add(found[1])
        elif _LOCKS.search(sql) and len(connection.atomic_blocks) <= outside:
            problems.append(f"locks rows outside a transaction: {sql[:200]}")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield tables, problems


@contextmanager
def _asked_for() -> Iterator[set[str]]:
    names: set[str] = set()
    kept = {name: getattr(QueryDict, name) for name in ("__getitem__", "__contains__", "getlist")}  # inherited ones

    def watching(method: Any) -> Any:
        def watch(self: QueryDict, key: str, *args: Any) -> Any:
            names.add(key)
            return method(self, key, *args)

        return watch

    for name, method in kept.items():
        setattr(QueryDict, name, watching(method))
    try:
        yield names
    finally:
        for name in kept:
            delattr(QueryDict, name)
