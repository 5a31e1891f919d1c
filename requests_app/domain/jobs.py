"""Asking a worker to look. The row is the work; this only saves waiting for the sweep."""

from celery import current_app
from django.db import transaction

# A nudge that nobody took in time is worth nothing: the sweep has long looked itself.
EXPIRES_SECONDS = 20


def nudge(job: str, *args: int | str) -> None:
    """Ask a worker to run `job` once this transaction has committed.

    A broker that is down costs seconds, not a request: hence `robust`.
    """

    def send() -> None:
        current_app.send_task(job, args, expires=EXPIRES_SECONDS)

    transaction.on_commit(send, robust=True)
