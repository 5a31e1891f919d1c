"""Ending live sessions at the stand-in, which evaluates role policies as AWS does."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from joserfc import jwe
from joserfc.jwk import ECKey

from requests_app.aws import deny_policy, iam, sts
from requests_app.background import minting, revoking
from requests_app.domain import clock, envelopes, workflow
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    AwsClock,
    DenyPolicy,
    Entitlement,
    Group,
    Installation,
    OwnSession,
    Preflight,
    Revocation,
    Role,
    User,
)
from requests_app.domain.workflow import deliveries, revocations
from sandbox.aws import AwsStandIn, Caller
from tests import factories

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("aws")]


@pytest.fixture(autouse=True)
def installation(db: Any, superuser_connection: Any) -> Installation:
    """One of its own for each test: the stand-in remembers the policies of those before."""
    superuser_connection.execute("DELETE FROM requests_app_installation")
    superuser_connection.execute("INSERT INTO requests_app_installation VALUES (1, %s)", [f"t{time.time_ns()}"])
    return Installation.objects.get()


@pytest.fixture
def as_worker(aws_stand_in: AwsStandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Become the minting or the revoking worker: each has its own identity."""

    def become(profile: str) -> None:
        for name, value in aws_stand_in.profile(profile).items():
            monkeypatch.setenv(name, value)
        sts.forget_clients()
        iam.forget_clients()

    become("minter")
    yield become
    sts.forget_clients()
    iam.forget_clients()


@pytest.fixture
def live(aws_stand_in: AwsStandIn, as_worker: Any, redis_server: Any, aws_clock: AwsClock) -> Any:
    """Mint for a request and act with what its person got."""

    def live(access_request: AccessRequest) -> Caller:
        key = ECKey.generate_key("P-256")
        wish = factories.delivery(access_request, recipient_key=key.as_dict(private=False))
        minting.mint(wish.pk)
        sealed = deliveries.hand_over(wish, by=wish.beneficiary, sign_in="a sign-in", take=envelopes.take)
        opened = json.loads(jwe.decrypt_compact(sealed, key, algorithms=["ECDH-ES", "A256GCM"]).plaintext or b"")
        return aws_stand_in.as_session(
            {
                "AccessKeyId": opened["access_key_id"],
                "SecretAccessKey": opened["secret_access_key"],
                "SessionToken": opened["session_token"],
            }
        )

    return live


def works(caller: Caller) -> bool:
    try:
        caller.client("sqs").list_queues()
    except ClientError as refused:
        if "AccessDenied" not in str(refused):
            raise
        return False
    return True


def run(as_worker: Any, role: Role) -> Revocation:
    as_worker("revoker")
    revoking.work(role.pk)
    as_worker("minter")
    revoking.prove(role.pk)
    return Revocation.objects.latest("pk")


@pytest.fixture
def erins_request(engineers: Group, staged: Entitlement, administrator: Role, bob: User) -> AccessRequest:
    erin = factories.person("erin", engineers)
    asked = factories.wish(erin, administrator, staged)
    workflow.approve(asked, by=bob)
    asked.refresh_from_db()
    return workflow.start(asked, by=erin)


def test_one_persons_sessions_end_and_nobody_elses(
    active_request: AccessRequest, erins_request: AccessRequest, live: Any, as_worker: Any, bob: User, alice: User
) -> None:
    hers, erins = live(active_request), live(erins_request)
    again = live(active_request)
    assert works(hers)

    before = AuditEvent.objects.latest("pk").pk
    workflow.revoke(active_request, by=bob, reason="the incident is over")
    assert Revocation.objects.get().state == "wanted"
    revocation = run(as_worker, active_request.role)

    assert revocation.state == "proved"
    assert not works(hers)
    assert not works(again)
    assert works(erins)
    recorded = AuditEvent.objects.filter(action__startswith="re", pk__gt=before).order_by("pk")
    actions = list(recorded.values_list("action", flat=True))
    assert actions == ["request.revoked", "revocation.wanted", "revocation.written", "revocation.proved"]


def test_a_pass_that_was_never_used_needs_nothing_at_aws(active_request: AccessRequest, alice: User) -> None:
    workflow.give_back(active_request, by=alice)

    assert not Revocation.objects.exists()


def test_it_is_never_refused_for_what_changed_since(
    active_request: AccessRequest, live: Any, as_worker: Any, bob: User, alice: User
) -> None:
    hers = live(active_request)
    alice.memberships.all().delete()
    Entitlement.objects.update(is_active=False)
    Role.objects.update(is_active=False)
    User.objects.filter(pk=alice.pk).update(deactivated_at=clock.now())

    workflow.revoke(active_request, by=bob, reason="gone")

    assert run(as_worker, active_request.role).state == "proved"
    assert not works(hers)


def test_someone_lifts_it_and_it_is_put_back(
    active_request: AccessRequest, erins_request: AccessRequest, live: Any, as_worker: Any, bob: User,
    aws_stand_in: AwsStandIn, installation: Installation,
) -> None:  # fmt: skip
    hers = live(active_request)
    workflow.revoke(active_request, by=bob, reason="over")
    run(as_worker, active_request.role)
    root = aws_stand_in.root("222222222222").client("iam")
    (name,) = [
        one for one in root.list_role_policies(RoleName="Administrator")["PolicyNames"] if installation.code in one
    ]
    root.delete_role_policy(RoleName="Administrator", PolicyName=name)
    assert works(hers), "the control: without the policy her session works again"

    with clock.moved(timedelta(minutes=1, seconds=5)):
        revocation = run(as_worker, active_request.role)

    assert revocation.state == "proved"
    assert not works(hers)
    assert DenyPolicy.objects.get().changed_outside_at is not None
    assert AuditEvent.objects.filter(action="revocation.lifted", access_request=active_request).exists()


def test_an_entry_goes_when_no_session_could_live_and_the_policy_with_the_last(
    active_request: AccessRequest, live: Any, as_worker: Any, bob: User, aws_stand_in: AwsStandIn,
    installation: Installation,
) -> None:  # fmt: skip
    live(active_request)
    workflow.revoke(active_request, by=bob, reason="over")
    revocation = run(as_worker, active_request.role)

    with clock.moved(revocation.keep_until - clock.now() + timedelta(seconds=1)):
        assert revocations.sweep() == 1
        as_worker("revoker")
        revoking.work(active_request.role.pk)

    revocation.refresh_from_db()
    assert revocation.state == "over"
    assert DenyPolicy.objects.get().due_at is None
    names = aws_stand_in.root("222222222222").client("iam").list_role_policies(RoleName="Administrator")["PolicyNames"]
    assert not [one for one in names if installation.code in one]


def test_aws_says_no_and_nothing_is_shown_as_done(
    active_request: AccessRequest, live: Any, as_worker: Any, bob: User, settings: Any
) -> None:
    live(active_request)
    workflow.revoke(active_request, by=bob, reason="over")
    settings.REVOKER_ROLE_NAME = "nobody-made-this"

    revocation = run(as_worker, active_request.role)

    assert revocation.state == "wanted"
    policy = DenyPolicy.objects.get()
    assert policy.aws_code == "AccessDenied"
    assert policy.advice
    assert policy.due_at is not None
    assert policy.due_at > clock.now()
    settings.REVOKER_ROLE_NAME = "daypass-revoker"
    with clock.moved(timedelta(seconds=10)):
        assert run(as_worker, active_request.role).state == "proved"


def test_a_full_document_is_not_written_again_and_again(
    active_request: AccessRequest, live: Any, as_worker: Any, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(active_request)
    workflow.give_back(active_request, by=alice)
    monkeypatch.setattr(deny_policy, "_ENTRY_CHARACTERS", deny_policy.MOST_CHARACTERS)  # room for none

    revocation = run(as_worker, active_request.role)

    assert revocation.state == "wanted", "what AWS was not told is not shown as told"
    policy = DenyPolicy.objects.get()
    assert policy.generation == 1
    assert policy.due_at is not None
    assert policy.due_at > clock.now() + timedelta(minutes=4)


def test_aws_refuses_many_drafts_and_still_knows_what_it_last_took(
    active_request: AccessRequest, live: Any, as_worker: Any, alice: User
) -> None:
    live(active_request)
    workflow.give_back(active_request, by=alice)
    run(as_worker, active_request.role)
    written = DenyPolicy.objects.get().expected
    DenyPolicy.objects.update(due_at=clock.now())
    task = revocations.take_up(active_request.role.pk)
    assert task is not None

    for generation in range(2, 12):
        revocations.note_draft(task, generation=generation, document=f"draft {generation}")

    expected = DenyPolicy.objects.get().expected
    assert expected[0] == written[0]
    assert expected[-1] == "draft 11"


def test_a_probe_is_in_the_record_and_begins_with_what_a_preflight_found(
    active_request: AccessRequest, live: Any, as_worker: Any, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(active_request)
    workflow.revoke(active_request, by=bob, reason="over")
    now = clock.now()
    Preflight.objects.create(
        role=active_request.role, minter_due_at=now, revoker_due_at=now, harmless_action="sns:ListTopics"
    )
    sessions: list[str] = []
    assume_role = sts.assume_role

    def watched(order: Any) -> Any:
        session = assume_role(order)
        sessions.append(session.access_key_id)
        return session

    as_worker("revoker")
    revoking.work(active_request.role.pk)
    as_worker("minter")
    monkeypatch.setattr(sts, "assume_role", watched)
    revoking.prove(active_request.role.pk)

    assert DenyPolicy.objects.get().probe_action == "sns:ListTopics"
    recorded = OwnSession.objects.filter(role=active_request.role, purpose="probe").order_by("pk")
    assert [one.access_key_id for one in recorded] == sessions
    assert len(sessions) == 2
    assert {one.session_name.split("-")[1] for one in recorded} == {"CONTROL", "PROBE"}
