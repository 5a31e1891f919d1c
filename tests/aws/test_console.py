"""The console link: sign-in federation with good keys, bad keys, and endpoints that misbehave."""

import dataclasses
import json
import logging
import pickle
import ssl
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, quote

import httpx
import pytest

from requests_app.aws import console, sts
from requests_app.aws.errors import AwsError, Refused, Unavailable
from requests_app.aws.sts import MintedSession
from requests_app.domain.secret import Secret

from .conftest import Script, everything_in

SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SESSION_TOKEN = "IQoJb3JpZ2luX2VjE/+" * 20 + "=="
SIGN_IN_TOKEN = "SignIn-Token_Abc/" * 30
SECRETS = (SECRET_KEY, SESSION_TOKEN, SIGN_IN_TOKEN)
DESTINATION = "https://eu-west-1.console.aws.amazon.com/ec2/home"
ISSUER = "https://daypass.example.com/"

SESSION = MintedSession(
    access_key_id="ASIAABCDEFGHIJKLMNOP",
    secret_access_key=Secret(SECRET_KEY),
    session_token=Secret(SESSION_TOKEN),
    expires_at=datetime.now(UTC) + timedelta(minutes=15),
    assumed_role_id="AROA:DP-7K2M9QX4-alice",
    assumed_role_arn="arn:aws:sts::222222222222:assumed-role/Administrator/DP-7K2M9QX4-alice",
    packed_policy_size=20,
    asked_duration=900,
    aws_date=None,
)
GOOD = Script.answer(json.dumps({"SigninToken": SIGN_IN_TOKEN}), kind="application/json")


def sign_in(url: str, session: MintedSession = SESSION) -> console.ConsoleLink:
    return console.sign_in(session, federation_url=url, destination=DESTINATION, issuer=ISSUER)


def test_a_link_is_a_form_with_the_token_hidden(server):
    endpoint = server(GOOD)

    link = sign_in(f"{endpoint.url}/federation")

    assert link.url == f"{endpoint.url}/federation"
    assert link.good_for == timedelta(minutes=15)
    assert link.fields["Action"] == "login"
    assert link.fields["Destination"] == DESTINATION
    assert link.fields["Issuer"] == ISSUER
    assert link.fields["SigninToken"] == Secret(SIGN_IN_TOKEN)
    assert SIGN_IN_TOKEN not in f"{link!r} {link} {link.fields}"
    with pytest.raises(TypeError):
        pickle.dumps(link)


def test_the_keys_travel_in_the_body_once_and_without_session_duration(server, caplog):
    caplog.set_level(logging.DEBUG)
    endpoint = server(GOOD)

    sign_in(f"{endpoint.url}/federation")

    (request,) = endpoint.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /federation HTTP/1.1\r\n")
    form = parse_qs(body.decode(), strict_parsing=True)
    assert form.keys() == {"Action", "Session"}
    assert form["Action"] == ["getSigninToken"]
    assert json.loads(form["Session"][0]) == {
        "sessionId": SESSION.access_key_id,
        "sessionKey": SECRET_KEY,
        "sessionToken": SESSION_TOKEN,
    }
    for secret in SECRETS:
        assert secret not in head.decode()
        assert secret not in caplog.text


TROUBLE = {
    "403 of a middle box": (Script.answer("<html>Blocked</html>", 403, kind="text/html"), Unavailable),
    "html 400": (Script.answer("<html><h1>Bad</h1></html>", 400, kind="text/html"), Refused),
    "echo": (Script.answer(f"bad {SECRET_KEY} {SESSION_TOKEN}", 400), Refused),
    "quoted echo": (Script.answer(f"bad {quote(SECRET_KEY, safe='')} {quote(SESSION_TOKEN)}", 400), Refused),
    "html echo": (Script.answer("bad " + SECRET_KEY.replace("/", "&#x2F;"), 400), Refused),
    "part of an echo": (Script.answer("bad " + SECRET_KEY[7:30], 400), Refused),
    "redirect": (Script.answer("", 302, "Location: http://127.0.0.1:1/"), Unavailable),
    "redirect that keeps the body": (Script.answer("", 307, "Location: http://127.0.0.1:1/"), Unavailable),
    "empty": (Script.answer(""), Unavailable),
    "204": (Script.answer("", 204), Unavailable),
    "a list": (Script.answer("[1]"), Unavailable),
    "a number": (Script.answer("1"), Unavailable),
    "no token": (Script.answer('{"Token": "x"}'), Unavailable),
    "empty token": (Script.answer('{"SigninToken": ""}'), Unavailable),
    "token of another type": (Script.answer(json.dumps({"SigninToken": [SIGN_IN_TOKEN]})), Unavailable),
    "endless token": (Script.answer(json.dumps({"SigninToken": SIGN_IN_TOKEN * 100})), Unavailable),
    "deep json": (Script.answer("[" * 60_000), Unavailable),
    "silence": (Script.silence, Unavailable),
    "drip": (Script.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"), Unavailable),
    "header drip": (Script.drip(b"HTTP/1.1 200 OK\r\nX-Slow: "), Unavailable),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_is_told_apart_soon_and_tells_no_secret(server, caplog, monkeypatch, trouble):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(console, "_TIMEOUT", httpx.Timeout(0.5))
    monkeypatch.setattr(console, "_LONGEST_WAIT", 1)
    script, kind = TROUBLE[trouble]
    endpoint = server(script)
    started = time.monotonic()

    with pytest.raises(AwsError) as raised:
        sign_in(endpoint.url)

    failure = raised.value
    assert time.monotonic() - started < 2
    assert type(failure) is kind
    assert failure.code
    assert failure.message
    assert failure.advice.endswith(".")
    assert len(endpoint.requests) == 1
    assert failure.__cause__ is None
    assert failure.__context__ is None
    told = everything_in(failure) + caplog.text
    pieces = [secret[start : start + 16] for secret in SECRETS for start in range(0, 40, 8) if start + 16 <= 40]
    assert not [piece for piece in pieces if piece in told]


def test_aws_own_words_are_kept(server):
    endpoint = server(Script.answer("400: Invalid Credentials Parameter. Syntactically incorrect.", 400))

    with pytest.raises(Refused) as refused:
        sign_in(endpoint.url)

    assert refused.value.code == "Http400"
    assert refused.value.message == "400: Invalid Credentials Parameter. Syntactically incorrect."


def test_a_redirect_is_not_followed(server):
    other = server(GOOD)
    endpoint = server(Script.answer("", 307, f"Location: {other.url}/federation"))

    with pytest.raises(Unavailable):
        sign_in(endpoint.url)

    assert other.requests == []


def test_nobody_listening(server):
    endpoint = server(GOOD)
    endpoint.close()

    with pytest.raises(Unavailable) as unavailable:
        sign_in(endpoint.url)

    assert unavailable.value.code == "ConnectError"


@pytest.mark.parametrize("url", ["http://signin.aws.amazon.com/federation", "http://10.0.0.1/", "ftp://localhost/"])
def test_keys_are_never_sent_in_the_clear_to_another_machine(url):
    with pytest.raises(ValueError, match="federation endpoint"):
        sign_in(url)


def test_a_certificate_that_nobody_vouches_for_is_refused(server, tls):
    endpoint = server(GOOD, tls)

    with pytest.raises(Unavailable) as unavailable:
        sign_in(endpoint.url)

    assert unavailable.value.code == "ConnectError"
    assert endpoint.requests == []
    assert not [secret for secret in SECRETS if secret in everything_in(unavailable.value)]


@pytest.mark.parametrize("trouble", ["drip", "header drip"])
def test_a_drip_behind_tls_is_cut_too(server, tls, certificate, monkeypatch, trouble):
    monkeypatch.setattr(console, "_LONGEST_WAIT", 1)
    monkeypatch.setattr(console, "_tls", lambda: ssl.create_default_context(cafile=certificate))
    assert sign_in(server(GOOD, tls).url)
    endpoint = server(TROUBLE[trouble][0], tls)
    started = time.monotonic()

    with pytest.raises(Unavailable):
        sign_in(endpoint.url)

    assert 0.9 < time.monotonic() - started < 2


def test_waiting_is_bounded():
    assert console._TIMEOUT.connect == 3
    assert console._TIMEOUT.read == 10
    assert console._LONGEST_WAIT <= 20


# --- against the stand-in's own endpoint ---------------------------------------------------------


def test_a_minted_session_signs_in(minter, federation, order):
    link = sign_in(federation.url, sts.assume_role(order))

    form = {name: value.reveal() if isinstance(value, Secret) else value for name, value in link.fields.items()}
    page = httpx.post(link.url, data=form)
    assert page.status_code == 200
    assert "DP-7K2M9QX4-alice" in page.text


@pytest.mark.parametrize(
    "change",
    [
        {"secret_access_key": Secret("wrong")},
        {"session_token": Secret("wrong")},
        {"access_key_id": "ASIAWRONG00000000000"},
    ],
)
def test_bad_keys_are_refused_with_the_endpoints_words(minter, federation, order, change):
    bad = dataclasses.replace(sts.assume_role(order), **change)

    with pytest.raises(Refused) as refused:
        sign_in(federation.url, bad)

    assert refused.value.code == "Http400"
    assert "Invalid" in refused.value.message
