"""The proof that AWS has a deny policy: a session under the probe's name is refused, one under another works.

A call that fails proves nothing by itself: the role may never have been allowed it. Hence the control.
"""

import enum
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from requests_app.aws import patience, sts
from requests_app.aws.deny_policy import probe_prefix
from requests_app.aws.errors import AwsError, Refused, Unavailable, translate
from requests_app.aws.iam import check_installation
from requests_app.aws.scoping import Known
from requests_app.aws.session_policy import MIN_SESSION_SECONDS, session_policy
from requests_app.aws.sts import MintedSession, MintOrder

GOOD_FOR = timedelta(minutes=2)


class Harmless(NamedTuple):
    """A call that changes nothing and tells little."""

    service: str
    operation: str
    parameters: Mapping[str, Any]


# By IAM's name. First the services whose refusals say which kind of policy refused and whose models load
# quickly; S3 does not always say, and EC2's is large.
HARMLESS: Mapping[str, Harmless] = MappingProxyType(
    {
        "sqs:ListQueues": Harmless("sqs", "list_queues", {"MaxResults": 1}),
        "dynamodb:ListTables": Harmless("dynamodb", "list_tables", {"Limit": 1}),
        "iam:ListAccountAliases": Harmless("iam", "list_account_aliases", {"MaxItems": 1}),
        "ssm:DescribeParameters": Harmless("ssm", "describe_parameters", {"MaxResults": 1}),
        "sns:ListTopics": Harmless("sns", "list_topics", {}),
        "logs:DescribeLogGroups": Harmless("logs", "describe_log_groups", {"limit": 1}),
        "s3:ListAllMyBuckets": Harmless("s3", "list_buckets", {"MaxBuckets": 1}),
        "ec2:DescribeRegions": Harmless("ec2", "describe_regions", {}),
    }
)


class End(enum.Enum):
    """How one call ended. Denied explicitly by a policy of the role, or by the session's own; or otherwise."""

    WORKED = enum.auto()
    DENIED_BY_ROLE = enum.auto()
    DENIED_BY_SESSION = enum.auto()
    DENIED = enum.auto()
    FAILED = enum.auto()
    NO_ANSWER = enum.auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """AWS's reply to one call, at `at` by its clock; its code and words if it is none that we wanted."""

    end: End
    at: datetime | None
    code: str = ""
    words: str = ""


class Outcome(enum.StrEnum):
    """`REFUSED` is the proof. `NOT_YET` and `UNKNOWN`: look again; `UNPROVABLE`: not as the role is now."""

    REFUSED = "refused"
    NOT_YET = "not yet"
    UNPROVABLE = "unprovable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ProbeOrder:
    """What to prove: that sessions of this role meet the document of this generation, in this region.

    `action` is one of HARMLESS that a preflight saw to work.
    """

    role_arn: str
    region: str
    installation: str
    generation: int
    action: str
    external_id: str | None = None
    source_identity: str | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """A session that Daypass had for itself, for the record; nobody is given its keys."""

    session_name: str
    access_key_id: str
    assumed_role_arn: str
    expires_at: datetime

    @classmethod
    def of(cls, session: MintedSession | Known) -> "Issued":
        name = session.assumed_role_id.partition(":")[2]
        return cls(name, session.access_key_id, session.assumed_role_arn, session.expires_at)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two live sessions, both good for the one action for GOOD_FOR. Never stored: it holds their keys."""

    order: ProbeOrder
    control: Any = field(repr=False)
    probe: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a look at AWS showed, at `at` by its clock. `code` and `words` are AWS's, if it refused."""

    outcome: Outcome
    at: datetime | None = None
    code: str = ""
    words: str = ""


def prove(
    order: ProbeOrder, now: Callable[[], datetime], record: Callable[[Issued], None] = lambda issued: None
) -> Proof:
    """Mint a pair and look once. Never raises an AwsError; the rest as `mint`."""
    try:
        pair = mint(order, now, record)
    except Unavailable as unavailable:
        return Proof(Outcome.UNKNOWN, None, unavailable.code, unavailable.message)
    except Refused as refused:
        return Proof(Outcome.UNPROVABLE, None, refused.code, refused.message)
    return look(pair)


def mint(
    order: ProbeOrder, now: Callable[[], datetime], record: Callable[[Issued], None] = lambda issued: None
) -> Pair:
    """Two sessions of the role that differ in nothing but their name. Raises Refused or Unavailable.

    `now` is AWS's time as well as we know it; `record` gets each session before the next call goes out.
    A pair minted and looked at before the policy is written shows more than a fresh one: AWS may answer an
    older session from what it remembers. A document with a fallback (`since`) refuses the control too if it
    was issued before then: mint after it.
    """
    check_installation(order.installation)
    if order.action not in HARMLESS:
        raise ValueError(f"no harmless action: {order.action}")
    clients = []
    for prefix in (_control_prefix(order), probe_prefix(order.installation, order.generation)):
        session = _mint(order, prefix, now())
        record(Issued.of(session))
        clients.append(_client(session, order.action, order.region))
    return Pair(order, *clients)


def look(pair: Pair) -> Proof:
    """Call the harmless action as both. Never raises an AwsError; may be repeated while the pair is good."""
    call = HARMLESS[pair.order.action]
    control = reply(pair.control, call)
    if control.end is not End.WORKED:
        return Proof(_CONTROL_FAILED[control.end], control.at, control.code, control.words)
    probe = reply(pair.probe, call)
    return Proof(_CONTROL_WORKED[probe.end], probe.at, probe.code, probe.words)


def try_action(session: MintedSession, action: str, region: str) -> Reply:
    """One harmless action as this session."""
    try:
        client = _client(session, action, region)
    except AwsError as error:
        return _from_failure(error, None)
    return reply(client, HARMLESS[action])


def reply(client: Any, call: Harmless) -> Reply:
    """One call, as whoever `client` acts as. Raises no AwsError.

    Keys that have expired are NO_ANSWER, as everything that is no refusal of this call: see `code`.
    """
    try:
        with patience.bounded():
            answer = getattr(client, call.operation)(**call.parameters)
    except ClientError as error:
        return _from_error(error)
    except Exception as error:  # noqa: BLE001
        return _from_failure(translate(error), None)
    if not sts.is_from_aws(answer):
        return _from_failure(translate(ValueError("not from AWS")), None)
    return Reply(End.WORKED, sts.date_of(answer))


_CONTROL_FAILED = {
    End.DENIED_BY_ROLE: Outcome.UNPROVABLE,
    End.DENIED_BY_SESSION: Outcome.UNKNOWN,
    End.DENIED: Outcome.UNPROVABLE,
    End.FAILED: Outcome.UNPROVABLE,
    End.NO_ANSWER: Outcome.UNKNOWN,
}
_CONTROL_WORKED = _CONTROL_FAILED | {End.WORKED: Outcome.NOT_YET, End.DENIED_BY_ROLE: Outcome.REFUSED}

# As services spell it, without the suffix "Exception".
_DENIED = ("AccessDenied", "UnauthorizedOperation", "AuthorizationError")
# Where AWS names a managed policy it was not ours: an inline one has no ARN.
_WHO_DENIED = re.compile(r"with an explicit deny in an? (identity-based|session) policy(?!: \S+:policy/)")
_ENDS = {"identity-based": End.DENIED_BY_ROLE, "session": End.DENIED_BY_SESSION}


def _control_prefix(order: ProbeOrder) -> str:
    return f"DP-CONTROL-{order.installation}-{order.generation}-"


def _mint(order: ProbeOrder, prefix: str, now: datetime) -> MintedSession:
    allow = {"Effect": "Allow", "Action": order.action, "Resource": "*"}
    return sts.assume_role(
        MintOrder(
            role_arn=order.role_arn,
            region=order.region,
            session_name=prefix + secrets.token_hex(4),
            duration_seconds=MIN_SESSION_SECONDS,
            policy=session_policy(cut_off=now + GOOD_FOR, role_arn=order.role_arn, statements=[allow]),
            external_id=order.external_id,
            source_identity=order.source_identity,
        )
    )


def _client(session: MintedSession, action: str, region: str) -> Any:
    return sts.attempt(lambda: sts.client_of(session, HARMLESS[action].service, region))


def _from_error(error: ClientError) -> Reply:
    known, at = translate(error), sts.date_of(error.response)
    if known.code.removesuffix("Exception") not in _DENIED:
        return _from_failure(known, at)
    # In AWS's whole message, which ours may cut. Of an answer that was cut off on its way botocore gives all there is.
    words = str(error.response["Error"].get("Message") or "{")
    if words.startswith("{"):
        return Reply(End.NO_ANSWER, at, known.code, known.message)
    who = _WHO_DENIED.search(words)
    return Reply(_ENDS[who[1]] if who else End.DENIED, at, known.code, known.message)


def _from_failure(known: AwsError, at: datetime | None) -> Reply:
    end = End.FAILED if isinstance(known, Refused) else End.NO_ANSWER
    return Reply(end, at, known.code, known.message)
