"""Pages on which operators change things: each change is an audit event in the same transaction."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import structlog
from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, OperationalError
from django.db.models import Model, QuerySet
from django.forms import BaseInlineFormSet, ModelChoiceField
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from psycopg.errors import DeadlockDetected

from requests_app.delivery.admin import shown
from requests_app.delivery.admin.bounded import MOST_COUNTED, MOST_LINES, BoundedPaginator, FirstLines
from requests_app.delivery.admin.completing import CompletingSelect
from requests_app.delivery.web.origin import client_ip
from requests_app.domain import audit, workflow
from requests_app.domain.models import AuditEvent, Edit, User
from requests_app.domain.workflow.own_edits import kind_of

log = structlog.get_logger(__name__)

MOST_HISTORY = 100
# Their values are in no event.
SECRET = {"password", "password1", "password2", "usable_password"}

Changes = dict[str, Any]


def operates(request: HttpRequest) -> bool:
    """Whether it is an operator who asks; of somebody deactivated there is no sign-in."""
    return isinstance(request.user, User) and request.user.is_operator


class OperatorsChange:
    """For a page or an inline: who has the permission to view may look; only operators change anything."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return operates(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return operates(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):  # type: ignore[attr-defined]
            kwargs.setdefault("widget", CompletingSelect(db_field, self.admin_site))  # type: ignore[attr-defined]
        return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]


class Audited(OperatorsChange, admin.ModelAdmin):
    """Nothing here is ever deleted: requests and the record refer to it. It is taken out of use instead.

    `fixed` names what can be corrected only while nothing depends on it, `decides_nothing` what may change without
    being an own edit: who may have what never depends on it.
    """

    action: ClassVar[audit.Action]
    fixed: ClassVar[tuple[str, ...]] = ()
    decides_nothing: ClassVar[frozenset[str]] = frozenset()
    actions: Any = None
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    view_on_site = False

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Where somebody else was faster, and the database refuses or finds each waiting for the other, it is looked at
        again: now the form sees what they did, and says so beside what was typed."""
        for _ in range(2):
            try:
                return super().changeform_view(request, object_id, form_url, extra_context)
            except (IntegrityError, OperationalError) as refused:
                if isinstance(refused, OperationalError) and not isinstance(refused.__cause__, DeadlockDetected):
                    raise
                log.warning("admin.refused_by_database", model=self.opts.model_name, error=str(refused))
        return super().changeform_view(request, object_id, form_url, extra_context)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        readonly = [*super().get_readonly_fields(request, obj)]
        # What was posted is looked at, and answered at its field, though something came to depend on it meanwhile.
        posted = request.method == "POST" and any(name in request.POST for name in self.fixed)
        return [*readonly, *self.fixed] if self.why_fixed(obj) and not posted else readonly

    def why_fixed(self, obj: Any) -> str:
        """Why what is `fixed` cannot be corrected any more, for the middle of a sentence; empty while it can."""
        if obj is None or not self.fixed:
            return ""
        if not hasattr(obj, "_why_fixed"):  # asked several times for one page
            obj._why_fixed = workflow.catalog.depended_on(obj)
        return str(obj._why_fixed)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Where something is posted, the row is held, so that old and new are what this change made of it."""
        found = super().get_object(request, object_id, from_field)
        if found is not None and request.method == "POST":
            locked = self.get_queryset(request).select_for_update(of=("self",), no_key=True)
            found = locked.filter(pk=found.pk).first()
        return found

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return super().get_search_results(request, queryset, search_term.replace("\0", ""))

    def construct_change_message(  # type: ignore[override]
        self, request: HttpRequest, form: forms.Form, formsets: Iterable[Any] | None, add: bool = False
    ) -> Changes:
        """Field by field [old, new]; of lines what was added, removed and changed."""
        changes = changes_of(form, new=add)
        for formset in formsets or ():
            if not self.records_lines_itself(formset) and (lines := lines_of(formset)):
                changes.setdefault(str(formset.model._meta.verbose_name_plural), {}).update(lines)
        return changes

    def records_lines_itself(self, formset: BaseInlineFormSet) -> bool:
        return False

    def log_addition(self, request: HttpRequest, obj: Any, message: Changes) -> None:  # type: ignore[override]
        self.record(request, obj, message, made=True)

    def log_change(self, request: HttpRequest, obj: Any, message: Changes) -> None:  # type: ignore[override]
        if message:
            self.record(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:  # type: ignore[override]
        raise PermissionDenied

    def record(
        self,
        request: HttpRequest,
        obj: Any,
        changes: Changes,
        *,
        action: audit.Action | None = None,
        beneficiary: User | None = None,
        **detail: Any,
    ) -> int:
        """The key of the event."""
        by: User = request.user  # type: ignore[assignment]
        with by_admin(request):
            event = audit.record(
                action or self.action,
                by=by,
                beneficiary=beneficiary,
                subject=getattr(obj, "arn", "") or str(obj),
                kind=str(obj._meta.verbose_name),
                id=obj.pk,
                changes=changes,
                **detail,
            )
            if obj != by and self._decides(obj, changes, member=beneficiary):
                member = beneficiary if kind_of(obj) == "group" else None
                workflow.own_edits.note(obj, by=by, change=changes, member=member)
        return event

    def _decides(self, obj: Any, changes: Changes, *, member: User | None) -> bool:
        """Whether this changes who may have what, so that it does not count for `by` until another confirms it."""
        kind = kind_of(obj)
        if kind == "group":
            return member is not None  # what it is called decides nothing
        return kind is not None and bool(changes.keys() - (self.decides_nothing if type(obj) is self.model else ()))

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        if obj is not None and operates(request) and (kind := kind_of(obj)):
            own = Edit.objects.unconfirmed().filter(editor=request.user.pk, **{kind: obj})
            context["own_edit"] = own.order_by("-pk").values("made_at").first()
        context["why_fixed"] = self.why_fixed(obj) if operates(request) else ""
        return super().render_change_form(request, context, add, change, form_url, obj)

    def events(self, obj: Any) -> QuerySet[AuditEvent]:
        """What operators did to this one."""
        return AuditEvent.objects.filter(
            action=self.action, detail__kind=str(obj._meta.verbose_name), detail__id=obj.pk
        )

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404
        if not (self.has_view_permission(request, obj) and request.user.has_perm("requests_app.view_auditevent")):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": f"Changes of {obj}",
            "events": [(event, _in_words(event)) for event in self.events(obj).order_by("-pk")[:MOST_HISTORY]],
            "most": MOST_HISTORY,
            "object": obj,
            "opts": self.opts,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/changes.html", context)


class Lines(OperatorsChange, admin.TabularInline):
    """Rows that are added and taken out, never rewritten. The first ones are shown."""

    formset = FirstLines
    extra = 0
    show_change_link = False
    # Where whatever is not among the first can be taken out.
    elsewhere: ClassVar[str] = ""
    # What the words of a row need, read with it.
    related: ClassVar[tuple[str, ...]] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        return rows.select_related(*self.related) if self.related else rows

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return operates(request)

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> type[Any]:
        formset = super().get_formset(request, obj, **kwargs)
        formset.say_more = staticmethod(self._say_more)  # type: ignore[attr-defined]  # of FirstLines
        return formset

    def _say_more(self, rows: QuerySet[Any]) -> None:
        number = rows.order_by().values("pk")[:MOST_COUNTED].count()
        self.verbose_name_plural = (
            f"{self.opts.verbose_name_plural}: the first {MOST_LINES} of {number:,}. {self.elsewhere}"
        )


@contextmanager
def by_admin(request: HttpRequest) -> Iterator[None]:
    """What is recorded inside came by the admin."""
    agent = request.headers.get("User-Agent", "")
    with audit.context(channel="admin", ip=client_ip(request), user_agent=agent):
        yield


def changes_of(form: Any, *, new: bool) -> Changes:
    """What a saved form changed: [old, new] for each field; everything it holds where the row is new."""
    names = [name for name in form.cleaned_data if name in form.fields] if new else form.changed_data
    changes: Changes = {}
    for name in names:
        if name in SECRET:
            changes["password"] = "set"  # noqa: S105
        elif name not in _NOT_VALUES and name in form.cleaned_data:
            before, now = None if new else _before(form, name), plain(form.cleaned_data[name])
            if new or before != now:  # an address in other letters is the same one
                changes[name] = [before, now]
    return changes


def lines_of(formset: BaseInlineFormSet) -> Changes:
    """What a saved formset changed, in the words that were there before and after."""
    gone = [form for form in formset.deleted_forms if form in formset.initial_forms]
    kept = [form for form in formset.initial_forms if form not in gone and form.has_changed()]
    added = [form for form in formset.extra_forms if form.instance in formset.new_objects]
    lines: Changes = {
        "removed": [_values_before(form, formset) or {"line": str(form.instance)} for form in gone],
        "changed": [{"line": str(form.instance), **changes_of(form, new=False)} for form in kept],
        "added": [_values_now(form, formset) for form in added],
    }
    return {name: value for name, value in lines.items() if value}


def plain(value: Any) -> Any:
    """A form's value as JSON that reads the same in ten years: names, not keys."""
    if isinstance(value, User):
        return value.username
    if isinstance(value, Model):
        return str(value)
    if isinstance(value, QuerySet | list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _in_words(event: AuditEvent) -> list[tuple[str, str]]:
    return shown.changes(event.detail.get("changes"))


def _before(form: Any, name: str) -> Any:
    value = form.initial.get(name)
    if isinstance(form.fields[name], ModelChoiceField) and isinstance(value, int):  # a key: say whose
        value = form.fields[name].queryset.filter(pk=value).first() or value
    return plain(value)


# Parts of a form that are no property of the row.
_NOT_VALUES = {"DELETE", "id", "arn", "seen_revision", "try_justification", "try_ticket"}


def _values_before(form: Any, formset: BaseInlineFormSet) -> Changes:
    # A foreign key's initial value is only its number; many-to-many ones are rows, and gone from the database.
    return {
        name: plain(value if isinstance(value := form.initial.get(name), list) else getattr(form.instance, name, value))
        for name in form.fields
        if name not in _NOT_VALUES and name != formset.fk.name
    }


def _values_now(form: Any, formset: BaseInlineFormSet) -> Changes:
    return {
        name: plain(value)
        for name, value in form.cleaned_data.items()
        if name not in _NOT_VALUES and name != formset.fk.name
    }
