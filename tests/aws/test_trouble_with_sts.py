"""STS broken or hostile in odd ways: what it comes to, that AssumeRole goes out once, and that no secret is told.

What breaks every day is in test_trouble_with_every_call.py.
"""

import logging
import os
import signal
import threading
import time

import pytest
from botocore.config import Config

from requests_app.aws import sts
from requests_app.aws.errors import AwsError, Refused, Unavailable

from .conftest import Script, everything_in

KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAABCDEFGHIJKLMNOP",
    "AWS_SECRET_ACCESS_KEY": "OurOwnKey0OurOwnKey1OurOwnKey2OurOwnKey3",
}
SECRET_KEY = "wJalrXUtnFEMI0K7MDENGbPxRfiCYEXAMPLEKEYx"
TOKEN = "FwoGZXIvYXdzEBYaD" * 12
SECRETS = (KEYS["AWS_SECRET_ACCESS_KEY"], SECRET_KEY, TOKEN)

MINTED = f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<Credentials><AccessKeyId>ASIAABCDEFGHIJKLMNOP</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>
<SessionToken>{TOKEN}</SessionToken><Expiration>2026-11-22T21:00:00Z</Expiration></Credentials>
<AssumedRoleUser><AssumedRoleId>AROA:DP-7K2M9QX4-alice</AssumedRoleId><Arn>arn:x</Arn></AssumedRoleUser>
</AssumeRoleResult></AssumeRoleResponse>"""


def error(code: str, message: str = "Said so.") -> str:
    return (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    monkeypatch.setattr(sts, "_CONFIG", sts._CONFIG.merge(Config(connect_timeout=0.5, read_timeout=0.5)))


@pytest.fixture
def facing(as_worker, server):
    def face(script):
        sts_server = server(script)
        as_worker(KEYS | {"AWS_ENDPOINT_URL": sts_server.url, "AWS_MAX_ATTEMPTS": "5"})
        return sts_server

    return face


def test_the_scripted_server_can_mint(facing, order):
    """Or the refusals below would prove nothing."""
    sts_server = facing(Script.answer(MINTED))

    session = sts.assume_role(order)

    assert session.secret_access_key.reveal() == SECRET_KEY
    assert session.session_token.reveal() == TOKEN
    assert sts_server.count(b"Action=AssumeRole") == 1


REFUSED, UNAVAILABLE, UNKNOWN = (Refused, False), (Unavailable, False), (Unavailable, True)
NO_KEYS = MINTED.replace("SecretAccessKey", "Nothing")

TROUBLE = {
    "silence": (Script.silence, UNKNOWN, "ReadTimeoutError"),
    "no HTTP": (lambda c: c.sendall(b"SSH-2.0-x\r\n\r\n") or Script.reset(c), UNKNOWN, "ConnectionClosedError"),
    "cut XML": (Script.answer(MINTED[:-60]), UNKNOWN, "MalformedAnswer"),
    "bad XML": (Script.answer(MINTED.replace("</SessionToken>", "<")), UNKNOWN, "MalformedAnswer"),
    "html": (Script.answer(f"<html><p>{SECRET_KEY}<br></html>", kind="text/html"), UNKNOWN, "MalformedAnswer"),
    "empty": (Script.answer(""), UNKNOWN, "MalformedAnswer"),
    "binary": (Script.answer(b"\x00\xff\xfe" * 50), UNKNOWN, "MalformedAnswer"),
    "no keys": (Script.answer(NO_KEYS), UNKNOWN, "MalformedAnswer"),
    "bad time": (Script.answer(MINTED.replace("2026-11-22T", "soon")), UNKNOWN, "MalformedAnswer"),
    "500 empty": (Script.answer("", 500), UNKNOWN, "500"),
    "502 html": (Script.answer("<html>Bad Gateway<br>", 502, kind="text/html"), UNKNOWN, "502"),
    "redirect": (Script.answer("", 307, "Location: http://127.0.0.1:1/"), UNKNOWN, None),
    "too many": (Script.answer(error("WhoKnows"), 429), UNAVAILABLE, "WhoKnows"),
    "IdP": (Script.answer(error("IDPCommunicationError"), 400), UNAVAILABLE, "IDPCommunicationError"),
    "stale": (Script.answer(error("ExpiredToken"), 403), UNAVAILABLE, "ExpiredToken"),
    "stale 2": (Script.answer(error("ExpiredTokenException"), 400), UNAVAILABLE, "ExpiredTokenException"),
    "bad keys": (Script.answer(error("InvalidClientTokenId"), 403), UNAVAILABLE, "InvalidClientTokenId"),
    "bad clock": (Script.answer(error("SignatureDoesNotMatch"), 403), UNAVAILABLE, "SignatureDoesNotMatch"),
    "region": (Script.answer(error("RegionDisabledException"), 403), REFUSED, "RegionDisabledException"),
    "packed": (Script.answer(error("PackedPolicyTooLarge"), 400), REFUSED, "PackedPolicyTooLarge"),
    "policy": (Script.answer(error("MalformedPolicyDocument"), 400), REFUSED, "MalformedPolicyDocument"),
    "invalid": (Script.answer(error("ValidationError"), 400), REFUSED, "ValidationError"),
    "unforeseen": (Script.answer(error("Teapot"), 418), REFUSED, "Teapot"),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_is_told_apart_and_assume_role_goes_out_once(facing, order, caplog, trouble):
    caplog.set_level(logging.DEBUG)
    script, (kind, outcome_unknown), code = TROUBLE[trouble]
    sts_server = facing(script)

    with pytest.raises(AwsError) as raised:
        sts.assume_role(order)

    failure = raised.value
    assert type(failure) is kind
    assert failure.outcome_unknown is outcome_unknown
    assert code in (None, failure.code)
    assert failure.message
    assert failure.advice.endswith(".")
    assert sts_server.count(b"Action=AssumeRole") == 1
    assert failure.__cause__ is None
    assert failure.__context__ is None
    told = everything_in(failure) + caplog.text
    assert not [secret for secret in SECRETS if secret in told]


def test_nobody_listening_means_that_nothing_was_minted(as_worker, server, order):
    closed = server(Script.silence)
    closed.close()
    as_worker(KEYS | {"AWS_ENDPOINT_URL": closed.url})

    with pytest.raises(Unavailable) as unavailable:
        sts.assume_role(order)

    assert unavailable.value.code == "EndpointConnectionError"
    assert not unavailable.value.outcome_unknown


def test_no_name_means_that_nothing_was_minted(as_worker, order):
    as_worker(KEYS | {"AWS_ENDPOINT_URL": "http://sts.invalid"})

    with pytest.raises(Unavailable) as unavailable:
        sts.assume_role(order)

    assert not unavailable.value.outcome_unknown


def test_a_certificate_that_nobody_vouches_for_means_that_nothing_was_minted(as_worker, server, tls, order):
    impostor = server(Script.answer(MINTED), tls)
    as_worker(KEYS | {"AWS_ENDPOINT_URL": impostor.url})

    with pytest.raises(Unavailable) as unavailable:
        sts.assume_role(order)

    assert unavailable.value.code == "SSLError"
    assert "certificates" in unavailable.value.advice
    assert not unavailable.value.outcome_unknown
    assert impostor.requests == []


def test_secrets_that_aws_echoes_in_its_message_are_scrubbed(facing, order):
    facing(Script.answer(error("ValidationError", f"bad value {SECRET_KEY} in {TOKEN} " + "x" * 5000), 400))

    with pytest.raises(Refused) as refused:
        sts.assume_role(order)

    assert not [secret for secret in SECRETS if secret in everything_in(refused.value)]
    assert len(refused.value.message) <= 500


def test_a_long_arn_in_a_message_survives_the_scrubbing(facing, order):
    message = (
        "User: arn:aws:sts::111111111111:assumed-role/daypass-minter/worker-at-eu-central-1-7f9c is not authorized"
    )
    facing(Script.answer(error("AccessDenied", message), 403))

    with pytest.raises(Refused) as refused:
        sts.assume_role(order)

    assert refused.value.message == message


def test_silence_holds_up_nobody_elses_mint(facing, order):
    """One thread waits for AWS; another, on the same client, is served."""
    first = threading.Event()

    def script(connection):
        if not first.is_set():
            first.set()
            time.sleep(0.4)
        Script.answer(MINTED)(connection)

    facing(script)
    sts._ready("us-east-1")
    waiting = threading.Thread(target=lambda: sts.assume_role(order))
    waiting.start()
    first.wait(2)
    started = time.monotonic()

    sts.assume_role(order)

    assert time.monotonic() - started < 0.3
    waiting.join()


def test_a_forked_child_makes_its_own_client(facing, order):
    facing(Script.answer(MINTED))
    parents = sts._ready("us-east-1")
    reader, writer = os.pipe()
    with sts._lock:  # as if another thread of the parent were making a client just now
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)  # rather than wait for ever for the parent's lock
            try:
                childs = sts._ready("us-east-1")
                os.write(writer, b"own" if childs is not parents else b"inherited")
            finally:
                os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        assert answer.read() == b"own"
    os.waitpid(pid, 0)
