from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from requests_app.delivery.admin import searching, shown
from requests_app.delivery.admin.records import Record
from requests_app.delivery.admin.site import site
from requests_app.domain.models import Account, Confirmation, Freeze, Role
from requests_app.domain.models.catalog import account_is_named, is_named


def by_account(word: str) -> list[Q] | None:
    named = searching.account_or_role(word)
    if named is None:
        return None
    accounts = list(Account.objects.filter(account_is_named(named)).values_list("pk", flat=True))
    return [Q(account__in=accounts), Q(role__in=Role.objects.filter(is_named(named)))]


class InForceFilter(admin.SimpleListFilter):
    title = "in force"
    parameter_name = "in_force"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "in force")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Freeze]) -> QuerySet[Freeze]:
        return queryset.filter(lifted_at=None) if self.value() == "yes" else queryset


@admin.register(Freeze, site=site)
class FreezeAdmin(Record):
    finders: ClassVar[list[searching.Finder]] = [by_account]
    search_help_text = "An account's number"
    moment = "begun_at"
    list_display = ("of", "cause", "begun", "begun_by", "reason", "lift_asked_by", "lifted", "lifted_by")
    list_select_related = ("account", "role__account", "begun_by", "lift_asked_by", "lifted_by")
    list_filter = (InForceFilter,)
    fields = ("of", "cause", "reason", "begun", "begun_by", "asked", "lift_asked_by", "lifted", "lifted_by")
    readonly_fields = fields

    @admin.display(description="of")
    def of(self, freeze: Freeze) -> str:
        return str(freeze)

    @admin.display(description="begun at")
    def begun(self, freeze: Freeze) -> SafeString | str:
        return shown.utc(freeze.begun_at)

    @admin.display(description="lifting asked at")
    def asked(self, freeze: Freeze) -> SafeString | str:
        return shown.utc(freeze.lift_asked_at)

    @admin.display(description="lifted at")
    def lifted(self, freeze: Freeze) -> SafeString | str:
        return shown.utc(freeze.lifted_at)


@admin.register(Confirmation, site=site)
class ConfirmationAdmin(Record):
    finders: ClassVar[list[searching.Finder]] = [searching.by_code("access_request")]
    search_help_text = "A request's code"
    moment = "confirmed_at"
    list_display = ("about", "confirmed", "confirmed_by", "freeze")
    list_select_related = ("access_request", "confirmed_by", "freeze__account", "freeze__role__account")
    fields = list_display
    readonly_fields = list_display

    @admin.display(description="request")
    def about(self, confirmation: Confirmation) -> SafeString | str:
        return shown.request_link(confirmation.access_request_id, confirmation.access_request.code)

    @admin.display(description="confirmed at")
    def confirmed(self, confirmation: Confirmation) -> SafeString | str:
        return shown.utc(confirmation.confirmed_at)
