"""IAM in a target account, and what else is asked there, as the role that only the revoker may become."""

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from botocore.exceptions import ClientError
from botocore.handlers import json_decode_policies

from requests_app.aws import sts
from requests_app.aws.errors import AwsError, Refused, Unavailable, translate
from requests_app.domain import arns, narrowing

T = TypeVar("T")

_INSTALLATION = re.compile(r"[a-z0-9]{1,24}")


@dataclass(frozen=True, slots=True)
class Place:
    """One role, and the way to it: through the account's revoker role. Raises ValueError on what cannot be.

    `installation` is this Daypass's own id, the same for ever. It has no dash, so that no id begins like
    another and a dash; AWS's names hold it, beside those of another installation on the same role.
    """

    role_arn: str
    revoker_role_arn: str
    region: str
    installation: str
    external_id: str | None = None

    def __post_init__(self) -> None:
        check_installation(self.installation)
        role, revoker = (arns.ROLE_ARN.fullmatch(arn) for arn in (self.role_arn, self.revoker_role_arn))
        if not role or not revoker:
            raise ValueError(f"This is not the ARN of a role: {self.revoker_role_arn if role else self.role_arn}")
        # IAM is asked by name alone, in whatever account the revoker's role is.
        if (role["partition"], role["account"]) != (revoker["partition"], revoker["account"]):
            raise ValueError("The revoker's role must be in the role's own account.")

    @property
    def role_name(self) -> str:
        """IAM's names are unique in an account, whatever the path."""
        return self.role_arn.rsplit("/", 1)[-1]


def check_installation(installation: str) -> None:
    if not _INSTALLATION.fullmatch(installation):
        raise ValueError("An installation's id has 1 to 24 small letters and digits.")


def ask(place: Place, operation: str, **parameters: Any) -> Mapping[str, Any]:
    """One call of IAM about the role, never repeated. Raises Refused or Unavailable.

    A policy document comes back as AWS sends it: percent-encoded text. What an operation is asked for is in
    its answer; the rest may be missing.
    """

    def read(answer: Mapping[str, Any]) -> Mapping[str, Any]:
        return _whole(operation, answer)

    return call(place, "iam", operation, read, _from_iam, RoleName=place.role_name, **parameters)


def call(
    place: Place,
    service: str,
    operation: str,
    read: Callable[[Mapping[str, Any]], T],
    kind: Callable[[BaseException], AwsError],
    **parameters: Any,
) -> T:
    """What `read` makes of the answer to one call in the role's account, never repeated. Raises what `kind` makes of
    what went wrong.
    """
    ask_for = getattr(_client(place, service), operation)
    try:
        return sts.attempt(lambda: read(ask_for(**parameters)), kind)
    except Unavailable as unavailable:
        if unavailable.code.removesuffix("Exception") in STALE:
            _sessions.pop(_key(place), None)
        raise


def is_missing(error: AwsError) -> bool:
    """Whether IAM says that there is no such role or policy."""
    return error.code in ("NoSuchEntity", "NoSuchEntityException")


def forget_clients() -> None:
    """Make the next call become the revoker's role anew. A forked child starts like that."""
    _sessions.clear()


class _Session(NamedTuple):
    session: sts.MintedSession
    clients: dict[str, Any]  # by service, made when they are needed
    good_until: float  # by time.monotonic


_SESSION_SECONDS = 3600  # the longest a role may become another role for
_MARGIN = 300
# All that the revoker's session is for, whatever its role may do besides.
_WORK = (
    *("iam:GetRole", "iam:ListRolePolicies", "iam:GetRolePolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy"),
    *("signin:GetConsoleAuthorizationConfiguration", "signin:ListSessions", "signin:BatchRevokeSessions"),
)
_POLICY = narrowing.compact(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(_WORK), "Resource": "*"}]}
)

# What an answer is for: one without it cannot be read.
_ANSWERS = {"list_role_policies": "PolicyNames", "get_role_policy": "PolicyDocument", "get_role": "Role"}

_sessions: dict[tuple[str, ...], _Session] = {}
os.register_at_fork(after_in_child=forget_clients)


def _whole(operation: str, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    if not sts.is_from_aws(answer) or (operation in _ANSWERS and _ANSWERS[operation] not in answer):
        raise ValueError("half an answer")
    return answer


def _key(place: Place) -> tuple[str, ...]:
    return place.revoker_role_arn, place.external_id or "", place.region, place.installation


def _client(place: Place, service: str) -> Any:
    # No lock: two threads that both become the role cost one call more, and neither waits for the other's AWS.
    known = _sessions.get(_key(place))
    if not known or known.good_until <= time.monotonic():
        known = _sessions[_key(place)] = _become(place)
    if service not in known.clients:
        known.clients[service] = _made(known.session, service, place.region)
    return known.clients[service]


def _become(place: Place) -> _Session:
    started = time.monotonic()
    order = sts.MintOrder(
        role_arn=place.revoker_role_arn,
        region=place.region,
        session_name=f"DP-REVOKE-{place.installation}",
        duration_seconds=_SESSION_SECONDS,
        policy=_POLICY,
        external_id=place.external_id,
    )
    try:
        session = sts.assume_role(order)
    except Refused as refused:
        raise Refused(refused.code, refused.message, _FIX_REVOKER) from None
    return _Session(session, {}, started + _SESSION_SECONDS - _MARGIN)


def _made(session: sts.MintedSession, service: str, region: str) -> Any:
    client = sts.attempt(lambda: sts.client_of(session, service, region))
    # botocore would hand out documents read; their length as they were written is what IAM counts.
    client.meta.events.unregister("after-call.iam", json_decode_policies)
    # AWS Sign-In's own rules of endpoints do not ask for one that was configured: a VPC's, or a stand-in.
    client.meta.events.register("before-endpoint-resolution.signin", _note_configured)
    client.meta.events.register("before-call.signin", _send_there)
    return client


def _note_configured(builtins: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
    context["daypass_endpoint"] = builtins.get("SDK::Endpoint")


def _send_there(params: dict[str, Any], context: Mapping[str, Any], **_: Any) -> None:
    if configured := context.get("daypass_endpoint"):
        params["url"] = configured.rstrip("/") + params["url_path"]


_FIX_REVOKER = (
    "Daypass cannot become the account's revoker role: it may be missing, or not trust Daypass's revoker with this "
    "external id. Until its owner has corrected it nothing here can be ended early."
)
BECOME_AGAIN = "The session of the account's revoker role is no longer good: Daypass makes another and tries again."
_TRY_AGAIN = "Somebody else was changing the role just then: Daypass tries again."

# What these codes mean where IAM says them; STS's meanings are in errors.py.
_RULES: dict[str, tuple[type[AwsError], str]] = {
    "NoSuchEntity": (Refused, "The role is not in the account any more: an operator should correct the catalog."),
    "LimitExceeded": (
        Refused,
        "The role's inline policies leave no room for the denies: the account's owner should make managed policies "
        "of the others.",
    ),
    "MalformedPolicyDocument": (
        Refused,
        "This is a fault in Daypass: please report it to its operators, with this text.",
    ),
    "UnmodifiableEntity": (
        Refused,
        "Nobody can change this role but the AWS service that it belongs to: its sessions cannot be ended early.",
    ),
    "AccessDenied": (
        Refused,
        # Allowed by path, it is refused what has none: a role that does not exist.
        "The account's revoker role may not do this, or the role is gone: the account's owner should allow it, or an "
        "operator correct the catalog.",
    ),
    "ExpiredToken": (Unavailable, BECOME_AGAIN),
    "InvalidClientTokenId": (Unavailable, BECOME_AGAIN),
    "ConcurrentModification": (Unavailable, _TRY_AGAIN),
    "EntityTemporarilyUnmodifiable": (Unavailable, _TRY_AGAIN),
}
STALE = ("ExpiredToken", "InvalidClientTokenId", "UnrecognizedClient")


def _from_iam(error: BaseException) -> AwsError:
    known = translate(error)
    rule = _RULES.get(known.code.removesuffix("Exception")) if isinstance(error, ClientError) else None
    return rule[0](known.code, known.message, rule[1]) if rule else known
