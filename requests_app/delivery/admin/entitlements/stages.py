"""Who decides, stage by stage."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest

from requests_app.delivery.admin.audited import OperatorsChange
from requests_app.delivery.admin.bounded import FirstLines
from requests_app.delivery.admin.completing import CompletingSelectMultiple
from requests_app.delivery.admin.fields import Duration
from requests_app.delivery.admin.shown import length
from requests_app.delivery.admin.site import site
from requests_app.domain import deciders
from requests_app.domain.models import Entitlement, Group, Stage, User
from requests_app.domain.terms import STAGED, Terms

MOST_STAGES = 10
MOST_POSITION = 1000  # gaps do no harm
# More than anybody waits for an answer.
LONG = 10**9


def _choice_of_several(model: type[Group] | type[User], name: str, label: str) -> forms.ModelMultipleChoiceField:
    return forms.ModelMultipleChoiceField(
        model.objects.all(),
        required=False,
        label=label,
        widget=CompletingSelectMultiple(Stage._meta.get_field(name), site),
    )


class StageForm(forms.ModelForm):
    position = forms.IntegerField(min_value=1, max_value=MOST_POSITION)
    groups = _choice_of_several(Group, "groups", "Groups")
    users = _choice_of_several(User, "users", "People")
    escalate_seconds = Duration(
        label="Ask further ones after", nothing=None, required=False,
        help_text="Without an agreement for so long, these may decide as well. Empty: never.",
    )  # fmt: skip
    more_groups = _choice_of_several(Group, "more_groups", "Further groups")
    more_users = _choice_of_several(User, "more_users", "Further people")

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


class StageInline(OperatorsChange, admin.StackedInline):
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
                name: [chosen.pk for chosen in form.cleaned_data[name]]
                for name in ("groups", "users", "more_groups", "more_users")
            },
            "position": position,
            "asks": "",
        }
        for position, form in enumerate(stages, start=1)
    ]
    return Terms.from_document({**blank, "approval": STAGED, "stages": document})
