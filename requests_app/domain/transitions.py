"""What may follow what. This is the one table: `after_migrate` copies it to where the triggers look."""

from datetime import datetime

from django.db.models import TextChoices


class State(TextChoices):
    PENDING = "pending"
    APPROVED = "approved"
    ACTIVE = "active"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"
    EXPIRED = "expired"
    RETURNED = "returned"
    REVOKED = "revoked"


class DeliveryState(TextChoices):
    ASKED = "asked"
    CLAIMED = "claimed"  # a worker has it
    SEALED = "sealed"  # the envelope waits in Redis
    DELIVERED = "delivered"
    REFUSED = "refused"  # a rule or AWS said no
    UNAVAILABLE = "unavailable"  # AWS did not answer, or asked to slow down
    DISCARDED = "discarded"  # minted, but the pass had ended meanwhile
    STALE = "stale"  # no worker took it in time
    UNKNOWN = "unknown"  # a worker took it and was not heard of again
    LOST = "lost"  # sealed, but the envelope was gone


class RevocationState(TextChoices):
    WANTED = "wanted"  # AWS does not have it yet
    WRITTEN = "written"  # AWS took it; whether it refuses yet is not shown
    PROVED = "proved"  # AWS was seen to refuse
    UNPROVABLE = "unprovable"  # written, and nothing harmless on this role can show it
    OVER = "over"  # no session of the request could be valid any more


class ExtensionState(TextChoices):
    PENDING = "pending"
    GRANTED = "granted"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"  # nobody decided before the pass ended


OPEN = (State.PENDING, State.APPROVED, State.ACTIVE)
ENDED = tuple(state for state in State if state not in OPEN)

REQUEST = "request"
DELIVERY = "delivery"
REVOCATION = "revocation"
EXTENSION = "extension"

_requests = {
    State.PENDING: (State.APPROVED, State.DENIED, State.WITHDRAWN, State.LAPSED),
    State.APPROVED: (State.ACTIVE, State.WITHDRAWN, State.REVOKED, State.LAPSED),
    State.ACTIVE: (State.EXPIRED, State.RETURNED, State.REVOKED),
}
_deliveries = {
    DeliveryState.ASKED: (DeliveryState.CLAIMED, DeliveryState.REFUSED, DeliveryState.STALE),
    DeliveryState.CLAIMED: (
        DeliveryState.SEALED,
        DeliveryState.REFUSED,
        DeliveryState.UNAVAILABLE,
        DeliveryState.DISCARDED,
        DeliveryState.UNKNOWN,
        DeliveryState.LOST,
    ),
    DeliveryState.SEALED: (DeliveryState.DELIVERED, DeliveryState.DISCARDED, DeliveryState.LOST),
}

_revocations = {
    RevocationState.WANTED: (RevocationState.WRITTEN, RevocationState.OVER),
    RevocationState.WRITTEN: (
        RevocationState.PROVED,
        RevocationState.UNPROVABLE,
        RevocationState.WANTED,  # someone lifted it at AWS
        RevocationState.OVER,
    ),
    RevocationState.PROVED: (RevocationState.WANTED, RevocationState.OVER),
    RevocationState.UNPROVABLE: (RevocationState.PROVED, RevocationState.WANTED, RevocationState.OVER),
}

_extensions = {
    ExtensionState.PENDING: (
        ExtensionState.GRANTED,
        ExtensionState.DENIED,
        ExtensionState.WITHDRAWN,
        ExtensionState.LAPSED,
    ),
}

TRANSITIONS: frozenset[tuple[str, str, str]] = frozenset(
    (machine, str(before), str(after))
    for machine, table in (
        (REQUEST, _requests),
        (DELIVERY, _deliveries),
        (REVOCATION, _revocations),
        (EXTENSION, _extensions),
    )
    for before, afters in table.items()
    for after in afters
)


def due(
    state: str, now: datetime, *, decide_by: datetime, start_by: datetime | None, expires_at: datetime | None
) -> State | None:
    """The state in which a request should be by the clock, if that is another one."""
    if state == State.PENDING and decide_by <= now:
        return State.LAPSED
    if state == State.APPROVED and start_by is not None and start_by <= now:
        return State.LAPSED
    if state == State.ACTIVE and expires_at is not None and expires_at <= now:
        return State.EXPIRED
    return None


def may_follow(machine: str, before: str, after: str) -> bool:
    return (machine, before, after) in TRANSITIONS
