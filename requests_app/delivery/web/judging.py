"""What someone needs to know to ask or to judge, read for many requests at once."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, Exists, OuterRef, Q
from django.db.models.functions import JSONObject

from requests_app.delivery.web.holding import holds
from requests_app.domain import facts, policy
from requests_app.domain.models import (
    AccessRequest,
    Decision,
    DenyPolicy,
    Edit,
    Extension,
    Freeze,
    Group,
    Membership,
    User,
)
from requests_app.domain.models.arrays import ArraySubquery
from requests_app.domain.terms import StageTerms
from requests_app.domain.transitions import RevocationState, State

LATELY = timedelta(days=30)
# The people of a group are counted so far and no further; nobody chooses differently at 200 and at 2,000.
MOST_PEOPLE = 2000


class Deciders:
    """Who could decide given stages now. A few queries, however many stages.

    `rules` are what is decided under: whoever edited one of them does not count until another operator confirmed it,
    nor does a membership that somebody gave themselves, or the asking side of one of these `requests` gave them.
    """

    def __init__(
        self,
        stages: Iterable[StageTerms],
        rules: Iterable[policy.Rule] = (),
        requests: Collection[AccessRequest] = (),
    ) -> None:
        stages = list(stages)
        groups = {group for stage in stages for group in (*stage.groups, *stage.more_groups)}
        users = {user for stage in stages for user in (*stage.users, *stage.more_users)}
        own = Edit.objects.unconfirmed().filter(
            editor=OuterRef("user"), member=OuterRef("user"), group=OuterRef("group")
        )
        rows = Membership.objects.filter(~Exists(own), group=OuterRef("pk"), user__deactivated_at=None)
        # The first of each group, or a big one would leave no room for a small one.
        some = Group.objects.filter(pk__in=groups).values_list("pk", ArraySubquery(rows.values("user")[:MOST_PEOPLE]))
        self._members = {group: set(members) for group, members in some} if groups else {}
        named = User.objects.filter(pk__in=users, deactivated_at=None).values_list("pk", flat=True)
        self._named = set(named) if users else set()
        self._editors = _editors(rules) if stages else {}
        self._doing = _doing(requests, groups) if stages else {}

    def number(
        self,
        stage: StageTerms,
        of: AccessRequest | None,
        *,
        outside: Collection[int],
        rules: Iterable[policy.Rule] = (),
        escalated: bool = False,
    ) -> int:
        placers, placed = (self._doing.get(of.pk) if of else None) or (set(), {})
        groups, users = stage.asked(escalated=escalated)
        able = users & self._named
        for group in groups:
            able |= self._members.get(group, set()) - placed.get(group, set())
        editors = {editor for rule in rules for editor in self._editors.get(rule, ())}
        return len(able - set(outside) - editors - placers)


# What to read along with requests that are judged: the rules that they follow reach up to here.
JUDGED = "role__account__unit"
# What is decided about.
Matter = AccessRequest | Extension


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


def dossiers(matters: Sequence[Matter], now: datetime, *, history: bool = True) -> list[Dossier]:
    """One for each, in their order; seven queries in all, if `JUDGED` came with them. Who decides without `history`."""
    requests = [_request_of(one) for one in matters]
    deciders = Deciders(
        [one.terms.stage(one.stage) for one in matters if one.stage],
        {rule for one, matter in zip(requests, matters, strict=True) if matter.stage for rule in facts.rules_of(one)},
        [one for one, matter in zip(requests, matters, strict=True) if matter.stage],
    )
    decisions = _decisions(requests)
    lately = _lately({one.beneficiary_id for one in requests}, now) if history else {}
    alike = _alike({one.role_id for one in requests}, now) if history else {}
    frozen = holds([one.role for one in requests if one.is_open])
    return [
        _dossier(
            matter,
            deciders,
            decisions[_key(matter)],
            lately.get(one.beneficiary_id, Counter()),
            alike.get(one.role_id, []),
            now,
            frozen=frozen.get(one.role_id) if one.is_open else None,
        )
        for matter, one in zip(matters, requests, strict=True)
    ]  # fmt: skip


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
    deciders: Deciders,
    decisions: list[Decision],
    lately: Counter[str],
    alike: list[AccessRequest],
    now: datetime,
    *,
    frozen: Freeze | None,
) -> Dossier:
    one, terms, known = _request_of(matter), matter.terms, facts.known_of(matter)
    dossier = Dossier(
        access_request=one,
        extension=matter if isinstance(matter, Extension) else None,
        stages=len(terms.stages),
        stage=terms.stage(matter.stage) if matter.stage else None,
        agreed=[decision for decision in decisions if decision.stage == matter.stage],
        passes=sum(lately.values()),
        returned=lately[State.RETURNED],
        begins_at_once=matter is one and one.scheduled_at is not None and one.scheduled_at <= now,
        revoked=lately[State.REVOKED],
        alike=[other for other in alike if other.pk != one.pk][:3],
        frozen=frozen,
    )
    if dossier.stage and known.stage_since and known.accepted:
        outside = one.asking_side | {decision.approver_id for decision in decisions}
        dossier.escalated = dossier.stage.is_escalated(known.stage_since, now)
        dossier.can_now = deciders.number(
            dossier.stage, one, outside=outside, rules=known.rules, escalated=dossier.escalated
        )
    return dossier


def _request_of(matter: Matter) -> AccessRequest:
    return matter.access_request if isinstance(matter, Extension) else matter


def _key(matter: Matter) -> tuple[int, int | None]:
    return _request_of(matter).pk, matter.pk if isinstance(matter, Extension) else None


def _decisions(access_requests: Sequence[AccessRequest]) -> dict[tuple[int, int | None], list[Decision]]:
    """On each request, and on each extension of it."""
    found: dict[tuple[int, int | None], list[Decision]] = defaultdict(list)
    for decision in Decision.objects.filter(access_request__in={one.pk for one in access_requests}):
        found[decision.access_request_id, decision.extension_id].append(decision)
    return found


def _editors(rules: Iterable[policy.Rule]) -> dict[policy.Rule, set[int]]:
    """Whose edit of each of these nobody has confirmed yet."""
    keys: dict[str, set[int]] = defaultdict(set)
    for kind, key in rules:
        keys[kind].add(key)
    about = [Q(**{f"{kind}__in": some}) for kind, some in keys.items()]
    found: dict[policy.Rule, set[int]] = defaultdict(set)
    if about:
        edits = Edit.objects.unconfirmed().filter(Q(*about, _connector=Q.OR))
        for editor, *edited in edits.values_list("editor", *facts.RULES).distinct()[:MOST_PEOPLE]:
            for kind, key in zip(facts.RULES, edited, strict=True):
                found[kind, key].add(editor)
    return found


def _doing(
    access_requests: Collection[AccessRequest], groups: Collection[int]
) -> dict[int, tuple[set[int], dict[int, set[int]]]]:
    """Of each request: who put its asking side where it may ask, and whom its asking side put into these groups."""
    sides = (OuterRef("requester"), OuterRef("beneficiary"))
    placing = Edit.objects.placing(*sides, under=OuterRef(OuterRef("entitlement"))).values("editor").distinct()
    placed = Edit.objects.unconfirmed().filter(Q(editor=sides[0]) | Q(editor=sides[1]), group__in=groups)
    memberships = placed.values(json=JSONObject(group="group", member="member"))[:MOST_PEOPLE]
    these = AccessRequest.objects.filter(pk__in=[one.pk for one in access_requests])
    found: dict[int, tuple[set[int], dict[int, set[int]]]] = {}
    for key, editors, changed in these.values_list("pk", ArraySubquery(placing), ArraySubquery(memberships)):
        found[key] = set(editors), defaultdict(set)
        for one in changed:
            found[key][1][one["group"]].add(one["member"])
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
