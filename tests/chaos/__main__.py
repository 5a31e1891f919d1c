"""`make chaos`: every fault there is, one after the other, on the running product with people at work.

`SECONDS=300` stops beginning new ones after so long, `ONLY='redis|beat'` runs those with that in their name,
`SEED=17` repeats a run's choices as far as threads allow. Prints a table; a full run writes it to bench/chaos.md.
"""

import os
import platform
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from sandbox import aws, postgres
from sandbox.stack import Stack
from tests.chaos import faults
from tests.chaos.arena import FAKETIME, Arena, Stopwatch, can_mount
from tests.chaos.people import Load
from tests.chaos.rounds import Outcome, Rounds

READING = Path(__file__).resolve().parents[2] / "bench" / "chaos.md"
CLOCKED = ("mint", "default", "web")  # beat and revoke share the machine's clock with us


def main() -> int:
    watch, load_before = Stopwatch(), os.getloadavg()[0]
    seed = int(os.environ.get("SEED") or random.randrange(10**6))
    longest = float(os.environ.get("SECONDS") or 3600)
    only = os.environ.get("ONLY", "")
    chosen = [fault for fault in faults.FAULTS if re.search(only, fault.name, re.IGNORECASE)]
    print(f"SEED={seed}: {len(chosen)} faults, at most {longest:.0f} s", flush=True)
    with _arena(random.Random(seed)) as arena, Load(arena) as load:
        rounds = Rounds(arena, load)
        rounds.warm_up()
        left_out = []
        for fault in chosen:
            if watch.seconds > longest or not _possible(fault, arena):
                left_out.append(fault.name)
                continue
            _tell(rounds.run(fault), watch)
        at_last = rounds.last_look()
        arena.end()
    outcomes = list(rounds.outcomes.values())
    text = _report(outcomes, at_last, left_out, seed=seed, seconds=watch.seconds, load=load_before)
    print(f"\n{text}")
    if not only:
        READING.write_text(text)
    return 1 if at_last or any(one.broke for one in outcomes) else 0


@contextmanager
def _arena(chance: random.Random) -> Iterator[Arena]:
    """The product on a PostgreSQL of its own, durable, and with clocks that can be set apart."""
    folder = Path(tempfile.mkdtemp(prefix="daypass-chaos-")) / "postgres"
    with ExitStack() as cleaning:
        cleaning.callback(postgres.clear, folder)
        server = postgres.Postgres(folder)
        cleaning.enter_context(server)
        stack = Stack(app_url=server.app_url(), owner_url=server.owner_url(), proxied=True)
        stack.manage("migrate", "--database", "owner", "--noinput", "--verbosity=0")
        arena = Arena(stack, server.superuser_url(postgres.DATABASE), postgres=server, chance=chance)
        _be_django(stack)
        arena.settle_in()
        if FAKETIME:
            server.extra_environment = arena.clocks.of_postgres()
            server.restart()
        stack.aws.extra_environment = arena.clocks.of_python("aws")
        cleaning.enter_context(stack)
        for name in CLOCKED:
            stack[name].environment = {**(stack[name].environment or {}), **arena.clocks.of_python(name)}
            stack.restart(name)
        yield arena


def _be_django(stack: Stack) -> None:
    """Let this process ask the database as the product does."""
    os.environ |= {**stack.environment(), "DJANGO_SETTINGS_MODULE": "portal.settings", "LOG_LEVEL": "ERROR"}
    import django

    django.setup()
    import portal.celery  # noqa: F401  (the application that a nudge means)


def _possible(fault: faults.Fault, arena: Arena) -> bool:
    if fault.needs == "mount":
        return can_mount()
    return fault.needs != "libfaketime" or FAKETIME is not None


def _tell(outcome: Outcome, watch: Stopwatch) -> None:
    said = "; ".join(outcome.broke) or "nothing broke"
    print(
        f"{watch.seconds:6.0f} s  {outcome.fault.name}: usable again in {outcome.recovered_in:.1f} s, at rest in"
        f" {outcome.settled_in:.1f} s, {outcome.load['requests']} requests, {outcome.load['keys']} mints,"
        f" {outcome.ends} ends, {outcome.load['errors']} errors seen: {said}",
        flush=True,
    )


def _report(
    outcomes: list[Outcome], at_last: list[str], left_out: list[str], *, seed: int, seconds: float, load: float
) -> str:
    taken = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    machine = f"{os.cpu_count()} cores ({platform.system()} {platform.machine()}), load {load:.1f} before it began"
    versions = ", ".join(f"{name} {version(name)}" for name in ("Django", "celery", "psycopg", "boto3"))
    versions += f", ministack {aws.release()}"
    lines = [
        "# What was broken on purpose, and what broke",
        "",
        f"Taken by `make chaos` on {taken}, in {seconds / 60:.0f} min, SEED={seed}: {machine}.",
        f"Python {platform.python_version()}, {versions}.",
        "",
        "| fault | healed by | times | requests | mints | ends | errors people saw | usable again | at rest | broke |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        *(
            f"| {one.fault.name} | {one.fault.heals} | {one.times} | {one.load['requests']} | {one.load['keys']}"
            f" | {one.ends} | {one.load['errors']} | {one.recovered_in:.1f} s | {one.settled_in:.0f} s"
            f" | {'; '.join(one.broke) or 'nothing'} |"
            for one in outcomes
        ),
        "",
        f"When all was over: {'; '.join(at_last) or 'nothing is untrue, and every early end was seen to be obeyed'}.",
        *([f"Left out: {', '.join(left_out)}."] if left_out else []),
        "",
        _HOW_TO_READ,
    ]
    return "\n".join(lines)


_HOW_TO_READ = """\
How to read it:

- All processes, PostgreSQL, Redis and a stand-in for AWS that evaluates policies run on one machine. People ask,
  decide, start, get keys and open them, give back and revoke, over HTTP, before, during and after each fault. They
  put up with errors, and remember what a page told them.
- **usable again**: from the healing until somebody who asks for a pass holds keys that AWS takes. **at rest**: from
  then, when nobody asks any more, until nothing is on its way: no wish waits for a worker, no mail is unsent, AWS lacks
  no early end, no pass is open after its time.
- **broke**, looked for after each fault: an invariant of `requests_app/domain/invariants.py` that does not hold;
  anything that a page told a person and that is not so; keys that work a second after their pass's end, or after the
  page said that AWS refuses them; keys of somebody else that do not; a session that AWS issued without a record of it;
  mail that counts as sent and never was.
- Not counted as broken: errors that people saw and could try again; a wish that came to nothing and said so.
"""


if __name__ == "__main__":
    if sys.platform != "linux":
        sys.exit("Processes are stopped and killed as Linux does it.")
    sys.exit(main())
