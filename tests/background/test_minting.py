"""One delivery from wish to opened envelope, against the stand-in that enforces what AWS enforces."""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError
from joserfc import jwe
from joserfc.jwk import ECKey

from requests_app.aws import console, sts
from requests_app.background import clocks, minting
from requests_app.domain import clock, envelopes, policy, sealing, workflow
from requests_app.domain.errors import Conflict, NotAllowed
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    AwsClock,
    Delivery,
    Entitlement,
    IssuedSession,
    Membership,
    Revocation,
    Role,
    User,
)
from requests_app.domain.transitions import DeliveryState
from requests_app.domain.workflow import deliveries
from tests import factories

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.xdist_group("aws"),
    pytest.mark.usefixtures("redis_server", "measured"),
]


@pytest.fixture
def measured(minter: Any, payments: Account) -> None:
    """The worker has just read AWS's clock."""
    clocks.read()


class Browser:
    """Makes a key, asks, takes the envelope and opens it."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256")

    def ask(self, access_request: AccessRequest, **wish: Any) -> Delivery:
        return factories.delivery(access_request, recipient_key=dict(self.key.as_dict(private=False)), **wish)

    def open(self, delivery: Delivery) -> dict[str, Any]:
        envelope = deliveries.hand_over(delivery, by=delivery.beneficiary, sign_in="a sign-in", take=envelopes.take)
        plain = jwe.decrypt_compact(envelope, self.key, algorithms=["ECDH-ES", "A256GCM"]).plaintext
        assert plain is not None
        opened: dict[str, Any] = json.loads(plain)
        return opened

    def credentials(self, access_request: AccessRequest, **wish: Any) -> dict[str, Any]:
        delivery = self.ask(access_request, **wish)
        minting.mint(delivery.pk)
        return self.open(delivery)


@pytest.fixture
def browser() -> Browser:
    return Browser()


def as_caller(minter: Any, opened: dict[str, Any]) -> Any:
    return minter.as_session(
        {
            "AccessKeyId": opened["access_key_id"],
            "SecretAccessKey": opened["secret_access_key"],
            "SessionToken": opened["session_token"],
        }
    )


def failed(delivery: Delivery) -> Delivery:
    delivery.refresh_from_db()
    assert envelopes.take(str(delivery.public_id)) is None
    assert delivery.envelope_sha256 == ""
    assert delivery.message.endswith(".")
    return delivery


def test_the_credentials_work_and_are_the_persons_own(
    active_request: AccessRequest, alice: User, browser: Browser, minter: Any, redis_server: Any
) -> None:
    Account.objects.update(allows_source_identity=True)
    delivery = browser.ask(active_request)
    minting.mint(delivery.pk)
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.SEALED
    stored = b"".join(redis_server.get(key) for key in redis_server.keys("envelope:*"))
    opened = browser.open(delivery)

    assert opened["secret_access_key"].encode() not in stored
    assert opened["session_token"].encode() not in stored
    assert (opened["account_id"], opened["role_name"], opened["code"]) == (
        "222222222222",
        "Administrator",
        active_request.code,
    )
    assert opened["expires_at"] == active_request.expires_at.isoformat()  # type: ignore[union-attr]
    caller = as_caller(minter, opened)
    identity = caller.client("sts").get_caller_identity()
    assert identity["Arn"].endswith(f":assumed-role/Administrator/{active_request.code}-alice")
    assert "payments-prod-ledger" in str(caller.client("s3").list_buckets())
    session = IssuedSession.objects.get()
    assert (session.access_key_id, session.source_identity) == (opened["access_key_id"], alice.source_identity)
    assert opened["secret_access_key"] not in str(list(AuditEvent.objects.values()))


def test_a_second_message_mints_nothing(active_request: AccessRequest, browser: Browser) -> None:
    delivery = browser.ask(active_request)
    minting.mint(delivery.pk)
    minting.mint(delivery.pk)
    assert IssuedSession.objects.count() == 1
    minting.mint(10**9)


def test_they_stop_at_the_second(
    alice: User, bob: User, administrator: Role, staged: Entitlement, browser: Browser, minter: Any
) -> None:
    with clock.moved(-timedelta(minutes=30) + timedelta(seconds=4)):
        made = factories.wish(alice, administrator, staged)
        workflow.approve(made, by=bob)
        active = workflow.start(made, by=alice)
    assert active.expires_at is not None
    opened = browser.credentials(active)
    caller = as_caller(minter, opened)
    caller.client("s3").list_buckets()

    time.sleep(max(0.0, (active.expires_at - clock.now()).total_seconds()))

    for service, operation in (("s3", "list_buckets"), ("sts", "get_caller_identity"), ("iam", "list_roles")):
        with pytest.raises(ClientError, match="ExpiredToken"):
            getattr(caller.client(service), operation)()
    assert opened["sts_expires_at"] <= opened["expires_at"]
    session = IssuedSession.objects.get()
    assert (session.ends_by, session.access_key_id) == ("sts", opened["access_key_id"])
    assert session.parent_access_key_id not in ("", opened["access_key_id"])
    assert session.parent_expires_at is not None
    assert session.parent_expires_at > session.cut_off >= session.sts_expires_at


def test_where_aws_does_not_scope_they_stop_at_the_second_all_the_same(
    alice: User, bob: User, administrator: Role, staged: Entitlement, browser: Browser, minter: Any
) -> None:
    with clock.moved(-timedelta(minutes=30) + timedelta(seconds=4)):
        made = factories.wish(alice, administrator, staged)
        workflow.approve(made, by=bob)
        active = workflow.start(made, by=alice)
    assert active.expires_at is not None
    with minter.scoping(known=False):
        opened = browser.credentials(active)
    s3 = as_caller(minter, opened).client("s3")
    s3.list_buckets()

    time.sleep(max(0.0, (active.expires_at - clock.now()).total_seconds()))

    with pytest.raises(ClientError, match="AccessDenied"):
        s3.list_buckets()
    assert opened["sts_expires_at"] > opened["expires_at"]  # STS itself would have let it go on
    session = IssuedSession.objects.get()
    assert (session.ends_by, session.fell_back) == ("policy", "InvalidAction")
    assert session.parent_access_key_id not in ("", session.access_key_id)


@pytest.mark.parametrize("by", ["statements", "arns", "both"])
def test_narrowing_holds(
    by: str, alice: User, administrator: Role, payments: Account, browser: Browser, minter: Any
) -> None:
    # Both: two Allows of one call are added together, so either may let it in.
    narrowing: dict[str, Any] = {
        "statements": {
            "narrowing_statements": [{"Effect": "Allow", "Action": ["s3:ListAllMyBuckets"], "Resource": "*"}]
        },
        "arns": {"narrowing_policy_arns": ["arn:aws:iam::222222222222:policy/daypass-read-only"]},
    }
    narrowing["both"] = {**narrowing["statements"], **narrowing["arns"]}
    terms = factories.entitlement(administrator, users=[alice], **narrowing[by])
    caller = as_caller(minter, browser.credentials(factories.wish(alice, administrator, terms, start="at_once")))

    caller.client("s3").list_buckets()
    with pytest.raises(ClientError, match="AccessDenied"):
        caller.client("sqs").create_queue(QueueName="not-mine-to-make")
    if by == "statements":
        with pytest.raises(ClientError, match="AccessDenied"):
            caller.client("sqs").list_queues()
    else:
        caller.client("sqs").list_queues()


def test_no_way_out_of_the_pass(active_request: AccessRequest, browser: Browser, minter: Any) -> None:
    caller = as_caller(minter, browser.credentials(active_request))
    deny = {"RoleName": "Administrator", "PolicyName": "x", "PolicyDocument": '{"Version":"2012-10-17","Statement":[]}'}
    ways: list[Callable[[], object]] = [
        lambda: caller.client("sts").assume_role(
            RoleArn="arn:aws:iam::222222222222:role/elevated/ReadOnly", RoleSessionName="DP-x"
        ),
        lambda: caller.client("iam").put_role_policy(**deny),
        lambda: caller.client("iam").update_assume_role_policy(RoleName="Administrator", PolicyDocument="{}"),
    ]
    for way in ways:
        with pytest.raises(ClientError, match=r"AccessDenied|not authorized"):
            way()


# --- no -----------------------------------------------------------------------------------------------


def test_refused_by_aws(active_request: AccessRequest, browser: Browser) -> None:
    Account.objects.update(external_id="somebody-elses")
    delivery = browser.ask(active_request)
    minting.mint(delivery.pk)
    failed(delivery)
    assert (delivery.state, delivery.aws_code) == (DeliveryState.REFUSED, "AccessDenied")
    assert "not authorized" in delivery.aws_message
    assert delivery.advice.endswith(".")
    event = AuditEvent.objects.get(action="delivery.failed")
    assert event.detail["aws_code"] == "AccessDenied"
    assert not IssuedSession.objects.exists()


def test_aws_down(active_request: AccessRequest, browser: Browser, minter: Any, as_worker: Any) -> None:
    as_worker(minter.profile("minter") | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    delivery = browser.ask(active_request)
    minting.mint(delivery.pk)
    failed(delivery)
    assert delivery.state == DeliveryState.UNAVAILABLE
    assert delivery.aws_code
    assert delivery.advice.endswith(".")


def test_aws_breaks_off_in_the_middle(
    active_request: AccessRequest, browser: Browser, as_worker: Any, server: Any, script: Any
) -> None:
    """A session may exist: said so, and not tried again."""
    aws = server(script.reset)
    keys = {"AWS_ACCESS_KEY_ID": "AKIA0", "AWS_SECRET_ACCESS_KEY": "s" * 40}
    as_worker({**keys, "AWS_ENDPOINT_URL": aws.url, "AWS_REGION": "us-east-1"})
    delivery = browser.ask(active_request)
    minting.mint(delivery.pk)
    failed(delivery)
    assert delivery.state == DeliveryState.UNKNOWN
    assert "unknown" in delivery.message
    assert aws.count(b"Action=AssumeRole") == 1


def test_narrowing_that_cannot_be_a_policy(alice: User, administrator: Role, browser: Browser) -> None:
    nothing = [{"Effect": "Allow", "Resource": "*"}]  # no form lets it through
    terms = factories.entitlement(administrator, users=[alice], narrowing_statements=nothing)
    delivery = browser.ask(factories.wish(alice, administrator, terms, start="at_once"))
    minting.mint(delivery.pk)
    failed(delivery)
    assert delivery.state == DeliveryState.REFUSED
    assert delivery.advice == "Tell the operators."


def test_what_cannot_be_sealed_is_on_record(
    active_request: AccessRequest, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS has made the session: whoever ends the pass must know of it."""

    def fails(*_: Any) -> str:
        raise ValueError("The recipient's key is not a JSON Web Key.")

    delivery = browser.ask(active_request)
    monkeypatch.setattr(sealing, "seal", fails)
    minting.mint(delivery.pk)
    failed(delivery)
    assert delivery.state == DeliveryState.REFUSED
    assert IssuedSession.objects.get(discarded=False).delivery == delivery


def test_redis_down(active_request: AccessRequest, browser: Browser, settings: Any) -> None:
    delivery = browser.ask(active_request)
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    minting.mint(delivery.pk)
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.ASKED, "AWS is not asked for what could not be handed over"
    assert not IssuedSession.objects.exists()


def test_redis_goes_down_while_aws_answers(
    active_request: AccessRequest, browser: Browser, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = browser.ask(active_request)
    address, record = settings.REDIS_URL, deliveries.record

    def down(*args: Any, **kwargs: Any) -> bool:
        settings.REDIS_URL = "redis://127.0.0.1:9/0"
        return record(*args, **kwargs)

    monkeypatch.setattr(deliveries, "record", down)
    minting.mint(delivery.pk)
    settings.REDIS_URL = address
    delivery.refresh_from_db()
    assert envelopes.take(str(delivery.public_id)) is None
    assert (delivery.state, delivery.message[-10:]) == (DeliveryState.LOST, "Try again.")
    assert IssuedSession.objects.get().discarded is False  # AWS made it; nobody has its keys


# --- while AWS is thinking ------------------------------------------------------------------------------


def _leave(one: AccessRequest) -> None:
    Membership.objects.filter(user=one.beneficiary).delete()


@pytest.mark.parametrize(
    ("meanwhile", "rule"),
    [
        (lambda one: workflow.give_back(one, by=one.beneficiary), "mint.not_active"),
        (
            lambda one: workflow.revoke(one, by=User.objects.get(username="bob"), reason="incident over"),
            "mint.not_active",
        ),
        (_leave, "entitlement.does_not_reach"),
        (lambda one: workflow.people.deactivate(one.beneficiary, by=None), "person.deactivated"),
        (lambda one: Role.objects.update(is_active=False), "role.inactive"),
        (lambda one: AwsClock.objects.all().delete(), "clock.unknown"),
    ],
    ids=["given back", "revoked", "left the group", "deactivated", "role out of use", "clock lost"],
)
def test_what_ends_while_aws_is_thinking_yields_nothing(
    meanwhile: Callable[[AccessRequest], object],
    rule: str,
    active_request: AccessRequest,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assume_role = sts.assume_role

    def slow(order: sts.MintOrder) -> sts.MintedSession:
        session = assume_role(order)
        meanwhile(active_request)
        return session

    put: list[object] = []
    monkeypatch.setattr(sts, "assume_role", slow)
    monkeypatch.setattr(envelopes, "put", lambda *envelope: put.append(envelope))
    delivery = browser.ask(active_request)
    minting.mint(delivery.pk)
    failed(delivery)
    assert delivery.state == DeliveryState.DISCARDED
    assert IssuedSession.objects.get().discarded  # AWS made it: it is on record
    assert AuditEvent.objects.get(action="session.discarded").detail["rule"] == rule
    assert put == []  # not even for a moment


@pytest.mark.parametrize("first", ["the end", "the envelope"])
def test_what_ends_when_it_is_recorded_is_not_handed_over(
    first: str, active_request: AccessRequest, alice: User, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = envelopes.put

    def put_and_end(*args: Any) -> None:
        if first == "the envelope":
            put(*args)
        workflow.give_back(active_request, by=alice)
        if first == "the end":
            put(*args)

    monkeypatch.setattr(envelopes, "put", put_and_end)
    delivery = browser.ask(active_request)
    minting.mint(delivery.pk)
    with pytest.raises(Conflict) as refused:
        browser.open(delivery)
    assert refused.value.rule == "mint.not_active"
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.DISCARDED
    # And what AWS made is to be denied there.
    assert active_request.issued_sessions.count() == 1
    assert Revocation.objects.filter(access_request=active_request).exists()


def test_a_console_that_ends_while_its_link_is_made_has_none(
    active_request: AccessRequest, alice: User, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session is on record before the sign-in endpoint hears of it."""
    put: list[object] = []

    def slow(*_: Any, **__: Any) -> console.ConsoleLink:
        assert IssuedSession.objects.get().discarded is False
        workflow.give_back(active_request, by=alice)
        return console.ConsoleLink("https://signin.aws.amazon.com/federation", {}, timedelta(minutes=15))

    monkeypatch.setattr(console, "sign_in", slow)
    monkeypatch.setattr(envelopes, "put", lambda *envelope: put.append(envelope))
    delivery = browser.ask(active_request, kind="console")
    minting.mint(delivery.pk)
    failed(delivery)
    assert delivery.state == DeliveryState.DISCARDED
    assert put == []


def test_a_clock_that_is_set_while_aws_is_thinking(
    active_request: AccessRequest, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS's clock turns out to be a minute behind what was measured: the session would outlive the pass."""
    AwsClock.objects.update(low_seconds=29, high_seconds=30)
    delivery = browser.ask(active_request)
    minting.mint(delivery.pk)
    failed(delivery)
    assert delivery.state == DeliveryState.DISCARDED
    assert AuditEvent.objects.get(action="session.discarded").detail["rule"] == "clock.set"


# --- Redis is no authority ------------------------------------------------------------------------------


def test_an_envelope_replaced_in_redis_is_not_handed_over(
    active_request: AccessRequest, browser: Browser, redis_server: Any
) -> None:
    older, newer = browser.ask(active_request), browser.ask(active_request)
    minting.mint(older.pk)
    minting.mint(newer.pk)
    redis_server.set(f"envelope:{newer.public_id}", redis_server.get(f"envelope:{older.public_id}"))
    with pytest.raises(Conflict) as refusal:
        browser.open(newer)
    assert refusal.value.rule == "delivery.lost"
    newer.refresh_from_db()
    assert newer.state == DeliveryState.LOST


# --- the console ----------------------------------------------------------------------------------------


def test_the_console_link_travels_the_same_way(
    active_request: AccessRequest, browser: Browser, federation: Any, settings: Any, redis_server: Any
) -> None:
    settings.FEDERATION_URL = federation.url
    opened = browser.credentials(
        active_request, kind="console", destination="https://console.aws.amazon.com/s3/home?region=eu-west-1"
    )
    assert opened["kind"] == "console"
    assert opened["fields"]["Destination"] == "https://console.aws.amazon.com/s3/home?region=eu-west-1"
    assert opened["fields"]["SigninToken"]
    assert not {"secret_access_key", "session_token"} & set(opened)
    assert IssuedSession.objects.count() == 1


def test_a_console_that_does_not_answer(active_request: AccessRequest, browser: Browser, settings: Any) -> None:
    settings.FEDERATION_URL = "http://127.0.0.1:9/federation"
    delivery = browser.ask(active_request, kind="console")
    minting.mint(delivery.pk)
    failed(delivery)
    assert delivery.state == DeliveryState.UNAVAILABLE
    assert IssuedSession.objects.count() == 1


def test_where_aws_asks_for_more_at_its_console_a_link_is_refused_in_words_and_keys_are_not(
    active_request: AccessRequest, browser: Browser, federation: Any, settings: Any, aws_stand_in: Any
) -> None:
    settings.FEDERATION_URL = federation.url
    with aws_stand_in.console_authorization("222222222222"):
        # Nobody has read it yet: there is a link, and AWS refuses it to whoever follows it.
        assert "not authorized to perform signin:" in follow(browser.credentials(active_request, kind="console"))
        Account.objects.update(console_authorization="on")

        with pytest.raises(NotAllowed) as refusal:
            browser.ask(active_request, kind="console")
        assert refusal.value.rule == "console.authorization"
        assert "console authorization is on in this account" in str(refusal.value)
        assert browser.credentials(active_request)["access_key_id"]


def test_it_is_looked_at_again_before_aws_is_asked(
    active_request: AccessRequest, browser: Browser, settings: Any, federation: Any
) -> None:
    settings.FEDERATION_URL = federation.url
    delivery = browser.ask(active_request, kind="console")
    Account.objects.update(console_authorization="on")

    minting.mint(delivery.pk)

    failed(delivery)
    assert delivery.state == DeliveryState.REFUSED
    assert delivery.message == policy.CONSOLE_IS_CLOSED
    assert not IssuedSession.objects.exists()


def test_terms_that_lift_it_by_name_open_the_console(
    alice: User, bob: User, administrator: Role, staged: Entitlement, browser: Browser, federation: Any, settings: Any,
    aws_stand_in: Any,
) -> None:  # fmt: skip
    settings.FEDERATION_URL = federation.url
    Account.objects.update(console_authorization="on")
    Entitlement.objects.filter(pk=staged.pk).update(lifted=["sign-in-tokens"])
    staged.refresh_from_db()
    asked = factories.wish(alice, administrator, staged)
    workflow.approve(asked, by=bob)
    active = workflow.start(asked, by=alice)

    with aws_stand_in.console_authorization("222222222222"):
        assert "Signed in to the AWS console" in follow(browser.credentials(active, kind="console"))


def follow(opened: dict[str, Any]) -> str:
    """The page that the browser gets for the form."""
    return httpx.post(opened["url"], data=opened["fields"], timeout=10).text
