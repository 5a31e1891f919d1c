from collections.abc import Callable
from typing import Any

from allauth.usersessions.models import UserSession
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.core.cache import cache
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, QueryDict
from django.utils import timezone
from django_structlog import signals
from django_structlog.middlewares import RequestMiddleware
from structlog.contextvars import bind_contextvars

from requests_app.delivery.web import known_browsers, sessions
from requests_app.delivery.web.origin import client_ip
from requests_app.delivery.web.presses import signed_out
from requests_app.delivery.web.views import health, metrics
from requests_app.domain import audit

GetResponse = Callable[[HttpRequest], HttpResponse]


class ProbesMiddleware:
    """Answers probes and whoever reads metrics before anything looks at their Host: they come by a number."""

    probes = {"/livez": health.livez, "/readyz": health.readyz, "/metrics": metrics.metrics}

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.probes.get(request.path, self.get_response)(request)


class LogMiddleware(RequestMiddleware):
    """Logs the address that the record has, and not whatever header the caller wrote."""

    @classmethod
    def bind_ip(cls, request: HttpRequest) -> None:
        bind_contextvars(ip=client_ip(request))


@receiver([signals.bind_extra_request_finished_metadata, signals.bind_extra_request_failed_metadata])
def _say_what_asked(request: HttpRequest, log_kwargs: dict[str, Any], **_: object) -> None:
    """In the one line that a request has; what django-structlog says at its start is only for debugging."""
    log_kwargs["user_agent"] = request.headers.get("User-Agent")


class NoNulInAdminMiddleware:
    """Refuses a zero byte in the admin's filters, which the stock admin hands on and PostgreSQL does not take."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # What is searched for is looked at by our own code, which finds nothing then.
        filters = (value for name, value in request.GET.items() if name not in ("q", "term"))
        if request.path.startswith("/admin/") and any("\0" in value for value in filters):
            return HttpResponseBadRequest("There is a character in this address that no page takes.\n", "text/plain")
        return self.get_response(request)


class LineBreaksMiddleware:
    """Makes one character of each line break that was typed: browsers send two, and boxes count one.

    Here for every form, the admin's and allauth's too. After the one that checks the CSRF token, which reads the form.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: object) -> None:
        if _has_returns(request.GET):
            request.GET = _with_line_feeds(request.GET)
        if request.method == "POST" and _has_returns(request.POST):
            request.POST = _with_line_feeds(request.POST)


def _has_returns(typed: QueryDict) -> bool:
    return any("\r" in value for _, values in typed.lists() for value in values)


def _with_line_feeds(typed: QueryDict) -> Any:  # what a request takes is a type of its stubs alone
    plain = typed.copy()
    for name, values in typed.lists():
        plain.setlist(name, [value.replace("\r\n", "\n").replace("\r", "\n") for value in values])
    return plain


class SignedInMiddleware(LoginRequiredMiddleware):
    """Every address is for people who are signed in, the admin's and allauth's too, but those marked
    `login_not_required`."""

    def handle_no_permission(  # type: ignore[override]  # a script gets no redirect
        self, request: HttpRequest, view_func: object
    ) -> HttpResponse:
        return signed_out(request)


class AuditContextMiddleware:
    """Whatever is recorded while a page is made says that it came by the web, and from where."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        agent = request.headers.get("User-Agent", "")
        with audit.context(channel="web", ip=client_ip(request), user_agent=agent):
            return self.get_response(request)


class PersonalTimeZoneMiddleware:
    """Times are shown in the zone of whoever reads them."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.user.is_authenticated:
            return self.get_response(request)
        with timezone.override(request.user.zone):
            return self.get_response(request)


class LastSeenMiddleware:
    """Notes when a sign-in was last used, once a minute, so that it ends so long after: allauth's own writes five
    statements at every request, each poll of a delivery included."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        key = request.session.session_key
        # A page that asks every few seconds by itself is not somebody who uses it.
        used = request.user.is_authenticated and request.headers.get("HX-Trigger") not in ASK_BY_THEMSELVES
        if used and key and cache.add(f"last-seen:{key}", True, timeout=60):
            UserSession.objects.create_from_request(request)
            sessions.of(request).stay()
        response = self.get_response(request)
        if person := getattr(request, "known_browser_of", None):
            known_browsers.remember(response, person)
        return response


# The elements of pages that do.
ASK_BY_THEMSELVES = ("updates", "still")


class NoStoreMiddleware:
    """What a signed-in person sees stays in no cache, neither on the way nor in the browser."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.user.is_authenticated:
            response["Cache-Control"] = "no-store"
        return response
