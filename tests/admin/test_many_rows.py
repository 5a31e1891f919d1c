"""With very many rows a list still reads a page of them, through an index."""

import re
import time
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from requests_app.domain.models import AuditEvent, Role, User
from tests import factories
from tests.admin.test_reading import address
from tests.web.pages import signed_in

EVENTS = 100_000
ROLES = 50_000


def plans(client: Client, at: str, table: str) -> list[str]:
    """How PostgreSQL reads this table for a page."""
    with CaptureQueriesContext(connection) as made:
        assert client.get(at).status_code == 200
    reads = [one["sql"] for one in made if f'FROM "{table}"' in one["sql"]]
    assert reads
    found = []
    with connection.cursor() as cursor:
        for sql in reads:
            cursor.execute("EXPLAIN " + sql)
            found.append("\n".join(line for (line,) in cursor.fetchall()))
    return found


@pytest.fixture
def many_events(transactional_db: Any, superuser_connection: psycopg.Connection) -> None:
    people = [factories.person(f"person{number}") for number in range(50)]
    superuser_connection.execute("SET session_replication_role = replica")  # no trigger: only for speed
    superuser_connection.execute(
        """
        INSERT INTO requests_app_auditevent (at, action, actor_id, actor_name, beneficiary_id, beneficiary_name,
                                             subject, channel, user_agent, detail)
        SELECT clock_timestamp(),
               CASE WHEN n %% 1000 = 0 THEN 'request.revoked' WHEN n %% 3 = 0 THEN 'sign_in.succeeded'
                    ELSE 'request.submitted' END,
               (%(people)s::bigint[])[1 + n %% 50], 'someone', (%(people)s::bigint[])[1 + n %% 50], 'someone',
               'DP-00000000', 'web', '', '{}'
        FROM generate_series(1, %(number)s) AS n
        """,
        {"people": [one.pk for one in people], "number": EVENTS},
    )
    superuser_connection.execute("VACUUM ANALYZE requests_app_auditevent")


def test_the_audit_of_very_many_events_is_read_by_index(many_events: None) -> None:
    dave = factories.person("dave", is_staff=True, is_operator=True)
    client = signed_in(dave)
    last = AuditEvent.objects.latest("pk").pk
    client.get(address(AuditEvent))

    began = time.monotonic()
    for query in (
        "",
        f"?id__lt={last - 90_000}",
        "?action=request.revoked",
        "?action=person.made",  # which never happened
        f"?action=sign_in.succeeded&id__lt={last - 50_000}",
        "?q=person7",
        "?q=person7+request.revoked",
        "?q=request.denied.refused",
    ):
        for plan in plans(client, address(AuditEvent) + query, "requests_app_auditevent"):
            assert "Seq Scan" not in plan, (query, plan)
            assert "Limit" in plan, (query, plan)
    assert time.monotonic() - began < 5


def test_very_many_roles_are_listed_and_found_by_index(
    transactional_db: Any, superuser_connection: psycopg.Connection
) -> None:
    olivia: User = factories.person("olivia", is_staff=True, is_operator=True)
    accounts = [factories.account() for _ in range(100)]
    # Without the guards, which look at each row: they have tests of their own.
    superuser_connection.execute("SET session_replication_role = replica")
    superuser_connection.execute(
        """
        INSERT INTO requests_app_role (public_id, account_id, path, name, description, power,
                                       longest_session_seconds, identity_is_access, is_active)
        SELECT gen_random_uuid(), (%(accounts)s::bigint[])[1 + n %% 100], '/', 'Role-' || md5(n::text), '', 'change',
               3600, false, true
        FROM generate_series(1, %(number)s) AS n
        """,
        {"accounts": [one.pk for one in accounts], "number": ROLES},
    )
    superuser_connection.execute("RESET session_replication_role")
    superuser_connection.execute("VACUUM ANALYZE requests_app_role, requests_app_account, requests_app_preflight")
    client = signed_in(olivia)
    some = Role.objects.order_by("-pk").values_list("name", flat=True)[0]
    client.get(address(Role))

    listed = plans(client, address(Role), "requests_app_role")
    assert all("Limit" in plan for plan in listed), listed  # counting stops at 10,000
    assert "role_by_account" in listed[-1]
    assert "Seq Scan on requests_app_role" not in listed[-1]
    autocomplete = reverse("admin:autocomplete")
    autocomplete += f"?app_label=requests_app&model_name=entitlementrole&field_name=role&term={some[5:20]}"
    for at in (address(Role) + f"?q={some[5:20]}", autocomplete):
        for plan in plans(client, at, "requests_app_role"):
            assert "role_name_search" in plan, plan
            assert not re.search(r"Seq Scan on requests_app_role\b", plan)
