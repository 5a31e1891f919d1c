"""A question to AWS, the answer, and the means to ask: sessions of one role, and what becomes of their calls."""

import enum
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from requests_app.aws import probe, sts
from requests_app.aws.errors import AwsError, Refused
from requests_app.aws.probe import HARMLESS, End, Harmless, Reply
from requests_app.aws.proving.role import Roles
from requests_app.aws.session_policy import MIN_SESSION_SECONDS
from requests_app.aws.sts import MintedSession, MintOrder
from requests_app.domain import narrowing

SCOPING = "sts:GetScopedCredentials"
Statement = Mapping[str, Any]


class Answer(enum.StrEnum):
    YES = "yes"
    NO = "no"
    UNTOLD = "could not be told"


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, and what was seen."""

    answer: Answer
    evidence: str


class CannotTell(Exception):
    """The reason, as a sentence that goes on after *could not be told, because*."""


@dataclass(frozen=True, slots=True)
class Question:
    """`rests` says what Daypass rests on the answer; it `counts_on` one, or does without (None)."""

    ask: Callable[["Case"], Told]
    rests: str
    counts_on: Answer | None

    @property
    def words(self) -> str:
        return " ".join((self.ask.__doc__ or "").split())


def question(rests: str, *, counts_on: Answer | None = None) -> Callable[[Callable[["Case"], Told]], Question]:
    """Make a question of a function: its docstring are the words, what it raises is why it could not be told."""
    return lambda ask: Question(ask, rests, counts_on)


def yes(evidence: str) -> Told:
    return Told(Answer.YES, evidence)


def no(evidence: str) -> Told:
    return Told(Answer.NO, evidence)


def allow(*actions: str) -> Statement:
    return {"Effect": "Allow", "Action": list(actions or ("*",)), "Resource": "*"}


def deny(*actions: str, **condition: Mapping[str, str]) -> Statement:
    """`deny("sqs:ListQueues", DateLessThan={"aws:CurrentTime": …})`"""
    return {**allow(*actions), "Effect": "Deny", **({"Condition": condition} if condition else {})}


@dataclass(frozen=True, slots=True)
class Case:
    """Where and as what it is asked. `actions` are two of `probe.HARMLESS` that work on the role; `partition` is AWS's;
    `federation_url` is where the console signs people in.
    """

    roles: Roles
    role_name: str
    role_arn: str
    region: str
    partition: str
    federation_url: str
    actions: tuple[str, str]

    def session(self, *statements: Statement, policy: str = "", name: str = "") -> MintedSession:
        """Keys by AssumeRole, as Daypass gets them: with a session policy, if there is any. Raises AwsError."""
        return sts.assume_role(
            MintOrder(
                role_arn=self.role_arn,
                region=self.region,
                session_name=name or f"DP-PROVE-{secrets.token_hex(4)}",  # no request has such a code
                duration_seconds=MIN_SESSION_SECONDS,
                policy=policy or (_document(statements) if statements else ""),
            )
        )

    def scope(self, parent: MintedSession, *statements: Statement, policy: str = "", seconds: int = 120) -> Any:
        """Keys scoped from `parent`. Raises AwsError."""
        policy = policy or _document(statements or [allow()])
        return sts.scope(parent, self.region, seconds=seconds, policy=policy, description="Daypass asks a question")

    def works(self, session: MintedSession, *actions: str) -> str:
        """These calls work, which are a question's control; as a piece of evidence. Raises CannotTell."""
        for action in actions:
            for last in (False, False, True):
                reply = probe.try_action(session, action, self.region)
                if reply.end is End.WORKED:
                    break
                if last:
                    raise CannotTell(f"the control, {action}, did not work either: {said(reply)}")
                time.sleep(1)
        return f"{' and '.join(actions)} worked"

    def is_denied(self, session: MintedSession, action: str) -> Reply | None:
        """AWS's refusal of this call, None where it worked. Raises CannotTell where it was neither."""
        reply = probe.try_action(session, action, self.region)
        if reply.end is End.WORKED:
            return None
        if is_denial(reply):
            return reply
        raise CannotTell(f"AWS answered {action} otherwise: {said(reply)}")

    def calls(self, session: MintedSession, *actions: str) -> dict[str, Callable[[], Reply]]:
        """Each of these to be made again and again, over one connection. Raises AwsError."""
        return {action: self.call(session, HARMLESS[action]) for action in actions}

    def call(self, session: MintedSession, harmless: Harmless) -> Callable[[], Reply]:
        client = sts.attempt(lambda: sts.client_of(session, harmless.service, self.region))
        return lambda: probe.reply(client, harmless)

    def now(self) -> datetime:
        """AWS's time, rather too late than too early. Raises AwsError."""
        reading = sts.read_clock(self.region, lambda: datetime.now(UTC))
        return datetime.now(UTC) + timedelta(seconds=reading.high)


def is_denial(reply: Reply) -> bool:
    return reply.end in (End.DENIED, End.DENIED_BY_ROLE, End.DENIED_BY_SESSION)


def is_refusal_of_scoping(error: AwsError) -> bool:
    return isinstance(error, Refused) and error.code.removesuffix("Exception") == "AccessDenied"


def said(refusal: Reply | AwsError) -> str:
    """AWS's code and words, as they may be shown."""
    words = refusal.words if isinstance(refusal, Reply) else refusal.message
    return f"{refusal.code} “{words}”"


def second(moment: datetime) -> str:
    """As policies have it, and as the record shows it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _document(statements: Sequence[Statement]) -> str:
    return narrowing.compact({"Version": "2012-10-17", "Statement": list(statements)})
