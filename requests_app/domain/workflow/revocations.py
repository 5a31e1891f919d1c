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
from django.db import connection, transaction
from django.db.models import Max, QuerySet

from requests_app.domain import audit, clock, jobs, notices
from requests_app.domain.audit import Action
from requests_app.domain.models import (
    AccessRequest,
    Delivery,
    DenyPolicy,
    Installation,
    IssuedSession,
    Revocation,
    Role,
    User,
)
from requests_app.domain.transitions import DeliveryState, RevocationState, State

# Someone else may lift it: read back after these minutes, and then every 15 while an entry lives.
LOOK_AFTER = (1, 5, 15)
# IAM takes some seconds to tell everyone; then it is said that AWS has not confirmed.
PROBE_AFTER = (1, 2, 4, 8, 15, 30, 60)
# A role's document that is full is looked at again when entries may have gone.
FULL_AGAIN_AFTER = timedelta(minutes=5)
# So many failures in a row, some 35 s, are for an operator to know.
TELL_AFTER = 3
# A code at AWS that we do not know may be a row that a restored database lost.
UNKNOWN_KEPT = timedelta(hours=12)
# What AWS issued at the last moment, and clocks.
MARGIN = timedelta(minutes=2)

MAY_HAVE_A_SESSION = (DeliveryState.ASKED, DeliveryState.CLAIMED, DeliveryState.UNKNOWN, DeliveryState.UNAVAILABLE)
LIVE = (RevocationState.WANTED, RevocationState.WRITTEN, RevocationState.PROVED, RevocationState.UNPROVABLE)


@dataclass(frozen=True, slots=True)
class Wanted:
    code: str
    returned: bool


@dataclass(frozen=True, slots=True)
class Task:
    """What the revoking worker needs for one role: plain values. `rewrite` is False where a look is enough."""

    role_id: int
    role_arn: str
    revoker_role_arn: str
    region: str
    external_id: str
    installation: str
    generation: int
    expected: tuple[str | None, ...]
    wanted: tuple[Wanted, ...]
    rewrite: bool


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """What the minting worker needs to show that AWS refuses. `action` is empty until one is known to work."""

    role_id: int
    role_arn: str
    region: str
    external_id: str
    source_identity_allowed: bool
    installation: str
    generation: int
    action: str


def want(access_request: AccessRequest, now: datetime) -> Revocation | None:
    """Want the sessions of a request that has just been ended early to be denied; None if it never had any.

    Part of the verb that ends it, in its transaction. Never refused.
    """
    keep_until = _last_session_ends(access_request, now)
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
    ends = _last_sessions_end(requests, now)
    ended = [one for one in requests if one.pk in ends]
    Revocation.objects.bulk_create(
        Revocation(access_request=one, role_id=one.role_id, asked_at=now, keep_until=ends[one.pk]) for one in ended
    )
    roles = {one.role_id for one in ended}
    # In the order of their keys: whoever else writes several waits, and not in a ring.
    policies = [DenyPolicy(role_id=role_id, expected=[None], due_at=now) for role_id in sorted(roles)]
    DenyPolicy.objects.bulk_create(policies, update_conflicts=True, unique_fields=["role"], update_fields=["due_at"])
    details = [{"keep_until": ends[one.pk].isoformat()} for one in ended]
    audit.record_each(Action.REVOCATION_WANTED, ended, details, at=now)
    return roles


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
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_LOCK_CLASS, role_id])


def take_up(role_id: int) -> Task | None:
    """What to do at this role now; None if nothing is due. Call it under `only_one`."""
    with transaction.atomic(durable=True):
        policy = _lock(role_id)
        now = clock.now()
        if policy is None or policy.due_at is None or policy.due_at > now:
            return None
        _let_go(Revocation.objects.filter(role_id=role_id), now)
        wanted = _wanted(policy, now)
        return Task(
            role_id=role_id,
            role_arn=policy.role.arn,
            revoker_role_arn=_revoker(policy.role),
            region=_region(policy.role),
            external_id=policy.role.account.external_id,
            installation=Installation.objects.get().code,
            generation=policy.generation,
            expected=tuple(policy.expected),
            wanted=wanted,
            rewrite={one.code for one in wanted} != set(policy.denied) or policy.attempts > 0,
        )


def note_draft(task: Task, *, generation: int, document: str) -> None:
    """Before AWS is given a document: if this worker dies now, it is not taken for somebody else's."""
    with transaction.atomic(durable=True):
        policy = _lock(task.role_id)
        assert policy is not None  # noqa: S101 - rows of this table are never deleted
        policy.generation = max(policy.generation, generation)
        # The one last written stays first, however many drafts AWS has refused since.
        policy.expected = [policy.expected[0], *policy.expected[1:][-3:], document]
        policy.save(update_fields=["generation", "expected"])


def note_written(
    task: Task, *, generation: int, document: str, denied: Sequence[str], unknown: Sequence[str], left_out: bool
) -> None:
    """AWS took the document that denies these codes; `left_out` if the role had no room for all that is wanted."""
    with transaction.atomic(durable=True):
        policy = _lock(task.role_id)
        assert policy is not None  # noqa: S101
        now = clock.now()
        policy.generation, policy.expected, policy.denied = generation, [document], sorted(denied)
        policy.unknown = {code: policy.unknown.get(code, now.isoformat()) for code in unknown}
        policy.written_at = policy.looked_at = now
        policy.looks, policy.attempts, policy.probes = 0, 0, 0
        policy.aws_code = policy.aws_message = policy.advice = ""
        policy.probe_due_at = now
        _set_due(policy, now)
        if left_out:
            policy.due_at = now + FULL_AGAIN_AFTER  # what is left out now would be left out at once again
        policy.save()
        _move(
            Revocation.objects.filter(role_id=task.role_id, access_request__code__in=denied),
            RevocationState.WANTED,
            RevocationState.WRITTEN,
            Action.REVOCATION_WRITTEN,
            now,
            written_at=now,
        )
        jobs.nudge("aws.probe", task.role_id)


def note_look(task: Task) -> None:
    """Read back: it stands as written."""
    with transaction.atomic(durable=True):
        policy = _lock(task.role_id)
        assert policy is not None  # noqa: S101
        policy.looked_at, policy.looks, policy.attempts = clock.now(), policy.looks + 1, 0
        policy.aws_code = policy.aws_message = policy.advice = ""
        _set_due(policy, policy.looked_at)
        policy.save()


def note_lifted(task: Task, how: str) -> None:
    """Someone else changed or removed it at AWS: what was shown to be denied is only wanted again."""
    with transaction.atomic(durable=True):
        policy = _lock(task.role_id)
        assert policy is not None  # noqa: S101
        now = clock.now()
        policy.changed_outside_at = now
        policy.save(update_fields=["changed_outside_at"])
        for state in (RevocationState.WRITTEN, RevocationState.PROVED, RevocationState.UNPROVABLE):
            _move(
                Revocation.objects.filter(role_id=task.role_id),
                state,
                RevocationState.WANTED,
                Action.REVOCATION_LIFTED,
                now,
                detail={"how": how},
            )
        _tell_operators(notices.Kind.LIFTED, task.role_id, now)


def note_removed(task: Task, *, removed: bool, unknown: Sequence[str]) -> None:
    """Nothing is to be denied on this role any more, and our policy is gone; or it stays for codes we do not know."""
    with transaction.atomic(durable=True):
        policy = _lock(task.role_id)
        assert policy is not None  # noqa: S101
        now = clock.now()
        policy.looked_at, policy.attempts, policy.probe_due_at = now, 0, None
        policy.aws_code = policy.aws_message = policy.advice = ""
        if removed:
            policy.expected, policy.denied, policy.unknown = [None], [], {}
        else:
            policy.unknown = {code: policy.unknown.get(code, now.isoformat()) for code in unknown}
        # Meanwhile someone may have ended another pass on this role.
        live = Revocation.objects.filter(role_id=task.role_id, state__in=LIVE).exists()
        policy.due_at = now if live else None if removed else now + timedelta(minutes=15)
        policy.save()


def note_failure(task: Task, *, code: str, message: str, advice: str) -> None:
    """AWS did not take it: kept in its words, and tried again with growing gaps, 5 s to 5 min."""
    with transaction.atomic(durable=True):
        policy = _lock(task.role_id)
        assert policy is not None  # noqa: S101
        now = clock.now()
        policy.attempts += 1
        policy.aws_code, policy.aws_message, policy.advice = code[:100], message[:2000], advice[:1000]
        policy.due_at = now + timedelta(seconds=min(5 * 2 ** min(policy.attempts - 1, 6), 300))
        policy.save()
        if policy.attempts == TELL_AFTER:
            _tell_operators(notices.Kind.NOT_DENIED, task.role_id, now)


def take_up_probe(role_id: int) -> ProbeTask | None:
    """Claim the next probe of this role, by moving the one after it on; None if none is due."""
    with transaction.atomic(durable=True):
        policy = _lock(role_id)
        now = clock.now()
        if policy is None or policy.probe_due_at is None or policy.probe_due_at > now:
            return None
        gap = PROBE_AFTER[min(policy.probes, len(PROBE_AFTER) - 1)]
        policy.probes += 1
        policy.probe_due_at = now + timedelta(seconds=gap + 20)  # if this worker dies
        policy.save(update_fields=["probes", "probe_due_at"])
        return ProbeTask(
            role_id=role_id,
            role_arn=policy.role.arn,
            region=_region(policy.role),
            external_id=policy.role.account.external_id,
            source_identity_allowed=policy.role.account.allows_source_identity,
            installation=Installation.objects.get().code,
            generation=policy.generation,
            action=policy.probe_action,
        )


def note_proof(task: ProbeTask, outcome: str, *, action: str) -> None:
    """What the probe showed of this generation: `refused` is the proof, `unprovable` final, the rest is tried again."""
    with transaction.atomic(durable=True):
        policy = _lock(task.role_id)
        assert policy is not None  # noqa: S101
        now = clock.now()
        if policy.generation != task.generation:
            return  # another document stands there by now; it has a probe of its own
        policy.probe_action = action if outcome != "unprovable" else ""
        of_role = Revocation.objects.filter(role_id=task.role_id, access_request__code__in=policy.denied)
        match outcome:
            case "refused":
                policy.probe_due_at = None
                for state in (RevocationState.WRITTEN, RevocationState.UNPROVABLE):
                    _move(of_role, state, RevocationState.PROVED, Action.REVOCATION_PROVED, now, proved_at=now)
            case "unprovable":
                policy.probe_due_at = None
                _move(of_role, RevocationState.WRITTEN, RevocationState.UNPROVABLE, Action.REVOCATION_UNPROVABLE, now)
            case _:
                gap = PROBE_AFTER[min(policy.probes - 1, len(PROBE_AFTER) - 1)]
                policy.probe_due_at = now + timedelta(seconds=gap)
        policy.save(update_fields=["probe_action", "probe_due_at"])


def sweep(limit: int = 1000) -> int:
    """Let go of what is over, and nudge for each role where something is due; returns how many roles."""
    with transaction.atomic(durable=True):
        now = clock.now()
        over = Revocation.objects.filter(state__in=LIVE, keep_until__lte=now)
        roles = set(over.order_by("pk").values_list("role_id", flat=True)[:limit])
        DenyPolicy.objects.filter(role__in=roles).update(due_at=now)
    due = set(DenyPolicy.objects.filter(due_at__lte=now).order_by("due_at").values_list("role_id", flat=True)[:limit])
    probes = DenyPolicy.objects.filter(probe_due_at__lte=now).order_by("probe_due_at")
    with transaction.atomic():
        for role_id in due:
            jobs.nudge("revoke.work", role_id)
        for role_id in probes.values_list("role_id", flat=True)[:limit]:
            jobs.nudge("aws.probe", role_id)
    return len(due)


_LOCK_CLASS = 0x64656E79  # "deny"


def _lock(role_id: int) -> DenyPolicy | None:
    DenyPolicy.objects.select_for_update(no_key=True).filter(role_id=role_id).values_list("pk").first()
    return DenyPolicy.objects.select_related("role__account").filter(role_id=role_id).first()


def _last_session_ends(access_request: AccessRequest, now: datetime) -> datetime | None:
    """When the last session of the request, recorded or not, ends by STS's own clock; None if there is none left."""
    return _last_sessions_end([access_request], now).get(access_request.pk)


def _last_sessions_end(access_requests: Collection[AccessRequest], now: datetime) -> dict[int, datetime]:
    """The same for many at once: those that have a session left."""
    sessions = IssuedSession.objects.filter(access_request__in=access_requests)
    recorded = dict(sessions.values_list("access_request").annotate(Max("sts_expires_at")))
    # Of these nobody knows whether AWS has issued a session, or is about to.
    on_their_way = dict(
        Delivery.objects.filter(access_request__in=access_requests, state__in=MAY_HAVE_A_SESSION)
        .values_list("access_request")
        .annotate(Max("asked_at"))
    )
    found: dict[int, datetime] = {}
    for one in access_requests:
        ends = [recorded[one.pk]] if one.pk in recorded else []
        if one.pk in on_their_way:
            longest = timedelta(seconds=max(900, one.terms.session_ceiling_seconds))
            ends.append(on_their_way[one.pk] + longest)
        if ends and max(ends) > now:
            found[one.pk] = max(ends) + MARGIN
    return found


def _wanted(policy: DenyPolicy, now: datetime) -> tuple[Wanted, ...]:
    live = Revocation.objects.filter(role=policy.role, state__in=LIVE).order_by("asked_at")
    ours = [
        Wanted(code, returned=state == State.RETURNED)
        for code, state in live.values_list("access_request__code", "access_request__state")
    ]
    known = {one.code for one in ours}
    kept = [code for code, seen in policy.unknown.items() if now - datetime.fromisoformat(seen) < UNKNOWN_KEPT]
    return (*ours, *(Wanted(code, returned=False) for code in sorted(kept) if code not in known))


def _let_go(among: QuerySet[Revocation], now: datetime) -> None:
    for state in LIVE:
        _move(among.filter(keep_until__lte=now), state, RevocationState.OVER, Action.REVOCATION_OVER, now)


def _move(
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
    Revocation.objects.filter(pk__in=[one.pk for one in found]).update(state=after, **values)
    for one in found:
        audit.record(action, one.access_request, by=None, at=now, **(detail or {}))


def _tell_operators(kind: notices.Kind, role_id: int, now: datetime) -> None:
    operators = User.objects.filter(is_superuser=True, deactivated_at=None).order_by("pk")[:50]
    wanted = Revocation.objects.filter(role_id=role_id, state=RevocationState.WANTED)
    requests = AccessRequest.objects.filter(revocation__in=wanted).order_by("pk")[:20]
    notices.announce(kind, requests, at=now, to=operators, occasion=now.isoformat(timespec="minutes"))


def _set_due(policy: DenyPolicy, now: datetime) -> None:
    """The next look: sooner if more was wanted, or is over, meanwhile."""
    if {one.code for one in _wanted(policy, now)} != set(policy.denied):
        policy.due_at = now
        return
    minutes = LOOK_AFTER[min(policy.looks, len(LOOK_AFTER) - 1)]
    policy.due_at = now + timedelta(minutes=minutes)


def _revoker(role: Role) -> str:
    return f"arn:{role.account.partition}:iam::{role.account.number}:role/{settings.REVOKER_ROLE_NAME}"


def _region(role: Role) -> str:
    from requests_app.domain.workflow.deliveries import region

    return region(role.account.partition)
