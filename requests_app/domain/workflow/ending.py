"""Ending what is open, by a person or because a person left: never refused by a rule, a group or a limit."""

from collections.abc import Iterable

from django.db import transaction
from django.db.models import QuerySet

from requests_app.domain import audit, clock, notices
from requests_app.domain.audit import Action
from requests_app.domain.deciders import Matter
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import AccessRequest, User
from requests_app.domain.texts import plain_reason
from requests_app.domain.transitions import State
from requests_app.domain.workflow import life, revocations, stages
from requests_app.domain.workflow.verb import lock, lock_row, require_active, verb

DEACTIVATED = "The person was deactivated."


@verb(Action.REQUEST_WITHDRAWN)
def withdraw(access_request: AccessRequest, *, by: User) -> AccessRequest:
    """The asking side takes a request back before it began."""
    access_request, now = lock(access_request)
    if by.pk not in access_request.asking_side:
        raise NotAllowed("Only the person who asked can withdraw this request.", rule="withdraw.not_yours")
    life.end(access_request, State.WITHDRAWN, by=by, now=now)
    audit.record(Action.REQUEST_WITHDRAWN, access_request, by=by, at=now)
    # Whoever did not do it would otherwise wait for it.
    life.tell_the_asking_side(notices.Kind.ENDED, access_request, now, but=by)
    return access_request


@verb(Action.REQUEST_RETURNED)
def give_back(access_request: AccessRequest, *, by: User) -> AccessRequest:
    """The beneficiary is done early. Asks nothing else: ending always works."""
    access_request, now = lock(access_request)
    if by.pk != access_request.beneficiary_id:
        raise NotAllowed("Only the person a pass is for can give it back.", rule="give_back.not_yours")
    life.end(access_request, State.RETURNED, by=by, now=now)
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
    by.refresh_from_db(fields=["is_operator"])
    if not may_revoke(access_request, by):
        raise NotAllowed("Only those who could approve this, and operators, can revoke it.", rule="revoke.not_asked")
    reason = plain_reason(reason, read_by="the person and the auditors read")
    life.end(access_request, State.REVOKED, by=by, now=now, reason=reason)
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
    for found in theirs.order_by("pk")[:limit]:
        with transaction.atomic(durable=True):
            access_request, now = lock_row(found), clock.now()
            still = access_request.state in (State.APPROVED, State.ACTIVE) and not access_request.due(now)
            if still and access_request.beneficiary.deactivated_at is not None:
                life.end(access_request, State.REVOKED, by=None, now=now, reason=DEACTIVATED)
                audit.record(Action.REQUEST_REVOKED, access_request, by=None, at=now, reason=DEACTIVATED)
                revocations.want(access_request, now)
                ended += 1
    return ended


def may_revoke(access_request: AccessRequest, by: User) -> bool:
    """Whether `by` may pull this request: one who could decide it or an extension of it, or an operator.

    Further approvers could where a stage took so long that they were asked. Not one's own: that is given back.
    """
    if by.pk in access_request.asking_side:
        return False
    if by.is_operator:
        return True
    groups = set(by.memberships.values_list("group_id", flat=True))

    def is_among(asked: Iterable[tuple[frozenset[int], frozenset[int]]]) -> bool:
        return any(by.pk in users or groups & those for those, users in asked)

    if is_among(stage.asked(escalated=False) for stage in access_request.terms.stages):
        return True
    if not is_among(stage.asked(escalated=True) for stage in access_request.terms.stages):
        return False
    now, extensions = clock.now(), access_request.extensions.select_related("access_request")
    matters: list[Matter] = [access_request, *extensions]
    return any(is_among(stages.asked_so_far(matter, now)) for matter in matters)
