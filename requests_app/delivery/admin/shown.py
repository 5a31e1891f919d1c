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


def document(value: Any) -> SafeString:
    return format_html("<pre>{}</pre>", json.dumps(value, indent=2, ensure_ascii=False))


def change(value: Any) -> str:
    """One entry of an event's changes: what it was and what it is, or the lines."""
    if isinstance(value, list) and len(value) == 2:
        return " → ".join(NOTHING if one in (None, "") else _short(one) for one in value)
    return _short(value)


def request_link(pk: int | None, text: str) -> SafeString | str:
    if pk is None:
        return text or NOTHING
    return format_html('<a href="{}">{}</a>', reverse("admin:requests_app_accessrequest_change", args=[pk]), text)


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
