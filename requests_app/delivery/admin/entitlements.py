from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import F, Prefetch, Q, QuerySet, Value
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from requests_app.delivery.admin.audited import Audited, Changes, Lines, OperatorsChange, plain
from requests_app.delivery.admin.bounded import MOST_LINES, FirstLines, added_by
from requests_app.delivery.admin.completing import CompletingSelectMultiple
from requests_app.delivery.admin.entitlement_in_words import summary
from requests_app.delivery.admin.fields import DAY, HOUR, MINUTE, Duration, Pattern, Statements, check_tried
from requests_app.delivery.admin.fields import Lines as LinesField
from requests_app.delivery.admin.shown import length
from requests_app.delivery.admin.site import site
from requests_app.delivery.web.time_zones import TimeZone
from requests_app.domain import deciders, narrowing, narrowing_fit
from requests_app.domain.audit import Action
from requests_app.domain.hours import DAYS
from requests_app.domain.liftable import LIFTABLE
from requests_app.domain.models import (
    Entitlement,
    EntitlementAsker,
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
MOST_POSITION = 1000  # gaps do no harm
MOST_SELECTORS = 20
MOST_COUNTED_ROLES = 1000
FIRST_ROLES = 5
FIRST_SAID = 3
# More than anybody waits for an answer.
LONG = 10**9
MONTH = 30 * DAY


def _wall_clock(label: str) -> forms.TimeField:
    return forms.TimeField(
        label=label, required=False, input_formats=["%H:%M"],
        widget=forms.TimeInput(format="%H:%M", attrs={"type": "time", "placeholder": "08:30"}),
        error_messages={"invalid": "Give the time as hours and minutes: 08:30."},
    )  # fmt: skip


class EntitlementForm(forms.ModelForm):
    seen_revision = forms.IntegerField(widget=forms.HiddenInput, required=False)
    longest_seconds = Duration(
        label="Longest duration", most=MONTH, initial=HOUR, help_text="Such as 45 min, 1 h 30 min or 2 days."
    )
    default_seconds = Duration(
        label="Usual duration", most=MONTH, initial=HOUR // 2, help_text="What the form offers first."
    )
    pending_seconds = Duration(
        label="Time to decide", most=90 * DAY, initial=DAY, help_text="What nobody decides until then lapses."
    )
    start_within_seconds = Duration(
        label="Time to start", most=90 * DAY, initial=8 * HOUR, help_text="After the approval; then it lapses."
    )
    session_ceiling_seconds = Duration(
        label="Longest STS session", least=15 * MINUTE, most=12 * HOUR, initial=HOUR,
        help_text="Longer passes get new credentials on demand. Above an hour only where the role allows it and "
        "Daypass's own identity is not itself a role.",
    )  # fmt: skip
    schedule_ahead_seconds = Duration(
        label="May be scheduled ahead", least=MINUTE, most=90 * DAY, nothing=0, required=False,
        help_text="How far ahead a start may be asked for. Empty: not at all.",
    )  # fmt: skip
    extension_total_seconds = Duration(
        label="Longest with extensions", least=MINUTE, most=90 * DAY, nothing=0, required=False,
        help_text="Of the whole pass, from its start.",
    )  # fmt: skip
    hours_days = forms.TypedMultipleChoiceField(
        label="Days", choices=list(enumerate(DAYS, start=1)), coerce=int, empty_value=[], required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Passes start and run only in these hours, and end with them. No day ticked: at any time.",
    )  # fmt: skip
    hours_begin = _wall_clock("From")
    hours_end = _wall_clock("To")
    hours_zone = TimeZone(
        label="Time zone", initial="UTC",
        help_text="Of these hours. An end not after the beginning is on the day after.",
    )  # fmt: skip
    justification_pattern = Pattern(
        label="Its pattern", help_text="A regular expression (RE2) that the whole text must fit. Empty: any text."
    )
    ticket_pattern = Pattern(label="Its pattern", help_text=r"The same for the ticket, such as (INC|CHG)-\d+.")
    try_justification = forms.CharField(
        label="Try it", required=False, max_length=2000, help_text="A text that the pattern should take. Not stored."
    )
    try_ticket = forms.CharField(
        label="Try it", required=False, max_length=100, help_text="A ticket that the pattern should take. Not stored."
    )
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
            "default_seconds",
            "session_ceiling_seconds",
            "pending_seconds",
            "start_within_seconds",
            "schedule_ahead_seconds",
            "hours_days",
            "hours_begin",
            "hours_end",
            "hours_zone",
            "extensions_most",
            "extension_total_seconds",
            "channels",
            "most_at_once",
            "justification_min",
            "justification_pattern",
            "ticket",
            "ticket_pattern",
            "narrowing_statements",
            "narrowing_policy_arns",
            "lifted",
        )
        help_texts: ClassVar[dict[str, str]] = {"extensions_most": "0: a pass cannot be extended."}
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
        self._check_lengths(cleaned)
        self._check_hours(cleaned)
        self._check_patterns(cleaned)
        self._check_narrowing(cleaned)
        return cleaned

    def _check_lengths(self, cleaned: dict[str, Any]) -> None:
        longest = cleaned.get("longest_seconds")
        if not longest:
            return
        if (cleaned.get("default_seconds") or 0) > longest:
            self.add_error("default_seconds", f"This is longer than the longest duration, {length(longest)}.")
        total = cleaned.get("extension_total_seconds")
        if cleaned.get("extensions_most") and total is not None and total <= longest:
            self.add_error(
                "extension_total_seconds",
                f"Where passes may be extended this must be longer than the longest duration, {length(longest)}.",
            )

    def _check_hours(self, cleaned: dict[str, Any]) -> None:
        said = [cleaned.get(name) is not None for name in ("hours_begin", "hours_end")]
        if cleaned.get("hours_days"):
            for name, word, there in zip(("hours_begin", "hours_end"), ("from when", "to when"), said, strict=True):
                if not there and name not in self.errors:
                    self.add_error(name, f"Say {word} on these days, or tick no day: then it is at any time.")
        elif any(said) and "hours_days" not in self.errors:
            self.add_error("hours_days", "Tick the days on which these hours hold, or leave the hours empty.")

    def _check_patterns(self, cleaned: dict[str, Any]) -> None:
        if cleaned.get("ticket") == Entitlement.Ticket.NONE and cleaned.get("ticket_pattern"):
            self.add_error("ticket_pattern", "No ticket is asked for: ask for one, or leave this empty.")
        check_tried(self, "justification_pattern", "try_justification")
        check_tried(self, "ticket_pattern", "try_ticket")

    def _check_narrowing(self, cleaned: dict[str, Any]) -> None:
        statements, arns = cleaned.get("narrowing_statements") or [], cleaned.get("narrowing_policy_arns") or []
        try:
            narrowing.check(statements, arns)
            narrowing.check_effect(statements, arns)
        except ValueError as wrong:
            self.add_error("narrowing_statements", str(wrong))


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


def _several(model: type[Group] | type[User], name: str, label: str) -> forms.ModelMultipleChoiceField:
    return forms.ModelMultipleChoiceField(
        model.objects.all(),
        required=False,
        label=label,
        widget=CompletingSelectMultiple(Stage._meta.get_field(name), site),
    )


class StageForm(forms.ModelForm):
    position = forms.IntegerField(min_value=1, max_value=MOST_POSITION)
    groups = _several(Group, "groups", "Groups")
    users = _several(User, "users", "People")
    escalate_seconds = Duration(
        label="Ask further ones after", nothing=None, required=False,
        help_text="Without an agreement for so long, these may decide as well. Empty: never.",
    )  # fmt: skip
    more_groups = _several(Group, "more_groups", "Further groups")
    more_users = _several(User, "more_users", "Further people")

    class Meta:
        model = Stage
        fields = ("position", "quorum", "groups", "users", "owners", "escalate_seconds", "more_groups", "more_users")
        labels: ClassVar[dict[str, str]] = {"quorum": "How many must agree", "owners": "And the owners"}
        help_texts: ClassVar[dict[str, str]] = {
            "owners": "Of what is asked for. Whether there are enough of them is seen when somebody asks.",
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        if not (cleaned["groups"] or cleaned["users"] or cleaned["owners"]):
            self.add_error("groups", "Name at least one group or person who decides at this stage, or the owners.")
        further = cleaned["more_groups"] or cleaned["more_users"]
        if further and cleaned["escalate_seconds"] is None:
            self.add_error("escalate_seconds", "Say after how long the further ones are asked.")
        if not further and cleaned["escalate_seconds"] is not None:
            self.add_error("more_groups", "Name at least one further group or person to ask then.")
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
            _check_escalation(stages, self.instance)
            _check_people(stages)

    def save(self, commit: bool = True) -> Any:
        if commit:
            self._make_room()
        return super().save(commit)

    def _make_room(self) -> None:
        """Stages are written one by one: what changes places, or goes, first leaves the position it has."""
        moved = [form for form in self.initial_forms if "position" in form.changed_data or form in self.deleted_forms]
        for aside, form in enumerate(moved, start=MOST_POSITION + 1):
            Stage.objects.filter(pk=form.instance.pk).update(position=aside)


class StageLines(OperatorsChange, admin.StackedInline):
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
        further = ["escalate_seconds", "more_groups", "more_users"]
        return [("position", "quorum"), "groups", "users", "owners", *further]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Stage]:
        return super().get_queryset(request).prefetch_related("groups", "users", "more_groups", "more_users")

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


class AskerLines(Lines):
    model = EntitlementAsker
    fields = ("group",)
    autocomplete_fields = ("group",)
    verbose_name = "group that may ask for others"
    verbose_name_plural = "groups whose members may ask for others whom it reaches; the others accept"
    elsewhere = "Take some out to see more."

    def get_queryset(self, request: HttpRequest) -> QuerySet[EntitlementAsker]:
        return super().get_queryset(request).select_related("group").order_by("group__name")


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
    readonly_fields = ("revision", "in_plain_words")
    radio_fields: ClassVar[dict[str, Any]] = {"approval": admin.VERTICAL}
    inlines = (
        *(StageLines, GroupLines, PeopleLines, ExcludedGroupLines, ExcludedPeopleLines, AskerLines),
        *(RoleLines, SelectorLines, NewSelectors),
    )
    list_display = ("name", "approval", "longest", "ticket", "is_active", "revision")
    list_filter = ("approval", "is_active")
    search_fields = ("name",)
    search_help_text = "Any part of a name"
    ordering = ("name",)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        seen = ("seen_revision",) if obj and self.has_change_permission(request, obj) else ()
        tried = [("try_justification",), ("try_ticket",)] if self.has_change_permission(request, obj) else [(), ()]
        said = ("justification_min", "justification_pattern", *tried[0], "ticket", "ticket_pattern", *tried[1])
        lengths = ("longest", "default", "pending", "start_within", "schedule_ahead", "session_ceiling")
        times = tuple(f"{name}_seconds" for name in lengths)
        narrowed = ("narrowing_statements", "narrowing_policy_arns", "lifted")
        return [
            *([("In plain words", {"fields": ("in_plain_words",)})] if obj else []),
            (None, {"fields": ("name", "is_active", "approval", "revision", *seen)}),
            ("Times", {"fields": times}),
            ("Days and hours", {"fields": ("hours_days", ("hours_begin", "hours_end"), "hours_zone")}),
            ("More time", {"fields": ("extensions_most", "extension_total_seconds")}),
            ("What a person must say", {"fields": said}),
            ("What a pass may do", {"fields": ("channels", "most_at_once", *narrowed)}),
        ]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        for sentence in _worth_a_look(form.instance):
            messages.warning(request, sentence)

    @admin.display(description="longest", ordering="longest_seconds")
    def longest(self, entitlement: Entitlement) -> str:
        return length(entitlement.longest_seconds)

    @admin.display(description="who asks reads")
    def in_plain_words(self, entitlement: Entitlement) -> SafeString:
        # As it is stored, also where what was typed is refused.
        stored = Entitlement.objects.with_terms().prefetch_related("askers").get(pk=entitlement.pk)
        return format_html('<ul class="dp-plain">{}</ul>', summary(stored))

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


def _check_narrowing_fits(entitlement: Entitlement, question: Q) -> None:
    """Raises ValidationError if the entitlement narrows and that fits not all of these roles."""
    if isinstance(entitlement.narrowing_statements, list) and (wrong := narrowing_fit.problem(entitlement, question)):
        raise ValidationError(wrong)


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


def _worth_a_look(entitlement: Entitlement) -> Iterator[str]:
    """What is possible, and perhaps not meant, by the roles that are given now."""
    given = [Q(entitlementrole__entitlement=entitlement), *entitlement.selectors.questions()]
    ceiling = entitlement.session_ceiling_seconds
    if shorter := _first_of(given, Q(longest_session_seconds__lt=ceiling)):
        yield (
            f"Sessions of {length(ceiling)} are more than IAM allows for {shorter}. "
            "Those are issued for as long as their role allows."
        )
    for stage in entitlement.stages.filter(groups=None, users=None).exclude(owners=""):
        none = Q(owners=None) if stage.owners == Stage.Owners.ROLE else Q(account__owners=None)
        if unowned := _first_of(given, none):
            yield (
                f"Stage {stage.position} asks {stage.get_owners_display()} alone, and there are none for {unowned}. "
                "Nobody could decide on those."
            )


def _first_of(given: list[Q], question: Q) -> str:
    """The first roles for which this holds, by name."""
    found: dict[int, str] = {}
    for one in given:
        rows = Role.objects.filter(one).filter(question).select_related("account").order_by("pk")
        found |= {role.pk: str(role) for role in rows[: FIRST_SAID + 1]}
    names = sorted(found.values())
    return ", ".join(names[:FIRST_SAID]) + (", …" if len(names) > FIRST_SAID else "")


def _check_escalation(stages: list[Any], entitlement: Entitlement) -> None:
    """Further people who are asked when it has lapsed are asked never."""
    for form in stages:
        after = form.cleaned_data["escalate_seconds"]
        if after is not None and after >= entitlement.pending_seconds:
            form.add_error(
                "escalate_seconds",
                f"By then it has lapsed: a request is decided within {length(entitlement.pending_seconds)}. "
                "Ask them earlier, or give more time.",
            )


def _check_people(stages: list[Any]) -> None:
    """Where owners are asked nobody knows who they are before somebody asks for a role: those are not checked."""
    named = [form for form in stages if not form.cleaned_data["owners"]]
    named.sort(key=lambda form: form.cleaned_data["position"])
    # Further people are asked in time, or that is refused at their field.
    left = [deciders.Left(_terms_of(named).stages, asking=(), seconds=LONG)] if named else []
    too_few = {position for positions in deciders.lacking(left) for position in positions}
    for position, form in enumerate(named, start=1):
        if position in too_few:
            form.add_error(
                "quorum",
                f"{form.cleaned_data['quorum']} must agree here, but too few people can. Only active people count, "
                "and each person has one say in all stages together.",
            )


def _terms_of(stages: list[Any]) -> Terms:
    """Only the stages matter here: the rest is what an entitlement has when nothing was typed."""
    blank = Entitlement(approval="automatic").terms_now().document()
    document = [
        {
            **{name: form.cleaned_data[name] for name in ("quorum", "escalate_seconds")},
            **{
                name: [one.pk for one in form.cleaned_data[name]]
                for name in ("groups", "users", "more_groups", "more_users")
            },
            "position": position,
            "asks": "",
        }
        for position, form in enumerate(stages, start=1)
    ]
    return Terms.from_document({**blank, "approval": STAGED, "stages": document})
