"""Hours in a time zone against a walk along the wall clock, where clocks are set and around midnight."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from requests_app.domain import hours
from requests_app.domain.hours import Hours

STEP = timedelta(minutes=15)
DAY = timedelta(days=1)
# Around the days on which clocks are set: by an hour, by half an hour, and by a whole day that Samoa never had.
AROUND = {
    "Europe/Berlin": (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)),
    "America/St_Johns": (datetime(2026, 3, 8, 5, 30, tzinfo=UTC), datetime(2026, 11, 1, 4, 30, tzinfo=UTC)),
    "Australia/Lord_Howe": (datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    "Pacific/Apia": (datetime(2011, 12, 30, 10, tzinfo=UTC), datetime(2026, 12, 31, 10, tzinfo=UTC)),
    "Asia/Kathmandu": (datetime(2026, 12, 31, 18, 15, tzinfo=UTC),),
    "UTC": (datetime(2026, 2, 28, 23, 45, tzinfo=UTC),),
}
times = st.integers(0, 95).map(lambda n: f"{n // 4:02}:{n % 4 * 15:02}")
places = st.sampled_from([(zone, at) for zone, moments in AROUND.items() for at in moments])
days = st.frozensets(st.integers(1, 7), min_size=1).map(lambda some: tuple(sorted(some)))


def walk(zone: str, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """Each quarter of an hour, and the latest that the wall clock has shown by then."""
    moments = [since + n * STEP for n in range(int((until - since) / STEP))]
    shown = accumulate((at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for at in moments), max)
    return list(zip(moments, shown, strict=True))


def is_open(of: Hours, shown: datetime) -> bool:
    begin, end = time.fromisoformat(of.begin), time.fromisoformat(of.end)

    def holds(day: date) -> bool:
        last = day if end > begin else day + DAY
        return day.isoweekday() in of.days and datetime.combine(day, begin) <= shown < datetime.combine(last, end)

    return holds(shown.date()) or holds(shown.date() - DAY)


@settings(max_examples=300, deadline=None)
@given(places, days, times, times, st.integers(-300, 300))
@example(("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)), (7,), "02:15", "02:45", 0)
@example(("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)), (6,), "22:00", "02:30", -2)
@example(("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)), (7,), "02:30", "02:45", 2)
@example(("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)), (5,), "09:00", "17:00", -4)
def test_hours_against_a_walk_along_the_wall_clock(
    place: tuple[str, datetime], days: tuple[int, ...], begin: str, end: str, steps: int
) -> None:
    zone, near = place
    of, at = Hours(zone, days, begin, end), near + steps * STEP
    # Long enough before that the wall clock had shown less than it does.
    walked = [(moment, is_open(of, shown)) for moment, shown in walk(zone, at - 3 * DAY, at + 16 * DAY) if moment >= at]
    opens = next((moment for moment, is_open in walked if is_open), None)
    assert of.next_opening(at) == opens
    if not walked[0][1]:
        assert of.closes(at) is None
    elif closed := next((moment for moment, is_open in walked if not is_open), None):
        assert of.closes(at) == closed
    else:
        assert len(days) == 7
        assert of.closes(at) >= at + timedelta(days=90)  # type: ignore[operator]


def test_a_night_shift_belongs_to_the_day_on_which_it_begins() -> None:
    friday = Hours("Europe/Berlin", (5,), "22:00", "06:00")
    inside = datetime(2026, 11, 28, 4, 59, 59, tzinfo=UTC)  # Saturday, 05:59:59 in Berlin
    assert friday.closes(inside) == datetime(2026, 11, 28, 5, tzinfo=UTC)
    assert friday.closes(inside + timedelta(seconds=1)) is None
    assert friday.closes(inside - DAY) is None
    assert friday.next_opening(inside - DAY) == datetime(2026, 11, 27, 21, tzinfo=UTC)


def test_hours_that_follow_without_a_gap_are_one() -> None:
    """Every day around the clock does not end a pass at midnight."""
    always = Hours("UTC", (1, 2, 3, 4, 5, 6, 7), "00:00", "00:00")
    at = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    assert always.closes(at) >= at + timedelta(days=90)  # type: ignore[operator]
    weekend = Hours("UTC", (6, 7), "08:00", "08:00")
    assert weekend.closes(datetime(2026, 11, 28, 9, tzinfo=UTC)) == datetime(2026, 11, 30, 8, tzinfo=UTC)


def test_a_time_zone_that_nobody_knows_is_never_open_and_never_an_error() -> None:
    lost = Hours("Mars/Olympus", (1,), "00:00", "23:00")
    at = datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert (lost.closes(at), lost.next_opening(at)) == (None, None)
    for name in ("Mars/Olympus", "", "../etc/passwd", "Europe", "x" * 64):
        with pytest.raises(ValueError, match="There is no time zone"):
            hours.zone(name)


@pytest.mark.parametrize(
    ("days", "words"),
    [
        ((1, 2, 3, 4, 5), "Mon–Fri 08:00–18:00 UTC"),
        ((7, 6), "Sat, Sun 08:00–18:00 UTC"),
        ((3, 1), "Mon, Wed 08:00–18:00 UTC"),
        ((1, 2, 3, 4, 5, 6, 7), "every day 08:00–18:00 UTC"),
    ],
)
def test_in_words(days: tuple[int, ...], words: str) -> None:
    of = Hours("UTC", days, "08:00", "18:00")
    assert of.in_words() == words
    assert Hours.from_document(of.document()) == of
