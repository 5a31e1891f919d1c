"""The only writer of request state. Every door calls these and nothing else."""

from requests_app.domain.workflow import deliveries, edits, freezes, operators, outlooks, people, revocations, sweeps
from requests_app.domain.workflow.extensions import (
    approve_extension,
    deny_extension,
    extend,
    withdraw_extension,
)
from requests_app.domain.workflow.requests import (
    accept,
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
    "accept",
    "approve",
    "approve_extension",
    "deliveries",
    "deny",
    "deny_extension",
    "edits",
    "end_passes_of_deactivated",
    "extend",
    "freezes",
    "give_back",
    "in_words",
    "may_revoke",
    "operators",
    "outlooks",
    "people",
    "remind",
    "revocations",
    "revoke",
    "start",
    "submit",
    "sweeps",
    "verdict_on_deciding",
    "who_can_decide",
    "withdraw",
    "withdraw_extension",
]
