"""STS: minting a session, and reading AWS's clock."""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials, ReadOnlyCredentials
from botocore.exceptions import NoCredentialsError

from requests_app.aws import patience
from requests_app.aws.errors import AwsError, given_identity, own_identity, translate
from requests_app.domain.secret import Secret

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MintOrder:
    """One session to be minted. No session tags: they would need `sts:TagSession` in every trust policy."""

    role_arn: str
    region: str
    session_name: str
    duration_seconds: int
    policy: str
    policy_arns: tuple[str, ...] = ()
    source_identity: str | None = None
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class MintedSession:
    """What STS issued. Only the two Secrets are secret; the rest may be recorded."""

    access_key_id: str
    secret_access_key: Secret
    session_token: Secret
    expires_at: datetime
    assumed_role_id: str
    assumed_role_arn: str
    packed_policy_size: int | None
    # 0 where it lasts as long as the session that it was scoped from.
    asked_duration: int
    aws_date: datetime | None
    session_token_utilization: int | None = None


@dataclass(frozen=True, slots=True)
class ClockReading:
    """AWS's clock minus ours lies between `low` and `high` seconds; and who AWS says we are."""

    low: float
    high: float
    identity_arn: str
    chained: bool


def assume_role(order: MintOrder) -> MintedSession:
    """Mint one session, by one call that is never repeated.

    Raises Refused or Unavailable; `outcome_unknown` on those means that a session may exist of which
    nobody has the keys.
    """
    with patience.bounded():
        client = _ready(order.region).client
        return attempt(lambda: _minted(order, client.assume_role(**_parameters(order))))


def scope(session: MintedSession, region: str, *, seconds: int | None, policy: str, description: str) -> MintedSession:
    """New keys of the same session, which `policy` narrows and which end after `seconds`; None: when that one does.

    By one call at a regional endpoint, as `session`, never repeated. Raises Refused or Unavailable; `outcome_unknown`
    on those means that there may be keys that nobody has.
    """
    asked = {"Policy": policy, "DurationSeconds": seconds, "ScopedSessionDescription": description}
    with patience.bounded(), _acting_as(session):
        client = attempt(lambda: _scoping_client(region), own_identity)
        call = {name: value for name, value in asked.items() if value}
        return attempt(lambda: _scoped(session, seconds, client.get_scoped_credentials(**call)), given_identity)


def read_clock(region: str, now: Callable[[], datetime]) -> ClockReading:
    """Ask AWS for the time and for our own identity. Raises Refused or Unavailable.

    `now` is the clock to compare with, such as the database's.
    """
    with patience.bounded():
        caller = _ready(region)
        before, started = now(), time.monotonic()
        identity = attempt(lambda: _identity(caller.client.get_caller_identity()))
    round_trip, after = timedelta(seconds=time.monotonic() - started), now()
    # If our clock was set in between, the reading covers it as it was before and after.
    low, high = _offset(identity.date, min(before, after - round_trip), max(after, before + round_trip))
    return ClockReading(low, high, identity.arn, is_chained(identity.arn, temporary=caller.is_temporary()))


def offset_from_mint(expires_at: datetime, duration: int, before: datetime, after: datetime) -> tuple[float, float]:
    """AWS's clock minus ours, as (low, high) seconds, from a session minted between `before` and `after`."""
    return _offset(expires_at - timedelta(seconds=duration), before, after)


def is_chained(identity_arn: str, *, temporary: bool = False) -> bool:
    """Whether AWS counts what this identity assumes as role chaining, which it ends after an hour.

    It does for every role session except those that EC2 hands to its instances, and for the
    `temporary` keys of a user too.
    """
    session = re.fullmatch(r"arn:[\w-]+:sts::\d{12}:assumed-role/[^/]+/(.+)", identity_arn, re.ASCII)
    if session:
        return re.fullmatch(r"i-[0-9a-f]{8,17}", session[1]) is None
    return temporary


def client_of(session: MintedSession, service: str, region: str) -> Any:
    """A client of any service that acts as `session`, as patient as ours and with no repeats."""
    with _making:
        if "session" not in _keyless:
            _keyless["session"] = botocore.session.Session(profile=_profile)
            _keyless["session"].set_default_client_config(_CONFIG)
        return _keyless["session"].create_client(
            service,
            region_name=region,
            aws_access_key_id=session.access_key_id,
            aws_secret_access_key=session.secret_access_key.reveal(),
            aws_session_token=session.session_token.reveal(),
        )


def own_client(service: str, region: str) -> Any:
    """A client of any service that acts as we ourselves do. Raises Unavailable where AWS does not know us."""
    session = _ready(region).session
    with _making:
        return attempt(lambda: session.client(service), own_identity)  # type: ignore[call-overload]


def act_as(profile: str | None) -> None:
    """From now on this process is who an AWS profile says, whatever keys its environment holds; None: as that says."""
    global _profile
    _profile = profile
    forget_clients()


def attempt(call: Callable[[], T], kind: Callable[[BaseException], AwsError] = translate) -> T:
    """`call`, or an AwsError with no trace of what caused it: that may hold the keys AWS answered with.

    It does not last longer than `patience` allows.
    """
    try:
        with patience.bounded():
            return call()
    except Exception as error:  # noqa: BLE001
        failure = kind(error)
    raise failure


def is_from_aws(answer: Mapping[str, Any]) -> bool:
    """False for the page of a middle box, which reads as an answer of AWS in which everything is missing."""
    return bool(answer["ResponseMetadata"].get("RequestId"))


def date_of(answer: Mapping[str, Any]) -> datetime | None:
    """AWS's clock, to the second, as an answer (or an error's `response`) shows it."""
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


def endpoint(region: str) -> str:
    """The address at which STS is asked in this region, by the settings that this process was given."""
    return _ready(region).client.meta.endpoint_url


def forget_clients() -> None:
    """Make the next call read AWS's settings anew. A forked child starts like that."""
    global _lock, _making
    # The parent's may have been held by threads that this process does not have.
    _lock, _making = threading.Lock(), threading.Lock()
    _callers.clear()
    _keyless.clear()
    _scoping.clear()


class _Caller(NamedTuple):
    client: "STSClient"
    credentials: "Credentials"
    session: boto3.session.Session

    def is_temporary(self) -> bool:
        return self.credentials.get_frozen_credentials().token is not None


class _Identity(NamedTuple):
    arn: str
    date: datetime


_profile: str | None = None
_lock = threading.Lock()
_callers: dict[str, _Caller] = {}
# For clients with keys of their own. One session, so that it reads a service's model once; and not one that
# mints, which would wait for it.
_making = threading.Lock()
_keyless: dict[str, botocore.session.Session] = {}
# By region, for calls as sessions that were just made: whose keys a client of their own would hold, and for each of
# which it would set up TLS anew.
_scoping: dict[str, Any] = {}
_parent: ContextVar[ReadOnlyCredentials | None] = ContextVar("parent", default=None)
os.register_at_fork(after_in_child=forget_clients)

_CONFIG = Config(
    connect_timeout=3,
    read_timeout=10,
    max_pool_connections=32,  # one for each thread of a worker, or TLS is set up anew for each mint
    user_agent_appid="daypass",  # type: ignore[call-arg]  # unknown to the stubs
    retries={"mode": "standard", "total_max_attempts": 1},
)


class _OfThisCall(Credentials):
    """Whoever this thread acts as, for as long as it does."""

    def __init__(self) -> None:
        super().__init__("", "", method="daypass")

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        known = _parent.get()
        if known is None:
            raise NoCredentialsError
        return known


class _Provider(CredentialProvider):
    METHOD = "daypass"

    def load(self) -> Credentials:
        return _OfThisCall()


@contextmanager
def _acting_as(session: MintedSession) -> Iterator[None]:
    keys = (session.access_key_id, session.secret_access_key.reveal(), session.session_token.reveal())
    token = _parent.set(ReadOnlyCredentials(*keys))
    try:
        yield
    finally:
        _parent.reset(token)


def _scoping_client(region: str) -> Any:
    if client := _scoping.get(region):
        return client  # who mints does not wait for whoever makes another client
    with _making:
        if region not in _scoping:
            _keep_secrets_out_of_logs()
            session = botocore.session.Session(profile=_profile)
            session.set_default_client_config(_CONFIG)
            session.set_config_variable("sts_regional_endpoints", "regional")  # the global one does not know the call
            session.register_component("credential_provider", CredentialResolver([_Provider()]))
            _scoping[region] = session.create_client("sts", region_name=region)
        return _scoping[region]


def _ready(region: str) -> _Caller:
    """A client whose own credentials are good, so that what fails afterwards is about the call itself."""

    def sign_in() -> _Caller:
        with _lock:
            caller = _callers.get(region) or _callers.setdefault(region, _make_caller(region))
        caller.credentials.get_frozen_credentials()  # renews them when due: perhaps an AssumeRole of its own
        return caller

    return attempt(sign_in, own_identity)


def _make_caller(region: str) -> _Caller:
    _keep_secrets_out_of_logs()
    session = botocore.session.Session(profile=_profile)
    session.set_default_client_config(_CONFIG)  # holds for the clients that fetch our own credentials too
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    ours = boto3.session.Session(botocore_session=session, region_name=region)
    return _Caller(ours.client("sts"), credentials, ours)


def _keep_secrets_out_of_logs() -> None:
    # botocore writes whole answers and signed headers into its debug log,
    log = logging.getLogger("botocore")
    log.setLevel(max(log.getEffectiveLevel(), logging.INFO))
    # and, when it fails to renew our own keys, the answer that it could not read: with the new keys in it.
    for name in ("botocore.credentials", "botocore.tokens"):
        logging.getLogger(name).addFilter(_without_traceback)
    # So does urllib3 with a head that it cannot read, into which a broken answer's body may have run.
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info and record.exc_info[0]:
        record.msg = f"{record.msg} {record.exc_info[0].__name__}"
        record.exc_info = None
    return True


def _parameters(order: MintOrder) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "RoleArn": order.role_arn,
        "RoleSessionName": order.session_name,
        "DurationSeconds": order.duration_seconds,
        "Policy": order.policy,
        "PolicyArns": [{"arn": arn} for arn in order.policy_arns],
        "SourceIdentity": order.source_identity,
        "ExternalId": order.external_id,
    }
    return {name: value for name, value in parameters.items() if value}


def _minted(order: MintOrder, answer: Mapping[str, Any]) -> MintedSession:
    credentials, user = answer["Credentials"], answer["AssumedRoleUser"]
    return MintedSession(
        access_key_id=credentials["AccessKeyId"],
        secret_access_key=Secret(credentials["SecretAccessKey"]),
        session_token=Secret(credentials["SessionToken"]),
        expires_at=credentials["Expiration"].astimezone(UTC),
        assumed_role_id=user["AssumedRoleId"],
        assumed_role_arn=user["Arn"],
        packed_policy_size=answer.get("PackedPolicySize"),
        asked_duration=order.duration_seconds,
        aws_date=date_of(answer),
        session_token_utilization=answer.get("SessionTokenUtilization"),
    )


def _scoped(parent: MintedSession, seconds: int | None, answer: Mapping[str, Any]) -> MintedSession:
    credentials = answer["Credentials"]
    return MintedSession(
        access_key_id=credentials["AccessKeyId"],
        secret_access_key=Secret(credentials["SecretAccessKey"]),
        session_token=Secret(credentials["SessionToken"]),
        expires_at=credentials["Expiration"].astimezone(UTC),
        assumed_role_id=parent.assumed_role_id,
        assumed_role_arn=answer["SessionInfo"]["Arn"],
        packed_policy_size=None,
        asked_duration=seconds or 0,
        aws_date=date_of(answer),
        session_token_utilization=answer.get("SessionTokenUtilization"),
    )


def _identity(answer: Mapping[str, Any]) -> _Identity:
    date = date_of(answer)
    if date is None:
        raise ValueError("no Date")
    return _Identity(answer["Arn"], date)


def _offset(aws_second: datetime, before: datetime, after: datetime) -> tuple[float, float]:
    """AWS's time was within `aws_second` at some moment between `before` and `after`."""
    return (aws_second - after).total_seconds(), (aws_second - before).total_seconds() + 1
