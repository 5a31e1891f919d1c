from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requests_app.delivery.web import local_time

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ["Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "UTC"]


def test_what_is_typed_is_meant_by_ones_own_clock() -> None:
    assert local_time.moment(date(2026, 11, 26), time(8), BERLIN) == datetime(2026, 11, 26, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "at", "said"),
    [
        (date(2027, 3, 28), time(2, 30), "There is no 02:30 on 28 Mar 2027 in Europe/Berlin"),
        (date(2026, 10, 25), time(2, 30), "02:30 comes twice on 25 Oct 2026 in Europe/Berlin"),
        (date(1, 1, 1), time(0), "nearer"),
        (date(9999, 12, 31), time(23, 59), "nearer"),
    ],
)
def test_what_no_clock_shows_or_shows_twice_is_refused(day: date, at: time, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        local_time.moment(day, at, BERLIN)


@pytest.mark.parametrize("at", [time(1, 59), time(3, 0)])
def test_just_before_and_after_a_change_is_fine(at: time) -> None:
    for day in (date(2027, 3, 28), date(2026, 10, 25)):
        assert local_time.moment(day, at, BERLIN).astimezone(BERLIN).time() == at


@given(st.dates(date(2010, 1, 1), date(2040, 1, 1)), st.times(), st.sampled_from(ZONES))
def test_whatever_is_taken_is_the_only_moment_that_clock_shows(day: date, at: time, name: str) -> None:
    zone, at = ZoneInfo(name), at.replace(second=0, microsecond=0)
    # A slow model: every moment around, and what that zone's clock shows then.
    noon = datetime.combine(day, at, UTC)
    around = (noon + timedelta(minutes=15 * n) for n in range(-60, 61))
    shown = [one for one in around if one.astimezone(zone).replace(tzinfo=None) == datetime.combine(day, at)]
    if len(shown) == 1:
        assert local_time.moment(day, at, zone) == shown[0]
    else:
        with pytest.raises(ValueError):
            local_time.moment(day, at, zone)
