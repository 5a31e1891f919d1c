"""What keeps a page of the admin small, however many rows there are."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.db.models.expressions import Combinable
from django.forms import BaseInlineFormSet
from django.http import HttpRequest
from django.utils.functional import cached_property

MOST_COUNTED = 10_000
# Every row of an inline posts two fields at least, and Django takes 1,000 fields in one form.
MOST_LINES = 50
OLDER_THAN = "id__lt"


class BoundedPaginator(Paginator):
    """Counts no further than `MOST_COUNTED`; whoever looks for more must search."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by().values("pk")[:MOST_COUNTED].count()


class NewestFirst(ChangeList):
    """A page of rows by key, with a link to the older ones: nothing is counted, skipped or sorted."""

    older: str | None
    newest: str | None

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        return ["-pk"]

    def get_results(self, request: HttpRequest) -> None:
        rows = list(self.queryset[: self.list_per_page + 1])
        self.result_list = rows[: self.list_per_page]
        more = len(rows) > self.list_per_page
        self.older = self.get_query_string({OLDER_THAN: str(self.result_list[-1].pk)}) if more else None
        self.newest = self.get_query_string(remove=[OLDER_THAN]) if OLDER_THAN in self.params else None
        # From here on only the links of filters and search are made, and those begin with the newest.
        self.params.pop(OLDER_THAN, None)
        self.filter_params.pop(OLDER_THAN, None)
        self.paginator = self.model_admin.get_paginator(request, self.queryset, self.list_per_page)
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = self.show_admin_actions = False
        self.can_show_all = self.multi_page = False


def first_from(rows: QuerySet[Any], moment: str, bound: datetime) -> int:
    """The key of the first row whose `moment` is not before `bound`, found by halving the keys: they grow with time,
    and no index by time is needed."""
    low, high = 0, (rows.order_by("-pk").values_list("pk", flat=True).first() or 0) + 1
    while low < high:
        middle = (low + high) // 2
        key, at = rows.filter(pk__gte=middle).order_by("pk").values_list("pk", moment).first() or (high, bound)
        low, high = (key + 1, high) if at < bound else (low, middle)
    return low


class FirstLines(BaseInlineFormSet):
    """Shows the first rows only; what is posted may be about those and no others."""

    # Called where there are more rows than are shown.
    say_more: Callable[[QuerySet[Any]], None] = staticmethod(lambda _: None)

    def get_queryset(self) -> Any:
        if not hasattr(self, "_queryset"):
            rows = super().get_queryset()
            if self.is_bound:
                self._queryset = rows.filter(pk__in=self._posted())
            else:
                first = list(rows[: MOST_LINES + 1])
                self._queryset = first[:MOST_LINES]  # type: ignore[assignment]  # a list does where nothing is posted
                if len(first) > MOST_LINES:
                    self.say_more(rows)
        return self._queryset

    def clean(self) -> None:
        super().clean()
        added = added_by(self) if self.instance.pk else []
        for constraint in self._kind._meta.total_unique_constraints:
            if added and self.fk.name in constraint.fields:
                self._refuse_what_is_there([name for name in constraint.fields if name != self.fk.name], added)

    def add_fields(self, form: Any, index: int | None) -> None:
        """A column's title stands far from its cells: each input says itself what it is, and of which row."""
        super().add_fields(form, index)
        row = str(form.instance) if form.instance.pk else "a new row"
        for name, field in form.fields.items():
            if not field.widget.is_hidden:
                label = "Take out" if name == "DELETE" else str(field.label or name).capitalize()
                field.widget.attrs.setdefault("aria-label", f"{label}: {row}")

    def _refuse_what_is_there(self, names: list[str], added: list[Any]) -> None:
        """Beyond the rows shown, or since they were shown; those that are shown were compared before."""
        columns = [self._kind._meta.get_field(name).attname for name in names]  # type: ignore[union-attr]
        alike = {f"{column}__in": {getattr(form.instance, column) for form in added} for column in columns}
        rows = self._kind._default_manager.filter(**{self.fk.name: self.instance}, **alike)
        there = set(rows.exclude(pk__in=[form.instance.pk for form in self.initial_forms]).values_list(*columns))
        for form in added:
            if tuple(getattr(form.instance, column) for column in columns) in there:
                field = next(name for name in names if name in form.fields)
                form.add_error(field, "This is here already, perhaps beyond the rows shown. Take this row out.")

    @property
    def _kind(self) -> type[Model]:
        assert self.model is not None  # noqa: S101 - the factory sets it
        return self.model

    def _posted(self) -> list[str]:
        key = re.compile(rf"{re.escape(str(self.prefix))}-[0-9]+-id")
        values = [value for name, value in self.data.items() if key.fullmatch(name)]
        return [value for value in values if re.fullmatch(r"[0-9]{1,18}", str(value))]


def added_by(formset: Any) -> list[Any]:
    """The forms of the rows that this would add."""
    added = [form for form in formset.extra_forms if form.has_changed() and form not in formset.deleted_forms]
    return [form for form in added if form.is_valid()]
