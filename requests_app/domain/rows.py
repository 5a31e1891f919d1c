"""Single rows, written by statements that are built once: `save()` builds the same anew each time.

What `save()` would do besides, signals and rows of parents, no model here has.
"""

import re
from collections.abc import Sequence
from enum import Enum
from functools import cache
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import connection
from django.db.models import Field, JSONField, Model
from django.db.models.expressions import DatabaseDefault

from requests_app.domain.prepared import Question

# As a parameter says them.
_TYPES = {"timestamp with time zone": "timestamptz", "integer": "int", "smallint": "int", "boolean": "bool"}


def insert(row: Model) -> None:
    """Store a new row, which then knows its key. What only the database gives a default is read back by nobody."""
    fields = [field for field in _fields(type(row)) if not field.primary_key]
    given = tuple(field.attname for field in fields if not isinstance(getattr(row, field.attname), DatabaseDefault))
    (row.pk,) = _insertion(type(row), given).one(**_values(row, given))
    row._state.adding = False
    row._state.db = connection.alias


def update(row: Model, names: Sequence[str]) -> None:
    """Store these fields of a row that is there."""
    given = tuple(row._meta.get_field(name).attname for name in names)  # type: ignore[union-attr]
    if _update(type(row), given).run(key=row.pk, **_values(row, given)) != 1:
        raise type(row).DoesNotExist  # type: ignore[attr-defined]


@cache
def _insertion(model: type[Model], names: tuple[str, ...]) -> Question[Any]:
    columns = ", ".join(f'"{_field(model, name).column}"' for name in names)
    values = ", ".join(_parameter(model, name) for name in names)
    table = model._meta.db_table
    return Question(
        f"rows.insert.{table}",
        f'INSERT INTO {table} ({columns}) VALUES ({values}) RETURNING "{model._meta.pk.column}"',  # noqa: S608
    )


@cache
def _update(model: type[Model], names: tuple[str, ...]) -> Question[Any]:
    changes = ", ".join(f'"{_field(model, name).column}" = {_parameter(model, name)}' for name in names)
    table = model._meta.db_table
    return Question(f"rows.update.{table}", f"UPDATE {table} SET {changes} WHERE id = %(key)s::bigint")  # noqa: S608


def _parameter(model: type[Model], name: str) -> str:
    type_ = str(_field(model, name).db_type(connection))
    return f"%({name})s::{_TYPES.get(type_, re.sub(r'[(][0-9]+[)]', '', type_))}"


def _values(row: Model, names: Sequence[str]) -> dict[str, Any]:
    return {name: _value(_field(type(row), name), getattr(row, name)) for name in names}


def _value(field: "Field[Any, Any]", value: Any) -> Any:
    if isinstance(field, JSONField | ArrayField):
        return value  # becomes what PostgreSQL takes by the type of the parameter
    return field.get_db_prep_save(value.value if isinstance(value, Enum) else value, connection)


def _field(model: type[Model], name: str) -> "Field[Any, Any]":
    return _by_attname(model)[name]


@cache
def _by_attname(model: type[Model]) -> dict[str, "Field[Any, Any]"]:
    return {field.attname: field for field in _fields(model)}


def _fields(model: type[Model]) -> list["Field[Any, Any]"]:
    return list(model._meta.concrete_fields)
