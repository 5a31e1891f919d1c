"""How the admin writes times, links and documents."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

NOTHING = "–"


def utc(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else NOTHING


def seconds(number: int | None) -> str:
    return str(timedelta(seconds=number)) if number is not None else NOTHING


def document(value: Any) -> SafeString:
    return format_html("<pre>{}</pre>", json.dumps(value, indent=2, ensure_ascii=False))


def request_link(pk: int | None, text: str) -> SafeString | str:
    if pk is None:
        return text or NOTHING
    return format_html('<a href="{}">{}</a>', reverse("admin:requests_app_accessrequest_change", args=[pk]), text)
