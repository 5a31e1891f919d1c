"""Asking, deciding, starting, ending: one story a test."""

import pytest

from requests_app.domain import workflow
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import AccessRequest, AuditEvent, User


def test_nobody_approves_their_own_request(pending_request: AccessRequest, alice: User) -> None:
    with pytest.raises(NotAllowed) as refusal:
        workflow.approve(pending_request, by=alice)

    assert refusal.value.rule == "decision.own_request"
    assert not pending_request.decisions.exists()
    assert AuditEvent.objects.filter(action="request.approved.refused", actor=alice).count() == 1
