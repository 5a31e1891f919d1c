"""The rules as pure functions, against slow and obvious models; and the querysets against the rules."""

import contextlib
import itertools
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requests_app.domain import clock, deciders, facts, policy, workflow
from requests_app.domain.errors import DomainError
from requests_app.domain.hours import Hours
from requests_app.domain.models import AccessRequest, Entitlement, Membership, Role, User
from requests_app.domain.policy import Catalog, Clock, Pass, Person, Reach
from requests_app.domain.terms import StageTerms, Terms
from requests_app.domain.transitions import State
from tests import factories

NOW = datetime(2026, 12, 31, 23, 59, 30, tzinfo=UTC)
small = st.integers(1, 4)
some = st.frozensets(small, max_size=3)
persons = st.builds(Person, id=small, active=st.booleans(), groups=some)
reaches = st.builds(
    Reach,
    active=st.booleans(),
    groups=some,
    users=some,
    roles=some,
    excluded_groups=some | st.just(frozenset()),
    excluded_users=some | st.just(frozenset()),
    approval=st.sampled_from(["automatic", "staged"]),
    stages_with_enough_people=st.lists(st.booleans(), max_size=3).map(tuple),
)
catalogs = st.builds(Catalog, role=small, usable=st.booleans())
seconds = st.floats(-40, 40) | st.sampled_from([30.0, -30.0, float("nan"), float("inf")])
clocks = st.none() | st.builds(
    Clock,
    low=seconds,
    high=seconds,
    measured_at=st.integers(-200, 200).map(lambda late: NOW - timedelta(seconds=late)),
)
passes = st.builds(
    Pass,
    state=st.sampled_from(State),
    requester=small,
    beneficiary=small,
    stage=st.integers(0, 4),
    expires_at=st.none() | st.integers(-1000, 2000).map(lambda left: NOW + timedelta(seconds=left)),
)
stages = st.lists(
    st.builds(
        StageTerms,
        position=st.just(1),
        quorum=st.integers(1, 2),
        groups=st.lists(small, max_size=2, unique=True).map(tuple),
        users=st.lists(small, max_size=2, unique=True).map(tuple),
        asks=st.just("the leads"),
    ),
    max_size=3,
).map(tuple)


def terms_with(stages: tuple[StageTerms, ...]) -> Terms:
    return Terms(
        entitlement=1,
        name="terms",
        revision=1,
        longest_seconds=3600,
        approval="staged" if stages else "automatic",
        stages=stages,
        session_ceiling_seconds=3600,
        pending_seconds=86400,
        start_within_seconds=28800,
        ticket="none",
        justification_min=10,
        narrowing_statements=(),
        narrowing_policy_arns=(),
        lifted=(),
    )


def is_reached(person: Person, reach: Reach, catalog: Catalog) -> bool:
    if not (person.active and catalog.usable and reach.active):
        return False
    if catalog.role not in reach.roles:
        return False
    if person.id in reach.excluded_users or any(group in reach.excluded_groups for group in person.groups):
        return False
    return person.id in reach.users or any(group in reach.groups for group in person.groups)


@given(persons, reaches, catalogs, st.booleans())
def test_may_request(person: Person, reach: Reach, catalog: Catalog, fits: bool) -> None:
    expected = is_reached(person, reach, catalog) and fits
    if reach.approval == "staged":
        expected = expected and len(reach.stages_with_enough_people) > 0 and all(reach.stages_with_enough_people)
    verdict = policy.may_request(person, reach, catalog, narrowing_fits=fits)
    assert bool(verdict) is expected
    assert expected or verdict.message.endswith(".")
    assert bool(policy.may_hold_on(person, reach, catalog)) is is_reached(person, reach, catalog)


NOTHING_AGAINST = policy.Deciding(
    is_active=True, is_asking=False, state="pending", has_decided=False, nobody_is_asked=False, is_accepted=True,
    has_edited=False, has_placed=False, is_asked=True, stage=1, asks="the leads",
)  # fmt: skip
AGAINST: dict[str, tuple[Any, str]] = {
    "is_active": (False, "person.deactivated"),
    "is_asking": (True, "decision.own_request"),
    "state": ("withdrawn", "decision.not_pending"),
    "has_decided": (True, "decision.once"),
    "nobody_is_asked": (True, "decision.nobody_asked"),
    "is_accepted": (False, "decision.not_accepted"),
    "has_edited": (True, "edit.own"),
    "has_placed": (True, "edit.own"),
    "is_asked": (False, "decision.not_asked"),
}


@given(st.frozensets(st.sampled_from(list(AGAINST))), st.booleans())
def test_may_decide(against: frozenset[str], is_member: bool) -> None:
    """The first that is against it is said, whatever else is; where nothing is, they may."""
    known = replace(NOTHING_AGAINST, is_member=is_member, **{name: AGAINST[name][0] for name in against})
    verdict = policy.may_decide(known)
    said = [rule for name, (_, rule) in AGAINST.items() if name in against]
    assert verdict.rule == (said[0] if said else "stage.1")
    assert bool(verdict) is (not said)
    assert verdict or verdict.message.endswith(".")
    if verdict.rule == "decision.not_asked":
        assert ("another operator must confirm" in verdict.message) is is_member


@given(clocks)
def test_what_is_known_of_aws_clock(reading: Clock | None) -> None:
    expected = (
        reading is not None
        and abs((NOW - reading.measured_at).total_seconds()) <= 120
        and -30 <= reading.low <= 30
        and -30 <= reading.high <= 30
        and reading.low <= reading.high
    )
    assert bool(policy.clock_is_known(reading, now=NOW)) is expected


@given(persons, passes, reaches, catalogs, clocks, st.booleans())
def test_may_mint(
    person: Person, of: Pass, reach: Reach, catalog: Catalog, reading: Clock | None, identity_is_access: bool
) -> None:
    expected = (
        person.id == of.beneficiary
        and of.state == "active"
        and of.expires_at is not None
        and of.expires_at > NOW
        and is_reached(person, reach, catalog)
        and (not identity_is_access or of.expires_at >= NOW + timedelta(minutes=15, seconds=15))
        and bool(policy.clock_is_known(reading, now=NOW))
    )
    verdict = policy.may_mint(person, of, reach, catalog, reading, now=NOW, identity_is_access=identity_is_access)
    assert bool(verdict) is expected
    assert expected or verdict.message.endswith(".")


def test_a_good_mint_is_allowed() -> None:
    """The properties above would hold if everything were refused."""
    person = Person(id=1, active=True, groups=frozenset({1}))
    reach = Reach(True, frozenset({1}), frozenset(), frozenset({1}), "automatic", ())
    of = Pass(State.ACTIVE, 1, 1, 0, NOW + timedelta(seconds=1))
    reading = Clock(-0.5, 0.5, NOW)
    assert policy.may_mint(person, of, reach, Catalog(1, True), reading, now=NOW, identity_is_access=False)
    assert policy.may_request(person, reach, Catalog(1, True))
    assert policy.may_decide(NOTHING_AGAINST)


@pytest.mark.parametrize(("left", "rule"), [(-1, "mint.not_active"), (0, "mint.not_active"), (1, "clock.known")])
def test_at_its_very_end_a_pass_is_over(left: int, rule: str) -> None:
    """What was minted at that second would be refused by its own policy."""
    person = Person(id=1, active=True, groups=frozenset({1}))
    reach = Reach(True, frozenset({1}), frozenset(), frozenset({1}), "automatic", ())
    of = Pass(State.ACTIVE, 1, 1, 0, NOW + timedelta(microseconds=left))
    verdict = policy.may_mint(
        person, of, reach, Catalog(1, True), Clock(-0.5, 0.5, NOW), now=NOW, identity_is_access=False
    )
    assert verdict.rule == rule


def test_the_shortest_pass_still_fits_before_the_hours_close() -> None:
    hours = Hours(zone="UTC", days=(1, 2, 3, 4, 5, 6, 7), begin="08:00", end="18:00")
    last = datetime(2026, 12, 1, 18, 0, tzinfo=UTC) - timedelta(seconds=policy.SHORTEST_SECONDS)
    assert policy.leaves_time(hours, last)
    assert not policy.leaves_time(hours, last + timedelta(microseconds=1))
    assert not policy.leaves_time(hours, last.replace(hour=7))


@pytest.mark.django_db
def test_approvers_are_the_active_people_of_groups_and_by_name_once() -> None:
    leads = factories.group("Leads")
    zoe, adam = factories.person("zoe", leads), factories.person("adam", leads)
    Membership.objects.create(group=leads, user=zoe, source="scim")
    gone = factories.person("gone", leads)
    workflow.people.deactivate(gone, by=None)
    named, asking, stranger = (factories.person(name) for name in ("named", "asking", "stranger"))
    Membership.objects.create(group=leads, user=asking)

    def asked(groups: tuple[int, ...], users: tuple[int, ...]) -> list[User]:
        return deciders.approvers(deciders.Question(StageTerms(1, 1, groups, users, "x"), asking=[asking.pk]))

    assert asked((leads.pk,), (named.pk, zoe.pk, gone.pk, asking.pk)) == [adam, named, zoe]
    assert asked((), (named.pk,)) == [named]
    assert asked((leads.pk,), ()) == [adam, zoe]
    assert asked((), ()) == []
    assert stranger not in asked((leads.pk,), ())


@pytest.fixture(params=[1, 2])
def landscape(request: pytest.FixtureRequest, db: Any) -> None:
    """People, groups, entitlements and requests in many states, by chance and the same each time."""
    chance = random.Random(request.param)
    groups = [factories.group(f"group {n}") for n in range(3)]
    people = [factories.person(f"person{n}", *chance.sample(groups, chance.randrange(0, 3))) for n in range(6)]
    for membership in chance.sample(list(Membership.objects.all()), 2):
        Membership.objects.create(group=membership.group, user=membership.user, source="claim")
    roles = [factories.role(in_account=factories.account()) for _ in range(2)]
    for n in range(5):
        stages: list[Any] = [(chance.sample([*groups, *people], 2), chance.randrange(1, 3)) for _ in range(n % 3)]
        factories.entitlement(
            *chance.sample(roles, chance.randrange(1, 3)),
            groups=chance.sample(groups, 1),
            users=chance.sample(people, 1),
            stages=stages,
        )
    wishes = list(itertools.product(people, roles, Entitlement.objects.all()))
    for person, role, entitlement in chance.sample(wishes, 30):
        try:
            made = factories.wish(person, role, entitlement)
        except DomainError:
            continue
        for approver in chance.sample(people, chance.randrange(0, 4)):
            with contextlib.suppress(DomainError):
                chance.choice([workflow.approve, workflow.approve, workflow.deny])(made, by=approver)
    # And then some of it changes.
    Membership.objects.filter(user=people[0]).delete()
    Entitlement.objects.filter(name__endswith="3").update(is_active=False)


def test_the_querysets_find_exactly_what_the_rules_allow(landscape: None) -> None:
    requests = list(AccessRequest.objects.all())
    assert {"pending", "approved"} <= {one.state for one in requests}
    waiting = reached = 0
    now = clock.now()
    for person in User.objects.all():
        found = list(AccessRequest.objects.waiting_for(person, now))
        allowed = [one for one in requests if workflow.verdict_on_deciding(one, person)]
        assert sorted(one.pk for one in found) == sorted(one.pk for one in allowed), person
        # The same question from the other side.
        assert all(person in workflow.who_can_decide(one) for one in allowed)
        assert not AccessRequest.objects.waiting_for(person, now + timedelta(days=1)).exists()
        waiting += len(found)
        for role in Role.objects.all():
            candidates = list(Entitlement.objects.reaching(person).for_role(role))
            # Whether enough people could decide is asked only when somebody asks for it.
            may = [
                entitlement
                for entitlement in Entitlement.objects.all()
                if policy.may_hold_on(facts.person(person), facts.reach_of_role(entitlement, role), facts.catalog(role))
            ]
            assert sorted(one.pk for one in candidates) == sorted(one.pk for one in may)
            reached += len(candidates)
    assert waiting >= 3
    assert reached >= 3
    assert sum(len(workflow.who_can_decide(one)) for one in requests) == waiting
