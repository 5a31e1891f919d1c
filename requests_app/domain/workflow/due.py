"""Whether anything is due, asked of all sweeps of requests at once: they are woken often, and mostly for nothing.

Each line finds by an index what its sweep begins with; what the sweep then looks at besides is its own.
"""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

from requests_app.domain import clock
from requests_app.domain.prepared import Question
from requests_app.domain.workflow import attempts, idempotency, sweeps
from requests_app.domain.workflow.ending import end_passes_of_deactivated


@dataclass(frozen=True, slots=True)
class _Due:
    expire: bool
    lapse: bool
    extensions: bool
    # For somebody was deactivated. For what was taken out of use, the minute's sweep looks: there is no index of that.
    hopeless: bool
    activate: bool
    escalate: bool
    endings: bool
    deactivated: bool
    keys: bool
    attempts: bool


_SWEEPS: dict[str, Callable[..., int]] = {
    "expire": sweeps.expire_due,
    "lapse": sweeps.lapse_due,
    "extensions": sweeps.lapse_extensions,
    "hopeless": sweeps.lapse_hopeless,
    "activate": sweeps.activate_due,
    "escalate": sweeps.escalate_due,
    "endings": sweeps.announce_endings,
    "deactivated": end_passes_of_deactivated,
    "keys": idempotency.forget_old,
    "attempts": attempts.forget_old,
}


def idle() -> Collection[Callable[..., Any]]:
    """The sweeps that would find nothing now."""
    due = _DUE.one(
        shift=clock.shift(),
        soon=sweeps.ENDING_SOON,
        kept=idempotency.KEPT,
        attempts_kept=attempts.KEPT,
        most_lengths=sweeps.MOST_LENGTHS,
    )
    return {_SWEEPS[name] for name, is_due in asdict(due).items() if not is_due}


# The moment as a value of its own, or no index would be used for it.
_DUE = Question(
    "due.look",
    f"""
WITH RECURSIVE {sweeps.LENGTHS}, this AS MATERIALIZED (
    SELECT clock_timestamp() + %(shift)s::interval AS moment
)
SELECT
    EXISTS (
        SELECT FROM requests_app_accessrequest r
        WHERE r.state = 'active' AND r.expires_at <= (SELECT moment FROM this)
    ) AS expire,
    EXISTS (
        SELECT FROM requests_app_accessrequest r
        WHERE r.state = 'pending' AND r.decide_by <= (SELECT moment FROM this)
    ) OR EXISTS (
        SELECT FROM requests_app_accessrequest r
        WHERE r.state = 'approved' AND r.start_by <= (SELECT moment FROM this)
    ) AS lapse,
    EXISTS (
        SELECT FROM requests_app_extension x
            JOIN requests_app_accessrequest r ON r.id = x.access_request_id
        WHERE x.state = 'pending' AND (x.decide_by <= (SELECT moment FROM this) OR r.state <> 'active')
    ) AS extensions,
    EXISTS (
        SELECT FROM requests_app_accessrequest r
            JOIN requests_app_user u ON u.id = r.beneficiary_id
        WHERE r.state = 'pending' AND u.deactivated_at IS NOT NULL
    ) OR EXISTS (
        SELECT FROM requests_app_accessrequest r
            JOIN requests_app_user u ON u.id = r.requester_id
        WHERE r.state = 'pending' AND u.deactivated_at IS NOT NULL
    ) AS hopeless,
    EXISTS (
        SELECT FROM requests_app_accessrequest r
        WHERE r.state = 'approved' AND r.start = 'at_time' AND r.scheduled_at <= (SELECT moment FROM this)
    ) OR EXISTS (
        SELECT FROM lengths l
        WHERE EXISTS (
            SELECT FROM requests_app_accessrequest r
            WHERE r.state = 'approved' AND r.start = 'at_once'
                AND (r.terms_document->>'start_within_seconds')::integer = l.seconds
                AND r.start_by <= (SELECT moment FROM this) + make_interval(secs => l.seconds)
            -- So that each length is a range of the index, and not all are read once.
            OFFSET 0
        )
    ) OR (SELECT count(*) FROM lengths) >= %(most_lengths)s::int AS activate,
    EXISTS (
        SELECT FROM requests_app_accessrequest r
        WHERE r.state = 'pending' AND r.escalate_at <= (SELECT moment FROM this)
    ) OR EXISTS (
        SELECT FROM requests_app_extension x
        WHERE x.state = 'pending' AND x.escalate_at <= (SELECT moment FROM this)
    ) AS escalate,
    EXISTS (
        SELECT FROM requests_app_accessrequest r
        WHERE r.state = 'active' AND r.expires_at > (SELECT moment FROM this)
            AND r.expires_at <= (SELECT moment FROM this) + %(soon)s::interval
            AND r.expires_at > r.activated_at + %(soon)s::interval
    ) AS endings,
    EXISTS (
        SELECT FROM requests_app_accessrequest r
            JOIN requests_app_user u ON u.id = r.beneficiary_id
        WHERE r.state IN ('approved', 'active') AND u.deactivated_at IS NOT NULL
    ) AS deactivated,
    EXISTS (
        SELECT FROM requests_app_idempotencykey k
        WHERE k.made_at < (SELECT moment FROM this) - %(kept)s::interval
    ) AS keys,
    EXISTS (
        SELECT FROM requests_app_attempts a
        WHERE a.begun_at < (SELECT moment FROM this) - %(attempts_kept)s::interval
    ) AS attempts
""",  # noqa: S608 - texts of ours only
    _Due,
)
