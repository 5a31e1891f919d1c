"""What the clock decides. Set-based, bounded, and harmless to run twice or at once.

Each looks `among` all requests, or among those it is given: so whoever runs it can go round one that cannot be moved.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, QuerySet

from requests_app.domain import audit, clock, notices
from requests_app.domain.models import AccessRequest, Freeze, Role
from requests_app.domain.transitions import State

# What is moved by statements alone, whose rows never leave the database, and what Python looks at one by one.
BATCH = 10_000
SMALL_BATCH = 1000
# A word before the end, in time to extend or to finish.
ENDING_SOON = timedelta(minutes=15)


def expire_due(limit: int = BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Active requests whose time is up become expired; returns how many."""
    return _expire(_these(among), limit)


def lapse_due(limit: int = BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Pending ones that nobody decided, and approved ones that nobody started, lapse; returns how many."""
    return _lapse(_these(among), limit)


def settle(ids: Collection[int]) -> None:
    """Perform what is due for these requests now, waiting for whoever is at them."""
    these = AccessRequest.objects.filter(pk__in=ids)
    _expire(these, len(ids), skip_locked=False)
    _lapse(these, len(ids), skip_locked=False)


def activate_due(limit: int = SMALL_BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Approved requests that were to start at once become active; returns how many."""
    due = _these(among).filter(state=State.APPROVED, start=AccessRequest.Start.AT_ONCE)
    # What is frozen starts when the freeze is lifted, if that is in time.
    for role, account in Freeze.objects.in_force().values_list("role", "account"):
        if role is None and account is None:
            return 0
        due = due.exclude(role=role) if role else due.exclude(role__in=Role.objects.filter(account=account))
    with transaction.atomic():
        taken = _take(due, "start_by", limit)
        now = clock.now()
        found = list(AccessRequest.objects.select_related("beneficiary").filter(pk__in=taken, start_by__gt=now))
        AccessRequest.objects.filter(pk__in=[one.pk for one in found]).update(
            state=State.ACTIVE,
            activated_at=now,
            expires_at=now + F("approved_seconds") * timedelta(seconds=1),
        )
        ends = [{"expires_at": (now + one.duration).isoformat()} for one in found]
        audit.record_each(audit.Action.REQUEST_STARTED, found, ends, at=now)
    return len(found)


def announce_endings(limit: int = BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Tell people whose pass ends within 15 minutes, once; returns how many were told now."""
    with transaction.atomic():
        now = clock.now()
        ending = (
            _these(among)
            .filter(state=State.ACTIVE, expires_at__gt=now, expires_at__lte=now + ENDING_SOON)
            # A pass that was never longer needs no warning of its own start.
            .filter(approved_seconds__gt=ENDING_SOON.total_seconds())
            .exclude(notices__kind=notices.Kind.ENDING_SOON)
        )
        found = _take(ending, "expires_at", limit)
        notices.announce_many(notices.Kind.ENDING_SOON, found, at=now)
    return len(found)


def _these(among: QuerySet[AccessRequest] | None) -> QuerySet[AccessRequest]:
    return AccessRequest.objects.all() if among is None else among


def _expire(among: QuerySet[AccessRequest], limit: int, *, skip_locked: bool = True) -> int:
    with transaction.atomic():
        now = clock.now()
        over = among.filter(state=State.ACTIVE, expires_at__lte=now)
        found = _take(over, "expires_at", limit, skip_locked=skip_locked)
        AccessRequest.objects.filter(pk__in=found).update(state=State.EXPIRED, ended_at=F("expires_at"))
        _tell(found, audit.Action.REQUEST_EXPIRED, now)
    return len(found)


def _lapse(among: QuerySet[AccessRequest], limit: int, *, skip_locked: bool = True) -> int:
    with transaction.atomic():
        now = clock.now()
        undecided = among.filter(state=State.PENDING, decide_by__lte=now)
        unstarted = among.filter(state=State.APPROVED, start_by__lte=now)
        found = _take(undecided, "decide_by", limit, skip_locked=skip_locked)
        found += _take(unstarted, "start_by", limit - len(found), skip_locked=skip_locked)
        AccessRequest.objects.filter(pk__in=found).update(state=State.LAPSED, ended_at=now)
        _tell(found, audit.Action.REQUEST_LAPSED, now)
    return len(found)


def _take(due: QuerySet[AccessRequest], by: str, limit: int, *, skip_locked: bool = True) -> list[int]:
    """Lock the rows longest due that nobody else is at; what is skipped here, another has or the next run finds.

    `by` is the time that the state's own index has: in its order, the index is read and nothing else.
    """
    rows = due.select_for_update(skip_locked=skip_locked, no_key=True).order_by(by)
    return list(rows.values_list("pk", flat=True)[:limit])


def _tell(found: list[int], action: audit.Action, now: datetime) -> None:
    audit.record_many(action, found, at=now)
    notices.announce_many(notices.Kind.ENDED, found, at=now)
