"""Passkeys are for the address in BASE_URL and nothing else, whatever the Host header says or a page claims."""

import json
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client
from django.urls import reverse
from fido2.utils import websafe_decode

from requests_app.delivery.web import factors
from requests_app.domain.audit import Action
from requests_app.domain.models import AuditEvent, Notice, User
from tests import letters
from tests.web.pages import page
from tests.web.soft_key import VERIFIED, SoftKey
from tests.web.test_sign_ins_end import PASSWORD, is_in, sign_in

pytestmark = pytest.mark.django_db(transaction=True)
HOST = "daypass.example.com"
ORIGIN = f"https://{HOST}"
LIES: dict[str, dict[str, Any]] = {
    "another port": {"origin": f"{ORIGIN}:8443"},
    "a name below ours": {"origin": f"https://evil.{HOST}"},
    "without https": {"origin": f"http://{HOST}"},
    "another site": {"origin": "https://daypass.example.com.evil.org"},
    "the host of the request": {"origin": "http://testserver", "rp_id": "testserver"},
    "within another page": {"cross_origin": True},
    "below another page": {"top_origin": "https://evil.org"},
    "says so": {"top_origin": ORIGIN},
    "for another site": {"rp_id": "evil.org"},
    "for the domain above": {"rp_id": "example.com"},
    "another challenge": {"challenge": b"x" * 32},
    "of the other kind": {"type": "webauthn.other"},
    "nobody there": {"flags": VERIFIED},
}


@pytest.fixture(autouse=True)
def _at_its_address(settings: Any) -> None:
    settings.BASE_URL = ORIGIN


@pytest.fixture
def alice(alice: User) -> User:
    alice.set_password(PASSWORD)
    alice.save(update_fields=["password"])
    return alice


@pytest.fixture
def key() -> SoftKey:
    return SoftKey(ORIGIN, HOST)


def confirmed(person: User) -> Client:
    client = sign_in(person)
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    return client


def options_of_adding(client: Client, **more: Any) -> dict[str, Any]:
    data = client.get(reverse("mfa_add_webauthn"), **more).context["js_data"]["creation_options"]
    found: dict[str, Any] = json.loads(json.dumps(data))
    return found


def add(client: Client, key: SoftKey, name: str = "Phone", **lies: Any) -> Any:
    credential = key.make(options_of_adding(client), **lies)
    return client.post(reverse("mfa_add_webauthn"), {"name": name, "credential": credential})


def half_in(person: User) -> tuple[Client, dict[str, Any]]:
    """The password was right, and now the factor is asked for."""
    client = Client()
    client.post("/accounts/login/", {"login": person.username, "password": PASSWORD})
    options = client.get(reverse("mfa_authenticate")).context["js_data"]["request_options"]
    return client, json.loads(json.dumps(options))


def test_from_adding_one_to_signing_in_with_it(alice: User, key: SoftKey) -> None:
    here = confirmed(alice)
    elsewhere = sign_in(alice)
    assert add(here, key)["Location"] == reverse("mfa_view_recovery_codes")
    assert (is_in(here), is_in(elsewhere)) == (True, False)
    assert here.get(reverse("mfa_view_recovery_codes")).status_code == 200, "it was used just now"

    client, options = half_in(alice)
    assert not is_in(client)
    shown = page(client.get(reverse("mfa_authenticate")))
    assert (shown.inline, shown.unlabelled(), shown.problems) == ([], [], [])
    options = json.loads(json.dumps(client.get(reverse("mfa_authenticate")).context["js_data"]["request_options"]))
    newest = AuditEvent.objects.latest("pk").pk
    client.post(reverse("mfa_authenticate"), {"credential": key.sign(options)})
    assert is_in(client)
    event = AuditEvent.objects.get(pk__gt=newest)
    assert (event.action, event.actor) == (Action.SIGNED_IN, alice)

    assert AuditEvent.objects.filter(action=Action.FACTOR_ADDED).get().detail == {"factors": ["passkey"]}
    assert "A passkey was added" in letters.text(Notice.objects.get(recipient=alice))


def test_what_the_page_offers_is_for_the_setting_and_not_for_the_host(alice: User, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    options = options_of_adding(confirmed(alice), HTTP_HOST="evil.org")["publicKey"]

    assert options["rp"] == {"id": HOST, "name": "Daypass"}
    assert websafe_decode(options["user"]["id"]) == alice.public_id.bytes, "and tells no number of a row"


@pytest.mark.parametrize("lie", LIES)
def test_one_from_elsewhere_is_not_added(lie: str, alice: User, key: SoftKey) -> None:
    answer = add(confirmed(alice), key, **LIES[lie])

    assert "not taken" in page(answer).text or "ncorrect" in page(answer).text
    assert not Authenticator.objects.exists()


@pytest.mark.parametrize("lie", LIES)
def test_nor_does_it_sign_in_or_confirm(lie: str, alice: User, key: SoftKey) -> None:
    here = confirmed(alice)
    add(here, key)
    client, options = half_in(alice)
    answer = client.post(reverse("mfa_authenticate"), {"credential": key.sign(options, **LIES[lie])})
    assert answer.status_code == 200
    assert not is_in(client)
    assert AuditEvent.objects.get(action=Action.SIGN_IN_FAILED).detail == {"wrong": "passkey"}

    data = here.get(reverse("mfa_reauthenticate_webauthn")).context["js_data"]["request_options"]
    before = len(here.session["account_authentication_methods"])
    here.post(
        reverse("mfa_reauthenticate_webauthn"), {"credential": key.sign(json.loads(json.dumps(data)), **LIES[lie])}
    )
    assert len(here.session["account_authentication_methods"]) == before


def test_another_key_or_anothers_does_not_sign_in(alice: User, bob: User, key: SoftKey) -> None:
    add(confirmed(alice), key)
    bob.set_password(PASSWORD)
    bob.save(update_fields=["password"])
    of_bob = SoftKey(ORIGIN, HOST)
    add(confirmed(bob), of_bob)
    for other in (SoftKey(ORIGIN, HOST), of_bob):
        empty: dict[str, Any] = {}
        for lies in (empty, {"id": key.id}):
            client, options = half_in(alice)
            client.post(reverse("mfa_authenticate"), {"credential": other.sign(options, **lies)})
            assert not is_in(client)


def test_what_was_signed_once_does_not_count_again(alice: User, key: SoftKey) -> None:
    add(confirmed(alice), key)
    client, options = half_in(alice)
    signed = key.sign(options)
    client.post(reverse("mfa_authenticate"), {"credential": signed})
    assert is_in(client)

    again, _ = half_in(alice)
    again.post(reverse("mfa_authenticate"), {"credential": signed})
    assert not is_in(again)


@pytest.mark.parametrize(
    "credential",
    [
        *("", "null", "[]", "{}", "7", '"x"', "[[[[", '{"response":{}}', '{"response":{"clientDataJSON":"e30"}}'),
        '{"response":{"clientDataJSON":7}}',
        json.dumps({"id": "x" * 100_000, "rawId": "AA", "type": "public-key", "response": {"clientDataJSON": "AA"}}),
    ],
)
def test_nonsense_is_refused_and_breaks_nothing(credential: str, alice: User, key: SoftKey) -> None:
    here = confirmed(alice)
    assert here.post(reverse("mfa_add_webauthn"), {"credential": credential}).status_code == 200
    add(here, key)
    client, _ = half_in(alice)
    assert client.post(reverse("mfa_authenticate"), {"credential": credential}).status_code == 200
    assert here.post(reverse("mfa_reauthenticate_webauthn"), {"credential": credential}).status_code in (200, 302)
    assert not is_in(client)


@pytest.mark.parametrize("part", ["attestationObject", "authenticatorData", "signature"])
def test_a_part_that_was_touched_is_refused(part: str, alice: User, key: SoftKey) -> None:
    here = confirmed(alice)
    if part == "attestationObject":
        for value in ("AA", "oA", "f_____9", "x" * 30_000, "\u0000", 7, None):
            made = json.loads(key.make(options_of_adding(here)))
            made["response"][part] = value
            answer = here.post(reverse("mfa_add_webauthn"), {"credential": json.dumps(made)})
            assert answer.status_code == 200, value
        assert not Authenticator.objects.exists()
        return
    add(here, key)
    for value in ("", "AA", "\u0000", "x" * 30_000, 7, None):
        client, options = half_in(alice)
        signed = json.loads(key.sign(options))
        signed["response"][part] = value
        assert client.post(reverse("mfa_authenticate"), {"credential": json.dumps(signed)}).status_code == 200, value
        assert not is_in(client)


def test_nothing_but_what_is_needed_is_kept(alice: User, key: SoftKey) -> None:
    here = confirmed(alice)
    made = json.loads(key.make(options_of_adding(here)))
    made |= {
        "more": "x" * 1000,
        "nul": "\u0000",
        "clientExtensionResults": {"credProps": {"rk": True, "nul": "\u0000"}},
    }
    here.post(reverse("mfa_add_webauthn"), {"name": "Phone", "credential": json.dumps(made)})

    kept = Authenticator.objects.get(type="webauthn").data
    assert set(kept) == {"name", "credential"}
    assert set(kept["credential"]) == {"type", "id", "rawId", "response", "clientExtensionResults"}
    assert "x" * 1000 not in json.dumps(kept)


def test_they_are_listed_named_and_removed(alice: User, bob: User, key: SoftKey) -> None:
    here = confirmed(alice)
    add(here, key, name="<b>Phone</b>")
    found = Authenticator.objects.get(type="webauthn")
    for address in (
        *("mfa_index", "mfa_list_webauthn", "mfa_add_webauthn", "mfa_reauthenticate_webauthn"),
        *(("mfa_edit_webauthn", found.pk), ("mfa_remove_webauthn", found.pk)),
    ):
        answer = here.get(reverse(address) if isinstance(address, str) else reverse(address[0], args=[address[1]]))
        shown = page(answer)
        assert (answer.status_code, shown.inline, shown.unlabelled(), shown.problems) == (200, [], [], []), address
        assert "<b>Phone" not in answer.content.decode()
    here.post(reverse("mfa_edit_webauthn", args=[found.pk]), {"name": "x" * 100})
    assert Authenticator.objects.get(pk=found.pk).data["name"] == "<b>Phone</b>", "too long"
    here.post(reverse("mfa_edit_webauthn", args=[found.pk]), {"name": "Key ring"})
    assert "Key ring" in page(here.get(reverse("mfa_list_webauthn"))).text
    assert is_in(here)

    bob.set_password(PASSWORD)
    bob.save(update_fields=["password"])
    for name in ("mfa_edit_webauthn", "mfa_remove_webauthn"):
        assert confirmed(bob).post(reverse(name, args=[found.pk]), {"name": "mine"}).status_code == 404
    here.post(reverse("mfa_remove_webauthn", args=[found.pk]))
    assert not Authenticator.objects.exists(), "its codes go with it"
    assert is_in(here)
    gone = AuditEvent.objects.filter(action=Action.FACTOR_REMOVED, actor=alice).order_by("pk")
    assert {factor for event in gone for factor in event.detail["factors"]} == {"passkey", "recovery codes"}


def test_nobody_fills_the_record_by_trying(alice: User, key: SoftKey) -> None:
    add(confirmed(alice), key)
    client, options = half_in(alice)
    for _ in range(12):
        answer = client.post(reverse("mfa_authenticate"), {"credential": key.sign(options, origin="https://evil.org")})
    assert AuditEvent.objects.filter(action=Action.SIGN_IN_FAILED).count() < 12
    assert "not taken" not in page(answer).text


def test_a_passkey_alone_signs_nobody_in(alice: User, key: SoftKey) -> None:
    """It comes after the password; there is no door without."""
    add(confirmed(alice), key)
    assert Client().get("/accounts/2fa/webauthn/login/").status_code == 404


@pytest.mark.parametrize(
    ("address", "work"),
    [
        ("https://daypass.example.com", True),
        ("http://localhost:8000", True),
        ("http://daypass.localhost", True),
        ("http://daypass.example.com", False),
        ("https://10.0.0.7", False),
        ("https://[::1]:8443", False),
    ],
)
def test_they_are_offered_where_browsers_make_them(address: str, work: bool, settings: Any, alice: User) -> None:
    settings.BASE_URL = address
    assert factors.passkeys_work() is work
    for name in ("mfa_index", "second_factor"):
        assert (reverse("mfa_add_webauthn") in sign_in(alice).get(reverse(name)).content.decode()) is work
