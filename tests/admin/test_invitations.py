"""People whom operators make are invited, can be invited again, and the list shows who never came."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail as mailbox
from django.test import Client
from django.urls import reverse

from requests_app.background import mail
from requests_app.domain import clock, workflow
from requests_app.domain.models import AuditEvent, Notice, User
from tests import factories
from tests.admin.filling import save
from tests.admin.test_reading import address
from tests.web.pages import Page, page, signed_in

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"


@pytest.fixture
def operator(olivia: User) -> Client:
    return signed_in(olivia)


@pytest.fixture
def erin(operator: Client) -> User:
    """Made by Olivia on the page for it."""
    save(operator, address(User, page="add"), username="erin", email="erin@example.com", name="Erin")
    return User.objects.get(username="erin")


def path_in(message: Any) -> str:
    (found,) = re.findall(r"http://testserver(/accounts/password/reset/key/\S+)", str(message.body))
    return str(found)


def act(operator: Client, *people: User, **more: Any) -> str:
    chosen = [one.pk for one in people]
    answer = operator.post(address(User), {"action": "invite_again", "_selected_action": chosen, **more}, follow=True)
    return " ".join(Page(answer.content.decode()).text.split())


def test_from_the_operators_click_to_the_first_sign_in(erin: User, operator: Client) -> None:
    mail.send_due()
    (message,) = mailbox.outbox
    assert message.to == ["erin@example.com"]
    assert "Olivia has made an account for you" in message.body
    assert "User name: erin" in message.body

    browser = Client()
    shown = page(browser.get(path_in(message), follow=True))
    assert (shown.inline, shown.unlabelled(), shown.problems) == ([], [], [])
    assert "Welcome to Daypass" in shown.text
    told = browser.post("/accounts/password/choose/", {"password1": PASSWORD, "password2": PASSWORD}, follow=True)
    assert "Your password is set. Sign in with it, Erin." in page(told).text
    came = browser.post("/accounts/login/", {"login": "erin", "password": PASSWORD}, follow=True)
    assert "My access" in page(came).text
    assert "0 people" in page(operator.get(address(User) + "?came=no&q=erin")).text


def test_an_invitation_works_for_a_week_and_a_forgotten_password_for_a_day(erin: User) -> None:
    Client().post("/accounts/password/reset/", {"email": "erin@example.com"})
    mail.send_due()
    invitation, forgotten = (path_in(one) for one in mailbox.outbox)
    for days, path, works in (
        (6, invitation, True),
        (8, invitation, False),
        (0, forgotten, True),
        (2, forgotten, False),
    ):
        with clock.moved(timedelta(days=days)):
            assert (Client().get(path).status_code == 302) == works, (days, path)


def test_the_list_shows_who_never_came_and_what_became_of_the_mail(
    erin: User, olivia: User, operator: Client, settings: Any
) -> None:
    def listed() -> str:
        return page(operator.get(address(User) + "?came=no")).text

    assert "mail on its way" in listed()
    assert "olivia@example.com" not in listed()
    mail.send_due()
    assert f"never invited {clock.now():%Y-%m-%d}" in listed()
    Notice.objects.update(sent_at=None, gave_up_at=clock.now())
    assert "mail could not be sent" in listed()


def test_who_never_came_is_invited_again_by_list_or_page(
    erin: User, operator: Client, alice: User, olivia: User
) -> None:
    mail.send_due()
    workflow.people.deactivate(alice, by=None)
    said = act(operator, erin, alice, olivia)
    assert "An invitation is on its way to erin@example.com." in said
    assert "2 people were left out" in said
    assert "1 person was left out" in act(operator, erin)  # that one is still to be sent

    mail.send_due()
    at = reverse("admin:invite_person", args=[erin.pk])
    assert page(operator.get(at)).inline == []
    assert Notice.objects.filter(kind="invited").count() == 2  # looking sends nothing
    operator.post(at)
    mail.send_due()
    assert [message.to for message in mailbox.outbox] == [["erin@example.com"]] * 3
    assert AuditEvent.objects.filter(action="person.invited", beneficiary=erin).count() == 3


def test_an_invitation_that_was_overtaken_is_not_sent(erin: User) -> None:
    User.objects.filter(pk=erin.pk).update(last_login=clock.now())
    mail.send_due()
    assert mailbox.outbox == []
    assert Notice.objects.get().last_error == "came meanwhile"


def test_only_operators_invite(dave: User, erin: User, mallory: User) -> None:
    mail.send_due()
    for person in (dave, mallory):
        client = signed_in(person)
        client.post(address(User), {"action": "invite_again", "_selected_action": [erin.pk]})
        assert client.post(reverse("admin:invite_person", args=[erin.pk]), follow=True).status_code == 403
    assert Notice.objects.filter(kind="invited").count() == 1


def test_no_more_than_some_are_invited_at_once(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("requests_app.delivery.admin.people.MOST_INVITED", 2)
    people = [factories.person(f"new{number}") for number in range(3)]
    assert "Choose 2 people at most" in act(operator, *people)
    assert not Notice.objects.exists()
