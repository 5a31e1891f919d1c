"""How the admin writes times, links and documents."""

import json
from datetime import UTC, datetime
from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

NOTHING = "–"


def utc(at: datetime | None) -> SafeString | str:
    if at is None:
        return NOTHING
    return format_html('<span class="nowrap">{}</span>', f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")


def length(seconds: int) -> str:
    """A length of time, to the second: `1 h 30 min`, `2 days`, `1 day 12 h`."""
    days, rest = divmod(seconds, 86_400)
    parts = [f"{days} day{'' if days == 1 else 's'}"] if days else []
    parts += [f"{number} {unit}" for number, unit in _clock(rest) if number]
    return " ".join(parts) or "0 s"


def document(value: Any) -> SafeString:
    return format_html("<pre>{}</pre>", json.dumps(value, indent=2, ensure_ascii=False))


def changes(all_of_them: Any) -> list[tuple[str, str]]:
    """An event's changes as people read them, one by one."""
    named = all_of_them.items() if isinstance(all_of_them, dict) else ()
    return [(_name(name), change(_in_lengths(name, value))) for name, value in named]


def change(value: Any) -> str:
    """One entry of an event's changes: what it was and what it is, or the lines."""
    if isinstance(value, list) and len(value) == 2:
        return " → ".join(NOTHING if item in (None, "") else _short(item) for item in value)
    if isinstance(value, dict) and value and value.keys() <= _OF_LINES:
        return "; ".join(f"{what} {_line(line, what)}" for what, lines in value.items() for line in lines)
    return _short(value)


def request_link(pk: int | None, text: str) -> SafeString | str:
    if pk is None:
        return text or NOTHING
    return format_html('<a href="{}">{}</a>', reverse("admin:requests_app_accessrequest_change", args=[pk]), text)


def _clock(seconds: int) -> tuple[tuple[int, str], ...]:
    return (seconds // 3600, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")


_SECONDS = "_seconds"


def _name(name: str) -> str:
    return name.removesuffix(_SECONDS).replace("_", " ")


def _in_lengths(name: str, value: Any) -> Any:
    """The record has seconds."""
    if not name.endswith(_SECONDS):
        return value
    if isinstance(value, list):
        return [_in_lengths(name, item) for item in value]
    return length(value) if isinstance(value, int) else value


_OF_LINES = {"added", "removed", "changed"}


def _line(line: Any, what: str) -> str:
    """A line of a record in words; what it leaves empty is left out."""
    if not isinstance(line, dict):
        return _short(line)
    told = [(name, _in_lengths(name, value)) for name, value in line.items() if value not in (None, "", [])]
    parts = [
        change(value) if name == "line" else f"{_name(name)} {change(value) if what == 'changed' else _several(value)}"
        for name, value in told
    ]
    return ", ".join(parts)


def _several(value: Any) -> str:
    return " and ".join(map(_short, value)) if isinstance(value, list) else _short(value)


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
