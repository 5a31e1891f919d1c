"""Tasks and sweeps that fail in a way nobody foresaw: noted, tried again with growing gaps, and worked around."""

import threading
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from celery.signals import task_failure, task_postrun
from django.db import InterfaceError, InternalError, OperationalError, close_old_connections
from django.db.models import Max, Min, Model, QuerySet

from requests_app.domain import clock, troubles
from requests_app.domain.models import DenyPolicy, Preflight, Trouble

T = TypeVar("T")
log = structlog.get_logger(__name__)
# A sweep stops after so many batches; what is left is due for the next.
MOST_BATCHES = 20
# More rows than that fail for one reason, which is not theirs.
MOST_CULPRITS = 20
# A database that was restarted, or a row that changed meanwhile, is nothing to wake somebody for.
TELL_IF_AWAY = TELL_OF_CULPRIT = 3
# How long a process goes by what it read of troubles.
READ_EVERY_SECONDS = 30.0
_AWAY = (OperationalError, InterfaceError)
# It takes no writes, as the old primary after a failover: no row's fault either.
_READ_ONLY = "25006"


class Sweep(Protocol):
    """One set-based sweep: moves what is due `among` some rows, and returns how many it moved."""

    __name__: str

    def __call__(self, *, among: QuerySet[Any]) -> int: ...


@task_failure.connect
def note_failure(sender: Any, exception: BaseException, args: Sequence[object] | None = None, **_: object) -> None:
    """A task raised: say so in a row, and put its work off."""
    close_old_connections()  # what failed may have been the connection
    tell_at = TELL_IF_AWAY if _is_away(exception) else 1
    # A message that our own code never saw, for it could not be called like that, puts off nobody's work.
    subject = subject_of(sender.name, args or ()) if _frames_of_ours(exception) else ""
    put_off(note(sender.name, subject, exception, tell_at=tell_at))


@task_postrun.connect
def note_success(sender: Any, state: str | None = None, args: Sequence[object] | None = None, **_: object) -> None:
    if state == "SUCCESS":
        over(sender.name, subject_of(sender.name, args or ()))


def subject_of(task: str, args: Sequence[object]) -> str:
    """The id that a task was given. A delivery is tried once, and its own row says what became of it."""
    (subject,) = args if len(args) == 1 else (None,)
    return str(subject) if type(subject) is int and 0 < subject < 2**63 and task != "mint.mint" else ""


def note(task: str, subject: str, error: BaseException, *, tell_at: int = 1) -> Trouble:
    trouble = troubles.note(task, subject, error=_name(error), where=_where(error), tell_at=tell_at)
    _memory.add(trouble)
    return trouble


def over(task: str, subject: str) -> None:
    """It worked. Asks the database only where there was trouble."""
    if _memory.has(task, subject):
        troubles.over(task, subject, was_put_off=task in _WORK)


def put_off(trouble: Trouble) -> None:
    """What is due and fails would else be tried every two seconds, for ever."""
    if trouble.task in _WORK and trouble.subject:
        model, field = _WORK[trouble.task]
        again = troubles.again_at(trouble)
        due: QuerySet[Any] = model._default_manager.filter(role=int(trouble.subject), **{f"{field}__lt": again})
        due.update(**{field: again})


def attempt(task: str, run: Callable[[], T]) -> T | None:
    """One of several things that a task does, and what it returned: if it fails, that is noted and the others go on."""
    try:
        done = run()
    except Exception as error:
        log.exception("sweep.failed", sweep=run.__name__)
        note(task, run.__name__, error, tell_at=TELL_IF_AWAY if _is_away(error) else 1)
        return None
    over(task, run.__name__)
    return done


def sweep(
    task: str,
    runs: Sequence[Sweep],
    rows: QuerySet[Any],
    *,
    idle: Collection[Callable[..., Any]] = (),
) -> None:
    """Run sweeps one after the other, each until nothing is due, going round what cannot be moved. Those that are
    `idle` are left out, unless they failed: that it is over shows only if they run.

    Where one fails, rows are halved until those that make it fail are found: each is a trouble of its own, and is put
    off for this sweep: until it is due, it is left out, and then tried alone. Raises only if the database stays away.
    """
    known = troubles.of_task(task)
    for run in runs:
        of_this = [trouble for trouble in known if trouble.sweep == run.__name__ or trouble.subject == run.__name__]
        if run in idle and not of_this:
            continue
        try:
            _sweep(task, run, rows, of_this)
        except (*_AWAY, InternalError) as error:
            if not _is_away(error):
                raise
            note(task, run.__name__, error, tell_at=TELL_IF_AWAY)


# A role's own work, by the name of the task that does it.
_WORK: dict[str, tuple[type[Model], str]] = {
    "revoke.work": (DenyPolicy, "due_at"),
    "aws.probe": (DenyPolicy, "probe_due_at"),
    "aws.preflight": (Preflight, "minter_due_at"),
    "revoke.preflight": (Preflight, "revoker_due_at"),
}


class _Memory:
    """Which troubles there are, as this process last read them: nobody asks the database after each task that worked.

    Sweeps do not go by it: which of their rows are put off, and until when, they read each time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[tuple[str, str]] = set()
        self._read_at = -READ_EVERY_SECONDS

    def has(self, task: str, subject: str) -> bool:
        return (task, subject) in self._read()

    def add(self, trouble: Trouble) -> None:
        with self._lock:
            self._open = self._open | {(trouble.task, trouble.subject)}

    def forget(self) -> None:
        self._read_at = -READ_EVERY_SECONDS

    def _read(self) -> set[tuple[str, str]]:
        with self._lock:
            if time.monotonic() - self._read_at >= READ_EVERY_SECONDS:
                self._open = set(troubles.open_now().order_by("-last_at").values_list("task", "subject")[:1000])
                self._read_at = time.monotonic()
            return self._open


_memory = _Memory()


def _sweep(task: str, run: Sweep, rows: QuerySet[Any], known: Sequence[Trouble]) -> None:
    """`known`: what fails of this sweep, single rows and the whole of it."""
    put_off = [trouble for trouble in known if trouble.row is not None]
    if put_off:
        now = clock.now()
        for trouble in put_off:
            if trouble.due_at is None or now >= trouble.due_at:
                _run_alone(task, run, rows, trouble)
        rows = rows.exclude(pk__in=[trouble.row for trouble in put_off])
    whole = next((trouble for trouble in known if trouble.row is None), None)
    try:
        for _ in range(MOST_BATCHES):
            if not run(among=rows):
                break
    except Exception as error:
        if _is_away(error):
            raise
        log.exception("sweep.failed", sweep=run.__name__)
        if whole is None or clock.now() >= troubles.again_at(whole):
            _go_round(task, run, rows, error)
    else:
        if whole is not None:
            troubles.over(task, run.__name__, was_put_off=False)


def _go_round(task: str, run: Sweep, rows: QuerySet[Any], error: Exception) -> None:
    """Halve until each row that makes the sweep fail is alone, and move the others."""
    ends = rows.aggregate(first=Min("pk"), last=Max("pk"))
    waiting = [(ends["first"], ends["last"])] if ends["first"] is not None else []
    culprits = 0
    while waiting and culprits <= MOST_CULPRITS:
        first, last = waiting.pop()
        if first == last:
            culprits += not _runs_alone(task, run, rows, first)
        elif not _runs(run, rows.filter(pk__gte=first, pk__lte=last)):
            middle = (first + last) // 2
            waiting += [(middle + 1, last), (first, middle)]
    if waiting:  # so many that it is no row's fault
        note(task, run.__name__, error)
    elif not culprits:  # gone by now, perhaps
        note(task, run.__name__, error, tell_at=TELL_OF_CULPRIT)


def _runs(run: Sweep, rows: QuerySet[Any]) -> bool:
    try:
        run(among=rows)
    except Exception as error:
        if _is_away(error):
            raise
        return False  # it is met again where a row is alone
    return True


def _run_alone(task: str, run: Sweep, rows: QuerySet[Any], trouble: Trouble) -> None:
    """The sweep of one row that was put off until now."""
    assert trouble.row is not None  # noqa: S101 - of those only
    if _runs_alone(task, run, rows, trouble.row):
        troubles.over(task, trouble.subject, was_put_off=False)


def _runs_alone(task: str, run: Sweep, rows: QuerySet[Any], key: int) -> bool:
    """The sweep of one row, which is put off if it fails."""
    try:
        run(among=rows.filter(pk=key))
    except Exception as error:  # whatever it is, the others go on
        if _is_away(error):
            raise
        troubles.put_off(
            task, run.__name__, key, error=_name(error), where=_where(error), tell_at=TELL_OF_CULPRIT
        )  # fmt: skip
        return False
    return True


def _is_away(error: BaseException) -> bool:
    """Whether the database is of no use at the moment, to whatever row."""
    return isinstance(error, _AWAY) or getattr(error.__cause__, "sqlstate", "") == _READ_ONLY


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _where(error: BaseException) -> str:
    """The innermost line of ours, else the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(_frames_of_ours(error) or frames):
        parts = Path(frame.filename).parts
        start = parts.index("requests_app") if "requests_app" in parts else max(len(parts) - 2, 0)
        return f"{'/'.join(parts[start:])}:{frame.lineno}"
    return ""


def _frames_of_ours(error: BaseException) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if "requests_app" in Path(frame.filename).parts]
