"""The tree of organisational units: in its own order, and moved by naming another parent."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from requests_app.delivery.admin.audited import Audited
from requests_app.delivery.admin.catalog import warn_of_narrowing
from requests_app.delivery.admin.site import site
from requests_app.domain.audit import Action
from requests_app.domain.models import Account, OrganisationalUnit


class UnitForm(forms.ModelForm):
    class Meta:
        help_texts: ClassVar[dict[str, str]] = {
            "parent": "The unit above it; none for a root. Another one moves it, with everything below it, "
            "and selectors of entitlements follow at once.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "parent" in self.fields:  # who may only look has none
            self.fields["parent"].queryset = OrganisationalUnit.objects.with_place()  # type: ignore[attr-defined]

    def clean_parent(self) -> OrganisationalUnit | None:
        parent: OrganisationalUnit | None = self.cleaned_data["parent"]
        if parent and self.instance.pk and parent.path.startswith(self.instance.path):
            raise ValidationError("A unit is not below itself. Choose one that is not below this one.")
        return parent


@admin.register(OrganisationalUnit, site=site)
class UnitAdmin(Audited):
    form = UnitForm
    action = Action.CATALOG_CHANGED
    decides_nothing = frozenset({"name"})
    fields = ("name", "parent", "its_accounts")
    readonly_fields = ("its_accounts",)
    autocomplete_fields = ("parent",)
    list_display = ("in_the_tree", "place", "accounts_in_it")
    search_fields = ("name",)
    search_help_text = "Any part of a name"
    sortable_by = ()
    ordering = ("path",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[OrganisationalUnit]:
        accounts = Account.objects.filter(unit=OuterRef("pk")).order_by().values("unit").annotate(number=Count("pk"))
        units = OrganisationalUnit.objects.with_place().order_by("path")
        return units.annotate(number=Subquery(accounts.values("number")))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        if request.method == "POST":
            # As the trigger does, and before any row: two who move what lies above each other take turns.
            OrganisationalUnit.objects.lock_tree()
        return super().get_object(request, object_id, from_field)

    def save_model(self, request: HttpRequest, obj: OrganisationalUnit, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and "parent" in form.changed_data:
            obj.refresh_from_db(fields=["path"])
            warn_of_narrowing(request, Q(account__unit__path__startswith=obj.path))

    @admin.display(description="unit")
    def in_the_tree(self, unit: OrganisationalUnit) -> str:
        return "\N{EM SPACE}" * unit.depth + unit.name

    @admin.display(description="place")
    def place(self, unit: OrganisationalUnit) -> str:
        return unit.place

    @admin.display(description="accounts directly in it")
    def accounts_in_it(self, unit: Any) -> int:
        return unit.number or 0

    @admin.display(description="accounts directly in it")
    def its_accounts(self, unit: OrganisationalUnit) -> SafeString | str:
        if unit.pk is None:
            return "Save the unit first."
        address = reverse("admin:requests_app_account_changelist") + f"?unit__id__exact={unit.pk}"
        return format_html('<a href="{}">See its accounts</a>', address)
