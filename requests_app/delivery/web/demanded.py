"""Who must have a second factor and signed in without one is told until when, and then sent to set one up."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect

from requests_app.delivery.web import factors, presses
from requests_app.domain import factor_demand
from requests_app.domain.models import User

SENTENCE = "A second factor is demanded of you. Set one up first: nothing else is open to you until then."
# What is open to them: setting one up or using the one they have, signing out, and the page that helps.
_OPEN = ("second_factor", "account_reauthenticate", "account_logout")
# Whoever is not concerned may become so (an approver, a member) without signing in anew.
_LOOK_AGAIN_SECONDS = 60


class SecondFactorMiddleware:
    """After the one that asks who signed in. One statement for those whom it concerns until they used a factor in this
    sign-in; none for the others."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, *_: object) -> HttpResponse | None:
        person = request.user
        if not person.is_authenticated or not factor_demand.is_any():
            return None
        if not getattr(view, "login_required", True):
            return None
        demand = demand_of(request)
        if demand is None or not demand.is_over or _is_open(request):
            return None
        if presses.by_itself(request):
            return JsonResponse({"message": SENTENCE, "rule": "factor.demanded"}, status=403)
        if request.method not in presses.SAFE:
            messages.warning(request, "Nothing was done.", extra_tags=presses.NOTHING_DONE)
        return redirect("second_factor")


def demand_of(request: HttpRequest) -> factor_demand.Demand | None:
    """What is still demanded of whoever asks; None where they used a factor, or need none. Found once a request."""
    if not hasattr(request, "factor_demand"):
        request.factor_demand = _find(request, request.user) if factor_demand.is_any() else None  # type: ignore[attr-defined,arg-type]
    found: factor_demand.Demand | None = request.factor_demand  # type: ignore[attr-defined]
    return found


def _find(request: HttpRequest, person: User) -> factor_demand.Demand | None:
    if factors.used_in(request):
        return None
    key = f"no-factor-demanded:{request.session.session_key}:{person.is_operator}"
    if cache.get(key):
        return None
    demand = factor_demand.of(person)
    if demand.is_concerned:
        return demand
    cache.set(key, True, timeout=_LOOK_AGAIN_SECONDS)
    return None


def _is_open(request: HttpRequest) -> bool:
    name = request.resolver_match.url_name if request.resolver_match else None
    return bool(name) and (name in _OPEN or str(name).startswith("mfa_"))
