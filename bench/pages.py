"""`make bench-pages`: pages beside an empty one, their growth, sweeps beside one query. Writes bench/pages.md.

Two grown companies, one with ten times the requests and ten times the pending ones, are looked at in turn.
ONLY="pages growth sweeps ending" for single parts; REQUESTS=10000 is the smaller one's. CHECKOUT=/path measures that
product instead of this one, with these floors.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from bench import machine
from bench.machine import CHECKOUT, table
from bench.product import inside

REQUESTS = int(os.environ.get("REQUESTS") or 10_000)
ROUNDS = 4  # each page is opened so often by turns, after once for nothing
DUE = 5_000  # passes that end at once; the smaller company has no more
EMPTY, QUERY = "an empty page (alice)", "one indexed query"
PAGES = (
    *("my access (bob)", "my access (alice)", "request form (alice)", "form with a role (alice)"),
    *("search “adm” (alice)", "search “adm” (frank)", "a request, active (alice)"),
    *("approvals (bob)", "approvals, the poll (bob)", "a request to decide (bob)", "approve, the question (bob)"),
    *("admin: accessrequest (dave)", "admin: auditevent (dave)", "admin: role (dave)", "admin: user (dave)"),
    *("admin: a request (dave)", "admin: terms that give every role (olivia)", "admin: a group (olivia)"),
)
SWEEPS = (
    *("default.sweep_requests", "default.find_stuck", "default.sweep_deliveries", "default.sweep_outbox"),
    *("default.sweep_revocations", "default.sweep_preflights", "default.make_preflights"),
)
VERBS = ("ask (alice)", "approve (bob)", "deny (bob)", "a wish for credentials (alice)", "I'm done (alice)")


def main() -> None:
    machine.require_linux()
    began, load = time.monotonic(), os.getloadavg()[0]
    with ExitStack() as running:
        times = {name: running.enter_context(_company(many)) for name, many in (("× 1", 1), ("× 10", 10))}
        facts = {name: one.hear() for name, one in times.items()}
        parts = {"pages": _pages, "growth": _growth, "sweeps": _sweeps, "ending": _ending}
        wanted = machine.wanted(parts)
        machine.say("filled")
        looks = _looks(times) if {"pages", "growth"} & set(wanted) else {}
        texts = []
        for name in wanted:
            texts.append(parts[name](times, looks))
            machine.say(f"{name}\n{texts[-1]}\n")
    rows = "\n".join(
        f"- {name}: {_crowd(many)['pending']:,} of {many * REQUESTS:,} requests are pending; "
        f"{facts[name]['gigabytes']:.1f} GB, filled in {facts[name]['filled']:.0f} s"
        for name, many in (("× 1", 1), ("× 10", 10))
    )
    machine.write("pages", "What pages and sweeps cost", "make bench-pages", began, load, rows, *texts, HOW_TO_READ)


def _crowd(many: int) -> dict[str, int]:
    """With so many times the requests; the same catalog, people and rules."""
    requests = many * REQUESTS
    pending, active = requests // 10, requests // 20
    return {
        "accounts": 2_000,
        "roles": 20_000,
        "people": 3_000,
        "placed": 20_000,
        "ended": requests - pending - active - requests // 20,
        "pending": pending,
        "approved": requests // 20,
        "active": active,
        "deliveries": requests,
        "sign_ins": requests // 2,
    }


class Company:
    """A process that has one grown company, and does what it is told."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def tell(self, **command: Any) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return self.hear()

    def hear(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("The process with the company ended; what it said stands above.")
        return json.loads(line)


@contextmanager
def _company(many: int) -> Iterator[Company]:
    arguments = json.dumps(_crowd(many))
    with inside(CHECKOUT, "bench.inside.pages", arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Company(process)


Looks = dict[str, dict[str, list[dict[str, float]]]]  # by company and page


def _looks(times: Mapping[str, Company]) -> Looks:
    """Each page by turns in both, and the empty one beside each."""
    looks: Looks = {name: {page: [] for page in (EMPTY, *PAGES)} for name in times}
    for turn in range(ROUNDS + 1):
        for page in PAGES:
            for name, one in times.items():
                empty, taken = one.tell(open=EMPTY, times=3), one.tell(open=page, times=1)
                if turn:
                    looks[name][EMPTY] += empty
                    looks[name][page] += taken
    return looks


def _pages(times: Mapping[str, Company], looks: Looks) -> str:
    bigger = looks["× 10"]
    verbs: dict[str, list[dict[str, float]]] = {verb: [] for verb in VERBS}
    counts = times["× 10"].tell(count=[EMPTY, *PAGES, *VERBS])
    for turn in range(ROUNDS + 1):
        for verb, taken in verbs.items():
            now = times["× 10"].tell(open=verb, times=1)
            taken += now if turn else []
    empty = _cpu(bigger[EMPTY])
    lines = []
    for name, taken in {EMPTY: bigger[EMPTY], **{page: bigger[page] for page in PAGES}, **verbs}.items():
        client, server, wall = (statistics.median(one[what] for one in taken) for what in ("client", "PG", "ms"))
        ratio = "" if name == EMPTY else f"**{_cpu(taken) / empty:.0f}**"
        count = counts[name]
        lines.append(
            [
                name,
                f"{client:.1f}",
                f"{server:.1f}",
                f"{wall:.0f}",
                str(count["statements"]),
                str(count["transactions"]),
                ratio,
            ]
        )
    head = [
        "milliseconds, in the company × 10",
        "client CPU",
        "PostgreSQL CPU",
        "p50",
        "statements",
        "transactions",
        "÷ empty page",
    ]
    return f"## A page, and a verb by its POST, beside an empty signed-in page\n\n{table(head, lines)}"


def _growth(_: Mapping[str, Company], looks: Looks) -> str:
    lines = []
    for page in (EMPTY, *PAGES):
        one, ten = (_cpu(looks[name][page]) for name in ("× 1", "× 10"))
        lines.append([page, f"{one:.1f}", f"{ten:.1f}", f"**{ten / one:.1f}**"])
    head = ["client and PostgreSQL CPU, ms", "× 1", "× 10", "× 10 ÷ × 1"]
    return f"## Growth: ten times the requests, ten times the pending ones\n\n{table(head, lines)}"


def _cpu(taken: list[dict[str, float]]) -> float:
    return statistics.median(one["client"] + one["PG"] for one in taken)


def _sweeps(times: Mapping[str, Company], _: Looks) -> str:
    for one in times.values():
        one.tell(quiet=True)
    counts = times["× 10"].tell(count=list(SWEEPS))
    taken: Looks = {name: {sweep: [] for sweep in (QUERY, *SWEEPS)} for name in times}
    for turn in range(ROUNDS + 1):
        for sweep in (QUERY, *SWEEPS):
            for name, one in times.items():
                now = one.tell(open=sweep, times=20 if sweep == QUERY else 1)
                taken[name][sweep] += now if turn else []
    floor = statistics.median(one["ms"] for one in taken["× 10"][QUERY])
    lines = []
    for sweep in (QUERY, *SWEEPS):
        small, big = (statistics.median(one["ms"] for one in taken[name][sweep]) for name in ("× 1", "× 10"))
        count = counts.get(sweep, {"statements": 1, "transactions": 1})
        ratio = "" if sweep == QUERY else f"**{big / floor:.0f}**"
        lines.append([sweep, f"{small:.1f}", f"{big:.1f}", str(count["statements"]), str(count["transactions"]), ratio])
    head = ["milliseconds by the clock", "× 1", "× 10", "statements", "transactions", "× 10 ÷ the query"]
    pending = f"{_crowd(1)['pending']:,} and {_crowd(10)['pending']:,}"
    return f"## Sweeps with nothing due, {pending} requests pending\n\n{table(head, lines)}"


def _ending(times: Mapping[str, Company], _: Looks) -> str:
    lines = []
    for name, many in (("× 1", 1), ("× 10", 10)):
        due = min(2 * DUE, _crowd(many)["ended"] // 2)
        taken = [times[name].tell(end=due) for _ in range(3)]
        bare, sweep = (statistics.median(one[what] for one in taken) for what in ("bare", "sweep"))
        ratio = statistics.median(one["sweep"] / one["bare"] for one in taken)
        lines.append([f"{name}: {due:,} passes end", f"{bare:.2f}", f"{sweep:.2f}", f"**{ratio:.1f}**"])
    head = ["seconds", "bare UPDATE", "the sweep", "÷ bare UPDATE"]
    return f"## Thousands of passes end at once\n\n{table(head, lines)}"


HOW_TO_READ = """\
How to read it:

- The ratios are the finding. Each page was opened through the whole of Django by a person who is signed in, by turns
  with the empty page and with the other company; the middle one is shown. What is in each floor stands in
  [README.md](README.md).
- Statements and transactions are PostgreSQL's own count, BEGIN and COMMIT apart; each statement outside of one is a
  transaction.
- Most of what is pending is of no use to anybody any more, as after a company was rearranged: the worst case for
  whoever counts what can be decided. For the sweeps it is of use, or they would have something to tell.
- Alice may ask for every role there is; Bob is in eight groups that approve, so that many requests wait for him; Frank
  may ask for what selectors give him; Dave audits; Olivia operates.
- A sweep is what beat wakes, all of it. The bare UPDATE passes the same guards; the sweep also locks the rows, writes
  an audit event and queues a mail for each, and looks at everything else that may be due."""


if __name__ == "__main__":
    main()
