"""What the verbs would say now, for a page that shows the right buttons and tells beforehand. They decide nothing."""

from datetime import datetime, timedelta

from requests_app.domain import clock, policy
from requests_app.domain.deciders import Matter
from requests_app.domain.errors import DomainError, NotAllowed
from requests_app.domain.models import AccessRequest, Entitlement, Role, User
from requests_app.domain.terms import Terms
from requests_app.domain.transitions import State
from requests_app.domain.workflow import approval, extensions, requests


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


def on_approving(matter: Matter, by: User) -> policy.Verdict:
    """What approving would say to this person, a request or an extension of one."""
    verdict = approval.verdict_on_deciding(matter, by, clock.now())
    if not verdict:
        return verdict
    one = approval.request_of(matter)
    of_use = requests.still_entitled(one)
    if not of_use and of_use.rule != "freeze":
        return policy.Verdict(False, "decision.no_use", in_the_way(one, by))
    try:
        approval.check_who_is_left(matter, by, clock.now())
    except NotAllowed as refusal:
        return policy.Verdict(False, refusal.rule, refusal.message)
    return verdict


def on_denying(matter: Matter, by: User) -> policy.Verdict:
    """What denying would say: somebody who is needed for a later stage may end it now."""
    return approval.verdict_on_deciding(matter, by, clock.now())


def on_extending(access_request: AccessRequest, by: User, duration: timedelta) -> policy.Verdict:
    """What `extend` would say to so much more, whatever is typed."""
    return extensions.may_extend(access_request, by, duration, clock.now())


def in_the_way(access_request: AccessRequest, reader: User) -> str:
    """Why an open request, approved pass or active pass is of no more use as things are; empty where it is, or where it
    is frozen, which is said elsewhere."""
    if AccessRequest.objects.of_use().filter(pk=access_request.pk).exists():
        return ""
    verdict = requests.still_entitled(access_request)
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


def stages_that_lack_people(matter: Matter) -> list[int]:
    """The positions of the stages that are still to agree and for which too few people are left."""
    return approval.stages_that_lack_people(matter, clock.now())


def who_can_decide(matter: Matter) -> list[User]:
    """The people who could decide the present stage now, by name, at most 200."""
    return approval.who_can_decide(matter, clock.now())
