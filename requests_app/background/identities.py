"""Who our workers are at AWS, and what AWS last said when one could not be seen: one row a worker and region."""

from collections.abc import Iterable
from urllib.parse import urlsplit

import structlog
from django.db import transaction

from requests_app.aws import sts
from requests_app.aws.errors import AwsError
from requests_app.aws.sts import ClockReading
from requests_app.domain import clock
from requests_app.domain.models import Account, Identity
from requests_app.domain.partitions import region
from requests_app.domain.texts import shortened

log = structlog.get_logger(__name__)


def identify_revoker() -> None:
    """Ask AWS who the revoking worker is, in each region where it has work."""
    for at in regions():
        try:
            seen(Identity.Worker.REVOKER, at, sts.read_clock(at, clock.now))
        except AwsError as error:
            failed(Identity.Worker.REVOKER, at, error)


def regions() -> Iterable[str]:
    """Those whose STS is asked: one for each partition in use."""
    partitions = set(Account.objects.filter(is_active=True).values_list("partition", flat=True).distinct()) or {"aws"}
    return sorted(region(partition) for partition in partitions)


def seen(worker: Identity.Worker, at: str, reading: ClockReading) -> None:
    """AWS has just said who this worker is."""
    endpoint = _endpoint(at)
    _write(
        worker,
        at,
        arn=reading.identity_arn,
        chained=reading.chained,
        endpoint=endpoint[:300],
        regional=at in (urlsplit(endpoint).hostname or "").split("."),
        seen_at=clock.now(),
        failed_at=None,
        aws_code="",
        aws_message="",
    )


def failed(worker: Identity.Worker, at: str, error: AwsError) -> None:
    """This worker could not be seen; what was last known of it stays."""
    log.warning("identity.unseen", worker=str(worker), region=at, aws_code=error.code)
    _write(worker, at, failed_at=clock.now(), aws_code=error.code[:100], aws_message=shortened(error.message, 2000))


def _endpoint(at: str) -> str:
    try:
        return sts.endpoint(at)
    except AwsError:
        return ""


def _write(worker: Identity.Worker, at: str, **values: object) -> None:
    with transaction.atomic():
        Identity.objects.update_or_create(worker=worker, region=at, defaults=values)
