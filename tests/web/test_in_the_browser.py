"""Pages as Django renders them, in Debian's chromium: no complaint, no overflow, nothing taken away."""

from datetime import timedelta
from typing import Any

import pytest
from django.http import HttpResponse

from requests_app.domain import clock, workflow
from requests_app.domain.models import AccessRequest, Entitlement, Role, User
from tests.factories import wish
from tests.web.browsing import browsing, in_browser
from tests.web.pages import signed_in

pytestmark = [*in_browser, pytest.mark.django_db]


@pytest.fixture
def rendered(active_request: AccessRequest, alice: User, bob: User) -> dict[str, Any]:
    """Each page of people with long names and longer reasons."""
    User.objects.filter(pk=alice.pk).update(name="Wolfeschlegelsteinhausenbergerdorff" * 3)
    role, terms = active_request.role, active_request.entitlement
    asked = wish(alice, role, terms, justification="looking_at_" * 60, ticket="INC-" + "9" * 90)
    Entitlement.objects.filter(pk=terms.pk).update(
        extensions_most=2,
        extension_total_seconds=7200,
        schedule_ahead_seconds=86400,
        ticket_pattern="[A-Z]+-[0-9]+" * 9,
    )
    terms.askers.add(*terms.stages.get().groups.all())
    tomorrow = clock.now() + timedelta(hours=20)
    later = wish(alice, role, terms, start="at_time", start_at=tomorrow)
    for_her = wish(bob, role, terms, beneficiary=alice, justification="looking_at_" * 60)
    longer = wish(alice, role, terms)
    workflow.approve(longer, by=bob)
    longer.refresh_from_db()
    workflow.start(longer, by=alice)
    more = workflow.extend(longer, by=alice, duration=timedelta(minutes=5), justification="looking_at_" * 60)
    hers, his = signed_in(alice), signed_in(bob)
    return {
        "/scheduled": his.get(f"/requests/{later.code}/approve"),
        "/to-accept": hers.get(f"/requests/{for_her.code}"),
        "/waits": his.get(f"/requests/{for_her.code}"),
        "/longer": hers.get(f"/requests/{longer.code}"),
        "/approve-more": his.get(f"/requests/{longer.code}/extensions/{more.public_id}/approve"),
        "/request-for": his.get(f"/request/?role={role.public_id}&beneficiary={alice.public_id}"),
        "/search-for": his.get(f"/request/?role={role.public_id}&person=alice"),
        "/": hers.get("/"),
        "/request/": hers.get(f"/request/?role={role.public_id}"),
        "/asked": hers.get(f"/requests/{asked.code}"),
        "/running": hers.get(f"/requests/{active_request.code}"),
        "/credentials": hers.get(f"/requests/{active_request.code}/credentials"),
        "/console": hers.get(f"/requests/{active_request.code}/console"),
        "/give-back": hers.get(f"/requests/{active_request.code}/give-back"),
        "/approvals/": his.get("/approvals/"),
        "/approve": his.get(f"/requests/{asked.code}/approve"),
        "/revoke": his.get(f"/requests/{active_request.code}/revoke"),
        "/nowhere": his.get("/nowhere"),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_complains_or_overflows_a_phone(scheme: Any, rendered: dict[str, Any]) -> None:
    with browsing(viewport={"width": 360, "height": 740}, color_scheme=scheme) as site:
        for path, response in rendered.items():
            page = site.show(path, response)
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
            said = [words for words in site.wrong if "404" not in words]  # the missing page itself
            assert said == [], path


def test_text_has_contrast_in_both_schemes(rendered: dict[str, Any]) -> None:
    for scheme in ("light", "dark"):
        with browsing(color_scheme=scheme) as site:
            for path in ("/", "/asked", "/approvals/", "/request/", "/longer", "/request-for", "/scheduled"):
                page = site.show(path, rendered[path])
                assert page.evaluate(TOO_FAINT) == [], (scheme, path)


def test_a_chosen_theme_stays(rendered: dict[str, Any]) -> None:
    with browsing(color_scheme="light") as site:
        page = site.show("/", rendered["/"])
        page.locator("details.menu summary").click()
        page.get_by_label("Dark", exact=True).check()
        page.reload()
        assert page.locator("html").get_attribute("data-bs-theme") == "dark"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 21, 27)"


def test_without_script_the_system_chooses_and_pages_still_read(rendered: dict[str, Any]) -> None:
    with browsing(color_scheme="dark", java_script_enabled=False) as site:
        page = site.show("/", rendered["/"])
        assert page.locator("time[data-countdown]").first.inner_text().endswith("left")
        page = site.show("/credentials", rendered["/credentials"])
        page.locator("noscript .notice p").wait_for()


def test_the_keyboard_reaches_everything_from_the_top(rendered: dict[str, Any]) -> None:
    with browsing() as site:
        page = site.show("/", rendered["/"])
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('main') !== null")


@pytest.fixture
def approvals(alice: User, bob: User, carol: User, administrator: Role, staged: Entitlement) -> dict[str, Any]:
    """The page with three rows, and an update in which two of them are decided and one is new."""
    asked = [wish(alice, administrator, staged) for _ in range(3)]
    client = signed_in(bob)
    page = client.get("/approvals/")
    for one in asked[:2]:
        workflow.deny(one, by=carol)
    wish(alice, administrator, staged)
    update = client.get("/approvals/updates", {"shown": [one.code for one in asked]})
    return {"codes": [one.code for one in asked], "page": page, "update": update}


def test_polling_never_takes_away_what_someone_is_doing(approvals: dict[str, Any]) -> None:
    typing, idle, _ = approvals["codes"]
    with browsing() as site:
        site.pages["/approvals/updates"] = approvals["update"]
        site.page.clock.install()
        page = site.show("/approvals/", approvals["page"])
        page.locator(f"#comment-{typing}").fill("half a sent")
        page.locator("h1").click()  # the focus is elsewhere; what was typed is reason enough
        page.clock.run_for(16_000)

        page.get_by_text("1 new since you opened this page.").wait_for()
        assert page.locator(f"#comment-{typing}").input_value() == "half a sent"
        assert "denied by Carol" in page.locator(f"#row-{typing} [data-row-note]").inner_text()
        page.locator(f"#row-{idle}").get_by_text("denied by Carol").wait_for()
        assert page.locator(f"#row-{idle} textarea").count() == 0
        assert site.wrong == []


def test_a_lost_network_is_said_and_taken_back(approvals: dict[str, Any]) -> None:
    with browsing() as site:
        site.pages["/approvals/updates"] = HttpResponse("")
        site.page.clock.install()
        page = site.show("/approvals/", approvals["page"])
        site.offline = True
        page.clock.run_for(16_000)
        page.locator("[data-lost]").get_by_text("Daypass cannot be reached.").wait_for()

        site.offline = False
        page.clock.run_for(16_000)
        page.locator("[data-lost]").wait_for(state="hidden")


# Text whose contrast with what is behind it is under WCAG AA, with what it says.
TOO_FAINT = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const linear = (v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
  const behind = (element) => { for (let at = element; at; at = at.parentElement) {
    const color = rgba(getComputedStyle(at).backgroundColor);
    if (color[3] > 250) return color; } return [255, 255, 255, 255]; };
  const faint = [];
  for (const element of document.querySelectorAll("main *, header *")) {
    const own = [...element.childNodes].filter((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own.length || !element.checkVisibility() || element.closest("svg, .visually-hidden, [disabled]")) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) faint.push(own[0].textContent.trim() + " " + ((a + .05) / (b + .05)).toFixed(2));
  }
  return faint;
}"""
