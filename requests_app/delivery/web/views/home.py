from datetime import datetime

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.doors import PersonRequest, signed_in
from requests_app.delivery.web.holding import each_once, holds
from requests_app.delivery.web.judging import dossiers, left_out, work_until
from requests_app.domain.models import AccessRequest
from requests_app.domain.transitions import ENDED, State
from requests_app.domain.workflow.requests import REMIND_EVERY

MOST_OPEN = 50
MOST_RECENT = 10


@require_safe
@signed_in
def home(request: PersonRequest) -> HttpResponse:
    """My access: what runs, what can be started, what waits, what was."""
    now = now_of(request)
    requests = AccessRequest.objects.with_names()
    open_ = list(reversed(requests.open().newest_of(request.user, MOST_OPEN)))
    by_clock: dict[State, list[AccessRequest]] = {state: [] for state in State}
    for one in open_:
        by_clock[one.state_at(now)].append(one)
    over = [one for one in open_ if one.state_at(now) in ENDED]
    recent = over + list(requests.filter(state__in=ENDED).newest_of(request.user, MOST_RECENT))
    still = work_until(recent, now)
    going_on = [one for one in open_ if one not in over]
    return render(
        request,
        "home.html",
        {
            "freezes": each_once(holds([one.role for one in going_on]).values()),
            "active": sorted(by_clock[State.ACTIVE], key=lambda one: one.expires_at or now),
            "ready": by_clock[State.APPROVED],
            "waiting": [
                (dossier, _remind_at(dossier.access_request) <= now)
                for dossier in dossiers(by_clock[State.PENDING], now)
            ],
            "left_out": left_out(recent),
            "recent": [(one, still.get(one.pk)) for one in recent],
        },
    )


def _remind_at(access_request: AccessRequest) -> datetime:
    return (access_request.reminded_at or access_request.asked_at) + REMIND_EVERY
