"""A request's story, told from its audit events."""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from requests_app.domain import reading
from requests_app.domain.audit import Action
from requests_app.domain.durations import in_words
from requests_app.domain.models import AccessRequest, AuditEvent, User
from requests_app.domain.workflow import sign_ins

MOST_EVENTS = 200

# What was done, and the colour of its dot.
_DONE: dict[str, tuple[str, str]] = {
    Action.REQUEST_SUBMITTED: ("asked for access", "amber"),
    Action.REQUEST_APPROVED: ("approved", "blue"),
    Action.REQUEST_GRANTED: ("The last stage agreed: ready to start", "blue"),
    Action.REQUEST_ACCEPTED: ("accepted it", "blue"),
    Action.REQUEST_ESCALATED: ("Further people are asked: the stage has not agreed in its time", "amber"),
    Action.REQUEST_DENIED: ("denied the request", "red"),
    Action.REQUEST_WITHDRAWN: ("withdrew the request", "grey"),
    Action.REQUEST_REMINDED: ("sent a reminder", "grey"),
    Action.REQUEST_STARTED: ("started the pass", "green"),
    Action.REQUEST_LAPSED: ("The request lapsed: its time to be decided or started ran out", "grey"),
    Action.REQUEST_EXPIRED: ("The pass ended: its time was up", "grey"),
    Action.REQUEST_RETURNED: ("gave the pass back", "grey"),
    Action.REQUEST_REVOKED: ("revoked the pass", "red"),
    Action.REQUEST_CONFIRMED: ("confirmed, after the database was restored, that the pass lives on", "blue"),
    Action.EXTENSION_ASKED: ("asked for more time", "amber"),
    Action.EXTENSION_APPROVED: ("agreed to more time", "blue"),
    Action.EXTENSION_GRANTED: ("The last stage agreed: the pass goes on", "green"),
    Action.EXTENSION_DENIED: ("denied more time", "red"),
    Action.EXTENSION_WITHDRAWN: ("took back the wish for more time", "grey"),
    Action.EXTENSION_LAPSED: ("Nobody decided in time on more time", "grey"),
    Action.EXTENSION_ESCALATED: ("Further people are asked about more time", "amber"),
    Action.DELIVERY_ASKED: ("asked for credentials", "grey"),
    Action.DELIVERY_FAILED: ("No credentials were handed over", "amber"),
    Action.DELIVERY_HANDED_OVER: ("received what was sealed for their browser", "green"),
    Action.SESSION_ISSUED: ("A session was issued", "green"),
    Action.SESSION_DISCARDED: ("A session was issued and thrown away: nobody was given it", "amber"),
    Action.KEYS_DISCARDED: ("Keys that AWS gave were not as they were asked for, and thrown away", "amber"),
    Action.REVOCATION_WANTED: ("AWS is to refuse what was issued", "grey"),
    Action.REVOCATION_WRITTEN: ("AWS has the order to refuse it", "grey"),
    Action.REVOCATION_PROVED: ("AWS was seen to refuse it", "green"),
    Action.REVOCATION_UNPROVABLE: ("Nothing harmless on this role can show that AWS refuses it", "amber"),
    Action.REVOCATION_SIGNED_OUT: ("AWS ended sign-in sessions that it may have begun", "green"),
    Action.REVOCATION_LIFTED: ("Someone changed the order at AWS, outside Daypass: it is put back", "red"),
    Action.REVOCATION_OVER: ("No session could still be valid: the order is let go", "grey"),
    Action.REVOCATION_LEFT_OUT: ("The role has no room for more denials, so this returned pass made way", "amber"),
    Action.SESSION_UNACCOUNTED: ("AWS was asked, and whether it issued a session is not known", "amber"),
}
# The same acts when nobody acted but the clock or the rules.
_BY_ITSELF: dict[str, str] = {
    Action.REQUEST_GRANTED: "Approved by the rules: nobody had to be asked",
    Action.REQUEST_STARTED: "The pass started by itself, as asked",
    Action.EXTENSION_GRANTED: "More time was granted by the rules: nobody had to be asked",
}
_REFUSED: dict[str, str] = {
    Action.REQUEST_ACCEPTED: "tried to accept it",
    Action.EXTENSION_ASKED: "tried to ask for more time",
    Action.EXTENSION_APPROVED: "tried to agree to more time",
    Action.EXTENSION_DENIED: "tried to deny more time",
    Action.EXTENSION_WITHDRAWN: "tried to take back the wish for more time",
    Action.REQUEST_APPROVED: "tried to approve",
    Action.REQUEST_DENIED: "tried to deny",
    Action.REQUEST_WITHDRAWN: "tried to withdraw the request",
    Action.REQUEST_REMINDED: "tried to send a reminder",
    Action.REQUEST_STARTED: "tried to start the pass",
    Action.REQUEST_RETURNED: "tried to give the pass back",
    Action.REQUEST_REVOKED: "tried to revoke the pass",
    Action.REQUEST_CONFIRMED: "tried to confirm that the pass lives on",
    Action.DELIVERY_ASKED: "asked for credentials",
}


@dataclass(frozen=True, slots=True)
class Moment:
    event: AuditEvent
    words: str
    tone: str
    said: str
    refused: bool
    # From which address; empty where the reader is not to know.
    ip: str

    @property
    def who(self) -> str:
        """The name that belongs before the words; empty where the words are a whole sentence."""
        return "" if self.words[:1].isupper() else self.event.actor_name


def moments(access_request: AccessRequest, *, asked_by: User | None = None) -> list[Moment]:
    """What happened, oldest first; the newest 200.

    `asked_by`: a reader who only asked for somebody else. They read no access key, and no address but their own.
    """
    newest = reading.events_of(access_request, MOST_EVENTS)
    return [_moment(event, asked_by) for event in sorted(newest, key=lambda event: (event.at, event.pk))]


def _moment(event: AuditEvent, asked_by: User | None) -> Moment:
    ip = (event.ip or "") if asked_by is None or event.actor_id == asked_by.pk else ""
    action = event.action.removesuffix(".refused")
    if event.action != action:
        return Moment(event, _REFUSED.get(action, action), "amber", _text(event, "message"), refused=True, ip=ip)
    words, tone = _DONE.get(action, (action, "grey"))
    if event.actor_id is None:
        words = _BY_ITSELF.get(action, words)
    if action in (Action.REQUEST_APPROVED, Action.EXTENSION_ASKED, Action.EXTENSION_GRANTED):
        words += _how_long(event)
    if action == Action.DELIVERY_ASKED and event.detail.get("kind") == "console":
        words = "asked to open the console"
    if action == Action.REVOCATION_UNPROVABLE and event.detail.get("of") == sign_ins.SIGN_INS:
        words = "Whether all its sign-in sessions ended cannot be shown"
    if action == Action.SESSION_ISSUED and asked_by is None:
        words = f"A session was issued: {_text(event, 'access_key_id')}"
    typed = (_text(event, name) for name in ("comment", "reason", "justification"))
    reason = next(filter(None, typed), "") or _failure(event)
    return Moment(event, words, tone, reason, refused=False, ip=ip)


def _how_long(event: AuditEvent) -> str:
    """What an approver changed, or how much more it is."""
    detail = event.detail
    parts = []
    if type(seconds := detail.get("duration_seconds")) is int:
        parts.append(f"for {in_words(timedelta(seconds=seconds))} only")
    if type(seconds := detail.get("seconds")) is int:
        parts.append(in_words(timedelta(seconds=seconds)))
    for key, word in (("start_at", "from"), ("expires_at", "until")):
        with contextlib.suppress(ValueError):
            parts.append(f"{word} {datetime.fromisoformat(_text(event, key)).astimezone(UTC):%d %b %H:%M} UTC")
    return f", {', '.join(parts)}" if parts else ""


def _failure(event: AuditEvent) -> str:
    aws = ": ".join(part for part in (_text(event, "aws_code"), _text(event, "aws_message")) if part)
    return " — ".join(part for part in (_text(event, "message"), aws) if part)


def _text(event: AuditEvent, key: str) -> str:
    value = event.detail.get(key, "")
    return value if isinstance(value, str) else ""
