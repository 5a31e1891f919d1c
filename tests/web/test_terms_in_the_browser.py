"""People asking, deciding and extending under richer terms, from page to page, in Debian's chromium."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect

from requests_app.domain import clock, workflow
from requests_app.domain.models import AccessRequest, Entitlement, Group, Role, User
from tests import factories
from tests.web.browsing import People, chromium, in_browser

pytestmark = [*in_browser, pytest.mark.django_db(transaction=True)]

BERLIN = ZoneInfo("Europe/Berlin")
WHY = "replay the failed settlement batch"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch, chromium() as browser:
        # Playwright keeps a loop running in this thread, and Django would not let a test look at its rows.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield browser


@pytest.fixture
def people(browser: Browser, live_server: Any) -> Iterator[People]:
    people = People(browser, live_server.url)
    yield people
    for context in browser.contexts:
        context.close()
    assert people.wrong == []


@pytest.fixture
def frank(security: Group) -> User:
    """Is in Security, and in nothing else."""
    return factories.person("frank", security)


@pytest.fixture
def two_stages(read_only: Role, engineers: Group, leads: Group, security: Group) -> Entitlement:
    return factories.entitlement(
        read_only, groups=[engineers], stages=[(leads, 2), (security, 1)], name="Long reading", longest_seconds=4 * 3600
    )


def choose_role(page: Page, words: str, name: str) -> None:
    page.get_by_label("Role", exact=True).press_sequentially(words)
    page.get_by_role("link", name=name).click()
    page.get_by_role("group", name="How", exact=True).wait_for()


def ask(page: Page) -> str:
    """Press the button; the code of what was asked for."""
    page.get_by_role("button", name="Ask for access").click()
    page.wait_for_url("**/requests/DP-*")
    return page.url.rsplit("/", 1)[1]


def approve(page: Page, code: str) -> None:
    page.goto("/approvals/")
    page.locator(f"#row-{code}").get_by_role("button", name="Approve…").click()
    page.locator("form").get_by_role("button", name="Approve").click()
    page.wait_for_url(f"**/requests/{code}")


def test_choosing_among_terms(
    people: People,
    alice: User,
    bob: User,
    carol: User,
    read_only: Role,
    automatic: Entitlement,
    two_stages: Entitlement,
) -> None:
    Entitlement.objects.filter(pk=automatic.pk).update(default_seconds=900, ticket="none", channels="keys")
    Entitlement.objects.filter(pk=two_stages.pk).update(
        default_seconds=7200, ticket="required", schedule_ahead_seconds=86400
    )
    page = people.page_of(alice, "/request/")
    page.get_by_label("Why").fill(WHY)
    choose_role(page, "payments read", "ReadOnly")

    ways = page.get_by_role("group", name="How", exact=True).locator("label")
    expect(ways.nth(0)).to_contain_text("up to 1 h, automatic · keys only")
    expect(ways.nth(1)).to_contain_text("up to 4 h, two approvals from Payments leads, then one from Security")
    outlook = page.locator("#outlook")
    expect(outlook).to_contain_text("Nobody has to agree.")
    expect(page.get_by_label("15 min")).to_be_checked()
    expect(page.get_by_label("Ticket")).to_be_hidden()
    expect(page.get_by_label("at a time")).to_be_hidden()
    expect(page.get_by_label("2 h", exact=True)).to_be_hidden()

    ways.nth(1).click()
    expect(outlook).to_contain_text("2 of Payments leads must agree; 2 can now.")
    expect(outlook).to_contain_text("For Security to decide; 1 can now.")
    expect(outlook).to_contain_text(
        "This would be refused. Too few people could decide stage 2"
    )  # Carol is needed before
    expect(page.get_by_label("2 h", exact=True)).to_be_checked()
    expect(page.get_by_label("Ticket")).to_be_visible()
    page.get_by_role("button", name="Ask for access").click()
    page.get_by_text("Not sent yet.").wait_for()
    expect(page.get_by_label("Why")).to_have_value(WHY)
    expect(ways.nth(1).get_by_role("radio")).to_be_checked()

    ways.nth(0).click()
    expect(outlook).to_contain_text("Nobody has to agree.")
    page.get_by_label("other").check()
    page.get_by_label("minutes").press_sequentially("45")
    end = clock.now() + timedelta(minutes=45)
    either = f"{end:%H:%M}|{end + timedelta(minutes=1):%H:%M}"
    expect(outlook).to_contain_text(re.compile(rf"it would end\s+(tomorrow\s+)?({either})"), timeout=15_000)
    page.get_by_label("15 min").check()
    ask(page)
    page.get_by_text("Nobody had to agree.").wait_for()
    made = AccessRequest.objects.get()
    assert (made.entitlement, made.duration_seconds, made.ticket, made.state) == (automatic, 900, "", "approved")


def test_a_request_of_two_stages_with_a_quorum(
    people: People, alice: User, bob: User, carol: User, leads: Group, frank: User, two_stages: Entitlement
) -> None:
    heidi = factories.person("heidi", leads)
    page = people.page_of(alice, "/request/")
    choose_role(page, "read", "ReadOnly")
    page.get_by_label("Why").fill(WHY)
    code = ask(page)
    expect(page.get_by_text("stage 1 of 2: 2 of Payments leads; 3 people can decide now")).to_be_visible()

    approve(people.page_of(bob), code)
    page.reload()
    expect(page.get_by_text("Bob agreed")).to_be_visible()
    second = people.page_of(heidi, "/approvals/")
    expect(second.locator(f"#row-{code}")).to_contain_text("Stage 1 of 2: 1 of 2 agreed (Bob")
    approve(second, code)
    last = people.page_of(frank, "/approvals/")
    expect(last.locator(f"#row-{code}")).to_contain_text("Stage 2 of 2: 0 of 1 agreed")
    approve(last, code)

    page.goto("/")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("Your pass is active").wait_for()
    expect(page.get_by_role("link", name="Get credentials")).to_be_visible()


def test_a_scheduled_start_that_its_approver_moves(
    people: People, alice: User, bob: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(schedule_ahead_seconds=7 * 86400)
    User.objects.filter(pk=alice.pk).update(time_zone="Europe/Berlin")
    User.objects.filter(pk=bob.pk).update(time_zone="America/Sao_Paulo")
    day = (clock.now().astimezone(BERLIN) + timedelta(days=2)).date()
    # On a phone, and without script: the browser's own inputs are enough.
    page = people.page_of(
        alice,
        f"/request/?role={administrator.public_id}",
        viewport={"width": 360, "height": 740},
        java_script_enabled=False,
    )
    page.get_by_label("Why").fill(WHY)
    page.get_by_label("at a time").check()
    page.get_by_label("Date").fill(day.isoformat())
    page.get_by_label("Time", exact=True).fill("08:00")
    code = ask(page)
    eight = datetime.combine(day, datetime.min.time(), BERLIN) + timedelta(hours=8)
    expect(page.locator("dl.facts")).to_contain_text("08:00")
    assert AccessRequest.objects.get().scheduled_at == eight

    his = people.page_of(bob, f"/requests/{code}/approve")
    his.get_by_text("Change…").click()
    his.get_by_label("Shorten to").fill("20")
    expect(his.get_by_role("button", name="Approve Administrator")).to_contain_text("for 20")
    later = (eight + timedelta(hours=3)).astimezone(ZoneInfo("America/Sao_Paulo"))
    his.get_by_label("Begin later: date").fill(later.date().isoformat())
    his.get_by_label("Time", exact=True).fill((eight - timedelta(hours=3)).astimezone(later.tzinfo).strftime("%H:%M"))
    his.get_by_role("button", name="Approve Administrator").click()
    expect(his.get_by_text("You can only move the start later")).to_be_visible()
    his.get_by_label("Time", exact=True).fill(later.strftime("%H:%M"))
    his.get_by_role("button", name="Approve Administrator").click()
    his.wait_for_url(f"**/requests/{code}")

    page.reload()
    expect(page.get_by_text("and starts by itself")).to_contain_text("11:00")
    expect(page.locator("dl.facts")).to_contain_text("20 min (30 min was asked for)")
    expect(page.locator("dl.facts")).to_contain_text("08:00 was asked for")
    assert page.get_by_role("button", name="Start").count() == 0
    made = AccessRequest.objects.get()
    assert (made.state, made.scheduled_at, made.duration) == (
        "approved",
        eight + timedelta(hours=3),
        timedelta(minutes=20),
    )


def test_more_time_for_a_running_pass(
    people: People, alice: User, bob: User, staged: Entitlement, administrator: Role
) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(extensions_most=1, extension_total_seconds=3600)
    made = factories.wish(alice, administrator, staged)
    workflow.approve(made, by=bob)
    made.refresh_from_db()
    end = workflow.start(made, by=alice).expires_at
    assert end is not None
    his = people.page_of(bob, "/approvals/")
    his.get_by_text("Nothing waits for you.").wait_for()

    page = people.page_of(alice)
    page.get_by_role("link", name="Extend").click()
    expect(page.get_by_text("at most 30 min more")).to_be_visible()
    page.get_by_label("Why").fill("the batch is slower than we thought")
    page.get_by_label("30 min").check()
    page.get_by_role("button", name="Ask for more time").click()
    page.get_by_text("Asked for more time.").wait_for()
    assert page.get_by_role("link", name="Extend").count() == 0

    his.reload()
    expect(his.locator(".count")).to_contain_text("1")
    row = his.locator("[id^=row-more-]")
    expect(row).to_contain_text("Alice asks for 30 min more, until")
    row.get_by_role("button", name="Approve…").click()
    expect(his.get_by_text("Approve more time for Alice's pass?")).to_be_visible()
    his.get_by_role("button", name="Approve 30 min more").click()
    his.get_by_text("You approved more time for Alice's pass.").wait_for()

    page.reload()
    expect(page.locator("dl.facts")).to_contain_text("and 30 min more")
    made.refresh_from_db()
    assert made.expires_at == end + timedelta(minutes=30)
    assert page.get_by_role("link", name="Extend").count() == 0  # the terms know one


def test_asking_for_somebody_else(
    people: People, alice: User, bob: User, carol: User, leads: Group, staged: Entitlement, administrator: Role
) -> None:
    staged.askers.add(leads)
    factories.person("alina")  # nobody to whom these terms reach
    his = people.page_of(bob, "/request/")
    his.get_by_label("Role", exact=True).press_sequentially("admin")
    his.get_by_role("link", name="Administrator").click()
    his.get_by_text("You may ask for this role for others, not for yourself.").wait_for()
    his.get_by_label("Who it is for").press_sequentially("ali")
    found = his.get_by_role("list", name="People found").get_by_role("link")
    expect(found).to_have_count(1)
    his.keyboard.press("ArrowDown")
    his.keyboard.press("Enter")
    expect(his.locator("#outlook")).to_contain_text("Alice must accept it first.")
    expect(his.locator("#outlook")).to_contain_text("1 can now")  # Bob asks, so he does not decide
    his.get_by_label("Why").fill(WHY)
    code = ask(his)
    his.get_by_text("Waits for Alice to accept it. Nobody decides before.").wait_for()

    hers = people.page_of(carol, "/approvals/")
    hers.get_by_text("Nothing waits for you.").wait_for()
    page = people.page_of(alice)
    expect(page.get_by_text("Bob asks for 30 min for you")).to_be_visible()
    page.get_by_role("button", name="Accept").click()
    page.get_by_text("You accepted it.").wait_for()
    approve(hers, code)

    his.reload()
    assert his.get_by_role("button", name="Start").count() == 0
    page.goto("/")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("Your pass is active").wait_for()
    made = AccessRequest.objects.get()
    assert (made.requester, made.beneficiary, made.state) == (bob, alice, "active")
