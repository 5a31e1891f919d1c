"""Pressing after the sign-in ended, or with another sign-in's page, in Debian's chromium: said, and nothing is lost."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from requests_app.domain.models import AccessRequest, Account, AwsClock, Entitlement, Role, User
from tests.factories import wish
from tests.web.browsing import People, chromium, in_browser

pytestmark = [*in_browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "correct horse battery staple"
SIGNED_OUT = "You were signed out. Nothing was done."
HERE_AGAIN = "What you typed is here again: look at it, and press again."
WHY = "replay the failed settlement batch\nfor Payments"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch, chromium() as browser:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield browser


@pytest.fixture
def people(browser: Browser, live_server: Any, alice: User, bob: User, carol: User, olivia: User) -> Iterator[People]:
    for person in (alice, bob, carol, olivia):
        person.set_password(PASSWORD)
        person.save(update_fields=["password"])
    people = People(browser, live_server.url)
    yield people
    for context in browser.contexts:
        context.close()
    assert [said for said in people.wrong if not re.search("(status of|Error Code) (401|403|422)", said)] == []


def sign_in(page: Page, person: User) -> None:
    page.locator("input[name=login]").fill(person.username)
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("main form button").click()


def nothing_kept(page: Page) -> bool:
    """Once the page has looked at what it has (a policy forbids Playwright's own way to wait for that)."""
    return bool(page.evaluate(LOOKS_UNTIL_GONE))


LOOKS_UNTIL_GONE = """async () => {
  const kept = () => sessionStorage.getItem("daypass-typed") !== null;
  for (let tries = 0; kept() && tries < 250; tries += 1) await new Promise((go) => setTimeout(go, 20));
  return !kept();
}"""


@dataclass
class Press:
    """Somebody's form: where it is, what is typed, what is pressed, and whether that was done."""

    who: User
    at: str
    typed: dict[str, str]
    button: str
    done: Callable[[], bool]


@pytest.fixture
def presses(
    active_request: AccessRequest, alice: User, bob: User, olivia: User, payments: Account, read_only: Role,
    automatic: Entitlement, aws_clock: AwsClock,
) -> dict[str, Press]:  # fmt: skip
    active = active_request

    def state_of(one: AccessRequest) -> str:
        one.refresh_from_db()
        return str(one.state)

    waits = wish(alice, active.role, active.entitlement)
    asked = AccessRequest.objects.filter(role=read_only)
    account = reverse("admin:requests_app_account_change", args=[payments.pk])
    return {
        "approve": Press(
            bob, f"/requests/{waits.code}/approve", {"comment": "I watch\nthe dashboard", "shorter": "20"},
            "main form .btn-primary", lambda: state_of(waits) == "approved",
        ),
        "revoke": Press(
            bob, f"/requests/{active.code}/revoke", {"reason": "her laptop\nwas stolen"},
            "main form .btn-end-now", lambda: state_of(active) == "revoked",
        ),
        "stop": Press(
            olivia, f"/stop/person/{alice.public_id}", {"typed": "Alice", "reason": "her laptop was stolen"},
            "main form .btn-end-now", lambda: state_of(active) == "revoked",
        ),
        "admin": Press(
            olivia, account, {"name": "payments-renamed"},
            "input[name=_save]", lambda: Account.objects.filter(name="payments-renamed").exists(),
        ),
        "ask": Press(
            alice, f"/request/?role={read_only.public_id}", {"justification": WHY},
            "main form[data-request-form] .btn-primary", asked.exists,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("what", ["approve", "revoke", "stop", "admin", "ask"])
def test_a_press_after_the_sign_in_ended_comes_back_with_what_was_typed(
    what: str, people: People, presses: dict[str, Press]
) -> None:
    press = presses[what]
    page = people.page_of(press.who, press.at)
    if what == "approve":
        page.get_by_text("Change…").click()
    for name, text in press.typed.items():
        page.locator(f"main [name={name}], #content [name={name}]").first.fill(text)
    Session.objects.all().delete()
    page.locator(press.button).first.click()

    page.get_by_text(SIGNED_OUT).wait_for()
    assert not press.done()
    for text in press.typed.values():
        assert text.split()[0] not in page.url
    sign_in(page, press.who)
    page.get_by_text(HERE_AGAIN).wait_for()
    assert page.url.endswith(press.at)
    for name, text in press.typed.items():
        field = page.locator(f"main [name={name}], #content [name={name}]").first
        expect(field).to_have_value(text)
        expect(field).to_be_visible()
    assert not press.done()

    page.locator(press.button).first.click()
    expect(page.get_by_text(HERE_AGAIN)).to_have_count(0)
    page.wait_for_load_state()
    assert nothing_kept(page)
    assert press.done()


def test_a_role_chosen_by_typing_is_chosen_again(people: People, presses: dict[str, Press], alice: User) -> None:
    """The address of the page does not say which; and a wrong form that came back is kept as well."""
    page = people.page_of(alice, "/request/")
    page.get_by_label("Role", exact=True).press_sequentially("ReadOnly")
    page.get_by_role("link", name="ReadOnly").click()
    page.get_by_role("group", name="How", exact=True).wait_for()
    page.locator("input[name=duration][value='15']").check()
    page.locator("main form[data-request-form] .btn-primary").click()
    page.get_by_text("Not sent yet.").wait_for()
    page.locator("[name=justification]").fill(WHY)
    Session.objects.all().delete()
    page.locator("main form[data-request-form] .btn-primary").click()
    page.get_by_text(SIGNED_OUT).wait_for()
    sign_in(page, alice)
    page.get_by_text(HERE_AGAIN).wait_for()

    expect(page.locator("[name=justification]")).to_have_value(WHY)
    expect(page.locator("input[name=duration][value='15']")).to_be_checked()
    page.locator("main form[data-request-form] .btn-primary").click()
    page.wait_for_url("**/requests/*")
    assert presses["ask"].done()


def test_whoever_else_signs_in_gets_nothing_of_it(
    people: People, presses: dict[str, Press], bob: User, carol: User
) -> None:
    press = presses["revoke"]
    page = people.page_of(bob, press.at)
    page.locator("[name=reason]").fill("what only Bob wrote")
    Session.objects.all().delete()
    page.locator(press.button).click()
    page.get_by_text(SIGNED_OUT).wait_for()
    sign_in(page, carol)
    page.locator("[name=reason]").wait_for()
    page.wait_for_load_state()
    assert nothing_kept(page)

    assert page.url.endswith(press.at)
    expect(page.locator("[name=reason]")).to_have_value("")
    assert not press.done()


def test_another_sign_in_in_another_tab_loses_nothing(people: People, presses: dict[str, Press], bob: User) -> None:
    """Signing in changes the token of every form, so the one that is open is refused."""
    press = presses["revoke"]
    page = people.page_of(bob, press.at)
    page.locator("[name=reason]").fill("typed before")
    Session.objects.all().delete()
    other = page.context.new_page()
    other.goto("/approvals/")
    sign_in(other, bob)
    other.get_by_role("heading", name="Approvals").wait_for()
    page.locator(press.button).click()

    page.get_by_text("Nothing was done: the page was out of date").wait_for()
    page.get_by_text(HERE_AGAIN).wait_for()
    expect(page.locator("[name=reason]")).to_have_value("typed before")
    assert not press.done()
    page.locator(press.button).click()
    page.get_by_text("You revoked").wait_for()
    assert press.done()


def test_what_a_page_asks_by_itself_says_it_and_keeps_what_is_typed(
    people: People, presses: dict[str, Press], bob: User, alice: User
) -> None:
    page = people.page_of(bob, "/approvals/")
    page.locator("[name=comment]").first.fill("half a sent")
    Session.objects.all().delete()
    page.evaluate("htmx.trigger('#updates', 'poll'); htmx.ajax('GET', '/approvals/updates', '#updates')")
    page.get_by_text("Sign in again").click()
    sign_in(page, bob)
    page.get_by_text(HERE_AGAIN).wait_for()
    expect(page.locator("[name=comment]").first).to_have_value("half a sent")
    page.get_by_role("button", name="Approve…").first.click()
    page.wait_for_url("**/approve")
    expect(page.locator("[name=comment]")).to_have_value("half a sent")
    assert not presses["approve"].done()

    searching = people.page_of(alice, "/request/")
    Session.objects.all().delete()
    searching.get_by_label("Role", exact=True).press_sequentially("pay")
    searching.get_by_text(SIGNED_OUT).wait_for()
    assert searching.locator("#found input[name=login]").count() == 0


def test_a_password_is_not_kept(people: People, presses: dict[str, Press], alice: User) -> None:
    page = people.page_of(alice, "/accounts/password/change/")
    for name in ("oldpassword", "password1", "password2"):
        page.locator(f"[name={name}]").fill("my-own-secret-words")
    Session.objects.all().delete()
    page.locator("main form button").click()
    page.get_by_text(SIGNED_OUT).wait_for()

    assert "my-own-secret" not in page.evaluate("JSON.stringify(sessionStorage)")
    assert "my-own-secret" not in page.url


def test_without_script_it_is_said_and_the_page_is_there_again(
    people: People, presses: dict[str, Press], bob: User
) -> None:
    press = presses["revoke"]
    page = people.page_of(bob, press.at, java_script_enabled=False)
    page.locator("[name=reason]").fill("typed")
    Session.objects.all().delete()
    page.locator(press.button).click()
    page.get_by_text(SIGNED_OUT).wait_for()
    sign_in(page, bob)
    page.locator("[name=reason]").wait_for()

    assert page.url.endswith(press.at)
    assert not press.done()


def test_a_refused_destination_is_corrected_where_it_was_typed(
    people: People, presses: dict[str, Press], active_request: AccessRequest, alice: User
) -> None:
    page = people.page_of(alice, f"/requests/{active_request.code}/console")
    field = page.locator("#destination")
    field.fill("https://console.aws.example.com/s3")
    page.get_by_role("button", name="Open the console").first.click()
    page.get_by_text("The destination must be a page of the AWS console").first.wait_for()
    expect(field).to_be_visible()
    expect(field).to_be_focused()
    expect(field).to_have_value("https://console.aws.example.com/s3")
    expect(field).to_have_attribute("aria-invalid", "true")

    field.fill("console.aws.amazon.com/s3/home")
    expect(page.locator(".problem")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page.locator(".problem")).to_contain_text("a whole address, with https:// before it")
    expect(field).to_have_value("console.aws.amazon.com/s3/home")

    Session.objects.all().delete()
    field.fill("https://console.aws.amazon.com/s3/home")
    page.keyboard.press("Enter")
    page.locator("[data-failure-message]", has_text=SIGNED_OUT).wait_for()
    expect(page.locator(".problem")).to_be_hidden()
    expect(field).to_have_value("https://console.aws.amazon.com/s3/home")
    page.get_by_text("Sign in again").click()
    sign_in(page, alice)
    page.get_by_text(HERE_AGAIN).wait_for()
    expect(field).to_have_value("https://console.aws.amazon.com/s3/home")
