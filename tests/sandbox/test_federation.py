"""The stand-in for the console's sign-in endpoint refuses what AWS refuses, and keeps what it is told to itself."""

import html
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sandbox.aws import AwsStandIn
from sandbox.caller import Caller
from sandbox.federation import Federation
from sandbox.landscape import ACCOUNTS

PAYMENTS = ACCOUNTS[0]


@pytest.fixture(scope="module")
def session(aws_stand_in: AwsStandIn) -> Caller:
    return aws_stand_in.assume("minter", PAYMENTS.role_arn("ReadOnly"), ExternalId=PAYMENTS.external_id)


def ask(endpoint: Federation, *, method: str = "POST", **parameters: str) -> tuple[int, str, Any]:
    form = urllib.parse.urlencode(parameters)
    url, data = (endpoint.url, form.encode()) if method == "POST" else (f"{endpoint.url}?{form}", None)
    try:
        with urllib.request.urlopen(url, data=data, timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def keys(caller: Caller, **changed: str) -> str:
    known = {
        "sessionId": caller.access_key_id,
        "sessionKey": caller.secret_access_key,
        "sessionToken": caller.session_token,
    }
    return json.dumps({**known, **changed})


def token_for(endpoint: Federation, caller: Caller, **parameters: str) -> str:
    status, body, _ = ask(endpoint, Action="getSigninToken", Session=keys(caller), **parameters)
    assert status == 200, body
    token: str = json.loads(body)["SigninToken"]
    return token


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_login_shows_which_session_signed_in(federation, session, method):
    token = token_for(federation, session)
    destination = "https://eu-west-1.console.aws.amazon.com/s3/?a=1&b=<script>"

    status, page, headers = ask(
        federation, method=method, Action="login", SigninToken=token, Destination=destination, Issuer="https://me"
    )

    assert status == 200
    facts = {name: html.unescape(value) for name, value in re.findall(r"<dt>(.*)</dt>\n<dd>(.*)</dd>", page)}
    assert facts["Account"] == PAYMENTS.id
    assert facts["Role"] == "ReadOnly"
    assert facts["Session"] == "DP-00000000-test"
    assert facts["Destination"] == destination
    assert "<script>" not in page
    assert headers["Cache-Control"] == "no-store"


def test_bad_keys_are_refused_in_awss_words(federation, session):
    for changed in ({"sessionKey": "x" * 40}, {"sessionToken": "x"}, {"sessionId": "ASIAXXXXXXXXXXXXXXXX"}):
        status, body, _ = ask(federation, Action="getSigninToken", Session=keys(session, **changed))
        assert status == 400
        assert "Invalid Credentials Parameter" in body


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "not json", '{"sessionId": "x"}'])
def test_no_keys_are_refused_too(federation, text):
    assert ask(federation, Action="getSigninToken", Session=text)[0] == 400


def test_get_signin_token_by_get_as_aws_allows(federation, session):
    assert ask(federation, method="GET", Action="getSigninToken", Session=keys(session))[0] == 200


def test_session_duration_is_refused_for_chained_keys_only(federation, aws_stand_in, session):
    status, body, _ = ask(federation, Action="getSigninToken", Session=keys(session), SessionDuration="1800")
    assert status == 400
    assert "Invalid Credentials Parameter" in body

    not_chained = aws_stand_in.as_profile("minter")
    assert token_for(federation, not_chained, SessionDuration="1800")
    for wrong in ("899", "43201", "-1", "x"):
        form = {"Action": "getSigninToken", "Session": keys(not_chained), "SessionDuration": wrong}
        assert ask(federation, **form)[0] == 400


def test_a_token_is_good_for_its_time_and_no_other_token_is(aws_stand_in, session, tmp_path):
    log = tmp_path / "log"
    with Federation(aws_stand_in.url, log=log, token_life=timedelta(seconds=3)) as short_lived:
        token = token_for(short_lived, session)
        assert ask(short_lived, Action="login", SigninToken=token)[0] == 200
        assert ask(short_lived, Action="login", SigninToken=token + "x")[0] == 400
        time.sleep(3.1)
        assert ask(short_lived, Action="login", SigninToken=token)[0] == 400


def test_its_log_holds_no_secret(aws_stand_in, session, tmp_path):
    log: Path = tmp_path / "log"
    with Federation(aws_stand_in.url, log=log) as endpoint:
        token = token_for(endpoint, session)
        for method in ("GET", "POST"):
            ask(endpoint, method=method, Action="login", SigninToken=token)
            ask(endpoint, method=method, Action="getSigninToken", Session=keys(session))
            ask(endpoint, method=method, Action=token)

    said = log.read_text()
    assert "login 200" in said
    for secret in (token, session.secret_access_key, session.session_token):
        assert secret not in said
        assert urllib.parse.quote(secret) not in said


def test_other_doors_are_closed(federation):
    assert ask(federation, Action="else")[0] == 400
    for path in ("/", "/other"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(federation.url.replace("/federation", path), timeout=5)
