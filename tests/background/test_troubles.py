"""What nobody foresaw: it is seen, told once, tried again with growing gaps, and holds up nothing else."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.db import InterfaceError, InternalError, OperationalError, connection
from django.db.models import QuerySet
from psycopg.errors import ReadOnlySqlTransaction

from requests_app.background import clocks, minting, revoking, tasks, troubles
from requests_app.domain import clock, restored, workflow
from requests_app.domain import troubles as domain_troubles
from requests_app.domain.models import AccessRequest, AuditEvent, Delivery, DenyPolicy, Notice, Role, Trouble, User
from requests_app.domain.transitions import State
from requests_app.domain.workflow import revocations, sweeps
from tests import factories, letters, plans

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.fixture(autouse=True)
def knows_nothing() -> Iterator[None]:
    """As a process that has just started."""
    troubles._memory.forget()
    yield
    troubles._memory.forget()


def fails(*_: object, **__: object) -> Any:
    raise KeyError(SECRET)


def works(*_: object, **__: object) -> Any:
    return 0


# --- one task ------------------------------------------------------------------------------------


def test_it_is_a_row_without_a_word_of_the_error_and_operators_are_told_once(
    monkeypatch: pytest.MonkeyPatch, olivia: User, alice: User, administrator: Role
) -> None:
    monkeypatch.setattr(revoking, "work", fails)
    for _ in range(3):
        tasks.revoke.apply((administrator.pk,))

    (trouble,) = Trouble.objects.all()
    assert (trouble.task, trouble.subject, trouble.error) == ("revoke.work", str(administrator.pk), "KeyError")
    assert trouble.where.startswith("requests_app/background/tasks.py:")
    assert (trouble.times, trouble.over_at) == (3, None)
    (notice,) = Notice.objects.filter(kind="trouble")
    assert notice.recipient == olivia
    assert f"revoke.work failed with KeyError at {trouble.where}" in letters.sentence(notice)
    assert SECRET not in str([*Trouble.objects.values(), *Notice.objects.values(), *AuditEvent.objects.values()])


def test_many_of_one_kind_are_one_mail_and_a_bounded_number_of_rows(
    monkeypatch: pytest.MonkeyPatch, olivia: User
) -> None:
    monkeypatch.setattr(revoking, "work", fails)
    for forged in range(1, 131):
        tasks.revoke.apply((forged,))

    assert Trouble.objects.count() == 101
    assert Trouble.objects.get(subject="").times == 30
    assert Notice.objects.count() == 1


def test_it_is_over_when_the_same_works_again_and_begins_anew_after_that(
    monkeypatch: pytest.MonkeyPatch, olivia: User
) -> None:
    monkeypatch.setattr(clocks, "read", fails)
    tasks.read_clock.apply()
    tasks.read_clock.apply()
    monkeypatch.setattr(clocks, "read", works)
    tasks.identify_revoker.apply()
    assert Trouble.objects.get().over_at is None, "something else worked"

    tasks.read_clock.apply()

    first = Trouble.objects.get()
    assert first.over_at is not None
    monkeypatch.setattr(clocks, "read", fails)
    tasks.read_clock.apply()
    again = Trouble.objects.get()
    assert (again.times, again.over_at) == (1, None)
    assert again.first_at > first.over_at


def test_a_process_that_was_started_since_sees_that_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "read", fails)
    tasks.read_clock.apply()
    monkeypatch.setattr(clocks, "read", works)
    monkeypatch.setattr(troubles, "_memory", troubles._Memory())

    tasks.read_clock.apply()

    assert Trouble.objects.get().over_at is not None


def test_where_there_was_no_trouble_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "read", works)
    tasks.read_clock.apply()  # once every so often it asks whether there is any
    with plans.watched() as statements:
        for _ in range(10):
            tasks.read_clock.apply()
    assert statements == []


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_database_that_was_away_for_a_moment_wakes_nobody(
    monkeypatch: pytest.MonkeyPatch, olivia: User, error: type[Exception]
) -> None:
    def away() -> None:
        raise error("the connection is closed")

    monkeypatch.setattr(clocks, "read", away)
    tasks.read_clock.apply()
    tasks.read_clock.apply()
    assert not Notice.objects.exists()
    tasks.read_clock.apply()
    assert Notice.objects.count() == 1


def test_deliveries_that_fail_alike_are_one_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minting, "mint", fails)
    tasks.mint.apply((7,))
    tasks.mint.apply((8,))
    assert list(Trouble.objects.values_list("subject", "times")) == [("", 2)]


@pytest.mark.parametrize("kwargs", [{"x": 1}, {"role_id": 1}], ids=["unknown", "twice"])
def test_a_message_that_no_task_can_take_puts_off_no_work(
    kwargs: dict[str, object], active_request: AccessRequest, bob: User, aws_clock: object
) -> None:
    factories.delivery(active_request)
    workflow.revoke(active_request, by=bob, reason="over")
    due_at = DenyPolicy.objects.get().due_at

    for _ in range(3):
        tasks.revoke.apply((active_request.role_id,), kwargs)

    assert DenyPolicy.objects.get().due_at == due_at
    assert Trouble.objects.get().subject == ""


@pytest.mark.parametrize("row", ["", "7 8", "seven", "9" * 40])
def test_a_row_that_no_sweep_wrote_holds_up_none(row: str, active_request: AccessRequest) -> None:
    now = clock.now()
    values = {"error": "E", "where": "w", "first_at": now, "last_at": now}
    Trouble.objects.create(task="default.sweep_requests", subject=f"expire_due {row}", **values)
    with clock.moved(timedelta(hours=12)):
        tasks.sweep_requests()
    active_request.refresh_from_db()
    assert active_request.state == "expired"


def test_a_task_called_with_what_it_does_not_take(olivia: User) -> None:
    tasks.revoke.apply((1, 2, "x" * 1000))

    assert list(Trouble.objects.values_list("task", "subject", "error")) == [("revoke.work", "", "TypeError")]


def test_a_role_that_makes_the_worker_fail_is_not_tried_every_two_seconds(
    monkeypatch: pytest.MonkeyPatch, administrator: Role, redis_server: Any
) -> None:
    DenyPolicy.objects.create(role=administrator, expected=[None], due_at=clock.now())
    monkeypatch.setattr(revoking, "work", fails)
    gaps = []
    for _ in range(4):
        tasks.revoke.apply((administrator.pk,))
        trouble, policy = Trouble.objects.get(), DenyPolicy.objects.get()
        assert policy.due_at is not None
        gaps.append((policy.due_at - trouble.last_at).total_seconds())
        assert revocations.sweep() == 0, "it waits"
    assert gaps == [5, 10, 20, 40]

    # Whoever is told too early has nothing to do, and that is no success.
    monkeypatch.setattr(revoking, "work", works)
    tasks.revoke.apply((administrator.pk,))
    assert Trouble.objects.get().over_at is None
    with clock.moved(timedelta(seconds=41)):
        assert revocations.sweep() == 1
        tasks.revoke.apply((administrator.pk,))
    assert Trouble.objects.get().over_at is not None


def test_what_was_never_due_is_not_made_due(monkeypatch: pytest.MonkeyPatch, administrator: Role) -> None:
    DenyPolicy.objects.create(role=administrator, expected=[None])
    monkeypatch.setattr(revoking, "prove", fails)
    monkeypatch.setattr(revoking, "work", fails)
    tasks.probe.apply((administrator.pk,))
    tasks.revoke.apply((administrator.pk,))

    policy = DenyPolicy.objects.get()
    assert (policy.due_at, policy.probe_due_at) == (None, None)


def test_two_that_fail_at_once_are_counted_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "read", fails)
    start = threading.Barrier(4)

    def one() -> None:
        try:
            start.wait(5)
            tasks.read_clock.apply()
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert Trouble.objects.get().times == 4


# --- a sweep of many -----------------------------------------------------------------------------


@pytest.fixture
def passes(alice: User, read_only: Role, automatic: Any, settings: Any) -> list[AccessRequest]:
    """Twenty that have ended by the clock, of different people."""
    people = [
        factories.person(f"person{number}", *(one.group for one in alice.memberships.all())) for number in range(20)
    ]
    return [
        workflow.start(factories.wish(one, read_only, automatic, duration=timedelta(minutes=10)), by=one)
        for one in people
    ]


AN_HOUR = timedelta(hours=1)
POISON = """
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.{column} = ANY (ARRAY{ids}) THEN RAISE EXCEPTION 'poisoned' USING ERRCODE = 'check_violation'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER poison BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION poison();
"""


@pytest.fixture
def poison(superuser_connection: Any) -> Iterator[Any]:
    """Let the database refuse every change of these rows."""
    poisoned = []

    def poison(*rows: Any) -> None:
        table = rows[0]._meta.db_table
        poisoned.append(table)
        superuser_connection.execute(POISON.format(column="id", ids=[row.pk for row in rows], table=table))

    def cure() -> None:
        for table in poisoned:
            superuser_connection.execute(f"DROP TRIGGER IF EXISTS poison ON {table}")
            superuser_connection.execute("DROP FUNCTION IF EXISTS poison")
        poisoned.clear()

    poison.cure = cure  # type: ignore[attr-defined]
    yield poison
    cure()


def test_one_row_that_cannot_be_moved_holds_up_none_of_the_others(
    passes: list[AccessRequest], poison: Any, olivia: User
) -> None:
    culprits = [passes[7], passes[8], passes[19]]
    poison(*culprits)
    with clock.moved(AN_HOUR):
        tasks.sweep_requests.apply()

        expired = AccessRequest.objects.filter(state=State.EXPIRED)
        assert expired.count() == 17
        assert AuditEvent.objects.filter(action="request.expired").count() == 17
        subjects = {f"expire_due {one.pk}" for one in culprits}
        assert set(Trouble.objects.values_list("subject", flat=True)) == subjects
        assert set(Trouble.objects.values_list("error", flat=True)) == {"django.db.utils.IntegrityError"}

        # The next run does not look for them again, and what is due meanwhile is not held up.
        with plans.watched() as statements:
            tasks.sweep_requests.apply()
        assert len([one for one in statements if one.sql.startswith("UPDATE")]) <= 10
        assert set(Trouble.objects.values_list("times", flat=True)) == {1}
        assert not Notice.objects.filter(kind="trouble").exists()


def test_a_culprit_is_tried_again_by_itself_and_is_over_when_it_moves(
    passes: list[AccessRequest], poison: Any, olivia: User
) -> None:
    poison(passes[3])
    for minutes in (60, 61, 62):
        with clock.moved(timedelta(minutes=minutes)):
            tasks.sweep_requests.apply()
    assert Trouble.objects.get().times == 3
    assert Notice.objects.filter(kind="trouble").count() == 1, "by now it is for an operator"

    poison.cure()
    with clock.moved(timedelta(minutes=63)):
        tasks.sweep_requests.apply()
        assert not AccessRequest.objects.exclude(state=State.EXPIRED).exists()
        assert Trouble.objects.get().over_at is not None


def test_another_process_knows_at_once_what_is_put_off(
    passes: list[AccessRequest], poison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(passes[7])
    elsewhere = troubles._Memory()
    elsewhere._read()
    with clock.moved(AN_HOUR):
        tasks.sweep_requests.apply()
        monkeypatch.setattr(troubles, "_memory", elsewhere)
        tasks.sweep_requests.apply()

    assert Trouble.objects.get().times == 1


def test_each_row_is_put_off_however_many_subjects_there_were(
    passes: list[AccessRequest], poison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain_troubles, "MOST_SUBJECTS", 1)
    poison(*passes[:3])
    gaps = []
    for minutes in (60, 61, 62):
        with clock.moved(timedelta(minutes=minutes)):
            tasks.sweep_requests.apply()
            tasks.sweep_requests.apply()
        assert set(Trouble.objects.values_list("row", flat=True)) == {one.pk for one in passes[:3]}
        gaps += [{(one.due_at - one.last_at).total_seconds() for one in Trouble.objects.all() if one.due_at}]
    assert gaps == [{5}, {10}, {20}]


def test_a_row_that_fails_in_one_sweep_is_moved_by_the_others(
    passes: list[AccessRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def announce_endings(*, among: QuerySet[AccessRequest]) -> int:
        if among.filter(pk=passes[4].pk).exists():
            raise ZeroDivisionError
        return 0

    monkeypatch.setattr(sweeps, "announce_endings", announce_endings)
    tasks.sweep_requests.apply()
    assert Trouble.objects.get().subject == f"announce_endings {passes[4].pk}"

    with clock.moved(AN_HOUR):
        tasks.sweep_requests.apply()
    assert not AccessRequest.objects.exclude(state=State.EXPIRED).exists()


def test_what_older_code_put_off_is_tried_and_is_over(passes: list[AccessRequest], superuser_connection: Any) -> None:
    now = clock.now()
    Trouble.objects.create(
        task="default.sweep_requests", subject=f"expire_due {passes[0].pk}",
        error="E", where="w", first_at=now, last_at=now,
    )  # fmt: skip
    superuser_connection.execute(import_module("requests_app.migrations.0007_troubles_of_rows").KNOWN)
    with clock.moved(AN_HOUR):
        tasks.sweep_requests.apply()

    assert Trouble.objects.get().over_at is not None


def test_what_is_no_rows_fault_is_one_trouble_and_is_not_halved_at_each_run(
    passes: list[AccessRequest], monkeypatch: pytest.MonkeyPatch, olivia: User
) -> None:
    monkeypatch.setattr(troubles, "MOST_CULPRITS", 5)
    calls: list[int] = []

    def expire_due(*, among: QuerySet[AccessRequest]) -> int:
        calls.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(sweeps, "expire_due", expire_due)
    tasks.sweep_requests.apply()

    whole = Trouble.objects.get(subject="expire_due")
    assert (whole.task, whole.error) == ("default.sweep_requests", "ZeroDivisionError")
    assert Trouble.objects.count() == 1 + 6
    assert len(calls) < 60
    calls.clear()
    tasks.sweep_requests.apply()
    assert len(calls) == 1, "it is halved again only after a while"

    monkeypatch.undo()
    troubles._memory.forget()
    with clock.moved(AN_HOUR):
        tasks.sweep_requests.apply()
        assert not AccessRequest.objects.exclude(state=State.EXPIRED).exists()
        assert not Trouble.objects.filter(over_at=None).exists()


def test_a_question_that_could_not_be_asked_once_is_no_trouble_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def idle() -> None:
        raise OperationalError("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr("requests_app.background.tasks.due.idle", idle)
        tasks.sweep_requests()
    assert Trouble.objects.filter(over_at=None).exists()
    with clock.moved(timedelta(hours=2)):
        troubles._memory.forget()
        tasks.sweep_requests()
    assert not Trouble.objects.filter(over_at=None).exists()


def test_one_sweep_that_cannot_go_on_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def named(name: str, fault: type[Exception] | None = None) -> Any:
        def run(*, among: QuerySet[AccessRequest] | None = None) -> int:
            called.append(name)
            if fault:
                raise fault
            return 0

        run.__name__ = name
        return run

    monkeypatch.setattr(restored, "keep_watch", named("keep_watch", KeyError))
    monkeypatch.setattr(sweeps, "expire_due", named("expire_due", OperationalError))
    monkeypatch.setattr(sweeps, "lapse_due", named("lapse_due", RuntimeError))
    for name in ("activate_due", "announce_endings"):
        monkeypatch.setattr(sweeps, name, named(name))
    tasks.sweep_requests.apply()

    assert called == ["keep_watch", "expire_due", "lapse_due", "activate_due", "announce_endings"]
    assert set(Trouble.objects.values_list("subject", flat=True)) == {"keep_watch", "expire_due", "lapse_due"}


def test_a_database_that_takes_no_writes_is_no_rows_fault(
    monkeypatch: pytest.MonkeyPatch, active_request: AccessRequest, pending_request: AccessRequest, olivia: User
) -> None:
    tried: list[object] = []

    def expire_due(*, among: QuerySet[AccessRequest]) -> int:
        tried.append(among)
        raise InternalError("cannot execute UPDATE in a read-only transaction") from ReadOnlySqlTransaction()

    monkeypatch.setattr(sweeps, "expire_due", expire_due)
    tasks.sweep_requests.apply()

    assert len(tried) == 1, "rows are not halved until one is to blame"
    assert Trouble.objects.get().subject == "expire_due"
    assert not Notice.objects.filter(kind=Notice.Kind.TROUBLE).exists()


def test_a_sweep_goes_on_until_nothing_is_due_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [sweeps.BATCH, sweeps.BATCH, 3, 0]
    endless: list[int] = []

    def some(*, among: QuerySet[AccessRequest]) -> int:
        return left.pop(0)

    def full(*, among: QuerySet[AccessRequest]) -> int:
        endless.append(1)
        return sweeps.BATCH

    monkeypatch.setattr(sweeps, "expire_due", some)
    monkeypatch.setattr(sweeps, "lapse_due", full)
    tasks.sweep_requests()
    assert left == []
    assert len(endless) == troubles.MOST_BATCHES


def test_a_delivery_that_cannot_be_given_up_holds_up_none_of_the_others(
    active_request: AccessRequest, poison: Any, aws_clock: Any, redis_server: Any, superuser_connection: Any
) -> None:
    wishes = [factories.delivery(active_request) for _ in range(5)]
    long_ago, a_moment_ago = clock.now() - timedelta(seconds=30), clock.now() - timedelta(seconds=5)
    superuser_connection.execute("SET session_replication_role = replica")
    superuser_connection.execute("UPDATE requests_app_delivery SET asked_at = %s", [long_ago])
    superuser_connection.execute(
        "UPDATE requests_app_delivery SET asked_at = %s WHERE id = %s", [a_moment_ago, wishes[4].pk]
    )
    poison(wishes[1])
    redis_server.flushdb()
    tasks.sweep_deliveries.apply()

    assert list(Delivery.objects.order_by("pk").values_list("state", flat=True)) == [
        "stale", "asked", "stale", "stale", "asked",
    ]  # fmt: skip
    assert Trouble.objects.get().subject == f"give_up_old {wishes[1].pk}"
    assert redis_server.llen("mint") == 2, "it and the young one are still nudged for"


def test_a_pass_of_somebody_deactivated_that_cannot_be_ended_holds_up_none_of_the_others(
    passes: list[AccessRequest], poison: Any
) -> None:
    User.objects.filter(username__startswith="person").update(deactivated_at=clock.now())
    poison(passes[0])
    tasks.sweep_requests.apply()

    assert AccessRequest.objects.filter(state=State.REVOKED).count() == 19
    assert Trouble.objects.get().subject == f"end_passes_of_deactivated {passes[0].pk}"
