"""Accepting, starting, reminding and ending: small acts on one request."""

from collections.abc import Callable
from datetime import datetime

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from requests_app.delivery.web.access import PersonRequest, say_refusal, signed_in
from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.forms import ReasonForm
from requests_app.delivery.web.visibility import find_request
from requests_app.domain import workflow
from requests_app.domain.errors import DomainError, Invalid
from requests_app.domain.models import AccessRequest
from requests_app.domain.workflow import live_sessions


@require_POST
@signed_in
def accept(request: PersonRequest, code: str) -> HttpResponse:
    return _act(request, code, workflow.accept, "You accepted it.")


@require_POST
@signed_in
def withdraw(request: PersonRequest, code: str) -> HttpResponse:
    return _act(request, code, workflow.withdraw, "Withdrawn.")


@require_POST
@signed_in
def start(request: PersonRequest, code: str) -> HttpResponse:
    return _act(request, code, workflow.start, "Your pass is active: the clock runs.")


@require_POST
@signed_in
def remind(request: PersonRequest, code: str) -> HttpResponse:
    return _act(request, code, workflow.remind, "They are asked once more.")


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def give_back(request: PersonRequest, code: str) -> HttpResponse:
    if request.method == "POST":
        return _act(request, code, workflow.give_back, "You gave your pass back.")
    access_request = find_request(request, code)
    return render(
        request,
        "give_back.html",
        {"access_request": access_request, "still_until": _would_work_until(request, access_request)},
    )


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def revoke(request: PersonRequest, code: str) -> HttpResponse:
    access_request = find_request(request, code)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            workflow.revoke(access_request, by=request.user, reason=form.cleaned_data["reason"])
        except Invalid as refusal:
            form.add_error("reason", refusal.fields.get("reason", [refusal.message]))
        except DomainError as refusal:
            say_refusal(request, refusal)
            return redirect("access_request", access_request.code)
        else:
            messages.info(request, f"You revoked {access_request.beneficiary}'s pass {access_request.code}.")
            return redirect("access_request", access_request.code)
    context = {
        "access_request": access_request,
        "form": form,
        "still_until": _would_work_until(request, access_request),
    }
    return render(request, "revoke.html", context, status=422 if form.errors else 200)


def _act(request: PersonRequest, code: str, verb: Callable[..., AccessRequest], message: str) -> HttpResponse:
    access_request = find_request(request, code)
    try:
        verb(access_request, by=request.user)
    except DomainError as refusal:
        say_refusal(request, refusal)
    else:
        messages.info(request, message)
    back = request.POST.get("next", "")
    if back.startswith("/") and url_has_allowed_host_and_scheme(back, allowed_hosts=None):
        return HttpResponseRedirect(back)
    return redirect("access_request", access_request.code)


def _would_work_until(request: PersonRequest, access_request: AccessRequest) -> datetime | None:
    """If it ended now: until when credentials that were already issued would still work."""
    return live_sessions.may_work_until([access_request], now_of(request)).get(access_request.pk)
