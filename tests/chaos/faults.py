"""Everything that is broken on purpose: one list. Each does its harm while people work, heals it, and returns."""

import contextlib
import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import redis

from sandbox.employee import Employee
from sandbox.postgres import APP
from sandbox.processes import PROCESSES
from sandbox.proxy import FEDERATION
from sandbox.proxy import Fault as Break
from tests.chaos.arena import Arena, Repeated, Stopwatch, small_disk, until
from tests.chaos.people import CODE
from tests.refusals import REFUSALS, Refusal

QUEUES = ("mint", "aws", "revoke", "default")


@dataclass(frozen=True)
class Fault:
    """`heals`: what undoes it. `short`: part of `make test`. `needs`: what the arena must have."""

    name: str
    heals: str
    run: Callable[[Arena], None]
    short: bool = False
    needs: str = ""
    settles_in: float = 110
    # Invariants that it breaks, and that are found broken, as they should be.
    explains: frozenset[str] = frozenset()
    # What people were told since is forgotten with it.
    forgets: bool = False


FAULTS: list[Fault] = []


def fault(name: str, *, heals: str, **options: Any) -> Callable[[Any], Any]:
    def note(run: Callable[[Arena], None]) -> Callable[[Arena], None]:
        FAULTS.append(Fault(name, heals, run, **options))
        return run

    return note


class Broke(Exception):
    """The harm was not done, so that surviving it would show nothing; or what it did is wrong at once."""


# --- processes -----------------------------------------------------------------------------------

A_SUPERVISOR = "started again, as a supervisor does"
# Where a worker is killed: between two steps of its work, after so many of them.
DEATHS = {
    "default": (
        ("after:requests_app.background.mail.sending._claim", 3),
        ("after:requests_app.background.mail.sending._send", 3),
        ("after:requests_app.domain.workflow.sweeps._take", 3),
        ("after:requests_app.domain.audit.record_many", 1),
        ("after:requests_app.domain.workflow.deliveries._give_up", 4),
    ),
    "mint": (
        ("after:requests_app.background.minting.deliveries.claim", 3),
        ("after:requests_app.background.minting.sts.assume_role", 3),
        ("after:requests_app.background.minting.deliveries.record", 3),
        ("after:requests_app.background.minting.envelopes.put", 3),
        ("after:requests_app.background.minting.deliveries.seal_down", 1),
    ),
    "revoke": (
        ("after:requests_app.background.revoking.revocations.take_up", 3),
        ("after:requests_app.background.revoking.revocations.note_draft", 2),
        ("after:requests_app.background.revoking.deny_policy.write", 2),
        ("after:requests_app.background.revoking.revocations.note_written", 2),
    ),
    "web": (
        ("after:requests_app.domain.workflow.approve", 3),
        ("after:requests_app.domain.workflow.submit", 3),
        ("after:requests_app.domain.workflow.deliveries.ask", 3),
        ("after:requests_app.domain.workflow.deliveries.hand_over", 3),
    ),
}


def _dies_between_two_steps(name: str) -> Callable[[Arena], None]:
    def run(arena: Arena) -> None:
        for point, times in DEATHS[name]:
            _dies_at(arena, name, point, times)

    return run


def _dies_at(arena: Arena, name: str, point: str, times: int) -> None:
    child = arena.stack[name]
    program, *arguments = child.command
    child.stop()
    command = [sys.executable, "-m", "tests.chaos.dies_at", point, str(times), Path(program).name, *arguments]
    deadly = arena.another(name, number=0, command=command)
    deadly.start()
    try:
        if name == "web":
            # Its master lives and makes another; what died says so in the log.
            died = until(lambda: "SIGKILL" in deadly.end_of_log(200), 25)
        else:
            died = until(lambda: not deadly.alive(), 40)
        if not died:
            raise Broke(f"{name} was never killed {point}:\n{deadly.end_of_log(8)}")
    finally:
        deadly.kill()
        arena.stack.revive(name)


for _name in ("default", "mint", "revoke", "web"):
    FAULTS.append(
        Fault(f"{_name} killed between two steps ({len(DEATHS[_name])} points)", A_SUPERVISOR,
              _dies_between_two_steps(_name))
    )  # fmt: skip


def _killed(name: str, times: int = 2) -> Callable[[Arena], None]:
    def run(arena: Arena) -> None:
        for _ in range(times):
            arena.wait(0.3, 2)
            arena.stack[name].kill()
            arena.wait(0.2, 2)
            arena.stack.revive(name)

    return run


def _stopped_for_a_while(name: str, seconds: float) -> Callable[[Arena], None]:
    def run(arena: Arena) -> None:
        arena.wait(0.3, 2)
        arena.stack[name].freeze()
        try:
            arena.wait(seconds)
        finally:
            arena.stack[name].cont()

    return run


for _process in PROCESSES:
    FAULTS.append(Fault(f"{_process.name}: SIGKILL at a random moment, twice", A_SUPERVISOR, _killed(_process.name)))
for _name, _seconds in (("web", 6), ("mint", 8), ("revoke", 8), ("default", 8), ("beat", 8)):
    FAULTS.append(Fault(f"{_name}: SIGSTOP for {_seconds} s", "SIGCONT", _stopped_for_a_while(_name, _seconds)))


@fault("mint: SIGSTOP for 50 s, longer than its work is waited for", heals="SIGCONT")
def mint_comes_back_late(arena: Arena) -> None:
    _stopped_for_a_while("mint", 50)(arena)


@fault("mint and default: SIGKILL at once", heals=A_SUPERVISOR, short=True)
def two_workers_die(arena: Arena) -> None:
    arena.wait(0.5, 2)
    for name in ("mint", "default"):
        arena.stack[name].kill()
    arena.wait(1, 2)
    for name in ("mint", "default"):
        arena.stack.revive(name)


@fault("everything but the servers: SIGKILL at once", heals=A_SUPERVISOR)
def all_die(arena: Arena) -> None:
    arena.wait(0.5, 2)
    for process in PROCESSES:
        arena.stack[process.name].kill()
    arena.wait(3)
    for process in PROCESSES:
        arena.stack.revive(process.name)


@fault("two beats", heals="the second one stopped")
def two_beats(arena: Arena) -> None:
    second = arena.another("beat", number=2)
    second.start()
    try:
        arena.wait(15)
    finally:
        second.stop()


@fault("twenty workers more", heals="stopped")
def twenty_workers(arena: Arena) -> None:
    more = [
        arena.another(name, number=number)
        for name, count in (("mint", 8), ("default", 8), ("revoke", 4))
        for number in range(2, 2 + count)
    ]
    try:
        for worker in more:
            worker.start()
        if not until(lambda: all(" ready." in worker.end_of_log(80) for worker in more), 150):
            raise Broke("twenty workers did not become ready")
        arena.wait(10)
    finally:
        for worker in more:
            worker.kill()


# --- Redis ---------------------------------------------------------------------------------------


@fault("Redis: FLUSHALL, three times", heals="nothing", short=True)
def redis_flushed(arena: Arena) -> None:
    client = arena.stack.redis.client()
    for _ in range(3):
        arena.wait(0.2, 1.2)
        client.flushall()


@fault("Redis: SIGSTOP for 30 s", heals="SIGCONT")
def redis_frozen(arena: Arena) -> None:
    _stopped_for_a_while("redis", 30)(arena)


@fault("Redis: SIGSTOP for 6 s", heals="SIGCONT")
def redis_hangs(arena: Arena) -> None:
    _stopped_for_a_while("redis", 6)(arena)


@fault("Redis: stopped for 30 s, started empty", heals="started")
def redis_restarted_empty(arena: Arena) -> None:
    arena.stack["redis"].kill()
    try:
        arena.wait(30)
    finally:
        arena.stack.redis.start()


def _refuses(refusal: Refusal) -> Callable[[Arena], None]:
    """Nobody dies, and what is ended meanwhile ends at AWS."""

    def run(arena: Arena) -> None:
        with Employee(arena.stack.url, "olivia") as olivia, refusal.lasting(arena.stack.redis):
            code = _revoke_one(arena, olivia)
            if not until(lambda: bool(arena.rows(_WRITTEN, code)), 45):
                raise Broke(f"{code} was revoked, and AWS was not told while Redis refused")
            _must_live(arena)

    return run


def _revoke_one(arena: Arena, olivia: Employee) -> str:
    """Somebody's pass that has keys; its code."""
    if not until(lambda: bool(arena.rows(_WITH_KEYS)), 20):
        raise Broke("nobody had keys to be revoked")
    for (code,) in arena.rows(_WITH_KEYS):
        olivia.post(f"/requests/{code}/revoke", {"reason": "while Redis refuses"})
        if arena.rows("SELECT FROM requests_app_accessrequest WHERE code = %s AND state = 'revoked'", code):
            return str(code)
    raise Broke("nothing could be revoked")


def _must_live(arena: Arena) -> None:
    if dead := arena.died_by_itself():
        raise Broke(f"ended by itself: {', '.join(dead)}")


_WITH_KEYS = """
SELECT r.code FROM requests_app_accessrequest r WHERE r.state = 'active'
AND r.expires_at > clock_timestamp() + interval '15 s'
AND EXISTS (SELECT FROM requests_app_issuedsession s WHERE s.access_request_id = r.id AND NOT s.discarded)
ORDER BY r.id DESC LIMIT 10
"""
_WRITTEN = """
SELECT FROM requests_app_revocation v JOIN requests_app_accessrequest r ON r.id = v.access_request_id
WHERE r.code = %s AND v.written_at IS NOT NULL
"""

for _refusal in REFUSALS:
    FAULTS.append(
        Fault(
            f"Redis refuses: {_refusal.why} ({_refusal.name})",
            "it takes writes again",
            _refuses(_refusal),
            short=_refusal.name == "OOM",
        )
    )


@fault("Redis evicts whatever was used least (allkeys-lru)", heals="memory again")
def redis_evicts(arena: Arena) -> None:
    client: Any = arena.stack.redis.client()
    before = client.info("stats")["evicted_keys"]
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 200_000)
    numbers = itertools.count()

    def fill() -> None:
        with contextlib.suppress(redis.RedisError):  # where evicting took too long
            client.set(f"ballast:{next(numbers)}", "x" * 10_000, ex=600)

    try:
        with Repeated(fill, 0.02):
            arena.wait(12)
        _must_live(arena)
        if client.info("stats")["evicted_keys"] == before:
            raise Broke("nothing was evicted")
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


@fault("tasks delivered twice, late, never, out of order, and forged", heals="nothing", short=True)
def tasks_mixed_up(arena: Arena) -> None:
    """Whoever can write to the broker takes messages before the workers do and does as they like with them."""
    client: Any = arena.stack.redis.client()
    held: list[tuple[str, bytes]] = []
    taken = itertools.count()

    def meddle() -> None:
        found = client.brpop(QUEUES, timeout=1)
        if found is not None:
            next(taken)
            queue, message = found[0].decode(), found[1]
            match arena.chance.choice(["twice", "late", "never", "shuffled"]):
                case "twice":
                    client.lpush(queue, message, _as_another(message))
                case "late":
                    held.append((queue, message))
                case "shuffled":
                    client.rpush(queue, message)
        if len(held) > 5:
            client.lpush(*held.pop(arena.chance.randrange(len(held))))
        for task, queue in (("mint.mint", "mint"), ("revoke.work", "revoke"), ("aws.probe", "aws")):
            client.lpush(queue, _forged(task, arena.chance.randrange(1, 400)))

    with Repeated(meddle, 0.02), Repeated(meddle, 0.02):
        arena.wait(6)
    for queue, message in held:
        client.lpush(queue, message)
    if next(taken) < 5:
        raise Broke("no message was caught")


def _as_another(message: bytes) -> bytes:
    """The same with a tag of its own: the broker keeps what is unacknowledged by its tag."""
    wrapped = json.loads(message)
    wrapped["properties"]["delivery_tag"] = f"again-{time.time_ns()}"
    return json.dumps(wrapped).encode()


def _forged(task: str, argument: int) -> str:
    from tests.stack.test_promises import _message

    return _message(task, [argument])


# --- PostgreSQL ----------------------------------------------------------------------------------


@fault("PostgreSQL: all connections cut, four times", heals="nothing", short=True)
def connections_cut(arena: Arena) -> None:
    cut = 0
    for _ in range(4):
        arena.wait(0.3, 1.2)
        with arena.superuser() as connection:
            cut += connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).rowcount
    if not cut:
        raise Broke("there was no connection to cut")


@fault("PostgreSQL: restarted, connections closed in order, twice", heals="started", needs="postgres")
def postgres_restarted(arena: Arena) -> None:
    for _ in range(2):
        arena.wait(0.5, 2)
        assert arena.postgres
        arena.postgres.restart()


@fault("PostgreSQL: immediate shutdown, as a crash, twice", heals="started; it recovers", needs="postgres")
def postgres_crashes(arena: Arena) -> None:
    for _ in range(2):
        arena.wait(0.5, 2)
        assert arena.postgres
        arena.postgres.restart(at_once=True)


def _cut_all(arena: Arena) -> None:
    with arena.superuser() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND pid <> pg_backend_pid()",
            [APP],
        )


def _set_for_the_application(setting: str, back: str, seconds: float = 10) -> Callable[[Arena], None]:
    """Whoever connects meanwhile gets it."""

    def run(arena: Arena) -> None:
        with arena.superuser() as connection:
            connection.execute(f"ALTER ROLE {APP} {setting}")
        _cut_all(arena)
        try:
            arena.wait(seconds)
        finally:
            with arena.superuser() as connection:
                connection.execute(f"ALTER ROLE {APP} {back}")
            _cut_all(arena)
        _must_live(arena)

    return run


FAULTS.append(
    Fault(
        "PostgreSQL: at its connection limit (three for all processes)",
        "lifted",
        _set_for_the_application("CONNECTION LIMIT 3", "CONNECTION LIMIT -1"),
        needs="postgres",
    )
)
FAULTS.append(
    Fault(
        "PostgreSQL: a statement_timeout of 100 ms",
        "lifted",
        _set_for_the_application("SET statement_timeout = '100ms'", "RESET statement_timeout"),
        needs="postgres",
    )
)


@fault("PostgreSQL: read-only, as after a failover", heals="it takes writes again", needs="postgres")
def postgres_read_only(arena: Arena) -> None:
    def set_read_only(value: str) -> None:
        with arena.superuser() as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            connection.execute("SELECT pg_reload_conf()")

    set_read_only("on")
    try:
        _must_become_unready(arena, "database: read-only")
        arena.wait(8)
    finally:
        set_read_only("off")
    _must_live(arena)


@fault("PostgreSQL: no room on its disk", heals="room again", needs="mount")
def postgres_disk_full(arena: Arena) -> None:
    """The record, to which every change is written, and temporary files stand on a small disk that is full."""
    assert arena.postgres
    account = arena.postgres._account
    table = "requests_app_auditevent"
    ((size,),) = arena.rows("SELECT pg_table_size(%s)", table)
    owner = (account.pw_uid, account.pw_gid) if account else None
    with small_disk(int(size) // 2**20 + 8, owner) as folder:
        try:
            with arena.superuser() as connection:
                connection.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
                connection.execute("GRANT CREATE ON TABLESPACE small TO PUBLIC")
                connection.execute(f"ALTER ROLE {APP} SET temp_tablespaces = small")
                connection.execute(f"ALTER TABLE {table} SET TABLESPACE small")
            _cut_all(arena)
            with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as ballast:
                while True:
                    ballast.write(bytes(4096))
            _must_become_unready(arena, "database: no room on its disk")
            arena.wait(8)
            (folder / "ballast").unlink()
            _must_live(arena)
        finally:
            (folder / "ballast").unlink(missing_ok=True)
            with arena.superuser() as connection:
                connection.execute(f"ALTER ROLE {APP} RESET temp_tablespaces")
                connection.execute(f"ALTER TABLE {table} SET TABLESPACE pg_default")
            _cut_all(arena)
            until(lambda: _dropped(arena), 20)


def _dropped(arena: Arena) -> bool:
    with arena.superuser() as connection:
        connection.execute("DROP TABLESPACE small")
    return True


def _must_become_unready(arena: Arena, words: str) -> None:
    said: list[str] = []

    def unready() -> bool:
        answer = httpx.get(f"{arena.stack.url}/readyz", timeout=10)
        said[:] = [f"{answer.status_code} {answer.text}"]
        return answer.status_code == 503 and words in answer.text

    if not until(unready, 20):
        raise Broke(f"/readyz went on saying {said}")


# --- AWS -----------------------------------------------------------------------------------------


def _aws(*breaks: Break, share: float = 0.5, seconds: float = 7, **options: Any) -> Callable[[Arena], None]:
    def run(arena: Arena) -> None:
        proxy = arena.stack.aws_proxy
        before = _broken(proxy, breaks)
        for one in breaks:
            proxy.fail(one, share=share, **options)
            arena.wait(seconds / len(breaks))
            proxy.heal()
        if _broken(proxy, breaks) == before:
            raise Broke("nobody asked AWS meanwhile")

    return run


def _broken(proxy: Any, breaks: tuple[Break, ...]) -> int:
    return sum(count for seen, count in proxy.counts().items() if seen.fault in breaks)


for _what, _breaks, _is_short in (
    ("throttles", (Break.THROTTLED, Break.THROTTLED_BY_JSON, Break.REQUEST_LIMIT, Break.SLOW_DOWN), False),
    ("answers 500, 502 and 503", (Break.ERROR_500, Break.ERROR_502, Break.ERROR_503), False),
    ("answers 504 and did it", (Break.ERROR_504,), False),
    ("is silent", (Break.SILENCE,), False),
    ("is silent and did it", (Break.SILENCE_AFTER,), False),
    ("resets connections", (Break.RESET,), False),
    ("resets connections and did it", (Break.RESET_AFTER,), True),
    ("says AccessDenied", (Break.DENIED,), False),
    ("sends malformed and truncated XML", (Break.MALFORMED, Break.TRUNCATED), False),
    ("is a page of a middle box", (Break.PAGE, Break.BLOCKED), False),
    ("drips, a byte a second", (Break.DRIP,), False),
    ("sends 64 MB", (Break.HUGE,), False),
):
    FAULTS.append(Fault(f"AWS {_what}", "the next call works", _aws(*_breaks), _is_short))


@fault("the console's sign-in endpoint: refuses, hangs, resets, is a page, drips", heals="the next call works")
def federation_broken(arena: Arena) -> None:
    proxy = arena.stack.federation_proxy
    breaks = (Break.ERROR_503, Break.DENIED, Break.SILENCE, Break.RESET_AFTER, Break.PAGE, Break.MALFORMED, Break.DRIP)
    for one in breaks:
        proxy.fail(one, services={FEDERATION})
        arena.wait(3)
        proxy.heal()
    if not _broken(proxy, breaks):
        raise Broke("nobody asked for the console meanwhile")


@fault("AWS: stopped for 10 s", heals="started")
def aws_down(arena: Arena) -> None:
    arena.stack.aws.stop()
    try:
        arena.wait(10)
    finally:
        arena.stack.aws.start()


# --- clocks --------------------------------------------------------------------------------------


def _apart(whose: str, seconds: float, *, works: bool) -> Callable[[Arena], None]:
    """`works`: meanwhile people get keys and mail all the same."""

    def run(arena: Arena) -> None:
        arena.clocks.set(whose, seconds)
        try:
            # AWS's clock is measured every 20 s, against PostgreSQL's; the others are nobody's measure.
            arena.wait(22 if whose in ("aws", "postgres") else 12)
            if works and not until(lambda: _goes_through(arena), 15):
                raise Broke("nobody got keys meanwhile")
            if works and not until(lambda: arena.rows(_SENT_LATELY)[0][0] > 0, 15):
                raise Broke("no mail was sent meanwhile")
        finally:
            arena.clocks.set(whose, 0)

    return run


def _goes_through(arena: Arena) -> bool:
    arena.use_once()
    return True


_SENT_LATELY = "SELECT count(*) FROM requests_app_notice WHERE sent_at > clock_timestamp() - interval '5 s'"

# AWS and PostgreSQL apart by more than 30 s, nothing is minted; by less, and for all others, everything goes on.
for _whose, _all_seconds in (
    ("aws", (-7, 7, -150, 150)),
    ("mint", (-150, 150)),
    ("default", (-150, 150)),
    ("web", (-150, 150)),
):
    for _seconds in _all_seconds:
        FAULTS.append(
            Fault(
                f"the clock of {_whose} {abs(_seconds)} s {'ahead' if _seconds > 0 else 'behind'}",
                "set right",
                _apart(_whose, _seconds, works=_whose != "aws" or abs(_seconds) < 30),
            )
        )


@fault("AWS's Date header 5 min wrong, both ways", heals="right again")
def wrong_date(arena: Arena) -> None:
    for seconds in (300, -300):
        arena.stack.aws_proxy.fail(Break.WRONG_DATE, seconds=seconds)
        arena.wait(12)
        arena.stack.aws_proxy.heal()


# --- very much at once ---------------------------------------------------------------------------


@fault("1,000 approvals at once, each request by two people", heals="nothing", needs="postgres")
def many_approvals(arena: Arena) -> None:
    from requests_app.domain import workflow
    from requests_app.domain.models import Entitlement, Role, User

    terms = Entitlement.objects.get(name="Payments administrator, one lead")
    role = Role.objects.get(account__name="payments-prod", name="DatabaseOperator")
    people = list(User.objects.filter(username__in=arena.askers))
    codes = [
        workflow.submit(
            role,
            by=people[number % len(people)],
            entitlement=terms,
            duration=timedelta(minutes=10),
            justification="one of a thousand",
        ).code
        for number in range(1000)
    ]
    told: Counter[str] = Counter()
    lock = threading.Lock()
    deciders = {name: Employee(arena.stack.url, name) for name in ("bob", "carol")}

    def approve(wish: tuple[str, str]) -> None:
        name, code = wish
        client = deciders[name]._http
        try:
            answer = client.post(
                f"/requests/{code}/approve",
                data={"comment": "", "stage": "1"},
                headers={"X-CSRFToken": client.cookies["csrftoken"]},
                follow_redirects=False,
                timeout=60,
            )
            said = str(answer.status_code)
        except httpx.HTTPError as error:
            said = type(error).__name__
        with lock:
            told[said] += 1

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(approve, [(name, code) for code in codes for name in deciders]))
    found = arena.rows(
        "SELECT count(*) FILTER (WHERE r.state IN ('approved', 'denied')), count(d.id)"
        " FROM requests_app_accessrequest r LEFT JOIN requests_app_decision d ON d.access_request_id = r.id"
        " WHERE r.code = ANY(%s)",
        codes,
    )
    if told != {"302": 2000} or found != [(1000, 1000)]:
        raise Broke(f"2,000 answers were {dict(told)}; decided, and by how many: {found}")


@fault("10,000 passes end in the same second", heals="nothing", needs="postgres", settles_in=400)
def many_ends(arena: Arena) -> None:
    with arena.superuser() as connection, connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        (count,) = connection.execute(_TEN_THOUSAND).fetchone() or (0,)
    watch = Stopwatch()
    over = "SELECT count(*) FROM requests_app_accessrequest WHERE justification = 'one of ten thousand' AND state = %s"
    if not until(lambda: arena.rows(over, "expired") == [(count,)], 60) or count != 10_000:
        raise Broke(f"of {count} passes {arena.rows(over, 'active')} still are active after {watch.seconds:.0f} s")


# The database's clock is every rule's. Set back, what comes later has an earlier time, and is found.
for _seconds in (-7, 7, -150, 150):
    FAULTS.append(
        Fault(
            f"the clock of PostgreSQL {abs(_seconds)} s {'ahead' if _seconds > 0 else 'behind'}",
            "set right; times that do not fit together are found",
            _apart("postgres", _seconds, works=abs(_seconds) < 30),
            needs="libfaketime",
            # Two minutes ahead, it lets early ends go sooner than AWS's clock would.
            explains=frozenset({"request.times", "session.outside_its_pass", "revocation.over_at_the_wrong_time"}),
        )
    )


# --- a past that comes back ----------------------------------------------------------------------


@fault(
    "PostgreSQL: restored from a copy of half a minute before",
    heals="an operator confirms each active pass and lifts the freeze",
    needs="postgres",
    forgets=True,
)
def restored(arena: Arena) -> None:
    """Nothing is minted, and nothing taken away at AWS, until somebody has looked at each pass."""
    assert arena.postgres
    arena.wait(5)
    with arena.postgres.stopped():
        aside = arena.postgres.copy()
    arena.wait(25)
    denied_before = _denied_at_aws(arena)
    with arena.postgres.stopped():
        arena.wait(2)  # what AWS was being asked for is answered
        issued_before = _passes_issued(arena)
        arena.postgres.restore(aside)
    if not denied_before:
        raise Broke("nothing was ended early meanwhile")
    if not until(lambda: bool(arena.rows(_HELD)), 20):
        raise Broke("the database was restored, and nobody noticed")
    arena.wait(15)
    if more := _passes_issued(arena)[len(issued_before) :]:
        raise Broke(f"minted in a restored database: {more}")
    if missing := denied_before - _denied_at_aws(arena):
        raise Broke(f"taken away at AWS by a restored database: {sorted(missing)}")
    _look_at_each_pass(arena)


_HELD = "SELECT FROM requests_app_freeze WHERE cause = 'restored' AND lifted_at IS NULL"


def _passes_issued(arena: Arena) -> list[str]:
    """Sessions of passes that STS issued, oldest first; Daypass's own for looking are named otherwise."""
    names = [issued.session_name for issued in arena.stack.aws_proxy.issued()]
    return [name for name in names if name.endswith(tuple(f"-{who}" for who in (*arena.askers, "alice")))]


def _denied_at_aws(arena: Arena) -> set[tuple[str, str]]:
    """Role and code of every early end that AWS has in its policies."""
    found = set()
    for account, role in arena.rows(
        "SELECT a.number, r.name FROM requests_app_role r JOIN requests_app_account a ON a.id = r.account_id"
    ):
        iam = arena.stack.aws.root(account).client("iam")
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            document = json.dumps(iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"])
            found |= {(role, code) for code in CODE.findall(document)}
    return found


def _look_at_each_pass(arena: Arena) -> None:
    from django.db import connection

    from requests_app.domain.errors import Conflict
    from requests_app.domain.models import Freeze, User
    from requests_app.domain.workflow import freezes

    connection.close()
    olivia = User.objects.get(username="olivia")
    freeze = Freeze.objects.in_force().get(cause="restored")
    until_all = Stopwatch()
    while freeze.lifted_at is None:
        for one in freezes.unconfirmed(freeze):
            with contextlib.suppress(Conflict):  # it ended meanwhile
                freezes.confirm(one, freeze=freeze, by=olivia)
        try:
            freeze = freezes.lift(freeze, by=olivia)
        except Conflict:
            if until_all.seconds > 120:
                raise


# As the verbs would have made them; only faster.
_TEN_THOUSAND = """
WITH made AS (
    INSERT INTO requests_app_accessrequest (
        code, requester_id, beneficiary_id, role_id, entitlement_id, terms_document, justification, ticket,
        duration_seconds, start, state, asked_at, decide_by, stage, deciding_groups, deciding_users,
        approved_at, approved_seconds, start_by, activated_at, expires_at, end_reason)
    SELECT 'DP-' || upper(lpad(to_hex(i), 8, '0')), r.requester_id, r.beneficiary_id, r.role_id, r.entitlement_id,
           r.terms_document, 'one of ten thousand', '', 60, 'at_once', 'active', at, at + interval '1 day', 0, '{}',
           '{}', at, 60, at + interval '8 h', at, at + interval '60 s', ''
    FROM (SELECT * FROM requests_app_accessrequest WHERE stage = 0 ORDER BY id DESC LIMIT 1) r,
         generate_series(1, 10000) i,
         (SELECT date_trunc('second', clock_timestamp()) - interval '52 s' AS at) begun
    RETURNING *
), told AS (
    INSERT INTO requests_app_auditevent (at, recorded_at, transaction_id, action, actor_name, beneficiary_id,
                                         beneficiary_name, access_request_id, subject, channel, user_agent, detail)
    SELECT asked_at, now(), pg_current_xact_id(), action, 'Daypass', beneficiary_id, 'somebody', made.id, code,
           'system', '', '{}'
    FROM made, unnest(ARRAY['request.submitted', 'request.granted', 'request.started']) action
)
SELECT count(*) FROM made
"""
