from datetime import datetime, timedelta
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from requests_app.delivery.web.access import PersonRequest, signed_in
from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.dossiers import dossiers, sign_ins_of
from requests_app.delivery.web.passes import More, begins, more, until
from requests_app.delivery.web.timeline import MOST_EVENTS, moments
from requests_app.delivery.web.visibility import find_request, only_asked
from requests_app.domain import facts, outliving, policy, reading, workflow
from requests_app.domain.models import AccessRequest, DenyPolicy, Extension, User
from requests_app.domain.prepared import Question
from requests_app.domain.terms import CONSOLE
from requests_app.domain.transitions import OPEN, RevocationState, State
from requests_app.domain.workflow import live_sessions
from requests_app.domain.workflow.asking import REMIND_EVERY

MOST_SESSIONS = 50
NOTHING_TO_DECIDE = policy.Verdict(False, "decision.not_pending")
# Why somebody who is asked cannot decide: these are worth a sentence where the buttons would be.
_WORTH_SAYING = ("edit.own", "decision.needed_later", "decision.same_hand")
_DENIED_BEFORE = Question(
    "access_request.denied_before",
    "SELECT p.denied_before, p.held_until FROM requests_app_denypolicy p WHERE p.role_id = %(role)s::bigint",
)


@require_safe
@signed_in
def access_request(request: PersonRequest, code: str) -> HttpResponse:
    """Everything about one request, and what the viewer may do about it now."""
    now = now_of(request)
    access_request = find_request(request, code)
    state = access_request.state_at(now)
    asked_only = only_asked(request.user, access_request)
    longer = more([access_request], now).get(access_request.pk) if state == State.ACTIVE else None
    dossier, *more_dossiers = dossiers([access_request, *_asked_now(longer, access_request)], now, history=False)
    as_recorded = state == access_request.state and access_request.is_open
    in_the_way = (
        "" if access_request.is_of_use or not as_recorded else workflow.why_unusable(access_request, request.user)
    )
    still_until = (
        None if access_request.is_open else live_sessions.may_work_until([access_request], now).get(access_request.pk)
    )
    return render(
        request,
        "access_request.html",
        {
            "access_request": access_request,
            "state_now": state,
            "terms": access_request.terms,
            "open_now": state in OPEN,
            "ended_early": state in (State.REVOKED, State.RETURNED) and access_request.activated_at is not None,
            "waits_for_acceptance": state == State.PENDING and access_request.waits_for_acceptance,
            "dossier": dossier,
            "freeze": dossier.frozen if state == access_request.state else None,
            "more": longer,
            "more_dossier": more_dossiers[0] if more_dossiers else None,
            "more_until": until(longer.pending) if longer and longer.pending else None,
            "moments": moments(access_request, asked_by=request.user if asked_only else None),
            "asked_only": asked_only,
            "sessions": reading.sessions_of(access_request, MOST_SESSIONS),
            "most_sessions": MOST_SESSIONS,
            "most_moments": MOST_EVENTS,
            "still_until": still_until,
            **_at_aws(access_request, still_until),
            "held": _held(access_request, now) if state == State.ACTIVE else None,
            "lifted": lifted(access_request),
            "may": _acts(access_request, state, request.user, longer, now, of_use=not in_the_way),
            "in_the_way": in_the_way,
            "begins": None if in_the_way else begins(access_request, now),
            "waits_for_start": state == State.APPROVED and not access_request.scheduled_at and not in_the_way,
            "remind_at": (access_request.reminded_at or access_request.asked_at) + REMIND_EVERY,
        },
    )


def lifted(access_request: AccessRequest) -> list[str]:
    """What this pass may do whose results outlive it, in words."""
    return outliving.sentences(access_request.terms, access_request.role.arn)


def _acts(
    access_request: AccessRequest, state: State, viewer: User, longer: More | None, now: datetime, *, of_use: bool
) -> dict[str, Any]:
    """Which buttons to show. Only to show: each verb asks again."""
    mine = viewer.pk == access_request.beneficiary_id
    asking_side = viewer.pk in access_request.asking_side
    about = access_request if state == State.PENDING else longer.pending if longer else None
    deciding = workflow.may_approve(about, viewer) if about else NOTHING_TO_DECIDE
    accept = mine and state == State.PENDING and access_request.waits_for_acceptance
    acts = {
        "approve": bool(deciding),
        # Whoever must leave the approval to somebody else may still end it.
        "deny": bool(deciding) or deciding.rule in ("decision.needed_later", "decision.same_hand", "decision.no_use"),
        "use": of_use and mine and state == State.ACTIVE,
        "console": of_use and mine and state == State.ACTIVE and bool(facts.may_use(access_request, CONSOLE)),
        "give_back": mine and state == State.ACTIVE,
        "extend": of_use and mine and longer is not None and longer.possible and _may_extend(access_request, viewer),
        "accept": accept,
        "start": of_use
        and mine
        and state == State.APPROVED
        and bool(policy.may_start(facts.of(access_request), access_request.terms, now=now)),
        "withdraw": asking_side and not accept and state in (State.PENDING, State.APPROVED),
        "withdraw_more": mine and longer is not None and longer.pending is not None,
        "remind": asking_side and state == State.PENDING and not access_request.waits_for_acceptance,
        "revoke": state in (State.APPROVED, State.ACTIVE) and workflow.may_revoke(access_request, viewer),
        "ask_again": asking_side and state not in OPEN,
    }
    not_decide = deciding.message if deciding.rule in _WORTH_SAYING else ""
    not_accept = workflow.why_not_accept([access_request], viewer)[access_request.pk] if accept else None
    return {**acts, "anything": any(acts.values()), "not_decide": not_decide, "not_accept": not_accept}


def _may_extend(access_request: AccessRequest, viewer: User) -> bool:
    shortest = timedelta(seconds=policy.SHORTEST_SECONDS)
    return bool(workflow.may_extend(access_request, viewer, shortest))


def _asked_now(longer: More | None, access_request: AccessRequest) -> list[Extension]:
    """More time that is asked for and not decided yet."""
    if longer is None or longer.pending is None:
        return []
    longer.pending.access_request = access_request  # as it was read already
    return [longer.pending]


def _at_aws(access_request: AccessRequest, still_until: datetime | None) -> dict[str, object]:
    """What AWS has of an early end; `revoking` while that is still on its way."""
    revocation = getattr(access_request, "revocation", None)
    if revocation is None:
        return {"still_tone": "amber" if still_until else "grey"}
    deny_policy = DenyPolicy.objects.filter(role=access_request.role_id).first()
    left_out = deny_policy.left_out if deny_policy else []
    sign_ins = sign_ins_of([access_request])
    on_its_way = (
        revocation.state in (RevocationState.WANTED, RevocationState.WRITTEN) and access_request.code not in left_out
    )
    refusal = {}
    if deny_policy and access_request.code in sign_ins.unknown and revocation.state != RevocationState.WANTED:
        refusal = {
            "code": deny_policy.sign_in_code,
            "message": deny_policy.sign_in_message,
            "advice": deny_policy.sign_in_advice,
        }
    elif deny_policy and access_request.code not in left_out:
        refusal = _what_aws_says(deny_policy, revocation.state)
    over = revocation.state == RevocationState.OVER
    is_shown = revocation.state == RevocationState.PROVED
    may_go_on = bool(still_until or sign_ins.unknown or sign_ins.asked)
    return {
        "still_tone": "amber" if may_go_on and not is_shown else "grey",
        "revoking": on_its_way,
        "deny_policy": deny_policy,
        "changed_outside_at": deny_policy.changed_outside_at if deny_policy and not over else None,
        "left_out": left_out,
        "sign_ins": sign_ins,
        "said": refusal,
    }


def _what_aws_says(policy: DenyPolicy, state: str) -> dict[str, str]:
    """AWS's own words where it does not take the order, or was not seen to obey it, and what Daypass does about it."""
    if state == RevocationState.WANTED:
        return {"code": policy.aws_code, "message": policy.aws_message, "advice": policy.advice}
    if state in (RevocationState.WRITTEN, RevocationState.UNPROVABLE):
        advice = "This was said to Daypass, which tried whether AWS refuses yet. It tries again by itself."
        return {"code": policy.probe_code, "message": policy.probe_message, "advice": advice}
    return {}


def _held(access_request: AccessRequest, now: datetime) -> dict[str, object] | None:
    """Where AWS refuses this pass's own sessions for want of room: before when, and from when on it gives new ones."""
    denied_before, held_until = _DENIED_BEFORE.first(role=access_request.role_id) or (None, None)
    if held_until is None:
        return None
    waits = held_until > now
    older = access_request.issued_sessions.filter(discarded=False, issued_at__lt=held_until, sts_expires_at__gt=now)
    if not waits and not older.exists():
        return None
    return {"denied_before": denied_before, "held_until": held_until, "waits": waits}
