"""Django's test client takes the key of a session's row for its cookie; with ours the cookie is another secret."""

from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.http import HttpRequest
from django.test.client import ClientMixin

from requests_app.delivery.web.sessions import SessionStore


def use_secrets() -> None:
    """From now on, in this process: `client.session` is what its cookie opens, and `force_login` gives it that."""
    ClientMixin.session = property(_session)  # type: ignore[assignment]
    ClientMixin._login = _login  # type: ignore[attr-defined]


def _session(self: Any) -> SessionStore:
    if cookie := self.cookies.get(settings.SESSION_COOKIE_NAME):
        return SessionStore.of_cookie(cookie.value)
    session = SessionStore()
    session.save()
    self.cookies[settings.SESSION_COOKIE_NAME] = session.secret
    return session


def _login(self: Any, user: Any, backend: str | None = None) -> None:
    request = HttpRequest()
    has_one = settings.SESSION_COOKIE_NAME in self.cookies
    request.session = _session(self) if has_one else SessionStore()
    login(request, user, backend)
    request.session.save()
    self.cookies[settings.SESSION_COOKIE_NAME] = request.session.secret
