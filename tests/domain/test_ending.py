"""Ending: by whom, and that it is never refused for what changed since."""

from datetime import timedelta

import psycopg
import pytest

from requests_app.domain import clock, workflow
from requests_app.domain.errors import Conflict, Invalid, NotAllowed
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AwsClock,
    DenyPolicy,
    Entitlement,
    Group,
    Membership,
    Notice,
    Role,
    Stage,
    User,
)
from requests_app.domain.transitions import State
from requests_app.domain.workflow import revocations
from tests import factories
from tests.domain.expect import refused


def _change_everything() -> None:
    """Whatever let people in is gone."""
    Membership.objects.all().delete()
    Stage.objects.all().delete()
    Entitlement.objects.update(is_active=False, longest_seconds=60, revision=9)
    Entitlement.objects.get().roles.clear()
    Role.objects.update(is_active=False)
    Account.objects.update(is_active=False)


def test_giving_back_is_never_refused_for_eligibility(active_request: AccessRequest, alice: User) -> None:
    _change_everything()
    workflow.people.deactivate(alice, by=None)
    assert workflow.give_back(active_request, by=alice).state == State.RETURNED


def test_revoking_is_never_refused_for_eligibility(active_request: AccessRequest, alice: User, olivia: User) -> None:
    _change_everything()
    workflow.people.deactivate(alice, by=None)
    assert workflow.revoke(active_request, by=olivia, reason="left the company").state == State.REVOKED


def test_withdrawing_is_never_refused_for_eligibility(pending_request: AccessRequest, alice: User) -> None:
    _change_everything()
    assert workflow.withdraw(pending_request, by=alice).state == State.WITHDRAWN


@pytest.mark.parametrize("who", ["bob", "carol", "olivia"])
def test_who_may_revoke(
    who: str, active_request: AccessRequest, bob: User, carol: User, olivia: User, alice: User
) -> None:
    person = {"bob": bob, "carol": carol, "olivia": olivia}[who]
    ended = workflow.revoke(active_request, by=person, reason="  incident over ")
    assert (ended.ended_by, ended.end_reason) == (person, "incident over")
    notice = Notice.objects.get(kind="ended")
    assert notice.recipient == alice


def test_who_may_not_revoke(active_request: AccessRequest, alice: User, mallory: User, dave: User) -> None:
    for person in (alice, mallory, dave):
        with refused("revoke.not_asked", NotAllowed):
            workflow.revoke(active_request, by=person, reason="because")


def test_an_operator_gives_back_their_own_and_does_not_revoke_it(
    olivia: User, read_only: Role, engineers: Group
) -> None:
    terms = factories.entitlement(read_only, users=[olivia])
    own = factories.wish(olivia, read_only, terms, start="at_once")
    with refused("revoke.not_asked"):
        workflow.revoke(own, by=olivia, reason="because")
    workflow.give_back(own, by=olivia)


def test_neither_a_deactivated_nor_a_former_operator_revokes(active_request: AccessRequest, olivia: User) -> None:
    # The row in hand is older than what happened to it.
    stale = User.objects.get(pk=olivia.pk)
    User.objects.filter(pk=olivia.pk).update(is_operator=False)
    with refused("revoke.not_asked"):
        workflow.revoke(active_request, by=stale, reason="because")
    factories.operates(olivia)
    User.objects.filter(pk=olivia.pk).update(deactivated_at=clock.now())
    with refused("person.deactivated"):
        workflow.revoke(active_request, by=stale, reason="because")


@pytest.mark.parametrize("reason", ["", "  \n ", "zero \x00", "half \ud800"])
def test_revoking_needs_a_reason_that_can_be_read(reason: str, active_request: AccessRequest, bob: User) -> None:
    with pytest.raises(Invalid) as wrong:
        workflow.revoke(active_request, by=bob, reason=reason)
    assert list(wrong.value.fields) == ["reason"]


def test_a_reason_is_stored_whole_or_refused_and_never_cut(active_request: AccessRequest, bob: User) -> None:
    with pytest.raises(Invalid) as wrong:
        workflow.revoke(active_request, by=bob, reason="x" * 501)
    assert wrong.value.fields == {"reason": ["Say it in 500 characters; these are 501."]}
    assert len(workflow.revoke(active_request, by=bob, reason=f"  {'🚒' * 500}\n").end_reason) == 500


@pytest.mark.parametrize("comment", ["x" * 1001, "zero \x00", "half \udc00"])
def test_a_comment_that_cannot_be_stored(comment: str, pending_request: AccessRequest, bob: User) -> None:
    for decide in (workflow.approve, workflow.deny):
        with pytest.raises(Invalid) as wrong:
            decide(pending_request, by=bob, comment=comment)
        assert list(wrong.value.fields) == ["comment"]


def test_others_neither_withdraw_nor_start_nor_give_back(
    approved_request: AccessRequest, alice: User, bob: User, olivia: User
) -> None:
    for person in (bob, olivia):
        with refused("withdraw.not_yours"):
            workflow.withdraw(approved_request, by=person)
        with refused("start.not_yours"):
            workflow.start(approved_request, by=person)
    active = workflow.start(approved_request, by=alice)
    for person in (bob, olivia):
        with refused("give_back.not_yours"):
            workflow.give_back(active, by=person)


@pytest.mark.parametrize("verb", ["give_back", "revoke"])
def test_ending_what_the_clock_ended_first(verb: str, active_request: AccessRequest, alice: User, bob: User) -> None:
    act = {
        "give_back": lambda: workflow.give_back(active_request, by=alice),
        "revoke": lambda: workflow.revoke(active_request, by=bob, reason="too late"),
    }[verb]
    with clock.moved(timedelta(minutes=30)), pytest.raises(Conflict) as refusal:
        act()
    assert "its time was up" in refusal.value.message
    # Touching it performed the due transition, and that stays although the verb was refused.
    active_request.refresh_from_db()
    assert active_request.state == State.EXPIRED
    assert active_request.ended_at == active_request.expires_at
    assert active_request.ended_by is None


@pytest.mark.parametrize("verb", [workflow.approve, workflow.deny])
def test_deciding_what_nobody_decided_in_time(verb: object, pending_request: AccessRequest, bob: User) -> None:
    with clock.moved(timedelta(days=1)), refused("decision.not_pending", Conflict):
        verb(pending_request, by=bob)  # type: ignore[operator]
    pending_request.refresh_from_db()
    assert pending_request.state == State.LAPSED


def test_starting_what_was_not_started_in_time(approved_request: AccessRequest, alice: User) -> None:
    with clock.moved(timedelta(hours=8)), refused("transition.lapsed.active", Conflict):
        workflow.start(approved_request, by=alice)
    approved_request.refresh_from_db()
    assert (approved_request.state, approved_request.activated_at) == (State.LAPSED, None)


def test_a_stale_copy_does_not_hide_that_it_is_due(active_request: AccessRequest, alice: User) -> None:
    stale = AccessRequest(pk=active_request.pk, code=active_request.code, state="pending")
    stale.decide_by = clock.now() + timedelta(days=1)
    stale.beneficiary = alice
    with clock.moved(timedelta(minutes=31)), refused("transition.expired.returned"):
        workflow.give_back(stale, by=alice)
    active_request.refresh_from_db()
    assert active_request.state == State.EXPIRED


def test_what_aws_did_not_take_is_tried_within_a_minute_however_many_ends_have_met_its_trouble(
    active_request: AccessRequest, alice: User, aws_clock: AwsClock, superuser_connection: psycopg.Connection
) -> None:
    # A test before this one may have emptied every table, and the application cannot name the installation.
    superuser_connection.execute(
        "INSERT INTO requests_app_installation (id, code, home) VALUES (1, 'endingtest', '') ON CONFLICT DO NOTHING"
    )
    factories.sealed(active_request)
    workflow.give_back(active_request, by=alice)
    task = revocations.take_up(active_request.role_id)
    assert task is not None

    for _ in range(8):  # as many that end there meanwhile, each of which is tried at once
        revocations.note_failure(task, code="Throttling", message="Rate exceeded", advice="")

    policy = DenyPolicy.objects.get(role=active_request.role)
    assert policy.due_at is not None
    assert timedelta(seconds=50) < policy.due_at - clock.now() <= timedelta(minutes=1)
