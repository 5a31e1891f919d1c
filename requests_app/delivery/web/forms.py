from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.forms.renderers import TemplatesSetting
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from requests_app.delivery.web import local_time
from requests_app.delivery.web.request_options import Choice, Seen
from requests_app.domain import texts
from requests_app.domain.errors import Invalid
from requests_app.domain.models import AccessRequest


class Renderer(TemplatesSetting):
    """Every form and field of every page, allauth's too, is drawn by these two; the admin has its own.

    No box of any of them cuts what is pasted, as a browser does by `maxlength` without a word: too_long.js says while
    one types how much is too much, and the form refuses it with what was typed kept.
    """

    form_template_name = "components/form.html"
    field_template_name = "components/field.html"

    def render(self, template_name: str, context: dict[str, Any], request: Any = None) -> str:
        attrs = context["widget"]["attrs"] if "widget" in context else {}
        if "maxlength" in attrs:
            attrs["data-most-characters"] = attrs.pop("maxlength")
        if template_name in _INPUTS:
            return _input(context["widget"])
        return super().render(template_name, context, request)


# What Django draws as a plain input, by three templates each: a form of the admin has hundreds of them.
_INPUTS = frozenset(
    f"django/forms/widgets/{name}.html"
    for name in (
        "input",
        "hidden",
        "text",
        "number",
        "email",
        "password",
        "checkbox",
        "date",
        "time",
        "datetime",
        "url",
    )
)


def _input(widget: dict[str, Any]) -> SafeString:
    """As `django/forms/widgets/input.html` has it."""
    value = widget["value"]
    told = [] if value is None else [("value", value)]
    told += [(name, value) for name, value in widget["attrs"].items() if value is not False]
    attributes = format_html_join(
        "",
        "{}",
        (
            (format_html(" {}", name) if value is True else format_html(' {}="{}"', name, value),)
            for name, value in told
        ),
    )
    return format_html('<input type="{}" name="{}"{}>', widget["type"], widget["name"], attributes)


NOT_THEM = "You may not ask for this role for this person. Choose somebody else, or ask for yourself."


def _date(label: str) -> forms.DateField:
    """Browsers draw it in their own way and send it in this one; without that, it is typed like this."""
    return forms.DateField(
        label=label, required=False, input_formats=["%Y-%m-%d"],
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date", "placeholder": "2026-11-26"}),
        error_messages={"invalid": "Give the date as year, month, day: 2026-11-26."},
    )  # fmt: skip


def _time(label: str) -> forms.TimeField:
    return forms.TimeField(
        label=label, required=False, input_formats=["%H:%M", "%H:%M:%S"],
        widget=forms.TimeInput(format="%H:%M", attrs={"type": "time", "placeholder": "08:30"}),
        error_messages={"invalid": "Give the time as hours and minutes: 08:30."},
    )  # fmt: skip


def _typed_moment(cleaned: Mapping[str, Any]) -> datetime | None:
    """The date and time typed, by the clock of whoever typed them; None unless both are there."""
    day, at = cleaned.get("start_date"), cleaned.get("start_time")
    return local_time.moment(day, at, timezone.get_current_timezone()) if day and at else None


def _take(form: forms.Form, refusal: Invalid, **where: str) -> None:
    """Put the workflow's sentences beside the fields they are about, where `where` does not say otherwise."""
    for name, sentences in refusal.fields.items():
        name = where.get(name, name)
        form.add_error(name if name in form.fields else None, sentences)


def _errors_of(form: forms.Form, *names: str) -> list[str]:
    return [str(error) for name in names for error in form.errors.get(name, ())]


def _clean_minutes(form: forms.Form, cleaned: dict[str, Any]) -> None:
    """`minutes`: one of those offered, or what was typed beside `other`."""
    chosen = cleaned.get("duration")
    if chosen == "other":
        cleaned["minutes"] = cleaned.get("duration_other")
    elif chosen:
        cleaned["minutes"] = int(chosen) if chosen.isascii() and chosen.isdigit() and len(chosen) < 6 else None
    if chosen and not cleaned.get("minutes") and "duration_other" not in form.errors:
        form.add_error("duration", "Choose how long, or give the minutes.")


class RequestForm(forms.Form):
    """What someone types to ask for access. The rules themselves are the workflow's."""

    role = forms.UUIDField(
        widget=forms.HiddenInput,
        error_messages={"required": "Choose a role.", "invalid": "Choose a role from the list."},
    )
    beneficiary = forms.UUIDField(label="For", required=False, error_messages={"invalid": NOT_THEM})
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
    start_date = _date("Date")
    start_time = _time("Time")
    justification = forms.CharField(
        label="Why",
        help_text="What you will do, and for whom. The people who decide read it, and it stays in the record.",
        error_messages={"required": "Say why you need it."},
        max_length=texts.LONGEST_JUSTIFICATION,
        widget=forms.Textarea(attrs={"rows": 3}),
    )
    ticket = forms.CharField(
        label="Ticket",
        required=False,
        help_text="Such as INC-2291.",
        max_length=texts.LONGEST_TICKET,
        widget=forms.TextInput(attrs={"hx-preserve": "true", "aria-label": "Ticket"}),
    )

    def __init__(self, *args: Any, found: list[Choice], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.start_at: datetime | None = None
        self.offer(found)

    def offer(self, found: list[Choice]) -> None:
        """Let the person choose between these."""
        how: Any = self.fields["entitlement"]
        how.choices = [(choice.key, choice.entitlement.name) for choice in found]
        wanted = self["entitlement"].value()
        self.chosen = next((choice for choice in found if choice.key == wanted), found[0] if found else None)
        self.asks_for_ticket = any(choice.entitlement.ticket != "none" for choice in found)
        self.may_be_scheduled = any(choice.entitlement.schedule_ahead_seconds for choice in found)
        self.fields["ticket"].required = self.chosen is not None and self.chosen.entitlement.ticket == "required"
        self.fields["ticket"].error_messages["required"] = "A ticket is required here. Give its number."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        self._check_seen()
        _clean_minutes(self, cleaned)
        cleaned["start"] = cleaned.get("start") or AccessRequest.Start.ON_DEMAND
        if cleaned["start"] == AccessRequest.Start.AT_TIME:
            self._clean_start(cleaned)
        if self.chosen and self.chosen.entitlement.ticket == "none":
            cleaned["ticket"] = ""  # typed for other terms, perhaps; these do not ask for one
        return cleaned

    @property
    def wanted(self) -> timedelta:
        return timedelta(minutes=self.cleaned_data["minutes"])

    @property
    def duration_errors(self) -> list[str]:
        return _errors_of(self, "duration", "duration_other")

    @property
    def start_errors(self) -> list[str]:
        return _errors_of(self, "start", "start_date", "start_time")

    @property
    def starts(self) -> list[tuple[str, str, bool]]:
        """How it can start: value, words, and whether that is chosen."""
        chosen = self["start"].value() or AccessRequest.Start.ON_DEMAND
        return [
            (value, words, value == chosen)
            for value, words in AccessRequest.Start.choices
            if value != AccessRequest.Start.AT_TIME or self.may_be_scheduled
        ]

    def take(self, refusal: Invalid) -> None:
        _take(self, refusal, start_at="start_date")

    def _check_seen(self) -> None:
        """Nobody asks on terms that they have not read: those that the page showed."""
        seen = Seen.from_form(self.data.get(f"seen-{self.chosen.key}", "")) if self.chosen else None
        if self.chosen and seen and (sentences := seen.changed(self.chosen)):
            self.add_error(None, sentences)

    def _clean_start(self, cleaned: dict[str, Any]) -> None:
        if not {"start_date", "start_time"} & set(self.errors):
            try:
                self.start_at = _typed_moment(cleaned)
            except ValueError as wrong:
                self.add_error("start_date", str(wrong))
            else:
                if self.start_at is None:
                    self.add_error("start_date", "Say when it is to start: a date and a time.")


class StopForm(forms.Form):
    """What an operator types to end everything of `word`."""

    typed = forms.CharField(
        error_messages={"required": "Type it. Nothing was done."},
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}),
    )
    reason = forms.CharField(
        label="Why", help_text="Everyone whom it stops reads it, and it stays in the record.",
        error_messages={"required": "Say why: everyone whom it stops reads it."},
        max_length=texts.LONGEST_REASON, widget=forms.Textarea(attrs={"rows": 2}),
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
        max_length=texts.LONGEST_COMMENT, widget=forms.Textarea(attrs={"rows": 2}),
    )  # fmt: skip


class ApproveForm(CommentForm):
    """An approval, and what the approver makes of the wish: shorter, or later. Nothing typed changes nothing."""

    shorter = forms.IntegerField(
        label="Shorten to", required=False, min_value=1, max_value=43200,
        error_messages={"invalid": "Give whole minutes, such as 45.", "min_value": "Give one minute at least."},
        widget=forms.NumberInput(attrs={"inputmode": "numeric"}),
    )  # fmt: skip
    start_date = _date("Begin later: date")
    start_time = _time("Time")

    def __init__(self, *args: Any, scheduled_at: datetime | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.start_at: datetime | None = None
        local = timezone.localtime(scheduled_at) if scheduled_at else None
        self._as_it_is = (local.strftime("%Y-%m-%d"), local.strftime("%H:%M")) if local else ("", "")
        self.initial.update(start_date=self._as_it_is[0], start_time=self._as_it_is[1])
        if local is None:
            del self.fields["start_date"], self.fields["start_time"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        typed = tuple(str(self.data.get(name, "")).strip() for name in ("start_date", "start_time"))
        if "start_date" in self.fields and typed not in (self._as_it_is, ("", "")) and not self.errors:
            try:
                self.start_at = _typed_moment(cleaned)
            except ValueError as wrong:
                self.add_error("start_date", str(wrong))
            else:
                if self.start_at is None:
                    self.add_error("start_date", "Give both, the date and the time.")
        return cleaned

    @property
    def duration(self) -> timedelta | None:
        minutes = self.cleaned_data.get("shorter")
        return timedelta(minutes=minutes) if minutes else None

    @property
    def changes(self) -> bool:
        """Whether something is typed or wrong in what is folded away."""
        names = {"shorter", "start_date", "start_time"}
        return self.is_bound and bool(names & set(self.errors) or self.data.get("shorter") or self.start_at)

    @property
    def start_errors(self) -> list[str]:
        return _errors_of(self, "start_date", "start_time")

    def take(self, refusal: Invalid) -> None:
        _take(self, refusal, start_at="start_date", duration="shorter")


class ExtendForm(forms.Form):
    """How much longer, and why."""

    duration = forms.CharField(label="How much longer", error_messages={"required": "Choose how much longer."})
    duration_other = forms.IntegerField(
        label="Minutes", required=False, min_value=1, max_value=130_000,
        error_messages={"invalid": "Give whole minutes, such as 45."},
    )  # fmt: skip
    justification = forms.CharField(
        label="Why", help_text="What is not done yet.", error_messages={"required": "Say why it takes longer."},
        max_length=texts.LONGEST_JUSTIFICATION, widget=forms.Textarea(attrs={"rows": 2}),
    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        _clean_minutes(self, cleaned)
        return cleaned

    @property
    def wanted(self) -> timedelta:
        return timedelta(minutes=self.cleaned_data["minutes"])

    @property
    def duration_errors(self) -> list[str]:
        return _errors_of(self, "duration", "duration_other")

    def take(self, refusal: Invalid) -> None:
        _take(self, refusal)


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label="Why", help_text="The person and the auditors read it.",
        error_messages={"required": "Say why: the person and the auditors read it."},
        max_length=texts.LONGEST_REASON, widget=forms.Textarea(attrs={"rows": 2}),
    )  # fmt: skip
