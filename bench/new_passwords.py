"""`make bench-new-passwords`: whether the time that an answer takes tells which addresses Daypass knows.

Asks the running product for new passwords, for addresses of each kind in turn, each time from another address. Nothing
here is asserted: a test holds the statements to be the same (tests/web/test_account_mail.py). Writes
bench/new_passwords.md.
"""

import os
import platform
import secrets
import statistics
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import httpx

from sandbox import postgres
from sandbox.stack import Stack

READING = Path(__file__).with_suffix(".md")
TRIES = 200
KINDS = {
    "known": "somebody's, who is sent a link",
    "known, enough sent": "somebody's, who was sent enough lately",
    "deactivated": "of somebody deactivated",
    "unknown": "nobody's",
}


class BehindAProxy(Stack):
    """Each try comes from an address of its own, as the proxy in front says."""

    def environment(self, profile: str | None = None) -> dict[str, str]:
        return super().environment(profile) | {"TRUSTED_PROXIES": "1"}


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="daypass-bench-")) / "postgres"
    with ExitStack() as cleaning:
        cleaning.callback(postgres.clear, folder)
        server = cleaning.enter_context(postgres.Postgres(folder))
        stack = BehindAProxy(app_url=server.app_url(), owner_url=server.owner_url())
        stack.manage("migrate", "--database", "owner", "--noinput", "--verbosity=0")
        cleaning.enter_context(stack)
        _people(stack)
        text = _report(_ask(stack), stack)
    print(f"\n{text}")
    READING.write_text(text)


def _people(stack: Stack) -> None:
    with stack.connection() as connection:
        connection.execute(
            """
            INSERT INTO requests_app_user (public_id, username, email, name, time_zone, source_identity, password,
                                           is_superuser, is_staff, deactivated_at)
            SELECT gen_random_uuid(), kind || n, kind || n || '@example.com', '', 'UTC', 'u-' || kind || n, '!', false,
                   false, CASE WHEN kind = 'gone' THEN now() END
            FROM unnest(ARRAY['known', 'gone', 'other']) AS kind, generate_series(1, 5000) AS n
            """
        )
        connection.execute("ANALYZE")


def _ask(stack: Stack) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with httpx.Client(base_url=stack.url, timeout=20) as http:
        http.get("/accounts/password/reset/")
        token = http.cookies["csrftoken"]

        def ask(address: str) -> float:
            by = {"X-CSRFToken": token, "X-Forwarded-For": f"10.{secrets.randbelow(256)}.{secrets.randbelow(256)}.1"}
            began = time.perf_counter()
            answer = http.post("/accounts/password/reset/", data={"email": address}, headers=by)
            took = time.perf_counter() - began
            assert answer.status_code == 302, answer.status_code
            return took

        for number in range(20):
            ask("other1@example.com" if number % 2 else f"warm{number}@example.com")
        for number in range(1, TRIES + 1):
            addresses = [f"known{number}", "other1", f"gone{number}", f"nobody{number}"]
            turns = list(zip(KINDS, addresses, strict=True))
            secrets.SystemRandom().shuffle(turns)
            for kind, address in turns:
                taken[kind].append(1000 * ask(f"{address}@example.com"))
    return taken


def _report(taken: dict[str, list[float]], stack: Stack) -> str:
    medians = {kind: statistics.median(times) for kind, times in taken.items()}
    with stack.connection() as connection:
        (queued,) = connection.execute("SELECT count(*) FROM requests_app_notice").fetchone() or (0,)
    lines = [
        "# How long an answer to *Forgot your password?* takes",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {platform.machine()}, Python "
        f"{platform.python_version()}, load {os.getloadavg()[0]:.1f}. {TRIES} tries of each kind, in turn, through the "
        f"whole product with 15,000 people and a durable PostgreSQL; {queued} mails were queued.",
        "",
        "| address | median, ms | 10th | 90th |",
        "| --- | ---: | ---: | ---: |",
    ]
    for kind, words in KINDS.items():
        times = sorted(taken[kind])
        lines.append(f"| {words} | {medians[kind]:.2f} | {times[TRIES // 10]:.2f} | {times[-TRIES // 10]:.2f} |")
    apart = max(medians.values()) - min(medians.values())
    lines += ["", f"The medians lie {apart:.2f} ms apart.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
