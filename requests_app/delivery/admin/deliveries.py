from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from requests_app.delivery.admin import searching, shown
from requests_app.delivery.admin.records import Record
from requests_app.delivery.admin.site import site
from requests_app.domain.audit import Action
from requests_app.domain.models import AuditEvent, AwsClock, Delivery, DenyPolicy, IssuedSession, Notice, Revocation


def by_public_id(word: str) -> Q | None:
    try:
        return Q(public_id=UUID(word))
    except ValueError:
        return None


def by_access_key(word: str) -> Q | None:
    return Q(access_key_id=word) if word.isalnum() and word[:4].upper() in ("ASIA", "AKIA", "LSIA") else None


def by_either_key(word: str) -> Q | None:
    """A key that somebody was given, or its parent's or one thrown away, which nobody was."""
    given = by_access_key(word)
    if given is None:
        return None
    discarded = AuditEvent.objects.filter(action=Action.KEYS_DISCARDED, detail__access_key_id=word)
    if of := discarded.values_list("detail__of", flat=True).first():
        return Q(access_key_id=of)
    return given | Q(parent_access_key_id=word) & ~Q(parent_access_key_id="")


class OfOneRequest(Record):
    """Its code stands in each row, so the request is read with it."""

    list_select_related: ClassVar[tuple[str, ...]] = ("access_request",)

    @admin.display(description="request")
    def about(self, row: Delivery | IssuedSession | Revocation) -> SafeString | str:
        return shown.request_link(row.access_request_id, row.access_request.code)


@admin.register(Delivery, site=site)
class DeliveryAdmin(OfOneRequest):
    finders: ClassVar[list[searching.Finder]] = [
        searching.by_code("access_request"),
        by_public_id,
        searching.by_person("beneficiary"),
    ]
    search_help_text = f"{searching.HELP}, or a delivery's id"
    moment = "asked_at"
    list_display = ("when", "about", "beneficiary", "kind", "state", "aws_code")
    list_select_related = ("access_request", "beneficiary")
    # What the person's browser is proved by (`sign_in`) concerns nobody who reads this.
    fields = (
        "public_id",
        "about",
        "beneficiary",
        "role",
        "kind",
        "destination",
        "thumbprint",
        "state",
        "when",
        "claimed",
        "claimed_by",
        "sealed",
        "envelope_sha256",
        "finished",
        "message",
        "advice",
        "aws_code",
        "aws_message",
    )
    readonly_fields = fields

    @admin.display(description="asked at")
    def when(self, delivery: Delivery) -> SafeString | str:
        return shown.utc(delivery.asked_at)

    @admin.display(description="claimed at")
    def claimed(self, delivery: Delivery) -> SafeString | str:
        return shown.utc(delivery.claimed_at)

    @admin.display(description="sealed at")
    def sealed(self, delivery: Delivery) -> SafeString | str:
        return shown.utc(delivery.sealed_at)

    @admin.display(description="finished at")
    def finished(self, delivery: Delivery) -> SafeString | str:
        return shown.utc(delivery.finished_at)


@admin.register(IssuedSession, site=site)
class IssuedSessionAdmin(OfOneRequest):
    finders: ClassVar[list[searching.Finder]] = [
        searching.by_code("access_request"),
        by_either_key,
        searching.by_person("beneficiary"),
    ]
    search_help_text = f"{searching.HELP}, or an access key id (ASIA…)"
    moment = "issued_at"
    list_display = ("issued", "about", "session_name", "role_arn", "ends", "sts_ends", "ends_by", "discarded")
    fields = (
        "issued",
        "about",
        "beneficiary",
        "role_arn",
        "session_name",
        "source_identity",
        "access_key_id",
        "assumed_role_id",
        "minted_by",
        "thumbprint",
        "ends",
        "sts_ends",
        "ends_by",
        "fell_back",
        "parent_access_key_id",
        "parent_ends",
        "packed_policy_size",
        "session_token_utilization",
        "discarded",
    )
    readonly_fields = fields

    @admin.display(description="issued at")
    def issued(self, session: IssuedSession) -> SafeString | str:
        return shown.utc(session.issued_at)

    @admin.display(description="denied from (AWS's clock)")
    def ends(self, session: IssuedSession) -> SafeString | str:
        return shown.utc(session.cut_off)

    @admin.display(description="STS session ends")
    def sts_ends(self, session: IssuedSession) -> SafeString | str:
        return shown.utc(session.sts_expires_at)

    @admin.display(description="parent's STS session ends")
    def parent_ends(self, session: IssuedSession) -> SafeString | str:
        return shown.utc(session.parent_expires_at)


_ABOUT = (
    *("freeze__account", "freeze__role__account", "role__account", "entitlement", "event"),
    *("edit__member", "edit__group", "edit__entitlement", "edit__role__account", "edit__account", "edit__unit"),
)


@admin.register(Notice, site=site)
class NoticeAdmin(OfOneRequest):
    finders: ClassVar[list[searching.Finder]] = [searching.by_code("access_request"), searching.by_person("recipient")]
    search_help_text = searching.HELP
    list_display = ("due", "kind", "recipient", "of", "sent", "gave_up", "attempts")
    list_select_related = ("access_request", "recipient")
    # Of these only what there is.
    of_what = (
        *("extension", "stage", "state", "delivery", "freeze", "edit", "role", "entitlement"),
        *("when", "details", "event"),
    )
    fields = ("kind", "recipient", "of", *of_what, "due", "sent", "gave_up", "attempts", "last_error")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notice]:
        """With what the rows of a page are about: few are about more than a request."""
        return super().get_queryset(request).prefetch_related(*_ABOUT)

    def get_fields(self, request: HttpRequest, obj: Notice | None = None) -> list[Any]:
        columns = {"when": "moment", "details": "detail"}
        return [
            name
            for name in self.fields
            if name not in self.of_what or getattr(obj, columns.get(name, name)) not in (None, "", {})
        ]

    @admin.display(description="about")
    def of(self, row: Notice) -> SafeString | str:  # a name that no column has
        if row.access_request is not None:
            more = f"{row.access_request.code}, more time" if row.extension_id else row.access_request.code
            return shown.request_link(row.access_request_id, more)
        rows = row.freeze or row.edit or row.role or row.entitlement or (row.event and row.event.subject)
        return row.about or str(rows or "") or self.details(row) or shown.NOTHING

    @admin.display(description="moment")
    def when(self, notice: Notice) -> SafeString | str:
        return shown.utc(notice.moment)

    @admin.display(description="details")
    def details(self, notice: Notice) -> str:
        return "; ".join(f"{name}: {value}" for name, value in shown.changes(notice.detail))

    @admin.display(description="due at")
    def due(self, notice: Notice) -> SafeString | str:
        return shown.utc(notice.due_at)

    @admin.display(description="sent at")
    def sent(self, notice: Notice) -> SafeString | str:
        return shown.utc(notice.sent_at)

    @admin.display(description="given up at")
    def gave_up(self, notice: Notice) -> SafeString | str:
        return shown.utc(notice.gave_up_at)


@admin.register(AwsClock, site=site)
class AwsClockAdmin(Record):
    list_display = ("region", "low_seconds", "high_seconds", "measured", "identity_arn", "chained")
    fields = list_display
    readonly_fields = list_display

    @admin.display(description="measured at")
    def measured(self, reading: AwsClock) -> SafeString | str:
        return shown.utc(reading.measured_at)


@admin.register(Revocation, site=site)
class RevocationAdmin(OfOneRequest):
    finders: ClassVar[list[searching.Finder]] = [searching.by_code("access_request")]
    search_help_text = "A request's code"
    list_display = ("when", "about", "state", "written", "proved", "kept")
    fields = list_display
    readonly_fields = list_display

    @admin.display(description="asked at")
    def when(self, revocation: Revocation) -> SafeString | str:
        return shown.utc(revocation.asked_at)

    @admin.display(description="written at AWS")
    def written(self, revocation: Revocation) -> SafeString | str:
        return shown.utc(revocation.written_at)

    @admin.display(description="seen to refuse")
    def proved(self, revocation: Revocation) -> SafeString | str:
        return shown.utc(revocation.proved_at)

    @admin.display(description="kept until")
    def kept(self, revocation: Revocation) -> SafeString | str:
        return shown.utc(revocation.keep_until)


@admin.register(DenyPolicy, site=site)
class DenyPolicyAdmin(Record):
    list_display = ("role", "generation", "written", "looked", "next_look", "changed", "aws_code")
    list_select_related = ("role__account",)
    fields = (
        *list_display, "aws_message", "advice", "denied", "unknown", "probe_action", "probe_code", "probe_message",
        "refused", "signed_out", "sign_in_code", "sign_in_message", "sign_in_advice",
    )  # fmt: skip
    readonly_fields = fields

    @admin.display(description="written at")
    def written(self, policy: DenyPolicy) -> SafeString | str:
        return shown.utc(policy.written_at)

    @admin.display(description="looked at")
    def looked(self, policy: DenyPolicy) -> SafeString | str:
        return shown.utc(policy.looked_at)

    @admin.display(description="next look")
    def next_look(self, policy: DenyPolicy) -> SafeString | str:
        return shown.utc(policy.due_at)

    @admin.display(description="seen to refuse")
    def refused(self, policy: DenyPolicy) -> SafeString | str:
        return shown.utc(policy.refused_at)

    @admin.display(description="changed outside")
    def changed(self, policy: DenyPolicy) -> SafeString | str:
        return shown.utc(policy.changed_outside_at)
