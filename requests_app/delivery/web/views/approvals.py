from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from requests_app.delivery.web.access import PersonRequest, signed_in
from requests_app.delivery.web.context import MOST_COUNTED, note_waiting, now_of
from requests_app.delivery.web.dossiers import dossiers
from requests_app.delivery.web.passes import until
from requests_app.delivery.web.views.decide import stage_seen, verb
from requests_app.delivery.web.visibility import Viewer
from requests_app.domain import reading, workflow
from requests_app.domain.codes import CODE
from requests_app.domain.deciders import Matter
from requests_app.domain.errors import DomainError
from requests_app.domain.models import AccessRequest, Extension, Role
from requests_app.domain.transitions import ExtensionState, State

Key = TypeVar("Key")
MOST_SHOWN = 20
MOST_LATELY = 5
MORE_OUTCOMES = {
    ExtensionState.PENDING: "You have decided, or it is for others now.",
    ExtensionState.GRANTED: "No longer waiting: granted.",
    ExtensionState.DENIED: "No longer waiting: denied.",
    ExtensionState.WITHDRAWN: "No longer waiting: taken back.",
    ExtensionState.LAPSED: "No longer waiting: the pass ended first, or the time to decide.",
}
NOTHING_LEFT = "None of what you ticked can be decided together any more. Powerful roles are decided one by one."


@require_safe
@signed_in
def approvals(request: PersonRequest) -> HttpResponse:
    """What waits for me, most urgent first, with what I need to judge; `after` a request, the ones that follow it."""
    now = now_of(request)
    after = _code(request.GET.get("after", ""))
    found = reading.waiting(request.user, now, MOST_SHOWN + 1, after=after)
    if after and not found:
        return redirect("approvals")
    # A running pass does not wait: these stand before everything else.
    found_more = [] if after else reading.more_waiting(request.user, now, MOST_SHOWN + 1)
    if not after:
        _note_waiting(request, found, found_more)
    shown, more = found[:MOST_SHOWN], found_more[:MOST_SHOWN]
    matters: list[Matter] = [*more, *shown]
    judged = dossiers(matters, now, counted=False)
    return render(
        request,
        "approvals/page.html",
        {
            "dossiers": judged[len(more) :],
            "first": judged[0] if judged else None,
            "more": [(dossier, until(extension)) for dossier, extension in zip(judged, more, strict=False)],
            "more_than_shown": len(found_more) > MOST_SHOWN,
            "after": after,
            "last": shown[-1].code if len(found) > MOST_SHOWN else "",
            "lately": reading.decided_lately(request.user, MOST_LATELY),
            "in_bulk": sum(not access_request.role.is_powerful for access_request in shown) > 1,
        },
    )


@require_safe
@signed_in
def updates(request: PersonRequest) -> HttpResponse:
    """What is new, and what became of the rows that are shown and no longer wait. Polled; changes nothing.

    While nothing changes it asks for the keys of what waits, and for nothing else.
    """
    now = now_of(request)
    codes = set(_codes(request.GET.getlist("shown")[: 2 * MOST_SHOWN]))
    ids = set(_public_ids(request.GET.getlist("shown_more")[:MOST_SHOWN]))
    after, last = (_code(request.GET.get(name, "")) for name in ("after", "last"))
    # Rows before and after the part that is shown are not new, they are only elsewhere.
    first = partial(reading.waiting_codes, request.user, now, after=after, last=last)
    waiting = _still(first, partial(reading.waiting_among, request.user, now), codes)
    # The other pages show no extensions, and the first one no more than so many.
    waiting_more: set[UUID] = set()
    if ids or not after:
        first_more = partial(reading.more_waiting_keys, request.user, now)
        waiting_more = _still(first_more, partial(reading.more_waiting_among, request.user, now), ids)
    new = min(len(waiting - codes), MOST_SHOWN + 1)
    if not after and len(ids) < MOST_SHOWN:
        new += min(len(waiting_more - ids), MOST_SHOWN + 1)
    if not after and not last:
        _note_waiting(request, waiting, waiting_more)
    gone = _gone(request, codes - waiting, ids - waiting_more)
    number = f"{new}+" if new > MOST_SHOWN else str(new or "")
    context = {"new": number, "changed": bool(new or any(gone.values())), **gone}
    return render(request, "approvals/updates.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def decide_several(request: PersonRequest) -> HttpResponse:
    """Several at once: GET lists them, POST decides them. Powerful roles are decided one by one."""
    asked = request.POST if request.method == "POST" else request.GET
    approving = asked.get("verdict") != "deny"
    codes = reading.waiting_among(request.user, now_of(request), _codes(asked.getlist("code")[:MOST_SHOWN]))
    ticked = AccessRequest.objects.with_names().filter(code__in=codes).order_by("decide_by", "pk")
    chosen = list(ticked.exclude(role__power=Role.Power.POWERFUL))
    if not chosen:
        messages.warning(request, NOTHING_LEFT)
        return redirect("approvals")
    if request.method == "POST":
        _decide_all(request, chosen, approving=approving)
        return redirect("approvals")
    left_out = [access_request for access_request in ticked if access_request.role.is_powerful]
    context = {"chosen": chosen, "left_out": left_out, "approving": approving, "verb": verb(approving)}
    return render(request, "approvals/several.html", context)


def outcome(access_request: AccessRequest, now: datetime) -> str:
    """In one sentence, why a row no longer waits for the one who sees it."""
    state = access_request.state_at(now)
    if state == State.PENDING:
        return "You have decided, or it is for others now."
    who = f" by {access_request.ended_by}" if access_request.ended_by and state in (State.DENIED, State.REVOKED) else ""
    words = {State.APPROVED: "approved", State.ACTIVE: "approved, and active now"}.get(state, str(state))
    return f"No longer waiting: {words}{who}."


def _still(first: Callable[[int], list[Key]], among: Callable[[set[Key]], set[Key]], shown: set[Key]) -> set[Key]:
    """The keys of these that are shown, and of as many others as anybody counts."""
    most = len(shown) + MOST_SHOWN + 1
    found = set(first(most))
    beyond = shown - found if len(found) == most else set()
    return found | among(beyond) if beyond else found


def _gone(request: PersonRequest, codes: Collection[str], ids: Collection[UUID]) -> dict[str, Any]:
    """What became of the requests and extensions with these keys, as far as their reader may see them."""
    if not codes and not ids:
        return {}
    now, viewer = now_of(request), Viewer(request.user)
    requests = AccessRequest.objects.with_names().filter(code__in=codes) if codes else ()
    extensions = Extension.objects.select_related("access_request__beneficiary", "access_request__role__account")
    more = extensions.filter(public_id__in=ids) if ids else ()
    return {
        "gone": [
            (access_request, outcome(access_request, now))
            for access_request in requests
            if viewer.may_see(access_request)
        ],
        "more_gone": [
            (extension, MORE_OUTCOMES[ExtensionState(extension.state)])
            for extension in more
            if viewer.may_see(extension.access_request)
        ],
    }


def _note_waiting(request: PersonRequest, requests: Collection[Any], extensions: Collection[Any]) -> None:
    """The number beside "Approvals", where what was read tells it."""
    number = len(requests) + len(extensions)
    if number > MOST_COUNTED or max(len(requests), len(extensions)) <= MOST_SHOWN:
        note_waiting(request, number)


def _code(typed: str) -> str:
    """Empty where it is none: that bounds nothing."""
    return typed if CODE.fullmatch(typed) else ""


def _codes(typed: Sequence[str]) -> list[str]:
    return [code for code in typed if CODE.fullmatch(code)]


def _public_ids(typed: Sequence[str]) -> list[UUID]:
    found = []
    for code in typed:
        with suppress(ValueError):
            found.append(UUID(code))
    return found


def _decide_all(request: PersonRequest, chosen: Sequence[AccessRequest], *, approving: bool) -> None:
    done = 0
    for access_request in chosen:
        stage = stage_seen(request, f"stage-{access_request.code}")
        try:
            if approving:
                workflow.approve(access_request, by=request.user, stage=stage, in_bulk=True)
            else:
                workflow.deny(access_request, by=request.user, stage=stage)
            done += 1
        except DomainError as refusal:
            messages.warning(request, f"{access_request.code}: {refusal.message}")
    if done:
        messages.info(request, f"You {'approved' if approving else 'denied'} {done} request{'' if done == 1 else 's'}.")
