"""Questions on time: when keys and permissions end, to the second, by the Date of AWS's own answers."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from requests_app.aws import sts
from requests_app.aws.probe import End, Harmless, Reply
from requests_app.aws.proving.asking import (
    Answer,
    CannotTell,
    Case,
    Told,
    allow,
    deny,
    is_denial,
    no,
    question,
    said,
    second,
    yes,
)
from requests_app.aws.session_policy import session_policy

_LIFE = 6  # seconds of the keys that are watched until they end
_BEGIN = timedelta(seconds=4)  # so long before a moment we begin to look
_GIVE_UP = timedelta(seconds=30)  # so long after it, by AWS's clock, we stop
_LONGEST_WATCH = 90.0  # seconds, by ours
_PAUSE = 0.15
_WHO_AM_I = Harmless("sts", "get_caller_identity", {})


@question(
    "The promise: what was given ends at the pass's end, even if Daypass is dead, GetCallerIdentity included.",
    counts_on=Answer.YES,
)
def scoped_keys_end_at_their_expiration(case: Case) -> Told:
    """Do scoped keys work until their expiration, and from that second on for nothing, GetCallerIdentity included?"""
    keys = case.scope(case.session(), seconds=_LIFE)
    calls = case.calls(keys, *case.actions) | {"GetCallerIdentity": case.call(keys, _WHO_AM_I)}
    return _told(_watch(calls, keys.expires_at, _has_expired), keys.expires_at)


@question(
    "Roles whose identity is access (EKS, Vault): a proof of identity ends with the pass, and they need no floor of "
    "15 minutes where STS ends the keys.",
    counts_on=Answer.YES,
)
def a_proof_signed_before_ends_too(case: Case) -> Told:
    """Is a GetCallerIdentity request that scoped keys signed before they expired refused afterwards?"""
    keys = case.scope(case.session(), seconds=_LIFE)
    client = sts.client_of(keys, "sts", case.region)
    url = sts.attempt(lambda: client.generate_presigned_url("get_caller_identity", HttpMethod="GET"))
    return _told(_watch({"the signed request": lambda: _fetch(url)}, keys.expires_at, _has_expired), keys.expires_at)


@question(
    "What ends keys that STS does not end, and stands beneath those that it does: the deny from the pass's end on.",
    counts_on=Answer.YES,
)
def the_deny_by_current_time_is_exact(case: Case) -> Told:
    """Does the session policy's deny by `aws:CurrentTime` begin at its second, not sooner and not later?"""
    cut_off = (case.now() + timedelta(seconds=_LIFE)).replace(microsecond=0)
    harmless = [{"Effect": "Allow", "Action": list(case.actions), "Resource": "*"}]
    policy = session_policy(cut_off=cut_off, role_arn=case.role_arn, statements=harmless)
    calls = case.calls(case.session(policy=policy), *case.actions)  # GetCallerIdentity is denied by no policy
    return _told(_watch(calls, cut_off, is_denial), cut_off)


@question(
    "Nothing: an early end names scoped sessions by `aws:userid`, and counts none as denied by when it was issued."
)
def the_moment_of_issue_is_the_parents(case: Case) -> Told:
    """Is `aws:TokenIssueTime` of scoped keys the moment at which their parent was issued?"""
    ever, early = case.actions
    later = second(case.now() + timedelta(hours=1))
    if not case.is_denied(case.session(allow(), deny(ever, DateLessThan={"aws:TokenIssueTime": later})), ever):
        raise CannotTell("the control was not denied: a session policy does not meet it of ordinary sessions either")
    parent = case.session(allow())
    time.sleep(4)
    between = second(case.now() - timedelta(seconds=1))
    scoped = case.scope(
        parent,
        allow(),
        deny(ever, DateLessThan={"aws:TokenIssueTime": later}),
        deny(early, DateLessThan={"aws:TokenIssueTime": between}),
    )
    is_there, is_parents = case.is_denied(scoped, ever), case.is_denied(scoped, early)
    if not is_there:
        if is_parents:
            raise CannotTell("AWS denied by an earlier moment and not by a later one")
        return no("scoped keys have none")
    if is_parents:
        return yes(f"a deny of what was issued before {between}, between the two, held")
    return no(f"a deny of what was issued before {between}, between the two, did not hold: it is the keys' own moment")


@dataclass(slots=True)
class _Seen:
    """Of one call: when it last worked and was first refused, by AWS's clock; `late`: it was sent at or after the
    moment, for AWS's last answer to it bore that date, and it worked.
    """

    worked: datetime | None = None
    refused: Reply | None = None
    late: datetime | None = None
    trouble: Reply | None = None
    last: datetime | None = None

    def note(self, reply: Reply, moment: datetime, *, is_over: bool) -> None:
        if is_over:
            self.refused = self.refused or reply
        elif reply.end is not End.WORKED or reply.at is None:
            self.trouble = reply
            return
        else:
            self.worked = reply.at
            if self.last is not None and self.last >= moment:
                self.late = reply.at
            self.refused = None
        self.last = reply.at or self.last


def _watch(
    calls: Mapping[str, Callable[[], Reply]], moment: datetime, is_over: Callable[[Reply], bool]
) -> dict[str, _Seen]:
    """Make these calls over and over, from shortly before the moment until all are refused."""
    seen = {name: _Seen() for name in calls}
    until = time.monotonic() + _LONGEST_WATCH
    while time.monotonic() < until:
        for name, call in calls.items():
            reply = call()
            seen[name].note(reply, moment, is_over=is_over(reply))
        lasts = [each.last for each in seen.values() if each.last]
        if all(each.refused and each.last and each.last > moment for each in seen.values()):
            break
        if lasts and min(lasts) > moment + _GIVE_UP:
            break
        left = (moment - _BEGIN - max(lasts)).total_seconds() if lasts else 0
        time.sleep(max(_PAUSE, left))
    return seen


def _told(seen: Mapping[str, _Seen], moment: datetime) -> Told:
    """Whether each worked until the moment, and not after."""
    words, exact = [], True
    for name, each in seen.items():
        if each.worked is None:
            why = each.refused or each.trouble
            raise CannotTell(f"{name} never worked before: {said(why) if why else 'nothing was seen'}")
        if each.refused is None and each.late is None:
            raise CannotTell(f"{name} was not seen to end: {said(each.trouble) if each.trouble else 'AWS was slow'}")
        words.append(f"{name} last worked at {_from(moment, each.worked)}, and {_end(each, moment)}")
        soon = each.worked < moment - timedelta(seconds=2)
        exact = exact and not each.late and not soon
    return (yes if exact else no)(f"the moment (T) was {second(moment)}: {'; '.join(words)}")


def _end(seen: _Seen, moment: datetime) -> str:
    if seen.refused is None:
        return "went on working"
    at = f"at {_from(moment, seen.refused.at)}" if seen.refused.at else "then"
    return f"{at} AWS said {said(seen.refused)}"


def _from(moment: datetime, at: datetime) -> str:
    apart = round((at - moment).total_seconds())
    return "T" if not apart else f"T {'+' if apart > 0 else '−'} {abs(apart)} s"


def _has_expired(reply: Reply) -> bool:
    """As each service says it: ExpiredToken, RequestExpired, or in words alone."""
    return "Expired" in reply.code or (reply.end is not End.WORKED and "expired" in reply.words.lower())


def _fetch(url: str) -> Reply:
    """What is signed stands in the address, so by something that logs none."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - botocore wrote it
            at, text = _date(answer.headers.get("Date")), answer.read(4096)
            if b"GetCallerIdentityResult" in text:
                return Reply(End.WORKED, at)
            return Reply(End.NO_ANSWER, at, "MalformedAnswer", "what answered is not AWS")
    except urllib.error.HTTPError as error:
        with error:
            words = error.read(4096).decode(errors="replace")
            code = next((known for known in ("ExpiredToken", "AccessDenied") if known in words), f"Http{error.code}")
            return Reply(End.NO_ANSWER, _date(error.headers.get("Date")), code, f"status {error.code}")
    except OSError as error:
        return Reply(End.NO_ANSWER, None, type(error).__name__, "the connection failed")


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text or "").astimezone(UTC)
    except ValueError:
        return None
