"""More time for an active pass: a fresh decision under the same terms, on the same request, without a gap."""

from datetime import datetime, time, timedelta
from typing import Any

import pytest

from requests_app.domain import clock, workflow
from requests_app.domain.errors import Conflict, DomainError, Invalid, NotAllowed
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    Edit,
    Entitlement,
    Extension,
    Group,
    IssuedSession,
    Membership,
    Notice,
    Role,
    User,
)
from requests_app.domain.transitions import ExtensionState, State
from requests_app.domain.workflow import deliveries, sweeps
from tests import factories
from tests.domain.expect import refused
from tests.domain.meeting import at_once

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
WHY = "the batch takes longer than we thought"


@pytest.fixture
def longer(staged: Entitlement, automatic: Entitlement) -> Entitlement:
    """Twice, up to two hours in all."""
    Entitlement.objects.update(extensions_most=2, extension_total_seconds=7200)
    staged.refresh_from_db()
    automatic.refresh_from_db()
    return staged


@pytest.fixture
def running(alice: User, bob: User, administrator: Role, longer: Entitlement) -> AccessRequest:
    """For an hour, of which half is left."""
    with clock.moved(-30 * MINUTE):
        one = factories.wish(alice, administrator, longer, duration=HOUR)
        workflow.approve(one, by=bob)
        return workflow.start(one, by=alice)


@pytest.fixture
def reading(alice: User, read_only: Role, automatic: Entitlement, longer: Entitlement) -> AccessRequest:
    """The same under terms by which nobody is asked."""
    with clock.moved(-30 * MINUTE):
        return factories.wish(alice, read_only, automatic, duration=HOUR, start="at_once")


def more(of: AccessRequest, minutes: int = 30, **values: Any) -> Extension:
    return workflow.extend(of, **{"by": of.beneficiary, "duration": minutes * MINUTE, "justification": WHY, **values})


def end_of(one: AccessRequest) -> datetime:
    one.refresh_from_db()
    assert one.expires_at is not None
    return one.expires_at


def story(of: AccessRequest) -> list[str]:
    events = AuditEvent.objects.filter(access_request=of, action__startswith="extension.").order_by("pk")
    return [event.action.removeprefix("extension.") for event in events]


def test_automatic_terms_grant_it_at_once(reading: AccessRequest) -> None:
    before = end_of(reading)
    extension = more(reading)
    assert extension.state == ExtensionState.GRANTED
    assert (extension.previous_end, extension.new_end) == (before, before + 30 * MINUTE)
    assert end_of(reading) == before + 30 * MINUTE
    assert (reading.state, reading.approved_seconds) == (State.ACTIVE, 3600)
    assert story(reading) == ["asked", "granted"]


def test_a_quorum_decides_anew(
    alice: User, bob: User, carol: User, administrator: Role, engineers: Group, leads: Group, security: Group
) -> None:
    """Two stages, two of the first: those who approved the pass decide about its extension as about anything else."""
    dora, frank = factories.person("dora", leads), factories.person("frank", security)
    terms = factories.entitlement(
        administrator, groups=[engineers], stages=[(leads, 2), (security, 1)],
        extensions_most=1, extension_total_seconds=7200,
    )  # fmt: skip
    one = factories.wish(alice, administrator, terms, duration=HOUR)
    for approver in (bob, dora, frank):
        workflow.approve(one, by=approver)
    one = workflow.start(one, by=alice)
    before = end_of(one)
    extension = more(one)
    asked = Notice.objects.filter(kind="more_asked").values_list("recipient__username", flat=True)
    assert sorted(asked) == ["bob", "carol", "dora"]
    workflow.approve_extension(extension, by=bob)
    for person, rule in ((bob, "decision.once"), (alice, "decision.own_request"), (frank, "decision.not_asked")):
        with refused(rule, NotAllowed):
            workflow.approve_extension(extension, by=person)
    assert end_of(one) == before
    # Carol is all that is left of the first stage; Frank alone is enough for the second.
    workflow.approve_extension(extension, by=carol)
    extension.refresh_from_db()
    assert (extension.state, extension.stage, end_of(one)) == ("pending", 2, before)
    workflow.approve_extension(extension, by=frank, comment="go on")
    extension.refresh_from_db()
    assert (extension.state, end_of(one)) == ("granted", before + 30 * MINUTE)
    done = [action for action in story(one) if not action.endswith("refused")]
    assert done == ["asked", "approved", "approved", "approved", "granted"]
    # The decisions on the request are as they were.
    assert [decision.approver for decision in one.decisions] == [bob, dora, frank]
    assert one.all_decisions.count() == 6
    told = Notice.objects.filter(kind="more_decided").values_list("recipient__username", flat=True)
    assert list(told) == ["alice"]


def test_a_denial_leaves_the_end_where_it_was(running: AccessRequest, bob: User) -> None:
    before = end_of(running)
    extension = more(running)
    workflow.deny_extension(extension, by=bob, comment="enough")
    extension.refresh_from_db()
    assert (extension.state, end_of(running), running.state) == ("denied", before, "active")
    with refused("extension.not_pending", Conflict):
        workflow.approve_extension(extension, by=bob)
    # What was denied does not count among the granted, and may be asked again.
    assert more(running).state == ExtensionState.PENDING
    assert story(running) == ["asked", "denied", "approved.refused", "asked"]


def test_it_is_taken_back_by_whoever_asked(running: AccessRequest, bob: User, alice: User) -> None:
    extension = more(running)
    with refused("withdraw.not_yours", NotAllowed):
        workflow.withdraw_extension(extension, by=bob)
    assert workflow.withdraw_extension(extension, by=alice).state == ExtensionState.WITHDRAWN
    with refused("extension.not_pending", Conflict):
        workflow.withdraw_extension(extension, by=alice)
    assert not Extension.objects.waiting_for(bob, clock.now()).exists()


def test_nobody_decides_in_time(running: AccessRequest, bob: User) -> None:
    Entitlement.objects.update(pending_seconds=600)
    extension = more(running)
    # The terms are those of the request: a day to decide, but never longer than the pass.
    assert extension.decide_by == end_of(running)
    with clock.moved(29 * MINUTE):
        assert sweeps.lapse_extensions() == 0
    with clock.moved(31 * MINUTE), refused("extension.not_pending", Conflict):
        workflow.approve_extension(extension, by=bob)
    extension.refresh_from_db()
    running.refresh_from_db()
    # Whoever touched it performed what was due.
    assert (extension.state, running.state) == ("lapsed", "expired")
    assert story(running) == ["asked", "lapsed", "approved.refused"]


def test_it_lapses_before_the_pass_where_the_terms_say_so_and_the_person_hears(
    alice: User, bob: User, administrator: Role, longer: Entitlement
) -> None:
    Entitlement.objects.update(pending_seconds=600)
    one = factories.wish(alice, administrator, longer, duration=HOUR)
    workflow.approve(one, by=bob)
    one = workflow.start(one, by=alice)
    extension = more(one)
    with clock.moved(10 * MINUTE):
        assert sweeps.lapse_extensions() == 1
        assert sweeps.lapse_extensions() == 0
    extension.refresh_from_db()
    one.refresh_from_db()
    assert (extension.state, one.state) == ("lapsed", "active")
    assert Notice.objects.filter(kind="more_decided", recipient=alice).count() == 1
    assert story(one) == ["asked", "lapsed"]


@pytest.mark.parametrize("how", ["give back", "revoke", "expire", "deactivate"])
def test_a_pass_that_ends_takes_what_was_asked_along(how: str, running: AccessRequest, alice: User, bob: User) -> None:
    extension = more(running)
    match how:
        case "give back":
            workflow.give_back(running, by=alice)
        case "revoke":
            workflow.revoke(running, by=bob, reason="enough")
        case "expire":
            with clock.moved(HOUR):
                sweeps.expire_due()
        case "deactivate":
            workflow.people.deactivate(alice, by=None)
            assert workflow.end_passes_of_deactivated() == 1
    extension.refresh_from_db()
    assert extension.state == ExtensionState.LAPSED
    assert story(running) == ["asked", "lapsed"]
    with clock.moved(HOUR if how == "expire" else timedelta(0)):
        for act in (workflow.approve_extension, workflow.deny_extension):
            with refused("extension.not_pending", Conflict):
                act(extension, by=bob)


def test_whoever_ends_a_pass_without_looking_leaves_nothing_pending(running: AccessRequest, bob: User) -> None:
    """As many are ended at once, by one statement."""
    extension = more(running)
    AccessRequest.objects.filter(pk=running.pk).update(state="revoked", ended_at=clock.now(), ended_by=bob)
    assert (sweeps.lapse_extensions(), sweeps.lapse_extensions()) == (1, 0)
    extension.refresh_from_db()
    assert extension.state == ExtensionState.LAPSED


def test_without_a_gap_and_sessions_from_before_keep_their_end(
    alice: User, read_only: Role, automatic: Entitlement, longer: Entitlement
) -> None:
    """Begun 70 min ago for an hour, extended by 30 min when 30 were left: its old end was 10 min ago."""
    with clock.moved(-70 * MINUTE):
        one = factories.wish(alice, read_only, automatic, duration=HOUR, start="at_once")
    old_end = end_of(one)
    with clock.moved(-40 * MINUTE):
        factories.clock_reading()
        factories.sealed(one)
        more(one)
        factories.sealed(one)
    earlier, later = IssuedSession.objects.order_by("pk")
    assert earlier.cut_off <= old_end < later.cut_off <= end_of(one)
    assert later.cut_off > old_end + 29 * MINUTE
    # At its old end nothing happened, and new credentials are given as before.
    assert sweeps.expire_due() == 0
    factories.clock_reading()
    order = deliveries.claim(factories.delivery(one).pk, worker="w")
    assert order is not None
    assert order.expires_at == old_end + 30 * MINUTE
    earlier.refresh_from_db()
    assert earlier.cut_off <= old_end
    with clock.moved(20 * MINUTE):
        assert sweeps.expire_due() == 1
    one.refresh_from_db()
    assert one.ended_at == old_end + 30 * MINUTE


def test_the_end_is_announced_again_once_for_each_end(reading: AccessRequest) -> None:
    def announced(by: timedelta) -> int:
        with clock.moved(by):
            return sweeps.announce_endings()

    assert announced(16 * MINUTE) == 1
    assert announced(17 * MINUTE) == 0
    more(reading, 5)  # by a little only
    assert announced(16 * MINUTE) == 0
    assert announced(21 * MINUTE) == 1
    assert announced(22 * MINUTE) == 0
    assert Notice.objects.filter(kind="ending_soon").count() == 2


# --- how much, how often, and for whom ------------------------------------------------------------


def test_limits_of_number_and_of_time_in_all(reading: AccessRequest, alice: User) -> None:
    with refused("extend.total", NotAllowed):
        more(reading, 61)
    with refused("extend.short", NotAllowed):
        workflow.extend(reading, by=alice, duration=timedelta(seconds=59), justification=WHY)
    more(reading, 20)
    with refused("extend.total", NotAllowed):
        more(reading, 41)
    more(reading, 40)
    with refused("extend.often", NotAllowed):
        more(reading, 1)
    assert AccessRequest.objects.get(pk=reading.pk).expires_at == reading.activated_at + 2 * HOUR  # type: ignore[operator]


def test_the_limits_are_those_that_were_stored_when_it_was_asked_for(reading: AccessRequest) -> None:
    Entitlement.objects.update(extensions_most=0, extension_total_seconds=0)
    assert more(reading).state == ExtensionState.GRANTED
    Entitlement.objects.update(extensions_most=9, extension_total_seconds=90000)
    with refused("extend.total", NotAllowed):
        more(reading, 31)


def test_what_an_approver_shortened_is_extended_from_there(
    alice: User, bob: User, administrator: Role, longer: Entitlement
) -> None:
    one = factories.wish(alice, administrator, longer, duration=HOUR)
    workflow.approve(one, by=bob, duration=10 * MINUTE)
    one = workflow.start(one, by=alice)
    with refused("extend.total", NotAllowed):
        more(one, 111)
    assert more(one, 110).state == ExtensionState.PENDING


def test_only_the_person_it_is_for_only_while_it_is_active_and_once_at_a_time(
    running: AccessRequest, pending_request: AccessRequest, alice: User, bob: User
) -> None:
    for person in (bob, factories.person("olga", is_operator=True)):
        with refused("extend.not_yours", NotAllowed):
            more(running, by=person)
    with refused("extend.not_active", NotAllowed):
        more(pending_request)
    more(running)
    with refused("extend.pending", NotAllowed):
        more(running)
    workflow.withdraw_extension(Extension.objects.get(state="pending"), by=alice)
    for text in ("", "short", " " * 40, "x" * 2001, "nul \x00 in it, and long enough"):
        with pytest.raises(Invalid):
            more(running, justification=text)
    with clock.moved(HOUR), refused("extend.not_active", NotAllowed):
        more(running)


def test_terms_that_know_no_extension(active_request: AccessRequest) -> None:
    with refused("extend.terms", NotAllowed):
        more(active_request, 1)


def test_a_reason_for_more_fits_the_pattern_too(reading: AccessRequest, alice: User, automatic: Entitlement) -> None:
    Entitlement.objects.update(justification_pattern=r".*OPS-\d+.*")
    one = factories.wish(
        alice, reading.role, automatic, start="at_once", justification="as in OPS-1 we replay the batch"
    )
    with pytest.raises(Invalid):
        more(one)
    assert more(one, justification="OPS-1 takes\nlonger than we thought").state == ExtensionState.GRANTED


def test_the_hours_of_the_terms_bound_it(
    alice: User, read_only: Role, automatic: Entitlement, longer: Entitlement
) -> None:
    day = (clock.now() - timedelta(days=3)).replace(hour=12, minute=0, second=0, microsecond=0)
    Entitlement.objects.update(
        hours_days=[day.isoweekday()], hours_begin=time(12), hours_end=time(13), hours_zone="UTC"
    )
    with clock.moved(day - clock.now()):
        one = factories.wish(alice, read_only, automatic, duration=30 * MINUTE, start="at_once")
        with refused("extend.hours", NotAllowed):
            more(one, 31)
        assert more(one, 29).state == ExtensionState.GRANTED


@pytest.mark.parametrize("since", ["left", "entitlement", "role", "frozen", "own edit", "deactivated"])
@pytest.mark.parametrize("moment", ["asking", "deciding"])
def test_whoever_could_not_ask_for_it_any_more_gets_no_more_time(
    moment: str, since: str, running: AccessRequest, alice: User, bob: User, olivia: User
) -> None:
    extension = more(running) if moment == "deciding" else None
    before = end_of(running)
    match since:
        case "left":
            Membership.objects.filter(user=alice).delete()
        case "entitlement":
            Entitlement.objects.update(is_active=False)
        case "role":
            Role.objects.update(is_active=False)
        case "frozen":
            workflow.freezes.freeze(running.role, by=olivia, reason="an incident")
        case "own edit":
            Edit.objects.create(editor=alice, role=running.role, made_at=clock.now())
        case "deactivated":
            workflow.people.deactivate(alice, by=None)
    with pytest.raises((Conflict, NotAllowed)):
        workflow.approve_extension(extension, by=bob) if extension else more(running)
    # What runs goes on to its end, and a no is always possible.
    assert (end_of(running), running.state) == (before, "active")
    if extension:
        workflow.deny_extension(extension, by=bob)
        assert end_of(running) == before


def test_who_is_shown_it_is_who_may_decide_it(
    running: AccessRequest, alice: User, bob: User, carol: User, mallory: User, olivia: User
) -> None:
    extension = more(running)
    now = clock.now()
    Edit.objects.create(editor=carol, account=running.role.account, made_at=now)

    def shown() -> set[str]:
        return {one.username for one in User.objects.all() if Extension.objects.waiting_for(one, now).exists()}

    def allowed() -> set[str]:
        return {one.username for one in User.objects.all() if workflow.may_deny(extension, one)}

    assert shown() == allowed() == {"bob"}
    assert [one.username for one in workflow.who_can_decide(extension)] == ["bob"]
    Edit.objects.update(confirmed_at=now, confirmed_by=olivia)
    assert shown() == allowed() == {"bob", "carol"}
    workflow.approve_extension(extension, by=bob)
    assert not Extension.objects.waiting_for(carol, now).exists()


# --- at the same moment ---------------------------------------------------------------------------


def _extend(pk: int, minutes: int = 30) -> Any:
    return lambda: more(AccessRequest.objects.select_related("beneficiary").get(pk=pk), minutes)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["staged", "automatic"])
def test_two_extensions_at_once(kind: str, running: AccessRequest, reading: AccessRequest) -> None:
    one = running if kind == "staged" else reading
    before = end_of(one)
    outcomes = at_once(_extend(one.pk, 40), _extend(one.pk, 40), held=(AccessRequest._meta.db_table, one.pk))
    made = [outcome for outcome in outcomes if isinstance(outcome, Extension)]
    (refusal,) = (outcome for outcome in outcomes if isinstance(outcome, DomainError))
    assert len(made) == 1
    # Together they would be more than the terms allow.
    assert refusal.rule == ("extend.pending" if kind == "staged" else "extend.total")
    assert end_of(one) == (before if kind == "staged" else before + 40 * MINUTE)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("ending", ["give back", "revoke", "expire", "lapse", "withdraw", "deny", "approve by carol"])
def test_granting_it_and_ending_it_at_once(
    ending: str, running: AccessRequest, alice: User, bob: User, carol: User
) -> None:
    extension = more(running)
    before = end_of(running)

    def late(sweep: Any) -> Any:
        with clock.moved(31 * MINUTE):
            return sweep()

    acts = {
        "give back": lambda: workflow.give_back(AccessRequest.objects.get(pk=running.pk), by=alice),
        "revoke": lambda: workflow.revoke(AccessRequest.objects.get(pk=running.pk), by=carol, reason="enough"),
        "expire": lambda: late(sweeps.expire_due),
        "lapse": lambda: late(sweeps.lapse_extensions),
        "withdraw": lambda: workflow.withdraw_extension(Extension.objects.get(pk=extension.pk), by=alice),
        "deny": lambda: workflow.deny_extension(Extension.objects.get(pk=extension.pk), by=carol),
        "approve by carol": lambda: workflow.approve_extension(Extension.objects.get(pk=extension.pk), by=carol),
    }
    outcomes = at_once(
        lambda: workflow.approve_extension(Extension.objects.get(pk=extension.pk), by=bob),
        acts[ending],
        held=(AccessRequest._meta.db_table, running.pk),
    )
    assert not all(isinstance(outcome, DomainError) for outcome in outcomes)
    extension.refresh_from_db()
    granted = extension.state == "granted"
    assert end_of(running) == (before + 30 * MINUTE if granted else before)
    assert extension.state != "pending"
    assert story(running).count("granted") == int(granted)
    assert extension.decisions.count() <= 1
    # Whatever came second, the pass is over only where something ended it, and then nothing of it is pending.
    assert not Extension.objects.filter(state="pending").exists()


@pytest.mark.django_db(transaction=True)
def test_asking_for_more_and_giving_back_at_once(running: AccessRequest, alice: User) -> None:
    at_once(
        _extend(running.pk),
        lambda: workflow.give_back(AccessRequest.objects.get(pk=running.pk), by=alice),
        held=(AccessRequest._meta.db_table, running.pk),
    )
    running.refresh_from_db()
    assert running.state == State.RETURNED
    assert not Extension.objects.filter(state="pending").exists()
