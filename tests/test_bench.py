"""What the floors of `bench/` rest on: they write the rows that the product wrote, by its role, or are refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bench import rows
from bench.inside import company
from bench.inside.bare import replay
from requests_app.domain import workflow
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    Decision,
    Entitlement,
    IdempotencyKey,
    Notice,
    Role,
    User,
)
from tests import crowd, factories

pytestmark = pytest.mark.django_db(transaction=True)
Write = Callable[..., dict[str, str]]


@pytest.fixture
def write(app_connection: psycopg.Connection) -> Write:
    """Rows that were recorded, once more, by the application's role."""

    def write(recorded: dict[str, Any], **given: str) -> dict[str, str]:
        with app_connection.transaction(), app_connection.cursor() as cursor:
            return replay.run(cursor, recorded, given)

    return write


def test_what_asking_writes_is_written_again_row_by_row(
    superuser_connection: psycopg.Connection, write: Write, alice: User, administrator: Role, staged: Entitlement
) -> None:
    def ask() -> None:
        factories.wish(alice, administrator, staged, key="a-one-time-value-of-a-form")

    recorded = rows.record(superuser_connection, ask)
    before = [model.objects.count() for model in (AccessRequest, AuditEvent, Notice, IdempotencyKey)]
    assert before == [1, 1, 2, 1]
    write(recorded)
    write(recorded)

    assert [model.objects.count() for model in (AccessRequest, AuditEvent, Notice, IdempotencyKey)] == [3, 3, 6, 3]
    first, *others = AccessRequest.objects.order_by("pk")
    for one in others:
        assert one.state == "pending"
        assert one.code != first.code
        assert one.terms_document == first.terms_document
        assert one.decide_by - one.asked_at == first.decide_by - first.asked_at
        assert one.asked_at > first.asked_at
        assert AuditEvent.objects.get(access_request=one).subject == one.code
        assert one.notices.count() == first.notices.count()


def test_what_approving_writes_is_written_again_for_another_request(
    superuser_connection: psycopg.Connection,
    write: Write,
    pending_request: AccessRequest,
    alice: User,
    bob: User,
) -> None:
    another = factories.wish(alice, pending_request.role, pending_request.entitlement)
    given = {pending_request.code: "code", f"requests_app_accessrequest {pending_request.pk}": "id"}
    recorded = rows.record(
        superuser_connection,
        lambda: workflow.approve(pending_request, by=bob),
        given=given,
        lock="requests_app_accessrequest",
    )

    write(recorded, id=str(another.pk), code=another.code)

    another.refresh_from_db()
    pending_request.refresh_from_db()
    assert (another.state, another.approved_seconds) == ("approved", pending_request.approved_seconds)
    assert Decision.objects.get(access_request=another).approver == bob
    events = [list(one.events.order_by("pk").values_list("action", flat=True)) for one in (another, pending_request)]
    assert events[0] == events[1]


def test_the_guards_refuse_a_floor_what_they_refuse_everybody(
    superuser_connection: psycopg.Connection, write: Write, pending_request: AccessRequest, bob: User, alice: User
) -> None:
    """Or it would not be one: this one decides twice."""
    given = {pending_request.code: "code", f"requests_app_accessrequest {pending_request.pk}": "id"}
    recorded = rows.record(superuser_connection, lambda: workflow.approve(pending_request, by=bob), given=given)

    with pytest.raises(psycopg.errors.IntegrityError, match="only the present stage of what is pending"):
        write(recorded, id=str(pending_request.pk), code=pending_request.code)


def test_a_company_for_which_there_is_no_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    too_many = replace(crowd.Crowd(), ended=10**11)

    with pytest.raises(company.TooLittleRoom, match=r"takes about \d+ GB .* are free there"):
        company._require_room(tmp_path, too_many)

    company._require_room(tmp_path, replace(crowd.Crowd(), ended=1_000, deliveries=1_000, sign_ins=1_000, roles=1_000))
