"""One delivery from wish to sealed envelope: claim, call, seal, record, put down. Each step is safe to lose."""

import os
import socket

import structlog
from django.conf import settings

from requests_app.aws import console, names, session_policy, sts
from requests_app.aws.errors import AwsError, Refused
from requests_app.domain import clock, envelopes, partitions, restored, sealing
from requests_app.domain.transitions import DeliveryState
from requests_app.domain.workflow import deliveries, preflights
from requests_app.domain.workflow.deliveries import Minted, Order

log = structlog.get_logger(__name__)


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
        session, minted = _assume_role(order)
        envelope = _recorded(order, session, minted, worker)
        if envelope:
            _put_down(order, envelope)
    except AwsError as error:
        _tell(order, error)
    except ValueError as error:
        # The entitlement's narrowing cannot be made into a policy: a sentence for whoever edits it.
        deliveries.fail(order, DeliveryState.REFUSED, message=str(error), advice="Tell the operators.")


def _assume_role(order: Order) -> tuple[sts.MintedSession, Minted]:
    mint_order = _mint_order(order)
    before = clock.now()
    session = sts.assume_role(mint_order)
    # Only how far AWS is ahead at most is asked, which what we read afterwards says nothing of.
    _, aws_ahead_at_most = sts.offset_from_mint(session.expires_at, session.asked_duration, before, before)
    minted = Minted(
        session_name=mint_order.session_name,
        source_identity=mint_order.source_identity or "",
        access_key_id=session.access_key_id,
        assumed_role_id=session.assumed_role_id,
        sts_expires_at=session.expires_at,
        packed_policy_size=session.packed_policy_size,
        aws_ahead_at_most=aws_ahead_at_most,
    )
    return session, minted


def _recorded(order: Order, session: sts.MintedSession, minted: Minted, worker: str) -> str:
    """The envelope, recorded with its session; empty if the pass ended meanwhile, or the delivery was given up."""
    if order.kind == "console":
        # What exists is on record before anybody else is told of it.
        if not deliveries.record(order, minted, worker=worker):
            return ""
        envelope = sealing.seal(_console(order, session), order.recipient_key)
        return envelope if deliveries.seal_down(order, envelope) else ""
    try:
        envelope = sealing.seal(_credentials(order, session), order.recipient_key)
    except Exception:
        # It exists all the same, and its end can be ordered by what is on record only.
        deliveries.record(order, minted, worker=worker)
        raise
    return envelope if deliveries.record(order, minted, worker=worker, envelope=envelope) else ""


def _mint_order(order: Order) -> sts.MintOrder:
    terms = order.terms
    return sts.MintOrder(
        role_arn=order.role_arn,
        region=order.region,
        session_name=names.session_name(order.code, order.beneficiary_name),
        duration_seconds=session_policy.session_seconds(
            order.seconds_left,
            ceiling=terms.session_ceiling_seconds,
            role_max=order.role_max_seconds,
            chained=order.chained,
        ),
        policy=session_policy.session_policy(
            cut_off=order.cut_off,
            role_arn=order.role_arn,
            statements=terms.narrowing_statements,
            policy_arns=terms.narrowing_policy_arns,
            lifted=terms.lifted,
        ),
        policy_arns=terms.narrowing_policy_arns,
        source_identity=order.source_identity or None,
        external_id=order.external_id or None,
    )


def _put_down(order: Order, envelope: str) -> None:
    try:
        envelopes.put(order.public_id, envelope)
    except envelopes.EnvelopeStoreDown as error:
        log.warning("envelope.store_down", delivery=order.public_id, error=str(error))
        deliveries.fail(
            order,
            DeliveryState.LOST,
            message="The sealed credentials could not be put down for this page to take. Nobody has them. Try again.",
        )


def _console(order: Order, session: sts.MintedSession) -> dict[str, object]:
    link = console.sign_in(
        session,
        federation_url=partitions.federation_url(order.partition, settings.FEDERATION_URL),
        destination=order.destination,
        issuer=settings.BASE_URL,
    )
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
        "region": order.region,
        "profile": f"{order.account_number}-{order.role_name}",
    }


def _tell(order: Order, error: AwsError) -> None:
    if error.outcome_unknown:
        state, message = DeliveryState.UNKNOWN, deliveries.UNKNOWN
    elif isinstance(error, Refused):
        state, message = DeliveryState.REFUSED, "AWS refused."
    else:
        state, message = DeliveryState.UNAVAILABLE, "AWS could not be asked."
    log.warning("mint.failed", delivery=order.public_id, state=str(state), aws_code=error.code)
    deliveries.fail(order, state, message=message, advice=error.advice, aws_code=error.code, aws_message=error.message)
    if state == DeliveryState.REFUSED:
        preflights.look_after_refusal(order.delivery_id)
