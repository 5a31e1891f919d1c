"""The short form of `make chaos`: the most telling faults, on the running product, with people at work."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.stack import Stack
from tests import servers
from tests.chaos import faults
from tests.chaos.arena import Arena
from tests.chaos.people import Load
from tests.chaos.rounds import Rounds

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]
SHORT = [fault for fault in faults.FAULTS if fault.short]


@pytest.fixture(scope="module")
def rounds(django_db_setup: None, django_db_blocker: Any) -> Iterator[Rounds]:
    """A product of its own, whose AWS can be broken, with people at work."""
    name = f"chaos_daypass_{servers.worker()}"
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    with django_db_blocker.unblock():
        servers.make_test_database(name)
        urls = {role: servers.database_url(role, name) for role in ("app", "owner", "superuser")}
        servers.point_django_at(name)
        try:
            stack = Stack(app_url=urls["app"], owner_url=urls["owner"], proxied=True)
            arena = Arena(stack, urls["superuser"], chance=random.Random(seed))
            arena.settle_in(askers=5)
            with stack, Load(arena) as load:
                rounds = Rounds(arena, load)
                rounds.warm_up()
                yield rounds
                arena.end()
        finally:
            servers.point_django_at(servers.database_name())


def test_nothing_is_lost_and_nothing_is_untrue(rounds: Rounds) -> None:
    assert rounds.run_together(SHORT) == []

    for outcome in rounds.outcomes.values():
        assert outcome.load["requests"] > 0, outcome
    assert sum(outcome.load["keys"] for outcome in rounds.outcomes.values()) > 20
