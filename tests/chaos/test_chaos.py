"""The short form of `make chaos`: the most telling faults, on the running product, with people at work."""

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sandbox.proxy import Issued
from sandbox.stack import Stack
from tests import servers
from tests.chaos import faults
from tests.chaos.arena import Arena, until
from tests.chaos.people import Load
from tests.chaos.rounds import Rounds

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("starts")]
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


def test_what_is_untrue_is_found(rounds: Rounds) -> None:
    """The control: each of the comparisons above can fail."""
    rounds.load.use_once()
    memory, proxy = rounds.load.memory, rounds.load.arena.stack.aws_proxy
    keys = memory.keys[-1]
    memory.tell(keys.code, "revoked", "alice")
    memory.hold(replace(keys, access_key_id="ASIANEVERRECORDED"))
    memory.keys.append(replace(keys, ends_at=time.time() - 2))  # as if it had been given for less
    given = next(one for one in proxy.issued() if one.access_key_id == keys.access_key_id)
    assert given.parent
    assert given.expires_at is not None
    proxy._issued.append(Issued("ASIANOBODYKNOWS", "role", given.session_name))
    proxy._issued.append(given._replace(access_key_id="ASIANOBODYSCOPED"))
    proxy._issued.append(given._replace(expires_at=given.expires_at + timedelta(seconds=1)))
    for file in (rounds.load.arena.stack.folder / "mail").glob("*.log"):
        file.write_text("")
    assert until(lambda: bool(memory.keys[-1].outlived and memory.keys[-1].identified), 5)

    found = "\n".join(rounds.truth.untrue())

    assert f"alice was told that {keys.code} is revoked" in found
    assert "somebody holds ASIANEVERRECORDED" in found
    assert f"{keys.code}: keys worked 2." in found or f"{keys.code}: keys worked 3." in found
    assert f"AWS issued ASIANOBODYKNOWS for {keys.code}" in found
    assert f"AWS scoped ASIANOBODYSCOPED for {given.session_name}" in found
    assert f"{keys.code}: AWS ends {keys.access_key_id} at" in found
    assert f"{keys.code}: AWS says whose {keys.access_key_id} are after the end" in found
    assert "count as sent, 0 were" in found
