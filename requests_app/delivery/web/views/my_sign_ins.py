from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from requests_app.delivery.web import sign_ins
from requests_app.delivery.web.access import PersonRequest, signed_in
from requests_app.delivery.web.context import now_of
from requests_app.domain import workflow

# Nobody looks through more; "everywhere else" ends those beyond too.
MOST_SHOWN = 50


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def my_sign_ins(request: PersonRequest) -> HttpResponse:
    """Where somebody is signed in, and ending one of these, all others or all."""
    if request.method != "POST":
        shown = list(_going_on(request).order_by("-last_seen_at", "-pk")[: MOST_SHOWN + 1])
        here = request.session.session_key
        context = {
            "now": now_of(request),
            "sign_ins": [(found, found.session_key == here) for found in shown[:MOST_SHOWN]],
            "more": len(shown) > MOST_SHOWN,
        }
        return render(request, "usersessions/usersession_list.html", context)
    if key := request.POST.get("one", ""):
        return _end_one(request, key)
    if request.POST.get("act") == "others":
        return _end_others(request)
    workflow.people.end_sign_ins(request.user, by=request.user)
    logout(request)
    return redirect("account_login")


def _end_others(request: PersonRequest) -> HttpResponse:
    with transaction.atomic():
        now = sign_ins.hold(request, request.user)
        if now is None:
            return redirect("account_login")  # it ended this very moment
        workflow.people.end_other_sign_ins(now)
        sign_ins.keep(request, request.user)
    messages.info(request, "You are signed out everywhere else.")
    return redirect("usersessions_list")


def _going_on(request: PersonRequest) -> QuerySet[UserSession]:
    alive = Session.objects.filter(session_key=OuterRef("session_key"), expire_date__gt=now_of(request))
    theirs: QuerySet[UserSession] = UserSession.objects.filter(Exists(alive), user=request.user)
    return theirs


def _end_one(request: PersonRequest, key: str) -> HttpResponse:
    found = _going_on(request).filter(pk=key).first() if key.isascii() and key.isdigit() and len(key) < 19 else None
    if found is None:
        messages.info(request, "That sign-in had already ended.")
        return redirect("usersessions_list")
    if found.session_key == request.session.session_key:
        return redirect("account_logout")
    sign_ins.end(found)
    messages.info(request, "That sign-in has ended.")
    return redirect("usersessions_list")
