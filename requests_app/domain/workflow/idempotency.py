"""Pressed twice, done once: what was asked with a one-time value comes to the same when it is asked again.

A verb asks `result_of` first in its transaction, before it looks at any rule or limit, and calls `keep` in the same
transaction with what it made. So a refused attempt uses nothing up.
"""

import json
import re
import secrets
from datetime import timedelta
from hashlib import sha256

from django.db import connection

from requests_app.domain import clock
from requests_app.domain.errors import Conflict
from requests_app.domain.models import IdempotencyKey, User

# Longer than any form stays open that somebody still presses in.
KEPT = timedelta(days=7)
BATCH = 1000
KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")

# Texts, numbers and nothing: what can be written in one way only.
Contents = tuple[str | int | None, ...]


class OtherContents(Conflict):
    """The same value came with something else before, which made `result`."""

    def __init__(self, result: str) -> None:
        super().__init__(
            f"You already sent this form, with other contents; that made {result}. Nothing was sent now.",
            rule="idempotency.other_contents",
        )
        self.result = result


def new_key() -> str:
    return secrets.token_urlsafe(18)


def result_of(key: str, *, by: User, contents: Contents) -> str | None:
    """What the same came to before; None where it was not asked yet, or without a key.

    Waits, until the caller's transaction ends, for whoever asks with this key at the same moment.
    Raises OtherContents where it came with other ones.
    """
    if not key:
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_lock_of(by, key)])
    earlier = _find(key, by)
    if earlier is None:
        return None
    if earlier.digest != _digest(contents):
        raise OtherContents(earlier.result)
    return earlier.result


def keep(key: str, *, by: User, contents: Contents, result: str) -> None:
    """What the caller made just now, in its transaction."""
    if key:
        IdempotencyKey.objects.create(person=by, key=key, digest=_digest(contents), result=result, made_at=clock.now())


def forget_old(limit: int = BATCH) -> int:
    """Delete those that no open form can have any more; returns how many."""
    old = IdempotencyKey.objects.filter(made_at__lt=clock.now() - KEPT).order_by("made_at")
    return IdempotencyKey.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:limit])).delete()[0]


def _find(key: str, by: User) -> IdempotencyKey | None:
    return IdempotencyKey.objects.filter(person=by, key=key).first()


def _digest(contents: Contents) -> str:
    return sha256(json.dumps(contents).encode()).hexdigest()


def _lock_of(by: User, key: str) -> int:
    """Two keys with one lock would only wait for each other."""
    return int.from_bytes(sha256(f"{by.pk} {key}".encode()).digest()[:8], signed=True)
