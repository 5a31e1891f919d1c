"""Each change of an entitlement is a revision, also where it is made on another page."""

from typing import Any

from django.db.models import F
from django.http import HttpRequest

from requests_app.delivery.admin.audited import Audited, plain
from requests_app.domain.audit import Action
from requests_app.domain.models import Entitlement, EntitlementGroup, EntitlementRole, EntitlementUser


class NamedByEntitlements(Audited):
    """A page with lines of `entitlements_naming`: one taken out there is recorded as a change of the entitlement."""

    def records_lines_itself(self, formset: Any) -> bool:
        return _names_entitlements(formset) or super().records_lines_itself(formset)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        lines = [deleted.instance for deleted in formset.deleted_forms] if _names_entitlements(formset) else []
        touched = Entitlement.objects.filter(pk__in=[line.entitlement_id for line in lines]).order_by("pk")
        entitlements = list(touched.select_for_update(no_key=True)) if lines else []
        super().save_formset(request, form, formset, change)
        removed = {str(formset.model._meta.verbose_name_plural): {"removed": [plain(form.instance)]}}
        for entitlement in entitlements:
            revision = next_revision(entitlement)
            self.record(request, entitlement, removed, action=Action.ENTITLEMENT_CHANGED, revision=revision)


def next_revision(entitlement: Entitlement) -> int:
    """One more edit: requests that are being made under the terms before it are refused by the database."""
    Entitlement.objects.filter(pk=entitlement.pk).update(revision=F("revision") + 1)
    entitlement.refresh_from_db(fields=["revision"])
    return entitlement.revision


def _names_entitlements(formset: Any) -> bool:
    return formset.model in (EntitlementRole, EntitlementGroup, EntitlementUser)
