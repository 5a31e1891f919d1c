"""Ending live sessions at AWS: what is wanted, what AWS has, and what was seen to be so.

The rows are the work. The revoking worker makes AWS hold each role's complete wanted state; the minting one
shows that AWS refuses. Neither decides anything: what is wanted follows from the requests that were ended.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import Exists, OuterRef, QuerySet

from requests_app.domain import audit, clock, jobs, notices
from requests_app.domain.audit import Action
from requests_app.domain.durations import at_in_words
from requests_app.domain.errors import TooMany
from requests_app.domain.models import (
    AccessRequest,
    DenyPolicy,
    Freeze,
    Installation,
    IssuedSession,
    Revocation,
    Role,
    User,
)
from requests_app.domain.partitions import region
from requests_app.domain.policy import LARGEST_OFFSET_SECONDS, MINT_TAKES_SECONDS
from requests_app.domain.prepared import Question
from requests_app.domain.texts import shortened
from requests_app.domain.transitions import RevocationState, State
from requests_app.domain.workflow import live_sessions

# Someone else may lift it: read back after these minutes, and then every 15 while an entry lives.
LOOK_AFTER = (1, 5, 15)
AT_ONCE = timedelta(seconds=30)
# A role's document that is full is looked at again when entries may have gone.
FULL_AGAIN_AFTER = timedelta(minutes=5)
# AWS's clock may be so far from ours.
OFFSET = timedelta(seconds=LARGEST_OFFSET_SECONDS)
# By AWS's clock, nothing is issued for a request later than this after its end.
LAST_ISSUED_AFTER = timedelta(seconds=MINT_TAKES_SECONDS) + OFFSET
# So far ahead lies the moment before which everything is refused: longer than it takes to tell AWS of it, and than
# calls take that are under way.
HELD_AHEAD = LAST_ISSUED_AFTER + timedelta(seconds=15)
# So many failures in a row, some 35 s, are for an operator to know.
TELL_AFTER = 3
# A role that is gone at AWS fails for months; its counters stop where their columns still have room.
MOST_COUNTED = 10_000
# A code at AWS that we do not know may be a row that a restored database lost.
UNKNOWN_KEPT = timedelta(hours=12)
# So many of them are named in a mail.
MOST_NAMED = 5
LIVE = (RevocationState.WANTED, RevocationState.WRITTEN, RevocationState.PROVED, RevocationState.UNPROVABLE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request whose sessions are to be denied; AWS issued all of them before `issued_before`, by its clock.

    `by_name_only`: among them are, or may be, scoped ones, of which nobody proved when AWS says that it issued them.
    """

    code: str
    returned: bool
    issued_before: datetime
    by_name_only: bool


@dataclass(frozen=True, slots=True)
class Task:
    """What the revoking worker needs for one role: plain values. `rewrite` is False where a look is enough.

    `since`: the moment before which everything was to be denied, when there was last no room to name everyone;
    `keep_since` while it must stay. `left_out` are those of `wanted` that had no room.
    `restored`: the database may have forgotten what AWS denies, so whatever stands there stays.
    """

    role_id: int
    role_arn: str
    revoker_role_arn: str
    region: str
    external_id: str
    installation: str
    generation: int
    expected: tuple[str | None, ...]
    wanted: tuple[Wanted, ...]
    since: datetime | None
    keep_since: bool
    left_out: frozenset[str]
    restored: bool
    rewrite: bool


def want(access_request: AccessRequest, now: datetime) -> Revocation | None:
    """Want the sessions of a request that has just been ended early to be denied; None if it never had any.

    Part of the verb that ends it, in its transaction. Never refused.
    """
    keep_until = live_sessions.last_sessions_end([access_request], now).get(access_request.pk)
    if keep_until is None:
        return None
    revocation = Revocation.objects.create(
        access_request=access_request, role=access_request.role, asked_at=now, keep_until=keep_until
    )
    DenyPolicy.objects.get_or_create(role=access_request.role, defaults={"expected": [None]})
    DenyPolicy.objects.filter(role=access_request.role).update(due_at=now)
    audit.record(Action.REVOCATION_WANTED, access_request, by=None, at=now, keep_until=keep_until.isoformat())
    jobs.nudge("revoke.work", access_request.role_id)
    return revocation


def want_many(ids: Collection[int], now: datetime) -> set[int]:
    """As `want`, for all requests with these ids in a handful of statements; returns their roles, for which the
    caller nudges once all is committed."""
    requests = list(AccessRequest.objects.filter(pk__in=ids).select_related("beneficiary").order_by("pk"))
    ends = live_sessions.last_sessions_end(requests, now)
    ended = [access_request for access_request in requests if access_request.pk in ends]
    Revocation.objects.bulk_create(
        Revocation(
            access_request=access_request,
            role_id=access_request.role_id,
            asked_at=now,
            keep_until=ends[access_request.pk],
        )
        for access_request in ended
    )
    roles = {access_request.role_id for access_request in ended}
    # In the order of their keys: whoever else writes several waits, and not in a ring.
    policies = [DenyPolicy(role_id=role_id, expected=[None], due_at=now) for role_id in sorted(roles)]
    DenyPolicy.objects.bulk_create(policies, update_conflicts=True, unique_fields=["role"], update_fields=["due_at"])
    details = [{"keep_until": ends[access_request.pk].isoformat()} for access_request in ended]
    audit.record_each(Action.REVOCATION_WANTED, ended, details, at=now)
    return roles


def check_returned(role: int, by: User, now: datetime) -> None:
    """Ending early is never refused, and takes room in the role's policy while a session could live.

    So whoever's passes were given back or revoked very often gets nothing new there until that is over: raises
    TooMany. Revoked ones count too, or two people who help each other could fill a role's policy.
    """
    most = settings.RETURNED_PER_PERSON_AND_ROLE
    ends = _RETURNED.all(role=role, by=by.pk, now=now, most=most)
    if len(ends) >= most:
        (until,) = ends[-1]
        raise TooMany(
            f"Of your passes of this role {most} ended early lately, and AWS still has to refuse what was issued for "
            "them. "
            f"There is nothing new for you on this role until {at_in_words(until, by.zone)}.",
            rule="limit.returned",
        )


_RETURNED = Question(
    "revocations.returned",
    f"""
SELECT v.keep_until
FROM requests_app_revocation v
    JOIN requests_app_accessrequest r ON r.id = v.access_request_id
WHERE v.role_id = %(role)s::bigint AND r.beneficiary_id = %(by)s::bigint
    AND v.state IN ({", ".join(f"'{state}'" for state in LIVE)}) AND v.keep_until > %(now)s::timestamptz
ORDER BY v.keep_until DESC
LIMIT %(most)s::bigint
""",  # noqa: S608 - texts of ours only
)


def look_after(role_id: int, now: datetime) -> None:
    """Our deny policy was seen on this role: have it looked at if nobody was going to.

    Such as where a restored database has forgotten the role's first early end, or somebody put an old one back.
    """
    role = Role.objects.get(pk=role_id)
    # IAM is asked by name: where a corrected entry stands for the role by now, that one is looked after.
    if not role.is_active:
        role = Role.objects.alike(role).filter(is_active=True).first() or role
    DenyPolicy.objects.get_or_create(role=role, defaults={"expected": [None]})
    DenyPolicy.objects.filter(role=role, due_at=None).update(due_at=now)


@contextmanager
def only_one(role_id: int) -> Iterator[bool]:
    """Whether this worker alone is at this role's policy. Held across the call to AWS, by a lock that dies with us."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [_LOCK_CLASS, role_id])
        (mine,) = cursor.fetchone()
    try:
        yield mine
    finally:
        if mine:
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_LOCK_CLASS, role_id])
            except DatabaseError:
                # Such as a time-out: the lock would stay as long as this connection does.
                connection.close()
                raise


def take_up(role_id: int) -> Task | None:
    """What to do at this role now; None if nothing is due. Call it under `only_one`."""
    with transaction.atomic(durable=True):
        policy = lock(role_id)
        now = clock.now()
        if policy is None or policy.due_at is None or policy.due_at > now:
            return None
        if not (restored := is_restored()):
            _let_go(Revocation.objects.filter(role_id=role_id), now)
        return _task(policy, now, restored=restored)


def is_restored() -> bool:
    """Whether operators have yet to look at a restored database: until then nothing is taken away at AWS."""
    return Freeze.objects.in_force().filter(cause=Freeze.Cause.RESTORED).exists()


def is_news(task: Task, *, generation: int | None, unknown: Collection[str]) -> bool:
    """Whether what stands at AWS was written by a Daypass that knew more than this database.

    A code that somebody else put there is none of these, as long as we know how its request ended.
    """
    known = Revocation.objects.filter(access_request__code__in=unknown).count()
    return (generation or 0) > task.generation or known < len(unknown)


def is_explained(task: Task) -> bool:
    """Whether operators have already been told of a restored database since this role was last looked at."""
    looked_at = DenyPolicy.objects.values_list("looked_at", flat=True).get(role=task.role_id)
    told = Freeze.objects.filter(cause=Freeze.Cause.RESTORED)
    return (told.filter(begun_at__gt=looked_at) if looked_at else told).exists()


def keep(task: Task, *, codes: Collection[str], since: datetime | None, generation: int | None) -> Task:
    """What to do instead, so that everything which AWS denies by now stays so: these codes, and what is before `since`.

    Of a restored database: what it lost stands there.
    """
    with transaction.atomic(durable=True):
        policy = lock(task.role_id)
        assert policy is not None  # noqa: S101 - rows of this table are never deleted
        now = clock.now()
        policy.generation = max(policy.generation, generation or 0)
        _note_unknown(policy, set(codes) - {wanted.code for wanted in task.wanted}, now)
        if since is not None:
            policy.denied_before = max(since, policy.denied_before or since)
        policy.save(update_fields=["generation", "unknown", "denied_before"])
        return _task(policy, now, restored=is_restored())


def deny_before(task: Task, *, unknown: Collection[str]) -> Task:
    """What to do where the role has no room to name everyone: deny all that AWS issued before a moment ahead.

    Until then, and as long as clocks may differ, nothing is minted on this role. Committed before AWS is told, so
    that no session is both new and denied. `unknown` are the codes found there that have no room either.
    """
    with transaction.atomic(durable=True):
        policy = lock(task.role_id)
        assert policy is not None  # noqa: S101
        now = clock.now()
        policy.denied_before = (now + HELD_AHEAD).replace(microsecond=0)
        policy.held_until = policy.denied_before + OFFSET
        _note_unknown(policy, unknown, now)
        policy.save(update_fields=["denied_before", "held_until", "unknown"])
        _tell_of_denying_before(policy, len(task.wanted) + len(unknown), now)
        return _task(policy, now, restored=task.restored)


def note_draft(task: Task, *, generation: int, document: str, standing: str | None = None) -> None:
    """Before AWS is given a document: if this worker dies now, it is not taken for somebody else's.

    `standing` is the one of ours that it takes the place of, if there is one.
    """
    with transaction.atomic(durable=True):
        policy = lock(task.role_id)
        assert policy is not None  # noqa: S101 - rows of this table are never deleted
        policy.generation = max(policy.generation, generation)
        # However many drafts AWS has refused since: the one last written stays first, and one that AWS took, but
        # whose answer was lost, stays too.
        kept = [policy.expected[0], *([standing] if standing else []), *policy.expected[1:][-3:], document]
        policy.expected = list(dict.fromkeys(kept))
        policy.save(update_fields=["generation", "expected"])


def note_written(
    task: Task,
    *,
    generation: int,
    document: str,
    denied: Sequence[str],
    unknown: Sequence[str],
    left_out: Sequence[str],
    since: datetime | None = None,
) -> None:
    """AWS took the document that denies these codes, by name or by `since`; the role had no room for those left out."""
    with transaction.atomic(durable=True):
        policy = lock(task.role_id)
        assert policy is not None  # noqa: S101
        now = clock.now()
        policy.generation, policy.expected, policy.denied = generation, [document], sorted(denied)
        _leave_out(policy, left_out, now)
        _note_unknown(policy, unknown, now)
        policy.unknown = {code: seen for code, seen in policy.unknown.items() if code in {*denied, *left_out}}
        policy.denied_before = since
        policy.held_until = policy.held_until if since else None
        policy.written_at = policy.looked_at = now
        policy.refused_at = None
        policy.looks, policy.attempts, policy.probes = 0, 0, 0
        policy.aws_code = policy.aws_message = policy.advice = policy.probe_code = policy.probe_message = ""
        move(
            Revocation.objects.filter(role_id=task.role_id, access_request__code__in=denied),
            RevocationState.WANTED,
            RevocationState.WRITTEN,
            Action.REVOCATION_WRITTEN,
            now,
            written_at=now,
        )
        # The probe's own control session would be denied too.
        policy.probe_due_at = max(now, policy.held_until or now)
        _set_due(policy, now)
        policy.save()
        if policy.probe_due_at <= now:
            jobs.nudge("aws.probe", task.role_id)


def note_look(task: Task) -> None:
    """Read back: it stands as written."""
    with transaction.atomic(durable=True):
        policy = lock(task.role_id)
        assert policy is not None  # noqa: S101
        now = clock.now()
        # One that came at once, for sign-in sessions, is none of those on the schedule.
        counts = policy.looked_at is None or now - policy.looked_at >= AT_ONCE
        policy.looked_at, policy.looks, policy.attempts = now, policy.looks + counts, 0
        policy.aws_code = policy.aws_message = policy.advice = ""
        _set_due(policy, now)
        policy.save()


def note_lifted(task: Task, how: str) -> None:
    """Someone else changed or removed it at AWS: what was shown to be denied is only wanted again."""
    with transaction.atomic(durable=True):
        policy = lock(task.role_id)
        assert policy is not None  # noqa: S101
        now = clock.now()
        policy.changed_outside_at = now
        policy.refused_at, policy.signed_out = None, []
        policy.save(update_fields=["changed_outside_at", "refused_at", "signed_out"])
        for state in (RevocationState.WRITTEN, RevocationState.PROVED, RevocationState.UNPROVABLE):
            move(
                Revocation.objects.filter(role_id=task.role_id),
                state,
                RevocationState.WANTED,
                Action.REVOCATION_LIFTED,
                now,
                detail={"how": how},
            )
        watching = notices.who_answer_for_daypass()
        notices.tell(notices.Kind.LIFTED, at=now, to=watching, role=task.role_id, moment=notices.minute_of(now))


def note_removed(task: Task, *, removed: bool, unknown: Sequence[str]) -> None:
    """Nothing is to be denied on this role any more, and our policy is gone; or it stays for codes we do not know."""
    with transaction.atomic(durable=True):
        policy = lock(task.role_id)
        assert policy is not None  # noqa: S101
        now = clock.now()
        policy.looked_at, policy.attempts, policy.probe_due_at = now, 0, None
        policy.aws_code = policy.aws_message = policy.advice = ""
        if removed:
            policy.expected, policy.denied, policy.unknown, policy.left_out = [None], [], {}, []
            policy.denied_before = policy.held_until = policy.refused_at = None
            policy.probe_code = policy.probe_message = ""
            policy.signed_out, policy.sign_in_attempts = [], 0
            policy.sign_in_code = policy.sign_in_message = policy.sign_in_advice = ""
        else:
            # What nobody looked at for so long begins anew: it is put into a document of ours first, and goes with it.
            policy.unknown = {code: seen for code, seen in policy.unknown.items() if _is_kept(seen, now)}
            _note_unknown(policy, unknown, now)
        # Meanwhile someone may have ended another pass on this role.
        live = Revocation.objects.filter(role_id=task.role_id, state__in=LIVE).exists()
        policy.due_at = now if live else None if removed else now + timedelta(minutes=15)
        policy.save()


def note_failure(task: Task, *, code: str, message: str, advice: str) -> None:
    """AWS did not take it: kept in its words, and tried again with growing gaps, 5 s to a minute.

    No longer: each early end on the role is a try of its own, so that after seconds of trouble there were many, and
    all of them would wait for minutes when AWS has long been well.
    """
    with transaction.atomic(durable=True):
        policy = lock(task.role_id)
        assert policy is not None  # noqa: S101
        now = clock.now()
        policy.attempts = min(policy.attempts + 1, MOST_COUNTED)
        policy.aws_code, policy.aws_message, policy.advice = (
            code[:100],
            shortened(message, 2000),
            shortened(advice, 1000),
        )
        policy.due_at = now + timedelta(seconds=min(5 * 2 ** min(policy.attempts - 1, 6), 60))
        policy.save()
        if policy.attempts == TELL_AFTER:
            _tell_operators(task.role_id, now)


def sweep(limit: int = 1000) -> int:
    """Let go of what is over, and nudge for each role where something is due; returns how many roles."""
    is_over, is_due = _DUE.one(shift=clock.shift())
    if not is_over and not is_due:
        return 0
    with transaction.atomic(durable=True):
        now = clock.now()
        over = Revocation.objects.filter(state__in=LIVE, keep_until__lte=now).order_by("keep_until")
        roles = set() if is_restored() else set(over.values_list("role_id", flat=True)[:limit])
        # Whoever is at one of them sees it then; and in one order, or two sweeps would wait for each other.
        free = DenyPolicy.objects.select_for_update(skip_locked=True, no_key=True).order_by("pk").filter(role__in=roles)
        DenyPolicy.objects.filter(pk__in=list(free.values_list("pk", flat=True))).update(due_at=now)
    due = list(DenyPolicy.objects.filter(due_at__lte=now).order_by("due_at").values_list("role_id", flat=True)[:limit])
    probes = DenyPolicy.objects.filter(probe_due_at__lte=now).order_by("probe_due_at")
    with transaction.atomic():
        jobs.nudge_each("revoke.work", due)
        jobs.nudge_each("aws.probe", probes.values_list("role_id", flat=True)[:limit])
    return len(due)


# An entry that is over is let go of, and a policy that is due is looked at or proved.
_DUE = Question(
    "revocations.due",
    """
WITH this AS MATERIALIZED (
    SELECT clock_timestamp() + %(shift)s::interval AS moment
)
SELECT EXISTS (
    SELECT FROM requests_app_revocation r
    WHERE r.state <> 'over' AND r.keep_until <= (SELECT moment FROM this)
), EXISTS (
    SELECT FROM requests_app_denypolicy p WHERE p.due_at <= (SELECT moment FROM this)
) OR EXISTS (
    SELECT FROM requests_app_denypolicy p WHERE p.probe_due_at <= (SELECT moment FROM this)
)
""",
)


_LOCK_CLASS = 0x64656E79  # "deny"


def lock(role_id: int) -> DenyPolicy | None:
    DenyPolicy.objects.select_for_update(no_key=True).filter(role_id=role_id).values_list("pk").first()
    return DenyPolicy.objects.select_related("role__account").filter(role_id=role_id).first()


def _task(policy: DenyPolicy, now: datetime, *, restored: bool) -> Task:
    wanted = _wanted(policy, now, restored=restored)
    return Task(
        role_id=policy.role_id,
        role_arn=policy.role.arn,
        revoker_role_arn=revoker_of(policy.role),
        region=_region(policy.role),
        external_id=policy.role.account.external_id,
        installation=Installation.objects.get().code,
        generation=policy.generation,
        expected=tuple(policy.expected),
        wanted=wanted,
        since=policy.denied_before,
        # What AWS was told in a time that the database lost was perhaps for somebody whom it does not know.
        keep_since=restored or bool(policy.unknown),
        left_out=frozenset(policy.left_out),
        restored=restored,
        rewrite=not _is_settled(policy, wanted) or policy.attempts > 0,
    )


def _is_settled(policy: DenyPolicy, wanted: Collection[Wanted]) -> bool:
    """Whether AWS was told of all this, and of nothing else."""
    if {entry.code for entry in wanted} != {*policy.denied, *policy.left_out}:
        return False
    untold = Revocation.objects.filter(role=policy.role, state=RevocationState.WANTED)
    return not untold.exclude(access_request__code__in=policy.left_out).exists()


def _wanted(policy: DenyPolicy, now: datetime, *, restored: bool) -> tuple[Wanted, ...]:
    scoped = IssuedSession.objects.filter(
        access_request=OuterRef("access_request"), ends_by=IssuedSession.EndsBy.STS, discarded=False
    )
    live = Revocation.objects.filter(role=policy.role, state__in=LIVE).order_by("asked_at")
    # What was issued before it a restored database may have forgotten.
    restored_at = live_sessions.last_restored_at()
    wanted = {
        # Of a restored database nobody's entry makes way.
        code: Wanted(
            code,
            state == State.RETURNED and not restored,
            ended_at + LAST_ISSUED_AFTER,
            is_scoped or (restored_at is not None and asked_at < restored_at),
        )
        for code, state, ended_at, is_scoped, asked_at in live.values_list(
            "access_request__code", "access_request__state", "asked_at", Exists(scoped), "access_request__asked_at"
        )
    }
    for code, seen in sorted(policy.unknown.items()):
        if restored or _is_kept(seen, now):
            wanted.setdefault(code, Wanted(code, False, datetime.fromisoformat(seen) + LAST_ISSUED_AFTER, True))
    if restored and policy.written_at is not None:
        for code in policy.denied:
            wanted.setdefault(code, Wanted(code, False, policy.written_at + LAST_ISSUED_AFTER, True))
    return tuple(wanted.values())


def _is_kept(seen: str, now: datetime) -> bool:
    return now - datetime.fromisoformat(seen) < UNKNOWN_KEPT


def _note_unknown(policy: DenyPolicy, codes: Collection[str], now: datetime) -> None:
    """Operators are told once of each: somebody writes there who is not this Daypass, or knew more than it does."""
    new = sorted(set(codes) - set(policy.unknown))
    if not new:
        return
    policy.unknown = policy.unknown | dict.fromkeys(new, now.isoformat())
    notices.tell(
        notices.Kind.UNEXPLAINED,
        at=now,
        to=notices.who_answer_for_daypass(),
        role=policy.role_id,
        moment=now,
        detail={"codes": new[:MOST_NAMED], "number": len(new)},
    )


def _leave_out(policy: DenyPolicy, codes: Collection[str], now: datetime) -> None:
    """Say of each returned pass, once, that it made way: what AWS issued for it works until its own end."""
    new = set(codes) - set(policy.left_out)
    policy.left_out = sorted(codes)
    these = Revocation.objects.filter(role_id=policy.role_id, access_request__code__in=new)
    Revocation.objects.filter(pk__in=these.exclude(state=RevocationState.WANTED)).update(state=RevocationState.WANTED)
    found = [revocation.access_request for revocation in these.select_related("access_request__beneficiary")]
    audit.record_each(Action.REVOCATION_LEFT_OUT, found, [{} for _ in found], at=now)


def _tell_of_denying_before(policy: DenyPolicy, number: int, now: datetime) -> None:
    """A loud word to those who answer for Daypass, and one to each whose own sessions are refused by it."""
    assert policy.denied_before is not None  # noqa: S101
    assert policy.held_until is not None  # noqa: S101
    before, until = policy.denied_before, policy.held_until
    active = AccessRequest.objects.filter(role_id=policy.role_id, state=State.ACTIVE, expires_at__gt=now)
    others = list(active.select_related("beneficiary").order_by("pk"))
    event = audit.record(
        Action.ROLE_HELD, by=None, at=now, subject=policy.role.arn, ended=number, others=len(others),
        denied_before=before.isoformat(), held_until=until.isoformat(),
    )  # fmt: skip
    watching = notices.who_answer_for_daypass()
    notices.tell(notices.Kind.ROLE_HELD, at=now, to=watching, role=policy.role_id, moment=before, event=event)
    notices.announce(notices.Kind.HELD, others, at=now, moment=before)


def _let_go(among: QuerySet[Revocation], now: datetime) -> None:
    for state in LIVE:
        move(among.filter(keep_until__lte=now), state, RevocationState.OVER, Action.REVOCATION_OVER, now)


def move(
    among: QuerySet[Revocation],
    before: RevocationState,
    after: RevocationState,
    action: Action,
    now: datetime,
    *,
    detail: dict[str, Any] | None = None,
    **values: datetime,
) -> None:
    found = list(among.filter(state=before).select_related("access_request__beneficiary"))
    Revocation.objects.filter(pk__in=[revocation.pk for revocation in found]).update(state=after, **values)
    audit.record_each(
        action, [revocation.access_request for revocation in found], [detail or {} for _ in found], at=now
    )


def _tell_operators(role_id: int, now: datetime) -> None:
    operators = User.objects.operators().order_by("pk")[:50]
    wanted = Revocation.objects.filter(role_id=role_id, state=RevocationState.WANTED)
    requests = AccessRequest.objects.filter(revocation__in=wanted).order_by("pk")[:20]
    notices.announce(notices.Kind.NOT_DENIED, requests, at=now, to=operators, moment=notices.minute_of(now))


def _set_due(policy: DenyPolicy, now: datetime) -> None:
    """The next look: sooner if more was wanted, or is over, meanwhile; or if there may be room again."""
    wanted = _wanted(policy, now, restored=is_restored())
    if not _is_settled(policy, wanted):
        policy.due_at = now
        return
    minutes = LOOK_AFTER[min(policy.looks, len(LOOK_AFTER) - 1)]
    policy.due_at = now + timedelta(minutes=minutes)
    if policy.left_out or policy.denied_before:
        policy.due_at = min(policy.due_at, now + FULL_AGAIN_AFTER)


def revoker_of(role: Role) -> str:
    return f"arn:{role.account.partition}:iam::{role.account.number}:role/{settings.REVOKER_ROLE_NAME}"


def _region(role: Role) -> str:
    return region(role.account.partition)
