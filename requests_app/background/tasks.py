"""Celery's door. A message is only a nudge: each task looks in the database for what is due.

A task's name starts with its queue. Nothing here trusts an argument: it may come from whoever can write to Redis.
"""

import structlog
from celery import shared_task
from celery.signals import worker_init, worker_ready
from django.db import connections

from requests_app.background import clocks, identities, mail, minting, preflights, revoking, troubles
from requests_app.domain import jobs, restored, workflow
from requests_app.domain.models import AccessRequest, Delivery
from requests_app.domain.workflow import deliveries, due, revocations, sweeps
from requests_app.domain.workflow.preflights import Half

log = structlog.get_logger(__name__)


@shared_task(name="mint.mint")
def mint(delivery_id: object) -> None:
    if type(delivery_id) is int and 0 < delivery_id < 2**63:
        minting.mint(delivery_id)


@shared_task(name="aws.read_clock")
def read_clock() -> None:
    clocks.read()


@shared_task(name="revoke.identify")
def identify_revoker() -> None:
    identities.identify_revoker()


@worker_init.connect
def look_before_any_work(**_: object) -> None:
    """A database that was restored while nothing ran is held before anything runs."""
    try:
        restored.look()
    except Exception:  # each piece of work looks again
        log.exception("restored.unknown")
    finally:
        connections.close_all()


@worker_ready.connect
def look_at_once(**_: object) -> None:
    """Nothing is minted while AWS's clock is unknown, and no role is looked at, so a fresh start does not wait."""
    for task in ("aws.read_clock", "revoke.identify", "default.make_preflights"):
        jobs.send(task)


@shared_task(name="revoke.work")
def revoke(role_id: object) -> None:
    if type(role_id) is int and 0 < role_id < 2**31:
        revoking.work(role_id)


@shared_task(name="aws.probe")
def probe(role_id: object) -> None:
    if type(role_id) is int and 0 < role_id < 2**31:
        revoking.prove(role_id)


@shared_task(name="aws.preflight")
def preflight_as_minter(role_id: object) -> None:
    if type(role_id) is int and 0 < role_id < 2**31:
        preflights.look(role_id, Half.MINTER)


@shared_task(name="revoke.preflight")
def preflight_as_revoker(role_id: object) -> None:
    if type(role_id) is int and 0 < role_id < 2**31:
        preflights.look(role_id, Half.REVOKER)


@shared_task(name="default.make_preflights")
def make_preflights() -> None:
    for _ in range(troubles.MOST_BATCHES):
        if not workflow.preflights.make_missing():
            return


@shared_task(name="default.sweep_preflights")
def sweep_preflights() -> None:
    workflow.preflights.sweep_both()


@shared_task(name="default.sweep_revocations")
def sweep_revocations() -> None:
    revocations.sweep()


@shared_task(name="default.sweep_requests")
def sweep_requests() -> None:
    troubles.attempt("default.sweep_requests", restored.keep_watch)
    idle = troubles.attempt("default.sweep_requests", due.idle) or ()
    in_order = (
        sweeps.expire_due,
        sweeps.lapse_due,
        sweeps.lapse_extensions,
        sweeps.lapse_hopeless,
        sweeps.activate_due,
        sweeps.escalate_due,
        sweeps.announce_endings,
        workflow.end_passes_of_deactivated,
    )
    troubles.sweep("default.sweep_requests", in_order, AccessRequest.objects.all(), idle=idle)
    if workflow.idempotency.forget_old not in idle:
        troubles.attempt("default.sweep_requests", workflow.idempotency.forget_old)
    if workflow.attempts.forget_old not in idle:
        troubles.attempt("default.sweep_requests", workflow.attempts.forget_old)


@shared_task(name="default.find_stuck")
def find_stuck() -> None:
    """What nobody loses anything by a minute later: these look at every pending request."""
    in_order = (sweeps.lapse_hopeless, sweeps.tell_stuck, sweeps.tell_of_no_use)
    troubles.sweep("default.find_stuck", in_order, AccessRequest.objects.all())
    troubles.attempt("default.find_stuck", workflow.factors.seal_old)


@shared_task(name="default.sweep_deliveries")
def sweep_deliveries() -> None:
    troubles.sweep("default.sweep_deliveries", (deliveries.give_up_old,), Delivery.objects.all())
    deliveries.nudge_waiting()


@shared_task(name="default.sweep_outbox")
def sweep_outbox() -> None:
    for _ in range(troubles.MOST_BATCHES):
        if mail.send_due() < mail.BATCH:
            return
