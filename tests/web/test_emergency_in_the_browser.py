"""The emergency page at two in the morning: a phone, no script, only keys."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from requests_app.domain import workflow
from requests_app.domain.models import AccessRequest, AwsClock, Entitlement, Freeze, Role, User
from requests_app.domain.workflow import freezes
from tests import factories
from tests.web.browsing import CHROMIUM, browsing, in_browser
from tests.web.pages import signed_in
from tests.web.test_in_the_browser import TOO_FAINT

pytestmark = in_browser


@pytest.fixture
def rendered(
    db: Any, active_request: AccessRequest, alice: User, bob: User, olivia: User, read_only: Role,
    automatic: Entitlement, aws_clock: AwsClock,
) -> dict[str, Any]:  # fmt: skip
    """Each page with long names, longer reasons and every button it can have."""
    User.objects.filter(pk=alice.pk).update(name="Wolfeschlegelsteinhausenbergerdorff" * 3)
    factories.person("oscar", is_operator=True)
    factories.sealed(active_request)
    hers, his, operators = signed_in(alice), signed_in(bob), signed_in(olivia)
    role = active_request.role
    pages = {
        "/person": operators.get(f"/stop/person/{alice.public_id}"),
        "/role": operators.get(f"/stop/role/{role.public_id}"),
        "/everything": operators.get("/stop/everything"),
        "/wrong": operators.post("/stop/everything", {"typed": "every", "reason": ""}),
        "/searched": operators.get("/stop/?q=a"),
    }
    waits = factories.wish(alice, role, active_request.entitlement)
    begun = freezes.freeze_restored("an event is missing")
    assert begun
    freezes.freeze(role.account, by=olivia, reason="looking_at_" * 40)
    asked = freezes.freeze(role, by=olivia, reason="a laptop was stolen")
    freezes.lift(asked, by=olivia)
    return pages | {
        "/stop/": operators.get("/stop/"),
        "/found": operators.get(f"/stop/freezes/{begun.public_id}/passes"),
        "/": hers.get("/"),
        "/request": hers.get(f"/requests/{waits.code}"),
        "/asking": hers.get(f"/request/?role={role.public_id}"),
        "/approvals": his.get("/approvals/"),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_a_phone_complains_or_is_too_faint(scheme: Any, rendered: dict[str, Any]) -> None:
    with browsing(viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True) as site:
        for path, response in rendered.items():
            page = site.show(path, response)
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
            assert page.evaluate(TOO_FAINT) == [], path
            small = page.evaluate(TOO_SMALL) if path not in ("/", "/request", "/asking", "/approvals") else []
            assert small == [], path
            assert [words for words in site.wrong if "422" not in words] == [], path


# What a finger has to hit.
TOO_SMALL = """() => [...document.querySelectorAll("main button, main .btn, main input:not([type=hidden])")]
  .filter((one) => !one.matches(".visually-hidden"))
  .filter((one) => one.checkVisibility() && one.type !== "checkbox" && one.getBoundingClientRect().height < 40)
  .map((one) => one.outerHTML.slice(0, 80))"""


@pytest.fixture
def phone(live_server: Any, olivia: User, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """Olivia's phone, signed in, without script."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright's loop runs in this thread; nothing awaits us
    with sync_playwright() as playwright:
        flags = ["--disable-gpu", "--no-first-run", "--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        context = browser.new_context(
            base_url=live_server.url, viewport={"width": 360, "height": 740}, java_script_enabled=False
        )
        session = signed_in(olivia).cookies["sessionid"].value
        context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
        context.set_default_timeout(10_000)
        yield context.new_page()
        browser.close()


def type_into(page: Page, selector: str, text: str) -> None:
    """By Tab alone."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.locator(f"{selector}:focus").count():
            page.keyboard.type(text)
            return
    raise AssertionError(f"no way to {selector} by keyboard")


def press(page: Page, selector: str) -> None:
    type_into(page, selector, "")
    page.keyboard.press("Enter")
    page.wait_for_load_state()


@pytest.mark.django_db(transaction=True)
def test_with_keys_alone_and_no_script_a_person_is_stopped_and_a_role_frozen_and_lifted(
    phone: Page, active_request: AccessRequest, alice: User, olivia: User
) -> None:
    phone.goto("/")
    press(phone, "nav a[href='/stop/']")
    type_into(phone, "#find", "alice")
    phone.keyboard.press("Enter")
    press(phone, f".found a[href='/stop/person/{alice.public_id}']")
    type_into(phone, "#id_typed", "Alice")
    type_into(phone, "#id_reason", "her laptop was stolen")
    press(phone, "button.btn-end-now")
    phone.get_by_text("Alice is blocked. 1 pass ended.").wait_for()
    active_request.refresh_from_db()
    assert (active_request.state, active_request.end_reason) == ("revoked", "her laptop was stolen")
    alice.refresh_from_db()
    assert alice.deactivated_at is not None

    phone.goto(f"/stop/role/{active_request.role.public_id}")
    type_into(phone, "#id_typed", "Administrator")
    type_into(phone, "#id_reason", "until we know more")
    press(phone, "button[value=freeze]")
    phone.get_by_text("Frozen: Administrator in payments-prod.").wait_for()
    press(phone, "form[action$='/lift'] button")
    phone.get_by_text("The freeze of Administrator in payments-prod is lifted.").wait_for()
    assert not Freeze.objects.in_force().exists()


@pytest.mark.django_db(transaction=True)
def test_enter_where_one_types_does_nothing_by_half(
    phone: Page, active_request: AccessRequest, alice: User, olivia: User
) -> None:
    """What is not complete is not done, and what was typed stays."""
    phone.goto("/stop/everything")
    type_into(phone, "#id_typed", "everything")
    phone.keyboard.press("Enter")
    phone.goto("/stop/everything")
    phone.locator("#id_reason").fill("because")
    phone.locator("#id_typed").fill("everythin")
    phone.keyboard.press("Enter")
    phone.get_by_text("Type “everything”. Nothing was done.").wait_for()
    assert phone.locator("#id_reason").input_value() == "because"
    active_request.refresh_from_db()
    assert active_request.state == "active"


@pytest.mark.django_db(transaction=True)
def test_enter_in_a_tick_neither_confirms_nor_ends(phone: Page, active_request: AccessRequest, olivia: User) -> None:
    begun = freezes.freeze_restored("an event is missing")
    assert begun
    phone.goto(f"/stop/freezes/{begun.public_id}/passes")
    press(phone, "input[type=checkbox]")
    phone.get_by_text("Nothing was done. Press Confirm or End.").wait_for()
    assert freezes.unconfirmed(begun).exists()
    type_into(phone, "input[type=checkbox]", " ")
    press(phone, "button[name=confirm][value=ticked]")
    phone.get_by_text("1 pass confirmed.").wait_for()
    assert workflow.freezes.unconfirmed(begun).count() == 0
