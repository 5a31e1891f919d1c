"""Single rows written by statements of a fixed text are those that Django's `save()` would write."""

import pytest
from django.db import DataError, transaction
from django.forms.models import model_to_dict

from requests_app.domain import clock, rows
from requests_app.domain.models import AccessRequest, Decision, User
from requests_app.domain.transitions import State

pytestmark = pytest.mark.django_db


def copy_of(access_request: AccessRequest) -> AccessRequest:
    """The same, asked once more."""
    again = AccessRequest.objects.get(pk=access_request.pk)
    fresh = AccessRequest(entitlement=again.entitlement)
    again.pk, again.code, again._state.adding = None, fresh.code, True
    return again


def test_a_new_row_is_stored_as_it_is_and_knows_its_key(pending_request: AccessRequest) -> None:
    made = copy_of(pending_request)
    made.state = State.PENDING
    rows.insert(made)

    stored = AccessRequest.objects.get(code=made.code)
    assert stored == made
    for field in AccessRequest._meta.concrete_fields:
        assert getattr(stored, field.attname) == getattr(made, field.attname), field.name
    assert not made._state.adding
    made.reminded_at = clock.now()
    made.save(update_fields=["reminded_at"])


def test_what_the_database_has_a_default_for_is_its(pending_request: AccessRequest, bob: User) -> None:
    decision = Decision(
        access_request=pending_request, stage=1, approver=bob, approver_name="Bob",
        verdict=Decision.Answer.APPROVE, decided_at=clock.now(),
    )  # fmt: skip
    rows.insert(decision)
    stored = Decision.objects.get(pk=decision.pk)
    assert stored.recorded_at
    assert model_to_dict(stored)["verdict"] == "approve"


def test_only_these_fields_change_and_a_row_that_is_not_there_is_said(
    pending_request: AccessRequest, carol: User
) -> None:
    before = AccessRequest.objects.values().get(pk=pending_request.pk)
    pending_request.reminded_at, pending_request.justification = clock.now(), "another one"
    rows.update(pending_request, ["reminded_at"])

    after = AccessRequest.objects.values().get(pk=pending_request.pk)
    assert after == before | {"reminded_at": pending_request.reminded_at}
    pending_request.pk = 0
    with pytest.raises(AccessRequest.DoesNotExist):
        rows.update(pending_request, ["reminded_at"])


def test_what_does_not_fit_is_refused_and_not_cut(pending_request: AccessRequest) -> None:
    made = copy_of(pending_request)
    made.ticket = "T" * 101
    with pytest.raises(DataError), transaction.atomic():
        rows.insert(made)
    assert not AccessRequest.objects.filter(code=made.code).exists()
