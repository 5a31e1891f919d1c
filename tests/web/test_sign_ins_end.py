"""Every sign-in somebody has ends with their part, their password or their second factor, and never comes back."""

import json
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from allauth.usersessions.models import UserSession
from django.contrib.auth.hashers import make_password
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import reverse

from requests_app.delivery.web.accounts import AccountAdapter
from requests_app.delivery.web.sessions import SessionStore
from requests_app.domain import workflow
from requests_app.domain.models import UsedStep, User
from tests.domain.meeting import in_background, row_held, wait_until_stuck
from tests.web.pages import page, signed_in

pytestmark = pytest.mark.django_db(transaction=True)
PASSWORD = "correct horse battery staple"
NEW_PASSWORD = "another horse and another staple"
SECRET = "JBSWY3DPEHPK3PXP"


@pytest.fixture
def alice(alice: User) -> User:
    alice.set_password(PASSWORD)
    alice.save(update_fields=["password"])
    return alice


@pytest.fixture
def secret(alice: User) -> str:
    """Alice has a second factor."""
    totp.TOTP.activate(alice, SECRET)
    return SECRET


def sign_in(person: User, password: str = PASSWORD, secret: str = "") -> Client:
    client = Client()
    response = client.post("/accounts/login/", {"login": person.username, "password": password})
    if secret:
        assert response["Location"] == reverse("mfa_authenticate")
        response = client.post(response["Location"], {"code": code_of(secret)})
        cache.clear()  # where allauth remembers that this code was used, and we
        UsedStep.objects.all().delete()
    assert is_in(client), response
    return client


def is_in(client: Client) -> bool:
    """As the browser that has this cookie sees it. (Each asks with a client of its own: one that is told to forget
    its cookie would not try again.)"""
    asking = Client()
    asking.cookies.load({name: morsel.value for name, morsel in client.cookies.items()})
    return bool(asking.get("/").status_code == 200)


def code_of(secret: str) -> str:
    return totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30))


def bring_back(person: User, by: User) -> None:
    assert signed_in(by).post(reverse("admin:bring_back_person", args=[person.pk])).status_code == 302
    person.refresh_from_db()
    assert person.is_active


# --- deactivation ------------------------------------------------------------------------------


def by_the_verb(person: User, olivia: User) -> None:
    workflow.people.deactivate(person, by=olivia)


def by_the_admin(person: User, olivia: User) -> None:
    signed_in(olivia).post(reverse("admin:deactivate_person", args=[person.pk]))


def by_block(person: User, olivia: User) -> None:
    typed = {"reason": "the laptop was stolen", "typed": person.username, "act": "stop"}
    signed_in(olivia).post(reverse("stop_person", args=[person.public_id]), typed)


def by_sql(person: User, olivia: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE requests_app_user SET deactivated_at = now() WHERE id = %s", [person.pk])


@pytest.mark.parametrize("deactivate", [by_the_verb, by_the_admin, by_block, by_sql])
def test_whoever_is_brought_back_signs_in_anew(
    deactivate: Callable[[User, User], None], alice: User, bob: User, olivia: User
) -> None:
    before, others = sign_in(alice), signed_in(bob)
    deactivate(alice, olivia)
    assert not User.objects.get(pk=alice.pk).is_active
    assert not UserSession.objects.filter(user=alice).exists()
    assert not Session.objects.filter(pk=before.session.session_key).exists()

    bring_back(alice, olivia)

    assert not is_in(before)
    assert is_in(others)
    assert is_in(sign_in(alice))


def test_a_session_that_no_list_has_ends_too(alice: User, olivia: User) -> None:
    """One whose row was missed, or came back from a copy: the row alone opens nothing."""
    before = sign_in(alice)
    kept = Session.objects.get(pk=before.session.session_key)
    workflow.people.deactivate(alice, by=olivia)
    bring_back(alice, olivia)

    kept.save(force_insert=True)

    assert not is_in(before)


def test_a_sign_in_that_meets_a_deactivation_does_not_outlive_it(
    alice: User, olivia: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password was right, and before the session was written the person was deactivated and brought back."""
    login = AccountAdapter.login

    def meanwhile(*args: Any) -> None:
        workflow.people.deactivate(alice, by=olivia)
        bring_back(alice, olivia)
        login(*args)

    monkeypatch.setattr(AccountAdapter, "login", meanwhile)
    client = Client()
    client.post("/accounts/login/", {"login": "alice", "password": PASSWORD})

    assert not is_in(client)


def away_and_back(alice: User, olivia: User) -> None:
    workflow.people.deactivate(alice, by=olivia)
    bring_back(alice, olivia)


def new_password(alice: User, olivia: User) -> None:
    alice.set_password(NEW_PASSWORD)
    alice.save(update_fields=["password"])


@pytest.mark.parametrize("change", [away_and_back, new_password])
def test_what_was_proved_before_does_not_count_after(
    change: Callable[[User, User], None], alice: User, secret: str, olivia: User
) -> None:
    """Half a sign-in: the password given, the code still asked for."""
    half = Client()
    half.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    change(alice, olivia)

    answer = page(half.post(reverse("mfa_authenticate"), {"code": code_of(secret)}, follow=True))

    assert not is_in(half)
    assert "Sign in again" in answer.text


def test_deactivation_is_not_undone_by_whoever_saves_what_they_read_before(alice: User, olivia: User) -> None:
    """allauth saves the whole person with a new password."""
    request = type("Request", (), {"user": alice})
    read_before = User.objects.get(pk=alice.pk)
    workflow.people.deactivate(alice, by=olivia)

    AccountAdapter(request).set_password(read_before, NEW_PASSWORD)

    alice.refresh_from_db()
    assert not alice.is_active
    assert alice.check_password(NEW_PASSWORD)


def test_an_epoch_is_never_set_back(alice: User, olivia: User) -> None:
    read_before = User.objects.get(pk=alice.pk)
    workflow.people.deactivate(alice, by=olivia)
    bring_back(alice, olivia)
    epoch = User.objects.get(pk=alice.pk).sign_in_epoch
    assert epoch == read_before.sign_in_epoch + 2

    read_before.save()

    assert User.objects.get(pk=alice.pk).sign_in_epoch == epoch


def test_no_epoch_stands_in_the_way_of_an_end(alice: User, olivia: User, app_connection: psycopg.Connection) -> None:
    """Whoever writes as the application counts no further than the next one."""
    last = 2**31 - 1
    app_connection.execute("UPDATE requests_app_user SET sign_in_epoch = %s WHERE id = %s", [last, alice.pk])
    app_connection.execute(
        "INSERT INTO requests_app_user (public_id, username, email, name, time_zone, source_identity, is_staff, "
        "is_superuser, password, sign_in_epoch) VALUES (gen_random_uuid(), 'ivan', 'ivan@example.com', '', 'UTC', "
        "'abc', false, false, '', %s)",
        [last],
    )
    before = sign_in(alice)

    for person in (alice, User.objects.get(username="ivan")):
        totp.TOTP.activate(person, SECRET)
        workflow.people.deactivate(person, by=olivia)
        bring_back(person, olivia)
        workflow.people.deactivate(person, by=olivia)
    assert not is_in(before)


# --- the password ------------------------------------------------------------------------------


def test_a_new_password_keeps_only_the_sign_in_in_which_it_was_chosen(alice: User) -> None:
    here, elsewhere = sign_in(alice), sign_in(alice)
    old_cookie = here.session.session_key
    typed = {"oldpassword": PASSWORD, "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}

    assert here.post(reverse("account_change_password"), typed).status_code == 302

    assert (is_in(here), is_in(elsewhere)) == (True, False)
    assert not Session.objects.filter(pk=old_cookie).exists()
    assert "Nowhere else." in page(here.get(reverse("usersessions_list"))).text


def test_a_password_set_by_an_operator_ends_all(alice: User, olivia: User) -> None:
    before = sign_in(alice)
    address = reverse("admin:auth_user_password_change", args=[alice.pk])
    typed = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}

    assert signed_in(olivia).post(address, typed).status_code == 302

    assert not is_in(before)
    assert not UserSession.objects.filter(user=alice).exists()


def by_command(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: NEW_PASSWORD)
    call_command("changepassword", "Alice", verbosity=0)


def by_allauth(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a link in a mail: by somebody who is not signed in."""
    AccountAdapter(RequestFactory().post("/")).set_password(User.objects.get(pk=alice.pk), NEW_PASSWORD)


def by_update(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    User.objects.filter(pk=alice.pk).update(password=make_password(NEW_PASSWORD))


@pytest.mark.parametrize("change", [by_command, by_allauth, by_update])
def test_a_password_that_is_set_by_another_door_ends_all(
    change: Callable[[User, pytest.MonkeyPatch], None], alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sign_in(alice)
    change(alice, monkeypatch)

    assert User.objects.get(pk=alice.pk).check_password(NEW_PASSWORD)
    assert not is_in(before)
    assert not UserSession.objects.filter(user=alice).exists()


def test_a_password_that_is_only_hashed_anew_keeps_the_sign_in_that_confirms_it(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer Django hashes more often. Whoever confirms that it is them is not thrown out for it."""
    here = sign_in(alice)
    monkeypatch.setattr("django.contrib.auth.hashers.PBKDF2PasswordHasher.iterations", 1_000_123)

    assert here.post(reverse("account_reauthenticate"), {"password": PASSWORD}).status_code == 302

    assert "$1000123$" in User.objects.get(pk=alice.pk).password
    assert is_in(here)
    monkeypatch.setattr("django.contrib.auth.hashers.PBKDF2PasswordHasher.iterations", 1_000_124)
    assert is_in(sign_in(alice))


# --- the second factor -------------------------------------------------------------------------


def add(client: Client) -> None:
    confirm(client)
    form = client.get(reverse("mfa_activate_totp")).context["form"]
    client.post(reverse("mfa_activate_totp"), {"code": code_of(form.secret)})
    assert Authenticator.objects.filter(type="totp").exists()


def remove(client: Client) -> None:
    confirm(client)
    client.post(reverse("mfa_deactivate_totp"))
    assert not Authenticator.objects.exists()


def new_codes(client: Client) -> None:
    confirm(client)
    before = Authenticator.objects.get(type="recovery_codes").data["seed"]
    client.post(reverse("mfa_generate_recovery_codes"))
    assert Authenticator.objects.get(type="recovery_codes").data["seed"] != before


def confirm(client: Client) -> None:
    """By a factor where there is one."""
    if Authenticator.objects.exists():
        assert client.post(reverse("mfa_reauthenticate"), {"code": code_of(SECRET)}).status_code == 302
        UsedStep.objects.all().delete()
        cache.clear()
    else:
        assert client.post(reverse("account_reauthenticate"), {"password": PASSWORD}).status_code == 302


@pytest.mark.parametrize("change", [add, remove, new_codes])
def test_another_factor_keeps_only_the_sign_in_in_which_it_was_changed(
    change: Callable[[Client], None], alice: User, request: pytest.FixtureRequest
) -> None:
    secret = ""
    if change is not add:
        secret = request.getfixturevalue("secret")
        RecoveryCodes.activate(alice)
    here, elsewhere = sign_in(alice, secret=secret), sign_in(alice, secret=secret)
    assert is_in(elsewhere)

    change(here)

    assert (is_in(here), is_in(elsewhere)) == (True, False)
    assert "Nowhere else." in page(here.get(reverse("usersessions_list"))).text


def test_a_factor_that_goes_by_another_door_ends_all(alice: User, secret: str) -> None:
    before = sign_in(alice, secret=secret)
    Authenticator.objects.filter(user=alice).delete()
    assert not is_in(before)


def test_using_a_factor_ends_nothing(alice: User, secret: str) -> None:
    codes = RecoveryCodes.activate(alice)
    here = sign_in(alice, secret=secret)
    later = Client()
    later.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    later.post(reverse("mfa_authenticate"), {"code": codes.generate_codes()[0]})
    confirm(here)
    assert here.get(reverse("mfa_view_recovery_codes")).status_code == 200

    assert (is_in(here), is_in(later)) == (True, True)


def test_a_factor_changed_while_the_person_is_deactivated_keeps_nothing(alice: User, secret: str, olivia: User) -> None:
    """The page was asked for before, and waits for the deactivation to be written."""
    here = sign_in(alice, secret=secret)
    confirm(here)

    with row_held("requests_app_user", alice.pk) as other:
        other.execute("UPDATE requests_app_user SET deactivated_at = now() WHERE id = %s", [alice.pk])
        pressed = in_background(lambda: here.post(reverse("mfa_deactivate_totp")))
        wait_until_stuck([pressed])
    assert pressed.result(30).status_code == 302
    bring_back(alice, olivia)

    assert not is_in(here)
    assert Authenticator.objects.filter(user=alice).exists()


def test_the_session_knows_nothing_but_a_hash(alice: User) -> None:
    here = sign_in(alice)
    assert alice.password not in json.dumps(dict(here.session.items()))
    assert issubclass(SessionStore, DatabaseStore)  # the trigger that ends sign-ins looks into the table
