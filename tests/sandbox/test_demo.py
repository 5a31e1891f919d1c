"""What `make run` fills in: each thing that the screen says to try is there, for the person it names."""

from datetime import timedelta
from typing import Any

import pytest

from requests_app.domain import clock
from requests_app.domain.models import AccessRequest, Preflight, Role, User
from tests import factories
from tests.web.pages import page, signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def demo(db: Any, settings: Any) -> None:
    from sandbox.demo import fill

    settings.BASE_URL = "http://localhost:8000"
    with factories.vouched():  # as the demo has it, which commits
        fill(today=True)


def test_what_the_screen_says_to_try_is_there(demo: None) -> None:
    clients = {person.username: signed_in(person) for person in User.objects.all()}

    def shown(who: str, at: str) -> str:
        return page(clients[who].get(at, follow=True)).text.replace("\xa0", " ")

    waiting = shown("bob", "/approvals/")
    assert "Alice Adler asks for 30 min more" in waiting
    planned = AccessRequest.objects.get(start="at_time", state="pending")
    assert "Begin later" in shown("bob", f"/requests/{planned.code}/approve")
    assert planned.code in shown("carol", "/approvals/")

    assert "Carol Castro" in shown("alice", "/")
    assert f"/requests/{AccessRequest.objects.get(accepted_at=None, requester__username='carol').code}/accept" in str(
        clients["alice"].get("/").content
    )
    role = Role.objects.get(account__name="payments-prod", name="ReadOnly")
    assert "Ask for somebody else" in shown("carol", f"/request/?role={role.public_id}")

    lake = Role.objects.get(account__name="data-lake-prod", name="DataEngineer")
    ways = shown("erin", f"/request/?role={lake.public_id}")
    assert "automatic · Mon–Fri 08:00–18:00 Europe/Stockholm" in ways
    assert "Data lake, lead and security" in ways
    assert "compare the ledger with the events" in shown("erin", "/approvals/")

    again = AccessRequest.objects.get(beneficiary__username="erin", justification="try the new build's set-up")
    assert f"?again={again.code}" in str(clients["erin"].get(f"/requests/{again.code}").content)
    assert "These terms exclude you" in shown("erin", f"/request/?again={again.code}")


def test_another_start_asks_aws_again_what_it_once_refused(demo: None) -> None:
    from sandbox.demo import fill

    refused, works = Role.objects.order_by("pk")[:2]
    later = clock.now() + timedelta(hours=20)
    for role, scoping in ((refused, "refused"), (works, "works")):
        Preflight.objects.update_or_create(
            role=role, defaults={"scoping": scoping, "minter_due_at": later, "revoker_due_at": later}
        )
    with factories.vouched():  # as the demo has it, which commits
        fill(today=True)
    assert Preflight.objects.get(role=refused).minter_due_at <= clock.now()
    assert Preflight.objects.get(role=works).minter_due_at == later
