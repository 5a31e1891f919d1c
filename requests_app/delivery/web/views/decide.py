from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.doors import PersonRequest, say_refusal, signed_in
from requests_app.delivery.web.forms import CommentForm
from requests_app.delivery.web.judging import dossiers
from requests_app.delivery.web.seeing import find_request
from requests_app.delivery.web.views.access_request import lifted
from requests_app.domain import workflow
from requests_app.domain.errors import DomainError, Invalid
from requests_app.domain.models import AccessRequest


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def approve(request: PersonRequest, code: str) -> HttpResponse:
    return _decide(request, code, approving=True)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def deny(request: PersonRequest, code: str) -> HttpResponse:
    return _decide(request, code, approving=False)


def _decide(request: PersonRequest, code: str, *, approving: bool) -> HttpResponse:
    """GET names who, what, where and how long; only POST decides."""
    one = find_request(request, code)
    if request.method != "POST":
        verdict = workflow.verdict_on_deciding(one, request.user)
        if not verdict or one.due(now_of(request)):
            messages.warning(request, verdict.message or "This request's time ran out before it was decided.")
            return redirect("access_request", one.code)
        typed = {"comment": request.GET.get("comment", "")[:1000]}
        return _page(request, one, CommentForm(initial=typed), approving=approving)
    form = CommentForm(request.POST)
    if not form.is_valid():
        return _page(request, one, form, approving=approving, status=422)
    verb = workflow.approve if approving else workflow.deny
    try:
        verb(one, by=request.user, comment=form.cleaned_data["comment"].strip())
    except Invalid as refusal:
        form.add_error("comment", refusal.fields.get("comment", [refusal.message]))
        return _page(request, one, form, approving=approving, status=422)
    except DomainError as refusal:
        say_refusal(request, refusal)
    else:
        messages.info(request, f"You {'approved' if approving else 'denied'} {one.beneficiary}'s request {one.code}.")
    return redirect("access_request", one.code)


def _page(
    request: PersonRequest, one: AccessRequest, form: CommentForm, *, approving: bool, status: int = 200
) -> HttpResponse:
    (dossier,) = dossiers([one], now_of(request))
    context = {"one": one, "form": form, "approving": approving, "dossier": dossier, "lifted": lifted(one)}
    return render(request, "decide.html", context | {"terms": one.terms}, status=status)
