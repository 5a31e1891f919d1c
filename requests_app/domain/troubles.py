"""What failed in a way nobody foresaw: a row that operators see, until the same works again.

Never what an error said: that might hold what must not be stored. The logs have it.
"""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet

from requests_app.domain import clock, notices
from requests_app.domain.models import Trouble, User
from requests_app.domain.prepared import Question

# Whoever writes to the queues could think up subjects without end: the further ones share a row.
MOST_SUBJECTS = 100
# The same work is tried again after 5, 10, 20 … seconds, at last once an hour.
FIRST_GAP, LONGEST_GAP = timedelta(seconds=5), timedelta(hours=1)


def note(task: str, subject: str, *, error: str, where: str, tell_at: int = 1) -> Trouble:
    """This task has just failed on this subject. Operators are told when that was so `tell_at` times in a row.

    `error` is the error's class, and `where` the file and line.
    """
    with transaction.atomic():
        task = task[:64]
        return _note(task, _subject(task, subject), error=error, where=where, tell_at=tell_at)


def put_off(task: str, sweep: str, row: int, *, error: str, where: str, tell_at: int) -> Trouble:
    """This sweep could not move this row: it is tried again, alone, with growing gaps; the others go on."""
    with transaction.atomic():
        return _note(task, f"{sweep} {row}", error=error, where=where, tell_at=tell_at, sweep=sweep, row=row)


def of_task(task: str) -> list[Trouble]:
    """What fails now of what this task does, its rows among it, the oldest first."""
    return [Trouble(**dict(zip(_COLUMNS, values, strict=True))) for values in _OF_TASK.all(task=task)]


_COLUMNS = [field.attname for field in Trouble._meta.concrete_fields]
_OF_TASK = Question(
    "troubles.of_task",
    f"""
SELECT {", ".join(f'"{name}"' for name in _COLUMNS)} FROM requests_app_trouble
WHERE task = %(task)s::text AND over_at IS NULL ORDER BY id
""",  # noqa: S608 - names of ours only
)


def over(task: str, subject: str, *, was_put_off: bool) -> None:
    """The same works again. Where it was put off, what came before that time had nothing to do."""
    for trouble in open_now().filter(task=task, subject=subject):
        now = clock.now()
        if not was_put_off or now >= again_at(trouble):
            Trouble.objects.filter(pk=trouble.pk, over_at=None, last_at=trouble.last_at).update(over_at=now)


def open_now() -> QuerySet[Trouble]:
    return Trouble.objects.filter(over_at=None)


def again_at(trouble: Trouble) -> datetime:
    """When the same is to be tried again."""
    return trouble.last_at + min(FIRST_GAP * 2 ** min(trouble.times - 1, 20), LONGEST_GAP)


def _note(
    task: str, subject: str, *, error: str, where: str, tell_at: int, sweep: str | None = None, row: int | None = None
) -> Trouble:
    now = clock.now()
    values = {"task": task, "subject": subject, "error": error[:200], "where": where[-200:], "now": now}
    values |= {"sweep": sweep, "row": row, "first_gap": FIRST_GAP, "longest_gap": LONGEST_GAP}
    (trouble,) = Trouble.objects.raw(_NOTE, values)
    if trouble.times == tell_at:
        _tell(trouble, now)
    return trouble


# After it was over it begins anew.
_NOTE = """
INSERT INTO requests_app_trouble AS old (task, subject, sweep, row, error, "where", times, first_at, last_at, due_at)
VALUES (%(task)s, %(subject)s, %(sweep)s, %(row)s, %(error)s, %(where)s, 1, %(now)s, %(now)s,
        CASE WHEN %(row)s::bigint IS NOT NULL THEN %(now)s::timestamptz + %(first_gap)s END)
ON CONFLICT (task, subject) DO UPDATE SET
    sweep = excluded.sweep, row = excluded.row,
    error = excluded.error, "where" = excluded."where", last_at = excluded.last_at, over_at = NULL,
    times = CASE WHEN old.over_at IS NULL THEN old.times + 1 ELSE 1 END,
    first_at = CASE WHEN old.over_at IS NULL THEN old.first_at ELSE excluded.first_at END,
    due_at = CASE WHEN excluded.row IS NOT NULL THEN excluded.last_at + least(
        %(first_gap)s * 2 ^ CASE WHEN old.over_at IS NULL THEN least(old.times, 20) ELSE 0 END, %(longest_gap)s) END
RETURNING *
"""


def _subject(task: str, subject: str) -> str:
    subject = subject[:64]
    known = Trouble.objects.filter(task=task[:64])
    if subject and not known.filter(subject=subject).exists() and known.count() >= MOST_SUBJECTS:
        return ""
    return subject


def _tell(trouble: Trouble, now: datetime) -> None:
    """Once a day for each kind of trouble: a hundred subjects of one fault are one mail."""
    operators = User.objects.operators().order_by("pk")[:100]
    fault = {"task": trouble.task, "error": trouble.error, "where": trouble.where}
    notices.tell(notices.Kind.TROUBLE, at=now, to=operators, moment=notices.day_of(now), detail=fault)
