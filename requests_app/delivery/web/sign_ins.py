"""What a sign-in carries from its first step to its last, and the one that outlives a change of its second factor.

That all others end is PostgreSQL's (`User.sign_in_epoch`, and the triggers that count it).
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from allauth.account.internal.stagekit import clear_login
from allauth.core.exceptions import ReauthenticationRequired
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, URLResolver
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from requests_app.delivery.web import factors
from requests_app.domain import audit, workflow
from requests_app.domain.models import User

View = Callable[..., HttpResponse]
_BEGUN_WITH = "sign_in_begun_with"
# Where factors are changed, or codes seen that are as good as one.
_OF_FACTORS = (
    *("mfa_activate_totp", "mfa_deactivate_totp", "mfa_add_webauthn", "mfa_edit_webauthn", "mfa_remove_webauthn"),
    *("mfa_generate_recovery_codes", "mfa_view_recovery_codes", "mfa_download_recovery_codes"),
)
_CHANGED = "Your account changed while you signed in. Sign in again."


def begin(request: HttpRequest, user: User) -> None:
    """Remember as whom, and with which password and factors, the first step was taken."""
    request.session[_BEGUN_WITH] = user.get_session_auth_hash()


def is_still_valid(request: HttpRequest, user: User) -> bool:
    """Whether all steps were taken as the same person with the same password and factors.

    A code may be typed minutes after the password. What changes after this question is the session's own to notice: it
    carries what `user` was when asked.
    """
    begun_with = request.session.pop(_BEGUN_WITH, "")
    return user.is_active and constant_time_compare(str(begun_with), user.get_session_auth_hash())


def start_over(request: HttpRequest) -> HttpResponse:
    clear_login(request)
    messages.error(request, _CHANGED)
    return redirect("account_login")


def hold(request: HttpRequest, user: User) -> User | None:
    """The person as they are now, and this sign-in, both locked for the caller's transaction; None where it has ended.

    What is done to all sign-ins of somebody, but this one, asks this first: or one that had ended would come back.
    """
    now = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    key = request.session.session_key
    there = Session.objects.select_for_update().filter(session_key=key, expire_date__gt=timezone.now())
    is_alive = bool(key) and now.is_active and now.get_session_auth_hash() == user.get_session_auth_hash()
    return now if is_alive and list(there.values_list("pk")) else None


def keep(request: HttpRequest, user: User) -> None:
    """Let this sign-in outlive what was just changed in the same transaction, which began with `hold`."""
    user.refresh_from_db(fields=["password", "email", "sign_in_epoch"])
    update_session_auth_hash(request, user)
    # The list of sign-ins has it under its new key, and the browser goes on being known.
    UserSession.objects.create_from_request(request)
    request.known_browser_of = user  # type: ignore[attr-defined]


def end(sign_in: UserSession) -> None:
    """End one of somebody's own sign-ins, from another."""
    with transaction.atomic():
        sign_in.end()
        audit.record(audit.Action.SIGNED_OUT, by=sign_in.user, subject=sign_in.user.username, elsewhere=str(sign_in.ip))


def keeping_this_one(patterns: Iterable[URLPattern | URLResolver]) -> list[URLPattern | URLResolver]:
    """The same addresses; where one of them changes a factor, it asks for one that the person has first, is recorded
    and told, and ends every sign-in but the one that did it."""
    return [
        URLResolver(one.pattern, keeping_this_one(one.url_patterns), one.default_kwargs, one.app_name, one.namespace)
        if isinstance(one, URLResolver)
        else URLPattern(one.pattern, _keeping_this_one(one.callback, one.name), one.default_args, one.name)
        for one in patterns
    ]


def _keeping_this_one(view: View, name: str | None) -> View:
    is_of_factors = name in _OF_FACTORS

    @wraps(view)
    def run(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not isinstance(user := request.user, User):
            return view(request, *args, **kwargs)
        if is_of_factors and not factors.is_confirmed(request, user):
            if factors.ways_to_confirm(user):
                raise ReauthenticationRequired  # which allauth answers with a page that asks, and comes back here
            return render(request, "mfa/nothing_to_confirm.html", status=403)
        if request.method != "POST":
            return view(request, *args, **kwargs)
        with transaction.atomic():
            # Held to the end, so that what `keep` finds is what was done here, and not another's doing.
            now = hold(request, user)
            if now is None:
                return redirect("account_login")  # it ended this very moment
            before = workflow.factors.of(now)
            response = view(request, *args, **kwargs)
            # A page that confirms may go on with one of these, which has then said so itself.
            if is_of_factors and (workflow.factors.of(now) != before):
                factors.note_changed(request, now, workflow.factors.changed(now, before))
            now.refresh_from_db(fields=["sign_in_epoch"])
            if now.sign_in_epoch != user.sign_in_epoch:
                keep(request, user)
        return response

    return run
