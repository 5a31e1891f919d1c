from datetime import datetime
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.doors import PersonRequest, signed_in
from requests_app.delivery.web.judging import dossiers, work_until
from requests_app.delivery.web.seeing import find_request
from requests_app.delivery.web.timeline import moments
from requests_app.domain import workflow
from requests_app.domain.liftable import Liftable
from requests_app.domain.models import AccessRequest, DenyPolicy, User
from requests_app.domain.transitions import RevocationState, State
from requests_app.domain.workflow.requests import REMIND_EVERY

MOST_SESSIONS = 50


@require_safe
@signed_in
def access_request(request: PersonRequest, code: str) -> HttpResponse:
    """Everything about one request, and what the viewer may do about it now."""
    now = now_of(request)
    one = find_request(request, code)
    state = one.state_at(now)
    (dossier,) = dossiers([one], now)
    return render(
        request,
        "access_request.html",
        {
            "one": one,
            "state_now": state,
            "terms": one.terms,
            "dossier": dossier,
            "moments": moments(one),
            "sessions": one.issued_sessions.select_related("delivery").order_by("-issued_at")[:MOST_SESSIONS],
            "still_until": work_until([one], now).get(one.pk),
            **_at_aws(one),
            "held": _held(one, now) if state == State.ACTIVE else None,
            "lifted": lifted(one),
            "may": _acts(one, state, request.user),
            "remind_at": (one.reminded_at or one.asked_at) + REMIND_EVERY,
        },
    )


def lifted(one: AccessRequest) -> list[str]:
    """What this pass may do whose results outlive it, in words."""
    return [Liftable(name).description for name in one.terms.lifted if name in set(Liftable)]


def _acts(one: AccessRequest, state: State, viewer: User) -> dict[str, Any]:
    """Which buttons to show. Only to show: each verb asks again."""
    mine = viewer.pk == one.beneficiary_id
    asking_side = viewer.pk in one.asking_side
    return {
        "decide": state == State.PENDING and bool(workflow.verdict_on_deciding(one, viewer)),
        "use": mine and state == State.ACTIVE,
        "give_back": mine and state == State.ACTIVE,
        "start": mine and state == State.APPROVED,
        "withdraw": asking_side and state in (State.PENDING, State.APPROVED),
        "remind": asking_side and state == State.PENDING,
        "revoke": state in (State.APPROVED, State.ACTIVE) and workflow.may_revoke(one, viewer),
        "ask_again": mine and state not in (State.PENDING, State.APPROVED, State.ACTIVE),
    }


def _at_aws(one: AccessRequest) -> dict[str, object]:
    """What AWS has of an early end; `revoking` while that is still on its way."""
    revocation = getattr(one, "revocation", None)
    if revocation is None:
        return {}
    deny_policy = DenyPolicy.objects.filter(role=one.role_id).first()
    left_out = deny_policy.left_out if deny_policy else []
    on_its_way = revocation.state in (RevocationState.WANTED, RevocationState.WRITTEN) and one.code not in left_out
    return {"revoking": on_its_way, "deny_policy": deny_policy, "left_out": left_out}


def _held(one: AccessRequest, now: datetime) -> dict[str, object] | None:
    """Where AWS refuses this pass's own sessions for want of room: before when, and from when on it gives new ones."""
    policy = DenyPolicy.objects.filter(role=one.role_id).only("denied_before", "held_until").first()
    if policy is None or policy.held_until is None:
        return None
    waits = policy.held_until > now
    older = one.issued_sessions.filter(discarded=False, issued_at__lt=policy.held_until, sts_expires_at__gt=now)
    if not waits and not older.exists():
        return None
    return {"denied_before": policy.denied_before, "held_until": policy.held_until, "waits": waits}
