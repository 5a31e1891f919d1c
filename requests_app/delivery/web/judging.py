"""What someone needs to know to ask or to judge, read for many requests at once."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, Max
from django.db.models.functions import Least

from requests_app.delivery.web.holding import holds
from requests_app.domain.models import AccessRequest, Decision, DenyPolicy, Freeze, IssuedSession, Membership, User
from requests_app.domain.terms import StageTerms
from requests_app.domain.transitions import RevocationState, State

LATELY = timedelta(days=30)
# People are counted so far and no further; nobody chooses differently at 200 and at 2,000.
MOST_PEOPLE = 2000


class Deciders:
    """Who could decide given stages now. Two queries, however many stages."""

    def __init__(self, stages: Iterable[StageTerms]) -> None:
        stages = list(stages)
        groups = {group for stage in stages for group in stage.groups}
        users = {user for stage in stages for user in stage.users}
        rows = Membership.objects.filter(group__in=groups, user__deactivated_at=None)
        self._members: dict[int, set[int]] = defaultdict(set)
        for group, user in rows.values_list("group_id", "user_id")[:MOST_PEOPLE] if groups else ():
            self._members[group].add(user)
        named = User.objects.filter(pk__in=users, deactivated_at=None).values_list("pk", flat=True)
        self._named = set(named[:MOST_PEOPLE]) if users else set()

    def number(self, stage: StageTerms, *, outside: Collection[int]) -> int:
        able = set(stage.users) & self._named
        for group in stage.groups:
            able |= self._members[group]
        return len(able - set(outside))


@dataclass(slots=True)
class Dossier:
    """What an approver reads about one request beside its facts."""

    access_request: AccessRequest
    stages: int
    stage: StageTerms | None
    agreed: list[Decision] = field(default_factory=list)
    passes: int = 0
    returned: int = 0
    revoked: int = 0
    alike: list[AccessRequest] = field(default_factory=list)
    can_now: int = 0
    # Why it does not go on, where operators have frozen it.
    frozen: Freeze | None = None


def dossiers(access_requests: Sequence[AccessRequest], now: datetime) -> list[Dossier]:
    """One for each, in their order; six queries in all."""
    stages = {one.pk: one.terms.stage(one.stage) for one in access_requests if one.stage}
    deciders = Deciders(stages.values())
    decisions = _decisions(access_requests)
    lately = _lately({one.beneficiary_id for one in access_requests}, now)
    alike = _alike({one.role_id for one in access_requests}, now)
    frozen = holds([one.role for one in access_requests if one.is_open])
    return [
        _dossier(
            one, stages.get(one.pk), deciders, decisions[one.pk], lately[one.beneficiary_id], alike[one.role_id],
            frozen.get(one.role_id) if one.is_open else None,
        )
        for one in access_requests
    ]  # fmt: skip


def work_until(access_requests: Collection[AccessRequest], now: datetime) -> dict[int, datetime]:
    """For ended requests: until when credentials that were already issued still work, where any do."""
    return last_ends([one.pk for one in access_requests if not one.is_open], now)


def left_out(access_requests: Collection[AccessRequest]) -> set[str]:
    """The codes of returned ones that made way, because their role has no room for more denials."""
    waiting = {one.role_id for one in access_requests if _is_wanted(one)}
    if not waiting:
        return set()
    policies = DenyPolicy.objects.filter(role__in=waiting).values_list("left_out", flat=True)
    return {code for codes in policies for code in codes}


def _is_wanted(one: AccessRequest) -> bool:
    revocation = getattr(one, "revocation", None)
    return revocation is not None and revocation.state == RevocationState.WANTED


def last_ends(ids: Collection[int], now: datetime) -> dict[int, datetime]:
    """Until when what was issued for the requests with these ids works, if nothing is done about it."""
    issued = IssuedSession.objects.filter(access_request__in=ids, discarded=False)
    live = issued.filter(cut_off__gt=now, sts_expires_at__gt=now)
    ends = live.values("access_request").annotate(end=Max(Least("cut_off", "sts_expires_at")))
    return dict(ends.values_list("access_request", "end"))


def _dossier(
    one: AccessRequest,
    stage: StageTerms | None,
    deciders: Deciders,
    decisions: list[Decision],
    lately: Counter[str],
    alike: list[AccessRequest],
    frozen: Freeze | None,
) -> Dossier:
    outside = one.asking_side | {decision.approver_id for decision in decisions}
    return Dossier(
        access_request=one,
        stages=len(one.terms.stages),
        stage=stage,
        agreed=[decision for decision in decisions if decision.stage == one.stage],
        passes=sum(lately.values()),
        returned=lately[State.RETURNED],
        revoked=lately[State.REVOKED],
        alike=[other for other in alike if other.pk != one.pk][:3],
        can_now=deciders.number(stage, outside=outside) if stage else 0,
        frozen=frozen,
    )


def _decisions(access_requests: Sequence[AccessRequest]) -> dict[int, list[Decision]]:
    found: dict[int, list[Decision]] = defaultdict(list)
    for decision in Decision.objects.filter(access_request__in=[one.pk for one in access_requests]):
        found[decision.access_request_id].append(decision)
    return found


def _lately(people: Collection[int], now: datetime) -> dict[int, Counter[str]]:
    """How the passes of these people ended lately."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    began = AccessRequest.objects.filter(beneficiary__in=people, asked_at__gt=now - LATELY, activated_at__isnull=False)
    for person, state, number in began.values_list("beneficiary", "state").annotate(number=Count("pk")):
        found[person][state] += number
    return found


def _alike(roles: Collection[int], now: datetime) -> dict[int, list[AccessRequest]]:
    """Passes for the same roles that are active now."""
    active = AccessRequest.objects.filter(role__in=roles, state=State.ACTIVE, expires_at__gt=now)
    found: dict[int, list[AccessRequest]] = defaultdict(list)
    for one in active.select_related("beneficiary").order_by("expires_at")[:100]:
        found[one.role_id].append(one)
    return found
