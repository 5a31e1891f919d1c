"""The name of a time zone, as people type or choose it."""

from difflib import get_close_matches
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

MOST_MEANT = 3


class TimeZoneInput(forms.TextInput):
    """With the names there are, for the browser to complete."""

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        names = f"{name}_names"
        field = super().render(name, value, {**(attrs or {}), "list": names}, renderer)
        options = format_html_join("", '<option value="{}"></option>', ((zone,) for zone in sorted(_zones())))
        return format_html('{}<datalist id="{}">{}</datalist>', field, names, options)


class TimeZone(forms.CharField):
    """The name of a time zone that this computer knows."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=64, widget=TimeZoneInput, **kwargs)

    def clean(self, value: Any) -> str:
        zone: str = super().clean(value)
        if zone and zone not in _zones():
            raise ValidationError(_like(zone) or "Give a time zone's name, such as Europe/Vienna or UTC.")
        return zone


def _like(typed: str) -> str:
    """Which zones are meant, perhaps; empty where nothing is like it."""
    wanted = typed.casefold().replace(" ", "_")
    names = _by_place()
    begun = [place for place in names if len(wanted) > 2 and place.startswith(wanted) and "/" not in place]
    near = [wanted] if wanted in names else begun or get_close_matches(wanted, names, cutoff=0.8)
    found = list(dict.fromkeys(name for place in near for name in names[place]))[:MOST_MEANT]
    if not found:
        return ""
    *others, last = found
    meant = f"{', '.join(others)} or {last}" if others else last
    return f"There is no time zone “{typed}”. Did you mean {meant}?"


@cache
def _by_place() -> dict[str, list[str]]:
    """The zones' names by themselves and by the last part of them, in small letters."""
    names: dict[str, list[str]] = {}
    for name in sorted(_zones()):
        for place in {name.casefold(), name.rpartition("/")[2].casefold()}:
            names.setdefault(place, []).append(name)
    return names


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
