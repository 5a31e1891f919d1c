"""Everything open of a person, on a role, in an account, or all there is: looked at, and ended at once."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from django.db import OperationalError, transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from psycopg.errors import DeadlockDetected

from requests_app.domain import audit, clock, jobs, notices
from requests_app.domain.audit import Action
from requests_app.domain.errors import Conflict, Invalid, NotAllowed
from requests_app.domain.models import AccessRequest, Account, AuditEvent, Freeze, IssuedSession, Role, User
from requests_app.domain.models.requests import AccessRequestQuerySet
from requests_app.domain.transitions import State
from requests_app.domain.workflow import freezes, idempotency, live_sessions, people, revocations, sweeps
from requests_app.domain.workflow.freezes import Everything
from requests_app.domain.workflow.verb import recorded

Scope = User | Role | Account | Everything

# Passes that end in one transaction; more are ended in several, each durable.
BATCH = 2000
# Whoever pressed the button waits no longer than that; what is left by then is said, and ended by pressing again.
LONGEST_SECONDS = 25.0
MOST_COUNTED = 100_000
# Pressing again within that time, for what was open when it was first pressed, goes on with the same act.
SAME_ACT = timedelta(minutes=10)
# No session of a role lives longer, by AWS's rules.
LONGEST_SESSION = timedelta(hours=12)
MOST_NAMED = 10

log = structlog.get_logger(__name__)
Row = TypeVar("Row", User, Role)


@dataclass(frozen=True, slots=True)
class Preview:
    """What `end_all` would end now. Numbers go up to `MOST_COUNTED`."""

    passes: int
    people: int
    roles: int
    accounts: int
    # Passes for which AWS has issued something that may still work.
    in_use: int
    # Requests that wait for a decision. They are no passes and are not ended.
    pending: int
    most_of_people: list[tuple[User, int]]
    most_of_roles: list[tuple[Role, int]]
    first: list[AccessRequest]


@dataclass(frozen=True, slots=True)
class Ended:
    passes: int
    # Roles whose deny policy AWS is now given.
    roles: int
    # It took too long for all of them: press again.
    left: bool


def preview(scope: Scope) -> Preview:
    """What is open within `scope`, in a fixed number of queries."""
    now = clock.now()
    open_ = _standing(_within(scope), now)
    counted = AccessRequest.objects.filter(pk__in=open_.values("pk")[:MOST_COUNTED])
    numbers = counted.aggregate(
        passes=Count("pk"),
        people=Count("beneficiary", distinct=True),
        roles=Count("role", distinct=True),
        accounts=Count("role__account", distinct=True),
    )
    live = IssuedSession.objects.filter(access_request=OuterRef("pk"), discarded=False, sts_expires_at__gt=now)
    in_use = Q(Exists(live))
    if (restored_at := live_sessions.last_restored_at()) and now < restored_at + LONGEST_SESSION:
        in_use |= Q(asked_at__lt=restored_at)  # nobody knows what was issued for these in the time that was lost
    waiting = _within(scope).filter(state=State.PENDING, decide_by__gt=now)
    return Preview(
        **numbers,
        in_use=counted.filter(in_use).count(),
        pending=waiting.values("pk")[:MOST_COUNTED].count(),
        most_of_people=_most(counted, "beneficiary", User.objects.all()),
        most_of_roles=_most(counted, "role", Role.objects.select_related("account")),
        first=list(open_.with_names().order_by("pk")[:MOST_NAMED]),
    )


@recorded(Action.EVERYTHING_ENDED)
def end_all(scope: Scope, *, by: User, reason: str, typed: str, keep_out: bool = True, key: str = "") -> Ended:
    """Revoke every pass of a person, on a role, in an account, or all, an operator's own among them.

    With `keep_out` the person is blocked, or the rest frozen, before: nothing new comes through meanwhile. `typed`
    must be `word(scope)`. Each batch is durable; what is ended stays so, whatever becomes of the rest.
    Pressed again soon with the same one-time `key` it ends what is left, and is recorded and told of once. What became
    a pass since then, or a later press, makes it another act.
    Raises NotAllowed for anyone but an operator, Invalid for what was typed.
    """
    freezes.require_operator(by)
    reason = freezes.plain_reason(reason)
    check_typed(scope, typed)
    if keep_out:
        _keep_out(scope, by, reason)
    _record_the_act(scope, by, reason, keep_out=keep_out, key=key)
    return _end(_within(scope), by, reason)


@recorded(Action.REQUEST_REVOKED)
def end_found(freeze: Freeze, ids: Collection[int], *, by: User, reason: str) -> Ended:
    """Revoke those of these passes, found in a restored database, about which nobody has said anything yet."""
    freezes.require_operator(by)
    found = freezes.unconfirmed(freeze).filter(pk__in=ids).values_list("pk", flat=True)
    return _end(AccessRequest.objects.filter(pk__in=list(found)), by, freezes.plain_reason(reason))


def word(scope: Scope) -> str:
    """What must be typed to end all of it: by then one has read whose it is."""
    match scope:
        case User():
            return scope.username
        case Role() | Account():
            return scope.name
        case Everything():
            return "everything"


def check_typed(scope: Scope, typed: str) -> None:
    """Raises Invalid where it is not `word(scope)`; a phone begins with a capital letter of its own."""
    if typed.strip().casefold() != word(scope).casefold():
        raise Invalid({"typed": [f"Type “{word(scope)}”. Nothing was done."]}, rule="stop.typed")


def _within(scope: Scope) -> AccessRequestQuerySet:
    match scope:
        case User():
            return AccessRequest.objects.filter(beneficiary=scope)
        case Role():
            return AccessRequest.objects.filter(role=scope)
        case Account():
            return AccessRequest.objects.filter(role__in=Role.objects.filter(account=scope))
        case Everything():
            return AccessRequest.objects.all()


def _standing(among: AccessRequestQuerySet, now: datetime) -> AccessRequestQuerySet:
    """Passes by the clock: what is over and not yet recorded as such is a sweep's."""
    return among.filter(Q(state=State.APPROVED, start_by__gt=now) | Q(state=State.ACTIVE, expires_at__gt=now))


def _most(counted: AccessRequestQuerySet, by: str, rows: "QuerySet[Row]") -> list[tuple[Row, int]]:
    numbers = dict(counted.values_list(by).annotate(number=Count("pk")).order_by("-number", by)[:MOST_NAMED])
    found = rows.in_bulk(numbers)
    return [(found[key], number) for key, number in numbers.items()]


def _keep_out(scope: Scope, by: User, reason: str) -> None:
    if isinstance(scope, User):
        if scope.pk == by.pk:
            raise NotAllowed("Nobody blocks themselves. Another operator can.", rule="stop.yourself")
        people.deactivate(scope, by=by)
    elif not freezes.is_frozen(scope):
        try:
            freezes.freeze(scope, by=by, reason=reason)
        except Conflict as refusal:
            if refusal.rule != "freeze.already":
                raise


def _record_the_act(scope: Scope, by: User, reason: str, *, keep_out: bool, key: str) -> None:
    """Before it is done, in a transaction of its own: if we die halfway, the record says what was begun."""
    contents = (Action.EVERYTHING_ENDED, _KINDS[type(scope)], getattr(scope, "pk", None), reason, int(keep_out))
    with transaction.atomic(durable=True):
        try:
            earlier = idempotency.result_of(key, by=by, contents=contents)
        except idempotency.OtherContents as other:
            earlier = other.result  # another act, and ending is not refused for the form it came with
        else:
            if earlier and _goes_on(AuditEvent.objects.get(pk=earlier), scope):
                return
        now = clock.now()
        passes = _standing(_within(scope), now).count()
        event = audit.record(
            Action.EVERYTHING_ENDED,
            by=by,
            at=now,
            beneficiary=scope if isinstance(scope, User) else None,
            subject=str(scope),
            scope=_KINDS[type(scope)],
            id=getattr(scope, "pk", None),
            passes=passes,
            reason=reason,
            keep_out=keep_out,
        )
        if not earlier:
            idempotency.keep(key, by=by, contents=contents, result=str(event))
        watching = notices.who_answer_for_daypass()
        notices.tell(notices.Kind.STOPPED, at=now, to=watching, moment=now, event=event)


def _goes_on(act: AuditEvent, scope: Scope) -> bool:
    """Whether ending what is open now is still that act, and nothing that its record and its mail did not speak of."""
    now = clock.now()
    return now - act.at <= SAME_ACT and not _standing(_within(scope), now).filter(approved_at__gt=act.at).exists()


_KINDS: dict[type, str] = {User: "person", Role: "role", Account: "account", Everything: "everything"}


def _end(among: AccessRequestQuerySet, by: User, reason: str) -> Ended:
    until = time.monotonic() + LONGEST_SECONDS
    passes, roles = 0, set[int]()
    while (batch := _end_batch(among, by, reason)) is not None:
        passes += batch[0]
        roles |= batch[1]
        if time.monotonic() > until:
            break
    # Only now, and once for each: the worker puts a role's complete document.
    jobs.nudge_each("revoke.work", sorted(roles))
    return Ended(passes, len(roles), left=batch is not None and _standing(among, clock.now()).exists())


def _end_batch(among: AccessRequestQuerySet, by: User, reason: str) -> tuple[int, set[int]] | None:
    """The next passes, in one transaction: how many, and the roles where AWS is to refuse them; None if none is left.

    Ending always works, so whoever loses a deadlock tries again.
    """
    for _ in range(3):
        try:
            return _end_some(among, by, reason)
        except OperationalError as error:
            if not isinstance(error.__cause__, DeadlockDetected):
                raise
            log.warning("stop.deadlock")
    return _end_some(among, by, reason)


def _end_some(among: AccessRequestQuerySet, by: User, reason: str) -> tuple[int, set[int]] | None:
    with transaction.atomic(durable=True):
        # All requests first, in the order of their keys, and their roles' policies after: as every verb does.
        rows = _standing(among, clock.now()).select_for_update(no_key=True).order_by("pk")
        found = list(rows.values_list("pk", flat=True)[:BATCH])
        if not found:
            return None
        now = clock.now()
        # While we waited, time may have run out for some.
        ended = _standing(AccessRequest.objects.filter(pk__in=found), now).values_list("pk", flat=True)
        ids = list(ended)
        AccessRequest.objects.filter(pk__in=ids).update(
            state=State.REVOKED, ended_at=now, ended_by=by, end_reason=reason
        )
        sweeps.end_extensions(ids, now)
        audit.record_many(Action.REQUEST_REVOKED, ids, at=now, by=by, reason=reason)
        roles = revocations.want_many(ids, now)
        notices.announce_many(notices.Kind.ENDED, ids, at=now)
        return len(ids), roles
