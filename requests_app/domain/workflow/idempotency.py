"""Pressed twice, done once: what was asked with a one-time value comes to the same when it is asked again.

A verb asks `result_of` first in its transaction, before it looks at any rule or limit, and calls `keep` in the same
transaction with what it made. So a refused attempt uses nothing up.
"""

import json
import re
import secrets
from datetime import timedelta
from hashlib import sha256

from requests_app.domain import clock
from requests_app.domain.errors import Conflict
from requests_app.domain.models import IdempotencyKey, User
from requests_app.domain.prepared import Question

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
    _LOCK.all(key=_lock_of(by, key))
    # After the lock, so that it sees what it waited for.
    earlier = _FIND.first(person=by.pk, key=key)
    if earlier is None:
        return None
    digest, result = earlier
    if digest != _digest(contents):
        raise OtherContents(result)
    return str(result)


def keep(key: str, *, by: User, contents: Contents, result: str) -> None:
    """What the caller made just now, in its transaction."""
    if key:
        _KEEP.run(person=by.pk, key=key, digest=_digest(contents), result=result, shift=clock.shift())


def forget_old(limit: int = BATCH) -> int:
    """Delete those that no open form can have any more; returns how many."""
    old = IdempotencyKey.objects.filter(made_at__lt=clock.now() - KEPT).order_by("made_at")
    return IdempotencyKey.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:limit])).delete()[0]


_LOCK = Question("idempotency.lock", "SELECT pg_advisory_xact_lock(%(key)s::bigint)::text")
_FIND = Question(
    "idempotency.find",
    """
SELECT k.digest, k.result FROM requests_app_idempotencykey k
WHERE k.person_id = %(person)s::bigint AND k.key = %(key)s::text
""",
)
_KEEP = Question(
    "idempotency.keep",
    """
INSERT INTO requests_app_idempotencykey (person_id, key, digest, result, made_at)
VALUES (%(person)s::bigint, %(key)s::text, %(digest)s::text, %(result)s::text,
        clock_timestamp() + %(shift)s::interval)
""",
)


def _digest(contents: Contents) -> str:
    return sha256(json.dumps(contents).encode()).hexdigest()


def _lock_of(by: User, key: str) -> int:
    """Two keys with one lock would only wait for each other."""
    return int.from_bytes(sha256(f"{by.pk} {key}".encode()).digest()[:8], signed=True)
