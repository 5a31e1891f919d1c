"""Patterns are RE2's: of the whole text, refused when they are none, and quick whatever somebody writes."""

import re
import time

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from requests_app.domain import patterns
from requests_app.domain.models import Entitlement

# What RE2 and Python's own read alike.
simple = st.from_regex(r"\A[A-C]{0,3}(-|\[0-9\])?(\[0-9\]\{1,3\}|[xyz][*+?]?)?\Z")


@given(simple, st.text("ABCxyz-0123456789", max_size=6))
def test_the_whole_text_fits_or_none(pattern: str, text: str) -> None:
    expected = not pattern or re.fullmatch(pattern, text) is not None
    assert patterns.fits(pattern, text) is expected


def test_a_reason_may_have_several_lines() -> None:
    assert patterns.fits(r".*OPS-\d+.*", "The batch failed.\nSee OPS-12,\nand the runbook.")
    assert not patterns.fits(r"OPS-\d+", "OPS-12\nand more")
    assert patterns.fits("(?i)GRÖ.e .*", "größe 3")


@pytest.mark.parametrize("pattern", ["(", "*", r"(?=x)", r"(a)\1", "x{2000}", "((x{100}){100}){100}", "\\"])
def test_what_is_no_pattern_is_refused_where_it_is_written(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"^This is not a regular expression .*\.$"):
        patterns.check(pattern)
    for field in ("justification_pattern", "ticket_pattern"):
        with pytest.raises(ValidationError):
            Entitlement._meta.get_field(field).clean(pattern, None)  # type: ignore[union-attr]
    # One that got into the database all the same lets nothing through, and is no error.
    assert not patterns.fits(pattern, "x")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*)*x", "(a?){100}a{100}", "(x+x+)+y"])
def test_a_pattern_made_to_take_for_ever_is_quick(pattern: str) -> None:
    begun = time.monotonic()
    for text in ("a" * 2000 + "!", "x" * 2000):
        patterns.fits(pattern, text)
    assert time.monotonic() - begun < 1
