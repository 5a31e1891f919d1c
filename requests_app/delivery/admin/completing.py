"""Boxes that complete what is typed, which the stock ones do until what comes back is no key: then they raise."""

from typing import Any

from django import forms
from django.contrib.admin.widgets import AutocompleteMixin


class _KeysOnly(AutocompleteMixin):
    """Shows again what was chosen as far as it can be a key; the field itself says what is wrong with the rest."""

    def optgroups(self, name: str, value: Any, attr: Any = None) -> Any:
        return super().optgroups(name, [key for key in value if _may_be_key(str(key))], attr)


class CompletingSelect(_KeysOnly, forms.Select):
    pass


class CompletingSelectMultiple(_KeysOnly, forms.SelectMultiple):
    pass


def _may_be_key(typed: str) -> bool:
    return typed.isascii() and typed.isdigit() and len(typed) < 19
