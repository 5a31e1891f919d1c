"""Requests as pages show them, with what belongs to each: statements of a fixed text, each planned once."""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from requests_app.domain.joined import Joined
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    Decision,
    Delivery,
    Extension,
    IssuedSession,
    User,
)
from requests_app.domain.prepared import Question

# How a page calls somebody.
NAMES = {User: ("id", "public_id", "username", "name")}
_AROUND = ("requester", "beneficiary", "ended_by", "role", "role__account", "revocation")
_WHOLE = Joined(AccessRequest, "r", *_AROUND, "role__preflight", only=NAMES)
_ALIKE = Joined(
    AccessRequest, "r", "beneficiary", only={**NAMES, AccessRequest: ("id", "role_id", "beneficiary_id", "expires_at")}
)
_EXTENSION = Joined(Extension, "x")
_DECISION = Joined(Decision, "d")
_EVENT = Joined(AuditEvent, "e")
_SESSION = Joined(IssuedSession, "s", "delivery", only={Delivery: ("id", "kind")})
_LISTED = Joined(AccessRequest, "r", *_AROUND, only=NAMES)
_MORE = Joined(Extension, "x", "access_request", *(f"access_request__{name}" for name in _AROUND), only=NAMES)
_DECIDED = Joined(
    Decision, "d",
    *("access_request", "access_request__beneficiary", "access_request__role", "access_request__role__account"),
    "extension", only=NAMES,
)  # fmt: skip
# As `AccessRequest.objects.of_use` has it; as a value, so that it is asked of each.
_OF_USE = """coalesce((
    SELECT true FROM requests_app_holding h
    WHERE h.entitlement_id = r.entitlement_id AND h.person_id = r.beneficiary_id AND h.role_id = r.role_id
    LIMIT 1
), false)"""


def by_code(code: str) -> AccessRequest | None:
    """With how its role fared when it was looked at last; an open one knows whether it `is_of_use`."""
    found = _WHOLE.read(_BY_CODE.all(code=code), "is_of_use")
    return found[0] if found else None


def extensions_of(keys: Collection[int]) -> list[Extension]:
    """What is asked for or granted of more time, as many as the terms allow at most. Those that came to nothing are
    said in the timeline."""
    return _EXTENSION.read(_EXTENSIONS_OF.all(keys=list(keys))) if keys else []


def decisions_on(keys: Collection[int]) -> list[Decision]:
    """On these requests and on extensions of them, in their order."""
    return _DECISION.read(_DECISIONS_ON.all(keys=list(keys))) if keys else []


def events_of(access_request: AccessRequest, most: int) -> list[AuditEvent]:
    """The newest, newest first."""
    return _EVENT.read(_EVENTS_OF.all(access_request=access_request.pk, most=most))


def sessions_of(access_request: AccessRequest, most: int) -> list[IssuedSession]:
    """The newest, newest first, with what each was asked for."""
    return _SESSION.read(_SESSIONS_OF.all(access_request=access_request.pk, most=most))


def passes_since(people: Collection[int], since: datetime) -> list[tuple[int, str, int]]:
    """For each of these people how many of their passes asked for since then are in which state."""
    return _PASSES_SINCE.all(people=list(people), since=since) if people else []


def active_of_roles(roles: Collection[int], now: datetime, most: int) -> list[AccessRequest]:
    """Who has one of these roles now and until when, so many of each; the first to end first."""
    return _ALIKE.read(_ACTIVE_OF_ROLES.all(roles=list(roles), now=now, most=most)) if roles else []


def newest_of(person: User, states: Collection[str], most: int) -> list[AccessRequest]:
    """The newest of these that this person asked for or benefits from, the newest first.

    Each open one knows as `is_of_use` whether the beneficiary may still have it, freezes apart.
    """
    return _LISTED.read(
        _NEWEST_OF.all(person=person.pk, states=[str(state) for state in states], most=most), "is_of_use"
    )


def waiting(person: User, now: datetime, most: int, *, after: str = "") -> list[AccessRequest]:
    """Those that wait for this person, the most urgent first; those `after` the request of this code. Each knows as
    `is_of_use` whether its beneficiary may still have it, freezes apart."""
    return _LISTED.read(_WAITING.all(person=person.pk, now=now, most=most, after=after, last=""), "is_of_use")


def waiting_codes(person: User, now: datetime, most: int, *, after: str = "", last: str = "") -> list[str]:
    """Of these only the codes, up to and with that of `last`."""
    return [code for (code,) in _WAITING_CODES.all(person=person.pk, now=now, most=most, after=after, last=last)]


def waiting_among(person: User, now: datetime, codes: Collection[str]) -> set[str]:
    """Which of these still wait for this person."""
    return {code for (code,) in _WAITING_AMONG.all(person=person.pk, now=now, codes=list(codes))}


def more_waiting(person: User, now: datetime, most: int) -> list[Extension]:
    """More time that waits for this person, the most urgent first."""
    return _MORE.read(_MORE_WAITING.all(person=person.pk, now=now, most=most))


def more_waiting_keys(person: User, now: datetime, most: int) -> list[UUID]:
    return [key for (key,) in _MORE_WAITING_KEYS.all(person=person.pk, now=now, most=most)]


def more_waiting_among(person: User, now: datetime, keys: Collection[UUID]) -> set[UUID]:
    return {key for (key,) in _MORE_WAITING_AMONG.all(person=person.pk, now=now, keys=list(keys))}


def count_waiting(person: User, now: datetime, most: int) -> int:
    """How many of both wait for this person, up to `most`."""
    (number,) = _COUNT_WAITING.one(person=person.pk, now=now, most=most)
    return int(number)


def decided_lately(person: User, most: int) -> list[Decision]:
    """By this person, the newest first."""
    return _DECIDED.read(_DECIDED_LATELY.all(person=person.pk, most=most))


_BY_CODE: Question[Any] = Question(
    "reading.by_code",
    f"""
SELECT {_WHOLE.columns}, CASE WHEN r.ended_at IS NULL THEN {_OF_USE} END AS is_of_use
FROM {_WHOLE.tables}
WHERE r.code = %(code)s::text
""",  # noqa: S608 - texts of ours only
)

# Each side by its own index: asked for both at once, the database may read everybody's, newest first, until it has
# found enough of theirs. The keys as an array, which is read first: with IN, among so many joins, each row is asked.
_NEWEST_OF: Question[Any] = Question(
    "reading.newest_of",
    f"""
SELECT {_LISTED.columns}, CASE WHEN r.ended_at IS NULL THEN {_OF_USE} END AS is_of_use
FROM {_LISTED.tables}
WHERE r.id = ANY (ARRAY(
    (
        SELECT b.id FROM requests_app_accessrequest b
        WHERE b.beneficiary_id = %(person)s::bigint AND b.state = ANY (%(states)s::text[])
        ORDER BY b.asked_at DESC LIMIT %(most)s::bigint
    ) UNION (
        SELECT a.id FROM requests_app_accessrequest a
        WHERE a.requester_id = %(person)s::bigint AND a.state = ANY (%(states)s::text[])
        ORDER BY a.asked_at DESC LIMIT %(most)s::bigint
    )
))
ORDER BY r.asked_at DESC LIMIT %(most)s::bigint
""",  # noqa: S608 - texts of ours only
)

_WAITS = """
    SELECT w.id
    FROM (
        SELECT coalesce(max(a.decide_by), '-infinity') AS decide_by, coalesce(max(a.id), 0) AS id
        FROM requests_app_accessrequest a
        WHERE a.code = %(after)s::text
    ) a CROSS JOIN LATERAL requests_app_waiting(
        %(person)s::bigint, %(now)s::timestamptz, %(most)s::bigint, a.decide_by, a.id) w
    WHERE coalesce((w.decide_by, w.id) <= (
        SELECT l.decide_by, l.id FROM requests_app_accessrequest l WHERE l.code = %(last)s::text), true)"""
_WAITING: Question[Any] = Question(
    "reading.waiting",
    f"""
SELECT {_LISTED.columns}, {_OF_USE} AS is_of_use
FROM {_LISTED.tables}
WHERE r.id = ANY (ARRAY({_WAITS}
))
ORDER BY r.decide_by, r.id
""",  # noqa: S608 - texts of ours only
)
_WAITING_CODES: Question[Any] = Question(
    "reading.waiting_codes",
    f"""
SELECT r.code
FROM requests_app_accessrequest r
WHERE r.id = ANY (ARRAY({_WAITS}
))
""",  # noqa: S608 - texts of ours only
)
_WAITING_AMONG: Question[Any] = Question(
    "reading.waiting_among",
    """
SELECT r.code
FROM requests_app_accessrequest r
WHERE r.code = ANY (%(codes)s::text[])
    AND requests_app_may_decide(%(person)s::bigint, r.id, NULL, %(now)s::timestamptz)
""",
)

_MORE_WAITS = """
    SELECT w.id
    FROM requests_app_waiting_more(%(person)s::bigint, %(now)s::timestamptz, %(most)s::bigint) w"""
_MORE_WAITING: Question[Any] = Question(
    "reading.more_waiting",
    f"""
SELECT {_MORE.columns}
FROM {_MORE.tables}
WHERE x.id = ANY (ARRAY({_MORE_WAITS}
))
ORDER BY x.decide_by, x.id
""",  # noqa: S608 - texts of ours only
)
_MORE_WAITING_KEYS: Question[Any] = Question(
    "reading.more_waiting_keys",
    f"""
SELECT x.public_id
FROM requests_app_extension x
WHERE x.id = ANY (ARRAY({_MORE_WAITS}
))
""",  # noqa: S608 - texts of ours only
)
_MORE_WAITING_AMONG: Question[Any] = Question(
    "reading.more_waiting_among",
    """
SELECT x.public_id
FROM requests_app_extension x
WHERE x.public_id = ANY (%(keys)s::uuid[])
    AND requests_app_may_decide(%(person)s::bigint, x.access_request_id, x.id, %(now)s::timestamptz)
""",
)

_COUNT_WAITING: Question[Any] = Question(
    "reading.count_waiting",
    """
SELECT least(w.number + m.number, %(most)s::bigint)
FROM (
    SELECT count(*) AS number
    FROM requests_app_waiting(%(person)s::bigint, %(now)s::timestamptz, %(most)s::bigint)
) w CROSS JOIN LATERAL (
    SELECT count(*) AS number
    FROM requests_app_waiting_more(%(person)s::bigint, %(now)s::timestamptz, %(most)s::bigint - w.number)
) m
""",
)

_DECIDED_LATELY: Question[Any] = Question(
    "reading.decided_lately",
    f"""
SELECT {_DECIDED.columns}
FROM {_DECIDED.tables}
WHERE d.approver_id = %(person)s::bigint
ORDER BY d.id DESC LIMIT %(most)s::bigint
""",  # noqa: S608 - texts of ours only
)

_EXTENSIONS_OF: Question[Any] = Question(
    "reading.extensions_of",
    f"""
SELECT {_EXTENSION.columns}
FROM {_EXTENSION.tables}
WHERE x.access_request_id = ANY (%(keys)s::bigint[]) AND x.state IN ('pending', 'granted')
ORDER BY x.id
""",  # noqa: S608 - texts of ours only
)
_DECISIONS_ON: Question[Any] = Question(
    "reading.decisions_on",
    f"""
SELECT {_DECISION.columns}
FROM {_DECISION.tables}
WHERE d.access_request_id = ANY (%(keys)s::bigint[])
ORDER BY d.decided_at, d.id
""",  # noqa: S608 - texts of ours only
)
_EVENTS_OF: Question[Any] = Question(
    "reading.events_of",
    f"""
SELECT {_EVENT.columns}
FROM {_EVENT.tables}
WHERE e.access_request_id = %(access_request)s::bigint
ORDER BY e.id DESC LIMIT %(most)s::bigint
""",  # noqa: S608 - texts of ours only
)
_SESSIONS_OF: Question[Any] = Question(
    "reading.sessions_of",
    f"""
SELECT {_SESSION.columns}
FROM {_SESSION.tables}
WHERE s.access_request_id = %(access_request)s::bigint
ORDER BY s.issued_at DESC LIMIT %(most)s::bigint
""",  # noqa: S608 - texts of ours only
)
_PASSES_SINCE: Question[Any] = Question(
    "reading.passes_since",
    """
SELECT r.beneficiary_id, r.state, count(*)
FROM requests_app_accessrequest r
WHERE r.beneficiary_id = ANY (%(people)s::bigint[]) AND r.asked_at > %(since)s::timestamptz
    AND r.activated_at IS NOT NULL
GROUP BY r.beneficiary_id, r.state
""",
)
_ACTIVE_OF_ROLES: Question[Any] = Question(
    "reading.active_of_roles",
    f"""
SELECT {_ALIKE.columns}
FROM {_ALIKE.tables}
WHERE r.id = ANY (ARRAY(
    SELECT a.id
    FROM unnest(%(roles)s::bigint[]) AS role (id) CROSS JOIN LATERAL (
        SELECT a.id
        FROM requests_app_accessrequest a
        WHERE a.role_id = role.id AND a.state = 'active' AND a.expires_at > %(now)s::timestamptz
        ORDER BY a.expires_at LIMIT %(most)s::bigint
    ) a
))
ORDER BY r.expires_at
""",  # noqa: S608 - texts of ours only
)
