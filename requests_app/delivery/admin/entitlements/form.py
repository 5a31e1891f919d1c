"""The form of an entitlement: its own fields, and what they must say together."""

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q

from requests_app.delivery.admin.fields import DAY, HOUR, MINUTE, Duration, Lines, Pattern, Statements, check_tried
from requests_app.delivery.admin.shown import length
from requests_app.delivery.web.time_zones import TimeZone
from requests_app.domain import narrowing, narrowing_fit
from requests_app.domain.hours import DAYS
from requests_app.domain.liftable import LIFTABLE
from requests_app.domain.models import Entitlement

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
    narrowing_policy_arns = Lines(
        label="Narrowing policies",
        help_text="ARNs of managed policies, one a line, at most 10: AWS's own, or in the account of every role here.",
    )
    lifted = forms.MultipleChoiceField(
        label="Lifted denies",
        choices=[(str(liftable), liftable.description) for liftable in LIFTABLE],
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
            "not_through_mcp",
            "ends_by_sts_only",
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
        try:
            narrowing.check_policy_arns(arns)
        except ValueError as error:
            raise ValidationError(str(error)) from error
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
        bounds = {"hours_begin": "from when", "hours_end": "to when"}
        if cleaned.get("hours_days"):
            for name, words in bounds.items():
                if cleaned.get(name) is None and name not in self.errors:
                    self.add_error(name, f"Say {words} on these days, or tick no day: then it is at any time.")
        elif any(cleaned.get(name) is not None for name in bounds) and "hours_days" not in self.errors:
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
        except ValueError as error:
            self.add_error("narrowing_statements", str(error))


def check_narrowing_fits(entitlement: Entitlement, question: Q) -> None:
    """Raises ValidationError if the entitlement narrows and that fits not all of these roles."""
    if isinstance(entitlement.narrowing_statements, list) and (problem := narrowing_fit.problem(entitlement, question)):
        raise ValidationError(problem)
