"""The load: people who use the product over HTTP, put up with errors, and remember what they were told."""

import contextlib
import queue
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import psycopg
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sandbox.employee import Employee
from tests.chaos.arena import Arena

CODE = re.compile(r"DP-[0-9A-Z]{8}")
PATIENCE = 8.0  # seconds for a page, or for keys, before a person gives up and tries again


@dataclass(frozen=True)
class Told:
    """Something that a page said to a person."""

    code: str
    what: str
    by: str
    at: float


@dataclass
class Keys:
    """Credentials that a person holds."""

    code: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    # The pass's end by AWS's clock, as the two clocks stood when these were opened.
    ends_at: float
    worked: bool = False
    refused: str = ""  # in AWS's words
    outlived: str = ""
    tried_after: bool = False
    # AWS still said whose they are, after the end.
    identified: bool = False


class Memory:
    """What people were told, what they hold, and how often they tried. For many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.told: list[Told] = []
        self.keys: list[Keys] = []
        self.links = 0
        self.counts: Counter[str] = Counter()

    def tell(self, code: str, what: str, by: str) -> None:
        with self._lock:
            self.told.append(Told(code, what, by, time.time()))
            self.counts[what] += 1

    def hold(self, keys: Keys) -> None:
        with self._lock:
            self.keys.append(keys)
            self.counts["keys"] += 1

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def so_far(self) -> Counter[str]:
        with self._lock:
            return self.counts.copy()


class Gave(Exception):
    """The page did not say what was hoped for: a refusal, an error, or a time-out."""


class Load:
    """Everybody at once. `pause` lets them finish what they are at; `go` lets them begin again."""

    def __init__(self, arena: Arena) -> None:
        self.arena, self.memory = arena, Memory()
        arena.use_once = self.use_once
        self._over, self._going = threading.Event(), threading.Event()
        self._busy = 0
        self._lock = threading.Lock()
        self.to_revoke: queue.Queue[str] = queue.Queue()
        self._choices = _choices(arena)
        self._threads = [
            *(self._thread(self._ask, name) for name in arena.askers),
            *(self._thread(self._decide, name) for name in ("bob", "carol")),
            self._thread(self._revoke, "olivia"),
            threading.Thread(target=self._watch_ends, daemon=True),
        ]
        self.visitor = Employee(arena.stack.url, "alice")

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._going.set()
        for thread in self._threads:
            thread.join(30)

    def go(self) -> None:
        self._going.set()

    def pause(self, seconds: float = 60) -> None:
        """Return when nobody is in the middle of anything."""
        self._going.clear()
        until = time.monotonic() + seconds
        while self._busy and time.monotonic() < until:
            time.sleep(0.1)

    def use_once(self) -> None:
        """A fresh pass, from the form to keys that work; raises when anything of it does not."""
        _patience(self.visitor)
        code = self._submit(self.visitor, "alice", "reading", minutes=1)
        self._open_keys(self.visitor, code, patience=6)

    def works(self, keys: Keys) -> bool | None:
        """Whether AWS lets these do something harmless; None if AWS does not say."""
        return self._asks(keys, "iam", b"Action=ListRoles&Version=2010-05-08&MaxItems=1")

    def identifies(self, keys: Keys) -> bool | None:
        """Whether AWS still says whose these are, which no policy can deny; None if AWS does not say."""
        return self._asks(keys, "sts", b"Action=GetCallerIdentity&Version=2011-06-15")

    def _asks(self, keys: Keys, service: str, body: bytes) -> bool | None:
        request = AWSRequest(
            "POST",
            f"{self.arena.stack.aws.url}/",
            data=body,
            headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        )
        credentials = Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
        SigV4Auth(credentials, service, "us-east-1").add_auth(request)
        try:
            answer = httpx.post(
                f"{self.arena.stack.aws.url}/", content=body, headers=dict(request.headers.items()), timeout=10
            )
        except httpx.HTTPError:
            return None
        if answer.status_code == 403:
            keys.refused = " ".join(re.findall(r"<(?:Code|Message)>(.*?)</", answer.text, re.DOTALL))
            return False
        return True if answer.status_code == 200 else None

    def _thread(self, act: Callable[[Employee, str], None], name: str) -> threading.Thread:
        person = Employee(self.arena.stack.url, name)
        chance = random.Random(f"{self.arena.chance.random()}{name}")

        def live() -> None:
            _patience(person)
            while not self._over.is_set():
                if not self._going.wait(0.5):
                    continue
                with self._lock:
                    self._busy += 1
                try:
                    act(person, name)
                except (httpx.HTTPError, Gave, AssertionError, ValueError, KeyError):
                    self.memory.count("errors")
                finally:
                    with self._lock:
                        self._busy -= 1
                self._over.wait(chance.uniform(0.1, 0.6))

        return threading.Thread(target=live, daemon=True, name=name)

    # What each of them does, once.

    def _ask(self, person: Employee, name: str) -> None:
        story = random.choice(["leave", "leave", "give back", "revoke", "console", "staged", "staged", "withdraw"])
        if story == "staged":
            return self._ask_for_more(person, name)
        code = self._submit(person, name, "reading", minutes=1 if story == "leave" else 10)
        if story == "withdraw":
            return None
        if story == "console":
            self._open_console(person, code)
        self._open_keys(person, code)
        if story == "revoke":
            self.to_revoke.put(code)
        elif story != "leave":
            self._act(person, name, code, "give-back", {"confirmed": "yes"}, "You gave your pass back", "returned")
        return None

    def _ask_for_more(self, person: Employee, name: str) -> None:
        code = self._submit(person, name, "administering", minutes=10)
        if random.random() < 0.15:
            self._act(person, name, code, "withdraw", {}, "Withdrawn.", "withdrawn")
            return
        until = time.monotonic() + PATIENCE
        while f"/requests/{code}/start" not in person.get(f"/requests/{code}").text:
            if time.monotonic() > until:
                return
            time.sleep(0.4)
        self._act(person, name, code, "start", {}, "Your pass is active", "started")
        self._open_keys(person, code)
        if random.random() < 0.5:
            self._act(person, name, code, "give-back", {"confirmed": "yes"}, "You gave your pass back", "returned")

    def _decide(self, person: Employee, name: str) -> None:
        waiting = list(dict.fromkeys(CODE.findall(person.get("/approvals/").text)))
        for code in waiting[:6]:
            if random.random() < 0.85:
                self._act(
                    person,
                    name,
                    code,
                    "approve",
                    {"comment": "", "stage": "1"},
                    "You approved [^<]*{}",
                    "approved",
                    or_else=False,
                )
            else:
                self._act(
                    person,
                    name,
                    code,
                    "deny",
                    {"comment": "not now", "stage": "1"},
                    "You denied [^<]*{}",
                    "denied",
                    or_else=False,
                )
        if not waiting:
            time.sleep(0.3)

    def _revoke(self, person: Employee, name: str) -> None:
        try:
            code = self.to_revoke.get(timeout=0.5)
        except queue.Empty:
            return
        try:
            self._act(
                person, name, code, "revoke", {"reason": "the incident is over"}, "You revoked [^<]*{}", "revoked"
            )
        except (httpx.HTTPError, Gave):
            self.to_revoke.put(code)  # pressed again, as one would
            raise

    def _submit(self, person: Employee, name: str, what: str, *, minutes: int) -> str:
        role, entitlement = random.choice(self._choices[what])
        self.memory.count("requests")
        answer = _posted(
            person,
            "/request/",
            {
                "role": role,
                "entitlement": entitlement,
                "duration": "other",
                "duration_other": str(minutes),
                "start": "at_once" if what == "reading" else "on_demand",
                "justification": "to see whether it stands",
                "ticket": "INC-1",
            },
        )
        found = re.search(rf"/requests/({CODE.pattern})$", answer.url.path)
        if answer.status_code != 200 or not found:
            raise Gave(f"asking: {answer.status_code} {_said(answer)}")
        self.memory.tell(found[1], "active" if _is_in_use(answer, found[1]) else "asked", name)
        return found[1]

    def _act(
        self,
        person: Employee,
        name: str,
        code: str,
        verb: str,
        form: dict[str, str],
        words: str,
        what: str,
        *,
        or_else: bool = True,
    ) -> None:
        answer = _posted(person, f"/requests/{code}/{verb}", form)
        # What a page would have said, had it come, the next one says for it: hence the code, or what can be pressed.
        said = answer.status_code == 200 and re.search(words.format(code), answer.text)
        if said and (what not in ("started", "returned") or _is_in_use(answer, code) == (what == "started")):
            self.memory.tell(code, what, name)
            return
        if or_else and answer.status_code >= 500:
            raise Gave(f"{verb}: {answer.status_code} {_said(answer)}")

    def _open_keys(self, person: Employee, code: str, patience: float = PATIENCE) -> None:
        ahead = self.arena.clocks.ahead("aws") - self._database_ahead
        opened = self._opened(person, code, "credentials", patience)
        keys = Keys(
            code,
            opened["access_key_id"],
            opened["secret_access_key"],
            opened["session_token"],
            datetime.fromisoformat(opened["expires_at"]).timestamp() + ahead,
        )
        self.memory.hold(keys)
        keys.worked = bool(self.works(keys))

    def _open_console(self, person: Employee, code: str) -> None:
        if self._opened(person, code, "console", PATIENCE)["url"]:
            self.memory.links += 1

    def _opened(self, person: Employee, code: str, kind: str, patience: float) -> dict[str, Any]:
        self.memory.count("wishes")
        wish = person.ask(code, kind)
        state = wish.settle(patience)
        if state != "sealed":
            raise Gave(f"{kind}: {state}")
        return wish.open()

    # Who tries every key when its pass is over.

    _database_ahead = 0.0

    def _watch_ends(self) -> None:
        while not self._over.wait(0.2):
            with contextlib.suppress(psycopg.Error):  # PostgreSQL is down on purpose; its clock goes on
                self._database_ahead = self.arena.database_is_ahead()
            for keys in [one for one in self.memory.keys if not one.tried_after]:
                late = time.time() + self.arena.clocks.ahead("aws") - keys.ends_at
                if late < 1.0:
                    continue
                answer = self.works(keys)
                if answer is True:
                    keys.outlived = f"{keys.code}: keys worked {late:.1f} s after the end"
                identified = self.identifies(keys)
                keys.identified = identified is True
                keys.tried_after = answer is not None and identified is not None


def _choices(arena: Arena) -> dict[str, list[tuple[str, str]]]:
    """Roles and terms that the askers may ask for, by what they want."""
    names = {"reading": ("Reading, automatic", "ReadOnly"), "administering": ("Payments administrator, one lead", "")}
    return {
        what: [
            (str(role), str(entitlement))
            for role, entitlement in arena.rows(
                "SELECT r.public_id, e.public_id FROM requests_app_entitlement e"
                " JOIN requests_app_entitlementrole er ON er.entitlement_id = e.id"
                " JOIN requests_app_role r ON r.id = er.role_id WHERE e.name = %s AND r.name LIKE %s || '%%'",
                name,
                role_name or "Administrator",
            )
        ]
        for what, (name, role_name) in names.items()
    }


def _posted(person: Employee, path: str, form: dict[str, str]) -> httpx.Response:
    answer = person.post(path, form)
    if "/accounts/login" in str(answer.url):
        raise Gave("signed out")
    return answer


def _is_in_use(page: httpx.Response, code: str) -> bool:
    """Whether this page of an active pass offers to give it back."""
    return f"/requests/{code}/give-back" in page.text


def _said(answer: httpx.Response) -> str:
    notices = re.findall(r'class="notice[^>]*>.*?<p>(.*?)</p>', answer.text, re.DOTALL)
    return "; ".join(notices)[:200]


def _patience(person: Employee) -> None:
    person._http.timeout = PATIENCE
