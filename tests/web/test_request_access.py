import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from requests_app.delivery.web import request_options
from requests_app.domain import clock, workflow
from requests_app.domain.models import AccessRequest, Account, Entitlement, Group, Membership, Role, User
from tests import factories
from tests.web.pages import page, signed_in
from tests.web.test_home import queries

pytestmark = pytest.mark.django_db


def typed(role: Role, entitlement: Entitlement, /, **values: Any) -> dict[str, Any]:
    return {
        "role": str(role.public_id),
        "entitlement": str(entitlement.public_id),
        "duration": "30",
        "start": "on_demand",
        "justification": "replay the failed settlement batch",
        "ticket": "INC-2291",
        **values,
    }


def test_asking_makes_a_request_and_shows_it(alice: User, administrator: Role, staged: Entitlement) -> None:
    response = signed_in(alice).post("/request/", typed(administrator, staged), follow=True)

    made = AccessRequest.objects.get()
    assert response.redirect_chain == [(f"/requests/{made.code}", 302)]
    assert "The people who decide have been told" in page(response).text
    assert (made.requester, made.role, made.duration_seconds, made.ticket) == (alice, administrator, 1800, "INC-2291")


def test_asking_looks_at_the_chosen_terms_alone(
    alice: User, administrator: Role, staged: Entitlement, engineers: Group, leads: Group
) -> None:
    client = signed_in(alice)
    client.post("/request/", typed(administrator, staged))
    with_one = queries(lambda: client.post("/request/", typed(administrator, staged)))
    for _ in range(6):
        factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1), (leads, 1)])
    assert queries(lambda: client.post("/request/", typed(administrator, staged))) == with_one <= 36

    # Where something is wrong, all are there to choose from, and what was chosen still is.
    shown = page(client.post("/request/", typed(administrator, staged, justification="short")))
    offered = [one for one in shown.all("input") if one.get("name") == "entitlement"]
    assert len(offered) == 7
    assert [one["value"] for one in offered if "checked" in one] == [str(staged.public_id)]


def test_automatic_terms_say_that_nobody_had_to_agree(alice: User, read_only: Role, automatic: Entitlement) -> None:
    response = signed_in(alice).post("/request/", typed(read_only, automatic), follow=True)
    assert "Nobody had to agree" in page(response).text

    response = signed_in(alice).post("/request/", typed(read_only, automatic, start="at_once"), follow=True)
    assert "Your pass is active" in page(response).text


def test_any_number_of_minutes_can_be_typed(alice: User, administrator: Role, staged: Entitlement) -> None:
    values = typed(administrator, staged, duration="other", duration_other="7")
    signed_in(alice).post("/request/", values)

    assert AccessRequest.objects.get().duration_seconds == 420


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"justification": ""}, "Say why you need it."),
        ({"justification": "short"}, "Write at least 10 characters"),
        ({"duration": "120"}, "Choose between 1 minute and 1 h."),
        ({"duration": ""}, "Choose how long."),
        ({"duration": "other", "duration_other": ""}, "Choose how long, or give the minutes."),
        ({"duration": "other", "duration_other": "-5"}, "greater than or equal to 1"),
        ({"duration": "other", "duration_other": "soon"}, "Give whole minutes"),
        ({"duration": "9" * 40}, "Choose how long"),
        ({"duration": "²"}, "Choose how long"),
        ({"entitlement": ""}, "Choose how to ask."),
        ({"entitlement": "999999"}, "Choose one of these."),
        ({"role": ""}, "Choose a role."),
        ({"role": "nonsense"}, "Choose a role from the list."),
        ({"justification": "a NUL \x00 in the middle of it"}, "Null characters are not allowed."),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_is_kept(
    wrong: dict[str, str], said: str, alice: User, administrator: Role, staged: Entitlement
) -> None:
    response = signed_in(alice).post("/request/", typed(administrator, staged, ticket="KEEP-1", **wrong))

    shown = page(response)
    assert response.status_code == 422
    assert "Not sent yet." in shown.text  # at the top, with a way to each mistake
    ids = {attributes.get("id") for _, attributes in shown.elements}
    assert all(str(one["href"])[1:] in ids for one in shown.all("a") if str(one.get("href")).startswith("#id_"))
    assert said in shown.text
    assert any(one.get("value") == "KEEP-1" for one in shown.all("input"))
    assert wrong.get("justification", "replay the failed settlement batch").strip("\n") in response.content.decode()
    assert not AccessRequest.objects.exists()


def test_nothing_else_that_is_posted_decides_anything(
    alice: User, mallory: User, administrator: Role, staged: Entitlement
) -> None:
    """Whoever asks chooses none of who decides, how long it is good for, or what became of it."""
    forged = {
        "requester": str(mallory.public_id), "stages": "[]", "stage": "0", "approval": "automatic", "state": "approved",
        "deciding_users": str(alice.pk), "approvers": str(alice.pk), "owners": "role", "terms_document": "{}",
        "decide_by": "2036-01-01", "expires_at": "2036-01-01", "approved_seconds": "86400", "longest_seconds": "86400",
        "accepted_at": "2026-01-01", "code": "DP-00000000", "pk": "1", "id": "1",
    }  # fmt: skip
    signed_in(alice).post("/request/", typed(administrator, staged))
    fair = AccessRequest.objects.get()
    signed_in(alice).post("/request/", typed(administrator, staged, **forged))
    made = AccessRequest.objects.exclude(pk=fair.pk).get()
    same = [
        *("requester", "beneficiary", "terms_document", "stage", "state", "deciding_users", "deciding_groups"),
        *("accepted_at", "approved_seconds", "expires_at", "duration_seconds"),
    ]
    assert [getattr(made, name) for name in same] == [getattr(fair, name) for name in same]
    assert made.code != "DP-00000000"
    assert made.decide_by - made.asked_at == fair.decide_by - fair.asked_at


def test_terms_are_not_called_by_their_number(alice: User, administrator: Role, staged: Entitlement) -> None:
    client = signed_in(alice)
    response = client.post("/request/", typed(administrator, staged, entitlement=str(staged.pk)))
    assert "Choose one of these." in page(response).text
    assert not AccessRequest.objects.exists()

    shown = page(client.get(f"/request/?role={administrator.public_id}"))
    offered = [one["value"] for one in shown.all("input") if one.get("name") == "entitlement"]
    assert offered == [str(staged.public_id)]


def test_a_required_ticket_is_asked_for(alice: User, administrator: Role, staged: Entitlement) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(ticket="required")
    response = signed_in(alice).post("/request/", typed(administrator, staged, ticket=""))

    assert "A ticket is required here" in page(response).text


def test_a_role_that_is_not_mine_to_ask_for(mallory: User, administrator: Role, staged: Entitlement) -> None:
    response = signed_in(mallory).post("/request/", typed(administrator, staged))

    assert response.status_code == 422
    assert "You may not ask for this role" in page(response).text
    assert not AccessRequest.objects.exists()


def test_someone_who_is_excluded_reads_so_and_nobody_else_does(
    alice: User, mallory: User, administrator: Role, staged: Entitlement, security: Group
) -> None:
    staged.excluded_groups.add(security)
    Membership.objects.create(group=security, user=alice)
    client, address = signed_in(alice), f"/request/?role={administrator.public_id}"
    said = page(client.get(address)).text
    assert "These terms exclude you" in said
    assert "ask an operator" in said
    for secret in (security.name, staged.name):
        assert secret not in said
    response = client.post("/request/", typed(administrator, staged))
    assert page(response).text.count("These terms exclude you") == 2  # above, and beside the field
    assert "exclude" not in page(signed_in(mallory).get(address)).text
    assert not AccessRequest.objects.exists()

    # Who may ask for others comes further, and reads the same of themselves.
    staged.askers.add(security)
    shown = page(client.get(address)).text
    assert "These terms exclude you" in shown
    assert "for others, not for yourself" in shown


def test_terms_that_nobody_could_decide_are_refused_aloud(alice: User, administrator: Role, engineers: Group) -> None:
    empty = factories.entitlement(administrator, groups=[engineers], stages=[(factories.group("Nobody"), 1)])
    client = signed_in(alice)

    assert "too few can at the moment" in page(client.get(f"/request/?role={administrator.public_id}")).text
    assert "Too few people could decide" in page(client.post("/request/", typed(administrator, empty))).text


def test_a_link_fills_the_form_in(alice: User, administrator: Role, staged: Entitlement) -> None:
    address = f"/request/?role={administrator.public_id}&duration=45&ticket=INC-7&justification=look+at+the+ledger"
    shown = page(signed_in(alice).get(address))

    assert "look at the ledger" in shown.text
    assert any(one.get("name") == "ticket" and one.get("value") == "INC-7" for one in shown.all("input"))
    chosen = [one for one in shown.all("input") if one.get("name") == "duration" and "checked" in one]
    assert [one["value"] for one in chosen] == ["other"]
    assert any(one.get("name") == "duration_other" and one.get("value") == "45" for one in shown.all("input"))


def test_ask_again_fills_in_what_was_asked_before(pending_request: AccessRequest, alice: User, mallory: User) -> None:
    shown = page(signed_in(alice).get(f"/request/?again={pending_request.code}"))
    assert pending_request.justification in shown.text

    shown = page(signed_in(mallory).get(f"/request/?again={pending_request.code}"))
    assert pending_request.justification not in shown.text


@pytest.mark.parametrize("words", ["administrator", "pay admin", "2222-2222-2222", "222222222222", "PAYMENTS", "2222"])
def test_roles_are_found_by_any_of_their_names(
    words: str, alice: User, administrator: Role, read_only: Role, staged: Entitlement
) -> None:
    shown = page(signed_in(alice).get("/request/roles", {"q": words}))

    assert "Administrator in payments-prod" in shown.text
    assert "ReadOnly" not in shown.text  # nothing entitles her to it


@pytest.mark.parametrize("words", ["%", "_", "\\", "'; drop table", "(", "漢字", "a" * 500])
def test_strange_words_find_nothing_and_break_nothing(
    words: str, alice: User, administrator: Role, staged: Entitlement
) -> None:
    response = signed_in(alice).get("/request/roles", {"q": words})

    assert response.status_code == 200
    assert "Administrator" not in page(response).text


def test_unusable_roles_are_not_found(alice: User, administrator: Role, staged: Entitlement, payments: Account) -> None:
    Account.objects.filter(pk=payments.pk).update(is_active=False)
    assert "Administrator" not in page(signed_in(alice).get("/request/roles?q=admin")).text


def test_many_roles_are_found_in_as_many_queries(alice: User, payments: Account, engineers: Group) -> None:
    entitlement = factories.entitlement(factories.role("Admin0", payments), groups=[engineers])
    client = signed_in(alice)
    client.get("/request/roles?q=admin")
    few = queries(lambda: client.get("/request/roles?q=admin"))
    entitlement.roles.add(*[factories.role(f"Admin{number}", payments) for number in range(1, 40)])
    shown: list[Any] = []
    many = queries(lambda: shown.append(client.get("/request/roles?q=admin")))

    assert many == few
    assert len(page(shown[0]).all("li")) == 12


def test_many_terms_take_no_more_queries(alice: User, administrator: Role, engineers: Group, leads: Group) -> None:
    for _ in range(2):  # of one there is nothing to put in order
        factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1)])
    client = signed_in(alice)
    address = f"/request/terms?role={administrator.public_id}"
    client.get(address)
    few = queries(lambda: client.get(address))
    for number in range(6):
        asked = factories.group(f"group {number}")
        factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1), (asked, 1)])

    assert queries(lambda: client.get(address)) == few


def test_steps_reach_to_the_longest_of_the_terms(alice: User, administrator: Role, staged: Entitlement) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(longest_seconds=2700)
    shown = page(signed_in(alice).get(f"/request/?role={administrator.public_id}"))

    offered = [one["value"] for one in shown.all("input") if one.get("name") == "duration"]
    assert offered == ["15", "30", "45", "other"]


def outlook(client: Any, role: Role, entitlement: Entitlement, /, **values: Any) -> str:
    values = {"role": str(role.public_id), "entitlement": str(entitlement.public_id), "duration": "30", **values}
    return page(client.get("/request/outlook", values)).text.replace("\xa0", " ")


def zone_where_it_is(hour: int) -> str:
    """A zone whose clock shows this hour now."""
    east = (hour - clock.now().hour) % 24
    return f"Etc/GMT-{east}" if east <= 12 else f"Etc/GMT+{24 - east}"


def test_each_way_to_ask_is_said_in_plain_words_the_least_demanding_first(
    alice: User, administrator: Role, engineers: Group, leads: Group, security: Group
) -> None:
    def make(name: str, *stages: tuple[Group, int], **values: Any) -> None:
        factories.entitlement(administrator, groups=[engineers], stages=stages, name=name, **values)

    make("A", (leads, 2), (security, 1), longest_seconds=8 * 3600, extensions_most=1, extension_total_seconds=9 * 3600)
    make("B", (leads, 1), channels="keys")
    make("C", longest_seconds=900, narrowing_policy_arns=["arn:aws:iam::aws:policy/ReadOnlyAccess"])
    make("D", (leads, 2), hours_days=[1, 2, 3], hours_begin="08:00", hours_end="18:00", hours_zone="Europe/Berlin")
    shown = page(signed_in(alice).get(f"/request/?role={administrator.public_id}")).text.replace("\xa0", " ")

    said = [
        "up to 15 min , automatic · narrowed · C",
        "up to 1 h , approval from Payments leads · keys only · B",
        "up to 1 h , two approvals from Payments leads · Mon–Wed 08:00–18:00 Europe/Berlin · D",
        "up to 8 h , two approvals from Payments leads, then one from Security · may be extended, to 9 h in all · A",
    ]
    places = [shown.find(words) for words in said]
    assert -1 not in places
    assert places == sorted(places)


def test_however_many_terms_there_are_the_least_demanding_is_offered(
    alice: User, read_only: Role, engineers: Group, leads: Group, bob: User
) -> None:
    for _ in range(request_options.MOST_CHOICES):
        factories.entitlement(read_only, groups=[engineers], stages=[(leads, 1)])
    longer = factories.entitlement(read_only, groups=[engineers], stages=[(leads, 1)], longest_seconds=7200)
    automatic = factories.entitlement(read_only, groups=[engineers])

    found = [choice.entitlement for choice in request_options.choices(alice, read_only)]
    assert found[:2] == [automatic, longer]
    assert len(found) == request_options.MOST_CHOICES


def test_terms_that_would_refuse_are_offered_last(
    alice: User, read_only: Role, engineers: Group, leads: Group, bob: User, carol: User, security: Group
) -> None:
    def make(name: str, *stages: tuple[Group, int], **values: Any) -> Entitlement:
        return factories.entitlement(read_only, groups=[engineers], stages=stages, name=name, **values)

    make("nobody", (factories.group("Nobody"), 1))
    make("does not fit", narrowing_policy_arns=["arn:aws:iam::999999999999:policy/Other"])
    factories.wish(alice, read_only, make("used up", most_at_once=1))
    workflow.own_edits.note(make("own edit"), by=alice, change={})
    too_late = make("further ones too late", (factories.group("Away"), 1), pending_seconds=3600)
    too_late.stages.update(escalate_seconds=7200)
    too_late.stages.get().more_groups.add(security)
    in_time = make("further ones in time", (factories.group("Off"), 1))
    in_time.stages.update(escalate_seconds=3600)
    in_time.stages.get().more_groups.add(security)
    make("works", (leads, 2))

    shown = page(signed_in(alice).get(f"/request/?role={read_only.public_id}"))
    chosen = [one["value"] for one in shown.all("input") if one.get("name") == "entitlement" and "checked" in one]
    assert chosen == [str(in_time.public_id)]
    assert "would be refused" not in shown.text
    assert [choice.entitlement.name for choice in request_options.choices(alice, read_only)[:2]] == [
        *("further ones in time", "works"),
    ]


def test_the_usual_duration_of_the_first_choice_is_offered(
    alice: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(default_seconds=1500)
    shown = page(signed_in(alice).get(f"/request/?role={administrator.public_id}"))

    chosen = [one["value"] for one in shown.all("input") if one.get("name") == "duration" and "checked" in one]
    assert chosen == ["25"]


def test_a_start_is_typed_by_ones_own_clock(alice: User, administrator: Role, staged: Entitlement) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(schedule_ahead_seconds=7 * 86400)
    User.objects.filter(pk=alice.pk).update(time_zone="Asia/Kathmandu")
    day = (clock.now() + timedelta(days=3)).date()
    at = {"start": "at_time", "start_date": day.isoformat(), "start_time": "08:00"}
    signed_in(alice).post("/request/", typed(administrator, staged, **at))

    made = AccessRequest.objects.get()
    assert made.scheduled_at == datetime(day.year, day.month, day.day, 8, tzinfo=ZoneInfo("Asia/Kathmandu"))
    assert made.scheduled_at == datetime(day.year, day.month, day.day, 2, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("date", "time", "said"),
    [
        ("2027-03-28", "02:30", "There is no 02:30 on 28 Mar 2027"),
        ("2026-10-25", "02:30", "comes twice"),
        ("", "08:00", "Say when it is to start"),
        ("2027-03-28", "", "Say when it is to start"),
        ("28.3.2027", "08:00", "Give the date as year, month, day"),
        ("2027-03-29", "8 Uhr", "Give the time as hours and minutes"),
        ("9999-12-31", "23:59", "nearer"),
        ("2020-01-01", "08:00", "Choose a time from now on"),
        ("2099-01-01", "08:00", "at most 7 days ahead"),
    ],
)
def test_a_start_that_cannot_be_is_refused_and_kept(
    date: str, time: str, said: str, alice: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(schedule_ahead_seconds=7 * 86400)
    User.objects.filter(pk=alice.pk).update(time_zone="Europe/Berlin")
    at = {"start": "at_time", "start_date": date, "start_time": time}
    response = signed_in(alice).post("/request/", typed(administrator, staged, **at))

    shown = page(response)
    assert response.status_code == 422
    assert said in shown.text
    kept = {one.get("name"): one.get("value") for one in shown.all("input")}
    assert (kept["start_date"], kept["start_time"]) == (date, time)
    ids = {attributes.get("id") for _, attributes in shown.elements}
    assert all(str(one["href"])[1:] in ids for one in shown.all("a") if str(one.get("href")).startswith("#id_"))
    assert not AccessRequest.objects.exists()
    # The dry run takes the same typing without falling over.
    assert outlook(signed_in(alice), administrator, staged, **at)


def test_a_start_at_a_time_is_offered_only_where_terms_know_it(
    alice: User, administrator: Role, staged: Entitlement
) -> None:
    client = signed_in(alice)
    assert "at a time" not in page(client.get(f"/request/?role={administrator.public_id}")).text

    tomorrow = (clock.now() + timedelta(days=1)).date().isoformat()
    values = typed(administrator, staged, start="at_time", start_date=tomorrow, start_time="08:00")
    assert "These terms know no scheduled start." in page(client.post("/request/", values)).text


def test_a_ticket_is_asked_for_and_hinted_at_only_where_terms_do(
    alice: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(ticket_pattern="INC-[0-9]+", justification_min=25)
    client = signed_in(alice)
    shown = page(client.get(f"/request/?role={administrator.public_id}")).text
    assert "Of the form INC-[0-9]+ ." in shown
    assert "At least 25 characters." in shown

    Entitlement.objects.filter(pk=staged.pk).update(ticket="none", justification_min=5)
    assert "Ticket" not in page(client.get(f"/request/?role={administrator.public_id}")).text
    client.post("/request/", typed(administrator, staged, ticket="typed for others"))
    assert AccessRequest.objects.get().ticket == ""


def test_the_dry_run_says_who_decides_and_when_it_would_end(
    alice: User, bob: User, administrator: Role, staged: Entitlement
) -> None:
    for _ in range(3):
        workflow.approve(factories.wish(alice, administrator, staged), by=bob)
    said = outlook(signed_in(alice), administrator, staged)

    assert "For Payments leads to decide; 2 can now." in said
    assert "Usually takes less than a minute." in said
    end = clock.now() + timedelta(minutes=30)
    either = f"{end:%H:%M}|{end - timedelta(minutes=1):%H:%M}"
    assert re.search(f"it would end (tomorrow )?({either})", said)


def test_the_dry_run_counts_as_the_rules_do(
    alice: User, bob: User, carol: User, administrator: Role, staged: Entitlement, leads: Group
) -> None:
    client = signed_in(alice)
    factories.person("gone", leads, deactivated_at=clock.now())
    workflow.own_edits.note(staged, by=carol, change={})
    assert "1 can now." in outlook(client, administrator, staged)  # Carol's own edit takes her out

    workflow.own_edits.note(leads, by=bob, change={})
    said = outlook(client, administrator, staged)
    assert "too few can at the moment" in said
    assert "This would be refused. Too few people could decide stage 1" in said


def test_ones_own_edit_is_refused_beforehand_and_when_asked(
    alice: User, administrator: Role, staged: Entitlement
) -> None:
    workflow.own_edits.note(staged, by=alice, change={})
    client = signed_in(alice)
    assert "This would be refused. You changed these rules yourself" in outlook(client, administrator, staged)

    response = client.post("/request/", typed(administrator, staged))
    assert response.status_code == 422
    assert "You changed these rules yourself" in page(response).text
    assert "replay the failed settlement batch" in response.content.decode()


@pytest.mark.parametrize(
    ("wish", "terms", "said"),
    [
        ({"duration": "other", "duration_other": "600"}, {}, "Choose between 1 minute and 1 h."),
        ({"at": -timedelta(days=1)}, {}, "Choose a time from now on, at most 7 days ahead."),
        ({"at": timedelta(days=8)}, {}, "Choose a time from now on, at most 7 days ahead."),
        ({"at": timedelta(days=1)}, {"closed_on_that_day": True}, "Choose a time within."),
        ({"at": timedelta(days=1)}, {"schedule_ahead_seconds": 0}, "These terms know no scheduled start."),
        ({}, {"open": True}, "You already have 1 open requests or passes for this role."),
    ],
    ids=["too long", "over", "too far ahead", "outside the hours", "never at a time", "too many"],
)
def test_the_dry_run_promises_nothing_that_is_refused(
    wish: dict[str, Any],
    terms: dict[str, Any],
    said: str,
    alice: User,
    administrator: Role,
    staged: Entitlement,
    settings: Any,
) -> None:
    wish, terms = {**wish}, {"schedule_ahead_seconds": 7 * 86400, **terms}
    settings.OPEN_REQUESTS_PER_PERSON_AND_ROLE = 1
    if at := wish.pop("at", None):
        at += clock.now()
        wish |= {"start": "at_time", "start_date": f"{at:%Y-%m-%d}", "start_time": f"{at:%H:%M}"}
    if terms.pop("closed_on_that_day", None):
        terms |= {"hours_days": [at.isoweekday() % 7 + 1], "hours_begin": "09:00", "hours_end": "10:00"}
    if terms.pop("open", None):
        factories.wish(alice, administrator, staged)
    Entitlement.objects.filter(pk=staged.pk).update(**terms)
    before, client = AccessRequest.objects.count(), signed_in(alice)

    dry = outlook(client, administrator, staged, **wish)
    assert "This would be refused." in dry
    assert said in dry
    assert not re.search("it begins|it would end", dry)
    linked = {"role": str(administrator.public_id), "entitlement": str(staged.public_id), **wish}
    assert said in page(client.get("/request/", linked)).text
    assert said in page(client.post("/request/", typed(administrator, staged, **wish))).text
    assert AccessRequest.objects.count() == before


def test_terms_that_changed_since_they_were_read_are_shown_before_anything_is_sent(
    alice: User, read_only: Role, automatic: Entitlement
) -> None:
    client = signed_in(alice)
    address = f"/request/?role={read_only.public_id}"

    def seen() -> dict[str, Any]:
        inputs = page(client.get(address)).all("input")
        return {str(one["name"]): one["value"] for one in inputs if str(one.get("name")).startswith("seen-")}

    shown = seen()
    Entitlement.objects.filter(pk=automatic.pk).update(
        revision=2, longest_seconds=1800, lifted=["assume-role"], hours_days=[1], hours_begin="09:00", hours_end="10:00"
    )
    response = client.post("/request/", typed(read_only, automatic, ticket="KEEP-1", **shown))
    said = page(response).text.replace("\xa0", " ")
    assert response.status_code == 422
    assert "“Payments, reading” changed while you had this page open." in said
    assert "It said: Up to 1 h, automatic." in said
    assert "It says now: Up to 30 min, automatic, Mon 09:00–10:00 UTC. May assume further roles" in said
    assert "A ticket may be given." not in said  # that is as it was
    kept = {one.get("name"): one.get("value") for one in page(response).all("input")}
    assert kept["ticket"] == "KEEP-1"
    assert "replay the failed settlement batch" in response.content.decode()
    assert not AccessRequest.objects.exists()

    again = {str(name): value for name, value in kept.items() if str(name).startswith("seen-")}
    assert client.post("/request/", typed(read_only, automatic, **again)).status_code == 302
    assert AccessRequest.objects.get().terms.revision == 2


def test_a_change_that_the_words_do_not_show_is_told_too(alice: User, read_only: Role, automatic: Entitlement) -> None:
    seen = {f"seen-{automatic.public_id}": str(request_options.Seen.of(request_options.choices(alice, read_only)[0]))}
    Entitlement.objects.filter(pk=automatic.pk).update(revision=2, session_ceiling_seconds=7200)
    response = signed_in(alice).post("/request/", typed(read_only, automatic, **seen))

    assert "in details that this page does not show" in page(response).text
    assert not AccessRequest.objects.exists()


@pytest.mark.parametrize("seen", ["", "[]", "[1]", "{", "7", '["x", []]', "[1, 2]", "null", '[1, ["<b>"]]'])
def test_what_no_page_has_sent_does_no_harm(seen: str, alice: User, read_only: Role, automatic: Entitlement) -> None:
    values = typed(read_only, automatic, **{f"seen-{automatic.public_id}": seen})
    assert signed_in(alice).post("/request/", values).status_code == 302


def test_night_is_said_where_most_approvers_have_it(
    alice: User, bob: User, carol: User, administrator: Role, staged: Entitlement
) -> None:
    User.objects.filter(pk__in=[bob.pk, carol.pk]).update(time_zone=zone_where_it_is(14))
    client = signed_in(alice)
    assert "night" not in outlook(client, administrator, staged)

    User.objects.filter(pk=bob.pk).update(time_zone=zone_where_it_is(3))
    assert "night" not in outlook(client, administrator, staged)  # one of two is not most
    User.objects.filter(pk=carol.pk).update(time_zone=zone_where_it_is(3))
    assert "For all of them it is night now." in outlook(client, administrator, staged)
    User.objects.filter(pk=carol.pk).update(time_zone="Mars/Olympus")
    assert "2 can now." in outlook(client, administrator, staged)


def test_hours_that_end_it_earlier_or_begin_it_later_are_said(
    alice: User, administrator: Role, staged: Entitlement
) -> None:
    def hold(begin: timedelta, end: timedelta) -> str:
        now = clock.now()
        Entitlement.objects.filter(pk=staged.pk).update(
            hours_days=[1, 2, 3, 4, 5, 6, 7], hours_begin=(now + begin).time(), hours_end=(now + end).time()
        )
        return outlook(signed_in(alice), administrator, staged, duration="60")

    assert "when the hours end" not in hold(-timedelta(hours=1), timedelta(hours=3))
    assert "when the hours end" in hold(-timedelta(hours=1), timedelta(minutes=20))
    said = hold(timedelta(hours=2), timedelta(hours=5))
    assert (
        f"it can start from {'tomorrow ' if clock.now().hour >= 22 else ''}{clock.now() + timedelta(hours=2):%H:%M}"
        in said
    )
    assert "Started then, it would end" in said


@pytest.mark.parametrize(
    "values", [{"entitlement": "\0"}, {"duration": "9" * 30}, {"duration": "-5"}, {"start": "x"}, {"beneficiary": "x"}]
)
def test_the_dry_run_takes_anything(
    values: dict[str, str], alice: User, administrator: Role, staged: Entitlement
) -> None:
    said = outlook(signed_in(alice), administrator, staged, **values)
    assert "For Payments leads to decide" in said
    assert "it would end" in said


def test_the_dry_run_tells_nothing_about_roles_that_are_not_mine(
    mallory: User, administrator: Role, staged: Entitlement
) -> None:
    client = signed_in(mallory)
    assert outlook(client, administrator, staged) == ""
    for role in ("x", "", "0" * 8 + "-0000-4000-8000-" + "0" * 12):
        assert outlook(client, administrator, staged, role=role) == ""


@pytest.fixture
def asked_by_leads(staged: Entitlement, leads: Group) -> Entitlement:
    staged.askers.add(leads)
    return staged


def found(client: Any, role: Role, words: str) -> list[str]:
    shown = page(client.get("/request/people", {"role": str(role.public_id), "person": words}))
    return [shown.text] if shown.all("a") else []


def test_only_people_whom_the_terms_reach_are_found(
    alice: User, bob: User, mallory: User, engineers: Group, administrator: Role, asked_by_leads: Entitlement
) -> None:
    for name in ("alice2", "alice3"):
        factories.person(name, engineers)
    User.objects.filter(username="alice3").update(deactivated_at=clock.now())
    asked_by_leads.excluded_users.add(User.objects.get(username="alice2"))
    asked_by_leads.excluded_groups.add(factories.group("Leavers", factories.person("alice4", engineers)))
    asked_by_leads.users.add(factories.person("niki"))
    factories.person("alicia")
    client = signed_in(bob)

    assert found(client, administrator, "ali") == ["Alice alice@example.com"]
    assert found(client, administrator, "niki") == ["Niki niki@example.com"]
    assert found(client, administrator, "ice EXAMPLE") == ["Alice alice@example.com"]
    for words in ("al", "", "%%%", "alicia", "mallory", "bob"):
        assert found(client, administrator, words) == [], words
    # Whoever may not ask for others finds nobody, and is not offered to look.
    assert found(signed_in(alice), administrator, "bob") == []
    assert "somebody else" not in page(signed_in(alice).get(f"/request/?role={administrator.public_id}")).text


def test_many_people_are_found_in_as_many_queries(
    bob: User, alice: User, engineers: Group, administrator: Role, asked_by_leads: Entitlement
) -> None:
    client = signed_in(bob)
    address = f"/request/people?role={administrator.public_id}&person=example"
    client.get(address)
    few = queries(lambda: client.get(address))
    for number in range(12):
        factories.person(f"person{number}", engineers)

    assert queries(lambda: client.get(address)) == few
    assert len(page(client.get(address)).all("a")) == 8


def test_asking_for_somebody_else_waits_for_them(
    alice: User, bob: User, administrator: Role, asked_by_leads: Entitlement
) -> None:
    values = typed(administrator, asked_by_leads, beneficiary=str(alice.public_id))
    response = signed_in(bob).post("/request/", values, follow=True)

    made = AccessRequest.objects.get()
    assert (made.requester, made.beneficiary) == (bob, alice)
    assert "Asked for Alice, who is told and must accept it first." in page(response).text


@pytest.mark.parametrize("whom", ["mallory", "bob", "nobody", "nonsense"])
def test_nobody_is_asked_for_whom_the_terms_do_not_reach(
    whom: str, alice: User, bob: User, mallory: User, administrator: Role, asked_by_leads: Entitlement
) -> None:
    ids = {"mallory": mallory.public_id, "bob": bob.public_id, "nobody": "0" * 8 + "-0000-4000-8000-" + "0" * 12}
    values = typed(administrator, asked_by_leads, beneficiary=str(ids.get(whom, whom)))
    response = signed_in(bob).post("/request/", values)

    assert response.status_code == 422
    assert "replay the failed settlement batch" in response.content.decode()
    assert not AccessRequest.objects.exists()


def test_who_is_not_named_asks_for_nobody_else(
    alice: User, engineers: Group, administrator: Role, staged: Entitlement
) -> None:
    other = factories.person("erin", engineers)
    response = signed_in(alice).post("/request/", typed(administrator, staged, beneficiary=str(other.public_id)))

    assert response.status_code == 422
    assert "You may not ask for this role for this person." in page(response).text
    assert not AccessRequest.objects.exists()


def test_asking_again_for_another_names_them(
    alice: User, bob: User, administrator: Role, asked_by_leads: Entitlement
) -> None:
    earlier = factories.wish(bob, administrator, asked_by_leads, beneficiary=alice)
    hidden = {one.get("value") for one in page(signed_in(bob).get(f"/request/?again={earlier.code}")).all("input")}

    assert str(alice.public_id) in hidden
