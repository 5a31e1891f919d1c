import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client

from requests_app.domain import envelopes, workflow
from requests_app.domain import store as redis_store
from requests_app.domain.models import AccessRequest, AwsClock, Delivery, User
from requests_app.domain.transitions import DeliveryState
from tests.factories import recipient_key
from tests.web.minting import ENVELOPE, seal
from tests.web.pages import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _known_clock(aws_clock: AwsClock) -> None:
    """Nothing is minted without it."""


@pytest.fixture
def store(redis_server: Any) -> Iterator[Any]:
    redis_store._client.cache_clear()
    yield redis_server
    redis_store._client.cache_clear()


def ask(client: Client, access_request: AccessRequest, **values: Any) -> Any:
    wish = {"code": access_request.code, "kind": "credentials", "jwk": recipient_key(), **values}
    return client.post("/deliveries/", json.dumps(wish), content_type="application/json")


def sealed(client: Client, access_request: AccessRequest) -> Delivery:
    """A delivery whose envelope waits in the store."""
    made = Delivery.objects.get(public_id=ask(client, access_request).json()["id"])
    seal(made)
    return made


def test_asking_answers_at_once_with_an_id(active_request: AccessRequest, alice: User) -> None:
    response = ask(signed_in(alice), active_request)

    made = Delivery.objects.get()
    assert response.status_code == 201
    assert response.json() == {"id": str(made.public_id)}
    assert (made.state, made.kind, made.beneficiary) == ("asked", "credentials", alice)


def test_with_redis_known_to_be_unusable_it_is_said_at_once_and_nothing_is_written(
    approved_request: AccessRequest, alice: User, settings: Any
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    redis_store.standing().note_failure(OSError())
    response = ask(signed_in(alice), approved_request)

    assert response.status_code == 503
    assert response.json() == {
        "message": "Daypass cannot reach its queue, so nothing was issued. Try again in a minute.",
        "rule": "queue.unusable",
    }
    assert not Delivery.objects.exists()
    approved_request.refresh_from_db()
    assert approved_request.state == "approved", "its time does not run for what nobody gets"


def test_a_form_works_too(active_request: AccessRequest, alice: User) -> None:
    wish = {"code": active_request.code, "kind": "console", "jwk": json.dumps(recipient_key()), "destination": ""}
    form = "application/x-www-form-urlencoded"

    assert signed_in(alice).post("/deliveries/", urlencode(wish), content_type=form).status_code == 201
    assert Delivery.objects.get().kind == "console"


def test_any_other_form_is_refused_in_words(active_request: AccessRequest, alice: User) -> None:
    """Multipart, say, whose body the look for the token has read already."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    client.get("/")
    wish = {"code": active_request.code, "kind": "credentials", "jwk": json.dumps(recipient_key())}
    response = client.post("/deliveries/", wish, headers={"X-CSRFToken": client.cookies["csrftoken"].value})

    assert response.status_code == 422
    assert "not what this page sends" in response.json()["message"]


def test_asking_starts_an_approved_pass(approved_request: AccessRequest, alice: User) -> None:
    assert ask(signed_in(alice), approved_request).status_code == 201

    approved_request.refresh_from_db()
    assert approved_request.state == "active"


@pytest.mark.parametrize(
    "wish",
    [
        "",
        "[]",
        "null",
        "{",
        '{"code": 7}',
        '{"jwk": "x"}',
        '{"jwk": {}, "code": {"a": 1}}',
        "[" * 4000,
        json.dumps({"jwk": {"kty": "EC"}, "code": "DP-7K2M9QX4\x00", "kind": "credentials"}),
        json.dumps({"jwk": {"pad": "x" * 9000}}),
    ],
)
def test_nonsense_is_refused_in_words(wish: str, alice: User) -> None:
    response = signed_in(alice).post("/deliveries/", wish, content_type="application/json")

    assert response.status_code == 422
    assert response.json()["message"]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"kind": "everything"}, "kind"),
        ({"jwk": {"kty": "EC", "crv": "P-384", "x": "a", "y": "b"}}, "recipient_key"),
        ({"kind": "console", "destination": "https://evil.example.com/"}, "destination"),
        ({"kind": "console", "destination": "http://console.aws.amazon.com/"}, "destination"),
    ],
)
def test_a_wrong_wish_names_its_field(
    values: dict[str, Any], field: str, active_request: AccessRequest, alice: User
) -> None:
    response = ask(signed_in(alice), active_request, **values)

    assert response.status_code == 422
    assert list(response.json()["fields"]) == [field]
    assert not Delivery.objects.exists()


def test_others_get_nothing(active_request: AccessRequest, bob: User, mallory: User) -> None:
    assert ask(signed_in(bob), active_request).status_code == 403
    assert ask(signed_in(mallory), active_request).status_code == 404
    assert not Delivery.objects.exists()


def test_an_ended_pass_gives_nothing(active_request: AccessRequest, alice: User) -> None:
    workflow.give_back(active_request, by=alice)
    response = ask(signed_in(alice), active_request)

    assert response.status_code == 403
    assert "not active" in response.json()["message"]


def test_asking_too_often_says_so(active_request: AccessRequest, alice: User, settings: Any) -> None:
    settings.DELIVERIES_PER_PERSON_PER_MINUTE = 1
    client = signed_in(alice)
    ask(client, active_request)

    assert ask(client, active_request).status_code == 429


def test_the_state_is_told_to_the_one_who_asked(active_request: AccessRequest, alice: User, bob: User) -> None:
    client = signed_in(alice)
    made = ask(client, active_request).json()["id"]
    told = client.get(f"/deliveries/{made}")
    assert told.json()["state"] == "asked"
    assert told.json()["server_time"]
    assert "no-store" in told["Cache-Control"]

    assert signed_in(bob).get(f"/deliveries/{made}").status_code == 404
    assert client.get("/deliveries/00000000-0000-0000-0000-000000000000").status_code == 404


def test_awss_own_words_are_told(active_request: AccessRequest, alice: User) -> None:
    client = signed_in(alice)
    made = ask(client, active_request).json()["id"]
    order = workflow.deliveries.claim(Delivery.objects.get().pk, worker="a worker")
    assert order
    words = "not authorized to perform: sts:AssumeRole"
    refused = workflow.deliveries.Failure(
        DeliveryState.REFUSED, "AWS refused.", "Ask the account's owner.", "AccessDenied", words
    )
    workflow.deliveries.fail(order, refused)
    told = client.get(f"/deliveries/{made}").json()

    assert told | {"server_time": ""} == {
        "state": "refused",
        "message": "AWS refused.",
        "advice": "Ask the account's owner.",
        "code": "AccessDenied",
        "aws_message": "not authorized to perform: sts:AssumeRole",
        "server_time": "",
    }


def test_the_envelope_is_handed_over_once(active_request: AccessRequest, alice: User, store: Any) -> None:
    client = signed_in(alice)
    made = sealed(client, active_request)
    first = client.post(f"/deliveries/{made.public_id}/envelope")
    again = client.post(f"/deliveries/{made.public_id}/envelope")

    assert first.json() == {"envelope": ENVELOPE}
    assert again.status_code == 409
    assert "already handed over" in again.json()["message"]


def test_only_the_sign_in_that_asked_takes_it(
    active_request: AccessRequest, alice: User, bob: User, store: Any
) -> None:
    made = sealed(signed_in(alice), active_request)
    elsewhere = signed_in(alice).post(f"/deliveries/{made.public_id}/envelope")

    assert elsewhere.status_code == 403
    assert signed_in(bob).post(f"/deliveries/{made.public_id}/envelope").status_code == 404


def test_an_exchanged_envelope_is_not_handed_over(active_request: AccessRequest, alice: User, store: Any) -> None:
    client = signed_in(alice)
    made = sealed(client, active_request)
    store.set(f"envelope:{made.public_id}", ENVELOPE.replace("c", "x"))
    response = client.post(f"/deliveries/{made.public_id}/envelope")

    assert response.status_code == 409
    assert "envelope" not in response.json()


def test_too_early_is_a_conflict(active_request: AccessRequest, alice: User) -> None:
    client = signed_in(alice)
    made = ask(client, active_request).json()["id"]

    assert client.post(f"/deliveries/{made}/envelope").status_code == 409


def test_a_store_that_is_down_is_said(
    active_request: AccessRequest, alice: User, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = signed_in(alice)
    made = sealed(client, active_request)

    def down(delivery_id: str) -> str:
        raise envelopes.EnvelopeStoreDown("TimeoutError")

    monkeypatch.setattr(envelopes, "take", down)
    response = client.post(f"/deliveries/{made.public_id}/envelope")

    assert response.status_code == 503
    assert "Try again" in response.json()["advice"]


def test_get_never_hands_over(active_request: AccessRequest, alice: User) -> None:
    client = signed_in(alice)
    made = ask(client, active_request).json()["id"]

    assert client.get(f"/deliveries/{made}/envelope").status_code == 405
    assert client.get("/deliveries/").status_code == 405
