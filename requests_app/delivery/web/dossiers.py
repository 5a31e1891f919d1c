"""What someone needs to know to ask or to judge, read for many requests at once."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from requests_app.delivery.web.frozen import frozen_by
from requests_app.domain import deciders, reading
from requests_app.domain.deciders import Matter
from requests_app.domain.models import AccessRequest, Decision, DenyPolicy, Extension, Freeze
from requests_app.domain.terms import StageTerms
from requests_app.domain.transitions import RevocationState, State
from requests_app.domain.workflow import stages

LATELY = timedelta(days=30)
MOST_ALIKE = 3


@dataclass(slots=True)
class Dossier:
    """What an approver reads about one request, or about an extension of it, beside its facts."""

    access_request: AccessRequest
    extension: Extension | None
    stages: int
    stage: StageTerms | None
    # Further approvers are asked by now.
    escalated: bool = False
    agreed: list[Decision] = field(default_factory=list)
    passes: int = 0
    returned: int = 0
    revoked: int = 0
    alike: list[AccessRequest] = field(default_factory=list)
    can_now: int = 0
    # Its scheduled start is over, so that the last approval starts it.
    begins_at_once: bool = False
    # Why it does not go on, where operators have frozen it.
    frozen: Freeze | None = None

    @property
    def matter(self) -> Matter:
        return self.extension or self.access_request


def dossiers(
    matters: Sequence[Matter],
    now: datetime,
    *,
    history: bool = True,
    counted: bool = True,
    frozen: Mapping[int, Freeze] | None = None,
) -> list[Dossier]:
    """One for each, in their order; a few queries in all, if roles and accounts came with them.

    `history`: what the beneficiary had lately and who has the role now; `counted`: how many can decide now, of what is
    pending. A page that shows neither does without. `frozen`: what holds each role, where that was read already.
    """
    requests = [matter.access_request for matter in matters]
    decisions = _decisions(requests)
    lately = _lately({one.beneficiary_id for one in requests}, now) if history else {}
    alike = _alike({one.role_id for one in requests}, now) if history else {}
    if frozen is None:
        frozen = frozen_by([one.role for one in requests if one.is_open])
    found = [
        _dossier(
            matter,
            decisions[_key(matter)],
            lately.get(one.beneficiary_id, Counter()),
            alike.get(one.role_id, []),
            now,
            frozen=frozen.get(one.role_id) if one.is_open else None,
        )
        for matter, one in zip(matters, requests, strict=True)
    ]
    asked = []
    for dossier in found:
        outside = {decision.approver_id for decision in decisions[_key(dossier.matter)]}
        if question := stages.question(dossier.matter, outside, now):
            asked.append((dossier, question))
            dossier.escalated = question.further
    if counted:
        for (dossier, _), number in zip(asked, deciders.numbers([one for _, one in asked]), strict=True):
            dossier.can_now = number
    return found


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


def _dossier(
    matter: Matter,
    decisions: list[Decision],
    lately: Counter[str],
    alike: list[AccessRequest],
    now: datetime,
    *,
    frozen: Freeze | None,
) -> Dossier:
    access_request, terms = matter.access_request, matter.terms
    return Dossier(
        access_request=access_request,
        extension=matter.extension,
        stages=len(terms.stages),
        stage=terms.stage(matter.stage) if matter.stage else None,
        agreed=[decision for decision in decisions if decision.stage == matter.stage],
        passes=sum(lately.values()),
        returned=lately[State.RETURNED],
        revoked=lately[State.REVOKED],
        begins_at_once=not matter.extension
        and access_request.scheduled_at is not None
        and access_request.scheduled_at <= now,
        alike=[other for other in alike if other.pk != access_request.pk][:MOST_ALIKE],
        frozen=frozen,
    )


def _key(matter: Matter) -> tuple[int, int | None]:
    return matter.access_request.pk, matter.extension.pk if matter.extension else None


def _decisions(access_requests: Sequence[AccessRequest]) -> dict[tuple[int, int | None], list[Decision]]:
    """On each request, and on each extension of it."""
    found: dict[tuple[int, int | None], list[Decision]] = defaultdict(list)
    for decision in reading.decisions_on({one.pk for one in access_requests}):
        found[decision.access_request_id, decision.extension_id].append(decision)
    return found


def _lately(people: Collection[int], now: datetime) -> dict[int, Counter[str]]:
    """How the passes of these people ended lately."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for person, state, number in reading.passes_since(people, now - LATELY):
        found[person][state] += number
    return found


def _alike(roles: Collection[int], now: datetime) -> dict[int, list[AccessRequest]]:
    """Passes for the same roles that are active now."""
    found: dict[int, list[AccessRequest]] = defaultdict(list)
    for one in reading.active_of_roles(roles, now, MOST_ALIKE + 1):
        found[one.role_id].append(one)
    return found
