from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from requests_app.delivery.web.access import PersonRequest, say_refusal, signed_in
from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.dossiers import dossiers
from requests_app.delivery.web.forms import ApproveForm, CommentForm
from requests_app.delivery.web.views.access_request import lifted
from requests_app.delivery.web.visibility import find_request
from requests_app.domain import workflow
from requests_app.domain.errors import DomainError, Invalid
from requests_app.domain.models import AccessRequest


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def approve(request: PersonRequest, code: str) -> HttpResponse:
    """Names who, what, where and how long; only a POST from there decides. Shorter or later is possible, never the
    other way."""
    access_request = find_request(request, code)
    if only_looks(request):
        verdict = workflow.may_approve(access_request, request.user)
        if not verdict or access_request.due(now_of(request)):
            return _too_late(request, access_request, verdict.message)
        return _page(
            request,
            access_request,
            ApproveForm(initial=typed_before(request), scheduled_at=access_request.scheduled_at),
            approving=True,
        )
    form = ApproveForm(request.POST, scheduled_at=access_request.scheduled_at)
    if form.is_valid():
        try:
            comment = form.cleaned_data["comment"].strip()
            workflow.approve(
                access_request, by=request.user, stage=stage_seen(request), comment=comment,
                start_at=form.start_at, duration=form.duration,
            )  # fmt: skip
        except Invalid as refusal:
            form.take(refusal)
        except DomainError as refusal:
            return _refused(request, access_request, form, refusal, approving=True)
        else:
            messages.info(request, f"You approved {access_request.beneficiary}'s request {access_request.code}.")
            return redirect("access_request", access_request.code)
    return _page(request, access_request, form, approving=True)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def deny(request: PersonRequest, code: str) -> HttpResponse:
    access_request = find_request(request, code)
    if only_looks(request):
        verdict = workflow.may_deny(access_request, request.user)
        if not verdict or access_request.due(now_of(request)):
            return _too_late(request, access_request, verdict.message)
        return _page(request, access_request, CommentForm(initial=typed_before(request)), approving=False)
    form = CommentForm(request.POST)
    if form.is_valid():
        try:
            comment = form.cleaned_data["comment"].strip()
            workflow.deny(access_request, by=request.user, stage=stage_seen(request), comment=comment)
        except Invalid as refusal:
            form.add_error("comment", refusal.fields.get("comment", [refusal.message]))
        except DomainError as refusal:
            return _refused(request, access_request, form, refusal, approving=False)
        else:
            messages.info(request, f"You denied {access_request.beneficiary}'s request {access_request.code}.")
            return redirect("access_request", access_request.code)
    return _page(request, access_request, form, approving=False)


def verb(approving: bool) -> str:
    return "Approve" if approving else "Deny"


def only_looks(request: PersonRequest) -> bool:
    """Whether nothing is decided yet: what was typed on the page before is posted, so that it is in no address."""
    return request.method != "POST" or "look" in request.POST


def typed_before(request: PersonRequest) -> dict[str, str]:
    return {"comment": request.POST.get("comment", "").replace("\0", "")}


def stage_seen(request: PersonRequest, field: str = "stage") -> int | None:
    """The stage that the page showed; what is no number is no stage, so that it is refused."""
    typed = request.POST.get(field)
    if typed is None:
        return None  # a page from before it was posted
    return int(typed) if typed.isascii() and typed.isdigit() and len(typed) < 5 else 0


def _refused(
    request: PersonRequest, access_request: AccessRequest, form: CommentForm, refusal: DomainError, *, approving: bool
) -> HttpResponse:
    """Where another stage is theirs to decide too, they look at that, with what they typed."""
    if refusal.rule == "decision.other_stage":
        access_request = find_request(request, access_request.code)
        ask = workflow.may_approve if approving else workflow.may_deny
        if ask(access_request, request.user):
            form.add_error(None, refusal.message)
            return _page(request, access_request, form, approving=approving, status=409)
    say_refusal(request, refusal)
    return redirect("access_request", access_request.code)


def _too_late(request: PersonRequest, access_request: AccessRequest, message: str) -> HttpResponse:
    messages.warning(request, message or "This request's time ran out before it was decided.")
    return redirect("access_request", access_request.code)


def _page(
    request: PersonRequest, access_request: AccessRequest, form: CommentForm, *, approving: bool, status: int = 0
) -> HttpResponse:
    (dossier,) = dossiers([access_request], now_of(request), counted=False)
    context = {
        "access_request": access_request,
        "form": form,
        "approving": approving,
        "dossier": dossier,
        "lifted": lifted(access_request),
    }
    context |= {"terms": access_request.terms, "freeze": dossier.frozen if approving else None, "verb": verb(approving)}
    return render(request, "decide.html", context, status=status or (422 if form.errors else 200))
