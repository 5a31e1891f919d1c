"""Days and hours in a time zone: when passes under some terms may start, and when they end at the latest."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Hours:
    """On these ISO weekdays (1 is Monday) from `begin` to `end` of the wall clock in `zone`.

    An `end` not after its `begin` is on the day after: a night shift belongs to the day on which it begins.
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
        """When the hours in which `at` lies are over, in UTC; None if it lies in none."""
        today = at.astimezone(ZoneInfo(self.zone)).date()
        ends = [end for begin, end in map(self._on, (today - _DAY, today)) if begin <= at < end]
        return max(ends, default=None)

    def next_opening(self, at: datetime) -> datetime:
        """The first moment from `at` on that lies in the hours, in UTC."""
        if self.closes(at) is not None:
            return at
        today = at.astimezone(ZoneInfo(self.zone)).date()
        # A day's hours can be empty where the clocks go forward over them.
        begins = (self._on(today + n * _DAY) for n in range(-1, 22))
        return min(begin for begin, end in begins if at <= begin < end)

    def in_words(self) -> str:
        return f"{_days_in_words(self.days)} {self.begin}–{self.end} {self.zone}"

    def _on(self, day: date) -> tuple[datetime, datetime]:
        if day.isoweekday() not in self.days:
            return datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
        begin, end = time.fromisoformat(self.begin), time.fromisoformat(self.end)
        last = day if end > begin else day + _DAY
        zone = ZoneInfo(self.zone)
        return (
            datetime.combine(day, begin, zone).astimezone(UTC),
            datetime.combine(last, end, zone).astimezone(UTC),
        )


def _days_in_words(days: tuple[int, ...]) -> str:
    """`Mon–Fri`, `Mon, Wed`, `every day`."""
    if len(days) == 7:
        return "every day"
    names = [DAYS[day - 1][:3] for day in sorted(days)]
    on_end = len(days) > 2 and max(days) - min(days) == len(days) - 1
    return f"{names[0]}–{names[-1]}" if on_end else ", ".join(names)
