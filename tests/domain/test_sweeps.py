"""What the clock decides: exactly what is due, once, in a handful of statements, whoever else is at it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models.functions import Upper

from requests_app.domain import clock, notices, workflow
from requests_app.domain.models import AccessRequest, AuditEvent, Entitlement, Group, Membership, Notice, Role, User
from requests_app.domain.transitions import State
from requests_app.domain.workflow import sweeps
from tests import factories

SECOND = timedelta(seconds=1)


def test_expiry_is_to_the_moment_and_happens_once(active_request: AccessRequest) -> None:
    assert active_request.expires_at is not None
    left = active_request.expires_at - clock.now()
    with clock.moved(left - SECOND):
        assert sweeps.expire_due() == 0
    with clock.moved(left):
        assert sweeps.expire_due() == 1
        assert sweeps.expire_due() == 0
    active_request.refresh_from_db()
    assert (active_request.state, active_request.ended_at) == (State.EXPIRED, active_request.expires_at)
    assert AuditEvent.objects.filter(action="request.expired").count() == 1
    assert Notice.objects.filter(kind="ended", recipient=active_request.beneficiary).count() == 1


def test_a_late_sweep_finds_what_a_lost_job_missed(active_request: AccessRequest) -> None:
    with clock.moved(timedelta(days=400)):
        assert active_request.state_at(clock.now()) == State.EXPIRED  # said even before it is recorded
        assert sweeps.expire_due() == 1
    active_request.refresh_from_db()
    assert active_request.ended_at == active_request.expires_at


def test_expiry_asks_nobody_whether_anybody_is_still_there(active_request: AccessRequest, leads: Group) -> None:
    Membership.objects.all().delete()
    User.objects.update(deactivated_at=clock.now(), email=Upper("email"), username=Upper("username"))
    Entitlement.objects.update(is_active=False)
    Role.objects.update(is_active=False)
    with clock.moved(timedelta(hours=1)):
        assert sweeps.expire_due() == 1


def test_lapsing(pending_request: AccessRequest, bob: User, alice: User) -> None:
    approved = factories.wish(alice, pending_request.role, pending_request.entitlement)
    workflow.approve(approved, by=bob)
    with clock.moved(timedelta(hours=7, minutes=59)):
        assert sweeps.lapse_due() == 0
    with clock.moved(timedelta(hours=8, minutes=1)):
        assert sweeps.lapse_due() == 1  # not started in 8 h
    with clock.moved(timedelta(days=1, minutes=1)):
        assert sweeps.lapse_due() == 1  # not decided in a day
    assert set(AccessRequest.objects.values_list("state", flat=True)) == {"lapsed"}


def test_a_request_whose_approvers_are_all_gone_still_ends(pending_request: AccessRequest, leads: Group) -> None:
    Membership.objects.filter(group=leads).delete()
    leads.stages.clear()
    leads.delete()
    with clock.moved(timedelta(days=1)):
        assert sweeps.lapse_due() == 1


def test_times_are_compared_as_times_at_new_year(alice: User, read_only: Role, automatic: Entitlement) -> None:
    # As text, "12/31/…" is later than "01/01/…".
    last_year = datetime(clock.now().year, 1, 1, tzinfo=UTC) - timedelta(minutes=10)
    with clock.moved(last_year - clock.now()):
        over_midnight = factories.wish(alice, read_only, automatic, start="at_once")
        assert sweeps.expire_due() == 0
        with clock.moved(timedelta(minutes=29)):
            assert sweeps.expire_due() == 0
        with clock.moved(timedelta(minutes=31)):
            assert sweeps.expire_due() == 1
    over_midnight.refresh_from_db()
    assert over_midnight.expires_at is not None
    assert over_midnight.expires_at.year == last_year.year + 1


def test_activation(
    alice: User, bob: User, administrator: Role, staged: Entitlement, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No door makes an at-once request wait yet; a scheduled start will.
    monkeypatch.setattr("requests_app.domain.workflow.life.begin", lambda *_, **__: None)
    waiting = factories.wish(alice, administrator, staged, start="at_once")
    workflow.approve(waiting, by=bob)
    on_demand = factories.wish(alice, administrator, staged)
    workflow.approve(on_demand, by=bob)

    assert sweeps.activate_due() == 1
    assert sweeps.activate_due() == 0

    waiting.refresh_from_db()
    assert waiting.activated_at is not None
    assert waiting.expires_at == waiting.activated_at + timedelta(minutes=30)
    event = AuditEvent.objects.get(action="request.started")
    assert event.detail["expires_at"] == waiting.expires_at.isoformat()
    on_demand.refresh_from_db()
    assert on_demand.state == State.APPROVED


def test_a_start_that_came_too_late_lapses_instead(
    alice: User, bob: User, administrator: Role, staged: Entitlement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("requests_app.domain.workflow.life.begin", lambda *_, **__: None)
    with clock.moved(-timedelta(hours=8)):
        waiting = factories.wish(alice, administrator, staged, start="at_once")
        workflow.approve(waiting, by=bob)
    assert sweeps.activate_due() == 0
    assert sweeps.lapse_due() == 1


def test_the_end_is_announced_once_and_only_for_longer_passes(
    active_request: AccessRequest, alice: User, read_only: Role, automatic: Entitlement
) -> None:
    factories.wish(alice, read_only, automatic, start="at_once", duration=timedelta(minutes=15))
    assert sweeps.announce_endings() == 0
    with clock.moved(timedelta(minutes=16)):
        assert sweeps.announce_endings() == 1
        assert sweeps.announce_endings() == 0
    assert Notice.objects.get(kind=notices.Kind.ENDING_SOON).access_request == active_request


@pytest.fixture
def a_thousand_active(alice: User, read_only: Role, automatic: Entitlement) -> None:
    with clock.moved(-timedelta(hours=2)):
        one = factories.wish(alice, read_only, automatic)
        now = clock.now()
        AccessRequest.objects.bulk_create(_copies(one, 999))
        these = AccessRequest.objects.filter(state="pending")
        these.update(state="approved", approved_at=now, approved_seconds=1800, start_by=now + timedelta(hours=1))
        these = AccessRequest.objects.filter(state="approved")
        these.update(state="active", activated_at=now, expires_at=now + timedelta(minutes=30))


def _copies(one: AccessRequest, many: int) -> list[AccessRequest]:
    names = ["requester", "beneficiary", "role", "entitlement", "terms_document", "justification", "asked_at"]
    names += ["duration_seconds", "decide_by"]
    return [AccessRequest(**{name: getattr(one, name) for name in names}) for _ in range(many)]


def test_a_thousand_expire_in_a_handful_of_statements(
    a_thousand_active: None, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(8):
        assert sweeps.expire_due() == 1000
    assert AccessRequest.objects.filter(state="expired").count() == 1000
    assert AuditEvent.objects.filter(action="request.expired").count() == 1000
    assert Notice.objects.filter(kind="ended").count() == 1000


def test_a_batch_is_bounded(a_thousand_active: None) -> None:
    assert sweeps.expire_due(limit=300) == 300
    assert sweeps.expire_due() == 700
