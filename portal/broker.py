"""The broker's transport: whatever Redis refuses, workers wait and go on; what is no message of ours is dropped.

Of kombu's private names it knows one, `_brpop_read`, where a message is read; tests/test_broker.py holds that.
"""

import time
from typing import Any

import redis
import structlog
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import Empty

log = structlog.get_logger(__name__)
QUEUES = ("mint", "aws", "revoke", "default")
# Somebody may keep writing; and what breaks the reading itself must not be read again at full speed.
PAUSE_SECONDS = 0.1


class QoS(kombu_redis.QoS):
    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            log.warning("broker.dropped", where="unacked", error=type(error).__name__)
            with self.pipe_or_acquire() as pipe:
                pipe.zrem(self.unacked_index_key, tag).hdel(self.unacked_key, tag).execute()

    def ack(self, delivery_tag: Any) -> None:
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except redis.RedisError:
            # Or it would count as unfinished here, and the worker take one message less, until it connects anew.
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise


class Channel(kombu_redis.Channel):
    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            log.warning("broker.dropped", where="queue", error=type(error).__name__)
            time.sleep(PAUSE_SECONDS)
            raise Empty from None

    def drop_what_is_not_ours(self) -> None:
        """Somebody may have put something else where our queues stand: it would be refused for ever."""
        kinds = {
            **{
                f"{queue}{self.sep}{step}" if step else queue: b"list"
                for queue in QUEUES
                for step in self.priority_steps
            },
            **{self.keyprefix_queue % queue: b"set" for queue in QUEUES},
            self.unacked_key: b"hash",
            self.unacked_index_key: b"zset",
            self.unacked_mutex_key: b"string",
        }
        with self.conn_or_acquire() as client:
            pipe = client.pipeline(transaction=False)
            for key in kinds:
                pipe.type(key)
            found = zip(kinds, pipe.execute(), strict=True)
            wrong = [key for key, kind in found if kind not in (kinds[key], b"none")]
            if wrong:
                log.warning("broker.dropped", where=wrong, error="WRONGTYPE")
                client.delete(*wrong)


class Transport(kombu_redis.Transport):
    Channel = Channel
    # The one door. Celery connects anew after these, for ever; whatever else comes out of the broker ends the worker.
    # By kombu's list a refusal (OOM, READONLY, NOREPLICAS, MISCONF, NOPERM, …) is such another thing.
    connection_errors = (*kombu_redis.Transport.connection_errors, redis.RedisError)

    def create_channel(self, connection: Any) -> Any:
        channel = super().create_channel(connection)  # type: ignore[no-untyped-call]
        channel.drop_what_is_not_ours()
        return channel


def use() -> None:
    """Let `redis://` and `rediss://` mean this transport."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "portal.broker:Transport"))
