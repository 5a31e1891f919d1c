"""How late each sweep is: the age of what is longest due and not done. Each is one row, found by its index.

Only what is due by the clock can be late. That nobody can decide any more, or that a role went out of use, is found
by looking at what is pending: no row says since when, so those sweeps are not here. What keeps them from looking is a
trouble, and a worker that is not there is seen by all the others.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from requests_app.domain.models import AccessRequest, Delivery, DenyPolicy, Extension, Freeze, Notice, Preflight
from requests_app.domain.transitions import DeliveryState, ExtensionState, State


@dataclass(frozen=True, slots=True)
class Lag:
    """Of one kind of work. More than `limit` means that nobody does it, or not fast enough."""

    work: str
    late: timedelta
    limit: timedelta
    worker: str

    @property
    def too_long(self) -> bool:
        return self.late > self.limit


def lags(now: datetime) -> list[Lag]:
    """One for each kind of work that is due by the clock; zero where nothing is."""
    requests, policies, looks = AccessRequest.objects, DenyPolicy.objects, Preflight.objects.all()
    if Freeze.objects.in_force().filter(cause=Freeze.Cause.RESTORED).exists():
        looks = looks.none()  # nobody looks at roles until operators have looked at the database
    waiting = requests.filter(state=State.PENDING)
    extensions = Extension.objects.filter(state=ExtensionState.PENDING)
    asked = Delivery.objects.filter(state=DeliveryState.ASKED)
    unsent = Notice.objects.filter(sent_at=None, gave_up_at=None)
    oldest = (
        ("passes to end", requests.filter(state=State.ACTIVE), "expires_at", _MINUTE, "default"),
        ("requests to lapse", waiting, "decide_by", _MINUTE, "default"),
        ("requests to escalate", waiting.filter(escalate_at__isnull=False), "escalate_at", _MINUTE, "default"),
        ("approved passes to lapse", requests.filter(state=State.APPROVED), "start_by", _MINUTE, "default"),
        ("extensions to lapse", extensions, "decide_by", _MINUTE, "default"),
        ("extensions to escalate", extensions.filter(escalate_at__isnull=False), "escalate_at", _MINUTE, "default"),
        ("credentials to mint", asked, "asked_at", timedelta(seconds=30), "mint"),
        ("mail to send", unsent, "due_at", 5 * _MINUTE, "default"),
        ("deny policies to write or read back", policies.filter(due_at__isnull=False), "due_at", _MINUTE, "revoke"),
        ("early ends to prove", policies.filter(probe_due_at__isnull=False), "probe_due_at", 2 * _MINUTE, "aws"),
        ("roles for the minter to look at", looks, "minter_due_at", _HOURS, "aws"),
        ("roles for the revoker to look at", looks, "revoker_due_at", _HOURS, "revoke"),
    )
    return [Lag(work, _late(rows, by, now), limit, worker) for work, rows, by, limit, worker in oldest]


_MINUTE = timedelta(minutes=1)
# They wait for everybody else.
_HOURS = timedelta(hours=6)


def _late(rows: QuerySet[Any], by: str, now: datetime) -> timedelta:
    due: datetime | None = rows.order_by(by).values_list(by, flat=True).first()
    return max(now - due, timedelta(0)) if due else timedelta(0)
