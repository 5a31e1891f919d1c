"""AWS's clock, as the worker writes it down."""

from datetime import timedelta
from typing import Any

import pytest

from requests_app.aws import sts
from requests_app.aws.errors import Unavailable
from requests_app.aws.sts import ClockReading
from requests_app.background import clocks
from requests_app.domain import clock, facts, policy
from requests_app.domain.models import Account, AwsClock
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.mark.xdist_group("aws")
def test_a_reading_of_the_stand_in(minter: Any, payments: Account) -> None:
    clocks.read()
    clocks.read()
    row = AwsClock.objects.get()
    assert (row.region, row.chained) == ("us-east-1", True)
    assert "assumed-role/daypass-minter/" in row.identity_arn
    assert -2 < row.low_seconds <= 0 <= row.high_seconds < 2  # the same machine's clock
    assert policy.clock_is_known(facts.clock("us-east-1"), now=clock.now())


def test_each_partition_in_use_is_read_and_one_failure_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.account()
    factories.account(partition="aws-cn")
    factories.account(partition="aws-us-gov", is_active=False)
    asked = []

    def read(region: str, now: object) -> ClockReading:
        asked.append(region)
        if region == "cn-north-1":
            raise Unavailable("EndpointConnectionError", "No answer.", "Try again.")
        return ClockReading(-0.5, 0.5, "arn:aws:sts::111111111111:assumed-role/x/y", True)

    monkeypatch.setattr(sts, "read_clock", read)
    clocks.read()
    assert asked == ["cn-north-1", "us-east-1"]
    assert AwsClock.objects.get().region == "us-east-1"


def test_a_failed_reading_leaves_the_old_one_to_grow_old(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.clock_reading(measured_at=clock.now() - timedelta(seconds=100))

    def read(region: str, now: object) -> ClockReading:
        raise Unavailable("EndpointConnectionError", "No answer.", "Try again.")

    monkeypatch.setattr(sts, "read_clock", read)
    clocks.read()
    assert policy.clock_is_known(facts.clock("us-east-1"), now=clock.now())
    assert not policy.clock_is_known(facts.clock("us-east-1"), now=clock.now() + timedelta(seconds=21))
