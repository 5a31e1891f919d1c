"""Finding a role, and on which terms someone may ask for it."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from uuid import UUID

from django.db.models import Exists, OuterRef, Q

from requests_app.delivery.web.judging import Deciders
from requests_app.domain.liftable import Liftable
from requests_app.domain.models import AccessRequest, Entitlement, EntitlementRole, Role, RoleSelector, User
from requests_app.domain.models.catalog import RoleQuerySet
from requests_app.domain.terms import StageTerms, Terms

MOST_FOUND = 12
MOST_CHOICES = 10
STEPS = (15, 30, 60, 120, 240, 480, 720, 1440)


@dataclass(frozen=True, slots=True)
class StageOutlook:
    stage: StageTerms
    can_now: int

    @property
    def enough(self) -> bool:
        return self.can_now >= self.stage.quorum


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to ask for a role: an entitlement and what would happen."""

    entitlement: Entitlement
    terms: Terms
    stages: tuple[StageOutlook, ...]
    usually: timedelta | None

    @property
    def key(self) -> str:
        return str(self.entitlement.pk)

    @property
    def longest(self) -> timedelta:
        return timedelta(seconds=self.terms.longest_seconds)

    @property
    def longest_minutes(self) -> int:
        return self.terms.longest_seconds // 60

    @property
    def lifted(self) -> list[str]:
        return [Liftable(name).description for name in self.terms.lifted if name in set(Liftable)]


def find_roles(person: User, words: str) -> list[Role]:
    """Roles this person may ask for, whose account, number or name has every word; the first few."""
    return list(_usable().first_matching(words, MOST_FOUND, among=_ways_to_be_open_to(person)))


def recent_roles(person: User) -> list[Role]:
    """What they asked for lately and may ask for again."""
    lately = AccessRequest.objects.filter(beneficiary=person).order_by("-asked_at").values_list("role", flat=True)[:30]
    order = list(dict.fromkeys(lately))[:5]
    return sorted(_open_to(person).filter(pk__in=order), key=lambda role: order.index(role.pk))


def find_role(person: User, public_id: str) -> Role | None:
    try:
        return _open_to(person).filter(public_id=UUID(public_id)).first()
    except ValueError:
        return None


def choices(person: User, role: Role) -> list[Choice]:
    """On which terms `person` may ask for `role`: nobody asked first, then the longest."""
    entitlements = list(Entitlement.objects.reaching(person).for_role(role).with_terms().order_by("pk")[:MOST_CHOICES])
    terms = {one.pk: Terms.of(one) for one in entitlements}
    deciders = Deciders(stage for one in terms.values() for stage in one.stages)
    usually = _usual_times(role)
    found = [
        Choice(
            entitlement=one,
            terms=terms[one.pk],
            stages=tuple(
                StageOutlook(stage, deciders.number(stage, outside=[person.pk])) for stage in terms[one.pk].stages
            ),
            usually=usually.get(one.pk),
        )
        for one in entitlements
    ]
    return sorted(found, key=lambda choice: (not choice.terms.is_automatic, -choice.terms.longest_seconds))


def steps(found: list[Choice]) -> list[int]:
    """Sensible lengths in minutes up to the longest of these choices, that one included."""
    longest = {choice.longest_minutes for choice in found}
    most = max(longest, default=0)
    return sorted({step for step in STEPS if step <= most} | {one for one in longest if one > 0})


def _open_to(person: User) -> RoleQuerySet:
    ways = _ways_to_be_open_to(person)
    return _usable().filter(Q(*ways, _connector=Q.OR)) if ways else _usable().none()


def _usable() -> RoleQuerySet:
    return Role.objects.filter(is_active=True, account__is_active=True).select_related("account")


def _ways_to_be_open_to(person: User) -> list[Q | Exists]:
    """How a role can be open to someone: by its name, or by a selector. One by one, each has an index."""
    # Their keys, not a question within the question: the database then knows how many roles those name. For one that
    # names none it would guess, and look for its roles among all.
    names_some = Exists(EntitlementRole.objects.filter(entitlement=OuterRef("pk")))
    mine = dict(Entitlement.objects.reaching(person).values_list("pk", names_some))
    ways: list[Q | Exists] = []
    if naming := [entitlement for entitlement, names in mine.items() if names]:
        ways.append(Exists(EntitlementRole.objects.filter(role=OuterRef("pk"), entitlement__in=naming)))
    return ways + RoleSelector.objects.filter(entitlement__in=mine).questions()


def _usual_times(role: Role) -> dict[int, timedelta]:
    """How long an approval took lately, the middle one, for each entitlement."""
    lately = AccessRequest.objects.filter(role=role, approved_at__isnull=False, stage__gt=0).order_by("-asked_at")[:40]
    taken: dict[int, list[float]] = defaultdict(list)
    for entitlement, asked_at, approved_at in lately.values_list("entitlement", "asked_at", "approved_at"):
        if approved_at is not None:
            taken[entitlement].append((approved_at - asked_at).total_seconds())
    return {entitlement: timedelta(seconds=median(seconds)) for entitlement, seconds in taken.items()}
