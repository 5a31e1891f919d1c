"""Saying yes or no to a request, stage by stage; of an extension that is `extensions`."""

from datetime import datetime, timedelta
from typing import Any

from requests_app.domain import audit, clock, notices, policy, rows
from requests_app.domain.audit import Action
from requests_app.domain.deciders import Matter
from requests_app.domain.durations import in_words
from requests_app.domain.errors import Conflict, Invalid, NotAllowed
from requests_app.domain.models import AccessRequest, Decision, User
from requests_app.domain.transitions import State
from requests_app.domain.workflow import life, stages
from requests_app.domain.workflow.verb import lock, verb


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
    stages.check_may_decide(access_request, by, comment, now, stage=stage)
    _check_still_of_use(access_request)
    changed = _offer(access_request, start_at, duration)
    decision = stages.decide(access_request, by, Decision.Answer.APPROVE, comment, now)
    audit.record(
        Action.REQUEST_APPROVED, access_request, by=by, at=now, stage=decision.stage, comment=comment, **changed
    )
    if stages.is_satisfied(access_request):
        _advance(access_request, by, now)
    return decision


@verb(Action.REQUEST_DENIED)
def deny(access_request: AccessRequest, *, by: User, stage: int | None = None, comment: str = "") -> Decision:
    """Record a denial, which ends the request. Raises as `approve` does."""
    access_request, now = lock(access_request)
    _must_be_pending(access_request)
    stages.check_may_decide(access_request, by, comment, now, stage=stage)
    decision = stages.decide(access_request, by, Decision.Answer.DENY, comment, now)
    life.end(access_request, State.DENIED, by=by, now=decision.decided_at, reason=comment)
    audit.record(
        Action.REQUEST_DENIED,
        access_request,
        by=by,
        at=decision.decided_at,
        stage=decision.stage,
        comment=comment,
    )
    life.tell_the_asking_side(notices.Kind.DECIDED, access_request, decision.decided_at)
    return decision


def may_approve(matter: Matter, by: User) -> policy.Verdict:
    """What approving would say to this person, a request or an extension of one."""
    verdict = may_deny(matter, by)
    if not verdict:
        return verdict
    entitled = life.still_entitled(matter.access_request)
    if not entitled and entitled.rule != "freeze":
        return policy.Verdict(False, "decision.no_use", life.why_unusable(matter.access_request, by))
    try:
        stages.check_may_agree(matter, by, clock.now())
    except NotAllowed as refusal:
        return policy.Verdict(False, refusal.rule, refusal.message)
    return verdict


def may_deny(matter: Matter, by: User) -> policy.Verdict:
    """What denying would say: somebody who is needed for a later stage may end it now."""
    return stages.verdict_on_deciding(matter, by, clock.now())


def who_can_decide(matter: Matter) -> list[User]:
    """The people who could decide the present stage now, by name, at most 200; empty when nothing is to be decided."""
    return stages.who_can_decide(matter, clock.now())


def stages_that_lack_people(matter: Matter) -> list[int]:
    """The positions of the stages that are still to agree and for which too few people are left."""
    return stages.that_lack_people(matter, clock.now())


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
        rows.update(access_request, ["scheduled_at", "offered_seconds"])
    return changed


def _must_be_pending(access_request: AccessRequest) -> None:
    if access_request.state != State.PENDING:
        raise Conflict(life.already(access_request), rule="decision.not_pending")


def _check_still_of_use(access_request: AccessRequest) -> None:
    """The rule that let someone ask must still hold when the answer is yes; a no is always possible."""
    verdict = life.still_entitled(access_request)
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
        life.grant(access_request, by=by, now=now, rule=f"stage.{access_request.stage}")
        return
    stages.enter(access_request, access_request.stage + 1, now)
    rows.update(access_request, stages.FIELDS)
    stages.ask(access_request, now)
