"""What one person can fill: their requests for a role, and the record with refusals."""

from datetime import timedelta
from typing import Any

import pytest

from requests_app.domain import clock, workflow
from requests_app.domain.errors import DomainError, NotAllowed, TooMany
from requests_app.domain.models import AccessRequest, AuditEvent, Entitlement, Extension, Group, Revocation, Role, User
from requests_app.domain.workflow import deliveries, verb
from tests import factories
from tests.domain.expect import refused
from tests.domain.meeting import at_once


@pytest.mark.django_db
def test_open_requests_are_counted_by_person_role_and_clock(
    alice: User, administrator: Role, staged: Entitlement, read_only: Role, automatic: Entitlement, settings: Any
) -> None:
    settings.OPEN_REQUESTS_PER_PERSON_AND_ROLE = 3
    factories.wish(alice, read_only, automatic, start="at_once", duration=timedelta(minutes=1))
    factories.wish(alice, read_only, automatic)
    last = factories.wish(alice, read_only, automatic)
    with refused("limit.passes", TooMany):
        factories.wish(alice, read_only, automatic)
    assert AuditEvent.objects.filter(action="request.submitted.refused", detail__rule="limit.passes").count() == 1
    assert factories.wish(alice, administrator, staged), "another role"

    workflow.withdraw(last, by=alice)
    assert factories.wish(alice, read_only, automatic)
    # By the clock, though no sweep has been there; the database takes no request from the future.
    with clock.moved(timedelta(minutes=2)), pytest.raises(DomainError) as other:
        factories.wish(alice, read_only, automatic)
    assert other.value.rule != "limit.passes"


@pytest.mark.django_db(transaction=True)
def test_asking_everywhere_at_once_gives_no_more(
    alice: User, read_only: Role, automatic: Entitlement, settings: Any
) -> None:
    settings.OPEN_REQUESTS_PER_PERSON_AND_ROLE = 2

    said = at_once(*[lambda: factories.wish(alice, read_only, automatic)] * 6, held=("requests_app_user", alice.pk))

    assert AccessRequest.objects.count() == 2
    assert [one.rule for one in said if isinstance(one, DomainError)] == ["limit.passes"] * 4


@pytest.mark.django_db
def test_nobody_asks_without_end(
    alice: User, bob: User, administrator: Role, staged: Entitlement, engineers: Group, settings: Any
) -> None:
    """Each is mail to those who decide, also where it is withdrawn at once."""
    settings.REQUESTS_PER_PERSON_PER_HOUR = 3
    with clock.moved(-timedelta(minutes=90)):
        workflow.withdraw(factories.wish(alice, administrator, staged), by=alice)
    for _ in range(3):
        workflow.withdraw(factories.wish(alice, administrator, staged), by=alice)
    with refused("limit.requests", TooMany):
        factories.wish(alice, administrator, staged)
    assert AccessRequest.objects.count() == 4
    assert factories.wish(factories.person("erin", engineers), administrator, staged), "others may"


@pytest.mark.django_db
def test_nobody_asks_for_more_time_without_end(
    active_request: AccessRequest, alice: User, bob: User, settings: Any
) -> None:
    settings.EXTENSIONS_IN_VAIN_PER_PASS = 4
    entitlement = active_request.entitlement
    Entitlement.objects.update(extensions_most=20, extension_total_seconds=86400)
    entitlement.refresh_from_db()
    one = factories.wish(alice, active_request.role, entitlement)
    workflow.approve(one, by=bob)
    one = workflow.start(AccessRequest.objects.get(pk=one.pk), by=alice)

    def ask() -> Extension:
        return workflow.extend(
            one, by=alice, duration=timedelta(minutes=1), justification="it takes longer than we thought"
        )

    for number in range(7):
        # What is granted counts by the terms.
        if number % 2:
            workflow.approve_extension(ask(), by=bob)
        elif number % 4:
            workflow.deny_extension(ask(), by=bob)
        else:
            workflow.withdraw_extension(ask(), by=alice)
    with refused("extend.in_vain", NotAllowed):
        ask()
    assert Extension.objects.count() == 7


@pytest.mark.django_db
def test_the_first_refusals_of_a_minute_are_recorded_and_the_last_of_them_says_so(
    active_request: AccessRequest, mallory: User, bob: User
) -> None:
    for _ in range(verb.MOST_RECORDED + 20):
        with pytest.raises(NotAllowed):
            deliveries.ask(
                active_request, by=mallory, kind="credentials", recipient_key=factories.recipient_key(), sign_in="one"
            )

    hers = AuditEvent.objects.filter(actor=mallory, action="delivery.asked.refused").order_by("pk")
    assert [event.detail.get("more_are_not_recorded", False) for event in hers] == [False] * (
        verb.MOST_RECORDED - 1
    ) + [True]
    with pytest.raises(DomainError):
        workflow.approve(active_request, by=bob)
    assert AuditEvent.objects.filter(actor=bob, action__endswith=".refused").count() == 1, "nobody else's are lost"
    with clock.moved(timedelta(minutes=2)), pytest.raises(DomainError):
        workflow.give_back(active_request, by=mallory)
    assert AuditEvent.objects.filter(actor=mallory, action="request.returned.refused").count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_who_help_each_other_fill_no_roles_policy(
    alice: User, bob: User, administrator: Role, staged: Entitlement, aws_clock: Any, settings: Any
) -> None:
    settings.RETURNED_PER_PERSON_AND_ROLE = 3

    def ended_by(approver: User) -> None:
        one = factories.wish(alice, administrator, staged)
        workflow.approve(one, by=approver)
        factories.sealed(workflow.start(one, by=alice))
        workflow.revoke(one, by=approver, reason="again")

    for _ in range(3):
        ended_by(bob)
    with refused("limit.returned", TooMany):
        ended_by(bob)

    assert Revocation.objects.count() == 3
