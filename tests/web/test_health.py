from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import Client

from requests_app.delivery.web.views import health
from requests_app.domain import store
from sandbox.redis_server import RedisServer
from tests.refusals import REFUSALS, Refusal


@pytest.fixture(autouse=True)
def _nothing_known_yet() -> Iterator[None]:
    health._database.forget()
    yield
    health._database.forget()


@pytest.fixture
def refusing_redis(settings: Any) -> Iterator[RedisServer]:
    with RedisServer() as server:
        settings.REDIS_URL = server.url()
        yield server


def test_live_needs_nothing(client: Client) -> None:
    assert client.get("/livez").status_code == 200


@pytest.mark.django_db
def test_probes_come_by_a_number_and_over_plain_http(client: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["daypass.example.com"]
    settings.SECURE_SSL_REDIRECT = True

    assert client.get("/livez", headers={"host": "127.0.0.1:8000"}).status_code == 200
    assert client.get("/readyz", headers={"host": "10.0.0.7:8000"}).status_code == 200
    assert client.get("/accounts/login/", headers={"host": "10.0.0.7:8000"}, secure=True).status_code == 400


@pytest.mark.django_db
def test_ready_when_database_and_redis_answer(client: Client) -> None:
    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.content == b"database: ok\nredis: ok\n"


@pytest.mark.django_db
def test_ready_without_redis_because_people_must_be_able_to_revoke(client: Client, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.content == b"database: ok\nredis: degraded (ConnectionError)\n"


@pytest.mark.django_db
@pytest.mark.parametrize("refusal", [one for one in REFUSALS if one.name in ("OOM", "READONLY", "NOREPLICAS")])
def test_a_redis_that_answers_and_takes_no_writes_is_degraded(
    refusal: Refusal, client: Client, refusing_redis: RedisServer
) -> None:
    with refusal.lasting(refusing_redis):
        response = client.get("/readyz")

    assert response.status_code == 200
    assert f"redis: degraded ({refusal.error.__name__})" in response.content.decode()


@pytest.mark.django_db
def test_redis_is_not_asked_at_each_probe(client: Client, refusing_redis: RedisServer) -> None:
    asking = refusing_redis.client()

    def asked() -> int:
        return int(asking.info("commandstats").get("cmdstat_set", {"calls": 0})["calls"])

    for _ in range(5):
        health._database.forget()
        assert client.get("/readyz").status_code == 200

    assert asked() == 1
    assert store.standing().look() == ""


@pytest.mark.django_db
def test_not_ready_without_the_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object) -> None:
        from django.db import DatabaseError

        raise DatabaseError

    monkeypatch.setattr("django.db.transaction.atomic", down)
    assert client.get("/readyz").status_code == 503


@pytest.mark.django_db(transaction=True)
def test_not_ready_on_a_database_that_takes_no_writes(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        response = client.get("/readyz")
    finally:
        connection.close()

    assert response.status_code == 503
    assert b"database: read-only" in response.content


@pytest.mark.django_db(transaction=True)
def test_not_ready_on_a_full_disk(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own error code, as a full disk gives it; tests/chaos has a disk that really is full."""
    monkeypatch.setattr(health, "_WRITABLE", "DO $$ BEGIN RAISE SQLSTATE '53100'; END $$")
    response = client.get("/readyz")

    assert response.status_code == 503
    assert b"database: no room on its disk" in response.content


@pytest.mark.django_db
def test_whether_there_is_room_is_asked_by_what_takes_some(app_connection: psycopg.Connection) -> None:
    app_connection.execute("SET work_mem = '64kB'")
    plan = "\n".join(
        line for (line,) in app_connection.execute(f"EXPLAIN (ANALYZE, COSTS OFF) {health._WRITABLE}").fetchall()
    )

    assert "Sort Method: external" in plan, "without a temporary file a full disk is not noticed"
