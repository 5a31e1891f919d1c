"""`make run`: everything Daypass needs and Daypass itself, on a machine with nothing, under one runner.

Given DATABASE_URL, REDIS_URL or settings for AWS in the environment, those are used and nothing is
started in their place.
"""

import contextlib
import fcntl
import functools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import honcho.manager
import honcho.printer
import honcho.process

from sandbox import postgres, story
from sandbox.aws import AwsStandIn
from sandbox.child import DidNotStart, die_with_parent, listen
from sandbox.federation import Federation
from sandbox.processes import PROCESSES, Process, command_line
from sandbox.redis_server import RedisServer

PROJECT = Path(__file__).resolve().parent.parent
RUN = PROJECT / ".run"
ADDRESSES = RUN / "addresses"  # while it runs: where sandbox/watch.py finds it

# Any of these says that the operator's own AWS is meant; a region alone does not.
AWS_SETTINGS = (
    *("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    *("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS"),
)


class Setting:
    """What the processes are told, and what stands beside them."""

    def __init__(self, servers: contextlib.ExitStack) -> None:
        self._servers = servers
        self._watched: dict[str, Callable[[], bool]] = {}
        self.notes: list[str] = []
        self.has_demo = False
        self.owner_url = os.environ.get("DATABASE_OWNER_URL", "")
        # Held from now on and handed to the web: what else starts meanwhile may want the port too.
        self.listener = servers.enter_context(listen(8000))
        self.port: int = self.listener.getsockname()[1]
        self.shared = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "PYTHONUNBUFFERED": "1",
            "SECRET_KEY_FILE": os.environ.get("SECRET_KEY_FILE", str(_secret_key_file())),
            # localhost is a secure context: without one the browser has no WebCrypto to open envelopes with.
            "BASE_URL": os.environ.get("BASE_URL", f"http://localhost:{self.port}"),
            "ALLOWED_HOSTS": os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1"),
            # As in production. Pages that explain an error by showing settings have no place even in a demo,
            # and static files go the way they go there: collected, hashed, served by whitenoise.
            "DEBUG": os.environ.get("DEBUG", "0"),
            "STATIC_ROOT": str(RUN / "static"),
            # Root in a container is common for a first try; Celery's page of warning would bury the rest.
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
            "LOG_JSON": os.environ.get("LOG_JSON", "0"),
            "EMAIL_URL": os.environ.get("EMAIL_URL", f"filemail:///{RUN / 'mail'}"),
        }
        self.shared.pop("DATABASE_OWNER_URL", None)
        self.aws: Mapping[str, Mapping[str, str]] = {}
        self.aws_url: str | None = None  # AWS's own

    def prepare(self) -> None:
        self._database()
        self._redis()
        with self._schema_and_static():  # meanwhile
            self._aws()
        self._demo()

    def environment(self, process: Process) -> dict[str, str]:
        """Only the workers that need one get an AWS identity."""
        nothing = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull}
        return {**self.shared, **(self.aws[process.aws_profile] if process.aws_profile else nothing)}

    def lost_server(self) -> str | None:
        return next((name for name, alive in self._watched.items() if not alive()), None)

    def _database(self) -> None:
        if os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE"):
            self.notes.append("PostgreSQL  yours (DATABASE_URL)")
            return
        server = self._servers.enter_context(postgres.Postgres(RUN / "postgres", log=RUN / "log" / "postgres.log"))
        self._watched["PostgreSQL"] = server.alive
        self.shared["DATABASE_URL"], self.owner_url = server.app_url(), server.owner_url()
        self.has_demo = True
        _write_private(RUN / "database", f"{server.app_url()}\n")
        self.notes.append(f"PostgreSQL  127.0.0.1:{server.port}  (address with password in .run/database)")

    def _redis(self) -> None:
        if os.environ.get("REDIS_URL") or os.environ.get("REDIS_URL_FILE"):
            self.notes.append("Redis       yours (REDIS_URL)")
            return
        server = self._servers.enter_context(RedisServer(log=RUN / "log" / "redis.log"))
        self._watched["Redis"] = server.alive
        self.shared["REDIS_URL"] = server.url()
        self.notes.append(f"Redis       127.0.0.1:{server.port}")

    def _aws(self) -> None:
        given = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        if any(name in given for name in AWS_SETTINGS):
            # A config file names both profiles; one identity in the environment serves both workers.
            named = "AWS_PROFILE" in given or "AWS_ACCESS_KEY_ID" in given or "AWS_CONFIG_FILE" not in given
            self.aws = {
                profile: given if named else {**given, "AWS_PROFILE": profile} for profile in ("minter", "revoker")
            }
            self.notes.append("AWS         yours (" + ", ".join(n for n in AWS_SETTINGS if n in given) + ")")
            return
        log = RUN / "log"
        stand_in = self._servers.enter_context(AwsStandIn(RUN / "aws", log=log / "aws.log", port=4566))
        self._watched["the stand-in for AWS"] = stand_in.alive
        self.aws = {profile: stand_in.profile(profile) for profile in ("minter", "revoker")}
        self.aws_url = stand_in.url
        self.notes.append(
            f"AWS         a stand-in; to meet it with the AWS CLI: export AWS_ENDPOINT_URL={stand_in.url}"
        )
        if not os.environ.get("FEDERATION_URL"):
            endpoint = Federation(stand_in.url, log=log / "federation.log", port=4600)
            self._servers.enter_context(endpoint)
            self._watched["the federation endpoint"] = endpoint.alive
            self.shared["FEDERATION_URL"] = endpoint.url

    @contextlib.contextmanager
    def _schema_and_static(self) -> Iterator[None]:
        begun = [self._manage("collectstatic", "--noinput", "--verbosity=0")]
        if self.owner_url:
            begun.append(self._manage("migrate", "--database=owner", "--noinput", "--verbosity=0"))
        else:
            self.notes.append("            without DATABASE_OWNER_URL nothing was migrated")
        yield
        for child in begun:
            _finish(child)

    def _demo(self) -> None:
        # Never into somebody's own database.
        if self.has_demo:
            _finish(self._python("-m", "sandbox.demo", "today"))

    def _manage(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self._python("manage.py", *arguments)

    def _python(self, *arguments: str) -> subprocess.Popen[bytes]:
        owner = {"DATABASE_OWNER_URL": self.owner_url} if self.owner_url else {}
        return subprocess.Popen([sys.executable, *arguments], cwd=PROJECT, env={**self.shared, **owner})


class Tethered(honcho.process.Process):
    """honcho's process (a child of ours, and the program as its child), which ends when we are killed."""

    def __init__(self, *arguments: Any, passed: Mapping[str, Sequence[int]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._child_ctor = functools.partial(
            honcho.process.Popen, preexec_fn=die_with_parent(signal.SIGTERM), pass_fds=passed.get(self.name, ())
        )

    def run(self, *arguments: Any, **options: Any) -> None:
        die_with_parent(signal.SIGKILL)()
        super().run(*arguments, **options)


class Announcing(honcho.printer.Printer):
    """Prints what honcho prints; when every process has said that it is ready, calls `ready` once."""

    SIGNS = {"web": b"Booting worker", "beat": b"beat: Starting"}
    # Every few seconds, and of interest only when they fail.
    ROUTINE = (b"default.sweep_", b"aws.read_clock")

    def __init__(self, ready: Callable[[], None]) -> None:
        super().__init__(sys.stdout)
        self._awaited = {process.name for process in PROCESSES}
        self._ready = ready

    def write(self, message: honcho.printer.Message) -> None:
        data = message.data if isinstance(message.data, bytes) else message.data.encode()
        if not (b"[info " in data and any(name in data for name in self.ROUTINE)):
            super().write(message)
        if message.name in self._awaited and self.SIGNS.get(message.name, b" ready.") in data:
            self._awaited.discard(message.name)
            if not self._awaited:
                self._ready()


def main() -> int:
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _leave)
    RUN.mkdir(mode=0o711, exist_ok=True)
    # Mail has links that set passwords; whoever else works on this machine reads none of it.
    for name in ("log", "mail"):
        (RUN / name).mkdir(exist_ok=True)
        (RUN / name).chmod(0o700)
    with _only_one(), contextlib.ExitStack() as servers:
        setting = Setting(servers)
        try:
            setting.prepare()
        except (DidNotStart, postgres.UnusableData, RuntimeError) as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        try:
            return _run(setting, began)
        finally:
            ADDRESSES.unlink(missing_ok=True)


def reset() -> int:
    """Forget the demo: database, stand-in, mail, keys."""
    if RUN.exists():
        with _only_one():
            postgres.clear(RUN / "postgres")
            shutil.rmtree(RUN)
    return 0


def _run(setting: Setting, began: float) -> int:
    over = threading.Event()

    def ready() -> None:
        if _web_answers(setting.port):
            _write_private(ADDRESSES, json.dumps({"portal": setting.shared["BASE_URL"], "aws": setting.aws_url}))
            print(_screen(setting, time.monotonic() - began), flush=True)
        threading.Thread(target=_watch, args=[setting, over], daemon=True).start()

    runner = honcho.manager.Manager(Announcing(ready))
    listener = setting.listener.fileno()
    runner._process_ctor = functools.partial(Tethered, passed={"web": [listener]})
    for process in PROCESSES:
        command = " ".join(["exec", *command_line(process, bind=f"fd://{listener}")])
        runner.add_process(process.name, command, env=setting.environment(process), cwd=str(PROJECT))
    runner.loop()
    over.set()
    return 0 if runner.returncode in (130, 143) else int(runner.returncode or 0)


def _watch(setting: Setting, over: threading.Event) -> None:
    """Without one of its servers nothing here is of use: stop as if told to."""
    while not over.wait(1):
        if lost := setting.lost_server():
            print(f"\n{lost} has ended. Its log is in .run/log.", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _web_answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=15).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True


def _screen(setting: Setting, seconds: float) -> str:
    line = "─" * 72
    parts = [line, f"Daypass is at  {setting.shared['BASE_URL']}     (ready in {seconds:.0f} s)", ""]
    if setting.has_demo:
        parts += [f"Sign in with the password {story.PASSWORD!r} as"]
        parts += [*(f"  {username:<8}{role}" for username, _, role in story.PEOPLE), ""]
        parts += ["Try", *(f"  {number}. {thing}" for number, thing in enumerate(story.THINGS_TO_TRY, start=1)), ""]
    parts += [*setting.notes, "Mail        in .run/mail", "Ctrl-C stops it; `make reset` forgets everything.", line]
    return "\n".join(parts)


def _finish(child: subprocess.Popen[bytes]) -> None:
    if child.wait():
        raise RuntimeError(f"{' '.join(map(str, child.args[1:]))} failed; what it said stands above.")  # type: ignore[index]


def _secret_key_file() -> Path:
    path = RUN / "secret-key"
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(64))
    return path


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    with (RUN / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("Daypass already runs from this folder. Stop it first.")
        yield


def _leave(number: int, frame: object) -> NoReturn:
    sys.exit(143)


if __name__ == "__main__":
    try:
        sys.exit(reset() if sys.argv[1:] == ["reset"] else main())
    except KeyboardInterrupt:
        sys.exit(130)
