"""Ending what `aws login` made of a pass, at the stand-in: with it, never somebody else's, and never said too early."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.error import HTTPError

import pytest

from requests_app.aws import deny_policy, errors
from requests_app.aws import sign_ins as at_aws
from requests_app.background import revoking
from requests_app.domain import clock, workflow
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    DenyPolicy,
    Entitlement,
    Freeze,
    Group,
    IssuedSession,
    Revocation,
    Role,
    User,
)
from requests_app.domain.workflow import freezes, sign_ins
from sandbox.aws import AwsStandIn
from sandbox.landscape import REVOKER_IN_TARGET
from tests import factories
from tests.background.ending import run, works
from tests.faults.die_at import killed
from tests.web.pages import page, signed_in

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.xdist_group("aws"),
    pytest.mark.usefixtures("installation"),
]
PAYMENTS = "222222222222"


@pytest.fixture(autouse=True)
def lifting(staged: Entitlement) -> Entitlement:
    """What all the passes here have: they may use `aws login`."""
    Entitlement.objects.filter(pk=staged.pk).update(lifted=["sign-in-tokens"])
    staged.refresh_from_db()
    return staged


@pytest.fixture(autouse=True)
def nobody_is_signed_in(aws_stand_in: AwsStandIn) -> None:
    """The stand-in remembers those of the tests before."""
    of_account = aws_stand_in.root(PAYMENTS).client("signin")
    everybody = f"arn:aws:iam::{PAYMENTS}:*"
    while active := of_account.list_sessions(principalArn=everybody, status="ACTIVE")["items"]:
        arns = [session["sessionArn"] for session in active[:5]]
        of_account.batch_revoke_sessions(principalArn=everybody, sessionArns=arns)


@pytest.fixture
def active_at_aws(aws_stand_in: AwsStandIn) -> Callable[[], set[str]]:
    of_account = aws_stand_in.root(PAYMENTS).client("signin")

    def active() -> set[str]:
        pages = of_account.get_paginator("list_sessions").paginate(
            principalArn=f"arn:aws:iam::{PAYMENTS}:*", status="ACTIVE"
        )
        return {session["sessionArn"] for found in pages for session in found["items"]}

    return active


def settle(become: Any, role: Role) -> Revocation:
    """Until nothing is due at once: written, seen to refuse, and signed out after that."""
    run(become, role)
    become("revoker")
    revoking.work(role.pk)
    return Revocation.objects.latest("pk")


def actions(access_request: AccessRequest) -> list[str]:
    found = AuditEvent.objects.filter(access_request=access_request, action__startswith="revocation.").order_by("pk")
    return list(found.values_list("action", flat=True))


def test_what_aws_login_made_ends_with_the_pass_however_many(
    active_request: AccessRequest, live: Any, become: Any, bob: User, active_at_aws: Any
) -> None:
    hers = live(active_request)
    made = {hers.log_in("MCP"), *(hers.log_in() for _ in range(6))}
    assert active_at_aws() == made

    workflow.revoke(active_request, by=bob, reason="over")
    revocation = settle(become, active_request.role)

    assert active_at_aws() == set()
    assert revocation.state == "proved"
    assert not works(hers)
    with pytest.raises(HTTPError, match="403"):
        hers.log_in()
    signed_out = AuditEvent.objects.filter(action="revocation.signed_out", access_request=active_request)
    assert {arn for event in signed_out for arn in event.detail["sign_in_sessions"]} == made
    assert actions(active_request) == [
        *("revocation.wanted", "revocation.written", "revocation.signed_out", "revocation.signed_out"),
        "revocation.proved",
    ]
    shown = page(signed_in(bob).get(f"/requests/{active_request.code}")).text
    assert "Its sign-in sessions ( aws login ) were ended too" in " ".join(shown.split())
    assert "up to an hour more" in " ".join(shown.split())


def test_without_any_it_is_proved_all_the_same(
    active_request: AccessRequest, live: Any, become: Any, alice: User
) -> None:
    live(active_request)
    workflow.give_back(active_request, by=alice)

    assert settle(become, active_request.role).state == "proved"
    assert "revocation.signed_out" not in actions(active_request)


def test_of_terms_that_lift_no_such_thing_aws_is_asked_nothing(
    alice: User, bob: User, administrator: Role, staged: Entitlement, live: Any, become: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    Entitlement.objects.filter(pk=staged.pk).update(lifted=["assume-role"])
    staged.refresh_from_db()
    active = started(alice, administrator, staged, bob)
    hers = live(active)
    with pytest.raises(HTTPError, match="403"):
        hers.log_in()
    monkeypatch.setattr(at_aws, "active", lambda *_, **__: pytest.fail("it was asked"))

    workflow.revoke(active, by=bob, reason="over")

    assert run(become, active.role).state == "proved"


def started(by: User, role: Role, under: Entitlement, approver: User) -> AccessRequest:
    asked = factories.wish(by, role, under)
    workflow.approve(asked, by=approver)
    asked.refresh_from_db()
    return workflow.start(asked, by=by)


# --- whose it is ------------------------------------------------------------------------------------------


def test_what_may_be_another_persons_goes_on_and_the_end_is_not_provable(
    active_request: AccessRequest, erins_request: AccessRequest, live: Any, become: Any, bob: User, active_at_aws: Any
) -> None:
    hers, erins = live(active_request), live(erins_request)
    made = {hers.log_in(), erins.log_in()}

    workflow.revoke(active_request, by=bob, reason="over")
    revocation = settle(become, active_request.role)

    assert active_at_aws() == made, "AWS does not say whose is whose"
    assert revocation.state == "unprovable"
    assert not works(hers)
    assert works(erins)
    assert actions(active_request)[-1] == "revocation.unprovable"
    shown = " ".join(page(signed_in(bob).get(f"/requests/{active_request.code}")).text.split())
    assert "AWS refuses them" in shown
    assert "ended cannot be shown" in shown
    assert "may be somebody else's" in shown
    assert "nothing harmless" not in shown.lower()

    workflow.revoke(erins_request, by=bob, reason="over too")
    settle(become, erins_request.role)

    assert active_at_aws() == set(), "now it can only be somebody's whose pass was ended"
    assert set(Revocation.objects.values_list("state", flat=True)) == {"proved"}


def test_a_pass_that_could_not_have_begun_one_is_in_nobodys_way(
    active_request: AccessRequest, live: Any, become: Any, bob: User, engineers: Group, leads: Group,
    administrator: Role, active_at_aws: Any,
) -> None:  # fmt: skip
    strict = factories.entitlement(administrator, groups=[engineers], stages=[(leads, 1)])
    live(started(factories.person("frank", engineers), administrator, strict, bob))
    live(active_request).log_in()

    workflow.revoke(active_request, by=bob, reason="over")

    assert settle(become, active_request.role).state == "proved"
    assert active_at_aws() == set()


def test_a_role_of_another_name_keeps_its_own(
    active_request: AccessRequest, live: Any, become: Any, bob: User, aws_stand_in: AwsStandIn, active_at_aws: Any
) -> None:
    live(active_request).log_in()
    others = aws_stand_in.assume(
        "minter", f"arn:aws:iam::{PAYMENTS}:role/elevated/ReadOnly", ExternalId="dp-payments-5f1c08e2b7"
    )
    allow = {"Effect": "Allow", "Action": "signin:*", "Resource": "*"}
    iam = aws_stand_in.root(PAYMENTS).client("iam")
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    iam.put_role_policy(RoleName="ReadOnly", PolicyName="sign-in", PolicyDocument=document)
    try:
        kept = others.log_in()
    finally:
        iam.delete_role_policy(RoleName="ReadOnly", PolicyName="sign-in")

    workflow.revoke(active_request, by=bob, reason="over")

    assert settle(become, active_request.role).state == "proved"
    assert active_at_aws() == {kept}


def test_by_when_they_began() -> None:
    now = clock.now()

    def at(minutes: float) -> Any:
        return now + timedelta(minutes=minutes)

    windows = (
        sign_ins.Window("DP-HERS0000", at(0), at(30), ended=True),
        sign_ins.Window("DP-ENDED000", at(10), at(40), ended=True),
        sign_ins.Window("DP-0THERS00", at(20), at(60), ended=False),
    )
    task = sign_ins.SignInTask(
        *(1, "arn", "arn", "us-east-1", "", "here"),
        codes=frozenset({"DP-HERS0000"}),
        windows=windows,
        since=at(0),
        unknown_until=None,
        taken_at=now,
    )

    for minutes, is_to_end, is_hers in (
        (-1, False, False),
        (0, True, True),
        (15, True, True),
        (25, False, True),
        (35, False, False),
    ):
        assert task.is_to_end(at(minutes)) is is_to_end, minutes
        assert bool(task.codes_of(at(minutes))) is is_hers, minutes
    # Clocks may be half a minute apart.
    assert task.codes_of(at(-0.4)) == task.codes_of(at(30.4)) == {"DP-HERS0000"}
    assert not task.is_to_end(at(19.6))


def test_what_began_before_a_restore_may_be_of_a_pass_that_was_lost(
    active_request: AccessRequest, live: Any, become: Any, bob: User, active_at_aws: Any, olivia: User
) -> None:
    made = {live(active_request).log_in()}
    with clock.moved(timedelta(seconds=1)):
        restored = Freeze.objects.create(
            cause=Freeze.Cause.RESTORED, reason="restored", begun_at=clock.now() - timedelta(seconds=1)
        )
    workflow.revoke(active_request, by=bob, reason="over")
    settle(become, active_request.role)
    assert active_at_aws() == made, "operators have not looked yet"

    freezes.lift(restored, by=olivia)
    DenyPolicy.objects.update(due_at=clock.now())
    become("revoker")
    revoking.work(active_request.role_id)

    assert active_at_aws() == made
    assert Revocation.objects.get().state == "unprovable"


# --- in which order ---------------------------------------------------------------------------------------


def test_one_that_was_begun_while_aws_did_not_refuse_yet_ends_too_before_it_is_said(
    active_request: AccessRequest, live: Any, become: Any, bob: User, active_at_aws: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    hers = live(active_request)
    hers.log_in()
    workflow.revoke(active_request, by=bob, reason="over")
    become("revoker")
    with monkeypatch.context() as broken:
        broken.setattr(deny_policy, "write", refuse_all)
        revoking.work(active_request.role_id)
    assert active_at_aws() == set(), "another service, another wall: ended though IAM does not take the denies"
    assert Revocation.objects.get().state == "wanted"
    hers.log_in()

    with clock.moved(timedelta(seconds=10)):
        revocation = settle(become, active_request.role)

    assert active_at_aws() == set()
    assert revocation.state == "proved"


def refuse_all(*_: object, **__: object) -> None:
    raise errors.Unavailable("Throttling", "Rate exceeded", "Try again.")


def test_asked_before_aws_was_seen_to_refuse_is_no_proof(
    active_request: AccessRequest, live: Any, become: Any, bob: User
) -> None:
    live(active_request)
    workflow.revoke(active_request, by=bob, reason="over")
    become("revoker")
    revoking.work(active_request.role_id)
    task = sign_ins.take_up(active_request.role_id)
    assert task is not None
    become("minter")
    revoking.prove(active_request.role_id)
    policy = DenyPolicy.objects.get()
    assert policy.refused_at is not None
    assert policy.due_at
    assert policy.due_at <= clock.now()
    assert Revocation.objects.get().state == "written"

    sign_ins.note(task, doubtful=(), complete=True)

    assert Revocation.objects.get().state == "written"
    become("revoker")
    revoking.work(active_request.role_id)
    assert Revocation.objects.get().state == "proved"


@pytest.mark.parametrize(
    "point",
    [
        "after:requests_app.background.revoking.at_aws.active",
        "after:requests_app.background.revoking.at_aws.revoke",
        "before:requests_app.background.revoking.sign_ins.note",
    ],
)
def test_killed_between_list_and_revoke_and_before_it_is_noted(
    point: str, active_request: AccessRequest, live: Any, become: Any, bob: User, active_at_aws: Any
) -> None:
    hers = live(active_request)
    made = {hers.log_in() for _ in range(6)}
    workflow.revoke(active_request, by=bob, reason="over")
    become("revoker")

    killed(point, "requests_app.background.revoking.work", active_request.role_id)

    assert active_at_aws() == (made if point.endswith("active") else set())
    assert Revocation.objects.get().state == "written"
    assert settle(become, active_request.role).state == "proved"
    assert active_at_aws() == set()
    signed_out = AuditEvent.objects.filter(action="revocation.signed_out")
    assert sorted(arn for event in signed_out for arn in event.detail["sign_in_sessions"]) == sorted(made)


# --- what AWS says ----------------------------------------------------------------------------------------


@contextmanager
def without_permission(aws_stand_in: AwsStandIn) -> Iterator[None]:
    iam = aws_stand_in.root(PAYMENTS).client("iam")
    named = {"RoleName": REVOKER_IN_TARGET, "PolicyName": "deny-policies"}
    before = iam.get_role_policy(**named)["PolicyDocument"]
    without = {**before, "Statement": [one for one in before["Statement"] if "iam:GetRole" in one["Action"]]}
    iam.put_role_policy(**named, PolicyDocument=json.dumps(without))
    try:
        yield
    finally:
        iam.put_role_policy(**named, PolicyDocument=json.dumps(before))


def test_a_refusal_is_kept_in_aws_words_and_tried_again_when_the_denies_are_looked_at(
    active_request: AccessRequest, live: Any, become: Any, bob: User, aws_stand_in: AwsStandIn, active_at_aws: Any,
    olivia: User,
) -> None:  # fmt: skip
    hers = live(active_request)
    made = {hers.log_in()}
    workflow.revoke(active_request, by=bob, reason="over")
    with without_permission(aws_stand_in):
        revocation = settle(become, active_request.role)

    policy = DenyPolicy.objects.get()
    assert revocation.state == "unprovable"
    assert not works(hers), "the denies hold all the same"
    assert (policy.sign_in_code, policy.aws_code) == ("AccessDeniedException", "")
    assert "signin:ListSessions" in policy.sign_in_message
    assert '"signin:BatchRevokeSessions"' in policy.sign_in_advice
    assert policy.due_at
    assert policy.due_at > clock.now() + timedelta(seconds=30)
    assert active_at_aws() == made
    shown = " ".join(page(signed_in(bob).get(f"/requests/{active_request.code}")).text.split())
    assert "AWS refuses them" in shown
    assert "AccessDeniedException" in shown
    assert "Whether all its sign-in sessions ended cannot be shown" in shown
    (event,) = AuditEvent.objects.filter(action="revocation.unprovable")
    assert (event.detail["of"], event.detail["aws_code"]) == ("sign-in sessions", "AccessDeniedException")
    of_role = signed_in(olivia).get(f"/admin/requests_app/denypolicy/{policy.pk}/change/")
    assert "AccessDeniedException" in page(of_role).text

    with clock.moved(timedelta(minutes=16)):
        become("revoker")
        revoking.work(active_request.role_id)
    assert Revocation.objects.get().state == "proved"
    assert active_at_aws() == set()
    assert DenyPolicy.objects.get().sign_in_code == ""


def test_what_aws_does_not_answer_is_asked_again_soon_and_at_last_said_to_be_unknown(
    active_request: AccessRequest, live: Any, become: Any, bob: User, active_at_aws: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    live(active_request).log_in()
    workflow.revoke(active_request, by=bob, reason="over")
    later = timedelta(0)
    with monkeypatch.context() as throttled:
        throttled.setattr(at_aws, "active", refuse_all)
        settle(become, active_request.role)
        for times in range(2, sign_ins.UNPROVABLE_AFTER + 1):
            policy = DenyPolicy.objects.get()
            assert policy.sign_in_attempts == times
            assert policy.due_at
            with clock.moved(later):
                assert timedelta(0) < policy.due_at - clock.now() <= timedelta(seconds=60)
            expected = "written" if times < sign_ins.UNPROVABLE_AFTER else "unprovable"
            assert Revocation.objects.get().state == expected
            later += timedelta(seconds=61)
            with clock.moved(later):
                revoking.work(active_request.role_id)

    with clock.moved(later + timedelta(seconds=61)):
        revoking.work(active_request.role_id)

    assert Revocation.objects.get().state == "proved"
    assert active_at_aws() == set()


def test_more_than_are_looked_through_are_not_said_to_have_ended(
    active_request: AccessRequest, live: Any, become: Any, bob: User, active_at_aws: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    hers = live(active_request)
    for _ in range(5):
        hers.log_in()
    workflow.revoke(active_request, by=bob, reason="over")
    with monkeypatch.context() as few:
        few.setattr(at_aws, "A_PAGE", 2)
        few.setattr(at_aws, "MOST_PAGES", 1)
        assert settle(become, active_request.role).state == "unprovable"
        assert len(active_at_aws()) == 1, "what was found is ended"

    with clock.moved(timedelta(minutes=16)):
        revoking.work(active_request.role_id)
    assert Revocation.objects.get().state == "proved"


# --- for how long -----------------------------------------------------------------------------------------


def test_an_end_after_the_keys_is_wanted_for_as_long_as_somebody_may_be_signed_in(
    active_request: AccessRequest, live: Any, become: Any, bob: User, active_at_aws: Any, superuser_connection: Any
) -> None:
    live(active_request).log_in()
    session = IssuedSession.objects.get()
    hour = timedelta(hours=1)
    for table, columns in (
        ("requests_app_issuedsession", ("issued_at", "sts_expires_at", "cut_off", "parent_expires_at")),
    ):
        moved = ", ".join(f"{column} = {column} - interval '50 minutes'" for column in columns)
        with superuser_connection.transaction():
            superuser_connection.execute("SET LOCAL session_replication_role = replica")
            superuser_connection.execute(f"UPDATE {table} SET {moved}")
    session.refresh_from_db()
    assert session.sts_expires_at < clock.now()

    workflow.revoke(active_request, by=bob, reason="over")

    kept = Revocation.objects.get().keep_until
    assert session.sts_expires_at + 12 * hour <= kept <= session.sts_expires_at + 13 * hour
    assert settle(become, active_request.role).state == "proved"


def test_somebody_lifts_the_denies_and_those_who_signed_in_meanwhile_are_ended_again(
    active_request: AccessRequest, live: Any, become: Any, bob: User, aws_stand_in: AwsStandIn, installation: Any,
    active_at_aws: Any,
) -> None:  # fmt: skip
    hers = live(active_request)
    workflow.revoke(active_request, by=bob, reason="over")
    assert settle(become, active_request.role).state == "proved"
    root = aws_stand_in.root(PAYMENTS).client("iam")
    (name,) = [it for it in root.list_role_policies(RoleName="Administrator")["PolicyNames"] if installation.code in it]
    root.delete_role_policy(RoleName="Administrator", PolicyName=name)
    hers.log_in()

    with clock.moved(timedelta(minutes=1, seconds=5)):
        assert settle(become, active_request.role).state == "proved"

    assert active_at_aws() == set()
