"""What the verbs would say now, for a page that shows the right buttons and tells beforehand. They decide nothing."""

from datetime import datetime, timedelta

from requests_app.domain import clock, facts, policy
from requests_app.domain.errors import DomainError, NotAllowed
from requests_app.domain.models import AccessRequest, Entitlement, Role, User
from requests_app.domain.terms import Terms
from requests_app.domain.workflow import approval, requests


def on_asking(role: Role, *, by: User, entitlement: Entitlement, beneficiary: User) -> policy.Verdict:
    """Whether these terms let them ask, whatever for and however often."""
    return requests.may_request(role, entitlement, Terms.of(entitlement, role), by=by, beneficiary=beneficiary)


def on_wish(
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
    terms = Terms.of(entitlement, role)
    try:
        requests.check_asking(
            role, entitlement, terms, by=by, beneficiary=beneficiary, duration=duration, start=start, start_at=start_at
        )
    except DomainError as refusal:
        return policy.Verdict(False, refusal.rule, refusal.message)
    return policy.Verdict(True, "entitlement.reaches")


def on_approving(matter: approval.Matter, by: User) -> policy.Verdict:
    """What approving would say to this person, a request or an extension of one."""
    verdict = approval.verdict_on_deciding(matter, by, clock.now())
    if not verdict:
        return verdict
    try:
        approval.check_who_is_left(matter, by)
    except NotAllowed as refusal:
        return policy.Verdict(False, refusal.rule, refusal.message)
    return verdict


def on_denying(matter: approval.Matter, by: User) -> policy.Verdict:
    """What denying would say: somebody who is needed for a later stage may end it now."""
    return approval.verdict_on_deciding(matter, by, clock.now())


def on_extending(access_request: AccessRequest, by: User, duration: timedelta) -> policy.Verdict:
    """What `extend` would say to so much more, whatever is typed."""
    return policy.may_extend(
        facts.person(by),
        facts.of_extended(access_request),
        facts.reach_of_role(access_request.entitlement, access_request.role),
        facts.catalog(access_request.role),
        access_request.terms,
        seconds=int(duration.total_seconds()),
        now=clock.now(),
    )


def who_can_decide(matter: approval.Matter) -> list[User]:
    """The people who could decide the present stage now, by name, at most 200."""
    return approval.who_can_decide(matter, clock.now())
