"""Sessions whose key the database does not hold: the cookie is a random secret, the row is found by its SHA-256.

So a backup, or whoever may only read, opens nothing. Everywhere but in the cookie `session_key` is the row's, which
tells nothing: allauth's list of where somebody is signed in has it, and logs may.
"""

import base64
import secrets
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Self, cast

from allauth.mfa.totp.internal.auth import SECRET_SESSION_KEY
from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.middleware import SessionMiddleware as DjangoMiddleware
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from requests_app.domain import seeds

# As many characters as Django's table and allauth's have room for: 240 bits.
KEY_LENGTH = 40
_SECRET_BYTES = 32
_BEGUN_AT = "begun_at"


class SessionStore(DatabaseStore):
    """Found by `session_key`, the row's. With `of_cookie` by what a browser sent, and then it has its `secret`."""

    secret: str | None = None

    @classmethod
    def of_cookie(cls, secret: str | None) -> Self:
        """The session that this cookie opens; a new one where it opens none."""
        store = cls(_key_of(secret) if secret else None)
        store.secret = secret
        return store

    def begin(self) -> None:
        """Whoever is in it signed in now: from now on it lasts `SESSION_COOKIE_AGE`, however often it is used."""
        self[_BEGUN_AT] = timezone.now().isoformat()

    def stay(self) -> None:
        """It was used: it ends so much later as it may be left alone. One statement, and none of what it carries."""
        self.model.objects.filter(session_key=self.session_key).update(expire_date=self.get_expiry_date())

    def get_expiry_date(self, **kwargs: Any) -> datetime:
        """When it ends if it is not used again; never after its end for good."""
        left_alone = timezone.now() + timedelta(seconds=settings.SESSION_IDLE_SECONDS)
        begun_at = self.get(_BEGUN_AT)
        if begun_at is None:
            return left_alone
        return min(left_alone, datetime.fromisoformat(begun_at) + timedelta(seconds=settings.SESSION_COOKIE_AGE))

    def encode(self, session_dict: dict[str, Any]) -> str:
        """Nor does the row hold the seed of an authenticator app that is being set up."""
        if seed := session_dict.get(SECRET_SESSION_KEY):
            session_dict = session_dict | {SECRET_SESSION_KEY: seeds.seal(seed)}
        return super().encode(session_dict)

    def decode(self, session_data: str | bytes) -> dict[str, Any]:
        found: dict[str, Any] = super().decode(session_data)
        if sealed := found.get(SECRET_SESSION_KEY):
            try:
                found[SECRET_SESSION_KEY] = seeds.open_sealed(sealed)
            except ValueError:
                del found[SECRET_SESSION_KEY]
        return found

    def _get_new_session_key(self) -> str:
        self.secret = secrets.token_urlsafe(_SECRET_BYTES)
        return _key_of(self.secret)


class SessionMiddleware(DjangoMiddleware):
    """Django's, but that the browser gets the secret."""

    def process_request(self, request: HttpRequest) -> None:
        request.session = SessionStore.of_cookie(request.COOKIES.get(settings.SESSION_COOKIE_NAME))

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response = super().process_response(request, response)
        cookie = response.cookies.get(settings.SESSION_COOKIE_NAME)
        if cookie is not None and cookie.value:
            # What it says besides (how long, for whom) stays.
            response.cookies[settings.SESSION_COOKIE_NAME] = of(request).secret or ""
        return response


@receiver(user_logged_in)
def _begin(request: HttpRequest, **_: object) -> None:
    """By whichever door somebody came in."""
    of(request).begin()


def of(request: HttpRequest) -> SessionStore:
    return cast(SessionStore, request.session)


def _key_of(secret: str) -> str:
    return base64.urlsafe_b64encode(sha256(secret.encode()).digest()).decode()[:KEY_LENGTH]
