"""Whom an entitlement reaches and which roles it gives: relations of the database, and what is made of them.

A slow, obvious model (`tests.oracle`), the facts and rules, the lists and the database's own functions must agree.
"""

import itertools
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import ProtectedError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requests_app.delivery.web import request_options
from requests_app.domain import facts, policy, workflow
from requests_app.domain.errors import DomainError, Invalid, NotAllowed
from requests_app.domain.models import (
    Account,
    Entitlement,
    Group,
    Membership,
    OrganisationalUnit,
    Role,
    User,
)
from requests_app.domain.workflow import own_edits
from tests import factories, plans
from tests.domain.meeting import at_once
from tests.domain.test_guards import GUARD, REQUESTS, WENT_THROUGH, insert_like
from tests.domain.worlds import Rows, worlds
from tests.oracle import Landscape

# --- by chance -----------------------------------------------------------------------------------

# Each of these is met in some landscape, or nothing is said of it.
RULES = {
    "person.deactivated",
    "role.inactive",
    "freeze",
    "edit.own",
    "entitlement.does_not_reach",
    "entitlement.excluded",
    "entitlement.reaches",
}


@pytest.mark.django_db
def test_the_model_the_facts_the_rules_the_lists_and_the_database_agree() -> None:
    met: set[str] = set()

    # The same ones each time: by chance one rule or another would not be met.
    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(world=worlds(), upside_down=st.booleans())
    def agree(world: Landscape, upside_down: bool) -> None:
        with transaction.atomic():
            _check_holding(world, Rows(world, upside_down=upside_down), met)
            transaction.set_rollback(True)

    agree()
    assert met == RULES


@pytest.mark.django_db
def test_who_asks_for_whom_by_the_model_and_by_the_facts() -> None:
    met: set[str] = set()

    # The same ones each time: by chance one rule or another would not be met.
    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(world=worlds(), upside_down=st.booleans())
    def agree(world: Landscape, upside_down: bool) -> None:
        with transaction.atomic():
            _check_asking(world, Rows(world, upside_down=upside_down), met)
            transaction.set_rollback(True)

    agree()
    assert met == {*RULES, "behalf.named", "behalf.not_named"}


@pytest.mark.django_db
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(world=worlds(with_edits=False), upside_down=st.booleans())
def test_the_lists_find_what_the_model_finds(world: Landscape, upside_down: bool) -> None:
    with transaction.atomic():
        _check_lists(world, Rows(world, upside_down=upside_down))
        transaction.set_rollback(True)


def _check_holding(world: Landscape, rows: Rows, met: set[str]) -> None:
    in_sql = _by_the_database()
    for e, p, r in itertools.product(range(len(rows.entitlements)), range(len(rows.people)), range(len(rows.roles))):
        entitlement, person, role = rows.entitlements[e], rows.people[p], rows.roles[r]
        known = facts.standing_of(entitlement.pk, person.pk, role.pk)
        rule = policy.still_entitled(known).rule
        assert rule == world.still_entitled(e, p, r)
        # Each fact by itself: a wrong one may hide behind an earlier line.
        assert known.person_is_active is world.people[p].active
        assert known.role_is_usable is world.is_usable(r)
        assert (known.frozen_because is not None) is world.is_frozen(r)
        assert known.has_own_edit is world.edited(p, e, r)
        assert known.terms_are_active is world.entitlements[e].active
        assert known.gives_role is world.gives(e, r)
        assert known.names_person is world.names(e, p)
        assert known.excludes_person is world.excludes(e, p)
        # As the guards and the sweeps ask it; a freeze is asked by itself.
        thawed = replace(known, frozen_because=None)
        assert in_sql[entitlement.pk, person.pk, role.pk] == (
            *(world.reaches(e, p), world.gives(e, r), world.edited(p, e, r)),
            bool(policy.still_entitled(thawed)),
        )
        met.add(rule)
    for role, r in zip(rows.roles, range(len(rows.roles)), strict=True):
        assert _is_thawed(role) is not world.is_frozen(r)


def _check_asking(world: Landscape, rows: Rows, met: set[str]) -> None:
    people = range(len(rows.people))
    for asker, e, p, r in itertools.product(people, range(len(rows.entitlements)), people, range(len(rows.roles))):
        known = facts.asking(rows.entitlements[e], rows.roles[r], by=rows.people[asker], beneficiary=rows.people[p])
        rule = policy.may_request(known).rule
        assert rule == world.may_request(asker, e, p, r)
        if asker != p:
            met.add(policy.may_ask_for_others(known).rule)
            assert policy.may_ask_for_others(known).rule == world.may_ask_for(asker, e, p, r)
        met.add(rule)


def _check_lists(world: Landscape, rows: Rows) -> None:
    # What is given, whomever it reaches: each way by itself.
    for r, role in enumerate(rows.roles):
        giving = set(Entitlement.objects.for_role(role))
        for e in range(len(world.entitlements)):
            assert (rows.entitlements[e] in giving) is world.gives(e, r)
    for e, entitlement in enumerate(world.entitlements):
        selected: set[Role] = set()
        for question in rows.entitlements[e].selectors.all().questions():
            selected |= set(Role.objects.filter(question))
        expected = [any(world.selects(one, r) for one in entitlement.selectors) for r in range(len(world.roles))]
        assert [role in selected for role in rows.roles] == expected
    for p, r in itertools.product(range(len(rows.people)), range(len(rows.roles))):
        found = set(Entitlement.objects.reaching(rows.people[p]).for_role(rows.roles[r]))
        for e, entitlement in enumerate(world.entitlements):
            open_to = entitlement.active and world.reaches(e, p) and world.gives(e, r)
            assert (rows.entitlements[e] in found) is open_to
    for p, person in enumerate(rows.people):
        roles = {
            rows.roles[r]
            for r, e in itertools.product(range(len(world.roles)), range(len(world.entitlements)))
            if world.is_usable(r) and world.entitlements[e].active and world.reaches(e, p) and world.gives(e, r)
        }
        assert set(request_options._open_to(person)) == roles
        assert set(request_options.find_roles(person, "")) == roles
        assert set(request_options.find_roles(person, "account b")) == {one for one in roles if "b" in one.name.lower()}
        browsed, _ = request_options.browse(person)
        assert [one.account for one in browsed] == sorted({one.account for one in roles}, key=lambda one: one.name)
        assert {role for one in browsed for role in one.roles} == roles
        for role in rows.roles:
            assert (role in request_options.search(person, role.arn).roles) is (role in roles)
            one_account = request_options.browse_account(person, role.account.partition, role.account.number)
            of_account = {one for one in roles if one.account == role.account}
            assert (set(one_account.roles) if one_account else set()) == of_account


def _by_the_database() -> dict[tuple[int, int, int], tuple[bool, bool, bool, bool]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT e.id, p.id, r.id, requests_app_reaches(e.id, p.id), requests_app_gives(e.id, r.id), "
            "requests_app_has_edited(p.id, e.id, r.id), requests_app_holds(e.id, p.id, r.id) "
            "FROM requests_app_entitlement e, requests_app_user p, requests_app_role r"
        )
        return {(e, p, r): tuple(answers) for e, p, r, *answers in cursor.fetchall()}


def _is_thawed(role: Role) -> bool:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT requests_app_require_thawed(%s)", [role.pk])
    except IntegrityError:
        return False
    return True


# --- what is like this --------------------------------------------------------------------------


def unit(name: str, parent: OrganisationalUnit | None = None) -> OrganisationalUnit:
    made = OrganisationalUnit.objects.create(name=name, parent=parent)
    made.refresh_from_db()
    return made


def gives(entitlement: Entitlement, role: Role) -> bool:
    """By all three that are asked in earnest, which must agree."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT requests_app_gives(%s, %s)", [entitlement.pk, role.pk])
        (by_the_database,) = cursor.fetchone()
    answers = {
        by_the_database,
        Entitlement.objects.for_role(role).filter(pk=entitlement.pk).exists(),
        any(Role.objects.filter(question, pk=role.pk) for question in entitlement.selectors.all().questions()),
    }
    assert len(answers) == 1, answers
    return answers.pop()


def by_selector(**says: Any) -> Entitlement:
    made = factories.entitlement()
    made.selectors.create(**says)
    return made


@pytest.fixture
def tree(db: Any) -> dict[str, OrganisationalUnit]:
    root = unit("Root")
    workloads, sandboxes = unit("Workloads", root), unit("Sandboxes", root)
    return {"root": root, "workloads": workloads, "sandboxes": sandboxes, "prod": unit("Prod", workloads)}


@pytest.mark.django_db
def test_a_unit_is_meant_with_everything_below_it(tree: dict[str, OrganisationalUnit]) -> None:
    role = factories.role(in_account=factories.account(unit=tree["prod"]))
    given = {name: gives(by_selector(unit=one), role) for name, one in tree.items()}
    assert given == {"root": True, "workloads": True, "sandboxes": False, "prod": True}
    # Outside the tree is not below its root.
    assert not gives(by_selector(unit=tree["root"]), factories.role())


@pytest.mark.django_db
def test_a_moved_unit_takes_along_what_is_below_it(tree: dict[str, OrganisationalUnit]) -> None:
    deep = unit("Payments", unit("EU", tree["prod"]))
    role = factories.role(in_account=factories.account(unit=deep))
    workloads, sandboxes = by_selector(unit=tree["workloads"]), by_selector(unit=tree["sandboxes"])
    assert (gives(workloads, role), gives(sandboxes, role)) == (True, False)

    tree["prod"].parent = tree["sandboxes"]
    tree["prod"].save()

    assert (gives(workloads, role), gives(sandboxes, role)) == (False, True)
    deep.refresh_from_db()
    above = [tree["root"], tree["sandboxes"], tree["prod"], deep.parent, deep]
    assert deep.path == "/" + "".join(f"{one.pk}/" for one in above if one)

    tree["prod"].parent = None
    tree["prod"].save()
    deep.refresh_from_db()
    assert deep.path.startswith(f"/{tree['prod'].pk}/")
    assert not gives(by_selector(unit=tree["root"]), role)


@pytest.mark.django_db
def test_units_whose_keys_begin_alike_are_not_mixed_up() -> None:
    units = {key: OrganisationalUnit.objects.create(pk=key, name=str(key)) for key in (71, 717, 7171, 1717)}
    roles = {key: factories.role(in_account=factories.account(unit=one)) for key, one in units.items()}
    for key, one in units.items():
        selecting = by_selector(unit=one)
        assert [other for other, role in roles.items() if gives(selecting, role)] == [key]


@pytest.mark.django_db
def test_the_tree_has_no_circles_and_its_paths_are_the_databases(tree: dict[str, OrganisationalUnit]) -> None:
    for above in (tree["workloads"], tree["prod"]):
        with pytest.raises(IntegrityError, match="not below itself"), transaction.atomic():
            OrganisationalUnit.objects.filter(pk=tree["workloads"].pk).update(parent=above)
    OrganisationalUnit.objects.update(path="/1/2/3/")  # whatever is written
    paths = dict(OrganisationalUnit.objects.values_list("name", "path"))
    assert paths["Prod"] == f"/{tree['root'].pk}/{tree['workloads'].pk}/{tree['prod'].pk}/"
    assert list(OrganisationalUnit.objects.order_by("path").values_list("name", flat=True)) == [
        *("Root", "Workloads", "Prod", "Sandboxes")
    ]
    with pytest.raises(IntegrityError, match="unit_name_unique_in_parent"), transaction.atomic():
        unit("PROD", tree["workloads"])
    with pytest.raises(IntegrityError, match="unit_name_unique_in_parent"), transaction.atomic():
        unit("root")
    with pytest.raises(IntegrityError, match="never changes"), transaction.atomic():
        OrganisationalUnit.objects.filter(pk=tree["prod"].pk).update(id=tree["prod"].pk + 1000)
    with pytest.raises(ProtectedError):
        tree["workloads"].delete()


@pytest.mark.django_db(transaction=True)
def test_two_moves_at_once_close_no_circle() -> None:
    for _ in range(5):
        a, b = unit("a"), unit("b")

        said = at_once(partial(_move, a, b), partial(_move, b, a))
        assert sorted(map(bool, said)) == [False, True]
        assert "not below itself" in "".join(said)
        OrganisationalUnit.objects.exclude(parent=None).delete()
        OrganisationalUnit.objects.all().delete()


def _move(one: OrganisationalUnit, below: OrganisationalUnit) -> str:
    try:
        OrganisationalUnit.objects.filter(pk=one.pk).update(parent=below)
    except DatabaseError as refused:
        return str(refused)
    return ""


@pytest.mark.django_db(transaction=True)
def test_a_unit_made_while_its_parent_moves_is_where_the_parent_is() -> None:
    root, other = unit("root"), unit("other")
    moving = unit("moving", root)
    at_once(
        lambda: OrganisationalUnit.objects.filter(pk=moving.pk).update(parent=other),
        lambda: unit("new", moving),
        held=("requests_app_organisationalunit", moving.pk),
    )
    new = OrganisationalUnit.objects.get(name="new")
    assert new.path == f"/{other.pk}/{moving.pk}/{new.pk}/"


ODD = (
    *(
        "x",
        "",
        "%",
        "_",
        "a%b",
        "\\",
        "\\\\",
        "'",
        '"',
        "''; --",
        "*",
        "?",
        "{}",
        "${aws:username}",
        "$.x",
        "null",
        "true",
    ),
    *("ä", "A\u0308", "ß", "İ", "💥", " x", "x ", "line\nbreak", "\t", "x" * 256),
)


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["account_tag", "role_tag"])
def test_tags_are_compared_as_they_are(kind: str) -> None:
    roles = {}
    for value in ODD:
        tags = {"team": value, "other": "y"}
        account = factories.account(tags=tags if kind == "account_tag" else {})
        roles[value] = factories.role(in_account=account, tags=tags if kind == "role_tag" else {})
    factories.role(tags={"Team": "x"})  # AWS tells case apart

    def selected(**says: Any) -> set[Role]:
        entitlement = by_selector(**{f"{kind}_key": "team", **says})
        (question,) = entitlement.selectors.all().questions()
        found = set(Role.objects.filter(question))
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM requests_app_role WHERE requests_app_gives(%s, id)", [entitlement.pk])
            assert {key for (key,) in cursor.fetchall()} == {role.pk for role in found}
        return found

    for value, role in roles.items():
        assert selected(**{f"{kind}_value": value}) == {role}, value
        assert gives(by_selector(**{f"{kind}_key": "team", f"{kind}_value": value}), role)
    assert selected() == set(roles.values())
    for key in ODD[2:]:
        if key:
            assert selected(**{f"{kind}_key": key[:128]}) == set(), key


@pytest.mark.django_db
def test_tag_names_are_compared_as_they_are() -> None:
    for key in (one[:128] for one in ODD if one):
        role = factories.role(tags={key: "v", "team": "w"})
        assert gives(by_selector(role_tag_key=key, role_tag_value="v"), role), key
        assert gives(by_selector(role_tag_key=key), role), key
        assert not gives(by_selector(role_tag_key=key, role_tag_value="w"), role), key


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "Anything", True),
        ("Admin", "admin", True),
        ("Admin", "Administrator", False),
        ("admin*", "Administrator", True),
        ("*istra*", "Administrator", True),
        ("*admin", "Administrator", False),
        ("Read?nly", "ReadOnly", True),
        ("Read?nly", "Readnly", False),
        ("?*", "x", True),
        ("db_admin", "dbXadmin", False),  # _ is a letter here
        ("db_*", "DB_admin", True),
        ("a.c", "abc", False),  # and so is a dot
        ("a+", "aaa", False),
        ("a+*", "a+b", True),
        ("*" + "a*" * 30 + "b", "a" * 64, False),  # answered at once
    ],
)
def test_role_names_are_matched_as_iam_matches(pattern: str, name: str, expected: bool) -> None:
    assert gives(by_selector(role_name=pattern), factories.role(name)) is expected


@pytest.mark.django_db
def test_all_that_a_row_says_must_hold_and_any_row_is_enough() -> None:
    account = factories.account(environment="prod", tags={"team": "payments"})
    reader, admin = factories.role("Reader", account), factories.role("Admin", account)
    one = by_selector(environment="prod", account_tag_key="team", account_tag_value="payments", role_name="read*")
    assert (gives(one, reader), gives(one, admin)) == (True, False)
    one.selectors.create(account=account, role_name="ADMIN")
    assert Entitlement.objects.for_role(admin).filter(pk=one.pk).exists()
    one.selectors.filter(environment="prod").delete()
    assert not Entitlement.objects.for_role(reader).filter(pk=one.pk).exists()


@pytest.mark.django_db
def test_a_selector_of_an_account_means_no_other_ones() -> None:
    one, other = factories.account(), factories.account()
    selecting = by_selector(account=one)
    assert gives(selecting, factories.role(in_account=one))
    assert not gives(selecting, factories.role(in_account=other))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("says", "constraint"),
    [
        ({}, "selector_says_something"),
        ({"account_tag_value": "x", "role_name": "*"}, "selector_value_of_a_tag"),
        ({"role_tag_value": "", "role_name": "*"}, "selector_value_of_a_tag"),
        ({"role_name": "a%"}, "selector_role_name_as_iam"),
        ({"role_name": "[ab]"}, "selector_role_name_as_iam"),
        ({"role_name": "a\n"}, "selector_role_name_as_iam"),
        ({"environment": "Prod"}, "selector_environment_lower_case"),
    ],
)
def test_a_selector_that_says_nothing_or_nonsense_is_not_stored(says: dict[str, str], constraint: str) -> None:
    with pytest.raises(IntegrityError, match=constraint):
        by_selector(**says)


@pytest.mark.django_db(transaction=True)
def test_a_selector_that_says_nothing_gives_nothing(superuser_connection: Any) -> None:
    """It cannot be stored; past the constraint it means no role."""
    role, one = factories.role(), factories.entitlement()
    with superuser_connection.transaction(force_rollback=True):
        superuser_connection.execute("ALTER TABLE requests_app_roleselector DROP CONSTRAINT selector_says_something")
        superuser_connection.execute(
            "INSERT INTO requests_app_roleselector "
            "(entitlement_id, environment, account_tag_key, role_name, role_tag_key) VALUES (%s, '', '', '', '')",
            [one.pk],
        )
        gives = superuser_connection.execute("SELECT requests_app_gives(%s, %s)", [one.pk, role.pk]).fetchone()
        assert gives == (False,)


@pytest.mark.django_db
@pytest.mark.parametrize("table", ["account", "role"])
@pytest.mark.parametrize(
    "tags", ["[]", "null", '"x"', "1", '{"a": 1}', '{"a": ["x"]}', '{"a": {"b": "c"}}', '{"a": null}']
)
def test_tags_are_flat_text(table: str, tags: str) -> None:
    role = factories.role()
    key = role.pk if table == "role" else role.account_id
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE requests_app_{table} SET tags = %s WHERE id = %s", ['{"a": "b", "c": ""}', key])
        assert cursor.rowcount == 1
        with pytest.raises(IntegrityError, match=f"{table}_tags_flat"):
            cursor.execute(f"UPDATE requests_app_{table} SET tags = %s WHERE id = %s", [tags, key])


@pytest.mark.django_db
@pytest.mark.parametrize("environment", ["Prod", " prod", "prod\n", "-x", "ä"])
def test_an_environment_is_lower_case(environment: str) -> None:
    with pytest.raises(IntegrityError, match="account_environment_lower_case"):
        factories.account(environment=environment)


# --- who ------------------------------------------------------------------------------------------


def test_excluded_wins_over_named(alice: User, engineers: Group, security: Group, administrator: Role) -> None:
    one = factories.entitlement(administrator, groups=[engineers], users=[alice])
    assert factories.wish(alice, administrator, one)

    one.excluded_groups.add(security)
    assert factories.wish(alice, administrator, one)  # she is not in it
    membership = Membership.objects.create(group=security, user=alice, source="claim")
    with pytest.raises(NotAllowed) as refused:
        factories.wish(alice, administrator, one)
    assert refused.value.rule == "entitlement.excluded"
    assert "operator" in refused.value.message
    assert security.name not in refused.value.message
    assert request_options.choices(alice, administrator, beneficiary=alice) == []

    membership.delete()
    assert request_options.choices(alice, administrator, beneficiary=alice)
    one.excluded_users.add(alice)
    with pytest.raises(NotAllowed):
        factories.wish(alice, administrator, one)
    # A group that is named and excluded at once lets nobody in.
    one.excluded_users.clear()
    one.excluded_groups.set([engineers])
    assert request_options.choices(alice, administrator, beneficiary=alice) == []


def test_who_is_excluded_later_gets_no_new_credentials(active_request: Any, alice: User, aws_clock: Any) -> None:
    assert factories.delivery(active_request)
    active_request.entitlement.excluded_users.add(alice)
    with pytest.raises(DomainError) as refused:
        factories.delivery(active_request)
    assert refused.value.rule == "entitlement.excluded"


def test_whoever_asks_for_another_does_not_hear_that_they_are_excluded(
    alice: User, bob: User, leads: Group, engineers: Group, administrator: Role
) -> None:
    one = factories.entitlement(administrator, groups=[engineers])
    one.askers.add(leads)
    one.excluded_users.add(alice)
    with pytest.raises(NotAllowed) as refused:
        factories.wish(bob, administrator, one, beneficiary=alice)
    assert refused.value.rule == "entitlement.excluded"
    assert refused.value.message == "Alice may not have this on these terms. Ask an operator."


def test_what_is_not_selected_any_more_is_not_minted(alice: User, engineers: Group, aws_clock: Any) -> None:
    account = factories.account(environment="dev")
    role = factories.role(in_account=account)
    one = factories.entitlement(groups=[engineers])
    one.selectors.create(environment="dev")
    active = factories.wish(alice, role, one, start="at_once")
    assert factories.delivery(active)

    Account.objects.filter(pk=account.pk).update(environment="prod")

    with pytest.raises(DomainError) as refused:
        factories.delivery(active)
    assert refused.value.rule == "entitlement.does_not_reach"
    assert workflow.give_back(active, by=alice)  # ending always works


def test_a_change_of_a_membership_counts_under_the_terms_that_name_its_group(
    alice: User, bob: User, administrator: Role, engineers: Group, leads: Group, security: Group
) -> None:
    """Under others it is nobody's business: neither what she left herself, nor where he put her."""
    here = factories.entitlement(administrator, groups=[engineers])
    here.askers.add(leads)
    there = factories.entitlement(administrator, groups=[leads])
    there.askers.add(security)
    here.excluded_groups.add(factories.group("Contractors"))
    there.excluded_groups.add(security)
    own_edits.note(security, by=alice, change={}, member=alice)
    own_edits.note(security, by=bob, change={}, member=alice)

    def known(terms: Entitlement) -> policy.Asking:
        return facts.asking(terms, administrator, by=bob, beneficiary=alice)

    assert (known(here).excludes_person, known(here).asker_placed_person) == (False, False)
    assert (known(there).excludes_person, known(there).asker_placed_person) == (True, True)
    assert policy.may_request(known(here))


@pytest.mark.parametrize("gone", ["role", "account"])
def test_a_selector_opens_nothing_that_is_out_of_use(gone: str, alice: User, engineers: Group) -> None:
    role = factories.role("Reader")
    one = factories.entitlement(groups=[engineers])
    one.selectors.create(role_name="*")
    assert request_options.find_roles(alice, "reader") == [role]

    (Role if gone == "role" else Account).objects.update(is_active=False)

    assert request_options.find_roles(alice, "reader") == []
    assert request_options.find_role(alice, str(role.public_id)) is None
    with pytest.raises(NotAllowed) as refused:
        factories.wish(alice, role, one)
    assert refused.value.rule == "role.inactive"


# --- what went wrong elsewhere ---------------------------------------------------------------------

HOUR, MONTH = timedelta(hours=1), timedelta(days=30)


def test_a_long_time_for_development_opens_nothing_in_production(
    alice: User, engineers: Group, leads: Group, bob: User, carol: User
) -> None:
    """Each request follows exactly one entitlement: who, what and how long are never put together from several."""
    dev = factories.role("Administrator", factories.account(environment="dev"))
    prod = factories.role("Administrator", factories.account(environment="prod"))
    long = factories.entitlement(groups=[engineers], stages=[(leads, 1)], longest_seconds=MONTH.total_seconds())
    long.selectors.create(environment="dev")
    short = factories.entitlement(groups=[engineers], stages=[(leads, 1)], longest_seconds=HOUR.total_seconds())
    short.selectors.create(environment="prod")

    with pytest.raises(NotAllowed, match="may not ask for this role on these terms"):
        factories.wish(alice, prod, long, duration=HOUR)
    with pytest.raises(Invalid):
        factories.wish(alice, prod, short, duration=2 * HOUR)
    in_dev = factories.wish(alice, dev, long, duration=MONTH)
    in_prod = factories.wish(alice, prod, short, duration=HOUR)
    assert [one.longest for one in request_options.choices(alice, prod, beneficiary=alice)] == [HOUR]

    # Nor by writing the row: the database asks the one entitlement that the row names.
    code = {"code": "DP-00000000"}
    assert insert_like(REQUESTS, in_dev.pk, **code) is WENT_THROUGH
    assert insert_like(REQUESTS, in_dev.pk, **code, role_id=prod.pk) == GUARD
    assert insert_like(REQUESTS, in_dev.pk, **code, role_id=prod.pk, entitlement_id=short.pk) == GUARD
    assert insert_like(REQUESTS, in_prod.pk, **code) is WENT_THROUGH
    assert insert_like(REQUESTS, in_prod.pk, **code, duration_seconds=3601) == GUARD
    assert insert_like(REQUESTS, in_prod.pk, **code, terms_document=in_dev.terms_document) == GUARD
    # Whoever is excluded, or not in the selected place any more, is refused there too.
    short.excluded_groups.add(engineers)
    assert insert_like(REQUESTS, in_prod.pk, **code) == GUARD
    Account.objects.filter(pk=dev.account_id).update(environment="prod")
    assert insert_like(REQUESTS, in_dev.pk, **code) == GUARD


def test_two_entitlements_that_reach_the_same_stay_two_choices(
    alice: User, engineers: Group, leads: Group, bob: User, administrator: Role
) -> None:
    by_name = factories.entitlement(administrator, groups=[engineers], longest_seconds=3600)
    by_tag = factories.entitlement(users=[alice], stages=[(leads, 1)], longest_seconds=8 * 3600)
    by_tag.selectors.create(role_name="admin*")
    by_tag.selectors.create(account=administrator.account)  # twice over, and still one choice

    found = request_options.choices(alice, administrator, beneficiary=alice)

    assert [(one.entitlement, one.longest_minutes) for one in found] == [(by_name, 60), (by_tag, 480)]
    assert request_options.find_roles(alice, "admin") == [administrator]
    with pytest.raises(Invalid):
        factories.wish(alice, administrator, by_name, duration=8 * HOUR)
    waits = factories.wish(alice, administrator, by_tag, duration=8 * HOUR)
    assert (waits.state, waits.entitlement) == ("pending", by_tag)


def test_a_group_that_is_used_cannot_vanish_and_may_be_renamed(
    alice: User, engineers: Group, security: Group, administrator: Role
) -> None:
    one = factories.entitlement(administrator, groups=[engineers])
    one.excluded_groups.add(security)
    Account.objects.update(owners=security)
    for group in (engineers, security):
        with pytest.raises(ProtectedError):
            group.delete()
    security.entitlements.clear()
    one.excluded_groups.clear()
    with pytest.raises(ProtectedError):
        security.delete()  # it owns an account

    Group.objects.filter(pk=engineers.pk).update(name="ENGINEERS of Ünïted")
    User.objects.filter(pk=alice.pk).update(username="Alice.CAPITALS", email="Alice@EXAMPLE.com")
    alice.refresh_from_db()
    assert factories.wish(alice, administrator, one)


def test_an_emptied_group_reaches_nobody(alice: User, engineers: Group, administrator: Role) -> None:
    one = factories.entitlement(administrator, groups=[engineers])
    Membership.objects.filter(group=engineers).delete()
    with pytest.raises(NotAllowed):
        factories.wish(alice, administrator, one)


# --- what it costs ---------------------------------------------------------------------------------


def test_more_of_everything_takes_no_more_statements(alice: User, engineers: Group, administrator: Role) -> None:
    def statements() -> list[int]:
        one = Entitlement.objects.latest("pk")
        acts = (
            lambda: facts.standing_of(one.pk, alice.pk, administrator.pk),
            lambda: list(Entitlement.objects.reaching(alice).for_role(administrator)),
            lambda: request_options.find_roles(alice, "admin"),
        )
        taken = []
        for act in acts:
            with plans.watched() as made:
                act()
            taken.append(len(made))
        return taken

    def grow(number: int) -> None:
        for _ in range(number):
            one = factories.entitlement(groups=[engineers])
            top = unit(f"unit {one.pk}")
            for name in ("a", "b", "c"):
                one.selectors.create(unit=unit(name, top), role_name=f"{name}*")
                one.selectors.create(unit=top, account_tag_key=name)
                one.selectors.create(role_tag_key=f"{name}{one.pk}")
            one.excluded_groups.add(factories.group(f"group {one.pk}"))

    grow(1)
    few = statements()
    grow(10)
    assert statements() == few
    assert few[0] == 1
