"""Freezes and confirmations in the admin: read by auditors, changed by nobody, found by index."""

from typing import Any

import psycopg
import pytest
from django.urls import reverse

from requests_app.domain import facts
from requests_app.domain.models import Account, Confirmation, Freeze, Role, User
from requests_app.domain.workflow import freezes
from requests_app.domain.workflow.freezes import Everything
from tests import factories, plans
from tests.admin.test_reading import HOSTILE, address, codes
from tests.web.pages import Page, signed_in
from tests.web.test_home import queries

pytestmark = pytest.mark.django_db


@pytest.fixture
def records(olivia: User, administrator: Role, active_request: Any) -> dict[str, Freeze]:
    """One that was lifted, two in force, and a restored database with a pass that was confirmed."""
    lifted = freezes.lift(freezes.freeze(Everything(), by=olivia, reason="an exercise"), by=olivia)
    restored = freezes.freeze_restored("an event is missing")
    assert restored
    freezes.confirm(active_request, freeze=restored, by=olivia)
    return {
        "lifted": lifted,
        "restored": restored,
        "role": freezes.freeze(administrator, by=olivia, reason=HOSTILE),
        "account": freezes.freeze(administrator.account, by=olivia, reason="keys were stolen"),
        "elsewhere": freezes.freeze(factories.account(), by=olivia, reason="moved"),
    }


@pytest.mark.parametrize("model", [Freeze, Confirmation])
@pytest.mark.parametrize("who", ["dave", "olivia"])
def test_read_by_auditors_and_changed_by_nobody(
    model: Any, who: str, records: dict[str, Freeze], dave: User, olivia: User
) -> None:
    client = signed_in({"dave": dave, "olivia": olivia}[who])
    rows = list(model.objects.order_by("pk").values())
    first = rows[0]["id"]
    for at in (address(model), address(model, first), address(model) + "?q=nothing"):
        response = client.get(at)
        assert response.status_code == 200, at
        assert Page(response.content.decode()).inline == [], at
        assert "<script>alert" not in response.content.decode()
    for page, what in (("add", []), ("change", [first]), ("delete", [first])):
        data = {"lifted_at": "2026-01-01", "reason": "x", "_save": "Save", "post": "yes"}
        assert client.post(address(model, *what, page=page), data).status_code == 403
    assert list(model.objects.order_by("pk").values()) == rows


def test_others_read_nothing(records: dict[str, Freeze], mallory: User) -> None:
    assert signed_in(mallory).get(address(Freeze), follow=True).status_code == 403


def test_found_by_account_by_request_and_by_being_in_force(records: dict[str, Freeze], dave: User) -> None:
    client = signed_in(dave)
    in_force = {one.pk for name, one in records.items() if name != "lifted"}
    assert codes(client.get(address(Freeze))) == in_force | {records["lifted"].pk}
    assert codes(client.get(address(Freeze), {"in_force": "yes"})) == in_force
    assert codes(client.get(address(Freeze), {"q": "2222-2222-2222"})) == {records["role"].pk, records["account"].pk}
    assert codes(client.get(address(Freeze), {"q": "999999999999"})) == set()
    confirmation = Confirmation.objects.get()
    code = confirmation.access_request.code
    assert codes(client.get(address(Confirmation), {"q": code})) == {confirmation.pk}
    assert client.get(address(Freeze), {"reason__icontains": "x"}).status_code == 400


def test_the_number_of_queries_does_not_grow(records: dict[str, Freeze], olivia: User, dave: User) -> None:
    client = signed_in(dave)
    addresses = [address(Freeze), address(Freeze) + "?in_force=yes", address(Confirmation)]
    for at in addresses:
        client.get(at)

    def asked(at: str) -> int:
        return queries(lambda: client.get(at))

    few = [asked(at) for at in addresses]
    for _ in range(12):
        freezes.freeze(factories.role(), by=olivia, reason="one more")
    assert [asked(at) for at in addresses] == few
    assert max(few) <= 12


@pytest.mark.django_db(transaction=True)
def test_of_thousands_that_were_lifted_none_is_read(
    records: dict[str, Freeze], administrator: Role, superuser_connection: psycopg.Connection
) -> None:
    with superuser_connection.transaction():
        superuser_connection.execute("SET LOCAL session_replication_role = replica")
        superuser_connection.execute(
            """
            INSERT INTO requests_app_freeze
            SELECT (jsonb_populate_record(f, jsonb_build_object(
                'id', f.id + 1000 + n, 'public_id', gen_random_uuid()))).*
            FROM requests_app_freeze f, generate_series(1, 5000) n WHERE f.id = %s
            """,
            [records["lifted"].pk],
        )
    superuser_connection.execute("ANALYZE requests_app_freeze")
    terms, erin = factories.entitlement(), factories.person("erin")
    with plans.watched() as statements:
        list(Freeze.objects.in_force().order_by("-pk")[:30])
        assert freezes.is_frozen(administrator)
        assert facts.standing_of(terms.pk, erin.pk, administrator.pk).frozen_because
        assert freezes.freeze_restored("again") is None
    for statement in statements:
        if statement.only_reads and "requests_app_freeze" in statement.sql:
            assert plans.plan(statement, carried_out=True).rows_looked_at() < 20, statement.sql


def test_the_pages_of_the_catalog_lead_to_stop(records: dict[str, Freeze], olivia: User, dave: User) -> None:
    account = Account.objects.get(name="payments-prod")
    at = reverse("admin:requests_app_account_change", args=[account.pk])
    stop = f"/stop/account/aws/{account.number}"
    assert stop in signed_in(olivia).get(at).content.decode()
    assert stop not in signed_in(dave).get(at).content.decode()
