from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from requests_app.delivery.web.access import PersonRequest, signed_in
from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.visibility import find_request
from requests_app.domain import facts, partitions
from requests_app.domain.terms import CONSOLE, KEYS
from requests_app.domain.transitions import State

# Said to whoever comes too late, too early, or for someone else.
NOT_NOW = "Nothing to get here now: only the person a pass is for can use it, and only while it is active."


@require_safe
@signed_in
def credentials(request: PersonRequest, code: str) -> HttpResponse:
    """Where the browser makes a key and opens what was sealed for it. Opening this page changes nothing."""
    return _page(request, code, KEYS, "credentials.html")


@require_safe
@signed_in
def console(request: PersonRequest, code: str) -> HttpResponse:
    """The same for the console: where to, and the form that opens it."""
    return _page(request, code, CONSOLE, "console.html")


def _page(request: PersonRequest, code: str, channel: str, template: str) -> HttpResponse:
    access_request = find_request(request, code)
    state = access_request.state_at(now_of(request))
    if access_request.beneficiary_id != request.user.pk or state not in (State.APPROVED, State.ACTIVE):
        messages.warning(request, NOT_NOW)
        return redirect("access_request", access_request.code)
    gives = facts.may_use(access_request, channel)
    if not gives:
        messages.warning(request, gives.message)
        return redirect("access_request", access_request.code)
    home = partitions.console_home(access_request.role.account.partition)
    return render(request, template, {"access_request": access_request, "state_now": state, "console_home": home})
