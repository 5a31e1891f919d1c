"""Sending what stands in the outbox: claim, send, record. At least once; a lost process sends again later."""

from datetime import timedelta
from smtplib import SMTPDataError

import structlog
from django.db import transaction
from django.db.models import F, prefetch_related_objects

from requests_app.background.mail import due, messages, words
from requests_app.background.mail.batch import Batch
from requests_app.domain import clock, notices, password_links
from requests_app.domain.models import Notice
from requests_app.domain.notices import Kind

log = structlog.get_logger(__name__)
BATCH = 50


def send_due(limit: int = BATCH) -> int:
    """Send what is due; returns how many were tried."""
    if not notices.is_any_due():
        return 0
    claimed = _claim(limit)
    if claimed:
        batch = Batch()
        try:
            for notice in claimed:
                _send(notice, batch)
        finally:
            batch.hang_up()
    return len(claimed)


def _claim(limit: int) -> list[Notice]:
    """Take due notices by moving their next attempt on: whoever dies now, they are due again then."""
    with transaction.atomic(durable=True):
        now = clock.now()
        found = (
            Notice.objects.filter(due_at__lte=now, sent_at=None, gave_up_at=None)
            .select_for_update(skip_locked=True, of=("self",), no_key=True)
            .order_by("due_at")
            .values_list("pk", flat=True)[:limit]
        )
        ids = list(found)
        # Longer than sending this batch can take; a failure sets its own later.
        Notice.objects.filter(pk__in=ids).update(attempts=F("attempts") + 1, due_at=now + timedelta(minutes=10))
    claimed = list(
        Notice.objects.filter(pk__in=ids)
        .select_related(
            "recipient",
            "access_request__beneficiary",
            "access_request__requester",
            "access_request__role__account__unit",
            "access_request__ended_by",
        )
        .order_by("pk")  # in the order in which it happened
    )
    # Few mails are about anything else, and those mostly about the same.
    if needs := words.needs(claimed):
        prefetch_related_objects(claimed, *needs)
    return claimed


def _send(notice: Notice, batch: Batch) -> None:
    key = ""
    try:
        if reason := due.no_longer(notice, batch):
            Notice.objects.filter(pk=notice.pk).update(gave_up_at=clock.now(), last_error=reason)
            return
        if notice.kind in password_links.LASTS:
            key = password_links.make(notice.recipient, Kind(notice.kind))
        batch.send(messages.message(notice, batch, key))
    except Exception as error:  # noqa: BLE001 - whatever the mail server does, the row says so and stays due
        batch.hang_up()
        _failed(notice, error, key)
    else:
        Notice.objects.filter(pk=notice.pk).update(sent_at=clock.now(), last_error="")


def _failed(notice: Notice, error: Exception, key: str) -> None:
    now = clock.now()
    log.warning("mail.failed", notice=notice.pk, error=type(error).__name__)
    given_up = now if notice.attempts >= notices.MOST_ATTEMPTS else None
    message = f"{type(error).__name__}: {error}".replace("\x00", "")
    # A server may repeat what it refuses, in pieces; before it saw the mail it cannot.
    if key and (isinstance(error, SMTPDataError) or key.rpartition("-")[2] in message):
        message = f"{type(error).__name__} {getattr(error, 'smtp_code', '')}"
    Notice.objects.filter(pk=notice.pk).update(
        due_at=notices.next_attempt(notice, now), gave_up_at=given_up, last_error=message[:300]
    )
