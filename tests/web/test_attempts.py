"""Guessing a password or a code: counted in rows before it is looked at, and by what keeps nobody else out."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import reverse

from requests_app.delivery.web import attempts
from requests_app.domain import clock, workflow
from requests_app.domain.errors import TooMany
from requests_app.domain.models import Attempts, AuditEvent, Notice, User
from tests import letters
from tests.web.pages import Page, page, signed_in
from tests.web.test_sessions import everything_stored

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"
SECRET = "JBSWY3DPEHPK3PXP"


@pytest.fixture
def alice(alice: User) -> User:
    alice.set_password(PASSWORD)
    alice.save(update_fields=["password"])
    return alice


@pytest.fixture(autouse=True)
def time_stands_still(db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """But where a test moves it: on a busy machine a wait of a second is over before the next guess."""
    stands = clock.now()
    monkeypatch.setattr(workflow.attempts, "clock", SimpleNamespace(now=lambda: stands + clock.shift()))


def attempt(name: str = "alice", password: str = "wrong", client: Client | None = None, **where: Any) -> Page:
    typed = {"login": name, "password": password}
    return page((client or Client()).post("/accounts/login/", typed, follow=True, **where))


def guesses(number: int, client: Client | None = None, name: str = "alice") -> Page:
    """So many wrong passwords, each from another address and another port of ours; what the last one got."""
    for one in range(number):
        where: Any = {"REMOTE_ADDR": f"203.0.113.{one}", "HTTP_HOST": f"testserver:{8000 + one}"}
        last = attempt(name, client=client, **where)
    return last


def known_browser(person: User) -> Client:
    client = Client()
    assert "My access" in attempt(person.username, PASSWORD, client).text
    client.post("/accounts/logout/")
    return client


# --- whom it slows down, and whom not ----------------------------------------------------------


def test_guesses_are_counted_wherever_they_come_from_and_whatever_host_they_name(alice: User) -> None:
    assert "Too many" not in guesses(attempts.FREE).text
    refused = attempt(password=PASSWORD)
    assert "Too many" in refused.text
    assert "Wait 1 s" in refused.text
    assert refused.problems == []


def test_guesses_become_slower_and_never_a_lock(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new browser of theirs gets in between two guesses, however long somebody has been guessing."""
    at = [clock.now()]
    monkeypatch.setattr(workflow.attempts, "clock", SimpleNamespace(now=lambda: at[0]))
    guesses(attempts.FREE)
    waits = []
    for _ in range(8):
        begun = at[0]
        while "Too many" in attempt().text:
            at[0] += timedelta(seconds=1)
        waits.append((at[0] - begun).total_seconds())
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]

    at[0] += timedelta(seconds=30)
    assert "My access" in attempt(password=PASSWORD).text


def test_an_operator_signs_in_where_they_did_before_while_somebody_hammers_their_account(olivia: User) -> None:
    olivia.set_password(PASSWORD)
    olivia.save(update_fields=["password"])
    hers = known_browser(olivia)
    assert "Too many" in guesses(40, name="olivia").text

    assert "My access" in attempt("olivia", PASSWORD, hers).text


def test_a_known_browser_has_a_budget_of_its_own_and_opens_nothing_of_others(alice: User, mallory: User) -> None:
    his = known_browser(alice)
    guesses(attempts.FREE + 1)
    assert "Too many" not in guesses(attempts.OF_A_BROWSER, his).text
    assert "Too many" in attempt(password=PASSWORD, client=his).text
    with clock.moved(attempts.SOON + timedelta(seconds=1)):
        assert "My access" in attempt(password=PASSWORD, client=his).text

    mallory.set_password(PASSWORD)
    mallory.save(update_fields=["password"])
    hers = known_browser(mallory)
    guesses(1)
    assert "Too many" in guesses(1, hers).text


@pytest.mark.parametrize("end", ["sign-ins", "password"])
def test_a_browser_is_no_longer_known_when_their_sign_ins_have_ended(end: str, alice: User) -> None:
    his = known_browser(alice)
    if end == "password":
        alice.set_password("another one, and long")
        alice.save(update_fields=["password"])
    else:
        User.objects.filter(pk=alice.pk).update(sign_in_epoch=alice.sign_in_epoch + 1)
    guesses(attempts.FREE)
    assert "Too many" in attempt(client=his).text


def test_a_source_has_few_guesses_whoever_is_meant(alice: User) -> None:
    """A /64 of IPv6 addresses is one person's."""
    for one in range(attempts.OF_A_SOURCE):
        assert "Too many" not in attempt(f"nobody{one}", REMOTE_ADDR=f"2001:db8:0:7::{one:x}").text
    assert "Too many" in attempt("alice", PASSWORD, REMOTE_ADDR="2001:db8:0:7:ffff::1").text
    assert "My access" in attempt("alice", PASSWORD, REMOTE_ADDR="2001:db8:0:8::1").text


def test_those_who_sign_in_use_up_nothing_of_their_source(alice: User) -> None:
    """An office that stands behind one address."""
    for _ in range(attempts.OF_A_SOURCE + 5):
        assert "My access" in attempt(password=PASSWORD).text


@pytest.mark.parametrize(
    ("guessers", "other"),
    [
        ({"REMOTE_ADDR": "::ffff:203.0.113.1"}, {"REMOTE_ADDR": "::ffff:198.51.100.7"}),
        ({"REMOTE_ADDR": "64:ff9b::cb00:7101"}, {"REMOTE_ADDR": "64:ff9b::c633:6407"}),
        ({"REMOTE_ADDR": "172.18.0.1"}, {"REMOTE_ADDR": "172.18.0.1"}),
        ({"REMOTE_ADDR": "100.64.3.4", "HTTP_X_FORWARDED_FOR": "203.0.113.9"}, {"REMOTE_ADDR": "100.64.3.4"}),
        ({"REMOTE_ADDR": "198.51.100.1", "HTTP_FORWARDED": "for=203.0.113.9"},) * 2,
    ],
)
def test_nobody_locks_all_out(guessers: Any, other: Any, alice: User) -> None:
    """Where many come from one place, as far as anybody can tell, guesses there keep nobody out."""
    for one in range(attempts.OF_A_SOURCE + 1):
        attempt(f"nobody{one}", **guessers)
    assert "My access" in attempt(password=PASSWORD, **other).text


def test_a_crowd_is_slowed_too(alice: User) -> None:
    """Whoever writes a header of a proxy into their requests has no more guesses by that than all of a crowd."""
    crowd: Any = {"REMOTE_ADDR": "10.0.0.5", "HTTP_X_FORWARDED_FOR": "203.0.113.9"}
    request = RequestFactory().get("/", **crowd)
    for one in range(attempts.OF_A_CROWD):
        attempts.reserve_password(request, f"nobody{one}")
    assert "Too many" in attempt("another", **crowd).text


def test_what_is_refused_by_one_limit_ends_no_wait_by_another(alice: User) -> None:
    """A guess at a name that has to wait does not let a slowed crowd go on at once."""
    slow = workflow.attempts.Budget("a name", most=10, per=attempts.SOON, free=1, longest_wait=timedelta(seconds=60))
    crowd = workflow.attempts.Budget("a crowd", most=10, per=attempts.SOON, free=2, longest_wait=timedelta(seconds=2))
    workflow.attempts.reserve([slow])
    workflow.attempts.reserve([slow, crowd])
    with clock.moved(timedelta(seconds=1)):
        with pytest.raises(TooMany):
            workflow.attempts.reserve([crowd, slow])
        with pytest.raises(TooMany):
            workflow.attempts.reserve([crowd])


def test_operators_hear_of_a_proxy_that_is_not_trusted(alice: User, olivia: User) -> None:
    attempt("nobody", REMOTE_ADDR="10.0.0.5", HTTP_X_FORWARDED_FOR="203.0.113.9")
    assert "TRUSTED_PROXIES" in letters.text(Notice.objects.get(recipient=olivia, kind=Notice.Kind.PROXY))


def test_how_often_one_may_guess_does_not_tell_whose_names_are_one_persons(alice: User) -> None:
    guesses(attempts.FREE, name="alice@example.com")
    assert "Too many" not in attempt("alice").text


def test_the_password_of_before_is_guessed_no_more_often_where_it_is_changed(alice: User) -> None:
    client = signed_in(alice)
    typed = {"oldpassword": "wrong", "password1": "a new long pass phrase", "password2": "a new long pass phrase"}
    for _ in range(attempts.FREE):
        cache.clear()
        assert "Too many" not in page(client.post(reverse("account_change_password"), typed)).text
    cache.clear()
    assert "Too many" in page(client.post(reverse("account_change_password"), typed | {"oldpassword": PASSWORD})).text
    assert AuditEvent.objects.filter(action="sign_in.failed", subject="alice").count() == attempts.FREE


def test_the_browser_in_which_one_ends_all_others_goes_on_being_known(alice: User) -> None:
    client = Client()
    attempt(password=PASSWORD, client=client)
    client.post(reverse("usersessions_list"), {"act": "others"})
    client.post("/accounts/logout/")
    guesses(attempts.FREE)
    assert "My access" in attempt(password=PASSWORD, client=client).text


def test_the_person_hears_of_it_once(alice: User) -> None:
    guesses(3)
    assert not Notice.objects.filter(recipient=alice).exists()
    for hour in range(3):
        with clock.moved(timedelta(hours=2 * hour)):
            guesses(attempts.FREE)
    (told,) = Notice.objects.filter(recipient=alice, kind=Notice.Kind.GUESSED)
    assert "tries to sign in as you" in letters.text(told)
    assert "203.0.113." in letters.text(told)


def test_guesses_are_counted_by_who_is_meant_however_their_name_is_padded(alice: User) -> None:
    for name in ("alice", "ALICE", "Alice", " alice", "ａlice"):
        attempt(name)
    for one in range(5):
        attempt(f"alice{' ' * 315}x{one}", PASSWORD, REMOTE_ADDR=f"203.0.113.{one}")
    assert AuditEvent.objects.filter(action="sign_in.failed", subject="alice").count() == 5
    assert "Too many" in attempt(password=PASSWORD).text


def test_whoever_has_other_letters_in_their_name_has_a_known_browser_too(alice: User) -> None:
    alice.username = "jörg"
    alice.save(update_fields=["username"])
    his = known_browser(alice)
    assert "Too many" in guesses(7, name="jörg").text

    assert "My access" in attempt("jörg", PASSWORD, his).text


def test_nothing_that_was_typed_is_stored(alice: User) -> None:
    attempt("hunter2-typed-in-the-wrong-box")
    assert Attempts.objects.exists()
    assert "hunter2" not in everything_stored()


def test_what_counts_no_more_is_forgotten(alice: User) -> None:
    guesses(3)
    assert workflow.attempts.forget_old() == 0
    with clock.moved(workflow.attempts.KEPT + timedelta(seconds=1)):
        assert workflow.attempts.forget_old() == 4  # three sources and one name
    assert not Attempts.objects.exists()


# --- at once -----------------------------------------------------------------------------------


def at_once(number: int, guess: Callable[[int], Any]) -> list[Any]:
    def run(one: int) -> Any:
        try:
            return guess(one)
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


@pytest.mark.django_db(transaction=True)
def test_passwords_guessed_at_once_are_counted_each(alice: User) -> None:
    """Counted after they were looked at, all of them would have been looked at."""
    answers = at_once(16, lambda one: attempt(REMOTE_ADDR=f"203.0.113.{one}").text)

    assert sum("Too many" not in answer for answer in answers) == attempts.FREE
    assert AuditEvent.objects.filter(action="sign_in.failed").count() == attempts.FREE


@pytest.mark.django_db(transaction=True)
def test_codes_guessed_at_once_are_counted_each(alice: User) -> None:
    totp.TOTP.activate(alice, SECRET)
    strangers = [Client() for _ in range(12)]
    for number, client in enumerate(strangers):
        attempt(password=PASSWORD, client=client, REMOTE_ADDR=f"203.0.113.{number}")
    before = AuditEvent.objects.count()

    answers = at_once(12, lambda one: page(strangers[one].post(reverse("mfa_authenticate"), {"code": "000000"})).text)

    assert sum("Too many" not in answer for answer in answers) == attempts.FREE
    assert before == AuditEvent.objects.exclude(action="sign_in.failed").count()


# --- codes -------------------------------------------------------------------------------------


def code_of(step: int) -> str:
    return totp.format_hotp_value(totp.hotp_value(SECRET, step))


def with_code(code: str) -> bool:
    """Whether the code signs Alice in, in a browser of its own and whatever process of the web it meets."""
    cache.clear()
    Attempts.objects.all().delete()
    client = Client()
    attempt(password=PASSWORD, client=client)
    client.post(reverse("mfa_authenticate"), {"code": code})
    return bool(client.get("/").status_code == 200)


def test_a_code_is_taken_once_in_whatever_process_and_none_from_before_it(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    totp.TOTP.activate(alice, SECRET)
    now = int(time.time()) // 30
    monkeypatch.setattr(totp.time, "time", lambda: now * 30 + 5)

    assert with_code(code_of(now))
    assert not with_code(code_of(now)), "somebody looked over their shoulder"
    assert not with_code(code_of(now - 1)), "or had seen the one before"
    assert with_code(code_of(now + 1)), "their clock is a little ahead"
    assert not with_code(code_of(now + 2))
    monkeypatch.setattr(totp.time, "time", lambda: (now + 3) * 30 + 5)
    assert with_code(code_of(now + 2)), "or behind"


@pytest.mark.django_db(transaction=True)
def test_one_code_used_at_once_signs_in_once(alice: User) -> None:
    totp.TOTP.activate(alice, SECRET)
    clients = [Client() for _ in range(4)]
    for client in clients:
        attempt(password=PASSWORD, client=client)
    code = code_of(int(time.time()) // 30)

    def use(one: int) -> int:
        cache.clear()  # each as in a process of its own
        clients[one].post(reverse("mfa_authenticate"), {"code": code})
        return clients[one].get("/").status_code

    assert at_once(4, use).count(200) <= 1


def test_no_seed_stands_in_the_database(alice: User) -> None:
    totp.TOTP.activate(alice, SECRET)
    codes = RecoveryCodes.activate(alice)
    seed = codes.generate_codes()

    stored = everything_stored()
    assert SECRET not in stored
    assert all(code not in stored for code in seed)
    assert with_code(code_of(int(time.time()) // 30))
    assert with_code(seed[0])
    assert not with_code(seed[0])


def test_what_was_sealed_with_another_key_lets_nobody_in_and_the_one_before_still_does(
    alice: User, settings: Any
) -> None:
    totp.TOTP.activate(alice, SECRET)
    before = settings.SECRET_KEY
    settings.SECRET_KEY = "another secret key that is as long as it should be, and longer"
    assert not with_code(code_of(int(time.time()) // 30))

    settings.SECRET_KEY_FALLBACKS = [before]
    assert with_code(code_of(int(time.time()) // 30))


def test_seeds_from_before_are_sealed_by_and_by(alice: User, bob: User) -> None:
    Authenticator.objects.create(user=alice, type="totp", data={"secret": SECRET})
    Authenticator.objects.create(user=alice, type="recovery_codes", data={"seed": "5eed" * 10, "used_mask": 1})
    totp.TOTP.activate(bob, SECRET)
    assert with_code(code_of(int(time.time()) // 30))

    assert workflow.factors.seal_old() == 2
    assert workflow.factors.seal_old() == 0
    assert SECRET not in everything_stored()
    assert "5eed5eed" not in everything_stored()
    assert Authenticator.objects.get(user=alice, type="recovery_codes").data["used_mask"] == 1


def test_seeds_are_sealed_anew_with_a_new_key_and_then_the_one_before_may_go(
    alice: User, bob: User, settings: Any
) -> None:
    totp.TOTP.activate(alice, SECRET)
    codes = RecoveryCodes.activate(alice)
    seed = codes.generate_codes()
    lost = Authenticator.objects.create(user=bob, type="totp", data={"secret": "sealed:00000000:gAAAAA"})
    before = settings.SECRET_KEY
    assert workflow.factors.seal_old() == 0

    settings.SECRET_KEY = "another secret key that is as long as it should be, and longer"
    settings.SECRET_KEY_FALLBACKS = [before]
    assert workflow.factors.seal_old() == 2
    assert workflow.factors.seal_old() == 0

    settings.SECRET_KEY_FALLBACKS = []
    assert with_code(code_of(int(time.time()) // 30))
    assert with_code(seed[0])
    assert Authenticator.objects.get(pk=lost.pk).data == lost.data, "nothing is lost that an older key would open"


def test_what_no_key_opens_is_not_tried_again_each_minute(
    alice: User, bob: User, settings: Any, django_assert_num_queries: Any
) -> None:
    for person in (alice, bob):
        totp.TOTP.activate(person, SECRET)
    settings.SECRET_KEY = "another secret key that is as long as it should be, and longer"
    with django_assert_num_queries(1):
        assert workflow.factors.seal_old() == 0


def test_two_workers_that_seal_at_once_sign_nobody_out_twice(alice: User) -> None:
    Authenticator.objects.create(user=alice, type="totp", data={"secret": SECRET})
    alice.refresh_from_db()
    before = alice.sign_in_epoch
    by_the_other: list[int] = []

    def the_other_is_faster(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if "FOR UPDATE" in sql and not by_the_other:
            by_the_other.append(0)
            by_the_other[0] = workflow.factors.seal_old()
        return execute(sql, *rest)

    with connection.execute_wrapper(the_other_is_faster):
        assert workflow.factors.seal_old() == 0
    assert by_the_other == [1]
    alice.refresh_from_db()
    assert alice.sign_in_epoch == before + 1


def test_the_code_that_set_the_app_up_signs_nobody_in(alice: User) -> None:
    client = Client()
    attempt(password=PASSWORD, client=client)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    secret = client.get(reverse("mfa_activate_totp")).context["form"].secret
    (row,) = Session.objects.all()
    assert secret not in str(DatabaseStore().decode(row.session_data))
    code = totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30))
    client.post(reverse("mfa_activate_totp"), {"code": code})
    assert Authenticator.objects.filter(user=alice, type="totp").exists()

    assert not with_code(code)


def test_confirming_counts_too(alice: User) -> None:
    totp.TOTP.activate(alice, SECRET)
    alice.refresh_from_db()
    client = signed_in(alice)
    for _ in range(attempts.FREE):
        client.post(reverse("mfa_reauthenticate"), {"code": "000000"})
    assert "Too many" in page(client.post(reverse("mfa_reauthenticate"), {"code": "000000"})).text
