"""The outbox: to the right person, once, and only while it is true."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives
from django.db import connection
from django.test.utils import CaptureQueriesContext

from requests_app.background import mail
from requests_app.background.mail import batch, messages
from requests_app.domain import clock, deciders, workflow
from requests_app.domain.models import AccessRequest, Entitlement, Group, Membership, Notice, Role, User
from requests_app.domain.workflow import sweeps
from tests import factories
from tests.letters import at, html, sent

MINUTE = timedelta(minutes=1)


def test_each_approver_gets_one_mail_with_a_link(pending_request: AccessRequest) -> None:
    assert mail.send_due() == 2
    assert mail.send_due() == 0

    assert sorted(address for message in sent() for address in message.to) == ["bob@example.com", "carol@example.com"]
    message = sent()[0]
    assert message.subject == f"Alice asks for Administrator in payments-prod for 30 min ({pending_request.code})"
    link = f"http://testserver/requests/{pending_request.code}"
    assert link in message.body
    assert f'href="{link}' in html(message)
    assert Notice.objects.filter(sent_at=None).count() == 0


def test_who_is_told_what_in_a_whole_story(
    alice: User, bob: User, carol: User, administrator: Role, staged: Entitlement
) -> None:
    with clock.moved(-timedelta(minutes=40)):
        access_request = factories.wish(alice, administrator, staged)
        workflow.approve(access_request, by=bob)
        workflow.start(access_request, by=alice)
        with clock.moved(timedelta(minutes=16)):
            sweeps.announce_endings()
            mail.send_due()
    sweeps.expire_due()
    mail.send_due()
    told = [(message.to[0].partition("@")[0], message.subject.split(" (")[0]) for message in sent()]
    end = access_request.asked_at + timedelta(minutes=30)
    assert told == [
        # What those who decide were asked was decided before it could be sent.
        ("alice", "Your request for Administrator in payments-prod for 30 min was approved by Bob"),
        ("alice", f"Your pass for Administrator in payments-prod ends at {at(end)}"),
        ("alice", "Your pass for Administrator in payments-prod has ended: its time was up"),
    ]


def test_only_those_who_are_asked_to_decide_are_told_how_not_to_be(pending_request: AccessRequest, bob: User) -> None:
    mail.send_due()
    workflow.approve(pending_request, by=bob)
    mail.send_due()
    for message in sent():
        asked = message.to != ["alice@example.com"]
        for text in (str(message.body), html(message)):
            assert ("You are one of the people who can decide" in text) is asked
            assert ("take you out of the group that is asked" in text) is asked
    assert len(sent()) == 3


def test_a_denial_names_who_denied(pending_request: AccessRequest, carol: User) -> None:
    workflow.deny(pending_request, by=carol)
    mail.send_due()
    assert sent()[-1].to == ["alice@example.com"]
    assert "was denied by Carol" in sent()[-1].subject


@pytest.mark.parametrize(
    "since", ["approved", "withdrawn", "lapsed", "left the group", "deactivated", "has decided", "next stage"]
)
def test_who_need_not_decide_any_more_is_not_asked(
    since: str,
    alice: User,
    bob: User,
    carol: User,
    administrator: Role,
    engineers: Group,
    leads: Group,
    security: Group,
) -> None:
    factories.person("frank", security)
    terms = factories.entitlement(
        administrator,
        groups=[engineers],
        stages=[(leads, 2 if since == "has decided" else 1), (security, 1)] if since != "approved" else [(leads, 1)],
    )
    access_request = factories.wish(alice, administrator, terms)
    match since:
        case "approved" | "has decided" | "next stage":
            workflow.approve(access_request, by=bob)
        case "withdrawn":
            workflow.withdraw(access_request, by=alice)
        case "left the group":
            Membership.objects.filter(user=bob).delete()
        case "deactivated":
            workflow.people.deactivate(bob, by=None)
    with clock.moved(timedelta(days=1) if since == "lapsed" else timedelta(0)):
        mail.send_due()
    assert "bob@example.com" not in [message.to[0] for message in sent()]
    given_up = Notice.objects.get(recipient=bob)
    assert given_up.gave_up_at is not None
    assert given_up.last_error
    # Others who still are to decide do get theirs.
    assert ("carol@example.com" in [message.to[0] for message in sent()]) == (
        since in ("left the group", "deactivated", "has decided", "next stage")
    )


def test_an_end_that_came_early_is_not_announced_as_near(active_request: AccessRequest, alice: User) -> None:
    with clock.moved(16 * MINUTE):
        assert sweeps.announce_endings() == 1
    workflow.give_back(active_request, by=alice)
    mail.send_due()
    with clock.moved(16 * MINUTE):
        mail.send_due()
    subjects = [message.subject for message in sent()]
    assert any("You gave back" in subject for subject in subjects)
    assert not any(" ends at " in subject for subject in subjects)


@pytest.fixture
def asked_of_two(
    alice: User, administrator: Role, engineers: Group, leads: Group, bob: User, carol: User
) -> AccessRequest:
    """Both of the leads must agree."""
    return factories.wish(
        alice, administrator, factories.entitlement(administrator, groups=[engineers], stages=[(leads, 2)])
    )


def statements(act: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as made:
        act()
    return len(made)


def test_who_can_decide_is_asked_once_for_all_who_are_written_to(
    alice: User, administrator: Role, staged: Entitlement, leads: Group
) -> None:
    factories.wish(alice, administrator, staged)
    of_two = statements(mail.send_due)
    for number in range(10):
        factories.person(f"lead{number}", leads)
    factories.wish(alice, administrator, staged)

    # For each further mail what any mail takes: that it was sent, and when.
    assert statements(mail.send_due) - of_two == 20
    assert len(sent()) == 14


def test_whoever_need_not_decide_since_the_mail_before_is_not_asked(
    asked_of_two: AccessRequest, carol: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow mail server takes its time between two of them, so that what the rules said does not go for long."""
    monkeypatch.setattr(batch, "GOES_FOR_SECONDS", 0)
    send = EmailMultiAlternatives.send

    def send_slowly(message: EmailMultiAlternatives, *args: Any) -> int:
        if not asked_of_two.decisions.exists():
            workflow.approve(asked_of_two, by=carol)
        return send(message, *args)

    monkeypatch.setattr(EmailMultiAlternatives, "send", send_slowly)
    mail.send_due()

    assert ["bob@example.com"] in [message.to for message in sent()]
    assert Notice.objects.get(kind="asked", recipient=carol).last_error == "decided meanwhile"


def test_beyond_the_longest_list_each_is_asked_about(
    pending_request: AccessRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciders, "MOST_APPROVERS", 1)
    mail.send_due()
    assert sorted(address for message in sent() for address in message.to) == ["bob@example.com", "carol@example.com"]


def test_a_mail_asks_for_the_words_of_its_own_kind_alone(active_request: AccessRequest, alice: User) -> None:
    notice = Notice(kind="issued", recipient=alice, access_request=active_request)
    assert statements(lambda: messages.message(notice, batch.Batch())) == 0
