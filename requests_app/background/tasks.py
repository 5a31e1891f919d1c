"""Celery's door. A message is only a nudge: each task looks in the database for what is due.

A task's name starts with its queue. Nothing here trusts an argument: it may come from whoever can write to Redis.
"""

import contextlib
from collections.abc import Callable

import structlog
from celery import current_app, shared_task
from celery.signals import worker_ready
from kombu.exceptions import OperationalError

from requests_app.background import clocks, mail, minting, revoking
from requests_app.domain import workflow
from requests_app.domain.workflow import deliveries, revocations, sweeps

log = structlog.get_logger(__name__)
# A sweep stops after so many batches; what is left is due for the next.
MOST_BATCHES = 20


@shared_task(name="mint.mint")
def mint(delivery_id: object) -> None:
    if type(delivery_id) is int and 0 < delivery_id < 2**63:
        minting.mint(delivery_id)


@shared_task(name="aws.read_clock")
def read_clock() -> None:
    clocks.read()


@worker_ready.connect
def read_clock_at_once(**_: object) -> None:
    """Nothing is minted while AWS's clock is unknown, so a fresh start does not wait for beat."""
    with contextlib.suppress(OperationalError):
        current_app.send_task("aws.read_clock", expires=60)


@shared_task(name="revoke.work")
def revoke(role_id: object) -> None:
    if type(role_id) is int and 0 < role_id < 2**31:
        revoking.work(role_id)


@shared_task(name="aws.probe")
def probe(role_id: object) -> None:
    if type(role_id) is int and 0 < role_id < 2**31:
        revoking.prove(role_id)


@shared_task(name="default.sweep_revocations")
def sweep_revocations() -> None:
    revocations.sweep()


@shared_task(name="default.sweep_requests")
def sweep_requests() -> None:
    for due in (
        sweeps.expire_due,
        sweeps.lapse_due,
        sweeps.lapse_extensions,
        sweeps.lapse_hopeless,
        sweeps.activate_due,
        sweeps.escalate_due,
        sweeps.announce_endings,
        workflow.end_passes_of_deactivated,
    ):
        try:
            _until_done(due)
        except Exception:  # one that cannot go on must not hold up the others
            log.exception("sweep.failed", sweep=due.__name__)


@shared_task(name="default.find_stuck")
def find_stuck() -> None:
    """Nobody loses anything by hearing of this a minute later, and it looks at every pending request."""
    _until_done(sweeps.tell_stuck)


@shared_task(name="default.sweep_deliveries")
def sweep_deliveries() -> None:
    deliveries.sweep()


@shared_task(name="default.sweep_outbox")
def sweep_outbox() -> None:
    for _ in range(MOST_BATCHES):
        if mail.send_due() < mail.BATCH:
            return


def _until_done(due: Callable[[], int]) -> None:
    for _ in range(MOST_BATCHES):
        if not due():
            return
