"""A request's story in sentences: every act, by whom, and what it changed."""

from datetime import timedelta

import pytest

from requests_app.delivery.web import timeline
from requests_app.delivery.web.views import access_request
from requests_app.domain import clock, workflow
from requests_app.domain.audit import Action
from requests_app.domain.errors import DomainError
from requests_app.domain.models import AccessRequest, Entitlement, Group, Role, User
from requests_app.domain.workflow import sweeps
from tests import factories
from tests.web.pages import page, signed_in

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
WHY = "it takes longer than we thought"


def told(of: AccessRequest) -> list[str]:
    return [f"{one.who} {one.words}".strip() for one in timeline.moments(of)]


@pytest.fixture
def rich(staged: Entitlement, security: Group) -> Entitlement:
    Entitlement.objects.update(extensions_most=3, extension_total_seconds=7200, schedule_ahead_seconds=86400)
    staged.askers.add(factories.group("Service desk", factories.person("erin")))
    stage = staged.stages.get()
    stage.escalate_seconds = 600
    stage.save()
    stage.more_groups.add(security)
    staged.refresh_from_db()
    return staged


def test_from_somebody_elses_wish_to_a_longer_pass(
    alice: User, bob: User, administrator: Role, rich: Entitlement
) -> None:
    erin = User.objects.get(username="erin")
    with clock.moved(-50 * MINUTE):
        start = clock.now() + 20 * MINUTE
        one = factories.wish(
            erin, administrator, rich, beneficiary=alice, start="at_time", start_at=start, duration=HOUR
        )
        workflow.accept(one, by=alice)
    with clock.moved(-39 * MINUTE):
        sweeps.escalate_due()
        workflow.approve(one, by=bob, start_at=start + 5 * MINUTE, duration=40 * MINUTE)
    with clock.moved(-20 * MINUTE):
        sweeps.activate_due()
        with pytest.raises(DomainError):
            workflow.extend(one, by=erin, duration=HOUR, justification=WHY)
    denied = workflow.extend(one, by=alice, duration=HOUR, justification=WHY)
    workflow.deny_extension(denied, by=bob)
    workflow.withdraw_extension(workflow.extend(one, by=alice, duration=HOUR, justification=WHY), by=alice)
    granted = workflow.extend(one, by=alice, duration=30 * MINUTE, justification=WHY)
    workflow.approve_extension(granted, by=bob)
    one.refresh_from_db()
    assert told(one) == [
        "Erin asked for access",
        "Alice accepted it",
        "Further people are asked: the stage has not agreed in its time",
        f"Bob approved, for 40 min only, from {start + 5 * MINUTE:%d %b %H:%M} UTC",
        "The last stage agreed: ready to start",
        "The pass started by itself, as asked",
        "Erin tried to ask for more time",
        "Alice asked for more time, 1 h",
        "Bob denied more time",
        "Alice asked for more time, 1 h",
        "Alice took back the wish for more time",
        "Alice asked for more time, 30 min",
        "Bob agreed to more time",
        f"The last stage agreed: the pass goes on, until {one.expires_at:%d %b %H:%M} UTC",
    ]


def test_more_time_by_the_rules_and_by_nobody(
    alice: User, read_only: Role, automatic: Entitlement, rich: Entitlement
) -> None:
    automatic.refresh_from_db()
    one = factories.wish(alice, read_only, automatic, start="at_once")
    workflow.extend(one, by=alice, duration=HOUR, justification=WHY)
    one.refresh_from_db()
    assert told(one)[-1] == (
        f"More time was granted by the rules: nobody had to be asked, until {one.expires_at:%d %b %H:%M} UTC"
    )


def test_what_ended_because_it_could_come_to_nothing_says_why(pending_request: AccessRequest) -> None:
    Role.objects.update(is_active=False)
    sweeps.lapse_hopeless()
    assert "out of use" in timeline.moments(pending_request)[-1].said


def test_every_act_on_a_request_has_its_sentence() -> None:
    of_requests = {
        action
        for action in Action
        if action.partition(".")[0] in ("request", "extension", "delivery", "session", "revocation")
    }
    assert {str(action) for action in of_requests} - set(timeline._DONE) <= {"request.confirmed", "revocation.left_out"}


def test_where_only_the_newest_are_shown_it_says_so(
    pending_request: AccessRequest, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow.withdraw(pending_request, by=alice)
    assert "The newest" not in page(signed_in(alice).get(f"/requests/{pending_request.code}")).text
    for module in (timeline, access_request):
        monkeypatch.setattr(module, "MOST_EVENTS", 1)
    shown = page(signed_in(alice).get(f"/requests/{pending_request.code}")).text
    assert "The newest 1. Auditors find earlier ones in the record." in shown
