"""The running product looks at its roles by itself, and doctor tells of it."""

import contextlib
import io
import json
import time

import httpx
from django.core.management import call_command
from prometheus_client.parser import text_string_to_metric_families

from requests_app.domain.models import Identity, OwnSession, Preflight, Role, Trouble
from sandbox.stack import METRICS_TOKEN, Stack

SOON = 90


def examined() -> dict[str, dict[str, str]]:
    out = io.StringIO()
    with contextlib.suppress(SystemExit):
        call_command("doctor", "--json", "--all", stdout=out)
    return {one["about"]: one for one in json.loads(out.getvalue())}


def test_every_role_is_looked_at_by_both_workers_before_anybody_asks(product: Stack) -> None:
    roles = Role.objects.filter(is_active=True, account__is_active=True)
    looked = Preflight.objects.filter(role__in=roles, minter_at__isnull=False, revoker_at__isnull=False)
    until = time.monotonic() + SOON
    while looked.count() < roles.count() and time.monotonic() < until:
        time.sleep(0.5)
    assert looked.count() == roles.count() > 5

    found = examined()

    for role in roles:
        assert found[f"role {role.arn}"]["verdict"] == "good", found[f"role {role.arn}"]
    assert set(Preflight.objects.filter(role__in=roles).values_list("usable", flat=True)) == {"good"}
    assert OwnSession.objects.filter(purpose="preflight").count() >= 2 * roles.count()
    assert found["identities in us-east-1"]["verdict"] == "good"
    assert found["clock in us-east-1"]["verdict"] == "good"
    for worker in Identity.Worker:
        assert f"assumed-role/daypass-{worker}/" in found[f"{worker} in us-east-1"]["sentence"]
    # The demo's mail was never sent, and a worker may have been at it.
    bad = [one for one in found.values() if one["verdict"] == "bad" and not one["about"].startswith("rule notice.")]
    assert bad == []
    assert not Trouble.objects.filter(task__contains="preflight").exists()


def test_prometheus_reads_how_late_the_workers_are_and_what_every_web_process_counted(product: Stack) -> None:
    def scrape() -> dict[str, list[float]]:
        answer = httpx.get(f"{product.url}/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}, timeout=20)
        assert answer.status_code == 200
        families = text_string_to_metric_families(answer.text)
        return {one.name: [sample.value for sample in one.samples] for one in families}

    pages = "django_http_responses_before_middlewares"
    before = sum(scrape()[pages])
    with httpx.Client(base_url=product.url) as visitor:
        for _ in range(12):
            visitor.get("/accounts/login/", headers={"Connection": "close"})
    found = scrape()

    # By whichever of the processes.
    assert sum(found[pages]) >= before + 12
    assert len(found["daypass_lag_seconds"]) == len(found["daypass_lag_limit_seconds"]) >= 9
