from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from requests_app.delivery.web import choosing
from requests_app.delivery.web.choosing import Choice
from requests_app.delivery.web.doors import PersonRequest, signed_in
from requests_app.delivery.web.forms import RequestForm
from requests_app.delivery.web.holding import holds
from requests_app.domain import workflow
from requests_app.domain.codes import CODE
from requests_app.domain.errors import DomainError, Invalid
from requests_app.domain.models import AccessRequest, Role
from requests_app.domain.transitions import State

_FROM_LINK = ("entitlement", "duration", "justification", "ticket", "start")
USUAL_MINUTES = 60


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def request_access(request: PersonRequest) -> HttpResponse:
    """The form. Its GET parameters fill it in and change nothing."""
    if request.method == "POST":
        return _submit(request)
    typed = _from_again(request) or {name: request.GET[name] for name in _FROM_LINK if request.GET.get(name)}
    role = choosing.find_role(request.user, str(typed.pop("role", "") or request.GET.get("role", "")))
    found = choosing.choices(request.user, role) if role else []
    form = RequestForm(initial=_initial(typed, found, role), found=found)
    return _page(request, form, role, found)


@require_safe
@signed_in
def role_search(request: PersonRequest) -> HttpResponse:
    """What was found for the words typed so far."""
    words = _words(request)
    roles = choosing.find_roles(request.user, words) if words else choosing.recent_roles(request.user)
    return render(request, "request_access/found.html", {"roles": roles, "words": words})


@require_safe
@signed_in
def role_terms(request: PersonRequest) -> HttpResponse:
    """The chosen role and the terms on which this person may ask for it; without a role, the search."""
    role = choosing.find_role(request.user, request.GET.get("role", ""))
    found = choosing.choices(request.user, role) if role else []
    # What was typed stays: the reason is kept by the page, the ticket comes along.
    typed = {"ticket": request.GET.get("ticket", "")[:100]}
    form = RequestForm(initial=_initial(typed, found, role), found=found)
    context = _context(request, form, role, found) | {"focus": True}
    return render(request, "request_access/asking.html", context)


def _submit(request: PersonRequest) -> HttpResponse:
    role = choosing.find_role(request.user, request.POST.get("role", ""))
    found = choosing.choices(request.user, role) if role else []
    form = RequestForm(request.POST, found=found)
    if role is None and "role" not in form.errors:
        form.add_error("role", "You may not ask for this role, or it is gone. Choose another one.")
    if form.is_valid() and role is not None:
        chosen = next(choice for choice in found if choice.key == form.cleaned_data["entitlement"])
        try:
            made = workflow.submit(
                role,
                by=request.user,
                entitlement=chosen.entitlement,
                duration=form.wanted,
                justification=form.cleaned_data["justification"],
                ticket=form.cleaned_data["ticket"],
                start=form.cleaned_data["start"],
            )
        except Invalid as refusal:
            form.take(refusal)
        except DomainError as refusal:
            form.add_error(None, refusal.message)
        else:
            messages.info(request, _said(made))
            return redirect("access_request", made.code)
    return _page(request, form, role, found, status=422)


def _said(made: AccessRequest) -> str:
    if made.state == State.ACTIVE:
        return "Your pass is active."
    if made.state == State.APPROVED:
        return "Nobody had to agree. Your pass starts when you press Start, or when you get credentials."
    return "Asked. The people who decide have been told."


def _from_again(request: PersonRequest) -> dict[str, Any]:
    """What an earlier request of this person's asked for."""
    code = request.GET.get("again", "").upper()
    if not CODE.fullmatch(code):
        return {}
    earlier = AccessRequest.objects.filter(code=code, beneficiary=request.user).select_related("role").first()
    if earlier is None:
        return {}
    return {
        "role": str(earlier.role.public_id),
        "entitlement": str(earlier.entitlement_id),
        "duration": str(earlier.duration_seconds // 60),
        "justification": earlier.justification,
        "ticket": earlier.ticket,
        "start": earlier.start,
    }


def _initial(typed: dict[str, Any], found: list[Choice], role: Role | None) -> dict[str, Any]:
    chosen = next((one for one in found if one.key == typed.get("entitlement")), found[0] if found else None)
    initial = {**typed, "role": str(role.public_id) if role else "", "entitlement": chosen.key if chosen else ""}
    offered = [str(step) for step in choosing.steps(found)]
    if "duration" not in typed:
        initial["duration"] = str(min(USUAL_MINUTES, chosen.longest_minutes)) if chosen else ""
    elif found and typed["duration"] not in offered:
        initial |= {"duration": "other", "duration_other": typed["duration"]}
    return initial


def _context(request: PersonRequest, form: RequestForm, role: Role | None, found: list[Choice]) -> dict[str, Any]:
    words = _words(request)  # without script the search is a plain GET of this page
    searching = role is None and bool(words)
    return {
        "form": form,
        "role": role,
        "choices": found,
        "freezes": holds([role] if role else []).values(),
        "steps": choosing.steps(found),
        "recent": [] if role or searching else choosing.recent_roles(request.user),
        "roles": choosing.find_roles(request.user, words) if searching else None,
        "words": words,
    }


def _words(request: PersonRequest) -> str:
    return request.GET.get("q", "").replace("\0", "")[:200].strip()


def _page(
    request: PersonRequest, form: RequestForm, role: Role | None, found: list[Choice], status: int = 200
) -> HttpResponse:
    return render(request, "request_access/page.html", _context(request, form, role, found), status=status)
