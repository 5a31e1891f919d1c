"""Finding a role and whom it is for, and on which terms it may be asked for."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from statistics import median
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import Exists, OuterRef, Q, QuerySet

from requests_app.delivery.web.terms_in_words import said
from requests_app.domain import clock, deciders, narrowing, outliving, pasted, policy, workflow
from requests_app.domain.joined import Joined
from requests_app.domain.models import (
    AccessRequest,
    Account,
    Edit,
    Entitlement,
    EntitlementAsker,
    EntitlementGroup,
    EntitlementRole,
    EntitlementUser,
    ExcludedGroup,
    ExcludedUser,
    Membership,
    Role,
    RoleSelector,
    User,
)
from requests_app.domain.models.catalog import RoleQuerySet
from requests_app.domain.models.entitlements import EntitlementQuerySet
from requests_app.domain.prepared import Question
from requests_app.domain.terms import BOTH, CONSOLE, StageTerms, Terms

MOST_FOUND = 12
# Accounts to look through at once, roles of each, and of one by itself.
MOST_BROWSED = 10
MOST_OF_EACH = 12
MOST_IN_ACCOUNT = 50
MOST_CHOICES = 10
# Those that demand least are looked at before some of them are offered.
MOST_LOOKED_AT = 100
MOST_OPEN = 1000
MOST_STANDING = 3
MOST_SEEN = 20_000
MOST_PEOPLE = 8
# Whoever may ask for others finds them by a part of their name; fewer letters would list them.
LETTERS = 3
MOST_WORDS = 5
STEPS = (15, 30, 60, 120, 240, 480, 720, 1440)
# By the clock of whoever is asked: hardly anybody answers then.
NIGHT = (22, 7)


@dataclass(frozen=True)
class Choice:
    """One way to ask for a role: an entitlement and its terms as they are now, read when somebody looks at them."""

    entitlement: Entitlement
    role: Role

    @cached_property
    def terms(self) -> Terms:
        return self.entitlement.terms_now(self.role)

    @property
    def key(self) -> str:
        return str(self.entitlement.public_id)

    @property
    def seen(self) -> "Seen":
        return Seen.of(self)

    @property
    def longest(self) -> timedelta:
        return timedelta(seconds=self.terms.longest_seconds)

    @property
    def longest_minutes(self) -> int:
        return self.terms.longest_seconds // 60

    @property
    def usual_minutes(self) -> int:
        """What is offered first."""
        return min(max(self.terms.default_seconds // 60, 1), self.longest_minutes)

    @property
    def ahead(self) -> timedelta:
        """How far ahead a start may be scheduled."""
        return timedelta(seconds=self.terms.schedule_ahead_seconds)

    @property
    def limits_justification(self) -> bool:
        """Whether not any text will do."""
        return self.terms.justification_min > 1 or bool(self.terms.justification_pattern)

    @property
    def limits_ticket(self) -> bool:
        return self.terms.ticket != Entitlement.Ticket.NONE and bool(self.terms.ticket_pattern)

    @property
    def demands(self) -> tuple[int, int, int]:
        """For putting the least demanding first: fewer to agree, fewer stages, then longer."""
        staged = not self.terms.is_automatic
        agreements = sum(stage.quorum for stage in self.terms.stages)
        return agreements + staged, len(self.terms.stages), -self.terms.longest_seconds


@dataclass(frozen=True, slots=True)
class Seen:
    """What a page showed of one choice; it comes back with the form."""

    revision: int
    said: tuple[str, ...]

    @classmethod
    def of(cls, choice: Choice) -> "Seen":
        return cls(choice.terms.revision, tuple(said(choice.terms)))

    @classmethod
    def from_form(cls, text: str) -> "Seen | None":
        """None for whatever no page of ours has sent."""
        try:
            revision, sentences = json.loads(text[:MOST_SEEN])
            return cls(int(revision), tuple(map(str, sentences)))
        except (ValueError, TypeError):
            return None

    def __str__(self) -> str:
        return json.dumps([self.revision, self.said])

    def changed(self, choice: Choice) -> list[str]:
        """What is different now, in plain words; nothing where it is not."""
        if choice.entitlement.revision == self.revision:
            return []
        now = Seen.of(choice)
        gone = " ".join(sentence for sentence in self.said if sentence not in now.said)
        new = " ".join(sentence for sentence in now.said if sentence not in self.said)
        return [
            f"“{choice.terms.name}” changed while you had this page open. Look at what is different and ask again.",
            *([f"It said: {gone}"] if gone else []),
            *([f"It says now: {new}"] if new else []),
            *([] if gone or new else ["It is in details that this page does not show; an operator can say more."]),
        ]


@dataclass(frozen=True, slots=True)
class StageOutlook:
    stage: StageTerms
    can_now: int
    at_night: int

    @property
    def enough(self) -> bool:
        return self.can_now >= self.stage.quorum

    @property
    def mostly_asleep(self) -> bool:
        return 2 * self.at_night > self.can_now

    @property
    def asleep_in_words(self) -> str:
        """For whom it is night, within a sentence."""
        if self.at_night < self.can_now:
            return f"{self.at_night} of them"
        return "that person" if self.can_now == 1 else "all of them"

    @property
    def asks_further_ones(self) -> bool:
        """Whether more people are asked when nobody answers in time."""
        return bool(self.stage.escalate_seconds and self.stage.more_asks)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would happen if this were asked for now, and approved by now; the times hold if `verdict` is a yes."""

    choice: Choice
    verdict: policy.Verdict
    stages: tuple[StageOutlook, ...]
    usually: timedelta | None
    scheduled: bool
    begins: datetime
    ends: datetime
    # The terms' hours end it before its time is up.
    cut_short: bool
    # When they begin, where it could not start before.
    opens: datetime | None

    @property
    def no_console(self) -> str:
        """Why these terms, which give a console besides keys, have none in this account; empty where they have one."""
        terms = self.choice.terms
        return (
            policy.CONSOLE_IS_CLOSED if terms.channels == BOTH and _console_is_closed(self.choice.role, terms) else ""
        )

    @property
    def lifted(self) -> list[str]:
        return outliving.sentences(self.choice.terms, self.choice.role.arn)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found of the roles that somebody may ask for.

    Where `named` is not found, `roles` are others like it. Whether it exists is not looked at: nobody can tell by this.
    """

    roles: list[Role]
    # What was pasted, where nothing that they may ask for is exactly that; else None.
    missed: pasted.Pasted | None = None
    # The code of a request, where that was typed.
    code: str = ""
    # Nothing has the words that were typed, and these have some that are like them.
    only_like: bool = False


def search(person: User, typed: str) -> Found:
    """Roles this person may ask for by what they typed or pasted, the first few."""
    named, code = pasted.understood(typed), pasted.code_in(typed)
    if named is None:
        return Found([], code=code) if code else _by_words(person, typed)
    if exactly := _named(person, named):
        return Found(exactly, code=code)
    if not named.certain:
        found = _by_words(person, typed)
        return found if found.roles else Found([], named)
    others = named.role and (named.number or named.account)
    return Found(_named(person, named._replace(role="")) if others else [], named, code)


@dataclass(frozen=True, slots=True)
class InAccount:
    """An account with the first roles in it that somebody may ask for."""

    account: Account
    roles: list[Role]
    # How many there are, where not all are here.
    of: int
    # Of one account by itself: the last role's name, where there are more.
    last: str = ""


def browse(person: User, *, after: str = "") -> tuple[list[InAccount], str]:
    """Accounts from which this person may ask for roles, by name from beyond `after`, a few roles each; and beyond
    which there are more, or ""."""
    ways = _ways_to_be_open_to(person)
    found = Account.objects.first_with_roles(MOST_BROWSED + 1, among=ways, after=after)
    shown = found[:MOST_BROWSED]
    if not shown:
        return [], ""
    roles = _usable().filter(Q(*ways, _connector=Q.OR)).first_of_each(shown, MOST_OF_EACH)
    grouped: dict[int, list[Any]] = {account.pk: [] for account in shown}
    for role in roles:
        grouped[role.account_id].append(role)
    lines = [InAccount(one, grouped[one.pk], grouped[one.pk][0].of_account) for one in shown if grouped[one.pk]]
    return lines, shown[-1].name if found[MOST_BROWSED:] else ""


def browse_account(person: User, partition: str, number: str, *, after: str = "") -> InAccount | None:
    """The roles in one account that this person may ask for, by name from beyond `after`; None where there are none,
    whether there is such an account or not."""
    within = _open_to(person).filter(account__partition=partition, account__number=number, name__gt=after)
    found = list(within.order_by("name")[: MOST_IN_ACCOUNT + 1])
    roles = found[:MOST_IN_ACCOUNT]
    last = roles[-1].name if found[MOST_IN_ACCOUNT:] else ""
    return InAccount(roles[0].account, roles, len(roles), last) if roles else None


def _by_words(person: User, typed: str) -> Found:
    words = pasted.words(typed)
    if found := find_roles(person, words):
        return Found(found)
    alike = _usable().first_like(words, MOST_FOUND, among=_ways_to_be_open_to(person))
    return Found(alike, only_like=bool(alike))


def _named(person: User, named: pasted.Pasted) -> list[Role]:
    return list(_usable().first_named(named, MOST_FOUND, among=_ways_to_be_open_to(person)))


def find_roles(person: User, words: str) -> list[Role]:
    """Roles this person may ask for, for whomever, whose account, number or name has every word; the first few."""
    return list(_usable().first_matching(words, MOST_FOUND, among=_ways_to_be_open_to(person)))


def recent_roles(person: User) -> list[Role]:
    """What they asked for lately and may ask for again."""
    order = list(dict.fromkeys(role for (role,) in _LATELY.all(person=person.pk, most=30)))[:5]
    found = _RECENT.read(_OPEN_AMONG.all(person=person.pk, roles=order)) if order else []
    return sorted(found, key=lambda role: order.index(role.pk))


_LATELY = Question(
    "options.lately",
    """
SELECT r.role_id
FROM requests_app_accessrequest r
WHERE r.beneficiary_id = %(person)s::bigint
ORDER BY r.asked_at DESC LIMIT %(most)s::bigint
""",
)
# Whether somebody may ask for a role, for whomever, as far as `policy` could allow it. As a value: with EXISTS the
# database may as well look for all the roles that there are for them.
_IS_OPEN = """coalesce((
    SELECT true FROM requests_app_candidate c
        JOIN requests_app_given_role g ON g.entitlement_id = c.entitlement_id
    WHERE c.person_id = %(person)s::bigint AND g.role_id = o.id
    LIMIT 1
), false)"""
_RECENT = Joined(Role, "o", "account")
_OPEN_AMONG: Question[Any] = Question(
    "options.open_among",
    f"""
SELECT {_RECENT.columns}
FROM {_RECENT.tables}
WHERE o.id = ANY (%(roles)s::bigint[]) AND o.is_active AND o_account.is_active AND {_IS_OPEN}
""",  # noqa: S608 - texts of ours only
)
_CHOSEN = Joined(Role, "o", "account", "account__owners", "owners", "preflight")
_ROLE: Question[Any] = Question(
    "options.role",
    f"""
SELECT {_CHOSEN.columns}, {_IS_OPEN} AS is_open
FROM {_CHOSEN.tables}
WHERE o.public_id = %(role)s::uuid AND o.is_active AND o_account.is_active
""",  # noqa: S608 - texts of ours only
)


def find_role(person: User, public_id: str) -> Role | None:
    """With what terms look at beside a role, and the page."""
    role, is_open = _role(person, public_id)
    return role if is_open else None


def why_excluded(person: User, public_id: str) -> str:
    """What to say to someone who could ask for a role if its terms did not exclude them; empty for all others."""
    role, _ = _role(person, public_id)
    if role is None:
        return ""
    for entitlement in Entitlement.objects.naming(person).for_role(role).with_terms().order_by("pk")[:MOST_CHOICES]:
        verdict = workflow.may_request(role, by=person, entitlement=entitlement, beneficiary=person)
        if verdict.rule == policy.EXCLUDED:
            return verdict.message
    return ""


def _role(person: User, public_id: str) -> tuple[Role | None, bool]:
    """The role in use with this key, and whether this person may ask for it, for whomever."""
    try:
        key = UUID(public_id)
    except ValueError:
        return None, False
    rows = _ROLE.all(role=key, person=person.pk)
    return (_CHOSEN.read(row[:-1] for row in rows)[0], rows[0][-1]) if rows else (None, False)


def may_ask_for_others(person: User, role: Role) -> bool:
    return bool(_asked_for_others(person, role))


def find_people(asker: User, role: Role, words: str) -> list[User]:
    """The first few of those for whom `asker` may ask for `role`, by any part of their names and address.

    Nobody else is found, and nobody at all before a few letters are typed.
    """
    typed = words.split()[:MOST_WORDS]
    if sum(map(len, typed)) < LETTERS:
        return []
    people = _people(asker, role)
    for word in typed:
        people = people.filter(Q(name__icontains=word) | Q(username__icontains=word) | Q(email__icontains=word))
    return list(people.order_by("name", "pk")[:MOST_PEOPLE])


def find_person(asker: User, role: Role, public_id: str) -> User | None:
    """Someone for whom `asker` may ask for `role`."""
    try:
        return _people(asker, role).filter(public_id=UUID(public_id)).first()
    except ValueError:
        return None


def choices(asker: User, role: Role, *, beneficiary: User | None = None) -> list[Choice]:
    """On which terms `asker` may ask for `role`, for themselves or `beneficiary`: the least demanding first.

    Terms that would refuse whatever is typed come last, however little they demand.
    """
    entitlements = _open_terms(asker, role, beneficiary)
    first = entitlements.least_demanding_first().with_terms()[:MOST_LOOKED_AT]
    found = [Choice(entitlement, role) for entitlement in first]
    refusing = _refusing(found, role, asker, beneficiary or asker) if len(found) > 1 else ()
    return sorted(found, key=lambda choice: (choice.key in refusing, choice.demands))[:MOST_CHOICES]


def choice(asker: User, role: Role, key: str, *, beneficiary: User | None = None) -> Choice | None:
    """That one of `choices`, without looking at the others and at how they compare."""
    try:
        wanted = _open_terms(asker, role, beneficiary).filter(public_id=UUID(key))
    except ValueError:
        return None
    entitlement = wanted.first()
    return Choice(entitlement, role) if entitlement else None


def steps(found: Sequence[Choice]) -> list[int]:
    """Sensible lengths in minutes up to the longest of these choices, that one and what they offer first included."""
    longest = {choice.longest_minutes for choice in found}
    most = max(longest, default=0)
    usual = {choice.usual_minutes for choice in found}
    return sorted({step for step in STEPS if step <= most} | {seconds for seconds in longest | usual if seconds > 0})


def outlook(
    choice: Choice,
    role: Role,
    *,
    asker: User,
    beneficiary: User,
    duration: timedelta,
    start: str,
    start_at: datetime | None,
    now: datetime,
) -> Outlook:
    terms = choice.terms
    begins = max(start_at or now, now)
    opens = (terms.hours and terms.hours.next_opening(begins)) or begins
    ends = policy.ends_at(opens, int(duration.total_seconds()), terms)
    return Outlook(
        choice=choice,
        verdict=workflow.may_submit(
            role,
            by=asker,
            entitlement=choice.entitlement,
            beneficiary=beneficiary,
            duration=duration,
            start=start,
            start_at=start_at,
        ),
        stages=tuple(_stages(choice, role, asking=[asker.pk, beneficiary.pk], now=now)),
        usually=_usually(role, choice.entitlement),
        scheduled=start_at is not None,
        begins=opens,
        ends=ends,
        cut_short=ends < opens + duration,
        opens=opens if opens != begins else None,
    )


def standing(asker: User, role: Role, beneficiary: User, now: datetime) -> list[AccessRequest]:
    """What the beneficiary has or has asked for of this role, the newest first; of somebody else's, what `asker` asked
    for."""
    open_ = AccessRequest.objects.open_at(now).filter(role=role, beneficiary=beneficiary)
    if asker != beneficiary:
        open_ = open_.filter(requester=asker)
    return list(open_.order_by("-asked_at")[:MOST_STANDING])


def _open_terms(asker: User, role: Role, beneficiary: User | None) -> EntitlementQuerySet:
    entitlements = Entitlement.objects.reaching(beneficiary or asker).for_role(role)
    return entitlements if beneficiary in (None, asker) else entitlements.filter(pk__in=_asking(asker))


def _refusing(found: Sequence[Choice], role: Role, asker: User, beneficiary: User) -> set[str]:
    """The keys of those that nobody could decide, that do not fit the role, or that are used up or one's own edit.

    For their order only, a few queries however many there are; `workflow.may_submit` knows exactly.
    """
    keys, outside = [choice.entitlement.pk for choice in found], {asker.pk, beneficiary.pk}
    open_ = AccessRequest.objects.open_at(clock.now()).filter(beneficiary=beneficiary, entitlement__in=keys)
    number = Counter(open_.values_list("entitlement", flat=True)[:MOST_OPEN]) if asker == beneficiary else Counter()
    edits = Edit.objects.unconfirmed().filter(editor__in=outside, entitlement__in=keys)
    edited = set(edits.values_list("entitlement", flat=True).distinct())
    left = [
        deciders.Left(
            choice.terms.stages,
            asking=outside,
            seconds=choice.terms.pending_seconds,
            entitlement=choice.entitlement.pk,
            role=role.pk,
        )
        for choice in found
    ]

    def refuses(key: int, terms: Terms, too_few: list[int]) -> bool:
        full = terms.most_at_once is not None and number[key] >= terms.most_at_once
        unfit = narrowing.problem(terms.narrowed_by, terms.narrowing_policy_arns, role.arn)
        useless = terms.channels == CONSOLE and _console_is_closed(role, terms)
        return full or key in edited or bool(unfit) or useless or bool(too_few)

    return {
        choice.key
        for choice, too_few in zip(found, deciders.lacking(left), strict=True)
        if refuses(choice.entitlement.pk, choice.terms, too_few)
    }


def _console_is_closed(role: Role, terms: Terms) -> bool:
    return policy.console_is_closed(role.account.console_authorization, terms.lifted)


def _stages(choice: Choice, role: Role, *, asking: Sequence[int], now: datetime) -> list[StageOutlook]:
    stages = choice.terms.stages
    able = deciders.clocks(
        [deciders.Question(stage, asking=asking, entitlement=choice.entitlement.pk, role=role.pk) for stage in stages]
    )
    return [
        StageOutlook(stage, people.total(), sum(number for zone, number in people.items() if _is_night(zone, now)))
        for stage, people in zip(stages, able, strict=True)
    ]


def _is_night(time_zone: str, now: datetime) -> bool:
    try:
        hour = now.astimezone(ZoneInfo(time_zone)).hour
    except (KeyError, ValueError):  # a zone that the system's table does not know
        return False
    return hour >= NIGHT[0] or hour < NIGHT[1]


def _usually(role: Role, entitlement: Entitlement) -> timedelta | None:
    """How long an approval took lately, the middle one."""
    taken = [seconds for under, seconds in _TAKEN.all(role=role.pk, most=40) if under == entitlement.pk]
    return timedelta(seconds=median(taken)) if taken else None


# Of the newest on this role, whatever they were asked for under: those are found by its index.
_TAKEN = Question(
    "options.taken",
    """
SELECT r.entitlement_id, extract(epoch FROM r.approved_at - r.asked_at)::float8
FROM requests_app_accessrequest r
WHERE r.role_id = %(role)s::bigint AND r.approved_at IS NOT NULL AND r.stage > 0
ORDER BY r.asked_at DESC LIMIT %(most)s::bigint
""",
)


def _open_to(person: User) -> RoleQuerySet:
    ways = _ways_to_be_open_to(person)
    return _usable().filter(Q(*ways, _connector=Q.OR)) if ways else _usable().none()


def _usable() -> RoleQuerySet:
    return Role.objects.filter(is_active=True, account__is_active=True).select_related("account")


def _ways_to_be_open_to(person: User) -> list[Q | Exists]:
    """How a role can be open to someone: by its name, or by a selector. One by one, each has an index."""
    # Their keys, not a question within the question: the database then knows how many roles those name. For one that
    # names none it would guess, and look for its roles among all.
    keys = dict(_TERMS_OF.all(person=person.pk))
    ways: list[Q | Exists] = []
    if naming := [entitlement for entitlement, names in keys.items() if names]:
        ways.append(Exists(EntitlementRole.objects.filter(role=OuterRef("pk"), entitlement__in=naming)))
    return ways + RoleSelector.objects.filter(entitlement__in=keys).questions()


_TERMS_OF = Question(
    "options.terms_of",
    """
SELECT c.entitlement_id, EXISTS (
    SELECT FROM requests_app_entitlementrole n WHERE n.entitlement_id = c.entitlement_id)
FROM requests_app_candidate c
WHERE c.person_id = %(person)s::bigint
""",
)


def _asking(person: User) -> QuerySet[EntitlementAsker, int]:
    """The keys of the entitlements under which this person may ask for others."""
    return EntitlementAsker.objects.filter(group__memberships__user=person).values_list("entitlement", flat=True)


def _asked_for_others(person: User, role: Role) -> list[int]:
    return [key for (key,) in _FOR_OTHERS.all(person=person.pk, role=role.pk, most=MOST_CHOICES)]


_FOR_OTHERS = Question(
    "options.for_others",
    """
SELECT DISTINCT c.entitlement_id
FROM requests_app_candidate c
    JOIN requests_app_given_role g ON g.entitlement_id = c.entitlement_id
WHERE c.person_id = %(person)s::bigint AND c.for_others AND g.role_id = %(role)s::bigint
ORDER BY c.entitlement_id LIMIT %(most)s::bigint
""",
)


def _people(asker: User, role: Role) -> QuerySet[User]:
    """Those whom the terms reach under which `asker` may ask for others."""
    reached = [_reached(key) for key in _asked_for_others(asker, role)]
    people = User.objects.filter(deactivated_at=None).exclude(pk=asker.pk)
    return people.filter(Q(*reached, _connector=Q.OR)) if reached else people.none()


def _reached(entitlement: int) -> Q:
    """Whom one entitlement reaches, as `Entitlement.objects.reaching` has it for one person; sets, each read once."""
    groups = EntitlementGroup.objects.filter(entitlement=entitlement).values_list("group", flat=True)
    users = EntitlementUser.objects.filter(entitlement=entitlement).values_list("user", flat=True)
    not_groups = ExcludedGroup.objects.filter(entitlement=entitlement).values_list("group", flat=True)
    not_users = ExcludedUser.objects.filter(entitlement=entitlement).values_list("user", flat=True)
    meant = Q(pk__in=_members(groups)) | Q(pk__in=users)
    return meant & ~Q(pk__in=_members(not_groups)) & ~Q(pk__in=not_users)


def _members(groups: Iterable[int]) -> QuerySet[Membership, int]:
    return Membership.objects.filter(group__in=groups).values_list("user", flat=True)
