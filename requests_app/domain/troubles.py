"""What failed in a way nobody foresaw: a row that operators see, until the same works again.

Never what an error said: that might hold what must not be stored. The logs have it.
"""

from datetime import datetime, timedelta
from hashlib import sha256

from django.db import connection, transaction
from django.db.models import QuerySet

from requests_app.domain import clock, notices
from requests_app.domain.models import Trouble, User

# Whoever writes to the queues could think up subjects without end: the further ones share a row.
MOST_SUBJECTS = 100
# The same work is tried again after 5, 10, 20 … seconds, at last once an hour.
FIRST_GAP, LONGEST_GAP = timedelta(seconds=5), timedelta(hours=1)


def note(task: str, subject: str, *, error: str, where: str, tell_at: int = 1) -> Trouble:
    """This task has just failed on this subject. Operators are told when that was so `tell_at` times in a row.

    `error` is the error's class, and `where` the file and line.
    """
    with transaction.atomic():
        now = clock.now()
        values = {"task": task[:64], "subject": _subject(task, subject), "error": error[:200], "where": where[-200:]}
        with connection.cursor() as cursor:
            cursor.execute(_NOTE, values | {"now": now})
        trouble = Trouble.objects.get(task=values["task"], subject=values["subject"])
        if trouble.times == tell_at:
            _tell(trouble, now)
    return trouble


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


# After it was over it begins anew.
_NOTE = """
INSERT INTO requests_app_trouble AS old (task, subject, error, "where", times, first_at, last_at)
VALUES (%(task)s, %(subject)s, %(error)s, %(where)s, 1, %(now)s, %(now)s)
ON CONFLICT (task, subject) DO UPDATE SET
    error = excluded.error, "where" = excluded."where", last_at = excluded.last_at, over_at = NULL,
    times = CASE WHEN old.over_at IS NULL THEN old.times + 1 ELSE 1 END,
    first_at = CASE WHEN old.over_at IS NULL THEN old.first_at ELSE excluded.first_at END
"""


def _subject(task: str, subject: str) -> str:
    subject = subject[:64]
    known = Trouble.objects.filter(task=task[:64])
    if subject and not known.filter(subject=subject).exists() and known.count() >= MOST_SUBJECTS:
        return ""
    return subject


def _tell(trouble: Trouble, now: datetime) -> None:
    """Once a day for each kind of trouble: a hundred subjects of one fault are one mail."""
    about = (
        f"Daypass met something that nobody foresaw: {trouble.task} failed with {trouble.error} at {trouble.where}. "
        "It is tried again with growing gaps; the admin's troubles and the logs say more."
    )
    kind = sha256(f"{trouble.task} {trouble.error} {trouble.where}".encode()).hexdigest()[:32]
    operators = User.objects.filter(is_superuser=True, deactivated_at=None).order_by("pk")[:100]
    notices.tell(notices.Kind.TROUBLE, about, at=now, to=operators, occasion=f"{kind}:{now:%Y-%m-%d}")
