"""Asking: whom the terms reach, what was typed, and which terms are kept."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import ProtectedError

from requests_app.domain import clock, workflow
from requests_app.domain.errors import Conflict, Invalid, NotAllowed
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    Entitlement,
    Group,
    Membership,
    Notice,
    Role,
    Stage,
    User,
)
from requests_app.domain.transitions import State
from tests import factories, plans
from tests.domain.expect import refused


def test_a_stranger_may_not_ask(mallory: User, administrator: Role, staged: Entitlement) -> None:
    with refused("entitlement.does_not_reach", NotAllowed):
        factories.wish(mallory, administrator, staged)

    event = AuditEvent.objects.get(action="request.submitted.refused")
    assert event.actor == mallory
    assert "Administrator" in event.subject  # which role, though there is no request
    assert not AccessRequest.objects.exists()


def test_one_may_be_named_instead_of_being_in_a_group(mallory: User, read_only: Role) -> None:
    assert factories.wish(mallory, read_only, factories.entitlement(read_only, users=[mallory]))


def test_the_terms_of_another_role_open_nothing(
    alice: User, administrator: Role, staged: Entitlement, automatic: Entitlement
) -> None:
    # Development's 720 hours must not open production.
    with refused("entitlement.does_not_reach"):
        factories.wish(alice, administrator, automatic)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("person", "person.deactivated"),
        ("entitlement", "entitlement.does_not_reach"),
        ("role", "role.inactive"),
        ("account", "role.inactive"),
        ("membership", "entitlement.does_not_reach"),
        ("no stages", "stage.none"),
        ("nobody in the stage", "stage.nobody_can"),
        ("only the asking person in the stage", "stage.nobody_can"),
        ("only deactivated people in the stage", "stage.nobody_can"),
    ],
)
def test_what_is_out_of_use_cannot_be_asked_for_even_with_a_stale_page(
    change: str,
    rule: str,
    alice: User,
    bob: User,
    carol: User,
    administrator: Role,
    payments: Account,
    leads: Group,
    staged: Entitlement,
) -> None:
    # The objects in hand still say what was so before.
    match change:
        case "person":
            workflow.people.deactivate(User.objects.get(pk=alice.pk), by=None)
        case "entitlement":
            Entitlement.objects.update(is_active=False)
        case "role":
            Role.objects.update(is_active=False)
        case "account":
            Account.objects.update(is_active=False)
        case "membership":
            Membership.objects.filter(user=alice).delete()
        case "no stages":
            staged.stages.all().delete()
        case "nobody in the stage":
            Membership.objects.filter(group=leads).delete()
        case "only the asking person in the stage":
            Membership.objects.filter(group=leads).delete()
            Membership.objects.create(group=leads, user=alice)
        case "only deactivated people in the stage":
            for lead in (bob, carol):
                workflow.people.deactivate(lead, by=None)
    with refused(rule, NotAllowed):
        factories.wish(alice, administrator, staged)


def test_one_person_cannot_fill_two_stages(alice: User, bob: User, administrator: Role, engineers: Group) -> None:
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(bob, 1), (bob, 1)])
    with refused("stage.nobody_can"):
        factories.wish(alice, administrator, terms)


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"duration": timedelta(seconds=59)}, "duration"),
        ({"duration": timedelta(hours=1, seconds=1)}, "duration"),
        ({"duration": timedelta(seconds=-5)}, "duration"),
        ({"duration": timedelta.max}, "duration"),
        ({"justification": "too short"}, "justification"),
        ({"justification": "  short   " + " " * 30}, "justification"),
        ({"justification": "x" * 2001}, "justification"),
        ({"justification": "a zero byte \x00 here"}, "justification"),
        ({"justification": "half a pair \ud800 here"}, "justification"),
        ({"ticket": "x" * 101}, "ticket"),
        ({"ticket": "OPS-\x00"}, "ticket"),
        ({"ticket": "OPS-\udfff"}, "ticket"),
        ({"start": "tomorrow"}, "start"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(
    typed: dict[str, Any], field: str, alice: User, administrator: Role, staged: Entitlement
) -> None:
    with pytest.raises(Invalid) as wrong:
        factories.wish(alice, administrator, staged, **typed)
    assert list(wrong.value.fields) == [field]
    assert AuditEvent.objects.get(action="request.submitted.refused").detail["rule"] == "form.invalid"


@pytest.mark.parametrize("seconds", [60, 3600])
def test_the_shortest_and_the_longest_are_fine(
    seconds: int, alice: User, administrator: Role, staged: Entitlement
) -> None:
    made = factories.wish(alice, administrator, staged, duration=timedelta(seconds=seconds))
    assert made.duration_seconds == seconds


def test_a_ticket_where_the_terms_demand_one(alice: User, read_only: Role, automatic: Entitlement) -> None:
    Entitlement.objects.update(ticket="required")
    with pytest.raises(Invalid) as wrong:
        factories.wish(alice, read_only, automatic)
    assert list(wrong.value.fields) == ["ticket"]
    assert factories.wish(alice, read_only, automatic, ticket=" OPS-7 ").ticket == "OPS-7"


def test_hostile_words_are_kept_as_they_are(alice: User, administrator: Role, staged: Entitlement) -> None:
    hostile = "{0.__class__} %s '; DROP TABLE x; -- <script>alert(1)</script> \N{RIGHT-TO-LEFT OVERRIDE}"
    made = factories.wish(alice, administrator, staged, justification=hostile)
    made.refresh_from_db()
    assert made.justification == hostile


def test_later_edits_of_the_entitlement_do_not_touch_a_request(
    alice: User, bob: User, carol: User, mallory: User, administrator: Role, engineers: Group, leads: Group
) -> None:
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 2)], start_within_seconds=7200)
    access_request = factories.wish(alice, administrator, terms, duration=timedelta(hours=1))

    # Made automatic, shorter, and for Mallory to decide: none of it concerns what was asked before.
    stage = Stage.objects.get()
    stage.quorum = 1
    stage.save()
    stage.groups.clear()
    stage.users.add(mallory)
    Entitlement.objects.update(approval="automatic", longest_seconds=60, start_within_seconds=60, revision=2)
    with refused("decision.not_asked"):
        workflow.approve(access_request, by=mallory)
    workflow.approve(access_request, by=bob)
    access_request.refresh_from_db()
    assert access_request.state == State.PENDING
    workflow.approve(access_request, by=carol)

    access_request.refresh_from_db()
    assert access_request.approved_seconds == 3600
    assert access_request.start_by == access_request.approved_at + timedelta(hours=2)  # type: ignore[operator]


def test_the_stored_terms_read_back_as_they_were(alice: User, administrator: Role, leads: Group, bob: User) -> None:
    terms = factories.entitlement(
        administrator,
        users=[alice],
        stages=[([leads, bob], 1)],
        narrowing_statements=[{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}],
        narrowing_policy_arns=["arn:aws:iam::222222222222:policy/daypass-read-only"],
        lifted=["s3:GetDataAccess"],
    )
    made = factories.wish(alice, administrator, terms)
    made.refresh_from_db()
    assert made.terms == terms.terms_now()
    assert made.terms.stage(1).asks == "Bob or Payments leads"
    assert made.terms.narrows


def test_a_stage_survives_in_its_group(leads: Group, staged: Entitlement) -> None:
    Membership.objects.filter(group=leads).delete()
    with pytest.raises(ProtectedError):
        leads.delete()


def test_losing_eligibility_before_the_answer_makes_it_a_no(
    pending_request: AccessRequest, alice: User, bob: User
) -> None:
    # The rule that let Alice ask is asked again when the answer is given.
    Membership.objects.filter(user=alice).delete()
    with refused("entitlement.does_not_reach"):
        workflow.approve(pending_request, by=bob)
    pending_request.refresh_from_db()
    assert pending_request.state == State.PENDING
    assert not pending_request.decisions.exists()
    workflow.deny(pending_request, by=bob)


@pytest.mark.parametrize("wrong", ["too long", "elsewhere"])
def test_a_narrowing_that_does_not_fit_what_is_selected_later_is_found_when_asking(
    wrong: str, alice: User, olivia: User, engineers: Group, payments: Account
) -> None:
    """Nobody waits for an approval, and is awake at night, for what AWS would not take."""
    reads = [{"Effect": "Allow", "Action": "s3:Get*", "Resource": f"arn:aws:s3:::bucket-{n:04}/*"} for n in range(16)]
    arns = [f"arn:aws:iam::{payments.number}:policy/reading"]
    narrowed = {"narrowing_statements": reads} if wrong == "too long" else {"narrowing_policy_arns": arns}
    terms = factories.entitlement(groups=[engineers], **narrowed)
    terms.selectors.create(role_tag_key="access")
    short = factories.role("R", payments, tags={"access": "read"})
    assert factories.wish(alice, short, terms)
    other = payments if wrong == "too long" else factories.account()
    path = f"/{'elevated' * 50}/" if wrong == "too long" else "/elevated/"
    later = Role.objects.create(name="Reader", account=other, path=path, tags={"access": "read"})
    outlook = workflow.may_request(later, by=alice, entitlement=terms, beneficiary=alice)
    assert outlook.rule == "narrowing.does_not_fit"
    with refused("narrowing.does_not_fit", NotAllowed):
        factories.wish(alice, later, terms)
    notice = Notice.objects.get(kind="nobody")
    assert notice.recipient == olivia
    # With nothing to narrow the same role can be had.
    Entitlement.objects.update(narrowing_statements=[], narrowing_policy_arns=[])
    assert factories.wish(alice, later, terms)


@pytest.mark.parametrize("gone", ["group", "person", "role", "entitlement"])
def test_losing_eligibility_before_the_start(gone: str, approved_request: AccessRequest, alice: User) -> None:
    if gone == "group":
        Membership.objects.filter(user=alice).delete()
    elif gone == "person":
        workflow.people.deactivate(alice, by=None)
    elif gone == "role":
        Role.objects.update(is_active=False)
    else:
        Entitlement.objects.update(is_active=False)
    with pytest.raises(NotAllowed):
        workflow.start(approved_request, by=alice)
    approved_request.refresh_from_db()
    assert approved_request.state == State.APPROVED


def test_asking_does_not_read_every_role_that_the_terms_name(
    alice: User, administrator: Role, payments: Account, staged: Entitlement
) -> None:
    staged.roles.add(
        *Role.objects.bulk_create(Role(name=f"R{n}", account=payments, path="/elevated/") for n in range(500))
    )
    factories.wish(alice, administrator, staged)
    plan = plans.plan_of_standing(staged.pk, alice.pk, administrator.pk, carried_out=True)
    looks = [node for node in plan.nodes() if node.get("Relation Name") == "requests_app_entitlementrole"]
    assert looks
    assert all(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) <= 1 for node in looks)


def test_everybody_who_can_decide_is_asked_and_nobody_else(pending_request: AccessRequest) -> None:
    asked = Notice.objects.filter(access_request=pending_request, kind="asked")
    assert sorted(notice.recipient.username for notice in asked) == ["bob", "carol"]


def test_the_time_to_decide_is_the_terms_own(alice: User, administrator: Role, staged: Entitlement) -> None:
    Entitlement.objects.update(pending_seconds=600)
    made = factories.wish(alice, administrator, staged)
    assert made.decide_by == made.asked_at + timedelta(minutes=10)
    assert abs(made.asked_at - clock.now()) < timedelta(seconds=5)


def test_terms_that_were_edited_since_they_were_read_are_not_followed(
    alice: User, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.filter(pk=staged.pk).update(revision=2)
    with pytest.raises(Conflict) as refused:
        factories.wish(alice, administrator, staged)

    assert refused.value.rule == "terms.changed"
    assert not AccessRequest.objects.exists()
