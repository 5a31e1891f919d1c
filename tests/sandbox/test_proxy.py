"""The proxy changes nothing until it is told to, and then breaks just that."""

import dataclasses
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import boto3
import pytest
from botocore import exceptions as botocore
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.aws import AwsStandIn
from sandbox.caller import REGION, Caller
from sandbox.landscape import ACCOUNTS
from sandbox.proxy import Fault, FaultProxy, Seen

pytestmark = pytest.mark.xdist_group("aws")

PAYMENTS = ACCOUNTS[0]


@pytest.fixture
def proxy(aws_stand_in: AwsStandIn) -> Iterator[FaultProxy]:
    with FaultProxy(aws_stand_in.url) as proxy:
        yield proxy


@pytest.fixture
def caller(aws_stand_in: AwsStandIn, proxy: FaultProxy) -> Caller:
    """Someone in payments-prod who may do anything, through the proxy."""
    someone = aws_stand_in.assume("minter", PAYMENTS.role_arn("Administrator"), ExternalId=PAYMENTS.external_id)
    return dataclasses.replace(someone, endpoint=proxy.url)


def impatient(caller: Caller) -> Any:
    keys = (caller.access_key_id, caller.secret_access_key, caller.session_token)
    config = Config(read_timeout=0.5, retries={"total_max_attempts": 1})
    return boto3.session.Session(*keys, region_name=REGION).client("sqs", endpoint_url=caller.endpoint, config=config)


def test_signed_requests_of_every_kind_pass(caller: Caller, proxy: FaultProxy) -> None:
    """The stand-in checks signatures, and the host is part of what is signed."""
    bucket = f"bucket-{secrets.token_hex(4)}"
    s3 = caller.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="a/b c?d", Body=b"x" * 100_000)

    assert s3.get_object(Bucket=bucket, Key="a/b c?d")["Body"].read() == b"x" * 100_000
    assert s3.head_object(Bucket=bucket, Key="a/b c?d")["ContentLength"] == 100_000
    assert caller.client("sts").get_caller_identity()["Account"] == PAYMENTS.id
    caller.client("sqs").list_queues()
    counts = proxy.counts()
    assert counts[Seen("s3", "PUT", None)] == 2
    assert counts[Seen("sts", "GetCallerIdentity", None)] == 1
    assert counts[Seen("sqs", "ListQueues", None)] == 1


def test_a_wrong_signature_is_still_refused(caller: Caller, proxy: FaultProxy) -> None:
    forged = dataclasses.replace(caller, secret_access_key="not-the-key")

    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        forged.client("sts").get_caller_identity()


def test_only_what_was_named_is_broken_and_so_often(caller: Caller, proxy: FaultProxy) -> None:
    sts, sqs = caller.client("sts"), caller.client("sqs")
    proxy.fail(Fault.THROTTLED, services={"sqs"}, actions={"ListQueues"}, times=2)

    sqs.get_queue_url(QueueName="payouts-failed")
    sts.get_caller_identity()
    for _ in range(2):
        with pytest.raises(ClientError, match="Throttling"):
            sqs.list_queues()
    sqs.list_queues()

    assert proxy.counts()[Seen("sqs", "ListQueues", Fault.THROTTLED)] == 2
    assert proxy.counts()[Seen("sqs", "ListQueues", None)] == 1


def test_a_share_is_broken_until_it_is_healed(caller: Caller, proxy: FaultProxy) -> None:
    sts = caller.client("sts")
    proxy.fail(Fault.ERROR_503, share=0.5)
    failures = 0
    for _ in range(40):
        try:
            sts.get_caller_identity()
        except ClientError:
            failures += 1
    proxy.heal()

    assert 8 <= failures <= 32
    assert proxy.counts()[Seen("sts", "GetCallerIdentity", Fault.ERROR_503)] == failures
    sts.get_caller_identity()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.SILENCE, botocore.ReadTimeoutError),
        (Fault.SILENCE_AFTER, botocore.ReadTimeoutError),
        (Fault.RESET, botocore.ConnectionClosedError),
        (Fault.RESET_AFTER, botocore.ConnectionClosedError),
        (Fault.ERROR_500, ClientError),
        (Fault.ERROR_504, ClientError),
    ],
)
def test_aws_did_it_or_did_not(
    caller: Caller, proxy: FaultProxy, aws_stand_in: AwsStandIn, fault: Fault, error: type[Exception]
) -> None:
    name = f"queue-{secrets.token_hex(4)}"
    sqs = impatient(caller)
    proxy.fail(fault, services={"sqs"})

    with pytest.raises(error):
        sqs.create_queue(QueueName=name)

    existing = str(aws_stand_in.root(PAYMENTS.id).client("sqs").list_queues())
    assert (name in existing) is fault.did_it


@pytest.mark.parametrize("seconds", [-90, 45])
def test_aws_clock_seems_apart(caller: Caller, proxy: FaultProxy, seconds: float) -> None:
    proxy.fail(Fault.WRONG_DATE, seconds=seconds)

    answer = caller.client("sts").get_caller_identity()

    date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    assert abs((date - datetime.now(UTC)).total_seconds() - seconds) < 3


def test_a_drip_is_slow_and_whole(caller: Caller, proxy: FaultProxy) -> None:
    sts = caller.client("sts")
    proxy.fail(Fault.DRIP, seconds=0.002)
    started = time.monotonic()

    assert sts.get_caller_identity()["Account"] == PAYMENTS.id

    assert time.monotonic() - started > 0.5


def test_every_session_is_known_even_if_its_answer_was_lost(aws_stand_in: AwsStandIn, proxy: FaultProxy) -> None:
    proxy.fail(Fault.RESET_AFTER, actions={"AssumeRole"}, times=1)
    hub = dataclasses.replace(aws_stand_in.as_profile("minter"), endpoint=proxy.url).client("sts")
    arn = PAYMENTS.role_arn("ReadOnly")
    wish = {"RoleArn": arn, "RoleSessionName": "DP-00000000-x", "ExternalId": PAYMENTS.external_id}

    with pytest.raises(botocore.ConnectionClosedError):
        hub.assume_role(**wish)
    with pytest.raises(ClientError, match="AccessDenied"):
        hub.assume_role(**wish | {"ExternalId": "another"})
    parent = hub.assume_role(**wish)["Credentials"]
    session = dataclasses.replace(aws_stand_in.as_session(parent), endpoint=proxy.url).client("sts", checked=False)
    proxy.fail(Fault.RESET_AFTER, actions={"GetScopedCredentials"}, times=1)
    with pytest.raises(botocore.ConnectionClosedError):
        session.get_scoped_credentials(DurationSeconds=60)
    scoped = session.get_scoped_credentials(DurationSeconds=60)["Credentials"]

    assert [(one.role_arn, one.session_name) for one in proxy.issued()] == [(arn, "DP-00000000-x")] * 4
    assert [one.parent for one in proxy.issued()] == ["", "", parent["AccessKeyId"], parent["AccessKeyId"]]
    assert [one.access_key_id for one in proxy.issued()][1::2] == [parent["AccessKeyId"], scoped["AccessKeyId"]]
    assert proxy.issued()[3].expires_at == scoped["Expiration"]


def test_nobody_behind_it_is_a_broken_connection() -> None:
    with FaultProxy("http://127.0.0.1:9") as proxy, pytest.raises(botocore.ConnectionClosedError):
        Caller(proxy.url, PAYMENTS.id, "any").client("sts").get_caller_identity()
