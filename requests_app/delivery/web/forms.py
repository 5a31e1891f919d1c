from datetime import timedelta
from typing import Any

from django import forms
from django.forms.renderers import TemplatesSetting

from requests_app.delivery.web.choosing import Choice
from requests_app.domain.errors import Invalid
from requests_app.domain.models import AccessRequest


class Renderer(TemplatesSetting):
    """Every form and field of every page, allauth's too, is drawn by these two."""

    form_template_name = "components/form.html"
    field_template_name = "components/field.html"


class RequestForm(forms.Form):
    """What someone types to ask for access. The rules themselves are the workflow's."""

    role = forms.UUIDField(
        widget=forms.HiddenInput,
        error_messages={"required": "Choose a role.", "invalid": "Choose a role from the list."},
    )
    entitlement = forms.ChoiceField(
        label="How", error_messages={"required": "Choose how to ask.", "invalid_choice": "Choose one of these."}
    )
    duration = forms.CharField(label="How long", error_messages={"required": "Choose how long."})
    duration_other = forms.IntegerField(
        label="Minutes", required=False, min_value=1, max_value=43200,
        error_messages={"invalid": "Give whole minutes, such as 45."},
    )  # fmt: skip
    start = forms.ChoiceField(
        label="Start", choices=AccessRequest.Start.choices, initial=AccessRequest.Start.ON_DEMAND,
        widget=forms.RadioSelect, required=False,
    )  # fmt: skip
    justification = forms.CharField(
        label="Why",
        help_text="What you will do, and for whom. The people who decide read it, and it stays in the record.",
        error_messages={"required": "Say why you need it."},
        widget=forms.Textarea(attrs={"rows": 3, "maxlength": 2000}),
    )
    ticket = forms.CharField(
        label="Ticket", required=False, help_text="Such as INC-2291.", widget=forms.TextInput(attrs={"maxlength": 100})
    )

    def __init__(self, *args: Any, found: list[Choice], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        how: Any = self.fields["entitlement"]
        how.choices = [(choice.key, choice.entitlement.name) for choice in found]
        rule = {choice.terms.ticket for choice in found}
        self.fields["ticket"].required = rule == {"required"}
        self.fields["ticket"].error_messages["required"] = "A ticket is required here. Give its number."
        self.show_ticket = rule != {"none"}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        chosen = cleaned.get("duration")
        if chosen == "other" and "duration_other" not in self.errors:
            cleaned["minutes"] = cleaned.get("duration_other")
        elif chosen and chosen != "other":
            cleaned["minutes"] = int(chosen) if chosen.isascii() and chosen.isdigit() and len(chosen) < 6 else None
        if chosen and not cleaned.get("minutes") and "duration_other" not in self.errors:
            self.add_error("duration", "Choose how long, or give the minutes.")
        cleaned["start"] = cleaned.get("start") or AccessRequest.Start.ON_DEMAND
        return cleaned

    @property
    def wanted(self) -> timedelta:
        return timedelta(minutes=self.cleaned_data["minutes"])

    def take(self, refusal: Invalid) -> None:
        """Put the workflow's sentences beside the fields they are about."""
        for name, sentences in refusal.fields.items():
            self.add_error(name if name in self.fields else None, sentences)


class StopForm(forms.Form):
    """What an operator types to end everything of `word`."""

    typed = forms.CharField(
        error_messages={"required": "Type it. Nothing was done."},
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}),
    )
    reason = forms.CharField(
        label="Why", help_text="Everyone whom it stops reads it, and it stays in the record.",
        error_messages={"required": "Say why: everyone whom it stops reads it."},
        widget=forms.Textarea(attrs={"rows": 2, "maxlength": 500}),
    )  # fmt: skip

    def __init__(self, *args: Any, word: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["typed"].label = f"Type “{word}” to confirm"

    def take(self, refusal: Invalid) -> None:
        for name, sentences in refusal.fields.items():
            self.add_error(name if name in self.fields else None, sentences)


class CommentForm(forms.Form):
    comment = forms.CharField(
        label="Comment", required=False, help_text="The person reads it.",
        widget=forms.Textarea(attrs={"rows": 2, "maxlength": 1000}),
    )  # fmt: skip


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label="Why", help_text="The person and the auditors read it.",
        error_messages={"required": "Say why: the person and the auditors read it."},
        widget=forms.Textarea(attrs={"rows": 2, "maxlength": 500}),
    )  # fmt: skip
