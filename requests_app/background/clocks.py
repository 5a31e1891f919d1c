"""How far AWS's clock is from the database's, and who we are there: one row a region."""

import structlog
from django.db import transaction

from requests_app.aws import sts
from requests_app.aws.errors import AwsError
from requests_app.background import identities
from requests_app.domain import clock, restored
from requests_app.domain.models import AwsClock, Identity

log = structlog.get_logger(__name__)


def read() -> None:
    """Measure for every partition in use. A failed reading leaves the old one, which soon counts as unknown.

    Redis need not answer for it: whoever mints asks by itself whether this database is an older copy.
    """
    restored.look()
    for at in identities.regions():
        try:
            reading = sts.read_clock(at, clock.now)
        except AwsError as error:
            log.warning("clock.unread", region=at, aws_code=error.code, advice=error.advice)
            identities.failed(Identity.Worker.MINTER, at, error)
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
        identities.seen(Identity.Worker.MINTER, at, reading)
