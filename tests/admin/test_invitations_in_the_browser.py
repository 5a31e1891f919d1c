"""From an operator's click to the new person's first sign-in, in Debian's chromium."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail as mailbox
from playwright.sync_api import Browser, expect

from requests_app.background import mail
from requests_app.domain.models import User
from tests.web.browsing import People, chromium, in_browser

pytestmark = [*in_browser, pytest.mark.django_db(transaction=True)]
PASSWORD = "correct horse battery staple"
PHONE: Any = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch, chromium() as browser:
        # Playwright keeps a loop running in this thread, and Django would not let a test look at its rows.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_invitation(scheme: Any, browser: Browser, live_server: Any, settings: Any, olivia: User) -> None:
    settings.BASE_URL = live_server.url
    people = People(browser, live_server.url)
    hers = people.page_of(olivia, "/admin/requests_app/user/add/", color_scheme=scheme)
    hers.get_by_label("User name").or_(hers.get_by_label("Username")).fill("erin")
    hers.get_by_label("Email").fill("erin@example.com")
    hers.get_by_label("Name", exact=True).or_(hers.get_by_label("Name:", exact=True)).fill("Erin Example")
    hers.get_by_role("button", name="Save", exact=True).click()
    expect(hers.get_by_text("A mail to erin@example.com brings a link")).to_be_visible()
    hers.goto("/admin/requests_app/user/?came=no")
    hers.locator("tr", has_text="erin@example.com").locator("input[type=checkbox]").check()
    hers.locator("select[name=action]").select_option("invite_again")
    hers.get_by_role("button", name="Go").click()
    expect(hers.get_by_text("1 person was left out")).to_be_visible()  # the first is still to be sent

    assert mail.send_due() == 1
    (link,) = re.findall(r"http://\S+/accounts/password/reset/key/\S+", str(mailbox.outbox[0].body))
    browser_of_erin = browser.new_context(viewport=PHONE, color_scheme=scheme)
    page = browser_of_erin.new_page()
    page.on("pageerror", lambda error: people.wrong.append(str(error)))
    page.goto(link)
    expect(page.get_by_role("heading", name="Welcome to Daypass")).to_be_visible()
    assert "reset/key" not in page.url
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_label("New Password", exact=True).fill(PASSWORD)
    page.get_by_label("New Password (again)").fill(PASSWORD)
    page.get_by_role("button", name="Set this password").click()
    expect(page.get_by_text("Your password is set. Sign in with it, Erin.")).to_be_visible()
    page.get_by_label("Login").fill("erin")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="My access")).to_be_visible()

    page.goto(link)
    expect(page.get_by_role("heading", name="This link does not work any more")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_label("Email").fill("erin@example.com")
    page.get_by_role("button", name="Send a new link").click()
    expect(page.get_by_role("heading", name="Look in your mail")).to_be_visible()
    assert mail.send_due() == 2  # one is word of the password
    browser_of_erin.close()
    hers.context.close()
    assert people.wrong == []
