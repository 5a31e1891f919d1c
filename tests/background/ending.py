"""Passes that are used and ended at the stand-in, which evaluates role policies as AWS does."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from joserfc import jwe
from joserfc.jwk import ECKey

from requests_app.aws import iam, sts
from requests_app.background import minting, revoking
from requests_app.domain import envelopes, workflow
from requests_app.domain.models import AccessRequest, AwsClock, Entitlement, Group, Installation, Revocation, Role, User
from requests_app.domain.workflow import deliveries
from sandbox.aws import AwsStandIn
from sandbox.caller import Caller
from tests import factories


@pytest.fixture
def installation(db: Any, superuser_connection: Any) -> Installation:
    """One of its own for each test: the stand-in remembers the policies of those before."""
    superuser_connection.execute("DELETE FROM requests_app_installation")
    superuser_connection.execute("INSERT INTO requests_app_installation VALUES (1, %s)", [f"t{time.time_ns()}"])
    return Installation.objects.get()


@pytest.fixture
def become(aws_stand_in: AwsStandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Become the minting or the revoking worker: each has its own identity."""

    def sign_in(profile: str) -> None:
        for name, value in aws_stand_in.profile(profile).items():
            monkeypatch.setenv(name, value)
        sts.forget_clients()
        iam.forget_clients()

    sign_in("minter")
    yield sign_in
    sts.forget_clients()
    iam.forget_clients()


@pytest.fixture
def live(aws_stand_in: AwsStandIn, become: Any, redis_server: Any, aws_clock: AwsClock) -> Any:
    """Mint for a request and act with what its person got."""

    def live(access_request: AccessRequest) -> Caller:
        key = ECKey.generate_key("P-256")
        wish = factories.delivery(access_request, recipient_key=key.as_dict(private=False))
        minting.mint(wish.pk)
        sealed = deliveries.hand_over(wish, by=wish.beneficiary, sign_in="a sign-in", take=envelopes.take)
        opened = json.loads(jwe.decrypt_compact(sealed, key, algorithms=["ECDH-ES", "A256GCM"]).plaintext or b"")
        return aws_stand_in.as_session(
            {
                "AccessKeyId": opened["access_key_id"],
                "SecretAccessKey": opened["secret_access_key"],
                "SessionToken": opened["session_token"],
            }
        )

    return live


def works(caller: Caller) -> bool:
    try:
        caller.client("sqs").list_queues()
    except ClientError as refused:
        if "AccessDenied" not in str(refused):
            raise
        return False
    return True


def run(become: Any, role: Role) -> Revocation:
    become("revoker")
    revoking.work(role.pk)
    become("minter")
    revoking.prove(role.pk)
    return Revocation.objects.latest("pk")


@pytest.fixture
def erins_request(engineers: Group, staged: Entitlement, administrator: Role, bob: User) -> AccessRequest:
    erin = factories.person("erin", engineers)
    asked = factories.wish(erin, administrator, staged)
    workflow.approve(asked, by=bob)
    asked.refresh_from_db()
    return workflow.start(asked, by=erin)
