"""What holds for pages of ours beside what the page walk looks at: tokens, hostile texts in forms, zones, doors."""

from typing import Any

import pytest
from django.test import Client

from portal.urls import urlpatterns
from requests_app.domain.models import AccessRequest, Entitlement, Role, User
from tests.factories import person, wish
from tests.web.pages import page, signed_in

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7|add:7 }} \u202e" + "長" * 40


@pytest.fixture
def hostile_request(alice: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    User.objects.filter(pk=alice.pk).update(name="<b>Ålice</b> " + "Ж" * 120)
    alice.refresh_from_db()
    return wish(alice, administrator, staged, justification=HOSTILE, ticket="<i>INC-1</i>")


# The walk opens each address; these come with what was typed.
FOR_ALICE = [
    "/request/?q=pay",
    "/request/?q=<script>",
    "/request/roles?q=Admin",
    "/request/terms?role={role}",
    "/request/?role={role}&duration=45&justification=<script>x</script>&ticket=INC-9",
    "/request/?again={code}",
    "/request/outlook?role={role}&start=at_time",
    "/request/people?role={role}&person=<script>",
    "/request/?role={role}&beneficiary=<script>&person=<script>",
    "/approvals/updates?shown={code}",
]


def test_no_address_takes_a_number_of_the_database() -> None:
    """It would say how many there are, and somebody could try the next one. The admin is for those who see all."""

    def converters(patterns: list[Any]) -> set[str]:
        found: set[str] = set()
        for one in patterns:
            if str(one.pattern) not in ("admin/", "accounts/2fa/", "accounts/"):
                found |= {type(each).__name__ for each in one.pattern.converters.values()}
                found |= converters(getattr(one, "url_patterns", []))
        return found

    assert converters(urlpatterns) == {"SlugConverter", "UUIDConverter"}


def check(client: Client, address: str) -> None:
    response = client.get(address, follow=True)
    shown = page(response)
    assert response.status_code in (200, 404), address
    assert shown.inline == [], address
    assert shown.problems == [], address
    assert shown.unlabelled() == [], address
    assert shown.doubled_ids() == set(), address
    policy = response["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<b>Ålice" not in response.content.decode()
    assert "<script>alert" not in response.content.decode()


@pytest.mark.parametrize("address", FOR_ALICE)
def test_pages_of_someone_who_asks(address: str, hostile_request: AccessRequest, alice: User) -> None:
    role = hostile_request.role.public_id
    check(signed_in(alice), address.format(code=hostile_request.code, role=role))


@pytest.mark.parametrize("address", ["/approvals/updates?shown={}", "/approvals/decide?code={}", "/request/?again={}"])
@pytest.mark.parametrize("code", ["%00", "DP-0000000%00", "%ED%A0%80", "9" * 5000])
def test_what_is_no_code_finds_nothing(address: str, code: str, alice: User) -> None:
    assert signed_in(alice).get(address.format(code), follow=True).status_code == 200


def test_several_that_are_none_are_refused(alice: User) -> None:
    response = signed_in(alice).post("/approvals/decide", {"code": ["\0", "x"]}, follow=True)

    assert "can be decided together" in page(response).text


@pytest.mark.parametrize("address", ["/", "/request/", "/approvals/", "/requests/DP-7K2M9QX4", "/admin/"])
def test_a_stranger_is_sent_to_sign_in_and_back(address: str, client: Client) -> None:
    response = client.get(address, follow=True)

    assert response.redirect_chain[-1][0].startswith("/accounts/login/")
    assert address.strip("/") in response.redirect_chain[-1][0]


def test_a_script_that_is_signed_out_is_told_so(client: Client) -> None:
    assert client.get("/approvals/updates", headers={"HX-Request": "true"}).status_code == 401
    assert client.post("/deliveries/", {}, headers={"Accept": "application/json"}).status_code == 401


@pytest.mark.parametrize("act", ["accept", "withdraw", "start", "remind"])
def test_small_acts_need_a_press(act: str, pending_request: AccessRequest, alice: User) -> None:
    assert signed_in(alice).get(f"/requests/{pending_request.code}/{act}").status_code == 405


@pytest.mark.parametrize(
    "address", ["approve", "deny", "accept", "withdraw", "start", "extend", "give-back", "revoke", "remind"]
)
def test_a_press_needs_its_token(address: str, pending_request: AccessRequest, alice: User, bob: User) -> None:
    for who in (alice, bob):
        client = Client(enforce_csrf_checks=True)
        client.force_login(who)
        response = client.post(f"/requests/{pending_request.code}/{address}", {"reason": "x"})
        assert response.status_code == 403
        assert "Nothing was done" in page(response).text
    pending_request.refresh_from_db()
    assert pending_request.state == "pending"


def test_other_posts_need_their_token_too(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    for address in ("/request/", "/approvals/decide", "/deliveries/", "/accounts/logout/"):
        assert client.post(address, {}).status_code == 403, address


@pytest.mark.parametrize("who", ["alice", "bob"])
@pytest.mark.parametrize("address", ["/", "/request/", "/requests/{code}", "/approvals/"])
def test_one_primary_button_a_screen(
    who: str, address: str, active_request: AccessRequest, alice: User, bob: User
) -> None:
    wish(alice, active_request.role, active_request.entitlement)
    shown = page(signed_in({"alice": alice, "bob": bob}[who]).get(address.format(code=active_request.code)))

    # What stands in a phase of a delivery is folded away until it is needed.
    primary = [one for tag in ("a", "button") for one in shown.all(tag) if "btn-primary" in (one.get("class") or "")]
    assert len([one for one in primary if one.get("data-in-phase") is None]) <= 1


def test_times_are_shown_in_the_readers_zone(active_request: AccessRequest, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(time_zone="Asia/Kathmandu")
    assert "Asia/Kathmandu" in page_titles(signed_in(alice).get("/"))


def test_a_zone_nobody_knows_is_utc(alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(time_zone="Mars/Olympus")
    assert signed_in(alice).get("/").status_code == 200


def page_titles(response: Any) -> str:
    return " ".join(str(one.get("title")) for one in page(response).all("time"))


def test_names_of_any_alphabet_do_not_break_a_page(client: Client) -> None:
    someone = person("x" * 60)
    User.objects.filter(pk=someone.pk).update(name="\u202e" + "ﷺ" * 140)
    assert signed_in(User.objects.get(pk=someone.pk)).get("/").status_code == 200
