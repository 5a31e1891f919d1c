"""Sending what stands in the outbox: claim, send, record. At least once; a lost process sends again later."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from smtplib import SMTPDataError, SMTPException, SMTPServerDisconnected
from typing import Any, TypeVar, cast

import structlog
from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.db import transaction
from django.db.models import F
from django.template.loader import render_to_string
from django.urls import reverse

from requests_app.domain import clock, deciders, notices, password_links
from requests_app.domain.durations import at_in_words, in_words
from requests_app.domain.models import AccessRequest, Decision, Edit, Extension, Notice, User
from requests_app.domain.notices import Kind
from requests_app.domain.texts import shortened
from requests_app.domain.transitions import ExtensionState, State
from requests_app.domain.workflow import deciding, life, sweeps

log = structlog.get_logger(__name__)
BATCH = 50
LONGEST_SUBJECT = 200
STOPPING = (Kind.FROZEN, Kind.THAWED, Kind.RESTORED, Kind.STOPPED)
WITH_LINK = tuple(password_links.LASTS)
MINUTE = timedelta(minutes=1)
# For so long what the rules said goes for the next mail too: a mail server may take its time for each.
GOES_FOR_SECONDS = 2.0
Matter = AccessRequest | Extension
T = TypeVar("T")


def send_due(limit: int = BATCH) -> int:
    """Send what is due; returns how many were tried."""
    if not notices.is_any_due():
        return 0
    claimed = _claim(limit)
    if claimed:
        batch = _Batch()
        try:
            for notice in claimed:
                _send(notice, batch)
        finally:
            batch.hang_up()
    return len(claimed)


class _Batch:
    """What mails that are sent one after the other share: a connection to the mail server, and what the rules say.

    A request asks two hundred people, and the answer to who can decide it is the same for each of them.
    """

    def __init__(self) -> None:
        self._connection: Any = None
        self._answers: dict[tuple[object, ...], tuple[float, Any]] = {}

    def send(self, message: EmailMultiAlternatives) -> None:
        is_used = self._connection is not None
        try:
            self._send(message)
        except SMTPException as error:
            if not is_used or not _is_over(error):
                raise
            # Many servers take so many mails of a connection and no more. That is not this one's fault.
            self.hang_up()
            self._send(message)

    def _send(self, message: EmailMultiAlternatives) -> None:
        if self._connection is None:
            self._connection = get_connection()
        self._connection.open()
        message.connection = self._connection
        message.send()

    def hang_up(self) -> None:
        """The next mail connects anew. A connection that failed may fail once more to be closed."""
        connection, self._connection = self._connection, None
        with suppress(Exception):
            if connection is not None:
                connection.close()

    def now(self) -> datetime:
        return self._ask(clock.now)

    def can_decide(self, matter: Matter, person: User) -> bool:
        able = self._ask(_who_can_decide, matter)
        # The list is no longer than so: of whoever is not on a full one, the rules are asked.
        return person.pk in able or (len(able) >= deciders.MOST_APPROVERS and bool(deciding.may_deny(matter, person)))

    def stages_that_lack_people(self, matter: Matter) -> list[int]:
        return self._ask(deciding.stages_that_lack_people, matter)

    def _ask(self, question: Callable[..., T], *of: Matter) -> T:
        key, now = (question, *((type(one), one.pk) for one in of)), time.monotonic()
        asked_at, answer = self._answers.get(key, (-GOES_FOR_SECONDS, None))
        if now - asked_at >= GOES_FOR_SECONDS:
            answer = question(*of)
            self._answers[key] = now, answer
        return cast(T, answer)


def _is_over(error: SMTPException) -> bool:
    """The connection, and nothing is said of the mail: 421 is the server's word before it hangs up."""
    return isinstance(error, SMTPServerDisconnected) or getattr(error, "smtp_code", None) == 421


def _who_can_decide(matter: Matter) -> set[int]:
    return {person.pk for person in deciding.who_can_decide(matter)}


@dataclass(frozen=True, slots=True)
class Words:
    """What differs from mail to mail."""

    subject: str
    sentence: str
    button: str
    why: str
    facts: tuple[tuple[str, str], ...]
    # What the link does; of a page that only shows something it is said in the template.
    link_does: str = ""


def words(notice: Notice, batch: _Batch | None = None) -> Words:
    """The mail as a person reads it, in their own time zone. Plain text: escaping is the template's."""
    if notice.access_request is None:
        about_sign_in = notice.kind in (*WITH_LINK, Kind.ACCOUNT)
        return _words_of_account(notice) if about_sign_in else _words_for_operators(notice)
    access_request = notice.access_request
    sentence, button, why = _words_about(notice, access_request, batch or _Batch())
    return Words(
        subject=_subject(sentence, access_request.code),
        sentence=" ".join(sentence.split()),
        button=button,
        why=why,
        facts=(
            ("Who", str(access_request.beneficiary)),
            ("What", access_request.role.name),
            ("Where", f"{access_request.role.account.name} {access_request.role.account.grouped_number}"),
            ("How long", _how_long(access_request)),
            *((("Starts", _starts(notice, access_request)),) if access_request.scheduled_at else ()),
            ("Why", access_request.justification),
            *_typed_since(notice, access_request),
        ),
    )


def _words_about(notice: Notice, access_request: AccessRequest, batch: _Batch) -> tuple[str, str, str]:
    """The sentence, the button and why somebody gets this, of this kind alone: some take a question to the database."""
    what = f"{access_request.role.name} in {access_request.role.account.name}"
    long = in_words(access_request.duration)
    who = str(access_request.beneficiary)
    match Kind(notice.kind):
        case Kind.ASKED:
            return _asks(access_request, what, long), "Decide", _decides()
        case Kind.REMINDED:
            return f"{who} still waits for {what} for {long}.", "Decide", _decides()
        case Kind.MORE_ASKED:
            return _more_asked(notice, who, what), "Decide", _decides()
        case Kind.ACCEPT:
            return (
                f"{access_request.requester} asks for {what} for {long}, for you. It counts when you accept it.",
                "Accept or decline",
                "It would be yours. Nobody decides on it, and nothing starts, before you have accepted.",
            )
        case Kind.DECIDED:
            asked = notice.recipient_id == access_request.requester_id
            yours = "You asked for this." if asked else "This would be yours."
            return _decided(notice, access_request, what, long), "Open the request", yours
        case Kind.MORE_DECIDED:
            return _more_decided(notice, what), "Open the pass", "This pass is yours."
        case Kind.STUCK:
            return _stuck(notice, access_request, what, who, batch)
        case Kind.ISSUED:
            return (
                f"Keys for {what} were issued to a browser signed in as you.",
                "Look at it",
                "You are told of every issue of keys. If this was not you, end the pass and tell the operators.",
            )
        case Kind.ENDING_SOON:
            ends = _at(notice, access_request.expires_at)
            return f"Your pass for {what} ends {ends}.", "Open the pass", "This pass is yours."
        case Kind.NOT_DENIED:
            return (
                f"AWS does not take the order to refuse what was issued to {who} for {what}.",
                "Look at it",
                "You operate Daypass. It is tried again with growing gaps; what AWS says stands on the page.",
            )
        case Kind.LIFTED:
            return (
                f"Someone changed Daypass's deny policy on {what} at AWS, outside Daypass. It is put back.",
                "Look at it",
                "You operate Daypass.",
            )
        case Kind.HELD:
            return (
                f"So many passes of {what} were ended at once that AWS refuses every session of it from before now. "
                "Your pass goes on: get new credentials in a minute or two.",
                "Open the pass",
                "This pass is yours.",
            )
        case Kind.ENDED:
            for_them = notice.recipient_id == access_request.beneficiary_id
            why = "This was yours." if for_them else "You asked for this."
            return _ended(access_request, what), "Open the request", why
        case kind:
            raise LookupError(f"{kind} is about no single request")


def _decides() -> str:
    return (
        "You are one of the people who can decide on this. To stop these mails, ask an operator of "
        f"{settings.BASE_URL} to take you out of the group that is asked."
    )


def _words_for_operators(notice: Notice) -> Words:
    sentence = " ".join(notice.about.split())
    return Words(
        subject=_subject(sentence),
        sentence=sentence,
        button="Open Daypass",
        why="You operate Daypass, or audit it.",
        facts=(),
    )


def _subject(sentence: str, code: str = "") -> str:
    """A header takes no line break, whatever someone typed. What does not fit is in the mail itself."""
    said = " ".join(sentence.rstrip(".").split())
    return f"{shortened(said, LONGEST_SUBJECT - len(code) - 3)} ({code})" if code else shortened(said, LONGEST_SUBJECT)


def _typed_since(notice: Notice, access_request: AccessRequest) -> list[tuple[str, str]]:
    """What people wrote about what this mail tells of: whole, and beside a label of ours."""
    kind, extension = Kind(notice.kind), _extension(notice)
    if kind == Kind.MORE_ASKED and extension is not None:
        return [("Why more", extension.justification)]
    if kind == Kind.ENDED and access_request.state == State.REVOKED and access_request.end_reason:
        return [("Reason", access_request.end_reason)]
    if kind == Kind.DECIDED or (kind == Kind.MORE_DECIDED and extension is not None):
        commented = (extension or access_request).decisions.exclude(comment="").order_by("pk")
        return [("Comment", f"{one.approver_name}: {one.comment}") for one in commented]
    return []


def _words_of_account(notice: Notice) -> Words:
    kind, person = Kind(notice.kind), notice.recipient
    sentence = " ".join(notice.about.split())
    facts = (
        *((("Name", person.name),) if person.name else ()),
        ("User name", person.username),
        *((("When", _on(notice, notice.created_at)),) if kind != Kind.INVITED else ()),
    )
    if kind == Kind.ACCOUNT:
        return Words(
            subject=f"{sentence.partition('.')[0]} (Daypass)",
            sentence=sentence,
            button="See where you are signed in",
            why="You are told of every change to how you sign in. If this was not you, tell an operator now.",
            facts=facts,
        )
    until = _on(notice, clock.now() + password_links.LASTS[kind])
    link_does = f"The link works once, until {until}. Whoever has it can come in as you: give it to nobody."
    if kind == Kind.INVITED:
        return Words(
            subject="Your account in Daypass: choose a password",
            sentence=sentence,
            button="Choose a password",
            why="You sign in with your user name or with the address that this went to. "
            "If you expect no such account, do nothing.",
            facts=facts,
            link_does=link_does,
        )
    return Words(
        subject="Choose a new password for Daypass",
        sentence=sentence,
        button="Choose a new password",
        why="If it was not you, do nothing: your password stays as it is.",
        facts=facts,
        link_does=link_does,
    )


def _asks(access_request: AccessRequest, what: str, long: str) -> str:
    if access_request.requester_id == access_request.beneficiary_id:
        return f"{access_request.beneficiary} asks for {what} for {long}."
    return f"{access_request.requester} asks for {what} for {long}, for {access_request.beneficiary}."


def _decided(notice: Notice, access_request: AccessRequest, what: str, long: str) -> str:
    last = access_request.decisions.order_by("-pk").first()
    by = f" by {last.approver_name}" if last else ""
    asked = f"Your request for {what}"
    if notice.recipient_id != access_request.beneficiary_id:
        asked += f" for {access_request.beneficiary}"
    elif notice.recipient_id != access_request.requester_id:
        asked = f"What {access_request.requester} asked for you, {what}"
    if last is not None and last.verdict == Decision.Answer.DENY:
        return f"{asked} was denied{by}."
    said = f"{asked} for {long} was approved{by}"
    if access_request.scheduled_at is None:
        return f"{said}."
    if access_request.activated_at is not None:
        return f"{said} and has begun."
    return f"{said} and begins by itself at {_on(notice, access_request.scheduled_at)}."


def _how_long(access_request: AccessRequest) -> str:
    long, asked = access_request.duration, timedelta(seconds=access_request.duration_seconds)
    return in_words(long) + (f" ({in_words(asked)} was asked for)" if long != asked else "")


def _starts(notice: Notice, access_request: AccessRequest) -> str:
    at, wanted = access_request.scheduled_at, access_request.wanted_start_at
    said = f"by itself, {_on(notice, at)}" if at else ""
    return said + (f" ({_on(notice, wanted)} was asked for)" if wanted and wanted != at else "")


def _on(notice: Notice, at: datetime) -> str:
    return at_in_words(at, notice.recipient.zone)


def _stuck(notice: Notice, access_request: AccessRequest, what: str, who: str, batch: _Batch) -> tuple[str, str, str]:
    if _is_of_no_use(notice):
        way = life.why_unusable(access_request, notice.recipient)
        return f"{what} for {who}: {way[:1].lower()}{way[1:]}", "Look at it", "You asked for it, or it is for you."
    extension = _extension(notice)
    lacking = batch.stages_that_lack_people(extension or access_request)
    which = f" at stage {lacking[0]}" if lacking else ""
    return (
        f"Nobody can decide on {'more time with ' if extension else ''}{what} for {who} any more: "
        f"too few people are left{which}.",
        "Look at it",
        "You asked for it, or you operate Daypass. It goes on when someone joins the groups that are asked; "
        "or withdraw it, and ask on other terms.",
    )


def _is_of_no_use(notice: Notice) -> bool:
    """Whether it says that the beneficiary may not have it any more: its occasion is the state that it was in."""
    return notice.kind == Kind.STUCK and _occasion(notice) in set(State)


def _is_stuck(notice: Notice, access_request: AccessRequest, state: State, batch: _Batch) -> bool:
    """Whether what a notice says of this is still so."""
    if _is_of_no_use(notice):
        return state == _occasion(notice) and bool(life.why_unusable(access_request, notice.recipient))
    matter = _extension(notice) or access_request
    return matter.state == State.PENDING and bool(batch.stages_that_lack_people(matter))


def _occasion(notice: Notice) -> str:
    return notice.key.rpartition(":")[2]


def _extension(notice: Notice) -> Extension | None:
    """The one that a notice is about, if it is about one: its occasion ends with the key."""
    of_one = notice.kind in (Kind.MORE_ASKED, Kind.MORE_DECIDED) or " of extension " in notice.key
    if notice.access_request is None or not of_one:
        return None
    return notice.access_request.extensions.filter(pk=int(notice.key.rpartition(" ")[2])).first()


def _more_asked(notice: Notice, who: str, what: str) -> str:
    extension = _extension(notice)
    if extension is None or notice.access_request is None or notice.access_request.expires_at is None:
        return f"{who} asks for more time with {what}."
    until = _at(notice, notice.access_request.expires_at + extension.duration, "until")
    return f"{who} asks for {in_words(extension.duration)} more with {what}, {until}."


def _more_decided(notice: Notice, what: str) -> str:
    extension = _extension(notice)
    state = extension.state if extension else ""
    if extension is not None and state == ExtensionState.GRANTED:
        return (
            f"Your pass for {what} goes on {_at(notice, extension.new_end, 'until')}. Credentials that you have work "
            f"{_at(notice, extension.previous_end, 'until')}: get new ones for the time after."
        )
    no = "Nobody decided in time" if state == ExtensionState.LAPSED else f"It was denied{_by_whom(extension)}"
    ends = _at(notice, notice.access_request.expires_at if notice.access_request else None)
    return f"Your pass for {what} gets no more time: it ends {ends}. {no}."


def _by_whom(extension: Extension | None) -> str:
    last = extension.decisions.filter(verdict=Decision.Answer.DENY).first() if extension else None
    return f" by {last.approver_name}" if last else ""


def _ended(access_request: AccessRequest, what: str) -> str:
    if access_request.state == State.WITHDRAWN:
        return f"The request for {what} for {access_request.beneficiary} was withdrawn by {access_request.ended_by}."
    if access_request.state == State.LAPSED and access_request.end_reason:
        return f"The request for {what} for {access_request.beneficiary} has ended. {access_request.end_reason}"
    return {
        State.EXPIRED: f"Your pass for {what} has ended: its time was up.",
        State.RETURNED: f"You gave back your pass for {what}.",
        State.REVOKED: f"Your pass for {what} was revoked by {access_request.ended_by}.",
        State.LAPSED: f"Your request for {what} lapsed: its time ran out before it was decided or started.",
    }.get(State(access_request.state), f"Your request for {what} has ended.")


def _at(notice: Notice, when: datetime | None, word: str = "at") -> str:
    return f"{word} {when.astimezone(notice.recipient.zone):%H:%M %Z}" if when else "soon"


def _claim(limit: int) -> list[Notice]:
    """Take due notices by moving their next attempt on: whoever dies now, they are due again then."""
    with transaction.atomic(durable=True):
        now = clock.now()
        due = (
            Notice.objects.filter(due_at__lte=now, sent_at=None, gave_up_at=None)
            .select_for_update(skip_locked=True, of=("self",), no_key=True)
            .order_by("due_at")
            .values_list("pk", flat=True)[:limit]
        )
        ids = list(due)
        # Longer than sending this batch can take; a failure sets its own later.
        Notice.objects.filter(pk__in=ids).update(attempts=F("attempts") + 1, due_at=now + timedelta(minutes=10))
    return list(
        Notice.objects.filter(pk__in=ids)
        .select_related(
            "recipient",
            "access_request__beneficiary",
            "access_request__requester",
            "access_request__role__account__unit",
            "access_request__ended_by",
        )
        .order_by("pk")  # in the order in which it happened
    )


def _send(notice: Notice, batch: _Batch) -> None:
    key = ""
    try:
        if reason := _no_longer_due(notice, batch):
            Notice.objects.filter(pk=notice.pk).update(gave_up_at=clock.now(), last_error=reason)
            return
        if notice.kind in WITH_LINK:
            key = password_links.make(notice.recipient, Kind(notice.kind))
        batch.send(_message(notice, key, batch))
    except Exception as error:  # noqa: BLE001 - whatever the mail server does, the row says so and stays due
        batch.hang_up()
        _failed(notice, error, key)
    else:
        Notice.objects.filter(pk=notice.pk).update(sent_at=clock.now(), last_error="")


def _no_longer_due(notice: Notice, batch: _Batch) -> str:
    """Why this mail would only confuse by now; empty if it is to be sent."""
    access_request = notice.access_request
    if notice.recipient.deactivated_at is not None:
        return "deactivated"
    if notice.attempts > notices.MOST_ATTEMPTS:
        return "tried too often without an outcome"  # whoever sends it dies of it
    if access_request is None:
        return _is_late(notice)
    now = batch.now()
    state = access_request.state_at(now)
    match notice.kind:
        case Kind.ENDING_SOON | Kind.MORE_DECIDED if state != State.ACTIVE:
            return "ended meanwhile"
        case Kind.ENDING_SOON if not _ends_soon(access_request, now):
            return "extended meanwhile"
        case Kind.ACCEPT if state != State.PENDING or not access_request.waits_for_acceptance:
            return "accepted or ended meanwhile"
        case Kind.STUCK if not _is_stuck(notice, access_request, state, batch):
            return "ended or mended meanwhile"
        case Kind.ASKED | Kind.REMINDED if state != State.PENDING or not batch.can_decide(
            access_request, notice.recipient
        ):
            return "decided meanwhile"
        case Kind.MORE_ASKED if state != State.ACTIVE or not _may_decide_more(notice, batch):
            return "decided meanwhile"
    return ""


def _is_late(notice: Notice) -> str:
    """The same of what is about no single request."""
    match notice.kind:
        case Kind.UNCONFIRMED if _is_confirmed(notice):
            return "confirmed meanwhile"
        case Kind.INVITED if notice.recipient.last_login is not None:
            return "came meanwhile"
        case Kind.INVITED | Kind.NEW_PASSWORD if _has_newer(notice):
            return "a newer link was asked for meanwhile"
    return ""


def _has_newer(notice: Notice) -> bool:
    return Notice.objects.filter(recipient=notice.recipient_id, kind=notice.kind, pk__gt=notice.pk).exists()


def _ends_soon(access_request: AccessRequest, now: datetime) -> bool:
    # With what a sweep and this mail may have come early or late.
    return access_request.expires_at is not None and access_request.expires_at <= now + sweeps.ENDING_SOON + MINUTE


def _may_decide_more(notice: Notice, batch: _Batch) -> bool:
    extension = _extension(notice)
    return extension is not None and batch.can_decide(extension, notice.recipient)


def _is_confirmed(notice: Notice) -> bool:
    """Whether another operator has meanwhile confirmed the edit whose key the occasion ends with."""
    key = notice.key.rpartition(" ")[2]
    return Edit.objects.filter(pk=int(key), confirmed_at__isnull=False).exists()


def _message(notice: Notice, key: str, batch: _Batch) -> EmailMultiAlternatives:
    """The mail; `key` is the one of the link to choose a password, where it brings one."""
    said = words(notice, batch)
    code = notice.access_request.code if notice.access_request else ""
    path = reverse("access_request", args=[code]) if code else _page_for(notice)
    link = settings.BASE_URL + (reverse("password_link", args=[key]) if key else path)
    context = {
        "words": said,
        # Further lines of what someone typed are set in, or they could pass for ours in the plain text.
        "facts_as_text": [(label, "\n    ".join(fact.splitlines())) for label, fact in said.facts],
        "link": link,
        "code": code,
    }
    message = EmailMultiAlternatives(said.subject, render_to_string("mail/notice.txt", context))
    message.to = [notice.recipient.email]
    message.extra_headers = {"Auto-Submitted": "auto-generated"} | ({"X-Daypass-Request": code} if code else {})
    message.attach_alternative(render_to_string("mail/notice.html", context), "text/html")
    return message


def _page_for(notice: Notice) -> str:
    """What is about no single request: where somebody does something about it."""
    if notice.kind == Kind.ACCOUNT:
        return reverse("usersessions_list")
    return reverse("stop" if notice.kind in STOPPING and notice.recipient.is_superuser else "home")


def _failed(notice: Notice, error: Exception, key: str) -> None:
    now = clock.now()
    log.warning("mail.failed", notice=notice.pk, error=type(error).__name__)
    given_up = now if notice.attempts >= notices.MOST_ATTEMPTS else None
    said = f"{type(error).__name__}: {error}".replace("\x00", "")
    # A server may repeat what it refuses, in pieces; before it saw the mail it cannot.
    if key and (isinstance(error, SMTPDataError) or key.rpartition("-")[2] in said):
        said = f"{type(error).__name__} {getattr(error, 'smtp_code', '')}"
    Notice.objects.filter(pk=notice.pk).update(
        due_at=notices.next_attempt(notice, now), gave_up_at=given_up, last_error=said[:300]
    )
