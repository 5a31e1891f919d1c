"""`make bench-mint`: what a mint costs beside its floor, how long a person waits for keys, how many a second there are.

ONLY="cpu browser many" for single parts; OTHER=/path/to/checkout sets its product beside ours for the last, in turn;
PROCESSES=1 leaves two web and two mint processes out.
CHECKOUT=/path measures that product instead of this one, with these floors. Writes bench/mint.md.
"""

import contextlib
import itertools
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg

from bench import floors, machine, rows
from bench.machine import CHECKOUT, Meter, Reading, table, together
from bench.product import BARE, WATCHED, Person, Product, redis_of

ROUNDS, MINTS, PARTS = 5, 20, 120
PRESSES = 15
CELL = machine.seconds(10.0)  # one reading of how many there are a second
# Of web and of mint.
PROCESSES = [(int(number), int(number)) for number in (os.environ.get("PROCESSES") or "1 2").split()]
PEOPLE, DELAYS = (8, 32), (0.0, 0.08)


def main() -> None:
    machine.require_linux()
    began, load = time.monotonic(), os.getloadavg()[0]
    parts = {"cpu": _cpu, "browser": _browser, "many": _many}
    texts = []
    for name in machine.wanted(parts):
        texts.append(parts[name]())
        machine.say(f"{name}\n{texts[-1]}\n")
    machine.write("mint", "What a mint costs", "make bench-mint", began, load, *texts, HOW_TO_READ)


def _cpu() -> str:
    with Product(people=1, floors=True) as product, psycopg.connect(product.app) as connection:
        alice = product.people[0]
        code = product.pass_of(alice)
        for _ in range(30):
            alice.mint(code)
        # Without who wakes the sweeps, whose statements are not a mint's.
        with product.frozen("beat", "revoke"), product.counted(10) as counted:
            for _ in range(10):
                alice.mint(code)
            product.drained()
        recorded = _recorded_mint(product, alice, code)
        given = _given(product, code)
        floor = floors.MintRows(connection, redis_of(product), recorded, given)
        meter = Meter(product.roots())
        with floors.celery_trip(product) as trip:
            acts: dict[str, Callable[[int], float | None]] = {
                "a mint": lambda _: alice.mint(code),
                "signed-in request": floors.signed_in_request(product),
                "Celery trip": trip,
                "seal": floors.seal(),
                "STS by boto3": floors.sts_calls(product),
                "rows, reads, locks, commits": floor.mint,
                "mail": floors.one_mail(product),
            }
            for name, act in acts.items():
                for _ in range(0 if name == "a mint" else 20):
                    act(0)
            meter.learn_idle_rate()
            mint, parts = _in_turn(meter, acts)
        return _cpu_text(mint, parts, counted, recorded)


# Whose CPU is whose: what others spend meanwhile is none of it.
_BY_WHOM = {
    "signed-in request": ("bare web", "PostgreSQL", "Redis"),
    "Celery trip": ("me", "bare worker", "Redis"),
    "seal": ("me",),
    "STS by boto3": ("me",),
    "rows, reads, locks, commits": ("me", "PostgreSQL", "Redis"),
    "mail": ("me",),
}
_TIMES = {"Celery trip": 2}


def _in_turn(meter: Meter, acts: dict[str, Callable[[int], float | None]]) -> tuple[Reading, dict[str, Reading]]:
    mint, parts = Reading("a mint"), {name: Reading(name) for name in _BY_WHOM}
    for _ in range(ROUNDS):
        one = meter.alternate({"a mint": acts["a mint"]}, rounds=1, times=MINTS, settle=1.5)["a mint"]
        _take(mint, one, WATCHED)
        for name, part in parts.items():
            _take(part, meter.alternate({name: acts[name]}, rounds=1, times=PARTS, settle=0.1)[name], _BY_WHOM[name])
    return mint, parts


def _take(whole: Reading, one: Reading, who: tuple[str, ...]) -> None:
    whole.seconds += one.seconds
    whole.rounds += [{name: ms for name, ms in spent.items() if name in who} for spent in one.rounds]


def _recorded_mint(product: Product, person: Person, code: str) -> dict[str, Any]:
    """What one mint writes, mail apart: nobody else writes meanwhile."""
    product.drained()
    with product.frozen("beat", "default"):
        time.sleep(0.5)
        (key,) = product.superuser.execute(
            "SELECT id::text FROM requests_app_accessrequest WHERE code = %s", [code]
        ).fetchone() or ("",)
        known = {code: "code", f"requests_app_accessrequest {key}": "id"}
        return rows.record(product.superuser, lambda: person.mint(code), given=known)


def _given(product: Product, code: str) -> dict[str, str]:
    row = product.superuser.execute(
        "SELECT id::text, beneficiary_id::text, role_id::text FROM requests_app_accessrequest WHERE code = %s", [code]
    ).fetchone()
    assert row
    return {"code": code, "id": row[0], "person": row[1], "role": row[2]}


def _cpu_text(mint: Reading, parts: dict[str, Reading], counted: dict[str, float], recorded: dict[str, Any]) -> str:
    floor = together("**the floor**", *((_TIMES.get(name, 1), part) for name, part in parts.items()))
    lines = []
    for part in (*parts.values(), floor, mint):
        times = f"{_TIMES[part.name]} × " if part.name in _TIMES else ""
        web, mints = ("bare web", "web"), ("me", "bare worker", "mint")
        each = [part.cpu_ms(who) for who in (web, mints, ("default",), ("PostgreSQL",), ("Redis",))]
        ratio = f"**{mint.ratio(floor):.1f}**" if part is mint else ""
        lines.append(
            [times + part.name, str(len(part.seconds) or ""), f"{part.ms():.1f}", f"{part.cpu_ms():.2f}"]
            + [f"{one:.2f}" for one in each]
            + [ratio]
        )
    head = ["milliseconds", "n", "p50", "CPU", "web", "mint or script", "default", "PostgreSQL", "Redis", "CPU ÷ floor"]
    return (
        f"## CPU of a mint, all processes\n\n{table(head, lines)}\n\nA mint, its looks and its mail: "
        f"{counted['statements']:.0f} statements, {counted['transactions']:.0f} transactions, "
        f"{counted['connections']:.1f} new connections.\nIt writes {rows.counted(recorded['rows'])}; so does the "
        "floor, in 6 commits."
    )


def _browser() -> str:
    """From the press to the keys in the tab of a real browser."""
    program = shutil.which("chromium")
    if program is None:
        return "## From the press to the keys\n\nLeft out: there is no chromium."
    from playwright.sync_api import sync_playwright

    with Product(people=1, floors=True) as product, psycopg.connect(product.app) as connection:
        alice = product.people[0]
        code = product.pass_of(alice)
        for _ in range(15):
            alice.mint(code)
        recorded = _recorded_mint(product, alice, code)
        floor_rows = floors.MintRows(connection, redis_of(product), recorded, _given(product, code))
        with floors.celery_trip(product) as trip, sync_playwright() as playwright:
            waits = [floors.signed_in_request(product), trip, floors.seal(), floor_rows.until_keys]
            sts = floors.sts_calls(product)
            flags = ["--disable-gpu", "--no-first-run", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
            browser = playwright.chromium.launch(executable_path=program, args=flags)
            context = browser.new_context(base_url=product.url)
            context.add_cookies([{"name": alice.cookie, "value": alice.session, "url": product.url}])
            page = context.new_page()
            taken: dict[str, list[float]] = {"press": [], "floor": [], "AWS": []}
            for turn in range(PRESSES + 2):
                page.goto(f"/requests/{code}/credentials")
                page.locator("[data-get]").first.wait_for()
                page.wait_for_load_state("networkidle")
                press = float(page.evaluate(_PRESS))
                floor = sum(_timed(act) for act in waits)
                aws = _timed(sts)
                if turn > 1:
                    for name, ms in (("press", press), ("floor", floor), ("AWS", aws)):
                        taken[name].append(ms)
            browser.close()
    press, aws = statistics.median(taken["press"]), statistics.median(taken["AWS"])
    floor = statistics.median(taken["floor"])
    lines = [
        ["press → keys in the tab", f"{PRESSES}", f"{press:.0f}", f"{sorted(taken['press'])[-2]:.0f}", ""],
        ["… beyond AWS's time", "", f"{press - aws:.0f}", "", f"**{(press - aws) / floor:.1f}**"],
        ["AWS's time: one bare AssumeRole", f"{PRESSES}", f"{aws:.1f}", "", ""],
        ["**the floor**: request, trip, seal, rows", f"{PRESSES}", f"{floor:.1f}", "", ""],
    ]
    head = ["one person, in Chromium", "n", "p50 ms", "last but one", "÷ floor"]
    return f"## From the press to the keys\n\n{table(head, lines)}"


def _timed(act: Callable[[int], float | None]) -> float:
    began = time.perf_counter()
    act(0)
    return 1000 * (time.perf_counter() - began)


# Seen by the page itself, so that what drives it is not counted.
_PRESS = """() => new Promise((done, fail) => {
  const panel = document.querySelector("[data-delivery]");
  let began;
  const look = () => {
    const keys = panel.querySelector("[data-keys-text]");
    if (keys && keys.textContent.includes("AWS_") && keys.checkVisibility()) done(performance.now() - began);
  };
  new MutationObserver(look).observe(panel, { attributes: true, childList: true, subtree: true, characterData: true });
  setTimeout(() => fail(new Error("no keys: " + panel.innerText)), 30000);
  began = performance.now();
  panel.querySelector("[data-get]").click();
})"""


def _many() -> str:
    """Mints a second; beside another checkout's product, if one is named, in turn."""
    other = os.environ.get("OTHER")
    checkouts = {"ours": CHECKOUT} | ({"other": Path(other).resolve()} if other else {})
    found: dict[tuple[Any, ...], dict[str, tuple[float, float]]] = {}
    for web, mint in PROCESSES:
        with contextlib.ExitStack() as running:
            products = {
                name: running.enter_context(Product(path, people=max(PEOPLE), web=web, mint=mint))
                for name, path in checkouts.items()
            }
            codes = {name: [product.pass_of(one) for one in product.people[:-2]] for name, product in products.items()}
            for name, product in products.items():
                _at_once(product, codes[name], max(PEOPLE), 4.0)
            for number, delay in itertools.product(PEOPLE, DELAYS):
                for name, product in products.items():
                    product.delay(delay)
                    cell = found.setdefault((web, mint, number, delay), {})
                    cell[name] = _at_once(product, codes[name], number, CELL)
                    machine.say(f"{name}: {number} people, {delay} s: {cell[name][0]:.1f} mints a second")
    head = [
        "web and mint processes",
        "people",
        "STS ms",
        "mints/s",
        "p50 ms",
        "other, mints/s",
        "p50 ms",
        "ours ÷ other",
    ]
    lines = []
    for (web, mint, number, delay), cell in found.items():
        ours, theirs = cell["ours"], cell.get("other")
        line = [f"{web} and {mint}", str(number), f"{1000 * delay:.0f}", f"{ours[0]:.1f}", f"{ours[1]:.0f}"]
        line += [f"{theirs[0]:.1f}", f"{theirs[1]:.0f}", f"**{ours[0] / theirs[0]:.1f}**"] if theirs else ["", "", ""]
        lines.append(line)
    named = f" The other: {machine.commit(checkouts['other'])}, in turn." if other else ""
    return f"## Mints a second\n\n{table(head, lines)}\n\n{CELL:.0f} s each.{named}"


def _at_once(product: Product, codes: list[str], number: int, seconds: float) -> tuple[float, float]:
    """How many a second there were, and how long the middle one took; with their mail sent before the next begins."""
    until, taken = time.monotonic() + seconds, []

    def press(one: int) -> Iterator[float]:
        while time.monotonic() < until:
            yield product.people[one].mint(codes[one])

    began = time.monotonic()
    with ThreadPoolExecutor(number) as pool:
        for seconds_of_one in pool.map(lambda one: list(press(one)), range(number)):
            taken += seconds_of_one
    wall = time.monotonic() - began
    with contextlib.suppress(TimeoutError):
        product.drained(20)
    return len(taken) / wall, 1000 * statistics.median(taken)


assert BARE
HOW_TO_READ = """\
How to read it:

- The ratios are the finding; milliseconds are this machine's at that hour. What is in each floor stands in
  [README.md](README.md), and in `bench/floors.py`.
- Each part was done in turn with the mints, in several rounds; CPU and its ratio are the middle round's, by /proc, with
  what the processes spend when nobody asks taken off. Whoever asks is not counted, but shares the cores.
- **a mint** is what a person's page does: ask, look until it is sealed, take the envelope, open it, as its script
  does; its mail is part of it. **press → keys** is the page itself, in a browser.
- Mints a second: each person has a pass of their own and presses again at once. AWS's answers are held back
  by so much."""


if __name__ == "__main__":
    main()
