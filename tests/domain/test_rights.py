"""What a migration leaves the application's role with: never too much, not even for a moment."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from requests_app.domain.database import after_migrate
from requests_app.domain.transitions import TRANSITIONS

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])

OWN_FUNCTION = """
CREATE FUNCTION public.requests_app_may_follow(text, varchar, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT true'
"""


def _migrated() -> None:
    after_migrate(apps.get_app_config("requests_app"), using="owner")


def test_nothing_is_given_that_is_taken_away_again(app_connection: psycopg.Connection) -> None:
    seen = []

    def look(execute: Callable[..., Any], statement: str, params: Any, many: bool, context: Any) -> Any:
        done = execute(statement, params, many, context)
        rights = app_connection.execute(
            "SELECT has_table_privilege('requests_app_transition', 'INSERT'), "
            "has_table_privilege('requests_app_auditevent', 'UPDATE'), count(*) FROM requests_app_transition"
        ).fetchone()
        seen.append(rights)
        return done

    with connections["owner"].execute_wrapper(look):
        _migrated()

    assert len(seen) > 10
    assert set(seen) == {(False, False, len(TRANSITIONS))}


def test_nobody_creates_beside_the_guards(
    app_connection: psycopg.Connection, superuser_connection: psycopg.Connection
) -> None:
    """As in a database that came from PostgreSQL 14, where everybody might."""
    superuser_connection.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    with app_connection.transaction(force_rollback=True):
        app_connection.execute(OWN_FUNCTION)

    _migrated()

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app_connection.execute(OWN_FUNCTION)


@pytest.mark.parametrize("role", ["daypass_owner", "postgres"])
def test_a_role_that_could_go_round_the_guards_is_refused(role: str, settings: Any) -> None:
    _migrated()  # the control
    settings.DATABASE_APP_ROLE = role
    with pytest.raises(ImproperlyConfigured, match=f"{role} could go round"):
        _migrated()
