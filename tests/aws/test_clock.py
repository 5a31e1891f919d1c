"""Reading AWS's clock, and knowing whether we are ourselves a role session."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requests_app.aws import sts
from requests_app.aws.errors import Unavailable

IDENTITY = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    "<Arn>{arn}</Arn><UserId>U</UserId><Account>111111111111</Account>"
    "</GetCallerIdentityResult></GetCallerIdentityResponse>"
)
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAABCDEFGHIJKLMNOP", "AWS_SECRET_ACCESS_KEY": "k" * 40}
NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def utc_now() -> datetime:
    return datetime.now(UTC)


def test_the_stand_in_shares_our_clock_and_the_minter_is_chained(minter):
    reading = sts.read_clock("us-east-1", utc_now)

    assert reading.low <= 0 <= reading.high
    assert 1 <= reading.high - reading.low < 3
    assert reading.identity_arn == "arn:aws:sts::111111111111:assumed-role/daypass-minter/minter"
    assert reading.chained


@pytest.mark.parametrize("shift", [-3600, -31, 40, 86_400])
def test_an_offset_is_found_with_its_sign(minter, shift):
    """Our clock `shift` ahead means that AWS's is `shift` behind."""
    reading = sts.read_clock("us-east-1", lambda: utc_now() + timedelta(seconds=shift))

    assert reading.low <= -shift <= reading.high
    assert reading.high - reading.low < 3


def test_a_mint_tells_the_time_too(minter, order):
    before = utc_now()
    session = sts.assume_role(order)
    after = utc_now()

    low, high = sts.offset_from_mint(session.expires_at, session.asked_duration, before, after)

    assert low <= 0 <= high
    assert 1 <= high - low < 3


@given(
    offset=st.floats(-100, 100),
    start=st.floats(0, 10),
    to_aws=st.floats(0, 12),
    back=st.floats(0, 12),
    duration=st.integers(900, 43_200),
)
def test_the_true_offset_is_always_inside(offset, start, to_aws, back, duration):
    before = NOON + timedelta(seconds=start)
    issued_at = before + timedelta(seconds=to_aws + offset)
    after = before + timedelta(seconds=to_aws + back)
    expires_at = issued_at.replace(microsecond=0) + timedelta(seconds=duration)

    low, high = sts.offset_from_mint(expires_at, duration, before, after)

    assert low - 1e-5 <= offset <= high + 1e-5
    assert high - low == pytest.approx(1 + to_aws + back, abs=1e-5)


@pytest.mark.parametrize("step", [-50, 50])
def test_a_clock_that_is_set_meanwhile_widens_the_reading(as_worker, server, script, step):
    date = "Sun, 22 Nov 2026 12:00:00 GMT"
    stand_in = server(script.answer(IDENTITY.format(arn="arn:aws:iam::111111111111:user/x"), 200, f"Date: {date}"))
    as_worker(KEYS | {"AWS_ENDPOINT_URL": stand_in.url})
    times = iter([NOON, NOON + timedelta(seconds=step)])

    reading = sts.read_clock("us-east-1", lambda: next(times))

    assert reading.low <= min(0, -step)
    assert reading.high >= max(0, -step)


@pytest.mark.parametrize("headers", [[], ["Date: yesterday"], ["Date: "]])
def test_no_date_is_no_reading(as_worker, server, script, headers):
    stand_in = server(script.answer(IDENTITY.format(arn="arn:aws:iam::111111111111:user/x"), 200, *headers))
    as_worker(KEYS | {"AWS_ENDPOINT_URL": stand_in.url})

    with pytest.raises(Unavailable):
        sts.read_clock("us-east-1", utc_now)


def test_the_clocks_own_failure_is_not_blamed_on_aws(minter):
    def broken() -> datetime:
        raise ConnectionError("no database")

    with pytest.raises(ConnectionError):
        sts.read_clock("us-east-1", broken)


@pytest.mark.parametrize(
    ("arn", "temporary", "chained"),
    [
        ("arn:aws:sts::111111111111:assumed-role/daypass-minter/worker", True, True),
        ("arn:aws-us-gov:sts::111111111111:assumed-role/daypass-minter/botocore-session-17", True, True),
        ("arn:aws:sts::111111111111:assumed-role/on-ec2/i-0123456789abcdef0", True, False),
        ("arn:aws:sts::111111111111:assumed-role/on-ec2/i-01234567", True, False),
        ("arn:aws:sts::111111111111:assumed-role/r/i-am-a-person", True, True),
        ("arn:aws:sts::111111111111:assumed-role/r/xi-01234567", True, True),
        ("arn:aws:iam::111111111111:user/bootstrap", False, False),
        ("arn:aws:iam::111111111111:user/with-get-session-token", True, True),
    ],
)
def test_who_counts_as_chained(arn, temporary, chained):
    assert sts.is_chained(arn, temporary=temporary) is chained
