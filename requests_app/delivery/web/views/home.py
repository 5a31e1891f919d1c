from datetime import datetime

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from requests_app.delivery.web.access import PersonRequest, signed_in
from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.dossiers import JUDGED, Dossier, dossiers, left_out
from requests_app.delivery.web.frozen import each_once, frozen_by
from requests_app.delivery.web.passes import begins, more
from requests_app.domain.models import AccessRequest
from requests_app.domain.transitions import ENDED, State
from requests_app.domain.workflow import live_sessions
from requests_app.domain.workflow.asking import REMIND_EVERY

MOST_OPEN = 50
MOST_RECENT = 10


@require_safe
@signed_in
def home(request: PersonRequest) -> HttpResponse:
    """My access: what runs, what can be started, what waits, what was."""
    now = now_of(request)
    requests = AccessRequest.objects.with_names().select_related(JUDGED)
    open_ = list(reversed(requests.with_use().open().newest_of(request.user, MOST_OPEN)))
    by_clock: dict[State, list[AccessRequest]] = {state: [] for state in State}
    for one in open_:
        by_clock[one.state_at(now)].append(one)
    over = [one for one in open_ if one.state_at(now) in ENDED]
    recent = over + list(requests.filter(state__in=ENDED).newest_of(request.user, MOST_RECENT))
    still = live_sessions.may_work_until([one for one in recent if not one.is_open], now)
    going_on = [one for one in open_ if one not in over]
    active = sorted(by_clock[State.ACTIVE], key=lambda one: one.expires_at or now)
    longer = more([one for one in active if one.terms.may_be_extended], now)
    frozen = frozen_by([one.role for one in going_on])
    pending = dossiers(by_clock[State.PENDING], now, history=False, frozen=frozen)
    return render(
        request,
        "home.html",
        {
            "freezes": each_once(frozen.values()),
            "active": [(one, longer.get(one.pk)) for one in active],
            "ready": [(one, begins(one, now)) for one in by_clock[State.APPROVED]],
            "to_accept": [dossier.access_request for dossier in pending if _is_asked(request, dossier)],
            "waiting": [
                (dossier, _remind_at(dossier.access_request) <= now)
                for dossier in pending
                if not _is_asked(request, dossier)
            ],
            "left_out": left_out(recent),
            "recent": [(one, still.get(one.pk)) for one in recent],
        },
    )


def _is_asked(request: PersonRequest, dossier: Dossier) -> bool:
    """Whether somebody asked for this person, who has not said yet that they want it."""
    one = dossier.access_request
    return one.waits_for_acceptance and one.beneficiary_id == request.user.pk


def _remind_at(access_request: AccessRequest) -> datetime:
    return (access_request.reminded_at or access_request.asked_at) + REMIND_EVERY
