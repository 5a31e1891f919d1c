"""A proxy between the workers and the stand-in for AWS, or its sign-in endpoint, that breaks what it is told to.

It passes requests on as they came, the Host header too, which is part of what AWS's signatures sign.
"""

import contextlib
import enum
import json
import random
import re
import select
import socket
import struct
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self
from xml.sax.saxutils import escape

from sandbox.federation import BAD_KEYS

FEDERATION = "federation"
SIGN_IN = "signin"


class Fault(enum.StrEnum):
    """What can go wrong. Of those that are not refusals, `did_it` says whether AWS did what it was asked."""

    THROTTLED = "Throttling"
    THROTTLED_BY_JSON = "ThrottlingException"
    REQUEST_LIMIT = "RequestLimitExceeded"
    SLOW_DOWN = "SlowDown"
    DENIED = "AccessDenied"
    ERROR_500 = "500"
    ERROR_502 = "502"
    ERROR_503 = "503"
    ERROR_504 = "504, and AWS did it"
    SILENCE = "no answer"
    SILENCE_AFTER = "no answer, and AWS did it"
    RESET = "reset"
    RESET_AFTER = "reset, and AWS did it"
    PAGE = "a page from a middle box"
    BLOCKED = "403 from a middle box"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    DRIP = "a slow drip"
    HUGE = "too large"
    WRONG_DATE = "wrong Date"

    @property
    def did_it(self) -> bool:
        return self in _DID_IT


class Seen(NamedTuple):
    """What `counts` counts: requests of one service for one action, passed on well (`fault` None) or broken."""

    service: str
    action: str
    fault: Fault | None


class Issued(NamedTuple):
    """Keys that STS answered with, whether or not the answer came through: nothing secret.

    `parent`: the access key id that they were scoped from.
    """

    access_key_id: str
    role_arn: str
    session_name: str
    parent: str = ""
    expires_at: datetime | None = None


@dataclass
class _Order:
    """Which requests to break, and how."""

    fault: Fault
    services: Collection[str] | None
    actions: Collection[str] | None
    share: float
    times: float
    seconds: float

    def fits(self, service: str, action: str) -> bool:
        return (
            self.times > 0
            and (self.services is None or service in self.services)
            and (self.actions is None or action in self.actions)
        )


class FaultProxy:
    """On a free port of the loopback, in threads of this process. A context manager."""

    def __init__(self, upstream_url: str, *, seed: int = 0) -> None:
        upstream = urllib.parse.urlsplit(upstream_url)
        self.upstream = (str(upstream.hostname), int(upstream.port or 80))
        self._path = upstream.path
        self._random = random.Random(seed)
        self._orders: list[_Order] = []
        self._counts: Counter[Seen] = Counter()
        self._issued: list[Issued] = []
        self._lock = threading.Lock()
        self.stopped = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """What stands in the place of the upstream's address."""
        return f"http://127.0.0.1:{self._server.server_port}{self._path}"

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def fail(
        self,
        fault: Fault,
        *,
        services: Collection[str] | None = None,
        actions: Collection[str] | None = None,
        share: float = 1.0,
        times: int | None = None,
        seconds: float = 1.0,
    ) -> None:
        """From now on break this share of the requests for these services and actions, at most so many times.

        Services are called as in signatures (`sts`, `iam`), the sign-in endpoint is `federation`; None means all.
        `seconds`: between two bytes of DRIP, or added to WRONG_DATE's header. The first order that fits counts.
        """
        with self._lock:
            limit = float("inf") if times is None else times
            self._orders.append(_Order(fault, services, actions, share, limit, seconds))

    def heal(self) -> None:
        """Pass on everything again. What waits for an answer that never comes goes on waiting for it."""
        with self._lock:
            self._orders.clear()

    def counts(self) -> Counter[Seen]:
        with self._lock:
            return self._counts.copy()

    def issued(self) -> list[Issued]:
        """All that STS issued through here: sessions, and what was scoped from them."""
        with self._lock:
            return list(self._issued)

    def next_order(self, request: "_Request") -> _Order | None:
        """What is to become of this request, and count it."""
        with self._lock:
            for order in self._orders:
                if order.fits(request.service, request.action) and self._random.random() < order.share:
                    order.times -= 1
                    self._counts[Seen(request.service, request.action, order.fault)] += 1
                    return order
            self._counts[Seen(request.service, request.action, None)] += 1
            return None

    def note(self, request: "_Request", answer: "_Answer") -> None:
        key = re.search(r"<AccessKeyId>(\w+)<", text := answer.body.decode(errors="replace"))
        if request.action not in ("AssumeRole", "GetScopedCredentials") or answer.status != 200 or not key:
            return
        ends = re.search(r"<Expiration>([^<]+)<", text)
        expires_at = datetime.fromisoformat(ends[1]) if ends else None
        with self._lock:
            if request.action == "AssumeRole":
                role, name, parent = request.form["RoleArn"], request.form["RoleSessionName"], ""
            else:
                parent = request.access_key_id
                role, name = next(
                    ((one.role_arn, one.session_name) for one in self._issued if one.access_key_id == parent), ("", "")
                )
            self._issued.append(Issued(key[1], role, name, parent, expires_at))


_DID_IT = {
    Fault.ERROR_504,
    Fault.SILENCE_AFTER,
    Fault.RESET_AFTER,
    Fault.MALFORMED,
    Fault.TRUNCATED,
    Fault.DRIP,
    Fault.HUGE,
    Fault.WRONG_DATE,
}
_HUGE = 64 * 1024 * 1024
_HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection")


@dataclass
class _Request:
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    form: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        query = urllib.parse.urlsplit(self.path).query.encode() if self.method == "GET" else self.body
        self.form = dict(urllib.parse.parse_qsl(query.decode(errors="replace")))

    def header(self, name: str) -> str:
        return next((value for known, value in self.headers if known.lower() == name), "")

    @property
    def service(self) -> str:
        scope = re.search(r"Credential=[^/]+/\d+/[\w-]+/(\w+)/aws4_request", self.header("authorization"))
        return scope[1] if scope else FEDERATION

    @property
    def access_key_id(self) -> str:
        """Whose request it is."""
        found = re.search(r"Credential=(\w+)/", self.header("authorization"))
        return found[1] if found else ""

    @property
    def action(self) -> str:
        """Where a service has no word for it in the request, as S3, the method; AWS Sign-In has one in its paths."""
        if self.service == SIGN_IN:
            return "".join(word.title() for word in self.path.strip("/").split("-"))
        return self.form.get("Action") or self.header("x-amz-target").rpartition(".")[2] or self.method


@dataclass
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


_NOTHING = _Answer(0, [], b"")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients that went away are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FaultProxy

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        request = _Request(self.command, self.path, self.headers.items(), self.rfile.read(length))
        order = self.proxy.next_order(request)
        answer = self._ask(request) if order is None or order.fault.did_it else _NOTHING
        if order is None:
            self._write(answer)
        elif order.fault in _BREAK:
            _BREAK[order.fault](self, answer, order.seconds)
        else:
            self._write(_refusal(request, order.fault))

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any

    def log_message(self, *_: object) -> None:
        """Say nothing: a sign-in token may be in the address."""

    def silence(self, answer: _Answer, seconds: float) -> None:
        """Until the other side gives up."""
        while not self.proxy.stopped.is_set():
            if select.select([self.connection], [], [], 0.1)[0]:
                break
        self.close_connection = True

    def reset(self, answer: _Answer, seconds: float) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()
        self.close_connection = True

    def malformed(self, answer: _Answer, seconds: float) -> None:
        self._write(_Answer(answer.status, answer.headers, answer.body[: len(answer.body) * 9 // 10]))

    def truncated(self, answer: _Answer, seconds: float) -> None:
        self._write_head(answer, len(answer.body))
        self.wfile.write(answer.body[: len(answer.body) // 2])
        self.close_connection = True

    def drip(self, answer: _Answer, seconds: float) -> None:
        self._write_head(answer, len(answer.body))
        for byte in answer.body:
            self.wfile.write(bytes([byte]))
            if self.proxy.stopped.wait(seconds):
                break

    def huge(self, answer: _Answer, seconds: float) -> None:
        """The true answer and very many blanks, which neither XML nor JSON minds."""
        self._write_head(answer, len(answer.body) + _HUGE)
        self.wfile.write(answer.body)
        for _ in range(_HUGE // 65536):
            self.wfile.write(b" " * 65536)

    def wrong_date(self, answer: _Answer, seconds: float) -> None:
        shift = timedelta(seconds=seconds)
        headers = [
            (name, _shifted(value, shift) if name.lower() == "date" else value) for name, value in answer.headers
        ]
        self._write(_Answer(answer.status, headers, answer.body))

    def _ask(self, request: _Request) -> _Answer:
        """The upstream's own answer."""
        upstream = HTTPConnection(*self.proxy.upstream, timeout=30)
        with contextlib.closing(upstream):
            try:
                upstream.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
                for name, value in request.headers:
                    if name.lower() not in _HOP_BY_HOP:
                        upstream.putheader(name, value)
                upstream.endheaders(request.body)
                response = upstream.getresponse()
                answer = _Answer(response.status, response.getheaders(), response.read())
            except (OSError, HTTPException):
                # No upstream: as if nobody were there to talk to.
                self.reset(_NOTHING, 0)
                raise
        self.proxy.note(request, answer)
        return answer

    def _write(self, answer: _Answer) -> None:
        # The answer to a HEAD has the length of what it leaves out.
        named = next((int(value) for name, value in answer.headers if name.lower() == "content-length"), 0)
        self._write_head(answer, named if self.command == "HEAD" else len(answer.body))
        self.wfile.write(answer.body)

    def _write_head(self, answer: _Answer, length: int) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in (*_HOP_BY_HOP, "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


_BREAK: dict[Fault, Callable[[_Handler, _Answer, float], None]] = {
    Fault.SILENCE: _Handler.silence,
    Fault.SILENCE_AFTER: _Handler.silence,
    Fault.RESET: _Handler.reset,
    Fault.RESET_AFTER: _Handler.reset,
    Fault.MALFORMED: _Handler.malformed,
    Fault.TRUNCATED: _Handler.truncated,
    Fault.DRIP: _Handler.drip,
    Fault.HUGE: _Handler.huge,
    Fault.WRONG_DATE: _Handler.wrong_date,
}

# A page is what a balancer or a middle box says; the rest speaks as the service that was asked.
_PAGE = "page"
_REFUSALS: dict[Fault, tuple[int, str, str]] = {
    Fault.THROTTLED: (400, "Throttling", "Rate exceeded"),
    Fault.THROTTLED_BY_JSON: (400, "ThrottlingException", "Rate exceeded"),
    Fault.REQUEST_LIMIT: (400, "RequestLimitExceeded", "Request limit exceeded."),
    Fault.SLOW_DOWN: (503, "SlowDown", "Please reduce your request rate."),
    Fault.DENIED: (403, "AccessDenied", "User: arn:aws:sts::111111111111:assumed-role/x/y is not authorized."),
    Fault.ERROR_500: (500, "InternalFailure", "An internal error occurred."),
    Fault.ERROR_502: (502, _PAGE, "Bad Gateway"),
    Fault.ERROR_503: (503, "ServiceUnavailable", "The service is unavailable."),
    Fault.ERROR_504: (504, _PAGE, "Gateway Time-out"),
    Fault.PAGE: (200, _PAGE, "Sign in to the network"),
    Fault.BLOCKED: (403, _PAGE, "Blocked by the company's proxy"),
}


# The sign-in endpoint knows no codes and has one refusal.
_AT_FEDERATION: dict[Fault, tuple[int, str, str]] = {
    **dict.fromkeys((Fault.THROTTLED, Fault.THROTTLED_BY_JSON, Fault.REQUEST_LIMIT), (429, "", "Rate exceeded")),
    Fault.DENIED: (400, "", BAD_KEYS),
}


def _refusal(request: _Request, fault: Fault) -> _Answer:
    here = _REFUSALS | _AT_FEDERATION if request.service == FEDERATION else _REFUSALS
    status, code, message = here[fault]
    kind, text = _worded(request, status, code, message)
    now = format_datetime(datetime.now(UTC), usegmt=True)
    headers = [("Date", now), ("Content-Type", kind)]
    if request.service == SIGN_IN and code != _PAGE:
        headers.append(("x-amzn-errortype", code))
    return _Answer(status, headers, text.encode())


def _worded(request: _Request, status: int, code: str, message: str) -> tuple[str, str]:
    """As the service that was asked would say it."""
    words = f"<Code>{code}</Code><Message>{escape(message)}</Message>"
    if code == _PAGE:
        return "text/html", f"<html><head><title>{message}</title></head><body><h1>{message}</h1></body></html>"
    if request.service == FEDERATION:
        return "text/plain", f"{status}: {message}"
    if request.service == SIGN_IN:
        return "application/json", json.dumps({"error": "server_error", "message": message})
    if request.header("x-amz-target"):
        return "application/x-amz-json-1.0", json.dumps({"__type": f"com.amazonaws#{code}", "message": message})
    if request.service == "s3":
        return "application/xml", f"<Error>{words}<RequestId>r</RequestId></Error>"
    if request.service == "ec2":
        return "text/xml", f"<Response><Errors><Error>{words}</Error></Errors><RequestID>r</RequestID></Response>"
    space = f"https://{request.service}.amazonaws.com/doc/"
    error = f"<Error><Type>Sender</Type>{words}</Error><RequestId>r</RequestId>"
    return "text/xml", f'<ErrorResponse xmlns="{space}">{error}</ErrorResponse>'


def _shifted(date: str, shift: timedelta) -> str:
    return format_datetime(parsedate_to_datetime(date).astimezone(UTC) + shift, usegmt=True)
