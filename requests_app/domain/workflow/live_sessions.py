"""Which sessions AWS may still take: those on record, and those that it may have issued without our knowing."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from django.db.models import Max
from django.db.models.functions import Least

from requests_app.domain.liftable import Liftable
from requests_app.domain.models import AccessRequest, Delivery, Freeze, IssuedSession
from requests_app.domain.transitions import DeliveryState, RevocationState

# What AWS issued at the last moment, and a database's clock that is minutes ahead.
MARGIN = timedelta(minutes=5)

MAY_HAVE_A_SESSION = (DeliveryState.ASKED, DeliveryState.CLAIMED, DeliveryState.UNKNOWN, DeliveryState.UNAVAILABLE)


def may_work_until(access_requests: Collection[AccessRequest], now: datetime) -> dict[int, datetime]:
    """Until when something that AWS issued for these requests, or may have issued, works unless AWS refuses it.

    By their keys; only those for which there is something.
    """
    issued = IssuedSession.objects.filter(access_request__in=access_requests, discarded=False)
    live = issued.filter(cut_off__gt=now, sts_expires_at__gt=now)
    recorded = live.values("access_request").annotate(end=Max(Least("cut_off", "sts_expires_at")))
    ends = dict(recorded.values_list("access_request", "end"))
    # Of an end that needs no order to AWS, or needs it no more, nothing unrecorded can be left.
    doubtful = [
        access_request for access_request in access_requests if access_request.is_open or _is_live(access_request)
    ]
    for access_request, end in _unrecorded(doubtful):
        if (last := min(end, access_request.expires_at or end)) > now:
            ends[access_request.pk] = max(last, ends.get(access_request.pk, last))
    return ends


def last_sessions_end(access_requests: Collection[AccessRequest], now: datetime) -> dict[int, datetime]:
    """When the last session of each, recorded or not, ends by STS's own clock, and a margin after; only of those that
    have a session left. Where terms let them sign in anew (`aws login`), that may go on for hours after it."""
    sessions = IssuedSession.objects.filter(access_request__in=access_requests)
    ends = dict(sessions.values_list("access_request").annotate(Max("sts_expires_at")))
    for access_request, end in _unrecorded(access_requests):
        ends[access_request.pk] = max(end, ends.get(access_request.pk, end))
    for access_request in access_requests:
        if access_request.pk in ends and Liftable.SIGN_IN_TOKENS in access_request.terms.lifted:
            ends[access_request.pk] += Liftable.SIGN_IN_TOKENS.longest or timedelta(0)
    return {key: end + MARGIN for key, end in ends.items() if end > now}


def last_restored_at() -> datetime | None:
    """Until then AWS may have issued sessions that the restored database knows nothing of."""
    restored = Freeze.objects.filter(cause=Freeze.Cause.RESTORED)
    return restored.order_by("-begun_at").values_list("begun_at", flat=True).first()


def _unrecorded(access_requests: Collection[AccessRequest]) -> Iterator[tuple[AccessRequest, datetime]]:
    """Those for which AWS may have issued a session that is not on record, and when such a one would end."""
    if not access_requests:
        return
    # Of these nobody knows whether AWS has issued a session, or is about to.
    on_their_way = dict(
        Delivery.objects.filter(access_request__in=access_requests, state__in=MAY_HAVE_A_SESSION)
        .values_list("access_request")
        .annotate(Max("asked_at"))
    )
    restored_at = last_restored_at()
    for access_request in access_requests:
        longest = timedelta(seconds=max(900, access_request.terms.session_ceiling_seconds))
        if access_request.pk in on_their_way:
            yield access_request, on_their_way[access_request.pk] + longest
        if restored_at is not None and access_request.asked_at < restored_at:
            yield access_request, restored_at + longest


def _is_live(access_request: AccessRequest) -> bool:
    revocation = getattr(access_request, "revocation", None)
    return revocation is not None and revocation.state != RevocationState.OVER
