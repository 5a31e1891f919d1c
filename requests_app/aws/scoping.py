"""Keys that STS itself ends at the second of the pass: GetScopedCredentials, once a session is there to be scoped.

The keys of that parent never leave `mint`: not even what it raises holds them.
"""

import math
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from requests_app.aws import sts
from requests_app.aws.errors import AwsError, Refused, Unavailable
from requests_app.aws.sts import MintedSession, MintOrder

# The second of them only if the first came too late to end in time.
MOST_CALLS = 2
# What AWS says where it will say so again until somebody changes something: it does not let this role, it does not know
# the call in this partition, or there is no room for both policies. Codes stand without the suffix "Exception".
_NEVER = ("AccessDenied", "InvalidAction", "UnknownOperation", "UnsupportedOperation", "PackedPolicyTooLarge")


@dataclass(frozen=True, slots=True)
class Scope:
    """What the keys are scoped to: `cut_off` by AWS's clock, to the second; `description` stands in CloudTrail."""

    policy: str
    cut_off: datetime
    description: str


@dataclass(frozen=True, slots=True)
class Known:
    """What may be known of a session: of one whose keys nobody is given, nothing else."""

    access_key_id: str
    assumed_role_id: str
    assumed_role_arn: str
    expires_at: datetime

    @classmethod
    def of(cls, session: MintedSession) -> "Known":
        return cls(session.access_key_id, session.assumed_role_id, session.assumed_role_arn, session.expires_at)


@dataclass(frozen=True, slots=True)
class Scoped:
    """What became of one parent: the scoped `session`, or why there is none.

    `thrown_away` is what AWS gave besides: nobody is given that.
    """

    parent: Known
    session: MintedSession | None = None
    failure: AwsError | None = None
    thrown_away: tuple[Known, ...] = ()


def mint(order: MintOrder, scope: Scope) -> Scoped:
    """Assume a role, and scope down what came of it, at most twice.

    Raises Refused or Unavailable only where no parent was made, or none that is known of. The session's own expiration
    is never later than `cut_off`.
    """
    began = time.monotonic()
    return of(sts.assume_role(order), order.region, scope, began)


def of(parent: MintedSession, region: str, scope: Scope, began: float) -> Scoped:
    """As `mint`, of a session that was asked for at `began`, by `time.monotonic()`. Raises no AwsError."""
    thrown_away: list[Known] = []
    try:
        session = _scope(parent, region, scope, began, thrown_away)
        return Scoped(Known.of(parent), session=session, thrown_away=tuple(thrown_away))
    except AwsError as error:
        # Without what it came through: those frames hold the parent's keys.
        failure = error.with_traceback(None)
    if is_for_good(failure) and _may_be_over(parent, scope, began):
        # From the cut-off on its own policy refuses the parent whatever it asks.
        failure = _too_late()
    return Scoped(Known.of(parent), failure=failure, thrown_away=tuple(thrown_away))


def is_for_good(failure: AwsError) -> bool:
    """AWS does not scope sessions of this role: it was no time-out, and no asking us to slow down."""
    return isinstance(failure, Refused) and failure.code.removesuffix("Exception") in _NEVER


def has_no_room(failure: AwsError) -> bool:
    """The policies were too large for AWS, of which it does not say beforehand how it packs them."""
    return failure.code.removesuffix("Exception") == "PackedPolicyTooLarge"


def _scope(parent: MintedSession, region: str, scope: Scope, began: float, thrown_away: list[Known]) -> MintedSession:
    issued = _issued(parent)
    for _ in range(MOST_CALLS):
        seconds = None
        if parent.expires_at > scope.cut_off:
            left = (scope.cut_off - issued).total_seconds()
            seconds = math.floor(left) - 1 - math.floor(time.monotonic() - began)
            if seconds < 1:
                raise _too_late()
        began = time.monotonic()
        scoped = sts.scope(parent, region, seconds=seconds, policy=scope.policy, description=scope.description)
        is_another = scoped.assumed_role_arn != parent.assumed_role_arn or scoped.access_key_id == parent.access_key_id
        if not is_another and scoped.expires_at <= scope.cut_off:
            return scoped
        thrown_away.append(Known.of(scoped))
        if is_another:
            raise _another()
        if seconds is None:
            break
        issued = scoped.expires_at - timedelta(seconds=seconds)
    raise _too_late()


def _issued(parent: MintedSession) -> datetime:
    """STS counts from whole seconds: this is the one in which it issued, which was not over before it was asked."""
    return parent.expires_at - timedelta(seconds=parent.asked_duration)


def _may_be_over(parent: MintedSession, scope: Scope, began: float) -> bool:
    """By AWS's clock, at its latest."""
    return _issued(parent) + timedelta(seconds=1 + time.monotonic() - began) >= scope.cut_off


def _too_late() -> Unavailable:
    message = "AWS answered so late that keys which end with the pass could not be had in time."
    return Unavailable("TooLate", message, "Nobody was given anything. Try again, or ask again if the pass is over.")


def _another() -> Unavailable:
    message = "AWS answered with keys of another session than the one that asked."
    return Unavailable("AnotherSession", message, "Nobody was given anything: Daypass's operators should look at it.")
