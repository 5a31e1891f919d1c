"""How often somebody may guess a password or a code. Counted before it is looked at, so guesses at once count each, in
whatever process; what was right is given back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from django.db import connection

from requests_app.domain import clock
from requests_app.domain.durations import in_words
from requests_app.domain.errors import TooMany
from requests_app.domain.models import Attempts, User

# The longest that anything is counted for.
KEPT = timedelta(days=1)
BATCH = 1000


@dataclass(frozen=True, slots=True)
class Budget:
    """`most` guesses in `per`. After `free` of them the next waits a second, and each twice as long as the last."""

    about: str
    most: int
    per: timedelta
    free: int | None = None
    # But no longer than this.
    longest_wait: timedelta = timedelta(seconds=30)

    @property
    def bucket(self) -> str:
        return sha256(self.about.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reserved:
    """One guess of each of these. `slowed`: by the last of them guesses wait from now on, and did not before."""

    budgets: Sequence[Budget]
    slowed: bool


def reserve(budgets: Sequence[Budget]) -> Reserved:
    """Take one guess of each; where one has none left, none is taken. Raises TooMany, which says how long to wait."""
    taken: list[Budget] = []
    slowed = False
    for budget in budgets:
        now = clock.now()
        used = _take(budget, now)
        if used is None:
            give_back(taken)
            wait = max(_free_at(budget, now) - now, timedelta(seconds=1))
            wait = timedelta(seconds=-(-wait // timedelta(seconds=1)))  # whole ones, rounded up
            raise TooMany(
                f"Too many attempts to sign in failed. Wait {in_words(wait)}, then try again.", rule="limit.attempts"
            )
        taken.append(budget)
        slowed = budget.free is not None and used == budget.free
    return Reserved(tuple(taken), slowed)


def give_back(budgets: Sequence[Budget]) -> None:
    """What was guessed was right, or not looked at. Whoever has to wait by now goes on waiting, or a refusal here would
    end a wait there."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE requests_app_attempts SET used = greatest(used - 1, 0) WHERE bucket = ANY(%s)",
            [[budget.bucket for budget in budgets]],
        )


def use_step(person: User, step: int) -> bool:
    """Whether this time step of somebody's authenticator app is newer than any that was used; from now on it is."""
    with connection.cursor() as cursor:
        cursor.execute(_USE_STEP, [person.pk, step])
        return cursor.fetchone() is not None


def forget_old(limit: int = BATCH) -> int:
    """Delete what counts no more; returns how much."""
    old = Attempts.objects.filter(begun_at__lt=clock.now() - KEPT).order_by("begun_at")
    return Attempts.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:limit])).delete()[0]


def _take(budget: Budget, now: datetime) -> int | None:
    """How many were taken of it by now, this one counted; None where there is none left."""
    values: dict[str, str | int | float | datetime] = {
        "bucket": budget.bucket,
        "now": now,
        "over": now - budget.per,
        "most": budget.most,
        "free": budget.most if budget.free is None else budget.free,
        "longest": budget.longest_wait.total_seconds(),
    }
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, values)
        row = cursor.fetchone()
    return row[0] if row else None


def _free_at(budget: Budget, now: datetime) -> datetime:
    found = Attempts.objects.filter(bucket=budget.bucket).first()
    if found is None:
        return now
    return found.begun_at + budget.per if found.used >= budget.most else found.next_at


# One statement, so whoever guesses at the same moment waits for this row and counts on.
_TAKE = """
INSERT INTO requests_app_attempts AS old (bucket, used, begun_at, next_at)
VALUES (%(bucket)s, 1, %(now)s, %(now)s)
ON CONFLICT (bucket) DO UPDATE SET
    used = CASE WHEN old.begun_at <= %(over)s THEN 1 ELSE old.used + 1 END,
    begun_at = CASE WHEN old.begun_at <= %(over)s THEN %(now)s ELSE old.begun_at END,
    next_at = %(now)s + CASE WHEN old.begun_at > %(over)s AND old.used + 1 >= %(free)s
        THEN make_interval(secs => least(2 ^ least(old.used + 1 - %(free)s, 20), %(longest)s)) ELSE interval '0' END
WHERE old.begun_at <= %(over)s OR old.used < %(most)s AND old.next_at <= %(now)s
RETURNING used
"""
_USE_STEP = """
INSERT INTO requests_app_usedstep AS old (person, step) VALUES (%s, %s)
ON CONFLICT (person) DO UPDATE SET step = excluded.step WHERE old.step < excluded.step
RETURNING step
"""
