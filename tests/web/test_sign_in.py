import time
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from allauth.usersessions.models import UserSession
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.core import mail
from django.test import Client

from requests_app.background.mail import send_due
from requests_app.domain import normal_form, workflow
from requests_app.domain.models import AuditEvent, User
from tests.web.pages import Page, page, signed_in

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"


@pytest.fixture
def alice(alice: User) -> User:
    alice.set_password(PASSWORD)
    alice.save(update_fields=["password"])
    return alice


def sign_in(client: Client, name: str, password: str = PASSWORD, to: str = "/") -> Page:
    response = client.post(f"/accounts/login/?next={to}", {"login": name, "password": password}, follow=True)
    return page(response)


def last_event() -> AuditEvent:
    event = AuditEvent.objects.order_by("-pk").first()
    assert event
    return event


@pytest.mark.parametrize("name", ["alice", "ALICE", "alice@example.com", "Alice@Example.com"])
def test_by_name_or_address_in_any_case(name: str, alice: User, client: Client) -> None:
    assert "My access" in sign_in(client, name).text
    assert (last_event().action, last_event().actor, last_event().ip) == ("sign_in.succeeded", alice, "127.0.0.1")


def test_back_to_where_the_mail_pointed(alice: User, client: Client) -> None:
    assert "Request access" in sign_in(client, "alice", to="/request/").text


@pytest.mark.parametrize("back", ["https://evil.example.com/", "//evil.example.com", "/\\evil.example.com"])
def test_never_to_another_site(back: str, alice: User, client: Client) -> None:
    response = client.post(f"/accounts/login/?next={back}", {"login": "alice", "password": PASSWORD})
    assert response["Location"] == "/"


def test_a_wrong_password_is_on_record_without_what_was_typed(alice: User, client: Client) -> None:
    sign_in(client, "alice", "wrong")
    assert (last_event().action, last_event().subject) == ("sign_in.failed", "alice")

    sign_in(client, "hunter2-typed-in-the-wrong-box", "wrong")
    assert last_event().subject == "an unknown name"


@pytest.mark.parametrize("name", ["alice", "alice@example.com", "nobody", "nobody@example.com"])
def test_a_password_is_looked_at_once_whoever_is_meant(
    name: str, alice: User, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the time it takes would tell who has an account."""
    looks = []
    encode = PBKDF2PasswordHasher.encode

    def counted(self: PBKDF2PasswordHasher, *args: Any, **kwargs: Any) -> str:
        looks.append(args)
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(PBKDF2PasswordHasher, "encode", counted)
    sign_in(client, name, "wrong")

    assert len(looks) == 1


def test_someone_deactivated_is_told_so_and_stays_out(alice: User, client: Client) -> None:
    workflow.people.deactivate(alice, by=None)

    assert "Your account is deactivated" in sign_in(client, "alice").text
    assert client.get("/").status_code == 302


def test_nobody_signs_up(client: Client) -> None:
    typed = {"email": "eve@example.com", "username": "eve", "password1": PASSWORD, "password2": PASSWORD}
    assert "Nobody signs up here" in page(client.get("/accounts/signup/")).text
    client.post("/accounts/signup/", typed)

    assert not User.objects.filter(username="eve").exists()


def test_signing_out_takes_a_press(alice: User, client: Client) -> None:
    sign_in(client, "alice")
    client.get("/accounts/logout/")
    assert client.get("/").status_code == 200

    client.post("/accounts/logout/")
    assert client.get("/").status_code == 302
    assert last_event().action == "sign_in.ended"


def test_addresses_are_not_changed_by_their_owners(alice: User, client: Client) -> None:
    sign_in(client, "alice")
    assert client.get("/accounts/email/").status_code == 404


def test_the_admin_has_no_door_of_its_own(client: Client, alice: User, olivia: User) -> None:
    response = client.get("/admin/", follow=True)
    assert response.redirect_chain[-1][0].startswith("/accounts/login/")

    assert signed_in(alice).get("/admin/", follow=True).status_code == 403
    assert signed_in(olivia).get("/admin/").status_code == 200


def test_a_forgotten_password(alice: User, client: Client) -> None:
    shown = page(client.post("/accounts/password/reset/", {"email": "alice@example.com"}, follow=True))
    assert shown.inline == []
    send_due()
    (sent,) = mail.outbox
    assert sent.to == ["alice@example.com"]

    address = next(word for word in str(sent.body).split() if "/accounts/password/reset/key/" in word)
    response = client.get(address.replace("http://testserver", ""), follow=True)
    assert page(response).unlabelled() == []
    client.post(
        response.redirect_chain[-1][0], {"password1": "a new long pass phrase", "password2": "a new long pass phrase"}
    )
    assert "My access" in sign_in(Client(), "alice", "a new long pass phrase").text


def test_the_second_factor_from_set_up_to_sign_in(alice: User, client: Client) -> None:
    sign_in(client, "alice")
    asked_again = client.get("/accounts/2fa/totp/activate/", follow=True)
    address = asked_again.redirect_chain[-1][0]
    response = client.post(address, {"password": PASSWORD}, follow=True)
    shown = page(response)
    assert shown.inline == []
    assert shown.unlabelled() == []
    secret = response.context["form"].secret
    client.post("/accounts/2fa/totp/activate/", {"code": code_of(secret)})
    assert Authenticator.objects.filter(user=alice, type="totp").exists()

    for address in ("/accounts/2fa/", "/accounts/2fa/recovery-codes/", "/accounts/2fa/recovery-codes/generate/"):
        shown = page(client.get(address, follow=True))
        assert (shown.inline, shown.unlabelled(), shown.problems) == ([], [], []), address

    later = Client()
    assert "Second factor" in sign_in(later, "alice").text
    assert later.get("/").status_code == 302


def code_of(secret: str) -> str:
    return totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30))


def test_confirming_that_it_is_me(alice: User, client: Client) -> None:
    sign_in(client, "alice")
    shown = page(client.get("/accounts/reauthenticate/"))

    assert "Confirm that it is you" in shown.text
    assert (shown.inline, shown.unlabelled()) == ([], [])


def test_last_use_is_noted_once_a_minute(alice: User, client: Client) -> None:
    sign_in(client, "alice")
    noted = UserSession.objects.get(user=alice).last_seen_at
    for _ in range(3):
        client.get("/")

    assert UserSession.objects.get(user=alice).last_seen_at == noted
    assert "this browser" in page(client.get("/accounts/sessions/")).text


def test_what_is_longer_than_any_name_is_nobodys(alice: User) -> None:
    assert User.objects.meant(f"alice{' ' * 315}") == alice
    assert User.objects.meant(f"alice{' ' * 315}x") is None


def test_what_is_longer_than_any_name_is_said_before_anything_is_done_with_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    address = normal_form.address

    def noted(typed: str) -> str:
        seen.append(len(typed))
        return address(typed)

    monkeypatch.setattr(normal_form, "address", noted)
    answer = sign_in(client, "ﷺ" * 100_000, "wrong")

    assert "longer than any user name" in answer.text
    assert max(seen, default=0) <= 320
    assert not AuditEvent.objects.exists()
