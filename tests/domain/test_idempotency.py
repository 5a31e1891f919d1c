"""Pressed twice, done once: by the same value, for the same person, with the same contents."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import ProgrammingError, connection

from requests_app.background import tasks
from requests_app.domain import clock, workflow
from requests_app.domain.errors import DomainError, Invalid
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    Entitlement,
    Extension,
    IdempotencyKey,
    Notice,
    Role,
    User,
)
from requests_app.domain.workflow import idempotency
from tests import factories
from tests.domain.expect import refused
from tests.domain.meeting import at_once

pytestmark = pytest.mark.django_db
KEY = "a-one-time-value-of-a-form"


@pytest.fixture
def running(alice: User, read_only: Role, automatic: Entitlement) -> AccessRequest:
    """Under terms that grant more time at once, three times."""
    Entitlement.objects.filter(pk=automatic.pk).update(extensions_most=3, extension_total_seconds=14400)
    automatic.refresh_from_db()
    return factories.wish(alice, read_only, automatic, start="at_once")


def longer(running: AccessRequest, key: str = KEY, minutes: int = 15) -> Extension:
    return workflow.extend(
        running, by=running.beneficiary, duration=timedelta(minutes=minutes), justification="not done yet", key=key
    )


def test_the_second_press_finds_the_first_ones_request(alice: User, administrator: Role, staged: Entitlement) -> None:
    first = factories.wish(alice, administrator, staged, key=KEY)
    mails, events = Notice.objects.count(), AuditEvent.objects.count()
    second = factories.wish(alice, administrator, staged, key=KEY, justification="replay the failed settlement batch ")
    assert (first.is_repeat, second.is_repeat) == (False, True)
    assert second.code == first.code
    assert (AccessRequest.objects.count(), Notice.objects.count(), AuditEvent.objects.count()) == (1, mails, events)


def test_it_does_so_whatever_has_become_of_it_and_whatever_would_refuse_it_now(
    alice: User, administrator: Role, staged: Entitlement, settings: Any
) -> None:
    first = factories.wish(alice, administrator, staged, key=KEY)
    workflow.withdraw(first, by=alice)
    settings.REQUESTS_PER_PERSON_PER_HOUR = 1
    Entitlement.objects.update(is_active=False)
    assert factories.wish(alice, administrator, staged, key=KEY).code == first.code


@pytest.mark.parametrize(
    "other",
    [
        {"duration": timedelta(minutes=31)},
        {"justification": "replay another settlement batch"},
        {"ticket": "INC-1"},
        {"start": "at_once"},
    ],
)
def test_the_same_value_with_other_contents_is_said(
    other: dict[str, Any], alice: User, administrator: Role, staged: Entitlement
) -> None:
    first = factories.wish(alice, administrator, staged, key=KEY)
    with pytest.raises(idempotency.OtherContents) as said:
        factories.wish(alice, administrator, staged, key=KEY, **other)
    assert first.code in str(said.value)
    assert AuditEvent.objects.get(action="request.submitted.refused").detail["rule"] == "idempotency.other_contents"
    assert AccessRequest.objects.count() == 1


def test_a_refused_attempt_does_not_use_it_up(alice: User, administrator: Role, staged: Entitlement) -> None:
    with pytest.raises(Invalid):
        factories.wish(alice, administrator, staged, key=KEY, justification="short")
    assert not IdempotencyKey.objects.exists()
    assert not factories.wish(alice, administrator, staged, key=KEY).is_repeat


def test_without_a_value_each_press_asks_and_values_are_each_persons_own(
    alice: User, administrator: Role, staged: Entitlement, engineers: Any
) -> None:
    erin = factories.person("erin", engineers)
    made = [factories.wish(person, administrator, staged, key=key) for person, key in ((alice, ""), (alice, ""))]
    made += [factories.wish(person, administrator, staged, key=KEY) for person in (alice, erin)]
    assert len({one.code for one in made}) == 4


def test_more_time_that_is_granted_at_once_is_granted_once(running: AccessRequest) -> None:
    first, second = longer(running), longer(running)
    running.refresh_from_db()
    assert (second.pk, second.is_repeat) == (first.pk, True)
    assert running.expires_at == first.new_end
    with refused("idempotency.other_contents"):
        longer(running, minutes=16)
    assert longer(running, key="another-value-of-another-form").pk != first.pk


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [2, 6])
def test_who_presses_at_the_same_moment_waits_and_makes_one(
    number: int, alice: User, administrator: Role, staged: Entitlement
) -> None:
    asks = [lambda: factories.wish(alice, administrator, staged, key=KEY)] * number
    made = at_once(*asks)
    assert len({one.code for one in made}) == 1
    assert sorted(one.is_repeat for one in made) == [False] + [True] * (number - 1)
    assert Notice.objects.filter(kind="asked").count() == 2  # Bob and Carol, once each


@pytest.mark.django_db(transaction=True)
def test_more_time_pressed_at_the_same_moment_is_granted_once(running: AccessRequest) -> None:
    made = at_once(*[lambda: longer(running)] * 4)
    assert {one.pk for one in made} == {Extension.objects.get().pk}


@pytest.mark.django_db(transaction=True)
def test_one_value_for_two_different_things_at_the_same_moment(
    running: AccessRequest, alice: User, administrator: Role, staged: Entitlement
) -> None:
    made = at_once(lambda: factories.wish(alice, administrator, staged, key=KEY), lambda: longer(running))
    assert sum(isinstance(one, DomainError) for one in made) == 1
    assert IdempotencyKey.objects.count() == 1


def test_they_are_forgotten_after_some_days(alice: User, administrator: Role, staged: Entitlement) -> None:
    factories.wish(alice, administrator, staged, key=KEY)
    tasks.sweep_requests()
    assert IdempotencyKey.objects.exists()
    with clock.moved(idempotency.KEPT + timedelta(minutes=1)):
        tasks.sweep_requests()
    assert not IdempotencyKey.objects.exists()


def test_the_application_changes_none_of_them(alice: User, administrator: Role, staged: Entitlement) -> None:
    factories.wish(alice, administrator, staged, key=KEY)
    with pytest.raises(ProgrammingError, match="permission denied"), connection.cursor() as cursor:
        cursor.execute("UPDATE requests_app_idempotencykey SET result = 'DP-00000000'")


# What makes a second row or a second mail by a second press and is not asked with a value: the verb itself refuses it.
SECOND_PRESS: dict[str, Callable[[AccessRequest, dict[str, User]], Any]] = {
    "remind": lambda one, people: workflow.remind(one, by=people["alice"]),
    "approve": lambda one, people: workflow.approve(one, by=people["bob"]),
    "deny": lambda one, people: workflow.deny(one, by=people["bob"]),
    "withdraw": lambda one, people: workflow.withdraw(one, by=people["alice"]),
    "freeze": lambda one, people: workflow.freezes.freeze(one.role, by=people["olivia"], reason="an incident"),
}


@pytest.mark.parametrize("act", SECOND_PRESS)
def test_what_refuses_its_second_press_by_itself(
    act: str, alice: User, bob: User, olivia: User, administrator: Role, staged: Entitlement
) -> None:
    with clock.moved(-timedelta(minutes=20)):
        one = factories.wish(alice, administrator, staged)
    people = {"alice": alice, "bob": bob, "olivia": olivia}
    SECOND_PRESS[act](one, people)
    mails = Notice.objects.count()
    with pytest.raises(DomainError):
        SECOND_PRESS[act](one, people)
    assert Notice.objects.count() == mails


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("together", [True, False])
def test_a_stop_that_is_pressed_twice_is_told_of_once(together: bool, running: AccessRequest, olivia: User) -> None:
    def stop(reason: str = "an incident") -> Any:
        return workflow.emergency.end_all(
            workflow.freezes.Everything(), by=olivia, reason=reason, typed="everything", keep_out=False, key=KEY
        )

    ended = at_once(stop, stop, stop) if together else [stop(), stop()]
    assert sum(one.passes for one in ended) == 1
    assert AuditEvent.objects.filter(action="everything.ended").count() == 1
    assert Notice.objects.filter(kind="stopped", recipient=olivia).count() == 1
    assert stop().passes == 0
    # For another reason it is another act, which is not refused for the form it came with.
    stop("another incident")
    assert AuditEvent.objects.filter(action="everything.ended").count() == 2


def test_a_stop_that_ends_what_began_after_it_or_comes_later_is_recorded_and_told_of_again(
    running: AccessRequest, alice: User, bob: User, administrator: Role, staged: Entitlement, olivia: User
) -> None:
    def stop() -> Any:
        return workflow.emergency.end_all(
            workflow.freezes.Everything(), by=olivia, reason="an incident", typed="everything", keep_out=False, key=KEY
        )

    def acts() -> tuple[int, int]:
        return (
            AuditEvent.objects.filter(action="everything.ended").count(),
            Notice.objects.filter(kind="stopped", recipient=olivia).count(),
        )

    waiting = factories.wish(alice, administrator, staged)
    assert (stop().passes, acts()) == (1, (1, 1))
    later = factories.wish(alice, running.role, running.entitlement, start="at_once")
    assert (stop().passes, acts()) == (1, (2, 2))
    later.refresh_from_db()
    assert later.state == "revoked"
    workflow.approve(waiting, by=bob)  # it was no pass when everything was ended
    assert (stop().passes, acts()) == (1, (3, 3))
    assert (stop().passes, acts()) == (0, (3, 3))
    with clock.moved(timedelta(minutes=11)):
        assert (stop().passes, acts()) == (0, (4, 4))
