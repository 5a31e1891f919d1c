from typing import Any

import pytest
from django.db import DatabaseError
from django.test import Client


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
def test_not_ready_without_redis(client: Client, settings: object) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"  # type: ignore[attr-defined]
    response = client.get("/readyz")

    assert response.status_code == 503
    assert b"redis: does not answer" in response.content


@pytest.mark.django_db
def test_not_ready_without_the_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object) -> None:
        raise DatabaseError

    monkeypatch.setattr("django.db.transaction.atomic", down)
    assert client.get("/readyz").status_code == 503
