"""Who may, and why not: pure functions over small facts. Every door and the worker ask these, at every moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from fnmatch import fnmatchcase

from requests_app.domain.errors import NotAllowed
from requests_app.domain.hours import Hours, at_in_words
from requests_app.domain.terms import Terms
from requests_app.domain.transitions import State

SHORTEST_SECONDS = 60
# Beyond these the minute of expiry could not be kept, so nothing is minted.
LARGEST_OFFSET_SECONDS = 30.0
OLDEST_CLOCK = timedelta(seconds=120)
# Between the worker's look at the clock and the moment AWS counts from, at most: its time-outs and a little more.
CALL_TAKES_SECONDS = 15
# What is proved by identity alone cannot be denied, so its sessions, of 900 s at least, must not outlive the pass.
IDENTITY_NEEDS_SECONDS = 900 + CALL_TAKES_SECONDS


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided and by which rule; the message is for the person."""

    allowed: bool
    rule: str
    message: str = ""

    def __bool__(self) -> bool:
        return self.allowed

    def require(self) -> "Verdict":
        if not self.allowed:
            raise NotAllowed(self.message, rule=self.rule)
        return self


EXCLUDED = Verdict(
    False,
    "entitlement.excluded",
    "These terms exclude you: by name, or with a group that you are in or took yourself out of. "
    "Choose other terms if there are some, or ask an operator, who can say why and change it.",
)
OWN_EDIT = Verdict(
    False,
    "edit.own",
    "You changed these rules yourself, and nobody uses their own change before another operator has confirmed it. "
    "Ask one.",
)
PLACED_THEM = Verdict(
    False,
    "edit.own",
    "You put somebody whom this concerns into a group that decides who may ask for it, or took them out of one. Nobody "
    "uses their own change before another operator has confirmed it. Ask one.",
)


# What an edit is about: its kind and key.
Rule = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Person:
    """`groups`: those that they are in. `zone`: whose clocks they read.

    No other operator has confirmed these: `edits`, what they changed, as `("entitlement", 7)`, and `placed`, who put
    them into which group or took them out, as `(3, 12)`.
    """

    id: int
    active: bool
    groups: frozenset[int]
    edits: frozenset[Rule] = frozenset()
    placed: frozenset[tuple[int, int]] = frozenset()
    zone: tzinfo = UTC

    def placed_by(self, *people: int) -> frozenset[int]:
        """The groups that they are in or not by the doing of one of these people."""
        return frozenset(group for editor, group in self.placed if editor in people)

    def counts_in(self, *others: int) -> frozenset[int]:
        """The groups whose member they are in favour of themselves and of these others: by none's own doing."""
        return self.groups - self.placed_by(self.id, *others)

    @property
    def all_groups(self) -> frozenset[int]:
        """With those that they left by themselves: what excludes them still does."""
        return self.groups | self.placed_by(self.id)


@dataclass(frozen=True, slots=True)
class Catalog:
    """A role as it can be used now, and what it and its account are like.

    `frozen`: why operators hold everything here; empty if they do not. `held_until`: before then nothing is minted,
    because AWS is told to refuse whatever it issued earlier. `units`: the account's, and all above it.
    `addressable`: its ARN can stand in the policies of sessions.
    """

    role: int
    usable: bool
    frozen: str = ""
    held_until: datetime | None = None
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    account: int | None = None
    units: frozenset[int] = frozenset()
    environment: str = ""
    account_tags: Mapping[str, str] = field(default_factory=dict)
    addressable: bool = True

    @property
    def rules(self) -> frozenset[Rule]:
        """The role, its account and the units above: their edits decide who may have it."""
        units = frozenset(("unit", key) for key in self.units)
        return frozenset({("role", self.role), ("account", self.account or 0)}) | units


@dataclass(frozen=True, slots=True)
class Tag:
    """`value` None is any value."""

    key: str
    value: str | None = None

    def is_one_of(self, tags: Mapping[str, str]) -> bool:
        return self.key in tags and self.value in (None, tags[self.key])


@dataclass(frozen=True, slots=True)
class Selector:
    """Roles that are like this; what is left empty is not asked.

    A unit is meant with everything below it. In a role's name `*` is any text and `?` one character, and case does
    not matter, as it does not to IAM.
    """

    account: int | None = None
    unit: int | None = None
    environment: str = ""
    account_tag: Tag | None = None
    role_name: str = ""
    role_tag: Tag | None = None

    def selects(self, catalog: Catalog) -> bool:
        asked = [
            self.account is None or self.account == catalog.account,
            self.unit is None or self.unit in catalog.units,
            not self.environment or self.environment == catalog.environment,
            self.account_tag is None or self.account_tag.is_one_of(catalog.account_tags),
            not self.role_name or fnmatchcase(catalog.name.upper(), self.role_name.upper()),
            self.role_tag is None or self.role_tag.is_one_of(catalog.tags),
        ]
        # One that says nothing would give everything.
        return all(asked) and self != Selector()


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom and what an entitlement reaches: roles by name and those like one of the selectors."""

    active: bool
    groups: frozenset[int]
    users: frozenset[int]
    roles: frozenset[int]
    approval: str
    stages_with_enough_people: tuple[bool, ...]
    # Groups whose members may ask for others.
    askers: frozenset[int] = frozenset()
    rules: frozenset[Rule] = frozenset()
    excluded_groups: frozenset[int] = frozenset()
    excluded_users: frozenset[int] = frozenset()
    selectors: tuple[Selector, ...] = ()

    @property
    def all_groups(self) -> frozenset[int]:
        """Whose membership decides who may ask by it."""
        return self.groups | self.excluded_groups | self.askers


@dataclass(frozen=True, slots=True)
class Pass:
    """What is known of one access request.

    `seconds`: how long it lasts from start to end, extensions included; `extensions`: how many were granted, and
    `extensions_in_vain`, how many were not.
    """

    state: State
    requester: int
    beneficiary: int
    stage: int
    expires_at: datetime | None
    scheduled_at: datetime | None = None
    seconds: int = 0
    extensions: int = 0
    extensions_in_vain: int = 0
    extension_pending: bool = False


@dataclass(frozen=True, slots=True)
class Deciding:
    """What is asked before someone decides on a request or on more time, as `database/deciding.sql` answers it.

    `is_asked`: by now. `is_member`: they are in a group that is asked, whether that counts or not. `asks`: names.
    """

    is_active: bool
    is_asking: bool
    state: str
    has_decided: bool
    nobody_is_asked: bool
    is_accepted: bool
    has_edited: bool
    has_placed: bool
    is_asked: bool
    stage: int
    asks: str = ""
    is_member: bool = False

    @property
    def is_deactivated(self) -> bool:
        return not self.is_active

    @property
    def is_over(self) -> bool:
        return self.state != State.PENDING

    @property
    def is_not_accepted(self) -> bool:
        return not self.is_accepted


@dataclass(frozen=True, slots=True)
class Clock:
    """AWS's clock minus ours, in seconds, and when that was measured."""

    low: float
    high: float
    measured_at: datetime


def may_request(
    person: Person,
    reach: Reach,
    catalog: Catalog,
    *,
    asked_by: Person | None = None,
    open_already: int = 0,
    most: int | None = None,
    narrowing_fits: bool = True,
) -> Verdict:
    """`person` is who would use it; `asked_by` somebody else who asks for them.

    `narrowing_fits`: AWS would take the narrowing of these terms for this role.
    """
    if not person.active:
        return Verdict(False, "person.deactivated", "Your account is deactivated. Ask an operator.")
    if asked_by is not None:
        for_others = may_ask_for_others(asked_by, reach, catalog, whom=person)
        if not for_others:
            return for_others
    if not catalog.usable:
        return Verdict(False, "role.inactive", "This role cannot be requested any more. Choose another one.")
    if not catalog.addressable:
        return Verdict(
            False,
            "role.address",
            "The path of this role has a character that cannot stand in the policies of its sessions, so nothing could "
            "be issued. Tell an operator: the role has to be made under another path.",
        )
    if catalog.frozen:
        return _is_frozen(catalog)
    if person.edits & (reach.rules | catalog.rules):
        return OWN_EDIT
    if not _reaches(reach, person, catalog):
        return Verdict(
            False,
            "entitlement.does_not_reach",
            "You may not ask for this role on these terms. Choose another one.",
        )
    if _excludes(reach, person):
        return EXCLUDED
    if not narrowing_fits:
        return Verdict(
            False,
            "narrowing.does_not_fit",
            "These terms narrow sessions in a way that AWS would not take for this role, so nothing could be issued. "
            "Choose other terms, or tell an operator: they can mend that.",
        )
    if reach.approval == "staged":
        if not reach.stages_with_enough_people:
            return Verdict(False, "stage.none", "Nobody was named to decide on this. The operators can mend that.")
        lacking = _stage_that_lacks_people(reach, "Choose other terms")
        if lacking is not None:
            return lacking
    if most is not None and not may_be_open(open_already, most):
        return may_be_open(open_already, most)
    return Verdict(True, "entitlement.reaches")


def may_be_open(open_already: int, most: int) -> Verdict:
    """Whether one more may be, of terms that allow `most` at once."""
    if open_already >= most:
        return Verdict(
            False,
            "terms.at_once",
            f"These terms allow {most} at once, and that many are open. End or withdraw one first.",
        )
    return Verdict(True, "terms.at_once")


def may_ask_for_others(person: Person, reach: Reach, catalog: Catalog, *, whom: Person | None = None) -> Verdict:
    """Whether the terms let this person ask on behalf of those whom they reach, and of `whom` among them."""
    if not person.active:
        return Verdict(False, "person.deactivated", "Your account is deactivated. Ask an operator.")
    if person.edits & (reach.rules | catalog.rules):
        return OWN_EDIT
    if whom is not None and whom.placed_by(person.id) & reach.all_groups:
        return PLACED_THEM
    if not person.counts_in(*([whom.id] if whom else [])) & reach.askers:
        return Verdict(
            False, "behalf.not_named", "These terms do not let you ask for somebody else. They can ask themselves."
        )
    return Verdict(True, "behalf.named")


def may_decide(of: Deciding) -> Verdict:
    """Whether someone may approve or deny; `deciders.facts_of_deciding` knows what it looks at."""
    for refuses, rule, message in _NOT_DECIDING:
        if getattr(of, refuses):
            return Verdict(False, rule, message.format(of=of))
    if not of.is_asked:
        unless = _UNLESS if of.is_member else ""
        return Verdict(False, "decision.not_asked", f"This is for {of.asks} to decide.{unless}")
    return Verdict(True, f"stage.{of.stage}")


# In this order: the first that is so is said.
_NOT_DECIDING = (
    ("is_deactivated", "person.deactivated", "Your account is deactivated. Ask an operator."),
    ("is_asking", "decision.own_request", "Nobody decides on a request they made or benefit from."),
    ("is_over", "decision.not_pending", "This request is no longer pending: it is {of.state}."),
    ("has_decided", "decision.once", "You have already decided on this request."),
    ("nobody_is_asked", "decision.nobody_asked", "Nobody was asked to decide on this request."),
    ("is_not_accepted", "decision.not_accepted", "The person this is for has not accepted it yet."),
    ("has_edited", OWN_EDIT.rule, OWN_EDIT.message),
    ("has_placed", PLACED_THEM.rule, PLACED_THEM.message),
)
_UNLESS = " That you are among them was changed by you or the asking side, and another operator must confirm it."


def may_start(of: Pass, terms: Terms, *, now: datetime, zone: tzinfo = UTC) -> Verdict:
    """Whether the clock of an approved request may start now. `zone`: of whoever reads why not."""
    if of.scheduled_at is not None and of.scheduled_at > now:
        begins = at_in_words(of.scheduled_at, zone)
        return Verdict(False, "start.scheduled", f"This begins at {begins} and starts by itself.")
    if terms.hours is not None and not leaves_time(terms.hours, now):
        opens = terms.hours.next_opening(terms.hours.closes(now) or now)
        when = "Tell an operator: that is never."
        if opens:
            when = f"It can be started from {at_in_words(opens, zone)} on."
        return Verdict(False, "start.hours", f"These terms hold {terms.hours.in_words()}. {when}")
    return Verdict(True, "start.now")


def leaves_time(hours: Hours, now: datetime) -> bool:
    """Whether a pass that starts now has its shortest time before these hours close."""
    closes = hours.closes(now)
    return closes is not None and closes - now >= timedelta(seconds=SHORTEST_SECONDS)


def ends_at(begun_at: datetime, seconds: int, terms: Terms) -> datetime:
    """When a pass that begins then is over: after its time, or when the hours of its terms are."""
    end = begun_at + timedelta(seconds=seconds)
    closes = terms.hours.closes(begun_at) if terms.hours else None
    return min(end, closes) if closes else end


def may_extend(
    person: Person,
    of: Pass,
    reach: Reach,
    catalog: Catalog,
    terms: Terms,
    *,
    seconds: int,
    now: datetime,
    most_in_vain: int = 10,
) -> Verdict:
    """Whether the beneficiary may ask for so much longer. The decision is a fresh one, under the same terms.

    `reach` counts who could decide by these terms, where somebody decides. `most_in_vain`: so often it may be asked
    for and not be granted, for each time people are written to.
    """
    if person.id != of.beneficiary:
        return Verdict(False, "extend.not_yours", "Only the person a pass is for can ask for more time.")
    if of.state != State.ACTIVE or of.expires_at is None or of.expires_at <= now:
        return Verdict(False, "extend.not_active", "This pass is not active. Ask again if you still need access.")
    may_hold = may_hold_on(person, reach, catalog)
    if not may_hold:
        return may_hold
    if not terms.may_be_extended:
        return Verdict(False, "extend.terms", "These terms know no extension. Ask again when the pass has ended.")
    if of.extension_pending:
        return Verdict(False, "extend.pending", "More time was asked for already and waits for a decision.")
    if of.extensions >= terms.extensions_most:
        return Verdict(False, "extend.often", f"It was extended {of.extensions} times, as often as the terms allow.")
    if of.extensions_in_vain >= most_in_vain:
        return Verdict(
            False,
            "extend.in_vain",
            f"More time was asked for {of.extensions_in_vain} times and not granted. Ask again when it has ended.",
        )
    left = terms.extension_total_seconds - of.seconds
    if seconds > left:
        words = f"at most {left // 60} min more" if left >= SHORTEST_SECONDS else "no more time"
        return Verdict(False, "extend.total", f"The terms allow this pass {words}.")
    if seconds < SHORTEST_SECONDS:
        return Verdict(False, "extend.short", "Ask for at least 1 minute more.")
    if terms.hours and of.expires_at + timedelta(seconds=seconds) > (terms.hours.closes(now) or now):
        return Verdict(False, "extend.hours", f"The terms hold {terms.hours.in_words()}, and it would end later.")
    lacking = _stage_that_lacks_people(reach, "Ask again under other terms")
    return Verdict(True, "extend.terms") if lacking is None else lacking


def last_start(approved_at: datetime, scheduled_at: datetime | None, terms: Terms) -> datetime:
    """When an approved request lapses if nobody has started it: so long after it could begin at the earliest.

    Where too little is left of the hours of its terms for any pass, that is when they open again.
    """
    begins = max(approved_at, scheduled_at or approved_at)
    if terms.hours is not None:
        begins = terms.hours.next_opening(begins) or begins
        if not leaves_time(terms.hours, begins):
            begins = terms.hours.next_opening(terms.hours.closes(begins) or begins) or begins
    return begins + timedelta(seconds=terms.start_within_seconds)


def may_use(terms: Terms, channel: str) -> Verdict:
    """`channel`: `console` or `keys`."""
    if not terms.allows(channel):
        other = "the console" if channel == "keys" else "keys"
        return Verdict(False, "terms.channel", f"These terms give {other} only.")
    return Verdict(True, "terms.channel")


def may_mint(
    person: Person,
    of: Pass,
    reach: Reach,
    catalog: Catalog,
    clock: Clock | None,
    *,
    now: datetime,
    identity_is_access: bool,
    hours: Hours | None = None,
) -> Verdict:
    """Asked when credentials are asked for, before AWS is called, before they are recorded and before sealing.

    `hours`: those of the terms, where they keep some.
    """
    if person.id != of.beneficiary:
        return Verdict(False, "mint.not_beneficiary", "Only the person a pass is for can use it.")
    if of.state != State.ACTIVE or of.expires_at is None or of.expires_at <= now:
        return Verdict(False, "mint.not_active", "This pass is not active. Ask again if you still need access.")
    may_hold = may_hold_on(person, reach, catalog)
    if not may_hold:
        return may_hold
    # Whoever started or extended it saw to this; the database does not.
    if hours is not None and not now < of.expires_at <= (hours.closes(now) or now):
        return Verdict(
            False,
            "mint.hours",
            f"These terms hold {hours.in_words()}, and this pass does not end with them. Ask again.",
        )
    left = (of.expires_at - now).total_seconds()
    if identity_is_access and left < IDENTITY_NEEDS_SECONDS:
        return Verdict(
            False,
            "mint.identity_is_access",
            "Sessions of this role last at least 15 minutes and cannot be cut off, and less is left of this pass. "
            "Ask again if you still need it.",
        )
    if catalog.held_until is not None and catalog.held_until > now:
        return Verdict(
            False,
            "mint.held",
            "So many passes of this role were ended at once that AWS is told to refuse everything it issued before "
            f"{at_in_words(catalog.held_until, person.zone, seconds=True)}. Your pass goes on: get new credentials "
            "after that.",
        )
    return clock_is_known(clock, now=now)


def may_hold_on(person: Person, reach: Reach, catalog: Catalog) -> Verdict:
    """Whether someone whose request was approved may still use it: losing the group ends minting at once."""
    if not person.active:
        return Verdict(False, "person.deactivated", "Your account is deactivated. Ask an operator.")
    if not catalog.usable:
        return Verdict(False, "role.inactive", "This role was taken out of use. Ask an operator.")
    if catalog.frozen:
        return _is_frozen(catalog)
    if person.edits & (reach.rules | catalog.rules):
        return OWN_EDIT
    if not _reaches(reach, person, catalog):
        return Verdict(
            False,
            "entitlement.does_not_reach",
            "What allowed you this role no longer does, so there are no new credentials. "
            "Ask an operator, or ask again.",
        )
    if _excludes(reach, person):
        return EXCLUDED
    return Verdict(True, "entitlement.reaches")


def clock_is_known(clock: Clock | None, *, now: datetime) -> Verdict:
    if clock is None or abs(now - clock.measured_at) > OLDEST_CLOCK:
        return Verdict(
            False,
            "clock.unknown",
            "Daypass does not know AWS's clock at the moment and will not guess when your pass would end. "
            "Try again in a minute; if it stays, an operator should look at the aws worker.",
        )
    # Written so that a reading that is no number is refused too.
    if not -LARGEST_OFFSET_SECONDS <= clock.low <= clock.high <= LARGEST_OFFSET_SECONDS:
        return Verdict(
            False,
            "clock.apart",
            "Daypass's clock and AWS's are more than 30 s apart, so nothing is issued. An operator must set the time.",
        )
    return Verdict(True, "clock.known")


def _is_frozen(catalog: Catalog) -> Verdict:
    return Verdict(
        False,
        "freeze",
        f"Operators have frozen this: {catalog.frozen.rstrip('.')}. Until they lift it nothing can be asked for, "
        "approved, started or issued here. Ending always works.",
    )


def _stage_that_lacks_people(reach: Reach, instead: str) -> Verdict | None:
    for position, enough in enumerate(reach.stages_with_enough_people, start=1):
        if not enough:
            return Verdict(
                False,
                "stage.nobody_can",
                f"Too few people could decide stage {position} of this. {instead}, "
                "or tell an operator: they can name more approvers.",
            )
    return None


def _reaches(reach: Reach, person: Person, catalog: Catalog) -> bool:
    """Exclusions apart."""
    named = person.id in reach.users or bool(person.counts_in() & reach.groups)
    return reach.active and named and _gives(reach, catalog)


def _excludes(reach: Reach, person: Person) -> bool:
    # Whoever left a group by their own hand is still excluded with it.
    return person.id in reach.excluded_users or bool(person.all_groups & reach.excluded_groups)


def _gives(reach: Reach, catalog: Catalog) -> bool:
    return catalog.role in reach.roles or any(selector.selects(catalog) for selector in reach.selectors)
