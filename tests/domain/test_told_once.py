"""What a notice is about makes that it goes out once: to this version, to the one before it, and to both at once."""

import importlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection

from requests_app.domain import clock, notices, workflow
from requests_app.domain.models import AccessRequest, Entitlement, Membership, Notice, Role, User
from requests_app.domain.workflow import freezes, own_edits, sweeps
from tests import factories, letters, servers
from tests.domain import test_installed
from tests.domain.test_installed import Scratch, _as_restored

MIGRATION = importlib.import_module("requests_app.migrations.0006_notices_by_columns")
at_0027 = test_installed.at_0027
HOUR = timedelta(hours=1)


def writes_as_before(kind: str, access_request: int | None, recipient: int, occasion: str, about: str = "") -> None:
    """As the version before this one queues a mail."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO requests_app_notice"
            " (kind, recipient_id, access_request_id, about, key, due_at, attempts, last_error)"
            " SELECT %(kind)s, %(recipient)s, %(access_request)s::bigint, %(about)s,"
            " concat_ws(':', %(kind)s, coalesce(%(access_request)s::text, ''), %(recipient)s, %(occasion)s),"
            " clock_timestamp(), 0, '' ON CONFLICT DO NOTHING",
            {
                "kind": kind,
                "recipient": recipient,
                "access_request": access_request,
                "about": about,
                "occasion": occasion,
            },
        )


Told = Callable[[], None]


@pytest.fixture
def reader() -> User:
    return factories.person("reader")


@pytest.fixture
def about(
    aws_clock: None, alice: User, bob: User, olivia: User, administrator: Role, staged: Entitlement, reader: User
) -> dict[str, tuple[Told, Told]]:
    """Of each kind of which it matters across versions: as the one before tells of it, and as this one does."""
    Entitlement.objects.update(extensions_most=1, extension_total_seconds=7200)
    staged.refresh_from_db()
    one = factories.wish(alice, administrator, staged, duration=HOUR)
    workflow.approve(one, by=bob)
    one, at = workflow.start(one, by=alice), clock.now()
    more = workflow.extend(one, by=alice, duration=HOUR, justification="it takes longer than we thought")
    delivery = factories.delivery(one)
    freeze = freezes.freeze(factories.role("Other"), by=olivia, reason="A laptop was stolen.")
    edit = own_edits.note(staged, by=olivia, change={})
    told: dict[str, tuple[str, dict[str, Any], bool]] = {
        "asked": ("stage 1", {"stage": 1}, True),
        "more_asked": (f"stage 1 of extension {more.pk}", {"stage": 1, "extension": more.pk}, True),
        "more_decided": (f"extension {more.pk}", {"extension": more.pk}, True),
        "stuck": ("1", {"stage": 1}, True),
        "ended": ("", {}, True),
        "accept": ("", {}, True),
        "decided": ("approved", {}, True),
        "issued": (str(delivery.public_id), {"delivery": delivery.pk}, True),
        "ending_soon": (_epoch(one), {"moment": one.expires_at}, True),
        "frozen": (str(freeze.pk), {"freeze": freeze.pk}, False),
        "unconfirmed": (f"edit {edit.pk}", {"edit": edit.pk}, False),
    }

    def each(kind: str, occasion: str, about: dict[str, Any], of_request: bool) -> tuple[Told, Told]:
        def before() -> None:
            writes_as_before(kind, one.pk if of_request else None, reader.pk, occasion)

        def now() -> None:
            whom = [(one.pk if of_request else None, reader.pk)]
            notices.announce_by_key(Notice.Kind(kind), whom, at=at, **about)

        return before, now

    return {kind: each(kind, *how) for kind, how in told.items()}


def _epoch(one: AccessRequest) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM expires_at)::text FROM requests_app_accessrequest WHERE id = %s", [one.pk]
        )
        return str(cursor.fetchone()[0])


@pytest.mark.parametrize("first", ["the version before", "this version"])
def test_neither_version_tells_again_what_the_other_has_told(
    first: str, about: dict[str, tuple[Told, Told]], reader: User
) -> None:
    for kind, (before, now) in about.items():
        for tell in (before, now, before, now) if first == "the version before" else (now, before, now):
            tell()
        assert Notice.objects.filter(kind=kind, recipient=reader).count() == 1, kind


def test_what_the_version_before_tells_twice_is_told_twice(alice: User, olivia: User) -> None:
    """Other days, other changes: whatever its key says, no two of its notices become one."""
    for occasion in ("2026-11-29T10:00:00+00:00", "2026-11-30T10:00:00+00:00", "edit none", "", ":::", "stage 1"):
        for kind in ("account", "trouble", "lifted", "asked", "stuck"):
            writes_as_before(kind, None, alice.pk, occasion, about="Something happened.")
            writes_as_before(kind, None, olivia.pk, occasion, about="Something happened.")
    assert Notice.objects.filter(recipient=alice).count() == 6 * 5


def test_what_operators_were_told_of_a_role_before_goes_out_in_its_words(olivia: User, administrator: Role) -> None:
    """Two kinds are about a request now, and were about a role too."""
    writes_as_before("held", None, olivia.pk, f"{administrator.pk}:2026-11-30T10:00:00+00:00", about="No room there.")
    writes_as_before("not_denied", None, olivia.pk, f"{administrator.pk}:7:unproved", about="Not seen to obey.")
    notices.tell(Notice.Kind.UNPROVED, at=clock.now(), to=[olivia], role=administrator.pk, detail={"generation": 7})

    told = {notice.kind: notice for notice in Notice.objects.filter(recipient=olivia)}
    assert sorted(told) == ["role_held", "unproved"]
    assert Notice.objects.filter(recipient=olivia).count() == 2
    for notice in told.values():
        assert letters.text(notice).startswith(str(notice.about))


def test_what_is_of_no_use_was_told_as_stuck(approved_request: AccessRequest, alice: User) -> None:
    writes_as_before("stuck", approved_request.pk, alice.pk, "approved")
    (told,) = Notice.objects.filter(kind__in=["stuck", "no_use"])
    assert (told.kind, told.state) == ("no_use", "approved")
    Membership.objects.filter(user=alice).delete()
    assert sweeps.tell_of_no_use() == 0


def test_the_same_is_told_once_however_often_it_is_announced(active_request: AccessRequest, alice: User) -> None:
    ends = active_request.expires_at
    assert ends is not None
    for moment in (ends, ends, ends + HOUR, ends):
        notices.announce(Notice.Kind.ENDING_SOON, [active_request], at=clock.now(), moment=moment)
    assert Notice.objects.filter(kind="ending_soon").count() == 2


# --- the migration --------------------------------------------------------------------------------


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MIGRATION, "BATCH", 50)


@pytest.mark.usefixtures("small_batches")
def test_notices_from_before_say_in_columns_what_their_keys_said(at_0027: Scratch) -> None:
    keys = dict(at_0027.execute("SELECT id, key FROM requests_app_notice"))
    assert len(keys) > 150
    servers._migrate(at_0027.name)
    rows = at_0027.execute(
        "SELECT n.id, n.kind, n.stage, n.state, n.extension_id, d.public_id, n.moment, n.detail"
        " FROM requests_app_notice n LEFT JOIN requests_app_delivery d ON d.id = n.delivery_id"
    )
    assert len(rows) == len(keys)
    seen = set()
    for pk, kind, stage, _, extension, delivery, moment, detail in rows:
        told, _, _, occasion = keys[pk].split(":", 3)
        seen.add(told)
        assert detail == ({"key": keys[pk]} if told in OF_EACH_DAY else {}), keys[pk]
        match told:
            case "asked":
                assert occasion == f"stage {stage}"
            case "more_asked":
                assert occasion == f"stage {stage} of extension {extension}"
            case "more_decided":
                assert occasion == f"extension {extension}"
            case "issued":
                assert occasion == str(delivery)
            case "ending_soon":
                assert moment.timestamp() == float(occasion)
        assert kind == told
    assert seen >= {"accept", "asked", "decided", "ended", "more_asked"}


# Which only must not become one.
OF_EACH_DAY = {"reminded", "lifted", "not_denied", "held", "trouble", "nobody", "account", "invited", "stopped"}


@pytest.mark.usefixtures("small_batches")
def test_an_upgrade_that_stops_anywhere_goes_on_when_it_is_run_again(
    at_0027: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    gently, steps = MIGRATION._gently, 0

    def stop_at(last: int) -> Callable[..., None]:
        done = iter(range(last))

        def step(*args: Any) -> None:
            if next(done, None) is None:
                raise OperationalError("the server closed the connection unexpectedly")
            gently(*args)

        return step

    for steps in range(30):
        monkeypatch.setattr(MIGRATION, "_gently", stop_at(steps))
        try:
            servers._migrate(at_0027.name)
            break
        except OperationalError:
            continue
    assert steps > 5
    servers.point_django_at(at_0027.name)
    assert _as_restored(at_0027) == _as_restored(Scratch(servers.TEMPLATE))


@pytest.mark.usefixtures("small_batches")
def test_an_upgrade_gives_way_to_whoever_works(at_0027: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MIGRATION, "TRIES", 1)
    call_command("migrate", "requests_app", "0005_request_begins", database="owner", verbosity=0)
    with at_0027.as_role("app") as someone, someone.transaction():
        someone.execute("UPDATE requests_app_notice SET attempts = attempts + 1 WHERE id = 1")
        with pytest.raises(OperationalError, match="lock timeout"):
            servers._migrate(at_0027.name)
        someone.execute("UPDATE requests_app_notice SET attempts = attempts + 1 WHERE id = 2")
    servers._migrate(at_0027.name)
