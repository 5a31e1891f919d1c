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
class Parent:
    """What may be known of a session whose keys nobody is given."""

    access_key_id: str
    assumed_role_id: str
    expires_at: datetime

    @classmethod
    def of(cls, session: MintedSession) -> "Parent":
        return cls(session.access_key_id, session.assumed_role_id, session.expires_at)


@dataclass(frozen=True, slots=True)
class Scoped:
    """What became of one parent: the scoped `session`, or why there is none."""

    parent: Parent
    session: MintedSession | None = None
    failure: AwsError | None = None


def mint(order: MintOrder, scope: Scope) -> Scoped:
    """Assume a role, and scope down what came of it, at most twice.

    Raises Refused or Unavailable only where no parent was made, or none that is known of. The session's own expiration
    is never later than `cut_off`.
    """
    began = time.monotonic()
    session = sts.assume_role(order)
    parent = Parent.of(session)
    try:
        return Scoped(parent, session=_scope(session, order, scope, began))
    except AwsError as error:
        failure = error
    return Scoped(parent, failure=failure)


def is_for_good(failure: AwsError) -> bool:
    """AWS does not scope sessions of this role: it was no time-out, and no asking us to slow down."""
    return isinstance(failure, Refused) and failure.code.removesuffix("Exception") in _NEVER


def _scope(parent: MintedSession, order: MintOrder, scope: Scope, began: float) -> MintedSession:
    # STS counts from whole seconds: this is the one in which it issued, which was not over before `began`.
    issued = parent.expires_at - timedelta(seconds=order.duration_seconds)
    for _ in range(MOST_CALLS):
        seconds = None
        if parent.expires_at > scope.cut_off:
            left = (scope.cut_off - issued).total_seconds()
            seconds = math.floor(left) - 1 - math.floor(time.monotonic() - began)
            if seconds < 1:
                raise _too_late()
        began = time.monotonic()
        scoped = sts.scope(parent, order.region, seconds=seconds, policy=scope.policy, description=scope.description)
        if scoped.assumed_role_arn != parent.assumed_role_arn or scoped.access_key_id == parent.access_key_id:
            raise _another()
        if scoped.expires_at <= scope.cut_off:
            return scoped
        if seconds is None:
            break
        issued = scoped.expires_at - timedelta(seconds=seconds)
    raise _too_late()


def _too_late() -> Unavailable:
    message = "AWS answered so late that keys which end with the pass could not be had in time."
    return Unavailable("TooLate", message, "Nobody was given anything. Try again, or ask again if the pass is over.")


def _another() -> Unavailable:
    message = "AWS answered with keys of another session than the one that asked."
    return Unavailable("AnotherSession", message, "Nobody was given anything: Daypass's operators should look at it.")
