"""`make bench-verbs`: what asking and approving cost beside a bare view with the same rows. Writes bench/verbs.md.

CHECKOUT=/path measures that product instead of this one, with these floors.
"""

import json
import os
import time
from collections.abc import Callable
from typing import Any

from bench import machine, rows
from bench.machine import Meter, Reading, table
from bench.product import Product

ROUNDS, TIMES, WARM = 5, 12, 6
TERMS = ("Payments administrator, one lead", "payments-prod", "Administrator")
# The mail worker stands still, and so does who wakes it: what mail costs is counted with neither.
ASLEEP = ("beat", "default")
PRODUCT, FLOOR = ("web", "PostgreSQL", "Redis"), ("bare web", "PostgreSQL", "Redis")


def main() -> None:
    machine.require_linux()
    began, load = time.monotonic(), os.getloadavg()[0]
    with Product(people=1, floors=True) as product:
        product.drained()
        with product.frozen(*ASLEEP):
            text = _measured(product)
    machine.write("verbs", "What asking and approving cost", "make bench-verbs", began, load, text, HOW_TO_READ)


def _measured(product: Product) -> str:
    alice, bare_alice, bare_bob = product.people[0], product.bare_people[0], product.bare_people[-2]
    typed, waiting = product.typed(*TERMS), Waiting(product)
    time.sleep(0.5)

    def create(_: int = 0) -> None:
        alice.request(typed)

    def approve(_: int = 0) -> None:
        product.bob.post(f"/requests/{waiting.take()[1]}/approve", {}, 302)

    def bare_create(_: int = 0) -> None:
        bare_alice.post("/act/create", {}, 303)

    def bare_approve(_: int = 0) -> None:
        key, code = waiting.take()
        bare_bob.post("/act/approve", {"id": key, "code": code}, 303)

    def create_by_orm(_: int = 0) -> None:
        bare_alice.post("/act-by-orm/create", {}, 303)

    def approve_by_orm(_: int = 0) -> None:
        key, code = waiting.take()
        bare_bob.post("/act-by-orm/approve", {"id": key, "code": code}, 303)

    recorded = {"create": rows.record(product.superuser, create)}
    key, code = waiting.first()
    known = {code: "code", f"requests_app_accessrequest {key}": "id"}
    recorded["approve"] = rows.record(product.superuser, approve, given=known, lock="requests_app_accessrequest")
    (product.folder / "rows.json").write_text(json.dumps(recorded))
    for _ in range(WARM):
        for act in (create, bare_create, create_by_orm, approve, bare_approve, approve_by_orm):
            act()
    counted = {name: _counted(product, act) for name, act in (("create", create), ("approve", approve))}
    for _ in range(3 * TIMES):
        create()
    waiting.first()
    meter = Meter(product.roots())
    meter.learn_idle_rate()
    acts: dict[str, Callable[[int], None]] = {
        "create": create,
        "bare create": bare_create,
        "create by the ORM": create_by_orm,
        "approve": approve,
        "bare approve": bare_approve,
        "approve by the ORM": approve_by_orm,
    }
    readings = meter.alternate(acts, rounds=ROUNDS, times=TIMES, settle=0.3)
    lines = [
        line
        for name in ("create", "approve")
        for line in _lines(
            readings[name], readings[f"bare {name}"], readings[f"{name} by the ORM"], counted[name], recorded[name]
        )
    ]
    head = ["milliseconds", "n", "p50", "CPU", "web", "PostgreSQL", "statements", "transactions", "CPU ÷ that"]
    return table(head, lines)


def _lines(
    reading: Reading, floor: Reading, by_orm: Reading, counted: dict[str, float], recorded: dict[str, Any]
) -> list[list[str]]:
    ours, theirs, orms = _only(reading, PRODUCT), _only(floor, FLOOR), _only(by_orm, FLOOR)
    counts = [f"{counted[what]:.0f}" for what in ("statements", "transactions")]
    return [
        [*_line(f"**{reading.name}**", ours), *counts, ""],
        [*_line(f"… its floor: {rows.counted(recorded['rows'])}", theirs), "", "", f"**{ours.ratio(theirs):.1f}**"],
        [*_line("… the same rows by Django's ORM", orms), "", "", f"{ours.ratio(orms):.1f}"],
    ]


def _line(name: str, one: Reading) -> list[str]:
    spent = [one.cpu_ms(), one.cpu_ms(("web", "bare web")), one.cpu_ms(("PostgreSQL",))]
    return [name, str(len(one.seconds)), f"{one.ms():.1f}", *(f"{ms:.2f}" for ms in spent)]


def _only(reading: Reading, who: tuple[str, ...]) -> Reading:
    one = Reading(reading.name, reading.seconds)
    one.rounds = [{name: ms for name, ms in spent.items() if name in who} for spent in reading.rounds]
    return one


def _counted(product: Product, act: Callable[[], None]) -> dict[str, float]:
    with product.counted(4) as counted:
        for _ in range(4):
            act()
    return counted


class Waiting:
    """What is to be decided, the oldest first; looked up rarely, so that looking is no part of what is measured."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._found: list[tuple[str, str]] = []

    def first(self) -> tuple[str, str]:
        self._found = self._product.superuser.execute(
            "SELECT r.id::text, code FROM requests_app_accessrequest r JOIN requests_app_entitlement e"
            " ON e.id = entitlement_id WHERE state = 'pending' AND e.name = %s ORDER BY r.id DESC",
            [TERMS[0]],
        ).fetchall()
        return self._found[-1]

    def take(self) -> tuple[str, str]:
        if not self._found:
            self.first()
        return self._found.pop()


HOW_TO_READ = """\
How to read it:

- **create** is the form's POST for terms with one stage, which two people are mailed about; **approve** is Bob's POST,
  which grants it. Their floor is a signed-in POST through the same web server and middleware, to a view that holds the
  request (when approving), reads the clock and writes the very rows that the product wrote, column by column, by bare
  prepared statements in one transaction, and sends one nudge.
- **by Django's ORM** is the same view with the same rows by `Model.objects.create`, as anybody would write it: so much
  of the floor's distance is the ORM's. It is not the floor.
- The mail worker stands still meanwhile, on both sides.
- The ratios are the finding; CPU and its ratio are the middle one's of several rounds, in which all six take turns."""


if __name__ == "__main__":
    main()
