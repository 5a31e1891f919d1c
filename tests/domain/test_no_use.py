"""What came to nothing while it was open: it says so, once and to those concerned, and is not offered."""

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail as mailbox

from requests_app.background import mail
from requests_app.domain import clock, workflow
from requests_app.domain.errors import Conflict
from requests_app.domain.models import (
    AccessRequest,
    Account,
    Entitlement,
    ExcludedUser,
    Group,
    Membership,
    Notice,
    Role,
    User,
)
from requests_app.domain.workflow import deciding, life, sweeps
from tests import factories
from tests.domain.expect import refused
from tests.web.pages import page, signed_in
from tests.web.test_access_request import acts, shown_to

HOUR = timedelta(hours=1)


def told() -> list[str]:
    return sorted(Notice.objects.filter(kind="no_use").values_list("recipient__username", flat=True))


def sent() -> list[str]:
    mailbox.outbox.clear()
    Notice.objects.exclude(kind="no_use").update(gave_up_at=clock.now())
    mail.send_due()
    return [str(message.subject) for message in mailbox.outbox]


def end(how: str, one: AccessRequest) -> None:
    match how:
        case "left":
            Membership.objects.filter(user=one.beneficiary).delete()
        case "off":
            Entitlement.objects.update(is_active=False)
        case "excluded":
            ExcludedUser.objects.create(entitlement=one.entitlement, user=one.beneficiary)
        case "out of use":
            Role.objects.update(is_active=False)
        case "account":
            Account.objects.update(is_active=False)


@pytest.mark.parametrize("how", ["left", "off", "excluded"])
def test_what_cannot_be_approved_any_more_says_so_to_those_who_asked_and_decide(
    how: str, pending_request: AccessRequest, alice: User, bob: User, olivia: User
) -> None:
    assert (sweeps.tell_of_no_use(), life.why_unusable(pending_request, alice)) == (0, "")
    end(how, pending_request)

    assert (sweeps.tell_of_no_use(), sweeps.tell_of_no_use(), told()) == (1, 0, ["alice"])
    (subject,) = sent()
    assert "cannot be approved any more" in subject
    hers = shown_to(alice, pending_request)
    assert "This cannot be approved any more: these terms" in hers.text
    assert "Withdraw it, or ask on other terms." in hers.text
    assert "withdraw" in acts(hers)
    # And it is not offered to those who would be refused.
    his = shown_to(bob, pending_request)
    assert "Alice may not have this role on these terms any more. Deny it, or let it lapse." in his.text
    assert acts(his) >= {"deny"}
    assert "approve" not in acts(his)
    listed = page(signed_in(bob).get("/approvals/"))
    assert "cannot be approved any more" in listed.text
    assert not [one for one in listed.all("form") if str(one.get("action")).endswith("/approve")]
    assert "cannot be approved any more" in page(signed_in(alice).get("/")).text
    refusal = page(signed_in(bob).get(f"/requests/{pending_request.code}/approve", follow=True)).text
    assert "cannot be approved any more" in refusal
    with pytest.raises(Conflict):
        workflow.approve(pending_request, by=bob)
    workflow.deny(pending_request, by=bob)


@pytest.mark.parametrize("how", ["left", "off", "out of use", "account"])
def test_what_cannot_start_any_more_does_not_say_that_it_will(
    how: str, alice: User, bob: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.update(schedule_ahead_seconds=86400)
    staged.refresh_from_db()
    one = factories.wish(alice, administrator, staged, start="at_time", start_at=clock.now() + HOUR)
    workflow.approve(one, by=bob)
    one.refresh_from_db()
    assert "starts by itself" in shown_to(alice, one).text
    end(how, one)

    assert (sweeps.tell_of_no_use(), sweeps.tell_of_no_use(), told()) == (1, 0, ["alice"])
    (subject,) = sent()
    assert "cannot be started" in subject
    for shown in (shown_to(alice, one).text, page(signed_in(alice).get("/")).text):
        assert "starts by itself" not in shown
        assert "This cannot be started" in shown
    assert ("the role was taken out of use" in shown_to(alice, one).text) is (how in ("out of use", "account"))


@pytest.mark.parametrize("how", ["left", "off", "out of use", "account"])
def test_an_active_pass_says_that_there_are_no_new_credentials(
    how: str, active_request: AccessRequest, alice: User
) -> None:
    assert acts(shown_to(alice, active_request)) >= {"credentials", "console", "give-back"}
    end(how, active_request)

    assert (sweeps.tell_of_no_use(), sweeps.tell_of_no_use(), told()) == (1, 0, ["alice"])
    (subject,) = sent()
    assert "no new credentials" in subject
    shown = shown_to(alice, active_request)
    assert "There are no new credentials" in shown.text
    assert not acts(shown) & {"credentials", "console"}
    assert "give-back" in acts(shown), "ending always works"
    home = page(signed_in(alice).get("/"))
    assert "There are no new credentials" in home.text
    assert not acts(home) & {"credentials", "console"}


def test_each_state_is_told_once_and_what_was_mended_before_the_mail_is_not(
    pending_request: AccessRequest, alice: User, bob: User, engineers: Group
) -> None:
    end("left", pending_request)
    assert sweeps.tell_of_no_use() == 1
    Membership.objects.create(group=engineers, user=alice)
    assert sent() == []
    assert sweeps.tell_of_no_use() == 0
    workflow.approve(pending_request, by=bob)
    end("left", pending_request)
    assert (sweeps.tell_of_no_use(), sweeps.tell_of_no_use()) == (1, 0)
    (subject,) = sent()
    assert "cannot be started" in subject


def test_whoever_asked_for_somebody_else_hears_of_it_and_not_why(
    alice: User, bob: User, administrator: Role, staged: Entitlement
) -> None:
    desk = factories.group("Service desk")
    erin = factories.person("erin", desk)
    staged.askers.add(desk)
    one = factories.wish(erin, administrator, staged, beneficiary=alice)
    ExcludedUser.objects.create(entitlement=staged, user=alice)
    with refused("entitlement.excluded"):
        workflow.accept(one, by=alice)
    assert (sweeps.tell_of_no_use(), told()) == (1, ["alice", "erin"])
    assert "exclude you" in life.why_unusable(one, alice)
    assert "exclude" not in life.why_unusable(one, erin)
    assert "Alice may not have this role on these terms any more" in life.why_unusable(one, erin)


def test_what_ends_by_itself_or_is_frozen_is_not_told_twice(
    pending_request: AccessRequest, active_request: AccessRequest, alice: User, olivia: User, staged: Entitlement
) -> None:
    workflow.freezes.freeze(active_request.role, by=olivia, reason="an incident")
    assert (sweeps.tell_of_no_use(), life.why_unusable(active_request, alice)) == (0, "")
    Role.objects.update(is_active=False)
    AccessRequest.objects.filter(pk=active_request.pk).update(state="returned", ended_at=clock.now())
    # A pending one of a role that is out of use lapses, and that is said.
    assert sweeps.tell_of_no_use() == 0


def test_more_time_is_not_approved_for_what_is_of_no_use(
    alice: User, bob: User, administrator: Role, staged: Entitlement, settings: Any
) -> None:
    Entitlement.objects.update(extensions_most=2, extension_total_seconds=7200)
    staged.refresh_from_db()
    one = factories.wish(alice, administrator, staged)
    workflow.approve(one, by=bob)
    one = workflow.start(AccessRequest.objects.get(pk=one.pk), by=alice)
    extension = workflow.extend(
        one, by=alice, duration=timedelta(minutes=10), justification="it takes longer than we thought"
    )
    assert deciding.may_approve(extension, bob)
    end("left", one)
    assert deciding.may_approve(extension, bob).rule == "decision.no_use"
    assert deciding.may_deny(extension, bob)
    his = shown_to(bob, one)
    assert "deny" in acts(his)
    assert "approve" not in acts(his)
