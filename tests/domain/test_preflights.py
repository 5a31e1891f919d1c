"""When each role is looked at: about once a day, sooner when something happened, and never all at once."""

from collections import Counter
from datetime import datetime, timedelta

import pytest

from portal.celery import app
from requests_app.domain import clock, jobs
from requests_app.domain.models import Account, Preflight, Role
from requests_app.domain.workflow import preflights
from requests_app.domain.workflow.preflights import Found, Half, Look
from tests import factories

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What workers are woken for."""
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(jobs, "nudge_each", lambda job, ids: asked.extend((job, role_id) for role_id in ids))
    return asked


def due(role: Role, at: datetime | None = None) -> Preflight:
    at = at or clock.now()
    return Preflight.objects.create(role=role, minter_due_at=at, revoker_due_at=at)


def test_a_few_new_roles_are_looked_at_at_once_and_retired_ones_never(payments: Account) -> None:
    used = [factories.role(in_account=payments) for _ in range(3)]
    factories.role(in_account=payments, is_active=False)
    factories.role(in_account=factories.account(is_active=False))

    before = clock.now()
    assert preflights.make_missing() == 3
    assert preflights.make_missing() == 0

    made = Preflight.objects.all()
    assert {one.role for one in made} == set(used)
    for one in made:
        assert before <= one.minter_due_at <= clock.now() + timedelta(seconds=3)
        assert before <= one.revoker_due_at <= clock.now() + timedelta(seconds=3)
        assert (one.usable, one.verdict, one.minter_at) == ("unknown", "unknown", None)


def test_a_whole_catalog_is_spread_over_a_day(payments: Account) -> None:
    Role.objects.bulk_create(Role(account=payments, name=f"R{number}") for number in range(250))
    assert [preflights.make_missing(100) for _ in range(4)] == [100, 100, 50, 0]

    now = clock.now()
    for half in Half:
        hours = Counter(
            int((at - now) / timedelta(hours=6)) for at in Preflight.objects.values_list(half.due_at, flat=True)
        )
        # All but the last fifty, which are through in a minute.
        assert set(hours) == {0, 1, 2, 3}
        assert all(hours[part] > 20 for part in hours)


def test_roles_among_others_that_have_a_row_are_found_part_by_part(
    payments: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was brought into use past the admin: the newest are looked at each minute, the others part by part."""
    monkeypatch.setattr(preflights, "A_PART", 2)
    now = clock.now().replace(minute=0)
    monkeypatch.setattr(clock, "now", lambda: now)
    roles = [factories.role(in_account=payments) for _ in range(12)]
    for role in (*roles[:4], *roles[5:11]):
        due(role)

    assert preflights.make_missing() >= 1
    assert Preflight.objects.filter(role=roles[11]).exists()
    made = 0
    for minute in range(120):
        monkeypatch.setattr(clock, "now", lambda minute=minute: now + timedelta(minutes=minute))
        made += preflights.make_missing()
    assert Preflight.objects.filter(role=roles[4]).exists()
    assert made <= 1


def test_a_sweep_wakes_a_few_each_of_another_account_the_longest_due_first(nudged: list[tuple[str, int]]) -> None:
    accounts = [factories.account() for _ in range(15)]
    now = clock.now()
    first = {}
    for age, account in enumerate(accounts):
        roles = [factories.role(in_account=account) for _ in range(4)]
        for extra, role in enumerate(roles):
            due(role, now - timedelta(minutes=age, seconds=extra))
        first[account.pk] = roles[-1].pk

    assert preflights.sweep(Half.MINTER) == 10
    oldest = [first[account.pk] for account in reversed(accounts)]
    assert nudged == [("aws.preflight", pk) for pk in oldest[:10]]
    nudged.clear()
    assert preflights.sweep(Half.REVOKER) == 6
    assert nudged == [("revoke.preflight", pk) for pk in oldest[:6]]


@pytest.mark.parametrize("half", Half)
def test_the_sweeps_of_a_day_are_enough_for_200_000_roles(half: Half) -> None:
    seconds = app.conf.beat_schedule["default.sweep_preflights"]["schedule"]

    # With room for those that are looked at sooner, and for when somebody waits.
    assert half.a_sweep * (DAY.total_seconds() / seconds) >= 1.25 * 200_000


def test_what_is_out_of_use_is_put_off_and_holds_up_nothing(
    payments: Account, nudged: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflights, "WINDOW", 2)
    now = clock.now()
    for _ in range(3):
        due(factories.role(is_active=False), now - DAY)
    wanted = factories.role(in_account=payments)
    due(wanted, now - timedelta(minutes=1))

    assert [preflights.sweep(Half.MINTER) for _ in range(2)] == [0, 1]
    assert nudged == [("aws.preflight", wanted.pk)]
    assert Preflight.objects.filter(minter_due_at__gt=now + DAY - timedelta(minutes=1)).count() == 3


def test_nothing_is_woken_for_what_is_not_due(payments: Account, nudged: list[tuple[str, int]]) -> None:
    due(factories.role(), clock.now() + timedelta(minutes=1))
    assert preflights.sweep(Half.MINTER) == preflights.sweep(Half.REVOKER) == 0
    assert nudged == []


def test_a_changed_role_is_looked_at_soon_and_a_changed_account_a_role_a_second(payments: Account) -> None:
    roles = [factories.role(in_account=payments) for _ in range(20)]
    other = due(factories.role(), clock.now() + DAY)
    for role in roles[:-1]:
        due(role, clock.now() + DAY)
    Preflight.objects.update(minter_attempts=9, revoker_attempts=9)
    before = clock.now()

    preflights.look_soon(Role.objects.filter(pk=roles[0].pk))

    alone = Preflight.objects.get(role=roles[0])
    assert before <= alone.minter_due_at == alone.revoker_due_at <= clock.now()
    assert (alone.minter_attempts, alone.revoker_attempts) == (0, 0)
    assert Preflight.objects.filter(minter_due_at__gt=before + timedelta(hours=23)).count() == 19

    preflights.look_soon(Role.objects.filter(account=payments))

    theirs = Preflight.objects.filter(role__account=payments)
    assert theirs.count() == 20, "one that had none has one now"
    times = [one.minter_due_at for one in theirs]
    assert max(times) <= clock.now() + timedelta(seconds=20)
    assert len(set(times)) > 10, "not all at once"
    other.refresh_from_db()
    assert other.minter_due_at > before + timedelta(hours=23)


def test_looking_at_all_of_them_shuffles_them(payments: Account) -> None:
    sooner = due(factories.role(in_account=payments), clock.now() - timedelta(hours=1))
    for _ in range(30):
        due(factories.role(in_account=payments), clock.now() + DAY)
    was_due = sooner.minter_due_at

    assert preflights.look_at_all() == 31

    times = list(Preflight.objects.order_by("pk").values_list("minter_due_at", flat=True))
    assert times[0] == was_due, "what was due longer stays first"
    assert max(times) <= clock.now()
    assert times[1:] != sorted(times[1:])


def look_at(role: Role, half: Half, taken_until: datetime) -> Look:
    return Look(
        role_id=role.pk, half=half, role_arn=role.arn, revoker_role_arn="", region="us-east-1", external_id="",
        installation="here", longest_session=3600, minter_arn="", chained=True, partition="aws",
        try_console=False, taken_until=taken_until,
    )  # fmt: skip


def says(check: str, verdict: str = "good", words: str = "") -> dict[str, str]:
    return {"check": check, "verdict": verdict, "code": "", "words": words, "advice": ""}


def test_whoever_wants_another_look_meanwhile_gets_it(administrator: Role) -> None:
    looking = due(administrator, clock.now() + timedelta(minutes=10))
    taken = look_at(administrator, Half.MINTER, looking.minter_due_at)
    preflights.look_soon(Role.objects.filter(pk=administrator.pk))

    preflights.note(taken, Found([says("trust")]))

    looking.refresh_from_db()
    assert looking.minter_due_at <= clock.now()
    assert looking.usable == "good"


def test_what_aws_says_can_always_be_stored(administrator: Role) -> None:
    looking = due(administrator)
    dirty = "a\x00b\ud800" + "x" * 5000
    doors = [{"principal": dirty, "actions": ("sts:AssumeRole",), "condition": ""}] * 200

    found = Found([says("revoker", "good", dirty)], doors=doors, room=-5, aws_role_id="A" * 500)
    preflights.note(look_at(administrator, Half.REVOKER, looking.revoker_due_at), found)

    looking.refresh_from_db()
    assert looking.revoker_findings[0]["words"] == ("ab?" + "x" * 5000)[: preflights.LONGEST_WORDS]
    assert len(looking.doors) == preflights.MOST_DOORS
    assert (looking.room, len(looking.aws_role_id)) == (-5, 128)


@pytest.mark.parametrize(
    ("minter", "revoker", "usable", "verdict"),
    [
        ([("trust", "good")], [("revoker", "good")], "good", "good"),
        ([("trust", "good")], None, "good", "unknown"),
        (None, [("revoker", "good")], "unknown", "unknown"),
        ([("trust", "bad")], [("revoker", "good")], "bad", "bad"),
        ([("trust", "unknown")], [("revoker", "good")], "unknown", "unknown"),
        ([("trust", "good")], [("revoker", "bad")], "good", "bad"),
        ([("trust", "good"), ("proof", "unknown")], [("revoker", "good")], "good", "unknown"),
        ([("trust", "good"), ("external id", "bad")], [("revoker", "good")], "good", "bad"),
        ([("trust", "good"), ("source identity", "bad")], [("revoker", "good")], "bad", "bad"),
    ],
)
def test_what_the_findings_come_to(
    administrator: Role,
    minter: list[tuple[str, str]] | None,
    revoker: list[tuple[str, str]] | None,
    usable: str,
    verdict: str,
) -> None:
    Account.objects.update(allows_source_identity=True)
    looking = due(administrator)
    for half, found in ((Half.MINTER, minter), (Half.REVOKER, revoker)):
        if found is not None:
            preflights.note(look_at(administrator, half, clock.now()), Found([says(*one) for one in found]))

    looking.refresh_from_db()
    assert (looking.usable, looking.verdict) == (usable, verdict)
    assert bool(looking.obstacle) == (usable == "bad")
