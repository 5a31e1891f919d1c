"""A date and a time as people type them, by the clocks of their own zone."""

from datetime import UTC, date, datetime, time, tzinfo

# Far beyond what any terms allow, and near enough to reckon with.
YEARS = range(2000, 2200)


def moment(day: date, at: time, zone: tzinfo) -> datetime:
    """In UTC. Raises ValueError, with a sentence for the person, where the zone's clocks skip or repeat that time."""
    if day.year not in YEARS:
        raise ValueError("Choose a date that is nearer.")
    local = datetime.combine(day, at, zone)
    moment = local.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
        raise ValueError(
            f"There is no {at:%H:%M} on {day:%d %b %Y} in {zone}: the clocks go forward over it. Choose another time."
        )
    if local.utcoffset() != local.replace(fold=1).utcoffset():
        raise ValueError(
            f"{at:%H:%M} comes twice on {day:%d %b %Y} in {zone}, because the clocks go back. "
            "Choose a time before or after that hour."
        )
    return moment
