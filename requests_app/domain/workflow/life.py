"""From a yes to the start and to the end: the steps that a request takes, whoever or whatever makes it take them."""

from datetime import UTC, datetime

from requests_app.domain import audit, facts, notices, policy, rows
from requests_app.domain.audit import Action
from requests_app.domain.errors import Conflict, NotAllowed
from requests_app.domain.models import AccessRequest, User
from requests_app.domain.transitions import REQUEST, State, may_follow
from requests_app.domain.workflow import sweeps
from requests_app.domain.workflow.verb import lock, verb


@verb(Action.REQUEST_STARTED)
def start(access_request: AccessRequest, *, by: User) -> AccessRequest:
    """The beneficiary starts the clock of an approved request."""
    access_request, now = lock(access_request)
    begin(access_request, by=by, now=now)
    return access_request


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
    rows.update(access_request, ["state", "activated_at", "expires_at"])
    audit.record(
        Action.REQUEST_STARTED,
        access_request,
        by=by,
        at=now,
        expires_at=access_request.expires_at.isoformat(),
    )


def still_entitled(access_request: AccessRequest) -> policy.Verdict:
    """Whether its beneficiary may still have it, before its end or at it."""
    return policy.still_entitled(facts.standing(access_request))


def why_unusable(access_request: AccessRequest, reader: User) -> str:
    """Why an open request, approved pass or active pass is of no more use as things are; empty where it is, or where it
    is frozen, which is said elsewhere."""
    if AccessRequest.objects.of_use().filter(pk=access_request.pk).exists():
        return ""
    verdict = still_entitled(access_request)
    if verdict or verdict.rule == "freeze" or access_request.state not in _COMES_TO:
        return ""
    comes_to, instead = _COMES_TO[State(access_request.state)]
    if access_request.state == State.PENDING and reader.pk not in access_request.asking_side:
        instead = "Deny it, or let it lapse."
    return f"{comes_to}: {_because(verdict.rule, access_request, reader)}. {instead}"


_COMES_TO = {
    State.PENDING: ("This cannot be approved any more", "Withdraw it, or ask on other terms."),
    State.APPROVED: ("This cannot be started", "It lapses if that stays so. Ask on other terms, or ask an operator."),
    State.ACTIVE: ("There are no new credentials", "What was issued works until the pass ends."),
}


def _because(rule: str, access_request: AccessRequest, reader: User) -> str:
    """Only the person themselves reads which rule of theirs it is."""
    if rule == "role.inactive":
        return "the role was taken out of use"
    if reader.pk != access_request.beneficiary_id:
        return f"{access_request.beneficiary} may not have this role on these terms any more"
    return {
        "edit.own": "you changed these rules yourself, and no other operator has confirmed it",
        "entitlement.excluded": "these terms exclude you now",
        "person.deactivated": "your account is deactivated",
    }.get(rule, "these terms do not give you this role any more")


def grant(access_request: AccessRequest, *, by: User | None, now: datetime, rule: str) -> None:
    _move(access_request, State.APPROVED)
    access_request.approved_at = now
    access_request.approved_seconds = access_request.offered_seconds or access_request.duration_seconds
    access_request.start_by = policy.last_start(now, access_request.scheduled_at, access_request.terms)
    rows.update(access_request, ["state", "approved_at", "approved_seconds", "start_by"])
    audit.record(Action.REQUEST_GRANTED, access_request, by=by, at=now, rule=rule)
    by_itself = access_request.start != AccessRequest.Start.ON_DEMAND
    if by_itself and policy.may_start(facts.of(access_request), access_request.terms, now=now):
        begin(access_request, by=None, now=now)
    if by is not None:
        tell_the_asking_side(notices.Kind.DECIDED, access_request, now)


def tell_the_asking_side(
    kind: notices.Kind, access_request: AccessRequest, now: datetime, *, but: User | None = None
) -> None:
    side = {person.pk: person for person in (access_request.beneficiary, access_request.requester) if person != but}
    notices.announce(kind, [access_request], at=now, to=side.values())


def end(access_request: AccessRequest, state: State, *, by: User | None, now: datetime, reason: str = "") -> None:
    _move(access_request, state)
    access_request.ended_at = now
    access_request.ended_by = by
    access_request.end_reason = reason
    rows.update(access_request, ["state", "ended_at", "ended_by", "end_reason"])
    sweeps.end_extensions([access_request.pk], now)


def _move(access_request: AccessRequest, state: State) -> None:
    if not may_follow(REQUEST, access_request.state, state):
        raise Conflict(already(access_request), rule=f"transition.{access_request.state}.{state}")
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


def already(access_request: AccessRequest) -> str:
    return _STATE_IN_WORDS[State(access_request.state)]
