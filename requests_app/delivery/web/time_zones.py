"""The name of a time zone, as people type or choose it."""

from functools import cache
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString


class TimeZoneInput(forms.TextInput):
    """With the names there are, for the browser to complete."""

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        names = f"{name}_names"
        field = super().render(name, value, {**(attrs or {}), "list": names}, renderer)
        options = format_html_join("", '<option value="{}"></option>', ((one,) for one in sorted(_zones())))
        return format_html('{}<datalist id="{}">{}</datalist>', field, names, options)


class TimeZone(forms.CharField):
    """The name of a time zone that this computer knows."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=64, widget=TimeZoneInput, **kwargs)

    def clean(self, value: Any) -> str:
        zone: str = super().clean(value)
        if zone and zone not in _zones():
            raise ValidationError("Give a time zone's name, such as Europe/Vienna or UTC.")
        return zone


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
