"""The metrics, read as Prometheus reads them."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from requests_app.domain import clock, workflow
from requests_app.domain.models import AccessRequest, AwsClock, DenyPolicy, User
from requests_app.domain.workflow import sweeps
from tests import factories

pytestmark = pytest.mark.django_db

TOKEN = "a-token-for-prometheus"


@pytest.fixture(autouse=True)
def _token(settings: Any) -> None:
    settings.METRICS_TOKEN = TOKEN


def scrape(client: Client) -> dict[tuple[str, ...], float]:
    """Each sample's value by its name and the values of its labels."""
    response = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}", "host": "10.0.0.7:8000"})
    assert response.status_code == 200
    families = text_string_to_metric_families(response.content.decode())
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


@pytest.mark.parametrize("brought", [None, "", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ", "Bearer \xe9"])
def test_only_who_brings_the_token_reads_them(client: Client, brought: str | None) -> None:
    response = client.get("/metrics", headers={"authorization": brought} if brought is not None else {})

    assert response.status_code == 401
    assert b"daypass_" not in response.content


@pytest.mark.parametrize("brought", ["Bearer ", f"Bearer {TOKEN}"])
def test_without_a_token_there_are_none(client: Client, settings: Any, brought: str) -> None:
    settings.METRICS_TOKEN = ""

    assert client.get("/metrics", headers={"authorization": brought}).status_code == 404


def test_what_nobody_sees_to_is_late(client: Client, active_request: AccessRequest, aws_clock: AwsClock) -> None:
    assert active_request.expires_at
    before = scrape(client)
    assert before["daypass_lag_seconds", "passes to end", "default"] == 0
    assert before["daypass_open_requests", "active"] == 1

    with clock.moved(active_request.expires_at - clock.now() + timedelta(seconds=90)):
        late = scrape(client)
        sweeps.expire_due()
        after = scrape(client)

    assert 90 <= late["daypass_lag_seconds", "passes to end", "default"] < 100
    assert (
        late["daypass_lag_seconds", "passes to end", "default"]
        > late["daypass_lag_limit_seconds", "passes to end", "default"]
    )
    assert after["daypass_lag_seconds", "passes to end", "default"] == 0
    assert after["daypass_open_requests", "active"] == 0
    assert late["daypass_aws_clock_age_seconds", aws_clock.region] > 90


def test_an_early_end_that_aws_does_not_take_is_counted(
    client: Client, active_request: AccessRequest, bob: User, aws_clock: AwsClock
) -> None:
    factories.sealed(active_request)
    workflow.revoke(active_request, by=bob, reason="gone")
    with clock.moved(timedelta(minutes=3)):
        found = scrape(client)

    assert DenyPolicy.objects.get().due_at
    assert found["daypass_early_ends", "wanted"] == 1
    assert found["daypass_lag_seconds", "deny policies to write or read back", "revoke"] > 170


def test_they_name_nobody_and_cost_a_fixed_number_of_questions(
    client: Client, active_request: AccessRequest, pending_request: AccessRequest, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(26):
        text = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).content.decode()

    for name in (active_request.beneficiary.username, active_request.code, active_request.role.name, TOKEN):
        assert name not in text


def test_a_redis_of_no_use_is_shown(client: Client, settings: Any) -> None:
    assert scrape(client)["daypass_redis_works",] == 1
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    assert scrape(client)["daypass_redis_works",] == 0
