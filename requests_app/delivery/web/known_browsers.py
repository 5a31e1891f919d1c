"""A browser in which somebody has signed in before counts its failed attempts apart from everybody else's.

Or any stranger could keep anyone out, by typing wrong passwords for them. It signs nobody in.
"""

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponseBase

from requests_app.domain import normal_form
from requests_app.domain.models import User
from requests_app.domain.models.people import LONGEST_TYPED

COOKIE = "__Host-known-browser" if settings.SESSION_COOKIE_SECURE else "known-browser"
AS_LONG_AS_SECONDS = 180 * 24 * 60 * 60
_SALT = "daypass.known-browser"


def remember(response: HttpResponseBase, person: User) -> None:
    value = signing.dumps(person.public_id.hex, salt=_SALT)
    response.set_cookie(
        COOKIE, value, max_age=AS_LONG_AS_SECONDS, httponly=True, secure=settings.SESSION_COOKIE_SECURE, samesite="Lax"
    )


def budget(request: HttpRequest, login: str) -> str:
    """Under which name failed attempts to sign in as `login` are counted: one for all strangers together, however they
    spell who is meant, wherever they come from and whatever host they name, and one for each browser that this person
    is known to use."""
    person = User.objects.meant(login)
    if person is None:
        return normal_form.address(login[:LONGEST_TYPED])
    value = request.COOKIES.get(COOKIE, "")
    return f"{person.public_id.hex} {value}" if _is_of(value, person) else person.public_id.hex


def _is_of(value: str, person: User) -> bool:
    try:
        return bool(signing.loads(value, salt=_SALT, max_age=AS_LONG_AS_SECONDS) == person.public_id.hex)
    except signing.BadSignature:
        return False
