"""A press that does not count: the sign-in ended meanwhile, or the page is from before another one.

It is said, nothing is done, and the person comes back to the page on which they pressed. What they had typed is kept
by their browser (`static/daypass/typed.js`); it is in no address, and on no server.
"""

from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render, resolve_url
from django.urls import ResolverMatch, resolve, reverse
from django.utils.crypto import salted_hmac
from django.utils.http import url_has_allowed_host_and_scheme

from requests_app.domain.models import User

SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
SIGNED_OUT = "You were signed out. Nothing was done."
OUTDATED = "Nothing was done: this page is from before you signed in anew."
# By this the browser's script knows that what was typed is still to be sent.
NOTHING_DONE = "nothing-done"
_LONGEST = 4000
# These addresses only take a press: the pages on which it is made.
_PRESSED_ON = {
    **dict.fromkeys(("accept", "withdraw", "start", "remind", "withdraw_more"), "access_request"),
    **dict.fromkeys(("deliveries", "envelope"), "home"),
    "lift": "stop",
    "look_again_at_role": "admin:requests_app_role_change",
}


def signed_out(request: HttpRequest) -> HttpResponse:
    """To the sign-in, and from there to the page on which the person was; what a page asks by itself is told so."""
    if by_itself(request):
        return JsonResponse({"message": SIGNED_OUT, "rule": "sign_in.needed"}, status=401)
    if request.method in SAFE:
        return redirect_to_login(request.get_full_path())
    messages.warning(request, SIGNED_OUT, extra_tags=NOTHING_DONE)
    return redirect_to_login(page_of(request))


def outdated(request: HttpRequest, reason: str = "") -> HttpResponse:
    """What Django answers where the token of a form is not the sign-in's (CSRF_FAILURE_VIEW)."""
    if not request.user.is_authenticated and not _is_for_strangers(request.resolver_match):
        return signed_out(request)
    if by_itself(request):
        advice = "Load the page again, then try again."
        return JsonResponse({"message": OUTDATED, "advice": advice, "rule": "page.outdated"}, status=403)
    return render(request, "403_csrf.html", {"back": page_of(request)}, status=403)


def page_of(request: HttpRequest) -> str:
    """The page on which this press was made, which is one of ours.

    Forms that know it say so in `page`; else the browser does in `Referer`; else it is the form's own address.
    """
    referer, ours = request.headers.get("Referer", ""), {request.get_host()}
    if not url_has_allowed_host_and_scheme(referer, allowed_hosts=ours, require_https=request.is_secure()):
        referer = ""
    stranger = _is_for_strangers(request.resolver_match)
    for at in (request.POST.get("page", ""), _path(referer), request.get_full_path()):
        match = _match(at)
        if match and match.url_name in _PRESSED_ON:
            whose = [value for name, value in match.kwargs.items() if name in ("code", "object_id")]
            return reverse(_PRESSED_ON[match.url_name], args=whose)
        if match and stranger == _is_for_strangers(match) and match.url_name != "account_logout":
            return at
    return resolve_url(settings.LOGIN_REDIRECT_URL)


def by_itself(request: HttpRequest) -> bool:
    """Whether a script of a page asks, which would put a whole page into the middle of its own."""
    asks = request.headers
    return (
        asks.get("HX-Request") == "true"
        or asks.get("Accept") == "application/json"
        or asks.get("X-Requested-With") == "XMLHttpRequest"
    )


def reader_key(person: User) -> str:
    """Names a person to their own browser, and tells nothing about them."""
    return salted_hmac("daypass.reader", str(person.public_id)).hexdigest()[:32]


def _path(address: str) -> str:
    parts = urlsplit(address)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _match(at: str) -> ResolverMatch | None:
    if not at.startswith("/") or len(at) > _LONGEST or not at.isprintable():
        return None
    if not url_has_allowed_host_and_scheme(at, allowed_hosts=None):
        return None
    try:
        return resolve(urlsplit(at).path)
    except Http404:
        return None


def _is_for_strangers(match: ResolverMatch | None) -> bool:
    return match is not None and not getattr(match.func, "login_required", True)
