"""Landscapes by chance, small enough for `tests.oracle`, and the same in the database."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from requests_app.domain import clock
from requests_app.domain.models import Edit, Entitlement, Freeze, OrganisationalUnit
from tests import factories
from tests.oracle import AFreeze, AnAccount, AnEdit, AnEntitlement, APerson, ARole, ASelector, Landscape

GROUPS = 3
KEYS, VALUES = ("team", "te_m", "%"), ("x", "X", "", "%")
tags = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
environments = st.sampled_from(("", "prod", "dev"))
wanted_tag = st.none() | st.tuples(st.sampled_from(KEYS), st.none() | st.sampled_from(VALUES))
names = st.text(alphabet="aAbB_.+", min_size=1, max_size=4)
patterns = st.just("") | st.text(alphabet="aB_.+*?", min_size=1, max_size=4)
mostly = st.sampled_from((True, True, True, True, False))


def place(most: int) -> st.SearchStrategy[int | None]:
    """One of so many, by its number, or none."""
    return st.sampled_from([*range(most), *range(most), None])


def some(most: int) -> st.SearchStrategy[frozenset[int]]:
    return st.frozensets(st.integers(0, most - 1), max_size=2)


@st.composite
def worlds(draw: st.DrawFn, *, with_edits: bool = True) -> Landscape:
    # Often one below the other, so that the tree is deep.
    parents = [
        draw(place(number) | st.just(number - 1 if number else None)) for number in range(draw(st.integers(3, 6)))
    ]
    accounts = draw(
        st.lists(st.builds(AnAccount, place(len(parents)), environments, tags, mostly), min_size=1, max_size=4)
    )
    role = st.builds(ARole, st.integers(0, len(accounts) - 1), names, tags, mostly)
    roles = draw(st.lists(role, min_size=1, max_size=5, unique_by=lambda one: (one.account, one.name.lower())))
    people = draw(st.lists(st.builds(APerson, some(GROUPS), mostly), min_size=2, max_size=3))
    selectors = st.lists(_selectors(tuple(parents), accounts, roles), max_size=3).map(tuple)
    persons = some(len(people))
    entitlement = st.builds(
        AnEntitlement,
        active=mostly,
        groups=some(GROUPS),
        users=persons,
        excluded_groups=some(GROUPS) | st.just(frozenset()),
        excluded_users=persons | st.just(frozenset()),
        roles=some(len(roles)) | st.just(frozenset()),
        selectors=selectors,
        # Who asks for others finds more roles than their own.
        askers=some(GROUPS) if with_edits else st.just(frozenset()),
    )
    entitlements = draw(st.lists(entitlement, min_size=1, max_size=3))
    edits: list[AnEdit] = []
    freezes: list[AFreeze] = []
    if with_edits:
        # Of units mostly those that some account is in or below.
        near = [unit for one in accounts for unit in _above(one.unit, parents)]
        subjects: dict[str, Sequence[int]] = {
            "entitlement": range(len(entitlements)),
            "role": range(len(roles)),
            "account": range(len(accounts)),
            "unit": near or range(len(parents)),
            "group": range(GROUPS),
        }
        edits += draw(st.lists(_edits(subjects, len(people)), min_size=1, max_size=6))
        everything = st.just(AFreeze("everything", lifted=True))
        one = st.builds(AFreeze, st.just("role"), st.integers(0, len(roles) - 1), mostly.map(lambda is_so: not is_so))
        other = st.builds(AFreeze, st.just("account"), st.integers(0, len(accounts) - 1), st.booleans())
        freezes += draw(st.lists(one | other | everything, max_size=2, unique_by=lambda it: (it.what, it.number)))
    return Landscape(
        tuple(parents), tuple(accounts), tuple(roles), tuple(people), tuple(entitlements), tuple(edits), tuple(freezes)
    )


def _above(unit: int | None, parents: list[int | None]) -> list[int]:
    """The unit and all above it."""
    return [] if unit is None else [unit, *_above(parents[unit], parents)]


@st.composite
def _edits(draw: st.DrawFn, subjects: dict[str, Sequence[int]], people: int) -> AnEdit:
    editor, confirmed = draw(st.integers(0, people - 1)), draw(st.sampled_from((False, False, True)))
    what = draw(st.sampled_from([*subjects, "group", "group"]))
    number = draw(st.sampled_from(subjects[what]))
    # Of a group their own membership, or somebody else's.
    member = draw(st.just(editor) | st.integers(0, people - 1)) if what == "group" else None
    return AnEdit(editor, what, number, member, confirmed)


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

    def __init__(self, world: Landscape, *, upside_down: bool) -> None:
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
        self.groups = [factories.group(f"group {n}") for n in range(GROUPS)]
        now = clock.now()
        self.people = [
            factories.person(
                f"person{n}",
                *(self.groups[group] for group in one.groups),
                password=None,
                deactivated_at=None if one.active else now,
            )
            for n, one in enumerate(world.people)
        ]
        self.entitlements = [self._entitlement(one) for one in world.entitlements]
        # Whoever confirms and freezes is nobody in the landscape.
        peter = factories.person("peter", password=None, is_operator=True)
        for edit in world.edits:
            made = Edit.objects.create(
                editor=self.people[edit.editor],
                **{edit.what: getattr(self, _LISTS[edit.what])[edit.number]},
                member=None if edit.member is None else self.people[edit.member],
                made_at=now,
            )
            if edit.confirmed:
                made.confirmed_by, made.confirmed_at = peter, now
                made.save()
        for freeze in world.freezes:
            self._freeze(freeze, peter)

    def _entitlement(self, one: AnEntitlement) -> Entitlement:
        made = factories.entitlement(
            *(self.roles[number] for number in one.roles),
            groups=[self.groups[number] for number in one.groups],
            users=[self.people[number] for number in one.users],
            is_active=one.active,
        )
        made.excluded_groups.add(*(self.groups[number] for number in one.excluded_groups))
        made.excluded_users.add(*(self.people[number] for number in one.excluded_users))
        made.askers.add(*(self.groups[number] for number in one.askers))
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

    def _freeze(self, freeze: AFreeze, by: Any) -> None:
        now = clock.now()
        scope = {} if freeze.what == "everything" else {freeze.what: getattr(self, _LISTS[freeze.what])[freeze.number]}
        made = Freeze.objects.create(**scope, reason="a break-in", begun_at=now, begun_by=by)
        if freeze.lifted:
            made.lift_asked_at, made.lift_asked_by = now, by
            made.save()
            made.lifted_at, made.lifted_by = now, by
            made.save()


_LISTS = {
    "entitlement": "entitlements",
    "role": "roles",
    "account": "accounts",
    "unit": "units",
    "group": "groups",
}
