"""The console's sign-in federation: from a minted session to a link that opens the console."""

import functools
import html
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import httpx

from requests_app.aws.errors import AwsError, Refused, Unavailable, scrub
from requests_app.aws.sts import MintedSession
from requests_app.domain import partitions
from requests_app.domain.secret import Secret

LINK_LIFE = timedelta(minutes=15)  # AWS's rule for a sign-in token


@dataclass(frozen=True, slots=True)
class ConsoleLink:
    """A form to be sent by POST to `url`: whoever sends it within `good_for` is signed in.

    By POST the token is in no address, history or log. For "copy link" the browser itself writes
    `url?Action=…&Issuer=…&Destination=…&SigninToken=…` from the same fields, percent-encoded.
    """

    url: str
    fields: Mapping[str, str | Secret]
    good_for: timedelta = LINK_LIFE


def sign_in(session: MintedSession, *, federation_url: str, destination: str, issuer: str) -> ConsoleLink:
    """Exchange a session for a console link, by one request. Raises Refused or Unavailable.

    `destination` must have passed `partitions.check_destination`; `issuer` is the page of ours where
    AWS sends people whose console session ended. SessionDuration is never sent: AWS refuses it for
    chained credentials, and it could outlive the pass.
    """
    url = partitions.federation_url("aws", federation_url)  # refuses plain http to another machine
    status, body = _post(url, _asking_for_a_token(session))
    if status != 200:
        raise _refusal(status, body, session)
    fields: dict[str, str | Secret] = {
        "Action": "login",
        "Issuer": issuer,
        "Destination": destination,
        "SigninToken": _read_token(body),
    }
    return ConsoleLink(url, fields)


def follow(link: ConsoleLink) -> int:
    """Send the form as a browser would, and go no further: the status of the answer. Raises Unavailable."""
    form = {name: value.reveal() if isinstance(value, Secret) else value for name, value in link.fields.items()}
    return _post(link.url, form)[0]


_TIMEOUT = httpx.Timeout(10, connect=3)
_LONGEST_ANSWER = 64 * 1024
_LONGEST_WAIT = 15  # seconds, however slowly the answer comes
_LONGEST_TOKEN = 16 * 1024

_TRY_AGAIN = "Try again in a minute; the credentials themselves work without the console."
_ASK_OPERATOR = "If it happens again, Daypass's operators should look at the federation endpoint and the proxy."
_REFUSED = "AWS did not take the session for the console: ask for a new link; the credentials are not affected."


def _asking_for_a_token(session: MintedSession) -> dict[str, str]:
    keys = {
        "sessionId": session.access_key_id,
        "sessionKey": session.secret_access_key.reveal(),
        "sessionToken": session.session_token.reveal(),
    }
    return {"Action": "getSigninToken", "Session": json.dumps(keys)}


def _post(url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
    """Status and body. httpx's exceptions hold the request, keys included: none of them leaves here."""
    try:
        return _exchange(url, form)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        code, message = type(error).__name__, "The console's sign-in endpoint could not be reached."
    except httpx.TimeoutException as error:
        code, message = type(error).__name__, "The console's sign-in endpoint did not answer in time."
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        code, message = (
            type(error).__name__,
            "The console's sign-in endpoint broke off or gave too long an answer.",
        )
    raise Unavailable(code, message, _TRY_AGAIN)


def _exchange(url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
    line = _Line()
    with (
        line.cut_after(_LONGEST_WAIT),
        httpx.Client(timeout=_TIMEOUT, follow_redirects=False, verify=_tls()) as client,
        client.stream("POST", url, data=dict(form), extensions={"trace": line.follow}) as answer,
    ):
        body = b""
        for piece in answer.iter_raw(4096):
            body += piece
            if len(body) > _LONGEST_ANSWER:
                raise ValueError("too long an answer")
        return answer.status_code, body


class _Line:
    """The connection in use, to be cut when it takes too long.

    httpx's time-outs begin anew with each byte, so an answer that drips in would hold a worker's
    thread for as long as it likes.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def follow(self, event: str, details: Mapping[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = details["return_value"].get_extra_info("socket")

    @contextmanager
    def cut_after(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                # Not the method of an SSLSocket, which is not made for a second thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _read_token(body: bytes) -> Secret:
    try:
        answer: Any = json.loads(body)
        token = answer["SigninToken"]
    except (ValueError, LookupError, TypeError, RecursionError):
        token = None
    if not isinstance(token, str) or not 0 < len(token) <= _LONGEST_TOKEN:
        message = "The console's sign-in endpoint gave no sign-in token."
        raise Unavailable("MalformedAnswer", message, _ASK_OPERATOR)
    return Secret(token)


def _refusal(status: int, body: bytes, session: MintedSession) -> AwsError:
    message = _readable(body, session) or f"The console's sign-in endpoint answered {status}."
    if status == 429 or status >= 500:
        return Unavailable(f"Http{status}", message, _TRY_AGAIN)
    if status == 400:  # the one that AWS refuses with
        return Refused(f"Http{status}", message, _REFUSED)
    return Unavailable(f"Http{status}", message, _ASK_OPERATOR)  # a redirect, a middle box, an empty success


def _readable(body: bytes, session: MintedSession) -> str:
    """AWS's own words, without markup; nothing at all if they echo a piece of what we sent."""
    text = html.unescape(re.sub(r"<[^>]*>", " ", body.decode("utf-8", "replace")))
    bare = _letters(unquote(text)) + _letters(text)
    for secret in (session.secret_access_key, session.session_token):
        letters = _letters(secret.reveal())
        if any(letters[start : start + 12] in bare for start in range(0, max(1, len(letters) - 11), 4)):
            return ""
    return scrub(text)


def _letters(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text)
