"""AWS Sign-In as the stand-in has it, seen to refuse and to allow."""

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from botocore.exceptions import ClientError

from sandbox.aws import AwsStandIn
from sandbox.caller import Caller
from sandbox.federation import Federation
from sandbox.landscape import ACCOUNTS, revoker_arn

PAYMENTS, LAKE, _ = ACCOUNTS
ADMINISTRATOR = PAYMENTS.role_arn("Administrator")
OF_ADMINISTRATOR = f"arn:aws:iam::{PAYMENTS.id}:role/Administrator"
OF_ACCOUNT = f"arn:aws:iam::{PAYMENTS.id}:*"


@pytest.fixture(scope="module")
def own() -> Iterator[AwsStandIn]:
    """One without anybody else's sign-in sessions."""
    with AwsStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def revoker(own: AwsStandIn) -> Any:
    caller = own.assume("revoker", revoker_arn(PAYMENTS.id), ExternalId=PAYMENTS.external_id)
    return caller.client("signin", checked=False)


def become(own: AwsStandIn, role: str = ADMINISTRATOR, **parameters: Any) -> Caller:
    return own.assume("minter", role, ExternalId=PAYMENTS.external_id, **parameters)


def denying(*actions: str) -> str:
    allow = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    deny = {"Effect": "Deny", "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [allow, deny]})


def refused(code: str) -> Any:
    return pytest.raises(ClientError, match=rf"\({code}\)")


class TestSessions:
    def test_whoever_may_logs_in_and_its_role_owns_the_session_whatever_the_path(self, own, revoker):
        made = become(own).log_in("MCP")

        (session,) = [one for one in revoker.list_sessions(principalArn=OF_ADMINISTRATOR)["items"]
                      if one["sessionArn"] == made]  # fmt: skip
        assert session["principalArn"] == session["role"] == OF_ADMINISTRATOR
        assert session["clientType"] == "MCP"
        assert session["status"] == "ACTIVE"
        assert session["expiresAt"] - session["issuedAt"] == 12 * 3600
        assert "alice" not in json.dumps(session), "whose session of the role it is, nobody is told"

    @pytest.mark.parametrize("denied", ["signin:AuthorizeOAuth2Access", "signin:CreateOAuth2Token"])
    def test_nobody_logs_in_who_is_denied_either_action(self, own, denied):
        with pytest.raises(HTTPError, match="403"):
            become(own, Policy=denying(denied)).log_in()
        assert become(own, Policy=denying("s3:*")).log_in(), "the control"

    def test_they_are_told_page_by_page(self, own, revoker):
        for _ in range(3):
            become(own).log_in()

        first = revoker.list_sessions(principalArn=OF_ADMINISTRATOR, maxResults=2)
        pages = revoker.get_paginator("list_sessions").paginate(
            principalArn=OF_ADMINISTRATOR, PaginationConfig={"PageSize": 2}
        )
        everything = [session["sessionArn"] for page in pages for session in page["items"]]

        assert len(first["items"]) == 2
        assert first["nextToken"]
        assert len(everything) == len(set(everything)) >= 3
        with refused("ValidationException"):
            revoker.list_sessions(principalArn=OF_ADMINISTRATOR, maxResults=101)

    def test_they_are_told_by_owner_status_and_moment(self, own, revoker):
        of_reader = become(own, PAYMENTS.role_arn("ReadOnly"))
        with pytest.raises(HTTPError, match="403"):
            of_reader.log_in()  # its policy allows no such thing
        made = become(own).log_in()
        (session,) = [one for one in revoker.list_sessions(principalArn=OF_ACCOUNT)["items"]
                      if one["sessionArn"] == made]  # fmt: skip
        issued = session["issuedAt"]

        def told(**by: Any) -> bool:
            items = revoker.list_sessions(**{"principalArn": OF_ACCOUNT, **by})["items"]
            return made in [one["sessionArn"] for one in items]

        assert told(status="ACTIVE", issuedAfter=issued, issuedBefore=issued + 1)
        assert not told(status="REVOKED")
        assert not told(issuedAfter=issued + 1)
        assert not told(issuedBefore=issued)
        assert not told(principalArn=f"arn:aws:iam::{PAYMENTS.id}:role/ReadOnly")

    def test_an_owner_has_no_path_and_is_of_the_callers_account(self, revoker):
        with refused("ValidationException"):
            revoker.list_sessions(principalArn=ADMINISTRATOR)
        with refused("AccessDeniedException"):
            revoker.list_sessions(principalArn=f"arn:aws:iam::{LAKE.id}:*")

    def test_up_to_five_are_revoked_at_once_and_once_more_does_no_harm(self, own, revoker):
        made = [become(own).log_in() for _ in range(6)]
        with refused("ValidationException"):
            revoker.batch_revoke_sessions(principalArn=OF_ACCOUNT, sessionArns=made)
        with refused("ValidationException"):
            revoker.batch_revoke_sessions(principalArn=OF_ACCOUNT, sessionArns=[])

        for _ in range(2):
            answer = revoker.batch_revoke_sessions(principalArn=OF_ACCOUNT, sessionArns=made[:5], reason="over")
            assert [one["sessionArn"] for one in answer["revokedSessions"]] == made[:5]
            assert answer["errors"] == []

        active = revoker.list_sessions(principalArn=OF_ACCOUNT, status="ACTIVE")["items"]
        assert {one["sessionArn"] for one in active} & set(made) == {made[5]}

    def test_what_is_not_the_owners_is_said_and_stays(self, own, revoker):
        made = become(own).log_in()

        answer = revoker.batch_revoke_sessions(
            principalArn=f"arn:aws:iam::{PAYMENTS.id}:role/ReadOnly", sessionArns=[made]
        )

        assert answer["revokedSessions"] == []
        assert [(one["sessionArn"], one["code"]) for one in answer["errors"]] == [(made, "ResourceNotFoundException")]

    def test_each_call_asks_for_its_permission(self, own):
        nobody = become(own, Policy=denying("signin:List*", "signin:Batch*", "signin:Get*")).client("signin")
        for call, parameters in (
            (nobody.list_sessions, {}),
            (nobody.batch_revoke_sessions, {"sessionArns": ["arn:aws:signin:us-east-1:1:session/x"]}),
            (nobody.get_console_authorization_configuration, {}),
        ):
            with refused("AccessDeniedException"):
                call(**parameters)

    def test_they_outlast_an_orderly_restart(self, own, revoker):
        made = become(own).log_in()

        own.stop()
        own.start()

        items = revoker.list_sessions(principalArn=OF_ACCOUNT)["items"]
        assert made in [one["sessionArn"] for one in items]


class TestConsoleAuthorization:
    def test_it_is_not_there_then_on_then_off(self, own):
        account = own.root(LAKE.id).client("signin")
        with refused("ResourceNotFoundException"):
            account.get_console_authorization_configuration()

        with own.console_authorization(LAKE.id):
            on = account.get_console_authorization_configuration(targetId=LAKE.id)
        off = account.get_console_authorization_configuration()

        assert (on["targetId"], on["scope"], on["consoleAuthorizationEnabled"]) == (LAKE.id, "ACCOUNT", True)
        assert off["consoleAuthorizationEnabled"] is False

    def test_where_it_is_on_the_console_is_closed_to_whoever_is_denied_either_action(self, own, tmp_path):
        with Federation(own.url, log=tmp_path / "federation.log") as federation, own.console_authorization(PAYMENTS.id):
            opened = sign_in(federation, become(own))
            closed = [
                sign_in(federation, become(own, Policy=denying(action)))
                for action in ("signin:*OAuth*", "signin:AuthorizeOAuth2Access", "signin:CreateOAuth2Token")
            ]

        assert "Signed in to the AWS console" in opened
        assert all("Console authorization" in page for page in closed)

    def test_elsewhere_nobody_asks(self, own, tmp_path: Path):
        with Federation(own.url, log=tmp_path / "federation.log") as federation, own.console_authorization(LAKE.id):
            assert "Signed in" in sign_in(federation, become(own, Policy=denying("signin:*OAuth*")))


def sign_in(federation: Federation, caller: Caller) -> str:
    """The page that opens; a token is given in any case."""
    keys = {"sessionId": caller.access_key_id, "sessionKey": caller.secret_access_key,
            "sessionToken": caller.session_token}  # fmt: skip
    token = json.loads(_post(federation, Action="getSigninToken", Session=json.dumps(keys)))["SigninToken"]
    return _post(federation, Action="login", SigninToken=token, Destination="https://console.aws.amazon.com/")


def _post(federation: Federation, **form: str) -> str:
    try:
        with urllib.request.urlopen(federation.url, urllib.parse.urlencode(form).encode(), timeout=10) as answer:
            return str(answer.read().decode())
    except HTTPError as refusal:
        with refusal:
            return refusal.read().decode()
