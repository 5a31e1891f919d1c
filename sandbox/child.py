"""A server process of ours: it dies with us, stops when told, and can be paused for a test."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO


class DidNotStart(RuntimeError):
    """A server ended or stayed silent before it was ready; the message carries the end of its log."""


@dataclass(kw_only=True)
class Child:
    """One subprocess with its log in a file; `start` again after `stop` or `kill`."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] | None = None
    folder: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    # For PostgreSQL, which refuses to be root.
    user: int | None = None
    group: int | None = None
    typed: bytes = b""  # written to its standard input, for what must not be on a command line
    pass_fds: Sequence[int] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def start(self) -> None:
        assert not self.alive(), f"{self.name} runs already"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = self._spawn(log)
        if self.typed:
            assert self._process.stdin is not None
            self._process.stdin.write(self.typed)
            self._process.stdin.close()

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, seconds: float = 10) -> None:
        """Ask it to end, and insist after `seconds`. Harmless if it has ended."""
        if self._process is None or not self.alive():
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, to it and whatever it started, as a lost machine would."""
        if self._process is not None and self.alive():
            _signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def freeze(self) -> None:
        _signal_group(self.pid, signal.SIGSTOP)

    def cont(self) -> None:
        _signal_group(self.pid, signal.SIGCONT)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Return when `ready()`; raise DidNotStart if the process ends or the time is up."""
        until = time.monotonic() + seconds
        while not ready():
            if not self.alive():
                raise DidNotStart(f"{self.name} ended before it was ready:\n{self.end_of_log()}")
            if time.monotonic() > until:
                raise DidNotStart(f"{self.name} was not ready after {seconds:.0f} s:\n{self.end_of_log()}")
            time.sleep(0.02)

    def end_of_log(self, lines: int = 30) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE if self.typed else subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self.environment,
            cwd=self.folder,
            user=self.user,
            group=self.group,
            extra_groups=[] if self.user is not None else None,
            pass_fds=self.pass_fds,
            # Its own session: Ctrl-C in the terminal reaches us alone, and we stop things in order.
            start_new_session=True,
            preexec_fn=die_with_parent(self.stop_signal),
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listen(preferred: int = 0) -> socket.socket:
    """A listening socket on the loopback, on `preferred` or the next port that is free; 0 is any.

    Handed to a child by its number, so that nobody can take the port in between.
    """
    for port in range(preferred, preferred + 50):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
        except OSError:
            listener.close()
            continue
        listener.set_inheritable(True)
        return listener
    raise DidNotStart(f"no free port from {preferred} on")


def answers(port: int) -> bool:
    """Whether something on this machine takes connections on `port`."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def die_with_parent(number: signal.Signals) -> Callable[[], object]:
    """To be called in a new process: on Linux the kernel then ends it even when we are killed with SIGKILL.

    The parent is the thread that started it, so start what should last from a thread that lasts.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None).prctl
    pr_set_pdeathsig = 1
    return lambda: prctl(pr_set_pdeathsig, int(number))


def _signal_group(pid: int, number: signal.Signals) -> None:
    # Each child leads a session of its own, so its group is it and what it forked (gunicorn's workers).
    os.killpg(pid, number)
