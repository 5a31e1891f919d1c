"""Operators and endings of people's part: recorded, repeatable, never a deletion."""

import pytest
from django.db.models import ProtectedError

from requests_app.domain import workflow
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import AccessRequest, AuditEvent, Entitlement, Role, User
from tests import factories
from tests.domain.expect import refused


def test_an_address_makes_an_operator_whatever_its_case(alice: User) -> None:
    with factories.vouched():
        workflow.people.make_operator("ALICE@Example.COM")
    alice.refresh_from_db()
    assert (alice.is_operator, alice.is_staff) == (True, True)
    event = AuditEvent.objects.get(action="operator.made")
    assert (event.actor_name, event.beneficiary) == ("Daypass", alice)


@pytest.mark.parametrize("email", ["nobody@example.com", "", "alice@example.org"])
def test_an_address_that_nobody_has(email: str, alice: User) -> None:
    with pytest.raises(NotAllowed):
        workflow.people.make_operator(email)


def test_a_deactivated_person_is_made_no_operator(alice: User) -> None:
    workflow.people.deactivate(alice, by=None)
    with pytest.raises(NotAllowed):
        workflow.people.make_operator(alice.email)


def test_deactivating_is_recorded_once_and_keeps_the_person(active_request: AccessRequest, bob: User) -> None:
    alice = active_request.beneficiary
    first = workflow.people.deactivate(alice, by=bob)
    again = workflow.people.deactivate(alice, by=bob)
    assert again.deactivated_at == first.deactivated_at
    assert AuditEvent.objects.filter(action="person.deactivated").count() == 1
    assert not User.objects.get(pk=alice.pk).is_active
    with pytest.raises(ProtectedError):
        alice.delete()


def test_a_deactivated_approver_decides_nothing_with_an_old_page(pending_request: AccessRequest, bob: User) -> None:
    old_page = User.objects.get(pk=bob.pk)
    workflow.people.deactivate(bob, by=None)
    with refused("person.deactivated"):
        workflow.approve(pending_request, by=old_page)


def test_names_in_the_audit_are_copies(active_request: AccessRequest) -> None:
    User.objects.filter(username="bob").update(name="Robert")
    assert AuditEvent.objects.get(action="request.approved").actor_name == "Bob"


def test_a_deactivated_persons_passes_end_by_themselves_and_nobody_elses(
    active_request: AccessRequest, bob: User, alice: User, olivia: User, automatic: Entitlement, read_only: Role
) -> None:
    ready = factories.wish(alice, read_only, automatic)
    erin = factories.person("erin")
    erin.memberships.create(group=alice.memberships.get().group)
    others = factories.wish(erin, read_only, automatic, start="at_once")

    workflow.people.deactivate(alice, by=olivia)
    assert workflow.end_passes_of_deactivated() == 2
    assert workflow.end_passes_of_deactivated() == 0

    for one, state in ((active_request, "revoked"), (ready, "revoked"), (others, "active")):
        one.refresh_from_db()
        assert one.state == state
    assert active_request.end_reason == "The person was deactivated."
    assert AuditEvent.objects.filter(action="request.revoked", actor=None).count() == 2
