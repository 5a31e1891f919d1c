"""`make bench-scale`: every page and sweep with 200,000 roles and 100,000 requests, by what the database did for it.

REQUESTS=1000000 EVENTS=10000000 for more of them; it says how much room that takes, and refuses if there is too little.

Each page is opened through the whole of Django, as a person who is signed in; then each of its statements is run
again under EXPLAIN (ANALYZE, BUFFERS). Nothing here is asserted: tests/domain/test_scale.py does that, on fewer rows.
Prints tables and writes them, with where and when they were taken, to bench/scale.md; of another size than usual only
prints them.
"""

import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from bench.inside import company, walk
from bench.machine import table
from tests import crowd

READING = Path(__file__).with_suffix(".md")
LOOKS = 5  # each page is opened so often; the middle one is told of
BIG = 5_000  # rows; a table from here on must not be read whole for a page
DUE = 10_000  # passes that end at once

REQUESTS = int(os.environ.get("REQUESTS") or 100_000)
EVENTS = int(os.environ.get("EVENTS") or 4 * REQUESTS)
USUAL = (100_000, 400_000)


@dataclass
class Reading:
    """What one thing took of the database."""

    name: str
    statements: list[Any] = field(default_factory=list)
    plans: list[Any] = field(default_factory=list)

    @property
    def ms(self) -> float:
        return float(sum(one.ms for one in self.statements))

    @property
    def slowest(self) -> Any:
        return max(self.statements, key=lambda one: one.ms)

    @property
    def rows(self) -> int:
        return sum(plan.rows_looked_at() for plan in self.plans)

    def read_whole(self, big: dict[str, int]) -> set[str]:
        return {table for plan in self.plans for table in plan.read_whole(big)} & big.keys()


def main() -> None:
    began, everyone = time.monotonic(), _crowd()
    with company.company(everyone) as superuser:
        filled = time.monotonic() - began
        big = _big_tables(superuser)
        size = _sizes(superuser)
        pages, sweeps, expiry = _pages(superuser), _sweeps(superuser), _expiry(superuser)
        text = _report(everyone, pages, sweeps, expiry, big, size=size, filled=filled, seconds=time.monotonic() - began)
    if (REQUESTS, EVENTS) == USUAL:
        READING.write_text(text)
    print(text)


def _crowd() -> crowd.Crowd:
    """So many requests of two years, of which some are open; and so many events, those of deliveries among them."""
    pending, approved, active = REQUESTS // 50, REQUESTS // 100, REQUESTS * 3 // 100
    some = {"pending": pending, "approved": approved, "active": active}
    some |= {"ended": REQUESTS - pending - approved - active, "sign_ins": REQUESTS // 2}
    of_requests = crowd.Crowd(**some, deliveries=0).events
    deliveries = max(REQUESTS, (EVENTS - of_requests) // 3)
    steps = 3 if of_requests + 3 * deliveries <= EVENTS else 0
    return crowd.Crowd(**some, deliveries=deliveries, steps=steps)


def _sizes(superuser: psycopg.Connection) -> str:
    gigabytes, tables = company.sizes(superuser)
    rows = [
        [name.removeprefix("requests_app_"), f"{number:,}", f"{each:,.0f}", f"{number * each / 1e9:.2f}"]
        for name, (number, each) in tables.items()
    ]
    return f"{gigabytes:.1f} GB in all.\n\n" + table(["table", "rows", "bytes a row, with indexes", "GB"], rows)


def _big_tables(connection: psycopg.Connection) -> dict[str, int]:
    """Their rows."""
    return dict(
        connection.execute(
            "SELECT relname, reltuples::bigint FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reltuples >= %s",
            [BIG],
        ).fetchall()
    )


def _pages(superuser: psycopg.Connection) -> list[Reading]:
    clients = {name: walk.signed_in(name) for name in walk.SIGNED_IN}
    readings = []
    for name, who, act in walk.walk():
        superuser.execute(walk.CLOCK_READ)
        readings.append(_open(f"{name} ({who})", clients.get(who), act))
    return readings


def _open(name: str, client: Any, act: walk.Act) -> Reading:
    from tests import plans

    looks = []
    for _ in range(LOOKS):
        with plans.watched() as statements:
            act(client)
        looks.append(Reading(name, [one for one in statements if one.can_be_explained]))
    middle = sorted(looks[1:], key=lambda one: one.ms)[(LOOKS - 1) // 2]
    middle.plans = [plans.plan(one, carried_out=one.only_reads) for one in middle.statements]
    return middle


def _sweeps(superuser: psycopg.Connection) -> list[Reading]:
    """With nothing due."""
    from requests_app.background import mail
    from requests_app.domain.workflow import deliveries, preflights, sweeps

    each: list[Callable[[], int]] = [sweeps.expire_due, sweeps.lapse_due, sweeps.activate_due]
    each += [sweeps.lapse_hopeless, sweeps.tell_stuck, sweeps.tell_of_no_use, sweeps.announce_endings]
    each += [deliveries.sweep, mail.send_due, preflights.make_missing]
    company.reach_whoever_waits(superuser)
    for _ in range(10):
        if not sweeps.tell_stuck() + sweeps.tell_of_no_use() + sweeps.lapse_hopeless():
            break
    superuser.execute("UPDATE requests_app_notice SET sent_at = clock_timestamp() WHERE sent_at IS NULL")
    company.settle(superuser)
    return [_open(_name_of(one), None, lambda _, one=one: one()) for one in each]  # type: ignore[misc]


def _name_of(sweep: Callable[[], int]) -> str:
    return f"{sweep.__module__.rpartition('.')[2]}.{sweep.__name__}"


@dataclass
class Expiry:
    """`DUE` passes that end at once, beside a bare UPDATE of the same rows."""

    bare: float
    sweep: float
    batches: int
    statements: list[Any]


def _expiry(connection: psycopg.Connection) -> Expiry:
    from requests_app.domain.workflow import sweeps
    from tests import plans

    bare = statistics.median(_bare_update(connection) for _ in range(3))
    taken = []
    for _ in range(3):
        _make_due(connection)
        began, batches = time.perf_counter(), count(1)
        with plans.watched() as statements:
            while sweeps.expire_due():
                next(batches)
        taken.append(Expiry(bare, time.perf_counter() - began, next(batches), statements))
    return sorted(taken, key=lambda one: one.sweep)[1]


def _bare_update(connection: psycopg.Connection) -> float:
    """By the application's role, guards and all: what no code of ours could do without."""
    from django.db import connection as ours

    _make_due(connection)
    with ours.cursor() as cursor:
        began = time.perf_counter()
        cursor.execute(
            "UPDATE requests_app_accessrequest SET state = 'expired', ended_at = expires_at"
            " WHERE state = 'active' AND expires_at <= now()"
        )
        assert cursor.rowcount == DUE
        return time.perf_counter() - began


def _make_due(connection: psycopg.Connection) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(
            "UPDATE requests_app_accessrequest SET state = 'active', ended_at = NULL WHERE id IN"
            " (SELECT id FROM requests_app_accessrequest WHERE state = 'expired' ORDER BY id DESC LIMIT %s)",
            [DUE],
        )
        connection.execute("DELETE FROM requests_app_notice WHERE kind = 'ended'")
    connection.execute("VACUUM (ANALYZE)")
    connection.execute("CHECKPOINT")


def _report(
    everyone: crowd.Crowd,
    pages: list[Reading],
    sweeps: list[Reading],
    expiry: Expiry,
    big: dict[str, int],
    *,
    size: str,
    filled: float,
    seconds: float,
) -> str:
    return _TEXT.format(
        when=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        seconds=seconds,
        filled=filled,
        cores=os.cpu_count(),
        machine=f"{platform.system()} {platform.machine()}",
        load=" ".join(f"{one:.1f}" for one in os.getloadavg()),
        versions=_versions(),
        crowd=", ".join(f"{number:,} {name.replace('_', '-')}" for name, number in vars(everyone).items()),
        size=size,
        looks=LOOKS,
        big=f"{BIG:,}",
        pages=_table(pages, big),
        sweeps=_table(sweeps, big),
        due=f"{DUE:,}",
        expiry=_expiry_table(expiry),
    )


def _table(readings: list[Reading], big: dict[str, int]) -> str:
    head = "| | statements | ms in the database | rows looked at | big tables read whole | slowest statement (ms) |"
    lines = [head, "|---|---:|---:|---:|---|---|"]
    for one in readings:
        whole = ", ".join(sorted(name.removeprefix("requests_app_") for name in one.read_whole(big)))
        slowest = f"{one.slowest.ms:.1f}: `{_shortened(one.slowest.sql)}`"
        lines.append(f"| {one.name} | {len(one.statements)} | {one.ms:.1f} | {one.rows:,} | {whole} | {slowest} |")
    return "\n".join(lines)


def _shortened(sql: str) -> str:
    sql = re.sub(r"SELECT .*? FROM", "SELECT … FROM", " ".join(sql.split()))
    sql = sql.replace('"', "").replace("requests_app_", "").replace("|", "¦").replace("`", "")
    return sql if len(sql) <= 130 else sql[:129] + "…"


def _expiry_table(expiry: Expiry) -> str:
    return "\n".join(
        [
            "| | seconds | statements | ÷ bare UPDATE |",
            "|---|---:|---:|---:|",
            f"| bare `UPDATE … SET state = 'expired'` of the same rows | {expiry.bare:.2f} | 1 | 1.0 |",
            f"| the sweep, in {expiry.batches} batches | {expiry.sweep:.2f} | {len(expiry.statements)} "
            f"| {expiry.sweep / expiry.bare:.1f} |",
        ]
    )


def _versions() -> str:
    import django
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        (server,) = cursor.fetchone()
    return f"Python {platform.python_version()}, Django {django.__version__}, PostgreSQL {server}"


_TEXT = """\
# What pages and sweeps cost when there is much of everything

Taken by `make bench-scale` on {when}, in {seconds:.0f} s, of which {filled:.0f} s to fill the database:
{cores} cores ({machine}), load {load} at the end. {versions}, as installed, on one machine.

{crowd}; an event for each step of each request, a session for each delivery.

## Room on the disk

{size}

## Pages

{pages}

## Sweeps, with nothing due

{sweeps}

## {due} passes end at once

{expiry}

How to read it:

- Each page was opened {looks} times through the whole of Django by a person who is signed in; the first time does not
  count, the middle one of the others is shown. Each of its statements was run again under EXPLAIN (ANALYZE, BUFFERS):
  *rows looked at* are those that its scans gave or threw away; statements that write are explained without running.
- A table is big from {big} rows on, and read whole when a scan without an index looked at more than half of it. None
  should be, for a page or a sweep.
- Alice may ask for every role there is and has a history; Bob is in eight groups that approve, so that hundreds of
  requests wait for him; Carol may ask for a few hundred roles, Frank for what selectors give him; Dave audits;
  Olivia operates.
- The sweep also locks the rows, writes an audit event and queues a mail for each, all of which the bare UPDATE (which
  passes the same guards) does not.
"""


if __name__ == "__main__":
    main()
