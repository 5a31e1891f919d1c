"""The broker's transport: a message that is none is dropped, where kombu's own would end the worker."""

import time
from typing import Any

import redis
import structlog
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import Empty

log = structlog.get_logger(__name__)
# Somebody may keep writing; and what breaks the reading itself must not be read again at full speed.
PAUSE_SECONDS = 0.1


class QoS(kombu_redis.QoS):
    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            log.warning("broker.dropped", where="unacked", error=type(error).__name__)
            with self.pipe_or_acquire() as pipe:
                self._remove_from_indices(tag, pipe).execute()  # type: ignore[no-untyped-call]


class Channel(kombu_redis.Channel):
    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, LookupError, AttributeError, redis.ResponseError) as error:
            log.warning("broker.dropped", where="queue", error=type(error).__name__)
            time.sleep(PAUSE_SECONDS)
            raise Empty from None


class Transport(kombu_redis.Transport):
    Channel = Channel


def use() -> None:
    """Let `redis://` and `rediss://` mean this transport."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "portal.broker:Transport"))
