"""What may stand in a log."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from portal import logs
from requests_app.domain.models import AccessRequest, AwsClock, User
from tests import factories
from tests.web.pages import signed_in


@pytest.mark.parametrize(
    "line",
    [
        "Not Found: /accounts/password/reset/key/1-cz3k2-9f8e7d6c5b/",
        "GET /accounts/password/reset/key/1-cz3k2-9f8e7d6c5b/?next=/ HTTP/1.1",
    ],
)
def test_no_key_of_a_password_reset_is_logged(line: str) -> None:
    formatter = logs.config(level="INFO", as_json=True)["formatters"]["structlog"]
    factory = formatter.pop("()")
    record = logging.LogRecord("django.request", logging.WARNING, __file__, 1, line, (), None)

    written = factory(**formatter).format(record)

    assert "9f8e7d6c5b" not in written
    assert "password/reset/key/" in written


def written(line: str, **fields: str) -> str:
    """A line as it stands in the log: one of Python's own, or one of structlog's with fields."""
    formatter = logs.config(level="INFO", as_json=True)["formatters"]["structlog"]
    factory = formatter.pop("()")
    said: Any = {"event": line, **fields} if fields else line
    record = logging.LogRecord("any", logging.WARNING, __file__, 1, said, (), None)
    if fields:
        record._logger, record._name = logging.getLogger("any"), "warning"
    return " ".join(map(str, json.loads(factory(**formatter).format(record)).values()))


@pytest.mark.parametrize(
    "before", ["GET ", '"POST ', "Bad request line: HEAD ", "Referer checking failed - http://here"]
)
@pytest.mark.parametrize("typed", ["my%20own%20words", "my'own\"words", "my?own&words=words", "my=own;words"])
def test_nothing_that_follows_a_question_mark_is_logged(before: str, typed: str) -> None:
    """Links fill in forms, and searches name people: what was typed is in the query."""
    line = f"{before}/request/?role=1&justification={typed} HTTP/1.1"
    for log in (written(line), written("request_started", request=line)):
        assert "/request/?…" in log
        assert "own" not in log
        assert "words" not in log


def test_sentences_with_a_question_mark_stay_as_they_are() -> None:
    assert "is it up? or not" in written("redis: is it up? or not")


@contextmanager
def lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged meanwhile, at the level of production."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    formatter = logs.config(level="INFO", as_json=True)["formatters"]["structlog"]
    handler.setFormatter(formatter.pop("()")(**formatter))
    found: list[dict[str, Any]] = []
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield found
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        found += [json.loads(line) for line in written.getvalue().splitlines()]


@pytest.mark.django_db
def test_what_the_web_process_logs_of_a_request_has_no_query(alice: User) -> None:
    with lines() as said:
        signed_in(alice).get(
            "/request/?justification=mine-alone&ticket=mine-alone", headers={"Referer": "/?mine-alone"}
        )
        signed_in(alice).get("/nowhere?mine-alone")

    assert "GET /request/?…" in [one.get("request") for one in said]
    assert "mine-alone" not in str(said)


@pytest.mark.django_db
def test_a_request_is_one_line_with_all_that_is_known_of_it(
    alice: User, active_request: AccessRequest, aws_clock: AwsClock
) -> None:
    """A page polls each delivery, several times a second while it waits."""
    client, delivery = signed_in(alice), factories.delivery(active_request)
    with lines() as said:
        client.get(f"/deliveries/{delivery.public_id}", headers={"User-Agent": "the page's script"})

    (line,) = said
    assert (line["event"], line["code"], line["level"]) == ("request_finished", 200, "info")
    assert (line["user_id"], line["ip"], line["user_agent"]) == (alice.pk, "127.0.0.1", "the page's script")
    assert line["request_id"]
