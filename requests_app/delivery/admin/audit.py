from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from requests_app.delivery.admin import searching, shown
from requests_app.delivery.admin.records import Record
from requests_app.delivery.admin.site import site
from requests_app.domain.audit import Action
from requests_app.domain.models import AuditEvent

_ACTIONS = {str(action) for action in Action}


def by_action(word: str) -> Q | None:
    return Q(action=word) if word.removesuffix(".refused") in _ACTIONS else None


class ActionFilter(admin.SimpleListFilter):
    """Each action there is, from the code's own list: the database would have to read every event to say."""

    title = "action"
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(action, action) for action in sorted(_ACTIONS)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        return queryset.filter(action=self.value()) if self.value() else queryset


@admin.register(AuditEvent, site=site)
class AuditEventAdmin(Record):
    finders: ClassVar[list[searching.Finder]] = [
        searching.by_code("access_request"),
        by_action,
        searching.by_person("actor", "beneficiary"),
    ]
    search_help_text = (
        f"{searching.HELP}, or an action (request.approved, request.approved.refused). Several words narrow together."
    )
    moment = "at"
    # What it is about before who: the rest may be beyond the edge of a small screen.
    list_display = ("when", "action", "about", "actor_name", "beneficiary_name", "channel", "ip")
    list_display_links = ("when",)
    list_filter = (ActionFilter,)
    fields = (
        "when",
        "recorded",
        "transaction",
        "action",
        "actor_name",
        "beneficiary_name",
        "about",
        "channel",
        "ip",
        "user_agent",
        "details",
    )
    readonly_fields = fields

    @admin.display(description="at")
    def when(self, event: AuditEvent) -> SafeString | str:
        return shown.utc(event.at)

    @admin.display(description="recorded at")
    def recorded(self, event: AuditEvent) -> SafeString | str:
        return shown.utc(event.recorded_at)

    @admin.display(description="transaction")
    def transaction(self, event: AuditEvent) -> str:
        return str(event.transaction_id)

    @admin.display(description="about")
    def about(self, event: AuditEvent) -> SafeString | str:
        return shown.request_link(event.access_request_id, event.subject)

    @admin.display(description="details")
    def details(self, event: AuditEvent) -> SafeString:
        return shown.document(event.detail)
