"""`make watch` tells what AWS does, also where that is not what was promised."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from requests_app.domain import clock
from requests_app.domain.models import AccessRequest
from sandbox import watch
from sandbox.employee import Employee
from sandbox.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]


def test_asks_for_a_minute_and_gets_keys_that_end_with_it(product: Stack) -> None:
    code, keys = watch.keys_for_a_minute(product.url)
    asked = AccessRequest.objects.get(code=code)
    assert (asked.beneficiary.username, asked.duration) == ("alice", timedelta(minutes=1))
    assert asked.expires_at is not None
    assert asked.expires_at - timedelta(seconds=2) < watch.end_of(keys) <= asked.expires_at


def test_sees_the_key_end_at_its_second(
    product: Stack, sign_in: Callable[[str], Employee], make_pass: Callable[..., AccessRequest], capsys: Any
) -> None:
    alice, mine = sign_in("alice"), make_pass("alice", left=14)
    keys = alice.ask(mine.code).open()
    assert watch.watch(mine.code, keys, product.aws.url) == 0
    said = capsys.readouterr().out
    end = watch.end_of(keys)
    every = "get_caller_identity {0}   list_buckets {0}   list_roles {0}"
    assert f"{end - timedelta(seconds=1):%H:%M:%S}  {every.format('works')}" in said
    assert f"{end:%H:%M:%S}  {every.format('ExpiredToken')}" in said
    assert not any(secret in said for secret in (keys["secret_access_key"], keys["session_token"]))


def test_is_not_content_with_keys_that_only_their_policy_ends(
    product: Stack, sign_in: Callable[[str], Employee], make_pass: Callable[..., AccessRequest], capsys: Any
) -> None:
    with product.aws.scoping(refused=["ReadOnly"]):
        mine = make_pass("alice", left=14)
        keys = sign_in("alice").ask(mine.code).open()
    assert watch.end_of(keys) > clock.now() + timedelta(minutes=10)
    assert watch.watch(mine.code, keys, product.aws.url) == 1
    assert "not what was promised" in capsys.readouterr().err
