"""What someone needs to know to ask or to judge, read for many requests at once."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from requests_app.delivery.web.frozen import frozen_by
from requests_app.domain import deciders, reading
from requests_app.domain.deciders import Matter
from requests_app.domain.liftable import Liftable
from requests_app.domain.models import AccessRequest, Decision, DenyPolicy, Extension, Freeze
from requests_app.domain.terms import StageTerms
from requests_app.domain.transitions import RevocationState, State
from requests_app.domain.workflow import sign_ins, stages

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
    lately = _lately({access_request.beneficiary_id for access_request in requests}, now) if history else {}
    alike = _alike({access_request.role_id for access_request in requests}, now) if history else {}
    if frozen is None:
        frozen = frozen_by([access_request.role for access_request in requests if access_request.is_open])
    found = [
        _dossier(
            matter,
            decisions[_key(matter)],
            lately.get(access_request.beneficiary_id, Counter()),
            alike.get(access_request.role_id, []),
            now,
            frozen=frozen.get(access_request.role_id) if access_request.is_open else None,
        )
        for matter, access_request in zip(matters, requests, strict=True)
    ]
    asked = []
    for dossier in found:
        outside = {decision.approver_id for decision in decisions[_key(dossier.matter)]}
        if question := stages.question(dossier.matter, outside, now):
            asked.append((dossier, question))
            dossier.escalated = question.further
    if counted:
        for (dossier, _), number in zip(asked, deciders.numbers([question for _, question in asked]), strict=True):
            dossier.can_now = number
    return found


def left_out(access_requests: Collection[AccessRequest]) -> set[str]:
    """The codes of returned ones that made way, because their role has no room for more denials."""
    waiting = {access_request.role_id for access_request in access_requests if _is_wanted(access_request)}
    if not waiting:
        return set()
    policies = DenyPolicy.objects.filter(role__in=waiting).values_list("left_out", flat=True)
    return {code for codes in policies for code in codes}


@dataclass(frozen=True, slots=True)
class SignIns:
    """The codes of ended passes that may have had sign-in sessions, by how it is with those; and of those of which AWS
    refuses the keys, whatever became of the sign-ins.
    """

    ended: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()


def sign_ins_of(access_requests: Collection[AccessRequest]) -> SignIns:
    """One query, where any of these had such terms."""
    concerned = {it.code: it.role_id for it in access_requests if _may_have_signed_in(it)}
    if not concerned:
        return SignIns()
    policies = {policy.role_id: policy for policy in DenyPolicy.objects.filter(role__in=set(concerned.values()))}
    found: dict[str, set[str]] = {"ended": set(), "unknown": set(), "asked": set(), "refused": set()}
    for code, role in concerned.items():
        if policy := policies.get(role):
            found[sign_ins.standing(policy, code)].add(code)
            if policy.refused_at is not None and code in policy.denied:
                found["refused"].add(code)
    return SignIns(**{name: frozenset(codes) for name, codes in found.items()})


def _may_have_signed_in(access_request: AccessRequest) -> bool:
    revocation = getattr(access_request, "revocation", None)
    lifted = Liftable.SIGN_IN_TOKENS in access_request.terms.lifted
    return lifted and revocation is not None and revocation.state != RevocationState.OVER


def _is_wanted(access_request: AccessRequest) -> bool:
    revocation = getattr(access_request, "revocation", None)
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
    for decision in reading.decisions_on({access_request.pk for access_request in access_requests}):
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
    for access_request in reading.active_of_roles(roles, now, MOST_ALIKE + 1):
        found[access_request.role_id].append(access_request)
    return found
