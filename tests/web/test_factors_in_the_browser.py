"""Second factors in Debian's chromium: passkeys of its virtual authenticator, and a new operator's way in."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.core import mail as mailbox
from django.core.cache import cache
from playwright.sync_api import Browser, Page, expect

from requests_app.background import mail
from requests_app.domain import factor_demand, workflow
from requests_app.domain.models import FactorDemand, User
from tests import factories
from tests.web.browsing import People, chromium, in_browser
from tests.web.test_sign_ins_end import PASSWORD, code_of

pytestmark = [*in_browser, pytest.mark.django_db(transaction=True)]
PHONE: Any = {"width": 360, "height": 740}
VIRTUAL = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch, chromium() as browser:
        # Playwright keeps a loop running in this thread, and Django would not let a test look at its rows.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield browser


@pytest.fixture
def alice(alice: User) -> User:
    alice.set_password(PASSWORD)
    alice.save(update_fields=["password"])
    return alice


@pytest.fixture
def people(browser: Browser, live_server: Any, settings: Any) -> People:
    cache.clear()
    settings.BASE_URL = live_server.url
    return People(browser, live_server.url)


def with_key(page: Page, **options: Any) -> Any:
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    session.send("WebAuthn.addVirtualAuthenticator", {"options": {**VIRTUAL, **options}})
    return session


def confirm(page: Page) -> None:
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()


def fits(page: Page) -> bool:
    return int(page.evaluate("document.documentElement.scrollWidth")) <= PHONE["width"]


def shoot(page: Page, name: str, scheme: str) -> None:
    """For whoever wants to look: `SHOTS=folder pytest …`."""
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}-{scheme}.png"), full_page=True)


def sign_in(page: Page, name: str) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Login").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_passkey_from_adding_it_to_removing_it(scheme: Any, people: People, alice: User) -> None:
    page = people.page_of(alice, "/accounts/2fa/", viewport=PHONE, color_scheme=scheme)
    with_key(page)
    assert fits(page)
    shoot(page, "index", scheme)
    page.get_by_role("link", name="Add a passkey").click()
    confirm(page)
    expect(page.get_by_role("heading", name="Add a passkey")).to_be_visible()
    assert fits(page)
    shoot(page, "add", scheme)
    page.get_by_label("Name").fill("My phone")
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    shoot(page, "codes", scheme)
    assert Authenticator.objects.get(type="webauthn").data["name"] == "My phone"

    page.context.clear_cookies()
    sign_in(page, "alice")
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    assert fits(page)
    shoot(page, "authenticate", scheme)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("heading", name="My access")).to_be_visible()

    page.goto("/accounts/2fa/webauthn/")
    assert fits(page)
    shoot(page, "list", scheme)
    page.get_by_role("link", name="Name My phone anew").click()
    expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    page.get_by_role("link", name="Use a passkey").click()
    shoot(page, "confirm", scheme)
    page.get_by_role("button", name="Use a passkey").click()
    page.get_by_label("Name").fill("Key ring")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Remove Key ring").click()
    expect(page.get_by_role("heading", name="Remove “Key ring”?")).to_be_visible()
    assert fits(page)
    page.get_by_role("button", name="Remove this passkey").click()
    expect(page.get_by_text("None.")).to_be_visible()
    assert not Authenticator.objects.exists()
    assert people.wrong == []
    page.context.close()


def test_at_another_address_the_browser_or_the_server_refuses(people: People, alice: User, settings: Any) -> None:
    """Another port is the same to the browser, and not to us; another name is not even for the browser."""
    page = people.page_of(alice, "/accounts/2fa/webauthn/add/")
    with_key(page)
    confirm(page)
    settings.BASE_URL = "http://localhost:1"
    page.reload()
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_text("This passkey was not taken")).to_be_visible()

    settings.BASE_URL = "http://daypass.localhost"
    page.goto("/accounts/2fa/webauthn/add/")
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_text("Passkeys do not work at this address")).to_be_visible()
    assert not Authenticator.objects.exists()
    page.context.close()


def test_who_cancels_reads_that_nothing_happened(people: People, alice: User) -> None:
    page = people.page_of(alice, "/accounts/2fa/webauthn/add/")
    with_key(page, isUserVerified=False, hasUserVerification=True)
    confirm(page)
    page.evaluate(
        "() => { navigator.credentials.create = () => Promise.reject(new DOMException('no', 'NotAllowedError')); }"
    )
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_text("Nothing was confirmed")).to_be_visible()
    expect(page.get_by_role("button", name="Add a passkey")).to_be_enabled()
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["passkey", "app"])
def test_a_new_operator_from_the_invitation_to_a_demanded_factor(
    scheme: Any, kind: str, people: People, olivia: User, settings: Any
) -> None:
    settings.SECOND_FACTOR_FOR = factor_demand.OPERATORS_AND_APPROVERS
    with factories.vouched():  # so this is no fresh installation
        Authenticator.objects.create(user=olivia, type="totp", data={"secret": "x"})
    erin = factories.person("erin", is_staff=True, is_operator=True, last_login=None)
    erin.set_unusable_password()
    erin.save()
    workflow.accounts.invite([erin], by=olivia)
    mail.send_due()
    (link,) = [
        found
        for message in mailbox.outbox
        for found in re.findall(r"http://\S+/accounts/password/reset/key/\S+", str(message.body))
    ]

    context = people.browser.new_context(base_url=people.address, viewport=PHONE, color_scheme=scheme)
    context.set_default_timeout(15_000)
    page = context.new_page()
    page.on("pageerror", lambda error: people.wrong.append(str(error)))
    with_key(page)
    page.goto(link)
    page.get_by_label("New Password", exact=True).fill(PASSWORD)
    page.get_by_label("New Password (again)").fill(PASSWORD)
    page.get_by_role("button", name="Set this password").click()
    sign_in(page, "erin")
    expect(page.get_by_role("note").get_by_text("A second factor is demanded of you")).to_be_visible()
    assert fits(page)
    shoot(page, "banner", scheme)
    page.goto("/admin/")
    shoot(page, "admin-banner", scheme)
    assert fits(page)

    FactorDemand.objects.update(since="2026-01-01T00:00Z")
    page.goto("/")
    expect(page.get_by_role("heading", name="Set up a second factor")).to_be_visible()
    expect(page.get_by_text("nothing else is open to you")).to_be_visible()
    assert fits(page)
    shoot(page, "demanded", scheme)
    if kind == "passkey":
        page.get_by_role("link", name="Set up a passkey").click()
        confirm(page)
        page.get_by_role("button", name="Add a passkey").click()
    else:
        page.get_by_role("link", name="Set up an app").click()
        shoot(page, "password", scheme)
        confirm(page)
        expect(page.locator("#authenticator_secret")).to_be_visible()
        assert fits(page)
        shoot(page, "app", scheme)
        page.locator("input[name=code]").fill(code_of(page.locator("#authenticator_secret").inner_text()))
        page.locator("main form button:not([type=button])").first.click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    assert fits(page)
    shoot(page, "codes-after", scheme)
    page.get_by_role("link", name="My access").last.click()
    expect(page.get_by_role("heading", name="My access")).to_be_visible()
    page.goto("/admin/")
    expect(page.get_by_text("Catalog and rules").first).to_be_visible()
    expect(page.get_by_text("A second factor is demanded of you")).to_have_count(0)
    assert people.wrong == []
    context.close()
