"""What a worker does when nobody wakes it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
from django.db import OperationalError

from portal.celery import app
from requests_app.background import revoking, tasks, unwoken
from requests_app.domain import clock, workflow
from requests_app.domain.models import AccessRequest, AwsClock, DenyPolicy, User
from sandbox.employee import until
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch, redis_server: Any) -> Iterator[Callable[..., unwoken.Looks]]:
    monkeypatch.setattr(unwoken, "LOOK_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(unwoken, "_last_run", {})
    made: list[unwoken.Looks] = []

    def looks(*queues: str) -> unwoken.Looks:
        made.append(unwoken.Looks(set(queues)))
        return made[-1]

    yield looks
    for one in made:
        one._over.set()
        if one._thread.is_alive():
            one.stop()
        one._doers.shutdown(wait=True)


@pytest.fixture
def an_early_end(active_request: AccessRequest, bob: User, aws_clock: AwsClock) -> DenyPolicy:
    factories.sealed(active_request)
    workflow.revoke(active_request, by=bob, reason="gone")
    return DenyPolicy.objects.get()


def names(looks: unwoken.Looks) -> set[str]:
    return {name for name, _ in looks.due()}


def asleep(looks: unwoken.Looks, seconds: float) -> unwoken.Looks:
    """As if nobody had woken it for so long."""
    looks._began -= seconds
    return looks


def test_what_beat_wakes_it_for_is_due_when_no_wake_came_for_twice_its_time(looks: Any) -> None:
    assert names(looks("default", "revoke", "aws")) == set()
    assert "default.sweep_requests" not in names(asleep(looks("default"), 9))
    assert "default.sweep_requests" in names(asleep(looks("default"), 10))
    assert names(asleep(looks("default", "revoke", "aws", "mint"), 240)) == set(app.conf.beat_schedule)
    assert names(asleep(looks("revoke"), 1000)) == {"revoke.identify"}
    assert names(asleep(looks("aws"), 1000)) == {"aws.read_clock"}


def test_a_wake_puts_it_off(looks: Any) -> None:
    alone = asleep(looks("default"), 1000)
    tasks.sweep_outbox.apply()

    assert "default.sweep_outbox" not in names(alone)
    assert "default.sweep_requests" in names(alone)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(unwoken.log, "warning", lambda event, **more: said.append(more.get("task", event)))
    return said


def test_a_wake_that_went_to_another_replica_puts_it_off_and_nobody_is_told(looks: Any, told: list[str]) -> None:
    alone = asleep(looks("default"), 30)
    alone._began -= 40  # up for longer than the others need to begin
    tasks.sweep_outbox.apply()
    unwoken._last_run["default.sweep_outbox"] = monotonic() - 30

    assert "default.sweep_outbox" not in names(alone)
    assert "default.sweep_requests" in names(alone)
    assert "default.sweep_requests" in told
    assert "default.sweep_outbox" not in told
    # Whoever writes to Redis can say so of every sweep, and keeps none from being done.
    unwoken._last_run["default.sweep_outbox"] = monotonic() - 50
    assert "default.sweep_outbox" in names(alone)
    assert "default.sweep_outbox" not in told


def test_a_worker_that_began_before_beat_tells_nobody(looks: Any, told: list[str]) -> None:
    assert "default.sweep_requests" in names(asleep(looks("default"), 20))
    assert told == []


def test_a_redis_of_no_use_puts_nothing_off(looks: Any, told: list[str], settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    tasks.sweep_outbox.apply()
    unwoken._last_run["default.sweep_outbox"] -= 30

    assert "default.sweep_outbox" in names(asleep(looks("default"), 100))
    assert "default.sweep_outbox" in told


def test_nobody_mints_unasked(looks: Any, active_request: AccessRequest, aws_clock: AwsClock) -> None:
    factories.delivery(active_request)

    assert names(asleep(looks("mint"), 1000)) == set()


def test_an_early_end_that_nobody_takes_up_is_due_after_some_seconds(looks: Any, an_early_end: DenyPolicy) -> None:
    assert list(looks("revoke").due()) == []
    with clock.moved(timedelta(seconds=5)):
        assert list(looks("revoke").due()) == [("revoke.work", (an_early_end.role_id,))]
        assert list(looks("default").due()) == []
    DenyPolicy.objects.update(due_at=None, probe_due_at=clock.now() - timedelta(seconds=5))
    assert list(looks("aws").due()) == [("aws.probe", (an_early_end.role_id,))]


def test_it_does_what_is_due_and_not_twice_at_once(
    looks: Any, an_early_end: DenyPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    DenyPolicy.objects.update(due_at=clock.now() - timedelta(seconds=60))
    done: list[int] = []
    at_work: list[int] = []
    most: list[int] = []

    def work(role_id: int) -> None:
        at_work.append(role_id)
        most.append(len(at_work))
        until(lambda: len(seen) >= 3, 10)  # it looked again meanwhile
        at_work.remove(role_id)
        done.append(role_id)

    seen: list[object] = []
    due = unwoken.Looks.due

    def watched(self: unwoken.Looks) -> Any:
        seen.append(1)
        return due(self)

    monkeypatch.setattr(unwoken.Looks, "due", watched)
    monkeypatch.setattr(revoking, "work", work)
    looks("revoke").start()

    until(lambda: len(done) >= 2, 20)
    assert set(done) == {an_early_end.role_id}
    assert max(most) == 1


def test_a_database_of_no_use_ends_nothing(looks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def now() -> Any:
        asked.append(1)
        raise OperationalError("too many connections")

    monkeypatch.setattr(clock, "now", now)
    one = looks("revoke")
    one.start()

    until(lambda: len(asked) >= 3, 10)
    assert one._thread.is_alive()
