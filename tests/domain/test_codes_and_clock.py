"""Codes that can be read aloud, and the one clock."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from requests_app.domain import clock, codes
from requests_app.domain.durations import in_words


def test_codes_have_one_length_one_case_and_no_letters_that_look_alike() -> None:
    made = {codes.new_code() for _ in range(2000)}
    assert len(made) == 2000
    assert all(re.fullmatch(r"DP-[0-9A-HJKMNP-TV-Z]{8}", code) for code in made)
    assert all(codes.CODE.fullmatch(code) for code in made)
    assert set("".join(made)) - set("DP-") | set("DP") == set(codes.ALPHABET)


@pytest.mark.parametrize(
    "code", ["dp-7k2m9qx4", "DP-7K2M9QXI", "DP-7K2M9QX", "DP-7K2M9QX44", "DP-7K2M9QX4\n", "XX-7K2M9QX4"]
)
def test_what_is_no_code(code: str) -> None:
    assert not codes.CODE.fullmatch(code)


def test_source_identities_are_in_aws_alphabet() -> None:
    made = {codes.new_source_identity() for _ in range(500)}
    assert len(made) == 500
    assert all(re.fullmatch(r"[\w+=,.@-]{2,64}", one, re.ASCII) for one in made)


@pytest.mark.django_db
def test_now_is_the_databases_and_moves_within_a_transaction() -> None:
    with transaction.atomic():
        first = clock.now()
        second = clock.now()
        with connection.cursor() as cursor:
            cursor.execute("SELECT now()")
            (began,) = cursor.fetchone()
    assert began <= first < second
    assert first.utcoffset() == timedelta(0)
    assert abs(first - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.django_db
def test_a_process_that_stands_still_in_a_transaction_gives_back_its_locks() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("20s",)


@pytest.mark.django_db
def test_no_statement_waits_to_be_compiled() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW jit")
        assert cursor.fetchone() == ("off",)


@pytest.mark.django_db
def test_a_moved_clock_is_moved_here_and_nowhere_else() -> None:
    before = clock.now()
    with clock.moved(timedelta(hours=2)), clock.moved(-timedelta(hours=1)):
        assert timedelta(minutes=59) < clock.now() - before < timedelta(minutes=61)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(clock._shift.get).result() == timedelta(0)
    assert clock.now() - before < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (45, "45 s"),
        (60, "1 min"),
        (2700, "45 min"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (86400, "1 day"),
        (259200, "3 days"),
        (90000, "25 h"),
    ],
)
def test_durations_in_words(seconds: int, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words
