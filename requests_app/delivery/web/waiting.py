"""Waiting a moment for what a worker has nearly done, so that the answer to the wish brings it along."""

import threading
from uuid import UUID

from django.conf import settings
from django.db import connection

from requests_app.domain import envelopes, store

LONGEST_SECONDS = 0.25


class Waiting:
    """A few of a process's threads may wait, each for a moment; whoever finds them all waiting polls."""

    def __init__(self, threads: int) -> None:
        self._free = threading.BoundedSemaphore(max(1, threads // 4))

    def for_envelope(self, delivery: UUID) -> bool:
        """Whether it was put down meanwhile. In no transaction: nobody's lock or connection is held by waiting."""
        if connection.in_atomic_block or store.standing().refusal or not self._free.acquire(blocking=False):
            return False
        try:
            return envelopes.wait(str(delivery), LONGEST_SECONDS)
        except envelopes.EnvelopeStoreDown:
            return False
        finally:
            self._free.release()


waiting = Waiting(settings.WEB_THREADS)
