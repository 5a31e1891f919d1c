"""Mail about acceptance, more time, what is stuck and what was edited: in their words, and only while it is true."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core import mail as mailbox

from requests_app.background import mail
from requests_app.background.mail import batch, messages
from requests_app.domain import clock, workflow
from requests_app.domain.durations import at_in_words
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    Entitlement,
    Extension,
    Group,
    Membership,
    Notice,
    Role,
    User,
)
from requests_app.domain.workflow import freezes, own_edits, sweeps
from tests import factories
from tests.letters import at

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
KATHMANDU = "Asia/Kathmandu"
WHY = "it takes longer than we thought"


def sent() -> list[tuple[str, str]]:
    """To whom, and the subject without the code, of what is sent now."""
    mailbox.outbox.clear()
    while mail.send_due():
        pass
    return sorted((message.to[0].partition("@")[0], message.subject.split(" (DP-")[0]) for message in mailbox.outbox)


def why_not(kind: str) -> str:
    (why,) = Notice.objects.filter(kind=kind, sent_at=None).values_list("last_error", flat=True).distinct()
    return str(why)


@pytest.fixture
def erin(staged: Entitlement) -> User:
    """Of the service desk, which may ask for others."""
    desk = factories.group("Service desk")
    staged.askers.add(desk)
    return factories.person("erin", desk)


@pytest.fixture
def for_alice(erin: User, alice: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    return factories.wish(erin, administrator, staged, beneficiary=alice)


@pytest.fixture
def running(alice: User, bob: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    """Half an hour is left of an hour."""
    Entitlement.objects.update(extensions_most=2, extension_total_seconds=7200)
    staged.refresh_from_db()
    with clock.moved(-30 * MINUTE):
        one = factories.wish(alice, administrator, staged, duration=HOUR)
        workflow.approve(one, by=bob)
        workflow.start(one, by=alice)
    Notice.objects.update(gave_up_at=clock.now(), last_error="of before")
    return AccessRequest.objects.get(pk=one.pk)


ABOUT_A_REQUEST = {
    *("asked", "reminded", "decided", "issued", "ending_soon", "ended", "not_denied", "held", "accept", "more_asked"),
    *("more_decided", "stuck", "no_use"),
}


def more(of: AccessRequest) -> Extension:
    return workflow.extend(of, by=of.beneficiary, duration=HOUR, justification=WHY)


# --- scheduled ---------------------------------------------------------------------------------------


def text_of(kind: str) -> str:
    """The sentence, and the facts below it."""
    people = ("recipient", "access_request__role__account", "access_request__beneficiary", "access_request__requester")
    notice = Notice.objects.filter(kind=kind).select_related(*people).order_by("pk").first()
    assert notice is not None
    return str(messages.message(notice, batch.Batch()).body)


def test_mails_say_when_it_begins_by_the_clock_of_whoever_reads(
    alice: User, bob: User, carol: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.update(schedule_ahead_seconds=7 * 86_400)
    User.objects.update(time_zone="Asia/Kathmandu")
    at = clock.now() + 5 * HOUR
    one = factories.wish(alice, administrator, staged, start="at_time", start_at=at)

    def there(when: datetime) -> str:
        return at_in_words(when, ZoneInfo("Asia/Kathmandu"))

    assert f"\nStarts: by itself, {there(at)}\n" in text_of("asked")

    workflow.approve(one, by=bob, start_at=at + 3 * HOUR, duration=10 * MINUTE)
    decided = text_of("decided")
    assert f"for 10 min was approved by Bob and begins by itself at {there(at + 3 * HOUR)}.\n" in decided
    assert "\nHow long: 10 min (30 min was asked for)\n" in decided
    assert f"\nStarts: by itself, {there(at + 3 * HOUR)} ({there(at)} was asked for)\n" in decided


def test_what_began_when_it_was_approved_does_not_say_that_it_will(
    alice: User, bob: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.update(schedule_ahead_seconds=7 * 86_400, pending_seconds=7 * 86_400)
    staged.refresh_from_db()
    with clock.moved(-2 * HOUR):
        at = clock.now() + HOUR
        one = factories.wish(alice, administrator, staged, start="at_time", start_at=at)
    workflow.approve(one, by=bob)

    assert "was approved by Bob and has begun.\n" in text_of("decided")


def test_what_is_not_scheduled_says_nothing_of_a_start(pending_request: AccessRequest, bob: User) -> None:
    workflow.approve(pending_request, by=bob)
    assert "Starts" not in text_of("decided")
    assert "for 30 min was approved by Bob.\n" in text_of("decided")


# --- for somebody else ----------------------------------------------------------------------------


def test_what_is_asked_for_another_is_said_so_to_each(for_alice: AccessRequest, alice: User, bob: User) -> None:
    what = "Administrator in payments-prod"
    assert sent() == [("alice", f"Erin asks for {what} for 30 min, for you. It counts when you accept it")]
    workflow.accept(for_alice, by=alice)
    asked = f"Erin asks for {what} for 30 min, for Alice"
    assert sent() == [("bob", asked), ("carol", asked)]
    workflow.approve(for_alice, by=bob)
    assert sent() == [
        ("alice", f"What Erin asked for you, {what} for 30 min was approved by Bob"),
        ("erin", f"Your request for {what} for Alice for 30 min was approved by Bob"),
    ]


@pytest.mark.parametrize("since", ["accepted", "declined", "lapsed"])
def test_nobody_is_asked_to_accept_what_is_settled(since: str, for_alice: AccessRequest, alice: User) -> None:
    match since:
        case "accepted":
            workflow.accept(for_alice, by=alice)
        case "declined":
            workflow.withdraw(for_alice, by=alice)
    with clock.moved(timedelta(days=1) if since == "lapsed" else timedelta(0)):
        told = sent()
    assert not any("for you" in subject for _, subject in told)
    assert why_not("accept") == "accepted or ended meanwhile"
    if since == "declined":
        assert told == [("erin", "The request for Administrator in payments-prod for Alice was withdrawn by Alice")]


# --- more time ------------------------------------------------------------------------------------


def test_more_time_is_asked_for_and_given_in_the_readers_own_time(
    running: AccessRequest, alice: User, bob: User
) -> None:
    User.objects.filter(pk=alice.pk).update(time_zone=KATHMANDU)
    extension = more(running)
    end = running.expires_at
    assert end is not None
    asked = f"Alice asks for 1 h more with Administrator in payments-prod, until {at(end + HOUR)}"
    assert sent() == [("bob", asked), ("carol", asked)]
    workflow.approve_extension(extension, by=bob)
    assert sent() == [
        (
            "alice",
            f"Your pass for Administrator in payments-prod goes on until {at(end + HOUR, KATHMANDU)}. "
            f"Credentials that you have work until {at(end, KATHMANDU)}: get new ones for the time after",
        )
    ]


def test_a_no_says_when_it_ends(running: AccessRequest, bob: User) -> None:
    end = running.expires_at
    assert end is not None
    plain = f"Your pass for Administrator in payments-prod gets no more time: it ends at {at(end)}."
    workflow.deny_extension(more(running), by=bob)
    assert sent() == [("alice", f"{plain} It was denied by Bob")]


def test_a_silence_says_when_it_ends(alice: User, bob: User, administrator: Role, staged: Entitlement) -> None:
    Entitlement.objects.update(extensions_most=1, extension_total_seconds=7200, pending_seconds=600)
    staged.refresh_from_db()
    one = factories.wish(alice, administrator, staged, duration=HOUR)
    workflow.approve(one, by=bob)
    one = workflow.start(one, by=alice)
    more(one)
    sent()
    with clock.moved(10 * MINUTE):
        assert sweeps.lapse_extensions() == 1
        ((who, subject),) = sent()
    assert who == "alice"
    assert one.expires_at is not None
    assert subject.endswith(f"it ends at {at(one.expires_at)}. Nobody decided in time")


@pytest.mark.parametrize("since", ["granted", "withdrawn", "given back", "left the group"])
def test_who_need_not_decide_on_more_time_is_not_asked(
    since: str, running: AccessRequest, alice: User, bob: User, carol: User
) -> None:
    extension = more(running)
    match since:
        case "granted":
            workflow.approve_extension(extension, by=carol)
        case "withdrawn":
            workflow.withdraw_extension(extension, by=alice)
        case "given back":
            workflow.give_back(running, by=alice)
        case "left the group":
            Membership.objects.filter(user=bob).delete()
    assert "bob" not in dict(sent())
    assert Notice.objects.get(kind="more_asked", recipient=bob).last_error == "decided meanwhile"


def test_a_pass_that_is_over_is_told_nothing_of_more_time(running: AccessRequest, bob: User, alice: User) -> None:
    workflow.approve_extension(more(running), by=bob)
    workflow.give_back(running, by=alice)
    assert sent() == [("alice", "You gave back your pass for Administrator in payments-prod")]
    assert why_not_of("more_decided") == {"ended meanwhile"}


def why_not_of(kind: str) -> set[str]:
    return set(Notice.objects.filter(kind=kind, sent_at=None).values_list("last_error", flat=True))


def test_an_end_that_moved_is_not_announced_as_near(running: AccessRequest, bob: User) -> None:
    with clock.moved(16 * MINUTE):
        assert sweeps.announce_endings() == 1
    workflow.approve_extension(more(running), by=bob)
    with clock.moved(16 * MINUTE):
        subjects = [subject for _, subject in sent()]
    assert not any(" ends at " in subject for subject in subjects)
    assert "extended meanwhile" in why_not_of("ending_soon")


# --- what is stuck, and what was edited -----------------------------------------------------------


def test_what_is_stuck_is_said_to_whoever_asked_and_to_the_operators(
    pending_request: AccessRequest, leads: Group, olivia: User, alice: User
) -> None:
    Membership.objects.filter(group=leads).delete()
    sweeps.tell_stuck()
    said = "Nobody can decide on Administrator in payments-prod for Alice any more: too few people are left at stage 1"
    assert sent() == [("alice", said), ("olivia", said)]


def test_what_was_stuck_and_is_over_is_not_said_any_more(
    pending_request: AccessRequest, leads: Group, olivia: User, alice: User
) -> None:
    Membership.objects.filter(group=leads).delete()
    sweeps.tell_stuck()
    workflow.withdraw(pending_request, by=alice)
    assert sent() == []


def test_what_has_ended_because_it_could_come_to_nothing_says_why(pending_request: AccessRequest) -> None:
    Role.objects.update(is_active=False)
    sweeps.lapse_hopeless()
    (told,) = sent()
    assert told == (
        "alice",
        "The request for Administrator in payments-prod for Alice has ended. The role or its account was taken out "
        "of use, or someone whom it concerns was deactivated",
    )


def test_an_edit_is_told_to_the_other_operators_until_it_is_confirmed(olivia: User, staged: Entitlement) -> None:
    peter = factories.person("peter", is_operator=True)
    factories.person("gone", is_operator=True, deactivated_at=clock.now())
    first = own_edits.note(staged, by=olivia, change={})
    assert sent() == [
        (
            "peter",
            f"Olivia changed {staged.name}. For Olivia this does not count until another operator has confirmed it",
        )
    ]
    own_edits.confirm(first, by=peter)
    own_edits.confirm(own_edits.note(staged, by=olivia, change={}), by=peter)
    assert sent() == []
    assert why_not("unconfirmed") == "confirmed meanwhile"


def test_the_operators_hear_what_nobody_could_approve(
    alice: User, administrator: Role, engineers: Group, olivia: User
) -> None:
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(factories.group("Empty"), 1)])
    for _ in range(2):
        with pytest.raises(Exception, match="stage 1"):
            factories.wish(alice, administrator, terms)
    ((who, subject),) = sent()
    assert who == "olivia"
    assert "Too few people could decide stage 1" in subject


TEMPLATES = Path(__file__).parents[2] / "templates/mail"


def test_every_kind_of_notice_has_a_template_and_no_other_is_there() -> None:
    assert {file.stem for file in TEMPLATES.glob("*.txt")} == set(Notice.Kind)


@pytest.fixture
def whole(running: AccessRequest, olivia: User) -> dict[str, Any]:
    """Whatever a notice can be about, at once."""
    role, entitlement = running.role, running.entitlement
    extension = more(running)
    Membership.objects.filter(user=running.beneficiary).delete()
    freeze = freezes.freeze(factories.role("Other"), by=olivia, reason="A laptop was stolen.")
    freeze.lift_asked_by, freeze.lifted_by = factories.person("oscar"), olivia
    event = AuditEvent(
        actor_name="Olivia",
        subject="payments-prod",
        beneficiary_name="Alice",
        ip="192.0.2.7",
        detail={
            "scope": "account",
            "passes": 4,
            "reason": "A laptop was stolen.",
            "message": "Nobody can decide.",
            "ended": 1200,
            "others": 3,
            "factors": ["authenticator app"],
            "denied_before": NOON,
            "held_until": NOON,
        },
    )
    detail = {"task": "revoke.work", "error": "KeyError", "where": "x.py:1", "codes": ["DP-1"], "number": 2}
    return {
        "access_request": running,
        "extension": extension,
        "stage": 1,
        "state": "active",
        "freeze": freeze,
        "edit": own_edits.note(entitlement, by=olivia, change={}),
        "role": role,
        "entitlement": entitlement,
        "event": event,
        "detail": detail | {"generation": 1, "change": "app_added", "ip": "192.0.2.7", "browser": "Firefox on Linux"},
    }


NOON = "2026-11-30T12:00:00+00:00"


@pytest.mark.parametrize("kind", Notice.Kind)
def test_every_kind_of_notice_reads_as_a_sentence(kind: str, whole: dict[str, Any], alice: User) -> None:
    message = messages.message(Notice(kind=kind, recipient=alice, created_at=clock.now(), **whole), batch.Batch())
    sentence = str(message.body).partition("\n")[0]
    assert sentence.endswith(".")
    assert re.fullmatch(r"(\S+ )*\S+", sentence)
    assert not re.search(r"None| [,.:]|\(\)|\{", sentence)
    assert message.subject
    assert re.search(r"^[A-Z][\w ]+: http://testserver/", str(message.body), re.MULTILINE)
    # Plain text for a phone: what we say of ourselves in a paragraph, nothing that has to be scrolled to the side.
    assert not re.search(r"[<>\t]|  \S", str(message.body))


SUBJECTS = {
    "invited": "Your account in Daypass: choose a password",
    "new_password": "Choose a new password for Daypass",
}


@pytest.mark.parametrize("kind", sorted(set(Notice.Kind) - ABOUT_A_REQUEST))
def test_what_was_queued_by_the_version_before_goes_out_in_its_words(kind: str, alice: User) -> None:
    told = Notice(
        kind=kind, recipient=alice, created_at=clock.now(), about="Something <b>\nhappened.", key=f"{kind}::1:x"
    )
    message = messages.message(told, batch.Batch())
    assert str(message.body).startswith("Something <b> happened.\n")
    assert message.subject == SUBJECTS.get(kind, "Something <b> happened")
    assert "Something &lt;b&gt; happened." in str(message.alternatives[0][0])


def test_more_time_that_nobody_can_decide_is_told_in_its_words_and_only_while_it_is_so(
    running: AccessRequest, alice: User, olivia: User, leads: Group, bob: User
) -> None:
    first = more(running)
    sent()
    Membership.objects.filter(group=leads).delete()
    assert sweeps.tell_stuck() == 1
    said = "Nobody can decide on more time with Administrator in payments-prod for Alice any more: "
    assert sent() == [(name, f"{said}too few people are left at stage 1") for name in ("alice", "olivia")]
    workflow.withdraw_extension(first, by=alice)
    Membership.objects.create(group=leads, user=bob)
    more(running)
    sent()
    Membership.objects.filter(group=leads).delete()
    assert sweeps.tell_stuck() == 1
    Membership.objects.create(group=leads, user=bob)
    assert sent() == []
    assert why_not("stuck") == "ended or mended meanwhile"
