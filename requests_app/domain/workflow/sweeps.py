"""What the clock decides. Set-based, bounded, and harmless to run twice or at once.

Each looks `among` all requests, or among those it is given: so whoever runs it can go round one that cannot be moved.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from requests_app.domain import audit, clock, facts, notices, policy
from requests_app.domain.models import AccessRequest, Extension, Freeze, Notice, Role, User
from requests_app.domain.transitions import ExtensionState, State
from requests_app.domain.workflow import approval

# What is moved by statements alone, whose rows never leave the database, and what Python looks at one by one.
BATCH = 10_000
SMALL_BATCH = 1000
# A word before the end, in time to extend or to finish.
ENDING_SOON = timedelta(minutes=15)


def expire_due(limit: int = BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Active requests whose time is up become expired; returns how many."""
    return _expire(_these(among), limit)


def lapse_due(limit: int = BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Pending ones that nobody decided, and approved ones that nobody started, lapse; returns how many."""
    return _lapse(_these(among), limit)


def lapse_extensions(limit: int = SMALL_BATCH) -> int:
    """Extensions that nobody decided in time; returns how many."""
    with transaction.atomic():
        now = clock.now()
        due = Extension.objects.filter(state=ExtensionState.PENDING, decide_by__lte=now)
        found = due.order_by("decide_by").values_list("access_request", flat=True)[:limit]
        # The request first, as every verb does.
        held = AccessRequest.objects.filter(pk__in=list(found)).order_by("pk")
        ids = list(held.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True))
        return end_extensions(ids, now, due=due)


def lapse_hopeless(limit: int = SMALL_BATCH) -> int:
    """Pending requests that can never be approved any more: the role is out of use, or the person deactivated."""
    hopeless = AccessRequest.objects.filter(state=State.PENDING).filter(
        Q(role__is_active=False)
        | Q(role__account__is_active=False)
        | Q(beneficiary__deactivated_at__isnull=False)
        | Q(requester__deactivated_at__isnull=False)
    )
    with transaction.atomic():
        found = _take(hopeless, "decide_by", limit)
        now = clock.now()
        AccessRequest.objects.filter(pk__in=found).update(state=State.LAPSED, ended_at=now, end_reason=HOPELESS)
        _tell(found, audit.Action.REQUEST_LAPSED, now)
    return len(found)


def escalate_due(limit: int = SMALL_BATCH) -> int:
    """Ask further approvers where a stage has not agreed in its time; returns how many requests and extensions."""
    with transaction.atomic():
        now = clock.now()
        requests = AccessRequest.objects.filter(state=State.PENDING, escalate_at__lte=now)
        taken = _take(requests, "escalate_at", limit)
        found = AccessRequest.objects.select_related("beneficiary", "role__account__unit").filter(pk__in=taken)
        for one in found:
            _escalate(one, audit.Action.REQUEST_ESCALATED, now)
        extensions = Extension.objects.filter(state=ExtensionState.PENDING, escalate_at__lte=now)
        more = list(
            extensions.select_related("access_request__beneficiary", "access_request__role__account__unit")
            .select_for_update(skip_locked=True, of=("self",), no_key=True)
            .order_by("escalate_at")[:limit]
        )
        for extension in more:
            _escalate(extension, audit.Action.EXTENSION_ESCALATED, now)
    return len(taken) + len(more)


def tell_stuck(limit: int = 200) -> int:
    """Say once, to whoever asked and to the operators, that nobody can decide a stage any more; returns how many."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_STUCK, {"limit": limit})
        ids = [pk for (pk,) in cursor.fetchall()]
        now = clock.now()
        operators = list(User.objects.filter(is_superuser=True, deactivated_at=None).order_by("pk")[:50])
        for one in AccessRequest.objects.select_related("requester").filter(pk__in=ids):
            people = {person.pk: person for person in (one.requester, *operators)}
            notices.announce(notices.Kind.STUCK, [one], at=now, to=people.values(), occasion=f"stage {one.stage}")
    return len(ids)


HOPELESS = "The role was taken out of use, or the person deactivated."


def end_extensions(ids: Collection[int], now: datetime, *, due: QuerySet[Extension] | None = None) -> int:
    """Whatever was asked for of these held requests lapses; returns how many did."""
    pending = (Extension.objects if due is None else due).filter(
        state=ExtensionState.PENDING, access_request__in=list(ids)
    )
    found = dict(pending.values_list("pk", "access_request"))
    if found:
        Extension.objects.filter(pk__in=found).update(state=ExtensionState.LAPSED, finished_at=now)
        audit.record_many(audit.Action.EXTENSION_LAPSED, found.values(), at=now)
    return len(found)


def settle(ids: Collection[int]) -> None:
    """Perform what is due for these requests now, waiting for whoever is at them."""
    these = AccessRequest.objects.filter(pk__in=ids)
    _expire(these, len(ids), skip_locked=False)
    _lapse(these, len(ids), skip_locked=False)


def activate_due(limit: int = SMALL_BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Approved requests that start by themselves, at once or at their time, become active; returns how many."""
    these = _these(among)
    return _activate(these, _AT_ONCE, "start_by", limit) + _activate(these, _AT_TIME, "scheduled_at", limit)


_AT_ONCE = Q(start=AccessRequest.Start.AT_ONCE)
_AT_TIME = Q(start=AccessRequest.Start.AT_TIME)


def _activate(among: QuerySet[AccessRequest], which: Q, order: str, limit: int) -> int:
    due = among.filter(which, state=State.APPROVED)
    if which is _AT_TIME:
        due = due.filter(scheduled_at__lte=clock.now())
    # What is frozen starts when the freeze is lifted, if that is in time.
    for role, account in Freeze.objects.in_force().values_list("role", "account"):
        if role is None and account is None:
            return 0
        due = due.exclude(role=role) if role else due.exclude(role__in=Role.objects.filter(account=account))
    with transaction.atomic():
        taken = _take(due, order, limit)
        now = clock.now()
        waiting = AccessRequest.objects.select_related("beneficiary", "role__account__unit")
        found = [
            one
            for one in waiting.filter(pk__in=taken, start_by__gt=now)
            if policy.may_start(facts.of(one), one.terms, now=now)
        ]
        for one in found:
            one.activated_at, one.state = now, State.ACTIVE
            one.expires_at = policy.ends_at(now, int(one.duration.total_seconds()), one.terms)
        AccessRequest.objects.bulk_update(found, ["state", "activated_at", "expires_at"])
        ends = [{"expires_at": one.expires_at.isoformat()} for one in found if one.expires_at]
        audit.record_each(audit.Action.REQUEST_STARTED, found, ends, at=now)
    return len(found)


def announce_endings(limit: int = BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Tell people whose pass ends within 15 minutes, once; returns how many were told now."""
    with transaction.atomic():
        now = clock.now()
        ending = (
            _these(among)
            .filter(state=State.ACTIVE, expires_at__gt=now, expires_at__lte=now + ENDING_SOON)
            # A pass that was never longer needs no warning of its own start.
            .filter(approved_seconds__gt=ENDING_SOON.total_seconds())
            # Once for each end: it may have been extended since it was said.
            .exclude(
                Exists(
                    Notice.objects.filter(
                        access_request=OuterRef("pk"),
                        kind=notices.Kind.ENDING_SOON,
                        due_at__gt=OuterRef("expires_at") - ENDING_SOON,
                    )
                )
            )
        )
        found = _take(ending, "expires_at", limit)
        notices.announce_many(notices.Kind.ENDING_SOON, found, at=now)
    return len(found)


def _these(among: QuerySet[AccessRequest] | None) -> QuerySet[AccessRequest]:
    return AccessRequest.objects.all() if among is None else among


def _expire(among: QuerySet[AccessRequest], limit: int, *, skip_locked: bool = True) -> int:
    with transaction.atomic():
        now = clock.now()
        over = among.filter(state=State.ACTIVE, expires_at__lte=now)
        found = _take(over, "expires_at", limit, skip_locked=skip_locked)
        AccessRequest.objects.filter(pk__in=found).update(state=State.EXPIRED, ended_at=F("expires_at"))
        end_extensions(found, now)
        _tell(found, audit.Action.REQUEST_EXPIRED, now)
    return len(found)


def _lapse(among: QuerySet[AccessRequest], limit: int, *, skip_locked: bool = True) -> int:
    with transaction.atomic():
        now = clock.now()
        undecided = among.filter(state=State.PENDING, decide_by__lte=now)
        unstarted = among.filter(state=State.APPROVED, start_by__lte=now)
        found = _take(undecided, "decide_by", limit, skip_locked=skip_locked)
        found += _take(unstarted, "start_by", limit - len(found), skip_locked=skip_locked)
        AccessRequest.objects.filter(pk__in=found).update(state=State.LAPSED, ended_at=now)
        _tell(found, audit.Action.REQUEST_LAPSED, now)
    return len(found)


def _take(due: QuerySet[AccessRequest], by: str, limit: int, *, skip_locked: bool = True) -> list[int]:
    """Lock the rows longest due that nobody else is at; what is skipped here, another has or the next run finds.

    `by` is the time that the state's own index has: in its order, the index is read and nothing else.
    """
    rows = due.select_for_update(skip_locked=skip_locked, of=("self",), no_key=True).order_by(by)
    return list(rows.values_list("pk", flat=True)[:limit])


def _escalate(matter: AccessRequest | Extension, action: audit.Action, now: datetime) -> None:
    groups, users = matter.terms.stage(matter.stage).asked(escalated=True)
    matter.deciding_groups, matter.deciding_users, matter.escalate_at = sorted(groups), sorted(users), None
    matter.save(update_fields=["deciding_groups", "deciding_users", "escalate_at"])
    approval.ask_the_stage(matter, now, further=True)
    audit.record(action, approval.request_of(matter), by=None, at=now, stage=matter.stage)


# Fewer active people than have to agree yet are asked at the present stage, further ones included.
_STUCK = """
SELECT r.id
FROM requests_app_accessrequest r,
     LATERAL (SELECT r.terms_document->'stages'->(r.stage - 1) AS stage) s,
     LATERAL (SELECT count(DISTINCT u.id) AS can FROM requests_app_user u
              WHERE u.deactivated_at IS NULL AND u.id NOT IN (r.requester_id, r.beneficiary_id)
                AND NOT EXISTS (SELECT FROM requests_app_decision d
                                WHERE d.access_request_id = r.id AND d.extension_id IS NULL AND d.approver_id = u.id)
                AND u.id IN (
                    SELECT user_id FROM requests_app_membership m
                    WHERE s.stage->'groups' @> to_jsonb(m.group_id)
                       OR coalesce(s.stage->'more_groups', '[]') @> to_jsonb(m.group_id)
                    UNION
                    SELECT value::bigint
                    FROM jsonb_array_elements_text(s.stage->'users' || coalesce(s.stage->'more_users', '[]')))) able,
     LATERAL (SELECT count(*) AS agreed FROM requests_app_decision d
              WHERE d.access_request_id = r.id AND d.extension_id IS NULL AND d.stage = r.stage
                AND d.verdict = 'approve') decided
WHERE r.state = 'pending' AND r.stage > 0
  AND able.can < (s.stage->>'quorum')::int - decided.agreed
  AND NOT EXISTS (SELECT FROM requests_app_notice n
                  WHERE n.access_request_id = r.id AND n.kind = 'stuck'
                    AND n.key = concat_ws(':', 'stuck', r.id, r.requester_id, 'stage ' || r.stage))
ORDER BY r.decide_by
LIMIT %(limit)s
"""


def _tell(found: list[int], action: audit.Action, now: datetime) -> None:
    audit.record_many(action, found, at=now)
    notices.announce_many(notices.Kind.ENDED, found, at=now)
