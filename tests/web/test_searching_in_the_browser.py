"""Finding a role in Debian's chromium: by keyboard, on a phone, in the dark, and without script."""

from collections.abc import Iterator
from typing import Any

import pytest

from requests_app.domain.models import Account, Group, User
from tests import factories
from tests.web.browsing import People, chromium, in_browser

pytestmark = [*in_browser, pytest.mark.django_db(transaction=True)]
PHONE: Any = {"width": 360, "height": 740}


@pytest.fixture
def people(live_server: Any) -> Iterator[People]:
    with pytest.MonkeyPatch.context() as patch, chromium() as browser:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright's loop runs in this thread; nothing awaits us
        yield People(browser, live_server.url)


@pytest.fixture
def much(alice: User, payments: Account, engineers: Group) -> None:
    """Names as long as they may be, and more than a page of accounts."""
    long = factories.account("wolfeschlegelsteinhausenbergerdorff" * 2)
    names = ("Administrator", "W" * 64, *(f"Reader{number}" for number in range(14)))
    roles = [factories.role(name, account) for name in names for account in (long, payments)]
    roles += [factories.role("Reader", factories.account(f"zone-{number:02}")) for number in range(12)]
    factories.entitlement(*roles, groups=[engineers])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_one_may_ask_for_is_reached_by_keyboard_on_a_phone(
    scheme: str, much: None, people: People, alice: User
) -> None:
    page = people.page_of(alice, "/request/", viewport=PHONE, color_scheme=scheme)
    find = page.locator("#find")
    focused = page.locator(":focus")

    find.focus()
    page.keyboard.press("ArrowDown")
    assert "payments-prod" in focused.inner_text()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    assert "Administrator" in focused.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.get_by_role("link", name="More accounts").press("Enter")
    page.get_by_text("zone-11", exact=True).wait_for()
    page.wait_for_function("document.activeElement.tagName === 'SUMMARY'")

    find.fill('"arn:aws:iam::222222222222:role/some/where/reader7"')
    page.locator("#found a", has_text="Reader7").wait_for()
    assert page.locator("#found a").count() == 1
    find.fill("arn:aws:sts::222222222222:assumed-role/" + "w" * 63 + "/DP-00000000-alice")
    page.get_by_text("No terms that reach you give it").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    find.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_text("What will happen").wait_for()
    assert people.wrong == []


def test_without_script_the_same_is_found_by_links(much: None, people: People, alice: User) -> None:
    page = people.page_of(alice, "/request/", viewport=PHONE, java_script_enabled=False)
    page.get_by_role("link", name="More accounts").click()
    page.get_by_role("link", name="First accounts").click()
    page.locator("summary", has_text="payments-prod").click()
    page.get_by_role("link", name="All of them in payments-prod").click()
    page.get_by_role("link", name="Reader13").click()
    assert page.get_by_role("radio", name="automatic").count() == 1

    page.goto("/request/")
    page.locator("#find").fill("2222-2222-2222/reader13")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Reader13").click()
    assert page.get_by_role("radio", name="automatic").count() == 1
