"""A browser in which somebody has signed in before counts its failed attempts apart from everybody else's.

Or any stranger could keep anyone out, by typing wrong passwords for them. It signs nobody in.
"""

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponseBase

from requests_app.domain import normal_form
from requests_app.domain.models import User

COOKIE = "__Host-known-browser" if settings.SESSION_COOKIE_SECURE else "known-browser"
AS_LONG_AS_SECONDS = 180 * 24 * 60 * 60
_SALT = "daypass.known-browser"


def remember(response: HttpResponseBase, person: User) -> None:
    value = signing.dumps(person.public_id.hex, salt=_SALT)
    response.set_cookie(
        COOKIE, value, max_age=AS_LONG_AS_SECONDS, httponly=True, secure=settings.SESSION_COOKIE_SECURE, samesite="Lax"
    )


def budget(request: HttpRequest, login: str) -> str:
    """Under which name failed attempts to sign in as `login` are counted: one for all strangers together, wherever
    they come from and whatever host they name, and one for each browser that this person is known to use."""
    login = normal_form.address(login)  # or each spelling would be another name
    value = request.COOKIES.get(COOKIE, "")
    return f"{login} {value}" if value and _is_of(value, login) else login


def _is_of(value: str, login: str) -> bool:
    try:
        public_id = signing.loads(value, salt=_SALT, max_age=AS_LONG_AS_SECONDS)
    except signing.BadSignature:
        return False
    person = User.objects.filter(public_id=public_id).first()
    return person is not None and login in (person.username, person.email)
