"""The promises, attacked from outside: over HTTP, over Redis, and by taking servers away."""

import base64
import json
import pickle
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from requests_app.domain import clock, sealing, workflow
from requests_app.domain.models import AccessRequest, AuditEvent, Delivery, Entitlement, IssuedSession, Role, User
from requests_app.domain.transitions import State
from sandbox.caller import Caller
from sandbox.employee import Employee, until
from sandbox.processes import PROCESSES
from sandbox.stack import Stack
from tests import factories
from tests.stack.people import aws_cli

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]

SignIn = Callable[[str], Employee]
MakePass = Callable[..., AccessRequest]


def test_access_ends_on_time_though_daypass_is_dead(product: Stack, sign_in: SignIn, make_pass: MakePass) -> None:
    ends_soon = make_pass("alice", "payments-prod/Administrator", left=14)
    keys = sign_in("alice").ask(ends_soon.code).open()
    look = ("s3", "ls", "s3://payments-prod-ledger", "--recursive")

    for process in PROCESSES:
        product[process.name].kill()
    try:
        first = aws_cli(product, keys, *look)
        assert first.returncode == 0, first.stderr
        assert "summary.csv" in first.stdout
        assert ends_soon.expires_at is not None
        with_margin = ends_soon.expires_at - clock.now() + timedelta(seconds=0.2)
        time.sleep(max(0, with_margin.total_seconds()))
        after = aws_cli(product, keys, *look)
    finally:
        for process in PROCESSES:
            product.revive(process.name)

    assert after.returncode != 0
    assert "ExpiredToken" in after.stderr  # STS itself ended them


def test_a_session_cannot_be_turned_into_a_longer_one(product: Stack, sign_in: SignIn, make_pass: MakePass) -> None:
    administrator = make_pass("alice", "payments-prod/Administrator")
    keys = sign_in("alice").ask(administrator.code).open()
    role = administrator.role

    assert aws_cli(product, keys, "iam", "list-roles").returncode == 0, "the control: this session may do a lot"
    deny_all = json.dumps({"Version": "2012-10-17", "Statement": []})
    for command in (
        ["sts", "assume-role", "--role-arn", role.arn, "--role-session-name", "DP-longer"],
        ["iam", "put-role-policy", "--role-name", role.name, "--policy-name", "x", "--policy-document", deny_all],
        ["iam", "delete-role-policy", "--role-name", role.name, "--policy-name", "permissions"],
        ["iam", "update-assume-role-policy", "--role-name", role.name, "--policy-document", deny_all],
        ["sts", "get-session-token"],
        ["sts", "get-federation-token", "--name", "xy"],
    ):
        tried = aws_cli(product, keys, *command)
        assert tried.returncode != 0, command
        assert "AccessDenied" in tried.stderr, (command, tried.stderr)


def test_a_narrowed_pass_reads_and_nothing_else(product: Stack, sign_in: SignIn, make_pass: MakePass) -> None:
    alice = User.objects.get(username="alice")
    narrowed = workflow.submit(
        Role.objects.get(account__name="payments-prod", name="Administrator"),
        by=alice,
        entitlement=Entitlement.objects.get(name="Payments administrator, reading only"),
        duration=timedelta(minutes=5),
        justification="only to look at the ledger",
        start="at_once",
    )
    keys = sign_in("alice").ask(narrowed.code).open()

    assert aws_cli(product, keys, "s3", "ls", "s3://payments-prod-ledger", "--recursive").returncode == 0
    written = aws_cli(product, keys, "s3", "rm", "s3://payments-prod-ledger/2026/10/summary.csv")
    assert "AccessDenied" in written.stderr
    made = aws_cli(product, keys, "iam", "create-user", "--user-name", "backdoor")
    assert "AccessDenied" in made.stderr


def test_whoever_writes_to_redis_mints_nothing(product: Stack, sign_in: SignIn, make_pass: MakePass) -> None:
    alice = sign_in("alice")
    before = IssuedSession.objects.count()
    ended = make_pass("alice")
    over = factories.delivery(ended)  # its pass ends before any worker sees it
    workflow.give_back(ended, by=ended.beneficiary)
    handed = alice.ask(make_pass("alice").code)
    handed.open()
    used = Delivery.objects.get(public_id=handed.public_id)
    redis = product.redis.client()
    for forged in (over.pk, used.pk, 10**9, -1, "1 OR 1=1", {"id": over.pk}, [over.pk], None, True, 2**70):
        redis.lpush("mint", _message("mint.mint", [forged]))
    loot = Path(product.folder) / "loot"
    evil = base64.b64encode(pickle.dumps(_Evil(str(loot)))).decode()
    redis.lpush("mint", _message("mint.mint", [], body=evil, content_type="application/x-python-serialize"))
    for queue in ("default", "aws", "revoke"):
        redis.lpush(queue, _message("mint.mint", [], body=evil, content_type="application/x-python-serialize"))
    redis.set(":1:anything", pickle.dumps(_Evil(str(loot))))

    fresh = alice.ask(make_pass("alice").code)  # queued behind all of it
    fresh.open()

    assert IssuedSession.objects.count() == before + 2
    assert not loot.exists()
    over.refresh_from_db()
    assert over.state != "claimed"


class _Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (self.path, "w"))


def test_what_is_no_message_ends_no_worker(product: Stack, sign_in: SignIn, make_pass: MakePass) -> None:
    alice, mine = sign_in("alice"), make_pass("alice")
    redis = product.redis.client()
    nonsense = ["", "not json", "null", "[]", "{}", '{"body": null}', '{"body": "!", "properties": {}, "headers": {}}']
    for queue in ("mint", "aws", "revoke", "default"):
        redis.lpush(queue, *nonsense, _message("mint.mint", [1], body="!!!"), _message("no.such.task", []))

    alice.ask(mine.code).open()  # queued behind all of it

    until(lambda: not any(redis.llen(queue) for queue in ("revoke", "default")), 30)
    assert all(product[process.name].alive() for process in PROCESSES)


def test_an_envelope_replaced_in_redis_is_not_handed_over(product: Stack, sign_in: SignIn, make_pass: MakePass) -> None:
    wish = sign_in("alice").ask(make_pass("alice").code)
    assert wish.settle() == "sealed"
    forged = sealing.seal({"access_key_id": "AKIAEVIL"}, wish.key.as_dict(private=False))
    product.redis.client().set(f"envelope:{wish.public_id}", forged)

    answer = wish.take()

    assert answer.status_code == 409
    assert wish.state()["state"] == "lost"


def test_an_envelope_is_given_once_and_only_to_the_sign_in_that_asked(
    product: Stack, sign_in: SignIn, make_pass: MakePass
) -> None:
    here, elsewhere, bob = sign_in("alice"), sign_in("alice"), sign_in("bob")
    wish = here.ask(make_pass("alice").code)
    assert wish.settle() == "sealed"

    for other in (elsewhere, bob):
        answer = other.post(f"/deliveries/{wish.public_id}/envelope")
        assert answer.status_code in (403, 404)
        assert "envelope" not in answer.json()
    assert wish.take().status_code == 200
    assert wish.take().status_code == 409
    assert Delivery.objects.get(public_id=wish.public_id).state == "delivered"


def test_nobody_asks_for_what_is_not_theirs_or_not_active(product: Stack, sign_in: SignIn, make_pass: MakePass) -> None:
    pass_of_alice = make_pass("alice")
    ended = make_pass("alice")
    workflow.give_back(ended, by=ended.beneficiary)
    jwk = json.dumps(factories.recipient_key())
    before = Delivery.objects.count()

    for username, code in (("bob", pass_of_alice.code), ("dave", pass_of_alice.code), ("alice", ended.code)):
        answer = sign_in(username).post("/deliveries/", {"code": code, "kind": "credentials", "jwk": jwk})
        assert answer.status_code in (403, 404, 409), (username, answer.text)

    assert Delivery.objects.count() == before


def test_a_pass_that_ends_while_aws_is_thinking_gives_nothing(
    product: Stack, sign_in: SignIn, make_pass: MakePass
) -> None:
    mine = make_pass("alice")
    alice = sign_in("alice")
    product.aws.freeze()
    try:
        wish = alice.ask(mine.code)
        until(lambda: wish.state()["state"] == "claimed", 10, wish.state)
        assert alice.post(f"/requests/{mine.code}/give-back", {"confirmed": "yes"}).status_code == 200
        mine.refresh_from_db()
        assert mine.state == State.RETURNED
    finally:
        product.aws.cont()

    assert wish.settle() == "discarded"
    assert wish.take().status_code == 409
    session = IssuedSession.objects.get(delivery__public_id=wish.public_id)
    assert session.discarded
    assert AuditEvent.objects.filter(action="session.discarded", access_request=mine).exists()
    assert product.redis.client().get(f"envelope:{wish.public_id}") is None


def test_revoking_ends_one_persons_live_session_and_the_page_says_since_when(
    product: Stack, sign_in: SignIn, make_pass: MakePass
) -> None:
    hers, bobs = make_pass("alice", "payments-prod/Administrator"), make_pass("bob", "payments-prod/Administrator")
    keys, others = sign_in("alice").ask(hers.code).open(), sign_in("bob").ask(bobs.code).open()
    look = ("dynamodb", "list-tables")
    assert aws_cli(product, keys, *look).returncode == 0

    olivia = sign_in("olivia")
    assert olivia.post(f"/requests/{hers.code}/revoke", {"reason": "the incident is over"}).status_code == 200
    until(lambda: "AWS refuses them since" in olivia.get(f"/requests/{hers.code}").text, 60)

    refused = aws_cli(product, keys, *look)
    assert refused.returncode != 0
    assert "explicit deny" in refused.stderr
    assert aws_cli(product, others, *look).returncode == 0


def test_what_aws_login_made_of_a_pass_ends_with_it(product: Stack, sign_in: SignIn, make_pass: MakePass) -> None:
    given = Entitlement.objects.filter(roles__name="Administrator", roles__account__name="payments-prod")
    before = dict(given.values_list("pk", "lifted"))
    given.update(lifted=["sign-in-tokens"])
    try:
        hers = make_pass("alice", "payments-prod/Administrator")
    finally:
        for pk, lifted in before.items():
            Entitlement.objects.filter(pk=pk).update(lifted=lifted)
    keys = sign_in("alice").ask(hers.code).open()
    caller = Caller(product.aws.url, keys["access_key_id"], keys["secret_access_key"], keys["session_token"])
    made = {caller.log_in() for _ in range(6)}

    olivia = sign_in("olivia")
    assert olivia.post(f"/requests/{hers.code}/revoke", {"reason": "a stolen laptop"}).status_code == 200
    until(lambda: "AWS refuses them since" in olivia.get(f"/requests/{hers.code}").text, 60)

    assert "were ended too" in olivia.get(f"/requests/{hers.code}").text
    of_account = product.aws.root("222222222222").client("signin")
    told = of_account.list_sessions(principalArn="arn:aws:iam::222222222222:*")["items"]
    assert {one["status"] for one in told if one["sessionArn"] in made} == {"REVOKED"}


def test_a_frozen_redis_holds_up_nobody(product: Stack, sign_in: SignIn, make_pass: MakePass) -> None:
    alice, bob = sign_in("alice"), sign_in("bob")
    mine = make_pass("alice")
    pending = _ask_for_administrator()
    product["redis"].freeze()
    try:
        started = time.monotonic()
        answer = bob.post(f"/requests/{pending.code}/approve", {"comment": ""})
        took = time.monotonic() - started
        assert answer.status_code == 200
        pending.refresh_from_db()
        assert pending.state == State.APPROVED
        assert took < 3
        # Each web process notices at its first nudge, and then says so: nobody waits for what no worker hears of.
        until(lambda: alice.try_to_ask(mine.code)[0].status_code == 503, 20)
        started = time.monotonic()
        assert alice.get("/").status_code == 200
        assert time.monotonic() - started < 3
    finally:
        product["redis"].cont()

    alice.ask_when_redis_is_back(mine.code).open()
    until(lambda: any(pending.code in message for message in product.mail()), 60)


def test_a_silent_aws_holds_up_no_page(product: Stack, sign_in: SignIn, make_pass: MakePass) -> None:
    alice = sign_in("alice")
    mine = make_pass("alice")
    product.aws.freeze()
    try:
        wishes = [alice.ask(mine.code) for _ in range(50)]
        started = time.monotonic()
        home = alice.get("/")
        took = time.monotonic() - started
        revoked = make_pass("alice")
        assert alice.post(f"/requests/{revoked.code}/give-back", {"confirmed": "yes"}).status_code == 200
    finally:
        product.aws.cont()

    assert home.status_code == 200
    assert mine.code in home.text
    assert took < 3
    for wish in wishes:
        assert wish.settle(60) in ("sealed", "stale", "unavailable", "unknown", "refused")
    until(lambda: alice.ask(mine.code).settle() == "sealed", 60)


def test_killed_workers_come_back_and_nothing_is_stuck(product: Stack, sign_in: SignIn, make_pass: MakePass) -> None:
    alice = sign_in("alice")
    mine = make_pass("alice")
    product.aws.freeze()
    try:
        wish = alice.ask(mine.code)
        until(lambda: wish.state()["state"] == "claimed", 10, wish.state)
        product["mint"].kill()
    finally:
        product.aws.cont()
        product.revive("mint")

    alice.ask(mine.code).open()
    assert wish.settle(90) == "unknown"
    assert "unknown" in wish.state()["message"]
    assert AuditEvent.objects.filter(action="session.unaccounted", access_request=mine).count() == 1


def _ask_for_administrator() -> AccessRequest:
    return workflow.submit(
        Role.objects.get(account__name="payments-prod", name="Administrator"),
        by=User.objects.get(username="alice"),
        entitlement=Entitlement.objects.get(name="Payments administrator, one lead"),
        duration=timedelta(minutes=30),
        justification="replay the failed settlement batch",
    )


def _message(task: str, args: list[object], *, body: str = "", content_type: str = "application/json") -> str:
    """A message as kombu lays it into Redis: whoever can write there can write this."""
    body = body or base64.b64encode(json.dumps([args, {}, {}]).encode()).decode()
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8" if content_type.endswith("json") else "binary",
            "content-type": content_type,
            "headers": {"lang": "py", "task": task, "id": "forged", "root_id": "forged", "retries": 0},
            "properties": {
                "correlation_id": "forged",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "mint"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": f"forged-{time.time_ns()}",
            },
        }
    )
