"""The only writer of request state. Every door calls these and nothing else."""

from requests_app.domain.workflow import deliveries, freezes, people, preflights, revocations, stops, sweeps
from requests_app.domain.workflow.requests import (
    approve,
    deny,
    end_passes_of_deactivated,
    give_back,
    in_words,
    may_revoke,
    remind,
    revoke,
    start,
    submit,
    verdict_on_deciding,
    who_can_decide,
    withdraw,
)

__all__ = [
    "approve",
    "deliveries",
    "deny",
    "end_passes_of_deactivated",
    "freezes",
    "give_back",
    "in_words",
    "may_revoke",
    "people",
    "preflights",
    "remind",
    "revocations",
    "revoke",
    "start",
    "stops",
    "submit",
    "sweeps",
    "verdict_on_deciding",
    "who_can_decide",
    "withdraw",
]
