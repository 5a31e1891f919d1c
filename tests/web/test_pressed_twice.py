"""Pressed twice, or gone back and pressed again: it is asked once, and whoever pressed lands on it and reads so."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, Page

from requests_app.domain import workflow
from requests_app.domain.models import AccessRequest, Entitlement, Extension, Group, Notice, Role, User
from tests import factories
from tests.domain.meeting import at_once
from tests.web.browsing import People, chromium, in_browser
from tests.web.pages import page, signed_in
from tests.web.test_request_access import typed

pytestmark = pytest.mark.django_db
ALREADY = "You had sent this already."
ONCE = "a-one-time-value-of-a-form"


def value_in(response: Any) -> str:
    (value,) = [one["value"] for one in page(response).all("input") if one.get("name") == "once"]
    return str(value)


def test_the_second_press_lands_on_the_first_ones_request(
    alice: User, administrator: Role, staged: Entitlement
) -> None:
    client = signed_in(alice)
    form = typed(administrator, staged, once=value_in(client.get(f"/request/?role={administrator.public_id}")))
    client.post("/request/", form)
    response = client.post("/request/", form, follow=True)
    made = AccessRequest.objects.get()
    assert response.redirect_chain == [(f"/requests/{made.code}", 302)]
    assert ALREADY in page(response).text
    assert Notice.objects.filter(kind="asked").count() == 2


@pytest.mark.django_db(transaction=True)
def test_presses_at_the_same_moment_make_one(alice: User, administrator: Role, staged: Entitlement) -> None:
    clients = [signed_in(alice) for _ in range(4)]
    form = typed(administrator, staged, once=ONCE)
    landed = at_once(*[lambda client=client: client.post("/request/", form)["Location"] for client in clients])
    assert landed == [f"/requests/{AccessRequest.objects.get().code}"] * 4
    assert Notice.objects.filter(kind="asked").count() == 2


def test_a_mistake_uses_nothing_up(alice: User, administrator: Role, staged: Entitlement) -> None:
    client = signed_in(alice)
    response = client.post("/request/", typed(administrator, staged, once=ONCE, justification="short"))
    assert value_in(response) == ONCE
    client.post("/request/", typed(administrator, staged, once=value_in(response)))
    assert AccessRequest.objects.count() == 1


def test_the_same_form_with_other_contents_is_said_and_can_be_pressed_again(
    alice: User, administrator: Role, staged: Entitlement
) -> None:
    client = signed_in(alice)
    client.post("/request/", typed(administrator, staged, once=ONCE))
    first = AccessRequest.objects.get()
    response = client.post("/request/", typed(administrator, staged, once=ONCE, ticket="INC-2"))
    assert response.status_code == 422
    shown = page(response)
    assert f"You already sent this form, with other contents; that made {first.code}" in shown.text
    assert f"/requests/{first.code}" in [link.get("href") for link in shown.all("a")]
    assert any(one.get("value") == "INC-2" for one in page(response).all("input"))
    assert AccessRequest.objects.count() == 1

    client.post("/request/", typed(administrator, staged, once=value_in(response), ticket="INC-2"))
    assert AccessRequest.objects.count() == 2


@pytest.mark.parametrize("value", [None, "", "x", "x" * 500, "a value with \0 in it", "ünïcödé-ünïcödé-ünïcödé"])
def test_a_page_from_before_and_what_is_no_such_value_ask_as_they_always_did(
    value: str | None, alice: User, administrator: Role, staged: Entitlement
) -> None:
    form = typed(administrator, staged) | ({} if value is None else {"once": value})
    for _ in range(2):
        assert signed_in(alice).post("/request/", form).status_code == 302
    assert AccessRequest.objects.count() == 2


def test_more_time_that_is_granted_at_once_is_granted_once(
    alice: User, read_only: Role, automatic: Entitlement
) -> None:
    Entitlement.objects.filter(pk=automatic.pk).update(extensions_most=3, extension_total_seconds=14400)
    automatic.refresh_from_db()
    running = factories.wish(alice, read_only, automatic, start="at_once")
    client, address = signed_in(alice), f"/requests/{running.code}/extend"
    form = {"duration": "15", "justification": "not done yet", "once": value_in(client.get(address))}
    client.post(address, form)
    assert ALREADY in page(client.post(address, form, follow=True)).text
    assert Extension.objects.count() == 1
    response = client.post(address, form | {"duration": "30"})
    assert "with other contents" in page(response).text
    assert value_in(response) != form["once"]


def test_more_time_that_waits_is_said_to_wait(
    active_request: AccessRequest, alice: User, bob: User, staged: Entitlement
) -> None:
    Entitlement.objects.update(extensions_most=3, extension_total_seconds=14400)
    staged.refresh_from_db()
    one = factories.wish(alice, active_request.role, staged)
    workflow.approve(one, by=bob)
    one = workflow.start(AccessRequest.objects.get(pk=one.pk), by=alice)
    client, address = signed_in(alice), f"/requests/{one.code}/extend"
    form = {"duration": "15", "justification": "not done yet", "once": ONCE}
    client.post(address, form)
    assert ALREADY in page(client.post(address, form, follow=True)).text
    # Gone back, and something else typed: that is not swallowed.
    response = client.post(address, form | {"duration": "30", "justification": "much more to do"})
    assert "with other contents" in page(response).text
    assert "much more to do" in response.content.decode()
    assert value_in(response) != ONCE
    # With a value of its own it is another wish, and the rules say why not.
    response = client.post(address, form | {"duration": "30", "once": value_in(response)})
    assert ALREADY not in page(response).text
    assert "already" in page(response).text
    assert Extension.objects.count() == 1


# --- what there is already is named before one asks -------------------------------------------------------------------


def asking_for(person: User, role: Role, **other: str) -> Any:
    return page(signed_in(person).get("/request/", {"role": str(role.public_id), **other}))


def test_an_open_request_and_a_pass_are_named_with_a_link_and_forbid_nothing(
    alice: User, bob: User, administrator: Role, staged: Entitlement
) -> None:
    assert "already have" not in asking_for(alice, administrator).text
    one = factories.wish(alice, administrator, staged)
    shown = asking_for(alice, administrator)
    assert f"You asked for this just now: {one.code} still waits." in shown.text
    assert f"/requests/{one.code}" in [link.get("href") for link in shown.all("a")]
    workflow.approve(one, by=bob)
    assert "is approved and can be started" in asking_for(alice, administrator).text
    workflow.start(AccessRequest.objects.get(pk=one.pk), by=alice)
    assert f"You already have a pass for this role: {one.code} runs until" in asking_for(alice, administrator).text
    # Also where the role is chosen without loading the page.
    chosen = signed_in(alice).get(reverse("role_terms"), {"role": str(administrator.public_id)})
    assert one.code in page(chosen).text

    signed_in(alice).post("/request/", typed(administrator, staged))
    assert AccessRequest.objects.count() == 2
    workflow.give_back(AccessRequest.objects.get(pk=one.pk), by=alice)
    assert one.code not in asking_for(alice, administrator).text


def test_what_somebody_else_has_is_named_only_to_who_asked_for_it(
    alice: User, bob: User, carol: User, leads: Group, administrator: Role, staged: Entitlement
) -> None:
    staged.askers.add(leads)
    staged.refresh_from_db()
    own = factories.wish(alice, administrator, staged)
    through_bob = factories.wish(bob, administrator, staged, beneficiary=alice)
    for person, codes in ((bob, {through_bob.code}), (carol, set())):
        shown = asking_for(person, administrator, beneficiary=str(alice.public_id)).text
        assert {code for code in (own.code, through_bob.code) if code in shown} == codes


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch, chromium() as browser:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright's loop runs in this thread; nothing awaits us
        yield browser


@pytest.fixture
def people(browser: Browser, live_server: Any) -> Iterator[People]:
    people = People(browser, live_server.url)
    yield people
    for context in browser.contexts:
        context.close()
    assert people.wrong == []


def fill_in(opened: Page, why: str = "replay the failed settlement batch") -> None:
    opened.get_by_text("30 min", exact=True).check()
    opened.get_by_label("Why").fill(why)


def ask(opened: Page) -> str:
    """Press, and where that leads."""
    opened.get_by_role("button", name="Ask for access").click()
    opened.wait_for_url("**/requests/*")
    return opened.url


@in_browser[0]
@in_browser[1]
@pytest.mark.django_db(transaction=True)
def test_back_and_press_again(people: People, alice: User, administrator: Role, staged: Entitlement) -> None:
    opened = people.page_of(alice, f"/request/?role={administrator.public_id}")
    fill_in(opened)
    first = ask(opened)
    opened.go_back()
    fill_in(opened)
    assert ask(opened) == first
    opened.get_by_text(ALREADY).wait_for()
    assert AccessRequest.objects.count() == 1

    # Something else on the page one went back to is said, and the next press sends it.
    opened.go_back()
    fill_in(opened, "and now the batch of last week")
    opened.get_by_role("button", name="Ask for access").click()
    opened.get_by_text("with other contents").wait_for()
    assert AccessRequest.objects.count() == 1
    assert ask(opened) != first
    assert AccessRequest.objects.count() == 2


@in_browser[0]
@in_browser[1]
@pytest.mark.django_db(transaction=True)
def test_back_to_a_role_that_was_searched_for_and_press_again(
    people: People, alice: User, administrator: Role, staged: Entitlement
) -> None:
    """As most people ask: the role is found by typing, and the page is not loaded for it."""
    opened = people.page_of(alice, "/request/")
    opened.get_by_label("Why").fill("typed before the role was chosen")
    opened.locator("#find").fill("payments")
    opened.locator(".found a").first.click()
    opened.get_by_text("30 min", exact=True).wait_for()
    assert opened.url.endswith(f"/request/?role={administrator.public_id}")  # the role alone, nothing that was typed
    fill_in(opened)
    first = ask(opened)

    opened.go_back()
    fill_in(opened)
    assert ask(opened) == first
    opened.get_by_text(ALREADY).wait_for()
    assert AccessRequest.objects.count() == 1

    # Another role after all: the address follows.
    opened.go_back()
    opened.get_by_role("link", name="Change the role").click()
    opened.locator("#find").wait_for()
    opened.wait_for_url("**/request/")


@in_browser[0]
@in_browser[1]
@pytest.mark.django_db(transaction=True)
def test_the_value_stays_while_the_page_is_filled_in(
    people: People, alice: User, administrator: Role, staged: Entitlement
) -> None:
    """The role is found and the terms come and go without loading the page; a mistake comes back with it."""
    opened = people.page_of(alice, "/request/")
    value = opened.locator("input[name=once]").input_value()
    assert len(value) >= 16
    opened.locator("#find").fill("payments")
    opened.locator(".found a").first.click()
    opened.get_by_label("Why").wait_for()
    opened.get_by_text("30 min", exact=True).check()
    opened.get_by_label("Why").fill("short")
    opened.get_by_role("button", name="Ask for access").click()
    opened.get_by_text("Not sent yet.").wait_for()
    assert opened.locator("input[name=once]").input_value() == value
    opened.get_by_label("Why").fill("replay the failed settlement batch")
    # Two clicks of an impatient hand are one press.
    opened.get_by_role("button", name="Ask for access").dblclick()
    opened.wait_for_url("**/requests/*")
    assert AccessRequest.objects.count() == 1


@in_browser[0]
@in_browser[1]
@pytest.mark.django_db(transaction=True)
def test_more_time_back_and_press_again(people: People, alice: User, read_only: Role, automatic: Entitlement) -> None:
    Entitlement.objects.filter(pk=automatic.pk).update(extensions_most=3, extension_total_seconds=14400)
    automatic.refresh_from_db()
    running = factories.wish(alice, read_only, automatic, start="at_once")
    opened = people.page_of(alice, f"/requests/{running.code}/extend")
    for _ in range(2):
        opened.get_by_text("15 min", exact=True).check()
        opened.get_by_label("Why").fill("the batch is slower than we thought")
        opened.get_by_role("button", name="Ask for more time").click()
        opened.wait_for_url(f"**/requests/{running.code}")
        opened.get_by_text("Your pass is longer.").or_(opened.get_by_text(ALREADY)).wait_for()
        opened.go_back()
    assert Extension.objects.count() == 1
