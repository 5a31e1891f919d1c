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


def at_in_words(at: datetime, there: tzinfo, *, seconds: bool = False) -> str:
    """A moment by the clocks of a zone, which is named: `26 Nov 2026 08:00 Europe/Berlin`."""
    local = at.astimezone(there)
    return f"{local:%d %b %Y %H:%M:%S} {there}" if seconds else f"{local:%d %b %Y %H:%M} {there}"
