"""MiniStack with the rules of STS that it lacks. Run by `sandbox.aws` as a process of its own.

MiniStack with AUTH=true checks signatures, trust policies, session policies with dates, conditional
denies and expiry. This module adds, to STS and to every later evaluation:

- the session name's pattern, and DurationSeconds between 900 and 43,200
- the role's MaxSessionDuration, and the hour at most for role chaining
- source identity: `sts:SetSourceIdentity` as an action of its own for the caller's policies and the
  trust policy, `sts:SourceIdentity` and `aws:SourceIdentity` as condition keys; sticky along a chain
- 2,048 characters for a session policy and its managed policy ARNs together, ten ARNs at most
- a refusal by the session's own policy says so, where MiniStack blames an identity-based policy
- 10,240 characters for a role's inline policies together, white space apart
- IAM calls about a role or a user are judged by its whole ARN, path included
- GetScopedCredentials, which MiniStack does not know: further keys of the caller's session, for as long as it lasts or
  shorter, with the moment of their own issue, each narrowed by one layer more, three at most; what AWS does not
  document is as the file SCOPING_SWITCHES says
- how large a session token is and may be, of which AWS does not publish how it is reckoned: each two characters of
  policies one byte
- `aws:ViaAWSMCPService` is true of what says to come through AWS\'s MCP server, by a header of our own
- AWS Sign-In, in a module of its own (`sandbox.aws_sign_in`)
- live sessions outlast an orderly restart, as they outlast an outage of AWS

It patches private names, so the release is pinned and tests/sandbox/ has a test for each rule.
"""

import asyncio
import contextvars
import dataclasses
import json
import os
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import hypercorn.asyncio
import hypercorn.config
import ministack.app
import ministack.core.iam_actions as actions
import ministack.core.iam_evaluator as evaluator
import ministack.services.iam as iam
import ministack.services.sts as sts

from sandbox import aws_sign_in

Answer = tuple[int, dict[str, str], bytes]

# AWS's own minimum. Tests lower it to watch a session expire.
SHORTEST = int(os.environ.get("STRICT_MIN_DURATION", "900"))
LONGEST = 43_200
CHAINED_LONGEST = 3_600
SCOPED_LONGEST = 129_600
SCOPED_LAYERS = 3
SCOPING = "sts:GetScopedCredentials"
DESCRIPTION = re.compile(r"[\t\n\r\x20-\x7E\xA1-\xFF]{2,256}")
POLICY = re.compile(r"[\t\n\r\x20-\xFF]+")
LARGEST_TOKEN = 4_096
POLICY_CHARACTERS = 2_048
INLINE_CHARACTERS = 10_240
NAME = re.compile(r"[\w+=,.@-]*", re.ASCII)

# The source identity that the AssumeRole being handled asks for or inherits.
_asked: contextvars.ContextVar[str | None] = contextvars.ContextVar("source_identity", default=None)
# Whether the request says that AWS's MCP server passed it on: on AWS only that server can.
_via_mcp: contextvars.ContextVar[bool] = contextvars.ContextVar("via_mcp", default=False)
VIA_MCP = b"x-sandbox-via-aws-mcp"
NO_FORM_HEADER = "x-sandbox-no-form"
# Whether the evaluation being answered was decided by an explicit deny of the session's own policy alone.
_denied_by_session: contextvars.ContextVar[bool] = contextvars.ContextVar("denied_by_session", default=False)

_resolve_condition_key = evaluator._resolve_condition_key
_principal_keys = evaluator._principal_keys
_evaluate_trust_policy = evaluator.evaluate_trust_policy
_evaluate = evaluator.evaluate
_session_policy_limits = evaluator._session_policy_limits
_access_denied_response = actions.access_denied_response
_extract_resource_arn = actions.extract_resource_arn
_put_role_policy = iam._put_role_policy
_handle_request = sts.handle_request
_reset = sts.reset


def switches() -> dict[str, Any]:
    """What nobody knows of AWS, or differs from place to place: whether a role must allow the call, whether it is known
    here, the roles of which a service control policy denies it ("*": all), and whether the console takes such keys.

    How large a token may be (`largest`: less where a caller's own identity passes session tags on). Whose
    `aws:TokenIssueTime` such keys have (`issued`: their "own", or their "parent"'s); which policies they meet
    (`layers`: "all", "scoped" or "session" alone); how many seconds after their end they die (`lingers`); and whether
    the sign-in endpoint takes a `form`.
    """
    path = os.environ.get("SCOPING_SWITCHES", "")
    said = json.loads(Path(path).read_text()) if path and Path(path).exists() else {}
    usual = {"needs_allow": True, "known": True, "refused": [], "console": True, "largest": LARGEST_TOKEN}
    return {**usual, "issued": "own", "layers": "all", "lingers": 0, "form": True, **said}


class SessionPolicies(list):
    """The layer of an evaluation that the session brought along."""


class Refused(Exception):
    """An answer of STS that ends the request."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        self.answer: Answer = iam._error(status, code, escape(message), ns="sts")


def install() -> None:
    """Put the rules into MiniStack's modules."""
    evaluator._resolve_condition_key = _resolve_with_source_identity
    evaluator._principal_keys = sts._principal_keys = _keys_with_source_identity
    evaluator.evaluate_trust_policy = _trust_with_source_identity
    evaluator.evaluate = _evaluate_and_note
    evaluator._session_policy_limits = _marked_session_policies
    actions.access_denied_response = _denied_by_the_right_policy
    iam._IAM_HANDLERS["PutRolePolicy"] = _put_role_policy_if_it_fits
    actions.extract_resource_arn = _resource_arn_with_path
    sts.handle_request = handle_request
    aws_sign_in.install()
    sts.get_state = lambda: {"sessions": sts._sessions, "sign_in": aws_sign_in.state()}
    sts.load_persisted_state = _load
    sts.reset = _forget


def _forget() -> None:
    _reset()
    aws_sign_in.forget()


def _load(state: dict[str, Any]) -> None:
    sts._sessions.update(state.get("sessions", {}))
    aws_sign_in.load(state.get("sign_in", {}))


async def handle_request(method: str, path: str, headers: Any, body: bytes, query: Any) -> Answer:
    """STS, with AssumeRole's rules in front of it, and GetScopedCredentials beside it."""
    parameters = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
    caller = sts._sessions.get(sts.extract_access_key_id(headers, query) or "") or {}
    if parameters.get("Action") == "GetScopedCredentials":
        # Whether the caller may is settled before any service is asked.
        try:
            return _scoped_credentials(parameters, caller, str(headers.get("host", "")))
        except Refused as refused:
            return refused.answer
    if parameters.get("Action") != "AssumeRole":
        status, headers_out, text = await _handle_request(method, path, headers, body, query)
        key, region = sts.extract_access_key_id(headers, query), ministack.app.extract_region(headers, query)
        console = aws_sign_in.console_header(key, region) if caller else {}
        return status, headers_out | _chained_header(caller) | console, text
    try:
        _check_name("roleSessionName", parameters.get("RoleSessionName", ""))
        _check_duration(parameters, caller)
        _check_policy_size(parameters)
        source_identity = _source_identity(parameters, caller)
        if source_identity and "SourceIdentity" in parameters:
            _check_caller_may_set_it(parameters["RoleArn"], headers, query)
    except Refused as refused:
        return refused.answer
    token = _asked.set(source_identity)
    try:
        status, headers_out, text = await _handle_request(method, path, headers, body, query)
    except Refused as refused:
        return refused.answer
    finally:
        _asked.reset(token)
    return status, headers_out, _completed(text, parameters, source_identity) if status == 200 else text


def _scoped_credentials(parameters: dict[str, str], caller: dict[str, Any], host: str) -> Answer:
    said = switches()
    if not said["known"] or host.partition(":")[0] == "sts.amazonaws.com":
        raise Refused("InvalidAction", "Could not find operation GetScopedCredentials for version 2011-06-15")
    if not caller:
        raise Refused("AccessDenied", "Cannot call GetScopedCredentials with credentials that are not temporary", 403)
    arn = str(caller.get("Arn", ""))
    if "*" in said["refused"] or (arn.count("/") and arn.split("/")[1] in said["refused"]):
        why = "with an explicit deny in a service control policy"
        raise Refused("AccessDenied", f"User: {arn} is not authorized to perform: {SCOPING} {why}", 403)
    layers = _layers(parameters, caller)
    description = parameters.get("ScopedSessionDescription")
    if description is not None and not DESCRIPTION.fullmatch(description):
        rule = "Member must have length between 2 and 256, of characters that AWS takes"
        raise _constraint("scopedSessionDescription", description, rule)
    now, ends = time.time(), float(caller["Expiration"])
    if text := parameters.get("DurationSeconds"):
        seconds = int(text) if text.isascii() and text.isdigit() else 0
        if not 1 <= seconds <= SCOPED_LONGEST:
            raise _constraint("durationSeconds", text, f"Member must have value between 1 and {SCOPED_LONGEST}")
        if now + seconds > ends:
            message = "The requested DurationSeconds exceeds the remaining lifetime of the calling session."
            raise Refused("InsufficientSessionLifetime", message)
        # In whole seconds, as the answer says it.
        ends = int(now) + seconds
    key, secret = iam._gen_session_access_key(), iam._gen_secret()
    token = _token(parameters, caller, layers)
    issued = now if said["issued"] == "own" else caller["IssuedAt"]
    until = ends + said["lingers"]
    given = {"SecretAccessKey": secret, "SessionToken": token, "Expiration": until, "IssuedAt": issued}
    session = caller | given | {"ScopedPolicies": layers, "Description": description}
    sts.register_session(key, session)
    expiration = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name, person = str(caller.get("UserId", "")), str(caller.get("SourceIdentity") or "")
    identity = f"<SourceIdentity>{escape(person)}</SourceIdentity>" if person else ""
    answer: Answer = iam._xml(
        200,
        "GetScopedCredentialsResponse",
        f"<GetScopedCredentialsResult><Credentials><AccessKeyId>{key}</AccessKeyId>"
        f"<SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>"
        f"<Expiration>{expiration}</Expiration></Credentials>"
        f"<SessionInfo><ScopedSessionId>{escape(name)}</ScopedSessionId><Arn>{escape(arn)}</Arn></SessionInfo>"
        f"<ScopedPoliciesCount>{len(layers)}</ScopedPoliciesCount>{identity}{_told_size(len(token))}"
        f"</GetScopedCredentialsResult>",
        ns="sts",
    )
    return answer


def _layers(parameters: dict[str, str], caller: dict[str, Any]) -> list[str]:
    """The scope-down policies of the session that is asked for, its caller's first."""
    layers: list[str] = list(caller.get("ScopedPolicies", []))
    document = parameters.get("Policy")
    if document is None:
        if "DurationSeconds" not in parameters:
            raise Refused("ValidationError", "At least one of Policy and DurationSeconds is required")
        return layers
    if not document or len(document) > POLICY_CHARACTERS:
        raise _constraint("policy", "", f"Member must have length between 1 and {POLICY_CHARACTERS}")
    if not POLICY.fullmatch(document):
        raise _constraint(
            "policy", "", "Member must satisfy regular expression pattern: [\\u0009\\u000A\\u000D\\u0020-\\u00FF]+"
        )
    try:
        statements = json.loads(document)["Statement"]
        assert isinstance(statements, dict | list)
    except (ValueError, KeyError, TypeError, AssertionError):
        raise Refused("MalformedPolicyDocument", "The policy is not in the valid JSON format.") from None
    if len(layers) >= SCOPED_LAYERS:
        raise Refused("AccessDenied", f"A session has at most {SCOPED_LAYERS} scope down policies.", 403)
    return [*layers, document]


def _token(parameters: dict[str, str], caller: dict[str, Any], layers: list[str]) -> str:
    """One as large as it is with these policies, or as large as it is asked to be."""
    text = parameters.get("MinimumSessionTokenSize", "0")
    least = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= least <= LARGEST_TOKEN:
        raise _constraint("minimumSessionTokenSize", text, f"Member must have value between 0 and {LARGEST_TOKEN}")
    token = str(iam._gen_session_token())
    size = _token_size(token, caller | {"ScopedPolicies": layers})
    if size > (largest := switches()["largest"]):
        message = f"The session token size of {size} bytes exceeds the maximum allowed size of {largest} bytes."
        raise Refused("PackedPolicyTooLarge", message)
    return token.ljust(max(size, least), "0")


def _token_size(token: str, session: dict[str, Any]) -> int:
    passed = session.get("SessionPolicies") or {}
    characters = len(passed.get("Policy") or "") + sum(map(len, session.get("ScopedPolicies", [])))
    return len(token) + characters // 2


def _told_size(size: int) -> str:
    share = -(-size * 100 // LARGEST_TOKEN)
    return f"<SessionTokenUtilization>{share}</SessionTokenUtilization><SessionTokenSize>{size}</SessionTokenSize>"


def _chained_header(caller: dict[str, Any]) -> dict[str, str]:
    """For sandbox.federation: the real sign-in service knows which sessions a role made, and which are scoped."""
    chained = {"x-sandbox-chained": "true"} if ":assumed-role/" in caller.get("SourcePrincipalArn", "") else {}
    said = switches()
    taken = {} if said["console"] or "ScopedPolicies" not in caller else {"x-sandbox-not-taken": "true"}
    return chained | taken | ({} if said["form"] else {NO_FORM_HEADER: "true"})


def _check_name(field: str, name: str) -> None:
    if len(name) < 2:
        raise _constraint(field, name, "Member must have length greater than or equal to 2")
    if len(name) > 64:
        raise _constraint(field, name, "Member must have length less than or equal to 64")
    if not NAME.fullmatch(name):
        raise _constraint(field, name, "Member must satisfy regular expression pattern: [\\w+=,.@-]*")


def _check_duration(parameters: dict[str, str], caller: dict[str, Any]) -> None:
    text = parameters.get("DurationSeconds", "3600")
    seconds = int(text) if text.isascii() and text.isdigit() else -1
    if seconds < SHORTEST:
        raise _constraint("durationSeconds", text, f"Member must have value greater than or equal to {SHORTEST}")
    if seconds > LONGEST:
        raise _constraint("durationSeconds", text, f"Member must have value less than or equal to {LONGEST}")
    if caller.get("PrincipalType") == "AssumedRole" and seconds > CHAINED_LONGEST:
        raise Refused(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        )
    role = _role(parameters.get("RoleArn", ""))
    if role and seconds > int(role.get("MaxSessionDuration", 3600)):
        raise Refused(
            "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        )


def _check_policy_size(parameters: dict[str, str]) -> None:
    arns = _policy_arns(parameters)
    if len(arns) > 10:
        raise _constraint("policyArns", "", "Member must have length less than or equal to 10")
    if _characters(parameters) > POLICY_CHARACTERS:
        percent = _packed_percent(parameters)
        raise Refused("PackedPolicyTooLarge", f"Packed size of session policies consumes {percent}% of allotted space.")


def _source_identity(parameters: dict[str, str], caller: dict[str, Any]) -> str | None:
    inherited: str | None = caller.get("SourceIdentity")
    asked = parameters.get("SourceIdentity")
    if asked is None:
        return inherited
    _check_name("sourceIdentity", asked)
    if asked.lower().startswith("aws:"):
        raise _constraint("sourceIdentity", asked, "Member must not begin with aws:")
    if inherited and asked != inherited:
        # What exactly AWS answers here is not documented; that it cannot be changed, is.
        raise _not_authorized(caller.get("Arn", ""), parameters.get("RoleArn", ""))
    return asked


def _check_caller_may_set_it(role_arn: str, headers: Any, query: Any) -> None:
    """Across accounts SetSourceIdentity must be allowed on both sides; this is the caller's."""
    region = ministack.app.extract_region(headers, query)
    key = sts.extract_access_key_id(headers, query)
    denied = evaluator.enforce(key, "sts:SetSourceIdentity", "sts", region, resource_arn=role_arn)
    if isinstance(denied, evaluator.EvalResult):
        raise _not_authorized(denied.principal_arn, role_arn)


def _resolve_with_source_identity(key: str, context: Any) -> Any:
    if key.lower() == "sts:sourceidentity":
        return _asked.get()
    if key.lower() == "aws:viaawsmcpservice":
        return "true" if _via_mcp.get() else "false"
    return _resolve_condition_key(key, context)


def _keys_with_source_identity(credential: Any) -> dict[str, Any]:
    keys = dict(_principal_keys(credential))
    session = sts._sessions.get(credential.access_key_id) or {}
    if session.get("SourceIdentity"):
        keys["aws:sourceidentity"] = session["SourceIdentity"]
    return keys


def _trust_with_source_identity(document: Any, caller_arn: str, context: Any = None) -> bool:
    allowed: bool = _evaluate_trust_policy(document, caller_arn, context)
    if not (allowed and _asked.get() and context and context.action == "sts:AssumeRole"):
        return allowed
    second = dataclasses.replace(
        context,
        action="sts:SetSourceIdentity",
        # ExternalId and session name are keys of AssumeRole; as keys of this action AWS lists neither.
        service_context={},
    )
    if _evaluate_trust_policy(document, caller_arn, second):
        return True
    raise _not_authorized(caller_arn, context.resource_arn)


def _marked_session_policies(*arguments: Any) -> list[Any]:
    session = arguments[0]
    layers, scoped = [*_session_policy_limits(*arguments)], session.get("ScopedPolicies", [])
    if scoped and (alone := switches()["layers"]) != "all":
        layers, scoped = (layers, []) if alone == "session" else ([], scoped)
    layers += [[evaluator.parse_policy_document(document)] for document in scoped]
    return [SessionPolicies(layer) for layer in layers]


def _evaluate_and_note(context: Any, policies: Any, *limits: Any) -> Any:
    result = _evaluate(context, policies, *limits)
    others = [layer for layer in limits if not isinstance(layer, SessionPolicies)]
    if context.action == SCOPING and result.decision == "ImplicitDeny" and not switches()["needs_allow"]:
        result.decision = "Allow"
    denied = result.decision == "Deny"
    _denied_by_session.set(denied and _evaluate(context, policies, *others).decision != "Deny")
    return result


def _denied_by_the_right_policy(*arguments: Any, **options: Any) -> Any:
    status, headers, text = _access_denied_response(*arguments, **options)
    if _denied_by_session.get() and "cbor" not in str(headers):  # CBOR counts the letters
        text = text.replace(b"explicit deny in an identity-based policy", b"explicit deny in a session policy")
    return status, headers, text


def _put_role_policy_if_it_fits(parameters: Any) -> Any:
    name = iam._p(parameters, "RoleName")
    role = iam._roles.get(name)
    policies = dict(role["InlinePolicies"]) if role else {}
    policies[iam._p(parameters, "PolicyName")] = iam._p(parameters, "PolicyDocument") or ""
    if sum(len(re.sub(r"\s", "", str(document))) for document in policies.values()) > INLINE_CHARACTERS:
        message = f"Maximum policy size of {INLINE_CHARACTERS} bytes exceeded for role {name}"
        return iam._error(409, "LimitExceeded", message, ns="iam")
    return _put_role_policy(parameters)


def _resource_arn_with_path(service: str, *rest: Any) -> str:
    arn: str = _extract_resource_arn(service, *rest)
    for kind, entities in ((":role/", iam._roles), (":user/", iam._users)):
        if service == "iam" and kind in arn:
            entity = entities.get_scoped(arn.split(":")[4], None, arn.rsplit("/", 1)[-1])
            if entity:
                return str(entity["Arn"])
            path = rest[4].get("Path")  # of what is about to be made
            return arn.replace("/", path if isinstance(path, str) else path[0], 1) if path else arn
    return arn


def _completed(text: Any, parameters: dict[str, str], source_identity: str | None) -> bytes:
    """The answer with the source identity and the packed size that MiniStack leaves out."""
    answer: str = text if isinstance(text, str) else text.decode()
    answer = answer.replace("<PackedPolicySize>0<", f"<PackedPolicySize>{_packed_percent(parameters)}<", 1)
    found = re.search(r"<AccessKeyId>(\w+)<", answer)
    assert found
    session = sts._sessions[found[1]]
    size = _told_size(_token_size(session["SessionToken"], session))
    answer = answer.replace("</AssumeRoleResult>", f"{size}</AssumeRoleResult>", 1)
    if source_identity:
        session["SourceIdentity"] = source_identity
        added = f"</Credentials><SourceIdentity>{escape(source_identity)}</SourceIdentity>"
        answer = answer.replace("</Credentials>", added, 1)
    return answer.encode()


def _policy_arns(parameters: dict[str, str]) -> list[str]:
    return [value for name, value in parameters.items() if re.fullmatch(r"PolicyArns\.member\.\d+\.arn", name)]


def _characters(parameters: dict[str, str]) -> int:
    return len(parameters.get("Policy", "")) + sum(len(arn) for arn in _policy_arns(parameters))


def _packed_percent(parameters: dict[str, str]) -> int:
    # AWS packs into a format it does not publish; the share of the plain limit at least grows alike.
    return -(-_characters(parameters) * 100 // POLICY_CHARACTERS)


def _role(arn: str) -> dict[str, Any] | None:
    parts = arn.split(":")
    if len(parts) < 6:
        return None
    role: dict[str, Any] | None = iam._roles.get_scoped(parts[4], None, arn.rsplit("/", 1)[-1])
    return role


def _constraint(field: str, value: str, rule: str) -> Refused:
    found = f"Value '{value}' at '{field}' failed to satisfy constraint: {rule}"
    return Refused("ValidationError", f"1 validation error detected: {found}")


def _not_authorized(caller_arn: str, role_arn: str) -> Refused:
    message = f"User: {caller_arn} is not authorized to perform: sts:SetSourceIdentity on resource: {role_arn}"
    return Refused("AccessDenied", message, status=403)


async def noting_mcp(scope: Any, receive: Any, send: Any) -> None:
    """MiniStack, which knows of no headers by the time it asks the policies."""
    _via_mcp.set(any(name == VIA_MCP for name, _ in scope.get("headers", ())))
    await ministack.app.app(scope, receive, send)


def serve(socket_number: int) -> None:
    """Serve on a socket that listens already, so that no other process can take the port first."""
    config = hypercorn.config.Config()
    config.bind = [f"fd://{socket_number}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    asyncio.run(hypercorn.asyncio.serve(noting_mcp, config))


if __name__ == "__main__":
    install()
    serve(int(sys.argv[1]))
