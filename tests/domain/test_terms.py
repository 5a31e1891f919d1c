"""Richer terms as pure functions, against slow and obvious models."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from requests_app.domain import policy
from requests_app.domain.hours import Hours
from requests_app.domain.policy import Holding, MoreTime, Pass
from requests_app.domain.terms import StageTerms, Terms
from requests_app.domain.transitions import State
from tests.domain.test_policy import GOOD, terms_with

# A Thursday; at midnight the year ends.
NOW = datetime(2026, 12, 31, 20, tzinfo=UTC)
MINUTE, QUARTER = timedelta(minutes=1), timedelta(minutes=15)
small = st.integers(1, 4)
some = st.frozensets(small, max_size=3)
office = st.builds(
    Hours,
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
    days=st.frozensets(st.integers(1, 7), min_size=1).map(tuple),
    begin=st.integers(0, 23).map(lambda hour: f"{hour:02}:00"),
    end=st.integers(0, 23).map(lambda hour: f"{hour:02}:30"),
)


def lies_in(hours: Hours | None, begin: datetime, end: datetime) -> bool:
    """Every quarter of an hour of it."""
    if hours is None:
        return True
    while begin < end:
        if hours.closes(begin) is None:
            return False
        begin += QUARTER
    return True


@settings(max_examples=300)
@given(
    small,
    st.sampled_from([State.ACTIVE, State.ACTIVE, State.ACTIVE, State.APPROVED, State.EXPIRED]),
    st.integers(-1, 12),
    st.lists(st.integers(1, 8), max_size=3),
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 40),
    st.none() | office,
    st.sampled_from([0, 59, 60, 899]) | st.integers(1, 12).map(lambda n: n * 900),
    st.sampled_from([0, 0, 2, 3, 9]),
    st.lists(st.sampled_from([True, True, True, False]), max_size=2).map(tuple),
)
def test_may_extend(
    who: int,
    state: State,
    left: int,
    granted: list[int],
    pending: bool,
    most: int,
    total: int,
    hours: Hours | None,
    seconds: int,
    in_vain: int,
    enough: tuple[bool, ...],
) -> None:
    """In quarters of an hour: one asked for four, `granted` more, `left` are left."""
    terms = replace(
        terms_with(()), extensions_most=most, extension_total_seconds=total * 900, hours=hours, longest_seconds=3600
    )
    end = NOW + left * QUARTER
    holds = {one.name: getattr(GOOD, one.name) for one in fields(Holding)}
    more = MoreTime(
        **holds | {"is_beneficiary": who == 1, "state": state, "expires_at": end, "now": NOW},
        lasts=3600 + sum(granted) * 900, granted=len(granted), in_vain=in_vain, is_pending=pending, terms=terms,
        wanted=seconds, most_in_vain=3, stages_with_enough_people=enough,
    )  # fmt: skip
    verdict = policy.may_extend(more)
    assert policy.may_extend(replace(more, excludes_person=True)).rule in (
        *("extend.not_yours", "extend.not_active", "entitlement.excluded"),
    )
    new_end = end + timedelta(seconds=seconds)
    expected = (
        who == 1
        and state == "active"
        and left > 0
        and not pending
        and len(granted) < most
        and seconds >= 60
        and 4 * 900 + sum(quarters * 900 for quarters in granted) + seconds <= total * 900
        and lies_in(hours, NOW, new_end)
        and in_vain < 3
        and all(enough)
    )
    assert bool(verdict) is expected, verdict
    assert expected or (verdict.message[:1].isupper() and verdict.message.endswith("."))


@given(st.none() | st.integers(-100, 100), st.none() | office, st.integers(-100, 100), st.integers(1, 40))
def test_when_a_pass_begins_and_ends(scheduled: int | None, hours: Hours | None, at: int, quarters: int) -> None:
    terms = replace(terms_with(()), hours=hours, start_within_seconds=1800)
    scheduled_at = None if scheduled is None else NOW + scheduled * QUARTER
    now = NOW + at * QUARTER
    of = Pass(State.APPROVED, 1, 1, 0, None, scheduled_at=scheduled_at)
    may_start = policy.may_start(of, terms, now=now)
    assert bool(may_start) is ((scheduled is None or at >= scheduled) and lies_in(hours, now, now + QUARTER))
    if may_start:
        end = policy.ends_at(now, quarters * 900, terms)
        inside = [n for n in range(quarters) if lies_in(hours, now, now + (n + 1) * QUARTER)]
        assert end == now + len(inside) * QUARTER or (hours and hours.closes(now) == end)
        assert now < end <= now + quarters * QUARTER
    # It lapses so long after it could first begin, and can begin before it lapses.
    last = policy.last_start(now, scheduled_at, terms)
    first = next(
        moment
        for moment in (max(now, scheduled_at or now) + n * QUARTER for n in range(16 * 96))
        if lies_in(hours, moment, moment + QUARTER)
    )
    assert last == first + timedelta(seconds=1800)
    assert policy.may_start(of, terms, now=last - MINUTE) or hours


@given(st.none() | office, st.integers(-8, 8), st.integers(1, 12))
def test_nothing_is_minted_for_a_pass_that_does_not_end_with_the_hours(
    hours: Hours | None, at: int, quarters: int
) -> None:
    """Whoever wrote such a row: the worker asks this by itself."""
    now = NOW + at * QUARTER
    document = hours.document() if hours else None
    end = now + quarters * QUARTER
    verdict = policy.may_mint(replace(GOOD, expires_at=end, now=now, clock_measured_at=now, hours_document=document))
    assert bool(verdict) is lies_in(hours, now, now + quarters * QUARTER)
    assert verdict or verdict.rule == "mint.hours"


@pytest.mark.parametrize(("zone", "said"), [(UTC, "{} UTC"), (ZoneInfo("Asia/Kathmandu"), "{} Asia/Kathmandu")])
def test_a_refusal_that_names_a_time_names_it_by_the_clocks_of_who_reads_it(zone: tzinfo, said: str) -> None:
    later = datetime(2027, 1, 1, 3, 30, tzinfo=UTC)
    wall = later.astimezone(zone)
    hours = Hours("Europe/Berlin", (5,), "04:30", "05:00")
    waits = Pass(State.APPROVED, 1, 1, 0, None, scheduled_at=later)
    held = replace(GOOD, held_until=later, now=NOW, expires_at=later + timedelta(hours=1), time_zone=str(zone))
    verdicts = [
        policy.may_start(waits, terms_with(()), now=NOW, zone=zone),
        policy.may_start(replace(waits, scheduled_at=None), replace(terms_with(()), hours=hours), now=NOW, zone=zone),
        policy.may_mint(held),
    ]
    assert [one.rule for one in verdicts] == ["start.scheduled", "start.hours", "mint.held"]
    for verdict, form in zip(verdicts, ("%b %Y %H:%M", "%b %Y %H:%M", "%b %Y %H:%M:%S"), strict=True):
        assert said.format(f"{wall.day} {wall:{form}}") in verdict.message


@given(
    st.none() | office,
    st.sampled_from(["both", "console", "keys"]),
    st.lists(st.tuples(some, some, st.none() | st.integers(60, 600)), max_size=3),
)
def test_terms_survive_being_stored(hours: Hours | None, channels: str, asked: list[Any]) -> None:
    stages = tuple(
        StageTerms(n, 1, tuple(groups), tuple(users), "x", after, tuple(users), tuple(groups), "y")
        for n, (groups, users, after) in enumerate(asked, 1)
    )
    terms = replace(terms_with(stages), hours=hours, channels=channels, most_at_once=2, ticket_pattern="A+")
    terms = replace(terms, not_through_mcp=channels == "keys", ends_by_sts_only=channels == "console")
    document = terms.document()
    assert Terms.from_document(document) == terms
    # What a newer Daypass stored besides is left alone, in the terms and in their stages.
    document["colour"] = "red"
    for stage in document["stages"]:
        stage["colour"] = "red"
    assert Terms.from_document(document) == terms
    for closed in (False, True):
        keys, console = (policy.may_use(terms.channels, it, console_is_closed=closed) for it in ("keys", "console"))
        assert bool(keys) is (channels != "console")
        assert bool(console) is (channels != "keys" and not closed)


def test_terms_from_before_have_what_was_then_so() -> None:
    older = terms_with((StageTerms(1, 1, (1,), (), "x"),)).document()
    kept = {"entitlement", "name", "revision", "longest_seconds", "approval", "stages", "session_ceiling_seconds"}
    kept |= {"pending_seconds", "start_within_seconds", "ticket", "justification_min", "narrowing_statements"}
    kept |= {"narrowing_policy_arns", "lifted"}
    older = {name: value for name, value in older.items() if name in kept}
    older["stages"] = [
        {name: stage[name] for name in ("position", "quorum", "groups", "users", "asks")} for stage in older["stages"]
    ]
    terms = Terms.from_document(older)
    assert not terms.may_be_extended
    assert not terms.not_through_mcp
    assert not terms.ends_by_sts_only
    assert terms.hours is None
    assert terms.allows("console")
    assert terms.allows("keys")
    assert not terms.stage(1).is_escalated(NOW - timedelta(days=9), NOW)
