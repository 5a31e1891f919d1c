"""What the rules say, written a second time, slowly and plainly, for the tests that hold the product to it.

It shares no code with the product, knows no database, and looks at everything. Where the two differ, one is wrong.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """`escalate`: after so many seconds `more_groups` and `more_users` are asked too."""

    quorum: int = 1
    groups: tuple[int, ...] = ()
    users: tuple[int, ...] = ()
    escalate: int | None = None
    more_groups: tuple[int, ...] = ()
    more_users: tuple[int, ...] = ()


@dataclass(frozen=True)
class World:
    """People and groups are numbers. `members`: (person, group). `rule_edits`: who edited, unconfirmed, something that
    the matter follows. `moved`: (editor, member, group), unconfirmed. `named`: the groups of the entitlement, whoever
    they let in, keep out or let ask."""

    people: tuple[int, ...]
    gone: frozenset[int]
    members: frozenset[tuple[int, int]]
    rule_edits: frozenset[int]
    moved: frozenset[tuple[int, int, int]]
    named: frozenset[int]
    requester: int
    beneficiary: int
    stages: tuple[Stage, ...]
    # (editor, whom they made or whose sign-in or rights they changed), unconfirmed.
    placed: frozenset[tuple[int, int]] = frozenset()
    stage: int = 1
    state: str = "pending"
    accepted: bool = True
    # How long ago the stage began, and how long it can still be decided, in seconds.
    passed: float = 0
    left: float = 3600
    approved: tuple[tuple[int, int], ...] = field(default=())  # (person, stage)
    # Whether there are two operators, of whom one could confirm.
    others_operate: bool = False

    @property
    def asking(self) -> set[int]:
        return {self.requester, self.beneficiary}

    @property
    def decided(self) -> set[int]:
        return {person for person, _ in self.approved}

    def behind(self, person: int) -> set[int]:
        """Who could have acted as this person: whoever placed them, and whoever placed those."""
        found = {person}
        while more := {editor for editor, of in self.placed if of in found} - found:
            found |= more
        return found

    def is_same_hand(self, person: int, others: Iterable[int] | None = None) -> bool:
        """Whether one placed the other, or somebody could act as both; of those who ask, if not told otherwise."""
        for one in self.asking if others is None else others:
            if person in self.behind(one) or one in self.behind(person):
                return True
            if self.others_operate and self.behind(one) & self.behind(person):
                return True
        return False

    def counts(self, person: int, group: int) -> bool:
        """Whether the membership counts: neither that person nor the asking side had a hand in it."""
        if (person, group) not in self.members:
            return False
        for editor, member, where in self.moved:
            if member == person and where == group and self.behind(editor) & {person, *self.asking}:
                return False
        return True

    def is_asked(self, person: int, stage: Stage, *, further: bool) -> bool:
        if person in stage.users or any(self.counts(person, group) for group in stage.groups):
            return True
        if not further:
            return False
        return person in stage.more_users or any(self.counts(person, group) for group in stage.more_groups)

    def has_placed(self, person: int) -> bool:
        return any(
            person in self.behind(editor) and member in self.asking and where in self.named
            for editor, member, where in self.moved
        )

    def has_edited(self, person: int) -> bool:
        return any(person in self.behind(editor) for editor in self.rule_edits)

    def could_decide(self, person: int, stage: Stage, *, further: bool) -> bool:
        return (
            person not in self.gone
            and not self.is_same_hand(person)
            and not self.has_edited(person)
            and not self.has_placed(person)
            and self.is_asked(person, stage, further=further)
        )


def is_late(stage: Stage, passed: float) -> bool:
    return stage.escalate is not None and passed >= stage.escalate


def rule_on_deciding(world: World, person: int) -> str:
    """The id of the rule by which this person may decide, or may not."""
    if person in world.gone:
        return "person.deactivated"
    if person in world.asking:
        return "decision.own_request"
    if world.state != "pending":
        return "decision.not_pending"
    if person in world.decided:
        return "decision.once"
    if not 1 <= world.stage <= len(world.stages):
        return "decision.nobody_asked"
    if not world.accepted:
        return "decision.not_accepted"
    if world.has_edited(person) or world.has_placed(person):
        return "edit.own"
    if world.is_same_hand(person):
        return "person.same_hand"
    stage = world.stages[world.stage - 1]
    if not world.is_asked(person, stage, further=is_late(stage, world.passed)):
        return "decision.not_asked"
    return f"stage.{world.stage}"


def who_can_decide(world: World) -> set[int]:
    return {person for person in world.people if rule_on_deciding(world, person).startswith("stage.")}


def may_agree(world: World, person: int) -> bool:
    """Whether a yes of theirs counts beside the others, if they may decide at all."""
    return not world.is_same_hand(person, world.decided - {person})


def too_few(world: World) -> bool:
    """Whether the stages that have not agreed can not be filled, each person having one say, by trying everything."""
    seats: list[set[int]] = []
    for number, stage in enumerate(world.stages, start=1):
        if number < world.stage:
            continue
        passed, agreed = 0.0, 0
        if number == world.stage:
            passed = world.passed if world.accepted else 0.0
            agreed = sum(1 for _, at in world.approved if at == number)
        # Those who are asked later count if that is before it is too late.
        further = stage.escalate is not None and stage.escalate - passed < world.left
        able = {
            person
            for person in world.people
            if not world.is_same_hand(person, world.decided) and world.could_decide(person, stage, further=further)
        }
        seats += [able] * (stage.quorum - agreed)
    return not can_be_seated(seats)


def can_be_seated(seats: Iterable[set[int]]) -> bool:
    return any(len(set(chosen)) == len(chosen) for chosen in itertools.product(*seats))


# --- whom terms reach, and which roles they give ------------------------------------------------------


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
class APerson:
    groups: frozenset[int]
    active: bool = True


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
    askers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class AnEdit:
    """`what` is an entitlement, a role, an account or a unit; of a group, `member` was put in or taken out."""

    editor: int
    what: str
    number: int
    member: int | None = None
    confirmed: bool = False


@dataclass(frozen=True)
class AFreeze:
    """Of `everything`, an `account` or a `role`."""

    what: str
    number: int = 0
    lifted: bool = False


@dataclass(frozen=True)
class Landscape:
    """What is given to whom; each is its number."""

    units: tuple[int | None, ...]  # for each its parent
    accounts: tuple[AnAccount, ...]
    roles: tuple[ARole, ...]
    people: tuple[APerson, ...]
    entitlements: tuple[AnEntitlement, ...]
    edits: tuple[AnEdit, ...] = ()
    freezes: tuple[AFreeze, ...] = ()

    def still_entitled(self, e: int, p: int, r: int) -> str:
        """By which rule somebody may still have what they have, or not."""
        if not self.people[p].active:
            return "person.deactivated"
        if not self.is_usable(r):
            return "role.inactive"
        if self.is_frozen(r):
            return "freeze"
        if self.edited(p, e, r):
            return "edit.own"
        if not self.entitlements[e].active or not self.names(e, p) or not self.gives(e, r):
            return "entitlement.does_not_reach"
        if self.excludes(e, p):
            return "entitlement.excluded"
        return "entitlement.reaches"

    def may_ask_for(self, asker: int, e: int, p: int, r: int) -> str:
        """By which rule one asks on behalf of another, or not."""
        if not self.people[asker].active:
            return "person.deactivated"
        if self.edited(asker, e, r):
            return "edit.own"
        entitlement = self.entitlements[e]
        for group in range(10):
            concerned = group in entitlement.groups or group in entitlement.excluded_groups
            if (concerned or group in entitlement.askers) and self.changed(asker, p, group):
                return "edit.own"
        for group in self.people[asker].groups:
            by_themselves = self.changed(asker, asker, group) or self.changed(p, asker, group)
            if group in entitlement.askers and not by_themselves:
                return "behalf.named"
        return "behalf.not_named"

    def may_request(self, asker: int, e: int, p: int, r: int) -> str:
        """By which rule somebody asks, under terms that nobody decides on, or not."""
        if not self.people[p].active:
            return "person.deactivated"
        if asker != p:
            on_behalf = self.may_ask_for(asker, e, p, r)
            if on_behalf != "behalf.named":
                return on_behalf
        return self.still_entitled(e, p, r)

    def is_in(self, unit: int | None, above: int) -> bool:
        while unit is not None:
            if unit == above:
                return True
            unit = self.units[unit]
        return False

    def is_usable(self, r: int) -> bool:
        return self.roles[r].active and self.accounts[self.roles[r].account].active

    def is_frozen(self, r: int) -> bool:
        for freeze in self.freezes:
            if freeze.lifted:
                continue
            if freeze.what == "everything":
                return True
            if freeze.what == "account" and freeze.number == self.roles[r].account:
                return True
            if freeze.what == "role" and freeze.number == r:
                return True
        return False

    def edited(self, editor: int, e: int, r: int) -> bool:
        account = self.roles[r].account
        for edit in self.edits:
            if edit.editor != editor or edit.confirmed:
                continue
            if edit.what == "entitlement" and edit.number == e:
                return True
            if edit.what == "role" and edit.number == r:
                return True
            if edit.what == "account" and edit.number == account:
                return True
            if edit.what == "unit" and self.is_in(self.accounts[account].unit, edit.number):
                return True
        return False

    def changed(self, editor: int, member: int, group: int) -> bool:
        for edit in self.edits:
            same = (edit.editor, edit.member, edit.number) == (editor, member, group)
            if edit.what == "group" and same and not edit.confirmed:
                return True
        return False

    def selects(self, selector: ASelector, r: int) -> bool:
        role = self.roles[r]
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

    def gives(self, e: int, r: int) -> bool:
        entitlement = self.entitlements[e]
        return r in entitlement.roles or any(self.selects(one, r) for one in entitlement.selectors)

    def names(self, e: int, p: int) -> bool:
        entitlement = self.entitlements[e]
        if p in entitlement.users:
            return True
        return any(group in entitlement.groups and not self.changed(p, p, group) for group in self.people[p].groups)

    def excludes(self, e: int, p: int) -> bool:
        entitlement = self.entitlements[e]
        if p in entitlement.excluded_users:
            return True
        # Whoever left it by their own hand is still excluded.
        return any(group in self.people[p].groups or self.changed(p, p, group) for group in entitlement.excluded_groups)

    def reaches(self, e: int, p: int) -> bool:
        return self.names(e, p) and not self.excludes(e, p)


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
