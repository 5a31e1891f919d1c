"""Whether this database is the one it was. If it is an older copy, everything is held until operators have looked.

Daypass remembers outside its database, in Redis, which event was the newest. Redis is not believed: the watermark is
signed, one that is gone says nothing, and an old one of this database is simply true.
"""

import contextlib
from datetime import datetime
from typing import NamedTuple

import redis
import structlog
from django.core import signing
from django.db import ProgrammingError, connection, transaction

from requests_app.domain import database, store
from requests_app.domain.models import Freeze
from requests_app.domain.prepared import Question
from requests_app.domain.workflow import freezes

log = structlog.get_logger(__name__)
SALT = "daypass.watermark"


def look() -> bool:
    """Freeze everything if this database is older than it was, or not where it was. Once for each restoration.

    False if that cannot be told now, because Redis does not answer.
    """
    # Its code is remembered, so that Redis can be asked first and the database once. It is compared each time.
    remembered = _remembered.get()
    watermark, is_known = None, True
    if remembered:
        try:
            watermark = _read(remembered, store.client().get(_key(remembered)))
        except redis.RedisError as error:
            log.warning("watermark.unread", error=type(error).__name__)
            is_known = False
    found = _found(watermark)
    if found is None:
        return True
    if found.code != remembered:
        _remembered.set(found.code)
        return look()
    _compare_home(found)
    if watermark is not None and not found.has_event:
        _tell_of_lost(watermark[1])
    return is_known


def keep_watch() -> None:
    """Look, and then remember the newest event there is, so that a later look knows if it is gone."""
    if connection.in_atomic_block:
        return  # what is newest in here may never be committed
    # In this order: whichever moment another database takes this one's place, its watermark is not overwritten.
    newest = _NEWEST.first()
    if newest is None or not look():
        return
    code, event, recorded_at = newest
    text = signing.dumps({"of": code, "event": event, "at": recorded_at.isoformat()}, salt=SALT)
    try:
        store.client().set(_key(code), text)
    except redis.RedisError as error:
        log.warning("watermark.unwritten", error=type(error).__name__)


def found_at_aws(role_arn: str) -> None:
    """AWS has a deny policy of ours that this database knows nothing of: it was written in a time that was lost."""
    freezes.freeze_restored(f"AWS has a newer deny policy on {role_arn}")


_NEWEST = Question(
    "restored.newest",
    """
SELECT i.code, e.id, e.recorded_at
FROM requests_app_installation i
    CROSS JOIN (SELECT e.id, e.recorded_at FROM requests_app_auditevent e ORDER BY e.id DESC LIMIT 1) e
ORDER BY i.id
LIMIT 1
""",
)


class _Remembered:
    """The code of the installation whose database this process was last seen to use."""

    def __init__(self) -> None:
        self._code = ""

    def get(self) -> str:
        return self._code

    def set(self, code: str) -> None:
        self._code = code


_remembered = _Remembered()


class _Found(NamedTuple):
    """`home` is where this database was, `here` where it is, if we may ask; `has_event`: the one of the watermark."""

    code: str
    home: str
    here: str | None
    has_event: bool


_SQL = """
SELECT i.code, i.home, {here} AS here,
    EXISTS (
        SELECT FROM requests_app_auditevent e
        WHERE e.id = %(event)s::bigint AND e.recorded_at = %(recorded_at)s::timestamptz
    ) AS has_event
FROM requests_app_installation i
ORDER BY i.id
LIMIT 1
"""
_WITH_PLACE = Question("restored.look", _SQL.format(here=f"({database.HOME})"), _Found)
_WITHOUT = Question("restored.look_without_place", _SQL.format(here="NULL::text"), _Found)


def _found(watermark: tuple[int, datetime] | None) -> _Found | None:
    event, recorded_at = watermark or (None, None)
    # A refusal would end a transaction that we are in.
    alone = transaction.atomic() if connection.in_atomic_block else contextlib.nullcontext()
    try:
        with alone:
            return _WITH_PLACE.first(event=event, recorded_at=recorded_at)
    except ProgrammingError:  # the application's role may not ask where it is
        return _WITHOUT.first(event=event, recorded_at=recorded_at)


def _compare_home(found: _Found) -> None:
    if found.here is None or not found.home or found.here == found.home:
        return
    # The reason names the place; operators are not asked twice about the same.
    if not Freeze.objects.filter(cause=Freeze.Cause.RESTORED, reason__contains=found.here).exists():
        freezes.freeze_restored(f"it is in PostgreSQL {found.here} and was in {found.home}")


def _tell_of_lost(recorded_at: datetime) -> None:
    # What was lost before operators looked was lost then.
    if not Freeze.objects.filter(cause=Freeze.Cause.RESTORED, begun_at__gte=recorded_at).exists():
        freezes.freeze_restored(f"what happened at {recorded_at:%Y-%m-%d %H:%M:%S} UTC is not in it")


def _read(code: str, text: object) -> tuple[int, datetime] | None:
    if not isinstance(text, bytes):
        return None
    try:
        match signing.loads(text.decode(), salt=SALT):
            case {"of": of, "event": int(event), "at": str(at)} if of == code:
                return event, datetime.fromisoformat(at)
    except (signing.BadSignature, ValueError):
        pass
    log.warning("watermark.not_ours")
    return None


def _key(code: str) -> str:
    return f"watermark:{code}"
