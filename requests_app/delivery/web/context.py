"""What every page needs to know."""

from datetime import datetime
from functools import partial
from typing import Any

from django.http import HttpRequest

from requests_app.delivery.web.presses import reader_key
from requests_app.domain import clock
from requests_app.domain.models import AccessRequest, Extension, User

# The number beside "Approvals" counts no further.
MOST_COUNTED = 20


def now_of(request: HttpRequest) -> datetime:
    """The database's clock, read once for the whole page, so that a page does not disagree with itself."""
    read_at: datetime | None = getattr(request, "read_at", None)
    if read_at is None:
        read_at = clock.now()
        request.read_at = read_at  # type: ignore[attr-defined]
    return read_at


def portal(request: HttpRequest) -> dict[str, Any]:
    """`now`, `waiting_for_me` and `reader` for the base templates; none is asked for until a template does."""
    if not getattr(request, "user", None) or not request.user.is_authenticated:
        return {}
    return {
        "now": partial(now_of, request),
        "reader": partial(reader_key, request.user),
        "waiting_for_me": partial(_waiting, request.user, request),
    }


def _waiting(person: User, request: HttpRequest) -> str:
    requests, more = (
        kind.objects.waiting_for(person, now_of(request)).order_by().values("pk") for kind in (AccessRequest, Extension)
    )
    number = len(requests.union(more, all=True)[: MOST_COUNTED + 1])
    return f"{MOST_COUNTED}+" if number > MOST_COUNTED else str(number or "")
