"""What fits in a box is stored, whole; what does not is refused and kept, and never cut. A line break counts as one,
and a browser sends two characters for it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from requests_app.domain import workflow
from requests_app.domain.models import AccessRequest, AuditEvent, Decision, Entitlement, Extension, Freeze, Role, User
from tests import factories
from tests.admin.filling import save
from tests.web.browsing import People, chromium, in_browser
from tests.web.pages import page, signed_in
from tests.web.test_request_access import typed

pytestmark = pytest.mark.django_db
Post = Callable[[str], Any]


def as_sent(text: str) -> str:
    return text.replace("\n", "\r\n")


def filling(most: int) -> str:
    """Lines, one with what UTF-16 takes two units for, that fill a box to the last character."""
    text = "on call 🚒\n" + "line\n" * (most // 5 - 4)
    return text + "x" * (most - len(text))


class Boxes:
    """Each box, as (its longest, how to send it, what is stored of it)."""

    def __init__(self, names: dict[str, User], running: AccessRequest, pending: AccessRequest) -> None:
        alice, bob, olivia = (signed_in(names[name]) for name in ("alice", "bob", "olivia"))
        running_at, pending_at = f"/requests/{running.code}", f"/requests/{pending.code}"
        ask = typed(running.role, running.entitlement)
        stop = {"typed": running.role.name, "act": "freeze"}
        self.all: dict[str, tuple[int, Post, Callable[[], str]]] = {
            "why": (
                2000,
                lambda text: alice.post("/request/", ask | {"justification": text}),
                lambda: AccessRequest.objects.latest("pk").justification,
            ),
            "more time": (
                2000,
                lambda text: alice.post(f"{running_at}/extend", {"duration": "15", "justification": text}),
                lambda: Extension.objects.get().justification,
            ),
            "approve": (
                1000,
                lambda text: bob.post(f"{pending_at}/approve", {"comment": text}),
                lambda: Decision.objects.latest("pk").comment,
            ),
            "deny": (
                1000,
                lambda text: bob.post(f"{pending_at}/deny", {"comment": text}),
                lambda: AccessRequest.objects.get(pk=pending.pk).end_reason,
            ),
            "revoke": (
                500,
                lambda text: bob.post(f"{running_at}/revoke", {"reason": text}),
                lambda: AccessRequest.objects.get(pk=running.pk).end_reason,
            ),
            "freeze": (
                500,
                lambda text: olivia.post(f"/stop/role/{running.role.public_id}", stop | {"reason": text}),
                lambda: Freeze.objects.get().reason,
            ),
            "stop": (
                500,
                lambda text: olivia.post("/stop/everything", {"typed": "everything", "act": "stop", "reason": text}),
                lambda: AccessRequest.objects.get(pk=running.pk).end_reason,
            ),
        }


BOXES = ("why", "more time", "approve", "deny", "revoke", "freeze", "stop")


@pytest.fixture
def boxes(alice: User, bob: User, carol: User, olivia: User, administrator: Role, staged: Entitlement) -> Boxes:
    Entitlement.objects.update(extensions_most=1, extension_total_seconds=5400)
    staged.refresh_from_db()
    running = factories.wish(alice, administrator, staged)
    workflow.approve(running, by=carol)
    running = workflow.start(AccessRequest.objects.get(pk=running.pk), by=alice)
    return Boxes({"alice": alice, "bob": bob, "olivia": olivia}, running, factories.wish(alice, administrator, staged))


@pytest.mark.parametrize("name", BOXES)
def test_what_fills_its_box_to_the_last_is_stored_whole(name: str, boxes: Boxes) -> None:
    most, post, stored = boxes.all[name]
    text = filling(most)
    assert len(text) == most
    assert post(as_sent(text)).status_code == 302
    assert stored() == text
    told = [value for event in AuditEvent.objects.all() for value in event.detail.values() if isinstance(value, str)]
    assert all("\r" not in value for value in told)
    if name in ("approve", "deny", "revoke", "freeze", "stop"):
        assert text in told


@pytest.mark.parametrize("name", BOXES)
def test_what_does_not_fit_is_refused_and_kept_and_never_cut(name: str, boxes: Boxes) -> None:
    most, post, _ = boxes.all[name]
    before = [list(rows.order_by("pk").values()) for rows in _rows()]
    text = "a line\n" * (most // 7) + "and the very last words"
    response = post(as_sent(text))
    assert response.status_code == 422
    assert f"at most {most} characters" in page(response).text
    assert text in response.content.decode()
    assert [list(rows.order_by("pk").values()) for rows in _rows()] == before


def _rows() -> list[Any]:
    return [model.objects.all() for model in (AccessRequest, Extension, Decision, Freeze)]


def test_every_box_says_how_much_it_takes(boxes: Boxes, bob: User, alice: User) -> None:
    running = AccessRequest.objects.get(state="active")
    for person, address, most in (
        (alice, f"/request/?role={running.role.public_id}", "2000"),
        (alice, f"/requests/{running.code}/extend", "2000"),
        (bob, f"/requests/{running.code}/revoke", "500"),
        (bob, "/approvals/", "1000"),
    ):
        boxes_there = page(signed_in(person).get(address)).all("textarea")
        assert most in [one.get("data-most-characters") for one in boxes_there], address


@pytest.mark.parametrize("address", ["/request/", "/settings/", "/approvals/", "/admin/requests_app/entitlement/add/"])
def test_no_box_lets_a_browser_cut_what_is_pasted(address: str, boxes: Boxes, olivia: User, bob: User) -> None:
    response = signed_in(bob if address == "/approvals/" else olivia).get(address)
    shown = page(response)
    assert "maxlength" not in response.content.decode()
    assert any("data-most-characters" in one for one in [*shown.all("textarea"), *shown.all("input")])


def test_the_admin_counts_a_line_break_once_too(olivia: User, administrator: Role, client: Client) -> None:
    client.force_login(olivia)
    address = "/admin/requests_app/entitlement/add/"
    # 20,000 characters are the longest that the box takes; with two for a line break it would be too long.
    statements = "[\n" + "\n" * 15_000 + "]"
    response = save(client, address, name="Many lines", narrowing_statements=as_sent(statements))
    assert "far longer than AWS would take" not in response.content.decode()


def test_a_link_with_a_long_reason_fills_the_whole_box_in(
    alice: User, administrator: Role, staged: Entitlement
) -> None:
    """So that it is refused aloud when it is sent, and not shortened before anybody reads it."""
    text = "a line\n" * 300
    response = signed_in(alice).get("/request/", {"role": str(administrator.public_id), "justification": as_sent(text)})
    assert text.strip() in response.content.decode()


def test_who_approves_several_reads_each_reason_whole(
    alice: User, bob: User, read_only: Role, staged: Entitlement
) -> None:
    staged.roles.add(read_only)
    staged.refresh_from_db()
    text = "first what everybody knows " * 20 + "and then what matters"
    two = [factories.wish(alice, read_only, staged, justification=text) for _ in range(2)]
    shown = page(signed_in(bob).get("/approvals/decide", {"verdict": "approve", "code": [one.code for one in two]}))
    assert shown.text.count("and then what matters") == 2


def test_a_reason_for_more_time_stands_whole_on_the_page(boxes: Boxes, alice: User) -> None:
    running = AccessRequest.objects.get(state="active")
    why = "the batch is slower " * 20 + "because of the index"
    workflow.extend(running, by=alice, duration=timedelta(minutes=15), justification=why)
    assert "because of the index" in page(signed_in(alice).get(f"/requests/{running.code}")).text


@pytest.fixture
def people(live_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[People]:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright's loop runs in this thread; nothing awaits us
    with chromium() as browser:
        yield People(browser, live_server.url)


@in_browser[0]
@in_browser[1]
@pytest.mark.django_db(transaction=True)
def test_what_is_pasted_is_never_cut_and_it_is_said_how_much_is_too_much(
    people: People, active_request: AccessRequest, bob: User
) -> None:
    browser = people.page_of(bob, f"/requests/{active_request.code}/revoke")
    box, said = browser.locator("#id_reason"), browser.locator(".too-long")
    fits = "🚒 line\n" * 70 + "last"
    box.focus()
    browser.keyboard.insert_text(fits)
    assert said.count() == 0
    browser.keyboard.insert_text(" words, which are too many")
    assert box.input_value() == fits + " words, which are too many"
    over = len(box.input_value()) - 500
    assert said.inner_text() == f"{over} characters too many: at most 500 fit here. Shorten it."
    assert box.evaluate("(box) => box.checkValidity()") is False
    browser.get_by_role("button", name="Revoke").click()
    assert browser.url.endswith("/revoke")

    for _ in range(over):
        browser.keyboard.press("Backspace")
    assert not said.is_visible()
    typed = box.input_value()
    browser.get_by_role("button", name="Revoke").click()
    browser.wait_for_url(f"**/requests/{active_request.code}")
    active_request.refresh_from_db()
    assert active_request.end_reason == typed
    assert len(typed) == 500
    assert people.wrong == []


@in_browser[0]
@in_browser[1]
@pytest.mark.django_db(transaction=True)
def test_the_admin_cuts_nothing_and_says_it_too(people: People, olivia: User) -> None:
    browser = people.page_of(olivia, "/admin/requests_app/entitlement/add/")
    box = browser.locator("#id_name")
    most = int(box.get_attribute("data-most-characters") or 0)
    box.focus()
    browser.keyboard.insert_text("x" * (most + 1))
    assert len(box.input_value()) == most + 1
    browser.get_by_text(f"1 character too many: at most {most} fit here. Shorten it.").wait_for()
    assert people.wrong == []
