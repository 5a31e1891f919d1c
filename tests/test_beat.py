"""Beat while Redis is of no use: it says so once, and goes on when it works again."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from celery.utils.imports import instantiate
from django.conf import settings as product
from kombu.entity import Queue

from portal import celery as _  # noqa: F401 - with our broker's transport
from requests_app.domain import store
from sandbox.employee import until
from sandbox.redis_server import RedisServer
from tests.refusals import REFUSALS, Refusal

QUEUE = "default"


@pytest.fixture
def redis(settings: Any) -> Iterator[RedisServer]:
    with RedisServer() as server:
        settings.REDIS_URL = server.url()
        yield server


@pytest.fixture
def tick(redis: RedisServer) -> Callable[[], None]:
    """Beat is asked what is due, and something always is."""
    app = Celery(broker=redis.url(), set_as_current=False)
    app.conf.task_queues = [Queue(QUEUE)]
    app.conf.task_default_queue = QUEUE
    app.conf.broker_transport_options = product.CELERY_BROKER_TRANSPORT_OPTIONS
    app.conf.task_publish_retry_policy = product.CELERY_TASK_PUBLISH_RETRY_POLICY
    app.conf.beat_schedule = {"wake": {"task": "default.wake", "schedule": 0.0}}
    scheduler = instantiate(product.CELERY_BEAT_SCHEDULER, app=app)
    return lambda: scheduler.tick()


WAYS = [
    *(one for one in REFUSALS if one.name in ("OOM", "NOREPLICAS")),
    Refusal(
        "stopped",
        "it does not run",
        ConnectionError,
        lambda server: server.process.kill(),
        lambda server: server.start(),
    ),
]


@pytest.mark.parametrize("refusal", WAYS, ids=lambda one: one.name)
def test_a_redis_that_refuses_is_said_once(
    refusal: Refusal, redis: RedisServer, tick: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    tick()
    assert woken(redis) == 1
    with refusal.lasting(redis), caplog.at_level(logging.INFO):
        for _ in range(20):
            tick()
        said = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(said) == 1
        assert said[0].levelno == logging.WARNING
        assert "redis.of_no_use" in said[0].getMessage()
        assert not any(record.exc_info for record in caplog.records)

    until(lambda: not store.standing().refusal, 20)
    before = woken(redis)
    tick()
    assert woken(redis) == before + 1


def woken(redis: RedisServer) -> int:
    waiting: Any = redis.client().llen(QUEUE)
    return int(waiting)
