"""What every test can ask for. The servers are in tests/servers.py."""

from collections.abc import Iterator
from typing import Any

import pytest

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
