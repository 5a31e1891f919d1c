"""What works and what does not on one role, found out before somebody needs it at night.

Half of it only the minter can see, the other half only the revoker. Nothing is changed, and nobody is given
a session. Each finding keeps AWS's own code and words.
"""

import enum
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import unquote

from requests_app.aws import console, deny_policy, iam, probe, scoping, sign_ins, sts
from requests_app.aws.errors import AwsError, Refused, Unavailable
from requests_app.aws.iam import Place
from requests_app.aws.probe import End, Issued, Reply
from requests_app.aws.session_policy import MIN_SESSION_SECONDS, layers
from requests_app.aws.sts import MintedSession, MintOrder
from requests_app.domain import arns, narrowing


class Check(enum.StrEnum):
    TRUST = "trust"
    EXTERNAL_ID = "external id"
    SOURCE_IDENTITY = "source identity"
    LONGEST_SESSION = "longest session"
    PROOF = "proof"
    REVOKER = "revoker"
    ROOM = "room"
    OTHER_DOORS = "other doors"
    ENDS_BY_STS = "ends by STS"
    SESSION_TOKEN = "session token"  # noqa: S105
    CONSOLE_AUTHORIZATION = "console authorization"


class Outcome(enum.StrEnum):
    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of one role. `code` and `words` are mostly AWS's own; `advice` says who can do what about it."""

    check: Check
    verdict: Outcome
    code: str = ""
    words: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Door:
    """Somebody else whom the role's trust policy lets in. `condition` is what it asks of them, as compact JSON."""

    principal: str
    actions: tuple[str, ...]
    condition: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """What one of the two preflights found. A check that it cannot make, or did not come to, is not in it.

    `harmless_action` is the one of `probe.HARMLESS` that proves an early end on this role. `denies`: our deny policy
    stands there. `scoping`: whether AWS gives keys that it ends itself; `scoped_console`: whether the console's sign-in
    took such keys. `console_authorization`: the account has it switched on. None where that is not known.
    """

    findings: tuple[Finding, ...]
    role_id: str = ""
    longest_session: int | None = None
    harmless_action: str = ""
    doors: tuple[Door, ...] = ()
    room: int | None = None
    denies: bool = False
    scoping: bool | None = None
    scoped_console: bool | None = None
    console_authorization: bool | None = None

    def verdict(self, check: Check) -> Outcome | None:
        return next((finding.verdict for finding in self.findings if finding.check is check), None)


@dataclass(frozen=True, slots=True)
class Subject:
    """A role as the catalog has it. `chained`: whether our own identity is a role session. `federation_url`: where the
    console's sign-in is to be tried; empty where it need not be.
    """

    role_arn: str
    region: str
    installation: str
    longest_session: int
    chained: bool
    external_id: str | None = None
    federation_url: str = ""


def as_minter(
    subject: Subject, now: Callable[[], datetime], record: Callable[[Issued], None] = lambda issued: None
) -> Findings:
    """What the minter finds, by at most seven calls of STS. Raises no AwsError.

    The sessions made may do nothing, but for the last two, which may call `probe.HARMLESS` for two minutes.
    `now` is AWS's time as well as we know it; `record` gets each session as it is made.
    """
    if not arns.ROLE_ARN.fullmatch(subject.role_arn):
        return Findings((_unaddressable(subject.role_arn),))
    return _Minter(subject, now, record).look()


def as_revoker(place: Place, *, longest_session: int, minter_arn: str) -> Findings:
    """What the revoker reads about the role. Raises no AwsError.

    Whether it may also write is not tried. `minter_arn` is our own way in, as a role, a user or a session
    (`ClockReading.identity_arn`); everyone else in the trust policy is another door.
    """
    try:
        answer = iam.ask(place, "get_role")["Role"]
        role = sts.attempt(lambda: _role(answer))
        standing = deny_policy.read(place)
    except AwsError as error:
        return Findings((_failed(Check.REVOKER, error),))
    doors = tuple(other_doors(role.trust_policy, minter_arn))
    asks_for_more, of_console = _console_authorization(place)
    return Findings(
        findings=(
            _good(Check.REVOKER) if role.arn == place.role_arn else _elsewhere(role.arn),
            _longest_session(role.longest_session, longest_session),
            _room(standing.room),
            _other_doors(doors),
            of_console,
        ),
        role_id=role.id,
        longest_session=role.longest_session,
        doors=doors,
        room=standing.room,
        denies=standing.document is not None,
        console_authorization=asks_for_more,
    )


def other_doors(trust_policy: Any, minter_arn: str) -> Iterator[Door]:
    """Everyone but the minter whom a role's trust policy lets in, under whatever condition."""
    for statement in _listed(trust_policy.get("Statement") if isinstance(trust_policy, dict) else None):
        actions = _ways_in(statement)
        for principal in _principals(statement) if actions else ():
            if not _is_minter(principal, statement.get("Condition"), minter_arn):
                condition = statement.get("Condition")
                yield Door(principal, actions, narrowing.compact(condition) if condition else "")


# The letters I and L are in no request's code.
_NAME = "DP-PREFLIGHT-"
# Nobody's: a person's has none of these letters, and trust policies may well ask for the beginning.
_SOURCE_IDENTITY = "person-preflight"
_NOTHING = narrowing.compact(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
)
_LITTLE_ROOM = 1_024  # about fifty denies


class _Minter:
    """One preflight; its findings grow as it goes."""

    def __init__(self, subject: Subject, now: Callable[[], datetime], record: Callable[[Issued], None]) -> None:
        self._subject = subject
        self._now = now
        self._record = record
        self._source_identity: str | None = _SOURCE_IDENTITY
        self._findings: list[Finding] = []
        self._scoping: bool | None = None
        self._scoped_console: bool | None = None

    def look(self) -> Findings:
        nothing = self._enter()
        if nothing is None:
            return Findings(tuple(self._findings))
        self._try_without_external_id()
        action = self._find_harmless_action(nothing)
        return Findings(
            tuple(self._findings),
            role_id=nothing.assumed_role_id.partition(":")[0],
            harmless_action=action,
            scoping=self._scoping,
            scoped_console=self._scoped_console,
        )

    def _enter(self) -> MintedSession | None:
        """A session that may do nothing: whatever the trust policy refuses is found out on the way."""
        # A chained session has an hour at most, which every role allows.
        chained = self._subject.chained
        entered = self._assume(MIN_SESSION_SECONDS if chained else self._subject.longest_session)
        if isinstance(entered, Refused) and entered.code == "ValidationError":
            self._add(_failed(Check.LONGEST_SESSION, entered))
            entered = self._assume(MIN_SESSION_SECONDS)
        elif isinstance(entered, MintedSession) and not chained:
            self._add(_good(Check.LONGEST_SESSION))
        if isinstance(entered, Refused):
            return self._enter_unnamed(entered)
        return self._entered(entered, _good(Check.SOURCE_IDENTITY))

    def _enter_unnamed(self, named: Refused) -> MintedSession | None:
        """Again, without naming a person: AWS's first refusal may have been about that alone."""
        self._source_identity = None
        return self._entered(self._assume(MIN_SESSION_SECONDS), _failed(Check.SOURCE_IDENTITY, named))

    def _entered(self, entered: MintedSession | AwsError, source_identity: Finding) -> MintedSession | None:
        if isinstance(entered, AwsError):
            self._add(_failed(Check.TRUST, entered))
            return None
        self._add(_good(Check.TRUST), source_identity)
        return entered

    def _try_without_external_id(self) -> None:
        if not self._subject.external_id:
            self._add(_open("The catalog has no external id for this account."))
            return
        entered = self._assume(MIN_SESSION_SECONDS, external_id=None)
        if isinstance(entered, MintedSession):
            self._add(_open("AWS let Daypass in without the external id."))
        elif entered.code.removesuffix("Exception") == "AccessDenied":
            self._add(_good(Check.EXTERNAL_ID))
        else:
            self._add(Finding(Check.EXTERNAL_ID, Outcome.UNKNOWN, entered.code, entered.message, entered.advice))

    def _find_harmless_action(self, nothing: MintedSession) -> str:
        """One that works where it is allowed, and whose service says so when a policy explicitly denies it."""
        allow = {"Effect": "Allow", "Action": list(probe.HARMLESS), "Resource": "*"}
        cut_off = self._now() + probe.GOOD_FOR
        both = layers(cut_off=cut_off, role_arn=self._subject.role_arn, statements=[allow])
        assert both is not None  # noqa: S101 - so short a narrowing leaves room
        began = time.monotonic()
        session = self._assume(MIN_SESSION_SECONDS, policy=both.parent)
        if isinstance(session, AwsError):
            self._add(_failed(Check.PROOF, session))
            return ""
        self._try_scoping(session, scoping.Scope(both.scoped, cut_off, _NAME + "scoping"), began)
        if not self._scoping:
            self._add(*_token_is_large(session))
        replies = []
        for action in probe.HARMLESS:
            allowed = probe.try_action(session, action, self._subject.region)
            replies.append(allowed)
            if allowed.end is End.WORKED:
                denied = probe.try_action(nothing, action, self._subject.region)
                replies.append(denied)
                if denied.end is End.DENIED_BY_SESSION:
                    self._add(_good(Check.PROOF))
                    return action
        self._add(_unprovable(replies))
        return ""

    def _try_scoping(self, parent: MintedSession, scope: scoping.Scope, began: float) -> None:
        """As a mint does: that AWS keeps to the second is part of it."""
        tried = scoping.of(parent, self._subject.region, scope, began)
        for other in tried.thrown_away:
            self._record(Issued.of(other))
        if tried.failure is not None:
            self._scoping = False if scoping.is_for_good(tried.failure) else None
            self._add(_not_scoped(tried.failure))
        if (scoped := tried.session) is None:
            return
        self._record(Issued.of(scoped))
        self._scoping = True
        self._add(_good(Check.ENDS_BY_STS), *_token_is_large(scoped))
        if self._subject.federation_url:
            opens = _opens(scoped, self._subject.federation_url)
            # A middle box may refuse too: that scoped keys are the reason is shown by the others, which are taken.
            control = opens is not False or _opens(parent, self._subject.federation_url)
            self._scoped_console = opens if control else None

    def _assume(self, seconds: int, **changes: Any) -> MintedSession | AwsError:
        parameters: dict[str, Any] = {
            "role_arn": self._subject.role_arn,
            "region": self._subject.region,
            "session_name": _NAME + self._subject.installation,
            "duration_seconds": seconds,
            "policy": _NOTHING,
            "external_id": self._subject.external_id,
            "source_identity": self._source_identity,
        }
        try:
            session = sts.assume_role(MintOrder(**parameters | changes))
        except AwsError as error:
            return error
        self._record(Issued.of(session))
        return session

    def _add(self, *findings: Finding) -> None:
        self._findings += findings


_ASK_FOR_EXTERNAL_ID = (
    "Whoever else Daypass serves could have it enter this account: the role's trust policy must ask for an external "
    "id, and the catalog must have it."
)
_NOT_PROVABLE = (
    "Daypass cannot prove an early end on this role, because no harmless call works on it that would tell: the "
    "account's owner may allow one, such as sqs:ListQueues."
)
_CLOSE_DOORS = (
    "Whoever comes through these is not bound by a pass, and nothing that Daypass ends ends there: "
    "the account's owner should see whether they are meant."
)
_MUCH_OF_A_TOKEN = 80
_SHORTEN = (
    "Little is left for what entitlements narrow: Daypass's operators should see which session tags and policies the "
    "worker's own identity passes on."
)
_BY_POLICY = "Keys of this role are ended by their policy instead, which holds for all but proofs of identity."
_LET_IT_SCOPE = (
    f"{_BY_POLICY} The account's "
    'owner should let the role call it, by {"Effect":"Allow","Action":"sts:GetScopedCredentials","Resource":"*"}, and '
    "see that no service control policy denies it."
)
_ASKS_FOR_MORE = (
    "It is on: AWS asks whoever signs in to this account's console for signin:AuthorizeOAuth2Access and "
    "signin:CreateOAuth2Token, which passes are denied, because they give what outlives a pass."
)
_CONSOLE_IS_CLOSED = (
    "So there is no console here but under entitlements that lift `sign-in-tokens` by name; whoever needs it otherwise "
    "should have the account's owner switch console authorization off."
)
_FREE_ROOM = (
    "A hundred early ends on this role may not fit side by side: the account's owner should make managed policies of "
    "its other inline policies."
)


def _good(check: Check) -> Finding:
    return Finding(check, Outcome.GOOD)


def _failed(check: Check, error: AwsError) -> Finding:
    verdict = Outcome.UNKNOWN if isinstance(error, Unavailable) else Outcome.BAD
    return Finding(check, verdict, error.code, error.message, error.advice)


def _not_scoped(error: AwsError) -> Finding:
    if not scoping.is_for_good(error):
        return Finding(Check.ENDS_BY_STS, Outcome.UNKNOWN, error.code, error.message, error.advice)
    if error.code.removesuffix("Exception") == "AccessDenied":
        return Finding(Check.ENDS_BY_STS, Outcome.BAD, error.code, error.message, _LET_IT_SCOPE)
    if scoping.has_no_room(error):
        return Finding(Check.ENDS_BY_STS, Outcome.BAD, error.code, error.message, f"{_BY_POLICY} {_SHORTEN}")
    # That a partition does not know the call is nothing that anybody could mend.
    return Finding(Check.ENDS_BY_STS, Outcome.GOOD, error.code, error.message, _BY_POLICY)


def _opens(session: MintedSession, federation_url: str) -> bool | None:
    """Whether the console's sign-in takes this session. Nobody is given the link."""
    try:
        console.sign_in(session, federation_url=federation_url, destination="", issuer="")
    except Refused:
        return False
    except AwsError:
        return None
    return True


def _token_is_large(session: MintedSession) -> list[Finding]:
    # The older measure where AWS does not give the newer one.
    used = session.session_token_utilization
    used = session.packed_policy_size if used is None else used
    if used is None or used < _MUCH_OF_A_TOKEN:
        return []
    words = f"With a short narrowing, {used} % of what a session token may hold is used up."
    return [Finding(Check.SESSION_TOKEN, Outcome.BAD, "", words, _SHORTEN)]


def _unaddressable(arn: str) -> Finding:
    words = f"This ARN cannot stand in the policies of sessions, so nothing can be issued: {arn}"
    advice = "The account's owner should make the role under a path of letters and digits, and an operator enter that."
    return Finding(Check.TRUST, Outcome.BAD, "", words, advice)


def _open(words: str) -> Finding:
    return Finding(Check.EXTERNAL_ID, Outcome.BAD, "", words, _ASK_FOR_EXTERNAL_ID)


def _unprovable(replies: Sequence[Reply]) -> Finding:
    # Denied by the session: AWS was so slow that its two minutes were over.
    silent = [reply for reply in replies if reply.end in (End.NO_ANSWER, End.DENIED_BY_SESSION)]
    verdict, last = (Outcome.UNKNOWN, silent[-1]) if silent else (Outcome.BAD, replies[-1])
    return Finding(Check.PROOF, verdict, last.code, last.words, _NOT_PROVABLE)


def _elsewhere(arn: str) -> Finding:
    words = f"The role's ARN is {arn}."
    return Finding(Check.REVOKER, Outcome.BAD, "", words, "An operator should correct the role's path in the catalog.")


def _longest_session(real: int, wanted: int) -> Finding:
    if real >= wanted:
        return _good(Check.LONGEST_SESSION)
    words = f"The role's MaxSessionDuration is {real:,} seconds; the catalog says {wanted:,}."
    advice = "The account's owner should raise the one, or an operator lower the other."
    return Finding(Check.LONGEST_SESSION, Outcome.BAD, "", words, advice)


def _room(room: int) -> Finding:
    if room >= _LITTLE_ROOM:
        return _good(Check.ROOM)
    words = f"The role's other inline policies leave {max(0, room):,} of {deny_policy.MOST_CHARACTERS:,} characters."
    return Finding(Check.ROOM, Outcome.BAD, "", words, _FREE_ROOM)


def _console_authorization(place: Place) -> tuple[bool | None, Finding]:
    try:
        is_on = sign_ins.asks_for_more(place)
    except AwsError as error:
        # Without it the console is given as before: AWS may refuse it there, which nobody here would see.
        return None, Finding(Check.CONSOLE_AUTHORIZATION, Outcome.UNKNOWN, error.code, error.message, error.advice)
    if is_on:
        return True, Finding(Check.CONSOLE_AUTHORIZATION, Outcome.BAD, "", _ASKS_FOR_MORE, _CONSOLE_IS_CLOSED)
    return False, _good(Check.CONSOLE_AUTHORIZATION)


def _other_doors(doors: tuple[Door, ...]) -> Finding:
    if not doors:
        return _good(Check.OTHER_DOORS)
    words = f"This role has other doors: {', '.join(door.principal for door in doors)}"
    return Finding(Check.OTHER_DOORS, Outcome.BAD, "", words, _CLOSE_DOORS)


_WAYS_IN = ("sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity")
_EQUAL = ("stringequals", "stringlike", "arnequals", "arnlike")
_SESSION = re.compile(r"arn:[\w-]+:sts::(\d{12}):assumed-role/([^/]+)/.+", re.ASCII)
_ROLE = re.compile(r"arn:[\w-]+:iam::(\d{12}):role/(?:.+/)?([^/*?]+)", re.ASCII)
_WHOLE_ACCOUNT = re.compile(r"(?:arn:[\w-]+:iam::)?\d{12}(?::root)?", re.ASCII)


class _Role(NamedTuple):
    arn: str
    id: str
    longest_session: int
    trust_policy: Any


def _role(answer: Mapping[str, Any]) -> _Role:
    trust_policy = json.loads(unquote(answer["AssumeRolePolicyDocument"]))
    return _Role(answer["Arn"], answer["RoleId"], answer.get("MaxSessionDuration", 3600), trust_policy)


def _ways_in(statement: Any) -> tuple[str, ...]:
    """Which calls that enter the role the statement allows."""
    if not isinstance(statement, dict) or statement.get("Effect") != "Allow":
        return ()
    if "NotAction" in statement:
        return tuple(way for way in _WAYS_IN if not _matches_any(way, statement["NotAction"]))
    return tuple(way for way in _WAYS_IN if _matches_any(way, statement.get("Action")))


def _matches_any(action: str, patterns: Any) -> bool:
    return any(_wildcard(str(pattern)).fullmatch(action) for pattern in _listed(patterns))


def _wildcard(pattern: str) -> re.Pattern[str]:
    pieces = ({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return re.compile("".join(pieces), re.IGNORECASE)


def _principals(statement: Mapping[str, Any]) -> Iterable[str]:
    if "NotPrincipal" in statement:
        return [f"everyone but {', '.join(_flat(statement['NotPrincipal']))}"]
    return _flat(statement.get("Principal"))


def _flat(principal: Any) -> list[str]:
    kinds = principal.values() if isinstance(principal, dict) else [principal]
    return [str(statement) for kind in kinds for statement in _listed(kind)]


def _is_minter(principal: str, condition: Any, minter_arn: str) -> bool:
    if _same(principal, minter_arn):
        return True
    # A whole account may stand there so that a role made anew still fits, if the condition names the role.
    return bool(_WHOLE_ACCOUNT.fullmatch(principal)) and any(
        _same(arn, minter_arn) for arn in _only_principal(condition)
    )


def _same(principal: str, minter_arn: str) -> bool:
    """A session's ARN has its role's name, but not the path."""
    session, role = _SESSION.fullmatch(minter_arn), _ROLE.fullmatch(principal)
    return principal == minter_arn or bool(session and role and session.groups() == role.groups())


def _only_principal(condition: Any) -> list[str]:
    """The one principal that a condition lets through, if it names exactly one."""
    if not isinstance(condition, dict):
        return []
    for operator, tests in condition.items():
        for key, value in tests.items() if operator.lower() in _EQUAL and isinstance(tests, dict) else ():
            if key.lower() == "aws:principalarn" and len(_listed(value)) == 1:
                return [str(statement) for statement in _listed(value)]
    return []


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
