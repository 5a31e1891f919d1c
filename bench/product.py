"""The whole product of a checkout, run beside this process and used by HTTP, as people's browsers do."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
import redis
from joserfc import jwe
from joserfc.jwk import ECKey

from bench.machine import CHECKOUT, PROJECT

OURS = ("web", "mint", "default")
WATCHED = (*OURS, "PostgreSQL", "Redis")
BARE = ("bare web", "bare worker")
# Between two looks: as static/daypass/delivery.js.
FIRST_LOOK, LONGER, LONGEST_WAIT = 0.120, 1.4, 1.0


class Product:
    """`people` engineers, Bob and Olivia, signed in; a context manager.

    `floors`: with the bare web server and worker beside it. What it needs of a checkout: `sandbox`, and the addresses
    and tables that people see; so an older one can be run too.
    """

    def __init__(
        self, checkout: Path = CHECKOUT, *, people: int = 1, web: int = 2, mint: int = 1, floors: bool = False
    ) -> None:
        self.checkout = checkout
        self._wanted = {"people": people, "web": web, "mint": mint, "floors": floors}
        self._cleaning = contextlib.ExitStack()
        self._more_minters = [f"mint{number}" for number in range(2, mint + 1)]

    def __enter__(self) -> Self:
        arguments = [json.dumps(self._wanted)]
        self._process = self._cleaning.enter_context(
            inside(self.checkout, "bench.inside.product", *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        self._facts = self._hear()
        self.url, self.floor_url = self._facts["url"], self._facts["floor_url"]
        self.folder = Path(self._facts["folder"])
        self.people = [Person(self.url, one) for one in self._facts["people"]]
        self.bare_people = [Person(self.floor_url, one) for one in self._facts["people"]] if self.floor_url else []
        self.superuser = self._cleaning.enter_context(psycopg.connect(self._facts["superuser"], autocommit=True))
        if self.floor_url:
            _until(self.bare_people[0].answers, 60)
        return self

    def __exit__(self, *_: object) -> None:
        for person in (*self.people, *self.bare_people):
            person.http.close()
        self._cleaning.close()

    def __getattr__(self, name: str) -> Any:
        """What else it said of itself: `app`, `redis`, `minter`, `role_arn`, `external_id`."""
        try:
            return self.__dict__["_facts"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def bob(self) -> "Person":
        return self.people[-2]

    def roots(self) -> dict[str, int]:
        """The processes whose CPU is counted. What several mint workers spend is one sum only if there is one."""
        pids: dict[str, int] = self._facts["pids"]
        return {name: pids[name] for name in (*WATCHED, *self._more_minters, *BARE) if name in pids}

    def delay(self, seconds: float) -> None:
        """So much later than it came does each answer of AWS arrive."""
        self._tell({"delay": float(seconds)})

    @contextlib.contextmanager
    def frozen(self, *names: str) -> Iterator[None]:
        self._tell({"freeze": list(names)})
        try:
            yield
        finally:
            self._tell({"cont": list(names)})

    @contextlib.contextmanager
    def counted(self, times: int) -> Iterator[dict[str, float]]:
        """What PostgreSQL did meanwhile, each of so many times: `statements`, `transactions`, `connections`."""
        counted: dict[str, float] = {}
        self._track("top")
        before = self._counts()
        try:
            yield counted
        finally:
            after = self._counts()
            self._track("none")
            counted |= {name: (after[name] - before[name]) / times for name in after}

    def _track(self, what: str) -> None:
        self.superuser.execute(f"ALTER SYSTEM SET pg_stat_statements.track = '{what}'")
        self.superuser.execute("SELECT pg_reload_conf()")

    def _counts(self) -> dict[str, int]:
        time.sleep(1.5)  # its processes hand their counts in once a second
        row = self.superuser.execute(
            "SELECT (SELECT sum(calls) FROM pg_stat_statements WHERE userid = (SELECT oid FROM pg_roles"
            "         WHERE rolname = 'daypass_app') AND query !~* '^(begin|commit|rollback|set |deallocate)'),"
            " xact_commit, sessions FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        assert row
        return dict(zip(("statements", "transactions", "connections"), (int(one or 0) for one in row), strict=True))

    def drained(self, seconds: float = 60) -> None:
        """Return when no mail is due any more."""

        def none_is_due() -> bool:
            row = self.superuser.execute(
                "SELECT count(*) FROM requests_app_notice WHERE sent_at IS NULL AND gave_up_at IS NULL"
                " AND due_at <= clock_timestamp()"
            ).fetchone()
            return row == (0,)

        _until(none_is_due, seconds)

    def pass_of(self, person: "Person") -> str:
        """The code of an active pass for keys, which took nobody's decision."""
        return person.request(self.typed("Reading, automatic", "payments-prod", "ReadOnly", start="at_once"))

    def typed(self, entitlement: str, account: str, role: str, *, start: str = "on_demand") -> dict[str, str]:
        """What the form sends for this role on these terms."""
        row = self.superuser.execute(
            "SELECT e.public_id::text, r.public_id::text FROM requests_app_entitlement e, requests_app_role r"
            " JOIN requests_app_account a ON a.id = r.account_id WHERE (e.name, a.name, r.name) = (%s, %s, %s)",
            [entitlement, account, role],
        ).fetchone()
        assert row, (entitlement, account, role)
        return {
            "entitlement": row[0],
            "role": row[1],
            "duration": "60",
            "start": start,
            "justification": "to see what this costs",
            "ticket": "",
        }

    def _tell(self, command: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the product of {self.checkout} ended; what it said stands above")
        return dict(json.loads(line))


class Person:
    """Somebody's browser, signed in."""

    def __init__(self, url: str, one: dict[str, str]) -> None:
        self.username, self.cookie, self.session = one["username"], one["cookie"], one["session"]
        secret = "c" * 32
        self.http = httpx.Client(
            base_url=url,
            timeout=30,
            cookies={self.cookie: self.session, one["csrf"]: secret},
            headers={"X-CSRFToken": secret, "Referer": url, "User-Agent": "bench"},
        )

    def answers(self) -> bool:
        try:
            return self.http.get("/").status_code < 500
        except httpx.HTTPError:
            return False

    def post(self, path: str, typed: dict[str, str], *status: int, **headers: str) -> httpx.Response:
        answer = self.http.post(path, data=typed, headers=headers)
        assert answer.status_code in status, (path, answer.status_code, answer.text[:2000])
        # Messages are shown on the next page, which nobody opens here: they would be carried on and on.
        self.http.cookies.delete("messages")
        return answer

    def request(self, typed: dict[str, str]) -> str:
        """Ask for access, as the form does; the code."""
        answer = self.post("/request/", typed | {"once": os.urandom(12).hex()}, 302)
        return str(answer.headers["Location"].rpartition("/")[2])

    def mint(self, code: str) -> float:
        """What the page's script does: make a key, ask, look until it is sealed, take the envelope, open it.

        Seconds from the press to the keys.
        """
        began = time.perf_counter()
        key = ECKey.generate_key("P-256")
        wish = {"code": code, "kind": "credentials", "jwk": json.dumps(key.as_dict(private=False))}
        asked = self.post("/deliveries/", wish, 200, 201, Prefer="wait").json()
        envelope = asked.get("envelope") or self._wait_for(f"/deliveries/{asked['id']}")
        opened = jwe.decrypt_compact(envelope, key, algorithms=["ECDH-ES", "A256GCM"])
        assert json.loads(opened.plaintext or b"")["secret_access_key"]
        return time.perf_counter() - began

    def _wait_for(self, address: str) -> str:
        wait = FIRST_LOOK
        while True:
            look = self.http.get(address).json()
            assert look["state"] in ("asked", "claimed", "sealed"), look
            # Sealed is written down before the envelope is there: then the page looks again.
            if look["state"] == "sealed" and "envelope" in (
                taken := self.post(f"{address}/envelope", {}, 200, 409).json()
            ):
                return str(taken["envelope"])
            time.sleep(wait)
            wait = min(wait * LONGER, LONGEST_WAIT)


@contextlib.contextmanager
def inside(checkout: Path, module: str, *arguments: str, **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A module of this `bench` in a process of its own, where everything else is that checkout's."""
    with tempfile.TemporaryDirectory(prefix="daypass-bench-code-") as folder:
        (Path(folder) / "bench").symlink_to(PROJECT / "bench")
        own = checkout / ".venv" / "bin" / "python"
        python = str(own) if own.exists() else sys.executable
        # A floor that asks AWS has its settings in ours.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PG"))}
        environment["PYTHONPATH"] = f"{folder}{os.pathsep}{checkout}"
        for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"):
            environment.pop(name, None)
        # -P: or the folder that it starts in would come before these.
        command = [python, "-P", "-m", module, *arguments]
        process = subprocess.Popen(command, cwd=checkout, env=environment, **options)
        try:
            yield process
        finally:
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait(20)


def redis_of(product: Product) -> "redis.Redis":
    return redis.Redis.from_url(product.redis)


def _until(true: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {seconds:.0f} s")
        time.sleep(0.05)
