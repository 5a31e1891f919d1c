"""No call holds a worker's thread for longer than agreed, and what is late is not sent any more."""

import contextlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.config import Config

from requests_app.aws import patience, sts
from requests_app.aws.errors import AwsError, Unavailable
from sandbox.proxy import Fault

from .conftest import Script, everything_in
from .test_trouble_with_sts import KEYS, MINTED, SECRET_KEY

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 5000\r\n\r\n"
DRIPS = {
    "the first line": b"HTTP/1",
    "a header": b"HTTP/1.1 200 OK\r\nX-Slow: ",
    "headers": b"HTTP/1.1 200 OK\r\n" + b"X-Slow: y\r\n" * 5,
    "the body": WHOLE + b"<Assume",
    "a body without a length": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<Assume",
    "a piece's length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a piece": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n",
    "a preliminary answer": b"HTTP/1.1 100 Continue\r\n",
}


@pytest.fixture
def facing(as_worker, server, certificate):
    def face(script, tls=None):
        aws = server(script, tls)
        as_worker(KEYS | {"AWS_ENDPOINT_URL": aws.url, "AWS_CA_BUNDLE": str(certificate)})
        sts._ready("us-east-1")
        return aws

    return face


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("drip", DRIPS)
def test_a_drip_is_cut_wherever_it_begins(facing, order, impatient, tls, drip, encrypted):
    aws = facing(Script.drip(DRIPS[drip]), tls if encrypted else None)
    started = time.monotonic()

    with impatient(0.6), pytest.raises(Unavailable) as unavailable:
        sts.assume_role(order)

    assert 0.5 < time.monotonic() - started < 5  # it would be 20
    assert unavailable.value.outcome_unknown
    assert unavailable.value.code == "ReadTimeoutError"
    assert aws.count(b"Action=AssumeRole") == 1


def test_a_handshake_that_drips_is_cut(as_worker, server, order, monkeypatch):
    """Its time-out is for the whole, and that of connecting."""

    def drip(connection):
        with contextlib.suppress(OSError):
            Script.drip(b"")(connection)

    aws = server(Script.reset)
    monkeypatch.setattr(aws, "_serve", drip)
    as_worker(KEYS | {"AWS_ENDPOINT_URL": aws.url.replace("http:", "https:")})
    monkeypatch.setattr(sts, "_CONFIG", sts._CONFIG.merge(Config(connect_timeout=0.5)))
    started = time.monotonic()

    with pytest.raises(Unavailable):
        sts.assume_role(order)

    assert time.monotonic() - started < 5  # it would be 20


@pytest.mark.parametrize("head", [WHOLE.replace(b"5000", b"500000000"), b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_without_an_end_is_not_kept(facing, order, head):
    sent = 0

    def script(connection):
        nonlocal sent
        connection.sendall(head + MINTED.encode())
        while sent < 200 * 1024 * 1024:
            sent += connection.send(b" " * 65536)

    facing(script)
    started = time.monotonic()

    with pytest.raises(Unavailable) as unavailable:
        sts.assume_role(order)

    assert unavailable.value.outcome_unknown
    assert time.monotonic() - started < 5
    time.sleep(0.1)
    assert sent < patience.LARGEST_ANSWER + 20 * 1024 * 1024  # what the kernel has room for besides


def test_a_large_answer_is_taken(facing, order):
    facing(Script.answer(MINTED + " " * (patience.LARGEST_ANSWER - 10_000)))

    assert sts.assume_role(order).secret_access_key.reveal() == SECRET_KEY


def test_what_was_slow_but_in_time_is_an_answer_and_spoils_nothing(facing, order, impatient):
    """The connection is used again, with all the time that a new call has."""
    delays = iter([0.7, 0.4, 0.0])

    def script(connection):
        time.sleep(next(delays))
        Script.answer(MINTED)(connection)

    aws = facing(script)
    with impatient(0.9):
        for _ in range(3):
            assert sts.assume_role(order).access_key_id

    assert aws.count(b"Action=AssumeRole") == 3


def test_a_connection_that_was_cut_is_not_used_again(facing, order, impatient):
    first = threading.Event()

    def script(connection):
        if first.is_set():
            Script.answer(MINTED)(connection)
        first.set()
        Script.drip(WHOLE)(connection)

    facing(script)
    with impatient(0.5), pytest.raises(Unavailable):
        sts.assume_role(order)

    assert sts.assume_role(order).secret_access_key.reveal() == SECRET_KEY


def test_time_that_our_own_identity_took_is_not_to_be_had_again(as_worker, aws_stand_in, proxy, order, impatient):
    """Its keys are good still, so the mint would go out, but too late: it does not, and that is known."""
    as_worker(aws_stand_in.profile("minter") | {"AWS_ENDPOINT_URL": proxy.url})
    ours: Any = sts._ready(order.region).credentials
    ours._expiry_time = datetime.now(UTC) + timedelta(minutes=12)  # due for renewal, not overdue
    ours._refresh_using.__self__._cache.clear()
    proxy.fail(Fault.DRIP, actions={"AssumeRole"}, times=1, seconds=0.1)
    before = proxy.counts().total()

    with impatient(0.6), pytest.raises(Unavailable) as unavailable:
        sts.assume_role(order)

    assert not unavailable.value.outcome_unknown
    assert unavailable.value.code == "ConnectTimeoutError"
    assert proxy.counts().total() - before == 1
    assert not [one for one in proxy.issued() if one.role_arn == order.role_arn]


def test_many_who_wait_for_our_own_identity_do_not_wait_for_one_another(
    as_worker, aws_stand_in, proxy, order, impatient
):
    """botocore renews it under a lock: one after the other, each would wait its own time-out."""
    as_worker(aws_stand_in.profile("minter") | {"AWS_ENDPOINT_URL": proxy.url})
    sts._callers[order.region] = sts._make_caller(order.region)
    proxy.fail(Fault.SILENCE)

    def mint() -> tuple[type[AwsError], float]:
        started = time.monotonic()
        with pytest.raises(AwsError) as no:
            sts.assume_role(order)
        return type(no.value), time.monotonic() - started

    with impatient(1), ThreadPoolExecutor(8) as threads:
        ends = list(threads.map(lambda _: mint(), range(8)))

    assert {kind for kind, _ in ends} == {Unavailable}
    assert max(took for _, took in ends) < 5  # and not 8
    assert proxy.issued() == []


def test_nothing_is_bounded_outside_our_calls(facing, impatient):
    """Other users of botocore in this process keep its own rules."""
    facing(Script.answer(MINTED))
    client = sts._ready("us-east-1").client

    with impatient(-1):
        assert client.assume_role(RoleArn="arn:aws:iam::111111111111:role/x", RoleSessionName="DP-x")


# --- what the libraries below would have told -----------------------------------------------------


def test_a_head_into_which_the_body_runs_is_not_logged(facing, order, caplog):
    caplog.set_level(logging.DEBUG)
    body = MINTED.replace("\n", "")

    def script(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + body.encode() + b"\r\n\r\n")
        raise OSError

    facing(script)

    with pytest.raises(Unavailable) as unavailable:
        sts.assume_role(order)

    assert SECRET_KEY not in caplog.text + everything_in(unavailable.value)
