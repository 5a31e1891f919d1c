"""How lengths of time and moments are written for people: one way for each, in pages, mail and refusals."""

from datetime import datetime, timedelta, tzinfo


def in_words(duration: timedelta) -> str:
    """A length of time as people say it: `45 min`, `1 h`, `1 h 30 min`, `3 days`."""
    seconds = int(duration.total_seconds())
    if seconds >= 86400 and seconds % 86400 == 0:
        return "1 day" if seconds == 86400 else f"{seconds // 86400} days"
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return " ".join(part for part in (f"{hours} h" if hours else "", f"{minutes} min" if minutes else "") if part)


def at_in_words(at: datetime, there: tzinfo, *, seconds: bool = False, now: datetime | None = None) -> str:
    """A moment by the clocks of a zone, which is named: `6 Nov 2026 08:00 Europe/Berlin`.

    Given `now`, without the day where that is today's: `08:00 Europe/Berlin`.
    """
    local = at.astimezone(there)
    time = f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"
    is_today = now is not None and now.astimezone(there).date() == local.date()
    return f"{time} {there}" if is_today else f"{local.day} {local:%b %Y} {time} {there}"
