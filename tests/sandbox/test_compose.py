"""No Docker here, so at least: the file parses, and starts what `make run` starts."""

import os
import re
import subprocess
from typing import Any

import psycopg
import pytest

from sandbox.postgres import Postgres
from sandbox.processes import PROCESSES
from tests.sandbox.compose import OURS, PROJECT, SERVICES, command_of, environment_of, filled_in, mounts_of


def queues_of(command: tuple[str, ...] | list[str]) -> set[str]:
    return {queue for part in command if part.startswith("--queues=") for queue in part[9:].split(",")}


def test_every_process_is_a_service_and_every_queue_is_worked():
    assert {process.name for process in PROCESSES} < set(OURS)
    assert set(OURS) == {"web", "mint", "aws", "revoke", "default", "beat", "migrate"}
    here = set().union(*(queues_of(process.command) for process in PROCESSES))
    there = set().union(*(queues_of(command_of(name)) for name in OURS))
    assert here == there == {"mint", "aws", "revoke", "default"}


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_the_commands_are_the_same(process):
    where = re.compile(r"--(bind|queues)=")
    there = [part for part in command_of(process.name) if not where.match(part)]
    assert there == [part for part in process.command if not where.match(part)]


def test_the_image_starts_the_web_by_the_same_command():
    dockerfile = (PROJECT / "Dockerfile").read_text()
    command = re.findall(r"^CMD \[(.*)\]$", dockerfile, re.MULTILINE)[-1]
    assert [part.strip(' "') for part in command.split(",")] == command_of("web")


def test_aws_identities_are_where_they_belong():
    profiles = {name: environment_of(name, {}).get("AWS_PROFILE") for name in OURS}
    assert {name: profile for name, profile in profiles.items() if profile} == {
        "mint": "minter",
        "aws": "minter",
        "revoke": "revoker",
    }
    for process in PROCESSES:
        assert profiles[process.name] == process.aws_profile
    for name in OURS:
        assert ("/aws" in mounts_of(name, {})) == bool(profiles[name])


def test_only_the_migration_knows_the_owner():
    everything = dict.fromkeys(re.findall(r"[A-Z][A-Z_0-9]+", (PROJECT / "docker-compose.yml").read_text()), "given")
    for name in OURS:
        knows = any("OWNER" in variable for variable in environment_of(name, everything))
        assert knows == (name == "migrate")


def test_each_service_sees_the_secrets_that_it_has_a_use_for():
    seen = {name: {at for at in mounts_of(name, {}) if at.startswith("/run/secrets")} for name in SERVICES}
    ours = {f"/run/secrets/{one}" for one in ("app", "redis", "database")}
    assert seen == {
        **dict.fromkeys(OURS, ours),
        "migrate": ours | {"/run/secrets/owner"},
        "postgres": {"/run/secrets/database", "/run/secrets/owner"},
        "redis": {"/run/secrets/redis"},
        "proxy": set(),
    }
    assert command_of("migrate")[:5] == ["python", "manage.py", "migrate", "--database", "owner"]


def test_the_init_script_makes_the_two_roles_and_their_database(tmp_path):
    with Postgres() as server:
        with psycopg.connect(server.superuser_url(), autocommit=True) as connection:
            connection.execute("DROP DATABASE daypass")
            connection.execute("DROP ROLE daypass_owner")
            connection.execute("DROP ROLE daypass_app")
        (tmp_path / "app").write_text("a\\pp\n")
        passwords = {"DATABASE_OWNER_PASSWORD": "o'wn er", "DATABASE_APP_PASSWORD_FILE": str(tmp_path / "app")}
        entrypoint = {"POSTGRES_USER": "postgres", "PGHOST": "127.0.0.1", "PGPORT": str(server.port)}
        entrypoint |= {"PGPASSWORD": server.passwords.superuser, "PATH": f"{server.binaries}:{os.defpath}"}
        script = PROJECT / "docker" / "roles.sh"
        for missing in passwords:
            given = {name: value for name, value in passwords.items() if name != missing}
            done = subprocess.run(["sh", str(script)], env={**entrypoint, **given}, capture_output=True, text=True)
            assert done.returncode
            assert f"{missing.removesuffix('_FILE')} is not set." in done.stderr
        subprocess.run(["sh", str(script)], env={**entrypoint, **passwords}, check=True, capture_output=True)

        address: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "dbname": "daypass"}
        with psycopg.connect(user="daypass_owner", password="o'wn er", **address) as owner:
            owner.execute("CREATE TABLE made (id int)")
        with psycopg.connect(user="daypass_app", password="a\\pp", **address) as app:
            for refused in ("CREATE TABLE mine (id int)", "SELECT * FROM made"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
                    app.execute(refused)


def test_every_variable_is_explained_and_every_process_locked_down():
    text = (PROJECT / "docker-compose.yml").read_text()
    example = (PROJECT / ".env.example").read_text()
    operations = (PROJECT / "docs" / "operations.md").read_text()
    for name in set(re.findall(r"(?<!\$)\$\{(\w+)", text)):
        assert re.search(rf"^(# )?{name}=", example, re.MULTILINE) or f"| `{name}` |" in operations, name
    for service in OURS.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_what_docker_is_sent_is_what_the_image_copies():
    sent = re.findall(r"^!(.+)$", (PROJECT / ".dockerignore").read_text(), re.MULTILINE)
    for name in sent:
        assert (PROJECT / name).exists()
        assert re.search(rf"^COPY {re.escape(name)}\b", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)


def test_a_missing_value_is_what_compose_says_it_is():
    given = {"FULL": "a/b", "EMPTY": ""}
    assert filled_in("${FULL} ${FULL:-x} ${EMPTY:-x} ${EMPTY-x} ${NONE-x} $$FULL", given) == "a/b a/b x  x $FULL"
    with pytest.raises(AssertionError, match="NONE is missing"):
        filled_in("${NONE:?}", given)
