"""The life of a request: one function per verb, the only writers of its state."""

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from requests_app.domain import audit, clock, facts, narrowing, notices, patterns, policy
from requests_app.domain.audit import Action
from requests_app.domain.deciders import Matter
from requests_app.domain.errors import Conflict, Invalid, NotAllowed, TooMany
from requests_app.domain.models import AccessRequest, Decision, Entitlement, Role, User
from requests_app.domain.terms import Terms
from requests_app.domain.texts import LONGEST_JUSTIFICATION, LONGEST_TICKET, can_be_stored, plain_reason
from requests_app.domain.transitions import REQUEST, State, may_follow
from requests_app.domain.workflow import approval, idempotency, operators, revocations, sweeps
from requests_app.domain.workflow.catalog import lock_address
from requests_app.domain.workflow.verb import frozen_meanwhile, lock, lock_row, require_active, verb

REMIND_EVERY = timedelta(minutes=15)
DEACTIVATED = "The person was deactivated."


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
    _one_after_the_other(by, beneficiary)
    lock_address(role.pk)  # what is judged here is the role that it is stored for
    role = Role.objects.select_related("account__unit", "account__owners", "owners").get(pk=role.pk)
    seen, entitlement = entitlement.revision, Entitlement.objects.get(pk=entitlement.pk)
    if entitlement.revision != seen:
        raise _terms_changed()
    terms = Terms.of(entitlement, role)
    now = check_asking(
        role, entitlement, terms, by=by, beneficiary=beneficiary, duration=duration, start=start, start_at=start_at,
        said=(justification, ticket),
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
    approval.enter_stage(access_request, 1 if terms.stages else 0, now)
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


@verb(Action.REQUEST_ACCEPTED)
def accept(access_request: AccessRequest, *, by: User) -> AccessRequest:
    """The beneficiary wants what somebody else asked for them: from now on it is decided, and it can start."""
    access_request, now = lock(access_request)
    if by.pk != access_request.beneficiary_id:
        raise NotAllowed("Only the person it is for can accept it.", rule="accept.not_yours")
    if access_request.state != State.PENDING:
        raise Conflict(_already(access_request), rule="accept.not_pending")
    if not access_request.waits_for_acceptance:
        raise Conflict("You have accepted this already.", rule="accept.once")
    require_active(by)
    still_entitled(access_request).require()
    # From here on it counts. Whoever asks and accepts in several places at once does one after the other; after such
    # a wait its time may be over.
    _one_after_the_other(by)
    access_request, now = lock(access_request)
    _check_at_once(access_request, by)
    _check_limits(access_request.role, by, now)
    access_request.accepted_at = now
    approval.enter_stage(access_request, access_request.stage, now)
    access_request.save(update_fields=["accepted_at", *approval.STAGE_FIELDS])
    audit.record(Action.REQUEST_ACCEPTED, access_request, by=by, at=now)
    _begin_deciding(access_request, now)
    return access_request


@verb(Action.REQUEST_APPROVED)
def approve(
    access_request: AccessRequest,
    *,
    by: User,
    stage: int | None = None,
    comment: str = "",
    start_at: datetime | None = None,
    duration: timedelta | None = None,
    in_bulk: bool = False,
) -> Decision:
    """Record an approval; the request becomes approved when its last stage is satisfied.

    `stage` is the one that the approver saw: a click that comes late decides no other one.
    An approver may move a scheduled start later (`start_at`) or shorten the `duration`, never the other way.
    Powerful roles are not approved together with others (`in_bulk`).
    Raises NotAllowed if `by` may not decide here, Conflict if it is no longer pending, or at another stage, or the
    beneficiary could not use it any more, Invalid for a change that gives more than was asked for.
    """
    access_request, now = lock(access_request)
    _must_be_pending(access_request)
    if in_bulk and access_request.role.is_powerful:
        raise NotAllowed("Powerful roles are decided one by one. Open the request.", rule="decision.in_bulk")
    approval.check_may_decide(access_request, by, comment, now, stage=stage)
    _check_still_of_use(access_request)
    changed = _offer(access_request, start_at, duration)
    decision = approval.decide(access_request, by, Decision.Answer.APPROVE, comment, now)
    audit.record(
        Action.REQUEST_APPROVED, access_request, by=by, at=now, stage=decision.stage, comment=comment, **changed
    )
    if approval.stage_is_satisfied(access_request):
        _advance(access_request, by, now)
    return decision


@verb(Action.REQUEST_DENIED)
def deny(access_request: AccessRequest, *, by: User, stage: int | None = None, comment: str = "") -> Decision:
    """Record a denial, which ends the request. Raises as `approve` does."""
    access_request, now = lock(access_request)
    _must_be_pending(access_request)
    approval.check_may_decide(access_request, by, comment, now, stage=stage)
    decision = approval.decide(access_request, by, Decision.Answer.DENY, comment, now)
    _end(access_request, State.DENIED, by=by, now=decision.decided_at, reason=comment)
    audit.record(
        Action.REQUEST_DENIED,
        access_request,
        by=by,
        at=decision.decided_at,
        stage=decision.stage,
        comment=comment,
    )
    _tell_the_asking_side(notices.Kind.DECIDED, access_request, decision.decided_at, occasion="denied")
    return decision


@verb(Action.REQUEST_WITHDRAWN)
def withdraw(access_request: AccessRequest, *, by: User) -> AccessRequest:
    """The asking side takes a request back before it began."""
    access_request, now = lock(access_request)
    if by.pk not in access_request.asking_side:
        raise NotAllowed("Only the person who asked can withdraw this request.", rule="withdraw.not_yours")
    _end(access_request, State.WITHDRAWN, by=by, now=now)
    audit.record(Action.REQUEST_WITHDRAWN, access_request, by=by, at=now)
    # Whoever did not do it would otherwise wait for it.
    _tell_the_asking_side(notices.Kind.ENDED, access_request, now, but=by)
    return access_request


@verb(Action.REQUEST_STARTED)
def start(access_request: AccessRequest, *, by: User) -> AccessRequest:
    """The beneficiary starts the clock of an approved request."""
    access_request, now = lock(access_request)
    begin(access_request, by=by, now=now)
    return access_request


@verb(Action.REQUEST_RETURNED)
def give_back(access_request: AccessRequest, *, by: User) -> AccessRequest:
    """The beneficiary is done early. Asks nothing else: ending always works."""
    access_request, now = lock(access_request)
    if by.pk != access_request.beneficiary_id:
        raise NotAllowed("Only the person a pass is for can give it back.", rule="give_back.not_yours")
    _end(access_request, State.RETURNED, by=by, now=now)
    audit.record(Action.REQUEST_RETURNED, access_request, by=by, at=now)
    revocations.want(access_request, now)
    notices.announce(notices.Kind.ENDED, [access_request], at=now)
    return access_request


@verb(Action.REQUEST_REVOKED)
def revoke(access_request: AccessRequest, *, by: User, reason: str) -> AccessRequest:
    """An approver of this request, or an operator, pulls it. Never refused for any limit or change of rules.

    Raises Invalid without a reason, or for one that does not fit: none is cut.
    """
    access_request, now = lock(access_request)
    require_active(by)
    by.refresh_from_db(fields=["is_superuser"])
    if not may_revoke(access_request, by):
        raise NotAllowed("Only those who could approve this, and operators, can revoke it.", rule="revoke.not_asked")
    reason = plain_reason(reason, read_by="the person and the auditors read")
    _end(access_request, State.REVOKED, by=by, now=now, reason=reason)
    audit.record(Action.REQUEST_REVOKED, access_request, by=by, at=now, reason=reason)
    revocations.want(access_request, now)
    notices.announce(notices.Kind.ENDED, [access_request], at=now)
    return access_request


def end_passes_of_deactivated(limit: int = 200, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Whoever is deactivated has no pass any more: revoke theirs, by nobody's decision; returns how many."""
    theirs = (AccessRequest.objects.all() if among is None else among).filter(
        state__in=[State.APPROVED, State.ACTIVE], beneficiary__deactivated_at__isnull=False
    )
    ended = 0
    for one in theirs.order_by("pk")[:limit]:
        with transaction.atomic(durable=True):
            access_request, now = lock_row(one), clock.now()
            still = access_request.state in (State.APPROVED, State.ACTIVE) and not access_request.due(now)
            if still and access_request.beneficiary.deactivated_at is not None:
                _end(access_request, State.REVOKED, by=None, now=now, reason=DEACTIVATED)
                audit.record(Action.REQUEST_REVOKED, access_request, by=None, at=now, reason=DEACTIVATED)
                revocations.want(access_request, now)
                ended += 1
    return ended


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
    people = approval.to_be_asked(access_request, now)
    if not people:
        raise Conflict(
            "Nobody can decide on this any more. Tell an operator, or withdraw it and choose other terms.",
            rule="remind.nobody",
        )
    access_request.reminded_at = now
    access_request.save(update_fields=["reminded_at"])
    notices.announce(
        notices.Kind.REMINDED,
        [access_request],
        at=now,
        to=people,
        occasion=now.isoformat(),
    )
    audit.record(Action.REQUEST_REMINDED, access_request, by=by, at=now)
    return access_request


def may_revoke(access_request: AccessRequest, by: User) -> bool:
    """Whether `by` may pull this request: one who could decide it or an extension of it, or an operator.

    Further approvers could where a stage took so long that they were asked. Not one's own: that is given back.
    """
    if by.pk in access_request.asking_side:
        return False
    if by.is_superuser:
        return True
    groups = set(by.memberships.values_list("group_id", flat=True))

    def is_among(asked: Iterable[tuple[frozenset[int], frozenset[int]]]) -> bool:
        return any(by.pk in users or groups & those for those, users in asked)

    stages = access_request.terms.stages
    if is_among(stage.asked(escalated=False) for stage in stages):
        return True
    if not is_among(stage.asked(escalated=True) for stage in stages):
        return False
    now, extensions = clock.now(), access_request.extensions.select_related("access_request")
    matters: list[Matter] = [access_request, *extensions]
    return any(is_among(approval.asked_so_far(one, now)) for one in matters)


def who_can_decide(matter: Matter) -> list[User]:
    """The people who could decide the present stage now, by name, at most 200; empty when nothing is to be decided."""
    return approval.who_can_decide(matter, clock.now())


def verdict_on_deciding(matter: Matter, by: User) -> policy.Verdict:
    """What approving and denying would say to this person, for showing the right buttons."""
    return approval.verdict_on_deciding(matter, by, clock.now())


def begin(access_request: AccessRequest, *, by: User | None, now: datetime) -> None:
    """Start the clock of a locked, approved request. `by` is None when it was to start at once."""
    if by is not None:
        if by.pk != access_request.beneficiary_id:
            raise NotAllowed("Only the person a pass is for can start it.", rule="start.not_yours")
        still_entitled(access_request).require()
    zone = by.zone if by is not None else UTC
    policy.may_start(facts.of(access_request), access_request.terms, now=now, zone=zone).require()
    _move(access_request, State.ACTIVE)
    access_request.activated_at = now
    seconds = int(access_request.duration.total_seconds())
    access_request.expires_at = policy.ends_at(now, seconds, access_request.terms)
    access_request.save(update_fields=["state", "activated_at", "expires_at"])
    audit.record(
        Action.REQUEST_STARTED,
        access_request,
        by=by,
        at=now,
        expires_at=access_request.expires_at.isoformat(),
    )


def check_asking(
    role: Role,
    entitlement: Entitlement,
    terms: Terms,
    *,
    by: User,
    beneficiary: User,
    duration: timedelta,
    start: str,
    start_at: datetime | None,
    said: tuple[str, str] | None = None,
) -> datetime:
    """Raises whatever `submit` would raise; without `said`, the justification and the ticket, whatever those will be.

    Returns the moment that the request goes by.
    """
    may_request(role, entitlement, terms, by=by, beneficiary=beneficiary).require()
    wrong = _wrong_with_times(terms, duration, start, start_at, clock.now())
    if said is not None:
        wrong |= _wrong_with_words(terms, *said)
    if wrong:
        raise Invalid(wrong)
    now = _check_number(by, beneficiary)
    if by.pk == beneficiary.pk:
        _check_limits(role, by, now)
    return now


def may_request(role: Role, entitlement: Entitlement, terms: Terms, *, by: User, beneficiary: User) -> policy.Verdict:
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
        open_already=_open_already(beneficiary, entitlement) if for_oneself and terms.most_at_once is not None else 0,
        most=terms.most_at_once,
        narrowing_fits=not narrowing.problem(terms.narrowing_statements, terms.narrowing_policy_arns, role.arn),
    )
    verdict = policy.may_request(asking)
    of_the_other = not for_oneself and policy.may_ask_for_others(asking)
    if not verdict and of_the_other and verdict.rule in _SAID_TO_THE_PERSON:
        return replace(verdict, message=f"{beneficiary} may not have this on these terms. Ask an operator.")
    return verdict


# Refusals whose message speaks to the person whom they are about.
_SAID_TO_THE_PERSON = ("person.deactivated", "edit.own", "entitlement.does_not_reach", "entitlement.excluded")


def _open_already(beneficiary: User, entitlement: Entitlement) -> int:
    open_ = AccessRequest.objects.open_at(clock.now()).wanted()
    return open_.filter(beneficiary=beneficiary, entitlement=entitlement).count()


def _check_at_once(access_request: AccessRequest, by: User) -> None:
    most = access_request.terms.most_at_once
    if most is not None:
        policy.may_be_open(_open_already(by, access_request.entitlement), most).require()


def _begin_deciding(access_request: AccessRequest, now: datetime) -> None:
    if access_request.terms.is_automatic:
        _grant(access_request, by=None, now=now, rule="approval.automatic")
    else:
        approval.ask_the_stage(access_request, now)


def _repeated(code: str) -> AccessRequest:
    first = AccessRequest.objects.select_related("requester", "beneficiary", "role__account").get(code=code)
    first.is_repeat = True
    return first


def _insert(access_request: AccessRequest) -> None:
    try:
        access_request.save(force_insert=True)
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
        wrong["justification"] = [approval.CANNOT_BE_STORED]
    elif not patterns.fits(terms.justification_pattern, justification):
        wrong["justification"] = [f"These terms want it to look like {terms.justification_pattern}"]
    if terms.ticket == Entitlement.Ticket.REQUIRED and not ticket:
        wrong["ticket"] = ["A ticket is required here. Give its number."]
    if len(ticket) > LONGEST_TICKET:
        wrong["ticket"] = [f"A ticket's number has at most {LONGEST_TICKET} characters."]
    elif not can_be_stored(ticket):
        wrong["ticket"] = [approval.CANNOT_BE_STORED]
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
    keys = [person.pk for person in people]
    list(User.objects.select_for_update(no_key=True).filter(pk__in=keys).order_by("pk").values_list("pk"))


def _check_number(by: User, beneficiary: User) -> datetime:
    """The moment that this request goes by. Each is mail to others: raises TooMany for whoever asks without end."""
    now = clock.now()
    an_hour_ago = now - timedelta(hours=1)
    most = settings.REQUESTS_PER_PERSON_PER_HOUR
    if AccessRequest.objects.filter(requester=by, asked_at__gt=an_hour_ago).count() >= most:
        raise TooMany(f"You made {most} requests in the last hour. Ask again later.", rule="limit.requests")
    if by.pk != beneficiary.pk:
        most = settings.UNACCEPTED_PER_ASKER_AND_PERSON
        wishes = AccessRequest.objects.filter(requester=by, beneficiary=beneficiary, accepted_at=None)
        if wishes.filter(Q(asked_at__gt=an_hour_ago) | Q(state=State.PENDING, decide_by__gt=now)).count() >= most:
            raise TooMany(
                f"You asked for {beneficiary} {most} times and they have not accepted. Talk to them first.",
                rule="limit.unaccepted",
            )
    return now


def _check_limits(role: Role, by: User, now: datetime) -> None:
    open_ = AccessRequest.objects.open_at(now).wanted().filter(role=role, beneficiary=by)
    most = settings.OPEN_REQUESTS_PER_PERSON_AND_ROLE
    if open_.count() >= most:
        raise TooMany(
            f"You already have {most} open requests or passes for this role. Use one of them, or end one.",
            rule="limit.passes",
        )
    revocations.check_returned(role.pk, by, now)


def _offer(access_request: AccessRequest, start_at: datetime | None, duration: timedelta | None) -> dict[str, Any]:
    """Take over what an approver changed; what goes into the record."""
    wrong: dict[str, list[str]] = {}
    changed: dict[str, Any] = {}
    terms = access_request.terms
    if start_at is not None and start_at != access_request.scheduled_at:
        latest = access_request.asked_at + timedelta(seconds=terms.schedule_ahead_seconds)
        if access_request.scheduled_at is None or not access_request.scheduled_at < start_at <= latest:
            wrong["start_at"] = ["You can only move the start later, as far ahead as the terms allow."]
        elif terms.hours and terms.hours.closes(start_at) is None:
            wrong["start_at"] = [f"These terms hold {terms.hours.in_words()}. Choose a time within."]
        access_request.scheduled_at = start_at
        changed["start_at"] = start_at.isoformat()
    if duration is not None and duration != access_request.duration:
        seconds = int(duration.total_seconds())
        if not policy.SHORTEST_SECONDS <= seconds < access_request.duration.total_seconds():
            wrong["duration"] = [f"You can only shorten it: between 1 minute and {in_words(access_request.duration)}."]
        access_request.offered_seconds = seconds
        changed["duration_seconds"] = seconds
    if wrong:
        raise Invalid(wrong)
    if changed:
        access_request.save(update_fields=["scheduled_at", "offered_seconds"])
    return changed


def _must_be_pending(access_request: AccessRequest) -> None:
    if access_request.state != State.PENDING:
        raise Conflict(_already(access_request), rule="decision.not_pending")


def still_entitled(access_request: AccessRequest) -> policy.Verdict:
    """Whether its beneficiary may still have it, before its end or at it."""
    return policy.still_entitled(facts.standing(access_request))


def _check_still_of_use(access_request: AccessRequest) -> None:
    """The rule that let someone ask must still hold when the answer is yes; a no is always possible."""
    verdict = still_entitled(access_request)
    if verdict.rule == "freeze":
        raise Conflict(verdict.message, rule=verdict.rule)
    if not verdict:
        raise Conflict(
            f"{access_request.beneficiary} may not have this role on these terms any more, so it cannot be approved. "
            "Deny it, or let it lapse.",
            rule=verdict.rule,
        )


def _advance(access_request: AccessRequest, by: User, now: datetime) -> None:
    if access_request.stage == len(access_request.terms.stages):
        _grant(access_request, by=by, now=now, rule=f"stage.{access_request.stage}")
        return
    approval.enter_stage(access_request, access_request.stage + 1, now)
    access_request.save(update_fields=approval.STAGE_FIELDS)
    approval.ask_the_stage(access_request, now)


def _grant(access_request: AccessRequest, *, by: User | None, now: datetime, rule: str) -> None:
    _move(access_request, State.APPROVED)
    access_request.approved_at = now
    access_request.approved_seconds = access_request.offered_seconds or access_request.duration_seconds
    access_request.start_by = policy.last_start(now, access_request.scheduled_at, access_request.terms)
    access_request.save(update_fields=["state", "approved_at", "approved_seconds", "start_by"])
    audit.record(Action.REQUEST_GRANTED, access_request, by=by, at=now, rule=rule)
    by_itself = access_request.start != AccessRequest.Start.ON_DEMAND
    if by_itself and policy.may_start(facts.of(access_request), access_request.terms, now=now):
        begin(access_request, by=None, now=now)
    if by is not None:
        _tell_the_asking_side(notices.Kind.DECIDED, access_request, now, occasion="approved")


def _tell_the_asking_side(
    kind: notices.Kind, access_request: AccessRequest, now: datetime, *, occasion: str = "", but: User | None = None
) -> None:
    side = {one.pk: one for one in (access_request.beneficiary, access_request.requester) if one != but}
    notices.announce(kind, [access_request], at=now, to=side.values(), occasion=occasion)


def _end(access_request: AccessRequest, state: State, *, by: User | None, now: datetime, reason: str = "") -> None:
    _move(access_request, state)
    access_request.ended_at = now
    access_request.ended_by = by
    access_request.end_reason = reason
    access_request.save(update_fields=["state", "ended_at", "ended_by", "end_reason"])
    sweeps.end_extensions([access_request.pk], now)


def _move(access_request: AccessRequest, state: State) -> None:
    if not may_follow(REQUEST, access_request.state, state):
        raise Conflict(_already(access_request), rule=f"transition.{access_request.state}.{state}")
    access_request.state = state


_STATE_IN_WORDS = {
    State.PENDING: "This request is still waiting for a decision.",
    State.APPROVED: "This request was approved and has not been started yet.",
    State.ACTIVE: "This pass is already active.",
    State.DENIED: "This request was denied in the meantime. Nothing has changed.",
    State.WITHDRAWN: "This request was withdrawn in the meantime. Nothing has changed.",
    State.LAPSED: "This request's time ran out before it was decided or started. It can be asked again.",
    State.EXPIRED: "This pass has already ended: its time was up.",
    State.RETURNED: "This pass was already given back.",
    State.REVOKED: "This pass was already revoked.",
}


def _already(access_request: AccessRequest) -> str:
    return _STATE_IN_WORDS[State(access_request.state)]


def in_words(duration: timedelta) -> str:
    """A length of time as people say it: `45 min`, `1 h`, `1 h 30 min`, `3 days`."""
    seconds = int(duration.total_seconds())
    if seconds >= 86400 and seconds % 86400 == 0:
        return "1 day" if seconds == 86400 else f"{seconds // 86400} days"
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return " ".join(part for part in (f"{hours} h" if hours else "", f"{minutes} min" if minutes else "") if part)
