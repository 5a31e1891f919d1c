"""Rows that an act of the product once wrote, written again by bare statements: prepared, and of fixed shape.

`bench.rows` records them. A value is a text that PostgreSQL reads, with `{token}` where each act has its own: a code,
a public id, the key of a row that was just inserted. A moment is so many seconds from now.
"""

import re
import secrets
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import psycopg

_TOKEN = re.compile(r"\{(\w+)\}")
_NEW = {
    "uuid": lambda: str(uuid.uuid4()),
    "code": lambda: f"DP-{secrets.token_hex(4).upper()}",
    "text": lambda: secrets.token_hex(12),
    "key": lambda: "ASIA" + secrets.token_hex(8).upper(),
}


def run(cursor: "psycopg.Cursor[Any]", recorded: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """Lock what is locked, then every row in its order; `given` are tokens of rows that are there. Gives all tokens."""
    tokens = fresh(recorded) | dict(given)
    now = look(cursor, recorded.get("lock", ""), tokens)
    for row in recorded["rows"]:
        write(cursor, row, tokens, now)
    return tokens


def fresh(recorded: Mapping[str, Any]) -> dict[str, str]:
    return {token: _NEW[kind]() for token, kind in recorded["new"].items()}


def look(cursor: "psycopg.Cursor[Any]", lock: str, tokens: Mapping[str, str]) -> datetime:
    """The clock, read after the row that `lock` (a table) names is held."""
    if lock:
        statement = f"SELECT id FROM {lock} WHERE id = %s::bigint FOR NO KEY UPDATE"
        assert cursor.execute(statement, [tokens["id"]], prepare=True).fetchone()
    row = cursor.execute("SELECT clock_timestamp()", prepare=True).fetchone()
    assert row
    return row[0]


def write(cursor: "psycopg.Cursor[Any]", row: Mapping[str, Any], tokens: dict[str, str], now: datetime) -> None:
    values = [value(source, tokens, now) for _, _, source in row["columns"]]
    if row["what"] == "insert":
        names = ", ".join(f'"{name}"' for name, _, _ in row["columns"])
        marks = ", ".join(f"%s::{kind}" for _, kind, _ in row["columns"])
        returning = f' RETURNING "{row["key"]}"::text' if row["key"] else ""
        cursor.execute(f"INSERT INTO {row['table']} ({names}) VALUES ({marks}){returning}", values, prepare=True)
        if row["key"]:
            inserted = cursor.fetchone()
            assert inserted
            tokens[row["token"]] = inserted[0]
    else:
        changes = ", ".join(f'"{name}" = %s::{kind}' for name, kind, _ in row["columns"])
        where = f'"{row["key"]}" = %s::bigint'
        key = filled(row["where"], tokens)
        cursor.execute(f"UPDATE {row['table']} SET {changes} WHERE {where}", [*values, key], prepare=True)
        assert cursor.rowcount == 1, row["table"]


def value(source: Any, tokens: Mapping[str, str], now: datetime) -> str | datetime | None:
    if source is None:
        return None
    if "seconds" in source:
        return now + timedelta(seconds=source["seconds"])
    return filled(source["text"], tokens)


def filled(text: str, tokens: Mapping[str, str]) -> str:
    # JSON has braces too: only names that are known are tokens.
    return _TOKEN.sub(lambda found: tokens.get(found[1], found[0]), text)
