"""One delivery from wish to sealed envelope: claim, call, seal, record, put down. Each step is safe to lose."""

import dataclasses
import os
import socket
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError

from requests_app.aws import console, names, patience, scoping, session_policy, sts
from requests_app.aws.errors import AwsError, Refused
from requests_app.domain import clock, envelopes, partitions, policy, restored, sealing
from requests_app.domain.models import IssuedSession
from requests_app.domain.transitions import DeliveryState
from requests_app.domain.workflow import deliveries, preflights
from requests_app.domain.workflow.deliveries import Failure, Minted, Order

log = structlog.get_logger(__name__)
NOT_AS_ASKED = "What AWS gave is not as it was asked for, so it was thrown away."


class Spoilt(Exception):
    """AWS gave a session, and what was to follow did not work: nobody is given it, and it is on record all the same."""

    def __init__(self, minted: Minted, error: AwsError) -> None:
        super().__init__(minted, error)
        self.minted = minted
        self.error = error


def mint(delivery_id: int) -> None:
    """Mint for this delivery if it is young, unclaimed and still allowed; otherwise do nothing.

    The id is all a message carries: whom it is for, and whether they may, is read from the database.
    """
    if not restored.look():
        return  # nobody can tell whether this database is an older copy, nor would Redis take the envelope
    worker = f"{socket.gethostname()}:{os.getpid()}"
    order = deliveries.claim(delivery_id, worker=worker)
    if order is None:
        return
    try:
        with patience.bounded(policy.MINT_TAKES_SECONDS - 1):
            session, minted = _issue(order)
        envelope = _recorded(order, session, minted, worker)
        if envelope:
            _put_down(order, envelope)
        if minted.fell_back:  # last: nothing may come between what AWS gave and its record
            preflights.look_after_refusal(order.delivery_id)
    except Spoilt as spoilt:
        failure = _failure(order, spoilt.error)
        deliveries.record(order, spoilt.minted, worker=worker, failure=failure)
        _look_after(order, failure)
    except AwsError as error:
        failure = _failure(order, error)
        deliveries.fail(order, failure)
        _look_after(order, failure)
    except ValueError as error:
        # The entitlement's narrowing cannot be made into a policy: a sentence for whoever edits it.
        deliveries.fail(order, Failure(DeliveryState.REFUSED, str(error), "Tell the operators."))


def _issue(order: Order) -> tuple[sts.MintedSession, Minted]:
    """A session that STS itself ends with the pass; where AWS knows no such thing, one that its own policy ends.

    Raises Refused or Unavailable where AWS gave nothing, and Spoilt where it gave what nobody may be given.
    """
    layers = session_policy.layers(**_narrowing(order)) if order.may_be_scoped else None
    if layers is None:
        if not order.may_end_by_policy:
            message = "What narrows these terms leaves no room for keys that AWS itself ends with the pass."
            raise Refused("NotScoped", message, "An operator must shorten it.")
        return _assume_role(order)
    before = clock.now()
    mint_order = _mint_order(order, order.seconds_left, layers.parent, layers.policy_arns)
    try:
        scoped = scoping.mint(mint_order, scoping.Scope(layers.scoped, order.cut_off, _description(order)))
    except Refused as refused:
        # What lets a narrowed parent be scoped makes its policy some characters longer.
        if not (order.may_end_by_policy and scoping.has_no_room(refused)):
            raise
        scoped = None
    if scoped is None:
        return _assume_role(order)
    parent = _of_parent(mint_order, scoped.parent, before, scoped.thrown_away)
    if scoped.session is not None:
        return scoped.session, dataclasses.replace(
            parent,
            access_key_id=scoped.session.access_key_id,
            sts_expires_at=scoped.session.expires_at,
            session_token_utilization=scoped.session.session_token_utilization,
            ends_by=IssuedSession.EndsBy.STS,
            parent_access_key_id=scoped.parent.access_key_id,
            parent_expires_at=scoped.parent.expires_at,
        )
    failure = scoped.failure
    assert failure is not None  # noqa: S101
    # What is left may be too little by now, or the pass was ended, which may be why AWS refused.
    again = deliveries.order_again(order) if scoping.is_for_good(failure) else None
    if again is not None and again.may_end_by_policy:
        log.warning("mint.not_scoped", delivery=order.public_id, aws_code=failure.code)
        try:
            session, minted = _assume_role(dataclasses.replace(order, seconds_left=again.seconds_left))
            return session, dataclasses.replace(
                minted,
                parent_access_key_id=scoped.parent.access_key_id,
                parent_expires_at=scoped.parent.expires_at,
                fell_back=failure.code,
                thrown_away=parent.thrown_away,
            )
        except AwsError as error:
            failure = error
    raise Spoilt(parent, failure)


def _of_parent(
    mint_order: sts.MintOrder, parent: scoping.Known, before: datetime, thrown_away: tuple[scoping.Known, ...] = ()
) -> Minted:
    # Only how far AWS is ahead at most is asked, which what we read afterwards says nothing of.
    _, aws_ahead_at_most = sts.offset_from_mint(parent.expires_at, mint_order.duration_seconds, before, before)
    return Minted(
        session_name=mint_order.session_name,
        source_identity=mint_order.source_identity or "",
        access_key_id=parent.access_key_id,
        assumed_role_id=parent.assumed_role_id,
        sts_expires_at=parent.expires_at,
        packed_policy_size=None,
        aws_ahead_at_most=aws_ahead_at_most,
        thrown_away=tuple(other.access_key_id for other in thrown_away),
    )


def _assume_role(order: Order) -> tuple[sts.MintedSession, Minted]:
    """In the older way: a session that denies everything from the cut-off on, and scoping to whoever holds it."""
    before = clock.now()
    policy_text = session_policy.session_policy(**_narrowing(order))
    # Where the session's own end is what counts, AWS must not begin it so late that it outlives the pass.
    seconds = order.seconds_left - order.set_aside
    mint_order = _mint_order(order, seconds, policy_text, order.terms.narrowing_policy_arns)
    session = sts.assume_role(mint_order)
    known = scoping.Known.of(session)
    return session, dataclasses.replace(
        _of_parent(mint_order, known, before),
        packed_policy_size=session.packed_policy_size,
        session_token_utilization=session.session_token_utilization,
    )


def _recorded(order: Order, session: sts.MintedSession, minted: Minted, worker: str) -> str:
    """The envelope, recorded with its session; empty if the pass ended meanwhile, or the delivery was given up."""
    if order.kind == "console":
        # What exists is on record before anybody else is told of it.
        if not _record(order, minted, worker):
            return ""
        envelope = sealing.seal(_console(order, session), order.recipient_key)
        return envelope if deliveries.seal_down(order, envelope) else ""
    try:
        envelope = sealing.seal(_credentials(order, session), order.recipient_key)
    except Exception:
        # It exists all the same, and its end can be ordered by what is on record only.
        _record(order, minted, worker)
        raise
    return envelope if _record(order, minted, worker, envelope) else ""


def _record(order: Order, minted: Minted, worker: str, envelope: str = "") -> bool:
    try:
        return deliveries.record(order, minted, worker=worker, envelope=envelope)
    except IntegrityError:
        # Asked again, the database refuses still: it is none that anybody may have, and exists all the same.
        failure = Failure(DeliveryState.DISCARDED, NOT_AS_ASKED, "Tell the operators.")
        return deliveries.record(order, minted, worker=worker, failure=failure)


def _narrowing(order: Order) -> dict[str, Any]:
    return {
        "cut_off": order.cut_off,
        "role_arn": order.role_arn,
        "statements": order.terms.narrowing_statements,
        "policy_arns": order.terms.narrowing_policy_arns,
        "lifted": order.terms.lifted,
        "not_through_mcp": order.terms.not_through_mcp,
    }


def _description(order: Order) -> str:
    """For CloudTrail, in characters that AWS takes."""
    plain = f"{order.code} {order.ticket}".encode("ascii", "replace").decode()
    return "".join(character if character.isprintable() else "?" for character in plain).strip()[:256]


def _mint_order(order: Order, seconds: float, policy_text: str, policy_arns: Sequence[str]) -> sts.MintOrder:
    return sts.MintOrder(
        role_arn=order.role_arn,
        region=order.region,
        session_name=names.session_name(order.code, order.beneficiary_name),
        duration_seconds=session_policy.session_seconds(
            seconds,
            ceiling=order.terms.session_ceiling_seconds,
            role_max=order.role_max_seconds,
            chained=order.chained,
        ),
        policy=policy_text,
        policy_arns=tuple(policy_arns),
        source_identity=order.source_identity or None,
        external_id=order.external_id or None,
    )


def _put_down(order: Order, envelope: str) -> None:
    try:
        envelopes.put(order.public_id, envelope)
    except envelopes.EnvelopeStoreDown as error:
        log.warning("envelope.store_down", delivery=order.public_id, error=str(error))
        message = "The sealed credentials could not be put down for this page to take. Nobody has them. Try again."
        deliveries.fail(order, Failure(DeliveryState.LOST, message))


def _console(order: Order, session: sts.MintedSession) -> dict[str, object]:
    try:
        link = console.sign_in(
            session,
            federation_url=partitions.federation_url(order.partition, settings.FEDERATION_URL),
            destination=order.destination,
            issuer=settings.BASE_URL,
        )
    except Refused:
        # Perhaps it takes such keys no more: a preflight tries, and until then links are made in the older way.
        if order.will_be_scoped:
            preflights.note_console(order.region, takes_scoped=None)
        raise
    return {
        "kind": "console",
        "url": link.url,
        "fields": dict(link.fields),
        "link_expires_at": (clock.now() + link.good_for).isoformat(),
        "expires_at": order.expires_at.isoformat(),
    }


def _credentials(order: Order, session: sts.MintedSession) -> dict[str, object]:
    return {
        "kind": "credentials",
        "access_key_id": session.access_key_id,
        "secret_access_key": session.secret_access_key,
        "session_token": session.session_token,
        "expires_at": order.expires_at.isoformat(),
        "sts_expires_at": session.expires_at.isoformat(),
        "account_id": order.account_number,
        "role_name": order.role_name,
        "code": order.code,
    }


def _failure(order: Order, error: AwsError) -> Failure:
    if error.outcome_unknown:
        state, message = DeliveryState.UNKNOWN, deliveries.UNKNOWN
    elif isinstance(error, Refused):
        state, message = DeliveryState.REFUSED, "AWS refused."
    else:
        state, message = DeliveryState.UNAVAILABLE, "AWS could not be asked."
    log.warning("mint.failed", delivery=order.public_id, state=str(state), aws_code=error.code)
    return Failure(state, message, error.advice, error.code, error.message)


def _look_after(order: Order, failure: Failure) -> None:
    if failure.state == DeliveryState.REFUSED:
        preflights.look_after_refusal(order.delivery_id)
