"""A role whose inline policies leave no room to deny everyone by name, at the stand-in, which counts as AWS does."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from requests_app.aws import deny_policy
from requests_app.background import revoking
from requests_app.domain import clock, workflow
from requests_app.domain.errors import TooMany
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    AwsClock,
    DenyPolicy,
    Entitlement,
    Group,
    Installation,
    Notice,
    Revocation,
    Role,
    User,
)
from requests_app.domain.workflow import deliveries, proofs, revocations
from sandbox.aws import AwsStandIn
from tests import factories, letters
from tests.background.ending import run, works
from tests.domain.expect import refused
from tests.domain.meeting import at_once
from tests.faults.die_at import killed
from tests.web.pages import page, signed_in

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.xdist_group("aws"),
    pytest.mark.usefixtures("installation"),
]


@pytest.fixture
def iam(aws_stand_in: AwsStandIn) -> Any:
    return aws_stand_in.root("222222222222").client("iam")


@pytest.fixture
def room_for(iam: Any, installation: Installation) -> Iterator[Callable[[int], None]]:
    """Leave room for so many denies, by another inline policy on the role; None takes that away."""

    def put(many: int | None) -> None:
        if many is None:
            iam.delete_role_policy(RoleName="Administrator", PolicyName="much-else")
            return
        entries = [deny_policy.Entry(f"DP-{number:08}") for number in range(many)]
        ours = deny_policy.document(installation=installation.code, generation=11, entries=entries)
        others = [
            iam.get_role_policy(RoleName="Administrator", PolicyName=name)["PolicyDocument"]
            for name in iam.list_role_policies(RoleName="Administrator")["PolicyNames"]
            if name not in ("much-else", deny_policy.policy_name(installation.code))
        ]
        taken = sum(deny_policy.characters(json.dumps(one)) for one in others) + deny_policy.characters(_filler(0))
        document = _filler(deny_policy.MOST_CHARACTERS - taken - deny_policy.characters(ours))
        iam.put_role_policy(RoleName="Administrator", PolicyName="much-else", PolicyDocument=document)

    yield put
    for name in iam.list_role_policies(RoleName="Administrator")["PolicyNames"]:
        if name == "much-else" or installation.code in name:
            iam.delete_role_policy(RoleName="Administrator", PolicyName=name)


def _filler(length: int) -> str:
    statement = {"Effect": "Allow", "Action": "sqs:DeleteQueue", "Resource": f"arn:aws:sqs:::{'x' * length}"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A role is held for seconds, as if calls and clocks were sure to a second."""
    monkeypatch.setattr(revocations, "HELD_AHEAD", timedelta(seconds=4))
    monkeypatch.setattr(revocations, "OFFSET", timedelta(seconds=1))
    monkeypatch.setattr(revocations, "LAST_ISSUED_AFTER", timedelta(seconds=1))


@pytest.fixture
def crowd(engineers: Group, staged: Entitlement, administrator: Role, bob: User, aws_clock: AwsClock) -> Any:
    """So many others with a pass of the role and a session on record, all revoked."""

    def crowd(many: int) -> list[AccessRequest]:
        ended = []
        for _ in range(many):
            somebody = factories.person(f"somebody-{secrets.token_hex(4)}", engineers)
            asked = factories.wish(somebody, administrator, staged)
            workflow.approve(asked, by=bob)
            asked.refresh_from_db()
            started = workflow.start(asked, by=somebody)
            factories.sealed(started)
            ended.append(workflow.revoke(started, by=bob, reason="over"))
        return ended

    return crowd


def ours(iam: Any, installation: Installation) -> str:
    name = deny_policy.policy_name(installation.code)
    return json.dumps(iam.get_role_policy(RoleName="Administrator", PolicyName=name)["PolicyDocument"])


def test_returned_passes_make_way_and_it_is_said(
    active_request: AccessRequest, erins_request: AccessRequest, live: Any, become: Any, room_for: Any, crowd: Any,
    alice: User, bob: User, iam: Any, installation: Installation,
) -> None:  # fmt: skip
    hers, erins = live(active_request), live(erins_request)
    workflow.give_back(active_request, by=alice)
    run(become, active_request.role)
    assert not works(hers), "the control: there was room for her at first"
    room_for(1)
    workflow.revoke(erins_request, by=bob, reason="an incident")

    run(become, active_request.role)

    assert works(hers)
    assert not works(erins)
    revocation = Revocation.objects.get(access_request=active_request)
    assert revocation.state == "wanted", "what AWS was not told is not shown as told"
    assert Revocation.objects.get(access_request=erins_request).state == "proved"
    story = page(signed_in(alice).get(f"/requests/{active_request.code}")).text
    assert "you gave this pass back yourself, so this one made way: keys already issued work until" in story
    bobs_story = page(signed_in(bob).get(f"/requests/{active_request.code}")).text
    assert "Alice gave this pass back, so this one made way" in bobs_story
    assert "made way" in page(signed_in(alice).get("/")).text
    policy = DenyPolicy.objects.get()
    assert (policy.left_out, policy.denied) == ([active_request.code], [erins_request.code])

    generation = policy.generation
    with clock.moved(timedelta(minutes=2)):
        run(become, active_request.role)
    assert DenyPolicy.objects.get().generation == generation, "a full document is not written again and again"
    assert AuditEvent.objects.filter(action="revocation.left_out").count() == 1

    room_for(None)
    with clock.moved(timedelta(minutes=8)):
        run(become, active_request.role)
    assert not works(hers)
    assert DenyPolicy.objects.get().left_out == []


def test_too_many_revoked_everything_older_is_refused_and_nothing_minted_until_then(
    active_request: AccessRequest, erins_request: AccessRequest, live: Any, become: Any, room_for: Any, crowd: Any,
    soon: None, bob: User, olivia: User, dave: User, iam: Any, installation: Installation,
) -> None:  # fmt: skip
    hers, erins = live(active_request), live(erins_request)
    on_its_way = deliveries.claim(factories.delivery(erins_request).pk, worker="worker")
    assert on_its_way is not None
    crowd(9)
    workflow.revoke(active_request, by=bob, reason="an incident")
    room_for(9)

    become("revoker")
    revoking.work(active_request.role_id)

    policy = DenyPolicy.objects.get()
    assert policy.held_until is not None
    assert policy.held_until > clock.now()
    assert not works(hers)
    assert not works(erins), "the price of it"
    assert set(Revocation.objects.values_list("state", flat=True)) == {"written"}
    # Nobody is minted between.
    with refused("mint.held"):
        factories.delivery(erins_request)
    assert not deliveries.record(on_its_way, factories.minted(on_its_way), worker="worker")
    assert proofs.take_up(active_request.role_id) is None
    # Everyone knows.
    told = Notice.objects.filter(kind__in=["held", "role_held"]).select_related("recipient", "access_request")
    assert {(one.kind, one.recipient.username) for one in told} == {
        ("held", "erin"),
        ("role_held", "olivia"),
        ("role_held", "dave"),
    }
    (loud,) = {letters.sentence(one) for one in told if one.kind == "role_held"}
    assert "has no room to deny 10 ended passes by name, so AWS is told to refuse every session of it from" in loud
    assert loud.endswith("Its other inline policies should become managed ones.")
    story = page(signed_in(erins_request.beneficiary).get(f"/requests/{erins_request.code}")).text
    assert "new credentials can be had from" in story
    assert AuditEvent.objects.filter(action="role.held").count() == 1

    _sleep_until(policy.held_until)

    become("minter")
    assert works(live(erins_request))
    assert not works(erins)
    story = page(signed_in(erins_request.beneficiary).get(f"/requests/{erins_request.code}")).text
    assert "pass goes on: get new credentials." in story
    revoking.prove(active_request.role_id)
    assert set(Revocation.objects.values_list("state", flat=True)) == {"proved"}

    # One more that the moment does not cover, and room only for that: the same moment still does.
    crowd(1)
    assert _works(become, active_request.role) == policy.denied_before

    room_for(None)
    with clock.moved(timedelta(minutes=6)):
        assert _works(become, active_request.role) is None
    assert "TokenIssueTime" not in ours(iam, installation)
    assert works(erins)
    assert not works(hers)
    assert DenyPolicy.objects.get().held_until is None


def test_killed_between_the_hold_and_the_put(
    active_request: AccessRequest, live: Any, become: Any, room_for: Any, crowd: Any, bob: User
) -> None:
    hers = live(active_request)
    crowd(9)
    workflow.revoke(active_request, by=bob, reason="an incident")
    room_for(9)
    become("revoker")

    killed(
        "after:requests_app.background.revoking.revocations.deny_before",
        "requests_app.background.revoking.work",
        active_request.role_id,
    )

    before = DenyPolicy.objects.get().denied_before
    assert before is not None
    assert works(hers), "AWS was not told"
    assert set(Revocation.objects.values_list("state", flat=True)) == {"wanted"}
    assert _works(become, active_request.role) == before
    assert not works(hers)
    assert AuditEvent.objects.filter(action="role.held").count() == 1


def test_two_workers_hold_once(
    active_request: AccessRequest, live: Any, become: Any, room_for: Any, crowd: Any, bob: User
) -> None:
    hers = live(active_request)
    crowd(9)
    workflow.revoke(active_request, by=bob, reason="an incident")
    room_for(9)
    become("revoker")

    at_once(*[lambda: revoking.work(active_request.role_id)] * 2)

    assert not works(hers)
    assert AuditEvent.objects.filter(action="role.held").count() == 1
    assert DenyPolicy.objects.get().generation == 1


def test_no_room_even_for_the_fallback_is_a_failure_that_is_shown(
    active_request: AccessRequest, live: Any, become: Any, room_for: Any, crowd: Any, bob: User
) -> None:
    live(active_request)
    crowd(2)
    workflow.revoke(active_request, by=bob, reason="an incident")
    room_for(1)

    assert run(become, active_request.role).state == "wanted"

    policy = DenyPolicy.objects.get()
    assert policy.aws_code == "LimitExceeded"
    assert "managed policies" in policy.advice
    assert policy.held_until is None, "nobody is kept from minting for nothing"


def test_nobody_pushes_anothers_denial_out_by_asking_and_giving_back(
    active_request: AccessRequest, erins_request: AccessRequest, live: Any, become: Any, room_for: Any, alice: User,
    bob: User, engineers: Group, administrator: Role, settings: Any,
) -> None:  # fmt: skip
    settings.RETURNED_PER_PERSON_AND_ROLE = 4
    easy = factories.entitlement(administrator, groups=[engineers])
    erins = live(erins_request)
    workflow.revoke(erins_request, by=bob, reason="an incident")
    room_for(2)
    run(become, administrator)

    def in_a_loop() -> None:
        for _ in range(10):
            one = factories.wish(alice, administrator, easy, start="at_once")
            factories.sealed(one)
            workflow.give_back(one, by=alice)
            run(become, administrator)

    with refused("limit.returned", TooMany):
        in_a_loop()

    assert Revocation.objects.count() == 1 + 4
    assert not works(erins)
    assert erins_request.code in DenyPolicy.objects.get().denied
    assert Revocation.objects.get(access_request=erins_request).state == "proved"
    assert not AuditEvent.objects.filter(action="role.held").exists()
    # Nor with what she has still: there is nothing new of this role for her, until the oldest is over.
    with refused("limit.returned"):
        factories.delivery(active_request)
    oldest = Revocation.objects.filter(access_request__beneficiary=alice).earliest("keep_until")
    revocations.check_returned(administrator.pk, alice, oldest.keep_until + timedelta(seconds=1))


def _works(become: Any, role: Role) -> datetime | None:
    """Since when everything is denied after one more run of the worker."""
    become("revoker")
    revoking.work(role.pk)
    return DenyPolicy.objects.get().denied_before


def _sleep_until(moment: datetime) -> None:
    time.sleep(max(0.0, (moment - clock.now()).total_seconds() + 0.1))
