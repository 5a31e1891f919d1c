"""What people type: how long it may be, and what can be stored; and a text that is shortened to be shown.

A box counts characters as a row does, a line break as one: what fits in the box fits in the row. What does not fit is
refused and never cut.
"""

from requests_app.domain.errors import Invalid

LONGEST_JUSTIFICATION = 2000
LONGEST_TICKET = 100
LONGEST_COMMENT = 1000
LONGEST_REASON = 500
MOST_NUMBER = 10**15


CANNOT_BE_STORED = "There is a character in this that cannot be stored. Type it again."


def can_be_stored(text: str) -> bool:
    """PostgreSQL takes no NUL, and UTF-8 no half of a surrogate pair, which JSON can smuggle in."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def is_readable(document: object, *, depth: int = 50) -> bool:
    """Whether what was read as JSON can be stored as it: its numbers are bounded, and so is how deep it goes."""
    if isinstance(document, dict | list):
        parts = document.values() if isinstance(document, dict) else document
        return (depth > 0 or not document) and all(is_readable(part, depth=depth - 1) for part in parts)
    return not isinstance(document, int | float) or -MOST_NUMBER <= document <= MOST_NUMBER  # what is no number is not


def plain_reason(typed: str, *, read_by: str) -> str:
    """Why something is ended or held, as it is stored. Raises Invalid."""
    reason = typed.strip()
    if not reason or not can_be_stored(reason):
        raise Invalid({"reason": [f"Say why, in plain characters: {read_by} it."]})
    if len(reason) > LONGEST_REASON:
        raise Invalid({"reason": [f"Say it in {LONGEST_REASON} characters; these are {len(reason):,}."]})
    return reason


def shortened(text: str, most: int) -> str:
    """At most so many characters of it; where some were left out, that is seen. For what machines say, and subjects."""
    return text if len(text) <= most else f"{text[: most - 2].rstrip()} …"
