from functools import reduce
from operator import or_
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from requests_app.delivery.admin.audited import Audited
from requests_app.delivery.admin.entitlements import RoleGivenBy, TakenOutElsewhere
from requests_app.delivery.admin.fields import HOUR, AccountNumber, Duration, Tags
from requests_app.delivery.admin.site import site
from requests_app.domain.audit import Action
from requests_app.domain.models import Account, Entitlement, OrganisationalUnit, Role
from requests_app.domain.models.catalog import account_has, ways_to_match

MOST_SHOWN = 20


class AccountForm(forms.ModelForm):
    number = AccountNumber(label="Account id")
    tags = Tags()

    class Meta:
        help_texts: ClassVar[dict[str, str]] = {
            "external_id": "What the trust policies of its roles ask for as sts:ExternalId.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "unit" in self.fields:  # who may only look has none
            self.fields["unit"].queryset = OrganisationalUnit.objects.with_place()  # type: ignore[attr-defined]


class RoleForm(forms.ModelForm):
    longest_session_seconds = Duration(
        label="Longest session", least=HOUR, most=12 * HOUR, initial=HOUR,
        help_text="The role's MaxSessionDuration in IAM.",
    )  # fmt: skip
    tags = Tags()


@admin.register(Account, site=site)
class AccountAdmin(Audited):
    form = AccountForm
    action = Action.CATALOG_CHANGED
    fixed: ClassVar[tuple[str, ...]] = ("partition", "number")
    decides_nothing = frozenset({"name"})
    fields = (
        *("name", "partition", "number", "is_active", "external_id", "allows_source_identity"),
        *("unit", "environment", "tags", "owners", "its_roles"),
    )
    autocomplete_fields = ("unit", "owners")
    readonly_fields = ("its_roles",)
    list_display = ("name", "number", "partition", "environment", "unit", "is_active", "allows_source_identity")
    list_select_related = ("unit",)
    list_filter = ("partition", "is_active", "allows_source_identity")
    search_fields = ("name", "number")
    search_help_text = "Any part of a name or a number"
    ordering = ("name",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Account], search_term: str
    ) -> tuple[QuerySet[Account], bool]:
        for word in search_term.replace("\0", "").split():
            queryset = queryset.filter(account_has(word))
        return queryset, False

    @admin.display(description="roles")
    def its_roles(self, obj: Account) -> SafeString | str:
        if obj.pk is None:
            return "Save the account first."
        address = reverse("admin:requests_app_role_changelist") + f"?account__id__exact={obj.pk}"
        return format_html('<a href="{}">See its roles</a>', address)


@admin.register(Role, site=site)
class RoleAdmin(TakenOutElsewhere):
    form = RoleForm
    action = Action.CATALOG_CHANGED
    # What was approved for one role must not become a pass for another.
    fixed: ClassVar[tuple[str, ...]] = ("account", "path", "name")
    decides_nothing = frozenset({"description"})
    fields = (
        "account",
        "path",
        "name",
        "description",
        "power",
        "longest_session_seconds",
        "identity_is_access",
        "is_active",
        "tags",
        "owners",
        "selected_by",
    )
    readonly_fields = ("selected_by",)
    inlines = (RoleGivenBy,)
    autocomplete_fields = ("account", "owners")
    list_display = ("name", "account", "path", "power", "is_active", "identity_is_access")
    list_select_related = ("account",)
    list_filter = ("power", "is_active", "identity_is_access")
    search_fields = ("name", "account__name", "account__number")
    search_help_text = "Any part of a role's name or description, or of its account's name or number"
    sortable_by = ()
    # As the index has them: 200,000 roles are not sorted for a page.
    ordering = ("account_id", "name")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Role]:
        return super().get_queryset(request).select_related("account")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Role], search_term: str
    ) -> tuple[QuerySet[Role], bool]:
        found = reduce(or_, ways_to_match(search_term.replace("\0", "")))
        return queryset.filter(found), False

    @admin.display(description="selected by")
    def selected_by(self, obj: Role) -> SafeString | str:
        """Entitlements that do not name it, and give it for what it is like."""
        if obj.pk is None:
            return "Save the role first."
        selecting = Entitlement.objects.for_role(obj).exclude(roles=obj).order_by("name")
        links = [
            (reverse("admin:requests_app_entitlement_change", args=[one.pk]), one) for one in selecting[:MOST_SHOWN]
        ]
        return format_html_join(", ", '<a href="{}">{}</a>', links) or "No entitlement"
