"""Form fields for what is typed otherwise than it is stored."""

import json
import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

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

    default_error_messages = {
        "invalid": "This is not JSON. Look for a missing comma, quote or bracket.",
        "no_list": 'Write a list of statements: [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]',
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
            return []
        if not isinstance(statements, list):
            raise ValidationError(self.error_messages["no_list"], code="no_list")
        if "\\u0000" in json.dumps(statements):  # PostgreSQL stores no NUL
            raise ValidationError(self.error_messages["character"], code="character")
        return statements

    def clean(self, value: Any) -> Any:
        return self.to_python(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool((initial or []) != self.to_python(data))
        except ValidationError:
            return True


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
