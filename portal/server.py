"""gunicorn's configuration (`--config=python:portal.server`), and its worker, which bounds how long a request may take
to arrive."""

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

# From a request's first byte to its last; ours are a few kilobytes.
ARRIVES_WITHIN_SECONDS = 20
# The answer, by whoever asked; the largest file of ours is some two hundred.
TAKEN_WITHIN_SECONDS = 60

workers = 2
threads = 16
# The settings are read and the code is loaded once, and a mistake in them is said before anything listens.
preload_app = True
worker_class = "portal.server.Worker"
# gunicorn would believe whoever comes from the loopback, whatever TRUSTED_PROXIES says. Django decides that.
forwarded_allow_ips = ""
# Its control socket needs a folder to write to, and nobody of ours uses it.
control_socket_disable = True
# A heartbeat file on a disk that is slow would look like a worker that hangs.
worker_tmp_dir = next(filter(os.path.isdir, ["/dev/shm"]), None)  # noqa: S108
# So that all that is sent goes through the socket below.
sendfile = False


class BoundedSocket(socket.socket):
    """A connection whose request arrives, and whose answer is taken, within a bounded time, however slowly it drips."""

    _arrives_by = 0.0
    _taken_by: float | None = None

    def await_request(self) -> None:
        """A request begins now."""
        self._arrives_by, self._taken_by = time.monotonic() + ARRIVES_WITHIN_SECONDS, None

    def recv(self, *arguments: Any) -> bytes:
        return self._by(self._arrives_by, super().recv, *arguments)

    def sendall(self, *arguments: Any) -> None:
        if self._taken_by is None:
            self._taken_by = time.monotonic() + TAKEN_WITHIN_SECONDS
        self._by(self._taken_by, super().sendall, *arguments)

    def _by(self, due: float, act: Callable[..., Any], *arguments: Any) -> Any:
        try:
            if (left := due - time.monotonic()) <= 0:
                raise TimeoutError  # however much of it lies there already
            self.settimeout(left)
            return act(*arguments)
        except TimeoutError:
            # What gunicorn takes for somebody who has gone: it closes the connection and says nothing of it.
            raise ConnectionResetError(errno.ECONNRESET, "the other side is too slow") from None
        finally:
            self.settimeout(None)


class Worker(ThreadWorker):
    """gunicorn's threads give a connection a thread from its first byte on, for as long as it likes. Ours do not.

    It costs whoever drips twenty seconds, not us a thread for ever. Who opens many connections at once still keeps all
    threads busy for that long: hence the proxy in front, which takes in a whole request before it hands it on.
    """

    def handle(self, conn: TConn) -> Any:
        if not isinstance(conn.sock, BoundedSocket):
            conn.sock = BoundedSocket(fileno=conn.sock.detach())
        conn.sock.await_request()
        return super().handle(conn)
