"""Mail that is due: rows in the outbox, in the same transaction as what they tell of.

A row says whom it goes to and what it is about. What the mail says is worked out when it is sent, and the same about
the same to the same person is queued once, however often it is announced.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict, Unpack

from django.db.models import Exists, QuerySet

from requests_app.domain import clock, jobs
from requests_app.domain.models import AccessRequest, Notice, User
from requests_app.domain.prepared import Question

Kind = Notice.Kind
# Then a notice is given up, and says so in its row.
MOST_ATTEMPTS = 8
# How many links for a new password anybody can have us send to one person. No longer time than a link works, so that
# whoever gets no further one has one that works.
LINKS_PER_HOUR = 3
LINKS_PER_DAY = 8


class About(TypedDict, total=False):
    """What a notice is about besides its request, by the columns of `Notice`: keys of rows, and values."""

    extension: int
    stage: int
    state: str
    delivery: int
    freeze: int
    edit: int
    role: int
    entitlement: int
    moment: datetime
    detail: dict[str, Any]
    event: int


def announce(
    kind: Notice.Kind,
    access_requests: Iterable[AccessRequest],
    *,
    at: datetime,
    to: Iterable[User] | None = None,
    **about: Unpack[About],
) -> None:
    """Queue one mail for each request and recipient; `to` is the beneficiary where nobody else is named."""
    people = [person.pk for person in to] if to is not None else None
    whom = [
        (access_request.pk, recipient)
        for access_request in access_requests
        for recipient in (people if people is not None else [access_request.beneficiary_id])
    ]
    announce_by_key(kind, whom, at=at, **about)


def tell(kind: Notice.Kind, *, at: datetime, to: Iterable[User], **about: Unpack[About]) -> None:
    """Queue one mail to each of these that is about no single request."""
    announce_by_key(kind, [(None, person.pk) for person in to], at=at, **about)


def announce_by_key(
    kind: Notice.Kind, whom: Sequence[tuple[int | None, int]], *, at: datetime, **about: Unpack[About]
) -> None:
    """As `announce`; `whom` are the keys of a request, if it is about one, and a recipient each."""
    if whom:
        _ANNOUNCE.run(
            kind=str(kind),
            at=at,
            access_requests=[key for key, _ in whom],
            recipients=[recipient for _, recipient in whom],
            **(_ABOUT_NOTHING | about),
        )
        jobs.nudge("default.sweep_outbox")


_ABOUT_NOTHING = dict.fromkeys(About.__annotations__) | {"state": "", "detail": {}}
_ANNOUNCE = Question(
    "notices.announce",
    """
INSERT INTO requests_app_notice (kind, recipient_id, access_request_id, extension_id, stage, state, delivery_id,
                                 freeze_id, edit_id, role_id, entitlement_id, moment, detail, event_id,
                                 due_at, attempts, last_error)
SELECT %(kind)s::text, w.recipient, w.access_request, %(extension)s::bigint, %(stage)s::int, %(state)s::text,
       %(delivery)s::bigint, %(freeze)s::bigint, %(edit)s::bigint, %(role)s::bigint, %(entitlement)s::bigint,
       %(moment)s::timestamptz, %(detail)s::jsonb, %(event)s::bigint, %(at)s::timestamptz, 0, ''
FROM unnest(%(access_requests)s::bigint[], %(recipients)s::bigint[]) AS w(access_request, recipient)
ON CONFLICT DO NOTHING
""",
)


def announce_many(kind: Notice.Kind, ids: Collection[int], *, at: datetime) -> None:
    """Queue one mail to the beneficiary of each request with these ids, in the database; as `announce`, once."""
    if ids:
        _ANNOUNCE_MANY.run(kind=str(kind), at=at, ids=list(ids))
        jobs.nudge("default.sweep_outbox")


# An end can be extended, and then comes near again. Whoever asked for somebody else hears that nothing came of it.
_ANNOUNCE_MANY = Question(
    "notices.announce_many",
    """
INSERT INTO requests_app_notice (kind, recipient_id, access_request_id, moment, due_at, attempts, last_error)
SELECT %(kind)s::text, person, id, CASE WHEN %(kind)s::text = 'ending_soon' THEN expires_at END,
       %(at)s::timestamptz, 0, ''
FROM requests_app_accessrequest,
     LATERAL (SELECT beneficiary_id UNION SELECT requester_id WHERE state = 'lapsed') AS concerned(person)
WHERE id = ANY(%(ids)s::bigint[])
ORDER BY id, person
ON CONFLICT DO NOTHING
""",
)


def send_link(person: User | None, *, event: int, at: datetime) -> None:
    """Queue a link for a new password to this person, unless they were sent enough lately.

    One statement, whether there is such a person or not: nobody can tell from how long it takes.
    """
    _SEND_LINK.run(
        person=person.pk if person else None,
        event=event,
        at=at,
        hour=LINKS_PER_HOUR,
        day=LINKS_PER_DAY,
    )
    jobs.nudge("default.sweep_outbox")


# Its moment is that of the link before, so that of several at once only one is sent.
_SEND_LINK = Question(
    "notices.send_link",
    """
WITH before AS (
    SELECT created_at FROM requests_app_notice
    WHERE recipient_id = %(person)s::bigint AND kind = 'new_password'
    ORDER BY id DESC LIMIT %(day)s::int
)
INSERT INTO requests_app_notice (kind, recipient_id, moment, event_id, created_at, due_at, attempts, last_error)
SELECT 'new_password', %(person)s::bigint, max(created_at), %(event)s::bigint, %(at)s::timestamptz, %(at)s::timestamptz,
       0, ''
FROM before
HAVING %(person)s::bigint IS NOT NULL
   AND count(*) FILTER (WHERE created_at > %(at)s::timestamptz - interval '1 hour') < %(hour)s::int
   AND count(*) FILTER (WHERE created_at > %(at)s::timestamptz - interval '1 day') < %(day)s::int
ON CONFLICT DO NOTHING
""",
)


def not_told(rows: Any, kind: Notice.Kind, **about: Any) -> Any:
    """Of these rows the ones of which nobody was told so: `about` says which notice that would be."""
    return rows.exclude(Exists(Notice.objects.filter(kind=kind, **about)))


def day_of(at: datetime) -> datetime:
    """The moment of what is told once a day."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def minute_of(at: datetime) -> datetime:
    """The moment of what is told once a minute."""
    return at.replace(second=0, microsecond=0)


def who_answer_for_daypass() -> QuerySet[User]:
    """Operators and auditors, at most the first 500."""
    return User.objects.operators_and_auditors().order_by("pk")[:500]


def is_any_due() -> bool:
    """Whether a mail is to be sent now."""
    (is_due,) = _IS_ANY_DUE.one(shift=clock.shift())
    return bool(is_due)


_IS_ANY_DUE = Question(
    "notices.is_any_due",
    """
SELECT EXISTS (
    SELECT FROM requests_app_notice n
    WHERE n.sent_at IS NULL AND n.gave_up_at IS NULL
        AND n.due_at <= (SELECT clock_timestamp() + %(shift)s::interval)
)
""",
)


def next_attempt(notice: Notice, now: datetime) -> datetime:
    """1, 2, 4 … minutes later: a mail server that is down is not asked in a loop."""
    return now + timedelta(minutes=2 ** min(max(notice.attempts, 1) - 1, 6))
