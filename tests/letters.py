"""Mail as whoever gets it reads it: what was sent, and what stands in the outbox."""

from datetime import datetime
from zoneinfo import ZoneInfo

from django.core import mail as mailbox
from django.core.mail import EmailMultiAlternatives

from requests_app.background.mail import batch, messages
from requests_app.domain.models import Notice


def text(notice: Notice) -> str:
    return str(messages.message(notice, batch.Batch()).body)


def sentence(notice: Notice) -> str:
    return text(notice).partition("\n")[0]


def sent() -> list[EmailMultiAlternatives]:
    return mailbox.outbox  # type: ignore[return-value]


def html(message: EmailMultiAlternatives) -> str:
    ((content, kind),) = message.alternatives
    assert kind == "text/html"
    return str(content)


def at(moment: datetime, zone: str = "UTC") -> str:
    """As mail says it now: by the reader's clock, with the day when it is not today."""
    there = ZoneInfo(zone)
    local, today = moment.astimezone(there), datetime.now(there)
    day = "" if local.date() == today.date() else f"{local.day} {local:%b %Y} "
    return f"{day}{local:%H:%M} {zone}"
