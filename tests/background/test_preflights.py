"""Looks at roles of the stand-in, good ones and broken ones, by the two workers; and when they step back."""

import json
import threading
from datetime import timedelta
from typing import Any

import pytest

from requests_app.aws import preflight, sign_ins
from requests_app.aws.errors import Refused
from requests_app.background import clocks, minting, preflights, tasks
from requests_app.domain import clock, jobs, workflow
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AwsClock,
    Delivery,
    DenyPolicy,
    Freeze,
    Installation,
    OwnSession,
    Preflight,
    Role,
)
from requests_app.domain.workflow.preflights import PROOF, REVOKER, SOURCE_IDENTITY, TRUST, Half
from sandbox.landscape import hub_role_arn
from tests import factories
from tests.faults.die_at import killed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("aws")]


@pytest.fixture(autouse=True)
def nobody_waits_for_room() -> None:
    preflights._kept.clear()


@pytest.fixture(autouse=True)
def installation(db: Any, superuser_connection: Any) -> Installation:
    superuser_connection.execute("DELETE FROM requests_app_installation")
    superuser_connection.execute("INSERT INTO requests_app_installation VALUES (1, 'looking')")
    return Installation.objects.get()


@pytest.fixture
def role(payments: Account, target_role: Any) -> Role:
    """In the catalog as it is at AWS, with its looks due."""
    made = factories.role(target_role.name, payments)
    now = clock.now()
    Preflight.objects.create(role=made, minter_due_at=now, revoker_due_at=now)
    return made


@pytest.fixture
def measured(minter: Any, payments: Account) -> None:
    clocks.read()


def looked(role: Role, half: Half = Half.MINTER) -> Preflight:
    preflights.look(role.pk, half)
    return Preflight.objects.get(role=role)


def verdicts(findings: list[dict[str, str]]) -> dict[str, str]:
    return {one["check"]: one["verdict"] for one in findings}


def finding(findings: list[dict[str, str]], check: str) -> dict[str, str]:
    (one,) = (one for one in findings if one["check"] == check)
    return one


def trust(target_role: Any, *statements: dict[str, Any]) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    target_role.iam.update_assume_role_policy(RoleName=target_role.name, PolicyDocument=document)


def lets_in(worker: str = "minter", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": {"AWS": hub_role_arn(worker)}, "Action": "sts:AssumeRole", **more}


WITH_ID = {"StringEquals": {"sts:ExternalId": "dp-payments-5f1c08e2b7"}}
MAY_NAME = lets_in(Action="sts:SetSourceIdentity")


def test_the_checks_are_called_what_the_adapter_calls_them() -> None:
    assert {TRUST, SOURCE_IDENTITY, PROOF, REVOKER} <= {str(check) for check in preflight.Check}
    assert set(Preflight.Outcome.values) == {str(verdict) for verdict in preflight.Outcome}


def test_a_good_role_is_good_when_both_have_looked(measured: None, role: Role, as_worker: Any, minter: Any) -> None:
    before = clock.now()
    first = looked(role)
    assert (first.usable, first.verdict) == ("good", "unknown")
    assert first.harmless_action == "sqs:ListQueues"
    assert timedelta(hours=20) < first.minter_due_at - before < timedelta(hours=28)

    as_worker(minter.profile("revoker"))
    both = looked(role, Half.REVOKER)

    assert both.verdict == "good"
    assert both.aws_role_id.startswith("AROA")
    assert both.longest_session_seconds == 3600
    assert both.room is not None
    assert both.doors == []
    assert timedelta(hours=20) < both.revoker_due_at - before < timedelta(hours=28)


def test_each_session_that_a_look_gets_is_in_the_record_at_once(
    measured: None, role: Role, assumed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[int] = []
    assume_role = assumed.__call__

    def count_before(order: Any) -> Any:
        recorded.append(OwnSession.objects.count())
        return assume_role(order)

    monkeypatch.setattr("requests_app.aws.sts.assume_role", count_before)
    looked(role)

    # Two sessions; between them the try without the external id, which is refused.
    assert recorded == [0, 1, 1]
    recorded_keys = [one.access_key_id for one in OwnSession.objects.order_by("pk")]
    assert recorded_keys[:2] == [session.access_key_id for session in assumed.sessions]
    assert len(recorded_keys) == 3  # and what was scoped from the second
    assert Preflight.objects.get(role=role).scoping == "works"
    assert {(one.role, one.purpose) for one in OwnSession.objects.all()} == {(role, "preflight")}
    kept = json.dumps(
        [list(row.values()) for row in (*OwnSession.objects.values(), *Preflight.objects.values())], default=str
    )
    for session in assumed.sessions:
        assert session.secret_access_key.reveal() not in kept
        assert session.session_token.reveal() not in kept


@pytest.mark.parametrize(
    ("statements", "check", "usable", "said"),
    [
        pytest.param([lets_in("revoker")], TRUST, "bad", "sts:AssumeRole", id="no trust"),
        pytest.param(
            [lets_in(Condition={"StringEquals": {"sts:ExternalId": "another"}}), MAY_NAME],
            TRUST, "bad", "sts:AssumeRole", id="wrong external id",
        ),
        pytest.param([lets_in(), MAY_NAME], "external id", "good", "without the external id", id="no condition"),
        pytest.param([lets_in(Condition=WITH_ID)], SOURCE_IDENTITY, "bad", "sts:SetSourceIdentity", id="nameless"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_kept_in_awss_words(
    measured: None, role: Role, target_role: Any, statements: list[Any], check: str, usable: str, said: str
) -> None:
    Account.objects.update(allows_source_identity=True)
    trust(target_role, *statements)

    found = looked(role)

    assert (found.usable, found.verdict) == (usable, "bad")
    wrong = finding(found.minter_findings, check)
    assert wrong["verdict"] == "bad"
    assert said in wrong["words"]
    assert wrong["advice"]


def test_an_account_that_names_nobody_is_as_the_catalog_says(
    measured: None, role: Role, target_role: Any, as_worker: Any, minter: Any
) -> None:
    trust(target_role, lets_in(Condition=WITH_ID))

    assert looked(role).usable == "good"
    as_worker(minter.profile("revoker"))
    assert looked(role, Half.REVOKER).verdict == "good"


def test_too_long_a_session_and_other_doors_are_seen_by_the_revoker(
    measured: None, role: Role, target_role: Any, as_worker: Any, minter: Any
) -> None:
    Role.objects.update(longest_session_seconds=7200)
    trust(
        target_role, lets_in(Condition=WITH_ID), MAY_NAME, lets_in(Principal={"AWS": "arn:aws:iam::444444444444:root"})
    )
    as_worker(minter.profile("revoker"))

    found = looked(role, Half.REVOKER)

    assert found.verdict == "bad"
    assert "7,200" in finding(found.revoker_findings, "longest session")["words"]
    assert [door["principal"] for door in found.doors] == ["arn:aws:iam::444444444444:root"]
    # Nothing that keeps us out: so it is looked at no sooner than others.
    assert found.revoker_attempts == 0
    assert found.revoker_due_at > clock.now() + timedelta(hours=20)


def test_what_did_not_get_in_is_tried_sooner_with_growing_gaps(
    measured: None, role: Role, target_role: Any, payments: Account
) -> None:
    trust(target_role, lets_in("revoker"))
    gaps = []
    for _ in range(3):
        now = clock.now()
        Preflight.objects.update(minter_due_at=now)
        gaps.append((looked(role).minter_due_at - now).total_seconds() / 60)
    assert [round(gap) for gap in gaps] == pytest.approx([2, 4, 8], abs=1)

    trust(target_role, lets_in(Condition=WITH_ID), MAY_NAME)
    Preflight.objects.update(minter_due_at=clock.now())
    mended = looked(role)
    assert (mended.usable, mended.minter_attempts) == ("good", 0)


def test_silence_does_not_make_us_forget_what_aws_last_said(
    measured: None, role: Role, target_role: Any, as_worker: Any, minter: Any, server: Any
) -> None:
    trust(target_role, lets_in("revoker"))
    bad = looked(role)
    closed = server(lambda connection: None)
    closed.close()
    as_worker(minter.profile("minter") | {"AWS_ENDPOINT_URL": closed.url})
    Preflight.objects.update(minter_due_at=clock.now())

    after = looked(role)

    assert (after.usable, after.minter_findings, after.minter_at) == ("bad", bad.minter_findings, bad.minter_at)
    assert after.minter_attempts == 2
    assert after.minter_due_at < clock.now() + timedelta(minutes=10)


def test_a_role_that_cannot_be_an_address_is_said_to_be_wrong(
    measured: None, payments: Account, settings: Any, as_worker: Any, minter: Any
) -> None:
    settings.REVOKER_ROLE_NAME = "not a name"
    role = factories.role("Odd", payments)
    Preflight.objects.create(role=role, minter_due_at=clock.now(), revoker_due_at=clock.now())
    as_worker(minter.profile("revoker"))

    found = looked(role, Half.REVOKER)

    assert finding(found.revoker_findings, REVOKER)["advice"].startswith("An operator must correct")


# --- stepping back -------------------------------------------------------------------------------


def test_it_steps_back_for_a_mint_that_waits(
    measured: None, role: Role, assumed: Any, active_request: AccessRequest, redis_server: Any
) -> None:
    waiting = factories.delivery(active_request)

    assert looked(role).minter_at is None
    assert assumed.orders == []

    minting.mint(waiting.pk)
    assert Delivery.objects.get().state == "sealed"
    assert looked(role).minter_at is not None


def test_the_revokers_steps_back_for_an_early_end(
    measured: None, role: Role, as_worker: Any, minter: Any, read_only: Role
) -> None:
    as_worker(minter.profile("revoker"))
    DenyPolicy.objects.create(role=read_only, expected=[None], due_at=clock.now())
    assert looked(role, Half.REVOKER).revoker_at is None

    DenyPolicy.objects.update(due_at=clock.now() + timedelta(minutes=5))
    assert looked(role, Half.REVOKER).revoker_at is not None


@pytest.mark.parametrize(("cause", "held"), [("operator", False), ("restored", True)])
def test_only_a_restored_database_holds_it(
    measured: None, role: Role, assumed: Any, olivia: Any, cause: str, held: bool
) -> None:
    if cause == "restored":
        assert workflow.freezes.freeze_restored("a test")
    else:
        workflow.freezes.freeze(workflow.freezes.Everything(), by=olivia, reason="an incident")
    assert Freeze.objects.get().cause == cause

    found = looked(role)

    assert (found.minter_at is None) == held
    assert (assumed.orders == []) == held
    assert workflow.preflights.sweep(Half.REVOKER) == (0 if held else 1)


def test_nothing_is_found_out_about_a_role_while_aws_refuses_all_that_is_issued_on_it(
    measured: None, role: Role, assumed: Any
) -> None:
    """Or it would be remembered, for a day, that AWS does not scope its sessions."""
    until = clock.now() + timedelta(minutes=2)
    DenyPolicy.objects.create(role=role, expected=[None], denied_before=until, held_until=until)

    assert looked(role).minter_at is None
    assert assumed.orders == []
    assert Preflight.objects.get(role=role).minter_due_at == until
    with clock.moved(timedelta(minutes=2, seconds=1)):
        clocks.read()
        assert looked(role).scoping == "works"


def test_no_more_than_two_threads_are_at_it(
    measured: None, role: Role, payments: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, most, let_go = [], [], threading.Event()

    def slow(*_: Any) -> Any:
        inside.append(1)
        most.append(len(inside))
        let_go.wait(10)
        inside.pop()

    monkeypatch.setattr(workflow.preflights, "take_up", slow)
    threads = [threading.Thread(target=preflights.look, args=(role.pk, Half.MINTER)) for _ in range(6)]
    for thread in threads:
        thread.start()
    # Those that find no room are through at once, and do not wait for the others.
    for thread in threads:
        thread.join(0.5)
    assert sum(thread.is_alive() for thread in threads) == preflights.MOST_AT_ONCE
    let_go.set()
    for thread in threads:
        thread.join(10)
    assert max(most) == preflights.MOST_AT_ONCE == len(most)
    # And the room is given back.
    monkeypatch.undo()


def test_those_that_find_no_room_are_looked_at_next(
    measured: None, payments: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep wakes for more than are looked at at once, and the next sweep is for others."""
    sent: list[tuple[str, tuple[int, ...]]] = []
    monkeypatch.setattr(jobs, "send", lambda job, args: sent.append((job, args)))
    let_go, inside = threading.Event(), threading.Semaphore(0)

    def slow(*_: Any) -> None:
        inside.release()
        let_go.wait(10)

    monkeypatch.setattr(workflow.preflights, "take_up", slow)
    busy = [
        threading.Thread(target=preflights.look, args=(key, Half.REVOKER))
        for key in range(1, preflights.MOST_AT_ONCE + 1)
    ]
    for thread in busy:
        thread.start()
    assert all(inside.acquire(timeout=10) for _ in busy)
    for key in (7, 8, 8, 9):
        preflights.look(key, Half.REVOKER)
    assert sent == []
    let_go.set()
    for thread in busy:
        thread.join(10)

    # Whoever is through wakes for one, and whoever looks at that for one more.
    assert sent == [("revoke.preflight", (7,)), ("revoke.preflight", (8,))]
    preflights.look(7, Half.REVOKER)
    preflights.look(8, Half.REVOKER)
    assert sent[2:] == [("revoke.preflight", (9,))]


def test_two_workers_that_are_both_told_look_once(measured: None, role: Role, assumed: Any) -> None:
    barrier = threading.Barrier(2)

    def one() -> None:
        from django.db import connection

        try:
            barrier.wait(5)
            preflights.look(role.pk, Half.MINTER)
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(assumed.orders) == 3


@pytest.mark.parametrize(
    "point", ["before:requests_app.domain.workflow.preflights.note", "after:requests_app.aws.sts.assume_role"]
)
def test_a_worker_that_is_killed_is_not_waited_for_long(measured: None, role: Role, point: str) -> None:
    killed(point, "requests_app.background.tasks.preflight_as_minter", role.pk)
    left = Preflight.objects.get(role=role)
    assert left.minter_at is None
    assert clock.now() < left.minter_due_at <= clock.now() + timedelta(minutes=10)

    with clock.moved(timedelta(minutes=10, seconds=1)):
        assert workflow.preflights.sweep(Half.MINTER) == 1
        assert looked(role).usable == "good"


def test_somebody_who_is_refused_makes_us_look(
    measured: None, active_request: AccessRequest, target_role: Any, redis_server: Any
) -> None:
    now = clock.now()
    seen = Preflight.objects.create(
        role=active_request.role, minter_due_at=now + timedelta(hours=20), revoker_due_at=now + timedelta(hours=20),
        minter_at=now - timedelta(hours=4), usable="good",
    )  # fmt: skip
    Account.objects.update(external_id="another")
    minting.mint(factories.delivery(active_request).pk)
    assert Delivery.objects.get().state == "refused"

    seen.refresh_from_db()
    assert seen.minter_due_at <= clock.now()
    assert seen.revoker_due_at > clock.now()
    assert looked(active_request.role).usable == "bad"

    # Again and again, and it is not looked at each time.
    minting.mint(factories.delivery(active_request).pk)
    seen.refresh_from_db()
    assert clock.now() + timedelta(minutes=1) < seen.minter_due_at <= clock.now() + timedelta(minutes=5)


def test_nothing_is_looked_at_until_we_know_who_we_are(role: Role, minter: Any, assumed: Any) -> None:
    assert not AwsClock.objects.exists()

    assert looked(role).minter_at is None
    assert assumed.orders == []
    assert Preflight.objects.get().minter_due_at <= clock.now(), "and it stays due"


@pytest.mark.parametrize("argument", [True, "1", 0, -1, 2**31, None, [1]])
def test_only_a_plausible_id_is_looked_up(argument: object, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(preflights, "look", lambda role_id, half: asked.append((role_id, half)))
    for task, half in ((tasks.preflight_as_minter, Half.MINTER), (tasks.preflight_as_revoker, Half.REVOKER)):
        task(argument)
        assert asked == []
        task(7)
        assert asked == [(7, half)]
        asked.clear()


# --- what the console asks for ----------------------------------------------------------------------------


def test_what_was_read_of_the_console_is_kept_with_the_account_for_all_its_roles(
    measured: None, role: Role, payments: Account, as_worker: Any, minter: Any, target_role: Any
) -> None:
    as_worker(minter.profile("revoker"))
    with minter.console_authorization("222222222222"):
        on = looked(role, Half.REVOKER)
    payments.refresh_from_db()
    assert payments.console_authorization == "on"
    assert finding(on.revoker_findings, "console authorization")["verdict"] == "bad"
    assert on.verdict == "bad"

    Preflight.objects.update(revoker_due_at=clock.now())
    off = looked(role, Half.REVOKER)
    payments.refresh_from_db()
    assert payments.console_authorization == "off"
    assert finding(off.revoker_findings, "console authorization")["verdict"] == "good"


def test_what_cannot_be_read_is_no_reason_to_forget_what_was(
    measured: None, role: Role, payments: Account, as_worker: Any, minter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_worker(minter.profile("revoker"))
    Account.objects.update(console_authorization="on")

    def refuse(place: Any) -> bool:
        raise Refused("AccessDeniedException", "no", "Let it.")

    monkeypatch.setattr(sign_ins, "asks_for_more", refuse)
    looked(role, Half.REVOKER)

    payments.refresh_from_db()
    assert payments.console_authorization == "on"


def test_what_was_read_of_another_account_is_not_kept_with_this_one(
    measured: None, role: Role, payments: Account, as_worker: Any, minter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_worker(minter.profile("revoker"))

    def corrected_meanwhile(place: Any) -> bool:
        Account.objects.filter(pk=payments.pk).update(number="999999999999")
        return True

    monkeypatch.setattr(sign_ins, "asks_for_more", corrected_meanwhile)
    looked(role, Half.REVOKER)

    payments.refresh_from_db()
    assert payments.console_authorization == ""
