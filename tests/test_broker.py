"""What stands in Redis may have been written by anybody: reading it must not end a worker."""

import ast
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.connection import Connection
from kombu.transport import redis as kombu_redis

from portal import broker as broker_module
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


@pytest.mark.parametrize(
    "key", ["mint", "mint\x06\x163", "unacked", "unacked_index", "unacked_mutex", "_kombu.binding.mint"]
)
def test_another_thing_where_a_queue_stands_is_dropped(key: str, broker: Connection, redis_server: redis.Redis) -> None:
    with app.connection_for_read(broker.as_uri(include_password=True)) as first:
        first.SimpleQueue("mint").put({"an": "honest one"})
    kept = redis_server.llen("mint") if key != "mint" else 0
    redis_server.delete(key)
    redis_server.xadd(key, {"of": "another type"})

    with broker:
        queue = broker.SimpleQueue("mint")
        broker.default_channel.qos.restore_visible(interval=1)
        assert redis_server.llen("mint") == kept
        queue.put({"a": "later one"})
        came = [_next(queue) for _ in range(4 + int(kept))]

    assert {"a": "later one"} in [message.payload for message in came if message]


def test_whatever_redis_py_raises_is_something_to_connect_anew_after() -> None:
    raised = [
        one for one in vars(redis.exceptions).values() if isinstance(one, type) and issubclass(one, redis.RedisError)
    ]

    assert redis.exceptions.ResponseError in raised
    assert [one for one in raised if not issubclass(one, broker_module.Transport.connection_errors)] == []


def test_a_message_that_could_not_be_finished_takes_nobodys_place(
    broker: Connection, redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> Any:
        raise redis.ReadOnlyError

    with broker:
        queue = broker.SimpleQueue("mint")
        queue.put({"an": "honest one"})
        message = queue.get(timeout=5)
        qos = message.channel.qos
        monkeypatch.setattr(qos, "_remove_from_indices", refused)
        with pytest.raises(redis.ReadOnlyError):
            message.ack()

        assert message.delivery_tag not in qos._delivered or message.delivery_tag in qos._dirty


def test_one_private_name_of_kombus_is_relied_on(broker: Connection) -> None:
    """An upgrade that renames it fails here, and not in a worker that reads something unreadable."""
    tree = ast.parse(Path(broker_module.__file__).read_text())
    names = {one.attr for one in ast.walk(tree) if isinstance(one, ast.Attribute)}
    names |= {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)}
    assert {one for one in names if one.startswith("_") and not one.startswith("__")} == {"_brpop_read"}

    assert callable(kombu_redis.Channel._brpop_read)
    with broker, broker.channel() as channel:
        assert channel.handlers["BRPOP"] == channel._brpop_read
        assert type(channel)._brpop_read is broker_module.Channel._brpop_read
