"""Rows of a model together with those that they point to, for a `prepared.Question`.

`select_related` says the same, but Django builds that statement anew each time and PostgreSQL plans it anew: with the
seven tables around a request that is more work than to read them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model, OneToOneRel

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one table gives: these fields, in these places of a row. `owner` is the part that points to it."""

    model: type[Model]
    alias: str
    names: list[str]
    first: int
    key: int
    owner: int = 0
    link: Any = None

    @property
    def after(self) -> int:
        return self.first + len(self.names)


class Joined(Generic[Row]):
    """`Joined(AccessRequest, "r", "role", "role__account")`: requests, `r` in SQL, with role and account.

    `columns` are what stands first after SELECT, `tables` what stands after FROM. `only`: of such a model these fields;
    any other one is read when somebody asks for it, as Django's own `only` has it.
    """

    def __init__(
        self, model: type[Row], alias: str, *along: str, only: Mapping[Any, Sequence[str]] | None = None
    ) -> None:
        self._only = only or {}
        self._parts = [self._part(model, alias, 0)]
        self.tables = f"{model._meta.db_table} {alias}"
        places = {"": 0}
        for path in along:
            before, _, name = path.rpartition("__")
            places[path] = len(self._parts)
            self._join(places[before], name)
        self.columns = ", ".join(
            f"{part.alias}.{part.model._meta.get_field(name).column}"  # type: ignore[union-attr]
            for part in self._parts
            for name in part.names
        )

    def read(self, found: Iterable[Sequence[Any]], *further: str) -> list[Row]:
        """The rows as instances. What several of them point to is one instance; `further` columns are attributes."""
        known: dict[tuple[int, Any], Model] = {}
        return [self._read(row, known, further) for row in found]

    def _read(self, row: Sequence[Any], known: dict[tuple[int, Any], Model], further: Sequence[str]) -> Row:
        made: list[Any] = []
        for number, part in enumerate(self._parts):
            key = row[part.key]
            instance = None if key is None else known.get((number, key))
            if instance is None and key is not None:
                instance = part.model.from_db(DEFAULT_DB_ALIAS, part.names, row[part.first : part.after])
                known[number, key] = instance
            made.append(instance)
            if part.link and made[part.owner] is not None:
                part.link.set_cached_value(made[part.owner], instance)
        root: Row = made[0]
        for name, value in zip(further, row[self._parts[-1].after :], strict=True):
            setattr(root, name, value)
        return root

    def _join(self, owner: int, name: str) -> None:
        left = self._parts[owner]
        link: Any = left.model._meta.get_field(name)
        part = self._part(link.related_model, f"{left.alias}_{name}", self._parts[-1].after, owner, link)
        # A reverse one is the other model's field.
        here, there = (
            (link.field.target_field, link.field) if isinstance(link, OneToOneRel) else (link, link.target_field)
        )
        on = f"{part.alias}.{there.column} = {left.alias}.{here.column}"
        self.tables += f" LEFT JOIN {part.model._meta.db_table} {part.alias} ON {on}"
        self._parts.append(part)

    def _part(self, model: type[Model], alias: str, first: int, owner: int = 0, link: Any = None) -> _Part:
        wanted = self._only.get(model)
        names = [field.attname for field in model._meta.concrete_fields if wanted is None or field.attname in wanted]
        key = first + names.index(model._meta.pk.attname)
        return _Part(model, alias, names, first, key, owner, link)
