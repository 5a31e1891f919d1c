"""What every page needs to know."""

from datetime import datetime
from functools import partial
from typing import Any

from django.http import HttpRequest

from requests_app.delivery.web.demanded import demand_of
from requests_app.delivery.web.factors import passkeys_work
from requests_app.delivery.web.presses import reader_key
from requests_app.domain import clock, reading
from requests_app.domain.models import User

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
        "factor_demanded": partial(demand_of, request),
        "passkeys_work": passkeys_work,
        "waiting_for_me": partial(_waiting_in_words, request.user, request),
    }


def note_waiting(request: HttpRequest, number: int) -> None:
    """A page that has just read what waits for its reader knows how many that are; beyond `MOST_COUNTED`, that many."""
    request.waiting = number  # type: ignore[attr-defined]


def _waiting_in_words(person: User, request: HttpRequest) -> str:
    """Asked for in several places of a page, and counted once."""
    number: int | None = getattr(request, "waiting", None)
    if number is None:
        number = reading.count_waiting(person, now_of(request), MOST_COUNTED + 1)
        note_waiting(request, number)
    return f"{MOST_COUNTED}+" if number > MOST_COUNTED else str(number or "")
