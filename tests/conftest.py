"""What every test can ask for. The servers are in tests/servers.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from sandbox.history import open_history
from tests import servers
from tests.cast import *  # noqa: F403


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: Any) -> Iterator[None]:
    """In place of pytest-django's: the owner role migrates, and every test runs as the application's role."""
    from django.test import TransactionTestCase

    with django_db_blocker.unblock():
        servers.make_test_database(servers.database_name())
        servers.point_django_at(servers.database_name())
    # Django's way is TRUNCATE by the application's role, which may not, on tables that refuse it.
    TransactionTestCase._fixture_teardown = lambda self: servers.empty_database()  # type: ignore[attr-defined]
    yield
    servers.point_django_at(servers.database_name())  # closes the connections


@pytest.fixture(scope="session", autouse=True)
def _look_for_static_files_when_asked(django_test_environment: None) -> None:
    """As while somebody works on them: otherwise whitenoise lists them all for each new `Client`, 30 ms."""
    from django.conf import settings

    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture(scope="session", autouse=True)
def _clients_have_the_cookie(django_test_environment: None) -> None:
    from tests import clients

    clients.use_secrets()


@pytest.fixture(scope="session", autouse=True)
def _passwords_are_quickly_hashed(django_test_environment: None) -> None:
    """By the same algorithm, but not a million times, which takes half a second of every sign-in."""
    from django.contrib.auth.hashers import PBKDF2PasswordHasher

    PBKDF2PasswordHasher.iterations = 1000


@pytest.fixture(scope="session", autouse=True)
def _who_moves_the_clock_writes_a_history(django_test_environment: None) -> Iterator[None]:
    """As the demo does, and only while the clock is moved: otherwise the guards are as strict as anywhere."""
    from django.db import connections

    from requests_app.domain import clock

    moved = clock.moved

    @contextmanager
    def moved_for_the_owner_too(by: timedelta) -> Iterator[None]:
        name = str(connections["default"].settings_dict["NAME"])
        with open_history(servers.database_url("owner", name)), moved(by):
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "moved", moved_for_the_owner_too)
        yield
