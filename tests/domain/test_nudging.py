"""A nudge is worth a second at most: once Redis is known to be of no use, nobody waits for it."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import current_app
from django.db import transaction

from requests_app.domain import jobs, store
from sandbox.employee import until
from sandbox.redis_server import RedisServer
from tests.refusals import REFUSALS, Refusal

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """With what each nudge was lost."""
    said: list[str] = []
    monkeypatch.setattr(jobs.log, "warning", lambda event, **more: said.append(more["error"]))
    return said


@pytest.fixture
def refusing_redis(settings: Any) -> Iterator[RedisServer]:
    with RedisServer() as server:
        settings.REDIS_URL = server.url()
        yield server


def publishes_to(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(job: str, args: Any, **_: Any) -> None:
        with current_app.connection_for_write(server.url()) as connection, connection.SimpleQueue("revoke") as queue:
            queue.put([job, *args])

    monkeypatch.setattr(current_app, "send_task", send)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda one: one.name)
def test_what_redis_refuses_is_lost_quietly_and_when_it_works_again_nudges_go(
    refusal: Refusal, refusing_redis: RedisServer, lost: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publishes_to(refusing_redis, monkeypatch)
    with refusal.lasting(refusing_redis):
        jobs.nudge("revoke.work", 1)
        jobs.nudge("revoke.work", 2)
        assert len(lost) == 2

    until(lambda: not store.standing().refusal, 20)
    jobs.nudge("revoke.work", 3)
    assert len(lost) == 2
    waiting: Any = refusing_redis.client().llen("revoke")
    assert waiting == 1


def test_a_silent_redis_is_waited_for_once(settings: Any, lost: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        tried: list[object] = []

        def send(job: str, args: Any, **_: Any) -> None:
            tried.append(job)
            redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1).ping()

        monkeypatch.setattr(jobs, "_send", send)
        began = time.monotonic()
        jobs.nudge("revoke.work", 1)
        once = time.monotonic() - began
        for number in range(50):
            jobs.nudge("revoke.work", number)
        jobs.nudge_each("revoke.work", range(50))

    assert len(tried) == 1
    assert len(lost) == 52
    assert time.monotonic() - began < 2 * once


class Leaving(store.Standing):
    """Its watcher has seen that Redis works, and is about to end."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.leaves, self.may_leave = threading.Event(), threading.Event()

    def _wait_for_it(self) -> None:
        super()._wait_for_it()
        self.leaves.set()
        self.may_leave.wait(20)


def test_a_failure_that_is_noted_while_the_watcher_leaves_does_not_last(refusing_redis: RedisServer) -> None:
    standing = Leaving(refusing_redis.url())
    standing.note_failure(OSError())
    assert standing.leaves.wait(20)
    standing.note_failure(OSError())
    standing.may_leave.set()

    until(lambda: not standing.refusal, 10)


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(jobs, "send", lambda job, args=(): asked.append((job, *args)))
    return asked


def test_a_transaction_asks_for_the_same_once(nudged: list[tuple[object, ...]]) -> None:
    """However many notices it announces."""
    with transaction.atomic():
        jobs.nudge("default.sweep_outbox")
        jobs.nudge("revoke.work", 1)
        with transaction.atomic():
            jobs.nudge("default.sweep_outbox")
            jobs.nudge("revoke.work", 2)
        jobs.nudge("default.sweep_outbox")
        assert nudged == []
    assert nudged == [("default.sweep_outbox",), ("revoke.work", 1), ("revoke.work", 2)]

    jobs.nudge("default.sweep_outbox")
    assert nudged[3:] == [("default.sweep_outbox",)]


def test_what_is_rolled_back_asks_for_nothing_and_keeps_nobody_from_asking(nudged: list[tuple[object, ...]]) -> None:
    with transaction.atomic():
        with transaction.atomic():
            jobs.nudge("default.sweep_outbox")
            transaction.set_rollback(True)
        jobs.nudge("default.sweep_outbox")
    assert nudged == [("default.sweep_outbox",)]
    with transaction.atomic():
        jobs.nudge("default.sweep_outbox")
        transaction.set_rollback(True)
    assert len(nudged) == 1
