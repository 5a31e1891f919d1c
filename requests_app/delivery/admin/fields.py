"""Form fields for what is typed otherwise than it is stored."""

import json
import re
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from requests_app.delivery.admin import shown
from requests_app.domain import texts
from requests_app.domain.arns import LONGEST_PATH
from requests_app.domain.models.catalog import check_tags
from requests_app.domain.models.entitlements import check_pattern
from requests_app.domain.patterns import fits

LONGEST_TYPED = 20_000
MINUTE, HOUR, DAY = 60, 3600, 86_400


class AccountNumber(forms.CharField):
    """Twelve digits, pasted as the AWS console and Daypass show them: 1234-5678-9012."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=30, help_text="12 digits, with or without dashes.", **kwargs)

    def to_python(self, value: Any) -> str:
        return re.sub(r"[\s-]", "", super().to_python(value) or "")


class RolePath(forms.CharField):
    """A path in IAM; the slashes around it need not be typed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            max_length=LONGEST_PATH,
            initial="/elevated/",
            help_text="As in the role's ARN, such as /elevated/; a single / for none.",
            **kwargs,
        )

    def to_python(self, value: Any) -> str:
        typed = super().to_python(value) or ""
        inside = typed.strip("/")
        return f"/{inside}/" if inside else "/" if typed else ""


class Duration(forms.CharField):
    """Seconds, typed and shown in words: `1 h 30 min`, `45 min`, `2 days`; a number alone is seconds.

    `nothing` is what an empty one means, where it may be empty; that value is shown as nothing too.
    """

    default_error_messages = {
        "unknown": "Write a length of time such as 45 min, 1 h 30 min or 2 days.",
        "part": "Write whole seconds: nothing is measured more finely.",
        "least": "This is at least %(bound)s.",
        "most": "This is at most %(bound)s.",
    }

    def __init__(
        self, *, least: int = MINUTE, most: int = 365 * DAY, nothing: int | None = None, **kwargs: Any
    ) -> None:
        self.least, self.most, self.nothing = least, most, nothing
        kwargs.setdefault("widget", forms.TextInput(attrs={"size": 18, "placeholder": "1 h 30 min"}))
        super().__init__(max_length=100, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, int):
            return value  # as it was typed
        return "" if not self.required and value == self.nothing else shown.length(value)

    def to_python(self, value: Any) -> Any:
        typed = str(super().to_python(value) or "").strip()
        return self._seconds(typed) if typed else ("" if self.required else self.nothing)

    def run_validators(self, value: Any) -> None:
        """Those of a text have nothing to say of a number."""

    def validate(self, value: Any) -> None:
        super().validate(value)
        if value == self.nothing:
            return
        for wrong, code, bound in ((value < self.least, "least", self.least), (value > self.most, "most", self.most)):
            if wrong:
                raise ValidationError(self.error_messages[code], code=code, params={"bound": shown.length(bound)})

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != initial)
        except ValidationError:
            return True

    def _seconds(self, typed: str) -> int:
        if _PLAIN.fullmatch(typed):
            return int(typed)
        if len(typed) > 100 or not _LENGTH.fullmatch(typed):
            raise ValidationError(self.error_messages["unknown"], code="unknown")
        parts = _PART.findall(typed)
        seconds = sum((Decimal(number) * _UNITS[unit[0].lower()] for number, unit in parts), Decimal())
        if seconds != int(seconds):
            raise ValidationError(self.error_messages["part"], code="part")
        return int(seconds)


# A number has few digits, so that no sum of them is too long to work with.
_PART = re.compile(
    r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*"
    r"(weeks?|w|days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)\s*(?:,|and\b)?\s*",
    re.ASCII | re.IGNORECASE,
)
_LENGTH = re.compile(rf"(?:{_PART.pattern})+", re.ASCII | re.IGNORECASE)
_PLAIN = re.compile(r"[0-9]{1,10}", re.ASCII)
_UNITS = {"w": 7 * DAY, "d": DAY, "h": HOUR, "m": MINUTE, "s": 1}


class Pattern(forms.CharField):
    """A regular expression, or nothing."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, max_length=300, validators=[check_pattern], **kwargs)


def check_tried(form: forms.BaseForm, pattern: str, tried: str) -> None:
    """Says beside the text to try whether the pattern takes it, where it does not."""
    cleaned = form.cleaned_data
    text = cleaned.get(tried)
    if text and cleaned.get(pattern) and not fits(cleaned[pattern], text):
        form.add_error(tried, "The pattern does not take this: it has to fit the whole text, from its first character.")


class Lines(forms.CharField):
    """A list of texts, one a line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, max_length=LONGEST_TYPED, widget=forms.Textarea(attrs={"rows": 3}), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        return _lines(super().clean(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return list(initial or []) != _lines(data or "")


class Statements(forms.JSONField):
    """A JSON list of objects; nothing typed is an empty one."""

    kind: type = list
    default_error_messages = {
        "invalid": "This is not JSON. Look for a missing comma, quote or bracket.",
        "other_kind": 'Write a list of statements: [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]',
        "unreadable": "There is a number in this, or a depth of brackets, that AWS would not take.",
        "too_long": "This is far longer than AWS would take.",
        "character": "There is a character in this that cannot be stored.",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, widget=forms.Textarea(attrs={"rows": 8}), **kwargs)

    def bound_data(self, data: Any, initial: Any) -> Any:
        return data  # as it was typed

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return value
        return json.dumps(value, indent=2, ensure_ascii=False) if value else ""

    def to_python(self, value: Any) -> Any:
        value = (value or "").strip()
        if len(value) > LONGEST_TYPED:
            raise ValidationError(self.error_messages["too_long"], code="too_long")
        try:
            statements = super().to_python(value)
        except RecursionError as deep:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from deep
        except ValueError as digits:  # Python reads no number of more than 4300 of them
            raise ValidationError(self.error_messages["unreadable"], code="unreadable") from digits
        if not texts.is_readable(statements):
            raise ValidationError(self.error_messages["unreadable"], code="unreadable")
        if statements is None:
            return self.kind()
        if not isinstance(statements, self.kind):
            raise ValidationError(self.error_messages["other_kind"], code="other_kind")
        text = json.dumps(statements, ensure_ascii=False)
        # PostgreSQL stores no NUL, and UTF-8 no half of a surrogate pair.
        if "\\u0000" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise ValidationError(self.error_messages["character"], code="character")
        return statements

    def clean(self, value: Any) -> Any:
        return self.to_python(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool((initial or self.kind()) != self.to_python(data))
        except ValidationError:
            return True


class Tags(Statements):
    """A JSON object, text by text."""

    kind = dict
    default_error_messages = {"other_kind": 'Write an object: {"team": "payments", "cost-centre": "4711"}'}

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault(
            "help_text", 'As AWS has them: {"team": "payments"}. Selectors of entitlements look at these.'
        )
        super().__init__(**kwargs)
        self.widget.attrs["rows"] = 3

    def clean(self, value: Any) -> Any:
        tags = super().clean(value)
        check_tags(tags)
        return tags


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
