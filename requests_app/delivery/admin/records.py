"""Pages of what happened: read by auditors and operators, changed by nobody."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from requests_app.delivery.admin import searching
from requests_app.delivery.admin.bounded import (
    MOST_LINES,
    OLDER_THAN,
    BoundedPaginator,
    FirstLines,
    NewestFirst,
    first_from,
)

UNTIL = "until"


class ReadOnly:
    """For a page or an inline: whoever has the permission to view may, and that is all anyone may."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Record(ReadOnly, admin.ModelAdmin):
    """A list of the newest, found by exact names, and a page for each."""

    finders: ClassVar[list[searching.Finder]] = []
    # When a row came into being; whoever reads may go back to any day by it.
    moment: ClassVar[str] = ""
    actions = None
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    sortable_by = ()
    change_list_template = "admin/record_list.html"
    change_form_template = "admin/record.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if UNTIL in request.GET and self.moment and self.has_view_permission(request):
            return self._back_to_day(request)
        return super().changelist_view(request, {**(extra_context or {}), "until": UNTIL if self.moment else ""})

    def _back_to_day(self, request: HttpRequest) -> HttpResponse:
        """To the same list from the end of a day (UTC) on backwards."""
        query = request.GET.copy()
        typed = query.pop(UNTIL)[-1]
        query.pop(OLDER_THAN, None)
        try:
            bound = datetime.combine(date.fromisoformat(typed), time(), UTC) + timedelta(days=1)
        except (ValueError, OverflowError):
            messages.warning(request, "Give a day as 2026-11-23.")
        else:
            query[OLDER_THAN] = str(first_from(self.get_queryset(request), self.moment, bound))
        return redirect(f"{request.path}?{query.urlencode()}")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[NewestFirst]:
        return NewestFirst

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return ["pk"] if self.finders else []  # only so that the box is shown

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        ways = searching.ways(search_term, self.finders)
        if len(ways) < 2:
            return (queryset.filter(*ways) if ways else queryset.none()), False
        # The newest of each, and of those the newest: asked for either at once, the database may read everybody's.
        # One more than a page shows, for that is how the list sees that there are older ones.
        first, *others = [queryset.filter(way).order_by("-pk").values("pk")[: self.list_per_page + 1] for way in ways]
        # Their keys, not a question within the question: among many joins that would be asked last, of every row.
        return queryset.filter(pk__in=list(first.union(*others).values_list("pk", flat=True))), False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        # An address with any other one could make the database read millions of rows.
        names = {getattr(entry, "parameter_name", entry) for entry in self.list_filter}
        return lookup == OLDER_THAN or lookup in names or lookup.removesuffix("__exact") in names

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # A record is its own history.
        return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", object_id)


class RecordLines(ReadOnly, admin.TabularInline):
    """The newest rows that belong to something else."""

    formset = FirstLines
    ordering = ("-pk",)
    extra = 0
    max_num = 0
    can_delete = False
    show_change_link = True
    classes = ("collapse",)

    def __init__(self, parent_model: Any, admin_site: Any) -> None:
        super().__init__(parent_model, admin_site)
        self.verbose_name_plural = f"{self.opts.verbose_name_plural} (at most the newest {MOST_LINES})"
