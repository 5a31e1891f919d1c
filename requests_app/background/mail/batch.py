"""What mails that are sent one after the other share: a connection to the mail server, and what the rules say."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from smtplib import SMTPException, SMTPServerDisconnected
from typing import Any, TypeVar, cast

from django.core.mail import EmailMultiAlternatives, get_connection

from requests_app.domain import clock, deciders
from requests_app.domain.deciders import Matter
from requests_app.domain.models import User
from requests_app.domain.workflow import deciding

# For so long what the rules said goes for the next mail too: a mail server may take its time for each.
GOES_FOR_SECONDS = 2.0
T = TypeVar("T")


class Batch:
    """A request asks two hundred people, and the answer to who can decide it is the same for each of them."""

    def __init__(self) -> None:
        self._connection: Any = None
        self._answers: dict[tuple[object, ...], tuple[float, Any]] = {}

    def send(self, message: EmailMultiAlternatives) -> None:
        is_used = self._connection is not None
        try:
            self._send(message)
        except SMTPException as error:
            if not is_used or not _is_over(error):
                raise
            # Many servers take so many mails of a connection and no more. That is not this one's fault.
            self.hang_up()
            self._send(message)

    def _send(self, message: EmailMultiAlternatives) -> None:
        if self._connection is None:
            self._connection = get_connection()
        self._connection.open()
        message.connection = self._connection
        message.send()

    def hang_up(self) -> None:
        """The next mail connects anew. A connection that failed may fail once more to be closed."""
        connection, self._connection = self._connection, None
        with suppress(Exception):
            if connection is not None:
                connection.close()

    def now(self) -> datetime:
        return self._ask(clock.now)

    def can_decide(self, matter: Matter, person: User) -> bool:
        able = self._ask(_who_can_decide, matter)
        # The list is no longer than so: of whoever is not on a full one, the rules are asked.
        return person.pk in able or (len(able) >= deciders.MOST_APPROVERS and bool(deciding.may_deny(matter, person)))

    def stages_that_lack_people(self, matter: Matter) -> list[int]:
        return self._ask(deciding.stages_that_lack_people, matter)

    def _ask(self, question: Callable[..., T], *of: Matter) -> T:
        key, now = (question, *((type(row), row.pk) for row in of)), time.monotonic()
        asked_at, answer = self._answers.get(key, (-GOES_FOR_SECONDS, None))
        if now - asked_at >= GOES_FOR_SECONDS:
            answer = question(*of)
            self._answers[key] = now, answer
        return cast(T, answer)


def _is_over(error: SMTPException) -> bool:
    """The connection, and nothing is said of the mail: 421 is the server's word before it hangs up."""
    return isinstance(error, SMTPServerDisconnected) or getattr(error, "smtp_code", None) == 421


def _who_can_decide(matter: Matter) -> set[int]:
    return {person.pk for person in deciding.who_can_decide(matter)}
