from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from requests_app.domain.transitions import State
from requests_app.templatetags import daypass

NOW = datetime(2026, 11, 23, 16, 40, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (45, "45 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (86400, "1 d"),
        (2 * 86400 + 3 * 3600 + 60, "2 d 3 h"),
        (-5, "0 s"),
    ],
)
def test_lengths_of_time(seconds: int, words: str) -> None:
    assert daypass.span(timedelta(seconds=seconds)).replace("\N{NO-BREAK SPACE}", " ") == words


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (NOW, "17:40"),
        (NOW - timedelta(days=1), "yesterday 17:40"),
        (NOW + timedelta(hours=10), "tomorrow 03:40"),
        (datetime(2026, 11, 3, 8, tzinfo=UTC), "3 Nov 09:00"),
        (datetime(2025, 12, 31, 23, 30, tzinfo=UTC), "1 Jan 2026 00:30"),
    ],
)
def test_moments_are_said_in_the_readers_zone(at: datetime, words: str) -> None:
    with timezone.override(ZoneInfo("Europe/Berlin")):
        assert f">{words}</time>" in daypass.moment(at, NOW)
        assert "Europe/Berlin" in daypass.moment(at, NOW)  # on hover
        assert "UTC" in daypass.moment(at, NOW)


def test_what_is_left_is_never_said_to_be_nothing_while_it_is_something() -> None:
    assert daypass.left(NOW + timedelta(seconds=1), NOW) == "1\N{NO-BREAK SPACE}min"
    assert daypass.left(NOW, NOW) == "no time"


def test_a_picture_is_drawn_once_however_often_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(daypass, "lucide", lambda name, **_: f"<svg>{drawn.append(name)}</svg>")  # type: ignore[func-returns-value]
    daypass._svg.cache_clear()
    for _ in range(3):
        daypass.mark("active", "zap", "green")
        daypass.icon("zap", 15)
        daypass.icon("zap", 22)
    daypass._svg.cache_clear()
    assert drawn == ["zap", "zap"]


def test_every_state_has_a_word_and_an_icon() -> None:
    for state in State:
        shown = daypass.state(state)
        assert "<svg" in shown
        assert daypass.STATES[state][0] in shown


def test_every_act_on_record_has_words() -> None:
    from requests_app.delivery.web import timeline
    from requests_app.domain.audit import Action

    told = {action for action in Action if action.startswith(("request.", "delivery.", "session."))}
    assert told <= set(timeline._DONE)
