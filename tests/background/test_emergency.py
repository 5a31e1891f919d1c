"""Everything ended at once, at the stand-in: one put for each role, and nobody in any more."""

import base64
import json
from typing import Any

import pytest
import redis

from requests_app.aws import iam, sts
from requests_app.background import revoking
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import Account, Entitlement, Group, Revocation, Role, User
from requests_app.domain.workflow import emergency, revocations
from sandbox.aws import AwsStandIn
from sandbox.proxy import FaultProxy, Seen
from tests import factories
from tests.background.ending import works

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.xdist_group("aws"),
    pytest.mark.usefixtures("installation"),
]


def test_many_passes_of_many_people_make_one_put_a_role_and_all_of_them_end(
    payments: Account, administrator: Role, read_only: Role, engineers: Group, alice: User, olivia: User, live: Any,
    become: Any, aws_stand_in: AwsStandIn, redis_server: "redis.Redis", monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    roles = [administrator, read_only]
    terms: Entitlement = factories.entitlement(*roles, groups=[engineers])
    people = [alice, *(factories.person(f"p{number}", engineers) for number in range(2))]
    sessions = [live(factories.wish(person, role, terms, start="at_once")) for person in people for role in roles]
    assert all(works(one) for one in sessions)
    redis_server.flushdb()

    ended = emergency.end_all(payments, by=olivia, reason="keys were stolen", typed="payments-prod")

    assert (ended.passes, ended.roles) == (6, 2)
    revocations.sweep()  # at the same moment, beat wakes the sweep as well
    nudges = [json.loads(base64.b64decode(json.loads(one)["body"]))[0] for one in redis_server.lrange("revoke", 0, -1)]
    assert sorted(nudges) == sorted([[role.pk] for role in roles] * 2)
    with FaultProxy(aws_stand_in.url) as proxy:
        become("revoker")
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        for forget in (sts.forget_clients, iam.forget_clients):
            forget()
        for (role,) in nudges:
            revoking.work(role)
        counts = proxy.counts()
    assert counts[Seen("iam", "PutRolePolicy", None)] == 2
    assert not any(works(one) for one in sessions)
    become("minter")
    for role in roles:
        revoking.prove(role.pk)
    assert list(Revocation.objects.values_list("state", flat=True)) == ["proved"] * 6
    with pytest.raises(NotAllowed, match="frozen"):
        factories.wish(alice, read_only, terms)
