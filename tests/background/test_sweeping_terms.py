"""The task that wakes every few seconds performs what richer terms make due."""

from datetime import timedelta

import pytest

from requests_app.background import tasks
from requests_app.domain import clock, workflow
from requests_app.domain.models import AccessRequest, Entitlement, Group, Membership, Notice, Role, User
from tests import factories


@pytest.mark.django_db
def test_the_sweeps_of_richer_terms_are_woken(
    alice: User, administrator: Role, staged: Entitlement, security: Group, olivia: User
) -> None:
    """Each by its own sign: further people asked, a scheduled start, a lapsed wish, what is hopeless, what is stuck."""
    stage = staged.stages.get()
    stage.escalate_seconds = 60
    stage.save()
    stage.more_groups.add(security)
    Entitlement.objects.update(schedule_ahead_seconds=86400, extensions_most=1, extension_total_seconds=7200)
    staged.refresh_from_db()
    bob = User.objects.get(username="bob")
    with clock.moved(-timedelta(hours=1)):
        escalates, stuck = (factories.wish(alice, administrator, staged) for _ in range(2))
        start_at = clock.now() + timedelta(minutes=30)
        planned = factories.wish(
            alice, administrator, staged, start="at_time", start_at=start_at, duration=timedelta(hours=1)
        )
        workflow.approve(planned, by=bob)
        gone = factories.wish(factories.person("gone", *staged.groups.all()), administrator, staged)
        User.objects.filter(username="gone").update(deactivated_at=clock.now())
    tasks.sweep_requests()
    for one, state in ((escalates, "pending"), (planned, "active"), (gone, "lapsed")):
        one.refresh_from_db()
        assert one.state == state
    assert escalates.escalate_at is None
    extension = workflow.extend(planned, by=alice, duration=timedelta(minutes=9), justification="it takes longer")
    AccessRequest.objects.filter(pk=planned.pk).update(state="revoked", ended_at=clock.now(), ended_by=bob)
    tasks.sweep_requests()
    extension.refresh_from_db()
    assert extension.state == "lapsed"
    Membership.objects.all().delete()
    tasks.find_stuck()
    assert Notice.objects.filter(kind="stuck", access_request=stuck).exists()
