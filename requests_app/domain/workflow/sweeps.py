"""What the clock decides. Set-based, bounded, and harmless to run twice or at once."""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet

from requests_app.domain import audit, clock, notices
from requests_app.domain.models import AccessRequest
from requests_app.domain.transitions import State

BATCH = 1000
# A word before the end, in time to extend or to finish.
ENDING_SOON = timedelta(minutes=15)


def expire_due(limit: int = BATCH) -> int:
    """Active requests whose time is up become expired; returns how many."""
    return _expire(AccessRequest.objects.all(), limit)


def lapse_due(limit: int = BATCH) -> int:
    """Pending ones that nobody decided, and approved ones that nobody started, lapse; returns how many."""
    return _lapse(AccessRequest.objects.all(), limit)


def settle(ids: Collection[int]) -> None:
    """Perform what is due for these requests now, waiting for whoever is at them."""
    these = AccessRequest.objects.filter(pk__in=ids)
    _expire(these, len(ids), skip_locked=False)
    _lapse(these, len(ids), skip_locked=False)


def activate_due(limit: int = BATCH) -> int:
    """Approved requests that were to start at once become active; returns how many."""
    due = AccessRequest.objects.filter(state=State.APPROVED, start=AccessRequest.Start.AT_ONCE)
    with transaction.atomic():
        found = _take(due, limit)
        now = clock.now()
        found = [one for one in found if one.start_by is not None and one.start_by > now]
        AccessRequest.objects.filter(pk__in=[one.pk for one in found]).update(
            state=State.ACTIVE,
            activated_at=now,
            expires_at=now + F("approved_seconds") * timedelta(seconds=1),
        )
        ends = [{"expires_at": (now + one.duration).isoformat()} for one in found]
        audit.record_many(audit.Action.REQUEST_STARTED, found, at=now, details=ends)
    return len(found)


def announce_endings(limit: int = BATCH) -> int:
    """Tell people whose pass ends within 15 minutes, once; returns how many were told now."""
    with transaction.atomic():
        now = clock.now()
        ending = (
            AccessRequest.objects.filter(state=State.ACTIVE, expires_at__gt=now, expires_at__lte=now + ENDING_SOON)
            # A pass that was never longer needs no warning of its own start.
            .filter(approved_seconds__gt=ENDING_SOON.total_seconds())
            .exclude(notices__kind=notices.Kind.ENDING_SOON)
        )
        found = _take(ending, limit)
        notices.announce(notices.Kind.ENDING_SOON, found, at=now)
    return len(found)


def _expire(among: QuerySet[AccessRequest], limit: int, *, skip_locked: bool = True) -> int:
    with transaction.atomic():
        now = clock.now()
        found = _take(among.filter(state=State.ACTIVE, expires_at__lte=now), limit, skip_locked)
        AccessRequest.objects.filter(pk__in=[one.pk for one in found]).update(
            state=State.EXPIRED, ended_at=F("expires_at")
        )
        _tell(found, audit.Action.REQUEST_EXPIRED, now)
    return len(found)


def _lapse(among: QuerySet[AccessRequest], limit: int, *, skip_locked: bool = True) -> int:
    with transaction.atomic():
        now = clock.now()
        due = Q(state=State.PENDING, decide_by__lte=now) | Q(state=State.APPROVED, start_by__lte=now)
        found = _take(among.filter(due), limit, skip_locked)
        AccessRequest.objects.filter(pk__in=[one.pk for one in found]).update(state=State.LAPSED, ended_at=now)
        _tell(found, audit.Action.REQUEST_LAPSED, now)
    return len(found)


def _take(due: QuerySet[AccessRequest], limit: int, skip_locked: bool = True) -> list[AccessRequest]:
    """Lock the first due rows that nobody else is at; what is skipped here, another has or the next run finds."""
    return list(
        due.select_for_update(skip_locked=skip_locked, of=("self",), no_key=True)
        .select_related("beneficiary")
        .order_by("pk")[:limit]
    )


def _tell(found: list[AccessRequest], action: audit.Action, now: datetime) -> None:
    audit.record_many(action, found, at=now)
    notices.announce(notices.Kind.ENDED, found, at=now)
