"""What a mail says: in the reader's own time, whole, and never in the place of what we say ourselves."""

import re
from datetime import datetime, timedelta

import pytest
from django.core.mail import EmailMultiAlternatives

from requests_app.background import mail
from requests_app.background.mail import batch, messages
from requests_app.domain import clock, workflow
from requests_app.domain.models import AccessRequest, Entitlement, Group, Notice, Role, User
from tests import factories
from tests.letters import html, sent

MINUTE = timedelta(minutes=1)

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
    ("zone", "hour"),
    [
        ("UTC", "13:00 UTC"),
        ("America/Sao_Paulo", "10:00 America/Sao_Paulo"),
        ("Mars/Base", "13:00 UTC"),
        ("", "13:00 UTC"),
    ],
)
def test_times_are_the_recipients_own(zone: str, hour: str, active_request: AccessRequest, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(time_zone=zone)
    notice = Notice(kind="ending_soon", recipient=User.objects.get(pk=alice.pk), access_request=active_request)
    active_request.expires_at = datetime.fromisoformat("2026-12-31T13:00:00+00:00")
    with clock.moved(active_request.expires_at - timedelta(hours=1) - clock.now()):
        assert f"ends at {hour}.\n" in str(messages.message(notice, batch.Batch()).body)
    with clock.moved(active_request.expires_at - timedelta(days=2) - clock.now()):
        assert f"ends at 31 Dec 2026 {hour}.\n" in str(messages.message(notice, batch.Batch()).body)


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
