"""What may stand in a log."""

import logging

import pytest

from portal import logs


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
