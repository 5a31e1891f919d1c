"""Mail about a request, a pass, or more time with one."""

from datetime import datetime, timedelta
from typing import cast

from requests_app.background.mail.batch import Batch
from requests_app.background.mail.due import extension_of
from requests_app.background.mail.wording import Facts, Wording, Words
from requests_app.domain import clock
from requests_app.domain.durations import at_in_words, in_words
from requests_app.domain.models import AccessRequest, Decision, Extension, Notice
from requests_app.domain.notices import Kind
from requests_app.domain.transitions import ExtensionState, State
from requests_app.domain.workflow import life


def _plainly(notice: Notice, batch: Batch) -> Words:
    """What all of them may say."""
    access_request = _request(notice)
    return {
        "what": str(access_request.role),
        "long": in_words(access_request.duration),
        "who": access_request.beneficiary,
        "requester": access_request.requester,
        "for_another": access_request.requester_id != access_request.beneficiary_id,
        "is_requester": notice.recipient_id == access_request.requester_id,
        "is_beneficiary": notice.recipient_id == access_request.beneficiary_id,
        "facts": [
            ("Who", str(access_request.beneficiary)),
            ("What", access_request.role.name),
            ("Where", f"{access_request.role.account.name} {access_request.role.account.grouped_number}"),
            ("How long", _how_long(access_request)),
            *([("Starts", _starts(notice, access_request))] if access_request.scheduled_at else []),
            ("Why", access_request.justification),
        ],
    }


def _decided(notice: Notice, batch: Batch) -> Words:
    access_request, words = _request(notice), _plainly(notice, batch)
    last = access_request.decisions.order_by("-pk").first()
    begins = access_request.scheduled_at if access_request.activated_at is None else None
    return words | {
        "by": last.approver_name if last else "",
        "is_denied": last is not None and last.verdict == Decision.Answer.DENY,
        "has_begun": access_request.scheduled_at is not None and access_request.activated_at is not None,
        "begins": _on(notice, begins) if begins else "",
        "facts": words["facts"] + _comments(access_request),
    }


def _more_asked(notice: Notice, batch: Batch) -> Words:
    access_request, words, extension = _request(notice), _plainly(notice, batch), extension_of(notice)
    if extension is None or access_request.expires_at is None:
        return words
    return words | {
        "more": in_words(extension.duration),
        "until": _at(notice, access_request.expires_at + extension.duration),
        "facts": [*words["facts"], ("Why more", extension.justification)],
    }


def _more_decided(notice: Notice, batch: Batch) -> Words:
    access_request, words, extension = _request(notice), _plainly(notice, batch), extension_of(notice)
    words |= {"ends": _at(notice, access_request.expires_at)}
    if extension is None:
        return words
    if extension.state == ExtensionState.GRANTED:
        words |= {"until": _at(notice, extension.new_end), "before": _at(notice, extension.previous_end)}
    denial = extension.decisions.filter(verdict=Decision.Answer.DENY).first()
    return words | {
        "is_lapsed": extension.state == ExtensionState.LAPSED,
        "by": denial.approver_name if denial else "",
        "facts": words["facts"] + _comments(extension),
    }


def _stuck(notice: Notice, batch: Batch) -> Words:
    extension = extension_of(notice)
    lacking = batch.stages_that_lack_people(extension or _request(notice))
    return _plainly(notice, batch) | {"more": extension is not None, "lacks": lacking[0] if lacking else 0}


def _no_use(notice: Notice, batch: Batch) -> Words:
    why = life.why_unusable(_request(notice), notice.recipient)
    return _plainly(notice, batch) | {"why": f"{why[:1].lower()}{why[1:]}"}


def _ending_soon(notice: Notice, batch: Batch) -> Words:
    return _plainly(notice, batch) | {"ends": _at(notice, _request(notice).expires_at)}


def _ended(notice: Notice, batch: Batch) -> Words:
    access_request, words = _request(notice), _plainly(notice, batch)
    if access_request.state == State.REVOKED and access_request.end_reason:
        words["facts"].append(("Reason", access_request.end_reason))
    return words | {
        "state": str(access_request.state),
        "by": access_request.ended_by,
        "reason": access_request.end_reason,
    }


OF = {
    **dict.fromkeys(
        (Kind.ASKED, Kind.REMINDED, Kind.ACCEPT, Kind.ISSUED, Kind.NOT_DENIED, Kind.HELD), Wording(_plainly)
    ),
    Kind.DECIDED: Wording(_decided),
    Kind.MORE_ASKED: Wording(_more_asked),
    Kind.MORE_DECIDED: Wording(_more_decided),
    Kind.STUCK: Wording(_stuck),
    Kind.NO_USE: Wording(_no_use),
    Kind.ENDING_SOON: Wording(_ending_soon),
    Kind.ENDED: Wording(_ended),
}


def _request(notice: Notice) -> AccessRequest:
    if notice.access_request is None:
        raise LookupError(f"{notice.kind} is about no single request")
    return notice.access_request


def _how_long(access_request: AccessRequest) -> str:
    long, asked = access_request.duration, timedelta(seconds=access_request.duration_seconds)
    return in_words(long) + (f" ({in_words(asked)} was asked for)" if long != asked else "")


def _starts(notice: Notice, access_request: AccessRequest) -> str:
    at, wanted = cast(datetime, access_request.scheduled_at), access_request.wanted_start_at
    asked_for = f" ({_on(notice, wanted)} was asked for)" if wanted and wanted != at else ""
    return f"by itself, {_on(notice, at)}{asked_for}"


def _comments(matter: AccessRequest | Extension) -> Facts:
    """What people wrote when they decided: whole, and beside a label of ours."""
    commented = matter.decisions.exclude(comment="").order_by("pk")
    return [("Comment", f"{decision.approver_name}: {decision.comment}") for decision in commented]


def _on(notice: Notice, at: datetime) -> str:
    return at_in_words(at, notice.recipient.zone)


def _at(notice: Notice, at: datetime | None) -> str:
    """By the reader's own clock, with the day when it is not today; empty where nobody knows."""
    return at_in_words(at, notice.recipient.zone, now=clock.now()) if at else ""
