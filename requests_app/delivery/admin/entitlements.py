from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelectMultiple
from django.core.exceptions import ValidationError
from django.db.models import F, Max, Prefetch, Q, QuerySet, Value
from django.db.models.functions import Length
from django.http import HttpRequest

from requests_app.delivery.admin.audited import Audited, Changes, Lines, OperatorsChange, plain
from requests_app.delivery.admin.bounded import MOST_LINES, FirstLines
from requests_app.delivery.admin.fields import Lines as LinesField
from requests_app.delivery.admin.fields import Statements
from requests_app.delivery.admin.site import site
from requests_app.domain import facts, narrowing
from requests_app.domain.audit import Action
from requests_app.domain.liftable import LIFTABLE
from requests_app.domain.models import (
    Entitlement,
    EntitlementGroup,
    EntitlementRole,
    EntitlementUser,
    ExcludedGroup,
    ExcludedUser,
    Group,
    OrganisationalUnit,
    Role,
    RoleSelector,
    Stage,
    User,
)
from requests_app.domain.models.selectors import in_questions
from requests_app.domain.terms import STAGED, Terms

MOST_STAGES = 10
MOST_ACCOUNTS = 1000
MOST_SELECTORS = 20
MOST_COUNTED_ROLES = 1000
FIRST_ROLES = 5


class EntitlementForm(forms.ModelForm):
    seen_revision = forms.IntegerField(widget=forms.HiddenInput, required=False)
    narrowing_statements = Statements(
        label="Narrowing statements",
        help_text="A JSON list of session policy statements. With any narrowing, nothing else is allowed.",
    )
    narrowing_policy_arns = LinesField(
        label="Narrowing policies",
        help_text="ARNs of managed policies, one a line, at most 10: AWS's own, or in the account of every role here.",
    )
    lifted = forms.MultipleChoiceField(
        label="Lifted denies",
        choices=[(str(one), one.description) for one in LIFTABLE],
        widget=forms.CheckboxSelectMultiple,
        required=False,
        help_text="Ways to get credentials that outlive the pass: closed for everyone unless ticked here. "
        "People who ask and people who approve read the same sentence.",
    )

    class Meta:
        model = Entitlement
        fields = (
            "name",
            "is_active",
            "approval",
            "longest_seconds",
            "session_ceiling_seconds",
            "pending_seconds",
            "start_within_seconds",
            "ticket",
            "justification_min",
            "narrowing_statements",
            "narrowing_policy_arns",
            "lifted",
        )
        help_texts: ClassVar[dict[str, str]] = {
            "longest_seconds": "900 is a quarter of an hour, 3600 an hour, 28800 eight."
        }
        error_messages = {
            "approval": {"required": "Choose one. Automatic means that nobody is asked."},
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "seen_revision" in self.fields:
            self.initial["seen_revision"] = self.instance.revision

    def clean_narrowing_policy_arns(self) -> list[str]:
        arns: list[str] = self.cleaned_data["narrowing_policy_arns"]
        with _said_in_the_form():
            narrowing.check_policy_arns(arns)
        return arns

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.instance.pk and cleaned.get("seen_revision") != self.instance.revision:
            raise ValidationError(
                "Someone changed this entitlement while you had it open, so nothing was saved. "
                "Open it again and look at what is different."
            )
        try:
            narrowing.check(cleaned.get("narrowing_statements") or [], cleaned.get("narrowing_policy_arns") or [])
        except ValueError as wrong:
            self.add_error("narrowing_statements", str(wrong))
        return cleaned


class RolesFormSet(FirstLines):
    """Narrowing has to fit every role that it is for."""

    def clean(self) -> None:
        super().clean()
        added = [form.cleaned_data["role"].pk for form in added_by(self)]
        gone = [form.instance.pk for form in self.deleted_forms]
        given = EntitlementRole.objects.filter(entitlement=self.instance.pk).exclude(pk__in=gone).values("role")
        _check_narrowing_fits(self.instance, Q(pk__in=added) | Q(pk__in=given))


class SelectorsFormSet(FirstLines):
    """Those that stand: narrowing has to fit what they select now."""

    def clean(self) -> None:
        super().clean()
        gone = [form.instance.pk for form in self.deleted_forms]
        kept = RoleSelector.objects.filter(entitlement=self.instance.pk).exclude(pk__in=gone)
        for question in kept.questions():
            _check_narrowing_fits(self.instance, question)


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
            _check_narrowing_fits(self.instance, question)


class StageForm(forms.ModelForm):
    groups = forms.ModelMultipleChoiceField(
        Group.objects.all(),
        required=False,
        widget=AutocompleteSelectMultiple(Stage._meta.get_field("groups"), site),
    )
    users = forms.ModelMultipleChoiceField(
        User.objects.all(),
        required=False,
        label="people",
        widget=AutocompleteSelectMultiple(Stage._meta.get_field("users"), site),
    )

    class Meta:
        model = Stage
        fields = ("position", "quorum", "groups", "users")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors and not (cleaned["groups"] or cleaned["users"]):
            self.add_error("groups", "Name at least one group or person who decides at this stage.")
        return cleaned


class StagesFormSet(FirstLines):
    def clean(self) -> None:
        super().clean()
        stages = [form for form in self.forms if form.has_changed() or form in self.initial_forms]
        stages = [form for form in stages if form not in self.deleted_forms]
        approval = self.instance.approval
        if approval == Entitlement.Approval.AUTOMATIC and stages:
            raise ValidationError(
                "Automatic approval asks nobody: remove the stages, or choose staged approval.", code="stages"
            )
        if approval == Entitlement.Approval.STAGED and not stages:
            raise ValidationError("Staged approval needs at least one stage: say who decides.", code="stages")
        if stages and all(form.is_valid() for form in stages):
            _check_people(stages)


class StageLines(OperatorsChange, admin.TabularInline):
    model = Stage
    form = StageForm
    formset = StagesFormSet
    extra = 0
    max_num = MOST_STAGES
    verbose_name_plural = "stages, in the order of their positions (only for staged approval)"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        # As a method: Django's check refuses `fields` with a relation through a model of ours, which works.
        return ["position", "quorum", "groups", "users"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Stage]:
        return super().get_queryset(request).prefetch_related("groups", "users")

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> type[Any]:
        return super().get_formset(request, obj, validate_max=True, **kwargs)


class GroupLines(Lines):
    model = EntitlementGroup
    fields = ("group",)
    autocomplete_fields = ("group",)
    verbose_name_plural = "groups whose members may ask"
    elsewhere = "Take others out on the group's own page."

    def get_queryset(self, request: HttpRequest) -> QuerySet[EntitlementGroup]:
        return super().get_queryset(request).select_related("group").order_by("group__name")


class PeopleLines(Lines):
    model = EntitlementUser
    fields = ("user",)
    autocomplete_fields = ("user",)
    verbose_name_plural = "people who may ask, by name"
    elsewhere = "Take others out on the person's own page."

    def get_queryset(self, request: HttpRequest) -> QuerySet[EntitlementUser]:
        return super().get_queryset(request).select_related("user").order_by("user__username")


class RoleLines(Lines):
    model = EntitlementRole
    formset = RolesFormSet
    fields = ("role",)
    autocomplete_fields = ("role",)
    verbose_name_plural = "roles they may ask for"
    elsewhere = "Take others out on the role's own page."

    def get_queryset(self, request: HttpRequest) -> QuerySet[EntitlementRole]:
        return super().get_queryset(request).select_related("role__account").order_by("role__account__name", "role")


class ExcludedGroupLines(Lines):
    model = ExcludedGroup
    fields = ("group",)
    autocomplete_fields = ("group",)
    verbose_name_plural = "excluded groups: their members may not ask, whatever names them"
    elsewhere = "Take some out to see more."

    def get_queryset(self, request: HttpRequest) -> QuerySet[ExcludedGroup]:
        return super().get_queryset(request).select_related("group").order_by("group__name")


class ExcludedPeopleLines(Lines):
    model = ExcludedUser
    fields = ("user",)
    autocomplete_fields = ("user",)
    verbose_name_plural = "excluded people: they may not ask, whatever names them"
    elsewhere = "Take some out to see more."

    def get_queryset(self, request: HttpRequest) -> QuerySet[ExcludedUser]:
        return super().get_queryset(request).select_related("user").order_by("user__username")


class SelectorLines(Lines):
    """Those that stand, in words; they are taken out and never rewritten."""

    model = RoleSelector
    formset = SelectorsFormSet
    fields = ("means", "gives")
    readonly_fields = ("means", "gives")
    verbose_name_plural = "selectors: what is like this may be asked for too, also when it comes later"
    elsewhere = "Take some out to see more."

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

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


class NewSelectors(OperatorsChange, admin.StackedInline):
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


@admin.register(Entitlement, site=site)
class EntitlementAdmin(Audited):
    action = Action.ENTITLEMENT_CHANGED
    form = EntitlementForm
    readonly_fields = ("revision",)
    radio_fields: ClassVar[dict[str, Any]] = {"approval": admin.VERTICAL}
    inlines = (
        *(StageLines, GroupLines, PeopleLines, ExcludedGroupLines, ExcludedPeopleLines),
        *(RoleLines, SelectorLines, NewSelectors),
    )
    list_display = ("name", "approval", "longest_seconds", "ticket", "is_active", "revision")
    list_filter = ("approval", "is_active")
    search_fields = ("name",)
    search_help_text = "Any part of a name"
    ordering = ("name",)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        seen = ("seen_revision",) if obj and self.has_change_permission(request, obj) else ()
        times = ("longest_seconds", "pending_seconds", "start_within_seconds", "session_ceiling_seconds")
        return [
            (None, {"fields": ("name", "is_active", "approval", "revision", *seen)}),
            ("Times", {"fields": times}),
            ("What a person must say", {"fields": ("justification_min", "ticket")}),
            ("What a pass may do", {"fields": ("narrowing_statements", "narrowing_policy_arns", "lifted")}),
        ]

    def log_addition(self, request: HttpRequest, obj: Entitlement, message: Changes) -> None:  # type: ignore[override]
        self.record(request, obj, message, made=True, revision=obj.revision)

    def log_change(self, request: HttpRequest, obj: Entitlement, message: Changes) -> None:  # type: ignore[override]
        if message:
            self.record(request, obj, message, revision=next_revision(obj))


class GivenBy(Lines):
    """On the page of a role, a group or a person: which entitlements name it. Here it is only taken out."""

    fields = ("entitlement",)
    verbose_name_plural = "entitlements that name it"
    elsewhere = "Take some out to see more."
    named: ClassVar[tuple[str, ...]] = ()

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        lines = super().get_queryset(request).select_related("entitlement", *self.named)
        return lines.order_by("entitlement__name")


class RoleGivenBy(GivenBy):
    model = EntitlementRole
    named = ("role__account",)


class GroupGivenBy(GivenBy):
    model = EntitlementGroup
    named = ("group",)


class PersonGivenBy(GivenBy):
    model = EntitlementUser
    named = ("user",)


class TakenOutElsewhere(Audited):
    """A page with `GivenBy` lines: what is taken out is a change of the entitlement, and recorded as one."""

    def records_lines_itself(self, formset: Any) -> bool:
        return _names_entitlements(formset) or super().records_lines_itself(formset)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        lines = [one.instance for one in formset.deleted_forms] if _names_entitlements(formset) else []
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


def added_by(formset: Any) -> list[Any]:
    """The forms of the rows that this would add."""
    added = [form for form in formset.extra_forms if form.has_changed() and form not in formset.deleted_forms]
    return [form for form in added if form.is_valid()]


def _check_narrowing_fits(entitlement: Entitlement, question: Q) -> None:
    """Raises ValidationError if the entitlement narrows and that fits not all of these roles."""
    arns, statements = entitlement.narrowing_policy_arns, entitlement.narrowing_statements
    if not (arns or statements) or not isinstance(statements, list):
        return
    # Each account with the length of the longest path and name: one stand-in for all roles of an account.
    accounts = Role.objects.filter(question).values_list("account__partition", "account__number")
    longest = accounts.annotate(longest=Max(Length("path") + Length("name"))).order_by("-longest")
    with _said_in_the_form():
        for partition, number, length in longest[:MOST_ACCOUNTS]:
            arn = f"arn:{partition}:iam::{number}:role/"
            arn += "x" * (length - 1)
            narrowing.check_policies_fit_role(arns, arn)
            narrowing.check_length(narrowing.length_with(statements, arn), arns)


def _given_by(selectors: list[RoleSelector]) -> dict[int, list[str]]:
    """The roles in use that each of them selects, `MOST_COUNTED_ROLES` at most. Two queries, however many."""
    given: dict[int, list[str]] = {one.pk: [] for one in selectors}
    usable = Role.objects.filter(is_active=True, account__is_active=True).order_by("account_id", "name")
    each = [
        usable.filter(question).annotate(selector=Value(one.pk)).values_list("selector", "name", "account__name")
        for one, question in zip(selectors, in_questions(selectors), strict=True)
    ]
    first, *others = [rows[:MOST_COUNTED_ROLES] for rows in each]
    for selector, name, account in first.union(*others, all=True):
        given[selector].append(f"{name} in {account}")
    return given


def _some_of(roles: list[str]) -> str:
    if not roles:
        return "no role at the moment"
    number = f"{len(roles):,} or more" if len(roles) == MOST_COUNTED_ROLES else str(len(roles))
    some = ", ".join(roles[:FIRST_ROLES])
    more = ", …" if len(roles) > FIRST_ROLES else ""
    return f"{number} role{'' if len(roles) == 1 else 's'}: {some}{more}"


@contextmanager
def _said_in_the_form() -> Iterator[None]:
    try:
        yield
    except ValueError as wrong:
        raise ValidationError(str(wrong)) from wrong


def _check_people(stages: list[Any]) -> None:
    stages = sorted(stages, key=lambda form: form.cleaned_data["position"])
    enough = facts.enough_people(_terms_of(stages), outside=())
    for form, can_be_reached in zip(stages, enough, strict=True):
        if not can_be_reached:
            form.add_error(
                "quorum",
                f"{form.cleaned_data['quorum']} must agree here, but too few people can. Only active people count, "
                "and each person has one say in all stages together.",
            )


def _terms_of(stages: list[Any]) -> Terms:
    """Only the stages matter here: the rest is what an entitlement has when nothing was typed."""
    blank = Terms.of(Entitlement(approval="automatic")).document()
    document = [
        {
            "position": position,
            "quorum": form.cleaned_data["quorum"],
            "groups": [group.pk for group in form.cleaned_data["groups"]],
            "users": [user.pk for user in form.cleaned_data["users"]],
            "asks": "",
        }
        for position, form in enumerate(stages, start=1)
    ]
    return Terms.from_document({**blank, "approval": STAGED, "stages": document})
