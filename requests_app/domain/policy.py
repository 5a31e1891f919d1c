"""Who may, and why not: ordered tables of what refuses, asked of facts. Every door and the worker ask these, at every
moment.

The facts come from the database by name (`facts`), which knows whom terms reach and what they give. What PostgreSQL
has in other words is said here: the hours of terms, which AWS addresses there are.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Generic, Protocol, TypeVar

from requests_app.domain import arns
from requests_app.domain.durations import at_in_words
from requests_app.domain.errors import NotAllowed
from requests_app.domain.hours import Hours, zone_or_utc
from requests_app.domain.liftable import Liftable
from requests_app.domain.terms import BOTH, CONSOLE, KEYS, STAGED, Terms
from requests_app.domain.transitions import State

SHORTEST_SECONDS = 60
# Beyond these the minute of expiry could not be kept, so nothing is minted.
LARGEST_OFFSET_SECONDS = 30.0
OLDEST_CLOCK = timedelta(seconds=120)
# Between the worker's look at the clock and the moment AWS counts from, at most: its time-outs and a little more.
CALL_TAKES_SECONDS = 15
# All that is asked of STS for one delivery: a session, the keys scoped from it, perhaps once more, or a session in
# the older way. Together they have the patience of two calls.
MINT_TAKES_SECONDS = 2 * CALL_TAKES_SECONDS
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


Known = TypeVar("Known", contravariant=True)


@dataclass(frozen=True, slots=True)
class Line(Generic[Known]):
    """Where this is so, it is refused by this rule. The sentence is for the person, and may name what it is about."""

    refuses: Callable[[Known], bool]
    rule: str
    sentence: str | Callable[[Known], str]


Table = tuple[Line[Known], ...]


def verdict(table: Table[Known], known: Known, otherwise: str) -> Verdict:
    """What the first line says that refuses; without one it is allowed, by the rule `otherwise`."""
    for line in table:
        if line.refuses(known):
            sentence = line.sentence if isinstance(line.sentence, str) else line.sentence(known)
            return Verdict(False, line.rule, sentence)
    return Verdict(True, otherwise)


@dataclass(frozen=True, slots=True)
class Pass:
    """What is known of one access request."""

    state: State
    requester: int
    beneficiary: int
    stage: int
    expires_at: datetime | None
    scheduled_at: datetime | None = None


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
    is_same_hand: bool
    is_asked: bool
    stage: int
    asks: str = ""
    is_member: bool = False


@dataclass(frozen=True, slots=True)
class Clock:
    """AWS's clock minus ours, in seconds, and when that was measured."""

    low: float
    high: float
    measured_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """How a person stands to a role under an entitlement, as the database has it: `requests_app_standing`.

    `frozen_because`: what the operators said who hold everything there. `has_own_edit`: the person themselves changed
    the entitlement, the role or what the role belongs to, and no other operator has confirmed that.
    """

    person_is_active: bool
    role_is_usable: bool
    frozen_because: str | None
    has_own_edit: bool
    terms_are_active: bool
    gives_role: bool
    names_person: bool
    excludes_person: bool

    @property
    def reaches(self) -> bool:
        """Exclusions apart."""
        return self.terms_are_active and self.names_person and self.gives_role


@dataclass(frozen=True, slots=True)
class Asking(Standing):
    """`asker_…`: of somebody else who asks for them; where nobody else does, nothing in these refuses.

    `open_already` of at most `most`; `narrowing_fits`: AWS would take the narrowing of these terms for this role.
    `console_is_closed`: what they give for a console could not be used.
    """

    role_arn: str
    approval: str
    asker_is_active: bool
    asker_has_own_edit: bool
    asker_placed_person: bool
    asker_is_named: bool
    stages_with_enough_people: tuple[bool, ...] = ()
    narrowing_fits: bool = True
    channels: str = BOTH
    console_is_closed: bool = False
    open_already: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Holding(Standing):
    """A pass and whoever wants something of it now. `now`: the database's clock, read when this was."""

    is_beneficiary: bool
    state: str
    expires_at: datetime | None
    now: datetime

    @property
    def is_over(self) -> bool:
        return self.state != State.ACTIVE or self.expires_at is None or self.expires_at <= self.now

    @property
    def seconds_left(self) -> float:
        return (self.expires_at - self.now).total_seconds() if self.expires_at else 0.0


@dataclass(frozen=True, slots=True)
class Minting(Holding):
    """`held_until`: before then nothing is minted, because AWS is told to refuse whatever it issued earlier.
    `time_zone`: the beneficiary's. `clock_…`: what was last read of AWS's. `hours_document`: of the terms, where they
    keep hours; `channels` is what they give. `console`: a link is wanted, not keys. `scoping`, `scoped_console`: what a
    preflight saw of GetScopedCredentials on the role, and of the partition's console with such keys.
    `ends_by_sts_only`: the terms want nothing else. `console_authorization`: of the account, as a preflight read it;
    `lifted`: by the terms.
    """

    identity_is_access: bool
    held_until: datetime | None
    time_zone: str
    clock_low: float | None
    clock_high: float | None
    clock_measured_at: datetime | None
    hours_document: dict[str, Any] | None
    channels: str
    console: bool
    scoping: str
    scoped_console: bool | None
    ends_by_sts_only: bool
    console_authorization: str
    lifted: Sequence[str]

    @property
    def console_is_closed(self) -> bool:
        return console_is_closed(self.console_authorization, self.lifted)

    @property
    def zone(self) -> tzinfo:
        return zone_or_utc(self.time_zone)

    @property
    def may_be_scoped(self) -> bool:
        """STS may itself end what is minted: nobody knows otherwise. The console only where it was seen to."""
        return self.scoping != "refused" and (not self.console or self.will_be_scoped)

    @property
    def will_be_scoped(self) -> bool:
        """STS was seen to."""
        return self.scoping == "works" and (not self.console or bool(self.scoped_console))

    @property
    def policy_would_do(self) -> bool:
        """A session that only its policy ends would end with the pass."""
        return not (self.identity_is_access and self.seconds_left < IDENTITY_NEEDS_SECONDS)

    @property
    def may_end_by_policy(self) -> bool:
        return self.policy_would_do and not self.ends_by_sts_only

    @property
    def clock(self) -> Clock | None:
        if self.clock_low is None or self.clock_high is None or self.clock_measured_at is None:
            return None
        return Clock(self.clock_low, self.clock_high, self.clock_measured_at)

    @property
    def hours(self) -> Hours | None:
        return Hours.from_document(self.hours_document) if self.hours_document else None


@dataclass(frozen=True, slots=True)
class Extended(Holding):
    """`lasts`: seconds from start to end, extensions included; `granted` is how many were, and `in_vain` how many were
    not.
    """

    lasts: int
    granted: int
    in_vain: int
    is_pending: bool


@dataclass(frozen=True, slots=True)
class MoreTime(Extended):
    """`wanted`: so many seconds more, where at most `most_in_vain` may come to nothing."""

    terms: Terms
    wanted: int
    most_in_vain: int
    stages_with_enough_people: tuple[bool, ...]

    @property
    def left(self) -> int:
        return self.terms.extension_total_seconds - self.lasts


def may_request(asking: Asking) -> Verdict:
    return verdict(MAY_REQUEST, asking, "entitlement.reaches")


def may_ask_for_others(asking: Asking) -> Verdict:
    """Whether the terms let whoever asks do so on behalf of this person."""
    return verdict(MAY_ASK_FOR_OTHERS, asking, "behalf.named")


def still_entitled(standing: Standing) -> Verdict:
    """Whether someone whose request was approved may still use it: losing the group ends minting at once."""
    return verdict(STILL_ENTITLED, standing, "entitlement.reaches")


def console_is_closed(console_authorization: str, lifted: Collection[str]) -> bool:
    """Whether AWS asks each sign-in to an account's console for what sessions are denied, and these terms do not lift.

    The same actions give `aws login` what outlives a pass: so the deny is never lifted for the console's sake. Where
    nobody knows what AWS asks, the console is given.
    """
    return console_authorization == "on" and Liftable.SIGN_IN_TOKENS not in lifted


def may_use(channels: str, channel: str, *, console_is_closed: bool) -> Verdict:
    """Whether terms that give `channels` give this one, `console` or `keys`, in an account whose console is closed to
    them or is not.
    """
    if channels not in (BOTH, channel):
        other = "the console" if channel == KEYS else "keys"
        return Verdict(False, "terms.channel", f"These terms give {other} only.")
    if channel == CONSOLE and console_is_closed:
        return Verdict(False, "console.authorization", CONSOLE_IS_CLOSED)
    return Verdict(True, "terms.channel")


def may_mint(minting: Minting) -> Verdict:
    """Asked when credentials are asked for, before AWS is called, before they are recorded and before sealing."""
    return verdict(MAY_MINT, minting, "clock.known")


def may_extend(more: MoreTime) -> Verdict:
    """Whether the beneficiary may ask for so much longer. The decision is a fresh one, under the same terms."""
    return verdict(MAY_EXTEND, more, "extend.terms")


def clock_is_known(clock: Clock | None, *, now: datetime) -> Verdict:
    return verdict(CLOCK_IS_KNOWN, _Reading(clock, now), "clock.known")


def may_be_open(open_already: int, most: int) -> Verdict:
    """Whether one more may be, of terms that allow `most` at once."""
    if open_already >= most:
        return Verdict(
            False,
            "terms.at_once",
            f"These terms allow {most} at once, and that many are open. End or withdraw one first.",
        )
    return Verdict(True, "terms.at_once")


def may_decide(of: Deciding) -> Verdict:
    """Whether someone may approve or deny; `deciders.facts_of_deciding` knows what it looks at."""
    return verdict(MAY_DECIDE, of, f"stage.{of.stage}")


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


# --- what refuses, in this order ---------------------------------------------------------------------


class _ReadsClock(Protocol):
    @property
    def clock(self) -> Clock | None: ...

    @property
    def now(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class _Reading:
    clock: Clock | None
    now: datetime


def _frozen(it: Standing) -> str:
    return (
        f"Operators have frozen this: {(it.frozen_because or '').rstrip('.')}. Until they lift it nothing can be asked "
        "for, approved, started or issued here. Ending always works."
    )


def _is_outside(it: Minting) -> bool:
    """Whoever started or extended it saw to this; the database does not."""
    if it.hours is None or it.expires_at is None:
        return False
    return not it.now < it.expires_at <= (it.hours.closes(it.now) or it.now)


def _in_words(hours: Hours | None) -> str:
    return hours.in_words() if hours else "at any time"


def _held(it: Minting) -> str:
    until = at_in_words(it.held_until or it.now, it.zone, seconds=True)
    return (
        "So many passes of this role were ended at once that AWS is told to refuse everything it issued before "
        f"{until}. Your pass goes on: get new credentials after that."
    )


def _lacking(stages: Sequence[bool], instead: str) -> str:
    return (
        f"Too few people could decide stage {stages.index(False) + 1} of this. {instead}, "
        "or tell an operator: they can name more approvers."
    )


def _more_at_most(it: MoreTime) -> str:
    words = f"at most {it.left // 60} min more" if it.left >= SHORTEST_SECONDS else "no more time"
    return f"The terms allow this pass {words}."


def _outlasts_hours(it: MoreTime) -> bool:
    if it.terms.hours is None or it.expires_at is None:
        return False
    return it.expires_at + timedelta(seconds=it.wanted) > (it.terms.hours.closes(it.now) or it.now)


DEACTIVATED = "Your account is deactivated. Ask an operator."
OWN_EDIT = (
    "You changed these rules yourself, and nobody uses their own change before another operator has confirmed it. "
    "Ask one."
)
PLACED_THEM = (
    "You put somebody whom this concerns into a group that decides who may ask for it, or took them out of one. Nobody "
    "uses their own change before another operator has confirmed it. Ask one."
)
SAME_HAND = (
    "One of you made the other's account, or changed how they sign in or what they may do, perhaps through others. "
    "Neither decides for the other before a third, an operator, has confirmed that. Ask one."
)
ONE_HAND = (
    "Somebody has agreed to this already who made your account, or whose you made, or one of you changed how the other "
    "signs in or what they may do, perhaps through others. You two count once before a third, an operator, has "
    "confirmed that. Ask one, or let somebody else agree."
)
CONSOLE_IS_CLOSED = (
    "There is no console here: AWS's console authorization is on in this account, so AWS asks whoever signs in to its "
    "console for what these terms deny, because it would outlive the pass. Tell an operator if you need the console."
)
NOT_ACTIVE = "This pass is not active. Ask again if you still need access."
# The rule of whoever would be let in if the terms did not exclude them.
EXCLUDED = "entitlement.excluded"

_FROZEN: Line[Standing] = Line(lambda it: it.frozen_because is not None, "freeze", _frozen)
_OWN_EDIT: Line[Standing] = Line(lambda it: it.has_own_edit, "edit.own", OWN_EDIT)
_EXCLUDED: Line[Standing] = Line(
    lambda it: it.excludes_person,
    EXCLUDED,
    "These terms exclude you: by name, or with a group that you are in or took yourself out of. "
    "Choose other terms if there are some, or ask an operator, who can say why and change it.",
)

STILL_ENTITLED: Table[Standing] = (
    Line(lambda it: not it.person_is_active, "person.deactivated", DEACTIVATED),
    Line(lambda it: not it.role_is_usable, "role.inactive", "This role was taken out of use. Ask an operator."),
    _FROZEN,
    _OWN_EDIT,
    Line(
        lambda it: not it.reaches,
        "entitlement.does_not_reach",
        "What allowed you this role no longer does, so there are no new credentials. Ask an operator, or ask again.",
    ),
    _EXCLUDED,
)

MAY_ASK_FOR_OTHERS: Table[Asking] = (
    Line(lambda it: not it.asker_is_active, "person.deactivated", DEACTIVATED),
    Line(lambda it: it.asker_has_own_edit, "edit.own", OWN_EDIT),
    Line(lambda it: it.asker_placed_person, "edit.own", PLACED_THEM),
    Line(
        lambda it: not it.asker_is_named,
        "behalf.not_named",
        "These terms do not let you ask for somebody else. They can ask themselves.",
    ),
)

MAY_DECIDE: Table[Deciding] = (
    Line(lambda it: not it.is_active, "person.deactivated", DEACTIVATED),
    Line(lambda it: it.is_asking, "decision.own_request", "Nobody decides on a request they made or benefit from."),
    Line(
        lambda it: it.state != State.PENDING,
        "decision.not_pending",
        lambda it: f"This request is no longer pending: it is {it.state}.",
    ),
    Line(lambda it: it.has_decided, "decision.once", "You have already decided on this request."),
    Line(lambda it: it.nobody_is_asked, "decision.nobody_asked", "Nobody was asked to decide on this request."),
    Line(
        lambda it: not it.is_accepted,
        "decision.not_accepted",
        "The person this is for has not accepted it yet.",
    ),
    Line(lambda it: it.has_edited, "edit.own", OWN_EDIT),
    Line(lambda it: it.has_placed, "edit.own", PLACED_THEM),
    Line(lambda it: it.is_same_hand, "person.same_hand", SAME_HAND),
    Line(
        lambda it: not it.is_asked,
        "decision.not_asked",
        lambda it: f"This is for {it.asks} to decide.{_UNLESS if it.is_member else ''}",
    ),
)
_UNLESS = " That you are among them was changed by you or the asking side, and another operator must confirm it."

MAY_REQUEST: Table[Asking] = (
    Line(lambda it: not it.person_is_active, "person.deactivated", DEACTIVATED),
    *MAY_ASK_FOR_OTHERS,
    Line(
        lambda it: not it.role_is_usable,
        "role.inactive",
        "This role cannot be requested any more. Choose another one.",
    ),
    Line(
        lambda it: not arns.ROLE_ARN.fullmatch(it.role_arn),
        "role.address",
        "The path of this role has a character that cannot stand in the policies of its sessions, so nothing could "
        "be issued. Tell an operator: the role has to be made under another path.",
    ),
    _FROZEN,
    _OWN_EDIT,
    Line(
        lambda it: not it.reaches,
        "entitlement.does_not_reach",
        "You may not ask for this role on these terms. Choose another one.",
    ),
    _EXCLUDED,
    Line(
        lambda it: not it.narrowing_fits,
        "narrowing.does_not_fit",
        "These terms narrow sessions in a way that AWS would not take for this role, so nothing could be issued. "
        "Choose other terms, or tell an operator: they can mend that.",
    ),
    Line(
        lambda it: it.channels == CONSOLE and it.console_is_closed,
        "console.authorization",
        f"These terms give the console only. {CONSOLE_IS_CLOSED}",
    ),
    Line(
        lambda it: it.approval == STAGED and not it.stages_with_enough_people,
        "stage.none",
        "Nobody was named to decide on this. The operators can mend that.",
    ),
    Line(
        lambda it: it.approval == STAGED and not all(it.stages_with_enough_people),
        "stage.nobody_can",
        lambda it: _lacking(it.stages_with_enough_people, "Choose other terms"),
    ),
    Line(
        lambda it: it.most is not None and not may_be_open(it.open_already, it.most),
        "terms.at_once",
        lambda it: may_be_open(it.open_already, it.most or 0).message,
    ),
)

CLOCK_IS_KNOWN: Table[_ReadsClock] = (
    Line(
        lambda it: it.clock is None or abs(it.now - it.clock.measured_at) > OLDEST_CLOCK,
        "clock.unknown",
        "Daypass does not know AWS's clock at the moment and will not guess when your pass would end. "
        "Try again in a minute; if it stays, an operator should look at the aws worker.",
    ),
    # Written so that a reading that is no number is refused too.
    Line(
        lambda it: (
            not (it.clock and -LARGEST_OFFSET_SECONDS <= it.clock.low <= it.clock.high <= LARGEST_OFFSET_SECONDS)
        ),
        "clock.apart",
        "Daypass's clock and AWS's are more than 30 s apart, so nothing is issued. An operator must set the time.",
    ),
)

MAY_MINT: Table[Minting] = (
    Line(lambda it: not it.is_beneficiary, "mint.not_beneficiary", "Only the person a pass is for can use it."),
    Line(lambda it: it.is_over, "mint.not_active", NOT_ACTIVE),
    *STILL_ENTITLED,
    Line(
        _is_outside,
        "mint.hours",
        lambda it: f"These terms hold {_in_words(it.hours)}, and this pass does not end with them. Ask again.",
    ),
    Line(
        lambda it: not (it.policy_would_do or it.will_be_scoped),
        "mint.identity_is_access",
        "Sessions of this role last at least 15 minutes and cannot be cut off, and less is left of this pass. "
        "Ask again if you still need it.",
    ),
    Line(
        lambda it: it.ends_by_sts_only and not it.may_be_scoped,
        "mint.ends_by_sts_only",
        "These terms give only what AWS itself ends at the second, and AWS was seen to refuse that here. "
        "Tell the operators.",
    ),
    Line(lambda it: it.held_until is not None and it.held_until > it.now, "mint.held", _held),
    *CLOCK_IS_KNOWN,
)

MAY_EXTEND: Table[MoreTime] = (
    Line(lambda it: not it.is_beneficiary, "extend.not_yours", "Only the person a pass is for can ask for more time."),
    Line(lambda it: it.is_over, "extend.not_active", NOT_ACTIVE),
    *STILL_ENTITLED,
    Line(
        lambda it: not it.terms.may_be_extended,
        "extend.terms",
        "These terms know no extension. Ask again when the pass has ended.",
    ),
    Line(lambda it: it.is_pending, "extend.pending", "More time was asked for already and waits for a decision."),
    Line(
        lambda it: it.granted >= it.terms.extensions_most,
        "extend.often",
        lambda it: f"It was extended {it.granted} times, as often as the terms allow.",
    ),
    # For each time people are written to.
    Line(
        lambda it: it.in_vain >= it.most_in_vain,
        "extend.in_vain",
        lambda it: f"More time was asked for {it.in_vain} times and not granted. Ask again when it has ended.",
    ),
    Line(lambda it: it.wanted > it.left, "extend.total", _more_at_most),
    Line(lambda it: it.wanted < SHORTEST_SECONDS, "extend.short", "Ask for at least 1 minute more."),
    Line(
        _outlasts_hours,
        "extend.hours",
        lambda it: f"The terms hold {_in_words(it.terms.hours)}, and it would end later.",
    ),
    Line(
        lambda it: not all(it.stages_with_enough_people),
        "stage.nobody_can",
        lambda it: _lacking(it.stages_with_enough_people, "Ask again under other terms"),
    ),
)
