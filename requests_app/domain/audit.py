"""The record of what happened: written in the same transaction as the thing itself."""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.db import connection

from requests_app.domain import clock
from requests_app.domain.models import AccessRequest, AuditEvent, User
from requests_app.domain.prepared import Question
from requests_app.domain.texts import shortened


class Action(StrEnum):
    """Every dotted name there is. A refused one is recorded as `….refused`."""

    REQUEST_SUBMITTED = "request.submitted"
    REQUEST_APPROVED = "request.approved"  # one approver's decision
    REQUEST_GRANTED = "request.granted"  # the last stage is satisfied, or nobody had to be asked
    REQUEST_ACCEPTED = "request.accepted"  # the beneficiary wants what somebody else asked for them
    REQUEST_ESCALATED = "request.escalated"  # further approvers are asked
    REQUEST_DENIED = "request.denied"
    REQUEST_WITHDRAWN = "request.withdrawn"
    REQUEST_REMINDED = "request.reminded"
    REQUEST_STARTED = "request.started"
    REQUEST_LAPSED = "request.lapsed"
    REQUEST_EXPIRED = "request.expired"
    REQUEST_RETURNED = "request.returned"
    REQUEST_REVOKED = "request.revoked"
    EXTENSION_ASKED = "extension.asked"
    EXTENSION_APPROVED = "extension.approved"  # one approver's decision
    EXTENSION_DENIED = "extension.denied"
    EXTENSION_GRANTED = "extension.granted"
    EXTENSION_WITHDRAWN = "extension.withdrawn"
    EXTENSION_LAPSED = "extension.lapsed"
    EXTENSION_ESCALATED = "extension.escalated"
    EDIT_CONFIRMED = "edit.confirmed"
    DELIVERY_ASKED = "delivery.asked"
    DELIVERY_FAILED = "delivery.failed"
    DELIVERY_HANDED_OVER = "delivery.handed_over"
    SESSION_ISSUED = "session.issued"
    SESSION_DISCARDED = "session.discarded"
    KEYS_DISCARDED = "session.keys_discarded"  # further ones of a session, such as what would have ended too late
    REVOCATION_WANTED = "revocation.wanted"
    REVOCATION_WRITTEN = "revocation.written"
    REVOCATION_PROVED = "revocation.proved"
    REVOCATION_UNPROVABLE = "revocation.unprovable"
    REVOCATION_LIFTED = "revocation.lifted"  # someone changed or removed our policy at AWS
    REVOCATION_SIGNED_OUT = "revocation.signed_out"  # AWS ended sign-in sessions that may be of this request
    REVOCATION_OVER = "revocation.over"
    SESSION_UNACCOUNTED = "session.unaccounted"  # AWS was asked and we do not know what it did
    REVOCATION_LEFT_OUT = "revocation.left_out"  # the role has no room: given back, so it made way
    ROLE_HELD = "role.held"  # no room for all: everything issued before a moment is denied
    FREEZE_BEGUN = "freeze.begun"
    FREEZE_LIFT_ASKED = "freeze.lift_asked"
    FREEZE_LIFTED = "freeze.lifted"
    REQUEST_CONFIRMED = "request.confirmed"  # found in a restored database, it lives on
    EVERYTHING_ENDED = "everything.ended"  # of a person, a role, an account or all; one event for the whole act
    INSTALLATION_MOVED = "installation.moved"  # the database has a new place, as its owner said
    PERSON_MADE = "person.made"
    PERSON_CHANGED = "person.changed"
    PERSON_DEACTIVATED = "person.deactivated"
    OPERATOR_MADE = "operator.made"
    SUPERUSER_MADE = "superuser.made"  # of Django's; PostgreSQL itself writes it
    CATALOG_CHANGED = "catalog.changed"
    ENTITLEMENT_CHANGED = "entitlement.changed"
    GROUP_CHANGED = "group.changed"
    ADMIN_GROUP_CHANGED = "admin_group.changed"  # who may look at what in the admin
    SIGNED_IN = "sign_in.succeeded"
    SIGN_IN_FAILED = "sign_in.failed"
    SIGNED_OUT = "sign_in.ended"
    SIGN_INS_ENDED = "sign_ins.ended"  # all of somebody, by themselves or by an operator
    FACTOR_ADDED = "factor.added"  # a second factor of one's own
    FACTOR_REMOVED = "factor.removed"  # one's own; or all of somebody else's, by an operator who says why
    FACTOR_CODES_MADE = "factor.codes_made"  # recovery codes, in place of those before
    NEW_PASSWORD_ASKED = "password.asked"  # noqa: S105 - by anybody, for somebody
    NEW_PASSWORD_SET = "password.set"  # noqa: S105 - by its owner, who knew the one before or had a link
    PERSON_INVITED = "person.invited"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an act came from."""

    channel: str = "system"
    ip: str | None = None
    user_agent: str = ""


_origin: ContextVar[Origin] = ContextVar("audit_origin", default=Origin())  # noqa: B039 - frozen
SYSTEM = "Daypass"


@contextmanager
def context(*, channel: str, ip: str | None = None, user_agent: str = "") -> Iterator[None]:
    """Say where whatever is recorded inside came from."""
    token = _origin.set(Origin(channel, ip, _printable(user_agent)[:300]))
    try:
        yield
    finally:
        _origin.reset(token)


def origin() -> Origin:
    """Where what is done now came from."""
    return _origin.get()


@dataclass(frozen=True, slots=True)
class About:
    """The request that an event is about, where it was not loaded as a model."""

    pk: int
    code: str
    beneficiary_id: int
    beneficiary_name: str


def record(
    action: Action | str,
    access_request: AccessRequest | About | None = None,
    *,
    by: User | None,
    at: datetime | None = None,
    beneficiary: User | None = None,
    subject: str = "",
    **detail: Any,
) -> int:
    """Write one event and return its key. `by` is None where the clock or a worker acted."""
    values = _values(action, access_request, by=by, at=at, beneficiary=beneficiary, subject=subject, detail=detail)
    (key,) = _RECORD.one(**values)
    return int(key)


_RECORD = Question(
    "audit.record",
    """
INSERT INTO requests_app_auditevent (at, action, actor_id, actor_name, beneficiary_id, beneficiary_name,
                                     access_request_id, subject, channel, ip, user_agent, detail)
VALUES (%(at)s::timestamptz, %(action)s::text, %(actor_id)s::bigint, %(actor_name)s::text, %(beneficiary_id)s::bigint,
        %(beneficiary_name)s::text, %(access_request_id)s::bigint, %(subject)s::text, %(channel)s::text, %(ip)s::inet,
        %(user_agent)s::text, %(detail)s::jsonb)
RETURNING id
""",
)


def record_each(
    action: Action, access_requests: Sequence[AccessRequest], details: Sequence[dict[str, Any]], *, at: datetime
) -> None:
    """Write one event for each of these that a sweep moved, with details of its own, in one statement."""
    AuditEvent.objects.bulk_create(
        AuditEvent(**_values(action, access_request, by=None, at=at, beneficiary=None, subject="", detail=detail))
        for access_request, detail in zip(access_requests, details, strict=True)
    )


def record_many(action: Action, ids: Collection[int], *, at: datetime, by: User | None = None, **detail: Any) -> None:
    """Write one event for each request with these ids, all alike: in the database, where ten thousand are few.

    The rows are those that `record` would write.
    """
    if not ids:
        return
    origin = _origin.get()
    values: dict[str, Any] = {
        "action": str(action),
        "at": at,
        "ids": list(ids),
        "detail": json.dumps(storable(detail)),
    }
    values |= {"actor": by.pk if by else None, "actor_name": str(by)[:150] if by else SYSTEM}
    values |= {"channel": origin.channel, "ip": origin.ip, "user_agent": origin.user_agent}
    with connection.cursor() as cursor:
        cursor.execute(_RECORD_MANY, values)


# The beneficiary's name is `User.__str__`.
_RECORD_MANY = """
INSERT INTO requests_app_auditevent (at, action, actor_id, actor_name, beneficiary_id, beneficiary_name,
                                     access_request_id, subject, channel, ip, user_agent, detail)
SELECT %(at)s, %(action)s, %(actor)s, %(actor_name)s, u.id, coalesce(nullif(u.name, ''), u.username), r.id, r.code,
       %(channel)s, %(ip)s::inet, %(user_agent)s, %(detail)s::jsonb
FROM requests_app_accessrequest r JOIN requests_app_user u ON u.id = r.beneficiary_id
WHERE r.id = ANY(%(ids)s)
ORDER BY r.id
"""


def refusals_lately(by: User, among: int) -> int:
    """How many of this person's newest events are refusals of the last minute."""
    newest = AuditEvent.objects.filter(actor=by).order_by("-pk").values_list("action", "at")[:among]
    since = clock.now() - timedelta(minutes=1)
    return sum(action.endswith(".refused") and at > since for action, at in newest)


def _values(
    action: Action | str,
    access_request: AccessRequest | About | None,
    *,
    by: User | None,
    at: datetime | None,
    beneficiary: User | None,
    subject: str,
    detail: dict[str, Any],
) -> dict[str, Any]:
    origin = _origin.get()
    if isinstance(access_request, About):
        for_whom: tuple[int | None, str] = (access_request.beneficiary_id, access_request.beneficiary_name)
    else:
        beneficiary = beneficiary or (access_request.beneficiary if access_request else None)
        for_whom = (beneficiary.pk, str(beneficiary)) if beneficiary else (None, "")
    return {
        "at": at or clock.now(),
        "action": str(action),
        "actor_id": by.pk if by else None,
        "actor_name": str(by)[:150] if by else SYSTEM,
        "beneficiary_id": for_whom[0],
        "beneficiary_name": for_whom[1][:150],
        "access_request_id": access_request.pk if access_request else None,
        "subject": shortened(storable(subject or (access_request.code if access_request else "")), 300),
        "channel": origin.channel,
        "ip": origin.ip,
        "user_agent": origin.user_agent,
        "detail": storable(detail),
    }


def storable(value: Any) -> Any:
    """The same without what PostgreSQL refuses: an event must not be lost for a zero byte in AWS's words."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {storable(key): storable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [storable(part) for part in value]
    return value


def _printable(text: str) -> str:
    # PostgreSQL takes no NUL, and a log line no line break.
    return "".join(character for character in text if character.isprintable())
