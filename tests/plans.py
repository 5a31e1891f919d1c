"""What the database did for a piece of code: its statements, how long each took, and by which plan."""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction


@dataclass
class Statement:
    """One statement as it was sent."""

    sql: str
    params: Any
    seconds: float

    @property
    def ms(self) -> float:
        return 1000 * self.seconds

    @property
    def can_be_explained(self) -> bool:
        return self.only_reads or self.sql.lstrip().startswith(("UPDATE", "INSERT", "DELETE"))

    @property
    def only_reads(self) -> bool:
        return self.sql.lstrip("(\n ").startswith(("SELECT", "WITH"))  # a union begins with a parenthesis


@dataclass
class Plan:
    root: dict[str, Any]

    def nodes(self) -> Iterator[dict[str, Any]]:
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            waiting += node.get("Plans", [])
            yield node

    def read_whole(self, sizes: Mapping[str, int] | None = None) -> set[str]:
        """Tables that are read without an index.

        Where `sizes` tells their rows and the plan was carried out, only those of which it read more than half: a
        limit may have stopped it long before.
        """
        scans = [node for node in self.nodes() if node["Node Type"] == "Seq Scan"]
        if sizes is not None:
            scans = [one for one in scans if not 0 < 2 * _looked_at(one) <= sizes.get(one["Relation Name"], 0)]
        return {one["Relation Name"] for one in scans}

    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes() if "Index Name" in node}

    def rows_looked_at(self, of: Collection[str] | None = None) -> int:
        """Rows that scans of tables gave or threw away, or of these tables; only of a plan that was carried out."""
        scans = [node for node in self.nodes() if "Scan" in node["Node Type"] and not _is_of_its_own(node)]
        return sum(_looked_at(node) for node in scans if of is None or node.get("Relation Name") in of)

    def buffers(self) -> int:
        """Pages of 8 kB that were looked at, each time anew; only of a plan that was carried out."""
        return int(self.root.get("Shared Hit Blocks", 0) + self.root.get("Shared Read Blocks", 0))


@contextmanager
def watched() -> Iterator[list[Statement]]:
    """The statements that run inside, in their order."""
    statements: list[Statement] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            statements.append(Statement(sql, params, time.perf_counter() - began))

    with connection.execute_wrapper(watch):
        yield statements


def plan(statement: Statement, *, carried_out: bool = False) -> Plan:
    """How PostgreSQL would run it now; `carried_out` runs it, and takes back what that changed."""
    how = "ANALYZE, BUFFERS, FORMAT JSON" if carried_out else "FORMAT JSON"
    with transaction.atomic(), connection.cursor() as cursor:
        # As on disks without arms: a small crowd's tables would else be read whole where a big one's would not.
        cursor.execute("SET LOCAL random_page_cost = 1.1")
        cursor.execute(f"EXPLAIN ({how}) {statement.sql}", statement.params)
        (answer,) = cursor.fetchone()
        transaction.set_rollback(True)
    return Plan(answer[0]["Plan"])


def plan_of_standing(entitlement: int, person: int, role: int, *, carried_out: bool = False) -> Plan:
    """How the function behind `facts.standing_of` asks: by the one plan that it has, whatever it is asked about."""
    statement = """PREPARE standing (bigint, bigint, bigint) AS SELECT * FROM requests_app_standing s
        WHERE s.entitlement_id = $1 AND s.person_id = $2 AND s.role_id = $3"""
    with connection.cursor() as cursor:
        cursor.execute("SET plan_cache_mode = force_generic_plan")
        cursor.execute(statement)
        try:
            asked = Statement(f"EXECUTE standing({entitlement}, {person}, {role})", None, 0)
            return plan(asked, carried_out=carried_out)
        finally:
            # Where a transaction was rolled back, psycopg has let go of all that was prepared.
            cursor.execute("SELECT FROM pg_prepared_statements WHERE name = 'standing'")
            if cursor.fetchone() is not None:
                cursor.execute("DEALLOCATE standing")
            cursor.execute("RESET plan_cache_mode")


def _is_of_its_own(node: dict[str, Any]) -> bool:
    """Whether it only reads again what the same statement has read, or made up."""
    return node["Node Type"] in ("CTE Scan", "WorkTable Scan", "Function Scan")


def _looked_at(node: dict[str, Any]) -> int:
    rows = node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)
    rows += node.get("Rows Removed by Index Recheck", 0)
    return int(rows * node.get("Actual Loops", 1))
