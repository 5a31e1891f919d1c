"""`make bench`: what one mint costs through the whole product, beside what its four parts cost alone, in one run.

Times of one machine say little about another's; their ratios say how much of a mint is Daypass. Nothing here is
asserted. Prints a table and writes it, with where and when it was taken, to bench/mint.md.
"""

import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from joserfc import jwe
from joserfc.jwk import ECKey

from sandbox import landscape, postgres
from sandbox.stack import Stack

READING = Path(__file__).with_suffix(".md")
PARTS = 150  # how often each part is done
MINTS = 100  # one after the other, and as many again by several at once
AT_ONCE = 8
LONGEST = 15.0  # seconds for each of the phases, so that a slow machine takes fewer readings and no longer
PEOPLE = ("alice", "erin", "bob")
ROLE = ("payments-prod", "ReadOnly")
WATCHED = ("web", "mint", "default", "PostgreSQL", "Redis")
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Reading:
    """What one thing took: seconds each time, and seconds of CPU altogether by who spent them."""

    name: str
    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    counted: dict[str, float] = field(default_factory=dict)  # each time, by PostgreSQL

    @property
    def cpu_ms(self) -> float:
        return sum(self.of(who) for who in self.cpu)

    def of(self, who: str) -> float:
        """Milliseconds of CPU each time; never below nothing, which taking the idle rate off could give."""
        return max(0.0, self.cpu.get(who, 0.0)) * 1000 / len(self.seconds)

    def at(self, part: float) -> float:
        return 1000 * sorted(self.seconds)[min(len(self.seconds) - 1, int(part * len(self.seconds)))]


def main() -> None:
    began, load = time.monotonic(), os.getloadavg()[0]
    with _whole_product() as (stack, server):
        meter = Meter({name: stack[name].pid for name in ("web", "mint", "default")})
        meter.roots |= {"PostgreSQL": server, "Redis": stack["redis"].pid}
        colleagues = _colleagues(stack)
        _warm_up(stack, colleagues)
        meter.learn_idle_rate(seconds=6)
        readings = [
            _signed_in_post(meter, colleagues[0]),
            _seal(meter),
            _assume_role(meter, stack),
            _celery(meter, stack),
            *_mints(meter, colleagues),
        ]
        text = _report(readings, time.monotonic() - began, load)
    print(f"\n{text}")
    READING.write_text(text)


class Meter:
    """CPU of the product's processes by /proc, with what they spend when nobody asks for anything taken off."""

    def __init__(self, roots: dict[str, int]) -> None:
        self.roots = roots
        self._idle: dict[str, float] = {}

    def learn_idle_rate(self, seconds: float) -> None:
        before = self._spent()
        time.sleep(seconds)
        after = self._spent()
        self._idle = {name: (after[name] - before[name]) / seconds for name in before}

    def measure(
        self, name: str, once: Callable[[int], float | None], times: int, *, inside: str = "", at_once: int = 1
    ) -> Reading:
        """`once(thread)` so many times, or until the phase's time is up; it may return its own seconds.

        `inside` counts the CPU of this very process too, under that name: for parts that run in it.
        """
        reading = Reading(name)
        turns = itertools.count()
        before, own, began = self._spent(), time.process_time(), time.monotonic()

        def work(thread: int) -> None:
            while next(turns) < times and time.monotonic() - began < LONGEST:
                started = time.perf_counter()
                took = once(thread)
                reading.seconds.append(time.perf_counter() - started if took is None else took)

        if at_once == 1:
            work(0)
        else:
            with ThreadPoolExecutor(at_once) as pool:
                list(pool.map(work, range(at_once)))
        reading.wall = time.monotonic() - began
        own = time.process_time() - own
        time.sleep(0.5)  # what is asked for is done; its mail is perhaps still being sent
        elapsed, after = time.monotonic() - began, self._spent()
        for who, spent in before.items():
            reading.cpu[who] = after[who] - spent - self._idle.get(who, 0.0) * elapsed
        if inside:
            reading.cpu[inside] += own
        return reading

    def _spent(self) -> dict[str, float]:
        table = _processes()
        return {name: sum(table[pid][1] for pid in _tree(table, root)) for name, root in self.roots.items()}


def _processes() -> dict[int, tuple[int, float]]:
    """Of every process its parent, and its CPU seconds with those of the children it has buried."""
    table = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        table[int(stat.parent.name)] = int(fields[1]), sum(map(int, fields[11:15])) / TICK
    return table


def _tree(table: dict[int, tuple[int, float]], root: int) -> Iterator[int]:
    yield root
    for pid, (parent, _) in table.items():
        if parent == root:
            yield from _tree(table, pid)


@contextmanager
def _whole_product() -> Iterator[tuple[Stack, int]]:
    """The running product with the demo's people, on a durable PostgreSQL; and that server's process id."""
    folder = Path(tempfile.mkdtemp(prefix="daypass-bench-")) / "postgres"
    with ExitStack() as cleaning:
        cleaning.callback(postgres.clear, folder)
        server = cleaning.enter_context(postgres.Postgres(folder))
        stack = Stack(app_url=server.app_url(), owner_url=server.owner_url())
        stack.manage("migrate", "--database", "owner", "--noinput", "--verbosity=0")
        cleaning.enter_context(stack)
        stack.python("-m", "sandbox.demo")
        _be_django(stack)
        yield stack, int((server.data / "postmaster.pid").read_text().split("\n", 1)[0])


def _be_django(stack: Stack) -> None:
    """Let this process make passes by the product's own verbs, and send it tasks."""
    os.environ |= {**stack.environment(), "DJANGO_SETTINGS_MODULE": "portal.settings", "LOG_LEVEL": "ERROR"}
    import django

    django.setup()
    import portal.celery  # noqa: F401  (the application that send_task means)


@dataclass
class Colleague:
    """Someone signed in, with a pass of their own."""

    http: Any
    code: str


def _colleagues(stack: Stack) -> list[Colleague]:
    from tests.stack.people import Employee

    people = [PEOPLE[number % len(PEOPLE)] for number in range(AT_ONCE)]
    return [Colleague(Employee(stack, username), _pass_for(username)) for username in people]


def _pass_for(username: str) -> str:
    from requests_app.domain import workflow
    from requests_app.domain.models import Entitlement, Role, User

    person = User.objects.get(username=username)
    account, name = ROLE
    role = Role.objects.get(account__name=account, name=name)
    entitlement = Entitlement.objects.reaching(person).for_role(role).get(approval="automatic")
    made = workflow.submit(
        role,
        by=person,
        entitlement=entitlement,
        duration=timedelta(hours=1),
        justification="to see what a mint costs",
        start="at_once",
    )
    return made.code


def _warm_up(stack: Stack, colleagues: list[Colleague]) -> None:
    """Every thread, connection and client that the product keeps has been made once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(4):
            list(pool.map(_mint, colleagues))


def _signed_in_post(meter: Meter, colleague: Colleague) -> Reading:
    """Sign-in, CSRF and JSON as for a mint; then it is refused for having no key, before any row is written."""

    def post(_: int) -> None:
        answer = colleague.http.post("/deliveries/", {"code": colleague.code, "kind": "credentials"})
        assert answer.status_code == 422, answer.text

    return meter.measure("signed-in POST that does nothing", post, PARTS)


def _seal(meter: Meter) -> Reading:
    from requests_app.domain import sealing
    from requests_app.domain.secret import Secret

    key = ECKey.generate_key("P-256").as_dict(private=False)
    secrets = {"secret_access_key": Secret("s" * 40), "session_token": Secret("t" * 900)}
    payload = {"kind": "credentials", "access_key_id": "ASIA" + "A" * 16, **secrets}

    def seal(_: int) -> None:
        sealing.seal(payload, key)

    return meter.measure("one seal", seal, PARTS, inside="mint")


def _assume_role(meter: Meter, stack: Stack) -> Reading:
    """Plain boto3 with the minter's own identity and the very parameters that the product sends."""
    from requests_app.aws import session_policy

    account = next(one for one in landscape.ACCOUNTS if one.name == ROLE[0])
    arn = account.role_arn(ROLE[1])
    sts = stack.aws.as_profile("minter").client("sts")
    policy = session_policy.session_policy(cut_off=datetime.now(UTC) + timedelta(hours=1), role_arn=arn)

    def assume_role(_: int) -> None:
        sts.assume_role(
            RoleArn=arn,
            RoleSessionName="DP-00000000-bench",
            DurationSeconds=3600,
            ExternalId=account.external_id,
            SourceIdentity="person-0123456789",
            Policy=policy,
        )

    return meter.measure("bare boto3 AssumeRole", assume_role, PARTS, inside="mint")


def _celery(meter: Meter, stack: Stack) -> Reading:
    """`mint.mint` with an id that no delivery can have, from `send_task` to the worker's acknowledgement.

    Workers acknowledge when a task is done, by taking it out of the hash `unacked`: Redis tells us of that.
    Beat is stopped meanwhile, so that no other task's acknowledgement is taken for ours.
    """
    from celery import current_app

    stack["beat"].stop()
    redis: Any = stack.redis.client()
    redis.config_set("notify-keyspace-events", "Kh")
    acknowledged = redis.pubsub(ignore_subscribe_messages=True)
    acknowledged.subscribe("__keyspace@0__:unacked")
    _drain(acknowledged, 1.0)

    def there_and_back(_: int) -> None:
        current_app.send_task("mint.mint", [0], expires=20)
        while (message := acknowledged.get_message(timeout=10)) is None or message["data"] != b"hdel":
            pass

    try:
        return meter.measure("Celery, there and back", there_and_back, PARTS, inside="web")
    finally:
        acknowledged.close()
        redis.config_set("notify-keyspace-events", "")
        stack["beat"].start()


def _drain(subscription: Any, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        subscription.get_message(timeout=0.1)


def _mints(meter: Meter, colleagues: list[Colleague]) -> list[Reading]:
    before = _counted_by_postgresql()
    one = meter.measure("**a mint, one after the other**", lambda _: _mint(colleagues[0]), MINTS)
    for name, count in _counted_by_postgresql().items():
        one.counted[name] = (count - before[name]) / len(one.seconds)
    inner = _from_asked_to_sealed(len(one.seconds))
    many = meter.measure(
        f"**a mint, {AT_ONCE} people at once**", lambda thread: _mint(colleagues[thread]), MINTS, at_once=AT_ONCE
    )
    return [one, inner, many]


def _mint(colleague: Colleague) -> None:
    """What the page's script does: make a key, ask, poll if the answer did not bring the envelope, open it."""
    wish = colleague.http.ask(colleague.code, waits=True)
    opened = jwe.decrypt_compact(wish.envelope or _polled(wish), wish.key, algorithms=["ECDH-ES", "A256GCM"])
    assert json.loads(opened.plaintext or b"")["secret_access_key"]


def _polled(wish: Any) -> str:
    """The waits, in seconds, are those of static/daypass/delivery.js."""
    wait = 0.3
    while True:
        time.sleep(wait)
        wait = min(wait * 1.4, 1.0)
        state = wish.state()["state"]
        assert state in ("asked", "claimed", "sealed"), wish.state()
        if state == "sealed" and (answer := wish.take()).json().get("rule") != "delivery.not_yet":
            assert answer.status_code == 200, answer.text
            return str(answer.json()["envelope"])


def _counted_by_postgresql() -> dict[str, int]:
    from django.db import connection

    time.sleep(1.5)  # its processes hand their counts in once a second
    with connection.cursor() as cursor:
        cursor.execute("SELECT sessions, xact_commit FROM pg_stat_database WHERE datname = current_database()")
        return dict(zip(("connections", "transactions"), cursor.fetchone(), strict=True))


def _from_asked_to_sealed(count: int) -> Reading:
    """The same mints by their rows, without the page's waits: from the wish to the envelope lying ready."""
    from requests_app.domain.models import Delivery

    last = Delivery.objects.filter(sealed_at__isnull=False).order_by("-pk").values_list("asked_at", "sealed_at")
    seconds = [(sealed - asked).total_seconds() for asked, sealed in last[:count] if sealed]
    return Reading("… of that from the wish to the sealed envelope", seconds)


def _report(readings: list[Reading], seconds: float, load: float) -> str:
    parts, (one, inner, many) = readings[:4], readings[4:]
    total = Reading("**the four together**", [sum(statistics.median(part.seconds) for part in parts)])
    total.cpu = {who: sum(part.of(who) for part in parts) / 1000 for who in WATCHED}
    head = ["", "n", "p50", "p95", "CPU", *WATCHED, "p50 ÷ the four", "CPU ÷ the four"]
    rows = [_row(part) for part in parts]
    rows += [_row(total, alone=True)]
    rows += [_row(one, total), _row(inner, total, cpu=False), _row(many, total)]
    table = ["| " + " | ".join(row) + " |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows)]
    return _TEXT.format(
        table="\n".join(table),
        when=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        cores=os.cpu_count(),
        machine=f"{platform.system()} {platform.machine()}, {_processor()}",
        load=load,
        versions=_versions(),
        **one.counted,
        throughput=len(many.seconds) / many.wall,
        at_once=AT_ONCE,
        seconds=seconds,
    )


def _row(reading: Reading, total: Reading | None = None, *, cpu: bool = True, alone: bool = False) -> list[str]:
    count, p95 = ("", "") if alone else (str(len(reading.seconds)), f"{reading.at(0.95):.1f}")
    p50 = 1000 * statistics.median(reading.seconds)
    spent = [f"{reading.cpu_ms:.1f}", *(f"{reading.of(who):.1f}" for who in WATCHED)] if cpu else [""] * 6
    ratios = ["", ""]
    if total is not None:
        ratios = [f"{p50 / total.at(0):.1f}", f"{reading.cpu_ms / total.cpu_ms:.1f}" if cpu else ""]
    return [reading.name, count, f"{p50:.1f}", p95, *spent, *ratios]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def _versions() -> str:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        (server,) = cursor.fetchone()
    names = ("Django", "celery", "redis", "boto3", "joserfc", "psycopg", "gunicorn", "ministack")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    return f"Python {platform.python_version()}, PostgreSQL {server}, {packages}"


_TEXT = """\
# What a mint costs

Taken by `make bench` on {when}, in {seconds:.0f} s: {cores} cores ({machine}), load {load:.1f} before it began.
{versions}.

Milliseconds; CPU is each time's, altogether and by process.

{table}

At {at_once} people at once: {throughput:.1f} mints a second. Each mint, with its looks and its mail, opens about
{connections:.1f} new connections to PostgreSQL and commits {transactions:.0f} transactions, single reads among them.

How to read it:

- The ratios are the finding, and only of a machine that had nothing else to do. Each compares with *the four
  together*: the sum of the parts' p50, and of their CPU.
- **signed-in POST that does nothing**: to the address where a mint begins, with sign-in and CSRF check, refused for
  want of a key before any row is written.
- **Celery, there and back**: `mint.mint` with an id that no delivery has, from publishing (counted as web) to the
  worker's acknowledgement, which comes when the task is done.
- **one seal** and **bare boto3 AssumeRole** run in this script and are counted as the mint worker's; the call has the
  parameters that Daypass sends. The stand-in for AWS is waited for and not counted; AWS itself takes about 80 ms.
- **a mint**: what a person's page does: ask, and open the envelope that comes with the answer if it was ready within
  250 ms. Else look until it is sealed, after 300, 720 … ms as the page does, and take it; each look is a signed-in
  request and part of web's CPU. The line below it shows the same mints without those waits, by the times in their rows.
- A mint also does what no part does: three short transactions with their audit events, the checks before and after
  the call, the rows of delivery and session, and a mail that tells the person (the default worker's).
- What the processes spend when nobody asks is taken off. Whoever asks is not counted, but shares the cores.
- PostgreSQL is durable here (fsync on), everything is on one machine, Redis keeps nothing.
"""


if __name__ == "__main__":
    if sys.platform != "linux":
        sys.exit("CPU by process is read from /proc: this needs Linux.")
    main()
