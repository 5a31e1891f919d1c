"""What an entitlement may say to narrow its sessions: the admin asks when it is written, the worker when it is used."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from requests_app.domain.arns import POLICY_ARN, ROLE_ARN

LONGEST_POLICY = 2048  # characters AWS takes, managed policies' ARNs included
MOST_POLICY_ARNS = 10
# What Daypass's own denies take of that, the role's ARN apart. A test holds it to what the worker writes.
OWN_DENIES = 431

# What a session may do that nothing narrows: all that its role may.
EVERYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}

# AWS's MCP server, by which AI agents call AWS, marks what it passes on. Agents that call AWS themselves do not.
NOT_THROUGH_MCP = {
    "Effect": "Deny",
    "Action": "*",
    "Resource": "*",
    "Condition": {"Bool": {"aws:ViaAWSMCPService": "true"}},
}

ACTION = re.compile(r"\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+|\*:\*", re.ASCII)
_PARTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}


def check(statements: Sequence[Mapping[str, Any]], policy_arns: Sequence[str]) -> list[dict[str, Any]]:
    """The statements without their Sids: ours have none, and two of one name would be refused.

    Raises ValueError, with a sentence for the person who edits the entitlement, on what AWS would
    refuse or what would not narrow.
    """
    checked = [_check_statement(statement) for statement in statements]
    if checked and not policy_arns and all(statement["Effect"] == "Deny" for statement in checked):
        raise ValueError("The narrowing only denies, so nothing would be allowed: add a statement that allows.")
    check_policy_arns(policy_arns)
    return checked


def check_effect(statements: Sequence[Mapping[str, Any]], policy_arns: Sequence[str]) -> None:
    """For checked statements: raises ValueError, with a sentence for the author, where they would do nothing.

    Only what is certain: what an Allow has in common with the role is known to AWS alone.
    """
    for action in (action for statement in statements for action in _texts(statement, "Action")):
        if not ACTION.fullmatch(action):
            raise ValueError(f"AWS has no action of this form: {action[:100]}. Write the service first: s3:GetObject.")
    if any(statement["Effect"] == "Deny" and _is_about_everything(statement) for statement in statements):
        raise ValueError("One statement denies everything, so nothing would be allowed: deny less, or take it out.")
    denies = any(statement["Effect"] == "Deny" for statement in statements)
    if not denies and any(
        statement["Effect"] == "Allow" and _is_about_everything(statement) for statement in statements
    ):
        raise ValueError("One statement allows everything, so nothing is narrowed: allow less, or take it out.")


def check_policy_arns(policy_arns: Sequence[str]) -> None:
    if len(policy_arns) > MOST_POLICY_ARNS:
        raise ValueError(f"AWS takes at most {MOST_POLICY_ARNS} managed policies for one session.")
    for arn in policy_arns:
        if not isinstance(arn, str) or not POLICY_ARN.fullmatch(arn):
            raise ValueError(f"This is not the ARN of a managed policy: {arn}")


def check_policies_fit_role(policy_arns: Sequence[str], role_arn: str) -> None:
    """A session can carry its own account's managed policies and AWS's own, nobody else's."""
    role = ROLE_ARN.fullmatch(role_arn)
    for arn in policy_arns:
        policy = POLICY_ARN.fullmatch(arn)
        if role and policy and not _same_account(policy, role):
            raise ValueError(f"A managed policy must be in the role's own account or AWS's own: {arn}")


def check_length(policy_length: int, policy_arns: Sequence[str]) -> None:
    if (length := policy_length + sum(map(len, policy_arns))) > LONGEST_POLICY:
        raise ValueError(
            f"The narrowing is too long: with Daypass's own denies it comes to {length:,} characters, "
            f"and AWS takes {LONGEST_POLICY:,}."
        )


def length_with(statements: Sequence[Mapping[str, Any]], role_arn: str) -> int:
    """How long the session policy for this role gets at most: no deny lifted."""
    return OWN_DENIES + len(role_arn) + sum(len(compact(statement)) + 1 for statement in statements)


def problem(statements: Sequence[Mapping[str, Any]], policy_arns: Sequence[str], role_arn: str) -> str:
    """Why nothing could be issued with this narrowing for the role, as a sentence; empty where it would."""
    try:
        if not ROLE_ARN.fullmatch(role_arn):
            raise ValueError(f"This role's ARN cannot stand in a session's policy: {role_arn}")
        if statements or policy_arns:
            check_policies_fit_role(policy_arns, role_arn)
            check_length(length_with(statements, role_arn), policy_arns)
    except ValueError as wrong:
        return str(wrong)
    return ""


def compact(document: Any) -> str:
    """JSON as it is sent: plain ASCII, no blanks."""
    return json.dumps(document, separators=(",", ":"))


def _check_statement(statement: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(statement, Mapping) or statement.get("Effect") not in ("Allow", "Deny"):
        raise ValueError("Each narrowing statement must be an object whose Effect is Allow or Deny.")
    if unknown := statement.keys() - _PARTS:
        raise ValueError(f"A narrowing statement may not have: {', '.join(sorted(unknown))}.")
    for part in ("Action", "Resource"):
        if (part in statement) == (f"Not{part}" in statement):
            raise ValueError(f"Each narrowing statement needs either {part} or Not{part}.")
        if not _is_text_or_texts(statement.get(part, statement.get(f"Not{part}"))):
            raise ValueError(f"{part} and Not{part} of a narrowing statement take a text or a list of texts.")
    if not isinstance(statement.get("Condition", {}), Mapping):
        raise ValueError("The Condition of a narrowing statement must be an object.")
    return {part: value for part, value in statement.items() if part != "Sid"}


def _texts(statement: Mapping[str, Any], part: str) -> list[str]:
    value = statement.get(part, statement.get(f"Not{part}"))
    return value if isinstance(value, list) else [value]


def _is_about_everything(statement: Mapping[str, Any]) -> bool:
    actions, resources = statement.get("Action", []), statement.get("Resource", [])
    all_actions = {"*", "*:*"} & set([actions] if isinstance(actions, str) else actions)
    all_resources = "*" in ([resources] if isinstance(resources, str) else resources)
    return bool(all_actions) and all_resources and not statement.get("Condition")


def _is_text_or_texts(value: object) -> bool:
    texts = value if isinstance(value, list) else [value]
    return bool(texts) and all(isinstance(text, str) and text for text in texts)


def _same_account(policy: re.Match[str], role: re.Match[str]) -> bool:
    return policy["partition"] == role["partition"] and policy["account"] in ("aws", role["account"])
