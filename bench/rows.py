"""Recording which rows an act of the product writes, so that `bench.inside.bare.replay` can write the same again."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

# What any signed-in request may touch is not part of the act.
NOT_OF_THE_ACT = ("requests_app_user",)
MOMENT = "timestamp with time zone"
CODE = re.compile(r"DP-[0-9A-Z]{8}")
_Rows = dict[tuple[str, str], dict[str, Any]]


def record(
    connection: psycopg.Connection, act: Callable[[], object], *, given: Mapping[str, str] | None = None, lock: str = ""
) -> dict[str, Any]:
    """What `act` writes: inserts first, each after what it points at. Nobody else may write meanwhile.

    `given`: a text, or `table key`, of rows that are there → the token by which another such row will be given.
    `lock`: the table whose row `id` is held first. `connection` is a superuser's.
    """
    shapes = _shapes(connection)
    before, began = _rows(connection, shapes), _clock(connection)
    act()
    ended, after = _clock(connection), _rows(connection, shapes)
    wrote = {place: row for place, row in after.items() if before.get(place, {}).get("xmin") != row["xmin"]}
    inserted = [place for place in wrote if place not in before]
    tokens = _Tokens(dict(given or {}), began, ended)
    for place in inserted:
        tokens.learn(place, wrote[place])
    deep = _depths({table for table, _ in inserted}, shapes)
    order = sorted(
        wrote, key=lambda place: (place in before, deep.get(place[0], 0), wrote[place]["xmin"], wrote[place]["cmin"])
    )
    rows = [_recorded(place, before.get(place), wrote[place], shapes[place[0]], tokens) for place in order]
    return {"rows": rows, "new": tokens.new, "lock": lock, "commits": len({row["xmin"] for row in wrote.values()})}


def counted(recorded: Iterable[Mapping[str, Any]]) -> str:
    """`2 auditevent, 1 notice`, for people."""
    numbers: dict[str, int] = {}
    for row in recorded:
        name = ("" if row["what"] == "insert" else "changed ") + row["table"].removeprefix("requests_app_")
        numbers[name] = numbers.get(name, 0) + 1
    return ", ".join(f"{number} {name}" for name, number in numbers.items())


class _Shape:
    """A table's key and columns, the columns that others' keys stand in, and those of which each row has its own."""

    def __init__(self) -> None:
        self.key = ""
        self.columns: dict[str, str] = {}
        self.points_at: dict[str, str] = {}
        self.unique: set[str] = set()


def _shapes(connection: psycopg.Connection) -> dict[str, _Shape]:
    shapes: dict[str, _Shape] = {}
    for table, column, kind in connection.execute(
        "SELECT relname, attname, format_type(atttypid, atttypmod) FROM pg_class c"
        " JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname LIKE 'requests!_app!_%' ESCAPE '!'"
        " ORDER BY relname, attnum"
    ):
        if table not in NOT_OF_THE_ACT:
            shapes.setdefault(table, _Shape()).columns[column] = kind
    for kind, table, columns, target in connection.execute(
        "SELECT contype::text, conrelid::regclass::text, ARRAY(SELECT attname::text FROM pg_attribute"
        " WHERE attrelid = conrelid AND attnum = ANY(conkey)), confrelid::regclass::text"
        " FROM pg_constraint WHERE contype IN ('p', 'u', 'f')"
    ):
        if table not in shapes:
            continue
        if kind == "p":
            shapes[table].key = columns[0]
        elif kind == "f":
            shapes[table].points_at[columns[0]] = target
        else:
            shapes[table].unique |= set(columns)
    return {table: shape for table, shape in shapes.items() if shape.key}


def _rows(connection: psycopg.Connection, shapes: Mapping[str, _Shape]) -> _Rows:
    rows: _Rows = {}
    for table, shape in shapes.items():
        columns = sql.SQL(", ").join(sql.SQL("{0}::text AS {0}").format(sql.Identifier(name)) for name in shape.columns)
        moments = sql.SQL(", ").join(map(sql.Identifier, _moments(shape)))
        cursor = connection.execute(
            sql.SQL("SELECT xmin::text::bigint, cmin::text::bigint, ARRAY[{}]::timestamptz[], {} FROM {}").format(
                moments, columns, sql.Identifier(table)
            )
        )
        for xmin, cmin, at, *values in cursor:
            row = dict(zip(shape.columns, values, strict=True))
            at = dict(zip(_moments(shape), at, strict=True))
            rows[table, row[shape.key]] = {"xmin": xmin, "cmin": cmin, "values": row, "moments": at}
    return rows


def _moments(shape: _Shape) -> list[str]:
    return [name for name, kind in shape.columns.items() if kind == MOMENT]


def _clock(connection: psycopg.Connection) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row
    at: datetime = row[0]
    return at


def _depths(tables: set[str], shapes: Mapping[str, _Shape]) -> dict[str, int]:
    """How many of these tables stand one above the other in what each points at."""
    deep = dict.fromkeys(tables, 0)
    for _ in tables:
        for table in tables:
            above = [
                deep[target] + 1 for target in shapes[table].points_at.values() if target in deep and target != table
            ]
            deep[table] = max([deep[table], *above])
    return deep


class _Tokens:
    """What stands for the texts, keys and moments that another act of the kind will have of its own."""

    def __init__(self, given: dict[str, str], began: datetime, ended: datetime) -> None:
        self._texts = {text: token for text, token in given.items() if " " not in text}
        self._keys = {text: token for text, token in given.items() if " " in text}
        self._began, self._ended = began, ended
        self._first = ended
        self.new = {"text": "text"}

    def learn(self, place: tuple[str, str], row: Mapping[str, Any]) -> None:
        """Its key, the codes and public ids that the act made up, and when that was."""
        self._keys[" ".join(place)] = "_".join(place)
        for name, kind in (("public_id", "uuid"), ("code", "code"), ("access_key_id", "key")):
            text = row["values"].get(name)
            if text and text not in self._texts and (kind != "code" or CODE.fullmatch(text)):
                self._texts[text] = f"{kind}{len(self.new)}"
                self.new[self._texts[text]] = kind
        self._first = min([self._first, *(at for at in row["moments"].values() if at and at >= self._began)])

    def key(self, table: str, key: str) -> str:
        token = self._keys.get(f"{table} {key}")
        return "{" + token + "}" if token else key

    def text(self, text: str) -> str:
        for old, token in self._texts.items():
            text = text.replace(old, "{" + token + "}")
        return text

    def unlike(self, text: str) -> str:
        """A text that no two rows have."""
        filled = self.text(text)
        return filled if filled != text else text[:8] + "{text}"

    def moment(self, at: datetime, text: str) -> dict[str, Any]:
        """Now, if it was during the act; or as far from it, in whole seconds, so that no guard finds it too late."""
        if self._began <= at <= self._ended:
            return {"seconds": 0}
        return {"seconds": math.floor((at - self._first).total_seconds()), "text": text}


def _recorded(
    place: tuple[str, str], before: Mapping[str, Any] | None, after: Mapping[str, Any], shape: _Shape, tokens: _Tokens
) -> dict[str, Any]:
    table, key = place
    columns = [
        [name, shape.columns[name], _source(name, text, after, shape, tokens)]
        for name, text in after["values"].items()
        if (before is None and name != "id") or (before is not None and before["values"][name] != text)
    ]
    row: dict[str, Any] = {"table": table, "key": shape.key, "columns": columns}
    if before is not None:
        return row | {"what": "update", "where": tokens.key(table, key)}
    return row | {"what": "insert", "token": "_".join(place)}


def _source(
    name: str, text: str | None, row: Mapping[str, Any], shape: _Shape, tokens: _Tokens
) -> dict[str, Any] | None:
    if text is None:
        return None
    if shape.columns[name] == MOMENT:
        return tokens.moment(row["moments"][name], text)
    if name in shape.points_at:
        return {"text": tokens.key(shape.points_at[name], text)}
    if name in shape.unique and name == "key":
        return {"text": tokens.unlike(text)}
    return {"text": tokens.text(text)}
