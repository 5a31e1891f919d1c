"""What a link in a mail opens: choosing a password. Opening it changes nothing, so a scanner of mail uses none up.

The key travels on in a cookie and not in the session: that is a row, and the key stands in no row.
"""

from allauth.account.forms import ResetPasswordKeyForm
from allauth.decorators import rate_limit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_safe

from requests_app.delivery.web import known_browsers
from requests_app.delivery.web.accounts import LinkForm
from requests_app.domain import password_links, workflow
from requests_app.domain.errors import Conflict
from requests_app.domain.models import User

COOKIE = "__Secure-password-link" if settings.SESSION_COOKIE_SECURE else "password-link"
AS_LONG_AS_SECONDS = 60 * 60


@login_not_required
@require_safe
@never_cache
def open_link(request: HttpRequest, key: str) -> HttpResponse:
    """To the page without the key in its address, which history and proxies keep."""
    if password_links.person_of(key) is None:
        return _of_no_use(request)
    response = redirect("choose_password")
    response.set_cookie(
        COOKIE, key, max_age=AS_LONG_AS_SECONDS, path=reverse("choose_password"), httponly=True,
        secure=settings.SESSION_COOKIE_SECURE, samesite="Lax",
    )  # fmt: skip
    return response


@login_not_required
@rate_limit(action="reset_password_from_key")
@sensitive_post_parameters("password1", "password2")
@never_cache
def choose_password(request: HttpRequest) -> HttpResponse:
    key = request.COOKIES.get(COOKIE, "")
    person = password_links.person_of(key)
    if person is None:
        return _of_no_use(request)
    form = ResetPasswordKeyForm(request.POST or None, user=person)
    if request.method == "POST" and form.is_valid():
        try:
            person = workflow.accounts.use_link(key, form.cleaned_data["password1"])
        except Conflict:
            return _of_no_use(request)
        return _to_sign_in(request, person)
    return render(request, "account/choose_password.html", {"form": form, "person": person})


def _to_sign_in(request: HttpRequest, person: User) -> HttpResponse:
    logout(request)  # somebody else, perhaps, who is signed in here
    messages.success(request, f"Your password is set. Sign in with it, {person.get_short_name()}.")
    response = redirect("account_login")
    response.delete_cookie(COOKIE, path=reverse("choose_password"))
    known_browsers.remember(response, person)
    return response


def _of_no_use(request: HttpRequest) -> HttpResponse:
    return render(request, "account/old_link.html", {"form": LinkForm()})
