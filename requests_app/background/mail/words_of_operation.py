"""Mail to those who answer for Daypass: what was frozen or stopped, what AWS does not do, what is to be mended."""

from datetime import datetime

from requests_app.background.mail.batch import Batch
from requests_app.background.mail.wording import Wording, Words
from requests_app.domain import clock
from requests_app.domain.audit import Action
from requests_app.domain.durations import at_in_words
from requests_app.domain.models import Notice
from requests_app.domain.notices import Kind
from requests_app.domain.workflow import operators, proofs

_FREEZE = ("freeze__account", "freeze__role__account", "freeze__begun_by")
_LIFTED = (*_FREEZE, "freeze__lift_asked_by", "freeze__lifted_by")
_EDIT = ("edit__editor", "edit__member", "edit__group", "edit__entitlement", "edit__role__account", "edit__person")
_ROLE = ("role__account",)


def _freeze(notice: Notice, batch: Batch) -> Words:
    return {"freeze": notice.freeze}


def _stopped(notice: Notice, batch: Batch) -> Words:
    event = notice.event
    if event is None:
        return {}
    return event.detail | {"by": event.actor_name, "of": event.subject}


def _role(notice: Notice, batch: Batch) -> Words:
    return {"arn": notice.role.arn if notice.role else ""}


def _not_scoped(notice: Notice, batch: Batch) -> Words:
    return _role(notice, batch) | {"code": notice.detail.get("code", "")}


def _unproved(notice: Notice, batch: Batch) -> Words:
    number = proofs.unproved(notice.role.pk, notice.detail["generation"]) if notice.role else 0
    return _role(notice, batch) | {"number": f"{number:,}"}


def _unexplained(notice: Notice, batch: Batch) -> Words:
    codes, number = notice.detail.get("codes", []), notice.detail.get("number", 0)
    return _role(notice, batch) | {"codes": codes, "number": f"{number:,}", "are_more": number > len(codes)}


def _role_held(notice: Notice, batch: Batch) -> Words:
    if notice.event is None:
        return {}
    held, zone = notice.event.detail, notice.recipient.zone
    before, until = (datetime.fromisoformat(held[name]) for name in ("denied_before", "held_until"))
    return _role(notice, batch) | {
        "ended": f"{held['ended']:,}",
        "others": f"{held['others']:,}",
        "before": at_in_words(before, zone, seconds=True, now=clock.now()),
        "until": at_in_words(until, zone, seconds=True, now=clock.now()),
    }


def _trouble(notice: Notice, batch: Batch) -> Words:
    return dict(notice.detail)


def _only_one(notice: Notice, batch: Batch) -> Words:
    return {"only": operators.the_only_one()}


def _nobody(notice: Notice, batch: Batch) -> Words:
    event = notice.event
    return {
        "what": event.subject if event else notice.role or "a role",
        "entitlement": notice.entitlement,
        "because": event.detail.get("message", "") if event else "",
    }


def _unconfirmed(notice: Notice, batch: Batch) -> Words:
    return {"edit": notice.edit}


def _proxy(notice: Notice, batch: Batch) -> Words:
    return {"ip": notice.detail.get("ip", "")}


def _factors(notice: Notice, batch: Batch) -> Words:
    """Of an operator's own second factors and address, or of anybody's factors that an operator removed."""
    event = notice.event
    if event is None:
        return {}
    is_own = event.actor_id is not None and event.actor_id == event.beneficiary_id
    reason, by = event.detail.get("reason", ""), event.actor_name
    what = {"factor.added": "set up", "factor.removed": "removed"}.get(event.action, "made new")
    return {"by": by, "of": event.beneficiary_name, "is_own": is_own, "reason": reason, "what": what} | {
        "factors": ", ".join(event.detail.get("factors", [])),
        "is_address": event.action == Action.PERSON_CHANGED,
    }


def _operator(notice: Notice, batch: Batch) -> Words:
    event = notice.event
    if event is None:
        return {}
    of, is_super = event.beneficiary_name, event.action == Action.SUPERUSER_MADE
    return {"subject": f"A new operator: {of} (Daypass)", "of": of, "by": event.actor_name, "is_super": is_super}


OF = {
    Kind.OPERATOR: Wording(_operator, ("event",)),
    Kind.FACTORS: Wording(_factors, ("event",)),
    Kind.PROXY: Wording(_proxy),
    Kind.FROZEN: Wording(_freeze, _FREEZE),
    Kind.THAWED: Wording(_freeze, _LIFTED),
    Kind.RESTORED: Wording(_freeze, _FREEZE),
    Kind.STOPPED: Wording(_stopped, ("event",)),
    Kind.UNPROVED: Wording(_unproved, _ROLE),
    Kind.LIFTED: Wording(_role, _ROLE),
    Kind.NOT_SCOPED: Wording(_not_scoped, _ROLE),
    Kind.UNEXPLAINED: Wording(_unexplained, _ROLE),
    Kind.ROLE_HELD: Wording(_role_held, (*_ROLE, "event")),
    Kind.TROUBLE: Wording(_trouble),
    Kind.ONLY_ONE: Wording(_only_one),
    Kind.NOBODY: Wording(_nobody, ("event", "entitlement", *_ROLE)),
    Kind.UNCONFIRMED: Wording(_unconfirmed, (*_EDIT, "edit__account", "edit__unit")),
}
