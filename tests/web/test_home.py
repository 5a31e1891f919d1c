from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from requests_app.delivery.web.views import home
from requests_app.domain import clock, workflow
from requests_app.domain.models import AccessRequest, Entitlement, Role, User
from tests.factories import wish
from tests.web.minting import session_of
from tests.web.pages import page, signed_in

pytestmark = pytest.mark.django_db


def test_someone_new_is_told_what_to_do_next(alice: User) -> None:
    shown = page(signed_in(alice).get("/"))

    assert "have not asked for any yet" in shown.text
    assert any(link.get("href") == "/request/" for link in shown.all("a"))


def test_an_active_pass_has_its_clock_and_its_acts(active_request: AccessRequest, alice: User) -> None:
    shown = page(signed_in(alice).get("/"))

    (countdown,) = [time for time in shown.all("time") if "data-countdown" in time]
    assert active_request.expires_at
    assert countdown["data-ends-at"] == active_request.expires_at.isoformat(timespec="milliseconds").replace(
        "+00:00", "Z"
    )
    assert "30\xa0min left" in " ".join(shown.words)
    for act in ("console", "credentials", "give-back"):
        assert any(link.get("href") == f"/requests/{active_request.code}/{act}" for link in shown.all("a"))


def test_nothing_says_active_after_its_end_even_if_no_sweep_ran(active_request: AccessRequest, alice: User) -> None:
    with clock.moved(timedelta(hours=1)):
        shown = page(signed_in(alice).get("/"))

    assert "Open console" not in shown.text
    assert "expired" in shown.text
    assert "Ask again" in shown.text


def test_what_is_ready_can_be_started_from_here(approved_request: AccessRequest, alice: User) -> None:
    client = signed_in(alice)
    assert "ready to start" in page(client.get("/")).text

    response = client.post(f"/requests/{approved_request.code}/start", {"next": "/"}, follow=True)

    assert response.redirect_chain == [("/", 302)]
    assert "Your pass is active" in page(response).text


def test_what_waits_says_how_many_can_approve(pending_request: AccessRequest, alice: User, bob: User) -> None:
    assert "2 people can approve" in page(signed_in(alice).get("/")).text

    workflow.people.deactivate(bob, by=None)
    assert "1 person can approve" in page(signed_in(alice).get("/")).text


def test_reminding_is_offered_when_it_would_be_sent(pending_request: AccessRequest, alice: User) -> None:
    assert "Remind" not in page(signed_in(alice).get("/")).text
    with clock.moved(timedelta(minutes=16)):
        assert "Remind" in page(signed_in(alice).get("/")).text


def test_after_giving_back_it_says_until_when_keys_work(
    active_request: AccessRequest, alice: User, aws_clock: Any
) -> None:
    session_of(active_request, minutes=20)
    workflow.give_back(active_request, by=alice)

    assert "AWS has not confirmed yet. Without it they work until" in page(signed_in(alice).get("/")).text


def test_other_peoples_access_is_not_shown(active_request: AccessRequest, mallory: User) -> None:
    assert active_request.code not in signed_in(mallory).get("/").content.decode()


def test_the_newest_are_shown_and_no_more_are_read(
    alice: User, administrator: Role, staged: Entitlement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "MOST_OPEN", 2)
    monkeypatch.setattr(home, "MOST_RECENT", 3)
    ended, waiting = ([wish(alice, administrator, staged) for _ in range(5)] for _ in range(2))
    for one in ended:
        workflow.withdraw(one, by=alice)
    shown = page(signed_in(alice).get("/"))
    codes = {str(one.get("href")).split("/")[2] for one in shown.all("a") if "/requests/" in str(one.get("href"))}

    assert codes == {one.code for one in (*ended[-3:], *waiting[-2:])}


def test_many_rows_take_no_more_queries(alice: User, administrator: Role, staged: Entitlement, bob: User) -> None:
    def fill(number: int) -> None:
        for _ in range(number):
            wish(alice, administrator, staged)
            workflow.approve(wish(alice, administrator, staged), by=bob)
            active = wish(alice, administrator, staged)
            workflow.approve(active, by=bob)
            workflow.start(active, by=alice)
            workflow.withdraw(wish(alice, administrator, staged), by=alice)

    client = signed_in(alice)
    fill(1)
    client.get("/")
    few = queries(lambda: client.get("/"))
    fill(8)

    assert queries(lambda: client.get("/")) == few
    assert few <= 16


def queries(act: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as captured:
        act()
    return len(captured)
