"""Asking for a delivery, watching it, and taking its envelope: JSON for the page's script."""

import contextlib
import json
from typing import Any
from uuid import UUID

from django.db import DatabaseError
from django.http import Http404, HttpResponse, JsonResponse
from django.views.decorators.http import require_POST, require_safe

from requests_app.delivery.web.access import PersonRequest, refused_as_json, signed_in
from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.visibility import find_request
from requests_app.delivery.web.waiting import waiting
from requests_app.domain import envelopes, workflow
from requests_app.domain.errors import DomainError, Invalid
from requests_app.domain.models import Delivery
from requests_app.domain.transitions import DeliveryState

MOST_BYTES = 8192
NOT_OURS = "This is not what this page sends. Reload it and try again."
_FIELDS = ("code", "kind", "destination")
_FORMS_OF_A_WISH = ("application/json", "application/x-www-form-urlencoded")


@require_POST
@signed_in
def ask(request: PersonRequest) -> HttpResponse:
    """Write down what is asked for and answer with its id; a worker does the rest.

    If that takes a moment only, the answer has the envelope too, for a page that prefers to wait (RFC 7240). Else, and
    always if anything is in the way, the page asks how far it is.
    """
    try:
        asked_for = _read(request)
        access_request = find_request(request, asked_for["code"])
        delivery = workflow.deliveries.ask(
            access_request,
            by=request.user,
            kind=asked_for["kind"],
            recipient_key=asked_for["jwk"],
            sign_in=_sign_in(request),
            destination=asked_for["destination"],
        )
    except DomainError as refusal:
        return refused_as_json(refusal)
    except Http404:
        return JsonResponse({"message": "There is no such request, or it is not yours."}, status=404)
    answer = {"id": str(delivery.public_id)}
    if _prefers_to_wait(request) and waiting.for_envelope(delivery.public_id):
        # The wish stands whatever becomes of this; the page asks how far it is.
        with contextlib.suppress(DomainError, workflow.deliveries.NotYet, envelopes.EnvelopeStoreDown, DatabaseError):
            answer["envelope"] = _take(request, delivery)
    return JsonResponse(answer, status=201)


@require_safe
@signed_in
def delivery(request: PersonRequest, public_id: UUID) -> HttpResponse:
    """What has become of it so far."""
    found = _find(request, public_id)
    if found is None:
        return JsonResponse({"message": "There is no such delivery, or it is not yours."}, status=404)
    return JsonResponse(
        {
            "state": found.state,
            "message": found.message or _MESSAGES.get(DeliveryState(found.state), ""),
            "advice": found.advice or None,
            "code": found.aws_code or None,
            "aws_message": found.aws_message or None,
            "server_time": now_of(request).isoformat(),
        }
    )


@require_POST
@signed_in
def envelope(request: PersonRequest, public_id: UUID) -> HttpResponse:
    """The sealed envelope, once, to the sign-in session that asked for it."""
    found = _find(request, public_id)
    if found is None:
        return JsonResponse({"message": "There is no such delivery, or it is not yours."}, status=404)
    try:
        sealed = _take(request, found)
    except DomainError as refusal:
        return refused_as_json(refusal)
    except workflow.deliveries.NotYet:
        return JsonResponse({"message": _MESSAGES[DeliveryState.SEALED], "rule": "delivery.not_yet"}, status=409)
    except envelopes.EnvelopeStoreDown:
        return JsonResponse(
            {
                "message": "The place where sealed credentials wait does not answer.",
                "advice": "Try again in a moment; if it stays so, an operator should look at Redis.",
            },
            status=503,
        )
    return JsonResponse({"envelope": sealed})


# For states whose row says nothing itself.
_MESSAGES = {
    DeliveryState.ASKED: "Waiting for a worker.",
    DeliveryState.CLAIMED: "A worker is asking AWS.",
    DeliveryState.SEALED: "Sealed for your browser.",
    DeliveryState.DELIVERED: "Already handed over. Each is given once: get new ones.",
    DeliveryState.REFUSED: "Refused.",
    DeliveryState.UNAVAILABLE: "AWS did not answer.",
}


def _read(request: PersonRequest) -> dict[str, Any]:
    """The wish, from JSON or from a form whose `jwk` is JSON. Raises Invalid."""
    if request.content_type not in _FORMS_OF_A_WISH:  # another's body may have been read already
        raise Invalid({"jwk": [NOT_OURS]})
    if len(request.body) > MOST_BYTES:
        raise Invalid({"jwk": ["This is too long to be a wish for credentials."]})
    try:
        typed = json.loads(request.body) if request.content_type == "application/json" else request.POST.dict()
        jwk = typed.get("jwk")
        jwk = json.loads(jwk) if isinstance(jwk, str) else jwk
        fields = {name: typed.get(name) or "" for name in _FIELDS}
    except (ValueError, AttributeError, RecursionError):
        raise Invalid({"jwk": [NOT_OURS]}) from None
    if not isinstance(jwk, dict) or not all(isinstance(value, str) and "\0" not in value for value in fields.values()):
        raise Invalid({"jwk": [NOT_OURS]})
    return {**fields, "jwk": jwk}


def _prefers_to_wait(request: PersonRequest) -> bool:
    """A page from before does not, and would not find what it was given."""
    preferences = request.headers.get("Prefer", "").split(",")
    return any(preference.partition("=")[0].strip().lower() == "wait" for preference in preferences)


def _take(request: PersonRequest, delivery: Delivery) -> str:
    return workflow.deliveries.hand_over(delivery, by=request.user, sign_in=_sign_in(request), take=envelopes.take)


def _find(request: PersonRequest, public_id: UUID) -> Delivery | None:
    return Delivery.objects.filter(public_id=public_id, beneficiary=request.user).first()


def _sign_in(request: PersonRequest) -> str:
    return request.session.session_key or ""
