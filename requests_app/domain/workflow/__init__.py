"""The only writer of request state. Every door calls these and nothing else.

`may_…` is what a verb would say now, for a page that shows the right buttons; it decides nothing.
"""

from requests_app.domain.workflow import (
    accounts,
    attempts,
    catalog,
    deliveries,
    emergency,
    factors,
    freezes,
    idempotency,
    live_sessions,
    operators,
    own_edits,
    people,
    preflights,
    proofs,
    revocations,
    sweeps,
)
from requests_app.domain.workflow.asking import accept, may_request, may_submit, remind, submit, why_not_accept
from requests_app.domain.workflow.deciding import (
    approve,
    deny,
    may_approve,
    may_deny,
    stages_that_lack_people,
    who_can_decide,
)
from requests_app.domain.workflow.ending import end_passes_of_deactivated, give_back, may_revoke, revoke, withdraw
from requests_app.domain.workflow.extensions import (
    approve_extension,
    deny_extension,
    extend,
    may_extend,
    withdraw_extension,
)
from requests_app.domain.workflow.life import start, why_unusable

__all__ = [
    "accept",
    "accounts",
    "approve",
    "approve_extension",
    "attempts",
    "catalog",
    "deliveries",
    "deny",
    "deny_extension",
    "emergency",
    "end_passes_of_deactivated",
    "extend",
    "factors",
    "freezes",
    "give_back",
    "idempotency",
    "live_sessions",
    "may_approve",
    "may_deny",
    "may_extend",
    "may_request",
    "may_revoke",
    "may_submit",
    "operators",
    "own_edits",
    "people",
    "preflights",
    "proofs",
    "remind",
    "revocations",
    "revoke",
    "stages_that_lack_people",
    "start",
    "submit",
    "sweeps",
    "who_can_decide",
    "why_not_accept",
    "why_unusable",
    "withdraw",
    "withdraw_extension",
]
