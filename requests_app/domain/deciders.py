"""Who is asked, who may decide, and whether enough people are left: for one and for many.

The text is `database/deciding.sql`, which the guards ask too; here are the questions to it.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast

from requests_app.domain import policy, prepared
from requests_app.domain.joined import Joined
from requests_app.domain.models import AccessRequest, Extension, User
from requests_app.domain.terms import StageTerms

# What is decided.
Matter = AccessRequest | Extension
MOST_APPROVERS = 200
# People are counted so far and no further; nobody chooses differently at 100 and at 2,000.
MOST_COUNTED = 100


@dataclass(frozen=True, slots=True)
class Question:
    """Who could decide this stage? `asking`: those who ask and benefit. `outside`: who has had their say.

    `entitlement` and `role`: under what it is asked for; whoever edited that is left out. None: nobody is.
    `further`: with those who are asked once the stage's time is over.
    """

    stage: StageTerms
    asking: Iterable[int]
    outside: Iterable[int] = ()
    entitlement: int | None = None
    role: int | None = None
    further: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """Are there enough people for each of these stages, where everybody has one say in all of them?

    `agreed`: so many have at the first one, which began `passed` seconds ago. `seconds`: so much time is left to
    decide; further people count where that is enough for them to be asked.
    """

    stages: Sequence[StageTerms]
    asking: Iterable[int]
    seconds: float
    outside: Iterable[int] = ()
    entitlement: int | None = None
    role: int | None = None
    agreed: int = 0
    passed: float = 0


def facts_of_deciding(matter: Matter, by: User, now: datetime) -> policy.Deciding:
    """What `policy.may_decide` looks at, as it is now."""
    extension = matter.extension.pk if matter.extension else None
    return _DECIDING.one(person=by.pk, request=matter.access_request.pk, extension=extension, now=now)


def same_hand(person: User, *others: User) -> bool:
    """Whether one of them placed another, through others too: then they are not two pairs of eyes."""
    (found,) = _SAME_HAND.one(person=person.pk, others=[other.pk for other in others])
    return bool(found)


def has_agreed_through_another(matter: Matter, by: User) -> bool:
    """Whether somebody has agreed to it with whom `by` is no second pair of eyes."""
    extension = matter.extension.pk if matter.extension else None
    (found,) = _AGREED_WITH.one(person=by.pk, request=matter.access_request.pk, extension=extension)
    return bool(found)


def in_one_hand(person: User, others: Sequence[Sequence[int]]) -> list[bool]:
    """`same_hand` with each of these sets of people, by their keys; one query."""
    return [bool(found) for (found,) in _IN_ONE_HAND.all(person=person.pk, others=others)] if others else []


def approvers(question: Question) -> list[User]:
    """The people, by name, at most `MOST_APPROVERS`."""
    return _PEOPLE.read(_APPROVERS.all(questions=_documents([question]), most=MOST_APPROVERS))


def numbers(questions: Sequence[Question]) -> list[int]:
    """How many people for each of these, up to `MOST_COUNTED`; one query, in which each question is asked once."""
    if not questions:
        return []
    asked = [json.dumps(asdict(one), default=sorted) for one in questions]
    each = list(dict.fromkeys(asked))
    documents = [{**json.loads(one), "n": number} for number, one in enumerate(each)]
    found = dict(zip(each, _NUMBERS.all(questions=documents, most=MOST_COUNTED), strict=True))
    return [found[one][0] for one in asked]


def clocks(questions: Sequence[Question]) -> list[Counter[str]]:
    """For each of these how many people live by which time zone, at most `MOST_APPROVERS` in all; one query."""
    found: list[Counter[str]] = [Counter() for _ in questions]
    for number, zone, people in _CLOCKS.all(questions=_documents(questions), most=MOST_APPROVERS) if questions else ():
        found[number][zone] += people
    return found


def lacking(questions: Sequence[Left]) -> list[list[int]]:
    """For each of these the positions of the stages for which too few people are left; one query."""
    if not questions:
        return []
    rows = _LACKING.all(questions=_documents(questions))
    return [
        [one.stages[number - 1].position for number in numbers]
        for one, (numbers,) in zip(questions, rows, strict=True)
    ]  # fmt: skip


def _documents(questions: Sequence[Question | Left]) -> list[dict[str, Any]]:
    """As JSON has them: sets become lists."""
    asked = [{"n": number, **asdict(one)} for number, one in enumerate(questions)]
    return cast(list[dict[str, Any]], json.loads(json.dumps(asked, default=list)))


_DECIDING = prepared.Question(
    "deciding.facts",
    """
SELECT d.is_active, d.is_asking, d.state, d.has_decided, d.nobody_is_asked, d.is_accepted, d.has_edited, d.has_placed,
       d.is_same_hand,
       d.is_asked OR coalesce(d.is_asked_from <= %(now)s::timestamptz, false) AS is_asked,
       d.stage, coalesce(d.asks->>'asks', '') AS asks,
       EXISTS (
           SELECT FROM requests_app_membership g
           WHERE g.user_id = %(person)s::bigint
             AND (d.asks->'groups' @> to_jsonb(g.group_id)
                  OR d.asks->'more_groups' @> to_jsonb(g.group_id)
                     AND d.since + make_interval(secs => (d.asks->>'escalate_seconds')::bigint)
                         <= %(now)s::timestamptz)
       ) AS is_member
FROM requests_app_deciding(%(person)s::bigint) d
WHERE d.access_request_id = %(request)s::bigint AND d.extension_id IS NOT DISTINCT FROM %(extension)s::bigint
""",
    policy.Deciding,
)
_SAME_HAND: prepared.Question[Any] = prepared.Question(
    "deciding.same_hand",
    "SELECT requests_app_same_hand(%(person)s::bigint, %(others)s::bigint[])",
)
_AGREED_WITH: prepared.Question[Any] = prepared.Question(
    "deciding.agreed_with",
    "SELECT requests_app_agreed_with(%(person)s::bigint, %(request)s::bigint, %(extension)s::bigint)",
)
_IN_ONE_HAND: prepared.Question[Any] = prepared.Question(
    "deciding.in_one_hand",
    """
SELECT requests_app_same_hand(%(person)s::bigint, ARRAY(SELECT key::bigint FROM jsonb_array_elements_text(o.keys) key))
FROM jsonb_array_elements(%(others)s::jsonb) WITH ORDINALITY o(keys, n)
ORDER BY o.n
""",
)
_PEOPLE = Joined(User, "u")
_APPROVERS: prepared.Question[Any] = prepared.Question(
    "deciding.approvers",
    f"""
SELECT {_PEOPLE.columns} FROM {_PEOPLE.tables} WHERE u.id IN (
    SELECT d.person_id
    FROM jsonb_to_recordset(%(questions)s::jsonb) AS q (
             stage jsonb, asking bigint[], outside bigint[], entitlement bigint, role bigint, further boolean),
         requests_app_deciders(q.stage, q.asking, q.entitlement, q.role) d
    WHERE (q.further OR NOT d.further) AND d.person_id <> ALL(q.outside))
ORDER BY u.name, u.id LIMIT %(most)s::bigint
""",  # noqa: S608 - texts of ours only
)
_NUMBERS: prepared.Question[Any] = prepared.Question(
    "deciding.numbers",
    """
SELECT (SELECT count(DISTINCT able.person_id) FROM (
            SELECT d.person_id FROM requests_app_deciders(q.stage, q.asking, q.entitlement, q.role) d
            WHERE (q.further OR NOT d.further) AND d.person_id <> ALL(q.outside) LIMIT %(most)s::bigint) able)
FROM jsonb_to_recordset(%(questions)s::jsonb) AS q (
    n int, stage jsonb, asking bigint[], outside bigint[], entitlement bigint, role bigint, further boolean)
ORDER BY q.n
""",
)
_CLOCKS: prepared.Question[Any] = prepared.Question(
    "deciding.clocks",
    """
SELECT q.n, u.time_zone, count(*)
FROM jsonb_to_recordset(%(questions)s::jsonb) AS q (
    n int, stage jsonb, asking bigint[], outside bigint[], entitlement bigint, role bigint, further boolean)
CROSS JOIN LATERAL (
    SELECT DISTINCT d.person_id FROM requests_app_deciders(q.stage, q.asking, q.entitlement, q.role) d
    WHERE (q.further OR NOT d.further) AND d.person_id <> ALL(q.outside) LIMIT %(most)s::bigint) able
JOIN requests_app_user u ON u.id = able.person_id
GROUP BY q.n, u.time_zone
""",
)
# From one moment on, whichever: what counts is how far the others are from it.
_LACKING: prepared.Question[Any] = prepared.Question(
    "deciding.lacking",
    """
SELECT requests_app_lacking(
    q.stages, q.agreed, q.asking, q.outside, q.entitlement, q.role,
    '2000-01-01Z'::timestamptz - make_interval(secs => q.passed),
    '2000-01-01Z'::timestamptz + make_interval(secs => q.seconds), '2000-01-01Z'::timestamptz)
FROM jsonb_to_recordset(%(questions)s::jsonb) AS q (
    n int, stages jsonb, agreed int, asking bigint[], outside bigint[], entitlement bigint, role bigint,
    passed double precision, seconds double precision)
ORDER BY q.n
""",
)
