"""Who is asked, may decide and is left: what PostgreSQL answers, against the oracle, over landscapes by chance."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from requests_app.domain import deciders, policy
from requests_app.domain.models import AccessRequest, Entitlement, OrganisationalUnit, Role
from requests_app.domain.terms import StageTerms
from tests import factories, oracle
from tests.oracle import Stage, World

pytestmark = pytest.mark.django_db(transaction=True)

# Few, so that much of what can come together does.
PEOPLE = (0, 1, 2, 3)
person, group = st.sampled_from(PEOPLE), st.integers(0, 1)
stages = st.builds(
    Stage,
    quorum=st.integers(1, 2),
    groups=st.lists(group, max_size=2, unique=True).map(tuple),
    users=st.lists(person, max_size=1, unique=True).map(tuple),
    escalate=st.none() | st.sampled_from([600, 1200, 7200]),
    more_groups=st.lists(group, max_size=1, unique=True).map(tuple),
    more_users=st.lists(person, max_size=1, unique=True).map(tuple),
)
worlds = st.builds(
    World,
    people=st.just(PEOPLE),
    gone=st.frozensets(person, max_size=1),
    members=st.frozensets(st.tuples(person, group), max_size=8),
    rule_edits=st.frozensets(person, max_size=1),
    moved=st.frozensets(st.tuples(person, person, group), max_size=4),
    named=st.frozensets(group, max_size=1),
    requester=person,
    beneficiary=person,
    placed=st.frozensets(st.tuples(person, person), max_size=3) | st.just(frozenset()),
    others_operate=st.booleans(),
    stages=st.lists(stages, min_size=1, max_size=3).map(tuple),
    accepted=st.sampled_from([True, True, False]),
    passed=st.sampled_from([5, 595, 605, 1205]),
    left=st.sampled_from([60, 610, 3600]),
)


@dataclass(frozen=True)
class Stand:
    """The rows that a world is laid into, as superuser and never committed."""

    connection: psycopg.Connection
    people: list[int]
    groups: list[int]
    request: AccessRequest
    role: Role
    entitlement: Entitlement
    elsewhere: Role
    # What the matter follows, and what it does not.
    followed: list[tuple[str, int]]
    not_followed: list[tuple[str, int]]

    def scalar(self, query: str, *values: Any) -> Any:
        row = self.connection.execute(query, values).fetchone()
        assert row is not None
        return row[0]


@pytest.fixture
def stand(superuser_connection: psycopg.Connection, transactional_db: None) -> Stand:
    groups = [factories.group(f"group {n}") for n in range(3)]
    people = [factories.person(f"person{n}") for n in PEOPLE]
    root = OrganisationalUnit.objects.create(name="Root")
    above, beside = (OrganisationalUnit.objects.create(name=name, parent=root) for name in ("Above", "Beside"))
    here = OrganisationalUnit.objects.create(name="Here", parent=above)
    role = factories.role(in_account=factories.account(unit=here))
    elsewhere = factories.role(in_account=factories.account(unit=beside))
    asker = factories.person("asker")
    factories.person("another")
    terms = factories.entitlement(role, elsewhere, users=[asker], stages=[([people[0]], 1)])
    other = factories.entitlement(elsewhere, users=[asker])
    request = factories.wish(asker, role, terms)
    follows = [("entitlement", terms.pk), ("role", role.pk), ("account", role.account_id), ("unit", root.pk)]
    return Stand(
        connection=superuser_connection,
        people=[one.pk for one in people],
        groups=[one.pk for one in groups],
        request=request,
        role=role,
        entitlement=terms,
        elsewhere=elsewhere,
        followed=[*follows, ("unit", above.pk)],
        not_followed=[
            ("entitlement", other.pk),
            ("role", elsewhere.pk),
            ("account", elsewhere.account_id),
            ("unit", beside.pk),
        ],
    )


@contextmanager
def laid(stand: Stand, world: World, *, extension: bool) -> Iterator[int | None]:
    """The world as rows, until this ends; gives the key of the extension, where that is what is decided."""
    put = stand.connection.execute
    people, groups, key = stand.people, stand.groups, stand.request.pk
    with stand.connection.transaction(force_rollback=True):
        put("SET LOCAL session_replication_role = replica")
        put("DELETE FROM requests_app_membership")
        put("DELETE FROM requests_app_edit")
        if world.others_operate:
            put("UPDATE requests_app_user SET is_operator = true WHERE username IN ('asker', 'another')")
        for gone in world.gone:
            put("UPDATE requests_app_user SET deactivated_at = now() WHERE id = %s", [people[gone]])
        for who, where in world.members:
            put(
                "INSERT INTO requests_app_membership (group_id, user_id, source) VALUES (%s, %s, 'hand')",
                [groups[where], people[who]],
            )
        for n, (editor, member, where) in enumerate(sorted(world.moved)):
            put(_EDIT.format("group_id, member_id", "%s, %s"), [people[editor], groups[where], people[member]])
            # Somebody else's, and one that was confirmed, are in nobody's way.
            confirmed = _EDIT.format("group_id, member_id, confirmed_at, confirmed_by_id", "%s, %s, now(), %s")
            put(confirmed, [people[(editor + n + 1) % 4], groups[where], people[member], stand.request.requester_id])
        for editor, whom in world.placed:
            put(_EDIT.format("person_id", "%s"), [people[editor], people[whom]])
            confirmed = _EDIT.format("person_id, confirmed_at, confirmed_by_id", "%s, now(), %s")
            put(confirmed, [people[whom], people[(editor + 1) % 4], stand.request.requester_id])
        for editor in world.rule_edits:
            kind, edited = stand.followed[(editor + len(world.members)) % 5]
            put(_EDIT.format(f"{kind}_id", "%s"), [people[editor], edited])
        for editor in set(PEOPLE) - world.rule_edits:
            kind, edited = stand.not_followed[(editor + len(world.members)) % 4]
            put(_EDIT.format(f"{kind}_id", "%s"), [people[editor], edited])
        for n, where in enumerate(sorted(world.named)):
            table = ("entitlementgroup", "excludedgroup", "entitlementasker")[(n + len(world.moved)) % 3]
            put(
                f"INSERT INTO requests_app_{table} (entitlement_id, group_id) VALUES (%s, %s)",
                [stand.entitlement.pk, groups[where]],
            )
        documents = [_document(stand, stage, n) for n, stage in enumerate(world.stages, start=1)]
        put(
            "UPDATE requests_app_accessrequest SET requester_id = %s, beneficiary_id = %s, stage = %s, "
            "accepted_at = CASE WHEN %s THEN now() END, stage_since = now() - make_interval(secs => %s), "
            "asked_at = now() - interval '1 day', decide_by = now() + make_interval(secs => %s), "
            "terms_document = terms_document || jsonb_build_object('stages', %s::jsonb) WHERE id = %s",
            [
                people[world.requester], people[world.beneficiary], 1 if extension else world.stage,
                world.accepted, world.passed, world.left, json.dumps(documents), key,
            ],
        )  # fmt: skip
        put(_STATES[("active" if world.state == "pending" else "expired") if extension else world.state], [key])
        more = None
        if extension:
            more = stand.scalar(
                "INSERT INTO requests_app_extension (public_id, access_request_id, asked_by_id, seconds, "
                "justification, state, asked_at, decide_by, stage, stage_since, deciding_groups, deciding_users) "
                "VALUES (gen_random_uuid(), %s, %s, 600, 'because', 'pending', now() - interval '1 day', "
                "now() + make_interval(secs => %s), %s, now() - make_interval(secs => %s), '{}', '{}') RETURNING id",
                key, people[world.beneficiary], world.left, world.stage, world.passed,
            )  # fmt: skip
            # What somebody decided on the request itself is another matter.
            for who in (PEOPLE[0], PEOPLE[-1]):
                put(_DECISION, [key, None, 1, people[who]])
        for who, stage in world.approved:
            put(_DECISION, [key, more, stage, people[who]])
        put("SET LOCAL session_replication_role = DEFAULT")
        yield more


_AGREED_WITH = "SELECT requests_app_agreed_with(%s, %s, %s)"
_STATES: dict[str, Any] = {
    "pending": "UPDATE requests_app_accessrequest SET state = 'pending' WHERE id = %s",
    "withdrawn": "UPDATE requests_app_accessrequest SET state = 'withdrawn', ended_at = now() WHERE id = %s",
    "expired": "UPDATE requests_app_accessrequest SET state = 'expired', approved_at = now(), approved_seconds = 60, "
    "start_by = now(), activated_at = now(), expires_at = now() + interval '1 s', ended_at = now() + interval '1 s' "
    "WHERE id = %s",
    "active": "UPDATE requests_app_accessrequest SET state = 'active', approved_at = now(), approved_seconds = 60, "
    "start_by = now() + interval '1 day', activated_at = now(), expires_at = now() + interval '1 day' WHERE id = %s",
}
_DECISION = (
    "INSERT INTO requests_app_decision "
    "(access_request_id, extension_id, stage, approver_id, approver_name, verdict, comment, decided_at) "
    "VALUES (%s, %s, %s, %s, 'x', 'approve', '', now())"
)
_EDIT = "INSERT INTO requests_app_edit (editor_id, made_at, change, {}) VALUES (%s, now(), '{{}}', {})"


def _document(stand: Stand, stage: Stage, position: int) -> dict[str, Any]:
    return {
        "position": position, "quorum": stage.quorum, "asks": "them",
        "groups": [stand.groups[one] for one in stage.groups], "users": [stand.people[one] for one in stage.users],
        "escalate_seconds": stage.escalate, "more_groups": [stand.groups[one] for one in stage.more_groups],
        "more_users": [stand.people[one] for one in stage.more_users],
    }  # fmt: skip


def _may_decide(stand: Stand, who: int, more: int | None) -> policy.Verdict:
    now = stand.scalar("SELECT clock_timestamp()")
    values = {"person": stand.people[who], "request": stand.request.pk, "extension": more, "now": now}
    (row,) = stand.connection.execute(deciders._DECIDING.sql, values).fetchall()
    return policy.may_decide(policy.Deciding(*row))


def _database_takes(stand: Stand, who: int, more: int | None, stage: int, verdict: str = "deny") -> bool:
    """A decision, past all of our code."""
    try:
        with stand.connection.transaction(force_rollback=True):
            stand.connection.execute(
                "INSERT INTO requests_app_decision "
                "(access_request_id, extension_id, stage, approver_id, approver_name, verdict, comment, decided_at) "
                "VALUES (%s, %s, %s, %s, 'x', %s, '', clock_timestamp())",
                [stand.request.pk, more, stage, stand.people[who], verdict],
            )
    except (psycopg.errors.CheckViolation, psycopg.errors.UniqueViolation):
        return False
    return True


# The rows are made once and each example is rolled back.
by_chance = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@by_chance
@given(worlds, st.data(), st.booleans())
def test_who_may_decide_and_why_not(stand: Stand, world: World, data: st.DataObject, extension: bool) -> None:
    """The rule that is said, the list that pages show, the people who are asked, and what the database takes."""
    if extension or world.requester == world.beneficiary:
        world = replace(world, accepted=True)
    world = replace(world, stage=data.draw(st.integers(1, len(world.stages))))
    decided = data.draw(st.lists(person, max_size=2, unique=True))
    world = replace(world, approved=tuple((who, data.draw(st.integers(1, world.stage))) for who in decided))
    # Its time may be over, which the verb sees to and no verdict; lists and the database do not take it any more.
    if is_late := data.draw(st.integers(0, 5)) == 0:
        world = replace(world, left=-5)
    if data.draw(st.integers(0, 5)) == 0:
        world = replace(world, state="withdrawn")
    with laid(stand, world, extension=extension) as more:
        expected = {who: oracle.rule_on_deciding(world, who) for who in PEOPLE}
        verdicts = {who: _may_decide(stand, who, more) for who in PEOPLE}
        assert {who: verdict.rule for who, verdict in verdicts.items()} == expected
        may = oracle.who_can_decide(world)
        assert {who for who, verdict in verdicts.items() if verdict} == may
        assert all(verdict or verdict.message.endswith(".") for verdict in verdicts.values())
        listed = "SELECT requests_app_may_decide(%s, %s, %s, clock_timestamp())"
        in_time = set() if is_late else may
        assert {who for who in PEOPLE if stand.scalar(listed, stand.people[who], stand.request.pk, more)} == in_time
        too_late = f"SELECT requests_app_may_decide(%s, %s, %s, now() + interval '{world.left} s')"
        assert not any(stand.scalar(too_late, one, stand.request.pk, more) for one in stand.people)
        assert {who for who in PEOPLE if _database_takes(stand, who, more, world.stage)} == in_time
        agree = {who for who in in_time if oracle.may_agree(world, who)}
        assert {who for who in PEOPLE if _database_takes(stand, who, more, world.stage, "approve")} == agree
        agreed = [stand.scalar(_AGREED_WITH, stand.people[who], stand.request.pk, more) for who in PEOPLE]
        assert agreed == [not oracle.may_agree(world, who) for who in PEOPLE]
        # The same question from the other side.
        stage = world.stages[world.stage - 1]
        question = deciders.Question(
            StageTerms(**_document(stand, stage, world.stage)),
            asking=[stand.people[one] for one in world.asking],
            outside=[stand.people[one] for one in world.decided],
            entitlement=stand.entitlement.pk,
            role=stand.role.pk,
            further=oracle.is_late(stage, world.passed),
        )
        values = {"questions": Jsonb(deciders._documents([question])), "most": 100}
        rows = stand.connection.execute(deciders._APPROVERS.sql, values)
        assert rows.description
        column = [one.name for one in rows.description].index("id")
        able = {row[column] for row in rows.fetchall()}
        if world.state == "pending" and world.accepted:
            assert able == {stand.people[one] for one in may}
        (number,) = stand.connection.execute(deciders._NUMBERS.sql, values).fetchone() or (None,)
        assert number == len(able)


@by_chance
@given(worlds, st.data(), st.booleans())
def test_who_is_left(stand: Stand, world: World, data: st.DataObject, extension: bool) -> None:
    """For stages that share people, some of whom decided and some are asked later, against trying everything."""
    if extension or world.requester == world.beneficiary:
        world = replace(world, accepted=True)
    world = replace(world, stage=data.draw(st.integers(1, len(world.stages))))
    agreeing = data.draw(st.integers(0, world.stages[world.stage - 1].quorum - 1))
    approved = [(who, world.stage) for who in data.draw(st.permutations(PEOPLE))[:agreeing]]
    world = replace(world, approved=tuple(approved))
    with laid(stand, world, extension=extension) as more:
        lacks = "SELECT requests_app_lacks_people(%s, %s, clock_timestamp())"
        assert stand.scalar(lacks, stand.request.pk, more) is oracle.too_few(world)


@by_chance
@given(worlds)
def test_which_stages_lack_people(stand: Stand, world: World) -> None:
    """What has too few by itself is named; none is named where all can be filled; naming some is a way out."""
    world = replace(world, accepted=True, passed=0)
    with laid(stand, world, extension=False):
        left = deciders.Left(
            [StageTerms(**_document(stand, stage, n)) for n, stage in enumerate(world.stages, start=1)],
            asking=[stand.people[one] for one in world.asking],
            seconds=world.left,
            entitlement=stand.entitlement.pk,
            role=stand.role.pk,
        )
        values = {"questions": Jsonb(deciders._documents([left]))}
        (numbers,) = stand.connection.execute(deciders._LACKING.sql, values).fetchone() or (None,)
    assert bool(numbers) is oracle.too_few(world)
    others = tuple(stage for n, stage in enumerate(world.stages, start=1) if n not in numbers)
    assert not oracle.too_few(replace(world, stages=others)), numbers
    for n, stage in enumerate(world.stages, start=1):
        if oracle.too_few(replace(world, stages=(stage,))):
            assert n in numbers


@pytest.mark.parametrize(("accepted", "left", "lacks"), [(False, 60, True), (False, 610, False), (True, 60, False)])
def test_what_nobody_has_accepted_yet_counts_its_time_from_now(
    stand: Stand, accepted: bool, left: int, lacks: bool
) -> None:
    """Further people are asked ten minutes after it was accepted; it was asked for nearly so long ago."""
    stage = Stage(users=(0,), escalate=600, more_users=(2,))
    world = replace(EVERYBODY, stages=(stage,), beneficiary=1, accepted=accepted, passed=595, left=left)
    with laid(stand, world, extension=False):
        said = stand.scalar("SELECT requests_app_lacks_people(%s, NULL, clock_timestamp())", stand.request.pk)
    assert said is lacks is oracle.too_few(world)


def test_a_group_of_thousands_is_not_read_for_two(stand: Stand) -> None:
    """Who is left is asked each minute of everything that waits."""
    # Other tests leave rows behind that nobody sees.
    stand.connection.execute("VACUUM requests_app_user, requests_app_membership, requests_app_edit")
    with laid(stand, EVERYBODY, extension=False):
        stand.connection.execute("SET LOCAL session_replication_role = replica")
        stand.connection.execute(
            "WITH new AS (INSERT INTO requests_app_user (password, is_superuser, public_id, username, email, name, "
            "time_zone, source_identity, is_staff) SELECT '', false, gen_random_uuid(), 'many' || n, 'many' || n, '', "
            "'UTC', 'many' || n, false FROM generate_series(1, 20000) n RETURNING id) "
            "INSERT INTO requests_app_membership (group_id, user_id, source) SELECT %s, id, 'hand' FROM new",
            [stand.groups[0]],
        )
        # As autovacuum does in any installation of that size; its guess of an empty table is no plan to be held to.
        stand.connection.execute("ANALYZE requests_app_user, requests_app_membership, requests_app_edit")
        plan = stand.scalar(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT requests_app_lacks_people(%s, NULL, clock_timestamp())",
            stand.request.pk,
        )
    stand.connection.execute("VACUUM ANALYZE requests_app_user, requests_app_membership, requests_app_edit")
    read = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
    # Asking each of them would read twice as many pages as there are people.
    assert read < 10_000, read


EVERYBODY = World(
    PEOPLE, frozenset(), frozenset((who, 0) for who in PEOPLE), frozenset(), frozenset(), frozenset(), 0, 0,
    (Stage(1, groups=(0,)),),
)  # fmt: skip
