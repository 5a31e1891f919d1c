"""Mail that is due: rows in the outbox, in the same transaction as what they tell of."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import CharField, F, Func, QuerySet, Value

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


def announce(
    kind: Notice.Kind,
    access_requests: Iterable[AccessRequest],
    *,
    at: datetime,
    to: Iterable[User] | None = None,
    occasion: str = "",
) -> None:
    """Queue one mail for each request and recipient; `to` is the beneficiary where nobody else is named.

    The same occasion is queued once, however often it is announced.
    """
    people = [one.pk for one in to] if to is not None else None
    announce_by_key(
        kind,
        [
            (one.pk, recipient)
            for one in access_requests
            for recipient in (people if people is not None else [one.beneficiary_id])
        ],
        at=at,
        occasion=occasion,
    )


def announce_by_key(kind: Notice.Kind, whom: Sequence[tuple[int, int]], *, at: datetime, occasion: str = "") -> None:
    """As `announce`; `whom` are the keys of a request and a recipient each."""
    if whom:
        _ANNOUNCE.run(
            kind=str(kind),
            at=at,
            access_requests=[one for one, _ in whom],
            recipients=[recipient for _, recipient in whom],
            occasion=occasion,
        )
        jobs.nudge("default.sweep_outbox")


_ANNOUNCE = Question(
    "notices.announce",
    """
INSERT INTO requests_app_notice (kind, recipient_id, access_request_id, key, due_at, attempts, last_error)
SELECT %(kind)s::text, w.recipient, w.access_request,
       concat_ws(':', %(kind)s::text, w.access_request, w.recipient, %(occasion)s::text), %(at)s::timestamptz, 0, ''
FROM unnest(%(access_requests)s::bigint[], %(recipients)s::bigint[]) AS w(access_request, recipient)
ON CONFLICT DO NOTHING
""",
)


def tell(kind: Notice.Kind, about: str, *, at: datetime, to: Iterable[User], occasion: str) -> None:
    """Queue one mail that is about no single request: `about` is its sentence."""
    rows = [
        Notice(kind=kind, recipient=one, about=about, key=":".join((kind, "", str(one.pk), occasion)), due_at=at)
        for one in to
    ]
    Notice.objects.bulk_create(rows, ignore_conflicts=True)
    jobs.nudge("default.sweep_outbox")


def send_link(person: User | None, about: str, *, at: datetime) -> None:
    """Queue a link for a new password to this person, unless they were sent enough lately.

    One statement, whether there is such a person or not: nobody can tell from how long it takes.
    """
    with connection.cursor() as cursor:
        values = {"kind": str(Kind.NEW_PASSWORD), "person": person.pk if person else None, "about": about, "at": at}
        cursor.execute(_SEND_LINK, values | {"hour": LINKS_PER_HOUR, "day": LINKS_PER_DAY})
    jobs.nudge("default.sweep_outbox")


# Its key names the link before, so that of several at once only one is sent.
_SEND_LINK = """
WITH before AS (
    SELECT id, created_at FROM requests_app_notice
    WHERE recipient_id = %(person)s::bigint AND kind = %(kind)s
    ORDER BY id DESC LIMIT %(day)s
)
INSERT INTO requests_app_notice (kind, recipient_id, about, key, created_at, due_at, attempts, last_error)
SELECT %(kind)s, %(person)s::bigint, %(about)s, concat_ws(':', %(kind)s, '', %(person)s::bigint, coalesce(max(id), 0)),
       %(at)s, %(at)s, 0, ''
FROM before
HAVING %(person)s::bigint IS NOT NULL
   AND count(*) FILTER (WHERE created_at > %(at)s::timestamptz - interval '1 hour') < %(hour)s
   AND count(*) FILTER (WHERE created_at > %(at)s::timestamptz - interval '1 day') < %(day)s
ON CONFLICT DO NOTHING
"""


def who_answer_for_daypass() -> QuerySet[User]:
    """Operators and auditors, at most the first 500."""
    return User.objects.operators_and_auditors().order_by("pk")[:500]


def announce_many(kind: Notice.Kind, ids: Collection[int], *, at: datetime) -> None:
    """Queue one mail to the beneficiary of each request with these ids, in the database; as `announce`, once."""
    if not ids:
        return
    with connection.cursor() as cursor:
        cursor.execute(_ANNOUNCE_MANY, {"kind": str(kind), "at": at, "ids": list(ids)})
    jobs.nudge("default.sweep_outbox")


# The same keys in a question about requests: of the word before the end as it is now, which an extension moves, and
# of the one to whoever asked that nobody can decide the present stage.
_EPOCH = Func(F("expires_at"), template="extract(epoch FROM %(expressions)s)::text", output_field=CharField())
KEY_OF_ENDING = Func(
    F("pk"), F("beneficiary"), _EPOCH,
    template="concat_ws(':', 'ending_soon', %(expressions)s)", output_field=CharField(),
)  # fmt: skip
KEY_OF_STUCK = Func(
    F("pk"), F("requester"), F("stage"),
    template="concat_ws(':', 'stuck', %(expressions)s)", output_field=CharField(),
)  # fmt: skip
# Of an extension: `stage 2 of extension 7`.
_OF_EXTENSION = Func(
    Value("stage "), F("stage"), Value(" of extension "), F("pk"), function="concat", output_field=CharField()
)
KEY_OF_STUCK_EXTENSION = Func(
    F("access_request"), F("asked_by"), _OF_EXTENSION,
    template="concat_ws(':', 'stuck', %(expressions)s)", output_field=CharField(),
)  # fmt: skip
# Of what its beneficiary may not have any more, once for each state.
KEY_OF_NO_USE = Func(
    F("pk"), F("requester"), F("state"),
    template="concat_ws(':', 'stuck', %(expressions)s)", output_field=CharField(),
)  # fmt: skip

# The keys are those of `announce`. An end can be extended, and then comes near again. Whoever asked for somebody else
# hears that nothing came of it.
_ANNOUNCE_MANY = """
INSERT INTO requests_app_notice (kind, recipient_id, access_request_id, key, due_at, attempts, last_error)
SELECT %(kind)s, person, id, concat_ws(':', %(kind)s, id, person,
       CASE WHEN %(kind)s = 'ending_soon' THEN extract(epoch FROM expires_at)::text ELSE '' END), %(at)s, 0, ''
FROM requests_app_accessrequest,
     LATERAL (SELECT beneficiary_id UNION SELECT requester_id WHERE state = 'lapsed') AS concerned(person)
WHERE id = ANY(%(ids)s)
ORDER BY id, person
ON CONFLICT DO NOTHING
"""


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
