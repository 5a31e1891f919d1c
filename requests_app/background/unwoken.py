"""What a worker does when nobody wakes it: it looks by itself, so that a broker of no use keeps nothing from ending.

Beat's wakes and the nudges only say when to look. A worker of the queues default, aws and revoke does what beat would
have woken it for if no such wake came to any worker for twice its time, and whatever early end has been due for some
seconds. Minting is not done so: a wish that nobody was nudged for is too old.

A wake goes to one of several replicas, so each notes in Redis that it ran. What stands there is anybody's who writes to
Redis: for long no worker relies on it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import structlog
from celery import bootsteps, current_app
from celery.signals import task_prerun
from django.db import close_old_connections, connections
from redis import RedisError

from requests_app.domain import clock, store
from requests_app.domain.models import DenyPolicy

log = structlog.get_logger(__name__)
LOOK_EVERY_SECONDS = 2.0
# Longer than a sweep and a nudge need. What is taken up twice does no harm: the role's lock, and what is due, decide.
OVERDUE = timedelta(seconds=4)
MOST_AT_ONCE = 4
MOST_ROLES = 20
STOPS_WITHIN_SECONDS = 5.0
# By then beat has begun, where all were started together.
TELLS_AFTER_SECONDS = 60.0
# After so many times without a wake of its own, a worker does it whatever it is told of the others.
RELIES_FOR = 10
_Work = tuple[str, tuple[int, ...]]

_last_run: dict[str, float] = {}


@task_prerun.connect
def _note_run(sender: Any, **_: object) -> None:
    _last_run[sender.name] = time.monotonic()
    if entry := current_app.conf.beat_schedule.get(sender.name):
        milliseconds = int(2000 * float(entry["schedule"]))
        _ask_redis(lambda: store.client().set(_key(sender.name), b"", px=milliseconds))


def _ran_elsewhere(name: str) -> bool:
    return bool(_ask_redis(lambda: store.client().exists(_key(name))))


def _key(name: str) -> str:
    return f"ran:{name}"


def _ask_redis(ask: Callable[[], Any]) -> Any:
    """None where it does not answer, and nobody waits for it then."""
    standing = store.standing()
    if standing.refusal:
        return None
    try:
        return ask()
    except RedisError as error:
        standing.note_failure(error)
        return None


class Looks:
    """A thread that looks, and a few that do what it finds."""

    def __init__(self, queues: set[str]) -> None:
        self._queues = queues
        self._schedule = {
            name: float(entry["schedule"])
            for name, entry in current_app.conf.beat_schedule.items()
            if name.partition(".")[0] in queues
        }
        self._began = time.monotonic()
        self._over = threading.Event()
        self._busy: set[_Work] = set()
        self._alone: set[str] = set()
        self._doers = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="unwoken")
        self._thread = threading.Thread(target=self._run, name="unwoken", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What is under way is safe to lose, as whatever a worker does is."""
        self._over.set()
        self._thread.join(STOPS_WITHIN_SECONDS)
        self._doers.shutdown(wait=False, cancel_futures=True)

    def due(self) -> Iterator[_Work]:
        """Tasks that nobody woke this process for, and early ends that nobody takes up."""
        for name, seconds in self._schedule.items():
            waited = time.monotonic() - _last_run.get(name, self._began)
            if waited < 2 * seconds:
                continue
            elsewhere = _ran_elsewhere(name)
            if not elsewhere:
                self._tell_once(name)
            if not elsewhere or waited >= RELIES_FOR * seconds:
                yield name, ()
        close_old_connections()
        before = clock.now() - OVERDUE
        for queue, task, field in (("revoke", "revoke.work", "due_at"), ("aws", "aws.probe", "probe_due_at")):
            if queue in self._queues:
                roles = DenyPolicy.objects.filter(**{f"{field}__lte": before}).order_by(field)
                for role_id in roles.values_list("role_id", flat=True)[:MOST_ROLES]:
                    yield task, (role_id,)

    def _run(self) -> None:
        while not self._over.wait(LOOK_EVERY_SECONDS):
            try:
                for work in self.due():
                    self._begin(work)
            except Exception as error:  # noqa: BLE001 - the database may be of no use either: look again
                log.warning("unwoken.looks_in_vain", error=type(error).__name__)
                connections.close_all()

    def _begin(self, work: _Work) -> None:
        if work not in self._busy:
            self._busy.add(work)
            self._doers.submit(self._do, work)

    def _do(self, work: _Work) -> None:
        name, arguments = work
        try:
            current_app.tasks[name].apply(args=arguments)  # what it raises becomes a trouble, as in any worker
        except Exception:
            log.exception("unwoken.failed", task=name)
        finally:
            connections.close_all()
            self._busy.discard(work)

    def _tell_once(self, name: str) -> None:
        if name not in self._alone and time.monotonic() - self._began >= TELLS_AFTER_SECONDS:
            self._alone.add(name)
            log.warning("worker.unwoken", task=name, advice="Is beat running, and does Redis take what is written?")


class LooksByItself(bootsteps.StartStopStep):
    """Begins before the worker asks for the broker, which may never answer."""

    label = "looks by itself"

    def __init__(self, worker: Any, **_: object) -> None:
        self._looks: Looks | None = None

    def start(self, worker: Any) -> None:
        self._looks = Looks(set(worker.app.amqp.queues.consume_from))
        self._looks.start()

    def stop(self, worker: Any) -> None:
        if self._looks is not None:
            self._looks.stop()

    terminate = stop
