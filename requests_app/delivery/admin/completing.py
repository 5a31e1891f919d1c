"""Boxes that complete what is typed, which the stock ones do until what comes back is no key: then they raise."""

from typing import Any

from django.contrib.admin.widgets import AutocompleteSelect, AutocompleteSelectMultiple


class _KeysOnly:
    """Shows again what was chosen as far as it can be a key; the field itself says what is wrong with the rest."""

    def optgroups(self, name: str, value: list[Any], attr: Any = None) -> Any:
        return super().optgroups(name, [one for one in value if _may_be_key(str(one))], attr)  # type: ignore[misc]


class CompletingSelect(_KeysOnly, AutocompleteSelect):
    pass


class CompletingSelectMultiple(_KeysOnly, AutocompleteSelectMultiple):
    pass


def _may_be_key(typed: str) -> bool:
    return typed.isascii() and typed.isdigit() and len(typed) < 19
