"""A wish for credentials: asked by the web, claimed once by a worker, recorded, sealed, handed over once."""

import hmac
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils.crypto import salted_hmac

from requests_app.domain import audit, clock, facts, jobs, notices, partitions, policy, sealing, store, texts
from requests_app.domain.audit import Action
from requests_app.domain.errors import Conflict, Invalid, NotAllowed, TooMany, Unavailable
from requests_app.domain.models import AccessRequest, Delivery, IssuedSession, User
from requests_app.domain.prepared import Question
from requests_app.domain.terms import CONSOLE, KEYS, Terms
from requests_app.domain.transitions import DELIVERY, DeliveryState, State, may_follow
from requests_app.domain.workflow import revocations
from requests_app.domain.workflow.life import begin
from requests_app.domain.workflow.verb import Due, lock_row, looking_again, recorded, verb

# A wish is for now. An older one is not granted: the person has long pressed again, or gone.
CLAIMED_WITHIN = timedelta(seconds=20)
# Longer than a worker can take by its own time-outs, the console's among them: afterwards nobody knows what AWS did.
HEARD_OF_WITHIN = timedelta(seconds=policy.MINT_TAKES_SECONDS + 30)
# Longer than a worker takes, by Redis's time-outs, to put down what it has just recorded.
PUT_DOWN_WITHIN = timedelta(seconds=5)
# As long as the envelope lives in Redis.
TAKEN_WITHIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker needs to mint for one claimed delivery: plain values, no rows. Times are aware UTC."""

    delivery_id: int
    public_id: str
    kind: str
    destination: str
    partition: str
    account_number: str
    role_name: str
    role_arn: str
    role_max_seconds: int
    external_id: str
    code: str
    beneficiary_name: str
    source_identity: str
    recipient_key: dict[str, Any]
    terms: Terms
    expires_at: datetime
    # The end by AWS's clock, on the safe side, to the second.
    cut_off: datetime
    seconds_left: float
    # By so much shorter is a session to be that only its policy ends.
    set_aside: int
    chained: bool
    region: str
    ticket: str
    # Whether STS itself may end it, whether a preflight saw that, and whether it would do if only its policy did.
    may_be_scoped: bool
    will_be_scoped: bool
    may_end_by_policy: bool


@dataclass(frozen=True, slots=True)
class Minted:
    """What is kept of a session that AWS gave: no secret among it. As `IssuedSession` has it."""

    session_name: str
    source_identity: str
    access_key_id: str
    assumed_role_id: str
    sts_expires_at: datetime
    packed_policy_size: int | None
    # AWS's clock minus ours, at most, as this very mint shows it.
    aws_ahead_at_most: float
    session_token_utilization: int | None = None
    ends_by: str = IssuedSession.EndsBy.POLICY
    parent_access_key_id: str = ""
    parent_expires_at: datetime | None = None
    fell_back: str = ""
    # Key ids of what AWS gave besides, such as what would have ended too late.
    thrown_away: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a claimed delivery gave nobody anything: for its person, and in AWS's own words."""

    state: DeliveryState
    message: str
    advice: str = ""
    aws_code: str = ""
    aws_message: str = ""


class NotYet(Exception):
    """It is sealed and recorded, and its envelope is on its way: ask again in a moment. No refusal, nor on record."""


@verb(Action.DELIVERY_ASKED)
def ask(
    access_request: AccessRequest,
    *,
    by: User,
    kind: str,
    recipient_key: dict[str, Any],
    sign_in: str,
    destination: str = "",
) -> Delivery:
    """Wish for credentials or a console link, sealed for `recipient_key` (a P-256 public JWK).

    An approved request starts with this. `sign_in` names the sign-in session that alone may take the envelope.
    Raises NotAllowed by the rules of minting, TooMany by the limits per person and role, Invalid for a bad key,
    Unavailable while Redis is known not to be usable: no worker would hear of it, and no envelope could wait.
    """
    known = _lock_request(access_request, by, kind)
    if known.state == State.APPROVED:
        begin(lock_row(access_request), by=by, now=known.now)
        known = _asked(access_request, by, kind)
    _verdict(known, kind).require()
    key, destination = _check_asked(known.partition, kind, recipient_key, destination)
    _check_limits(known, by)
    if store.standing().refusal:
        raise Unavailable(NO_QUEUE, rule="queue.unusable")
    delivery = Delivery(
        access_request=access_request,
        beneficiary=by,
        role_id=known.role,
        kind=kind,
        destination=destination,
        recipient_key=key,
        thumbprint=sealing.thumbprint(key),
        sign_in=_sign_in_hash(sign_in),
        asked_at=known.now,
    )
    (delivery.pk,) = _INSERT.one(
        public_id=delivery.public_id,
        access_request=known.access_request,
        beneficiary=by.pk,
        role=known.role,
        kind=kind,
        destination=destination,
        recipient_key=key,
        thumbprint=delivery.thumbprint,
        sign_in=delivery.sign_in,
        at=known.now,
    )
    audit.record(
        Action.DELIVERY_ASKED, _about(known), by=by, at=known.now, kind=kind, delivery=str(delivery.public_id),
        thumbprint=delivery.thumbprint,
    )  # fmt: skip
    jobs.nudge("mint.mint", delivery.pk)
    return delivery


@looking_again
def claim(delivery_id: int, *, worker: str) -> Order | None:
    """Take a young, unclaimed delivery for this worker and check everything again; None if there is nothing to do.

    A second message for the same delivery, a late one or a forged one finds nothing to claim.
    """
    with transaction.atomic(durable=True):
        known = _lock_delivery(delivery_id)
        if known is None or known.delivery_state != DeliveryState.ASKED:
            return None
        # A wish from the future is no young one: nobody asked for it by the verb.
        if not timedelta(0) <= known.now - known.asked_at <= CLAIMED_WITHIN:
            _fail(known, Failure(DeliveryState.STALE, STALE))
            return None
        verdict = _verdict(known, known.kind)
        if verdict and not _is_as_it_was_asked(known):
            verdict = policy.Verdict(False, "delivery.altered", ALTERED)
        if not verdict:
            _fail(known, Failure(DeliveryState.REFUSED, verdict.message), rule=verdict.rule)
            return None
        _require_may_become(known, DeliveryState.CLAIMED)
        _CLAIM.run(delivery=known.delivery, at=known.now, worker=worker[:100])
        return _order(known)


def order_again(order: Order) -> Order | None:
    """The same, with what is left of the pass by now; None if nothing would be asked of AWS for it any more."""
    known = facts.locked_delivery(order.delivery_id, regions=partitions.regions())
    if known.delivery_state != DeliveryState.CLAIMED or not _verdict(known, known.kind):
        return None
    return _order(known)


@looking_again
def record(order: Order, minted: Minted, *, worker: str, envelope: str = "", failure: Failure | None = None) -> bool:
    """Record what AWS gave, before anyone is given it. False: nobody may be, so throw it away.

    With the `envelope` that it was sealed into, the delivery is sealed by this too: nothing can be handed over that is
    not recorded, and whoever takes the envelope is asked everything again. `failure`: what was to follow did not work.
    """
    with transaction.atomic(durable=True):
        known = _lock_delivery(order.delivery_id)
        assert known is not None  # noqa: S101 - deliveries are never deleted
        verdict = _verdict(known, known.kind)
        if not verdict and failure and failure.state != DeliveryState.UNKNOWN:
            # A pass that ended meanwhile explains whatever AWS refused by then.
            failure = None
        if failure:
            verdict = policy.Verdict(False, f"delivery.{failure.state}", failure.message)
        elif verdict and known.delivery_state != DeliveryState.CLAIMED:
            verdict = policy.Verdict(False, "delivery.given_up", known.message)
        elif verdict and not _ends_in_time(order, minted, known):
            verdict = policy.Verdict(False, "clock.set", DISCARDED)
        keep = bool(verdict)
        _insert_session(known, order, minted, worker=worker, rule=verdict.rule, discarded=not keep)
        if keep:
            whom = [(known.access_request, known.beneficiary)]
            notices.announce_by_key(notices.Kind.ISSUED, whom, at=known.now, delivery=known.delivery)
            if envelope:
                _seal(known, envelope)
        elif known.delivery_state == DeliveryState.CLAIMED:
            if failure:
                _fail(known, failure)
            else:
                _finish(known, DeliveryState.DISCARDED, Failure(DeliveryState.DISCARDED, verdict.message))
        return keep


@looking_again
def seal_down(order: Order, envelope: str) -> bool:
    """Note the hash of what a recorded session was sealed into; False if the pass ended meanwhile: throw it away."""
    with transaction.atomic(durable=True):
        known = _lock_delivery(order.delivery_id)
        if known is None or known.delivery_state != DeliveryState.CLAIMED:
            return False
        verdict = _verdict(known, known.kind)
        if not verdict:
            _fail(known, Failure(DeliveryState.DISCARDED, verdict.message), rule=verdict.rule)
            return False
        _seal(known, envelope)
        return True


def fail(order: Order, failure: Failure) -> None:
    """Say why a claimed delivery did not work, or one that could not be put where its envelope is taken.

    Does nothing if the sweep has given it up already.
    """
    with transaction.atomic(durable=True):
        known = _lock_delivery(order.delivery_id)
        if known is not None and may_follow(DELIVERY, known.delivery_state, failure.state):
            _fail(known, failure)


@recorded(Action.DELIVERY_HANDED_OVER)
@looking_again
def hand_over(delivery: Delivery, *, by: User, sign_in: str, take: Callable[[str], str | None]) -> str:
    """The envelope, once, to the sign-in session that asked; written down before it is returned.

    `take` fetches it from the store and removes it; what it raises passes through. Raises NotAllowed for anyone
    else, NotYet where the worker may be about to put it down, Conflict when there is nothing to hand over: not sealed
    yet, already taken, gone, or not the one the worker made.
    """
    envelope, refusal, not_yet = None, None, False
    with transaction.atomic(durable=True):
        known = _lock_delivery(delivery.pk)
        if (
            known is None
            or by.pk != known.beneficiary
            or not hmac.compare_digest(known.sign_in, _sign_in_hash(sign_in))
        ):
            raise NotAllowed("These credentials are for another sign-in.", rule="delivery.not_yours")
        if known.delivery_state != DeliveryState.SEALED:
            raise Conflict(
                known.message or "These credentials were already handed over. Get new ones.",
                rule="delivery.not_ready",
            )
        verdict = _verdict(known, known.kind)
        if verdict:
            envelope = take(str(known.public_id))
        if not verdict:
            refusal = Conflict(verdict.message, rule=verdict.rule)
            _fail(known, Failure(DeliveryState.DISCARDED, verdict.message), rule=verdict.rule)
        elif envelope is None and known.sealed_at is not None and known.now - known.sealed_at <= PUT_DOWN_WITHIN:
            not_yet = True
        elif envelope is None or sha256(envelope.encode()).hexdigest() != known.envelope_sha256:
            refusal = Conflict(LOST, rule="delivery.lost")
            _fail(known, Failure(DeliveryState.LOST, LOST), rule=refusal.rule)
        else:
            _finish(known, DeliveryState.DELIVERED)
            audit.record(Action.DELIVERY_HANDED_OVER, _about(known), by=by, at=known.now, delivery=str(known.public_id))
    # Only now, so that what became of the delivery is kept.
    if not_yet:
        raise NotYet
    if refusal or envelope is None:
        raise refusal or Conflict(LOST, rule="delivery.lost")
    return envelope


def sweep(limit: int = 1000) -> int:
    """Nudge young wishes that nobody took, and say the truth about old ones; returns how many were given up."""
    given_up = give_up_old(limit)
    nudge_waiting()
    return given_up


def give_up_old(limit: int = 1000, *, among: QuerySet[Delivery] | None = None) -> int:
    """Say the truth about wishes that nobody took, or whose worker or envelope was not heard of again."""
    if not _ARE_OLD.one(shift=clock.shift(), asked=CLAIMED_WITHIN, claimed=HEARD_OF_WITHIN, sealed=TAKEN_WITHIN)[0]:
        return 0
    these = Delivery.objects.all() if among is None else among
    with transaction.atomic(durable=True):
        now = clock.now()
        asked, claimed, sealed = (now - age for age in (CLAIMED_WITHIN, HEARD_OF_WITHIN, TAKEN_WITHIN))
        stale = these.filter(state=DeliveryState.ASKED, asked_at__lt=asked)
        unheard = these.filter(state=DeliveryState.CLAIMED, claimed_at__lt=claimed)
        lost = these.filter(state=DeliveryState.SEALED, sealed_at__lt=sealed)
        return (
            _give_up(stale, DeliveryState.STALE, STALE, now, limit)
            + _give_up(unheard, DeliveryState.UNKNOWN, UNKNOWN, now, limit)
            + _give_up(lost, DeliveryState.LOST, LOST, now, limit)
        )


def nudge_waiting() -> None:
    """Ask again for young wishes that nobody took."""
    waiting = [key for (key,) in _WAITING.all(shift=clock.shift())]
    if waiting:
        with transaction.atomic():
            jobs.nudge_each("mint.mint", waiting)


_ARE_OLD = Question(
    "deliveries.are_old",
    """
WITH this AS MATERIALIZED (
    SELECT clock_timestamp() + %(shift)s::interval AS moment
)
SELECT EXISTS (
    SELECT FROM requests_app_delivery d
    WHERE d.state = 'asked' AND d.asked_at < (SELECT moment FROM this) - %(asked)s::interval
) OR EXISTS (
    SELECT FROM requests_app_delivery d
    WHERE d.state = 'claimed' AND d.claimed_at < (SELECT moment FROM this) - %(claimed)s::interval
) OR EXISTS (
    SELECT FROM requests_app_delivery d
    WHERE d.state = 'sealed' AND d.sealed_at < (SELECT moment FROM this) - %(sealed)s::interval
)
""",
)
_WAITING = Question(
    "deliveries.waiting",
    """
SELECT d.id FROM requests_app_delivery d
WHERE d.state = 'asked' AND d.asked_at <= (SELECT clock_timestamp() + %(shift)s::interval - interval '2 seconds')
ORDER BY d.asked_at
LIMIT 100
""",
)


NO_QUEUE = "Daypass cannot reach its queue, so nothing was issued. Try again in a minute."
STALE = "No worker took this within 20 seconds, so it was dropped. Try again."
UNKNOWN = (
    "A worker asked AWS and was not heard of again: the outcome is unknown. If a session was made, nobody has its keys "
    "and it ends with your pass. Try again."
)
LOST = "The sealed credentials were gone before this page took them. Nobody else could read them. Try again."
DISCARDED = (
    "A clock was set, or a worker stood still, while AWS was asked, so these would have outlived your pass: they were "
    "thrown away."
)
ALTERED = "This is not as it was asked: somebody may have changed it on its way. Try again, and tell the operators."


# Two statements, lock and load: after a wait, one would join what role and entitlement were before it. No key: rows
# that point to these may be inserted meanwhile, or a sweep and a verb could wait for each other.
_LOCK_REQUEST = Question(
    "deliveries.lock_request",
    """
WITH request AS MATERIALIZED (
    SELECT r.id, r.role_id FROM requests_app_accessrequest r WHERE r.id = %(access_request)s::bigint FOR NO KEY UPDATE
), person AS MATERIALIZED (
    -- Whoever asks, and whoever asks for the same role, queues here, so that none outruns the counts.
    SELECT u.id FROM requests_app_user u
    WHERE u.id = %(by)s::bigint AND EXISTS (SELECT FROM request) FOR NO KEY UPDATE
), role AS MATERIALIZED (
    SELECT o.id FROM requests_app_role o
    WHERE o.id = (SELECT r.role_id FROM request r) AND EXISTS (SELECT FROM person) FOR NO KEY UPDATE
)
SELECT o.id FROM role o
""",
)

# The request first, as every verb does.
_LOCK_DELIVERY = Question(
    "deliveries.lock_delivery",
    """
WITH request AS MATERIALIZED (
    SELECT r.id FROM requests_app_accessrequest r
    WHERE r.id = (SELECT d.access_request_id FROM requests_app_delivery d WHERE d.id = %(delivery)s::bigint)
    FOR NO KEY UPDATE
)
SELECT d.id FROM requests_app_delivery d JOIN request r ON r.id = d.access_request_id
WHERE d.id = %(delivery)s::bigint
FOR NO KEY UPDATE OF d
""",
)

_INSERT = Question(
    "deliveries.insert",
    """
INSERT INTO requests_app_delivery (public_id, access_request_id, beneficiary_id, role_id, kind, destination,
                                   recipient_key, thumbprint, sign_in, state, asked_at, claimed_by, envelope_sha256,
                                   message, advice, aws_code, aws_message)
VALUES (%(public_id)s::uuid, %(access_request)s::bigint, %(beneficiary)s::bigint, %(role)s::bigint, %(kind)s::text,
        %(destination)s::text, %(recipient_key)s::jsonb, %(thumbprint)s::text, %(sign_in)s::text, 'asked',
        %(at)s::timestamptz, '', '', '', '', '', '')
RETURNING id
""",
)

_CLAIM = Question(
    "deliveries.claim",
    """
UPDATE requests_app_delivery
SET state = 'claimed', claimed_at = %(at)s::timestamptz, claimed_by = %(worker)s::text
WHERE id = %(delivery)s::bigint
""",
)

_INSERT_SESSION = Question(
    "deliveries.insert_session",
    """
INSERT INTO requests_app_issuedsession (delivery_id, access_request_id, beneficiary_id, role_arn, session_name,
                                        source_identity, access_key_id, assumed_role_id, minted_by, thumbprint,
                                        issued_at, cut_off, sts_expires_at, packed_policy_size, discarded,
                                        session_token_utilization, ends_by, parent_access_key_id, parent_expires_at,
                                        fell_back)
VALUES (%(delivery)s::bigint, %(access_request)s::bigint, %(beneficiary)s::bigint, %(role_arn)s::text,
        %(session_name)s::text, %(source_identity)s::text, %(access_key_id)s::text, %(assumed_role_id)s::text,
        %(worker)s::text, %(thumbprint)s::text, %(at)s::timestamptz, %(cut_off)s::timestamptz,
        %(sts_expires_at)s::timestamptz, %(packed_policy_size)s::int, %(discarded)s::boolean,
        %(session_token_utilization)s::int, %(ends_by)s::text, %(parent_access_key_id)s::text,
        %(parent_expires_at)s::timestamptz, %(fell_back)s::text)
""",
)

_SEAL = Question(
    "deliveries.seal",
    """
UPDATE requests_app_delivery
SET state = 'sealed', sealed_at = %(at)s::timestamptz, envelope_sha256 = %(envelope_sha256)s::text
WHERE id = %(delivery)s::bigint
""",
)

_FINISH = Question(
    "deliveries.finish",
    """
UPDATE requests_app_delivery
SET state = %(state)s::text, finished_at = %(at)s::timestamptz, message = %(message)s::text, advice = %(advice)s::text,
    aws_code = %(aws_code)s::text, aws_message = %(aws_message)s::text
WHERE id = %(delivery)s::bigint
""",
)


def _lock_request(access_request: AccessRequest, by: User, kind: str) -> facts.NewDelivery:
    """The request as it is now, held with whoever asks and the role until the transaction ends. Raises Due."""
    if _LOCK_REQUEST.first(access_request=access_request.pk, by=by.pk) is None:
        raise AccessRequest.DoesNotExist
    known = _asked(access_request, by, kind)
    if known.due():
        raise Due
    return known


def _asked(access_request: AccessRequest, by: User, kind: str) -> facts.NewDelivery:
    console = kind == Delivery.Kind.CONSOLE
    return facts.new_delivery(access_request.pk, by=by.pk, console=console, regions=partitions.regions())


def _lock_delivery(delivery_id: int) -> facts.LockedDelivery | None:
    """The delivery with its request as they are now, both held until the transaction ends."""
    if _LOCK_DELIVERY.first(delivery=delivery_id) is None:
        return None
    return facts.locked_delivery(delivery_id, regions=partitions.regions())


def _verdict(known: policy.Minting, kind: str) -> policy.Verdict:
    channel = CONSOLE if kind == Delivery.Kind.CONSOLE else KEYS
    may_use = policy.may_use(known.channels, channel, console_is_closed=known.console_is_closed)
    return may_use and policy.may_mint(known)


def _about(known: facts.MintableRequest) -> audit.About:
    return audit.About(known.access_request, known.code, known.beneficiary, known.beneficiary_name)


def _check_asked(
    partition: str, kind: str, recipient_key: dict[str, Any], destination: str
) -> tuple[dict[str, Any], str]:
    if kind not in Delivery.Kind.values:
        raise Invalid({"kind": ["Ask for credentials or for the console."]})
    try:
        key = sealing.check_recipient_key(recipient_key)
    except ValueError as wrong:
        raise Invalid({"recipient_key": [str(wrong)]}) from wrong
    if kind != Delivery.Kind.CONSOLE:
        return key, ""
    try:
        destination = partitions.check_destination(destination or partitions.console_home(partition), partition)
    except ValueError as wrong:
        raise Invalid({"destination": [str(wrong)]}) from wrong
    return key, destination


def _is_as_it_was_asked(known: facts.LockedDelivery) -> bool:
    """The worker's own look at the row: the web process, or whoever wrote it, is not believed."""
    try:
        key, destination = _check_asked(known.partition, known.kind, known.recipient_key, known.destination)
    except Invalid:
        return False
    return sealing.thumbprint(key) == known.thumbprint and destination == known.destination


def _check_limits(known: facts.NewDelivery, by: User) -> None:
    if known.asked_by_person >= settings.DELIVERIES_PER_PERSON_PER_MINUTE:
        raise TooMany("You have asked for credentials very often. Wait a minute.", rule="limit.person")
    if known.asked_of_role >= settings.DELIVERIES_PER_ROLE_PER_MINUTE:
        raise TooMany("This role is asked for very often at the moment. Wait a minute.", rule="limit.role")
    revocations.check_returned(known.role, by, known.now)


def _order(known: facts.LockedDelivery) -> Order:
    # may_mint has just said that these are there.
    assert known.expires_at is not None  # noqa: S101
    assert known.clock_low is not None  # noqa: S101
    assert known.region is not None  # noqa: S101
    assert known.chained is not None  # noqa: S101
    return Order(
        delivery_id=known.delivery,
        public_id=str(known.public_id),
        kind=known.kind,
        destination=known.destination,
        partition=known.partition,
        account_number=known.account_number,
        role_name=known.role_name,
        role_arn=known.role_arn,
        role_max_seconds=known.role_max_seconds,
        external_id=known.external_id,
        code=known.code,
        beneficiary_name=known.username,
        source_identity=known.source_identity if known.allows_source_identity else "",
        recipient_key=known.recipient_key,
        terms=known.terms,
        expires_at=known.expires_at,
        cut_off=cut_off(known.expires_at, known.clock_low),
        seconds_left=known.seconds_left,
        set_aside=policy.CALL_TAKES_SECONDS if known.identity_is_access else 0,
        chained=known.chained,
        region=known.region,
        ticket=known.ticket,
        may_be_scoped=known.may_be_scoped,
        will_be_scoped=known.will_be_scoped,
        may_end_by_policy=known.may_end_by_policy,
    )


def _ends_in_time(order: Order, minted: Minted, known: policy.Minting) -> bool:
    """False if it would outlive the pass: a clock was set since the offset was measured, or the worker stood still."""
    by_itself = known.identity_is_access or minted.ends_by == IssuedSession.EndsBy.STS
    last = max(order.cut_off, minted.sts_expires_at) if by_itself else order.cut_off
    return last <= order.expires_at + timedelta(seconds=minted.aws_ahead_at_most)


def cut_off(expires_at: datetime, aws_is_ahead_by_at_least: float) -> datetime:
    """The pass's end by AWS's clock, rounded down to its second: never later than agreed."""
    return datetime.fromtimestamp(math.floor(expires_at.timestamp() + aws_is_ahead_by_at_least), UTC)


def _insert_session(
    known: facts.LockedDelivery, order: Order, minted: Minted, *, worker: str, rule: str, discarded: bool
) -> None:
    _INSERT_SESSION.run(
        delivery=known.delivery,
        access_request=known.access_request,
        beneficiary=known.beneficiary,
        role_arn=order.role_arn,
        session_name=minted.session_name,
        source_identity=minted.source_identity,
        access_key_id=minted.access_key_id,
        assumed_role_id=minted.assumed_role_id,
        worker=worker[:100],
        thumbprint=known.thumbprint,
        at=known.now,
        cut_off=order.cut_off,
        sts_expires_at=minted.sts_expires_at,
        packed_policy_size=minted.packed_policy_size,
        discarded=discarded,
        session_token_utilization=minted.session_token_utilization,
        ends_by=str(minted.ends_by),
        parent_access_key_id=minted.parent_access_key_id,
        parent_expires_at=minted.parent_expires_at,
        fell_back=minted.fell_back[:100],
    )
    audit.record(
        Action.SESSION_DISCARDED if discarded else Action.SESSION_ISSUED,
        _about(known),
        by=None,
        at=known.now,
        delivery=str(known.public_id),
        access_key_id=minted.access_key_id,
        parent_access_key_id=minted.parent_access_key_id,
        session_name=minted.session_name,
        thumbprint=known.thumbprint,
        cut_off=order.cut_off.isoformat(),
        ends_by=str(minted.ends_by),
        fell_back=minted.fell_back,
        rule=rule,
    )
    for key in minted.thrown_away:
        audit.record(
            Action.KEYS_DISCARDED, _about(known), by=None, at=known.now, delivery=str(known.public_id),
            access_key_id=key, of=minted.access_key_id,
        )  # fmt: skip
    if minted.fell_back and order.will_be_scoped:
        operators = [(None, person) for person in _operators()]
        notices.announce_by_key(
            notices.Kind.NOT_SCOPED,
            operators,
            at=known.now,
            role=known.role,
            moment=notices.day_of(known.now),
            detail={"code": minted.fell_back},
        )


def _operators() -> list[int]:
    return list(User.objects.operators().order_by("pk").values_list("pk", flat=True)[:50])


def _give_up(due: QuerySet[Delivery], to: DeliveryState, message: str, now: datetime, limit: int) -> int:
    old = list(
        due.select_for_update(skip_locked=True, of=("self",), no_key=True)
        .select_related("access_request__beneficiary")
        .order_by("pk")[:limit]
    )
    Delivery.objects.filter(pk__in=[delivery.pk for delivery in old]).update(state=to, message=message, finished_at=now)
    action = Action.SESSION_UNACCOUNTED if to == DeliveryState.UNKNOWN else Action.DELIVERY_FAILED
    details = [{"delivery": str(delivery.public_id), "state": str(to), "message": message} for delivery in old]
    audit.record_each(action, [delivery.access_request for delivery in old], details, at=now)
    return len(old)


def _fail(known: facts.LockedDelivery, failure: Failure, *, rule: str = "") -> None:
    _finish(known, failure.state, failure)
    audit.record(
        Action.DELIVERY_FAILED, _about(known), by=None, at=known.now, delivery=str(known.public_id),
        state=str(failure.state), message=failure.message, rule=rule, aws_code=failure.aws_code,
        aws_message=failure.aws_message,
    )  # fmt: skip


def _seal(known: facts.LockedDelivery, envelope: str) -> None:
    _require_may_become(known, DeliveryState.SEALED)
    _SEAL.run(delivery=known.delivery, at=known.now, envelope_sha256=sha256(envelope.encode()).hexdigest())


def _finish(known: facts.LockedDelivery, state: DeliveryState, failure: Failure | None = None) -> None:
    _require_may_become(known, state)
    _FINISH.run(
        delivery=known.delivery,
        at=known.now,
        state=str(state),
        **{
            name: _as_long_as(getattr(failure, name, ""), name)
            for name in ("message", "advice", "aws_code", "aws_message")
        },
    )


def _as_long_as(text: str, column: str) -> str:
    """AWS's words among them, and PostgreSQL takes no NUL."""
    return texts.shortened(text.replace("\x00", ""), getattr(Delivery._meta.get_field(column), "max_length", 0))


def _require_may_become(known: facts.LockedDelivery, state: DeliveryState) -> None:
    if not may_follow(DELIVERY, known.delivery_state, state):
        raise Conflict("This delivery has already come to its end. Try again.", rule=f"delivery.{known.delivery_state}")


def _sign_in_hash(sign_in: str) -> str:
    return salted_hmac("daypass.delivery.sign_in", sign_in, algorithm="sha256").hexdigest()
