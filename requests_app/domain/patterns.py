"""Patterns that operators write and everybody's text is held against: by RE2, whose time grows with the text only."""

from typing import Any

import re2  # type: ignore[import-untyped]

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False  # the pattern's author reads what is wrong with it in the form
_OPTIONS.max_mem = 1 << 20
_OPTIONS.dot_nl = True  # `.*OPS-1.*` is meant of a text of several lines too


def check(pattern: str) -> None:
    """Raises ValueError, with a sentence for the author, if this is not a pattern."""
    try:
        _compiled(pattern)
    except re2.error as wrong:
        reason = wrong.args[0] if wrong.args else "unknown"
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise ValueError(f"This is not a regular expression as RE2 understands it: {reason}.") from wrong


def fits(pattern: str, text: str) -> bool:
    """Whether the whole text fits; every text fits the empty pattern, and none a pattern that is none."""
    try:
        return not pattern or _compiled(pattern).fullmatch(text) is not None
    except re2.error:
        return False


def _compiled(pattern: str) -> Any:
    return re2.compile(pattern, _OPTIONS)
