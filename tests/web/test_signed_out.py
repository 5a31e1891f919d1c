"""A press that does not count, because the sign-in ended or the page is from before another one: it is said, nothing
changes, and the person comes back to that very page."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import URLPattern, get_resolver
from django.urls.resolvers import RegexPattern

from requests_app.domain.models import AccessRequest, AuditEvent, Delivery, User
from tests.web.pages import page, signed_in

pytestmark = pytest.mark.django_db

SAID = "You were signed out. Nothing was done."
ELSEWHERE = ["https://evil.example.com/approvals/", "//evil.example.com/", "/\\evil.example.com", "javascript:alert(1)"]
# What stands in an address, where it is not a code.
SAMPLES = {"uuid": str(uuid4()), "slug": "aws", "int": "1", "str": "1", "path": "1"}


def addresses(code: str) -> Iterator[tuple[str, bool]]:
    """Every address that there is, and whether it is for people who are signed in."""

    def walk(patterns: list[Any], before: str) -> Iterator[tuple[str, bool]]:
        for one in patterns:
            if isinstance(one.pattern, RegexPattern):
                at = before + str(one.pattern).strip("^$").replace("(?P<url>.*)", "nowhere")
                at = re.sub(r"\(\?P<app_label>(\w+).*\)", r"\1", at)
            else:
                at = before + str(one.pattern).replace("<slug:code>", code)
                at = re.sub(r"<(?:(\w+):)?\w+>", lambda found: SAMPLES[found[1] or "str"], at)
            if isinstance(one, URLPattern):
                yield at, getattr(one.callback, "login_required", True)
            else:
                yield from walk(one.url_patterns, at)

    yield from walk(get_resolver().url_patterns, "/")


def next_of(response: Any) -> str:
    at = urlsplit(response["Location"])
    assert at.path == "/accounts/login/", at
    return parse_qs(at.query)["next"][0]


def test_a_press_at_any_address_says_that_one_was_signed_out(active_request: AccessRequest) -> None:
    events = AuditEvent.objects.count()
    every = list(addresses(active_request.code))
    assert len(every) > 150
    typed = {"reason": "typed", "comment": "typed", "justification": "typed", "verdict": "deny", "next": "/"}
    for at, inside in every:
        for client in (Client(), Client(enforce_csrf_checks=True)) if inside else ():
            response = client.post(at, typed)
            assert "typed" not in response["Location"]
            assert [str(said) for said in get_messages(response.wsgi_request)] == [SAID], at
            active_request.refresh_from_db()
            assert active_request.state == "active", at
    assert SAID in page(client.get(response["Location"])).text

    assert AuditEvent.objects.count() == events
    assert not Delivery.objects.exists()


def test_strangers_may_press_only_what_lets_them_in(active_request: AccessRequest) -> None:
    outside = {at for at, inside in addresses(active_request.code) if not inside}

    assert {at for at in outside if not at.startswith("/accounts/")} == {"/admin/login/"}


def test_wherever_one_comes_back_to_there_is_a_page(active_request: AccessRequest, olivia: User) -> None:
    """Also where the browser does not say on which page one pressed."""
    hers = signed_in(olivia)
    for at, inside in addresses(active_request.code):
        if inside and "/logout/" not in at:
            back = next_of(Client().post(at))
            assert hers.get(back).status_code != 405, (at, back)


@pytest.mark.parametrize(
    "stood", ["/", "/approvals/?after=DP-7K2M9QX4", "/requests/{code}", "/stop/?q=alice", "/admin/requests_app/role/"]
)
def test_back_to_the_very_page_on_which_one_pressed(stood: str, active_request: AccessRequest) -> None:
    stood = stood.format(code=active_request.code)
    response = Client().post(
        f"/requests/{active_request.code}/give-back", {"next": "/"}, headers={"Referer": f"http://testserver{stood}"}
    )

    assert next_of(response) == stood


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_never_to_another_site(elsewhere: str, active_request: AccessRequest) -> None:
    at = f"/requests/{active_request.code}/revoke"
    for typed, referer in (({"page": elsewhere}, ""), ({}, elsewhere), ({"next": elsewhere}, "")):
        assert next_of(Client().post(at, typed, headers={"Referer": referer})) == at


@pytest.mark.parametrize(
    "page_of", ["/accounts/logout/", "/accounts/login/", "/nowhere", "x" * 5000, "/\0", "/request/\n"]
)
def test_nor_to_what_is_no_page_of_one_who_is_signed_in(page_of: str, active_request: AccessRequest) -> None:
    at = f"/requests/{active_request.code}/revoke"
    response = Client().post(at, {"page": page_of})

    assert next_of(response) in (at, "/accounts/logout/")


def test_a_request_form_comes_back_with_its_role(pending_request: AccessRequest, alice: User, client: Client) -> None:
    """The role is chosen without leaving the page, so its address does not say which."""
    role = pending_request.role.public_id
    shown = page(signed_in(alice).get(f"/request/terms?role={role}"))
    (at,) = [one["value"] for one in shown.all("input") if one.get("name") == "page"]

    assert at == f"/request/?role={role}"
    assert next_of(client.post("/request/", {"page": at, "justification": "typed"})) == at


def test_what_a_page_asks_by_itself_is_told_too_and_gets_no_page(pending_request: AccessRequest) -> None:
    for headers in ({"HX-Request": "true"}, {"Accept": "application/json"}, {"X-Requested-With": "XMLHttpRequest"}):
        for at in ("/approvals/updates", "/request/roles?q=a", "/request/terms", "/stop/?q=a", "/admin/autocomplete/"):
            response = Client().get(at, headers=headers)
            assert (response.status_code, response.json()["rule"]) == (401, "sign_in.needed"), at
        response = Client(enforce_csrf_checks=True).post("/deliveries/", {}, headers=headers)
        assert (response.status_code, response.json()["message"]) == (401, SAID)


def test_a_page_from_before_another_sign_in_says_so_and_leads_back(active_request: AccessRequest, bob: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(bob)
    at = f"/requests/{active_request.code}/revoke"
    client.get(at)
    response = client.post(
        at, {"reason": "typed", "csrfmiddlewaretoken": "x" * 64}, headers={"Referer": f"http://testserver{at}"}
    )
    shown = page(response)
    active_request.refresh_from_db()

    assert response.status_code == 403
    assert "Nothing was done" in shown.text
    assert [one["href"] for one in shown.all("a") if "data-back" in one] == [at]
    assert active_request.state == "active"


def test_what_a_page_asks_with_an_old_token_is_told_so(active_request: AccessRequest, alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    response = client.post("/deliveries/", {}, headers={"Accept": "application/json"})

    assert response.status_code == 403
    assert response.json()["rule"] == "page.outdated"
    assert "Nothing was done" in response.json()["message"]


def test_a_form_of_a_stranger_that_is_too_old_leads_back_to_itself(client: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    response = strict.post(
        "/accounts/login/?next=/approvals/", {"login": "x"},
        headers={"Referer": "http://testserver/accounts/login/?next=/approvals/"},
    )  # fmt: skip
    shown = page(response)

    assert "Nothing was done" in shown.text
    assert [one["href"] for one in shown.all("a") if "data-back" in one] == ["/accounts/login/?next=/approvals/"]


def test_pages_name_their_reader_by_what_says_nothing(alice: User, bob: User, olivia: User, client: Client) -> None:
    """By it the browser knows for whom it kept what was typed."""

    def reader(who: Client, at: str = "/") -> str:
        (found,) = [one for one in page(who.get(at, follow=True)).all("meta") if one.get("name") == "daypass-reader"]
        return str(found["content"])

    hers = reader(signed_in(alice))
    assert hers == reader(signed_in(alice)) != reader(signed_in(bob))
    assert reader(signed_in(olivia), "/admin/") == reader(signed_in(olivia))
    assert reader(client) == ""
    for known in (str(alice.public_id), alice.username, alice.email):
        assert known not in hers
