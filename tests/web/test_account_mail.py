"""What anybody may make Daypass write and send about an account: the same for every address, and never a key."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import allauth
import pytest
from allauth.account.models import EmailAddress
from django.contrib.sessions.models import Session
from django.core import mail as mailbox
from django.core.cache import cache
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from portal.logs import without_reset_keys
from requests_app.background import mail
from requests_app.delivery.web import accounts
from requests_app.domain import clock, notices, password_links, store, workflow
from requests_app.domain.errors import Conflict
from requests_app.domain.models import AuditEvent, Notice, User
from tests import factories, letters
from tests.admin.filling import save
from tests.web.pages import page, signed_in
from tests.web.test_sign_in import code_of

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"
RESET = "/accounts/password/reset/"
DAY = timedelta(days=1)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"


class Down(EmailBackend):
    def send_messages(self, messages: Any) -> int:
        raise ConnectionRefusedError("the mail server is down")


@pytest.fixture
def mail_is_down(settings: Any) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.Down"


@pytest.fixture
def alice(alice: User) -> User:
    alice.set_password(PASSWORD)
    alice.save(update_fields=["password"])
    return alice


def ask(address: str, client: Client | None = None, **headers: Any) -> Any:
    return (client or Client()).post(RESET, {"email": address}, **headers)


def link_in(message: Any) -> str:
    (found,) = re.findall(r"https?://\S+/accounts/password/reset/key/\S+", str(message.body))
    return str(found)


def path_of(message: Any) -> str:
    return link_in(message).removeprefix("http://testserver")


def test_a_stranger_keeps_nobody_from_a_second_factor(alice: User) -> None:
    ask("alice@example.com")
    mail.send_due()
    client = signed_in(alice)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})

    assert client.get("/accounts/2fa/totp/activate/").status_code == 200
    assert not EmailAddress.objects.exists()


def test_rows_from_before_keep_nobody_from_a_second_factor(alice: User) -> None:
    EmailAddress.objects.create(user=alice, email=alice.email, verified=False)
    client = signed_in(alice)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})

    assert client.get("/accounts/2fa/totp/activate/").status_code == 200


@pytest.mark.usefixtures("mail_is_down")
def test_with_the_mail_server_down_no_address_is_told_from_another(alice: User) -> None:
    answers = [ask(one) for one in ("alice@example.com", "nobody@example.com")]

    assert {(one.status_code, one.headers.get("Location")) for one in answers} == {
        (302, "/accounts/password/reset/done/")
    }


@pytest.mark.usefixtures("mail_is_down")
def test_a_password_is_changed_whatever_the_mail_server_does(alice: User) -> None:
    client = signed_in(alice)
    new = "a new long pass phrase"
    answer = client.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": new, "password2": new})

    assert answer.status_code == 302
    alice.refresh_from_db()
    assert alice.check_password(new)


def test_a_link_leads_where_daypass_is_and_not_where_the_caller_said(alice: User) -> None:
    ask("alice@example.com", SERVER_PORT="8443", HTTP_HOST="testserver:8443")
    mail.send_due()

    assert link_in(mailbox.outbox[0]).startswith("http://testserver/accounts/")


def test_a_used_link_says_so_and_offers_a_new_one(alice: User) -> None:
    ask("alice@example.com")
    mail.send_due()
    address = path_of(mailbox.outbox[0])
    alice.set_password("something else entirely")
    alice.save(update_fields=["password"])

    shown = page(Client().get(address, follow=True))
    assert "does not work any more" in shown.text
    assert "Bad Token" not in shown.text
    assert RESET in [form.get("action") for form in shown.all("form")]


# --- the same for everybody -------------------------------------------------------------------------


def test_every_address_is_answered_alike_statement_for_statement(alice: User, bob: User) -> None:
    workflow.people.deactivate(bob, by=None)

    def asked(address: str) -> tuple[Any, ...]:
        with CaptureQueriesContext(connection) as queries:
            answer = ask(address)
        shapes = [re.sub(r"'[^']*'|[0-9]+|NULL", "?", one["sql"]) for one in queries]
        return answer.status_code, sorted(answer.headers.items()), answer.content, shapes

    ask("alice@example.com")  # what a process does once
    known, unknown, inactive = (asked(f"{name}@example.com") for name in ("alice", "nobody", "bob"))
    assert known == unknown == inactive
    assert len(known[3]) > 3


def test_every_address_nudges_the_worker_alike(
    alice: User, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    nudged = []
    monkeypatch.setattr("requests_app.domain.jobs._send", lambda job, args: nudged.append(job))
    for address in ("alice@example.com", "nobody@example.com"):
        with django_capture_on_commit_callbacks(execute=True):
            ask(address)
    assert nudged == ["default.sweep_outbox"] * 2


def test_nothing_of_an_unknown_address_is_kept(alice: User) -> None:
    ask("hunter2-typed-in-the-wrong-box@example.com")
    assert not Notice.objects.exists()
    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.subject, event.detail) == ("password.asked", "an unknown address", {})


# --- how much of it ---------------------------------------------------------------------------------


def test_a_stranger_cannot_fill_somebodys_mailbox_nor_use_up_their_links(alice: User) -> None:
    """Whoever gets no further link has one that works."""
    for hour in range(30):
        with clock.moved(timedelta(hours=hour)):
            for _ in range(4):
                cache.clear()  # from one address after another
                assert ask("alice@example.com").status_code == 302
            mail.send_due()
            assert Client().get(path_of(mailbox.outbox[-1])).status_code == 302, hour
    first = Notice.objects.earliest("pk").created_at
    assert Notice.objects.filter(created_at__lt=first + DAY).count() == notices.LINKS_PER_DAY


@pytest.mark.django_db(transaction=True)
def test_many_at_once_get_round_no_limit(alice: User) -> None:
    def ask_once(_: int) -> None:
        try:
            workflow.accounts.ask_for_new_password("alice@example.com")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask_once, range(16)))
    assert 1 <= Notice.objects.filter(kind="new_password").count() <= notices.LINKS_PER_HOUR


def test_what_strangers_asked_for_keeps_nobody_from_asking(alice: User) -> None:
    """The limit by address was allauth's: five a minute, whoever asked."""
    for number in range(8):
        assert ask("alice@example.com", REMOTE_ADDR=f"203.0.113.{number}").status_code == 302


def test_somebody_elses_links_are_their_own(alice: User, carol: User) -> None:
    for _ in range(5):
        ask("alice@example.com")
    ask("carol@example.com")
    mail.send_due()
    assert {message.to[0] for message in mailbox.outbox} == {"alice@example.com", "carol@example.com"}


def test_of_links_that_wait_for_the_mail_server_the_last_is_sent(alice: User) -> None:
    for _ in range(3):
        ask("alice@example.com")
    mail.send_due()
    assert len(mailbox.outbox) == 1
    assert Notice.objects.filter(last_error="a newer link was asked for meanwhile").count() == 2


# --- keys are nowhere -------------------------------------------------------------------------------


class Repeats(EmailBackend):
    """A mail server that says what it refuses."""

    def send_messages(self, messages: Any) -> int:
        super().send_messages(messages)
        raise RuntimeError(f"refused: {messages[0].body}")


def test_a_key_is_in_no_row_and_not_in_redis(alice: User, settings: Any) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.Repeats"
    ask("alice@example.com")
    mail.send_due()
    path = path_of(mailbox.outbox[0])
    client = signed_in(User.objects.get(username=factories.person("erin").username))  # who has a session
    client.get(path, follow=True)
    client.post("/accounts/password/choose/", {"password1": "x", "password2": "y"})
    assert client.get(path).status_code == 302  # it works
    secret = path.rstrip("/").rpartition("-")[2]
    assert len(secret) == 32

    with connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            assert not [row for (row,) in cursor.fetchall() if secret in row], table
    sessions = Session.objects.all()
    assert sessions
    assert not [one for one in sessions if secret in str(one.get_decoded())]
    redis: Any = store.client()
    assert not [key for key in redis.scan_iter("*") if secret in str(key) + str(redis.dump(key))]
    assert "RuntimeError" in Notice.objects.get(recipient=alice).last_error


def test_no_key_is_in_a_log(alice: User) -> None:
    line = "GET " + reverse("password_link", args=[password_links.make(alice, Notice.Kind.INVITED)])
    assert without_reset_keys(None, "", {"request": line})["request"] == "GET /accounts/password/reset/key/…/"


# --- when a link works ------------------------------------------------------------------------------


NEW = {"password1": "a new long pass phrase", "password2": "a new long pass phrase"}


def key_for(person: User) -> str:
    return password_links.make(User.objects.get(pk=person.pk), Notice.Kind.NEW_PASSWORD)


@pytest.mark.parametrize("since", ["used", "signed in", "other address", "deactivated", "too old"])
def test_what_ends_a_link(since: str, alice: User) -> None:
    key = key_for(alice)
    assert password_links.person_of(key) == alice
    match since:
        case "used":
            workflow.accounts.use_link(key, NEW["password1"])
        case "signed in":
            Client().post("/accounts/login/", {"login": "alice", "password": PASSWORD})
        case "other address":
            User.objects.filter(pk=alice.pk).update(email="alice@other.example.com")
        case "deactivated":
            workflow.people.deactivate(alice, by=None)
    with clock.moved(timedelta(hours=25) if since == "too old" else timedelta(0)):
        assert password_links.person_of(key) is None
        with pytest.raises(Conflict):
            workflow.accounts.use_link(key, "another long pass phrase")


@pytest.mark.parametrize("key", ["x", "1-cz3k2-9f8e7d6c5b", "0" * 32 + "-cz3k2-" + "0" * 32, "-", "a" * 400])
def test_whatever_is_no_link_gets_the_page_that_offers_one(key: str, alice: User) -> None:
    answer = Client().get(f"{RESET}key/{key}/")
    assert answer.status_code == 200
    assert "does not work any more" in page(answer).text
    client = Client()
    client.cookies["password-link"] = key
    assert "does not work any more" in page(client.post("/accounts/password/choose/", NEW)).text


def test_a_password_that_is_too_weak_is_said_and_the_link_goes_on(alice: User) -> None:
    client = Client()
    client.get(f"{RESET}key/{key_for(alice)}/")
    shown = page(client.post("/accounts/password/choose/", {"password1": "short", "password2": "short"}))
    assert "too short" in shown.text
    assert client.post("/accounts/password/choose/", NEW).headers["Location"] == "/accounts/login/"


def test_choosing_a_password_opens_what_failed_attempts_had_closed(alice: User) -> None:
    client = Client()
    for _ in range(6):
        client.post("/accounts/login/", {"login": "alice@example.com", "password": "wrong"})
    client.get(f"{RESET}key/{key_for(alice)}/")
    client.post("/accounts/password/choose/", NEW)
    signed = client.post("/accounts/login/", {"login": "alice@example.com", "password": NEW["password1"]})
    assert signed.status_code == 302


def test_choosing_a_password_signs_out_whoever_is_signed_in_there(alice: User, mallory: User) -> None:
    client = signed_in(mallory)
    client.get(f"{RESET}key/{key_for(alice)}/")
    client.post("/accounts/password/choose/", NEW)
    assert client.get("/").status_code == 302


# --- word of what was changed -----------------------------------------------------------------------


def test_a_changed_password_is_told_in_our_own_mail(alice: User) -> None:
    client = signed_in(alice)
    client.post("/accounts/password/change/", {"oldpassword": PASSWORD, **NEW}, HTTP_USER_AGENT=FIREFOX)
    mail.send_due()
    (message,) = mailbox.outbox
    assert message.subject == "Your password was changed (Daypass)"
    assert "It was done from 127.0.0.1, with Firefox on Linux." in message.body
    assert "Mozilla" not in message.body
    assert "http://testserver/accounts/sessions/" in message.body
    event = AuditEvent.objects.get(action="password.set")
    assert (event.actor, event.user_agent) == (alice, FIREFOX)


def test_a_first_password_is_told_as_what_it_is(alice: User, olivia: User) -> None:
    alice.set_unusable_password()
    alice.save(update_fields=["password"])
    for kind, said in (
        (Notice.Kind.INVITED, "Your first password was chosen"),
        (Notice.Kind.NEW_PASSWORD, "Your password was changed"),
    ):
        client = Client()
        client.get(f"{RESET}key/{password_links.make(User.objects.get(pk=alice.pk), kind)}/")
        client.post("/accounts/password/choose/", NEW, HTTP_USER_AGENT="a script. Call 555 now")
        mail.send_due()
        message = mailbox.outbox.pop()
        assert message.subject == f"{said} (Daypass)"
        assert f"{said}. It was done from 127.0.0.1.\n" in message.body
        assert "If this was not you, tell an operator now." in message.body


def test_whatever_allauth_mails_is_known_and_goes_by_the_outbox(alice: User, rf: Any) -> None:
    """From its own source: a new kind of mail in a new release fails here first, and is still sent."""
    folder = Path(allauth.__file__).parent
    files = [file for part in ("account", "mfa", "usersessions") for file in (folder / part).rglob("*.py")]
    asks = re.compile(r'send_notification_mail\(\s*"([^"]+)"')
    found = {name for file in files for name in asks.findall(file.read_text())}
    of_pages_left_out = {"account/email/email_changed", "account/email/email_deleted", "account/email/password_reset"}
    assert found - of_pages_left_out == set(accounts._TOLD)

    adapter = accounts.AccountAdapter(rf.get("/"))
    adapter.send_notification_mail("mfa/email/something_new", alice)
    adapter.send_mail("account/email/something_else", "alice@example.com", {})
    mail.send_due()
    assert [message.subject for message in mailbox.outbox] == ["How you sign in was changed (Daypass)"]


@pytest.mark.usefixtures("mail_is_down")
def test_a_second_factor_is_set_up_and_taken_off_whatever_the_mail_server_does(
    alice: User, django_capture_on_commit_callbacks: Any
) -> None:
    client = signed_in(alice)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    with django_capture_on_commit_callbacks(execute=True):
        secret = client.get("/accounts/2fa/totp/activate/").context["form"].secret
        assert client.post("/accounts/2fa/totp/activate/", {"code": code_of(secret)}).status_code == 302
    with django_capture_on_commit_callbacks(execute=True):
        assert client.post("/accounts/2fa/recovery-codes/generate/").status_code == 302
    assert client.post("/accounts/2fa/totp/deactivate/").status_code == 302
    told = [letters.sentence(one) for one in Notice.objects.order_by("pk")]
    assert [one.split(".")[0] for one in told] == [
        "An authenticator app was set up as your second factor",
        "New recovery codes were made for you",
        "Your authenticator app was turned off as your second factor",
    ]


@pytest.mark.parametrize("who", ["an operator", "oneself"])
def test_another_address_is_told_at_both(who: str, alice: User, olivia: User) -> None:
    whose = alice if who == "an operator" else olivia
    before, address = whose.email, reverse("admin:requests_app_user_change", args=[whose.pk])
    assert save(signed_in(olivia), address, email="another@example.com").status_code == 302
    mail.send_due()

    told = [one for one in letters.sent() if "another address" in one.subject]
    assert [one.to for one in told] == [[before], ["another@example.com"]]
    by = "Olivia gave" if who == "an operator" else "You gave"
    assert all(one.body.startswith(f"{by} your account another address.") for one in told)
    assert "another@example.com" not in told[0].body, "whoever reads the old one need not know the new"
    assert "tell an operator now" in told[0].body


def test_the_same_address_in_other_letters_is_no_other(alice: User, olivia: User) -> None:
    at = reverse("admin:requests_app_user_change", args=[alice.pk])
    save(signed_in(olivia), at, email=alice.email.upper(), name="Alicia")
    assert not Notice.objects.filter(kind=Notice.Kind.ACCOUNT).exists()
