"""Beat, for which a Redis of no use is one line in the log."""

from typing import Any

import redis
from celery import beat

from requests_app.domain import store


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
        except Exception as error:  # noqa: BLE001 - beat goes on, whatever became of a wake
            standing.note_failure(_of_redis(error))


def _of_redis(error: BaseException) -> BaseException:
    """What Redis said, which Celery and kombu wrap; the error itself where Redis said nothing."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, redis.RedisError):
        found = found.__cause__ or found.__context__
    return found or error
