"""What stands in the outbox, as whoever gets it reads it."""

from requests_app.background.mail import batch, messages
from requests_app.domain.models import Notice


def text(notice: Notice) -> str:
    return str(messages.message(notice, batch.Batch()).body)


def sentence(notice: Notice) -> str:
    return text(notice).partition("\n")[0]
