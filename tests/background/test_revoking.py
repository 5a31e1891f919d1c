"""Ending live sessions at the stand-in, which evaluates role policies as AWS does."""

from datetime import timedelta
from typing import Any

import pytest

from requests_app.aws import sts
from requests_app.background import revoking
from requests_app.domain import clock, jobs, workflow
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    AwsClock,
    DenyPolicy,
    Entitlement,
    Group,
    Installation,
    Notice,
    OwnSession,
    Preflight,
    Revocation,
    Role,
    User,
)
from requests_app.domain.workflow import proofs, revocations
from sandbox.aws import AwsStandIn
from tests import factories
from tests.background.ending import run, works
from tests.web.pages import page, signed_in

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.xdist_group("aws"),
    pytest.mark.usefixtures("installation"),
]


def test_one_persons_sessions_end_and_nobody_elses(
    active_request: AccessRequest, erins_request: AccessRequest, live: Any, become: Any, bob: User, alice: User
) -> None:
    hers, erins = live(active_request), live(erins_request)
    again = live(active_request)
    assert works(hers)

    before = AuditEvent.objects.latest("pk").pk
    workflow.revoke(active_request, by=bob, reason="the incident is over")
    assert Revocation.objects.get().state == "wanted"
    revocation = run(become, active_request.role)

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
    active_request: AccessRequest, live: Any, become: Any, bob: User, alice: User
) -> None:
    hers = live(active_request)
    alice.memberships.all().delete()
    Entitlement.objects.update(is_active=False)
    Role.objects.update(is_active=False)
    User.objects.filter(pk=alice.pk).update(deactivated_at=clock.now())

    workflow.revoke(active_request, by=bob, reason="gone")

    assert run(become, active_request.role).state == "proved"
    assert not works(hers)


def test_someone_lifts_it_and_it_is_put_back(
    active_request: AccessRequest, erins_request: AccessRequest, live: Any, become: Any, bob: User, olivia: User,
    dave: User, aws_stand_in: AwsStandIn, installation: Installation,
) -> None:  # fmt: skip
    hers = live(active_request)
    workflow.revoke(active_request, by=bob, reason="over")
    run(become, active_request.role)
    root = aws_stand_in.root("222222222222").client("iam")
    (name,) = [
        one for one in root.list_role_policies(RoleName="Administrator")["PolicyNames"] if installation.code in one
    ]
    root.delete_role_policy(RoleName="Administrator", PolicyName=name)
    assert works(hers), "the control: without the policy her session works again"

    with clock.moved(timedelta(minutes=1, seconds=5)):
        revocation = run(become, active_request.role)

    assert revocation.state == "proved"
    assert not works(hers)
    assert DenyPolicy.objects.get().changed_outside_at is not None
    assert AuditEvent.objects.filter(action="revocation.lifted", access_request=active_request).exists()
    told = Notice.objects.filter(kind="lifted", role=active_request.role)
    assert {notice.recipient for notice in told} == {olivia, dave}


def test_an_entry_goes_when_no_session_could_live_and_the_policy_with_the_last(
    active_request: AccessRequest, live: Any, become: Any, bob: User, aws_stand_in: AwsStandIn,
    installation: Installation,
) -> None:  # fmt: skip
    live(active_request)
    workflow.revoke(active_request, by=bob, reason="over")
    revocation = run(become, active_request.role)

    with clock.moved(revocation.keep_until - clock.now() + timedelta(seconds=1)):
        assert revocations.sweep() == 1
        become("revoker")
        revoking.work(active_request.role.pk)

    revocation.refresh_from_db()
    assert revocation.state == "over"
    assert DenyPolicy.objects.get().due_at is None
    names = aws_stand_in.root("222222222222").client("iam").list_role_policies(RoleName="Administrator")["PolicyNames"]
    assert not [one for one in names if installation.code in one]


def test_aws_says_no_and_nothing_is_shown_as_done(
    active_request: AccessRequest, live: Any, become: Any, bob: User, settings: Any
) -> None:
    live(active_request)
    workflow.revoke(active_request, by=bob, reason="over")
    settings.REVOKER_ROLE_NAME = "nobody-made-this"

    revocation = run(become, active_request.role)

    assert revocation.state == "wanted"
    policy = DenyPolicy.objects.get()
    assert policy.aws_code == "AccessDenied"
    assert policy.advice
    assert policy.due_at is not None
    assert policy.due_at > clock.now()
    settings.REVOKER_ROLE_NAME = "daypass-revoker"
    with clock.moved(timedelta(seconds=10)):
        assert run(become, active_request.role).state == "proved"


def test_aws_refuses_many_drafts_and_still_knows_what_it_last_took(
    active_request: AccessRequest, live: Any, become: Any, alice: User
) -> None:
    live(active_request)
    workflow.give_back(active_request, by=alice)
    run(become, active_request.role)
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
    active_request: AccessRequest, live: Any, become: Any, bob: User, monkeypatch: pytest.MonkeyPatch
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

    become("revoker")
    revoking.work(active_request.role.pk)
    become("minter")
    monkeypatch.setattr(sts, "assume_role", watched)
    revoking.prove(active_request.role.pk)

    assert DenyPolicy.objects.get().probe_action == "sns:ListTopics"
    recorded = OwnSession.objects.filter(role=active_request.role, purpose="probe").order_by("pk")
    assert [one.access_key_id for one in recorded] == sessions
    assert len(sessions) == 2
    assert {one.session_name.split("-")[1] for one in recorded} == {"CONTROL", "PROBE"}


def test_operators_are_told_once_when_aws_is_not_seen_to_obey(
    active_request: AccessRequest, bob: User, olivia: User, aws_clock: AwsClock
) -> None:
    factories.delivery(active_request)
    workflow.revoke(active_request, by=bob, reason="over")
    task = revocations.take_up(active_request.role_id)
    assert task is not None
    revocations.note_written(
        task, generation=1, document="{}", denied=[active_request.code], unknown=[], left_out=[]
    )  # fmt: skip

    told = []
    for minutes in range(9):
        with clock.moved(timedelta(minutes=2 * minutes)):
            probe = proofs.take_up(active_request.role_id)
            assert probe is not None
            proofs.note(probe, "not yet", action="")
        told.append(Notice.objects.filter(kind="unproved", recipient=olivia).count())

    assert told == [0] * 6 + [1] * 3
    assert Revocation.objects.get().state == "written"


def test_what_aws_said_to_the_probe_is_shown_and_it_is_tried_again(
    payments: Account, engineers: Group, alice: User, target_role: Any, live: Any, become: Any
) -> None:
    """A role that may do nothing harmless proves nothing, until somebody lets it."""
    role = factories.role(target_role.name, payments)
    role.path = "/elevated/"
    role.save()
    target_role.put("permissions", {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"})
    access_request = factories.wish(alice, role, factories.entitlement(role, groups=[engineers]), start="at_once")
    live(access_request)
    workflow.give_back(access_request, by=alice)

    assert run(become, role).state == "unprovable"

    shown = page(signed_in(alice).get(f"/requests/{access_request.code}"))
    assert "On this role nothing harmless can show that it does." in shown.text
    assert "no identity-based policy allows" in shown.text
    target_role.put("permissions", {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"})
    assert proofs.take_up(role.pk) is None, "not before its time"
    with clock.moved(timedelta(seconds=61)):
        revoking.prove(role.pk)
        assert Revocation.objects.get().state == "proved"
        assert "no identity-based" not in page(signed_in(alice).get(f"/requests/{access_request.code}")).text
        assert DenyPolicy.objects.get().probe_message == ""


def test_while_the_revoking_worker_is_gone_nudges_do_not_pile_up(
    active_request: AccessRequest, alice: User, aws_clock: AwsClock, redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST_WAITING", 7)
    factories.sealed(active_request)
    workflow.give_back(active_request, by=alice)
    redis_server.flushdb()

    assert [revocations.sweep() for _ in range(20)] == [1] * 20

    assert redis_server.llen("revoke") == 7
    redis_server.delete("revoke")
    revocations.sweep()
    assert redis_server.llen("revoke") == 1, "whoever is back is told again"
