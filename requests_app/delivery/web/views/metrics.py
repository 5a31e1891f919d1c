"""Gauges for Prometheus, read from the database when asked: how late the workers are, and what is open.

Nobody is named in them. What each web process counts of its own pages comes with it where the processes share a
folder for that (PROMETHEUS_MULTIPROC_DIR); else each would tell of itself alone.
"""

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotFound
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from requests_app.domain import clock, store, troubles
from requests_app.domain.lags import lags
from requests_app.domain.models import AccessRequest, AwsClock, Freeze, Notice, Revocation
from requests_app.domain.transitions import OPEN
from requests_app.domain.workflow.revocations import LIVE

# Counting is not free, and beyond this it is very many anyway.
MOST_COUNTED = 100_000


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """For whoever brings METRICS_TOKEN as a bearer token; there is no such address where none is set."""
    if not settings.METRICS_TOKEN:
        return HttpResponseNotFound("METRICS_TOKEN is not set.\n", content_type="text/plain")
    if not constant_time_compare(request.headers.get("Authorization", ""), f"Bearer {settings.METRICS_TOKEN}"):
        words = "Bring METRICS_TOKEN as a bearer token.\n"
        return HttpResponse(words, "text/plain", 401, headers={"WWW-Authenticate": "Bearer"})
    registry = CollectorRegistry()
    registry.register(Rows())
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class Rows(Collector):
    """What the rows tell, in a fixed number of queries."""

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()  # so that nobody asks the database only to learn the names

    def collect(self) -> Iterable[GaugeMetricFamily]:
        now = clock.now()
        late = _gauge("lag_seconds", "How late the work is that is longest due.", "work", "worker")
        limit = _gauge("lag_limit_seconds", "More than so late means that nobody does it.", "work", "worker")
        for lag in lags(now):
            late.add_metric([lag.work, lag.worker], lag.late.total_seconds())
            limit.add_metric([lag.work, lag.worker], lag.limit.total_seconds())
        requests = _gauge("open_requests", "Requests and passes that have not ended.", "state")
        for state in sorted(OPEN):
            requests.add_metric([state], _number(AccessRequest.objects.filter(state=state)))
        ends = _gauge("early_ends", "Early ends that AWS must know of, by how far that is.", "state")
        found = dict(Revocation.objects.filter(state__in=LIVE).values_list("state").annotate(Count("pk")))
        for how_far in LIVE:
            ends.add_metric([how_far], found.get(how_far, 0))
        unsent = Notice.objects.filter(sent_at=None, gave_up_at=None)
        return [
            late, limit, requests, ends,
            _gauge("unsent_mails", "Mails in the outbox.", value=_number(unsent)),
            _gauge("troubles", "Tasks and rows that fail in a way nobody foresaw.", value=_number(troubles.open_now())),
            _gauge("freezes", "Freezes in force.", value=_number(Freeze.objects.in_force())),
            _gauge("redis_works", "1 if Redis takes what is written to it.", value=not store.standing().look()),
            *_clocks(now),
        ]  # fmt: skip


def _clocks(now: datetime) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    age = _gauge("aws_clock_age_seconds", "Since AWS's clock was read; after two minutes nothing is minted.", "region")
    ahead = _gauge(
        "aws_clock_ahead_seconds", "AWS's clock against the database's, at least and at most.", "region", "bound"
    )
    for reading in AwsClock.objects.order_by("region"):
        age.add_metric([reading.region], max(now - reading.measured_at, timedelta(0)).total_seconds())
        ahead.add_metric([reading.region, "low"], reading.low_seconds)
        ahead.add_metric([reading.region, "high"], reading.high_seconds)
    return age, ahead


def _gauge(name: str, words: str, *labels: str, value: float | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"daypass_{name}", words, value, labels=labels or None)


def _number(rows: QuerySet[Any]) -> int:
    return rows.order_by().values("pk")[:MOST_COUNTED].count()
