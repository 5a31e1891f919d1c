"""Asking for a role, for oneself or another; accepting what somebody else asked for; reminding those who decide."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import IntegrityError

from requests_app.domain import audit, clock, facts, narrowing, notices, patterns, policy, rows
from requests_app.domain.audit import Action
from requests_app.domain.deciders import in_one_hand
from requests_app.domain.durations import in_words
from requests_app.domain.errors import Conflict, DomainError, Invalid, NotAllowed, TooMany
from requests_app.domain.joined import Joined
from requests_app.domain.models import AccessRequest, Entitlement, Role, User
from requests_app.domain.prepared import Question
from requests_app.domain.terms import Terms
from requests_app.domain.texts import CANNOT_BE_STORED, LONGEST_JUSTIFICATION, LONGEST_TICKET, can_be_stored
from requests_app.domain.transitions import State
from requests_app.domain.workflow import idempotency, life, operators, revocations, stages
from requests_app.domain.workflow.verb import frozen_meanwhile, lock, require_active, verb

REMIND_EVERY = timedelta(minutes=15)


def submit(
    role: Role,
    *,
    by: User,
    entitlement: Entitlement,
    duration: timedelta,
    justification: str,
    ticket: str = "",
    start: str = AccessRequest.Start.ON_DEMAND,
    start_at: datetime | None = None,
    beneficiary: User | None = None,
    key: str = "",
) -> AccessRequest:
    """Ask for `role` for `duration` under the terms of `entitlement`, for oneself or on behalf of `beneficiary`.

    `start_at` is the moment of a scheduled start. Automatic terms approve in the same transaction, and start it too
    if that was asked for; what is asked for another waits for their `accept` first.
    The same with the same one-time `key` makes no second request: it returns the first one, as `is_repeat`.
    Raises NotAllowed if these terms do not reach the person or nobody could decide, Invalid for what was typed,
    TooMany by the limits per person and role, Conflict if someone edited `entitlement` since it was read,
    or if `key` came with something else before.
    """
    try:
        return _submit(
            role, by=by, entitlement=entitlement, duration=duration, justification=justification, ticket=ticket,
            start=start, start_at=start_at, beneficiary=beneficiary or by, key=key,
        )  # fmt: skip
    except NotAllowed as refusal:
        operators.tell_of_refusal(role, entitlement, refusal)
        raise


@verb(Action.REQUEST_SUBMITTED)
def _submit(
    role: Role,
    *,
    by: User,
    entitlement: Entitlement,
    duration: timedelta,
    justification: str,
    ticket: str,
    start: str,
    start_at: datetime | None,
    beneficiary: User,
    key: str,
) -> AccessRequest:
    justification, ticket = justification.strip(), ticket.strip()
    contents = (
        Action.REQUEST_SUBMITTED, role.pk, entitlement.pk, beneficiary.pk, int(duration.total_seconds()),
        justification, ticket, start, start_at.astimezone(UTC).isoformat() if start_at else None,
    )  # fmt: skip
    if earlier := idempotency.result_of(key, by=by, contents=contents):
        return _repeated(earlier)
    seen = entitlement.revision
    role, entitlement = _lock(role, entitlement, by, beneficiary)
    if entitlement.revision != seen:
        raise _terms_changed()
    terms = entitlement.terms_now(role)
    now = _check_asking(
        role, entitlement, terms, by=by, beneficiary=beneficiary, duration=duration, start=start, start_at=start_at,
        typed=(justification, ticket),
    )  # fmt: skip
    access_request = AccessRequest(
        requester=by,
        beneficiary=beneficiary,
        role=role,
        entitlement=entitlement,
        terms_document=terms.document(),
        justification=justification,
        ticket=ticket,
        duration_seconds=int(duration.total_seconds()),
        start=start,
        wanted_start_at=start_at,
        scheduled_at=start_at,
        asked_at=now,
        decide_by=now + timedelta(seconds=terms.pending_seconds),
    )
    stages.enter(access_request, 1 if terms.stages else 0, now)
    if access_request.waits_for_acceptance:
        access_request.deciding_groups, access_request.deciding_users, access_request.escalate_at = [], [], None
    _insert(access_request)
    idempotency.keep(key, by=by, contents=contents, result=access_request.code)
    audit.record(Action.REQUEST_SUBMITTED, access_request, by=by, at=now, rule="entitlement.reaches", terms=terms.name)
    if access_request.waits_for_acceptance:
        notices.announce(notices.Kind.ACCEPT, [access_request], at=now)
    else:
        _begin_deciding(access_request, now)
    return access_request


def why_not_accept(asked: Sequence[AccessRequest], by: User) -> dict[int, NotAllowed | None]:
    """For each of these, by its key, why the beneficiary cannot accept it from whoever asked, whom they may be; None
    where they can. One query."""
    one_hand = in_one_hand(by, [[access_request.requester_id] for access_request in asked])
    return {
        access_request.pk: _of_one_hand(access_request) if is_one else None
        for access_request, is_one in zip(asked, one_hand, strict=True)
    }


def _of_one_hand(access_request: AccessRequest) -> NotAllowed:
    return NotAllowed(
        f"{access_request.requester} made your account, or you theirs, or one of you changed how the other signs "
        "in or what they may do. Accept nothing from them before another operator has confirmed that. Ask one.",
        rule="person.same_hand",
    )


@verb(Action.REQUEST_ACCEPTED)
def accept(access_request: AccessRequest, *, by: User) -> AccessRequest:
    """The beneficiary wants what somebody else asked for them: from now on it is decided, and it can start."""
    access_request, now = lock(access_request)
    if by.pk != access_request.beneficiary_id:
        raise NotAllowed("Only the person it is for can accept it.", rule="accept.not_yours")
    if access_request.state != State.PENDING:
        raise Conflict(life.already(access_request), rule="accept.not_pending")
    if not access_request.waits_for_acceptance:
        raise Conflict("You have accepted this already.", rule="accept.once")
    require_active(by)
    if refusal := why_not_accept([access_request], by)[access_request.pk]:
        raise refusal
    life.still_entitled(access_request).require()
    # From here on it counts. Whoever asks and accepts in several places at once does one after the other; after such
    # a wait its time may be over.
    _one_after_the_other(by)
    access_request, now = lock(access_request)
    counted = _count(access_request.role_id, access_request.entitlement_id, by=by, beneficiary=by)
    most = access_request.terms.most_at_once
    if most is not None:
        policy.may_be_open(counted.open_of_terms, most).require()
    _check_limits(access_request.role, by, counted)
    access_request.accepted_at = now
    stages.enter(access_request, access_request.stage, now)
    rows.update(access_request, ["accepted_at", *stages.FIELDS])
    audit.record(Action.REQUEST_ACCEPTED, access_request, by=by, at=now)
    _begin_deciding(access_request, now)
    return access_request


@verb(Action.REQUEST_REMINDED)
def remind(access_request: AccessRequest, *, by: User) -> AccessRequest:
    """Ask those who can decide once more; at most every 15 minutes."""
    access_request, now = lock(access_request)
    if by.pk not in access_request.asking_side:
        raise NotAllowed("Only the person who asked can send a reminder.", rule="remind.not_yours")
    if access_request.state != State.PENDING:
        raise Conflict(f"Nobody has to be reminded: this request is {access_request.state}.", rule="remind.not_pending")
    if access_request.waits_for_acceptance:
        raise Conflict(f"It waits for {access_request.beneficiary} to accept it.", rule="remind.not_accepted")
    last = access_request.reminded_at or access_request.asked_at
    if now < last + REMIND_EVERY:
        minutes = math.ceil((last + REMIND_EVERY - now) / timedelta(minutes=1))
        raise TooMany(f"They were asked a moment ago. Remind them again in {minutes} min.", rule="remind.too_soon")
    people = stages.to_be_asked(access_request, now)
    if not people:
        raise Conflict(
            "Nobody can decide on this any more. Tell an operator, or withdraw it and choose other terms.",
            rule="remind.nobody",
        )
    access_request.reminded_at = now
    rows.update(access_request, ["reminded_at"])
    notices.announce(
        notices.Kind.REMINDED,
        [access_request],
        at=now,
        to=people,
        moment=now,
    )
    audit.record(Action.REQUEST_REMINDED, access_request, by=by, at=now)
    return access_request


def may_submit(
    role: Role,
    *,
    by: User,
    entitlement: Entitlement,
    beneficiary: User,
    duration: timedelta,
    start: str,
    start_at: datetime | None,
) -> policy.Verdict:
    """What `submit` would say to this, limits included, whatever reason and ticket are typed."""
    terms = entitlement.terms_now(role)
    try:
        _check_asking(
            role, entitlement, terms, by=by, beneficiary=beneficiary, duration=duration, start=start, start_at=start_at
        )
    except DomainError as refusal:
        return policy.Verdict(False, refusal.rule, refusal.message)
    return policy.Verdict(True, "entitlement.reaches")


def may_request(role: Role, *, by: User, entitlement: Entitlement, beneficiary: User) -> policy.Verdict:
    """Whether these terms, as they are now, let them ask, whatever for and however often."""
    terms = entitlement.terms_now(role)
    counted = _count(role.pk, entitlement.pk, by=by, beneficiary=beneficiary)
    return _may_request(role, entitlement, terms, counted, by=by, beneficiary=beneficiary)


def _check_asking(
    role: Role,
    entitlement: Entitlement,
    terms: Terms,
    *,
    by: User,
    beneficiary: User,
    duration: timedelta,
    start: str,
    start_at: datetime | None,
    typed: tuple[str, str] | None = None,
) -> datetime:
    """Raises whatever `submit` would raise; without `typed`, the justification and the ticket, whatever those will be.

    Returns the moment that the request goes by.
    """
    counted = _count(role.pk, entitlement.pk, by=by, beneficiary=beneficiary)
    _may_request(role, entitlement, terms, counted, by=by, beneficiary=beneficiary).require()
    wrong = _wrong_with_times(terms, duration, start, start_at, counted.now)
    if typed is not None:
        wrong |= _wrong_with_words(terms, *typed)
    if wrong:
        raise Invalid(wrong)
    _check_number(by, beneficiary, counted)
    if by.pk == beneficiary.pk:
        _check_limits(role, by, counted)
    return counted.now


def _may_request(
    role: Role, entitlement: Entitlement, terms: Terms, counted: "_Counted", *, by: User, beneficiary: User
) -> policy.Verdict:
    """Who may ask for what, whatever is typed."""
    for_oneself = by.pk == beneficiary.pk
    asking = replace(
        facts.asking(entitlement, role, by=by, beneficiary=beneficiary),
        stages_with_enough_people=facts.stages_with_enough_people(
            terms.stages,
            asking=[by.pk, beneficiary.pk],
            seconds=terms.pending_seconds,
            entitlement=entitlement.pk,
            role=role.pk,
        ),
        # What is asked for somebody else counts when they accept it.
        open_already=counted.open_of_terms if for_oneself else 0,
        most=terms.most_at_once,
        narrowing_fits=not narrowing.problem(terms.narrowed_by, terms.narrowing_policy_arns, role.arn),
        channels=terms.channels,
        console_is_closed=policy.console_is_closed(role.account.console_authorization, terms.lifted),
    )
    verdict = policy.may_request(asking)
    of_the_other = not for_oneself and policy.may_ask_for_others(asking)
    if not verdict and of_the_other and verdict.rule in _SAID_TO_THE_PERSON:
        return replace(verdict, message=f"{beneficiary} may not have this on these terms. Ask an operator.")
    return verdict


# Refusals whose message speaks to the person whom they are about.
_SAID_TO_THE_PERSON = ("person.deactivated", "edit.own", "entitlement.does_not_reach", "entitlement.excluded")


def _begin_deciding(access_request: AccessRequest, now: datetime) -> None:
    if access_request.terms.is_automatic:
        life.grant(access_request, by=None, now=now, rule="approval.automatic")
    else:
        stages.ask(access_request, now, is_new=True)


def _repeated(code: str) -> AccessRequest:
    first = AccessRequest.objects.select_related("requester", "beneficiary", "role__account").get(code=code)
    first.is_repeat = True
    return first


def _insert(access_request: AccessRequest) -> None:
    try:
        rows.insert(access_request)
    except IntegrityError as refused:
        # The database compares the terms with the entitlement's: someone edited it since we read it.
        raise frozen_meanwhile(refused) or _terms_changed() from refused


def _terms_changed() -> Conflict:
    return Conflict("The terms changed while you were asking. Look at them and ask again.", rule="terms.changed")


def _wrong_with_times(
    terms: Terms, duration: timedelta, start: str, start_at: datetime | None, now: datetime
) -> dict[str, list[str]]:
    wrong: dict[str, list[str]] = {}
    if not policy.SHORTEST_SECONDS <= duration.total_seconds() <= terms.longest_seconds:
        wrong["duration"] = [f"Choose between 1 minute and {in_words(timedelta(seconds=terms.longest_seconds))}."]
    if sentence := _wrong_with_start(terms, start, start_at, now):
        wrong["start_at" if start == AccessRequest.Start.AT_TIME else "start"] = [sentence]
    return wrong


def _wrong_with_words(terms: Terms, justification: str, ticket: str) -> dict[str, list[str]]:
    wrong: dict[str, list[str]] = {}
    if len(justification) < terms.justification_min:
        wrong["justification"] = [
            f"Write at least {terms.justification_min} characters: what you will do, and for whom."
        ]
    elif len(justification) > LONGEST_JUSTIFICATION:
        wrong["justification"] = [f"Keep it to {LONGEST_JUSTIFICATION:,} characters at most; link to the rest."]
    elif not can_be_stored(justification):
        wrong["justification"] = [CANNOT_BE_STORED]
    elif not patterns.fits(terms.justification_pattern, justification):
        wrong["justification"] = [f"These terms want it to look like {terms.justification_pattern}"]
    if terms.ticket == Entitlement.Ticket.REQUIRED and not ticket:
        wrong["ticket"] = ["A ticket is required here. Give its number."]
    if len(ticket) > LONGEST_TICKET:
        wrong["ticket"] = [f"A ticket's number has at most {LONGEST_TICKET} characters."]
    elif not can_be_stored(ticket):
        wrong["ticket"] = [CANNOT_BE_STORED]
    elif ticket and terms.ticket != Entitlement.Ticket.NONE and not patterns.fits(terms.ticket_pattern, ticket):
        wrong["ticket"] = [f"These terms want it to look like {terms.ticket_pattern}"]
    return wrong


def _wrong_with_start(terms: Terms, start: str, start_at: datetime | None, now: datetime) -> str:
    if start not in AccessRequest.Start.values:
        return "Choose whether it starts at once, at a time, or when you press Start."
    if (start == AccessRequest.Start.AT_TIME) != (start_at is not None):
        return "Say when it is to start."
    if start_at is None:
        return ""
    if not terms.schedule_ahead_seconds:
        return "These terms know no scheduled start."
    ahead = timedelta(seconds=terms.schedule_ahead_seconds)
    if not now < start_at <= now + ahead:
        return f"Choose a time from now on, at most {in_words(ahead)} ahead."
    if terms.hours and terms.hours.closes(start_at) is None:
        return f"These terms hold {terms.hours.in_words()}. Choose a time within."
    return ""


def _one_after_the_other(*people: User) -> None:
    """Whoever asks in several places at once asks one after the other, or all would count too few."""
    _LOCK_PEOPLE.all(people=[person.pk for person in people])


def _lock(role: Role, entitlement: Entitlement, *people: User) -> tuple[Role, Entitlement]:
    """As they are now, of people who ask one after the other: what is judged is the role that it is stored for."""
    _one_after_the_other(*people)
    _LOCK_ROLE.all(role=role.pk)
    found, terms = (
        _ROLE.read(_ROLE_NOW.all(role=role.pk)),
        _ENTITLEMENT.read(_TERMS_NOW.all(entitlement=entitlement.pk)),
    )
    if not found or not terms:
        raise (Entitlement if found else Role).DoesNotExist
    return found[0], terms[0]


_LOCK_PEOPLE = Question(
    "asking.lock_people",
    """
SELECT u.id FROM requests_app_user u WHERE u.id = ANY(%(people)s::bigint[]) ORDER BY u.id FOR NO KEY UPDATE
""",
)
_LOCK_ROLE = Question(
    "asking.lock_role",
    """
SELECT o.id FROM requests_app_role o WHERE o.id = %(role)s::bigint FOR KEY SHARE
""",
)
# After the locks, each a statement of its own: one that waits joins what was there before.
_ROLE = Joined(Role, "o", "account", "account__unit", "account__owners", "owners")
_ROLE_NOW = Question(
    "asking.role",
    f"SELECT {_ROLE.columns} FROM {_ROLE.tables} WHERE o.id = %(role)s::bigint",  # noqa: S608 - ours
)
_ENTITLEMENT = Joined(Entitlement, "e")
_TERMS_NOW = Question(
    "asking.entitlement",
    f"SELECT {_ENTITLEMENT.columns} FROM {_ENTITLEMENT.tables} WHERE e.id = %(entitlement)s::bigint",  # noqa: S608 - ours
)


@dataclass(frozen=True, slots=True)
class _Counted:
    """How much there is already, at the moment that what is asked for goes by."""

    now: datetime
    # Requests of the last hour by whoever asks.
    lately: int
    # Of those for this other person which they have not accepted.
    unaccepted: int
    # Open requests and passes of the beneficiary that they want: for this role, and under these terms.
    open_of_role: int
    open_of_terms: int


def _count(role: int, entitlement: int, *, by: User, beneficiary: User) -> _Counted:
    return _COUNT.one(
        role=role, entitlement=entitlement, by=by.pk, beneficiary=beneficiary.pk, shift=clock.shift()
    )  # fmt: skip


_WANTED = """r.beneficiary_id = %(beneficiary)s::bigint
            AND (r.requester_id = r.beneficiary_id OR r.accepted_at IS NOT NULL)
            AND (
                r.state = 'pending' AND r.decide_by > (SELECT moment FROM this)
                OR r.state = 'approved' AND r.start_by > (SELECT moment FROM this)
                OR r.state = 'active' AND r.expires_at > (SELECT moment FROM this)
            )"""
_COUNT = Question(
    "asking.count",
    f"""
WITH this AS MATERIALIZED (
    SELECT clock_timestamp() + %(shift)s::interval AS moment
)
SELECT
    (SELECT moment FROM this) AS now,
    (
        SELECT count(*) FROM requests_app_accessrequest r
        WHERE r.requester_id = %(by)s::bigint AND r.asked_at > (SELECT moment FROM this) - interval '1 hour'
    ) AS lately,
    (
        SELECT count(*) FROM requests_app_accessrequest r
        WHERE %(by)s::bigint <> %(beneficiary)s::bigint
            AND r.requester_id = %(by)s::bigint AND r.beneficiary_id = %(beneficiary)s::bigint AND r.accepted_at IS NULL
            AND (
                r.asked_at > (SELECT moment FROM this) - interval '1 hour'
                OR r.state = 'pending' AND r.decide_by > (SELECT moment FROM this)
            )
    ) AS unaccepted,
    (
        SELECT count(*) FROM requests_app_accessrequest r
        WHERE r.role_id = %(role)s::bigint AND {_WANTED}
    ) AS open_of_role,
    (
        SELECT count(*) FROM requests_app_accessrequest r
        WHERE r.entitlement_id = %(entitlement)s::bigint AND {_WANTED}
    ) AS open_of_terms
""",  # noqa: S608 - texts of ours only
    _Counted,
)


def _check_number(by: User, beneficiary: User, counted: _Counted) -> None:
    """Each is mail to others: raises TooMany for whoever asks without end."""
    most = settings.REQUESTS_PER_PERSON_PER_HOUR
    if counted.lately >= most:
        raise TooMany(f"You made {most} requests in the last hour. Ask again later.", rule="limit.requests")
    most = settings.UNACCEPTED_PER_ASKER_AND_PERSON
    if by.pk != beneficiary.pk and counted.unaccepted >= most:
        raise TooMany(
            f"You asked for {beneficiary} {most} times and they have not accepted. Talk to them first.",
            rule="limit.unaccepted",
        )


def _check_limits(role: Role, by: User, counted: _Counted) -> None:
    most = settings.OPEN_REQUESTS_PER_PERSON_AND_ROLE
    if counted.open_of_role >= most:
        raise TooMany(
            f"You already have {most} open requests or passes for this role. Use one of them, or end one.",
            rule="limit.passes",
        )
    revocations.check_returned(role.pk, by, counted.now)
