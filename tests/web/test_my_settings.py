"""What people decide about themselves."""

import re
from typing import Any

import pytest
from django.test import Client

from requests_app.domain import workflow
from requests_app.domain.errors import Invalid
from requests_app.domain.models import AccessRequest, AuditEvent, User
from tests.web.browsing import browsing, in_browser
from tests.web.pages import page, signed_in

pytestmark = pytest.mark.django_db


def choose(client: Client, zone: str, **more: str) -> Any:
    return client.post("/settings/", {"time_zone": zone, **more}, follow=True)


def test_people_choose_their_own_time_zone_and_that_is_on_record(active_request: AccessRequest, alice: User) -> None:
    client = signed_in(alice)
    assert "/settings/" in [one["href"] for one in page(client.get("/")).all("a")]

    shown = page(choose(client, "Asia/Tokyo"))

    assert "Times are shown in Asia/Tokyo." in shown.text
    alice.refresh_from_db()
    assert (alice.time_zone, alice.time_zone_chosen) == ("Asia/Tokyo", True)
    event = AuditEvent.objects.get(action="person.changed")
    assert (event.actor, event.beneficiary, event.channel) == (alice, alice, "web")
    assert event.detail["changes"] == {"time_zone": ["UTC", "Asia/Tokyo"]}
    assert active_request.expires_at
    there = active_request.expires_at.astimezone(alice.zone)
    assert f"{there:%H:%M}" in page(client.get("/")).text


@pytest.mark.parametrize("zone", ["", "Europe", "Nowhere/Else", "../../etc/passwd", "europe/vienna", "x" * 100, "\0"])
def test_a_zone_that_is_none_is_refused_where_it_is_typed(zone: str, alice: User) -> None:
    shown = page(choose(signed_in(alice), zone))

    assert (shown.problems, shown.inline, shown.unlabelled()) == ([], [], [])
    assert re.search("such as Europe/Vienna|Did you mean Europe/Vienna|required|at most 64|Null characters", shown.text)
    alice.refresh_from_db()
    assert (alice.time_zone, alice.time_zone_chosen) == ("UTC", False)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Berlin", "Europe/Berlin"),
        ("new york", "America/New_York"),
        ("europe/vienna", "Europe/Vienna"),
        ("Europe/Viena", "Europe/Vienna"),
        ("louisv", "America/Kentucky/Louisville or America/Louisville"),
    ],
)
def test_a_zone_that_is_nearly_one_is_suggested(typed: str, meant: str, alice: User) -> None:
    shown = page(choose(signed_in(alice), typed))
    assert f"There is no time zone “{typed}”. Did you mean {meant}?" in shown.text
    assert any(one.get("value") == typed for one in shown.all("input"))


def test_the_verb_refuses_it_too(alice: User) -> None:
    with pytest.raises(Invalid):
        workflow.people.choose_time_zone(alice, "Nowhere/Else")


def test_nobody_chooses_for_somebody_else(alice: User, bob: User) -> None:
    choose(signed_in(bob), "Asia/Tokyo", person=str(alice.public_id), user=str(alice.pk))
    alice.refresh_from_db()
    assert alice.time_zone == "UTC"
    assert Client().post("/settings/", {"time_zone": "Asia/Tokyo"})["Location"].startswith("/accounts/login/")


def test_nothing_is_offered_once_it_is_answered(alice: User) -> None:
    client = signed_in(alice)
    assert "data-time-zone" in client.get("/").content.decode()

    response = choose(client, "UTC", from_home="yes")

    assert response.redirect_chain[-1][0] == "/"
    assert "data-time-zone" not in response.content.decode()
    assert not AuditEvent.objects.filter(action="person.changed").exists()


# --- in the browser ----------------------------------------------------------------------------


@pytest.fixture
def pages(alice: User) -> dict[str, Any]:
    client = signed_in(alice)
    return {"/": client.get("/"), "/settings/": client.get("/settings/")}


class TestInTheBrowser:
    pytestmark = in_browser

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_its_own_zone_is_offered_and_nothing_changes_by_itself(
        self, scheme: Any, pages: dict[str, Any], alice: User
    ) -> None:
        phone = {"width": 360, "height": 740}
        with browsing(viewport=phone, color_scheme=scheme, timezone_id="America/New_York") as site:
            for path, response in pages.items():
                shown = site.show(path, response)
                shown.wait_for_load_state("networkidle")
                offer = shown.locator("form[data-time-zone]")
                assert offer.is_visible()
                take = offer.locator("[data-take]")
                assert take.inner_text() == "Show times in America/New_York"
                assert take.get_attribute("value") == "America/New_York"
                assert shown.evaluate("document.documentElement.scrollWidth") <= 360
                assert site.wrong == []
        alice.refresh_from_db()
        assert alice.time_zone == "UTC"

    @pytest.mark.parametrize(
        ("chosen", "browsers"),
        [
            ("UTC", "Etc/UTC"),
            ("America/Argentina/Buenos_Aires", "America/Buenos_Aires"),
            ("Asia/Kolkata", "Asia/Calcutta"),
        ],
    )
    def test_another_name_of_the_same_clock_is_not_offered(self, chosen: str, browsers: str, alice: User) -> None:
        User.objects.filter(pk=alice.pk).update(time_zone=chosen)
        response = signed_in(alice).get("/")
        with browsing(timezone_id=browsers) as site:
            shown = site.show("/", response)
            shown.wait_for_load_state("networkidle")
            assert not shown.locator("form[data-time-zone]").is_visible()
