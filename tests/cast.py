"""The cast. Alice asks, Bob and Carol approve, Dave audits, Mallory may not, Olivia operates."""

from typing import Any

import pytest
from django.contrib.auth.models import Group as AdminGroup

from requests_app.domain import workflow
from requests_app.domain.database import AUDITORS
from requests_app.domain.models import AccessRequest, Account, AwsClock, Entitlement, Group, Role, User
from tests import factories


@pytest.fixture
def engineers(db: Any) -> Group:
    return factories.group("Engineers")


@pytest.fixture
def leads(db: Any) -> Group:
    return factories.group("Payments leads")


@pytest.fixture
def security(db: Any) -> Group:
    return factories.group("Security")


@pytest.fixture
def alice(engineers: Group) -> User:
    """Asks."""
    return factories.person("alice", engineers)


@pytest.fixture
def bob(leads: Group) -> User:
    """Approves."""
    return factories.person("bob", leads)


@pytest.fixture
def carol(leads: Group, security: Group) -> User:
    """Approves, and is in Security too."""
    return factories.person("carol", leads, security)


@pytest.fixture
def dave(db: Any) -> User:
    """Audits: reads everything in the admin."""
    person = factories.person("dave", is_staff=True)
    person.groups.add(AdminGroup.objects.get(name=AUDITORS))
    return person


@pytest.fixture
def mallory(db: Any) -> User:
    """May not."""
    return factories.person("mallory")


@pytest.fixture
def olivia(db: Any) -> User:
    """Operates."""
    return factories.person("olivia", is_staff=True, is_operator=True)


@pytest.fixture
def payments(db: Any) -> Account:
    return factories.account("payments-prod", number="222222222222", external_id="dp-payments-5f1c08e2b7")


@pytest.fixture
def administrator(payments: Account) -> Role:
    return factories.role("Administrator", payments, power=Role.Power.POWERFUL)


@pytest.fixture
def read_only(payments: Account) -> Role:
    return factories.role("ReadOnly", payments, power=Role.Power.READ)


@pytest.fixture
def staged(administrator: Role, engineers: Group, leads: Group, bob: User, carol: User) -> Entitlement:
    """Engineers may be Administrator for up to 1 h when one of the leads agrees."""
    return factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1)], name="Payments, one lead")


@pytest.fixture
def automatic(read_only: Role, engineers: Group) -> Entitlement:
    """Engineers may read for up to 1 h, at once."""
    return factories.entitlement(read_only, groups=[engineers], name="Payments, reading")


@pytest.fixture
def pending_request(alice: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    return factories.wish(alice, administrator, staged)


@pytest.fixture
def approved_request(pending_request: AccessRequest, bob: User) -> AccessRequest:
    workflow.approve(pending_request, by=bob)
    pending_request.refresh_from_db()
    return pending_request


@pytest.fixture
def active_request(approved_request: AccessRequest, alice: User) -> AccessRequest:
    return workflow.start(approved_request, by=alice)


@pytest.fixture
def aws_clock(db: Any) -> AwsClock:
    """AWS's clock is known and equals ours."""
    return factories.clock_reading()
