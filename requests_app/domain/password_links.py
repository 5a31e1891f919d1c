"""Links with which somebody chooses a password, and so signs in: made where the mail is sent, and kept nowhere.

Whoever reads the database, a backup, Redis or the logs finds out that somebody was sent one, and not the link.
"""

from datetime import datetime, timedelta
from uuid import UUID

from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.utils.http import base36_to_int

from requests_app.domain import clock
from requests_app.domain.models import Notice, User

Kind = Notice.Kind
# For how long a link works, by the kind of mail that brings it.
LASTS = {Kind.NEW_PASSWORD: timedelta(days=1), Kind.INVITED: timedelta(days=7)}


def make(person: User, kind: Notice.Kind) -> str:
    """The key in a link to choose a password: works once, for as long as `LASTS` says, until they sign in, get another
    password or another address, or are deactivated."""
    return f"{person.public_id.hex}-{_TOKENS[kind].make_token(person)}"


def person_of(key: str) -> User | None:
    """Whom a key that still works is for."""
    public_id, _, token = key.partition("-")
    try:
        person = User.objects.filter(public_id=UUID(public_id), deactivated_at=None).first()
    except ValueError:  # a link from before there were these, or none at all
        return None
    return person if person is not None and works(person, token) else None


def works(person: User, token: str) -> bool:
    return any(tokens.check_token(person, token) for tokens in _TOKENS.values())


class _Tokens(PasswordResetTokenGenerator):
    """Django's, by the database's clock, and for as long as this kind of link works."""

    def __init__(self, kind: Notice.Kind) -> None:
        super().__init__()
        self.key_salt = f"daypass.password-link.{kind}"
        self._lasts = LASTS[kind]

    def check_token(self, user: User | None, token: str | None) -> bool:
        if user is None or not token or not super().check_token(user, token):
            return False
        made = base36_to_int(token.partition("-")[0])
        return self._num_seconds(self._now()) - made <= self._lasts.total_seconds()

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        # What ends every sign-in of theirs ends these too.
        return f"{super()._make_hash_value(user, timestamp)}{user.get_session_auth_hash()}"

    def _now(self) -> datetime:
        return clock.now().replace(tzinfo=None)


_TOKENS = {kind: _Tokens(kind) for kind in LASTS}
