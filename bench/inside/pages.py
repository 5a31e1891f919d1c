"""Opens pages and runs sweeps of a grown company when it is told to, and says what they took: for `bench.pages`.

One line of JSON in, one out. Time on a CPU is this process's, and that of every backend of the application's role.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import psycopg

from bench.inside import company, walk
from bench.machine import cpu_of
from tests import crowd

SWEEPS = (
    *("default.sweep_requests", "default.find_stuck", "default.sweep_deliveries", "default.sweep_outbox"),
    *("default.sweep_revocations", "default.sweep_preflights", "default.make_preflights"),
)
FLOOR = "one indexed query"
MOST_RUNS = 8  # of a sweep, until nothing is due: what is left then is part of the reading


class Inside:
    def __init__(self, superuser: psycopg.Connection) -> None:
        from celery import current_app

        self._superuser = superuser
        self._watcher = psycopg.connect(os.environ["BENCH_WATCHER"], autocommit=True)
        current_app.loader.import_default_modules()
        clients: dict[str, Any] = {}
        self._acts: dict[str, Callable[[], Any]] = {}
        for name, who, act in walk.walk():
            if who in walk.SIGNED_IN and who not in clients:
                clients[who] = walk.signed_in(who)
            self._acts[f"{name} ({who})"] = lambda act=act, who=who: act(clients.get(who))  # type: ignore[misc]
        self._acts |= {name: current_app.tasks[name] for name in SWEEPS if name in current_app.tasks}
        self._acts[FLOOR] = _one_indexed_query
        self._acts["nothing"] = lambda: None

    def names(self) -> list[str]:
        return list(self._acts)

    def open(self, name: str, times: int) -> list[dict[str, float]]:
        """Milliseconds of each time: on a CPU here, in PostgreSQL, and by the clock."""
        act, pids = self._acts[name], self._backends()
        self._superuser.execute(walk.CLOCK_READ)
        taken = []
        for _ in range(times):
            server, client, wall = sum(map(cpu_of, pids)), time.process_time(), time.perf_counter()
            act()
            wall, client = time.perf_counter() - wall, time.process_time() - client
            taken.append({"client": 1e3 * client, "PG": 1e3 * (sum(map(cpu_of, pids)) - server), "ms": 1e3 * wall})
        return taken

    def count(self, names: Iterable[str]) -> dict[str, dict[str, int]]:
        """Statements and transactions of each, by PostgreSQL's own count."""
        self._track("top")
        counts = {}
        nothing = self._counted("nothing")
        for name in ("nothing", *names):
            now = self._counted(name)
            counts[name] = {what: now[what] - nothing[what] for what in now}
        self._track("none")
        return counts

    def quiet(self) -> None:
        """Nothing is due any more, and no mail waits."""
        company.reach_whoever_waits(self._superuser)
        for name in SWEEPS:
            for _ in range(MOST_RUNS):
                before = self._written()
                if name in self._acts:
                    self._acts[name]()
                self._superuser.execute(
                    "UPDATE requests_app_notice SET sent_at = clock_timestamp() WHERE sent_at IS NULL"
                )
                if self._written() == before:
                    break
        company.settle(self._superuser)

    def end(self, due: int) -> dict[str, float]:
        """So many passes that end at once: seconds of the sweep, and of a bare UPDATE of the same rows before it."""
        from django.db import connection

        self._make_due(due)
        with connection.cursor() as cursor:
            began = time.perf_counter()
            cursor.execute(
                "UPDATE requests_app_accessrequest SET state = 'expired', ended_at = expires_at"
                " WHERE state = 'active' AND expires_at <= now()"
            )
            bare = time.perf_counter() - began
            assert cursor.rowcount == due
        self._make_due(due)
        began = time.perf_counter()
        while self._left():
            self._acts["default.sweep_requests"]()
        return {"bare": bare, "sweep": time.perf_counter() - began}

    def _left(self) -> bool:
        statement = (
            "SELECT EXISTS (SELECT FROM requests_app_accessrequest WHERE state = 'active' AND expires_at <= now())"
        )
        return self._superuser.execute(statement).fetchone() == (True,)

    def _make_due(self, due: int) -> None:
        with self._superuser.transaction():
            self._superuser.execute("SET LOCAL session_replication_role = replica")
            self._superuser.execute(
                "UPDATE requests_app_accessrequest SET state = 'active', ended_at = NULL WHERE id IN"
                " (SELECT id FROM requests_app_accessrequest WHERE state = 'expired' ORDER BY id DESC LIMIT %s)",
                [due],
            )
            self._superuser.execute("DELETE FROM requests_app_notice WHERE kind = 'ended'")
        company.settle(self._superuser)

    def _backends(self) -> list[int]:
        from django.db import connection

        connection.ensure_connection()
        return [
            pid
            for (pid,) in self._superuser.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = 'daypass_app'"
            )
        ]

    def _counted(self, name: str) -> dict[str, int]:
        before = self._counts()
        self._acts[name]()
        return {what: number - before[what] for what, number in self._counts().items()}

    def _counts(self) -> dict[str, int]:
        from django.db import connection

        with connection.cursor() as cursor:
            # A process that has read no table since hands nothing in.
            cursor.execute("SELECT FROM requests_app_installation")
            cursor.execute("SELECT pg_stat_force_next_flush()")
        time.sleep(0.02)
        name = connection.settings_dict["NAME"]
        row = self._watcher.execute(
            "SELECT (SELECT sum(calls) FROM pg_stat_statements WHERE userid = 'daypass_app'::regrole"
            "         AND query !~* '^(begin|commit|rollback|savepoint|release|set |deallocate)'),"
            " (SELECT xact_commit FROM pg_stat_database WHERE datname = %s)",
            [name],
        ).fetchone()
        assert row
        return {"statements": int(row[0] or 0), "transactions": int(row[1])}

    def _track(self, what: str) -> None:
        self._watcher.execute(f"ALTER SYSTEM SET pg_stat_statements.track = '{what}'")
        # Or its transactions would be counted too.
        self._watcher.execute(f"ALTER SYSTEM SET autovacuum = {'off' if what == 'top' else 'on'}")
        self._watcher.execute("SELECT pg_reload_conf()")
        time.sleep(1.5)

    def _written(self) -> tuple[Any, ...]:
        """What has been written so far: events, mails and looks."""
        row = self._superuser.execute(
            "SELECT (SELECT max(id) FROM requests_app_auditevent), (SELECT max(id) FROM requests_app_notice),"
            " (SELECT count(*) FROM requests_app_preflight)"
        ).fetchone()
        assert row
        return tuple(row)


def _one_indexed_query() -> None:
    """The floor of a sweep: by its index, what is due of one kind; and there is nothing."""
    walk.asked("SELECT id FROM requests_app_accessrequest WHERE state = 'active' AND expires_at <= clock_timestamp()")


def main() -> None:
    wanted = json.loads(sys.argv[1])
    began = time.monotonic()
    with company.company(crowd.Crowd(**wanted)) as superuser:
        inside = Inside(superuser)
        gigabytes, _ = company.sizes(superuser)
        _say({"filled": time.monotonic() - began, "gigabytes": gigabytes, "names": inside.names()})
        for line in sys.stdin:
            match json.loads(line):
                case {"open": str(name), "times": int(times)}:
                    _say(inside.open(name, times))
                case {"count": list(names)}:
                    _say(inside.count(names))
                case {"quiet": True}:
                    inside.quiet()
                    _say(True)
                case {"end": int(due)}:
                    _say(inside.end(due))


def _say(words: object) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main()
