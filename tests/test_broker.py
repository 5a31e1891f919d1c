"""What stands in Redis may have been written by anybody: reading it must not end a worker."""

import time
from typing import Any

import pytest
import redis
from kombu.connection import Connection

from portal.celery import app

UNREADABLE = ["garbage", "null", "[]", "[1, 2, 3]", '[{"properties": 1}, "a", "b"]', "[null, null, null]"]


@pytest.fixture
def broker(redis_server: redis.Redis, settings: Any) -> Connection:
    return app.connection_for_read(settings.REDIS_URL)


@pytest.mark.parametrize("written", UNREADABLE)
def test_an_unreadable_message_that_was_never_finished_is_dropped(
    written: str, broker: Connection, redis_server: redis.Redis
) -> None:
    redis_server.hset("unacked", "forged", written)
    redis_server.zadd("unacked_index", {"forged": 1})
    with broker, broker.channel() as channel:
        channel.qos.restore_visible(interval=1)

    assert not redis_server.exists("unacked", "unacked_index")


def test_an_unreadable_message_in_a_queue_is_dropped_and_the_next_one_comes(
    broker: Connection, redis_server: redis.Redis
) -> None:
    came: list[Any] = []
    with broker:
        queue = broker.SimpleQueue("mint")
        redis_server.lpush("mint", *UNREADABLE)
        queue.put({"an": "honest one"})
        until = time.monotonic() + 20
        while not came and time.monotonic() < until:
            came += [message.payload for message in [_next(queue)] if message]

    assert came == [{"an": "honest one"}]
    assert redis_server.llen("mint") == 0


def _next(queue: Any) -> Any:
    try:
        message = queue.get(timeout=1)
    except queue.Empty:
        return None
    message.ack()
    return message
