"""The page of an entitlement."""

from collections.abc import Iterator
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from requests_app.delivery.admin.audited import Audited, Changes
from requests_app.delivery.admin.entitlements.form import EntitlementForm
from requests_app.delivery.admin.entitlements.in_words import summary
from requests_app.delivery.admin.entitlements.lines import (
    AskerLines,
    ExcludedGroupLines,
    ExcludedPersonLines,
    GroupLines,
    PersonLines,
    RoleLines,
)
from requests_app.delivery.admin.entitlements.revisions import next_revision
from requests_app.delivery.admin.entitlements.selectors import NewSelectorLines, SelectorLines
from requests_app.delivery.admin.entitlements.stages import StageInline
from requests_app.delivery.admin.shown import length
from requests_app.delivery.admin.site import site
from requests_app.domain import narrowing_fit
from requests_app.domain.audit import Action
from requests_app.domain.models import Entitlement, Role, Stage

MOST_NAMED_ROLES = 3


@admin.register(Entitlement, site=site)
class EntitlementAdmin(Audited):
    action = Action.ENTITLEMENT_CHANGED
    form = EntitlementForm
    readonly_fields = ("revision", "in_plain_words")
    radio_fields: ClassVar[dict[str, Any]] = {"approval": admin.VERTICAL}
    inlines = (
        *(StageInline, GroupLines, PersonLines, ExcludedGroupLines, ExcludedPersonLines, AskerLines),
        *(RoleLines, SelectorLines, NewSelectorLines),
    )
    list_display = ("name", "approval", "longest", "ticket", "is_active", "revision")
    list_filter = ("approval", "is_active")
    search_fields = ("name",)
    search_help_text = "Any part of a name"
    ordering = ("name",)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        may_change = self.has_change_permission(request, obj)
        seen = ("seen_revision",) if obj and may_change else ()
        tried = [("try_justification",), ("try_ticket",)] if may_change else [(), ()]
        texts = ("justification_min", "justification_pattern", *tried[0], "ticket", "ticket_pattern", *tried[1])
        lengths = ("longest", "default", "pending", "start_within", "schedule_ahead", "session_ceiling")
        times = tuple(f"{name}_seconds" for name in lengths)
        narrowed = ("narrowing_statements", "narrowing_policy_arns", "lifted")
        ways = ("ends_by_sts_only", "not_through_mcp")
        return [
            *([("In plain words", {"fields": ("in_plain_words",)})] if obj else []),
            (None, {"fields": ("name", "is_active", "approval", "revision", *seen)}),
            ("Times", {"fields": times}),
            ("Days and hours", {"fields": ("hours_days", ("hours_begin", "hours_end"), "hours_zone")}),
            ("More time", {"fields": ("extensions_most", "extension_total_seconds")}),
            ("What a person must say", {"fields": texts}),
            ("What a pass may do", {"fields": ("channels", "most_at_once", *ways, *narrowed)}),
        ]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        for sentence in _warnings(form.instance):
            messages.warning(request, sentence)

    @admin.display(description="longest", ordering="longest_seconds")
    def longest(self, entitlement: Entitlement) -> str:
        return length(entitlement.longest_seconds)

    @admin.display(description="who asks reads")
    def in_plain_words(self, entitlement: Entitlement) -> SafeString:
        # As it is stored, also where what was typed is refused.
        stored = Entitlement.objects.with_terms().prefetch_related("askers").get(pk=entitlement.pk)
        return format_html('<ul class="dp-plain">{}</ul>', summary(stored))

    def log_addition(self, request: HttpRequest, obj: Entitlement, message: Changes) -> None:  # type: ignore[override]
        self.record(request, obj, message, made=True, revision=obj.revision)

    def log_change(self, request: HttpRequest, obj: Entitlement, message: Changes) -> None:  # type: ignore[override]
        if message:
            self.record(request, obj, message, revision=next_revision(obj))


def _warnings(entitlement: Entitlement) -> Iterator[str]:
    """What is possible, and perhaps not meant, by the roles that are given now."""
    given = [Q(entitlementrole__entitlement=entitlement), *entitlement.selectors.questions()]
    ceiling = entitlement.session_ceiling_seconds
    if shorter := _first_of(given, Q(longest_session_seconds__lt=ceiling)):
        yield (
            f"Sessions of {length(ceiling)} are more than IAM allows for {shorter}. "
            "Those are issued for as long as their role allows."
        )
    if left_open := next(filter(None, (narrowing_fit.left_open(entitlement, question) for question in given)), []):
        yield (
            f"The narrowing is so long that these could not be denied: {', '.join(left_open)}. "
            "What they give can work after the pass, and the pages say so."
        )
    for stage in entitlement.stages.filter(groups=None, users=None).exclude(owners=""):
        none = Q(owners=None) if stage.owners == Stage.Owners.ROLE else Q(account__owners=None)
        if unowned := _first_of(given, none):
            yield (
                f"Stage {stage.position} asks {stage.get_owners_display()} alone, and there are none for {unowned}. "
                "Nobody could decide on those."
            )


def _first_of(given: list[Q], question: Q) -> str:
    """The first roles for which this holds, by name."""
    found: dict[int, str] = {}
    for one_way in given:
        rows = Role.objects.filter(one_way).filter(question).select_related("account").order_by("pk")
        found |= {role.pk: str(role) for role in rows[: MOST_NAMED_ROLES + 1]}
    names = sorted(found.values())
    return ", ".join(names[:MOST_NAMED_ROLES]) + (", …" if len(names) > MOST_NAMED_ROLES else "")
