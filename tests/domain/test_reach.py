"""Whom an entitlement reaches and which roles it gives: one rule, told four times, held together here.

A slow, obvious model, the pure policy, the querysets and the database's own functions must agree.
"""

import itertools
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import ProtectedError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requests_app.delivery.web import choosing
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
from requests_app.domain.policy import Catalog, Selector, Tag
from tests import factories, plans
from tests.domain.meeting import at_once
from tests.domain.test_guards import GUARD, REQUESTS, WENT_THROUGH, insert_like

# --- a slow, obvious model -----------------------------------------------------------------------

KEYS, VALUES = ("team", "te_m", "%"), ("x", "X", "", "%")
tags = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
environments = st.sampled_from(("", "prod", "dev"))
wanted_tag = st.none() | st.tuples(st.sampled_from(KEYS), st.none() | st.sampled_from(VALUES))
names = st.text(alphabet="aAbB_.+", min_size=1, max_size=4)
patterns = st.just("") | st.text(alphabet="aB_.+*?", min_size=1, max_size=4)


def place(most: int) -> st.SearchStrategy[int | None]:
    """One of so many, by its number, or none."""
    return st.sampled_from([*range(most), *range(most), None])


def some(most: int) -> st.SearchStrategy[frozenset[int]]:
    return st.frozensets(st.integers(0, most - 1), max_size=2)


@dataclass(frozen=True)
class AnAccount:
    unit: int | None
    environment: str
    tags: dict[str, str]
    active: bool


@dataclass(frozen=True)
class ARole:
    account: int
    name: str
    tags: dict[str, str]
    active: bool


@dataclass(frozen=True)
class ASelector:
    account: int | None = None
    unit: int | None = None
    environment: str = ""
    account_tag: tuple[str, str | None] | None = None
    role_name: str = ""
    role_tag: tuple[str, str | None] | None = None


@dataclass(frozen=True)
class AnEntitlement:
    active: bool
    groups: frozenset[int]
    users: frozenset[int]
    excluded_groups: frozenset[int]
    excluded_users: frozenset[int]
    roles: frozenset[int]
    selectors: tuple[ASelector, ...]


@dataclass(frozen=True)
class World:
    units: tuple[int | None, ...]  # for each its parent
    accounts: tuple[AnAccount, ...]
    roles: tuple[ARole, ...]
    people: tuple[frozenset[int], ...]  # for each their groups
    entitlements: tuple[AnEntitlement, ...]

    def is_in(self, unit: int | None, above: int) -> bool:
        while unit is not None:
            if unit == above:
                return True
            unit = self.units[unit]
        return False

    def selects(self, selector: ASelector, role: ARole) -> bool:
        account = self.accounts[role.account]
        if selector.account is not None and selector.account != role.account:
            return False
        if selector.unit is not None and not self.is_in(account.unit, selector.unit):
            return False
        if selector.environment and selector.environment != account.environment:
            return False
        if selector.role_name and not fits(selector.role_name.lower(), role.name.lower()):
            return False
        return has(account.tags, selector.account_tag) and has(role.tags, selector.role_tag)

    def gives(self, entitlement: AnEntitlement, number: int) -> bool:
        if number in entitlement.roles:
            return True
        return any(self.selects(selector, self.roles[number]) for selector in entitlement.selectors)

    def reaches(self, entitlement: AnEntitlement, number: int) -> bool:
        return self.names(entitlement, number) and not self.excludes(entitlement, number)

    def excludes(self, entitlement: AnEntitlement, number: int) -> bool:
        for group in self.people[number]:
            if group in entitlement.excluded_groups:
                return True
        return number in entitlement.excluded_users

    def names(self, entitlement: AnEntitlement, number: int) -> bool:
        return number in entitlement.users or any(group in entitlement.groups for group in self.people[number])

    def usable(self, role: ARole) -> bool:
        return role.active and self.accounts[role.account].active


def fits(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(fits(pattern[1:], name[left:]) for left in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and fits(pattern[1:], name[1:])


def has(tags: dict[str, str], wanted: tuple[str, str | None] | None) -> bool:
    if wanted is None:
        return True
    key, value = wanted
    return any(name == key and (value is None or value == text) for name, text in tags.items())


@st.composite
def worlds(draw: st.DrawFn) -> World:
    # Often one below the other, so that the tree is deep.
    parents = [
        draw(place(number) | st.just(number - 1 if number else None)) for number in range(draw(st.integers(3, 6)))
    ]
    accounts = draw(
        st.lists(st.builds(AnAccount, place(len(parents)), environments, tags, st.booleans()), min_size=1, max_size=4)
    )
    role = st.builds(ARole, st.integers(0, len(accounts) - 1), names, tags, st.booleans())
    roles = draw(st.lists(role, min_size=1, max_size=5, unique_by=lambda one: (one.account, one.name.lower())))
    people = draw(st.lists(some(3), min_size=1, max_size=3))
    selectors = st.lists(_selectors(tuple(parents), accounts, roles), max_size=3).map(tuple)
    persons = some(len(people))
    entitlement = st.builds(
        AnEntitlement,
        active=st.sampled_from((True, True, True, False)),
        groups=some(3),
        users=persons,
        excluded_groups=some(3) | st.just(frozenset()),
        excluded_users=persons | st.just(frozenset()),
        roles=some(len(roles)) | st.just(frozenset()),
        selectors=selectors,
    )
    entitlements = draw(st.lists(entitlement, min_size=1, max_size=3))
    return World(tuple(parents), tuple(accounts), tuple(roles), tuple(people), tuple(entitlements))


@st.composite
def _selectors(
    draw: st.DrawFn, parents: tuple[int | None, ...], accounts: list[AnAccount], roles: list[ARole]
) -> ASelector:
    """Mostly such as one of the roles satisfies, or nothing would ever be selected."""
    role = draw(st.sampled_from(roles))
    account = accounts[role.account]
    unit = account.unit
    while unit is not None and parents[unit] is not None and draw(st.integers(0, 3)):
        unit = parents[unit]
    wild = draw(st.lists(st.sampled_from((*"?*", *role.name)), min_size=1, max_size=2))
    right = ASelector(
        account=role.account,
        unit=unit,
        environment=account.environment,
        account_tag=_tag_of(draw, account.tags),
        role_name=role.name.swapcase().replace(
            role.name.swapcase()[draw(st.integers(0, len(role.name) - 1))], *wild[:1]
        ),
        role_tag=_tag_of(draw, role.tags),
    )
    other = st.builds(
        ASelector, place(len(accounts)), place(len(parents)), environments, wanted_tag, patterns, wanted_tag
    )
    said = draw(st.just({"unit"}) | st.sets(st.sampled_from(sorted(vars(right))), min_size=1, max_size=3))
    wrong = vars(draw(other)) if draw(st.integers(0, 3)) == 0 else {}
    selector = ASelector(**{name: (wrong or vars(right))[name] for name in said})
    return selector if selector != ASelector() else ASelector(role_name="*")


def _tag_of(draw: st.DrawFn, tags: dict[str, str]) -> tuple[str, str | None] | None:
    if not tags:
        return None
    key = draw(st.sampled_from(sorted(tags)))
    return key, draw(st.sampled_from((tags[key], None)))


class Rows:
    """The same world in the database."""

    def __init__(self, world: World, *, upside_down: bool) -> None:
        self.world = world
        self.units = [OrganisationalUnit.objects.create(name=f"unit {n}") for n in range(len(world.units))]
        # Either way round, whole branches are moved.
        order = list(enumerate(world.units))
        for number, parent in reversed(order) if upside_down else order:
            self.units[number].parent = None if parent is None else self.units[parent]
            self.units[number].save()
        self.accounts = [
            factories.account(
                f"account {n}",
                unit=None if one.unit is None else self.units[one.unit],
                environment=one.environment,
                tags=one.tags,
                is_active=one.active,
            )
            for n, one in enumerate(world.accounts)
        ]
        self.roles = [
            factories.role(one.name, self.accounts[one.account], tags=one.tags, is_active=one.active)
            for one in world.roles
        ]
        self.groups = [factories.group(f"group {n}") for n in range(3)]
        self.people = [
            factories.person(f"person{n}", *(self.groups[group] for group in groups), password=None)
            for n, groups in enumerate(world.people)
        ]
        self.entitlements = [self._entitlement(one) for one in world.entitlements]

    def _entitlement(self, one: AnEntitlement) -> Entitlement:
        made = factories.entitlement(
            *(self.roles[number] for number in one.roles),
            groups=[self.groups[number] for number in one.groups],
            users=[self.people[number] for number in one.users],
            is_active=one.active,
        )
        made.excluded_groups.add(*(self.groups[number] for number in one.excluded_groups))
        made.excluded_users.add(*(self.people[number] for number in one.excluded_users))
        for selector in one.selectors:
            account_key, account_value = selector.account_tag or ("", None)
            role_key, role_value = selector.role_tag or ("", None)
            made.selectors.create(
                account=None if selector.account is None else self.accounts[selector.account],
                unit=None if selector.unit is None else self.units[selector.unit],
                environment=selector.environment,
                account_tag_key=account_key,
                account_tag_value=account_value,
                role_name=selector.role_name,
                role_tag_key=role_key,
                role_tag_value=role_value,
            )
        return made


@pytest.mark.django_db
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds(), upside_down=st.booleans())
def test_the_model_the_policy_the_querysets_and_the_database_agree(world: World, upside_down: bool) -> None:
    with transaction.atomic():
        rows = Rows(world, upside_down=upside_down)
        _check(world, rows)
        transaction.set_rollback(True)


def _check(world: World, rows: Rows) -> None:
    in_sql = _by_the_database()
    catalogs = [facts.catalog(role) for role in rows.roles]
    persons = [facts.person(person) for person in rows.people]
    reaches = {
        (e, r): facts.reach_of_role(entitlement, role)
        for e, entitlement in enumerate(rows.entitlements)
        for r, role in enumerate(rows.roles)
    }
    # What is given, whomever it reaches: each way by itself.
    for r, role in enumerate(rows.roles):
        giving = set(Entitlement.objects.for_role(role))
        for e, entitlement in enumerate(world.entitlements):
            given = world.gives(entitlement, r)
            assert (rows.entitlements[e] in giving) is given
            assert not entitlement.active or policy._gives(reaches[e, r], catalogs[r]) is given
    for e, entitlement in enumerate(world.entitlements):
        selected: set[Role] = set()
        for question in rows.entitlements[e].selectors.all().questions():
            selected |= set(Role.objects.filter(question))
        expected = [any(world.selects(one, role) for one in entitlement.selectors) for role in world.roles]
        assert [role in selected for role in rows.roles] == expected
    for p, r in itertools.product(range(len(rows.people)), range(len(rows.roles))):
        found = set(Entitlement.objects.reaching(rows.people[p]).for_role(rows.roles[r]))
        for e, entitlement in enumerate(world.entitlements):
            reached = world.reaches(entitlement, p) and world.gives(entitlement, r)
            open_to = entitlement.active and reached
            verdict = policy.may_hold_on(persons[p], reaches[e, r], catalogs[r])
            if world.usable(world.roles[r]):
                assert bool(verdict) is open_to
                # Excluded is who would be let in otherwise, and nobody else hears of it.
                named = entitlement.active and world.names(entitlement, p) and world.gives(entitlement, r)
                excluded = bool(named and world.excludes(entitlement, p))
                assert (verdict.rule == "entitlement.excluded") is excluded
                assert open_to or verdict.rule.startswith("entitlement.")
            may = bool(policy.may_request(persons[p], reaches[e, r], catalogs[r]))
            assert may is (open_to and world.usable(world.roles[r]))
            assert (rows.entitlements[e] in found) is open_to
            row = (rows.entitlements[e].pk, rows.people[p].pk, rows.roles[r].pk)
            assert in_sql[row] == (world.reaches(entitlement, p), world.gives(entitlement, r))
    for p, person in enumerate(rows.people):
        roles = {
            rows.roles[r]
            for (r, role), one in itertools.product(enumerate(world.roles), world.entitlements)
            if world.usable(role) and one.active and world.reaches(one, p) and world.gives(one, r)
        }
        assert set(choosing._open_to(person)) == roles
        assert set(choosing.find_roles(person, "")) == roles
        assert set(choosing.find_roles(person, "account b")) == {one for one in roles if "b" in one.name.lower()}


def _by_the_database() -> dict[tuple[int, int, int], tuple[bool, bool]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT e.id, p.id, r.id, requests_app_reaches(e.id, p.id), requests_app_gives(e.id, r.id) "
            "FROM requests_app_entitlement e, requests_app_user p, requests_app_role r"
        )
        return {(e, p, r): (reaches, gives) for e, p, r, reaches, gives in cursor.fetchall()}


# --- what is like this --------------------------------------------------------------------------


def unit(name: str, parent: OrganisationalUnit | None = None) -> OrganisationalUnit:
    made = OrganisationalUnit.objects.create(name=name, parent=parent)
    made.refresh_from_db()
    return made


def gives(entitlement: Entitlement, role: Role) -> bool:
    """By all three that are asked in earnest, which must agree."""
    reach, catalog = facts.reach_of_role(entitlement, role), facts.catalog(role)
    with connection.cursor() as cursor:
        cursor.execute("SELECT requests_app_gives(%s, %s)", [entitlement.pk, role.pk])
        (by_the_database,) = cursor.fetchone()
    answers = {
        policy._gives(reach, catalog),
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


@pytest.mark.parametrize("catalog", [Catalog(1, True), Catalog(1, True, name="x", account=1, account_tags={"a": "b"})])
def test_a_selector_that_says_nothing_selects_nothing(catalog: Catalog) -> None:
    assert not Selector().selects(catalog)
    assert Selector(role_name="*").selects(catalog)
    assert not Selector(account_tag=Tag("")).selects(catalog)


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
    assert choosing.choices(alice, administrator, beneficiary=alice) == []

    membership.delete()
    assert choosing.choices(alice, administrator, beneficiary=alice)
    one.excluded_users.add(alice)
    with pytest.raises(NotAllowed):
        factories.wish(alice, administrator, one)
    # A group that is named and excluded at once lets nobody in.
    one.excluded_users.clear()
    one.excluded_groups.set([engineers])
    assert choosing.choices(alice, administrator, beneficiary=alice) == []


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


@pytest.mark.parametrize("gone", ["role", "account"])
def test_a_selector_opens_nothing_that_is_out_of_use(gone: str, alice: User, engineers: Group) -> None:
    role = factories.role("Reader")
    one = factories.entitlement(groups=[engineers])
    one.selectors.create(role_name="*")
    assert choosing.find_roles(alice, "reader") == [role]

    (Role if gone == "role" else Account).objects.update(is_active=False)

    assert choosing.find_roles(alice, "reader") == []
    assert choosing.find_role(alice, str(role.public_id)) is None
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
    assert [one.longest for one in choosing.choices(alice, prod, beneficiary=alice)] == [HOUR]

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

    found = choosing.choices(alice, administrator, beneficiary=alice)

    assert [(one.entitlement, one.longest_minutes) for one in found] == [(by_name, 60), (by_tag, 480)]
    assert choosing.find_roles(alice, "admin") == [administrator]
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
            lambda: facts.catalog(administrator),
            lambda: facts.reach_of_role(one, administrator),
            lambda: list(Entitlement.objects.reaching(alice).for_role(administrator)),
            lambda: choosing.find_roles(alice, "admin"),
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
    assert few[1] <= 2
