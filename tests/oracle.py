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
    stage: int = 1
    state: str = "pending"
    accepted: bool = True
    # How long ago the stage began, and how long it can still be decided, in seconds.
    passed: float = 0
    left: float = 3600
    approved: tuple[tuple[int, int], ...] = field(default=())  # (person, stage)

    @property
    def asking(self) -> set[int]:
        return {self.requester, self.beneficiary}

    @property
    def decided(self) -> set[int]:
        return {person for person, _ in self.approved}

    def counts(self, person: int, group: int) -> bool:
        """Whether the membership counts: neither that person nor the asking side had a hand in it."""
        if (person, group) not in self.members:
            return False
        for editor, member, where in self.moved:
            if member == person and where == group and (editor == person or editor in self.asking):
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
            editor == person and member in self.asking and where in self.named for editor, member, where in self.moved
        )

    def could_decide(self, person: int, stage: Stage, *, further: bool) -> bool:
        return (
            person not in self.gone
            and person not in self.asking
            and person not in self.rule_edits
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
    if person in world.rule_edits or world.has_placed(person):
        return "edit.own"
    stage = world.stages[world.stage - 1]
    if not world.is_asked(person, stage, further=is_late(stage, world.passed)):
        return "decision.not_asked"
    return f"stage.{world.stage}"


def who_can_decide(world: World) -> set[int]:
    return {person for person in world.people if rule_on_deciding(world, person).startswith("stage.")}


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
            if person not in world.decided and world.could_decide(person, stage, further=further)
        }
        seats += [able] * (stage.quorum - agreed)
    return not can_be_seated(seats)


def can_be_seated(seats: Iterable[set[int]]) -> bool:
    return any(len(set(chosen)) == len(chosen) for chosen in itertools.product(*seats))
