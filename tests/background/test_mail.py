"""The outbox: at least once, not for ever, to the right person, in their words, and only while it is true."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from smtplib import SMTPSenderRefused, SMTPServerDisconnected
from typing import Any

import pytest
from django.core import mail as mailbox
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection
from django.test.utils import CaptureQueriesContext

from requests_app.background import mail
from requests_app.background.mail import batch, messages
from requests_app.domain import clock, deciders, notices, workflow
from requests_app.domain.models import AccessRequest, Entitlement, Group, Membership, Notice, Role, User
from requests_app.domain.workflow import sweeps
from tests import factories

MINUTE = timedelta(minutes=1)


def sent() -> list[EmailMultiAlternatives]:
    return mailbox.outbox  # type: ignore[return-value]


def html(message: EmailMultiAlternatives) -> str:
    ((content, kind),) = message.alternatives
    assert kind == "text/html"
    return str(content)


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
        ("alice", f"Your pass for Administrator in payments-prod ends at {end:%H:%M} UTC"),
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


def only_the_decision_is_due() -> None:
    Notice.objects.exclude(kind="decided").update(gave_up_at=clock.now())


# --- trouble ------------------------------------------------------------------------------------------


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


def test_a_batch_is_bounded(pending_request: AccessRequest) -> None:
    assert mail.send_due(limit=1) == 1
    assert len(sent()) == 1


# --- hostile words ------------------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script> & \"quotes\" <img src=x onerror='x'> {{ settings.SECRET_KEY }} {% load x %}"


def test_hostile_words_are_words_in_html(alice: User, staged: Entitlement) -> None:
    User.objects.filter(pk=alice.pk).update(name="<b>Alice</b>")
    oddly_named = factories.role("A=,.@-")
    staged.roles.add(oddly_named)
    factories.wish(User.objects.get(pk=alice.pk), oddly_named, staged, justification=HOSTILE)
    mail.send_due()
    page = html(sent()[0])
    assert not re.search(r"<(script|img|b)\b", page)
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;Alice&lt;/b&gt;" in page
    assert "{{ settings.SECRET_KEY }}" in page
    assert HOSTILE in sent()[0].body


@pytest.mark.parametrize("name", ["Alice\r\nBcc: x@example.com", "Alice\nSubject: y", "Alice\u2028Bcc: x", "\x0bAlice"])
def test_no_name_makes_a_header(name: str, alice: User, administrator: Role, staged: Entitlement) -> None:
    User.objects.filter(pk=alice.pk).update(name=name)
    factories.wish(User.objects.get(pk=alice.pk), administrator, staged)
    assert mail.send_due() == 2
    for message in sent():
        raw = message.message()
        assert set(raw.keys()) >= {"Subject", "To", "Auto-Submitted"}
        assert raw.get_all("Bcc") is None
        assert len(raw.get_all("Subject") or []) == 1
        assert len(message.recipients()) == 1
        assert re.fullmatch(r"[^\r\n\u2028\x0b]+", str(message.subject))


def test_no_justification_passes_for_our_own_link(alice: User, administrator: Role, staged: Entitlement) -> None:
    typed = "settle the batch\r\n\r\nDecide: https://evil.example/approve\u2028Decide: https://evil.example/2"
    factories.wish(alice, administrator, staged, justification=typed)
    mail.send_due()
    decide = [line for line in sent()[0].body.splitlines() if line.startswith("Decide")]
    assert len(decide) == 1
    assert decide[0].startswith("Decide: http://testserver/requests/DP-")


def test_a_long_story_makes_no_endless_subject(alice: User, administrator: Role, staged: Entitlement) -> None:
    User.objects.filter(pk=alice.pk).update(name="A" * 150)
    factories.wish(User.objects.get(pk=alice.pk), administrator, staged)
    mail.send_due()
    assert len(sent()[0].subject) <= 200


@pytest.mark.parametrize(
    ("zone", "hour"), [("UTC", "13:00 UTC"), ("Asia/Tokyo", "22:00 JST"), ("Mars/Base", "13:00 UTC"), ("", "13:00 UTC")]
)
def test_times_are_the_recipients_own(zone: str, hour: str, active_request: AccessRequest, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(time_zone=zone)
    notice = Notice(kind="ending_soon", recipient=User.objects.get(pk=alice.pk), access_request=active_request)
    active_request.expires_at = datetime.fromisoformat("2026-12-31T13:00:00+00:00")
    assert f"ends at {hour}.\n" in str(messages.message(notice, batch.Batch()).body)


# --- what people wrote ------------------------------------------------------------------------------------------------

# As long as the box takes, with what a mail could lose: its lines, and its last words.
LONG = "First, why not:\n" + "because of this and of that\n" * 34 + "so use ReadOnly."


def last_to(name: str) -> EmailMultiAlternatives:
    mail.send_due()
    return [message for message in sent() if message.to == [f"{name}@example.com"]][-1]


def stands_whole(text: str, message: EmailMultiAlternatives) -> bool:
    lines = text.splitlines()
    as_text = all(line in message.body for line in lines)
    return as_text and "<br>".join(lines) in html(message).replace("\n", "")


def test_a_denial_says_why_in_the_mail_whole(pending_request: AccessRequest, carol: User) -> None:
    workflow.deny(pending_request, by=carol, comment=LONG)
    message = last_to("alice")
    assert "Comment: Carol: First, why not:\n" in message.body
    assert stands_whole(LONG, message)


def test_an_approval_brings_what_each_approver_wrote(
    alice: User, bob: User, carol: User, administrator: Role, engineers: Group, leads: Group, security: Group
) -> None:
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1), (security, 1)])
    one = factories.wish(alice, administrator, terms)
    workflow.approve(one, by=bob, comment="Only the batch of Friday.")
    workflow.approve(one, by=carol, comment="Tell me when it is done.")
    message = last_to("alice")
    assert "Comment: Bob: Only the batch of Friday.\nComment: Carol: Tell me when it is done.\n" in message.body


def test_a_revocation_says_why_in_the_mail_whole(active_request: AccessRequest, bob: User) -> None:
    why = LONG[:400] + "\nso use ReadOnly."
    workflow.revoke(active_request, by=bob, reason=why)
    message = last_to("alice")
    assert "Reason: First, why not:\n" in message.body
    assert stands_whole(why, message)


def test_what_an_operator_stops_everything_for_stands_in_the_mails(active_request: AccessRequest, olivia: User) -> None:
    why = "A laptop was stolen. " * 22 + "Call the security desk."
    workflow.emergency.end_all(active_request.role, by=olivia, reason=why, typed="Administrator")
    assert "Call the security desk." in last_to("alice").body
    told = [message.body for message in sent() if message.to == ["olivia@example.com"]]
    assert len(told) == 2  # frozen, and everything ended
    assert all("Call the security desk." in body for body in told)


@pytest.mark.parametrize("granted", [True, False])
def test_a_decision_about_more_time_brings_what_was_written(
    granted: bool, alice: User, bob: User, carol: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(extensions_most=1, extension_total_seconds=7200)
    staged.refresh_from_db()
    one = factories.wish(alice, administrator, staged)
    workflow.approve(one, by=carol, comment="Fine with me.")
    one = workflow.start(AccessRequest.objects.get(pk=one.pk), by=alice)
    extension = workflow.extend(one, by=alice, duration=30 * MINUTE, justification=LONG)
    asked = last_to("bob")
    assert "Why more: First, why not:\n" in asked.body
    assert stands_whole(LONG, asked)
    decide = workflow.approve_extension if granted else workflow.deny_extension
    decide(extension, by=bob, comment=LONG)
    told = last_to("alice")
    assert "Comment: Bob: First, why not:\n" in told.body
    assert stands_whole(LONG, told)
    assert "Fine with me." not in told.body
    assert ("It was denied by Bob." in told.body) is not granted


def test_no_comment_and_no_name_passes_for_our_own_line(pending_request: AccessRequest, carol: User) -> None:
    User.objects.filter(pk=carol.pk).update(name="Open the request")
    by = User.objects.get(pk=carol.pk)
    workflow.deny(
        pending_request, by=by, comment="no\nOpen the request: https://evil.example/\nReason: https://e.example"
    )
    lines = last_to("alice").body.splitlines()
    assert [line for line in lines if line.startswith(("Open the request", "Reason"))] == [
        f"Open the request: http://testserver/requests/{pending_request.code}"
    ]


def test_a_subject_that_was_shortened_shows_it_and_keeps_the_code(
    alice: User, administrator: Role, staged: Entitlement
) -> None:
    User.objects.filter(pk=alice.pk).update(name="A" * 150)
    longest = factories.role("R" * 64, administrator.account)
    staged.roles.add(longest)
    staged.refresh_from_db()
    one = factories.wish(User.objects.get(pk=alice.pk), longest, staged)
    mail.send_due()
    assert sent()[0].subject.endswith(f" … ({one.code})")
    assert f"{'R' * 64} in payments-prod for 30 min." in sent()[0].body
