from datetime import timedelta
from typing import Any

import pytest

from requests_app.domain import clock, workflow
from requests_app.domain.models import AccessRequest, User
from tests.web.minting import session_of
from tests.web.pages import page, signed_in

pytestmark = pytest.mark.django_db


def test_giving_back_names_what_ends_and_what_goes_on(
    active_request: AccessRequest, alice: User, aws_clock: Any
) -> None:
    client = signed_in(alice)
    address = f"/requests/{active_request.code}/give-back"
    assert "You have none that still work." in page(client.get(address)).text
    session_of(active_request, minutes=20)
    assert "AWS is told to refuse those you already have" in page(client.get(address)).text

    response = client.post(address, {"next": "/"}, follow=True)
    active_request.refresh_from_db()
    assert active_request.state == "returned"
    assert "You gave your pass back." in page(response).text


def test_giving_back_someone_elses_is_refused_aloud(active_request: AccessRequest, bob: User) -> None:
    response = signed_in(bob).post(f"/requests/{active_request.code}/give-back", follow=True)

    active_request.refresh_from_db()
    assert active_request.state == "active"
    assert "Only the person a pass is for can give it back." in page(response).text


def test_revoking_needs_a_reason_and_keeps_it(active_request: AccessRequest, bob: User) -> None:
    client = signed_in(bob)
    address = f"/requests/{active_request.code}/revoke"
    response = client.post(address, {"reason": "  "})
    assert response.status_code == 422
    assert "Say why" in page(response).text

    client.post(address, {"reason": "the wrong batch"})
    active_request.refresh_from_db()
    assert (active_request.state, active_request.end_reason) == ("revoked", "the wrong batch")


def test_pressing_twice_says_that_it_is_done(active_request: AccessRequest, bob: User) -> None:
    address = f"/requests/{active_request.code}/revoke"
    client = signed_in(bob)
    client.post(address, {"reason": "the wrong batch"})
    response = client.post(address, {"reason": "the wrong batch"}, follow=True)

    assert "already revoked" in page(response).text


def test_withdrawing(pending_request: AccessRequest, alice: User) -> None:
    response = signed_in(alice).post(f"/requests/{pending_request.code}/withdraw", follow=True)

    pending_request.refresh_from_db()
    assert pending_request.state == "withdrawn"
    assert "Withdrawn." in page(response).text


def test_reminding_too_soon_says_when(pending_request: AccessRequest, alice: User) -> None:
    client = signed_in(alice)
    response = client.post(f"/requests/{pending_request.code}/remind", follow=True)
    assert "Remind them again in 15 min" in page(response).text

    with clock.moved(timedelta(minutes=15)):
        response = client.post(f"/requests/{pending_request.code}/remind", follow=True)
    assert "They are asked once more." in page(response).text


def test_starting_too_late_says_what_to_do(approved_request: AccessRequest, alice: User) -> None:
    with clock.moved(timedelta(days=1)):
        response = signed_in(alice).post(f"/requests/{approved_request.code}/start", follow=True)

    approved_request.refresh_from_db()
    assert approved_request.state == "lapsed"
    assert "It can be asked again." in page(response).text


ELSEWHERE = ["https://evil.example.com/", "//evil.example.com", "javascript:alert(1)", "/\\evil"]


@pytest.mark.parametrize("back", [*ELSEWHERE, "?x", "#x", "home", "requests_app.delivery"])
def test_nobody_is_sent_elsewhere(back: str, pending_request: AccessRequest, alice: User) -> None:
    response = signed_in(alice).post(f"/requests/{pending_request.code}/withdraw", {"next": back})

    assert response["Location"] == f"/requests/{pending_request.code}"


def test_a_deactivated_person_is_signed_out_at_once(active_request: AccessRequest, alice: User) -> None:
    client = signed_in(alice)
    workflow.people.deactivate(alice, by=None)

    assert client.get("/").status_code == 302
    assert client.post(f"/requests/{active_request.code}/start").status_code == 302
