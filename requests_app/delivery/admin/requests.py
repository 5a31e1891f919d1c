from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from requests_app.delivery.admin import searching, shown
from requests_app.delivery.admin.audit import AuditEventAdmin
from requests_app.delivery.admin.deliveries import DeliveryAdmin, IssuedSessionAdmin
from requests_app.delivery.admin.records import Record, RecordLines
from requests_app.delivery.admin.site import site
from requests_app.domain import clock
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    Decision,
    Delivery,
    Extension,
    IssuedSession,
    Role,
)
from requests_app.domain.models.catalog import is_named
from requests_app.domain.transitions import ExtensionState


def by_account(word: str) -> Q | None:
    named = searching.account_or_role(word)
    return Q(role__in=Role.objects.filter(is_named(named))) if named else None


class DecisionColumns:
    @admin.display(description="decided at")
    def when(self, decision: Decision) -> SafeString | str:
        return shown.utc(decision.decided_at)

    @admin.display(description="request")
    def about(self, decision: Decision) -> SafeString | str:
        return shown.request_link(decision.access_request_id, decision.access_request.code)

    @admin.display(description="on more time")
    def on_more(self, decision: Decision) -> SafeString | str:
        """Where it was not on the request itself."""
        if decision.extension is None:
            return shown.NOTHING
        address = reverse("admin:requests_app_extension_change", args=[decision.extension.pk])
        return format_html('<a href="{}">{}</a>', address, shown.length(decision.extension.seconds))


@admin.register(Decision, site=site)
class DecisionAdmin(DecisionColumns, Record):
    finders: ClassVar[list[searching.Finder]] = [searching.by_code("access_request"), searching.by_person("approver")]
    search_help_text = searching.HELP
    moment = "decided_at"
    list_display = ("when", "approver_name", "verdict", "stage", "about", "on_more", "comment")
    list_select_related = ("access_request", "extension")
    fields = ("when", "about", "on_more", "stage", "approver_name", "verdict", "comment")
    readonly_fields = fields


class DecisionLines(DecisionColumns, RecordLines):
    model = Decision
    fields = ("when", "stage", "approver_name", "verdict", "on_more", "comment")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Decision]:
        return super().get_queryset(request).select_related("extension")


class WaitingFilter(admin.SimpleListFilter):
    """Only the few that wait have an index."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(ExtensionState.PENDING), "pending")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Extension]) -> QuerySet[Extension]:
        waiting = self.value() == ExtensionState.PENDING
        return queryset.filter(state=ExtensionState.PENDING) if waiting else queryset


class ExtensionColumns:
    @admin.display(description="asked at")
    def when(self, extension: Extension) -> SafeString | str:
        return shown.utc(extension.asked_at)

    @admin.display(description="request")
    def about(self, extension: Extension) -> SafeString | str:
        return shown.request_link(extension.access_request_id, extension.access_request.code)

    @admin.display(description="more")
    def more(self, extension: Extension) -> str:
        return shown.length(extension.seconds)

    @admin.display(description="to be decided until")
    def decide_until(self, extension: Extension) -> SafeString | str:
        return shown.utc(extension.decide_by)

    @admin.display(description="from")
    def goes_on_from(self, extension: Extension) -> SafeString | str:
        return shown.utc(extension.previous_end)

    @admin.display(description="until")
    def until(self, extension: Extension) -> SafeString | str:
        return shown.utc(extension.new_end)

    @admin.display(description="finished at")
    def finished(self, extension: Extension) -> SafeString | str:
        return shown.utc(extension.finished_at)


class DecisionsOnMore(DecisionColumns, RecordLines):
    model = Decision
    fields = ("when", "stage", "approver_name", "verdict", "comment")
    readonly_fields = fields


@admin.register(Extension, site=site)
class ExtensionAdmin(ExtensionColumns, Record):
    finders: ClassVar[list[searching.Finder]] = [searching.by_code("access_request"), searching.by_person("asked_by")]
    search_help_text = searching.HELP
    moment = "asked_at"
    list_display = ("when", "about", "asked_by", "more", "state", "until")
    list_select_related = ("access_request", "asked_by")
    list_filter = (WaitingFilter,)
    inlines = (DecisionsOnMore,)
    fields = (
        *("when", "about", "asked_by", "more", "justification", "state", "stage", "decide_until"),
        *("goes_on_from", "until", "finished"),
    )
    readonly_fields = fields


class ExtensionLines(ExtensionColumns, RecordLines):
    model = Extension
    fields = ("when", "more", "state", "until", "finished", "justification")
    readonly_fields = fields


class DeliveryLines(RecordLines):
    model = Delivery
    fields = ("when", "kind", "state", "message", "aws_code", "thumbprint")
    readonly_fields = fields
    when = DeliveryAdmin.when


class SessionLines(RecordLines):
    model = IssuedSession
    fields = ("issued", "session_name", "ends", "sts_ends", "minted_by", "discarded")
    readonly_fields = fields
    issued = IssuedSessionAdmin.issued
    ends = IssuedSessionAdmin.ends
    sts_ends = IssuedSessionAdmin.sts_ends


class EventLines(RecordLines):
    model = AuditEvent
    fields = ("when", "action", "actor_name", "channel", "ip", "details")
    readonly_fields = fields
    when = AuditEventAdmin.when
    details = AuditEventAdmin.details


@admin.register(AccessRequest, site=site)
class AccessRequestAdmin(Record):
    finders: ClassVar[list[searching.Finder]] = [
        searching.by_code("pk"),
        by_account,
        searching.by_person("beneficiary", "requester"),
    ]
    search_help_text = f"{searching.HELP}, or an account's number, or a role's ARN"
    moment = "asked_at"
    list_display = ("code", "beneficiary", "role", "state", "asked", "began", "ends", "ended")
    list_select_related = ("beneficiary", "role__account")
    list_filter = ("state",)
    inlines = (DecisionLines, ExtensionLines, DeliveryLines, SessionLines, EventLines)
    fields = (
        "code",
        "state",
        "by_the_clock",
        "requester",
        "beneficiary",
        "role",
        "entitlement",
        "justification",
        "ticket",
        "lasts",
        "start",
        "wanted_from",
        "asked",
        "accepted",
        "decide_until",
        "approved",
        "scheduled_for",
        "start_until",
        "began",
        "ends",
        "ended",
        "ended_by",
        "end_reason",
        "terms_as_stored",
    )
    readonly_fields = fields

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        return found and AccessRequest.objects.with_names().select_related("entitlement").get(pk=found.pk)

    def view_on_site(self, access_request: AccessRequest) -> str:
        return reverse("access_request", args=[access_request.code])

    @admin.display(description="state by the clock")
    def by_the_clock(self, access_request: AccessRequest) -> str:
        return str(access_request.state_at(clock.now()))

    @admin.display(description="lasts (h:mm:ss)")
    def lasts(self, access_request: AccessRequest) -> str:
        return str(access_request.duration)

    @admin.display(description="asked at")
    def asked(self, access_request: AccessRequest) -> SafeString | str:
        return shown.utc(access_request.asked_at)

    @admin.display(description="wanted from")
    def wanted_from(self, access_request: AccessRequest) -> SafeString | str:
        return shown.utc(access_request.wanted_start_at)

    @admin.display(description="accepted by the beneficiary at")
    def accepted(self, access_request: AccessRequest) -> SafeString | str:
        return shown.utc(access_request.accepted_at)

    @admin.display(description="scheduled for")
    def scheduled_for(self, access_request: AccessRequest) -> SafeString | str:
        return shown.utc(access_request.scheduled_at)

    @admin.display(description="to be decided until")
    def decide_until(self, access_request: AccessRequest) -> SafeString | str:
        return shown.utc(access_request.decide_by)

    @admin.display(description="approved at")
    def approved(self, access_request: AccessRequest) -> SafeString | str:
        return shown.utc(access_request.approved_at)

    @admin.display(description="to be started until")
    def start_until(self, access_request: AccessRequest) -> SafeString | str:
        return shown.utc(access_request.start_by)

    @admin.display(description="began at")
    def began(self, access_request: AccessRequest) -> SafeString | str:
        return shown.utc(access_request.activated_at)

    @admin.display(description="ends at")
    def ends(self, access_request: AccessRequest) -> SafeString | str:
        return shown.utc(access_request.expires_at)

    @admin.display(description="ended at")
    def ended(self, access_request: AccessRequest) -> SafeString | str:
        return shown.utc(access_request.ended_at)

    @admin.display(description="terms, as they were")
    def terms_as_stored(self, access_request: AccessRequest) -> SafeString:
        return shown.document(access_request.terms_document)
