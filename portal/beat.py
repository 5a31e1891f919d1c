"""Beat, for which a Redis of no use is one line in the log."""

from typing import Any

import redis
import structlog
from celery import beat

from requests_app.domain import store

log = structlog.get_logger(__name__)


class Scheduler(beat.Scheduler):
    """In memory: two beats, or a lost one, do no harm.

    Celery's own writes two tracebacks for each wake that is lost. Here the first one says so, as everywhere, and
    until Redis works again none is tried: workers look by themselves meanwhile.
    """

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        standing = store.standing()
        if standing.refusal:
            return
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as error:  # beat goes on, whatever became of a wake
            if message := _of_broker(error):
                standing.note_failure(message)
            else:
                log.exception("beat.failed", task=entry.name)


def _of_broker(error: BaseException) -> BaseException | None:
    """What Redis, or the network on the way to it, said: Celery and kombu wrap it. None where it was something else."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, redis.RedisError | OSError):
        found = found.__cause__ or found.__context__
    return found
