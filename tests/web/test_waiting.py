"""The envelope in the answer to the wish, when it is ready within a moment; and what waiting may never hold up."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.conf import settings as configured
from django.db import connection
from django.test import Client

from portal import server
from requests_app.aws.errors import Unavailable
from requests_app.background import minting
from requests_app.delivery.web import waiting
from requests_app.domain import envelopes, jobs, store, workflow
from requests_app.domain.models import AccessRequest, AwsClock, Delivery, Entitlement, Role, User
from tests import factories
from tests.factories import recipient_key
from tests.web.minting import ENVELOPE, seal
from tests.web.pages import signed_in

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _known_clock(aws_clock: AwsClock, redis_server: Any) -> Iterator[None]:
    store._client.cache_clear()
    yield
    store._client.cache_clear()


def ask(client: Client, access_request: AccessRequest, **headers: str) -> Any:
    wish = {"code": access_request.code, "kind": "credentials", "jwk": recipient_key()}
    return client.post("/deliveries/", json.dumps(wish), content_type="application/json", headers=headers)


def waits(client: Client, access_request: AccessRequest) -> Any:
    return ask(client, access_request, prefer="respond-async, wait=1")


@pytest.fixture
def quick_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has minted by the time at which the web looks for the envelope."""
    wait = envelopes.wait

    def mint_and_wait(delivery: str, seconds: float) -> bool:
        seal(Delivery.objects.get(public_id=delivery))
        return wait(delivery, seconds)

    monkeypatch.setattr(envelopes, "wait", mint_and_wait)


def test_what_is_ready_within_a_moment_comes_with_the_answer(
    quick_worker: None, active_request: AccessRequest, alice: User
) -> None:
    client = signed_in(alice)
    answer = waits(client, active_request)

    made = Delivery.objects.get()
    assert answer.status_code == 201
    assert answer.json() == {"id": str(made.public_id), "envelope": ENVELOPE}
    assert made.state == "delivered"
    assert client.post(f"/deliveries/{made.public_id}/envelope").status_code == 409, "once"


def test_everything_is_asked_again_before_it_comes_with_the_answer(
    active_request: AccessRequest, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = envelopes.wait

    def mint_and_end(delivery: str, seconds: float) -> bool:
        seal(Delivery.objects.get(public_id=delivery))
        workflow.give_back(active_request, by=alice)
        return wait(delivery, seconds)

    monkeypatch.setattr(envelopes, "wait", mint_and_end)
    answer = waits(signed_in(alice), active_request)

    assert answer.status_code == 201
    assert "envelope" not in answer.json()
    assert Delivery.objects.get().state == "discarded"


def test_where_the_database_goes_away_meanwhile_the_page_polls(
    active_request: AccessRequest,
    alice: User,
    superuser_connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wish is stored, and what was sealed for it is still to be had."""
    wait, client = envelopes.wait, signed_in(alice)

    def mint_and_cut(delivery: str, seconds: float) -> bool:
        seal(Delivery.objects.get(public_id=delivery))
        superuser_connection.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
        return wait(delivery, seconds)

    monkeypatch.setattr(envelopes, "wait", mint_and_cut)
    answer = waits(client, active_request)
    connection.close()

    assert answer.status_code == 201
    assert list(answer.json()) == ["id"]
    assert client.post(f"/deliveries/{answer.json()['id']}/envelope").json() == {"envelope": ENVELOPE}


def test_a_page_that_does_not_wait_is_answered_at_once(
    active_request: AccessRequest, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One from before an upgrade, say, which would not find what it was given."""
    monkeypatch.setattr(envelopes, "wait", _never)
    assert list(ask(signed_in(alice), active_request).json()) == ["id"]


def _never(*_: object) -> bool:
    raise AssertionError("it waited")


def test_a_bell_that_somebody_else_rang_gives_nothing(
    active_request: AccessRequest, alice: User, redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = envelopes.wait

    def forge_and_wait(delivery: str, seconds: float) -> bool:
        redis_server.lpush(envelopes._bell(delivery), b"")
        redis_server.set(envelopes._key(delivery), "a.b.c.d.e")
        return wait(delivery, seconds)

    monkeypatch.setattr(envelopes, "wait", forge_and_wait)
    assert list(waits(signed_in(alice), active_request).json()) == ["id"]
    assert Delivery.objects.get().state == "asked"


def test_with_redis_away_the_page_polls(
    active_request: AccessRequest, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> bool:
        raise envelopes.EnvelopeStoreDown("TimeoutError")

    monkeypatch.setattr(envelopes, "wait", down)
    assert list(waits(signed_in(alice), active_request).json()) == ["id"]


def test_a_quarter_of_the_threads_waits_at_most_and_holds_nobody_up(
    active_request: AccessRequest, alice: User, carol: User, monkeypatch: pytest.MonkeyPatch,
    superuser_connection: psycopg.Connection,
) -> None:  # fmt: skip
    """AWS hangs and many mint: whoever finds others waiting is answered, and so is whoever revokes."""
    monkeypatch.setattr(waiting, "waiting", waiting.Waiting(8))
    from requests_app.delivery.web.views import deliveries as views

    monkeypatch.setattr(views, "waiting", waiting.waiting)
    aws_hangs, both_wait = threading.Event(), threading.Barrier(3)

    def hang(*_: object) -> bool:
        assert not connection.in_atomic_block
        both_wait.wait(10)
        return not aws_hangs.wait(10)

    monkeypatch.setattr(envelopes, "wait", hang)
    client = signed_in(alice)

    def one(_: int) -> Any:
        try:
            return waits(client, active_request)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        waiters = [pool.submit(one, n) for n in range(2)]
        both_wait.wait(10)
        try:
            # Two of eight threads wait; the third wish is answered without, and so is everything else.
            monkeypatch.setattr(envelopes, "wait", _never)
            assert list(waits(client, active_request).json()) == ["id"]
            (in_transaction,) = superuser_connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
            ).fetchone() or (None,)
            assert in_transaction == 0
            assert workflow.revoke(active_request, by=carol, reason="a leak").state == "revoked"
        finally:
            aws_hangs.set()
        assert [list(waiter.result(10).json()) for waiter in waiters] == [["id"], ["id"]]


def test_the_threads_are_those_that_the_server_has() -> None:
    assert server.threads == configured.WEB_THREADS
    assert waiting.LONGEST_SECONDS < 1, "Redis's own time-out would come first"


def test_with_a_hundred_people_minting_and_sts_hanging_whoever_revokes_is_answered(
    active_request: AccessRequest, read_only: Role, automatic: Entitlement, alice: User, carol: User,
    monkeypatch: pytest.MonkeyPatch, settings: Any,
) -> None:  # fmt: skip
    """In the order in which they came, by as many threads as the web has: while each of the hundred still waits."""
    settings.DELIVERIES_PER_ROLE_PER_MINUTE = 1000
    people = [factories.person(f"person{n}", *(one.group for one in alice.memberships.all())) for n in range(100)]
    passes = [workflow.start(factories.wish(one, read_only, automatic), by=one) for one in people]
    clients, revoker = [signed_in(one) for one in people], signed_in(carol)
    sts_answers = threading.Event()

    def hang(*_: object) -> Any:
        sts_answers.wait(60)
        raise Unavailable("ReadTimeoutError", "AWS did not answer in time.", "Try again.")

    monkeypatch.setattr("requests_app.background.minting.sts.assume_role", hang)

    def alone(act: Callable[..., Any], *of: Any) -> Any:
        try:
            return act(*of)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as workers, ThreadPoolExecutor(configured.WEB_THREADS) as web:

        def nudge(job: str, args: tuple[int, ...] = ()) -> None:
            if job == "mint.mint":
                workers.submit(alone, minting.mint, *args)

        monkeypatch.setattr(jobs, "send", nudge)
        wishes = [web.submit(alone, waits, client, one) for client, one in zip(clients, passes, strict=True)]
        revoking = web.submit(alone, revoker.post, f"/requests/{active_request.code}/revoke", {"reason": "a leak"})
        try:
            assert revoking.result(60).status_code == 302
            active_request.refresh_from_db()
            assert active_request.state == "revoked"
            assert [list(one.result(60).json()) for one in wishes] == [["id"]] * 100
            assert Delivery.objects.filter(state__in=["asked", "claimed"]).count() == 100
        finally:
            sts_answers.set()
