"""How long we wait for AWS, and how much of an answer we read.

botocore's read time-out begins anew with each byte, so an answer that drips in would hold a worker's thread for as
long as it likes; and one without an end would fill its memory.
"""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPResponse
from typing import Any

from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError

from requests_app.domain import policy

# A second less than the domain counts on, for what a worker does between its look at the clock and the call.
LONGEST_CALL = policy.CALL_TAKES_SECONDS - 1
LARGEST_ANSWER = 2 * 1024 * 1024


@contextmanager
def bounded(seconds: float | None = None) -> Iterator[None]:
    """Whatever this thread asks of AWS inside is over when these seconds are, LONGEST_CALL unless told otherwise;
    inside another, no later than that one.

    What has not been sent by then is not sent any more: it fails as if AWS could not be reached. Looking up a
    name, and connecting, have time-outs of their own.
    """
    token = _until.set(min(_until.get() or float("inf"), time.monotonic() + (seconds or LONGEST_CALL)))
    try:
        yield
    finally:
        _until.reset(token)


_until: ContextVar[float | None] = ContextVar("until", default=None)


def _seconds_left() -> float:
    until = _until.get()
    return float("inf") if until is None else until - time.monotonic()


class _Reading(io.RawIOBase):
    """What a connection brings, until the time is up or it is too much."""

    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:
        self._raw = raw
        self._sock = sock
        self._patience = sock.gettimeout()
        self._bytes_left = LARGEST_ANSWER

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        seconds = _seconds_left()
        if seconds <= 0:
            raise TimeoutError("the time is up")
        self._sock.settimeout(min(seconds, self._patience))
        count = self._raw.readinto(buffer)
        self._bytes_left -= count or 0
        if self._bytes_left < 0:
            raise OSError("too long an answer")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        if _until.get() is not None:
            self.fp = io.BufferedReader(_Reading(self.fp.detach(), sock))


class _Connection:
    """botocore's, which sends nothing once the time is up, and does not read on."""

    response_class: Any = _Answer

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._check_time()

    def request(self, *args: Any, **kwargs: Any) -> Any:
        self._check_time()
        return super().request(*args, **kwargs)  # type: ignore[misc]

    def _check_time(self) -> None:
        if _seconds_left() <= 0:
            raise ConnectTimeoutError(self, "the time is up")


class _Http(_Connection, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _Https(_Connection, AWSHTTPSConnection):  # type: ignore[misc]
    pass


# For every client of botocore, those that it makes itself to fetch our own credentials among them. Outside `bounded`
# nothing is changed.
AWSHTTPConnectionPool.ConnectionCls = _Http
AWSHTTPSConnectionPool.ConnectionCls = _Https
