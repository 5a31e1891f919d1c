"""Whoever changes a second factor has just used one they had; and each change is told and on record."""

from typing import Any

import pytest
from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from requests_app.domain.audit import Action
from requests_app.domain.models import AuditEvent, Notice, UsedStep, User
from tests import letters
from tests.web.pages import page, signed_in
from tests.web.test_sign_ins_end import PASSWORD, SECRET, code_of, is_in, sign_in

pytestmark = pytest.mark.django_db(transaction=True)
CHANGING = (
    *("mfa_activate_totp", "mfa_deactivate_totp", "mfa_add_webauthn", "mfa_generate_recovery_codes"),
    *("mfa_view_recovery_codes", "mfa_download_recovery_codes"),
)


@pytest.fixture
def alice(alice: User) -> User:
    alice.set_password(PASSWORD)
    alice.save(update_fields=["password"])
    return alice


@pytest.fixture
def codes(alice: User) -> list[str]:
    """Alice has an app and recovery codes."""
    totp.TOTP.activate(alice, SECRET)
    made: list[str] = RecoveryCodes.activate(alice).generate_codes()
    alice.refresh_from_db()
    return made


def by_password(client: Client) -> Any:
    return client.post(reverse("account_reauthenticate"), {"password": PASSWORD})


def by_code(client: Client, code: str) -> Any:
    cache.clear()
    UsedStep.objects.all().delete()
    return client.post(reverse("mfa_reauthenticate"), {"code": code})


def kinds(person: User) -> list[str]:
    return sorted(Authenticator.objects.filter(user=person).values_list("type", flat=True))


def events(*actions: Action) -> list[tuple[str, list[str]]]:
    found = AuditEvent.objects.filter(action__in=actions).order_by("pk")
    return [(event.action, event.detail["factors"]) for event in found]


def sets_up(client: Client) -> str:
    secret = client.get(reverse("mfa_activate_totp")).context["form"].secret
    client.post(reverse("mfa_activate_totp"), {"code": code_of(secret)})
    return str(secret)


# --- a factor is asked for first ---------------------------------------------------------------


@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_password_is_not_enough_where_there_is_a_factor(
    name: str, method: str, alice: User, codes: list[str]
) -> None:
    client = sign_in(alice, secret=SECRET)
    before = list(Authenticator.objects.order_by("pk").values("pk", "data"))
    for _ in range(2):
        answer = getattr(client, method)(reverse(name))
        assert answer.status_code == 302
        assert answer["Location"].startswith(reverse("mfa_reauthenticate"))
        assert by_password(client)["Location"].startswith(reverse("mfa_reauthenticate")), "it is not even asked for"

    assert list(Authenticator.objects.order_by("pk").values("pk", "data")) == before


def test_a_password_confirmed_before_there_was_a_factor_does_not_count_after(alice: User, codes: list[str]) -> None:
    """As a session that was stolen together with the password would have it."""
    client = sign_in(alice, secret=SECRET)
    session = client.session
    records = session[AUTHENTICATION_METHODS_SESSION_KEY]
    session[AUTHENTICATION_METHODS_SESSION_KEY] = [*records, {**records[0], "reauthenticated": True}]
    session.save()

    assert client.post(reverse("mfa_deactivate_totp")).status_code == 302
    assert kinds(alice) == ["recovery_codes", "totp"]


@pytest.mark.parametrize("which", ["app", "recovery code"])
def test_by_either_factor_it_is_changed(which: str, alice: User, codes: list[str]) -> None:
    client = sign_in(alice, secret=SECRET)
    assert by_code(client, code_of(SECRET) if which == "app" else codes[3]).status_code == 302
    client.post(reverse("mfa_deactivate_totp"))

    assert kinds(alice) == []
    assert is_in(client)


def test_it_is_asked_again_after_a_while(alice: User, codes: list[str], settings: Any) -> None:
    client = sign_in(alice, secret=SECRET)
    by_code(client, code_of(SECRET))
    settings.ACCOUNT_REAUTHENTICATION_TIMEOUT = 0
    assert client.post(reverse("mfa_deactivate_totp")).status_code == 302
    assert kinds(alice) == ["recovery_codes", "totp"]


@pytest.mark.parametrize("name", ["mfa_activate_totp", "mfa_add_webauthn"])
def test_whoever_has_neither_password_nor_factor_is_told_what_to_do(name: str, alice: User) -> None:
    """allauth lets them through."""
    alice.set_unusable_password()
    alice.save(update_fields=["password"])
    client = signed_in(alice)
    for answer in (client.get(reverse(name)), client.post(reverse(name), {"code": "123456"})):
        assert answer.status_code == 403
        shown = page(answer)
        assert "Ask for a link to choose a password" in shown.text
        assert (shown.inline, shown.problems) == ([], [])
    assert kinds(alice) == []


def test_the_code_that_set_an_app_up_is_used_by_that(alice: User) -> None:
    client = sign_in(alice)
    by_password(client)
    secret = sets_up(client)
    code = code_of(secret)
    cache.clear()  # another web process

    later = Client()
    later.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    later.post(reverse("mfa_authenticate"), {"code": code})
    assert not is_in(later)


def test_who_sets_one_up_sees_the_codes_without_being_asked_again(alice: User) -> None:
    client = sign_in(alice)
    by_password(client)
    sets_up(client)

    assert page(client.get(reverse("mfa_view_recovery_codes"))).text.count("Unused codes") == 1


# --- record and word ---------------------------------------------------------------------------

OF_FACTORS = (Action.FACTOR_ADDED, Action.FACTOR_REMOVED, Action.FACTOR_CODES_MADE)


def test_each_change_is_an_event_and_told(alice: User) -> None:
    client = sign_in(alice)
    by_password(client)
    secret = sets_up(client)
    client.post(reverse("mfa_generate_recovery_codes"))
    by_code(client, code_of(secret))
    client.post(reverse("mfa_deactivate_totp"))

    assert events(*OF_FACTORS) == [
        ("factor.added", ["authenticator app"]),
        ("factor.codes_made", ["recovery codes"]),
        ("factor.codes_made", ["recovery codes"]),
        ("factor.removed", ["authenticator app"]),
        ("factor.removed", ["recovery codes"]),
    ]
    event = AuditEvent.objects.filter(action=Action.FACTOR_ADDED).get()
    assert (event.actor, event.beneficiary, event.channel, event.ip) == (alice, alice, "web", "127.0.0.1")
    told = Notice.objects.filter(recipient=alice, kind=Notice.Kind.ACCOUNT).order_by("pk")
    assert [letters.text(notice).split(".")[0].split("\n")[-1] for notice in told] == [
        "An authenticator app was set up as your second factor",
        "New recovery codes were made for you",
        "Your authenticator app was turned off as your second factor",
    ]


def test_a_change_that_waited_for_the_confirmation_is_recorded_once(alice: User, codes: list[str]) -> None:
    """allauth keeps the press, asks, and does it."""
    client = sign_in(alice, secret=SECRET)
    to_confirm = client.post(reverse("mfa_deactivate_totp"))["Location"]
    cache.clear()
    UsedStep.objects.all().delete()
    client.post(to_confirm, {"code": code_of(SECRET), "next": reverse("mfa_deactivate_totp")})

    assert kinds(alice) == []
    assert events(*OF_FACTORS) == [("factor.removed", ["authenticator app"]), ("factor.removed", ["recovery codes"])]
    assert is_in(client)


def test_of_an_operator_all_operators_and_auditors_hear(olivia: User, dave: User, bob: User) -> None:
    olivia.set_password(PASSWORD)
    olivia.save(update_fields=["password"])
    client = sign_in(olivia)
    by_password(client)
    sets_up(client)

    assert {notice.recipient for notice in Notice.objects.all()} == {olivia, dave}
    mail = letters.text(Notice.objects.get(recipient=dave))
    assert "The operator Olivia set up a second factor of their own: authenticator app." in mail


def test_a_wrong_code_is_an_event_and_many_are_told(alice: User, codes: list[str]) -> None:
    client = Client()
    client.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    for number in range(12):
        client.post(reverse("mfa_authenticate"), {"code": f"{number:06d}"})

    failed = AuditEvent.objects.filter(action=Action.SIGN_IN_FAILED)
    assert 5 <= failed.count() < 12, "what was not looked at was no guess"
    assert {(event.beneficiary, event.actor, event.detail["wrong"]) for event in failed} == {(alice, None, "code")}
    (told,) = Notice.objects.filter(recipient=alice)
    assert "Somebody knows your password" in letters.text(told)


def test_a_change_that_fails_leaves_no_event(alice: User) -> None:
    client = sign_in(alice)
    by_password(client)
    client.get(reverse("mfa_activate_totp"))
    client.post(reverse("mfa_activate_totp"), {"code": "000000"})

    assert events(*OF_FACTORS) == []
    assert kinds(alice) == []
