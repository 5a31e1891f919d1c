from typing import Any

import pytest

from requests_app.domain.models import AccessRequest, Account, Entitlement, Group, Role, User
from tests import factories
from tests.web.pages import page, signed_in
from tests.web.test_home import queries

pytestmark = pytest.mark.django_db


def typed(role: Role, entitlement: Entitlement, /, **values: Any) -> dict[str, Any]:
    return {
        "role": str(role.public_id),
        "entitlement": str(entitlement.pk),
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


def test_a_required_ticket_is_asked_for(alice: User, administrator: Role, staged: Entitlement) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(ticket="required")
    response = signed_in(alice).post("/request/", typed(administrator, staged, ticket=""))

    assert "A ticket is required here" in page(response).text


def test_a_role_that_is_not_mine_to_ask_for(mallory: User, administrator: Role, staged: Entitlement) -> None:
    response = signed_in(mallory).post("/request/", typed(administrator, staged))

    assert response.status_code == 422
    assert "You may not ask for this role" in page(response).text
    assert not AccessRequest.objects.exists()


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
