"""After a restore, at the stand-in: what AWS denies by now stays denied, whatever this database knows of it."""

import json
from datetime import timedelta
from typing import Any

import pytest

from requests_app.aws import deny_policy
from requests_app.background import clocks, preflights, revoking
from requests_app.domain import clock, workflow
from requests_app.domain.models import (
    AccessRequest,
    DenyPolicy,
    Freeze,
    Installation,
    Notice,
    Preflight,
    Revocation,
    Role,
    User,
)
from requests_app.domain.workflow import freezes, revocations
from requests_app.domain.workflow.preflights import Half
from sandbox.aws import AwsStandIn
from tests.background.ending import run, works

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.xdist_group("aws"),
    pytest.mark.usefixtures("installation"),
]


@pytest.fixture
def at_aws(aws_stand_in: AwsStandIn, installation: Installation) -> Any:
    """The codes that our policy on Administrator denies, None without one; called with codes, puts them there."""
    iam = aws_stand_in.root("222222222222").client("iam")
    name = deny_policy.policy_name(installation.code)

    def at_aws(*codes: str, generation: int = 1) -> set[str] | None:
        if codes:
            document = deny_policy.document(
                installation=installation.code,
                generation=generation,
                entries=[deny_policy.Entry(code) for code in codes],
            )
            iam.put_role_policy(RoleName="Administrator", PolicyName=name, PolicyDocument=document)
        try:
            found = iam.get_role_policy(RoleName="Administrator", PolicyName=name)["PolicyDocument"]
        except iam.exceptions.NoSuchEntityException:
            return None
        (statement,) = found["Statement"]
        patterns = statement["Condition"]["StringLike"]["aws:userid"]
        texts = [patterns] if isinstance(patterns, str) else patterns
        return {text[2:13] for text in texts if "PROBE" not in text}

    return at_aws


@pytest.fixture
def forgotten(
    active_request: AccessRequest, erins_request: AccessRequest, live: Any, become: Any, bob: User, at_aws: Any,
    superuser_connection: Any,
) -> Any:  # fmt: skip
    """Alice's pass was revoked; then Erin's, of which the database that was restored knows nothing. Erin's session."""
    live(active_request)
    erins = live(erins_request)
    workflow.revoke(active_request, by=bob, reason="an incident")
    run(become, active_request.role)
    row = DenyPolicy.objects.values("generation", "expected", "denied", "due_at").get()
    workflow.revoke(erins_request, by=bob, reason="an incident too")
    run(become, active_request.role)
    assert at_aws() == {active_request.code, erins_request.code}

    with superuser_connection.transaction():
        superuser_connection.execute("SET LOCAL session_replication_role = replica")
        superuser_connection.execute(
            "DELETE FROM requests_app_revocation WHERE access_request_id = %s", [erins_request.pk]
        )
        superuser_connection.execute(
            "UPDATE requests_app_accessrequest SET state = 'active', ended_at = NULL, ended_by_id = NULL, "
            "end_reason = '' WHERE id = %s",
            [erins_request.pk],
        )
    DenyPolicy.objects.update(**row)
    return erins


def look(become: Any, role: Role) -> None:
    """The revoking worker's next look, which is due now."""
    DenyPolicy.objects.update(due_at=clock.now())
    become("revoker")
    revoking.work(role.pk)
    become("minter")


def test_a_newer_policy_at_aws_freezes_everything_and_stays(
    forgotten: Any, active_request: AccessRequest, erins_request: AccessRequest, become: Any, at_aws: Any, olivia: User,
    bob: User,
) -> None:  # fmt: skip
    look(become, active_request.role)

    freeze = Freeze.objects.get()
    assert (freeze.cause, freeze.lifted_at) == ("restored", None)
    assert "AWS has a newer deny policy" in freeze.reason
    assert not works(forgotten)
    assert at_aws() == {active_request.code, erins_request.code}
    assert Notice.objects.filter(kind="restored", recipient=olivia).count() == 1

    # Nothing is taken away while operators have not looked: neither what is over nor what nobody knows.
    later = Revocation.objects.get().keep_until - clock.now() + timedelta(hours=13)
    with clock.moved(later):
        revocations.sweep()
        look(become, active_request.role)
        assert at_aws() == {active_request.code, erins_request.code}
        assert Revocation.objects.get().state == "written"

    # Adding is fine.
    erins_request.refresh_from_db()
    workflow.revoke(erins_request, by=olivia, reason="it was revoked in the lost time")
    assert run(become, active_request.role).state == "proved"

    freezes.lift(freeze, by=olivia)
    with clock.moved(later):
        look(become, active_request.role)
        assert at_aws() is None
        assert DenyPolicy.objects.get().due_at is None
    assert Freeze.objects.count() == 1


def test_of_a_pass_that_is_older_than_a_restored_database_keys_may_be_out_that_only_its_name_reaches(
    active_request: AccessRequest, erins_request: AccessRequest, live: Any, bob: User, olivia: User, aws_stand_in: Any
) -> None:
    """The record of what STS ends may be lost; that all issued before a moment is denied may not meet such keys."""
    freeze = freezes.freeze_restored("a test")
    assert freeze is not None
    freezes.confirm(active_request, freeze=freeze, by=olivia)
    freezes.confirm(erins_request, freeze=freeze, by=olivia)
    freezes.lift(freeze, by=olivia)
    with aws_stand_in.scoping(known=False):
        live(active_request)
    workflow.revoke(active_request, by=bob, reason="an incident")

    task = revocations.take_up(active_request.role_id)

    assert task is not None
    assert [(one.code, one.by_name_only) for one in task.wanted] == [(active_request.code, True)]


def test_a_policy_is_not_removed_while_operators_have_not_looked(
    active_request: AccessRequest, live: Any, become: Any, bob: User, at_aws: Any, olivia: User
) -> None:
    live(active_request)
    workflow.revoke(active_request, by=bob, reason="an incident")
    revocation = run(become, active_request.role)
    ahead = revocation.keep_until - clock.now() + timedelta(seconds=1)
    with clock.moved(ahead):
        with_one = at_aws()
        revocations.sweep()
        task = revocations.take_up(active_request.role_id)  # lets go of it, and the worker dies
        assert task is not None
        assert task.wanted == ()
        with clock.moved(-ahead):
            freeze = freezes.freeze_restored("a test")
        assert freeze is not None

        look(become, active_request.role)

        assert at_aws() == with_one == {active_request.code}
        freezes.lift(freeze, by=olivia)
        look(become, active_request.role)
        assert at_aws() is None


def test_a_policy_that_the_database_has_forgotten_altogether_is_told_once(
    forgotten: Any, active_request: AccessRequest, erins_request: AccessRequest, become: Any, at_aws: Any, olivia: User,
    superuser_connection: Any,
) -> None:  # fmt: skip
    freeze = freezes.freeze_restored("a test")
    assert freeze is not None
    freezes.confirm(AccessRequest.objects.get(pk=erins_request.pk), freeze=freeze, by=olivia)
    freezes.lift(freeze, by=olivia)

    look(become, active_request.role)  # only now

    assert not Freeze.objects.in_force().exists(), "operators have looked already"
    assert at_aws() == {active_request.code, erins_request.code}
    told = Notice.objects.filter(kind="unexplained", recipient=olivia, detail__codes__contains=erins_request.code)
    assert told.count() == 1
    look(become, active_request.role)
    assert told.count() == 1


def test_an_old_policy_put_back_by_somebody_is_reported_and_freezes_nothing(
    active_request: AccessRequest, erins_request: AccessRequest, live: Any, become: Any, bob: User, at_aws: Any,
    olivia: User,
) -> None:  # fmt: skip
    live(active_request)
    live(erins_request)
    workflow.revoke(active_request, by=bob, reason="an incident")
    first = run(become, active_request.role)
    with clock.moved(first.keep_until - clock.now() + timedelta(seconds=1)):
        revocations.sweep()
        look(become, active_request.role)
    assert at_aws() is None
    workflow.revoke(erins_request, by=bob, reason="an incident")
    run(become, active_request.role)
    at_aws(active_request.code, erins_request.code)

    look(become, active_request.role)

    assert not Freeze.objects.exists()
    assert at_aws() == {active_request.code, erins_request.code}
    assert (
        Notice.objects.filter(kind="unexplained", recipient=olivia, detail__codes__contains=active_request.code).count()
        == 1
    )
    assert json.dumps(DenyPolicy.objects.get().unknown).count(active_request.code) == 1


def seen_by_preflight(become: Any, role: Role) -> None:
    """The revoker's daily look at this role, now."""
    now = clock.now()
    Preflight.objects.update_or_create(role=role, defaults={"minter_due_at": now, "revoker_due_at": now})
    become("minter")
    clocks.read()
    become("revoker")
    preflights.look(role.pk, Half.REVOKER)
    become("minter")


def test_a_role_whose_first_early_end_was_forgotten_is_found_by_its_daily_look(
    forgotten: Any, active_request: AccessRequest, erins_request: AccessRequest, become: Any, at_aws: Any, olivia: User,
    superuser_connection: Any,
) -> None:  # fmt: skip
    role = active_request.role
    with superuser_connection.transaction():
        superuser_connection.execute("SET LOCAL session_replication_role = replica")
        superuser_connection.execute("DELETE FROM requests_app_denypolicy")
        superuser_connection.execute("DELETE FROM requests_app_revocation")
    freeze = freezes.freeze_restored("a test")
    assert freeze is not None
    freezes.confirm(AccessRequest.objects.get(pk=erins_request.pk), freeze=freeze, by=olivia)
    freezes.lift(freeze, by=olivia)
    revocations.sweep()
    assert not DenyPolicy.objects.exists(), "the control: nothing else finds it"

    seen_by_preflight(become, role)
    become("revoker")
    revoking.work(role.pk)

    assert not Freeze.objects.in_force().exists()
    assert at_aws() == {active_request.code, erins_request.code}
    assert (
        Notice.objects.filter(kind="unexplained", recipient=olivia, detail__codes__contains=erins_request.code).count()
        == 1
    )
    with clock.moved(timedelta(hours=12, minutes=1)):
        look(become, role)
    assert at_aws() is None


def test_an_old_policy_put_back_on_a_role_that_is_done_with_is_taken_away(
    active_request: AccessRequest, live: Any, become: Any, bob: User, at_aws: Any
) -> None:
    live(active_request)
    workflow.revoke(active_request, by=bob, reason="an incident")
    with clock.moved(run(become, active_request.role).keep_until - clock.now() + timedelta(seconds=1)):
        revocations.sweep()
        look(become, active_request.role)
        assert (at_aws(), DenyPolicy.objects.get().due_at) == (None, None)
        at_aws(active_request.code)

        seen_by_preflight(become, active_request.role)
        become("revoker")
        revoking.work(active_request.role_id)

        assert not Freeze.objects.exists()
        assert at_aws() == {active_request.code}, "somebody may have meant it"
    # However long the worker was away meanwhile.
    for hours in (14, 28):
        with clock.moved(timedelta(hours=hours)):
            look(become, active_request.role)
            look(become, active_request.role)
    assert at_aws() is None
