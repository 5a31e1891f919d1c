"""Ending the sign-in sessions of passes that ended early, where their terms let them have some. The rows are those of
the revocations.

AWS says of which role a sign-in session is and when it began, not who began it. So one is ended only if each pass of
that role that could have begun it then was ended early itself; of what else could be theirs nobody can tell, and the
end is not provable.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max, Min, QuerySet

from requests_app.domain import audit, clock
from requests_app.domain.audit import Action
from requests_app.domain.liftable import Liftable
from requests_app.domain.models import AccessRequest, DenyPolicy, Installation, IssuedSession, Revocation, Role
from requests_app.domain.partitions import region
from requests_app.domain.texts import shortened
from requests_app.domain.transitions import RevocationState, State
from requests_app.domain.workflow import live_sessions
from requests_app.domain.workflow.revocations import LIVE, MOST_COUNTED, OFFSET, is_restored, lock, move, revoker_of

# What AWS does not answer is asked again after 5 s to a minute; after so many tries in a row, some three minutes, it is
# said that nobody can tell.
UNPROVABLE_AFTER = 6
_NOT_PROVED = (RevocationState.WANTED, RevocationState.WRITTEN, RevocationState.UNPROVABLE)


@dataclass(frozen=True, slots=True)
class Window:
    """When sessions that AWS issued for a pass could begin a sign-in session. `ended`: it was ended early."""

    code: str
    begins: datetime
    ends: datetime
    ended: bool


@dataclass(frozen=True, slots=True)
class SignInTask:
    """What the revoking worker needs to end the sign-in sessions of these passes of a role: plain values.

    `windows` are those of every pass of the role that could have begun one since `since`. Before `unknown_until` there
    may have been more, which a restored database lost.
    """

    role_id: int
    role_arn: str
    revoker_role_arn: str
    region: str
    external_id: str
    installation: str
    codes: frozenset[str]
    windows: tuple[Window, ...]
    since: datetime | None
    unknown_until: datetime | None
    taken_at: datetime

    def codes_of(self, begun_at: datetime) -> frozenset[str]:
        """Those of `codes` that could have begun a sign-in session then."""
        return frozenset(window.code for window in self._open(begun_at)) & self.codes

    def is_to_end(self, begun_at: datetime) -> bool:
        """Whether nobody but passes that were ended early could have begun it."""
        of_lost = self.unknown_until is not None and begun_at <= self.unknown_until + OFFSET
        return bool(self.codes_of(begun_at)) and not of_lost and all(it.ended for it in self._open(begun_at))

    def _open(self, begun_at: datetime) -> list[Window]:
        return [window for window in self.windows if window.begins - OFFSET <= begun_at <= window.ends + OFFSET]


def may_have_some(revocations: QuerySet[Revocation]) -> QuerySet[Revocation]:
    """Those of passes whose terms let them have sign-in sessions."""
    return revocations.filter(access_request__terms_document__lifted__contains=[Liftable.SIGN_IN_TOKENS])


def take_up(role_id: int) -> SignInTask | None:
    """Whose sign-in sessions to end on this role now; None if there are none, or if nobody can tell whose they are
    because a restored database was not looked at yet. Call it under `revocations.only_one`.

    Of passes whose end is proved none are left.
    """
    with transaction.atomic(durable=True):
        wanted = may_have_some(Revocation.objects.filter(role=role_id, state__in=_NOT_PROVED))
        codes = frozenset(wanted.values_list("access_request__code", flat=True))
        if not codes or is_restored():
            return None
        role = Role.objects.select_related("account").get(pk=role_id)
        windows = _windows(role, codes)
        return SignInTask(
            role_id=role_id,
            role_arn=role.arn,
            revoker_role_arn=revoker_of(role),
            region=region(role.account.partition),
            external_id=role.account.external_id,
            installation=Installation.objects.get().code,
            codes=codes,
            windows=windows,
            since=min((window.begins for window in windows if window.code in codes), default=None),
            unknown_until=live_sessions.last_restored_at(),
            taken_at=clock.now(),
        )


def record(task: SignInTask, ended: Sequence[tuple[str, datetime]]) -> None:
    """AWS has just ended these sign-in sessions, which began then: in the record of each pass that could have."""
    by_code = {code: [arn for arn, begun_at in ended if code in task.codes_of(begun_at)] for code in task.codes}
    with transaction.atomic(durable=True):
        concerned = [code for code, arns in by_code.items() if arns]
        requests = list(AccessRequest.objects.filter(code__in=concerned).select_related("beneficiary").order_by("pk"))
        details = [{"sign_in_sessions": by_code[access_request.code]} for access_request in requests]
        audit.record_each(Action.REVOCATION_SIGNED_OUT, requests, details, at=clock.now())


def note(task: SignInTask, *, doubtful: Collection[str], complete: bool) -> None:
    """AWS has no sign-in sessions of these passes any more; but of the `doubtful` codes there are some, which may be
    other people's. Not `complete`: there are more than were looked through.

    Proved is an end only if AWS was seen to refuse it before it was asked: else another could begin in between.
    """
    with transaction.atomic(durable=True):
        policy = lock(task.role_id)
        assert policy is not None  # noqa: S101 - rows of this table are never deleted
        now = clock.now()
        unknown = frozenset(doubtful) if complete else task.codes
        settled = task.codes - unknown
        live = Revocation.objects.filter(role=task.role_id, state__in=LIVE)
        still = set(live.values_list("access_request__code", flat=True))
        policy.signed_out = sorted(((set(policy.signed_out) - task.codes) | settled) & still)
        policy.sign_in_attempts, policy.sign_in_code, policy.sign_in_message = 0, "", ""
        policy.sign_in_advice = MANY if not complete else DOUBTFUL if doubtful else ""
        if policy.refused_at is not None and policy.refused_at > task.taken_at:
            policy.due_at = now  # it was not refused yet when AWS was asked
        elif policy.refused_at is not None:
            of_document = live.filter(access_request__code__in=settled & set(policy.denied))
            for state in (RevocationState.WRITTEN, RevocationState.UNPROVABLE):
                move(of_document, state, RevocationState.PROVED, Action.REVOCATION_PROVED, now, proved_at=now)
        policy.save(update_fields=["signed_out", "due_at", *_SAID])
        _cannot_be_shown(task, unknown, now, message=policy.sign_in_advice)


def note_failure(task: SignInTask, *, refused: bool, code: str, message: str, advice: str) -> None:
    """AWS did not list or end them: kept in its words. `refused`: it will again, until somebody changes something, and
    is asked again when the role's denies are looked at; else with growing gaps, 5 s to a minute.
    """
    with transaction.atomic(durable=True):
        policy = lock(task.role_id)
        assert policy is not None  # noqa: S101
        now = clock.now()
        policy.signed_out = sorted(set(policy.signed_out) - task.codes)
        policy.sign_in_code, policy.sign_in_message = code[:100], shortened(message, 2000)
        policy.sign_in_advice = shortened(advice, 1000)
        policy.sign_in_attempts = 0 if refused else min(policy.sign_in_attempts + 1, MOST_COUNTED)
        if not refused:
            again = now + timedelta(seconds=min(5 * 2 ** min(policy.sign_in_attempts - 1, 6), 60))
            policy.due_at = min(policy.due_at or again, again)
        policy.save(update_fields=["signed_out", "due_at", *_SAID])
        if refused or policy.sign_in_attempts >= UNPROVABLE_AFTER:
            _cannot_be_shown(task, task.codes, now, aws_code=code, aws_message=message)


def standing(policy: DenyPolicy, code: str) -> str:
    """How it is with the sign-in sessions of a pass that may have some: `ended`, `unknown` or still `asked` for."""
    if code in policy.signed_out:
        return "ended"
    return "unknown" if policy.sign_in_advice else "asked"


DOUBTFUL = (
    "AWS has sign-in sessions of this role that may be somebody else's: it says when each began, not who began it, and "
    "other passes of the role could have. They end by themselves 12 hours after they began."
)
MANY = (
    "The account has more sign-in sessions than Daypass looks through at once. Those of this role that were found are "
    "ended, others may go on."
)
_SAID = ("sign_in_attempts", "sign_in_code", "sign_in_message", "sign_in_advice")


def _windows(role: Role, codes: Collection[str]) -> tuple[Window, ...]:
    lifting = IssuedSession.objects.filter(
        access_request__role__in=Role.objects.alike(role),
        access_request__terms_document__lifted__contains=[Liftable.SIGN_IN_TOKENS],
        discarded=False,
    )
    (first,) = lifting.filter(access_request__code__in=codes).aggregate(Min("issued_at")).values()
    if first is None:
        return ()  # nobody was given anything
    found = (
        lifting.filter(cut_off__gte=first - OFFSET)
        .values_list("access_request__code", "access_request__state")
        .annotate(Min("issued_at"), Max("cut_off"))
        .order_by("access_request__code")
    )
    early = (State.RETURNED, State.REVOKED)
    return tuple(Window(code, begins, ends, state in early) for code, state, begins, ends in found)


def _cannot_be_shown(task: SignInTask, codes: Collection[str], now: datetime, **said: str) -> None:
    of_codes = Revocation.objects.filter(role=task.role_id, access_request__code__in=codes)
    unprovable, action = RevocationState.UNPROVABLE, Action.REVOCATION_UNPROVABLE
    move(of_codes, RevocationState.WRITTEN, unprovable, action, now, detail={"of": SIGN_INS, **said})


# In the record of what could not be shown, beside what is shown by a harmless call.
SIGN_INS = "sign-in sessions"
