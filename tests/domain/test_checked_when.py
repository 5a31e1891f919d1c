"""The tables in docs/security.md that say what is checked when, and what a change ends: read from there and tried."""

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from requests_app.domain import clock, sealing, workflow
from requests_app.domain.errors import DomainError
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AwsClock,
    Delivery,
    Edit,
    Entitlement,
    Group,
    Membership,
    Role,
    Stage,
    User,
)
from requests_app.domain.workflow import deliveries
from tests import factories

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text()
MORE: Any = {"duration": timedelta(minutes=10), "justification": "it takes longer than we thought"}


@dataclass
class World:
    """Alice asks, Bob decides and Carol with him, Dora may ask for others, Olivia operates."""

    alice: User
    bob: User
    carol: User
    dora: User
    olivia: User
    role: Role
    terms: Entitlement

    def asked(self, by: User | None = None) -> AccessRequest:
        return factories.wish(by or self.alice, self.role, self.terms, beneficiary=self.alice)

    def approved(self) -> AccessRequest:
        one = self.asked()
        for approver in (self.bob, self.carol):
            workflow.approve(one, by=approver)
        return one

    def active(self) -> AccessRequest:
        return workflow.start(self.approved(), by=self.alice)

    def order(self) -> tuple[Delivery, deliveries.Order]:
        delivery = factories.delivery(self.active())
        order = deliveries.claim(delivery.pk, worker="w")
        assert order is not None
        return delivery, order


@pytest.fixture
def world(
    alice: User, bob: User, carol: User, olivia: User, administrator: Role, engineers: Group, leads: Group,
    aws_clock: AwsClock, settings: Any,
) -> World:  # fmt: skip
    dora = factories.person("dora", factories.group("Service desk"))
    terms = factories.entitlement(
        administrator, groups=[engineers], stages=[(leads, 2)], extensions_most=1, extension_total_seconds=7200
    )
    terms.askers.add(*Group.objects.filter(name="Service desk"))
    return World(alice, bob, carol, dora, olivia, administrator, terms)


# --- the doors: each makes ready, and gives what is done there ----------------------------------------

Act = Callable[[], object]
Door = Callable[[World], Act]


def _must(done: object) -> None:
    if not done:
        raise DomainError("It was not done.", rule="worker.left_it")


def _accepting(world: World) -> Act:
    one = world.asked(by=world.dora)
    return lambda: workflow.accept(one, by=world.alice)


def _approving(world: World) -> Act:
    one = world.asked()
    return lambda: workflow.approve(one, by=world.bob)


def _denying(world: World) -> Act:
    one = world.asked()
    return lambda: workflow.deny(one, by=world.bob)


def _starting(world: World) -> Act:
    one = world.approved()
    return lambda: workflow.start(one, by=world.alice)


def _extending(world: World) -> Act:
    one = world.active()
    return lambda: workflow.extend(one, by=world.alice, **MORE)


def _wishing(world: World) -> Act:
    one = world.active()
    return lambda: factories.delivery(one)


def _claiming(world: World) -> Act:
    delivery = factories.delivery(world.active())
    return lambda: _must(deliveries.claim(delivery.pk, worker="w"))


def _recording(world: World) -> Act:
    _, order = world.order()
    return lambda: _must(deliveries.record(order, factories.minted(order), worker="w"))


def _sealing(world: World) -> Act:
    _, order = world.order()
    _must(deliveries.record(order, factories.minted(order), worker="w"))
    envelope = sealing.seal({"kind": "credentials"}, order.recipient_key)
    return lambda: _must(deliveries.seal_down(order, envelope))


def _handing_over(world: World) -> Act:
    delivery, envelope = factories.sealed(world.active())
    return lambda: deliveries.hand_over(delivery, by=world.alice, sign_in="a sign-in", take=lambda _: envelope)


# As the table's columns are called; deciding is two doors.
DOORS: dict[str, dict[str, Door]] = {
    "asking": {"asking": lambda world: world.asked},
    "accepting": {"accepting": _accepting},
    "deciding": {"approving": _approving, "denying": _denying},
    "starting": {"starting": _starting},
    "extending": {"extending": _extending},
    "wishing for credentials": {"wishing": _wishing},
    "before AWS is called": {"claiming": _claiming},
    "before it is recorded": {"recording": _recording},
    "before it is sealed": {"sealing": _sealing},
    "handing over": {"handing over": _handing_over},
}


# --- what is taken away meanwhile -------------------------------------------------------------------

Loss = Callable[[World, User], object]


def _end(world: World, _: User) -> None:
    for one in AccessRequest.objects.all():
        if one.state == "active":
            workflow.revoke(one, by=world.olivia, reason="it is over")
        else:
            workflow.withdraw(one, by=one.requester)


def _edit(world: World, actor: User, **about: Any) -> None:
    Edit.objects.create(editor=actor, made_at=clock.now(), **about)


LOSSES: dict[str, dict[str, Loss]] = {
    "the person is active": {
        "deactivated": lambda world, actor: User.objects.filter(pk=actor.pk).update(deactivated_at=clock.now()),
    },
    "the entitlement is active": {
        "out of use": lambda world, _: Entitlement.objects.update(is_active=False),
        "left the group": lambda world, _: Membership.objects.filter(user=world.alice).delete(),
        "excluded": lambda world, _: world.terms.excluded_users.add(world.alice),
        "gives other roles": lambda world, _: world.terms.roles.clear(),
    },
    "account and role are in use": {
        "role": lambda world, _: Role.objects.update(is_active=False),
        "account": lambda world, _: Account.objects.update(is_active=False),
        "frozen": lambda world, _: workflow.freezes.freeze(world.role, by=world.olivia, reason="a stolen laptop"),
    },
    "nothing of it was changed by the person themselves": {
        "terms": lambda world, actor: _edit(world, actor, entitlement=world.terms),
        "account": lambda world, actor: _edit(world, actor, account=world.role.account),
    },
    "state and time of the request": {
        "ended": _end,
    },
    "enough people could decide": {
        "one left": lambda world, _: Membership.objects.filter(user=world.carol).delete(),
    },
    "AWS's clock is known and near": {
        "unknown": lambda world, _: AwsClock.objects.all().delete(),
    },
}

# Lines about what one door alone knows, or about what the stored terms fix once and for all: who attacks them.
ELSEWHERE = {
    "it is the beneficiary": (
        "test_on_behalf.test_only_the_beneficiary_accepts_and_once",
        "test_on_behalf.test_only_the_beneficiary_starts_uses_extends_and_gives_back",
        "test_on_behalf.test_neither_decides",
        "test_on_behalf.test_only_whom_the_terms_name_asks_for_others",
        "test_deliveries.test_only_the_beneficiary_asks",
        "test_deliveries.test_another_person_gets_nothing",
    ),
    "the beneficiary wants what somebody else asked for them": (
        "test_on_behalf.test_nothing_counts_before_it_is_accepted",
        "test_guards_of_terms.test_nothing_counts_before_the_beneficiary_accepted",
    ),
    "asked by the stored terms, by now, and once": (
        "test_requests.test_stages_are_asked_in_order_and_each_person_once",
        "test_submitting.test_later_edits_of_the_entitlement_do_not_touch_a_request",
        "test_stuck.test_further_people_are_asked_after_the_time_once",
    ),
    "duration, reason, ticket, their patterns": (
        "test_submitting.test_what_is_wrong_is_said_at_its_field",
        "test_asking.test_reason_and_ticket_fit_their_patterns",
        "test_schedule.test_an_approver_never_brings_it_forward_or_lengthens_it",
        "test_extensions.test_a_reason_for_more_fits_the_pattern_too",
    ),
    "the start is not before its time": (
        "test_schedule.test_bounds_of_a_scheduled_start",
        "test_schedule.test_a_start_is_scheduled_within_the_hours",
        "test_schedule.test_an_approver_never_brings_it_forward_or_lengthens_it",
        "test_schedule.test_outside_its_hours_it_waits_for_them",
        "test_extensions.test_the_hours_of_the_terms_bound_it",
    ),
    "the hours of the terms hold": (
        "test_schedule.test_a_row_that_says_it_ends_after_its_hours_gets_no_credentials",
        "test_terms.test_nothing_is_minted_for_a_pass_that_does_not_end_with_the_hours",
    ),
    "AWS would take the narrowing": (
        "test_submitting.test_a_narrowing_that_does_not_fit_what_is_selected_later_is_found_when_asking",
        "test_catalog.test_what_was_entered_before_stays_readable_and_is_found",
        "test_catalog.test_what_something_depends_on_is_not",
    ),
    "how many are open at once": (
        "test_asking.test_as_many_at_once_as_the_terms_allow",
        "test_on_behalf.test_what_others_ask_for_counts_when_it_is_accepted",
        "test_extensions.test_limits_of_number_and_of_time_in_all",
    ),
    "these terms give keys, or the console": (
        "test_asking.test_the_other_channel_is_refused_when_it_is_asked_for_and_again_by_the_worker",
        "test_asking.test_the_worker_believes_no_row_about_its_channel",
    ),
    "15 minutes are left, where identity is access": (
        "test_deliveries.test_whatever_is_lost_on_the_way_nothing_is_handed_over",
    ),
    "how often this person, and this role, asked": (
        "test_deliveries.test_the_limit_of_a_person_spans_all_passes_and_one_minute",
        "test_deliveries.test_the_limit_of_a_role_spans_all_people",
    ),
    "the recipient's key, the console address": (
        "test_deliveries.test_a_wish_that_is_none",
        "test_deliveries.test_the_worker_believes_no_row",
    ),
    "the delivery is young and unclaimed": (
        "test_deliveries.test_only_a_young_wish_is_granted",
        "test_deliveries.test_a_delivery_is_claimed_once",
    ),
    "the session cannot outlive the pass": (
        "test_deliveries.test_a_clock_set_between_the_measure_and_the_mint",
        "test_deliveries.test_a_worker_that_stood_still_before_it_asked_gives_nobody_a_second_more",
    ),
    "it is the sign-in that asked": (
        "test_deliveries.test_another_sign_in_of_the_same_person_gets_nothing",
        "test_deliveries.test_a_lost_or_replaced_envelope_is_not_handed_over",
    ),
}

# What is changed meanwhile and leaves alone whatever was asked for before.
RUNS_ON: dict[str, dict[str, Loss]] = {
    "a limit of the entitlement is lowered": {
        "limits": lambda world, _: Entitlement.objects.update(
            longest_seconds=60, default_seconds=60, pending_seconds=60, start_within_seconds=60, extensions_most=0,
            extension_total_seconds=0, justification_min=1000, channels="console", most_at_once=1,
        ),
        "stages": lambda world, _: Stage.objects.update(quorum=9),
        "approvers": lambda world, _: Stage.objects.get().groups.clear(),
    },
    "members of a group that decides change": {
        "another instead": lambda world, _: Membership.objects.filter(user=world.carol).update(user=world.olivia),
    },
    "whoever asked for another may not ask for others any more": {
        "left the desk": lambda world, _: Membership.objects.filter(user=world.dora).delete(),
        "the desk may not": lambda world, _: world.terms.askers.clear(),
    },
}  # fmt: skip
# What ends more than what is asked at the doors: who attacks it.
ENDS_ELSEWHERE = {
    "the beneficiary leaves the group": ("test_checked_when.test_what_is_checked_when",),
    "the beneficiary is deactivated": (
        "test_people.test_a_deactivated_persons_passes_end_by_themselves_and_nobody_elses",
    ),
    "role or account out of use": ("test_stuck.test_what_can_never_be_approved_ends_and_it_is_said_why",),
    "a freeze": ("test_checked_when.test_what_is_checked_when",),
    "someone edits a rule": (
        "test_checked_when.test_what_is_checked_when",
        "test_edits.test_a_pass_that_runs_is_given_nothing_new_and_runs_to_its_end",
    ),
}


def _table(first: str) -> list[list[str]]:
    """The table whose first column is called so: its heading and its lines, cell by cell."""
    found = re.search(rf"^\| {first} \|.*?(?=\n\n)", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[0].splitlines()]
    return [lines[0], *lines[2:]]


def _one_of(line: str, *labels: dict[str, Any]) -> str:
    (label,) = [one for some in labels for one in some if line.startswith(one)]
    return label


HEADING, *CHECKED = _table("checked")
_, *CHANGES = _table("what changes meanwhile")


@pytest.mark.parametrize("door", [door for doors in DOORS.values() for door in doors])
def test_what_is_checked_when(door: str, world: World) -> None:
    (column,) = [column for column, doors in DOORS.items() if door in doors]
    act = DOORS[column][door](world)
    actor = world.bob if door in DOORS["deciding"] else world.alice
    wrong = []
    for line, *cells in CHECKED:
        cell = cells[HEADING.index(column) - 1]
        for lost, loss in LOSSES.get(_one_of(line, LOSSES, ELSEWHERE), {}).items():
            assert cell in ("", "✓", "approving only")
            expected = cell == "✓" or (cell == "approving only" and door == "approving")
            if _is_refused(act, world, actor, loss) is not expected:
                wrong.append(f"{line}: {lost}")
    assert wrong == []


@pytest.mark.parametrize("door", [door for doors in DOORS.values() for door in doors if door != "asking"])
def test_what_was_asked_for_before_goes_on_as_it_was(door: str, world: World) -> None:
    (ready,) = [doors[door] for doors in DOORS.values() if door in doors]
    act = ready(world)
    changes = {f"{line}: {name}": change for line, some in RUNS_ON.items() for name, change in some.items()}
    assert [name for name, change in changes.items() if _is_refused(act, world, world.alice, change)] == []


def _is_refused(act: Act, world: World, actor: User, loss: Loss) -> bool:
    """Whether what is done at the door is refused after this; all of it is taken back."""
    before = transaction.savepoint()
    try:
        loss(world, actor)
        act()
    except DomainError as refusal:
        # The rules themselves say so, and not only the triggers behind them.
        return refusal.rule != "database.refused"
    else:
        return False
    finally:
        transaction.savepoint_rollback(before)


def test_each_line_is_tried_here_or_names_who_tries_it() -> None:
    named = [
        name
        for line, *_ in CHECKED
        if (label := _one_of(line, LOSSES, ELSEWHERE)) in ELSEWHERE
        for name in ELSEWHERE[label]
    ]
    for line, *_ in CHANGES:
        named += ENDS_ELSEWHERE.get(_one_of(line, RUNS_ON, ENDS_ELSEWHERE), ())
    for name in named:
        module, test = name.split(".")
        assert callable(getattr(importlib.import_module(f"tests.domain.{module}"), test)), name
    assert len(CHECKED) == len(LOSSES) + len(ELSEWHERE)
    assert len(CHANGES) == len(RUNS_ON) + len(ENDS_ELSEWHERE)
