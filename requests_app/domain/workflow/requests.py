"""The life of a request: one function per verb, the only writers of its state."""

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from requests_app.domain import audit, clock, facts, notices, policy
from requests_app.domain.audit import Action
from requests_app.domain.errors import Conflict, Invalid, NotAllowed, TooMany
from requests_app.domain.models import AccessRequest, Decision, Entitlement, Role, User
from requests_app.domain.terms import Terms
from requests_app.domain.transitions import REQUEST, State, may_follow
from requests_app.domain.workflow import revocations
from requests_app.domain.workflow.verb import frozen_meanwhile, hold, lock, require_active, verb

REMIND_EVERY = timedelta(minutes=15)
DEACTIVATED = "The person was deactivated."


@verb(Action.REQUEST_SUBMITTED)
def submit(
    role: Role,
    *,
    by: User,
    entitlement: Entitlement,
    duration: timedelta,
    justification: str,
    ticket: str = "",
    start: str = AccessRequest.Start.ON_DEMAND,
) -> AccessRequest:
    """Ask for `role` for `duration` under the terms of `entitlement`, for oneself.

    Automatic terms approve in the same transaction, and start it too if that was asked for.
    Raises NotAllowed if these terms do not reach the person or nobody could decide, Invalid for what was typed,
    TooMany by the limits per person and role.
    """
    entitlement = Entitlement.objects.get(pk=entitlement.pk)
    terms = Terms.of(entitlement)
    policy.may_request(
        facts.person(by),
        facts.reach_of_role(entitlement, role, outside=[by.pk], terms=terms),
        facts.catalog(role),
    ).require()
    justification, ticket = justification.strip(), ticket.strip()
    _check_wish(terms, duration, justification, ticket, start)
    now = _check_limits(role, by)
    first = terms.stages[0] if terms.stages else None
    access_request = _insert(
        requester=by,
        beneficiary=by,
        role=role,
        entitlement=entitlement,
        terms_document=terms.document(),
        justification=justification,
        ticket=ticket,
        duration_seconds=int(duration.total_seconds()),
        start=start,
        asked_at=now,
        decide_by=now + timedelta(seconds=terms.pending_seconds),
        stage=1 if first else 0,
        deciding_groups=list(first.groups) if first else [],
        deciding_users=list(first.users) if first else [],
    )
    audit.record(Action.REQUEST_SUBMITTED, access_request, by=by, at=now, rule="entitlement.reaches", terms=terms.name)
    if terms.is_automatic:
        _grant(access_request, by=None, now=now, rule="approval.automatic")
    else:
        _ask_the_stage(access_request, now)
    return access_request


@verb(Action.REQUEST_APPROVED)
def approve(access_request: AccessRequest, *, by: User, comment: str = "") -> Decision:
    """Record an approval; the request becomes approved when its last stage is satisfied.

    Raises NotAllowed if `by` may not decide here, Conflict if it is no longer pending or the beneficiary
    could not use it any more.
    """
    access_request, now = lock(access_request)
    _check_may_decide(access_request, by, comment)
    _check_still_of_use(access_request)
    decision = _decide(access_request, by, Decision.Verdict.APPROVE, comment, now)
    _check_who_is_left(access_request, by)
    audit.record(
        Action.REQUEST_APPROVED,
        access_request,
        by=by,
        at=decision.decided_at,
        stage=decision.stage,
        comment=comment,
    )
    if _stage_is_satisfied(access_request):
        _advance(access_request, by, decision.decided_at)
    return decision


@verb(Action.REQUEST_DENIED)
def deny(access_request: AccessRequest, *, by: User, comment: str = "") -> Decision:
    """Record a denial, which ends the request. Raises as `approve` does."""
    access_request, now = lock(access_request)
    _check_may_decide(access_request, by, comment)
    decision = _decide(access_request, by, Decision.Verdict.DENY, comment, now)
    _end(access_request, State.DENIED, by=by, now=decision.decided_at, reason=comment)
    audit.record(
        Action.REQUEST_DENIED,
        access_request,
        by=by,
        at=decision.decided_at,
        stage=decision.stage,
        comment=comment,
    )
    notices.announce(notices.Kind.DECIDED, [access_request], at=decision.decided_at, occasion="denied")
    return decision


@verb(Action.REQUEST_WITHDRAWN)
def withdraw(access_request: AccessRequest, *, by: User) -> AccessRequest:
    """The asking side takes a request back before it began."""
    access_request, now = lock(access_request)
    if by.pk not in access_request.asking_side:
        raise NotAllowed("Only the person who asked can withdraw this request.", rule="withdraw.not_yours")
    _end(access_request, State.WITHDRAWN, by=by, now=now)
    audit.record(Action.REQUEST_WITHDRAWN, access_request, by=by, at=now)
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
    """An approver of this request, or an operator, pulls it. Never refused for any limit or change of rules."""
    access_request, now = lock(access_request)
    require_active(by)
    by.refresh_from_db(fields=["is_superuser"])
    if not may_revoke(access_request, by):
        raise NotAllowed("Only those who could approve this, and operators, can revoke it.", rule="revoke.not_asked")
    reason = reason.strip()[:500]
    if not reason or not _can_be_stored(reason):
        raise Invalid({"reason": ["Say why, in plain characters: the person and the auditors read it."]})
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
            access_request, now = hold(one), clock.now()
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
    last = access_request.reminded_at or access_request.asked_at
    if now < last + REMIND_EVERY:
        minutes = math.ceil((last + REMIND_EVERY - now) / timedelta(minutes=1))
        raise TooMany(f"They were asked a moment ago. Remind them again in {minutes} min.", rule="remind.too_soon")
    people = who_can_decide(access_request)
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
    """Whether `by` may pull this request: asked at any of its stages, or an operator. Not one's own: give it back."""
    if by.pk in access_request.asking_side:
        return False
    if by.is_superuser:
        return True
    groups = set(by.memberships.values_list("group_id", flat=True))
    return any(by.pk in stage.users or groups & set(stage.groups) for stage in access_request.terms.stages)


def who_can_decide(access_request: AccessRequest) -> list[User]:
    """The people who could decide the present stage now, by name, at most 200; empty when nothing is to be decided."""
    if access_request.state != State.PENDING or not access_request.stage:
        return []
    outside = access_request.asking_side | set(access_request.decisions.values_list("approver_id", flat=True))
    return facts.approvers(access_request.terms.stage(access_request.stage), outside=outside)


def verdict_on_deciding(access_request: AccessRequest, by: User) -> policy.Verdict:
    """What `approve` and `deny` would say to this person, for showing the right buttons."""
    return policy.may_decide(
        facts.person(by),
        facts.of(access_request),
        access_request.terms,
        decided=set(access_request.decisions.values_list("approver_id", flat=True)),
    )


def begin(access_request: AccessRequest, *, by: User | None, now: datetime) -> None:
    """Start the clock of a locked, approved request. `by` is None when it was to start at once."""
    if by is not None:
        if by.pk != access_request.beneficiary_id:
            raise NotAllowed("Only the person a pass is for can start it.", rule="start.not_yours")
        _may_hold_on(access_request).require()
    _move(access_request, State.ACTIVE)
    access_request.activated_at = now
    access_request.expires_at = now + access_request.duration
    access_request.save(update_fields=["state", "activated_at", "expires_at"])
    audit.record(
        Action.REQUEST_STARTED,
        access_request,
        by=by,
        at=now,
        expires_at=access_request.expires_at.isoformat(),
    )


def _insert(**values: Any) -> AccessRequest:
    try:
        return AccessRequest.objects.create(**values)
    except IntegrityError as refused:
        # The database compares the terms with the entitlement's: someone edited it since we read it.
        raise frozen_meanwhile(refused) or Conflict(
            "The terms changed while you were asking. Look at them and ask again.", rule="terms.changed"
        ) from refused


def _check_wish(terms: Terms, duration: timedelta, justification: str, ticket: str, start: str) -> None:
    wrong: dict[str, list[str]] = {}
    seconds = duration.total_seconds()
    if not policy.SHORTEST_SECONDS <= seconds <= terms.longest_seconds:
        wrong["duration"] = [f"Choose between 1 minute and {in_words(timedelta(seconds=terms.longest_seconds))}."]
    if len(justification) < terms.justification_min:
        wrong["justification"] = [
            f"Write at least {terms.justification_min} characters: what you will do, and for whom."
        ]
    elif len(justification) > 2000:
        wrong["justification"] = ["Keep it under 2,000 characters; link to the rest."]
    elif not _can_be_stored(justification):
        wrong["justification"] = [CANNOT_BE_STORED]
    if terms.ticket == Entitlement.Ticket.REQUIRED and not ticket:
        wrong["ticket"] = ["A ticket is required here. Give its number."]
    if len(ticket) > 100:
        wrong["ticket"] = ["A ticket's number has at most 100 characters."]
    elif not _can_be_stored(ticket):
        wrong["ticket"] = [CANNOT_BE_STORED]
    if start not in AccessRequest.Start.values:
        wrong["start"] = ["Choose whether it starts at once or when you press Start."]
    if wrong:
        raise Invalid(wrong)


def _check_limits(role: Role, by: User) -> datetime:
    """The moment that this request goes by. Whoever asks in several places at once asks one after the other."""
    User.objects.select_for_update(no_key=True).values_list("pk").get(pk=by.pk)
    now = clock.now()
    in_time = Q(state=State.PENDING, decide_by__gt=now) | Q(state=State.APPROVED, start_by__gt=now)
    open_ = AccessRequest.objects.filter(in_time | Q(state=State.ACTIVE, expires_at__gt=now), role=role)
    most = settings.OPEN_REQUESTS_PER_PERSON_AND_ROLE
    if open_.filter(beneficiary=by).count() >= most:
        raise TooMany(
            f"You already have {most} open requests or passes for this role. Use one of them, or end one.",
            rule="limit.passes",
        )
    revocations.check_returned(role, by, now)
    return now


CANNOT_BE_STORED = "There is a character in this that cannot be stored. Type it again."


def _can_be_stored(text: str) -> bool:
    """PostgreSQL takes no NUL, and UTF-8 no half of a surrogate pair, which JSON can smuggle in."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _may_hold_on(access_request: AccessRequest) -> policy.Verdict:
    return policy.may_hold_on(
        facts.person(access_request.beneficiary),
        facts.reach_of_role(access_request.entitlement, access_request.role),
        facts.catalog(access_request.role),
    )


def _check_still_of_use(access_request: AccessRequest) -> None:
    """The rule that let someone ask must still hold when the answer is yes; a no is always possible."""
    verdict = _may_hold_on(access_request)
    if verdict.rule == "freeze":
        raise Conflict(verdict.message, rule=verdict.rule)
    if not verdict:
        raise Conflict(
            f"{access_request.beneficiary} may not have this role on these terms any more, so it cannot be approved. "
            "Deny it, or let it lapse.",
            rule=verdict.rule,
        )


def _check_who_is_left(access_request: AccessRequest, by: User) -> None:
    """One person has one say: whoever is needed for a later stage must not spend it on this one."""
    terms = access_request.terms
    later = terms.stages[access_request.stage :]
    if not later:
        return
    decisions = access_request.decisions.filter(verdict=Decision.Verdict.APPROVE)
    agreed = decisions.filter(stage=access_request.stage).count()
    outside = access_request.asking_side | set(decisions.values_list("approver_id", flat=True))

    def can_go_on(agreed: int, outside: set[int]) -> bool:
        present = terms.stage(access_request.stage)
        left = replace(present, quorum=max(present.quorum - agreed, 0))
        return all(facts.enough_people(replace(terms, stages=(left, *later)), outside=outside))

    # If it could not go on without this approval either, then it is not this approval's fault.
    if not can_go_on(agreed, outside) and can_go_on(agreed - 1, outside - {by.pk}):
        raise NotAllowed(
            "You are needed for a later stage of this, and each person decides once. Let somebody else decide now.",
            rule="decision.needed_later",
        )


def _check_may_decide(access_request: AccessRequest, by: User, comment: str) -> None:
    if access_request.state != State.PENDING:
        raise Conflict(_already(access_request), rule="decision.not_pending")
    verdict_on_deciding(access_request, by).require()
    if len(comment) > 1000 or not _can_be_stored(comment):
        raise Invalid({"comment": ["Keep the comment under 1,000 plain characters."]})


def _decide(
    access_request: AccessRequest, by: User, verdict: Decision.Verdict, comment: str, now: datetime
) -> Decision:
    return Decision.objects.create(
        access_request=access_request,
        stage=access_request.stage,
        approver=by,
        approver_name=str(by)[:150],
        verdict=verdict,
        comment=comment,
        decided_at=now,
    )


def _stage_is_satisfied(access_request: AccessRequest) -> bool:
    agreed = access_request.decisions.filter(stage=access_request.stage, verdict=Decision.Verdict.APPROVE).count()
    return agreed >= access_request.terms.stage(access_request.stage).quorum


def _advance(access_request: AccessRequest, by: User, now: datetime) -> None:
    terms = access_request.terms
    if access_request.stage == len(terms.stages):
        _grant(access_request, by=by, now=now, rule=f"stage.{access_request.stage}")
        return
    access_request.stage += 1
    stage = terms.stage(access_request.stage)
    access_request.deciding_groups, access_request.deciding_users = list(stage.groups), list(stage.users)
    access_request.save(update_fields=["stage", "deciding_groups", "deciding_users"])
    _ask_the_stage(access_request, now)


def _grant(access_request: AccessRequest, *, by: User | None, now: datetime, rule: str) -> None:
    _move(access_request, State.APPROVED)
    access_request.approved_at = now
    access_request.approved_seconds = access_request.duration_seconds
    access_request.start_by = now + timedelta(seconds=access_request.terms.start_within_seconds)
    access_request.save(update_fields=["state", "approved_at", "approved_seconds", "start_by"])
    audit.record(Action.REQUEST_GRANTED, access_request, by=by, at=now, rule=rule)
    if access_request.start == AccessRequest.Start.AT_ONCE:
        begin(access_request, by=None, now=now)
    if by is not None:
        notices.announce(notices.Kind.DECIDED, [access_request], at=now, occasion="approved")


def _ask_the_stage(access_request: AccessRequest, now: datetime) -> None:
    notices.announce(
        notices.Kind.ASKED,
        [access_request],
        at=now,
        to=who_can_decide(access_request),
        occasion=f"stage {access_request.stage}",
    )


def _end(access_request: AccessRequest, state: State, *, by: User | None, now: datetime, reason: str = "") -> None:
    _move(access_request, state)
    access_request.ended_at = now
    access_request.ended_by = by
    access_request.end_reason = reason[:500]
    access_request.save(update_fields=["state", "ended_at", "ended_by", "end_reason"])


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
