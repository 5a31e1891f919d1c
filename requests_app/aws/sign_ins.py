"""AWS Sign-In in a target account: what its console asks of a session, and the sign-in sessions of a role.

A sign-in session is what `aws login` makes of an open console, or an agent of AWS's MCP server: it is renewed for up to
twelve hours. AWS says of which role it is and when it began, not which session of the role made it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from botocore.exceptions import ClientError

from requests_app.aws import iam, sts
from requests_app.aws.errors import AwsError, Refused, Unavailable, scrub, translate
from requests_app.aws.iam import Place
from requests_app.domain import narrowing

# AWS's own numbers.
A_PAGE = 100
MOST_AT_ONCE = 5
LONGEST_REASON = 256
# So many are looked through before it is said that there are more.
MOST_PAGES = 20


@dataclass(frozen=True, slots=True)
class SignIn:
    """One sign-in session. `owner` is a role's ARN without its path, as AWS has it here."""

    arn: str
    owner: str
    begun_at: datetime


@dataclass(frozen=True, slots=True)
class Listed:
    """`complete`: there are no more of them."""

    sign_ins: tuple[SignIn, ...]
    complete: bool


def asks_for_more(place: Place) -> bool:
    """Whether the account has switched console authorization on. Raises Refused or Unavailable."""
    account = place.role_arn.split(":")[4]
    operation = "get_console_authorization_configuration"
    try:
        return iam.call(place, "signin", operation, _is_on, _from_reading, targetId=account)
    except Refused as refused:
        if _is_gone(refused):  # nobody ever switched it on
            return False
        raise


def active(place: Place, *, since: datetime) -> Listed:
    """The role's sign-in sessions that began at `since` or later and go on. Raises Refused or Unavailable.

    All of the account's are asked for, since AWS knows these owners without a path: of a role that has one, the role's
    own ARN might find none.
    """
    page: dict[str, Any] = {}
    found: list[SignIn] = []
    for _ in range(MOST_PAGES):
        answer = iam.call(
            *(place, "signin", "list_sessions", _page, _from_ending),
            principalArn=_everybody(place),
            status="ACTIVE",
            issuedAfter=int(since.timestamp()),
            maxResults=A_PAGE,
            **page,
        )
        found += [sign_in for sign_in in answer.sign_ins if _is_of(place, sign_in)]
        if not answer.next_token:
            return Listed(tuple(found), complete=True)
        page = {"nextToken": answer.next_token}
    return Listed(tuple(found), complete=False)


def revoke(
    place: Place,
    sign_ins: Iterable[SignIn],
    *,
    reason: str,
    done: Callable[[Sequence[SignIn]], None] = lambda revoked: None,
) -> None:
    """Let none of these be renewed any more. Raises Refused or Unavailable if AWS did not do so with all of them.

    What was got before works on: AWS says for fifteen minutes to an hour. One that is over, or revoked already, is none
    that AWS refuses. `done` gets those that AWS revoked, before the next lot goes out.
    """
    refusals: list[AwsError] = []
    for owner, some in _batches(sign_ins):
        arns = [sign_in.arn for sign_in in some]

        def read(answer: Mapping[str, Any], arns: Sequence[str] = arns) -> dict[str, AwsError]:
            return _refused_of(arns, answer)

        left = iam.call(
            *(place, "signin", "batch_revoke_sessions", read, _from_ending),
            principalArn=owner,
            sessionArns=arns,
            reason=reason,
        )
        done([sign_in for sign_in in some if sign_in.arn not in left])
        refusals += [error for error in left.values() if not _is_gone(error)]
    if refusals:
        raise refusals[0]


@dataclass(frozen=True, slots=True)
class _Page:
    sign_ins: tuple[SignIn, ...]
    next_token: str


def _everybody(place: Place) -> str:
    _, partition, _, _, account, _ = place.role_arn.split(":", 5)
    return f"arn:{partition}:iam::{account}:*"


def _is_of(place: Place, sign_in: SignIn) -> bool:
    # IAM's names are unique in an account whatever the case.
    *_, account, owner = sign_in.owner.split(":")
    mine = ("role", place.role_name.lower())
    return account == place.role_arn.split(":")[4] and (owner.split("/")[0], owner.split("/")[-1].lower()) == mine


def _batches(sign_ins: Iterable[SignIn]) -> Iterator[tuple[str, list[SignIn]]]:
    """So many that AWS takes at once, each lot of one owner: AWS refuses those that are not the owner's."""
    for owner, of_owner in groupby(sorted(sign_ins, key=lambda sign_in: sign_in.owner), lambda sign_in: sign_in.owner):
        every = list(of_owner)
        for first in range(0, len(every), MOST_AT_ONCE):
            yield owner, every[first : first + MOST_AT_ONCE]


def _whole(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    if not sts.is_from_aws(answer):
        raise ValueError("not from AWS")
    return answer


def _is_on(answer: Mapping[str, Any]) -> bool:
    return bool(_whole(answer)["consoleAuthorizationEnabled"])


def _page(answer: Mapping[str, Any]) -> _Page:
    items = _whole(answer)["items"]
    sign_ins = tuple(
        SignIn(item["sessionArn"], item["principalArn"], datetime.fromtimestamp(item["issuedAt"], UTC))
        for item in items
    )
    return _Page(sign_ins, answer.get("nextToken") or "")


def _refused_of(arns: Sequence[str], answer: Mapping[str, Any]) -> dict[str, AwsError]:
    """Those of these that AWS did not revoke, and why. Raises ValueError if it does not say so of each."""
    revoked = {one["sessionArn"] for one in _whole(answer)["revokedSessions"]}
    errors = {one["sessionArn"]: one for one in answer["errors"]}
    if set(arns) - revoked - set(errors):
        raise ValueError("half an answer")
    return {arn: _of_one(errors[arn]["code"], errors[arn]["message"]) for arn in arns if arn not in revoked}


def _is_gone(error: AwsError) -> bool:
    return error.code.removesuffix("Exception") == "ResourceNotFound"


def _of_one(code: str, message: str) -> AwsError:
    later = any(word in code for word in ("TooManyRequests", "Throttl", "Internal", "Unavailable"))
    return (Unavailable if later else Refused)(scrub(code), scrub(message), _TRY_AGAIN if later else _LOOK)


def _let(*actions: str) -> str:
    allow = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return f"The account's owner should let the revoker's role there do so, by {narrowing.compact(allow)}"


_TRY_AGAIN = "Nobody needs to change anything: Daypass tries again."
_LOOK = "The account's owner should look at the sign-in sessions of this role: `aws signin list-sessions`."
_READING = _let("signin:GetConsoleAuthorizationConfiguration")
_ENDING = _let("signin:ListSessions", "signin:BatchRevokeSessions")


def _from_reading(error: BaseException) -> AwsError:
    return _from_sign_in(error, _READING)


def _from_ending(error: BaseException) -> AwsError:
    return _from_sign_in(error, _ENDING)


def _from_sign_in(error: BaseException, let: str) -> AwsError:
    known = translate(error)
    code = known.code.removesuffix("Exception")
    if not isinstance(error, ClientError):
        return known
    if code == "AccessDenied":
        return Refused(known.code, known.message, f"{let}.")
    if code in iam.STALE:
        return Unavailable(known.code, known.message, iam.BECOME_AGAIN)
    return known
