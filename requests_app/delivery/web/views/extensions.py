"""More time for a running pass: asking for it, taking that back, and deciding about it."""

from datetime import timedelta
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from requests_app.delivery.web import once
from requests_app.delivery.web.access import PersonRequest, say_refusal, signed_in
from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.dossiers import dossiers
from requests_app.delivery.web.forms import CommentForm, ExtendForm
from requests_app.delivery.web.passes import More, more, until
from requests_app.delivery.web.views.decide import only_looks, stage_seen, typed_before, verb
from requests_app.delivery.web.visibility import find_request
from requests_app.domain import policy, workflow
from requests_app.domain.errors import DomainError, Invalid
from requests_app.domain.models import AccessRequest, Extension
from requests_app.domain.transitions import ExtensionState
from requests_app.domain.workflow.idempotency import OtherContents

ASKED_BEFORE = "You had sent this already. More time was asked for once, and nobody was told a second time."
OTHER_BEFORE = "You already sent this form, with other contents, and asked for more time by that. Nothing was sent now."
PRESS_AGAIN = "To ask for this as well, press again."


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def extend(request: PersonRequest, code: str) -> HttpResponse:
    """How much longer, and why; what is possible stands there."""
    access_request = find_request(request, code)
    form = ExtendForm(request.POST if request.method == "POST" else None)
    used_up = False
    if request.method == "POST" and form.is_valid():
        # The verb compares with what was sent before, and only then asks the rules.
        try:
            why, key = form.cleaned_data["justification"], once.sent(request)
            asked = workflow.extend(access_request, by=request.user, duration=form.wanted, justification=why, key=key)
        except Invalid as refusal:
            form.take(refusal)
        except OtherContents:
            used_up = True
            form.add_error(None, f"{OTHER_BEFORE} {_may_extend(request, access_request).message or PRESS_AGAIN}")
        except DomainError as refusal:
            form.add_error("duration" if refusal.rule in ("extend.total", "extend.hours") else None, refusal.message)
        else:
            messages.info(request, _in_words(asked))
            return redirect("access_request", access_request.code)
    verdict = _may_extend(request, access_request)
    longer = more([access_request], now_of(request)).get(access_request.pk, More())
    # What was typed stays, unless there is nothing to ask for any more.
    if verdict or (form.is_bound and verdict.rule == "extend.pending"):
        form.initial = {"duration": str(longer.steps[0])}
        return _extend_page(request, access_request, form, longer, used_up=used_up)
    messages.warning(request, OTHER_BEFORE if used_up else verdict.message)
    return redirect("access_request", access_request.code)


@require_POST
@signed_in
def withdraw(request: PersonRequest, code: str, public_id: UUID) -> HttpResponse:
    extension = _find(request, code, public_id)
    try:
        workflow.withdraw_extension(extension, by=request.user)
    except DomainError as refusal:
        say_refusal(request, refusal)
    else:
        messages.info(request, "Taken back. Your pass ends when it would have.")
    return redirect("access_request", extension.access_request.code)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def approve(request: PersonRequest, code: str, public_id: UUID) -> HttpResponse:
    return _decide(request, _find(request, code, public_id), approving=True)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def deny(request: PersonRequest, code: str, public_id: UUID) -> HttpResponse:
    return _decide(request, _find(request, code, public_id), approving=False)


def _may_extend(request: PersonRequest, access_request: AccessRequest) -> policy.Verdict:
    return workflow.may_extend(access_request, request.user, timedelta(seconds=policy.SHORTEST_SECONDS))


def _extend_page(
    request: PersonRequest, access_request: AccessRequest, form: ExtendForm, longer: More, *, used_up: bool
) -> HttpResponse:
    context = {
        "access_request": access_request,
        "terms": access_request.terms,
        "form": form,
        "more": longer,
        "steps": longer.steps,
    }
    context["once"] = once.to_show(request, used_up=used_up)
    return render(request, "extend.html", context, status=422 if form.errors else 200)


def _in_words(asked: Extension) -> str:
    if asked.is_repeat:
        return ASKED_BEFORE
    if asked.state == ExtensionState.GRANTED:
        return "Your pass is longer. Get new credentials for the time that was added."
    return "Asked for more time. The people who decide have been told; your pass goes on meanwhile."


def _find(request: PersonRequest, code: str, public_id: UUID) -> Extension:
    """404 alike for one that is not there and one that is not theirs to see."""
    access_request = find_request(request, code)
    extension = access_request.extensions.filter(public_id=public_id).first()
    if extension is None:
        raise Http404("There is no such extension.")
    extension.access_request = access_request
    return extension


def _decide(request: PersonRequest, extension: Extension, *, approving: bool) -> HttpResponse:
    """Names who, what, where and how much longer; only a POST from there decides."""
    code = extension.access_request.code
    if only_looks(request):
        refused = _refused(request, extension, approving=approving)
        if refused:
            messages.warning(request, refused)
            return redirect("access_request", code)
        return _decide_page(request, extension, CommentForm(initial=typed_before(request)), approving=approving)
    form = CommentForm(request.POST)
    if form.is_valid():
        verb = workflow.approve_extension if approving else workflow.deny_extension
        try:
            comment = form.cleaned_data["comment"].strip()
            verb(extension, by=request.user, stage=stage_seen(request), comment=comment)
        except Invalid as refusal:
            form.add_error("comment", refusal.fields.get("comment", [refusal.message]))
        except DomainError as refusal:
            return _not_decided(request, extension, form, refusal, approving=approving)
        else:
            beneficiary = extension.access_request.beneficiary
            messages.info(request, f"You {'approved' if approving else 'denied'} more time for {beneficiary}'s pass.")
            return redirect("access_request", code)
    return _decide_page(request, extension, form, approving=approving)


def _not_decided(
    request: PersonRequest, extension: Extension, form: CommentForm, refusal: DomainError, *, approving: bool
) -> HttpResponse:
    """Where another stage is theirs to decide too, they look at that, with what they typed."""
    code = extension.access_request.code
    if refusal.rule == "decision.other_stage":
        extension = _find(request, code, extension.public_id)
        if not _refused(request, extension, approving=approving):
            form.add_error(None, refusal.message)
            return _decide_page(request, extension, form, approving=approving, status=409)
    say_refusal(request, refusal)
    return redirect("access_request", code)


def _refused(request: PersonRequest, extension: Extension, *, approving: bool) -> str:
    if extension.state != ExtensionState.PENDING or extension.decide_by <= now_of(request):
        return "This was decided in the meantime, or its time ran out."
    ask = workflow.may_approve if approving else workflow.may_deny
    return ask(extension, request.user).message


def _decide_page(
    request: PersonRequest, extension: Extension, form: CommentForm, *, approving: bool, status: int = 0
) -> HttpResponse:
    (dossier,) = dossiers([extension], now_of(request), counted=False)
    context = {
        "access_request": extension.access_request,
        "extension": extension,
        "until": until(extension),
        "dossier": dossier,
    }
    status = status or (422 if form.errors else 200)
    return render(
        request,
        "decide_more.html",
        context | {"form": form, "approving": approving, "verb": verb(approving)},
        status=status,
    )
