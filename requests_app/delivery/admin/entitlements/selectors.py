"""Selectors: the roles that an entitlement gives by what they are like."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Prefetch, QuerySet, Value
from django.http import HttpRequest

from requests_app.delivery.admin.audited import OperatorsChange
from requests_app.delivery.admin.bounded import MOST_LINES, FirstLines, added_by
from requests_app.delivery.admin.entitlements.form import check_narrowing_fits
from requests_app.delivery.admin.entitlements.lines import RemovalLines
from requests_app.domain.models import OrganisationalUnit, Role, RoleSelector
from requests_app.domain.models.selectors import in_questions

MOST_SELECTORS = 20
MOST_COUNTED_ROLES = 1000
MOST_NAMED_ROLES = 5


class SelectorsFormSet(FirstLines):
    """Those that stand: narrowing has to fit what they select now."""

    def clean(self) -> None:
        super().clean()
        removed = [form.instance.pk for form in self.deleted_forms]
        kept = RoleSelector.objects.filter(entitlement=self.instance.pk).exclude(pk__in=removed)
        for question in kept.questions():
            check_narrowing_fits(self.instance, question)


class NewSelectorsFormSet(FirstLines):
    def clean(self) -> None:
        super().clean()
        added = [form.instance for form in added_by(self)]
        standing = RoleSelector.objects.filter(entitlement=self.instance.pk).count() if self.instance.pk else 0
        if added and standing + len(added) > MOST_SELECTORS:
            raise ValidationError(
                f"An entitlement has {MOST_SELECTORS} selectors at most: more than that nobody understands. "
                "Take some out, or make another entitlement.",
                code="selectors",
            )
        for question in in_questions(added):
            check_narrowing_fits(self.instance, question)


class SelectorLines(RemovalLines):
    """Those that stand, in words; they are taken out and never rewritten."""

    model = RoleSelector
    formset = SelectorsFormSet
    fields = ("means", "gives")
    readonly_fields = ("means", "gives")
    verbose_name_plural = "selectors: what is like this may be asked for too, also when it comes later"

    def get_queryset(self, request: HttpRequest) -> QuerySet[RoleSelector]:
        units = Prefetch("unit", OrganisationalUnit.objects.with_place())
        return super().get_queryset(request).select_related("account").prefetch_related(units).order_by("pk")

    @admin.display(description="means")
    def means(self, selector: RoleSelector) -> str:
        return selector.in_words()

    @admin.display(description="gives now")
    def gives(self, selector: RoleSelector) -> str:
        if not hasattr(self, "_given"):
            standing = RoleSelector.objects.filter(entitlement=selector.entitlement_id).select_related("unit")
            self._given = _given_by(list(standing.order_by("pk")[:MOST_LINES]))
        return _some_of(self._given[selector.pk])


class NewSelectorLines(OperatorsChange, admin.StackedInline):
    model = RoleSelector
    formset = NewSelectorsFormSet
    extra = 0
    autocomplete_fields = ("account", "unit")
    verbose_name = "selector"
    verbose_name_plural = "new selectors: all that one says must hold of a role; what is left empty is not asked"
    fields = (
        *("account", "unit", "environment"),
        ("account_tag_key", "account_tag_value"),
        "role_name",
        ("role_tag_key", "role_tag_value"),
    )

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[RoleSelector]:
        return super().get_queryset(request).none()


def _given_by(selectors: list[RoleSelector]) -> dict[int, list[str]]:
    """The roles in use that each of them selects, `MOST_COUNTED_ROLES` at most. Two queries, however many."""
    given: dict[int, list[str]] = {selector.pk: [] for selector in selectors}
    usable = Role.objects.filter(is_active=True, account__is_active=True).order_by("account_id", "name")
    each = [
        usable.filter(question).annotate(selector=Value(selector.pk)).values_list("selector", "name", "account__name")
        for selector, question in zip(selectors, in_questions(selectors), strict=True)
    ]
    first, *others = [rows[:MOST_COUNTED_ROLES] for rows in each]
    for pk, name, account in first.union(*others, all=True):
        given[pk].append(f"{name} in {account}")
    return given


def _some_of(roles: list[str]) -> str:
    if not roles:
        return "no role at the moment"
    number = f"{len(roles):,} or more" if len(roles) == MOST_COUNTED_ROLES else str(len(roles))
    some = ", ".join(roles[:MOST_NAMED_ROLES])
    more = ", …" if len(roles) > MOST_NAMED_ROLES else ""
    return f"{number} role{'' if len(roles) == 1 else 's'}: {some}{more}"
