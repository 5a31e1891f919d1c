"""When an approved pass begins, and what there is to say about more time for a running one."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from requests_app.domain import reading
from requests_app.domain.models import AccessRequest, Extension
from requests_app.domain.policy import SHORTEST_SECONDS
from requests_app.domain.transitions import ExtensionState, State
from requests_app.domain.workflow import live_sessions

STEPS = (15, 30, 60, 120, 240, 480, 1440)


@dataclass(slots=True)
class More:
    """What there is to say about more time for one pass."""

    pending: Extension | None = None
    granted: list[Extension] = field(default_factory=list)
    # The most that the terms still give, nothing where they give no more.
    most: timedelta = timedelta(0)
    # Keys that were issued before it was extended work only so long.
    keys_until: datetime | None = None

    @property
    def has_news(self) -> bool:
        return self.pending is not None or self.keys_until is not None

    @property
    def possible(self) -> bool:
        return self.pending is None and self.most >= timedelta(seconds=SHORTEST_SECONDS)

    @property
    def steps(self) -> list[int]:
        """Sensible lengths in minutes, up to all that is left."""
        most = int(self.most.total_seconds()) // 60
        return sorted({step for step in STEPS if step < most} | {most})


def begins(access_request: AccessRequest, now: datetime) -> datetime | None:
    """When an approved request can be or will be started, if that is still to come."""
    if access_request.state_at(now) != State.APPROVED:
        return None
    at, hours = max(access_request.scheduled_at or now, now), access_request.terms.hours
    at = (hours and hours.next_opening(at)) or at
    return at if at > now else None


def more(access_requests: Sequence[AccessRequest], now: datetime) -> dict[int, More]:
    """For active passes, by their keys; two queries at most."""
    extensions = _extensions(
        [access_request.pk for access_request in access_requests if access_request.expires_at is not None]
    )
    ends = live_sessions.may_work_until(
        [access_request for access_request in access_requests if any(_granted(extensions[access_request.pk]))], now
    )
    return {
        access_request.pk: _more(access_request, extensions[access_request.pk], ends.get(access_request.pk), now)
        for access_request in access_requests
        if access_request.expires_at
    }


def until(extension: Extension) -> datetime:
    """When the pass would end with it."""
    assert extension.access_request.expires_at is not None  # noqa: S101 - only active passes are extended
    return extension.new_end or extension.access_request.expires_at + extension.duration


def _more(access_request: AccessRequest, extensions: list[Extension], keys_end: datetime | None, now: datetime) -> More:
    assert access_request.expires_at is not None  # noqa: S101 - asked for these only
    pending = [each for each in extensions if each.state == ExtensionState.PENDING and each.decide_by > now]
    granted = _granted(extensions)
    return More(
        pending=pending[0] if pending else None,
        granted=granted,
        most=_most(access_request, granted, now),
        keys_until=keys_end if keys_end and keys_end < access_request.expires_at else None,
    )


def _most(access_request: AccessRequest, granted: list[Extension], now: datetime) -> timedelta:
    terms, end = access_request.terms, access_request.expires_at
    if end is None or end <= now or len(granted) >= terms.extensions_most:
        return timedelta(0)
    total = access_request.duration + sum((each.duration for each in granted), timedelta(0))
    most = timedelta(seconds=terms.extension_total_seconds) - total
    if terms.hours:
        most = min(most, (terms.hours.closes(now) or now) - end)
    return max(most, timedelta(0))


def _granted(extensions: list[Extension]) -> list[Extension]:
    return [each for each in extensions if each.state == ExtensionState.GRANTED]


def _extensions(ids: Collection[int]) -> dict[int, list[Extension]]:
    found: dict[int, list[Extension]] = defaultdict(list)
    for extension in reading.extensions_of(ids):
        found[extension.access_request_id].append(extension)
    return found
