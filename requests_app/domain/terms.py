"""The terms a request follows: read from its entitlement once, stored with the request, never mixed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from requests_app.domain.models.entitlements import Entitlement

AUTOMATIC = "automatic"
STAGED = "staged"


@dataclass(frozen=True, slots=True)
class StageTerms:
    position: int
    quorum: int
    groups: tuple[int, ...]
    users: tuple[int, ...]
    asks: str  # names, as they were, for people to read

    def in_words(self) -> str:
        return self.asks if self.quorum == 1 else f"{self.quorum} of {self.asks}"


@dataclass(frozen=True, slots=True)
class Terms:
    """Durations in seconds. `approval` is `automatic` or `staged`; staged has at least one stage."""

    entitlement: int
    name: str
    revision: int
    longest_seconds: int
    approval: str
    stages: tuple[StageTerms, ...]
    session_ceiling_seconds: int
    pending_seconds: int
    start_within_seconds: int
    ticket: str
    justification_min: int
    narrowing_statements: tuple[dict[str, Any], ...]
    narrowing_policy_arns: tuple[str, ...]
    lifted: tuple[str, ...]

    @classmethod
    def of(cls, entitlement: "Entitlement") -> "Terms":
        return cls(
            entitlement=entitlement.pk,
            name=entitlement.name,
            revision=entitlement.revision,
            longest_seconds=entitlement.longest_seconds,
            approval=entitlement.approval,
            stages=tuple(_stages(entitlement)) if entitlement.approval == STAGED else (),
            session_ceiling_seconds=entitlement.session_ceiling_seconds,
            pending_seconds=entitlement.pending_seconds,
            start_within_seconds=entitlement.start_within_seconds,
            ticket=entitlement.ticket,
            justification_min=entitlement.justification_min,
            narrowing_statements=tuple(entitlement.narrowing_statements),
            narrowing_policy_arns=tuple(entitlement.narrowing_policy_arns),
            lifted=tuple(entitlement.lifted),
        )

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "Terms":
        values = dict(document)
        stages = tuple(
            StageTerms(
                stage["position"],
                stage["quorum"],
                tuple(stage["groups"]),
                tuple(stage["users"]),
                stage["asks"],
            )
            for stage in values.pop("stages")
        )
        lists = ("narrowing_statements", "narrowing_policy_arns", "lifted")
        values |= {key: tuple(values[key]) for key in lists}
        return cls(stages=stages, **values)

    def document(self) -> dict[str, Any]:
        """As it is stored. The guard trigger compares what matters in it with the entitlement."""
        document = {name: getattr(self, name) for name in self.__slots__ if name != "stages"}
        stages = [{name: getattr(stage, name) for name in StageTerms.__slots__} for stage in self.stages]
        return {**document, "stages": stages}

    @property
    def is_automatic(self) -> bool:
        return self.approval == AUTOMATIC

    @property
    def narrows(self) -> bool:
        return bool(self.narrowing_statements or self.narrowing_policy_arns)

    def stage(self, position: int) -> StageTerms:
        return self.stages[position - 1]


def _stages(entitlement: "Entitlement") -> list[StageTerms]:
    stages = []
    for position, stage in enumerate(entitlement.stages.all(), start=1):
        groups, users = list(stage.groups.all()), list(stage.users.all())
        names = sorted(str(one) for one in (*groups, *users))
        stages.append(
            StageTerms(
                position=position,
                quorum=stage.quorum,
                groups=tuple(sorted(group.pk for group in groups)),
                users=tuple(sorted(user.pk for user in users)),
                asks=" or ".join(names),
            )
        )
    return stages
