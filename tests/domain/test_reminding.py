from datetime import timedelta

import pytest

from requests_app.domain import clock, workflow
from requests_app.domain.errors import TooMany
from requests_app.domain.models import AccessRequest, Entitlement, Group, Membership, Notice, Role, User
from tests import factories
from tests.domain.expect import refused


@pytest.fixture
def waiting(alice: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    """Pending for a quarter of an hour and a bit."""
    with clock.moved(-timedelta(minutes=15, seconds=1)):
        return factories.wish(alice, administrator, staged)


def test_a_reminder_goes_to_those_who_can_decide_now(
    waiting: AccessRequest, alice: User, bob: User, carol: User, leads: Group
) -> None:
    workflow.people.deactivate(bob, by=None)
    late = factories.person("late", leads)
    workflow.remind(waiting, by=alice)

    reminded = Notice.objects.filter(kind="reminded")
    assert {notice.recipient for notice in reminded} == {carol, late}


def test_once_per_quarter_of_an_hour(waiting: AccessRequest, alice: User) -> None:
    workflow.remind(waiting, by=alice)
    with refused("remind.too_soon", TooMany):
        workflow.remind(waiting, by=alice)
    with clock.moved(timedelta(minutes=15)):
        workflow.remind(waiting, by=alice)
    assert Notice.objects.filter(kind="reminded").count() == 4


def test_the_wait_is_never_zero_minutes(pending_request: AccessRequest, alice: User) -> None:
    left = pending_request.asked_at + workflow.asking.REMIND_EVERY - clock.now()
    with clock.moved(left - timedelta(milliseconds=400)), pytest.raises(TooMany) as refusal:
        workflow.remind(pending_request, by=alice)
    assert "in 1 min" in refusal.value.message


def test_only_the_asking_side_reminds(waiting: AccessRequest, bob: User) -> None:
    with refused("remind.not_yours"):
        workflow.remind(waiting, by=bob)


def test_reminding_nobody_is_said_and_not_pretended(waiting: AccessRequest, alice: User, leads: Group) -> None:
    Membership.objects.filter(group=leads).delete()
    with refused("remind.nobody"):
        workflow.remind(waiting, by=alice)
    waiting.refresh_from_db()
    assert waiting.reminded_at is None


def test_who_decided_already_is_not_reminded(
    alice: User, bob: User, carol: User, administrator: Role, engineers: Group, leads: Group
) -> None:
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 2)])
    with clock.moved(-timedelta(hours=1)):
        access_request = factories.wish(alice, administrator, terms)
        workflow.approve(access_request, by=bob)
    workflow.remind(access_request, by=alice)
    assert Notice.objects.get(kind="reminded").recipient == carol
