"""`make bench-scale`: every page and sweep with 200,000 roles and 100,000 requests, by what the database did for it.

Each page is opened through the whole of Django, as a person who is signed in; then each of its statements is run
again under EXPLAIN (ANALYZE, BUFFERS). Nothing here is asserted: tests/domain/test_scale.py does that, on fewer rows.
Prints tables and writes them, with where and when they were taken, to bench/scale.md.
"""

import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from sandbox import postgres
from sandbox.redis_server import RedisServer
from tests import crowd

READING = Path(__file__).with_suffix(".md")
LOOKS = 5  # each page is opened so often; the middle one is told of
BIG = 5_000  # rows; a table from here on must not be read whole for a page
DUE = 10_000  # passes that end at once

EVERYONE = crowd.Crowd()


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
    began = time.monotonic()
    with _servers() as superuser, psycopg.connect(superuser, autocommit=True) as connection:
        crowd.fill(connection, EVERYONE)
        filled = time.monotonic() - began
        big = _big_tables(connection)
        pages, sweeps, expiry = _pages(), _sweeps(), _expiry(connection)
        text = _report(pages, sweeps, expiry, big, filled=filled, seconds=time.monotonic() - began)
    READING.write_text(text)
    print(text)


@contextmanager
def _servers() -> Iterator[str]:
    """A durable PostgreSQL with our schema, and a Redis for the nudges; gives the superuser's address."""
    folder = Path(tempfile.mkdtemp(prefix="daypass-bench-")) / "postgres"
    with ExitStack() as cleaning:
        cleaning.callback(postgres.clear, folder)
        server = cleaning.enter_context(postgres.Postgres(folder))
        redis = cleaning.enter_context(RedisServer())
        os.environ |= {
            "DATABASE_URL": server.app_url(),
            "DATABASE_OWNER_URL": server.owner_url(),
            "REDIS_URL": redis.url(),
            "SECRET_KEY": "a-secret-key-for-the-bench-only-0123456789abcdefghijklmnopqrstuvw",
            "BASE_URL": "http://testserver",
            "ALLOWED_HOSTS": "testserver",
            "DEBUG": "1",  # static files straight from their sources
            "EMAIL_URL": "memorymail://",
            "LOG_LEVEL": "CRITICAL",
            "DJANGO_SETTINGS_MODULE": "portal.settings",
        }
        _be_django()
        yield server.superuser_url(postgres.DATABASE)


def _be_django() -> None:
    import django
    from django.conf import settings
    from django.core.management import call_command

    django.setup()
    settings.DEBUG = False  # or Django would keep every statement
    import portal.celery  # noqa: F401  (the application that a nudge means)

    call_command("migrate", database="owner", verbosity=0, interactive=False)


def _big_tables(connection: psycopg.Connection) -> dict[str, int]:
    """Their rows."""
    return dict(
        connection.execute(
            "SELECT relname, reltuples::bigint FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reltuples >= %s",
            [BIG],
        ).fetchall()
    )


def _pages() -> list[Reading]:
    clients = {name: _signed_in(name) for name in ("alice", "bob", "carol", "dave", "olivia", "erin", "frank")}
    return [_open(f"{name} ({who})", clients.get(who), act) for name, who, act in _walk()]


def _signed_in(username: str) -> Any:
    from django.test import Client

    from requests_app.domain.models import User

    client = Client(raise_request_exception=True)
    client.force_login(User.objects.get(username=username))
    return client


Act = Callable[[Any], Any]


def _walk() -> Iterator[tuple[str, str, Act]]:
    """Every page, who opens it, and how."""
    yield "my access", "alice", _get("/")
    yield "my access", "bob", _get("/")
    yield "my access, long ago", "erin", _get("/")
    yield "signing in, by address", "nobody yet", _sign_in()
    yield from _asking()
    yield from _deciding()
    yield from _using()
    yield from _administering()


def _sign_in() -> Act:
    from django.test import Client

    from requests_app.domain.models import User

    someone = User.objects.get(username="person7")
    someone.set_password("correct horse battery staple")
    someone.save(update_fields=["password"])
    typed = {"login": "Person7@Example.com", "password": "correct horse battery staple"}
    return lambda _: _post("/accounts/login/", typed, 302)(Client())


def _asking() -> Iterator[tuple[str, str, Act]]:
    from requests_app.domain.models import AccessRequest, Entitlement, Role

    yield "request form", "alice", _get("/request/")
    for who in ("alice", "carol", "frank"):  # alice may ask for every role, carol for a few, frank by selectors
        for words in (
            "adm",
            "4210",
            "payments prod",
            "a",
            "zq",
            "readonly-17 ledger",
            "zzzz",
            "prod",
            "on call",
            "prod a b c",
        ):
            yield f"search “{words}”", who, _get("/request/roles", q=words)
    role = Role.objects.filter(entitlements=300).order_by("pk").first()
    alices = Role.objects.filter(entitlements=2, is_active=True).order_by("pk").first()
    assert role
    assert alices
    yield "form with a role", "alice", _get("/request/", role=alices.public_id)
    yield "terms of a role", "alice", _get("/request/terms", role=alices.public_id)
    yield "ask", "alice", _submit(alices.public_id, Entitlement.objects.get(pk=2).public_id)
    mine = AccessRequest.objects.filter(beneficiary_id=crowd.ALICE)
    ended = mine.filter(state="expired").order_by("-pk").first()
    assert ended
    yield "ask again", "alice", _get("/request/", again=ended.code)
    for state in ("pending", "approved", "active", "expired"):
        code = mine.filter(state=state).order_by("-pk").values_list("code", flat=True)[0]
        yield f"a request, {state}", "alice", _get(f"/requests/{code}")


def _submit(role: Any, entitlement: Any) -> Act:
    typed = {"role": str(role), "entitlement": str(entitlement), "duration": "30", "start": "on_demand"}
    return _post("/request/", {**typed, "justification": "to see what asking costs"}, 302)


def _deciding() -> Iterator[tuple[str, str, Act]]:
    from requests_app.domain import clock
    from requests_app.domain.models import AccessRequest, User

    bob = User.objects.get(pk=crowd.BOB)
    waiting = AccessRequest.objects.waiting_for(bob, clock.now()).of_use()
    waiting = waiting.filter(terms_document__stages__1__isnull=True)
    codes = list(waiting.order_by("decide_by").values_list("code", flat=True)[:200])
    last = iter(reversed(codes))
    yield "approvals", "bob", _get("/approvals/")
    yield "approvals, nothing asked of me", "alice", _get("/approvals/")
    yield "approvals, the poll", "bob", _get("/approvals/updates", shown=codes[:30])
    yield "a request to decide", "bob", _get(f"/requests/{codes[0]}")
    yield "approve, the question", "bob", _get(f"/requests/{codes[0]}/approve")
    yield "approve", "bob", lambda client: _post(f"/requests/{next(last)}/approve", {}, 302)(client)
    yield "deny", "bob", lambda client: _post(f"/requests/{next(last)}/deny", {}, 302)(client)
    yield "several at once, the question", "bob", _get("/approvals/decide", code=codes[:30], verdict="approve")


def _using() -> Iterator[tuple[str, str, Act]]:
    from joserfc.jwk import ECKey

    from requests_app.domain.models import AccessRequest, AwsClock

    active = list(AccessRequest.objects.filter(beneficiary_id=crowd.ALICE, state="active").order_by("pk"))
    key = dict(ECKey.generate_key("P-256").as_dict(private=False))
    wish = {"code": active[0].code, "kind": "credentials", "jwk": key}

    def ask(client: Any) -> Any:
        from requests_app.domain import clock

        AwsClock.objects.update(measured_at=clock.now())
        return client.post("/deliveries/", wish, content_type="application/json")

    yield "credentials", "alice", _get(f"/requests/{active[0].code}/credentials")
    yield "a wish for credentials", "alice", ask
    yield "I'm done, the question", "alice", _get(f"/requests/{active[0].code}/give-back")
    last = iter(active[1:])
    yield "I'm done", "alice", lambda client: _post(f"/requests/{next(last).code}/give-back", {}, 302)(client)


def _administering() -> Iterator[tuple[str, str, Act]]:
    from requests_app.domain.models import AccessRequest

    request = AccessRequest.objects.filter(beneficiary_id=crowd.ALICE, state="expired").latest("pk")
    admin = "/admin/requests_app"
    for name, searches in {
        "accessrequest": ({"state__exact": "lapsed"}, {"q": "alice"}, {"q": "erin"}, {"q": request.code}),
        "auditevent": (
            {"action": "request.denied"},
            {"action": "sign_in.ended"},
            {"q": "bob"},
            {"q": "erin request.granted"},
        ),
        "issuedsession": ({"q": "alice"}, {"q": "erin"}, {"q": "ASIA0000000000001234"}),
        "delivery": ({"q": "alice"}, {"q": "erin"}),
        "decision": ({"q": "bob"}, {"q": "olivia"}),
        "notice": ({"q": "alice"}, {"q": "erin"}),
        "role": ({"q": "adm"}, {"q": "4210"}, {"q": "payments prod"}, {"q": "zq"}, {"power__exact": "read"}),
        "account": ({"q": "prod"},),
        "user": ({"q": "person29"}, {"active": "no"}),
        "group": ({"q": "team"},),
        "entitlement": ({"q": "terms"},),
    }.items():
        yield f"admin: {name}", "dave", _get(f"{admin}/{name}/")
        for search in searches:
            words = "&".join(f"{key}={value}" for key, value in search.items())
            yield f"admin: {name}?{words}", "dave", _get(f"{admin}/{name}/", **search)
    yield "admin: requests, older", "dave", _get(f"{admin}/accessrequest/", id__lt="50000")
    yield "admin: a request", "dave", _get(f"{admin}/accessrequest/{request.pk}/change/")
    yield "admin: a role", "olivia", _get(f"{admin}/role/77/change/")
    yield "admin: what was done to a role", "dave", _get(f"{admin}/role/77/history/")
    yield "admin: what was done to a person", "dave", _get(f"{admin}/user/77/history/")
    yield "admin: terms that give every role", "olivia", _get(f"{admin}/entitlement/1/change/")
    yield "admin: a group", "olivia", _get(f"{admin}/group/2/change/")
    yield "admin: a person", "olivia", _get(f"{admin}/user/1/change/")
    names = {"app_label": "requests_app", "model_name": "entitlementrole", "field_name": "role"}
    yield "admin: choosing a role, “adm”", "olivia", _get("/admin/autocomplete/", **names, term="adm")


def _get(address: str, **words: Any) -> Act:
    def get(client: Any) -> Any:
        answer = client.get(address, words)
        assert answer.status_code == 200, (address, words, answer.status_code)
        return answer

    return get


def _post(address: str, typed: dict[str, str], status: int) -> Act:
    def post(client: Any) -> Any:
        answer = client.post(address, typed)
        assert answer.status_code == status, (address, answer.status_code)
        return answer

    return post


def _open(name: str, client: Any, act: Act) -> Reading:
    from tests import plans

    looks = []
    for _ in range(LOOKS):
        with plans.watched() as statements:
            act(client)
        looks.append(Reading(name, [one for one in statements if one.can_be_explained]))
    middle = sorted(looks[1:], key=lambda one: one.ms)[(LOOKS - 1) // 2]
    middle.plans = [plans.plan(one, carried_out=one.only_reads) for one in middle.statements]
    return middle


def _sweeps() -> list[Reading]:
    """With nothing due."""
    from requests_app.background import mail
    from requests_app.domain.workflow import deliveries, sweeps

    each: list[Callable[[], int]] = [sweeps.expire_due, sweeps.lapse_due, sweeps.activate_due]
    each += [sweeps.announce_endings, deliveries.sweep, mail.send_due]
    mail.send_due(100_000)  # what the pages have queued
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
    pages: list[Reading], sweeps: list[Reading], expiry: Expiry, big: dict[str, int], *, filled: float, seconds: float
) -> str:
    return _TEXT.format(
        when=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        seconds=seconds,
        filled=filled,
        cores=os.cpu_count(),
        machine=f"{platform.system()} {platform.machine()}",
        load=" ".join(f"{one:.1f}" for one in os.getloadavg()),
        versions=_versions(),
        crowd=", ".join(f"{number:,} {name.replace('_', '-')}" for name, number in vars(EVERYONE).items()),
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
