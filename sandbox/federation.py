"""A stand-in for the sign-in service's federation endpoint, which no emulator has.

`getSigninToken` checks the keys with GetCallerIdentity at the stand-in for AWS. `login` shows a small
page instead of the console. Nothing it is given appears in its log.
"""

import html
import json
import re
import secrets
import socket
import sys
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sandbox.child import Child, answers, listen

TOKEN_LIFE = timedelta(minutes=15)
LARGEST_BODY = 64 * 1024
# How the stand-in for AWS tells us what the real sign-in service knows (set by sandbox.aws_rules).
CHAINED_HEADER = "x-sandbox-chained"
# The action that is denied to these keys where console authorization is on.
REFUSED_HEADER = "x-sandbox-console-refused"
# AWS's own words for anything it does not like about the keys.
BAD_KEYS = "Invalid Credentials Parameter. The request sent by the client was syntactically incorrect."


class Federation:
    """The endpoint as a process of its own on the loopback. A context manager."""

    def __init__(self, aws_url: str, *, log: Path, port: int = 0, token_life: timedelta = TOKEN_LIFE) -> None:
        self._aws_url = aws_url
        self._log = log
        self._preferred_port = port
        self._token_life = token_life
        self.process: Child | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """What FEDERATION_URL is set to."""
        return f"http://127.0.0.1:{self.port}/federation"

    def start(self) -> None:
        with listen(self.port or self._preferred_port) as listener:
            self.port = listener.getsockname()[1]
            seconds = str(self._token_life.total_seconds())
            self.process = Child(
                name="federation",
                command=[
                    *(sys.executable, "-m", "sandbox.federation"),
                    *(str(listener.fileno()), self._aws_url, seconds),
                ],
                log=self._log,
                folder=Path(__file__).resolve().parent.parent,
                pass_fds=[listener.fileno()],
            )
            self.process.start()
        self.process.wait_until(lambda: answers(self.port), seconds=20)

    def stop(self) -> None:
        if self.process:
            self.process.stop()

    def alive(self) -> bool:
        return self.process is not None and self.process.alive()


@dataclass(frozen=True)
class SignIn:
    """Who a sign-in token stands for."""

    account: str
    arn: str
    valid_until: datetime
    chained: bool
    refused: str = ""

    @property
    def role(self) -> str:
        return self.arn.split("/")[1] if "/" in self.arn else self.arn

    @property
    def session(self) -> str:
        return self.arn.rsplit("/", 1)[-1]


class Refused(Exception):
    """An answer with status 400 and this text."""


class Desk:
    """Gives out sign-in tokens and takes them back. Safe to use from several threads."""

    def __init__(self, aws_url: str, token_life: timedelta) -> None:
        self._aws_url = aws_url
        self._token_life = token_life
        self._tokens: dict[str, SignIn] = {}
        self._lock = threading.Lock()

    def token(self, parameters: Mapping[str, str], *, by_form: bool) -> str:
        keys = _keys(parameters.get("Session", ""))
        sign_in = self._who(keys, by_form=by_form)
        _check_session_duration(parameters.get("SessionDuration"), sign_in)
        token = secrets.token_urlsafe(96)
        with self._lock:
            self._tokens[token] = sign_in
        return token

    def sign_in(self, token: str) -> SignIn:
        with self._lock:
            sign_in = self._tokens.get(token)
        if sign_in is None or sign_in.valid_until <= datetime.now(UTC):
            raise Refused("The sign-in token is unknown or has expired. It is good for 15 minutes.")
        if sign_in.refused:  # looked at after the sign-in, when there has long been a token
            raise Refused(f"Console authorization: {sign_in.arn} is not authorized to perform {sign_in.refused}")
        return sign_in

    def _who(self, keys: Mapping[str, str], *, by_form: bool) -> SignIn:
        session = boto3.session.Session(
            keys["sessionId"], keys["sessionKey"], keys["sessionToken"], region_name="us-east-1"
        )
        config = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 1})
        try:
            identity = session.client("sts", endpoint_url=self._aws_url, config=config).get_caller_identity()
        except (BotoCoreError, ClientError, ValueError):
            raise Refused(BAD_KEYS) from None
        arn = identity["Arn"]
        valid_until = datetime.now(UTC) + self._token_life
        headers = identity["ResponseMetadata"]["HTTPHeaders"]
        if "x-sandbox-not-taken" in headers or (by_form and "x-sandbox-no-form" in headers):
            raise Refused(BAD_KEYS)
        return SignIn(identity["Account"], arn, valid_until, CHAINED_HEADER in headers, headers.get(REFUSED_HEADER, ""))


class Desktop(BaseHTTPRequestHandler):
    """The two actions, by GET and by POST, as AWS serves them."""

    desk: ClassVar[Desk]
    server_version = "federation"
    sys_version = ""
    timeout = 20

    def do_GET(self) -> None:
        self._serve(urllib.parse.urlsplit(self.path).query)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LARGEST_BODY:
            self._answer(400, "text/plain", "The request body is missing or too large.")
            return
        self._serve(self.rfile.read(int(length)).decode(errors="replace"))

    def log_message(self, form: str, *values: Any) -> None:
        """Say nothing: the request line carries a token or keys when the caller used GET."""

    def _serve(self, form: str) -> None:
        parameters = dict(urllib.parse.parse_qsl(form))
        action = parameters.get("Action", "")
        try:
            if urllib.parse.urlsplit(self.path).path != "/federation":
                self._answer(404, "text/plain", "Not found")
            elif action == "getSigninToken":
                answer = json.dumps({"SigninToken": self.desk.token(parameters, by_form=self.command == "POST")})
                self._answer(200, "application/json", answer)
            elif action == "login":
                sign_in = self.desk.sign_in(parameters.get("SigninToken", ""))
                self._answer(200, "text/html", _page(sign_in, parameters))
            else:
                raise Refused("Unknown Action.")
        except Refused as refused:
            self._answer(400, "text/html", f"400: {html.escape(str(refused))}\n")
        shown = action if action in ("getSigninToken", "login") else "?"
        print(f"{self.command} {shown} {getattr(self, '_status', '-')}", flush=True)

    def _answer(self, status: int, kind: str, text: str) -> None:
        self._status = status
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        self.end_headers()
        self.wfile.write(body)


def _keys(text: str) -> dict[str, str]:
    try:
        keys = json.loads(text)
        return {name: str(keys[name]) for name in ("sessionId", "sessionKey", "sessionToken")}
    except (ValueError, KeyError, TypeError):
        raise Refused(BAD_KEYS) from None


def _check_session_duration(text: str | None, sign_in: SignIn) -> None:
    if text is None:
        return
    if sign_in.chained:
        raise Refused(BAD_KEYS)
    if not re.fullmatch(r"\d{1,6}", text, re.ASCII) or not 900 <= int(text) <= 43_200:
        raise Refused("SessionDuration must be between 900 and 43200.")


def _page(sign_in: SignIn, parameters: Mapping[str, str]) -> str:
    facts = {
        "Account": sign_in.account,
        "Role": sign_in.role,
        "Session": sign_in.session,
        "Identity": sign_in.arn,
        "Destination": parameters.get("Destination", ""),
        "Issuer": parameters.get("Issuer", ""),
        "This link works until": sign_in.valid_until.strftime("%Y-%m-%d %H:%M:%S UTC"),
    }
    rows = "\n".join(f"<dt>{name}</dt>\n<dd>{html.escape(value)}</dd>" for name, value in facts.items())
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Console (stand-in): {html.escape(sign_in.role)}</title></head>
<body>
<h1>Signed in to the AWS console (stand-in)</h1>
<p>On AWS the console would open here. This page shows which session it would open with.</p>
<dl>
{rows}
</dl>
</body>
</html>
"""


def serve(socket_number: int, aws_url: str, token_life: timedelta) -> None:
    """Serve on a socket that listens already."""
    Desktop.desk = Desk(aws_url, token_life)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Desktop, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=socket_number)
    server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], timedelta(seconds=float(sys.argv[3])))
