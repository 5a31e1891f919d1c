"""The rules as pure functions, against slow and obvious models; and the querysets against the rules."""

import contextlib
import itertools
import random
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from requests_app.domain import clock, deciders, facts, policy, workflow
from requests_app.domain.errors import DomainError
from requests_app.domain.hours import Hours
from requests_app.domain.models import AccessRequest, Entitlement, Membership, Role, User
from requests_app.domain.policy import Asking, Clock, Holding, Minting, MoreTime, Standing
from requests_app.domain.terms import StageTerms, Terms
from requests_app.domain.transitions import State
from tests import factories

NOW = datetime(2026, 12, 31, 23, 59, 30, tzinfo=UTC)
ARN = "arn:aws:iam::123456789012:role/elevated/Administrator"
mostly, hardly = st.sampled_from([True] * 7 + [False]), st.sampled_from([False] * 7 + [True])
# Each refuses now and then, so that most of what is refused is refused by one of them alone.
stands: dict[str, st.SearchStrategy[Any]] = {
    "person_is_active": mostly,
    "role_is_usable": mostly,
    "frozen_because": st.sampled_from([None] * 7 + ["a break-in."]),
    "has_own_edit": hardly,
    "terms_are_active": mostly,
    "gives_role": mostly,
    "names_person": mostly,
    "excludes_person": hardly,
}
seconds = st.floats(-40, 40) | st.sampled_from([30.0, -30.0, 0.0, 0.0, 0.0, float("nan"), float("inf")])
ages = (st.integers(-200, 200) | st.just(0) | st.just(0)).map(lambda late: NOW - timedelta(seconds=late))
clocks = st.none() | st.builds(Clock, low=seconds, high=seconds, measured_at=ages)
lasting = st.none() | st.integers(-100, 2000).map(lambda left: NOW + timedelta(seconds=left))
mints = st.builds(
    Minting,
    **stands,
    is_beneficiary=mostly,
    state=st.sampled_from([State.ACTIVE, State.ACTIVE, *State]),
    expires_at=st.integers(1, 2000).map(lambda left: NOW + timedelta(seconds=left)) | lasting,
    now=st.just(NOW),
    identity_is_access=hardly,
    held_until=st.none() | st.none() | st.sampled_from([-1, 0, 1]).map(lambda left: NOW + timedelta(seconds=left)),
    time_zone=st.just("UTC"),
    clock_low=st.none() | seconds,
    clock_high=st.none() | seconds | st.just(0.5),
    clock_measured_at=st.none() | ages,
    hours_document=st.none(),
    channels=st.just("both"),
    console=mostly,
    scoping=st.sampled_from(["", "works", "works", "refused"]),
    scoped_console=st.none() | mostly,
    ends_by_sts_only=hardly,
    console_authorization=st.sampled_from(["", "off", "on"]),
    lifted=st.sampled_from([[], ["sign-in-tokens"]]),
)


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


def why_not_hold(it: Standing) -> str | None:
    if not it.person_is_active:
        return "person.deactivated"
    if not it.role_is_usable:
        return "role.inactive"
    if it.frozen_because is not None:
        return "freeze"
    if it.has_own_edit:
        return "edit.own"
    if not (it.terms_are_active and it.gives_role and it.names_person):
        return "entitlement.does_not_reach"
    return "entitlement.excluded" if it.excludes_person else None


def check(said: policy.Verdict, refused_by: str | None, otherwise: str) -> None:
    assert said.rule == (refused_by or otherwise)
    assert bool(said) is (refused_by is None)
    assert said or (said.message[:1].isupper() and said.message.endswith("."))


@given(st.builds(Standing, **stands))
def test_still_entitled(standing: Standing) -> None:
    check(policy.still_entitled(standing), why_not_hold(standing), "entitlement.reaches")


@settings(max_examples=500)
@given(
    st.builds(
        Asking,
        **stands,
        role_arn=st.sampled_from([ARN, ARN, ARN, ARN, ARN.replace("/elevated/", "/team:a/")]),
        approval=st.sampled_from(["automatic", "staged"]),
        asker_is_active=mostly,
        asker_has_own_edit=hardly,
        asker_placed_person=hardly,
        asker_is_named=mostly,
        stages_with_enough_people=st.lists(mostly, max_size=3).map(tuple),
        narrowing_fits=mostly,
        channels=st.sampled_from(["both", "console", "keys"]),
        console_is_closed=hardly,
        open_already=st.integers(0, 3),
        most=st.none() | st.integers(1, 9),
    )
)
def test_may_request(asking: Asking) -> None:
    def by_the_asker() -> str | None:
        if not asking.asker_is_active:
            return "person.deactivated"
        if asking.asker_has_own_edit or asking.asker_placed_person:
            return "edit.own"
        return None if asking.asker_is_named else "behalf.not_named"

    def expected() -> str | None:
        if not asking.person_is_active:
            return "person.deactivated"
        if by_the_asker():
            return by_the_asker()
        if not asking.role_is_usable:
            return "role.inactive"
        if ":a/" in asking.role_arn:
            return "role.address"
        if why_not_hold(asking):
            return why_not_hold(asking)
        if not asking.narrowing_fits:
            return "narrowing.does_not_fit"
        if asking.channels == "console" and asking.console_is_closed:
            return "console.authorization"
        if asking.approval == "staged" and not asking.stages_with_enough_people:
            return "stage.none"
        if asking.approval == "staged" and False in asking.stages_with_enough_people:
            return "stage.nobody_can"
        too_many = asking.most is not None and asking.open_already >= asking.most
        return "terms.at_once" if too_many else None

    check(policy.may_request(asking), expected(), "entitlement.reaches")
    check(policy.may_ask_for_others(asking), by_the_asker(), "behalf.named")


NOTHING_AGAINST = policy.Deciding(
    is_active=True, is_asking=False, state="pending", has_decided=False, nobody_is_asked=False, is_accepted=True,
    has_edited=False, has_placed=False, is_same_hand=False, is_asked=True, stage=1, asks="the leads",
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
    "is_same_hand": (True, "person.same_hand"),
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


@settings(max_examples=1000)
@given(mints)
def test_may_mint(it: Minting) -> None:
    def expected() -> str | None:
        if not it.is_beneficiary:
            return "mint.not_beneficiary"
        if it.state != "active" or it.expires_at is None or it.expires_at <= NOW:
            return "mint.not_active"
        if why_not_hold(it):
            return why_not_hold(it)
        ends_by_itself = it.scoping == "works" and (not it.console or it.scoped_console is True)
        if it.identity_is_access and not ends_by_itself and it.expires_at < NOW + timedelta(minutes=15, seconds=15):
            return "mint.identity_is_access"
        if it.ends_by_sts_only and (it.scoping == "refused" or (it.console and not ends_by_itself)):
            return "mint.ends_by_sts_only"
        if it.held_until is not None and it.held_until > NOW:
            return "mint.held"
        low, high, at = it.clock_low, it.clock_high, it.clock_measured_at
        if low is None or high is None or at is None or abs((NOW - at).total_seconds()) > 120:
            return "clock.unknown"
        return None if -30 <= low <= 30 and -30 <= high <= 30 and low <= high else "clock.apart"

    check(policy.may_mint(it), expected(), "clock.known")


# A pass of somebody whom everything lets.
GOOD = Minting(
    person_is_active=True, role_is_usable=True, frozen_because=None, has_own_edit=False, terms_are_active=True,
    gives_role=True, names_person=True, excludes_person=False, is_beneficiary=True, state=State.ACTIVE,
    expires_at=NOW + timedelta(seconds=1), now=NOW, identity_is_access=False, held_until=None, time_zone="UTC",
    clock_low=-0.5, clock_high=0.5, clock_measured_at=NOW, hours_document=None, channels="both",
    console=False, scoping="", scoped_console=None, ends_by_sts_only=False, console_authorization="", lifted=[],
)  # fmt: skip


def test_a_good_mint_is_allowed() -> None:
    """The properties above would hold if everything were refused."""
    assert policy.may_mint(GOOD)
    assert policy.still_entitled(GOOD)
    assert policy.may_decide(NOTHING_AGAINST)


# What may be against it, and by which rule, in the order in which it is said.
AGAINST_HOLDING: list[tuple[dict[str, Any], str]] = [
    ({"person_is_active": False}, "person.deactivated"),
    ({"role_is_usable": False}, "role.inactive"),
    ({"frozen_because": "a break-in."}, "freeze"),
    ({"has_own_edit": True}, "edit.own"),
    ({"terms_are_active": False}, "entitlement.does_not_reach"),
    ({"gives_role": False}, "entitlement.does_not_reach"),
    ({"names_person": False}, "entitlement.does_not_reach"),
    ({"excludes_person": True}, "entitlement.excluded"),
]
NIGHT = {"zone": "UTC", "days": [1, 2, 3, 4, 5, 6, 7], "begin": "08:00", "end": "09:00"}
AGAINST_MINTING = [
    ({"is_beneficiary": False}, "mint.not_beneficiary"),
    ({"state": "revoked"}, "mint.not_active"),
    ({"expires_at": None}, "mint.not_active"),
    *AGAINST_HOLDING,
    ({"hours_document": NIGHT}, "mint.hours"),
    ({"identity_is_access": True}, "mint.identity_is_access"),
    ({"held_until": NOW + timedelta(seconds=1)}, "mint.held"),
    ({"clock_measured_at": NOW - timedelta(seconds=121)}, "clock.unknown"),
    ({"clock_low": None}, "clock.unknown"),
    ({"clock_high": 31.0}, "clock.apart"),
]
NOBODY = {"approval": "staged", "stages_with_enough_people": ()}
AGAINST_ASKING = [
    AGAINST_HOLDING[0],
    ({"asker_is_active": False}, "person.deactivated"),
    ({"asker_has_own_edit": True}, "edit.own"),
    ({"asker_placed_person": True}, "edit.own"),
    ({"asker_is_named": False}, "behalf.not_named"),
    AGAINST_HOLDING[1],
    ({"role_arn": ARN.replace("/elevated/", "/team:a/")}, "role.address"),
    *AGAINST_HOLDING[2:],
    ({"narrowing_fits": False}, "narrowing.does_not_fit"),
    ({"channels": "console", "console_is_closed": True}, "console.authorization"),
    (NOBODY, "stage.none"),
    ({"approval": "staged", "stages_with_enough_people": (True, False)}, "stage.nobody_can"),
    ({"most": 2, "open_already": 2}, "terms.at_once"),
]
EXTENDABLE = replace(terms_with((StageTerms(1, 1, (1,), (), "x"),)), extensions_most=2, extension_total_seconds=7200)
AGAINST_EXTENDING = [
    ({"is_beneficiary": False}, "extend.not_yours"),
    ({"state": "expired"}, "extend.not_active"),
    *AGAINST_HOLDING,
    ({"terms": replace(EXTENDABLE, extensions_most=0)}, "extend.terms"),
    ({"is_pending": True}, "extend.pending"),
    ({"granted": 2}, "extend.often"),
    ({"in_vain": 3}, "extend.in_vain"),
    ({"lasts": 7200}, "extend.total"),
    ({"wanted": 59}, "extend.short"),
    ({"terms": replace(EXTENDABLE, hours=Hours.from_document(NIGHT))}, "extend.hours"),
    ({"stages_with_enough_people": (False,)}, "stage.nobody_can"),
]
HOLDS = {one.name: getattr(GOOD, one.name) for one in fields(Holding)}
ASKS = Asking(
    **{one.name: getattr(GOOD, one.name) for one in fields(Standing)},
    role_arn=ARN, approval="automatic", asker_is_active=True, asker_has_own_edit=False, asker_placed_person=False,
    asker_is_named=True, stages_with_enough_people=(True,), most=2, open_already=1,
)  # fmt: skip
EXTENDS = MoreTime(
    **HOLDS, lasts=3600, granted=1, in_vain=2, is_pending=False, terms=EXTENDABLE, wanted=60, most_in_vain=3,
    stages_with_enough_people=(True,),
)  # fmt: skip


@pytest.mark.parametrize(
    ("ask", "good", "against"),
    [
        (policy.still_entitled, GOOD, AGAINST_HOLDING),
        (policy.may_request, ASKS, AGAINST_ASKING),
        (policy.may_mint, GOOD, AGAINST_MINTING),
        (policy.may_extend, EXTENDS, AGAINST_EXTENDING),
    ],
    ids=["holding", "asking", "minting", "extending"],
)
def test_each_thing_that_is_against_it_refuses_and_the_first_of_two_is_said(
    ask: Any, good: Any, against: list[tuple[dict[str, Any], str]]
) -> None:
    assert ask(good)
    for change, rule in against:
        check(ask(replace(good, **change)), rule, "")
    for (first, rule), (second, _) in itertools.combinations(against, 2):
        if not first.keys() & second.keys():
            assert ask(replace(good, **second, **first)).rule == rule, (first, second)


@pytest.mark.parametrize(("left", "rule"), [(-1, "mint.not_active"), (0, "mint.not_active"), (1, "clock.known")])
def test_at_its_very_end_a_pass_is_over(left: int, rule: str) -> None:
    """What was minted at that second would be refused by its own policy."""
    assert policy.may_mint(replace(GOOD, expires_at=NOW + timedelta(microseconds=left))).rule == rule


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
        allowed = [one for one in requests if workflow.may_deny(one, person)]
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
                if policy.still_entitled(facts.standing_of(entitlement.pk, person.pk, role.pk))
            ]
            assert sorted(one.pk for one in candidates) == sorted(one.pk for one in may)
            reached += len(candidates)
    assert waiting >= 3
    assert reached >= 3
    assert sum(len(workflow.who_can_decide(one)) for one in requests) == waiting
