"""The policy that every session carries: it ends the session's rights at the agreed second.

An explicit Deny is all that ends them. An Allow that lapses would be only an implicit one, which a
resource policy naming the session gets around.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from requests_app.domain import arns, narrowing, outliving
from requests_app.domain.liftable import LIFTABLE, Liftable

__all__ = ["LIFTABLE", "MIN_SESSION_SECONDS", "Layers", "Liftable", "layers", "session_policy", "session_seconds"]

MIN_SESSION_SECONDS = 900  # STS issues nothing shorter
CHAINED_SESSION_SECONDS = 3600  # nor anything longer to a caller that is itself a role session


def session_policy(
    *,
    cut_off: datetime,
    role_arn: str,
    statements: Sequence[Mapping[str, Any]] = (),
    policy_arns: Sequence[str] = (),
    lifted: Collection[str] = (),
    not_through_mcp: bool = False,
) -> str:
    """The inline policy for AssumeRole, as compact JSON of plain ASCII.

    Everything is denied from `cut_off` on (taken down to its second). `statements` and `policy_arns`
    narrow what the role may do before; `lifted` names the `Liftable` denies that are left out;
    `not_through_mcp` denies what comes through AWS's MCP server.
    Raises ValueError, with a sentence for the person who edits the entitlement, on what AWS would
    refuse or what would not narrow.
    """
    narrowed = narrowing.check(statements, policy_arns)
    narrowing.check_policies_fit_role(policy_arns, role_arn)
    denies = _denies(cut_off, role_arn, lifted, narrowed, policy_arns, not_through_mcp=not_through_mcp)
    # Session policies are added together before they meet the role's own, so an `Allow *` beside
    # a narrowing would undo it.
    policy = _document(denies, narrowed if statements or policy_arns else [narrowing.EVERYTHING])
    narrowing.check_length(len(policy), policy_arns)
    return policy


@dataclass(frozen=True, slots=True)
class Layers:
    """Two policies for one session: of a parent whose keys nobody is given, and of the keys scoped from it.

    Both hold every deny, for how AWS combines them is its business. Only the scoped one denies its holder to scope
    further. `parent_is_narrowed` is False where the narrowing stands in the scoped layer alone.
    """

    parent: str
    scoped: str
    policy_arns: tuple[str, ...]
    parent_is_narrowed: bool


def layers(
    *,
    cut_off: datetime,
    role_arn: str,
    statements: Sequence[Mapping[str, Any]] = (),
    policy_arns: Sequence[str] = (),
    lifted: Collection[str] = (),
    not_through_mcp: bool = False,
) -> Layers | None:
    """As `session_policy`, for a session to be scoped; None where this narrowing leaves no way to call for it.

    The narrowing stands in the parent where that still may make the call, else in the scoped layer: which takes no
    managed policies.
    """
    narrowed = narrowing.check(statements, policy_arns)
    narrowing.check_policies_fit_role(policy_arns, role_arn)
    denies = partial(_denies, cut_off, role_arn, lifted, not_through_mcp=not_through_mcp)
    open_scoped = _document(denies(), [narrowing.EVERYTHING])
    open_parent = _document(denies(may_be_scoped=True), [narrowing.EVERYTHING])
    if not (statements or policy_arns):
        return Layers(open_parent, open_scoped, (), parent_is_narrowed=True)
    parent = _document(denies(narrowed, policy_arns, may_be_scoped=True), [*narrowed, _MAY_BE_SCOPED])
    fits = len(parent) + sum(map(len, policy_arns)) <= narrowing.LONGEST_POLICY
    if fits and not any(_denies_scoping(statement) for statement in narrowed):
        return Layers(parent, open_scoped, tuple(policy_arns), parent_is_narrowed=True)
    scoped = _document(denies(narrowed), narrowed)
    if policy_arns or len(scoped) > narrowing.LONGEST_POLICY:
        return None
    return Layers(open_parent, scoped, (), parent_is_narrowed=False)


def session_seconds(seconds_left: float, *, ceiling: int, role_max: int, chained: bool) -> int:
    """DurationSeconds for a pass: the time left, held between STS's minimum and the most we may ask for.

    What STS issues too long is ended by the session policy. Raises ValueError once the pass is over.
    """
    if seconds_left <= 0:
        raise ValueError("The pass is over.")
    longest = min(ceiling, role_max, CHAINED_SESSION_SECONDS) if chained else min(ceiling, role_max)
    return max(MIN_SESSION_SECONDS, min(math.ceil(seconds_left), longest))


# Patterns throughout, so that calls AWS adds of the same kind are denied too, and short ones: what they take is
# missing where an entitlement narrows. Those of credentials that outlive the pass stand in `domain/outliving.py`.

# No entitlement lifts that for whoever holds the keys.
_KEYS_OF_THE_SAME_SESSION = outliving.KEYS_OF_THE_SAME_SESSION.patterns
_SCOPING = "sts:GetScopedCredentials"
# Whether AWS asks for it is documented nowhere. It gives nobody more: the parent's keys are given to nobody.
_MAY_BE_SCOPED = {"Effect": "Allow", "Action": _SCOPING, "Resource": "*"}

# Whatever could remove a revocation from the session's own role, or open the role to someone else: all that puts,
# deletes, detaches or attaches; and of IAM's own calls only UpdateAssumeRolePolicy says "Assume" (but PassRole "ass").
_EDITS_OF_ITS_ROLE = ["iam:Put*", "iam:De*", "iam:At*", "iam:*Assu*"]


def _denies(
    cut_off: datetime,
    role_arn: str,
    lifted: Collection[str],
    narrowed: Sequence[Mapping[str, Any]] = (),
    policy_arns: Sequence[str] = (),
    *,
    may_be_scoped: bool = False,
    not_through_mcp: bool = False,
) -> list[dict[str, Any]]:
    if cut_off.tzinfo is None:
        raise ValueError("the cut-off must be an aware time")
    if not arns.ROLE_ARN.fullmatch(role_arn):
        raise ValueError(f"This is not the ARN of a role: {role_arn}")
    if unknown := set(lifted) - set(LIFTABLE):
        raise ValueError(f"No deny that can be lifted has this name: {', '.join(sorted(unknown))}")
    end = cut_off.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    denied = [narrowing.NOT_THROUGH_MCP] if not_through_mcp else []
    bought = outliving.denied(lifted, role_arn, [*denied, *narrowed], policy_arns)
    if not may_be_scoped:
        bought = [*_KEYS_OF_THE_SAME_SESSION, *bought]
    return [
        _deny("*") | {"Condition": {"DateGreaterThanEquals": {"aws:CurrentTime": end}}},
        _deny(_EDITS_OF_ITS_ROLE, role_arn),
        _deny(bought),
        *denied,
    ]


def _document(denies: Sequence[Mapping[str, Any]], allowed: Sequence[Mapping[str, Any]]) -> str:
    return narrowing.compact({"Version": "2012-10-17", "Statement": [*denies, *allowed]})


def _denies_scoping(statement: Mapping[str, Any]) -> bool:
    """Perhaps only under a condition, or on something: AWS would say so in the night."""
    if statement["Effect"] != "Deny":
        return False
    named = "Action" in statement
    actions = statement["Action" if named else "NotAction"]
    patterns = [actions] if isinstance(actions, str) else actions
    return any(fnmatchcase(_SCOPING.lower(), pattern.lower()) for pattern in patterns) is named


def _deny(action: str | list[str], resource: str = "*") -> dict[str, Any]:
    return {"Effect": "Deny", "Action": action, "Resource": resource}
