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
from requests_app.domain.models import AccessRequest, AwsClock, Delivery, IssuedSession, Role, User
from requests_app.domain.terms import CONSOLE, KEYS, Terms
from requests_app.domain.transitions import DELIVERY, DeliveryState, State, may_follow
from requests_app.domain.workflow import revocations
from requests_app.domain.workflow.requests import begin
from requests_app.domain.workflow.verb import hold, lock, looking_again, recorded, verb

# A wish is for now. An older one is not granted: the person has long pressed again, or gone.
CLAIMED_WITHIN = timedelta(seconds=20)
# Longer than a worker can take by its own time-outs: afterwards nobody knows what AWS did.
HEARD_OF_WITHIN = timedelta(seconds=45)
# As long as the envelope lives in Redis.
TAKEN_WITHIN = timedelta(seconds=60)
LONGEST_DESTINATION = 500


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
    chained: bool
    region: str


@dataclass(frozen=True, slots=True)
class Minted:
    """What is kept of a session that AWS gave: no secret among it."""

    session_name: str
    source_identity: str
    access_key_id: str
    assumed_role_id: str
    sts_expires_at: datetime
    packed_policy_size: int | None
    # AWS's clock minus ours, at most, as this very mint shows it.
    aws_ahead_at_most: float


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
    access_request, now = lock(access_request)
    if access_request.state == State.APPROVED:
        begin(access_request, by=by, now=now)
    _verdict(access_request, by, kind, now).require()
    key, destination = _check_wish(access_request, kind, recipient_key, destination)
    _check_limits(access_request, by, now)
    if store.standing().refusal:
        raise Unavailable(NO_QUEUE, rule="queue.unusable")
    delivery = Delivery.objects.create(
        access_request=access_request,
        beneficiary=by,
        role=access_request.role,
        kind=kind,
        destination=destination,
        recipient_key=key,
        thumbprint=sealing.thumbprint(key),
        sign_in=_sign_in_hash(sign_in),
        asked_at=now,
    )
    audit.record(
        Action.DELIVERY_ASKED, access_request, by=by, at=now, kind=kind, delivery=str(delivery.public_id),
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
        delivery = _lock_delivery(delivery_id)
        if delivery is None or delivery.state != DeliveryState.ASKED:
            return None
        now = clock.now()
        # A wish from the future is no young one: nobody asked for it by the verb.
        if not timedelta(0) <= now - delivery.asked_at <= CLAIMED_WITHIN:
            fail_locked(delivery, DeliveryState.STALE, now, message=STALE)
            return None
        verdict = _verdict(delivery.access_request, delivery.beneficiary, delivery.kind, now)
        if verdict and not _is_as_it_was_asked(delivery):
            verdict = policy.Verdict(False, "delivery.altered", ALTERED)
        if not verdict:
            fail_locked(delivery, DeliveryState.REFUSED, now, message=verdict.message, rule=verdict.rule)
            return None
        _move(delivery, DeliveryState.CLAIMED)
        delivery.claimed_at, delivery.claimed_by = now, worker[:100]
        delivery.save(update_fields=["state", "claimed_at", "claimed_by"])
        return _order(delivery, now)


@looking_again
def record(order: Order, minted: Minted, *, worker: str) -> bool:
    """Record what AWS gave, before anyone is given it. False: the pass ended meanwhile, so throw it away."""
    with transaction.atomic(durable=True):
        delivery = _lock_delivery(order.delivery_id)
        assert delivery is not None  # noqa: S101 - deliveries are never deleted
        now = clock.now()
        verdict = _verdict(delivery.access_request, delivery.beneficiary, delivery.kind, now)
        if verdict and not _ends_in_time(order, minted, delivery.role):
            verdict = policy.Verdict(False, "clock.set", DISCARDED)
        if verdict and delivery.state != DeliveryState.CLAIMED:
            verdict = policy.Verdict(False, "delivery.given_up", delivery.message)
        keep = bool(verdict)
        session = IssuedSession.objects.create(
            delivery=delivery,
            access_request=delivery.access_request,
            beneficiary=delivery.beneficiary,
            role_arn=order.role_arn,
            session_name=minted.session_name,
            source_identity=minted.source_identity,
            access_key_id=minted.access_key_id,
            assumed_role_id=minted.assumed_role_id,
            minted_by=worker[:100],
            thumbprint=delivery.thumbprint,
            issued_at=now,
            cut_off=order.cut_off,
            sts_expires_at=minted.sts_expires_at,
            packed_policy_size=minted.packed_policy_size,
            discarded=not keep,
        )
        audit.record(
            Action.SESSION_ISSUED if keep else Action.SESSION_DISCARDED,
            delivery.access_request,
            by=None,
            at=now,
            delivery=str(delivery.public_id),
            access_key_id=session.access_key_id,
            session_name=session.session_name,
            thumbprint=session.thumbprint,
            cut_off=session.cut_off.isoformat(),
            rule=verdict.rule,
        )
        if keep:
            notices.announce(notices.Kind.ISSUED, [delivery.access_request], at=now, occasion=str(delivery.public_id))
        elif delivery.state == DeliveryState.CLAIMED:
            _finish(delivery, DeliveryState.DISCARDED, now, message=verdict.message)
        return keep


@looking_again
def seal_down(order: Order, envelope: str) -> bool:
    """Note the hash of the envelope that waits in Redis; False if the pass ended meanwhile: then take it out again."""
    with transaction.atomic(durable=True):
        delivery = _lock_delivery(order.delivery_id)
        if delivery is None or delivery.state != DeliveryState.CLAIMED:
            return False
        now = clock.now()
        verdict = _verdict(delivery.access_request, delivery.beneficiary, delivery.kind, now)
        if not verdict:
            fail_locked(delivery, DeliveryState.DISCARDED, now, message=verdict.message, rule=verdict.rule)
            return False
        _move(delivery, DeliveryState.SEALED)
        delivery.sealed_at, delivery.envelope_sha256 = now, sha256(envelope.encode()).hexdigest()
        delivery.save(update_fields=["state", "sealed_at", "envelope_sha256"])
        return True


def fail(
    order: Order,
    state: DeliveryState,
    *,
    message: str,
    advice: str = "",
    aws_code: str = "",
    aws_message: str = "",
) -> None:
    """Say why a claimed delivery did not work. Does nothing if the sweep has given it up already."""
    with transaction.atomic(durable=True):
        delivery = _lock_delivery(order.delivery_id)
        if delivery is not None and delivery.state == DeliveryState.CLAIMED:
            fail_locked(
                delivery,
                state,
                clock.now(),
                message=message,
                advice=advice,
                aws_code=aws_code,
                aws_message=aws_message,
            )


@recorded(Action.DELIVERY_HANDED_OVER)
@looking_again
def hand_over(delivery: Delivery, *, by: User, sign_in: str, take: Callable[[str], str | None]) -> str:
    """The envelope, once, to the sign-in session that asked; written down before it is returned.

    `take` fetches it from the store and removes it; what it raises passes through. Raises NotAllowed for anyone
    else, Conflict when there is nothing to hand over: not sealed yet, already taken, gone, or not the one the
    worker made.
    """
    envelope, refusal = None, None
    with transaction.atomic(durable=True):
        locked = _lock_delivery(delivery.pk)
        if (
            locked is None
            or by.pk != locked.beneficiary_id
            or not hmac.compare_digest(locked.sign_in, _sign_in_hash(sign_in))
        ):
            raise NotAllowed("These credentials are for another sign-in.", rule="delivery.not_yours")
        now = clock.now()
        if locked.state != DeliveryState.SEALED:
            raise Conflict(
                locked.message or "These credentials were already handed over. Get new ones.",
                rule="delivery.not_ready",
            )
        verdict = _verdict(locked.access_request, by, locked.kind, now)
        if verdict:
            envelope = take(str(locked.public_id))
        if not verdict:
            refusal = Conflict(verdict.message, rule=verdict.rule)
            fail_locked(locked, DeliveryState.DISCARDED, now, message=verdict.message, rule=verdict.rule)
        elif envelope is None or sha256(envelope.encode()).hexdigest() != locked.envelope_sha256:
            refusal = Conflict(LOST, rule="delivery.lost")
            fail_locked(locked, DeliveryState.LOST, now, message=LOST, rule=refusal.rule)
        else:
            _finish(locked, DeliveryState.DELIVERED, now)
            audit.record(
                Action.DELIVERY_HANDED_OVER, locked.access_request, by=by, at=now, delivery=str(locked.public_id)
            )
    # Only now, so that what became of the delivery is kept.
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
    waiting = Delivery.objects.filter(state=DeliveryState.ASKED, asked_at__lte=clock.now() - timedelta(seconds=2))
    with transaction.atomic():
        jobs.nudge_each("mint.mint", waiting.order_by("asked_at").values_list("pk", flat=True)[:100])


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


def fail_locked(
    delivery: Delivery,
    state: DeliveryState,
    now: datetime,
    *,
    message: str,
    advice: str = "",
    aws_code: str = "",
    aws_message: str = "",
    rule: str = "",
) -> None:
    _finish(delivery, state, now, message=message, advice=advice, aws_code=aws_code, aws_message=aws_message)
    audit.record(
        Action.DELIVERY_FAILED, delivery.access_request, by=None, at=now, delivery=str(delivery.public_id),
        state=str(state), message=message, rule=rule, aws_code=aws_code, aws_message=aws_message,
    )  # fmt: skip


def _lock_delivery(delivery_id: int) -> Delivery | None:
    """The delivery with its request, both held: the request first, as every verb does."""
    found = Delivery.objects.filter(pk=delivery_id).values_list("access_request", flat=True).first()
    if found is None:
        return None
    access_request = hold(AccessRequest(pk=found))
    delivery = (
        Delivery.objects.select_for_update(of=("self",), no_key=True).select_related("beneficiary").get(pk=delivery_id)
    )
    delivery.access_request = access_request
    return delivery


def _verdict(access_request: AccessRequest, by: User, kind: str, now: datetime) -> policy.Verdict:
    role = access_request.role
    may_use = policy.may_use(access_request.terms, CONSOLE if kind == Delivery.Kind.CONSOLE else KEYS)
    return may_use and policy.may_mint(
        facts.person(by),
        facts.of(access_request),
        facts.reach_of_role(access_request.entitlement, role),
        facts.catalog(role),
        facts.clock(region(role.account.partition)),
        now=now,
        identity_is_access=role.identity_is_access,
        hours=access_request.terms.hours,
    )


def region(partition: str) -> str:
    """Where STS is asked for this partition: the configured region if it is there, else the partition's own."""
    own = partitions.sts_region(partition)
    return settings.AWS_STS_REGION if partition == "aws" else own


def _check_wish(
    access_request: AccessRequest, kind: str, recipient_key: dict[str, Any], destination: str
) -> tuple[dict[str, Any], str]:
    if kind not in Delivery.Kind.values:
        raise Invalid({"kind": ["Ask for credentials or for the console."]})
    try:
        key = sealing.check_recipient_key(recipient_key)
    except ValueError as wrong:
        raise Invalid({"recipient_key": [str(wrong)]}) from wrong
    partition = access_request.role.account.partition
    if kind != Delivery.Kind.CONSOLE:
        return key, ""
    try:
        destination = partitions.check_destination(destination or partitions.console_home(partition), partition)
    except ValueError as wrong:
        raise Invalid({"destination": [str(wrong)]}) from wrong
    if len(destination) > LONGEST_DESTINATION:
        raise Invalid({"destination": [f"The destination is longer than {LONGEST_DESTINATION} characters."]})
    return key, destination


def _is_as_it_was_asked(delivery: Delivery) -> bool:
    """The worker's own look at the row: the web process, or whoever wrote it, is not believed."""
    try:
        key, destination = _check_wish(
            delivery.access_request, delivery.kind, delivery.recipient_key, delivery.destination
        )
    except Invalid:
        return False
    return sealing.thumbprint(key) == delivery.thumbprint and destination == delivery.destination


def _check_limits(access_request: AccessRequest, by: User, now: datetime) -> None:
    # Wishes queue here, so that they cannot outrun the counts.
    User.objects.select_for_update(no_key=True).values_list("pk").get(pk=by.pk)
    Role.objects.select_for_update(no_key=True).values_list("pk").get(pk=access_request.role_id)
    lately = Delivery.objects.filter(asked_at__gt=now - timedelta(minutes=1))
    if lately.filter(beneficiary=by).count() >= settings.DELIVERIES_PER_PERSON_PER_MINUTE:
        raise TooMany("You have asked for credentials very often. Wait a minute.", rule="limit.person")
    if lately.filter(role=access_request.role).count() >= settings.DELIVERIES_PER_ROLE_PER_MINUTE:
        raise TooMany("This role is asked for very often at the moment. Wait a minute.", rule="limit.role")
    revocations.check_returned(access_request.role, by, now)


def _order(delivery: Delivery, now: datetime) -> Order:
    access_request, account = delivery.access_request, delivery.access_request.role.account
    at = region(account.partition)
    reading = AwsClock.objects.get(region=at)
    assert access_request.expires_at is not None  # noqa: S101 - may_mint has just said so
    return Order(
        delivery_id=delivery.pk,
        public_id=str(delivery.public_id),
        kind=delivery.kind,
        destination=delivery.destination,
        partition=account.partition,
        account_number=account.number,
        role_name=access_request.role.name,
        role_arn=access_request.role.arn,
        role_max_seconds=access_request.role.longest_session_seconds,
        external_id=account.external_id,
        code=access_request.code,
        beneficiary_name=delivery.beneficiary.username,
        source_identity=delivery.beneficiary.source_identity if account.allows_source_identity else "",
        recipient_key=delivery.recipient_key,
        terms=access_request.terms,
        expires_at=access_request.expires_at,
        cut_off=cut_off(access_request.expires_at, reading.low_seconds),
        seconds_left=(access_request.expires_at - now).total_seconds() - _set_aside(access_request.role),
        chained=reading.chained,
        region=at,
    )


def _set_aside(role: Role) -> int:
    """Where the session's own end is what counts, AWS must not begin it so late that it outlives the pass."""
    return policy.CALL_TAKES_SECONDS if role.identity_is_access else 0


def _ends_in_time(order: Order, minted: Minted, role: Role) -> bool:
    """False if it would outlive the pass: a clock was set since the offset was measured, or the worker stood still."""
    last = max(order.cut_off, minted.sts_expires_at) if role.identity_is_access else order.cut_off
    return last <= order.expires_at + timedelta(seconds=minted.aws_ahead_at_most)


def cut_off(expires_at: datetime, aws_is_ahead_by_at_least: float) -> datetime:
    """The pass's end by AWS's clock, rounded down to its second: never later than agreed."""
    return datetime.fromtimestamp(math.floor(expires_at.timestamp() + aws_is_ahead_by_at_least), UTC)


def _give_up(due: QuerySet[Delivery], to: DeliveryState, message: str, now: datetime, limit: int) -> int:
    old = list(
        due.select_for_update(skip_locked=True, of=("self",), no_key=True)
        .select_related("access_request__beneficiary")
        .order_by("pk")[:limit]
    )
    Delivery.objects.filter(pk__in=[one.pk for one in old]).update(state=to, message=message, finished_at=now)
    action = Action.SESSION_UNACCOUNTED if to == DeliveryState.UNKNOWN else Action.DELIVERY_FAILED
    details = [{"delivery": str(one.public_id), "state": str(to), "message": message} for one in old]
    audit.record_each(action, [one.access_request for one in old], details, at=now)
    return len(old)


def _finish(delivery: Delivery, state: DeliveryState, now: datetime, **words: str) -> None:
    _move(delivery, state)
    delivery.finished_at = now
    for name, text in words.items():
        # AWS's words among them, and PostgreSQL takes no NUL.
        longest = getattr(Delivery._meta.get_field(name), "max_length", None)
        text = text.replace("\x00", "")
        setattr(delivery, name, texts.shortened(text, longest) if longest else text)
    delivery.save(update_fields=["state", "finished_at", *words])


def _move(delivery: Delivery, state: DeliveryState) -> None:
    if not may_follow(DELIVERY, delivery.state, state):
        raise Conflict("This delivery has already come to its end. Try again.", rule=f"delivery.{delivery.state}")
    delivery.state = state


def _sign_in_hash(sign_in: str) -> str:
    return salted_hmac("daypass.delivery.sign_in", sign_in, algorithm="sha256").hexdigest()
