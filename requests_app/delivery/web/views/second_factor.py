from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from requests_app.delivery.web import factors
from requests_app.delivery.web.access import PersonRequest, signed_in
from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.demanded import demand_of
from requests_app.domain import workflow


@require_safe
@signed_in
def second_factor(request: PersonRequest) -> HttpResponse:
    """Helps whoever has no second factor yet to choose and set up one, or to use the one they have."""
    context = {
        "now": now_of(request),
        "demand": demand_of(request),
        "kinds": set(workflow.factors.of(request.user).values()) - {workflow.factors.NAMES["recovery_codes"]},
        "ways_to_confirm": factors.ways_to_confirm(request.user),
    }
    return render(request, "second_factor.html", context)
