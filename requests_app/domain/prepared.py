"""The one door for statements of a fixed text: built never, and planned once for each connection instead of each time.

Django's ORM builds a statement anew whenever it is asked, and sends it with its values written into it, so that
PostgreSQL plans each anew too. What is asked on every mint is a `Question` instead. Everything around it stays
Django's: the connection with its transactions, its errors, and what counts queries.
"""

import inspect
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

import psycopg
from django.db import DEFAULT_DB_ALIAS, NotSupportedError, connections
from psycopg.types.json import Jsonb
from psycopg.types.numeric import Float8, Int4, Int8

Answer = TypeVar("Answer")


def _row(*columns: Any) -> Any:
    return columns


_PARAMETER = re.compile(r"%\((\w+)\)s(?:::(\w+(?:\[\])?))?")
_JSONB = 3802  # its type's number in PostgreSQL
# As PostgreSQL has them: a small number would else be one of another type, and its statement another one.
_AS: dict[str, Callable[[Any], Any]] = {
    "bigint": Int8,
    "int": Int4,
    "float8": Float8,
    "jsonb": Jsonb,
    "bigint[]": lambda keys: [None if key is None else Int8(key) for key in keys],
}


class Question(Generic[Answer]):
    """A statement with a name, whose every parameter says its type, as in `%(person)s::bigint`.

    A row comes back as `answer(...)` of its columns, in their order. Columns that are not called as its parameters are
    refused, or two that were exchanged would be believed.
    Errors are Django's, and it joins the transaction that Django's connection is in.
    """

    @overload
    def __init__(self: "Question[tuple[Any, ...]]", name: str, sql: str, *, using: str = ...) -> None: ...
    @overload
    def __init__(self, name: str, sql: str, answer: Callable[..., Answer], *, using: str = ...) -> None: ...
    def __init__(
        self, name: str, sql: str, answer: Callable[..., Any] = _row, *, using: str = DEFAULT_DB_ALIAS
    ) -> None:
        found = _PARAMETER.findall(sql)
        untyped = sorted({parameter for parameter, type_ in found if not type_})
        if untyped:
            raise ValueError(f"{name}: these parameters say no type: {', '.join(untyped)}")
        self.name = name
        # The name comes last, for what looks at how a statement begins.
        self.sql = f"{sql.strip()} /* {name} */"
        self._types: dict[str, str] = dict(found)
        self._answer: Callable[..., Answer] = answer
        self._using = using
        # Which columns are documents; known once it has been asked.
        self._documents: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        return f"<Question {self.name}>"

    def one(self, **values: Any) -> Answer:
        """The only row there is. Raises LookupError if there is none, or more than one."""
        answers = self.all(**values)
        if len(answers) != 1:
            raise LookupError(f"{self.name}: {len(answers)} rows")
        return answers[0]

    def first(self, **values: Any) -> Answer | None:
        """The first row; None if there is none."""
        answers = self.all(**values)
        return answers[0] if answers else None

    def all(self, **values: Any) -> list[Answer]:
        with self._execute(values) as cursor:
            if self._documents is None:
                self._documents = self._look_at(cursor.description or ())
            rows = cursor.fetchall()
        if self._documents:
            rows = [self._read(row) for row in rows]
        return [self._answer(*row) for row in rows]

    def run(self, **values: Any) -> int:
        """For a statement that answers nothing: how many rows it wrote."""
        with self._execute(values) as cursor:
            return int(cursor.rowcount)

    def _execute(self, values: Mapping[str, Any]) -> Any:
        connection: Any = connections[self._using]
        # As Django's own `cursor()` does, with a cursor that prepares in the place of its own.
        connection.close_if_health_check_failed()
        connection.ensure_connection()
        connection.validate_thread_sharing()
        with connection.wrap_database_errors:
            plain = _PreparingCursor(connection.connection)
        wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
        cursor = wrap(plain)
        sent = {name: _typed(values[name], type_) for name, type_ in self._types.items()}
        try:
            cursor.execute(self.sql, sent)
        except BaseException as error:
            if isinstance(error, NotSupportedError):
                # A column became another type, and what was prepared before stays refused: to be connected anew after
                # this piece of work, as where a connection is old.
                connection.close_at = time.monotonic()
            cursor.close()
            raise
        if connection.queries_logged:
            # Django knows the text only of what was sent with its values in it.
            connection.queries_log[-1]["sql"] = connection.ops.compose_sql(self.sql, sent)
        return cursor

    def _look_at(self, columns: Sequence[Any]) -> tuple[int, ...]:
        names = [column.name for column in columns]
        if self._answer is not _row:
            wanted = list(inspect.signature(self._answer).parameters)
            if names != wanted[: len(names)]:
                raise TypeError(f"{self.name}: the columns are {names}, and {wanted} were expected")
        return tuple(place for place, column in enumerate(columns) if column.type_code == _JSONB)

    def _read(self, row: Sequence[Any]) -> list[Any]:
        values = list(row)
        assert self._documents is not None  # noqa: S101 - looked at before
        for place in self._documents:
            if values[place] is not None:
                values[place] = json.loads(values[place])
        return values


class _PreparingCursor(psycopg.Cursor[Any]):
    """Prepares at the first time, unless the connection's `prepare_threshold` is None: then nothing is prepared."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> "_PreparingCursor":
        return super().execute(query, params, **{"prepare": True, **options})


def _typed(value: Any, type_: str) -> Any:
    return value if value is None or type_ not in _AS else _AS[type_](value)
