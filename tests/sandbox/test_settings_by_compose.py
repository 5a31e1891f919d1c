"""Each process gets each setting that docs/operations.md names, and starts, from just what Compose would give it."""

import contextlib
import http.server
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from sandbox.aws import AwsStandIn
from sandbox.child import Child, answers, free_port
from sandbox.postgres import Postgres
from sandbox.redis_server import RedisServer
from tests.sandbox.compose import OURS, PROJECT, command_of, environment_of, mounts_of
from tests.test_docs import settings_documented

# Characters that mean something in an address, to a shell, to redis.conf, or to django-environ.
HOSTILE = "$a/b:c@d#e?f g%h\"i'j\\k"

# name → (what .env says, an expression over the settings, what it must be)
SAMPLES: dict[str, tuple[str, str, object]] = {
    "SECRET_KEY": ("$" + "k" * 60, "s.SECRET_KEY", "$" + "k" * 60),
    "BASE_URL": ("https://pass.example.org:8443", "s.BASE_URL", "https://pass.example.org:8443"),
    "DATABASE_URL": ("postgres://me@db.example.org:5433/d", "s.DATABASES['default']['HOST']", "db.example.org"),
    "DATABASE_APP_PASSWORD": (HOSTILE, "s.DATABASES['default']['PASSWORD']", HOSTILE),
    "DATABASE_OWNER_URL": ("postgres://you@db2.example.org/d", "s.DATABASES['owner']['HOST']", "db2.example.org"),
    "DATABASE_OWNER_PASSWORD": (HOSTILE, "s.DATABASES['owner']['PASSWORD']", HOSTILE),
    "REDIS_URL": ("rediss://redis.example.org:6380/3", "r['host']", "redis.example.org"),
    "REDIS_PASSWORD": (HOSTILE, "r['password']", HOSTILE),
    "ALLOWED_HOSTS": ("a.example.org,b.example.org", "s.ALLOWED_HOSTS", ["a.example.org", "b.example.org"]),
    "CSRF_TRUSTED_ORIGINS": ("https://a.example.org", "s.CSRF_TRUSTED_ORIGINS", ["https://a.example.org"]),
    "TRUSTED_PROXIES": ("2", "s.TRUSTED_PROXIES", 2),
    "SECURE_SSL_REDIRECT": ("0", "s.SECURE_SSL_REDIRECT", False),
    "SECURE_HSTS_SECONDS": ("0", "s.SECURE_HSTS_SECONDS", 0),
    "EMAIL_URL": ("smtp+tls://me@mail.example.org:587", "s.EMAIL_HOST", "mail.example.org"),
    "EMAIL_PASSWORD": (HOSTILE, "s.EMAIL_HOST_PASSWORD", HOSTILE),
    "DEFAULT_FROM_EMAIL": ("Pass <p@example.org>", "s.DEFAULT_FROM_EMAIL", "Pass <p@example.org>"),
    "AWS_REGION": ("eu-west-3", "s.AWS_STS_REGION", "eu-west-3"),
    "AWS_DEFAULT_REGION": ("eu-west-2", "os.environ['AWS_DEFAULT_REGION']", "eu-west-2"),
    "REVOKER_ROLE_NAME": ("ender", "s.REVOKER_ROLE_NAME", "ender"),
    "FEDERATION_URL": ("https://signin.example.org", "s.FEDERATION_URL", "https://signin.example.org"),
    "METRICS_TOKEN": (HOSTILE, "s.METRICS_TOKEN", HOSTILE),
    "SECOND_FACTOR_FOR": ("everybody", "s.SECOND_FACTOR_FOR", "everybody"),
    "SECOND_FACTOR_GROUPS": ("Leads,On call", "s.SECOND_FACTOR_GROUPS", ["Leads", "On call"]),
    "SECOND_FACTOR_GRACE_DAYS": ("3", "s.SECOND_FACTOR_GRACE_DAYS", 3),
    "CONN_MAX_AGE": ("7", "s.DATABASES['default']['CONN_MAX_AGE']", 7),
    "PREPARED_STATEMENTS": ("0", "s.DATABASES['default']['OPTIONS']['prepare_threshold']", None),
    "LOG_LEVEL": ("ERROR", "s.LOGGING['root']['level']", "ERROR"),
    "LOG_JSON": ("0", "'json' in str(s.LOGGING['handlers']).lower()", False),
    "DEBUG": ("1", "s.DEBUG", True),
    "SECRET_KEY_FALLBACKS": ("$" + "l" * 60, "s.SECRET_KEY_FALLBACKS", ["$" + "l" * 60]),
    "SIGN_IN_HOURS": ("3", "s.SESSION_COOKIE_AGE", 3 * 3600),
    "SIGN_IN_IDLE_MINUTES": ("3", "s.SESSION_IDLE_SECONDS", 180),
}
SAMPLES |= {
    name: ("3", f"s.{name}", 3)
    for name in (
        *("DELIVERIES_PER_PERSON_PER_MINUTE", "DELIVERIES_PER_ROLE_PER_MINUTE", "OPEN_REQUESTS_PER_PERSON_AND_ROLE"),
        *("REQUESTS_PER_PERSON_PER_HOUR", "UNACCEPTED_PER_ASKER_AND_PERSON", "EXTENSIONS_IN_VAIN_PER_PASS"),
        "RETURNED_PER_PERSON_AND_ROLE",
    )
}
SECRET_ENDS = ("_KEY", "_KEY_FALLBACKS", "_URL")
SECRET = {name for name, (given, *_) in SAMPLES.items() if given == HOSTILE or name.endswith(SECRET_ENDS)}
SECRET -= {"BASE_URL", "FEDERATION_URL"}
# Where it would be wrong, or of no use.
NOT_FOR = {
    "DATABASE_OWNER_URL": set(OURS) - {"migrate"},
    "DATABASE_OWNER_PASSWORD": set(OURS) - {"migrate"},
    "METRICS_TOKEN": set(OURS) - {"web"},
    "AWS_REGION": set(OURS) - {"mint", "aws", "revoke"},
    "AWS_DEFAULT_REGION": set(OURS) - {"mint", "aws", "revoke"},
}
# Part of the image, with the files it names.
IN_THE_IMAGE = {"STATIC_ROOT"}


def read_settings(environment: Mapping[str, str], *expressions: str) -> list[object]:
    """What the expressions say in a process with this environment: `s` the settings, `r` Redis's address in parts."""
    code = (
        "import json, os, sys, redis.connection; from portal import settings as s\n"
        "r = redis.connection.parse_url(s.REDIS_URL)\n"
        "print(json.dumps([eval(one) for one in sys.argv[1:]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *expressions],
        cwd=PROJECT,
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return list(json.loads(done.stdout))


def test_every_documented_setting_has_a_sample():
    assert set(SAMPLES) | IN_THE_IMAGE == settings_documented()


@pytest.mark.parametrize("by_file", [False, True], ids=["as it is", "by file"])
@pytest.mark.parametrize("service", OURS)
def test_what_is_documented_arrives(service, by_file, tmp_path):
    dotenv = {}
    for name, (given, *_) in SAMPLES.items():
        if by_file and name in SECRET:
            (tmp_path / name).write_text(f"{given}\n")
            dotenv[f"{name}_FILE"] = str(tmp_path / name)
        else:
            dotenv[name] = given
    wanted = {name: sample for name, sample in SAMPLES.items() if service not in NOT_FOR.get(name, ())}

    found = read_settings(environment_of(service, dotenv), *(expression for _, expression, _ in wanted.values()))

    assert dict(zip(wanted, found, strict=True)) == {name: value for name, (_, _, value) in wanted.items()}
    for name in SAMPLES.keys() - wanted.keys():
        assert not {name, f"{name}_FILE"} & environment_of(service, dotenv).keys(), f"{service} has no use for {name}"


@pytest.mark.parametrize("service", OURS)
def test_what_stays_empty_counts_as_not_given(service):
    needed = {"SECRET_KEY": "k" * 60, "BASE_URL": "https://pass.example.org"}
    nothing = dict.fromkeys(SAMPLES, "") | {f"{name}_FILE": "" for name in SAMPLES}
    (hsts, sender, mail) = read_settings(
        environment_of(service, {**nothing, **needed}),
        "s.SECURE_HSTS_SECONDS",
        "s.DEFAULT_FROM_EMAIL",
        "s.EMAIL_BACKEND",
    )
    assert (hsts, sender) == (31_536_000, "Daypass <daypass@pass.example.org>")
    assert str(mail).endswith("console.EmailBackend")


def test_what_is_missing_is_named_and_no_value_is_shown(tmp_path):
    for given, said in (
        ({}, "SECRET_KEY is not set. Give SECRET_KEY, or SECRET_KEY_FILE."),
        ({"SECRET_KEY_FILE": str(tmp_path / "none")}, "SECRET_KEY_FILE names a file that cannot be read"),
    ):
        with pytest.raises(AssertionError) as refused:
            read_settings(environment_of("web", {"BASE_URL": "https://a", "REDIS_PASSWORD": "hidden-word", **given}))
        assert said in str(refused.value)
        assert "hidden-word" not in str(refused.value)


@pytest.mark.parametrize("service", ["mint", "aws", "revoke"])
def test_an_identity_that_the_machine_gives_is_found(service, tmp_path):
    """As ECS and EKS give it: no config file, no profile."""
    with metadata_service() as url:
        dotenv = {"SECRET_KEY": "k" * 60, "BASE_URL": "https://a.example.org", "AWS_REGION": "eu-west-1"}
        given = environment_of(service, {**dotenv, "MINTER_PROFILE": "", "REVOKER_PROFILE": ""})
        given |= {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_CONTAINER_CREDENTIALS_FULL_URI": url}
        found = read_settings(given, "__import__('boto3').session.Session().get_credentials().access_key")
    assert found == ["ASIAOFTHEMACHINE"]


@contextlib.contextmanager
def metadata_service() -> Iterator[str]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys = {"AccessKeyId": "ASIAOFTHEMACHINE", "SecretAccessKey": "any", "Token": "any"}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({**keys, "Expiration": "2099-01-01T00:00:00Z"}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/role"
        server.shutdown()


@contextlib.contextmanager
def redis_by_its_script(folder: Path, password: str) -> Iterator[int]:
    """Redis as Compose starts it, but on a free port of the loopback."""
    binary = RedisServer().process.command[0]
    port = free_port()
    shim = folder / "redis-server"
    shim.write_text(f'#!/bin/sh\nexec {binary} "$@" --port {port} --bind 127.0.0.1\n')
    shim.chmod(0o755)
    entrypoint = folder / "docker-entrypoint.sh"  # as in Redis's image, which drops root first
    entrypoint.write_text('#!/bin/sh\nexec "$@"\n')
    entrypoint.chmod(0o755)
    server = Child(
        name="redis",
        command=["sh", str(PROJECT / "docker" / "redis.sh")],
        log=folder / "redis.log",
        environment={**environment_of("redis", {"REDIS_PASSWORD": password}), "PATH": f"{folder}:{os.defpath}"},
        folder=folder,
    )
    server.start()
    try:
        server.wait_until(lambda: answers(port), 10)
        yield port
    finally:
        server.stop()


@pytest.mark.stack
@pytest.mark.xdist_group("starts")
def test_every_process_starts_with_what_compose_gives_it(tmp_path):
    secret_files = {"owner": HOSTILE + "o", "app": HOSTILE + "a", "key": secrets.token_urlsafe(60)}
    for name, value in secret_files.items():
        (tmp_path / name).write_text(f"{value}\n")
    with Postgres() as server, redis_by_its_script(tmp_path, HOSTILE) as redis_port, AwsStandIn() as aws:
        with psycopg.connect(server.superuser_url(), autocommit=True) as connection:
            for role in ("owner", "app"):
                statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
                connection.execute(statement.format(sql.Identifier(f"daypass_{role}"), sql.Literal(secret_files[role])))
        dotenv = {
            "BASE_URL": "https://pass.example.org",
            "SECRET_KEY_FILE": str(tmp_path / "key"),
            "DATABASE_URL": f"postgres://daypass_app@127.0.0.1:{server.port}/daypass",
            "DATABASE_APP_PASSWORD_FILE": str(tmp_path / "app"),
            "DATABASE_OWNER_URL": f"postgres://daypass_owner@127.0.0.1:{server.port}/daypass",
            "DATABASE_OWNER_PASSWORD_FILE": str(tmp_path / "owner"),
            "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
            "REDIS_PASSWORD": HOSTILE,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": aws.url,
            "AWS_CONFIG_FOLDER": str(aws.config_file.parent),
        }
        port = free_port()
        children = {service: container(service, dotenv, tmp_path, port) for service in OURS}
        try:
            children["migrate"].start()
            assert children["migrate"]._process
            assert children["migrate"]._process.wait(120) == 0, children["migrate"].end_of_log()
            # The only one that can say who runs it.
            assert "DATABASE_OWNER_URL" in makes_operator(dotenv, "web")
            assert "me is an operator now" in makes_operator(dotenv, "migrate")
            for service in OURS.keys() - {"migrate"}:
                children[service].start()
            for service in OURS.keys() - {"migrate"}:
                wait_until_ready(service, children[service])
            # Who the workers are at AWS comes with the first clock reading, which beat asks for.
            app = psycopg.connect(
                host="127.0.0.1",
                port=server.port,
                dbname="daypass",
                user="daypass_app",
                password=secret_files["app"],
                autocommit=True,
            )
            with app as connection:
                children["aws"].wait_until(lambda: knows_both_identities(connection), 60)
        finally:
            for child in children.values():
                child.stop(seconds=5)
        for child in children.values():
            assert HOSTILE not in read(child)


def makes_operator(dotenv: Mapping[str, str], service: str) -> str:
    """`docker compose run --rm SERVICE python manage.py make_operator …`, with a password on its standard input."""
    done = subprocess.run(
        [sys.executable, "manage.py", "make_operator", "me@example.org"],
        cwd=PROJECT,
        env={"PATH": os.defpath, **environment_of(service, dotenv)},
        input="correct horse battery staple\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def wait_until_ready(service: str, child: Child) -> None:
    sign = {"web": "Booting worker", "beat": "beat: Starting"}.get(service, " ready.")
    child.wait_until(lambda: sign in read(child), 90)


def read(child: Child) -> str:
    return child.log.read_text(errors="replace")


def knows_both_identities(connection: psycopg.Connection) -> bool:
    found = connection.execute("SELECT worker FROM requests_app_identity WHERE arn <> ''").fetchall()
    return {name for (name,) in found} >= {"minter", "revoker"}


def container(service: str, dotenv: Mapping[str, str], folder: Path, port: int) -> Child:
    """The service's command and environment; the paths it mounts are where they lie here."""
    environment = environment_of(service, dotenv)
    for inside, outside in mounts_of(service, dotenv).items():
        environment = {name: value.replace(f"{inside}/", f"{outside}/") for name, value in environment.items()}
    command = [part.replace("0.0.0.0:8000", f"127.0.0.1:{port}") for part in command_of(service)]
    if "PROMETHEUS_MULTIPROC_DIR" in environment:
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
    path = f"{Path(sys.executable).parent}:{os.defpath}"
    return Child(
        name=service,
        command=command,
        log=folder / f"{service}.log",
        # What the Dockerfile sets.
        environment={"PATH": path, "PYTHONUNBUFFERED": "1", "STATIC_ROOT": str(folder / "static"), **environment},
        folder=PROJECT,
    )
