from collections.abc import Callable
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from requests_app.delivery.web import dossiers
from requests_app.delivery.web.views import approvals
from requests_app.domain import clock, deciders, workflow
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import AccessRequest, Decision, Entitlement, Group, Membership, Role, User
from requests_app.domain.transitions import State
from tests import factories
from tests.factories import wish
from tests.web.pages import Page, page, signed_in
from tests.web.test_home import queries

pytestmark = pytest.mark.django_db

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def reading(read_only: Role, engineers: Group, leads: Group, bob: User, carol: User) -> Entitlement:
    """Reading, when one lead agrees: not powerful, so it can be decided in bulk."""
    return factories.entitlement(read_only, groups=[engineers], stages=[(leads, 1)], name="Reading, one lead")


def rows(shown: Page) -> list[str]:
    return [str(one["id"]).removeprefix("row-") for one in shown.all("article") if "data-row" in one]


def test_nothing_waiting_says_when_something_will(bob: User) -> None:
    assert "Nothing waits for you." in page(signed_in(bob).get("/approvals/")).text


def test_what_an_approver_needs_to_judge(pending_request: AccessRequest, alice: User, bob: User) -> None:
    earlier = wish(alice, pending_request.role, pending_request.entitlement)
    workflow.approve(earlier, by=bob)
    workflow.start(earlier, by=alice)
    workflow.give_back(earlier, by=alice)
    running = wish(alice, pending_request.role, pending_request.entitlement)
    workflow.approve(running, by=bob)
    workflow.start(running, by=alice)
    shown = page(signed_in(bob).get("/approvals/")).text

    for words in (
        "Alice asks",
        "Administrator in payments-prod 2222-2222-2222",
        "powerful",
        pending_request.justification,
        "2 passes in 30 days, 1 returned early",
        "active on this role now: Alice",
        "0 of 1 agreed",
    ):
        assert words in shown


def test_a_big_group_leaves_room_for_a_small_one(
    alice: User, engineers: Group, administrator: Role, read_only: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciders, "MOST_COUNTED", 4)
    late = factories.person("late")
    everyone = factories.group("Everyone", *[factories.person(f"person{number}") for number in range(6)])
    few = factories.group("Few", late)
    further = factories.entitlement(administrator, groups=[engineers], stages=[(few, 1)])
    further.stages.update(escalate_seconds=3600)
    further.stages.get().more_groups.add(everyone)
    neighbour = factories.entitlement(read_only, groups=[engineers], stages=[(everyone, 1)])
    escalates, asks_many = wish(alice, administrator, further), wish(alice, read_only, neighbour)

    found = dossiers.dossiers([asks_many, escalates], clock.now())
    assert [one.can_now for one in found] == [4, 1]
    home = page(signed_in(alice).get("/")).text
    assert "1 person can approve" in home
    assert "nobody can approve" not in home


def test_the_most_urgent_first(alice: User, bob: User, administrator: Role, staged: Entitlement) -> None:
    later = wish(alice, administrator, staged)
    Entitlement.objects.filter(pk=staged.pk).update(pending_seconds=600)
    sooner = wish(alice, administrator, staged)

    assert rows(page(signed_in(bob).get("/approvals/"))) == [sooner.code, later.code]


def test_nobody_sees_their_own_request_there(
    administrator: Role, staged: Entitlement, bob: User, engineers: Group
) -> None:
    Membership.objects.create(group=engineers, user=bob)
    own = wish(bob, administrator, staged)
    client = signed_in(bob)

    assert rows(page(client.get("/approvals/"))) == []
    response = client.get(f"/requests/{own.code}/approve", follow=True)
    assert "Nobody decides on a request they made" in page(response).text
    client.post(f"/requests/{own.code}/approve")
    assert not Decision.objects.exists()


def test_confirmation_names_person_role_account_and_duration(pending_request: AccessRequest, bob: User) -> None:
    for act in ("approve", "deny"):
        typed = {"look": "yes", "comment": "as discussed"}
        shown = page(signed_in(bob).post(f"/requests/{pending_request.code}/{act}", typed)).text
        for words in ("Alice", "Administrator", "payments-prod", "2222-2222-2222", "30 min", "as discussed"):
            assert words in shown.replace("\xa0", " ")
    assert not Decision.objects.exists()


def test_a_comment_typed_on_approvals_is_posted_and_decides_nothing_yet(
    pending_request: AccessRequest, bob: User
) -> None:
    client = signed_in(bob)
    shown = page(client.get("/approvals/"))
    (form,) = [one for one in shown.all("form") if str(one.get("action")).endswith("/approve")]
    assert form["method"] == "post"
    assert {"name": "look", "value": "yes"}.items() <= posted_hidden(shown, "look").items()

    in_an_address = page(client.get(f"/requests/{pending_request.code}/approve?comment=from-a-link")).text
    assert "from-a-link" not in in_an_address


def posted_hidden(shown: Page, name: str) -> dict[str, str | None]:
    return next(one for one in shown.all("input") if one.get("name") == name)


def test_approving_with_a_comment(pending_request: AccessRequest, bob: User) -> None:
    response = signed_in(bob).post(f"/requests/{pending_request.code}/approve", {"comment": " go "}, follow=True)

    pending_request.refresh_from_db()
    assert "You approved Alice's request" in page(response).text
    assert pending_request.state == "approved"
    assert Decision.objects.get().comment == "go"


def test_denying(pending_request: AccessRequest, bob: User) -> None:
    signed_in(bob).post(f"/requests/{pending_request.code}/deny", {"comment": "use ReadOnly"})

    pending_request.refresh_from_db()
    assert (pending_request.state, pending_request.end_reason) == ("denied", "use ReadOnly")


def test_a_comment_that_is_too_long_is_kept_and_said(pending_request: AccessRequest, bob: User) -> None:
    response = signed_in(bob).post(f"/requests/{pending_request.code}/approve", {"comment": "x" * 1001})

    assert response.status_code == 422
    assert "at most 1000 characters" in page(response).text
    assert "x" * 1001 in response.content.decode()


@pytest.fixture
def of_two_stages(
    alice: User, bob: User, leads: Group, security: Group, read_only: Role, engineers: Group
) -> AccessRequest:
    """Bob is asked at both; Carol at both too, Dora at the first, Frank at the second."""
    Membership.objects.create(group=security, user=bob)
    for name, group in (("dora", leads), ("frank", security)):
        factories.person(name, group)
    terms = factories.entitlement(
        read_only, groups=[engineers], stages=[(leads, 1), (security, 1)], extensions_most=1,
        extension_total_seconds=7200,
    )  # fmt: skip
    return wish(alice, read_only, terms)


def posted(shown: Page) -> dict[str, str]:
    """What the browser sends along with what is typed."""
    return {str(one["name"]): str(one["value"]) for one in shown.all("input") if one.get("type") == "hidden"}


@pytest.mark.parametrize("act", ["approve", "deny"])
def test_a_late_click_decides_no_other_stage(act: str, of_two_stages: AccessRequest, bob: User) -> None:
    one, client = of_two_stages, signed_in(bob)
    seen = posted(page(client.get(f"/requests/{one.code}/{act}")))
    workflow.approve(one, by=User.objects.get(username="dora"))

    response = client.post(f"/requests/{one.code}/{act}", seen | {"comment": "as far as the leads go"})

    one.refresh_from_db()
    assert (response.status_code, one.state, one.decisions.count()) == (409, "pending", 1)
    shown = page(response)
    assert "stage 2" in shown.text
    assert "as far as the leads go" in response.content.decode()
    # Having seen that, they decide it.
    client.post(f"/requests/{one.code}/{act}", posted(shown) | {"comment": "for Security"})
    assert one.decisions.get(approver=bob).stage == 2


def test_a_late_click_where_the_stage_is_for_others_now(of_two_stages: AccessRequest) -> None:
    one, dora, bob = of_two_stages, User.objects.get(username="dora"), User.objects.get(username="bob")
    client = signed_in(dora)
    seen = posted(page(client.get(f"/requests/{one.code}/approve")))
    workflow.approve(one, by=bob)

    shown = page(client.post(f"/requests/{one.code}/approve", seen, follow=True))

    assert "stage 2, which is for Security to decide" in shown.text
    assert one.decisions.count() == 1


def test_ticked_before_a_stage_was_over(of_two_stages: AccessRequest, bob: User) -> None:
    client, ticked = signed_in(bob), {"code": [of_two_stages.code], "verdict": "approve"}
    seen = posted(page(client.get("/approvals/decide", ticked)))
    workflow.approve(of_two_stages, by=User.objects.get(username="dora"))

    shown = page(client.post("/approvals/decide", seen, follow=True))

    assert "stage 2" in shown.text
    assert not of_two_stages.decisions.filter(approver=bob).exists()


@pytest.mark.parametrize("act", ["approve", "deny"])
def test_a_late_click_about_more_time(act: str, of_two_stages: AccessRequest, alice: User, bob: User) -> None:
    dora, frank, client = (*User.objects.filter(username__in=["dora", "frank"]).order_by("username"), signed_in(bob))
    for approver in (dora, frank):
        workflow.approve(of_two_stages, by=approver)
    running = workflow.start(of_two_stages, by=alice)
    extension = workflow.extend(
        running, by=alice, duration=timedelta(minutes=10), justification="it takes longer than we thought"
    )
    address = f"/requests/{running.code}/extensions/{extension.public_id}/{act}"
    seen = posted(page(client.get(address)))
    workflow.approve_extension(extension, by=dora)

    response = client.post(address, seen | {"comment": "as far as the leads go"})

    assert response.status_code == 409
    assert not extension.decisions.filter(approver=bob).exists()
    client.post(address, posted(page(response)))
    assert extension.decisions.get(approver=bob).stage == 2


@pytest.mark.parametrize("act", ["approve", "deny"])
def test_the_slower_of_two_is_told(act: str, pending_request: AccessRequest, alice: User, bob: User) -> None:
    workflow.withdraw(pending_request, by=alice)
    client = signed_in(bob)
    response = client.post(f"/requests/{pending_request.code}/{act}", follow=True)
    assert "withdrawn in the meantime" in page(response).text

    response = client.get(f"/requests/{pending_request.code}/{act}", follow=True)
    assert "no longer pending" in page(response).text


def test_a_link_that_came_too_late_says_so(pending_request: AccessRequest, bob: User) -> None:
    with clock.moved(timedelta(days=2)):
        response = signed_in(bob).get(f"/requests/{pending_request.code}/approve", follow=True)

    assert "time ran out" in page(response).text


def test_several_at_once_are_listed_then_decided(alice: User, bob: User, read_only: Role, reading: Entitlement) -> None:
    asked = [wish(alice, read_only, reading) for _ in range(3)]
    codes = [one.code for one in asked[:2]]
    client = signed_in(bob)
    shown = page(client.get("/approvals/decide", {"code": codes, "verdict": "approve"}))
    assert "Approve these 2 requests?" in shown.text
    assert not Decision.objects.exists()

    response = client.post("/approvals/decide", {"code": codes, "verdict": "approve"}, follow=True)
    assert "You approved 2 requests." in page(response).text
    assert rows(page(response)) == [asked[2].code]


def test_powerful_roles_are_never_decided_in_bulk(
    alice: User, bob: User, pending_request: AccessRequest, read_only: Role, reading: Entitlement
) -> None:
    plain = wish(alice, read_only, reading)
    client = signed_in(bob)
    codes = [plain.code, pending_request.code]
    shown = page(client.get("/approvals/decide", {"code": codes, "verdict": "approve"}))
    assert "powerful roles are decided one by one" in shown.text

    client.post("/approvals/decide", {"code": codes, "verdict": "approve"})
    client.post("/approvals/decide", {"code": [pending_request.code], "verdict": "approve"})
    pending_request.refresh_from_db()
    plain.refresh_from_db()
    assert (plain.state, pending_request.state) == ("approved", "pending")


def test_bulk_reaches_only_what_waits_for_me(alice: User, mallory: User, read_only: Role, reading: Entitlement) -> None:
    asked = wish(alice, read_only, reading)
    response = signed_in(mallory).post("/approvals/decide", {"code": [asked.code], "verdict": "approve"}, follow=True)

    assert "None of what you ticked" in page(response).text
    assert not Decision.objects.exists()


def test_ticks_are_offered_only_for_what_bulk_takes(
    alice: User, bob: User, pending_request: AccessRequest, read_only: Role, reading: Entitlement
) -> None:
    plain = {wish(alice, read_only, reading).code for _ in range(2)}
    shown = page(signed_in(bob).get("/approvals/"))

    assert {one["value"] for one in shown.all("input") if one.get("name") == "code"} == plain


def test_updates_count_what_is_new_and_replace_what_is_decided(
    alice: User, bob: User, carol: User, administrator: Role, staged: Entitlement
) -> None:
    stays, goes = wish(alice, administrator, staged), wish(alice, administrator, staged)
    client = signed_in(bob)
    quiet = client.get("/approvals/updates", {"shown": [stays.code, goes.code]})
    assert page(quiet).text == ""

    wish(alice, administrator, staged)
    workflow.deny(goes, by=carol)
    shown = page(client.get("/approvals/updates", {"shown": [stays.code, goes.code]}))

    assert "1 new since you opened this page." in shown.text
    assert rows(shown) == [goes.code]
    assert shown.all("article")[0]["hx-swap-oob"] == "true"
    assert "No longer waiting: denied by Carol." in shown.text
    assert "2 wait for you" in shown.text


def test_updates_tell_nothing_about_what_was_never_asked_of_me(
    pending_request: AccessRequest, mallory: User, alice: User
) -> None:
    workflow.withdraw(pending_request, by=alice)
    shown = page(signed_in(mallory).get("/approvals/updates", {"shown": [pending_request.code, "nonsense"] * 50}))

    assert shown.text == ""


def test_the_number_beside_approvals(pending_request: AccessRequest, alice: User, bob: User) -> None:
    assert "1 waiting for you" in page(signed_in(bob).get("/")).text
    assert "waiting for you" not in page(signed_in(alice).get("/")).text


def asked_what_waits(act: Callable[[], object]) -> int:
    """How often the database was asked what waits for somebody."""
    with CaptureQueriesContext(connection) as made:
        act()
    return sum("requests_app_waiting" in one["sql"] for one in made)


def test_the_number_beside_approvals_is_counted_once_a_page(
    alice: User, bob: User, active_request: AccessRequest, administrator: Role, staged: Entitlement
) -> None:
    pending = wish(alice, administrator, staged)
    client = signed_in(bob)
    for address in ("/", "/request/", f"/requests/{pending.code}", f"/requests/{pending.code}/approve", "/settings/"):
        assert asked_what_waits(lambda address=address: client.get(address)) == 1, address  # type: ignore[misc]
    # These have read what waits, requests and extensions, and know how many that are.
    assert asked_what_waits(lambda: client.get("/approvals/")) == 2
    shown = {"shown": pending.code}
    assert asked_what_waits(lambda: client.get("/approvals/updates", shown)) == 2
    wish(alice, administrator, staged)
    assert asked_what_waits(lambda: client.get("/approvals/updates", shown)) == 2
    assert "2 wait for you" in page(client.get("/approvals/updates", shown)).text


@pytest.mark.parametrize("number", [0, 1, 20, 21, 30, 31, 33])
def test_every_page_says_the_same_number(
    number: int, alice: User, bob: User, read_only: Role, reading: Entitlement
) -> None:
    for _ in range(number):
        wish(alice, read_only, reading)
    client, said = signed_in(bob), "20+" if number > 20 else str(number)
    for address in ("/", "/approvals/", "/approvals/updates"):
        words = page(client.get(address)).text
        assert (f"{said} waiting for you" in words) == (number > 0), address


def test_a_quiet_poll_asks_for_little(
    alice: User, bob: User, read_only: Role, reading: Entitlement, active_request: AccessRequest
) -> None:
    """Everybody with this page open asks it four times a minute."""
    client = signed_in(bob)
    codes = [wish(alice, read_only, reading).code for _ in range(5)]
    client.get("/approvals/updates", {"shown": codes})

    assert queries(lambda: client.get("/approvals/updates", {"shown": codes})) <= 9


def test_updates_find_what_stays_behind_much_that_is_new(
    alice: User, bob: User, read_only: Role, reading: Entitlement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "MOST_SHOWN", 3)
    Entitlement.objects.filter(pk=reading.pk).update(pending_seconds=7200)
    stays, goes = (wish(alice, read_only, reading) for _ in range(2))
    Entitlement.objects.filter(pk=reading.pk).update(pending_seconds=3600)
    for _ in range(8):
        wish(alice, read_only, reading)  # more urgent
    workflow.withdraw(goes, by=alice)

    shown = page(signed_in(bob).get("/approvals/updates", {"shown": [stays.code, goes.code]}))

    assert rows(shown) == [goes.code]
    assert "4+ new" in shown.text


def test_many_rows_take_no_more_queries(alice: User, bob: User, read_only: Role, reading: Entitlement) -> None:
    client = signed_in(bob)

    def fill(number: int) -> list[str]:
        for _ in range(number):
            workflow.approve(wish(alice, read_only, reading), by=bob)
        return [wish(alice, read_only, reading).code for _ in range(number)]

    codes = fill(1)
    client.get("/approvals/")
    few = queries(lambda: client.get("/approvals/"))
    few_updates = queries(lambda: client.get("/approvals/updates", {"shown": codes}))
    codes += fill(35)

    assert queries(lambda: client.get("/approvals/")) == few
    assert queries(lambda: client.get("/approvals/updates", {"shown": codes})) == few_updates
    shown = page(client.get("/approvals/"))
    assert len(rows(shown)) == approvals.MOST_SHOWN
    assert "20+ wait for you" in shown.text


def test_show_more_goes_on_where_the_page_ends(alice: User, bob: User, read_only: Role, reading: Entitlement) -> None:
    client = signed_in(bob)
    codes = {wish(alice, read_only, reading).code for _ in range(approvals.MOST_SHOWN + 2)}
    first = page(client.get("/approvals/"))
    last = rows(first)[-1]
    second = page(client.get("/approvals/", {"after": last}))

    assert f"?after={last}" in {one.get("href") for one in first.all("a")}
    assert len(rows(second)) == 2
    assert {*rows(first), *rows(second)} == codes
    assert "Show more" not in second.text
    # What is on another page is not new.
    for shown, part in ((first, {"last": last}), (second, {"after": last})):
        assert page(client.get("/approvals/updates", {"shown": rows(shown), **part})).text == ""
    assert client.get("/approvals/", {"after": rows(second)[-1]})["Location"] == "/approvals/"
    assert len(rows(page(client.get("/approvals/", {"after": "nonsense"})))) == approvals.MOST_SHOWN


@pytest.fixture
def scheduled(alice: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    """From noon in Berlin, three days from now."""
    Entitlement.objects.filter(pk=staged.pk).update(schedule_ahead_seconds=7 * 86400)
    day = (clock.now() + timedelta(days=3)).astimezone(BERLIN)
    return wish(alice, administrator, staged, start="at_time", start_at=day.replace(hour=12, minute=0, second=0))


def test_an_approver_shortens_and_moves_by_their_own_clock(scheduled: AccessRequest, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(time_zone="America/Sao_Paulo")
    assert scheduled.scheduled_at
    later = (scheduled.scheduled_at + timedelta(hours=2, minutes=30)).astimezone(ZoneInfo("America/Sao_Paulo"))
    client, address = signed_in(bob), f"/requests/{scheduled.code}/approve"
    shown = {one.get("name"): one.get("value") for one in page(client.get(address)).all("input")}
    here = scheduled.scheduled_at.astimezone(later.tzinfo)
    assert (shown["start_date"], shown["start_time"]) == (f"{here:%Y-%m-%d}", f"{here:%H:%M}")

    client.post(address, {"shorter": "10", "start_date": f"{later:%Y-%m-%d}", "start_time": f"{later:%H:%M}"})
    made = AccessRequest.objects.get()
    assert (made.state, made.scheduled_at, made.approved_seconds) == (
        "approved",
        later.replace(second=0, microsecond=0),
        600,
    )


@pytest.mark.parametrize("seconds", [0, 17])
def test_what_is_left_as_it_was_changes_nothing(seconds: int, scheduled: AccessRequest, bob: User) -> None:
    """Even a start with seconds in it, which the page does not show."""
    assert scheduled.scheduled_at
    at = scheduled.scheduled_at + timedelta(seconds=seconds)
    one = wish(scheduled.beneficiary, scheduled.role, scheduled.entitlement, start="at_time", start_at=at)
    client, address = signed_in(bob), f"/requests/{one.code}/approve"
    shown = {field.get("name"): field.get("value") for field in page(client.get(address)).all("input")}
    names = ("start_date", "start_time", "shorter")
    client.post(address, {name: shown[name] or "" for name in names})

    one.refresh_from_db()
    assert (one.state, one.scheduled_at, one.approved_seconds) == ("approved", at, 1800)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"shorter": "31"}, "You can only shorten it"),
        ({"shorter": "0"}, "one minute at least"),
        ({"shorter": "soon"}, "Give whole minutes"),
        ({"start_time": "00:00"}, "only move the start later"),
        ({"start_date": "2099-01-01"}, "only move the start later"),
        ({"start_date": "2027-03-28", "start_time": "02:30"}, "There is no 02:30"),
        ({"start_date": ""}, "Give both"),
        ({"start_time": "noon"}, "Give the time as hours and minutes"),
    ],
)
def test_no_approver_gives_more_than_was_asked_for(
    typed: dict[str, str], said: str, scheduled: AccessRequest, bob: User
) -> None:
    User.objects.filter(pk=bob.pk).update(time_zone="Europe/Berlin")
    assert scheduled.scheduled_at
    here = scheduled.scheduled_at.astimezone(BERLIN)
    as_it_is = {"start_date": f"{here:%Y-%m-%d}", "start_time": f"{here:%H:%M}", "comment": "keep me"}
    response = signed_in(bob).post(f"/requests/{scheduled.code}/approve", as_it_is | typed)

    shown = page(response)
    assert response.status_code == 422
    assert said in shown.text
    assert "keep me" in response.content.decode()
    assert any("open" in one for one in shown.all("details") if one.get("class") == "fold field")
    scheduled.refresh_from_db()
    assert (scheduled.state, scheduled.scheduled_at, scheduled.duration_seconds) == ("pending", here, 1800)


def test_what_an_earlier_approver_changed_is_shown_to_the_next(
    alice: User, bob: User, carol: User, administrator: Role, engineers: Group, leads: Group
) -> None:
    two = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 2)])
    asked = wish(alice, administrator, two)
    signed_in(bob).post(f"/requests/{asked.code}/approve", {"shorter": "12"})

    client = signed_in(carol)
    for address in ("/approvals/", f"/requests/{asked.code}/approve", f"/requests/{asked.code}"):
        shown = page(client.get(address)).text.replace("\xa0", " ")
        assert "12 min (30 min was asked for)" in shown, address
    assert "Bob agreed" in page(client.get(f"/requests/{asked.code}")).text


def test_powerful_roles_are_refused_in_bulk_by_the_verb_too(pending_request: AccessRequest, bob: User) -> None:
    with pytest.raises(NotAllowed) as refusal:
        workflow.approve(pending_request, by=bob, in_bulk=True)

    assert refusal.value.rule == "decision.in_bulk"
    assert not Decision.objects.exists()


def test_an_approver_reads_that_the_start_is_over(
    alice: User, bob: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.update(schedule_ahead_seconds=7 * 86_400, pending_seconds=7 * 86_400)
    staged.refresh_from_db()
    with clock.moved(-timedelta(hours=2)):
        at = clock.now() + timedelta(hours=1)
        late = wish(alice, administrator, staged, start="at_time", start_at=at)
    client = signed_in(bob)
    said = "is over: the last approval starts it at once , whether Alice is there or not"
    for address in ("/approvals/", f"/requests/{late.code}/approve"):
        assert said in page(client.get(address)).text

    workflow.approve(late, by=bob, start_at=clock.now() + timedelta(hours=1))
    wish(alice, administrator, staged, start="at_time", start_at=clock.now() + timedelta(hours=1))
    assert "starts it at once" not in page(client.get("/approvals/")).text


def test_a_stage_that_names_people_and_no_group(
    alice: User, bob: User, carol: User, administrator: Role, engineers: Group
) -> None:
    by_name = factories.entitlement(administrator, groups=[engineers], stages=[([bob, carol], 1), (carol, 1)])
    approved, denied, waiting = (wish(alice, administrator, by_name) for _ in range(3))
    for who in (alice, bob, carol):
        for address in ("/", "/approvals/", "/requests/{}", "/requests/{}/approve", "/requests/{}/deny"):
            assert signed_in(who).get(address.format(waiting.code), follow=True).status_code == 200, address
    signed_in(bob).post(f"/requests/{approved.code}/approve", {"stage": "1"})
    signed_in(bob).post(f"/requests/{denied.code}/deny", {"stage": "1", "comment": "no"})

    approved.refresh_from_db()
    denied.refresh_from_db()
    assert (approved.stage, denied.state) == (2, State.DENIED)
    (dossier,) = dossiers.dossiers([waiting], clock.now())
    assert dossier.can_now == 2


@pytest.mark.parametrize("act", ["approve", "deny"])
@pytest.mark.parametrize("stage", [{"stage": "1"}, {"stage": "0"}, {"stage": "x"}, {}])
def test_what_waits_for_acceptance_and_for_nobodys_approval(
    act: str, stage: dict[str, str], alice: User, bob: User, olivia: User, leads: Group, automatic: Entitlement
) -> None:
    automatic.askers.add(leads)
    (role,) = automatic.roles.all()
    for_alice = wish(bob, role, automatic, beneficiary=alice)
    for who in (alice, bob, olivia):
        response = signed_in(who).post(f"/requests/{for_alice.code}/{act}", stage, follow=True)
        assert "Nobody" in page(response).text

    for_alice.refresh_from_db()
    assert for_alice.state == State.PENDING
