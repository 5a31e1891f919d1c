"""Auditors read everything in the admin and change nothing; strangers get nothing."""

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from requests_app.domain import workflow
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    AwsClock,
    Decision,
    Delivery,
    Entitlement,
    Group,
    IssuedSession,
    Notice,
    Role,
    User,
)
from tests import factories
from tests.web.pages import Page, signed_in

RECORDS = (AccessRequest, AuditEvent, Decision, Delivery, IssuedSession, Notice, AwsClock)
KEPT = (Account, Role, Entitlement, Group, User)
HOSTILE = "<script>alert(1)</script> & 'quotes' \" Ålice"


def address(model: Any, *what: Any) -> str:
    page = "change" if what else "changelist"
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=what)


@pytest.fixture
def history(active_request: AccessRequest, aws_clock: AwsClock) -> AccessRequest:
    """One of everything there is to read."""
    delivery = factories.delivery(active_request)
    session(delivery)
    return active_request


def session(delivery: Delivery, number: int = 0) -> None:
    """What a worker would record, by the same verbs."""
    from datetime import timedelta

    from requests_app.domain.workflow import deliveries

    order = deliveries.claim(delivery.pk, worker="test")
    assert order is not None
    minted = deliveries.Minted(
        session_name=f"{order.code}-alice",
        source_identity="",
        access_key_id=f"ASIA{delivery.pk:016d}",
        assumed_role_id=f"AROA:{order.code}-alice",
        sts_expires_at=order.expires_at + timedelta(minutes=15),
        packed_policy_size=30,
        aws_ahead_at_most=0.0,
    )
    assert deliveries.record(order, minted, worker="test")


@pytest.mark.parametrize("model", [*RECORDS, *KEPT])
@pytest.mark.parametrize("who", ["dave", "olivia"])
def test_every_list_and_every_page_opens_without_anything_inline(
    model: Any, who: str, history: AccessRequest, staged: Entitlement, request: pytest.FixtureRequest
) -> None:
    client = signed_in(request.getfixturevalue(who))
    first = model.objects.order_by("pk").first()
    assert first is not None

    for at in (address(model), address(model) + "?q=nothing", address(model, first.pk)):
        response = client.get(at)
        page = Page(response.content.decode())
        assert response.status_code == 200, at
        assert page.inline == [], at
        assert "unsafe" not in response["Content-Security-Policy"]
