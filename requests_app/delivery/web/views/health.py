"""For load balancers and orchestrators. Bounded in time: a probe that hangs says nothing."""

import redis
from django.db import DatabaseError, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from requests_app.domain import store


@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    """This process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """The database and Redis answer too, each within two seconds."""
    checks = {"database": _database_answers(), "redis": _redis_answers()}
    lines = "".join(f"{name}: {'ok' if ok else 'does not answer'}\n" for name, ok in checks.items())
    return HttpResponse(lines, content_type="text/plain", status=200 if all(checks.values()) else 503)


def _database_answers() -> bool:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 2000")
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


def _redis_answers() -> bool:
    try:
        return bool(store.client().ping())
    except redis.RedisError:
        return False
