"""Sweeps are woken every few seconds. Where nothing is due they ask little; what is due is not overlooked."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from requests_app.background import tasks
from requests_app.domain import clock, jobs, workflow
from requests_app.domain.models import (
    AccessRequest,
    Entitlement,
    Extension,
    Group,
    Notice,
    Preflight,
    Role,
    User,
)
from requests_app.domain.workflow import attempts, due, idempotency, sweeps
from tests import factories, plans

pytestmark = pytest.mark.django_db

ALL = {
    sweeps.expire_due, sweeps.lapse_due, sweeps.lapse_extensions, sweeps.lapse_hopeless, sweeps.activate_due,
    sweeps.escalate_due, sweeps.announce_endings, workflow.end_passes_of_deactivated, idempotency.forget_old,
    attempts.forget_old,
}  # fmt: skip


@pytest.fixture
def land(
    alice: User, administrator: Role, read_only: Role, staged: Entitlement, automatic: Entitlement, security: Group
) -> dict[str, Any]:
    """One of everything that waits, of which nothing is due."""
    stage = staged.stages.get()
    stage.escalate_seconds = 3600
    stage.save()
    stage.more_groups.add(security)
    terms = {
        "schedule_ahead_seconds": 86400,
        "extensions_most": 1,
        "extension_total_seconds": 28800,
        "longest_seconds": 28800,
    }
    Entitlement.objects.update(**terms)
    for one in (staged, automatic):
        one.refresh_from_db()
    bob = User.objects.get(username="bob")
    pending = factories.wish(alice, administrator, staged, key="a" * 20)
    active = factories.wish(alice, administrator, staged, duration=timedelta(hours=2))
    workflow.approve(active, by=bob)
    active = workflow.start(AccessRequest.objects.get(pk=active.pk), by=alice)
    extension = workflow.extend(active, by=alice, duration=timedelta(minutes=30), justification="it goes on and on")
    planned = factories.wish(
        alice, administrator, staged, start="at_time", start_at=clock.now() + timedelta(hours=5),
    )  # fmt: skip
    workflow.approve(planned, by=bob)
    approved = factories.wish(alice, read_only, automatic)
    return {"pending": pending, "active": active, "extension": extension, "planned": planned, "approved": approved}


def test_of_what_only_waits_nothing_is_due(land: dict[str, Any]) -> None:
    assert due.idle() == ALL


def _deactivate(land: dict[str, Any]) -> None:
    User.objects.filter(pk=land["active"].beneficiary_id).update(deactivated_at=clock.now())


def _end_the_pass(land: dict[str, Any]) -> None:
    AccessRequest.objects.filter(pk=land["active"].pk).update(state="revoked", ended_at=clock.now())


def _guess(_: Any) -> None:
    with clock.moved(-timedelta(days=2)):
        attempts.reserve([attempts.Budget("a name", most=5, per=timedelta(hours=1))])


@pytest.mark.parametrize(
    ("sweep", "later", "happens"),
    [
        (sweeps.expire_due, timedelta(hours=3), None),
        (sweeps.lapse_due, timedelta(hours=9), None),
        (sweeps.lapse_due, timedelta(days=8), None),
        (sweeps.lapse_extensions, timedelta(hours=3), None),
        (sweeps.lapse_extensions, timedelta(0), _end_the_pass),
        (sweeps.lapse_hopeless, timedelta(0), _deactivate),
        (sweeps.activate_due, timedelta(hours=6), None),
        (sweeps.escalate_due, timedelta(hours=1), None),
        (sweeps.announce_endings, timedelta(minutes=110), None),
        (workflow.end_passes_of_deactivated, timedelta(0), _deactivate),
        (idempotency.forget_old, timedelta(days=8), None),
        (attempts.forget_old, timedelta(days=2), _guess),
    ],
)
def test_what_a_sweep_would_move_is_not_overlooked(
    land: dict[str, Any], sweep: Callable[..., int], later: timedelta, happens: Callable[[Any], None] | None
) -> None:
    with clock.moved(later):
        if happens:
            happens(land)
        assert sweep not in due.idle()
        # What begins by itself begins now and not later, by the guards: there its sign is enough.
        assert sweep is sweeps.activate_due or sweep() > 0


def test_what_asks_further_approvers_of_an_extension_is_not_overlooked(land: dict[str, Any]) -> None:
    AccessRequest.objects.filter(state="pending").update(escalate_at=None)
    assert Extension.objects.filter(escalate_at__isnull=False).exists()
    with clock.moved(timedelta(minutes=61)):
        assert sweeps.escalate_due not in due.idle()


@pytest.mark.parametrize(
    ("task", "most"),
    [
        (tasks.sweep_requests, 4), (tasks.sweep_deliveries, 3), (tasks.sweep_outbox, 1),
        (tasks.sweep_revocations, 1), (tasks.sweep_preflights, 1),
    ],
)  # fmt: skip
def test_where_nothing_is_due_little_is_asked(
    land: dict[str, Any], task: Any, most: int, redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "send", lambda *_: None)
    later = clock.now() + timedelta(days=1)
    Preflight.objects.update(minter_due_at=later, revoker_due_at=later)
    Notice.objects.update(sent_at=clock.now())
    task()
    with plans.watched() as statements:
        task()
    assert len(statements) <= most, [one.sql for one in statements]
