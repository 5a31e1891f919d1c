"""No Docker here, so at least: the file parses, and starts what `make run` starts."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from sandbox.postgres import Postgres
from sandbox.processes import PROCESSES

PROJECT = Path(__file__).resolve().parents[2]
SERVICES = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image") == "daypass"}


def command_of(name: str) -> list[str]:
    return shlex.split(OURS[name]["command"])


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
    where = re.compile(r"--(bind|worker-tmp-dir|queues)=")
    there = [part for part in command_of(process.name) if not where.match(part)]
    assert there == [part for part in process.command if not where.match(part)]


def test_the_image_starts_the_web_by_the_same_command():
    dockerfile = (PROJECT / "Dockerfile").read_text()
    command = re.findall(r"^CMD \[(.*)\]$", dockerfile, re.MULTILINE)[-1]
    assert [part.strip(' "') for part in command.split(",")] == command_of("web")


def test_aws_identities_are_where_they_belong():
    profiles = {name: service["environment"].get("AWS_PROFILE") for name, service in OURS.items()}
    assert {name: profile for name, profile in profiles.items() if profile} == {
        "mint": "minter",
        "aws": "minter",
        "revoke": "revoker",
    }
    for process in PROCESSES:
        assert profiles[process.name] == process.aws_profile


def test_only_the_migration_knows_the_owner():
    knowing = {name for name, service in OURS.items() if "DATABASE_OWNER_URL" in service["environment"]}
    assert knowing == {"migrate"}
    assert command_of("migrate")[:5] == ["python", "manage.py", "migrate", "--database", "owner"]


def test_the_init_script_makes_the_two_roles_and_their_database():
    with Postgres() as server:
        with psycopg.connect(server.superuser_url(), autocommit=True) as connection:
            connection.execute("DROP DATABASE daypass")
            connection.execute("DROP ROLE daypass_owner")
            connection.execute("DROP ROLE daypass_app")
        passwords = {"DATABASE_OWNER_PASSWORD": "o'wn er", "DATABASE_APP_PASSWORD": "a\\pp"}
        entrypoint = {"POSTGRES_USER": "postgres", "PGHOST": "127.0.0.1", "PGPORT": str(server.port)}
        entrypoint |= {"PGPASSWORD": server.passwords.superuser, "PATH": f"{server.binaries}:{os.defpath}"}
        script = PROJECT / "docker" / "roles.sh"
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
    for name in set(re.findall(r"(?<!\$)\$\{(\w+)", text)):
        assert re.search(rf"^{name}=", example, re.MULTILINE), name
    for service in OURS.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_what_docker_is_sent_is_what_the_image_copies():
    sent = re.findall(r"^!(.+)$", (PROJECT / ".dockerignore").read_text(), re.MULTILINE)
    for name in sent:
        assert (PROJECT / name).exists()
        assert re.search(rf"^COPY {re.escape(name)}\b", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
