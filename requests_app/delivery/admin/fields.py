"""Form fields for what is typed otherwise than it is stored."""

import json
import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from requests_app.domain.models.catalog import check_tags

LONGEST_TYPED = 20_000


class AccountNumber(forms.CharField):
    """Twelve digits, pasted as the AWS console and Daypass show them: 1234-5678-9012."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=30, help_text="12 digits, with or without dashes.", **kwargs)

    def to_python(self, value: Any) -> str:
        return re.sub(r"[\s-]", "", super().to_python(value) or "")


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
        if statements is None:
            return self.kind()
        if not isinstance(statements, self.kind):
            raise ValidationError(self.error_messages["other_kind"], code="other_kind")
        text = json.dumps(statements, ensure_ascii=False)
        # PostgreSQL stores no NUL, and UTF-8 no half of a surrogate pair.
        if "\\u0000" in text or any("\ud800" <= one <= "\udfff" for one in text):
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
