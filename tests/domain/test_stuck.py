"""Escalation, owners who decide, and requests that nobody could decide: each comes to a clear state or to a word."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from requests_app.domain import clock, deciders, workflow
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    Decision,
    Edit,
    Entitlement,
    Extension,
    Group,
    Membership,
    Notice,
    Role,
    Stage,
    User,
)
from requests_app.domain.transitions import State
from requests_app.domain.workflow import stages, sweeps
from tests import factories, letters
from tests.domain.expect import refused
from tests.domain.meeting import at_once, in_background, row_held

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def frank(security: Group) -> User:
    return factories.person("frank", security)


@pytest.fixture
def escalating(staged: Entitlement, security: Group, frank: User) -> Entitlement:
    """After ten minutes Security is asked as well."""
    stage = staged.stages.get()
    Stage.objects.update(escalate_seconds=600)
    stage.more_groups.add(security)
    return staged


@pytest.fixture
def waiting(alice: User, administrator: Role, escalating: Entitlement) -> AccessRequest:
    with clock.moved(-9 * MINUTE):
        return factories.wish(alice, administrator, escalating)


def asked() -> list[str]:
    return sorted(Notice.objects.filter(kind="asked").values_list("recipient__username", flat=True))


def sees(person: User) -> bool:
    return AccessRequest.objects.waiting_for(person, clock.now()).exists()


def test_further_people_are_asked_after_the_time_once(
    waiting: AccessRequest, bob: User, carol: User, frank: User
) -> None:
    assert asked() == ["bob", "carol"]
    with refused("decision.not_asked", NotAllowed):
        workflow.approve(waiting, by=frank)
    assert frank not in workflow.who_can_decide(waiting)
    assert sweeps.escalate_due() == 0
    assert not sees(frank)
    with clock.moved(MINUTE):
        # By the clock at once, whenever the sweep comes.
        assert frank in workflow.who_can_decide(waiting)
        assert sees(frank)
        assert sweeps.escalate_due() == 1
        assert sweeps.escalate_due() == 0
        assert sees(frank)
        assert sees(bob)
    # Carol is in both groups, and was written to already.
    assert asked() == ["bob", "carol", "frank"]
    assert AuditEvent.objects.filter(action="request.escalated", access_request=waiting).count() == 1


def test_whoever_is_asked_later_decides_like_the_first(
    waiting: AccessRequest, alice: User, frank: User, bob: User
) -> None:
    with clock.moved(MINUTE):
        sweeps.escalate_due()
    with refused("decision.not_asked", NotAllowed):
        workflow.approve(waiting, by=frank)  # the time decides, not the sweep's mark
    with clock.moved(-11 * MINUTE):
        old = factories.wish(alice, waiting.role, waiting.entitlement)
    workflow.approve(old, by=frank)
    old.refresh_from_db()
    assert old.state == State.APPROVED
    # And may pull what they could approve.
    workflow.revoke(old, by=frank, reason="not after all")


@pytest.mark.parametrize("late", ["the request", "its extension", "a later stage", "never"])
def test_further_people_revoke_what_they_could_decide(
    late: str, alice: User, bob: User, carol: User, frank: User, administrator: Role, escalating: Entitlement
) -> None:
    """Whom nobody asked, because it was decided in time, has no say about the pass either."""
    Entitlement.objects.update(extensions_most=2, extension_total_seconds=4 * 3600)
    if late == "a later stage":
        Stage.objects.create(entitlement=escalating, position=2, quorum=1).users.add(bob)

    def at(minute: int) -> Any:
        return clock.moved((minute - 60) * MINUTE)

    with at(0):
        one = factories.wish(alice, administrator, escalating, duration=HOUR)
    if late != "the request":
        with at(9):  # in time
            workflow.approve(one, by=carol)
    if late in ("the request", "a later stage"):
        with at(21):
            workflow.approve(one, by=bob)
    with at(22):
        one = workflow.start(one, by=alice)
    if late == "its extension":
        longer: Any = {"by": alice, "duration": 10 * MINUTE, "justification": "it takes longer than we thought"}
        with at(23):
            workflow.approve_extension(workflow.extend(one, **longer), by=bob)
            workflow.extend(one, **longer)
        with at(32):
            assert not workflow.may_revoke(one, frank)  # a minute before they are asked
    with at(34):
        assert workflow.may_revoke(one, bob)
        assert workflow.may_revoke(one, frank) is (late in ("the request", "its extension"))
        if late in ("a later stage", "never"):
            with refused("revoke.not_asked", NotAllowed):
                workflow.revoke(one, by=frank, reason="not after all")
            return
        workflow.revoke(one, by=frank, reason="not after all")
    one.refresh_from_db()
    assert (one.state, one.ended_by) == (State.REVOKED, frank)


def test_owners_revoke_what_they_decide(
    alice: User, bob: User, frank: User, administrator: Role, engineers: Group, security: Group, leads: Group
) -> None:
    administrator.owners = security
    administrator.save()
    terms = factories.entitlement(administrator, groups=[engineers], approval="staged")
    Stage.objects.create(entitlement=terms, position=1, owners="role")
    one = factories.wish(alice, administrator, terms)
    workflow.approve(one, by=frank)
    # Its terms stay as they were when it was asked for.
    administrator.owners = leads
    administrator.save()
    with refused("revoke.not_asked", NotAllowed):
        workflow.revoke(one, by=bob, reason="not after all")
    workflow.revoke(one, by=frank, reason="not after all")
    one.refresh_from_db()
    assert one.ended_by == frank


def test_what_was_decided_in_time_is_not_escalated(waiting: AccessRequest, bob: User, frank: User) -> None:
    workflow.approve(waiting, by=bob)
    with clock.moved(HOUR):
        assert sweeps.escalate_due() == 0
    assert "frank" not in asked()


def test_an_extension_escalates_as_a_request_does(
    alice: User, bob: User, frank: User, administrator: Role, escalating: Entitlement
) -> None:
    Entitlement.objects.update(extensions_most=1, extension_total_seconds=7200)
    with clock.moved(-20 * MINUTE):
        one = factories.wish(alice, administrator, escalating, duration=HOUR)
        workflow.approve(one, by=bob)
        one = workflow.start(one, by=alice)
    with clock.moved(-11 * MINUTE):
        extension = workflow.extend(one, by=alice, duration=HOUR, justification="it takes longer than that")
        assert not Extension.objects.waiting_for(frank, clock.now()).exists()
        with refused("decision.not_asked", NotAllowed):
            workflow.approve_extension(extension, by=frank)
    assert Extension.objects.waiting_for(frank, clock.now()).get() == extension, "before the sweep too"
    assert (sweeps.escalate_due(), sweeps.escalate_due()) == (1, 0)
    assert Extension.objects.waiting_for(frank, clock.now()).get() == extension
    assert Notice.objects.filter(kind="more_asked", recipient=frank).count() == 1
    assert AuditEvent.objects.filter(action="extension.escalated", access_request=one).count() == 1
    workflow.approve_extension(extension, by=frank)
    one.refresh_from_db()
    assert one.expires_at == one.activated_at + 2 * HOUR  # type: ignore[operator]


@pytest.mark.django_db(transaction=True)
def test_escalating_and_deciding_an_extension_at_once_never_wait_for_one_another(
    alice: User, bob: User, frank: User, administrator: Role, escalating: Entitlement
) -> None:
    Entitlement.objects.update(extensions_most=1, extension_total_seconds=7200)
    with clock.moved(-20 * MINUTE):
        one = factories.wish(alice, administrator, escalating, duration=HOUR)
        workflow.approve(one, by=bob)
        one = workflow.start(one, by=alice)
        extension = workflow.extend(one, by=alice, duration=HOUR, justification="it takes longer than that")
    outcomes = at_once(
        sweeps.escalate_due,
        lambda: workflow.approve_extension(Extension.objects.get(pk=extension.pk), by=bob),
        held=(AccessRequest._meta.db_table, one.pk),
    )
    assert isinstance(outcomes[1], Decision)
    extension.refresh_from_db()
    assert extension.state == "granted"


@pytest.mark.django_db(transaction=True)
def test_sweeps_pass_by_what_somebody_is_at(waiting: AccessRequest, alice: User) -> None:
    with clock.moved(-2 * DAY):
        later = factories.wish(alice, waiting.role, waiting.entitlement)
    Role.objects.update(is_active=False)
    with row_held(AccessRequest._meta.db_table, waiting.pk):
        for sweep in (sweeps.escalate_due, sweeps.lapse_hopeless, sweeps.tell_stuck, sweeps.lapse_extensions):
            assert in_background(sweep).result(timeout=5) <= 1
    later.refresh_from_db()
    waiting.refresh_from_db()
    assert (later.state, waiting.state) == ("lapsed", "pending")


# --- owners ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["account", "role"])
def test_the_owners_decide(whose: str, alice: User, administrator: Role, engineers: Group, payments: Account) -> None:
    owners = factories.group("Owners", factories.person("gina"))
    others = factories.group("Others", factories.person("hugo"))
    payments.owners, administrator.owners = (owners, others) if whose == "account" else (others, owners)
    payments.save()
    administrator.save()
    terms = factories.entitlement(administrator, groups=[engineers], approval="staged")
    Stage.objects.create(entitlement=terms, position=1, owners=whose)
    one = factories.wish(alice, administrator, terms)
    assert [person.username for person in workflow.who_can_decide(one)] == ["gina"]
    assert one.terms.stage(1).asks == "Owners"
    with refused("decision.not_asked", NotAllowed):
        workflow.approve(one, by=User.objects.get(username="hugo"))
    # Whose it is was looked at when it was asked for.
    Account.objects.update(owners=others)
    Role.objects.update(owners=others)
    workflow.approve(one, by=User.objects.get(username="gina"))
    one.refresh_from_db()
    assert one.state == State.APPROVED


def test_what_nobody_owns_nobody_can_approve(alice: User, administrator: Role, engineers: Group) -> None:
    terms = factories.entitlement(administrator, groups=[engineers], approval="staged")
    Stage.objects.create(entitlement=terms, position=1, owners="account")
    olivia = factories.person("olivia", is_operator=True)
    for _ in range(2):
        with pytest.raises(NotAllowed) as refusal:
            factories.wish(alice, administrator, terms)
        assert "stage 1" in refusal.value.message
    # The operators hear of it, once a day.
    (notice,) = Notice.objects.filter(kind="nobody")
    assert notice.recipient == olivia
    assert letters.sentence(notice).startswith(f"Someone asked for {administrator} under “{terms}” and was refused: ")
    # Of each role, for each has its owners.
    other = factories.role("Other", administrator.account)
    terms.roles.add(other)
    for _ in range(2):
        with refused("stage.nobody_can", NotAllowed):
            factories.wish(alice, other, terms)
    told = Notice.objects.filter(kind="nobody").order_by("pk")
    assert ["Other" in letters.sentence(one) for one in told] == [False, True]


def test_the_same_person_never_satisfies_two_stages(
    alice: User, bob: User, carol: User, administrator: Role, engineers: Group, leads: Group
) -> None:
    """Asked first, asked further, as an owner and by name: one say."""
    Role.objects.update(owners=leads)
    administrator.refresh_from_db()
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1), (bob, 1)])
    last = terms.stages.get(position=2)
    last.owners, last.escalate_seconds = "role", 60
    last.save()
    last.more_users.add(bob, carol)
    with clock.moved(-HOUR):
        one = factories.wish(alice, administrator, terms)
        workflow.approve(one, by=bob)
    with refused("decision.once", NotAllowed):
        workflow.approve(one, by=bob)
    workflow.approve(one, by=carol)
    one.refresh_from_db()
    assert one.state == State.APPROVED


# --- what can come to no good ---------------------------------------------------------------------


@pytest.mark.parametrize("what", ["group emptied", "deactivated", "own edits", "left by themselves"])
def test_a_stage_that_nobody_can_decide_any_more_is_told_once(
    what: str, pending_request: AccessRequest, alice: User, bob: User, carol: User, leads: Group, olivia: User
) -> None:
    assert sweeps.tell_stuck() == 0
    match what:
        case "group emptied":
            Membership.objects.filter(group=leads).delete()
        case "deactivated":
            for person in (bob, carol):
                workflow.people.deactivate(person, by=None)
        case "own edits":
            for person in (bob, carol):
                Edit.objects.create(editor=person, role=pending_request.role, made_at=clock.now())
        case "left by themselves":
            for person in (bob, carol):
                Edit.objects.create(editor=person, group=leads, made_at=clock.now())
    assert (sweeps.tell_stuck(), sweeps.tell_stuck()) == (1, 0)
    told = Notice.objects.filter(kind="stuck").values_list("recipient__username", flat=True)
    assert sorted(told) == ["alice", "olivia"]
    pending_request.refresh_from_db()
    # It stays: someone may join the group, and it ends when its time is up.
    assert pending_request.state == State.PENDING
    workflow.withdraw(pending_request, by=alice)


def test_one_left_of_two_that_are_needed(
    alice: User,
    bob: User,
    carol: User,
    administrator: Role,
    engineers: Group,
    leads: Group,
    security: Group,
    frank: User,
) -> None:
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 2), (security, 1)])
    Membership.objects.create(group=leads, user=bob, source="scim")  # one person all the same
    one = factories.wish(alice, administrator, terms)
    assert sweeps.tell_stuck() == 0
    workflow.people.deactivate(carol, by=None)
    assert sweeps.tell_stuck() == 1
    dora = factories.person("dora", leads)
    for approver in (bob, dora):
        workflow.approve(one, by=approver)
    # Each stage is a matter of its own.
    assert sweeps.tell_stuck() == 0
    one.refresh_from_db()
    workflow.people.deactivate(frank, by=None)
    assert (sweeps.tell_stuck(), sweeps.tell_stuck()) == (1, 0)


def test_further_people_who_will_be_asked_count(waiting: AccessRequest, leads: Group, frank: User, carol: User) -> None:
    Membership.objects.filter(group=leads).delete()
    assert sweeps.tell_stuck() == 0
    for person in (frank, carol):
        workflow.people.deactivate(person, by=None)
    assert sweeps.tell_stuck() == 1


@pytest.mark.parametrize("what", ["role", "account", "beneficiary", "requester"])
def test_what_can_never_be_approved_ends_and_it_is_said_why(
    what: str, alice: User, bob: User, administrator: Role, staged: Entitlement, payments: Account, read_only: Role
) -> None:
    desk = factories.group("Service desk")
    erin = factories.person("erin", desk)
    staged.askers.add(desk)
    one = factories.wish(erin, administrator, staged, beneficiary=alice)
    workflow.accept(one, by=alice)
    assert sweeps.lapse_hopeless() == 0
    match what:
        case "role":
            Role.objects.filter(pk=administrator.pk).update(is_active=False)
        case "account":
            Account.objects.update(is_active=False)
        case "beneficiary":
            workflow.people.deactivate(alice, by=None)
        case "requester":
            workflow.people.deactivate(erin, by=None)
    assert (sweeps.lapse_hopeless(), sweeps.lapse_hopeless()) == (1, 0)
    one.refresh_from_db()
    assert one.state == State.LAPSED
    assert "out of use" in one.end_reason
    assert AuditEvent.objects.get(action="request.lapsed").detail == {"reason": one.end_reason}
    told = Notice.objects.filter(kind="ended").values_list("recipient__username", flat=True)
    assert sorted(told) == ["alice", "erin"]  # whoever is deactivated is written no mail


def test_renamed_people_groups_and_terms_are_the_same_ones(
    pending_request: AccessRequest, alice: User, bob: User, leads: Group, staged: Entitlement
) -> None:
    """Capitals, new names and new addresses: what was stored are keys."""
    User.objects.filter(pk=bob.pk).update(username="BOB.Lead", email="Bob.LEAD@Example.COM", name="Robert")
    User.objects.filter(pk=alice.pk).update(username="ALICE", name="Alice Née", email="ALICE@example.com")
    Group.objects.filter(pk=leads.pk).update(name="PAYMENTS LEADS (old)")
    Entitlement.objects.filter(pk=staged.pk).update(name="Another name")
    assert sweeps.tell_stuck() == 0
    bob.refresh_from_db()
    workflow.approve(pending_request, by=bob)
    alice.refresh_from_db()
    assert workflow.start(AccessRequest.objects.get(pk=pending_request.pk), by=alice).state == State.ACTIVE
    assert pending_request.decisions.get().approver_name == "Robert"


def test_every_pending_request_has_an_end_whatever_became_of_those_who_decide(pending_request: AccessRequest) -> None:
    Membership.objects.all().delete()
    User.objects.update(deactivated_at=clock.now())
    Entitlement.objects.update(is_active=False)
    with clock.moved(DAY):
        assert sweeps.lapse_due() == 1


def test_what_the_database_counts_is_what_the_rules_count(
    alice: User,
    bob: User,
    carol: User,
    frank: User,
    leads: Group,
    security: Group,
    administrator: Role,
    engineers: Group,
    olivia: User,
) -> None:
    """The sweep's question against the list that pages show, with every reason not to count at once and alone."""
    terms = factories.entitlement(administrator, groups=[engineers], stages=[([leads, frank], 2)])
    one = factories.wish(alice, administrator, terms)
    reasons = [
        lambda: Membership.objects.filter(user=carol, group=leads).delete(),
        lambda: workflow.people.deactivate(bob, by=None),
        lambda: Membership.objects.create(user=alice, group=leads),
        lambda: Edit.objects.create(editor=frank, account=administrator.account, made_at=clock.now()),
        lambda: Edit.objects.update(confirmed_at=clock.now(), confirmed_by=olivia),
        lambda: Membership.objects.create(user=carol, group=leads),
        lambda: Edit.objects.create(editor=carol, group=leads, made_at=clock.now()),
        lambda: Edit.objects.create(editor=frank, entitlement=terms, made_at=clock.now()),
    ]
    said = []
    for happens in reasons:
        happens()
        with connection.cursor() as cursor:
            cursor.execute("SELECT requests_app_lacks_people(%s, NULL, %s)", [one.pk, clock.now()])
            (lacks,) = cursor.fetchone()
        able = deciders.approvers(
            deciders.Question(
                one.terms.stage(1), asking=[alice.pk], entitlement=terms.pk, role=administrator.pk, further=True
            )
        )
        assert lacks is (len(able) < 2), happens
        said.append(lacks)
    assert set(said) == {True, False}


def test_who_is_left_is_counted_alike_by_the_database_and_the_rules(
    alice: User, olivia: User, administrator: Role, engineers: Group, security: Group
) -> None:
    """Three stages that share people, two of them with further ones, one of those in time: whoever is there or not."""
    people = [factories.person(name) for name in "abcde"]
    a, b, c, d, e = people
    Membership.objects.create(group=security, user=e)
    terms = factories.entitlement(
        administrator, groups=[engineers], stages=[([a, b, c], 1), ([b, c, d], 2), ([d, security], 1)],
        pending_seconds=7200,
    )  # fmt: skip
    for position, seconds, further in ((1, 3600, d), (3, 7200, a)):
        stage = terms.stages.get(position=position)
        Stage.objects.filter(pk=stage.pk).update(escalate_seconds=seconds)
        stage.more_users.add(further)
    one = factories.wish(alice, administrator, terms)
    said = set()
    for decided in (False, True):
        if decided:
            User.objects.update(deactivated_at=None)
            workflow.approve(one, by=a)
            one.refresh_from_db()
        for away in range(2**5):
            gone = [person.pk for number, person in enumerate(people) if away & 1 << number]
            User.objects.filter(pk__in=[person.pk for person in people]).update(deactivated_at=None)
            User.objects.filter(pk__in=gone).update(deactivated_at=clock.now())
            now = clock.now()
            with connection.cursor() as cursor:
                cursor.execute("SELECT requests_app_lacks_people(%s, NULL, %s)", [one.pk, now])
                (lacks,) = cursor.fetchone()
            assert lacks is bool(stages.that_lack_people(one, now)), (decided, away)
            said.add((decided, lacks))
    assert said == {(False, True), (False, False), (True, True), (True, False)}


def test_further_people_who_would_be_asked_too_late_do_not_count(
    alice: User, olivia: User, administrator: Role, escalating: Entitlement, leads: Group
) -> None:
    """They are asked after two days, and it lapses after one."""
    Stage.objects.update(escalate_seconds=2 * 86400)
    one = factories.wish(alice, administrator, escalating)
    assert sweeps.tell_stuck() == 0
    Membership.objects.filter(group=leads).delete()
    assert sweeps.tell_stuck() == 1
    with refused("stage.nobody_can", NotAllowed):
        factories.wish(alice, administrator, escalating)
    # In time they do.
    Stage.objects.update(escalate_seconds=86399)
    factories.wish(alice, administrator, escalating)
    one.refresh_from_db()
    assert one.state == State.PENDING


@pytest.fixture
def running(alice: User, bob: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    Entitlement.objects.update(extensions_most=2, extension_total_seconds=7200)
    with clock.moved(-10 * MINUTE):
        one = factories.wish(alice, administrator, staged)
        workflow.approve(one, by=bob)
        return workflow.start(AccessRequest.objects.get(pk=one.pk), by=alice)


LONGER: Any = {"duration": 10 * MINUTE, "justification": "it takes longer than we thought"}


def test_more_time_that_nobody_could_approve_is_found_when_asking(
    running: AccessRequest, alice: User, olivia: User, leads: Group
) -> None:
    assert workflow.may_extend(running, alice, MINUTE)
    Membership.objects.filter(group=leads).delete()
    assert workflow.may_extend(running, alice, MINUTE).rule == "stage.nobody_can"
    for _ in range(2):
        with refused("stage.nobody_can", NotAllowed):
            workflow.extend(running, by=alice, **LONGER)
    (notice,) = Notice.objects.filter(kind="nobody")
    assert notice.recipient == olivia
    workflow.give_back(running, by=alice)


def test_whoever_would_be_asked_after_the_end_of_the_pass_does_not_count(
    running: AccessRequest, alice: User, bob: User, administrator: Role, escalating: Entitlement, leads: Group
) -> None:
    """Ten minutes are less than the twenty that are left, which are less than thirty."""
    for seconds, rule in ((600, None), (1800, "stage.nobody_can")):
        Stage.objects.update(escalate_seconds=seconds)
        if not Membership.objects.filter(group=leads, user=bob).exists():
            Membership.objects.create(group=leads, user=bob)
        with clock.moved(-10 * MINUTE):
            one = factories.wish(alice, administrator, escalating)
            workflow.approve(one, by=bob)
            one = workflow.start(AccessRequest.objects.get(pk=one.pk), by=alice)
        Membership.objects.filter(group=leads).delete()
        assert workflow.may_extend(one, alice, MINUTE).rule == (rule or "extend.terms")


def test_more_time_that_nobody_can_approve_any_more_is_told_once(
    running: AccessRequest, alice: User, olivia: User, leads: Group
) -> None:
    workflow.extend(running, by=alice, **LONGER)
    assert sweeps.tell_stuck() == 0
    Membership.objects.filter(group=leads).delete()
    assert (sweeps.tell_stuck(), sweeps.tell_stuck()) == (1, 0)
    told = Notice.objects.filter(kind="stuck")
    assert sorted(told.values_list("recipient__username", flat=True)) == ["alice", "olivia"]


def test_a_later_stage_that_nobody_can_decide_is_told_at_once(
    alice: User, bob: User, administrator: Role, engineers: Group, leads: Group, security: Group, frank: User
) -> None:
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1), (security, 1)])
    one = factories.wish(alice, administrator, terms)
    assert sweeps.tell_stuck() == 0
    Membership.objects.filter(group=security).delete()
    assert (sweeps.tell_stuck(), sweeps.tell_stuck()) == (1, 0)
    assert workflow.stages_that_lack_people(one) == [2]


def test_one_person_left_for_two_stages_is_told(
    alice: User, bob: User, carol: User, administrator: Role, engineers: Group, leads: Group, security: Group
) -> None:
    """Carol is in both groups and has one say."""
    frank = factories.person("frank", security)
    terms = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1), (security, 1)])
    factories.wish(alice, administrator, terms)
    Membership.objects.filter(user=bob).delete()
    assert sweeps.tell_stuck() == 0
    Membership.objects.filter(user=frank).delete()
    assert (sweeps.tell_stuck(), sweeps.tell_stuck()) == (1, 0)


@pytest.mark.parametrize("how", ["the sweep", "a reminder"])
def test_further_people_are_told_however_many_were_asked_first(
    how: str,
    alice: User,
    administrator: Role,
    escalating: Entitlement,
    leads: Group,
    frank: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The bound, not how large it is: 210 people have been seen to take two minutes in a run of the whole suite.
    monkeypatch.setattr(deciders, "MOST_APPROVERS", 10)
    crowd = [User(username=f"u{n}", email=f"u{n}@example.com", name=f"A{n:04d}") for n in range(20)]
    Membership.objects.bulk_create(Membership(group=leads, user=user) for user in User.objects.bulk_create(crowd))
    with clock.moved(-20 * MINUTE):
        one = factories.wish(alice, administrator, escalating)
    if how == "the sweep":
        sweeps.escalate_due()
    else:
        workflow.remind(one, by=alice)
    kind = "asked" if how == "the sweep" else "reminded"
    assert Notice.objects.filter(kind=kind, recipient=frank).exists()
