"""A Redis that refuses: workers wait and go on, and what must not wait for it does not."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import RedisError

from requests_app.domain.models import AccessRequest, AwsClock, Notice
from sandbox.child import Child
from sandbox.employee import Employee, until
from sandbox.processes import PROCESSES, command_line
from sandbox.redis_server import RedisServer
from sandbox.stack import PROJECT, Stack
from tests import servers
from tests.refusals import REFUSALS, Refusal
from tests.stack.people import aws_cli
from tests.stack.test_promises import _message

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]


@pytest.fixture(scope="module")
def refusing_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def database(django_db_setup: None) -> str:
    name = f"refusing_daypass_{servers.worker()}"
    servers.make_test_database(name)
    return name


def started(name: str, redis: RedisServer, database: str, log: Path) -> Child:
    process = next(one for one in PROCESSES if one.name == name)
    environment = {
        **os.environ,
        "DATABASE_URL": servers.database_url("app", database),
        "REDIS_URL": redis.url(),
        "DEBUG": "0",
        "LOG_LEVEL": "INFO",
        "EMAIL_URL": "consolemail://",
    }
    environment.pop("DATABASE_OWNER_URL")
    child = Child(name=name, command=command_line(process, bind=""), log=log, environment=environment, folder=PROJECT)
    child.start()
    return child


@pytest.fixture(scope="module")
def worker(refusing_redis: RedisServer, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    child = started("default", refusing_redis, database, tmp_path_factory.mktemp("worker") / "default.log")
    try:
        child.wait_until(lambda: " ready." in child.end_of_log(200), 60)
        yield child
    finally:
        child.stop()


def takes_a_nudge(child: Child, redis: RedisServer, seconds: float = 30) -> None:
    client = redis.client()
    until(lambda: _goes(lambda: client.lpush("default", _message("default.find_stuck", []))), 10)
    until(lambda: not child.alive() or client.llen("default") == 0, seconds, child.end_of_log)
    assert child.alive(), child.end_of_log(60)


def _goes(act: Callable[[], object]) -> bool:
    with contextlib.suppress(RedisError):
        act()
        return True
    return False


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda one: one.name)
def test_a_worker_survives_each_refusal_and_takes_a_nudge_afterwards(
    refusal: Refusal, worker: Child, refusing_redis: RedisServer
) -> None:
    if not worker.alive():  # so that each tells of itself
        worker.start()
    takes_a_nudge(worker, refusing_redis)
    said = len(worker.log.read_text(errors="replace"))
    # One message is on its way when it begins: taking it, noting it and finishing it are refused too.
    worker.freeze()
    refusing_redis.client().lpush("default", _message("default.find_stuck", []))
    with refusal.lasting(refusing_redis):
        worker.cont()
        until(lambda: not worker.alive() or _tries_in_vain(worker, said) >= 2, 40, worker.end_of_log)
        assert worker.alive(), worker.end_of_log(60)

    takes_a_nudge(worker, refusing_redis)


def _tries_in_vain(worker: Child, said: int) -> int:
    new = worker.log.read_text(errors="replace")[said:]
    return new.count("broker.lost") + new.count("Cannot connect")


@pytest.mark.parametrize(
    "refusal", [one for one in REFUSALS if one.name in ("OOM", "WRONGPASS")], ids=lambda one: one.name
)
def test_a_revoke_is_carried_through_while_redis_refuses_all_the_time(
    refusal: Refusal, product: Stack, sign_in: Callable[[str], Employee], make_pass: Callable[..., AccessRequest]
) -> None:
    hers = make_pass("alice", "payments-prod/Administrator")
    keys, olivia = sign_in("alice").ask(hers.code).open(), sign_in("olivia")
    look = ("dynamodb", "list-tables")
    assert aws_cli(product, keys, *look).returncode == 0

    with refusal.lasting(product.redis):
        # One that was started anew meanwhile has never had a broker.
        product["revoke"].kill()
        product["revoke"].start()
        assert olivia.post(f"/requests/{hers.code}/revoke", {"reason": "the laptop is gone"}).status_code == 200
        until(lambda: "AWS refuses them since" in olivia.get(f"/requests/{hers.code}").text, 90)
        assert "explicit deny" in aws_cli(product, keys, *look).stderr
        ready = olivia.get("/readyz")
        assert (ready.status_code, "redis: degraded" in ready.text) == (200, True)
        assert all(product[process.name].alive() for process in PROCESSES)

    again = make_pass("alice", "payments-prod/Administrator")
    until(lambda: sign_in("alice").ask_when_redis_is_back(again.code).settle() == "sealed", 60)


def test_passes_end_and_mail_goes_out_while_redis_refuses_all_the_time(
    product: Stack, make_pass: Callable[..., AccessRequest]
) -> None:
    (refusal,) = (one for one in REFUSALS if one.name == "READONLY")
    with refusal.lasting(product.redis):
        ends_soon = make_pass("alice", left=3)
        until(lambda: AccessRequest.objects.get(pk=ends_soon.pk).state == "expired", 40)
        until(lambda: not Notice.objects.filter(sent_at=None, gave_up_at=None, attempts=0).exists(), 40)
        read_at = AwsClock.objects.get(region="us-east-1").measured_at
        until(lambda: AwsClock.objects.get(region="us-east-1").measured_at > read_at, 90)
