"""What an entitlement names, and on the pages of what is named, which entitlements name it: all made by `lines_of`."""

from typing import Any

from django.db.models import Model, Q
from django.http import HttpRequest

from requests_app.delivery.admin.audited import Lines
from requests_app.delivery.admin.bounded import FirstLines, added_by
from requests_app.delivery.admin.entitlements.form import check_narrowing_fits
from requests_app.domain.models import (
    EntitlementAsker,
    EntitlementGroup,
    EntitlementRole,
    EntitlementUser,
    ExcludedGroup,
    ExcludedUser,
)

TAKE_OUT_TO_SEE_MORE = "Take some out to see more."


class RemovalLines(Lines):
    """Rows that are only taken out here, and added elsewhere."""

    elsewhere = TAKE_OUT_TO_SEE_MORE

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def lines_of(
    model: type[Model],
    field: str,
    plural: str,
    *,
    ordering: tuple[str, ...],
    related: tuple[str, ...] = (),
    elsewhere: str = TAKE_OUT_TO_SEE_MORE,
    base: type[Lines] = Lines,
    **attributes: Any,
) -> type[Lines]:
    """An inline of one column, `field`, under the heading `plural`, completed while one types.

    `related` is what the words of a row need, where that is more than `field`; `attributes` are the inline's own.
    """
    named = {"model": model, "fields": (field,), "autocomplete_fields": (field,), "verbose_name_plural": plural}
    read = {"ordering": ordering, "related": related or (field,), "elsewhere": elsewhere}
    return type(f"{model.__name__}{base.__name__}", (base,), {**named, **read, **attributes})


def entitlements_naming(model: type[Model], *related: str) -> type[Lines]:
    """On the page of a role, a group or a person: which entitlements name it. There it is only taken out."""
    return lines_of(
        model, "entitlement", "entitlements that name it", ordering=("entitlement__name",),
        related=("entitlement", *related), base=RemovalLines, autocomplete_fields=(),
    )  # fmt: skip


class RolesFormSet(FirstLines):
    """Narrowing has to fit every role that it is for."""

    def clean(self) -> None:
        super().clean()
        added = [form.cleaned_data["role"].pk for form in added_by(self)]
        removed = [form.instance.pk for form in self.deleted_forms]
        named = EntitlementRole.objects.filter(entitlement=self.instance.pk).exclude(pk__in=removed).values("role")
        check_narrowing_fits(self.instance, Q(pk__in=added) | Q(pk__in=named))


GroupLines = lines_of(
    EntitlementGroup, "group", "groups whose members may ask",
    ordering=("group__name",), elsewhere="Take others out on the group's own page.",
)  # fmt: skip
PersonLines = lines_of(
    EntitlementUser, "user", "people who may ask, by name",
    ordering=("user__username",), elsewhere="Take others out on the person's own page.",
)  # fmt: skip
AskerLines = lines_of(
    EntitlementAsker, "group", "groups whose members may ask for others whom it reaches; the others accept",
    ordering=("group__name",), verbose_name="group that may ask for others",
)  # fmt: skip
ExcludedGroupLines = lines_of(
    ExcludedGroup, "group", "excluded groups: their members may not ask, whatever names them",
    ordering=("group__name",),
)  # fmt: skip
ExcludedPersonLines = lines_of(
    ExcludedUser, "user", "excluded people: they may not ask, whatever names them",
    ordering=("user__username",),
)  # fmt: skip
RoleLines = lines_of(
    EntitlementRole, "role", "roles they may ask for", formset=RolesFormSet,
    ordering=("role__account__name", "role"), related=("role__account",),
    elsewhere="Take others out on the role's own page.",
)  # fmt: skip

EntitlementsOfRole = entitlements_naming(EntitlementRole, "role__account")
EntitlementsOfGroup = entitlements_naming(EntitlementGroup, "group")
EntitlementsOfPerson = entitlements_naming(EntitlementUser, "user")
