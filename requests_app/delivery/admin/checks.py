"""What the workers found on roles and of themselves, and what failed: read by auditors and operators."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from requests_app.delivery.admin import searching, shown
from requests_app.delivery.admin.deliveries import by_access_key
from requests_app.delivery.admin.records import Record
from requests_app.delivery.admin.requests import by_account
from requests_app.delivery.admin.site import site
from requests_app.domain.models import Identity, OwnSession, Preflight, Trouble


def findings(found: list[dict[str, str]]) -> SafeString | str:
    """One line a check; AWS's words folded."""
    lines = format_html_join("", "<li><strong>{}</strong>: {}{}</li>", (_line(finding) for finding in found))
    return format_html("<ul>{}</ul>", lines) if found else shown.NOTHING


def doors(preflight: Preflight) -> SafeString | str:
    """Who else comes in by the role's trust policy."""
    rows = (
        (door["principal"], ", ".join(door["actions"]), f" if {door['condition']}" if door["condition"] else "")
        for door in preflight.doors
    )
    lines = format_html_join("", '<li><span class="mono">{}</span> by {}{}</li>', rows)
    return format_html("This role has other doors:<ul>{}</ul>", lines) if preflight.doors else "None were found."


def _line(finding: dict[str, str]) -> tuple[Any, ...]:
    message = " ".join(part for part in (finding["code"], finding["words"]) if part)
    folded = format_html('<details class="fold"><summary>AWS says</summary>{}</details>', message) if message else ""
    return finding["check"], f"{finding['verdict']}. {finding['advice']}".strip(), folded


class OutcomeFilter(admin.SimpleListFilter):
    """Of roles, by what their preflight came to."""

    title = "preflight"
    parameter_name = "preflight"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("refused", "AWS refuses Daypass"),
            ("mend", "something to mend"),
            ("good", "good"),
            ("unknown", "not known"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "refused":
                return queryset.filter(preflight__usable="bad")
            case "mend":
                return queryset.filter(preflight__verdict="bad")
            case "good":
                return queryset.filter(preflight__verdict="good")
            case "unknown":
                return queryset.filter(Q(preflight=None) | Q(preflight__verdict="unknown"))
        return queryset


@admin.register(Preflight, site=site)
class PreflightAdmin(Record):
    finders: ClassVar[list[searching.Finder]] = [by_account]
    search_help_text = "An account's number"
    list_display = ("role", "usable", "verdict", "minter_looked", "revoker_looked", "harmless_action")
    list_select_related = ("role__account",)
    list_filter = ("usable", "verdict")
    fields = (
        *("role", "usable", "verdict", "minter_looked", "minter_found", "minter_next", "revoker_looked"),
        *("revoker_found", "revoker_next", "harmless_action", "aws_role_id", "longest_session_seconds", "room"),
        *("scoping", "other_doors"),
    )
    readonly_fields = fields

    @admin.display(description="the minter looked at")
    def minter_looked(self, preflight: Preflight) -> SafeString | str:
        return shown.utc(preflight.minter_at)

    @admin.display(description="the minter found")
    def minter_found(self, preflight: Preflight) -> SafeString | str:
        return findings(preflight.minter_findings)

    @admin.display(description="the minter looks again at")
    def minter_next(self, preflight: Preflight) -> SafeString | str:
        return shown.utc(preflight.minter_due_at)

    @admin.display(description="the revoker looked at")
    def revoker_looked(self, preflight: Preflight) -> SafeString | str:
        return shown.utc(preflight.revoker_at)

    @admin.display(description="the revoker found")
    def revoker_found(self, preflight: Preflight) -> SafeString | str:
        return findings(preflight.revoker_findings)

    @admin.display(description="the revoker looks again at")
    def revoker_next(self, preflight: Preflight) -> SafeString | str:
        return shown.utc(preflight.revoker_due_at)

    @admin.display(description="other doors")
    def other_doors(self, preflight: Preflight) -> SafeString | str:
        return doors(preflight)


@admin.register(OwnSession, site=site)
class OwnSessionAdmin(Record):
    finders: ClassVar[list[searching.Finder]] = [by_access_key, by_account]
    search_help_text = "Exact: an access key id (ASIA…), or an account's number"
    moment = "issued_at"
    list_display = ("issued", "purpose", "role", "session_name", "access_key_id", "ends")
    list_select_related = ("role__account",)
    fields = (*list_display, "assumed_role_arn")
    readonly_fields = fields

    @admin.display(description="issued at")
    def issued(self, session: OwnSession) -> SafeString | str:
        return shown.utc(session.issued_at)

    @admin.display(description="STS session ends")
    def ends(self, session: OwnSession) -> SafeString | str:
        return shown.utc(session.sts_expires_at)


@admin.register(Identity, site=site)
class IdentityAdmin(Record):
    list_display = ("worker", "region", "arn", "chained", "regional", "seen", "failed", "aws_code")
    fields = (*list_display, "endpoint", "aws_message")
    readonly_fields = fields

    @admin.display(description="seen at")
    def seen(self, identity: Identity) -> SafeString | str:
        return shown.utc(identity.seen_at)

    @admin.display(description="failed at")
    def failed(self, identity: Identity) -> SafeString | str:
        return shown.utc(identity.failed_at)


class OverFilter(admin.SimpleListFilter):
    title = "over"
    parameter_name = "over"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "still"), ("yes", "over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Trouble]) -> QuerySet[Trouble]:
        return queryset.filter(over_at__isnull=self.value() == "no") if self.value() else queryset


@admin.register(Trouble, site=site)
class TroubleAdmin(Record):
    list_display = ("task", "subject", "error", "where", "times", "first", "last", "again", "over")
    list_filter = (OverFilter,)
    fields = list_display
    readonly_fields = fields

    @admin.display(description="since")
    def first(self, trouble: Trouble) -> SafeString | str:
        return shown.utc(trouble.first_at)

    @admin.display(description="last at")
    def last(self, trouble: Trouble) -> SafeString | str:
        return shown.utc(trouble.last_at)

    @admin.display(description="put off until")
    def again(self, trouble: Trouble) -> SafeString | str:
        return shown.utc(trouble.due_at)

    @admin.display(description="over at")
    def over(self, trouble: Trouble) -> SafeString | str:
        return shown.utc(trouble.over_at)
