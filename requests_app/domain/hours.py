"""Days and hours in a time zone: when passes under some terms may start, and when they end at the latest."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
# No pass lasts longer, so nobody asks what is after that.
_FAR_ENOUGH = timedelta(days=91)
# A week has every day once; a day's hours can be empty where the clocks go forward over them.
_MOST_DAYS_CLOSED = 15


def zone(name: str) -> tzinfo:
    """Raises ValueError if this computer knows no such time zone."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError) as unknown:
        raise ValueError(f"There is no time zone {name!r}. One is Europe/Berlin.") from unknown


def zone_or_utc(name: str) -> tzinfo:
    """By whose clocks somebody reads; UTC where the system's table does not know them."""
    try:
        return zone(name)
    except ValueError:
        return UTC


@dataclass(frozen=True, slots=True)
class Hours:
    """On these ISO weekdays (1 is Monday) from `begin` to `end` of the wall clock in `zone`.

    An `end` not after its `begin` is on the day after: a night shift belongs to the day on which it begins. A time
    that the wall clock shows twice is the first of the two; one that it skips is when it skips it.
    In a time zone that nobody knows any more they hold never.
    """

    zone: str
    days: tuple[int, ...]
    begin: str
    end: str

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "Hours":
        return cls(document["zone"], tuple(document["days"]), document["begin"], document["end"])

    def document(self) -> dict[str, Any]:
        return {"zone": self.zone, "days": list(self.days), "begin": self.begin, "end": self.end}

    def closes(self, at: datetime) -> datetime | None:
        """The first moment after `at` that lies in no hours, in UTC; None if `at` itself lies in none.

        Hours without an end close where nobody asks any more, in three months.
        """
        end = at
        while end - at < _FAR_ENOUGH and (later := self._end_of_that_day(end)):
            end = later
        return end if end > at else None

    def next_opening(self, at: datetime) -> datetime | None:
        """The first moment from `at` on that lies in the hours, in UTC; None if there is none."""
        if self._end_of_that_day(at) is not None:
            return at
        return min((begin for begin, end in self._around(at, _MOST_DAYS_CLOSED) if at < begin < end), default=None)

    def in_words(self) -> str:
        return f"{_days_in_words(self.days)} {self.begin}–{self.end} {self.zone}"

    def _end_of_that_day(self, at: datetime) -> datetime | None:
        return max((end for begin, end in self._around(at, 1) if begin <= at < end), default=None)

    def _around(self, at: datetime, days: int) -> list[tuple[datetime, datetime]]:
        """The hours of the day before, of the day, and of the days that follow it."""
        try:
            there = zone(self.zone)
        except ValueError:
            return []
        today = at.astimezone(there).date()
        near = (today + n * _DAY for n in range(-1, days + 1))
        return [self._on(day, there) for day in near if day.isoweekday() in self.days]

    def _on(self, day: date, there: tzinfo) -> tuple[datetime, datetime]:
        begin, end = time.fromisoformat(self.begin), time.fromisoformat(self.end)
        last = day if end > begin else day + _DAY
        return _first_shown(datetime.combine(day, begin), there), _first_shown(datetime.combine(last, end), there)


def _first_shown(wall: datetime, there: tzinfo) -> datetime:
    """The first moment at which the wall clock there shows this, or more because it skipped it; in UTC."""
    at = wall.replace(tzinfo=there).astimezone(UTC)
    if at.astimezone(there).replace(tzinfo=None) == wall:
        return at
    before, after = wall.replace(tzinfo=there, fold=1).astimezone(UTC), at
    while after - before > _SECOND:
        middle = before + (after - before) // (2 * _SECOND) * _SECOND
        if middle.astimezone(there).replace(tzinfo=None) >= wall:
            after = middle
        else:
            before = middle
    return after


def _days_in_words(days: tuple[int, ...]) -> str:
    """`Mon–Fri`, `Mon, Wed`, `every day`."""
    if len(set(days)) == 7:
        return "every day"
    on = sorted(set(days))
    names = [DAYS[day - 1][:3] for day in on]
    on_end = len(on) > 2 and on[-1] - on[0] == len(on) - 1
    return f"{names[0]}–{names[-1]}" if on_end else ", ".join(names)
