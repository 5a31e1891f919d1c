"""Which mail would only confuse by now, and why: what it tells of was decided, mended or undone meanwhile."""

from collections.abc import Callable
from datetime import timedelta

from requests_app.background.mail.batch import Batch
from requests_app.domain import notices
from requests_app.domain.models import AccessRequest, Edit, Extension, Notice
from requests_app.domain.notices import Kind
from requests_app.domain.transitions import State
from requests_app.domain.workflow import life, operators, proofs, sweeps

# With what a sweep and a mail may have come early or late.
LATE = timedelta(minutes=1)


def no_longer(notice: Notice, batch: Batch) -> str:
    """Why this mail is not to be sent; empty if it is. (What ends in "meanwhile" is nothing bad to `doctor`.)"""
    if notice.recipient.deactivated_at is not None:
        return "deactivated"
    if notice.attempts > notices.MOST_ATTEMPTS:
        return "tried too often without an outcome"  # whoever sends it dies of it
    kind = Kind(notice.kind)
    if kind in _OF_REQUEST and notice.access_request is not None:
        return _OF_REQUEST[kind](notice, notice.access_request, batch)
    return _OF_OTHERS[kind](notice) if kind in _OF_OTHERS else ""


def _asked(notice: Notice, access_request: AccessRequest, batch: Batch) -> str:
    is_open = access_request.state_at(batch.now()) == State.PENDING
    return "" if is_open and batch.can_decide(access_request, notice.recipient) else "decided meanwhile"


def _more_asked(notice: Notice, access_request: AccessRequest, batch: Batch) -> str:
    extension = extension_of(notice)
    is_open = extension is not None and access_request.state_at(batch.now()) == State.ACTIVE
    if is_open and extension is not None and batch.can_decide(extension, notice.recipient):
        return ""
    return "decided meanwhile"


def _more_decided(notice: Notice, access_request: AccessRequest, batch: Batch) -> str:
    return "" if access_request.state_at(batch.now()) == State.ACTIVE else "ended meanwhile"


def _ending_soon(notice: Notice, access_request: AccessRequest, batch: Batch) -> str:
    now, ends = batch.now(), access_request.expires_at
    if access_request.state_at(now) != State.ACTIVE:
        return "ended meanwhile"
    return "" if ends is not None and ends <= now + sweeps.ENDING_SOON + LATE else "extended meanwhile"


def _accept(notice: Notice, access_request: AccessRequest, batch: Batch) -> str:
    is_open = access_request.state_at(batch.now()) == State.PENDING
    return "" if is_open and access_request.waits_for_acceptance else "accepted or ended meanwhile"


def _stuck(notice: Notice, access_request: AccessRequest, batch: Batch) -> str:
    matter = extension_of(notice) or access_request
    is_open = matter.state == State.PENDING
    return "" if is_open and batch.stages_that_lack_people(matter) else "ended or mended meanwhile"


def _no_use(notice: Notice, access_request: AccessRequest, batch: Batch) -> str:
    is_as_told = access_request.state_at(batch.now()) == notice.state
    still = is_as_told and life.why_unusable(access_request, notice.recipient)
    return "" if still else "ended or mended meanwhile"


def _unconfirmed(notice: Notice) -> str:
    confirmed = Edit.objects.filter(confirmed_at__isnull=False).values("pk")
    return "confirmed meanwhile" if Notice.objects.filter(pk=notice.pk, edit__in=confirmed).exists() else ""


def _unproved(notice: Notice) -> str:
    if notice.about or notice.role_id is None:
        return ""
    return "" if proofs.unproved(notice.role_id, notice.detail.get("generation")) else "proved or replaced meanwhile"


def _only_one(notice: Notice) -> str:
    return "" if operators.the_only_one() else "there are more meanwhile"


def _invited(notice: Notice) -> str:
    return "came meanwhile" if notice.recipient.last_login is not None else _link(notice)


def _link(notice: Notice) -> str:
    newer = Notice.objects.filter(recipient=notice.recipient_id, kind=notice.kind, pk__gt=notice.pk)
    return "a newer link was asked for meanwhile" if newer.exists() else ""


_OF_REQUEST: dict[Kind, Callable[[Notice, AccessRequest, Batch], str]] = {
    Kind.ASKED: _asked,
    Kind.REMINDED: _asked,
    Kind.MORE_ASKED: _more_asked,
    Kind.MORE_DECIDED: _more_decided,
    Kind.ENDING_SOON: _ending_soon,
    Kind.ACCEPT: _accept,
    Kind.STUCK: _stuck,
    Kind.NO_USE: _no_use,
}
_OF_OTHERS: dict[Kind, Callable[[Notice], str]] = {
    Kind.UNCONFIRMED: _unconfirmed,
    Kind.UNPROVED: _unproved,
    Kind.ONLY_ONE: _only_one,
    Kind.INVITED: _invited,
    Kind.NEW_PASSWORD: _link,
}


def extension_of(notice: Notice) -> Extension | None:
    """The one that it is about, if it is about one: read when it is sent, and of the request that was read already."""
    if notice.extension is not None and notice.access_request is not None:
        notice.extension.access_request = notice.access_request
    return notice.extension
