"""The terms a request follows: read from its entitlement once, stored with the request, never mixed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from requests_app.domain.hours import Hours

if TYPE_CHECKING:
    from requests_app.domain.models.catalog import Role
    from requests_app.domain.models.entitlements import Entitlement

AUTOMATIC = "automatic"
STAGED = "staged"

BOTH = "both"
CONSOLE = "console"
KEYS = "keys"


@dataclass(frozen=True, slots=True)
class StageTerms:
    position: int
    quorum: int
    groups: tuple[int, ...]
    users: tuple[int, ...]
    asks: str  # names, as they were, for people to read
    # After so long without an agreement these are asked as well; None: never.
    escalate_seconds: int | None = None
    more_groups: tuple[int, ...] = ()
    more_users: tuple[int, ...] = ()
    more_asks: str = ""

    def in_words(self) -> str:
        return self.asks if self.quorum == 1 else f"{self.quorum} of {self.asks}"

    def is_escalated(self, since: datetime, now: datetime) -> bool:
        """Whether further approvers are asked by now, at a stage that began at `since`."""
        return self.escalate_seconds is not None and now >= since + timedelta(seconds=self.escalate_seconds)

    def asked(self, *, escalated: bool) -> tuple[frozenset[int], frozenset[int]]:
        """The groups and the people who may decide."""
        if not escalated:
            return frozenset(self.groups), frozenset(self.users)
        return frozenset(self.groups + self.more_groups), frozenset(self.users + self.more_users)


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
    # What requests made before these were thought of have.
    default_seconds: int = 1800
    schedule_ahead_seconds: int = 0  # 0: may not be scheduled
    hours: Hours | None = None
    justification_pattern: str = ""
    ticket_pattern: str = ""
    extensions_most: int = 0
    extension_total_seconds: int = 0  # of the whole pass, extensions included
    channels: str = BOTH
    most_at_once: int | None = None

    @classmethod
    def of(cls, entitlement: "Entitlement", role: "Role | None" = None) -> "Terms":
        """The terms as they are now; `role` is whose owners decide, where a stage asks them."""
        return cls(
            entitlement=entitlement.pk,
            name=entitlement.name,
            revision=entitlement.revision,
            longest_seconds=entitlement.longest_seconds,
            approval=entitlement.approval,
            stages=tuple(_stages(entitlement, role)) if entitlement.approval == STAGED else (),
            session_ceiling_seconds=entitlement.session_ceiling_seconds,
            pending_seconds=entitlement.pending_seconds,
            start_within_seconds=entitlement.start_within_seconds,
            ticket=entitlement.ticket,
            justification_min=entitlement.justification_min,
            narrowing_statements=tuple(entitlement.narrowing_statements),
            narrowing_policy_arns=tuple(entitlement.narrowing_policy_arns),
            lifted=tuple(entitlement.lifted),
            default_seconds=min(entitlement.default_seconds, entitlement.longest_seconds),
            schedule_ahead_seconds=entitlement.schedule_ahead_seconds,
            hours=entitlement.hours,
            justification_pattern=entitlement.justification_pattern,
            ticket_pattern=entitlement.ticket_pattern,
            extensions_most=entitlement.extensions_most,
            extension_total_seconds=entitlement.extension_total_seconds,
            channels=entitlement.channels,
            most_at_once=entitlement.most_at_once,
        )

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "Terms":
        # What a newer Daypass may have stored besides is left alone.
        values = {name: value for name, value in document.items() if name in cls.__slots__}
        stages = tuple(_stage_from(stage) for stage in values.pop("stages"))
        if values.get("hours"):
            values["hours"] = Hours.from_document(values["hours"])
        lists = ("narrowing_statements", "narrowing_policy_arns", "lifted")
        values |= {key: tuple(values[key]) for key in lists}
        return cls(stages=stages, **values)

    def document(self) -> dict[str, Any]:
        """As it is stored. The guard trigger compares what matters in it with the entitlement."""
        document = {name: getattr(self, name) for name in self.__slots__ if name != "stages"}
        stages = [{name: getattr(stage, name) for name in StageTerms.__slots__} for stage in self.stages]
        return {**document, "stages": stages, "hours": self.hours.document() if self.hours else None}

    @property
    def is_automatic(self) -> bool:
        return self.approval == AUTOMATIC

    @property
    def narrows(self) -> bool:
        return bool(self.narrowing_statements or self.narrowing_policy_arns)

    @property
    def may_be_extended(self) -> bool:
        return self.extensions_most > 0

    def allows(self, channel: str) -> bool:
        """`channel`: `console` or `keys`."""
        return self.channels in (BOTH, channel)

    def stage(self, position: int) -> StageTerms:
        return self.stages[position - 1]


def _stage_from(document: dict[str, Any]) -> StageTerms:
    values = {name: value for name, value in document.items() if name in StageTerms.__slots__}
    lists = ("groups", "users", "more_groups", "more_users")
    return StageTerms(**values | {name: tuple(values.get(name, ())) for name in lists})


def _stages(entitlement: "Entitlement", role: "Role | None") -> list[StageTerms]:
    stages = []
    for position, stage in enumerate(entitlement.stages.all(), start=1):
        owners = stage.owning_group(role) if role else None
        groups = {group.pk: str(group) for group in (*stage.groups.all(), *([owners] if owners else []))}
        users = {user.pk: str(user) for user in stage.users.all()}
        more_groups = {group.pk: str(group) for group in stage.more_groups.all()}
        more_users = {user.pk: str(user) for user in stage.more_users.all()}
        stages.append(
            StageTerms(
                position=position,
                quorum=stage.quorum,
                groups=tuple(sorted(groups)),
                users=tuple(sorted(users)),
                asks=_names(groups, users) or (stage.get_owners_display() if stage.owners else ""),
                escalate_seconds=stage.escalate_seconds,
                more_groups=tuple(sorted(more_groups)),
                more_users=tuple(sorted(more_users)),
                more_asks=_names(more_groups, more_users),
            )
        )
    return stages


def _names(*named: dict[int, str]) -> str:
    return " or ".join(sorted(name for names in named for name in names.values()))
