"""The whole product of the checkout that this runs in, for a bench that looks at it from outside (`bench.product`).

Started there as a subprocess. Says where everything is by one line of JSON, then does what it is told by further ones
until its standard input ends.
"""

import json
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from bench.inside.limits import NO_LIMITS
from bench.inside.slow import SlowProxy
from sandbox import landscape, postgres
from sandbox.child import Child, free_port
from sandbox.processes import PROCESSES, Process
from sandbox.stack import Stack

ROLE = ("payments-prod", "ReadOnly")
PRELOAD = "pg_stat_statements"


class Product(Stack):
    """With so many web and mint processes, and with a way to AWS that can be made longer."""

    def __init__(self, *, web: int, mint: int, **addresses: str) -> None:
        super().__init__(**addresses)  # type: ignore[arg-type]
        self._web, self._mint = web, mint
        self.way: SlowProxy | None = None
        self.floor_url = ""

    def start(self) -> None:
        super().start()
        for number in range(2, self._mint + 1):
            process = next(one for one in PROCESSES if one.name == "mint")
            child = self._child(process)
            child.name = f"mint{number}"
            child.log = self.log(child.name)
            child.command = [word.replace("mint@", f"mint{number}@") for word in child.command]
            self._children[child.name] = child
            child.start()
            child.wait_until(lambda child=child: " ready." in child.end_of_log(200), 60)  # type: ignore[misc]

    def environment(self, profile: str | None = None) -> dict[str, str]:
        environment = super().environment(profile) | NO_LIMITS
        if "AWS_ENDPOINT_URL" in environment:
            if self.way is None:
                self.way = SlowProxy(self.aws.port)
            environment["AWS_ENDPOINT_URL"] = self.way.url
        return environment

    def _child(self, process: Process) -> Child:
        child = super()._child(process)
        if process.name == "web":
            child.command = [*child.command, f"--workers={self._web}"]
        return child


def main() -> None:
    wanted = json.loads(sys.argv[1])
    folder = Path(tempfile.mkdtemp(prefix="daypass-bench-")) / "postgres"
    with ExitStack() as cleaning:
        cleaning.callback(shutil.rmtree, folder.parent, ignore_errors=True)
        cleaning.callback(postgres.clear, folder)
        server = cleaning.enter_context(postgres.Postgres(folder))
        _count_statements(server)
        stack = Product(web=wanted["web"], mint=wanted["mint"], app_url=server.app_url(), owner_url=server.owner_url())
        stack.manage("migrate", "--database", "owner", "--noinput", "--verbosity=0")
        cleaning.enter_context(stack)
        stack.python("-m", "sandbox.demo")
        people = _people(stack, server, wanted["people"])
        pids = {name: child.pid for name, child in stack._children.items()}
        pids |= {"Redis": stack["redis"].pid, "AWS": stack["aws"].pid}
        pids["PostgreSQL"] = int((server.data / "postmaster.pid").read_text().split("\n", 1)[0])
        floors = _floors(stack, cleaning, wanted["floors"])
        pids |= {name: child.pid for name, child in floors.items()}
        account = next(one for one in landscape.ACCOUNTS if one.name == ROLE[0])
        _say(
            {
                "url": stack.url,
                "floor_url": stack.floor_url,
                "pids": pids,
                "app": server.app_url(),
                "superuser": server.superuser_url(postgres.DATABASE),
                "redis": stack.redis.url(),
                "people": people,
                "minter": stack.environment("minter"),
                "role_arn": account.role_arn(ROLE[1]),
                "external_id": account.external_id,
                "folder": str(stack.folder),
            }
        )
        for line in sys.stdin:
            _do(stack, json.loads(line))
            _say({})


def _count_statements(server: postgres.Postgres) -> None:
    """Counted by PostgreSQL itself, and only while it is told to: see `bench.product.Product.counted`."""
    with psycopg.connect(server.superuser_url(), autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET shared_preload_libraries = '{PRELOAD}'")
    server.restart()
    with psycopg.connect(server.superuser_url(), autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET {PRELOAD}.track = 'none'")
        connection.execute("SELECT pg_reload_conf()")
    with psycopg.connect(server.superuser_url(postgres.DATABASE), autocommit=True) as connection:
        connection.execute(f"CREATE EXTENSION {PRELOAD}")


def _people(stack: Stack, server: postgres.Postgres, number: int) -> list[dict[str, str]]:
    """So many engineers, like Alice, then Bob who approves and Olivia; each with a browser that is signed in."""
    with psycopg.connect(server.superuser_url(postgres.DATABASE), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for copy in range(2, number + 1):
            name = f"engineer{copy}"
            made = {"username": name, "email": f"{name}@example.com", "source_identity": name, "public_id": uuid4()}
            _copy(connection, "requests_app_user", "username = 'alice'", made)
            key = connection.execute("SELECT id FROM requests_app_user WHERE username = %s", [name]).fetchone()
            assert key
            hers = "user_id = (SELECT id FROM requests_app_user WHERE username = 'alice')"
            _copy(connection, "requests_app_membership", hers, {"user_id": key[0]})
    os.environ |= {**stack.environment(), "DJANGO_SETTINGS_MODULE": "portal.settings", "LOG_LEVEL": "ERROR"}
    import django

    django.setup()
    engineers = ["alice", *(f"engineer{copy}" for copy in range(2, number + 1))]
    return [_signed_in(name) for name in (*engineers, "bob", "olivia")]


def _copy(connection: psycopg.Connection, table: str, which: str, changes: dict[str, Any]) -> None:
    """Each of these rows once more, with a key of its own and these changes."""
    found = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        " AND attgenerated = '' AND attname <> 'id'",
        [table],
    ).fetchall()
    names = [name for (name,) in found]
    values = ", ".join(f"%({name})s" if name in changes else name for name in names)
    connection.execute(
        f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table} WHERE {which}",
        changes,
    )


def _signed_in(username: str) -> dict[str, str]:
    from django.conf import settings
    from django.test import Client

    from requests_app.domain.models import User

    with suppress(ImportError):  # an older product, whose cookie is the row's key
        from tests import clients

        clients.use_secrets()
    client = Client()
    client.force_login(User.objects.get(username=username))
    name, csrf = settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME
    return {"username": username, "cookie": name, "session": client.cookies[name].value, "csrf": csrf}


def _floors(stack: Product, cleaning: ExitStack, wanted: bool) -> dict[str, Child]:
    """The bare web server and the bare Celery worker that stand beside the product: `bench.inside.bare`."""
    if not wanted:
        return {}
    programs, port = Path(sys.executable).parent, free_port()
    environment = stack.environment() | {
        "PYTHONPATH": os.environ["PYTHONPATH"],
        "DJANGO_SETTINGS_MODULE": "bench.inside.bare.settings",
        "FLOOR_ROWS": str(stack.folder / "rows.json"),
        "FLOOR_BROKER": stack.redis.url().rsplit("/", 1)[0] + "/1",
    }
    stack.floor_url = f"http://127.0.0.1:{port}"
    commands = {
        "bare web": [
            *(str(programs / "gunicorn"), "--config=python:portal.server", f"--bind=127.0.0.1:{port}"),
            *("--workers=1", "django.core.wsgi:get_wsgi_application()"),
        ],
        "bare worker": [
            *(str(programs / "celery"), "-A", "bench.inside.bare.worker", "--quiet", "worker", "--loglevel=WARNING"),
            *("--pool=threads", "--concurrency=8", "--without-gossip", "--without-mingle", "--queues=bare"),
        ],
    }
    children = {}
    # Not in the checkout: what stands in the folder where gunicorn and celery start goes before everything else.
    where = Path(os.environ["PYTHONPATH"].partition(os.pathsep)[0])
    for name, command in commands.items():
        child = Child(
            name=name, command=command, log=stack.log(name.replace(" ", "-")), environment=environment, folder=where
        )
        cleaning.callback(child.stop)
        child.start()
        children[name] = child
    return children


def _do(stack: Product, command: dict[str, Any]) -> None:
    match command:
        case {"delay": float(seconds)}:
            assert stack.way
            stack.way.seconds = seconds
        case {"freeze": list(names)}:
            for name in names:
                stack[name].freeze()
        case {"cont": list(names)}:
            for name in names:
                stack[name].cont()


def _say(words: dict[str, Any]) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main()
