"""A worker's side of the broker: when Redis is of no use it waits a little, and tries again for ever."""

import functools
import time
from typing import Any

import structlog
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer

log = structlog.get_logger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 3.0
# Whatever fails again so soon after it worked has not got well.
SOON = 30.0


class Consumer(CeleryConsumer):
    """Celery's own would try again at once, five times a second, where Redis takes connections and no writes."""

    _pause = 0.0
    _failed_at = -SOON

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        super().on_connection_error_before_connected(exc)
        self._wait(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        super().on_connection_error_after_connected(exc)
        self._wait(exc)

    def ensure_connected(self, conn: Any) -> Any:
        # kombu's gaps grow to half a minute, in which nobody gets keys though Redis is back.
        conn.ensure_connection = functools.partial(
            conn.ensure_connection, interval_start=FIRST_PAUSE, interval_step=1, interval_max=LONGEST_PAUSE
        )
        return super().ensure_connected(conn)

    def _wait(self, error: Exception) -> None:
        again = time.monotonic() - self._failed_at < SOON
        self._pause = min(self._pause * 2, LONGEST_PAUSE) if again else FIRST_PAUSE
        log.warning("broker.lost", error=type(error).__name__, again_in=self._pause)
        until = time.monotonic() + self._pause
        while time.monotonic() < until:
            state.maybe_shutdown()
            time.sleep(0.1)
        self._failed_at = time.monotonic()
