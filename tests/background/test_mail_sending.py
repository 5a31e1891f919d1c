"""The outbox when the mail server is slow, picky or gone, or whoever sends dies: at least once, and not for ever."""

from datetime import timedelta
from smtplib import SMTPSenderRefused, SMTPServerDisconnected
from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.locmem import EmailBackend

from requests_app.background import mail
from requests_app.domain import clock, notices
from requests_app.domain.models import AccessRequest, Entitlement, Group, Notice, Role, User
from tests import factories
from tests.letters import sent

MINUTE = timedelta(minutes=1)


def test_a_batch_is_bounded(pending_request: AccessRequest) -> None:
    assert mail.send_due(limit=1) == 1
    assert len(sent()) == 1


class Counting(EmailBackend):
    """Counts how often it was connected to."""

    connected = 0
    takes = 1000

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open = False
        self._taken = 0

    def open(self) -> bool:
        type(self).connected += not self._open
        self._open = True
        return True

    def close(self) -> None:
        self._open = False

    def send_messages(self, messages: Any) -> int:
        self.open()
        if "bob@example.com" in messages[0].to:
            raise SMTPServerDisconnected("gone")
        self._taken += 1
        if self._taken > self.takes:
            raise SMTPSenderRefused(421, b"too many messages in this connection", "daypass@example.com")
        return super().send_messages(messages)


def test_a_server_that_takes_few_mails_of_a_connection_keeps_nobody_waiting(
    alice: User, administrator: Role, staged: Entitlement, leads: Group, bob: User, settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    User.objects.filter(pk=bob.pk).update(email="robert@example.com")
    settings.EMAIL_BACKEND = f"{__name__}.Counting"
    monkeypatch.setattr(Counting, "connected", 0)
    monkeypatch.setattr(Counting, "takes", 2)
    for number in range(5):
        factories.person(f"lead{number}", leads)
    factories.wish(alice, administrator, staged)

    assert mail.send_due() == len(sent()) == 7
    assert Counting.connected == 4
    assert not Notice.objects.exclude(attempts=1, last_error="").exists()


def test_mails_that_go_out_together_share_a_connection_and_a_broken_one_is_replaced(
    alice: User, administrator: Role, staged: Entitlement, leads: Group, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.Counting"
    monkeypatch.setattr(Counting, "connected", 0)
    for number in range(5):
        factories.person(f"lead{number}", leads)
    factories.wish(alice, administrator, staged)

    assert mail.send_due() == 7
    assert len(sent()) == 6
    assert Counting.connected == 2
    assert "gone" in Notice.objects.get(recipient__username="bob").last_error


# --- trouble ------------------------------------------------------------------------------------------


def only_the_decision_is_due() -> None:
    Notice.objects.exclude(kind="decided").update(gave_up_at=clock.now())


class Broken(EmailBackend):
    def send_messages(self, messages: Any) -> int:
        raise ConnectionRefusedError("the mail server is down")


@pytest.fixture
def broken(settings: Any) -> Any:
    settings.EMAIL_BACKEND = f"{__name__}.Broken"
    return settings


def test_it_tries_again_with_growing_gaps_and_then_gives_up(active_request: AccessRequest, broken: Any) -> None:
    only_the_decision_is_due()
    gaps, at = [], timedelta(0)
    while True:
        with clock.moved(at):
            assert mail.send_due() == 1
            notice = Notice.objects.get(kind="decided")
            assert notice.last_error == "ConnectionRefusedError: the mail server is down"
            if notice.gave_up_at is not None:
                break
            gap = notice.due_at - clock.now()
            assert mail.send_due() == 0
        gaps.append(round(gap / MINUTE))
        at += gap + timedelta(seconds=1)
    assert gaps == [1, 2, 4, 8, 16, 32, 64]
    assert notice.attempts == notices.MOST_ATTEMPTS
    with clock.moved(timedelta(days=30)):
        assert mail.send_due() == 0


def test_it_arrives_when_the_server_is_back(active_request: AccessRequest, broken: Any) -> None:
    only_the_decision_is_due()
    mail.send_due()
    broken.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    with clock.moved(2 * MINUTE):
        mail.send_due()
    notice = Notice.objects.get(kind="decided")
    assert notice.sent_at is not None
    assert (notice.last_error, notice.attempts) == ("", 2)
    assert len(sent()) == 1


def test_one_that_cannot_be_sent_does_not_hold_up_the_others(
    pending_request: AccessRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    User.objects.filter(username="bob").update(email="bob@example.com\nBcc: everybody@example.com")
    mail.send_due()
    assert [message.to for message in sent()] == [["carol@example.com"]]
    assert "BadHeaderError" in Notice.objects.get(recipient__username="bob").last_error


class Killed(BaseException):
    """As by SIGKILL: nothing of ours runs afterwards."""


def test_whoever_dies_between_sending_and_saying_so_sends_again(
    active_request: AccessRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_the_decision_is_due()
    send = EmailMultiAlternatives.send

    def send_and_die(message: EmailMultiAlternatives, *args: Any) -> int:
        send(message, *args)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(EmailMultiAlternatives, "send", send_and_die)
        with pytest.raises(Killed):
            mail.send_due()
    assert mail.send_due() == 0  # it may still be at it
    with clock.moved(11 * MINUTE):
        assert mail.send_due() == 1
    assert len(sent()) == 2  # at least once
    assert Notice.objects.get(kind="decided").sent_at is not None


def test_a_mail_that_kills_its_sender_is_given_up(
    active_request: AccessRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_the_decision_is_due()

    def die(*_: Any) -> int:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(EmailMultiAlternatives, "send", die)
        for round_ in range(notices.MOST_ATTEMPTS):
            with clock.moved(round_ * 11 * MINUTE), pytest.raises(Killed):
                mail.send_due()
        with clock.moved(notices.MOST_ATTEMPTS * 11 * MINUTE):
            assert mail.send_due() == 1
    assert Notice.objects.get(kind="decided").gave_up_at is not None
