"""A browser in which somebody has signed in before counts its failed attempts apart from everybody else's.

Or any stranger could keep anyone out, by typing wrong passwords for them. It signs nobody in. The proof is bound to the
person and ends with their sign-ins.
"""

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponseBase
from django.utils.crypto import constant_time_compare

from requests_app.domain.models import User

COOKIE = "__Host-known-browser" if settings.SESSION_COOKIE_SECURE else "known-browser"
AS_LONG_AS_SECONDS = 180 * 24 * 60 * 60
_SALT = "daypass.known-browser"


def remember(response: HttpResponseBase, person: User) -> None:
    value = signing.dumps([person.public_id.hex, person.get_session_auth_hash()], salt=_SALT)
    response.set_cookie(
        COOKIE, value, max_age=AS_LONG_AS_SECONDS, httponly=True, secure=settings.SESSION_COOKIE_SECURE, samesite="Lax"
    )


def proof_of(request: HttpRequest, person: User) -> str:
    """What shows that this person signed in with this browser before, with the password that they have; else empty."""
    value = request.COOKIES.get(COOKIE, "")
    try:
        signed = signing.loads(value, salt=_SALT, max_age=AS_LONG_AS_SECONDS)
    except signing.BadSignature:
        return ""
    is_pair = isinstance(signed, list) and len(signed) == 2 and all(isinstance(part, str) for part in signed)
    return value if is_pair and _is_of(person, *signed) else ""


def _is_of(person: User, public_id: str, auth_hash: str) -> bool:
    return public_id == person.public_id.hex and constant_time_compare(auth_hash, person.get_session_auth_hash())
