"""What every page shares: who may come in, and how a refusal is said."""

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse

from requests_app.domain.errors import Conflict, DomainError, Invalid, NotAllowed, TooMany, Unavailable
from requests_app.domain.models import User


class PersonRequest(HttpRequest):
    """What a view behind `signed_in` gets."""

    user: User
    read_at: datetime


View = Callable[..., HttpResponse]
_STATUS = {NotAllowed: 403, Conflict: 409, TooMany: 429, Invalid: 422, Unavailable: 503}


def signed_in(view: View) -> View:
    """Says that a view gets a `PersonRequest`: `SignedInMiddleware` lets nobody else come to it."""
    return view


def operators_only(view: View) -> View:
    """Only for operators; whoever else is signed in gets the page that says so."""

    @signed_in
    @wraps(view)
    def guarded(request: PersonRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_operator:  # of a deactivated one there is no sign-in
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


def status_of(refusal: DomainError) -> int:
    return next((status for kind, status in _STATUS.items() if isinstance(refusal, kind)), 400)


def refused_as_json(refusal: DomainError) -> JsonResponse:
    body: dict[str, Any] = {"message": refusal.message, "rule": refusal.rule}
    if isinstance(refusal, Invalid):
        body["fields"] = refusal.fields
    return JsonResponse(body, status=status_of(refusal))


def say_refusal(request: HttpRequest, refusal: DomainError) -> None:
    """Beside no field, so on top of the page they are sent to."""
    messages.warning(request, refusal.message)
