"""What the clock decides. Set-based, bounded, and harmless to run twice or at once.

Each looks `among` all requests, or among those it is given: so whoever runs it can go round one that cannot be moved.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, Unpack

from django.db import connection, transaction
from django.db.models import BigIntegerField, BooleanField, F, Func, OuterRef, Q, QuerySet, Value

from requests_app.domain import audit, clock, facts, notices, policy
from requests_app.domain.hours import Hours
from requests_app.domain.models import AccessRequest, Account, Extension, Freeze, Role, User
from requests_app.domain.models.requests import START_WITHIN, AccessRequestQuerySet
from requests_app.domain.notices import Kind
from requests_app.domain.transitions import ExtensionState, State
from requests_app.domain.workflow import candidates, stages

# What is moved by statements alone, whose rows never leave the database, and what Python looks at one by one.
BATCH = 10_000
SMALL_BATCH = 1000
# Where each row may be a mail to two hundred people.
MAILED_BATCH = 100
# A word before the end, in time to extend or to finish.
ENDING_SOON = timedelta(minutes=15)


def expire_due(limit: int = BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Active requests whose time is up become expired; returns how many."""
    return _expire(_these(among), limit)


def lapse_due(limit: int = BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Pending ones that nobody decided, and approved ones that nobody started, lapse; returns how many."""
    return _lapse(_these(among), limit)


def lapse_extensions(limit: int = SMALL_BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Extensions that nobody decided in time, or whose pass has ended; returns how many."""
    over = ~Q(access_request__state=State.ACTIVE)
    with transaction.atomic():
        due = _pending_extensions(among).filter(Q(decide_by__lte=clock.now()) | over).order_by("decide_by")
        ids = _lock_requests(due.values_list("access_request", flat=True)[:limit])
        # Only now, so that whoever granted it while we looked is seen.
        now = clock.now()
        late = Extension.objects.filter(Q(decide_by__lte=now) | over, access_request__in=ids)
        found = list(
            late.filter(state=ExtensionState.PENDING).select_related("access_request__beneficiary").order_by("pk")
        )
        end_extensions(ids, now, due=late)
        for extension in found:
            notices.announce(Kind.MORE_DECIDED, [extension.access_request], at=now, extension=extension.pk)
    return len(found)


def lapse_hopeless(limit: int = SMALL_BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Pending requests that can never be approved any more: the role is out of use, or someone deactivated."""
    pending = _these(among).filter(state=State.PENDING)
    # Sets, which are read once: joined, each pending one would bring its role, account and people.
    gone = User.objects.filter(deactivated_at__isnull=False).values("pk")
    hopeless = pending.filter(
        Q(role__in=Role.objects.filter(is_active=False).values("pk"))
        | Q(role__in=Role.objects.filter(account__in=Account.objects.filter(is_active=False)).values("pk"))
        | Q(beneficiary__in=gone)
        | Q(requester__in=gone)
    )
    with transaction.atomic():
        found = _take(hopeless, "decide_by", limit)
        now = clock.now()
        AccessRequest.objects.filter(pk__in=found).update(state=State.LAPSED, ended_at=now, end_reason=HOPELESS)
        _tell(found, audit.Action.REQUEST_LAPSED, now, reason=HOPELESS)
    return len(found)


def escalate_due(limit: int = MAILED_BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Ask further approvers where a stage has not agreed in its time; returns how many requests and extensions."""
    with transaction.atomic():
        now = clock.now()
        due = _these(among).filter(state=State.PENDING, escalate_at__lte=now, decide_by__gt=now)
        taken = _take(due, "escalate_at", limit)
        found = AccessRequest.objects.select_related("beneficiary", "requester", "role__account__unit")
        for access_request in found.filter(pk__in=taken, state=State.PENDING):
            _escalate(access_request, audit.Action.REQUEST_ESCALATED, now)
    return len(taken) + _escalate_extensions(limit, among)


def _escalate_extensions(limit: int, among: QuerySet[AccessRequest] | None) -> int:
    with transaction.atomic():
        now = clock.now()
        due = _pending_extensions(among).filter(escalate_at__lte=now, decide_by__gt=now).order_by("escalate_at")
        ids = _lock_requests(due.values_list("access_request", flat=True)[:limit])
        found = list(
            Extension.objects.filter(access_request__in=ids, state=ExtensionState.PENDING, escalate_at__lte=now)
            .select_related("access_request__beneficiary", "access_request__role__account__unit")
            .select_for_update(of=("self",), no_key=True)
        )
        for extension in found:
            _escalate(extension, audit.Action.EXTENSION_ESCALATED, now)
    return len(found)


def tell_stuck(limit: int = MAILED_BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Say once at each stage, to the asking side and the operators, that too few people are left to decide a request
    or an extension, at this stage or a later one; returns how many."""
    with transaction.atomic():
        now = clock.now()
        scarce = candidates.for_want_of_people(now)
        pending = _these(among).filter(pk__in=scarce, state=State.PENDING, stage__gt=0, decide_by__gt=now)
        pending = notices.not_told(
            pending,
            Kind.STUCK,
            access_request=OuterRef("pk"),
            recipient=OuterRef("requester"),
            extension=None,
            stage=OuterRef("stage"),
        )
        pending = _first(pending).filter(state=State.PENDING, stage__gt=0)
        stuck = pending.filter(_database_says("requests_app_lacks_people", F("pk"), _ITSELF, Value(now)))
        # Whoever is at one of them decides it or ends it.
        found = _take(stuck, "decide_by", limit)
        for access_request in AccessRequest.objects.select_related("requester", "beneficiary").filter(pk__in=found):
            _say_stuck(access_request, now, stage=access_request.stage)
    return len(found) + _tell_stuck_extensions(limit, among)


def _tell_stuck_extensions(limit: int, among: QuerySet[AccessRequest] | None) -> int:
    with transaction.atomic():
        now = clock.now()
        scarce = candidates.for_want_of_people_for_more(now)
        pending = _pending_extensions(among).filter(pk__in=scarce, stage__gt=0, decide_by__gt=now)
        pending = notices.not_told(
            pending,
            Kind.STUCK,
            access_request=OuterRef("access_request"),
            recipient=OuterRef("asked_by"),
            extension=OuterRef("pk"),
            stage=OuterRef("stage"),
        )
        pending = _first(pending)
        stuck = pending.filter(_database_says("requests_app_lacks_people", F("access_request"), F("pk"), Value(now)))
        rows = stuck.order_by("decide_by").select_related("access_request__requester", "access_request__beneficiary")
        found = list(rows[:limit])
        for extension in found:
            _say_stuck(extension.access_request, now, stage=extension.stage, extension=extension.pk)
    return len(found)


def tell_of_no_use(limit: int = MAILED_BATCH, *, among: QuerySet[AccessRequest] | None = None) -> int:
    """Say once in each state, to the asking side, that the beneficiary may not have it any more: so it cannot be
    approved, or started, or there are no new credentials. Returns how many."""
    with transaction.atomic():
        now = clock.now()
        open_ = _these(among).filter(pk__in=candidates.of_no_use(now)).open_at(now)
        open_ = notices.not_told(
            open_,
            Kind.NO_USE,
            access_request=OuterRef("pk"),
            recipient=OuterRef("requester"),
            state=OuterRef("state"),
        )
        # Of what is frozen a page says that first; once it is lifted, this is said.
        open_ = _not_frozen(open_.filter(beneficiary__deactivated_at=None))
        # What can never be approved ends by itself, and that is said.
        hopeless = Q(state=State.PENDING) & (Q(role__is_active=False) | Q(role__account__is_active=False))
        untold = _first(open_.exclude(hopeless))
        found = list(untold.of_no_use().select_related("requester", "beneficiary").order_by("asked_at")[:limit])
        for access_request in found:
            side = {person.pk: person for person in (access_request.requester, access_request.beneficiary)}
            notices.announce(Kind.NO_USE, [access_request], at=now, to=side.values(), state=access_request.state)
    return len(found)


HOPELESS = "The role or its account was taken out of use, or someone whom it concerns was deactivated."


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
    at_once = _could_begin(_these(among).filter(start=AccessRequest.Start.AT_ONCE, state=State.APPROVED), clock.now())
    at_time = _these(among).filter(start=AccessRequest.Start.AT_TIME, scheduled_at__lte=clock.now())
    return _activate(at_once, "start_by", limit) + _activate(at_time, "scheduled_at", limit)


def _could_begin(at_once: AccessRequestQuerySet, now: datetime) -> AccessRequestQuerySet:
    """Without those that wait for their hours to open for the first time: `start_by` is so long after that.

    By each length that there is, and there are few: each is one range of the index.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LENGTHS, {"most_lengths": MOST_LENGTHS})
        lengths = [seconds for (seconds,) in cursor.fetchall()]
    if len(lengths) == MOST_LENGTHS:
        return at_once
    begun = [Q(within=seconds, start_by__lte=now + timedelta(seconds=seconds)) for seconds in lengths]
    return at_once.alias(within=START_WITHIN).filter(Q(*begun, _connector=Q.OR)) if begun else at_once.none()


MOST_LENGTHS = 50
# The next longer one each time: the index is looked into once for each, and not gone through.
LENGTHS = """
every_length AS (
    (SELECT (terms_document->>'start_within_seconds')::integer AS seconds FROM requests_app_accessrequest
     WHERE state = 'approved' AND start = 'at_once'
     ORDER BY (terms_document->>'start_within_seconds')::integer LIMIT 1)
    UNION ALL
    SELECT (SELECT (terms_document->>'start_within_seconds')::integer FROM requests_app_accessrequest
            WHERE state = 'approved' AND start = 'at_once'
              AND (terms_document->>'start_within_seconds')::integer > every_length.seconds
            ORDER BY (terms_document->>'start_within_seconds')::integer LIMIT 1)
    FROM every_length WHERE every_length.seconds IS NOT NULL
), lengths AS MATERIALIZED (
    SELECT seconds FROM every_length WHERE seconds IS NOT NULL LIMIT %(most_lengths)s::int
)
"""
_LENGTHS = f"WITH RECURSIVE {LENGTHS} SELECT seconds FROM lengths"  # noqa: S608 - texts of ours only


def _not_frozen(among: AccessRequestQuerySet) -> AccessRequestQuerySet:
    for freeze in Freeze.objects.in_force().select_related("role"):
        if freeze.role:
            among = among.exclude(role__in=Role.objects.alike(freeze.role))
        elif freeze.account_id:
            among = among.exclude(role__in=Role.objects.filter(account=freeze.account_id))
        else:
            return among.none()
    return among


def _activate(among: AccessRequestQuerySet, order: str, limit: int) -> int:
    # What is frozen starts when the freeze is lifted, if that is in time.
    due = _not_frozen(among.filter(state=State.APPROVED))
    # Those that wait for their hours would else stand before those that could start. Older terms know none.
    knows_hours = Q(terms_document__has_key="hours")
    waiting_for = due.filter(knows_hours).exclude(terms_document__hours=None)
    hours = waiting_for.order_by().values_list("terms_document__hours", flat=True).distinct()
    now = clock.now()
    closed = [document for document in hours if not policy.leaves_time(Hours.from_document(document), now)]
    if closed:
        due = due.exclude(knows_hours, terms_document__hours__in=closed)
    # Nor does what the person may not have any more: it lapses, or starts if that is mended in time.
    due = due.of_use()
    with transaction.atomic():
        taken = _take(due, order, limit)
        if not taken:
            return 0
        now = clock.now()
        waiting = AccessRequest.objects.select_related("beneficiary", "role__account__unit")
        found = [
            access_request
            for access_request in waiting.filter(pk__in=taken, start_by__gt=now)
            if policy.may_start(facts.of(access_request), access_request.terms, now=now)
        ]
        for access_request in found:
            access_request.activated_at, access_request.state = now, State.ACTIVE
            access_request.expires_at = policy.ends_at(
                now, int(access_request.duration.total_seconds()), access_request.terms
            )
        AccessRequest.objects.bulk_update(found, ["state", "activated_at", "expires_at"])
        ends = [
            {"expires_at": access_request.expires_at.isoformat()}
            for access_request in found
            if access_request.expires_at
        ]
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
            .filter(expires_at__gt=F("activated_at") + ENDING_SOON)
        )
        # Once for each end: it may have been extended since it was said.
        ending = notices.not_told(
            ending,
            Kind.ENDING_SOON,
            access_request=OuterRef("pk"),
            recipient=OuterRef("beneficiary"),
            moment=OuterRef("expires_at"),
        )
        found = _take(ending, "expires_at", limit)
        notices.announce_many(Kind.ENDING_SOON, found, at=now)
    return len(found)


# A request, and no extension of it.
_ITSELF = Value(None, BigIntegerField())


def _database_says(function: str, *of: Any) -> Func:
    return Func(*of, function=function, output_field=BooleanField())


def _first(rows: Any) -> Any:
    """These rows, found before anything else is asked of them: in one statement, the database may ask the expensive
    question of those too that were told long ago. None at all where there are none."""
    keys = list(rows.order_by().values_list("pk", flat=True))
    return rows.model.objects.filter(pk__in=keys) if keys else rows.model.objects.none()


def _say_stuck(access_request: AccessRequest, now: datetime, **about: Unpack[notices.About]) -> None:
    operators = User.objects.operators().order_by("pk")[:50]
    people = {person.pk: person for person in (access_request.requester, access_request.beneficiary, *operators)}
    notices.announce(Kind.STUCK, [access_request], at=now, to=people.values(), **about)


def _these(among: QuerySet[AccessRequest] | None) -> Any:  # with the questions of `AccessRequestQuerySet`
    return AccessRequest.objects.all() if among is None else among


def _pending_extensions(among: QuerySet[AccessRequest] | None) -> QuerySet[Extension]:
    pending = Extension.objects.filter(state=ExtensionState.PENDING)
    return pending if among is None else pending.filter(access_request__in=among)


def _lock_requests(ids: Iterable[int]) -> list[int]:
    """Lock the requests of extensions that nobody else is at: the request first, as every verb does."""
    rows = AccessRequest.objects.filter(pk__in=list(ids)).order_by("pk")
    return list(rows.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True))


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
    stages.ask(matter, now)
    audit.record(action, matter.access_request, by=None, at=now, stage=matter.stage)


def _tell(found: list[int], action: audit.Action, now: datetime, **detail: Any) -> None:
    audit.record_many(action, found, at=now, **detail)
    notices.announce_many(Kind.ENDED, found, at=now)
