"""The terms a request follows: read from its entitlement once, stored with the request, never mixed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from requests_app.domain import narrowing
from requests_app.domain.hours import Hours

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
    # What comes through AWS's AI gateway is denied: its MCP server, and nothing else, says so of a call.
    not_through_mcp: bool = False
    # Nothing is issued that only its policy would end.
    ends_by_sts_only: bool = False

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
    def narrowed_by(self) -> tuple[dict[str, Any], ...]:
        """What stands in a session's policy by these terms, Daypass's own denies apart."""
        return (*self.narrowing_statements, *((narrowing.NOT_THROUGH_MCP,) if self.not_through_mcp else ()))

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
