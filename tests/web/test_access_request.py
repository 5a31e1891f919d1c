import re
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.test import Client

from requests_app.domain import audit, clock, workflow
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AwsClock,
    Entitlement,
    Group,
    IssuedSession,
    Membership,
    Revocation,
    Role,
    User,
)
from requests_app.domain.workflow import sweeps
from tests import factories
from tests.factories import person, wish
from tests.web.minting import session_of
from tests.web.pages import Page, page, signed_in
from tests.web.test_home import queries

pytestmark = pytest.mark.django_db


def shown_to(who: User, access_request: AccessRequest) -> Page:
    response = signed_in(who).get(f"/requests/{access_request.code}")
    assert response.status_code == 200
    return page(response)


def acts(shown: Page) -> set[str]:
    """What the page offers, by the last part of each address."""
    addresses = [link.get("href") for link in shown.all("a")] + [form.get("action") for form in shown.all("form")]
    return {str(one).rsplit("/", 1)[1] for one in addresses if str(one).startswith("/requests/DP-")}


@pytest.mark.parametrize("address", ["", "/approve", "/deny", "/give-back", "/revoke", "/credentials", "/console"])
def test_strangers_get_the_same_404_as_for_no_request(
    address: str, pending_request: AccessRequest, mallory: User
) -> None:
    client = signed_in(mallory)
    theirs = client.get(f"/requests/{pending_request.code}{address}")
    nobodys = client.get(f"/requests/DP-00000000{address}")

    assert theirs.status_code == nobodys.status_code == 404
    assert page(theirs).text == page(nobodys).text


@pytest.mark.parametrize(
    "act", ["approve", "deny", "accept", "withdraw", "start", "extend", "give-back", "revoke", "remind"]
)
def test_strangers_cannot_press_anything_either(act: str, pending_request: AccessRequest, mallory: User) -> None:
    response = signed_in(mallory).post(f"/requests/{pending_request.code}/{act}", {"reason": "because"})

    pending_request.refresh_from_db()
    assert response.status_code == 404
    assert pending_request.state == "pending"


def test_those_it_concerns_auditors_and_operators_see_it(
    pending_request: AccessRequest, alice: User, bob: User, dave: User, olivia: User
) -> None:
    for who in (alice, bob, dave, olivia):
        assert pending_request.justification in shown_to(who, pending_request).text


def test_who_decided_sees_it_after_leaving_the_group(approved_request: AccessRequest, bob: User, carol: User) -> None:
    Membership.objects.filter(user__in=[bob, carol]).delete()

    assert shown_to(bob, approved_request)
    assert signed_in(carol).get(f"/requests/{approved_request.code}").status_code == 404


def test_codes_are_read_in_either_case_and_nothing_else(pending_request: AccessRequest, alice: User) -> None:
    client = signed_in(alice)
    assert client.get(f"/requests/{pending_request.code.lower()}").status_code == 200
    for wrong in ("DP-", "DP-123", "x" * 300, "DP-ILOUILOU"):
        assert client.get(f"/requests/{wrong}").status_code == 404


def test_each_sees_only_what_they_may_do(
    pending_request: AccessRequest, alice: User, bob: User, dave: User, olivia: User
) -> None:
    assert acts(shown_to(alice, pending_request)) == {"withdraw"}
    assert acts(shown_to(bob, pending_request)) == {"approve", "deny"}
    assert acts(shown_to(dave, pending_request)) == set()

    workflow.approve(pending_request, by=bob)
    assert acts(shown_to(alice, pending_request)) == {"start", "withdraw"}
    assert acts(shown_to(bob, pending_request)) == {"revoke"}
    assert acts(shown_to(olivia, pending_request)) == {"revoke"}

    workflow.start(pending_request, by=alice)
    assert acts(shown_to(alice, pending_request)) == {"console", "credentials", "give-back"}
    assert acts(shown_to(bob, pending_request)) == {"revoke"}
    assert acts(shown_to(dave, pending_request)) == set()

    workflow.give_back(pending_request, by=alice)
    shown = shown_to(alice, pending_request)
    assert acts(shown) == set()
    assert any(link.get("href") == f"/request/?again={pending_request.code}" for link in shown.all("a"))


def test_the_timeline_tells_who_did_what_and_why(pending_request: AccessRequest, alice: User, bob: User) -> None:
    workflow.approve(pending_request, by=bob, comment="go ahead, I watch the dashboard")
    workflow.start(pending_request, by=alice)
    workflow.revoke(pending_request, by=bob, reason="the batch is a different one")
    shown = shown_to(alice, pending_request).text

    for words in (
        "Alice asked for access",
        "Bob approved",
        "go ahead, I watch the dashboard",
        "Alice started the pass",
        "Bob revoked the pass",
        "the batch is a different one",
    ):
        assert words in shown


def test_a_refused_attempt_is_in_the_timeline(approved_request: AccessRequest, alice: User, bob: User) -> None:
    signed_in(bob).post(f"/requests/{approved_request.code}/withdraw")

    assert "Bob tried to withdraw the request, and was refused" in shown_to(alice, approved_request).text


def test_what_ending_does_not_stop_stands_there(active_request: AccessRequest, alice: User) -> None:
    shown = shown_to(alice, active_request)

    assert "What ending this does not stop" in shown.text
    assert any(one.get("id") == "not-stopped" for _, one in shown.elements)


def test_lifted_denies_say_how_long_their_results_live(
    alice: User, administrator: Role, staged: Entitlement, bob: User
) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(lifted=["assume-role"])
    asked = wish(alice, administrator, staged)

    assert "up to 1 hour after the pass" in shown_to(alice, asked).text
    assert "up to 1 hour after the pass" in page(signed_in(bob).get(f"/requests/{asked.code}/approve")).text


def test_what_a_narrowing_leaves_possible_is_said_to_who_asks_and_who_approves(
    alice: User, administrator: Role, staged: Entitlement, bob: User
) -> None:
    long = {"Effect": "Allow", "Action": "license-manager:*", "Resource": ["x" * 1470]}
    Entitlement.objects.filter(pk=staged.pk).update(narrowing_statements=[long])
    asked = wish(alice, administrator, staged)

    for told in (shown_to(alice, asked), page(signed_in(bob).get(f"/requests/{asked.code}/approve"))):
        assert "these could not be denied: license-manager:GetAcc*. What they give can work after the pass" in told.text


def test_of_a_powerful_role_it_is_said_that_what_it_makes_stays(
    alice: User, administrator: Role, staged: Entitlement, bob: User
) -> None:
    asked = wish(alice, administrator, staged)
    approving = f"/requests/{asked.code}/approve"
    Role.objects.update(power="change")
    assert "What it makes stays" not in page(signed_in(bob).get(approving)).text
    Role.objects.update(power="powerful")
    assert "may make users, roles and passwords. What it makes stays" in page(signed_in(bob).get(approving)).text


def test_the_truth_about_keys_after_an_early_end(
    active_request: AccessRequest, alice: User, bob: User, aws_clock: Any
) -> None:
    session_of(active_request, minutes=15)
    workflow.revoke(active_request, by=bob, reason="wrong batch")
    revocation = Revocation.objects.filter(access_request=active_request)
    waiting = shown_to(alice, active_request)
    assert "AWS has not confirmed yet; trying again at" in waiting.text
    assert "Without it they work until" in waiting.text

    revocation.update(state="written", written_at=clock.now())
    assert "it has not been seen to do so yet" in shown_to(alice, active_request).text
    revocation.update(state="unprovable")
    assert "nothing harmless can show that it does" in shown_to(alice, active_request).text
    revocation.update(state="proved", proved_at=F("asked_at") + timedelta(seconds=3.14))
    proved = shown_to(alice, active_request)
    assert re.search(r"AWS refuses them since \d\d:\d\d:\d\d \(3\.1.s\)", proved.text)
    assert "work until" not in proved.text

    with clock.moved(timedelta(hours=1)):
        revocation.update(state="over")
        assert "None that were issued still work." in shown_to(alice, active_request).text


def test_nothing_says_active_after_its_end(active_request: AccessRequest, alice: User) -> None:
    with clock.moved(timedelta(hours=2)):
        shown = shown_to(alice, active_request)

    assert acts(shown) == set()
    assert not [time for time in shown.all("time") if "data-countdown" in time]


def test_a_long_story_takes_no_more_queries(active_request: AccessRequest, alice: User, bob: User) -> None:
    client = signed_in(alice)
    client.get(f"/requests/{active_request.code}")
    few = queries(lambda: client.get(f"/requests/{active_request.code}"))
    for _ in range(10):
        signed_in(bob).post(f"/requests/{active_request.code}/withdraw")

    assert queries(lambda: client.get(f"/requests/{active_request.code}")) == few


def test_only_the_beneficiary_reaches_the_credentials_page(
    active_request: AccessRequest, alice: User, bob: User
) -> None:
    for address in ("credentials", "console"):
        assert signed_in(alice).get(f"/requests/{active_request.code}/{address}").status_code == 200
        response = signed_in(bob).get(f"/requests/{active_request.code}/{address}", follow=True)
        assert "only the person a pass is for can use it" in page(response).text


def test_a_name_that_looks_like_markup_stays_text(alice: User, administrator: Role, staged: Entitlement) -> None:
    evil = person("eve")
    User.objects.filter(pk=evil.pk).update(name="<script>alert(1)</script>")
    Membership.objects.create(group=staged.groups.get(), user=evil)
    asked = wish(
        User.objects.get(pk=evil.pk), administrator, staged, justification="</textarea><script>alert(2)</script>"
    )
    client = Client()
    client.force_login(evil)

    for address in (f"/requests/{asked.code}", f"/request/?again={asked.code}", "/"):
        assert "<script>alert" not in client.get(address).content.decode()


def test_what_somebody_asked_for_another_waits_for_that_other(
    alice: User, bob: User, carol: User, leads: Group, administrator: Role, staged: Entitlement
) -> None:
    staged.askers.add(leads)
    asked = wish(bob, administrator, staged, beneficiary=alice)
    assert acts(shown_to(alice, asked)) == {"accept", "withdraw"}
    assert acts(shown_to(bob, asked)) == {"withdraw"}
    assert acts(shown_to(carol, asked)) == set()
    assert "Waits for Alice to accept it." in shown_to(bob, asked).text
    assert "Bob asks for 30 min for you" in page(signed_in(alice).get("/")).text.replace("\xa0", " ")

    response = signed_in(bob).post(f"/requests/{asked.code}/accept", follow=True)
    assert "Only the person it is for can accept it." in page(response).text
    signed_in(alice).post(f"/requests/{asked.code}/accept")
    assert acts(shown_to(alice, asked)) == {"withdraw"}
    assert acts(shown_to(bob, asked)) == {"withdraw"}
    assert acts(shown_to(carol, asked)) == {"approve", "deny"}


def test_whoever_it_is_for_may_decline(
    alice: User, bob: User, leads: Group, administrator: Role, staged: Entitlement
) -> None:
    staged.askers.add(leads)
    asked = wish(bob, administrator, staged, beneficiary=alice)
    signed_in(alice).post(f"/requests/{asked.code}/withdraw")

    asked.refresh_from_db()
    assert (asked.state, asked.ended_by) == ("withdrawn", alice)


def test_a_scheduled_start_is_said_and_is_nobodys_to_press(
    alice: User, bob: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(schedule_ahead_seconds=7 * 86400)
    at = clock.now() + timedelta(days=2)
    asked = wish(alice, administrator, staged, start="at_time", start_at=at)
    workflow.approve(asked, by=bob)
    asked.refresh_from_db()

    when = f"{at:%a} {at.day} {at:%b %H:%M}"
    assert f"Begins {when} and starts by itself." in shown_to(alice, asked).text
    assert f"30 min from {when} , starts by itself" in page(signed_in(alice).get("/")).text.replace("\xa0", " ")
    assert acts(shown_to(alice, asked)) == {"withdraw"}
    with clock.moved(timedelta(days=2, minutes=1)):
        assert acts(shown_to(alice, asked)) == {"start", "withdraw"}  # should the sweep be late


def test_only_the_ways_into_aws_that_the_terms_give(
    alice: User, bob: User, administrator: Role, staged: Entitlement
) -> None:
    for channel, given, other in (("keys", "credentials", "console"), ("console", "console", "credentials")):
        Entitlement.objects.filter(pk=staged.pk).update(channels=channel)
        asked = wish(alice, administrator, staged)
        workflow.approve(asked, by=bob)
        asked.refresh_from_db()
        workflow.start(asked, by=alice)
        assert acts(shown_to(alice, asked)) == {given, "give-back"}
        client = signed_in(alice)
        addresses = {str(one.get("href")) for one in page(client.get("/")).all("a")}
        assert f"/requests/{asked.code}/{other}" not in addresses
        assert "only." in page(client.get(f"/requests/{asked.code}/{other}", follow=True)).text
        assert client.get(f"/requests/{asked.code}/{given}").status_code == 200


def test_where_an_accounts_console_is_closed_the_page_says_why_and_offers_keys(
    alice: User, bob: User, administrator: Role, staged: Entitlement
) -> None:
    Account.objects.update(console_authorization="on")
    closed = "console authorization is on in this account"
    outlook = page(signed_in(alice).get(f"/request/?role={administrator.public_id}"))
    assert closed in outlook.text
    asked = wish(alice, administrator, staged)
    assert closed in page(signed_in(bob).get(f"/requests/{asked.code}/approve")).text
    workflow.approve(asked, by=bob)
    asked.refresh_from_db()
    workflow.start(asked, by=alice)
    client = signed_in(alice)

    assert acts(shown_to(alice, asked)) == {"credentials", "give-back"}
    for address in ("/", f"/requests/{asked.code}"):
        shown = page(client.get(address))
        assert closed in shown.text
        assert not [one for one in shown.all("a") if str(one.get("href")).endswith("/console")]
        assert not shown.all("[data-kind=console]")
    assert closed in page(client.get(f"/requests/{asked.code}/console", follow=True)).text

    Account.objects.update(console_authorization="off")
    assert acts(shown_to(alice, asked)) == {"console", "credentials", "give-back"}
    assert closed not in shown_to(alice, asked).text


def test_an_approvers_own_edit_is_explained_where_the_buttons_would_be(
    pending_request: AccessRequest, bob: User, carol: User
) -> None:
    workflow.own_edits.note(pending_request.entitlement, by=bob, change={})
    shown = shown_to(bob, pending_request)

    assert acts(shown) == set()
    assert "You changed these rules yourself" in shown.text
    assert "You changed these rules yourself" not in shown_to(carol, pending_request).text
    response = signed_in(bob).get(f"/requests/{pending_request.code}/approve", follow=True)
    assert "You changed these rules yourself" in page(response).text


def test_whoever_is_needed_later_is_told_so_and_can_still_deny(
    alice: User, bob: User, carol: User, read_only: Role, engineers: Group, leads: Group, security: Group
) -> None:
    two = factories.entitlement(read_only, groups=[engineers], stages=[(leads, 1), (security, 1)])
    asked = wish(alice, read_only, two)
    shown = shown_to(carol, asked)

    assert acts(shown) == {"deny"}
    assert "You are needed for a later stage of this" in shown.text
    response = signed_in(carol).get(f"/requests/{asked.code}/approve", follow=True)
    assert "You are needed for a later stage of this" in page(response).text
    assert acts(shown_to(bob, asked)) == {"approve", "deny"}


def test_further_approvers_see_what_they_are_asked_about(
    alice: User, mallory: User, administrator: Role, staged: Entitlement
) -> None:
    staged.stages.update(escalate_seconds=600)
    staged.stages.get().more_users.add(mallory)
    asked = wish(alice, administrator, staged)
    assert acts(shown_to(mallory, asked)) == set()

    with clock.moved(timedelta(minutes=11)):
        workflow.sweeps.escalate_due()
        shown = shown_to(mallory, asked)
        assert acts(shown) == {"approve", "deny"}
        assert "so Mallory can decide too" in shown.text
        assert "so Mallory can decide too" in page(signed_in(mallory).get("/approvals/")).text
        assert "3 people can approve" in page(signed_in(alice).get("/")).text


def test_who_only_asked_sees_neither_keys_nor_addresses(
    alice: User, olivia: User, administrator: Role, read_only: Role, automatic: Entitlement, aws_clock: AwsClock
) -> None:
    desk = factories.group("Service desk")
    erin = factories.person("erin", desk)
    automatic.askers.add(desk)
    asked = factories.wish(erin, read_only, automatic, beneficiary=alice)
    with audit.context(channel="web", ip="192.0.2.7"):
        workflow.accept(asked, by=alice)
        asked.refresh_from_db()
        factories.sealed(asked)
    key = IssuedSession.objects.get().access_key_id
    address = f"/requests/{asked.code}"

    shown = page(signed_in(erin).get(address)).text
    assert "A session was issued" in shown
    for secret in (key, "192.0.2.7", "Access key"):
        assert secret not in shown
    for reader in (alice, olivia):
        shown = page(signed_in(reader).get(address)).text
        assert shown.count(key) == 2
        assert "192.0.2.7" in shown


def test_what_lapsed_by_itself_names_nobody(pending_request: AccessRequest, alice: User) -> None:
    Role.objects.update(is_active=False)
    assert sweeps.lapse_hopeless() == 1

    shown = page(signed_in(alice).get(f"/requests/{pending_request.code}")).text
    assert "out of use" in shown
    assert "None" not in shown.partition("Sessions AWS issued")[0]
