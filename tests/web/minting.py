"""What a worker does for a delivery, without AWS."""

from datetime import timedelta

from requests_app.domain import clock, envelopes, workflow
from requests_app.domain.models import AccessRequest, Delivery, IssuedSession
from tests.factories import delivery

ENVELOPE = "eyJh..c.d.e"  # the shape of a sealed one


def session_of(access_request: AccessRequest, *, minutes: int = 30) -> IssuedSession:
    """A session that AWS issued for that long."""
    return _mint(delivery(access_request), minutes)[1]


def seal(wanted: Delivery, envelope: str = ENVELOPE) -> None:
    """Mint for this delivery and leave its envelope in the store."""
    order, _ = _mint(wanted, 30)
    assert workflow.deliveries.seal_down(order, envelope)
    envelopes.put(str(wanted.public_id), envelope)


def _mint(wanted: Delivery, minutes: int) -> tuple[workflow.deliveries.Order, IssuedSession]:
    order = workflow.deliveries.claim(wanted.pk, worker="a worker")
    assert order
    minted = workflow.deliveries.Minted(
        session_name=f"{order.code}-alice",
        source_identity="",
        access_key_id=f"ASIA{wanted.pk:012}",
        assumed_role_id=f"AROAEXAMPLE:{order.code}-alice",
        sts_expires_at=clock.now() + timedelta(minutes=minutes),
        packed_policy_size=12,
        aws_ahead_at_most=0.0,
    )
    assert workflow.deliveries.record(order, minted, worker="a worker")
    return order, IssuedSession.objects.get(delivery=wanted)
