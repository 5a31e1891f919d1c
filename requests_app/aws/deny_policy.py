"""The inline policy that ends live sessions of a role early: one complete document, written and read back.

It denies everything to the sessions of certain requests, by `aws:userid`, in which AWS keeps the session's
name (`AROA…:CODE-name`). `sts:RoleSessionName` exists only while a role is being assumed.
"""

import enum
import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from requests_app.aws import iam, sts
from requests_app.aws.errors import AwsError, Refused
from requests_app.aws.iam import Place
from requests_app.domain import codes, narrowing

MOST_CHARACTERS = 10_240  # of all of a role's inline policies together, white space apart


@dataclass(frozen=True, slots=True)
class Entry:
    """A request whose sessions are to be denied.

    `returned`: its person gave it back, so that nobody is being kept out. `issued_before`: AWS issued its
    last session before then; None if one may still be on its way. `by_name_only`: what is scoped is among them, and no
    `since` is sure to reach that.
    """

    code: str
    returned: bool = False
    issued_before: datetime | None = None
    by_name_only: bool = False


@dataclass(frozen=True, slots=True)
class Fit:
    """What a role has room for. `dropped` are the entries that the document does not name.

    `fallback_needed`: among them is one that nothing else denies, so every session issued until now must be
    denied, by a `since` a little ahead.
    """

    kept: tuple[Entry, ...]
    dropped: tuple[Entry, ...]
    fallback_needed: bool


class Seen(enum.StrEnum):
    AS_WRITTEN = "as written"
    CHANGED_OUTSIDE = "changed outside"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Standing:
    """What AWS has under our name, read at `at` by AWS's clock.

    `room` is what our document may have: 10,240 characters less the role's other inline policies.
    `foreign`: it holds something that Daypass never writes.
    """

    document: str | None
    generation: int | None
    codes: frozenset[str]
    since: datetime | None
    foreign: bool
    room: int
    at: datetime | None

    def seen(self, expected: Collection[str | None]) -> Seen:
        """`expected`: the documents that may rightly stand there, None for none at all."""
        if self.document is None:
            return Seen.AS_WRITTEN if None in expected else Seen.GONE
        found = canonical(self.document)
        known = any(found == canonical(document) for document in expected if document is not None)
        return Seen.AS_WRITTEN if known else Seen.CHANGED_OUTSIDE

    def unknown(self, expected: Collection[str | None], entries: Iterable[Entry] = ()) -> tuple[str, ...]:
        """Codes denied there which neither we wrote nor want."""
        ours = {code for document in expected if document is not None for code in _read(document, "").codes}
        return tuple(sorted(self.codes - ours - {entry.code for entry in entries}))


@dataclass(frozen=True, slots=True)
class Draft:
    """A document about to be put, and what it takes the place of.

    `unknown` are codes found there of which we know nothing; the document denies them too.
    """

    generation: int
    document: str
    characters: int
    room: int
    fit: Fit
    unknown: tuple[str, ...]
    before: Standing
    seen: Seen


@dataclass(frozen=True, slots=True)
class Written:
    """A put that AWS took, at `at` by its clock. `confirmed`: read back, it was the same.

    Unconfirmed says little: IAM may show an old state for some seconds. Read again.
    """

    draft: Draft
    at: datetime | None
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Removed:
    """`removed` is False if the policy denies codes that we do not know: they are in `unknown`, and it stands."""

    removed: bool
    unknown: tuple[str, ...]
    before: Standing
    seen: Seen


class NoRoom(Refused):
    """Nothing was put: naming everyone takes more room than there is, so a (later) `since` is needed."""

    fit: Fit
    room: int


def policy_name(installation: str) -> str:
    """The name that this installation, and no other, writes under."""
    iam.check_installation(installation)
    return f"daypass-{installation}-ended"


def probe_prefix(installation: str, generation: int) -> str:
    """How a session is named to be denied by exactly this generation.

    The letter O is in no request's code: no person's session begins like this.
    """
    return f"DP-PROBE-{installation}-{generation}-"


def document(*, installation: str, generation: int, entries: Iterable[Entry], since: datetime | None = None) -> str:
    """The complete policy for one role, as short as it can be.

    It denies everything to the sessions of `entries`, to the probe of its generation and, with `since`, to
    every session that AWS issued before then (taken up to its second). Raises ValueError on a code that is none.
    """
    iam.check_installation(installation)
    names = sorted({_checked(entry.code) for entry in entries})
    patterns = [f"*:{name}-*" for name in names] + [f"*:{probe_prefix(installation, generation)}*"]
    statements = [_deny({"StringLike": {"aws:userid": patterns}})]
    if since:
        statements.append(_deny({"DateLessThan": {"aws:TokenIssueTime": _second(since)}}))
    return narrowing.compact({"Version": "2012-10-17", "Statement": statements})


def fit(
    entries: Iterable[Entry], room: int, *, installation: str, generation: int, since: datetime | None = None
) -> Fit:
    """What to leave out if there are too many, the last of each kind first.

    First those that `since` denies anyway, then those of returned passes, and only then those that somebody
    revoked.
    """
    wanted = list({entry.code: entry for entry in entries}.values())
    empty = document(installation=installation, generation=generation, entries=(), since=since)
    most = max(0, (room - characters(empty)) // _ENTRY_CHARACTERS)
    ranked = sorted(wanted, key=lambda entry: (is_denied_by(since, entry), entry.returned))
    kept, dropped = tuple(ranked[:most]), tuple(ranked[most:])
    lifted = any(not entry.returned and not _is_covered(entry, since) for entry in dropped)
    return Fit(kept, dropped, fallback_needed=lifted)


def characters(text: str) -> int:
    """As IAM counts them: all but white space. (Its quota is in characters, its refusal speaks of bytes.)"""
    return len(re.sub(r"\s", "", text, flags=re.ASCII).encode())


def canonical(text: str) -> str:
    """Equal for documents that say the same: blanks, order and one-element lists apart."""
    try:
        return json.dumps(_normal(json.loads(text)), sort_keys=True)
    except (ValueError, RecursionError):
        return text


def read(place: Place) -> Standing:
    """What stands there now. Raises Refused or Unavailable."""
    ours = policy_name(place.installation)
    names, at = _policy_names(place)
    taken = sum(characters(_text(place, name) or "") for name in names if name != ours)
    # Asked for even if the list does not name it: the list may be some seconds old.
    text = _text(place, ours)
    found = _read(text, place.installation) if text is not None else _Parts()
    return Standing(
        document=text,
        generation=found.generation,
        codes=found.codes,
        since=found.since,
        foreign=found.foreign,
        room=MOST_CHARACTERS - taken,
        at=at,
    )


def write(
    place: Place,
    *,
    generation: int,
    entries: Sequence[Entry],
    expected: Collection[str | None],
    since: datetime | None = None,
    about_to_put: Callable[[Draft], None] = lambda draft: None,
) -> Written:
    """Put the complete document for a role in the place of whatever stands there, and read it back.

    Hold the role's lock across it. `expected` are the documents that may rightly stand there: the one last
    written, or None, and any draft since of which nobody knows whether AWS took it. A code that stands there,
    but is neither in those nor in `entries`, is unknown: it stays denied, and the draft names it.

    `about_to_put` gets the draft just before AWS does, to be committed: so that a document whose writer died
    is not taken for somebody else's, nor its codes for ones that we dropped. The draft's generation is above
    whatever stands there, so that no old document can answer for it.

    Raises NoRoom, or Refused or Unavailable; with `outcome_unknown` AWS may have taken it.
    """
    before = read(place)
    draft = _draft(place, generation, entries, expected, since, before)
    about_to_put(draft)
    name = policy_name(place.installation)
    answer = iam.ask(place, "put_role_policy", PolicyName=name, PolicyDocument=draft.document)
    return Written(draft, at=sts.date_of(answer), confirmed=_stands(place, draft.document))


def remove(place: Place, expected: Collection[str | None]) -> Removed:
    """Take our own policy away, when nothing is to be denied any more. Hold the role's lock across it.

    It stays if it denies codes that we do not know. Raises Refused or Unavailable.
    """
    before = read(place)
    unknown, seen = before.unknown(expected), before.seen(expected)
    if not unknown and before.document is not None:
        try:
            iam.ask(place, "delete_role_policy", PolicyName=policy_name(place.installation))
        except Refused as refused:
            if not iam.is_missing(refused):
                raise
    return Removed(removed=not unknown, unknown=unknown, before=before, seen=seen)


_ENTRY_CHARACTERS = len('"*:DP-00000000-*",')
_MOST_LISTS = 20
_PATTERN = re.compile(r"\*:([^*?]+)-\*")
_PROBE_GENERATION = re.compile(r"DP-PROBE-([a-z0-9]+)-(\d{1,12})", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Parts:
    generation: int | None = None
    codes: frozenset[str] = frozenset()
    since: datetime | None = None
    foreign: bool = False


def _draft(
    place: Place,
    generation: int,
    entries: Sequence[Entry],
    expected: Collection[str | None],
    since: datetime | None,
    before: Standing,
) -> Draft:
    generation = max(generation, (before.generation or 0) + 1)
    unknown = before.unknown(expected, entries)
    wanted = [*entries, *(Entry(code) for code in unknown)]
    fitting = fit(wanted, before.room, installation=place.installation, generation=generation, since=since)
    text = document(installation=place.installation, generation=generation, entries=fitting.kept, since=since)
    if characters(text) > before.room:
        raise Refused("LimitExceeded", f"{_full(before.room)} Not even one deny fits.", _MAKE_ROOM)
    if fitting.fallback_needed:
        no_room = NoRoom("LimitExceeded", f"{_full(before.room)} {len(wanted):,} denies do not fit.", _MAKE_ROOM)
        no_room.fit, no_room.room = fitting, before.room
        raise no_room
    return Draft(
        generation=generation,
        document=text,
        characters=characters(text),
        room=before.room,
        fit=fitting,
        unknown=unknown,
        before=before,
        seen=before.seen(expected),
    )


_MAKE_ROOM = "The account's owner should make managed policies of the role's other inline policies."


def _full(room: int) -> str:
    return f"The role's other inline policies leave {max(0, room):,} of AWS's {MOST_CHARACTERS:,} characters."


def _policy_names(place: Place) -> tuple[list[str], datetime | None]:
    """The role's inline policies, and AWS's clock."""
    names: list[str] = []
    page: dict[str, str] = {}
    for _ in range(_MOST_LISTS):
        answer = iam.ask(place, "list_role_policies", **page)
        names += answer["PolicyNames"]
        if not answer.get("IsTruncated"):
            break
        page = {"Marker": answer["Marker"]}
    return names, sts.date_of(answer)


def _text(place: Place, name: str) -> str | None:
    """A policy as it was written, None if there is none (any more)."""
    try:
        return unquote(iam.ask(place, "get_role_policy", PolicyName=name)["PolicyDocument"])
    except Refused as refused:
        if iam.is_missing(refused):
            return None
        raise


def _stands(place: Place, wanted: str) -> bool:
    try:
        found = _text(place, policy_name(place.installation))
    except AwsError:
        return False
    return found is not None and canonical(found) == canonical(wanted)


def _checked(code: str) -> str:
    if not codes.CODE.fullmatch(code):
        raise ValueError(f"not a request's code: {code!r}")
    return code


def _deny(condition: dict[str, Any]) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}


def _second(moment: datetime) -> str:
    """AWS keeps the second a session was issued in, so a part of one counts as the whole."""
    if moment.tzinfo is None:
        raise ValueError("since must be an aware time")
    whole = moment.astimezone(UTC).replace(microsecond=0)
    whole += timedelta(seconds=1) if moment.microsecond else timedelta(0)
    return whole.strftime("%Y-%m-%dT%H:%M:%SZ")


def is_denied_by(since: datetime | None, entry: Entry) -> bool:
    """For sure: what it does to scoped keys does not count, for nobody proved what their `aws:TokenIssueTime` is."""
    return not entry.by_name_only and _is_covered(entry, since)


def _is_covered(entry: Entry, since: datetime | None) -> bool:
    return since is not None and entry.issued_before is not None and entry.issued_before <= since


def _normal(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _normal(value) for name, value in part.items()}
    if isinstance(part, list):
        values = sorted((_normal(value) for value in part), key=lambda value: json.dumps(value, sort_keys=True))
        return values[0] if len(values) == 1 else values
    return part


def _read(text: str, installation: str) -> _Parts:
    """What a document of ours says; of somebody else's, what can be made out."""
    try:
        statements = json.loads(text)["Statement"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return _Parts(foreign=True)
    return _joined(_read_statement(statement, installation) for statement in _listed(statements))


def _read_statement(statement: Any, installation: str) -> _Parts:
    match statement:
        case {"Condition": {"StringLike": {"aws:userid": patterns, **others}, **more}}:
            parts = _joined(_read_pattern(pattern, installation) for pattern in _listed(patterns))
        case {"Condition": {"DateLessThan": {"aws:TokenIssueTime": str(moment), **others}, **more}}:
            parts = _read_moment(moment)
        case _:
            return _Parts(foreign=True)
    altered = bool(others or more) or statement != _deny(statement["Condition"])
    return _joined([parts, _Parts(foreign=altered)])


def _read_pattern(pattern: Any, installation: str) -> _Parts:
    found = _PATTERN.fullmatch(pattern) if isinstance(pattern, str) else None
    name = found[1] if found else ""
    if codes.CODE.fullmatch(name):
        return _Parts(codes=frozenset({name}))
    probe = _PROBE_GENERATION.fullmatch(name)
    if probe and probe[1] == installation:
        return _Parts(generation=int(probe[2]))
    return _Parts(foreign=True)


def _read_moment(moment: str) -> _Parts:
    try:
        return _Parts(since=datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S%z"))
    except ValueError:
        return _Parts(foreign=True)


def _joined(several: Iterable[_Parts]) -> _Parts:
    parts = list(several)
    return _Parts(
        generation=max((part.generation for part in parts if part.generation is not None), default=None),
        codes=frozenset().union(*(part.codes for part in parts)),
        since=max((part.since for part in parts if part.since), default=None),
        foreign=any(part.foreign for part in parts),
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
