"""Whether this database is the one it was. If it is an older copy, everything is held until operators have looked.

Daypass remembers outside its database, in Redis, which event was the newest. Redis is not believed: the watermark is
signed, one that is gone says nothing, and an old one of this database is simply true.
"""

from datetime import datetime

import redis
import structlog
from django.core import signing
from django.db import ProgrammingError, connection, transaction

from requests_app.domain import database, store
from requests_app.domain.models import AuditEvent, Freeze, Installation
from requests_app.domain.workflow import freezes

log = structlog.get_logger(__name__)
SALT = "daypass.watermark"


def look() -> bool:
    """Freeze everything if this database is older than it was, or not where it was. Once for each restoration.

    False if that cannot be told now, because Redis does not answer.
    """
    installation = Installation.objects.first()
    if installation is None:
        return True
    _compare_home(installation)
    try:
        text = store.client().get(_key(installation))
    except redis.RedisError as error:
        log.warning("watermark.unread", error=type(error).__name__)
        return False
    _compare_newest(installation, text)
    return True


def keep_watch() -> None:
    """Look, and then remember the newest event there is, so that a later look knows if it is gone."""
    if connection.in_atomic_block:
        return  # what is newest in here may never be committed
    # In this order: whichever moment another database takes this one's place, its watermark is not overwritten.
    newest = AuditEvent.objects.order_by("-pk").values_list("pk", "recorded_at").first()
    installation = Installation.objects.first()
    if newest is None or installation is None or not look():
        return
    event, recorded_at = newest
    text = signing.dumps({"of": installation.code, "event": event, "at": recorded_at.isoformat()}, salt=SALT)
    try:
        store.client().set(_key(installation), text)
    except redis.RedisError as error:
        log.warning("watermark.unwritten", error=type(error).__name__)


def found_at_aws(role_arn: str) -> None:
    """AWS has a deny policy of ours that this database knows nothing of: it was written in a time that was lost."""
    freezes.freeze_restored(f"AWS has a newer deny policy on {role_arn}")


def _compare_home(installation: Installation) -> None:
    try:
        with transaction.atomic():
            here = database.home("default")
    except ProgrammingError:
        return  # the application's role may not ask
    if not installation.home or here == installation.home:
        return
    # The reason names the place; operators are not asked twice about the same.
    if not Freeze.objects.filter(cause=Freeze.Cause.RESTORED, reason__contains=here).exists():
        freezes.freeze_restored(f"it is in PostgreSQL {here} and was in {installation.home}")


def _compare_newest(installation: Installation, text: object) -> None:
    watermark = _read(installation, text)
    if watermark is None:
        return
    event, recorded_at = watermark
    if AuditEvent.objects.filter(pk=event, recorded_at=recorded_at).exists():
        return
    # What was lost before operators looked was lost then.
    if not Freeze.objects.filter(cause=Freeze.Cause.RESTORED, begun_at__gte=recorded_at).exists():
        freezes.freeze_restored(f"what happened at {recorded_at:%Y-%m-%d %H:%M:%S} UTC is not in it")


def _read(installation: Installation, text: object) -> tuple[int, datetime] | None:
    if not isinstance(text, bytes):
        return None
    try:
        match signing.loads(text.decode(), salt=SALT):
            case {"of": installation.code, "event": int(event), "at": str(at)}:
                return event, datetime.fromisoformat(at)
    except (signing.BadSignature, ValueError):
        pass
    log.warning("watermark.not_ours")
    return None


def _key(installation: Installation) -> str:
    return f"watermark:{installation.code}"
