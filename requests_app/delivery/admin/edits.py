"""What operators changed in the rules: for whom it does not count yet, and another operator's word that it is meant."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from requests_app.delivery.admin import searching, shown
from requests_app.delivery.admin.audited import by_admin, operates
from requests_app.delivery.admin.records import Record
from requests_app.delivery.admin.site import site
from requests_app.domain import workflow
from requests_app.domain.errors import DomainError
from requests_app.domain.models import Edit, User

MOST_SHOWN = 50
LONGEST_SHOWN = 600
_AROUND = ("editor", "confirmed_by", "entitlement", "role__account", "account", "unit", "group", "member", "person")


class ConfirmedFilter(admin.SimpleListFilter):
    title = "confirmed"
    parameter_name = "confirmed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "not yet")]  # nearly all are confirmed, and those there is no index for

    def queryset(self, request: HttpRequest, queryset: QuerySet[Edit]) -> QuerySet[Edit]:
        return queryset.filter(confirmed_at=None) if self.value() == "no" else queryset


@admin.register(Edit, site=site)
class EditAdmin(Record):
    finders: ClassVar[list[searching.Finder]] = [
        searching.by_person("confirmed_by", said="confirmed:"),
        searching.by_person("editor", said="made:"),
        searching.by_person("editor", "confirmed_by"),
    ]
    search_help_text = (
        "Exact: a person's user name, address or key in CloudTrail, for what they made or confirmed; "
        "made:olivia or confirmed:olivia for the one of it"
    )
    moment = "made_at"
    list_display = ("made", "editor", "about", "confirmed", "confirmed_by")
    list_display_links = ("made",)
    list_select_related = _AROUND
    list_filter = (ConfirmedFilter,)
    fields = ("made", "editor", "about", "changes", "confirmed", "confirmed_by")
    readonly_fields = fields

    def get_urls(self) -> list[Any]:
        own = path("to-confirm/", self.admin_site.admin_view(self.to_confirm), name="confirm_edits")
        return [own, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Edit]:
        return super().get_queryset(request).select_related(*_AROUND)

    def to_confirm(self, request: HttpRequest) -> HttpResponse:
        """What waits for another operator's word, the oldest first; operators give it for others' edits."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._confirm(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        waiting = self.get_queryset(request).unconfirmed().order_by("pk")  # type: ignore[attr-defined]
        others = waiting.exclude(_concerns(request.user))
        if after := _key(request.GET.get("after", "")):
            others = others.filter(pk__gt=after)
        context = {
            **self.admin_site.each_context(request),
            "title": "Edits to confirm",
            "opts": self.opts,
            "others": _lines(others, by=request.user if operates(request) else None),
            "own": _lines(waiting.filter(_concerns(request.user))),
            "most": MOST_SHOWN,
            "after": after,
            "operates": operates(request),
        }
        return TemplateResponse(request, "admin/to_confirm.html", context)

    def _confirm(self, request: HttpRequest) -> HttpResponse:
        by = request.user
        if not (isinstance(by, User) and operates(request)):
            raise PermissionDenied
        # A line's own button is about that line, whatever is ticked.
        chosen = request.POST.getlist("only") or request.POST.getlist("edit")
        keys = [key for key in map(_key, chosen[:MOST_SHOWN]) if key]
        done = 0
        for edit in Edit.objects.filter(pk__in=keys).select_related(*_AROUND).order_by("pk"):
            try:
                with by_admin(request):
                    workflow.own_edits.confirm(edit, by=by)
            except DomainError as refusal:
                messages.warning(request, f"{edit}: {refusal.message}")
            else:
                done += 1
        if done:
            what = "1 edit is" if done == 1 else f"{done} edits are"
            messages.success(request, f"{what} confirmed, and counts for whoever made it too.")
        elif not keys:
            messages.warning(request, "Choose at least one edit.")
        return redirect("admin:confirm_edits")

    @admin.display(description="made at")
    def made(self, edit: Edit) -> SafeString | str:
        return shown.utc(edit.made_at)

    @admin.display(description="about")
    def about(self, edit: Edit) -> SafeString:
        return _link(edit)

    @admin.display(description="changes")
    def changes(self, edit: Edit) -> SafeString:
        return format_html_join("", "<p>{}: {}</p>", shown.changes(edit.change))

    @admin.display(description="confirmed at")
    def confirmed(self, edit: Edit) -> SafeString | str:
        return shown.utc(edit.confirmed_at)


def _concerns(person: Any) -> Q:
    """What this person made, or what is about themselves: another operator confirms it."""
    return Q(editor=person) | Q(member=person) | Q(person=person)


def _key(written: str) -> int:
    return int(written) if written.isascii() and written.isdigit() and len(written) < 19 else 0


def _lines(edits: QuerySet[Edit], *, by: Any = None) -> dict[str, Any]:
    """The first of them as the page shows them, and whether there are more; those that `by` can confirm with a button,
    the others with why not."""
    first = list(edits[: MOST_SHOWN + 1])
    why_not = workflow.own_edits.why_not_confirm(first[:MOST_SHOWN], by) if by else {}
    lines = [
        {
            "edit": edit,
            "about": _link(edit),
            "kind": "membership" if edit.member else edit.subject._meta.verbose_name if edit.subject else "",
            "changes": [(name, _cut(change)) for name, change in shown.changes(edit.change)],
            "confirm": edit.pk in why_not and why_not[edit.pk] is None,
            "why_not": why_not.get(edit.pk),
        }
        for edit in first[:MOST_SHOWN]
    ]
    confirmable = sum(bool(line["confirm"]) for line in lines)
    last = first[MOST_SHOWN - 1].pk if len(first) > MOST_SHOWN else 0
    return {"lines": lines, "more": last, "confirmable": confirmable}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} …"


def _link(edit: Edit) -> SafeString:
    subject = edit.subject
    if subject is None:
        return format_html("{}", shown.NOTHING)
    if edit.member is not None:
        return format_html("{} in {}", _link_to(edit.member), _link_to(subject))
    return _link_to(subject)


def _link_to(row: Model) -> SafeString:
    address = reverse(f"admin:requests_app_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}">{}</a>', address, row)
