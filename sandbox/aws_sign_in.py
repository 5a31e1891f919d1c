"""AWS Sign-In's control plane, which MiniStack lacks. Part of `sandbox.aws_rules`.

- console authorization, which an account switches on and off. Where it is on, whoever signs in to the console is asked
  for `signin:AuthorizeOAuth2Access` and `signin:CreateOAuth2Token` too: an explicit deny keeps them out
- sign-in sessions, as `aws login` makes them: of a role, for twelve hours, by whoever may call these two. Whose session
  of the role made it AWS does not say, nor does this
- ListSessions: by owner or of the whole account, by status and moment, a page of 100 at most
- BatchRevokeSessions: one to five, each of the owner that is named; what is not is said one by one
- each of these asks for its permission
"""

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import ministack.app
import ministack.core.iam_actions as actions
import ministack.core.iam_evaluator as evaluator
import ministack.core.responses as responses
import ministack.core.router as router
import ministack.services.sts as sts

Answer = tuple[int, dict[str, str], bytes]

LASTS = 12 * 3600
A_PAGE = 100
MOST_REVOKED = 5
ASKED_AFTER_SIGN_IN = ("signin:AuthorizeOAuth2Access", "signin:CreateOAuth2Token")
# What a browser and `aws login` do between them, in one call of our own.
LOG_IN = "/sandbox/log-in"
_OWNER = re.compile(r"arn:aws:iam::(\d{12}):(\*|root|(?:role|user)/[\w+=,.@-]{1,64})", re.ASCII)

# By account: whether it is on. One that never was is not in it.
_authorization: dict[str, bool] = {}
_sessions: dict[str, dict[str, Any]] = {}

_extract_iam_action = actions.extract_iam_action


class Refused(Exception):
    def __init__(self, status: int, code: str, error: str, message: str) -> None:
        self.answer = _answer({"error": error, "message": message}, status, {"x-amzn-errortype": code})


def install() -> None:
    """Make MiniStack know the service."""
    router.SERVICE_PATTERNS["signin"] = {"credential_scope": "signin"}
    ministack.app.SERVICE_HANDLERS["signin"] = handle_request
    actions.extract_iam_action = _action
    actions._DENIED_CODES["signin"] = "AccessDeniedException"


def forget() -> None:
    _authorization.clear()
    _sessions.clear()


def state() -> dict[str, Any]:
    return {"authorization": _authorization, "sessions": _sessions}


def load(known: Mapping[str, Any]) -> None:
    _authorization.update(known.get("authorization", {}))
    _sessions.update(known.get("sessions", {}))


def console_header(key: str, region: str) -> dict[str, str]:
    """For sandbox.federation: whether these keys are kept out of the console."""
    if not _authorization.get(responses.get_account_id()):
        return {}
    for action in ASKED_AFTER_SIGN_IN:
        denied = evaluator.enforce(key, action, "signin", region)
        if isinstance(denied, evaluator.EvalResult) and denied.decision == "Deny":
            return {"x-sandbox-console-refused": action}
    return {}


async def handle_request(method: str, path: str, headers: Any, body: bytes, query: Any) -> Answer:
    parameters = json.loads(body or b"{}")
    caller = sts._sessions.get(sts.extract_access_key_id(headers, query) or "") or {}
    operation = _OPERATIONS.get(path)
    try:
        if path == LOG_IN:
            return _answer(_log_in(parameters, caller, headers, query))
        if operation is None:
            raise Refused(404, "UnknownOperationException", "INVALID_REQUEST", "No such operation")
        return _answer(operation(parameters, caller))
    except Refused as refused:
        return refused.answer


def _action(service: str, method: str, path: str, *rest: Any) -> str | None:
    if service != "signin":
        action: str | None = _extract_iam_action(service, method, path, *rest)
        return action
    if path == LOG_IN:
        return ASKED_AFTER_SIGN_IN[0]
    return "signin:" + "".join(word.title() for word in path.strip("/").split("-"))


def _log_in(parameters: Mapping[str, Any], caller: Mapping[str, Any], headers: Any, query: Any) -> dict[str, Any]:
    region = ministack.app.extract_region(headers, query)
    key = sts.extract_access_key_id(headers, query)
    if not caller or evaluator.enforce(key, ASKED_AFTER_SIGN_IN[1], "signin", region) is not None:
        message = f"{caller.get('Arn')} is not authorized to perform: {ASKED_AFTER_SIGN_IN[1]}"
        raise Refused(403, "AccessDeniedException", "INSUFFICIENT_PERMISSIONS", message)
    account, owner = responses.get_account_id(), _own(caller)
    arn = f"arn:aws:signin:{region}:{account}:session/{uuid.uuid4()}"
    now = int(time.time())
    kind = str(parameters.get("clientType", "CLI"))
    _sessions[arn] = {
        "sessionArn": arn,
        "principalArn": owner,
        "role": owner,
        "status": "ACTIVE",
        "issuedAt": now,
        "expiresAt": now + LASTS,
        "clientType": kind,
        "clientId": "arn:aws:signin:::devtools/same-device",
    }
    return {"sessionArn": arn}


def _list_sessions(parameters: Mapping[str, Any], caller: Mapping[str, Any]) -> dict[str, Any]:
    owner = _owner(parameters, caller)
    most = int(parameters.get("maxResults", A_PAGE))
    if not 1 <= most <= A_PAGE:
        raise _invalid(f"maxResults must be between 1 and {A_PAGE}")
    wanted = [session for session in _sessions.values() if _belongs(session, owner) and _fits(session, parameters)]
    first = int(parameters.get("nextToken") or 0)
    more = {"nextToken": str(first + most)} if len(wanted) > first + most else {}
    return {"items": wanted[first : first + most], **more}


def _batch_revoke_sessions(parameters: Mapping[str, Any], caller: Mapping[str, Any]) -> dict[str, Any]:
    owner, arns = _owner(parameters, caller), parameters.get("sessionArns") or []
    if not 1 <= len(arns) <= MOST_REVOKED:
        raise _invalid(f"sessionArns must have between 1 and {MOST_REVOKED} members")
    revoked, errors = [], []
    for arn in arns:
        session = _sessions.get(arn)
        if session is None or not _belongs(session, owner):
            errors.append({"sessionArn": arn, "code": "ResourceNotFoundException", "message": "No such session"})
            continue
        session["status"] = "REVOKED"
        revoked.append({"sessionArn": arn})
    return {"revokedSessions": revoked, "errors": errors}


def _get_console_authorization_configuration(parameters: Mapping[str, Any], caller: Any) -> dict[str, Any]:
    account = _target(parameters)
    if account not in _authorization:
        message = "No console authorization configuration was found"
        raise Refused(404, "ResourceNotFoundException", "RESOURCE_NOT_FOUND", message)
    return {"targetId": account, "scope": "ACCOUNT", "consoleAuthorizationEnabled": _authorization[account]}


def _put_console_authorization_configuration(parameters: Mapping[str, Any], caller: Any) -> dict[str, Any]:
    _authorization[_target(parameters)] = True
    return _get_console_authorization_configuration(parameters, caller)


def _delete_console_authorization_configuration(parameters: Mapping[str, Any], caller: Any) -> dict[str, Any]:
    _authorization[_target(parameters)] = False
    return {}


_OPERATIONS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]] = {
    "/list-sessions": _list_sessions,
    "/batch-revoke-sessions": _batch_revoke_sessions,
    "/get-console-authorization-configuration": _get_console_authorization_configuration,
    "/put-console-authorization-configuration": _put_console_authorization_configuration,
    "/delete-console-authorization-configuration": _delete_console_authorization_configuration,
}


def _target(parameters: Mapping[str, Any]) -> str:
    own: str = responses.get_account_id()
    if parameters.get("targetId", own) != own:
        message = "The target is not the caller's account"
        raise Refused(403, "AccessDeniedException", "INSUFFICIENT_PERMISSIONS", message)
    return own


def _own(caller: Mapping[str, Any]) -> str:
    """The caller's role, without its path and without the session's name."""
    return f"arn:aws:iam::{responses.get_account_id()}:role/{str(caller.get('Arn', '')).split('/')[1]}"


def _owner(parameters: Mapping[str, Any], caller: Mapping[str, Any]) -> str:
    owner = parameters.get("principalArn")
    if owner is None:
        return _own(caller)
    if not (known := _OWNER.fullmatch(owner)):
        raise _invalid("principalArn must satisfy the regular expression pattern of an identity without a path")
    if known[1] != responses.get_account_id():
        message = "The identity is not of the caller's account"
        raise Refused(403, "AccessDeniedException", "INSUFFICIENT_PERMISSIONS", message)
    return str(owner)


def _belongs(session: Mapping[str, Any], owner: str) -> bool:
    own = str(session["principalArn"])
    return own.startswith(owner[:-1]) if owner.endswith(":*") else own == owner


def _fits(session: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """What is over is not told of."""
    return (
        session["expiresAt"] > time.time()
        and parameters.get("status", session["status"]) == session["status"]
        and parameters.get("clientId", session["clientId"]) == session["clientId"]
        and parameters.get("issuedAfter", 0) <= session["issuedAt"]
        and session["issuedAt"] < parameters.get("issuedBefore", float("inf"))
    )


def _invalid(message: str) -> Refused:
    return Refused(400, "ValidationException", "INVALID_REQUEST", message)


def _answer(document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(document).encode()
