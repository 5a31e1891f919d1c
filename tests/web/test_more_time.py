"""Asking for more time, and deciding about it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from requests_app.domain import clock, workflow
from requests_app.domain.models import AccessRequest, Decision, Entitlement, Extension, IssuedSession, Role, User
from tests import factories
from tests.web.minting import seal
from tests.web.pages import page, signed_in
from tests.web.test_access_request import acts, shown_to
from tests.web.test_home import queries

pytestmark = pytest.mark.django_db

WHY = "the batch is slower than we thought"


@pytest.fixture
def running(alice: User, bob: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    """Active for 30 minutes, under terms that know two extensions, to 90 minutes in all."""
    Entitlement.objects.filter(pk=staged.pk).update(extensions_most=2, extension_total_seconds=5400)
    return start(alice, bob, administrator, staged)


def start(alice: User, bob: User, role: Role, entitlement: Entitlement) -> AccessRequest:
    made = factories.wish(alice, role, entitlement)
    workflow.approve(made, by=bob)
    made.refresh_from_db()
    return workflow.start(made, by=alice)


def extend(access_request: AccessRequest, minutes: int = 30) -> Extension:
    return workflow.extend(
        access_request, by=access_request.beneficiary, duration=timedelta(minutes=minutes), justification=WHY
    )


def test_it_is_offered_where_the_terms_know_it_and_only_to_whom_it_is_for(
    running: AccessRequest, active_request: AccessRequest, alice: User, bob: User
) -> None:
    assert "extend" in acts(shown_to(alice, running))
    assert "extend" not in acts(shown_to(bob, running))
    # Asked for before the terms knew extensions: a request follows its own terms.
    Entitlement.objects.filter(pk=active_request.entitlement_id).update(extensions_most=0)
    later = start(alice, bob, active_request.role, active_request.entitlement)
    assert "extend" not in acts(shown_to(alice, later))
    home = page(signed_in(alice).get("/"))
    offered = {str(one.get("href")) for one in home.all("a") if str(one.get("href")).endswith("/extend")}
    assert f"/requests/{running.code}/extend" in offered
    assert f"/requests/{later.code}/extend" not in offered


def test_what_is_possible_stands_there_and_what_is_not_is_refused_and_kept(running: AccessRequest, alice: User) -> None:
    client, address = signed_in(alice), f"/requests/{running.code}/extend"
    shown = page(client.get(address))
    assert "at most 1 h more: approval from Payments leads" in shown.text.replace("\xa0", " ")
    offered = [one["value"] for one in shown.all("input") if one.get("name") == "duration"]
    assert offered == ["15", "30", "60", "other"]

    response = client.post(address, {"duration": "other", "duration_other": "61", "justification": WHY})
    assert response.status_code == 422
    assert "The terms allow this pass at most 60 min more." in page(response).text
    assert WHY in response.content.decode()
    assert page(client.post(address, {"duration": "15", "justification": "x"})).text.count("10 to 2,000") == 1
    assert not Extension.objects.exists()


def test_asking_waits_and_can_be_taken_back(running: AccessRequest, alice: User, bob: User) -> None:
    client = signed_in(alice)
    address = f"/requests/{running.code}/extend"
    response = client.post(address, {"duration": "30", "justification": WHY}, follow=True)
    shown = page(response)
    assert "Asked for more time." in shown.text
    assert "0 of Payments leads agreed; 2 people can decide now" in shown.text
    assert "more asked for" in page(client.get("/")).text
    assert "extend" not in acts(shown)
    assert "waits for a decision" in page(client.get(address, follow=True)).text

    extension = Extension.objects.get()
    take_back = f"/requests/{running.code}/extensions/{extension.public_id}/withdraw"
    assert "Only the person who asked can take it back." in page(signed_in(bob).post(take_back, follow=True)).text
    assert "Taken back." in page(client.post(take_back, follow=True)).text
    extension.refresh_from_db()
    assert extension.state == "withdrawn"


def test_automatic_terms_give_it_at_once(alice: User, read_only: Role, automatic: Entitlement) -> None:
    Entitlement.objects.filter(pk=automatic.pk).update(extensions_most=1, extension_total_seconds=3600)
    made = workflow.start(factories.wish(alice, read_only, automatic), by=alice)
    address = f"/requests/{made.code}/extend"
    response = signed_in(alice).post(address, {"duration": "30", "justification": WHY}, follow=True)

    assert "Your pass is longer." in page(response).text
    assert "and 30 min more" in page(response).text.replace("\xa0", " ")


def test_keys_from_before_keep_their_end_and_the_page_says_so(
    running: AccessRequest, alice: User, bob: User, aws_clock: Any
) -> None:
    wanted = factories.delivery(running)
    seal(wanted)
    session = IssuedSession.objects.get(delivery=wanted)  # cut off when the pass would have ended
    words = "get new ones for the time until"
    assert words not in shown_to(alice, running).text

    workflow.approve_extension(extend(running), by=bob)
    for text in (shown_to(alice, running).text, page(signed_in(alice).get("/")).text):
        assert f"Keys you have work until {session.cut_off:%H:%M} ; {words}" in text
    assert words not in shown_to(bob, running).text


def test_it_stands_among_what_waits_as_another_thing(running: AccessRequest, alice: User, bob: User) -> None:
    factories.wish(alice, running.role, running.entitlement)
    extend(running)
    client = signed_in(bob)
    shown = page(client.get("/approvals/"))

    assert "More time for running passes" in shown.text
    assert "Alice asks for 30 min more , until" in shown.text.replace("\xa0", " ")
    assert "2 wait for you" in shown.text
    assert "2 waiting for you" in page(client.get("/")).text
    assert page(signed_in(alice).get("/approvals/")).text.count("Nothing waits for you.") == 1


def test_deciding_names_who_what_and_until_when(running: AccessRequest, bob: User) -> None:
    extension = extend(running)
    client, address = signed_in(bob), f"/requests/{running.code}/extensions/{extension.public_id}"
    for act in ("approve", "deny"):
        shown = page(client.post(f"{address}/{act}", {"look": "yes", "comment": "as discussed"})).text.replace(
            "\xa0", " "
        )
        for words in ("Alice", "Administrator", "2222-2222-2222", "30 min more", WHY, "as discussed"):
            assert words in shown
    assert not Decision.objects.filter(extension=extension).exists()

    end = running.expires_at
    assert end is not None
    response = client.post(f"{address}/approve", {"comment": " go on "}, follow=True)
    assert "You approved more time for Alice's pass." in page(response).text
    running.refresh_from_db()
    assert running.expires_at == end + timedelta(minutes=30)
    assert Decision.objects.get(extension=extension).comment == "go on"


def test_a_denial_leaves_the_end_where_it_was(running: AccessRequest, bob: User) -> None:
    extension, end = extend(running), running.expires_at
    signed_in(bob).post(f"/requests/{running.code}/extensions/{extension.public_id}/deny", {"comment": "give it back"})

    running.refresh_from_db()
    extension.refresh_from_db()
    assert (running.expires_at, extension.state) == (end, "denied")


def test_what_was_looked_at_is_what_is_decided(running: AccessRequest, alice: User, bob: User) -> None:
    seen = extend(running, minutes=5)
    workflow.withdraw_extension(seen, by=alice)
    longer = extend(running, minutes=60)
    address = f"/requests/{running.code}/extensions/{seen.public_id}/approve"
    client = signed_in(bob)

    for response in (client.post(address, follow=True), client.get(address, follow=True)):
        assert "decided in the meantime" in page(response).text
    longer.refresh_from_db()
    assert longer.state == "pending"


def test_strangers_and_the_asking_side_decide_nothing(
    running: AccessRequest, alice: User, mallory: User, active_request: AccessRequest
) -> None:
    extension = extend(running)
    for act in ("approve", "deny", "withdraw"):
        address = f"/requests/{running.code}/extensions/{extension.public_id}/{act}"
        assert signed_in(mallory).post(address).status_code == 404
        # Neither by another request's code, nor by its number.
        wrong = f"/requests/{active_request.code}/extensions/{extension.public_id}/{act}"
        assert signed_in(alice).post(wrong).status_code == 404
        assert signed_in(alice).post(f"/requests/{running.code}/extensions/{extension.pk}/{act}").status_code == 404
    response = signed_in(alice).post(f"/requests/{running.code}/extensions/{extension.public_id}/approve", follow=True)
    assert "Nobody decides on a request they made" in page(response).text
    extension.refresh_from_db()
    assert extension.state == "pending"


def test_polling_knows_what_is_new_and_what_is_over(
    running: AccessRequest, alice: User, bob: User, carol: User
) -> None:
    client, first = signed_in(bob), extend(running)
    assert page(client.get("/approvals/updates", {"shown_more": [str(first.public_id)]})).text == ""
    assert "1 new since you opened this page." in page(client.get("/approvals/updates")).text

    workflow.deny_extension(first, by=carol)
    shown_more = [str(first.public_id), str(first.pk), "x", "9" * 40]
    shown = page(client.get("/approvals/updates", {"shown_more": shown_more}))
    assert [one["id"] for one in shown.all("article")] == [f"row-more-{first.public_id}"]
    assert "No longer waiting: denied." in shown.text
    mallory = factories.person("mallory2")
    assert page(signed_in(mallory).get("/approvals/updates", {"shown_more": [str(first.public_id)]})).text == ""


def test_many_rows_take_no_more_queries(
    running: AccessRequest, alice: User, bob: User, carol: User, administrator: Role, staged: Entitlement
) -> None:
    def fill(number: int) -> None:
        for _ in range(number):
            workflow.approve_extension(extend(made := start(alice, bob, administrator, staged), 5), by=carol)
            made.refresh_from_db()
            extend(made, 5)

    client, addresses = signed_in(bob), ("/approvals/", f"/approvals/updates?shown_more={uuid4()}")
    fill(1)
    look: list[Callable[[], Any]] = [lambda address=address: client.get(address) for address in addresses]  # type: ignore[misc]
    look.append(lambda: signed_in(alice).get("/"))
    for one in look:
        one()
    few = [queries(one) for one in look]
    fill(6)

    assert [queries(one) for one in look] == few


def test_a_pass_that_is_over_is_not_extended(running: AccessRequest, alice: User) -> None:
    with clock.moved(timedelta(hours=1)):
        response = signed_in(alice).get(f"/requests/{running.code}/extend", follow=True)
        assert "not active" in page(response).text
        assert "extend" not in acts(shown_to(alice, running))
