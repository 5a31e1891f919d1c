"""How far AWS's clock is from the database's, and who we are there: one row a region."""

import structlog
from django.db import transaction

from requests_app.aws import sts
from requests_app.aws.errors import AwsError
from requests_app.domain import clock
from requests_app.domain.models import Account, AwsClock
from requests_app.domain.workflow.deliveries import region

log = structlog.get_logger(__name__)


def read() -> None:
    """Measure for every partition in use. A failed reading leaves the old one, which soon counts as unknown."""
    partitions = set(Account.objects.filter(is_active=True).values_list("partition", flat=True).distinct()) or {"aws"}
    for at in sorted(region(partition) for partition in partitions):
        try:
            reading = sts.read_clock(at, clock.now)
        except AwsError as error:
            log.warning("clock.unread", region=at, aws_code=error.code, advice=error.advice)
            continue
        with transaction.atomic():
            AwsClock.objects.update_or_create(
                region=at,
                defaults={
                    "low_seconds": reading.low,
                    "high_seconds": reading.high,
                    "measured_at": clock.now(),
                    "identity_arn": reading.identity_arn,
                    "chained": reading.chained,
                },
            )
