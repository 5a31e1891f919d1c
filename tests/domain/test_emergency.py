"""Everything of a person, on a role, in an account or all: ended at once, in few statements, whoever else is at it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import redis
from kombu.exceptions import OperationalError

from requests_app.domain import clock, jobs, workflow
from requests_app.domain.errors import DomainError, Invalid, NotAllowed
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    AwsClock,
    DenyPolicy,
    Entitlement,
    Freeze,
    Group,
    Notice,
    Revocation,
    Role,
    User,
)
from requests_app.domain.workflow import deliveries, emergency, freezes, live_sessions, revocations, sweeps
from requests_app.domain.workflow.emergency import Ended, Scope
from requests_app.domain.workflow.freezes import Everything
from tests import factories, letters, plans, servers
from tests.domain.expect import refused
from tests.domain.meeting import at_once, in_background, row_held, wait_until_stuck

racing = pytest.mark.django_db(transaction=True)
WHY = "keys of a laptop were stolen"


@pytest.fixture(autouse=True)
def no_caps(settings: Any) -> None:
    settings.OPEN_REQUESTS_PER_PERSON_AND_ROLE = 1000


def end(scope: Scope, by: User, **values: Any) -> Ended:
    return emergency.end_all(
        scope, **{"by": by, "reason": WHY, "typed": emergency.word(scope), "keep_out": False, **values}
    )


@pytest.fixture
def company(
    alice: User, bob: User, engineers: Group, administrator: Role, read_only: Role, staged: Entitlement,
    automatic: Entitlement, aws_clock: AwsClock,
) -> dict[str, AccessRequest]:  # fmt: skip
    """Two people with passes on two roles of one account and one of another."""
    erin = factories.person("erin", engineers)
    elsewhere = factories.role("Operator", factories.account("search-prod"))
    terms = factories.entitlement(elsewhere, groups=[engineers])
    made = {
        "alice reads": factories.wish(alice, read_only, automatic, start="at_once"),
        "alice ready": factories.wish(alice, read_only, automatic),
        "alice elsewhere": factories.wish(alice, elsewhere, terms, start="at_once"),
        "alice waits": factories.wish(alice, administrator, staged),
        "erin reads": factories.wish(erin, read_only, automatic, start="at_once"),
        "erin ready": factories.wish(erin, administrator, staged),
        "erin elsewhere": factories.wish(erin, elsewhere, terms, start="at_once"),
    }
    workflow.approve(made["erin ready"], by=bob)
    for name in ("alice reads", "erin reads", "erin elsewhere"):
        factories.sealed(made[name])
    return made


def states(company: dict[str, AccessRequest]) -> dict[str, str]:
    for one in company.values():
        one.refresh_from_db()
    return {name: one.state for name, one in company.items()}


def scope_called(name: str) -> Scope:
    scopes: dict[str, Callable[[], Scope]] = {
        "person": lambda: User.objects.get(username="alice"),
        "role": lambda: Role.objects.get(name="ReadOnly"),
        "account": lambda: Account.objects.get(name="payments-prod"),
        "everything": Everything,
    }
    return scopes[name]()


HIT = {
    "person": {"alice reads", "alice ready", "alice elsewhere"},
    "role": {"alice reads", "alice ready", "erin reads"},
    "account": {"alice reads", "alice ready", "erin reads", "erin ready"},
    "everything": {"alice reads", "alice ready", "alice elsewhere", "erin reads", "erin ready", "erin elsewhere"},
}


@pytest.mark.parametrize("name", HIT)
def test_just_what_is_open_there_ends(name: str, company: dict[str, AccessRequest], olivia: User) -> None:
    before = states(company)
    event = AuditEvent.objects.latest("pk").pk
    seen = emergency.preview(scope_called(name))
    ended = end(scope_called(name), olivia)

    after = states(company)
    assert {one for one in after if after[one] != before[one]} == HIT[name]
    assert {after[one] for one in HIT[name]} == {"revoked"}
    assert ended.passes == seen.passes == len(HIT[name])
    for one in HIT[name]:
        assert (company[one].ended_by, company[one].end_reason) == (olivia, WHY)
    events = AuditEvent.objects.filter(pk__gt=event, action="request.revoked")
    assert sorted(events.values_list("access_request", flat=True)) == sorted(company[one].pk for one in HIT[name])
    assert set(events.values_list("actor", "detail__reason")) == {(olivia.pk, WHY)}
    told = Notice.objects.filter(kind="ended").values_list("access_request", "recipient")
    assert set(told) == {(company[one].pk, company[one].beneficiary_id) for one in HIT[name]}
    used = HIT[name] & {"alice reads", "erin reads", "erin elsewhere"}
    assert set(Revocation.objects.values_list("access_request", flat=True)) == {company[one].pk for one in used}
    assert ended.roles == DenyPolicy.objects.filter(due_at__isnull=False).count()
    assert ended.roles == len({company[one].role_id for one in used})
    assert seen.in_use == len(used)


def test_what_is_written_for_many_is_what_is_written_for_one(
    company: dict[str, AccessRequest], olivia: User, bob: User
) -> None:
    """The same rule: what to deny and until when, and the same record."""
    workflow.revoke(company["erin reads"], by=olivia, reason=WHY)
    end(company["alice reads"].beneficiary, olivia)
    one, another = (Revocation.objects.get(access_request=company[f"{name} reads"]) for name in ("erin", "alice"))
    for revocation in (one, another):
        last = revocation.access_request.issued_sessions.get().sts_expires_at
        assert revocation.keep_until == last + live_sessions.MARGIN
        assert revocation.state == "wanted"
    for action in ("request.revoked", "revocation.wanted"):
        events = [AuditEvent.objects.get(action=action, access_request=of.access_request) for of in (one, another)]
        alike = ("actor_id", "actor_name", "channel", "user_agent", "ip")
        assert len({tuple(getattr(event, name) for name in alike) for event in events}) == 1
        assert [set(event.detail) for event in events] == [set(events[0].detail)] * 2
        assert [event.subject for event in events] == [of.access_request.code for of in (one, another)]


@pytest.mark.parametrize("state", ["asked", "claimed", "unknown"])
def test_a_session_that_may_be_on_its_way_is_denied_too(
    state: str, active_request: AccessRequest, olivia: User, aws_clock: AwsClock
) -> None:
    delivery = factories.delivery(active_request)
    if state != "asked":
        deliveries.claim(delivery.pk, worker="w")
    if state == "unknown":
        with clock.moved(timedelta(minutes=1)):
            deliveries.sweep()
    end(active_request.role, olivia)
    ceiling = timedelta(seconds=active_request.terms.session_ceiling_seconds)
    assert Revocation.objects.get().keep_until == delivery.asked_at + ceiling + live_sessions.MARGIN


def test_one_event_and_one_word_for_the_act(
    company: dict[str, AccessRequest], olivia: User, dave: User, mallory: User
) -> None:
    end(scope_called("account"), olivia)
    event = AuditEvent.objects.get(action="everything.ended")
    assert (event.actor, event.subject) == (olivia, "payments-prod (2222-2222-2222)")
    assert event.detail | {"id": 0} == {
        "scope": "account", "id": 0, "passes": 4, "reason": WHY, "keep_out": False,
    }  # fmt: skip
    notices = Notice.objects.filter(kind="stopped")
    assert sorted(notices.values_list("recipient__username", flat=True)) == ["dave", "olivia"]
    assert letters.sentence(notices[0]) == f"Olivia ends every pass in payments-prod (2222-2222-2222), 4 of them: {WHY}"


def test_the_record_of_what_was_done_to_a_person_is_under_their_name(
    company: dict[str, AccessRequest], olivia: User, alice: User
) -> None:
    end(alice, olivia)
    assert AuditEvent.objects.get(action="everything.ended").beneficiary == alice


# --- who, and how it is meant -------------------------------------------------------------------------


def test_only_operators(company: dict[str, AccessRequest], bob: User, dave: User, mallory: User, olivia: User) -> None:
    before = states(company)
    for person in (bob, dave, mallory):
        with refused("operator.only", NotAllowed):
            end(Everything(), person, keep_out=True)
    User.objects.filter(pk=olivia.pk).update(deactivated_at=clock.now())
    with refused("operator.only", NotAllowed):
        end(Everything(), olivia, keep_out=True)
    assert states(company) == before
    assert not Freeze.objects.exists()
    assert AuditEvent.objects.filter(action="everything.ended.refused").count() == 4


@pytest.mark.parametrize("typed", ["", "alic", "Alice Liddell", "everything", "alice\x00"])
def test_what_was_typed_must_be_whose_it_is(
    typed: str, company: dict[str, AccessRequest], olivia: User, alice: User
) -> None:
    before = states(company)
    with pytest.raises(Invalid) as wrong:
        end(alice, olivia, typed=typed, keep_out=True)
    assert list(wrong.value.fields) == ["typed"]
    assert states(company) == before
    alice.refresh_from_db()
    assert alice.deactivated_at is None


@pytest.mark.parametrize("typed", ["Everything", " everything ", "EVERYTHING"])
def test_a_phones_own_capitals_and_blanks_do_not_matter(
    typed: str, company: dict[str, AccessRequest], olivia: User
) -> None:
    assert end(Everything(), olivia, typed=typed).passes == 6


def test_words_are_names(company: dict[str, AccessRequest]) -> None:
    words = {name: emergency.word(scope_called(name)) for name in HIT}
    assert words == {"person": "alice", "role": "ReadOnly", "account": "payments-prod", "everything": "everything"}


@pytest.mark.parametrize("reason", ["", " \n", "zero \x00", "half \ud800"])
def test_it_says_why(reason: str, company: dict[str, AccessRequest], olivia: User) -> None:
    with pytest.raises(Invalid) as wrong:
        end(Everything(), olivia, reason=reason, keep_out=True)
    assert list(wrong.value.fields) == ["reason"]
    assert not Freeze.objects.exists()


def test_an_operators_own_passes_end_too(olivia: User, read_only: Role) -> None:
    terms = factories.entitlement(read_only, users=[olivia])
    own = factories.wish(olivia, read_only, terms, start="at_once")
    assert end(olivia, olivia).passes == 1
    own.refresh_from_db()
    assert own.state == "revoked"


def test_it_works_whatever_changed_since(company: dict[str, AccessRequest], olivia: User) -> None:
    Entitlement.objects.update(is_active=False, revision=9)
    Role.objects.update(is_active=False)
    Account.objects.update(is_active=False)
    User.objects.exclude(pk=olivia.pk).update(deactivated_at=clock.now())
    assert end(Everything(), olivia).passes == 6


def test_what_the_clock_has_ended_is_not_revoked(company: dict[str, AccessRequest], olivia: User) -> None:
    with clock.moved(timedelta(hours=1)):
        assert emergency.preview(Everything()).passes == 2  # those that are ready to start
        assert end(Everything(), olivia).passes == 2
        assert sweeps.expire_due() == 4


def test_nothing_open_is_an_act_too(olivia: User, administrator: Role) -> None:
    assert end(administrator, olivia, keep_out=True) == Ended(0, 0, left=False)
    assert freezes.is_frozen(administrator)
    assert AuditEvent.objects.get(action="everything.ended").detail["passes"] == 0


# --- nothing new comes through ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["role", "account", "everything"])
def test_it_is_frozen_first(name: str, company: dict[str, AccessRequest], olivia: User, alice: User) -> None:
    end(scope_called(name), olivia, keep_out=True)
    assert Freeze.objects.get().reason == WHY
    frozen, first = (AuditEvent.objects.filter(action=one)[0].pk for one in ("freeze.begun", "request.revoked"))
    assert frozen < first
    with refused("freeze"):
        factories.wish(alice, company["alice reads"].role, company["alice reads"].entitlement)
    # Pressed again, it is no mistake that it is frozen.
    assert end(scope_called(name), olivia, keep_out=True).passes == 0
    assert Freeze.objects.count() == 1
    assert not AuditEvent.objects.filter(action__endswith=".refused", action__startswith="freeze.begun").exists()


def test_a_person_is_blocked_first(company: dict[str, AccessRequest], olivia: User, alice: User) -> None:
    end(alice, olivia, keep_out=True)
    alice.refresh_from_db()
    assert alice.deactivated_at is not None
    blocked, first = (AuditEvent.objects.filter(action=one)[0].pk for one in ("person.deactivated", "request.revoked"))
    assert blocked < first
    assert not Freeze.objects.exists()
    assert workflow.end_passes_of_deactivated() == 0


def test_nobody_blocks_themselves(olivia: User) -> None:
    with refused("stop.yourself", NotAllowed):
        end(olivia, olivia, keep_out=True)
    olivia.refresh_from_db()
    assert olivia.deactivated_at is None


# --- what it says beforehand --------------------------------------------------------------------------


def test_the_preview_names_who_is_hit(company: dict[str, AccessRequest], alice: User, olivia: User) -> None:
    seen = emergency.preview(Everything())
    assert (seen.passes, seen.people, seen.roles, seen.accounts) == (6, 2, 3, 2)
    assert (seen.in_use, seen.pending) == (3, 1)
    assert [(str(person), number) for person, number in seen.most_of_people] == [("Alice", 3), ("Erin", 3)]
    assert [(role.name, number) for role, number in seen.most_of_roles] == [
        ("ReadOnly", 3), ("Operator", 2), ("Administrator", 1),
    ]  # fmt: skip
    assert len(seen.first) == 6
    assert emergency.preview(olivia) == emergency.Preview(0, 0, 0, 0, 0, 0, [], [], [])


@pytest.mark.parametrize("name", HIT)
def test_the_preview_takes_as_many_statements_for_many(
    name: str, company: dict[str, AccessRequest], alice: User
) -> None:
    def statements() -> int:
        with plans.watched() as made:
            emergency.preview(scope_called(name))
        return len(made)

    few = statements()
    for _ in range(8):
        factories.wish(alice, company["alice reads"].role, company["alice reads"].entitlement, start="at_once")
    assert statements() == few <= 11


# --- very many ----------------------------------------------------------------------------------------


@pytest.fixture
def many(
    transactional_db: Any, alice: User, read_only: Role, automatic: Entitlement, aws_clock: AwsClock,
    superuser_connection: psycopg.Connection,
) -> Callable[[int, int], None]:  # fmt: skip
    """So many active passes over so many roles, each with a session: copies of a real one, past every guard."""
    one = factories.wish(alice, read_only, automatic, start="at_once")
    factories.sealed(one)
    account = factories.account()

    def make(passes: int, roles: int) -> None:
        have = Role.objects.filter(account=account).count()
        Role.objects.bulk_create(Role(name=f"Many{have + n}", account=account, path="/") for n in range(roles))
        keys = list(Role.objects.filter(account=account).order_by("-pk").values_list("pk", flat=True)[:roles])
        with superuser_connection.transaction():
            superuser_connection.execute("SET LOCAL session_replication_role = replica")
            for statement in COPIES:
                superuser_connection.execute(statement, {"passes": passes, "roles": keys, "one": one.pk})
        superuser_connection.execute("ANALYZE requests_app_accessrequest")

    return make


COPIES = [
    """
    INSERT INTO requests_app_accessrequest
    SELECT (jsonb_populate_record(r, jsonb_build_object(
        'id', nextval('requests_app_accessrequest_id_seq'),
        'code', 'DP-' || lpad(upper(to_hex(nextval('requests_app_accessrequest_id_seq'))), 8, '0'),
        'state', 'active', 'ended_at', NULL, 'ended_by_id', NULL, 'end_reason', '',
        'role_id', (%(roles)s::bigint[])[1 + n %% cardinality(%(roles)s::bigint[])]))).*
    FROM requests_app_accessrequest r, generate_series(1, %(passes)s) n WHERE r.id = %(one)s
    """,
    """
    INSERT INTO requests_app_delivery
    SELECT (jsonb_populate_record(d, jsonb_build_object(
        'id', nextval('requests_app_delivery_id_seq'), 'public_id', gen_random_uuid(), 'role_id', r.role_id,
        'access_request_id', r.id))).*
    FROM requests_app_accessrequest r, requests_app_delivery d
    WHERE d.access_request_id = %(one)s AND r.role_id = ANY(%(roles)s) AND %(passes)s > 0
    """,
    """
    INSERT INTO requests_app_issuedsession
    SELECT (jsonb_populate_record(s, jsonb_build_object(
        'id', nextval('requests_app_issuedsession_id_seq'), 'access_request_id', d.access_request_id,
        'delivery_id', d.id, 'access_key_id', 'ASIAMANY' || d.id))).*
    FROM requests_app_delivery d, requests_app_issuedsession s
    WHERE s.access_request_id = %(one)s AND d.role_id = ANY(%(roles)s) AND %(passes)s > 0
    """,
]


def test_a_thousand_passes_over_a_hundred_roles_take_a_handful_of_statements(
    many: Callable[[int, int], None], olivia: User, redis_server: "redis.Redis"
) -> None:
    def statements_for(passes: int, roles: int) -> int:
        many(passes, roles)
        redis_server.flushdb()
        with plans.watched() as statements:
            ended = end(Everything(), olivia)
        assert (ended.passes - passes, ended.roles - roles, ended.left) in [(1, 1, False), (0, 0, False)]
        # One word to the worker for each role, however many passes it has: each word is one put.
        assert redis_server.llen("revoke") == ended.roles
        return len(statements)

    few = statements_for(3, 2)
    assert statements_for(1000, 100) == few <= 30
    assert Revocation.objects.filter(state="wanted").count() == 1004
    assert DenyPolicy.objects.filter(due_at__lte=clock.now()).count() == 103
    assert AuditEvent.objects.filter(action="request.revoked").count() == 1004
    assert AuditEvent.objects.filter(action="revocation.wanted").count() == 1004
    assert Notice.objects.filter(kind="ended").count() == 1004


def test_more_than_a_batch_ends_in_batches_and_is_told_once_a_role(
    many: Callable[[int, int], None], olivia: User, redis_server: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emergency, "BATCH", 50)
    many(209, 3)
    redis_server.flushdb()
    assert end(Everything(), olivia) == Ended(210, 4, left=False)
    assert redis_server.llen("revoke") == 4
    assert not AccessRequest.objects.filter(state="active").exists()


def test_whoever_waits_too_long_is_told_what_is_left_and_presses_again(
    many: Callable[[int, int], None], olivia: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emergency, "BATCH", 50)
    monkeypatch.setattr(emergency, "LONGEST_SECONDS", 0.0)
    many(79, 3)
    ended = end(Everything(), olivia)
    assert (ended.passes, ended.left) == (50, True)
    assert AccessRequest.objects.filter(state="revoked").count() == 50
    assert end(Everything(), olivia).left is False
    assert not AccessRequest.objects.filter(state="active").exists()


def test_what_was_ended_stays_so_if_we_die_halfway(
    many: Callable[[int, int], None], olivia: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emergency, "BATCH", 50)
    many(99, 3)
    whole, batches = revocations.want_many, iter(range(10))

    def die_in_the_second(ids: Any, now: Any) -> set[int]:
        if next(batches):
            raise KeyboardInterrupt
        return whole(ids, now)

    monkeypatch.setattr(revocations, "want_many", die_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        end(Everything(), olivia)
    assert AccessRequest.objects.filter(state="revoked").count() == Revocation.objects.count() == 50
    assert AuditEvent.objects.get(action="everything.ended").detail["passes"] == 100
    # Nobody nudged; the sweep finds the roles.
    assert revocations.sweep() == DenyPolicy.objects.count() > 0
    monkeypatch.setattr(revocations, "want_many", whole)
    assert end(Everything(), olivia).passes == 50


def test_a_broker_that_is_down_costs_one_try_and_not_one_for_each_role(
    many: Callable[[int, int], None], olivia: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(30, 30)
    tried: list[str] = []

    def down(job: str, args: Any) -> None:
        tried.append(job)
        raise OperationalError

    monkeypatch.setattr(jobs, "_send", down)
    assert end(Everything(), olivia).roles == 31
    assert tried.count("revoke.work") == 1


# --- whoever else is at it ----------------------------------------------------------------------------


@racing
def test_everybody_at_once_ends_each_pass_once(
    many: Callable[[int, int], None], olivia: User, alice: User, bob: User
) -> None:
    many(119, 6)
    oscar = factories.person("oscar", is_operator=True)
    some = list(AccessRequest.objects.order_by("pk")[:120:10])
    role = some[3].role

    def each(act: Callable[[AccessRequest], object]) -> Callable[[], list[DomainError]]:
        def run() -> list[DomainError]:
            refusals = []
            for one in some:
                try:
                    act(one)
                except DomainError as refusal:
                    refusals.append(refusal)
            return refusals

        return run

    def sweep_a_while() -> None:
        for _ in range(5):
            sweeps.announce_endings()
            revocations.sweep()
            with clock.moved(timedelta(minutes=25)):
                sweeps.announce_endings()

    at_once(
        lambda: end(Everything(), olivia),
        lambda: end(alice, oscar),
        lambda: end(role, oscar),
        each(lambda one: workflow.give_back(one, by=alice)),
        each(lambda one: workflow.revoke(one, by=olivia, reason="one by one")),
        sweep_a_while,
    )
    assert not AccessRequest.objects.filter(state="active").exists()
    ended = AuditEvent.objects.filter(action__in=["request.revoked", "request.returned"])
    assert sorted(ended.values_list("access_request", flat=True)) == sorted(
        AccessRequest.objects.values_list("pk", flat=True)
    )
    assert Revocation.objects.count() == Notice.objects.filter(kind="ended").count() == 120


@racing
def test_a_pass_that_someone_is_at_is_waited_for(company: dict[str, AccessRequest], olivia: User) -> None:
    one = company["alice reads"]
    with row_held(AccessRequest._meta.db_table, one.pk):
        ending = in_background(lambda: end(Everything(), olivia))
        wait_until_stuck([ending])
        assert not ending.done()
    assert ending.result(timeout=10).passes == 6


@racing
def test_whoever_loses_a_deadlock_tries_again(company: dict[str, AccessRequest], olivia: User) -> None:
    """Someone who has a role's policy wants a request that we have, while we want that policy."""
    for one in company.values():
        DenyPolicy.objects.get_or_create(role=one.role, defaults={"expected": [None]})
    with psycopg.connect(servers.database_url("app", servers.database_name())) as other:
        policy = DenyPolicy.objects.get(role=company["alice reads"].role)
        other.execute("SELECT FROM requests_app_denypolicy WHERE id = %s FOR UPDATE", [policy.pk])
        ending = in_background(lambda: end(Everything(), olivia))
        wait_until_stuck([ending])
        try:
            other.execute(
                "SELECT FROM requests_app_accessrequest WHERE id = %s FOR UPDATE", [company["alice reads"].pk]
            )
        except psycopg.errors.DeadlockDetected:
            other.rollback()
        other.commit()
        assert ending.result(timeout=15).passes == 6
    assert AuditEvent.objects.filter(action="request.revoked").count() == 6


@racing
def test_a_mint_that_is_under_way_is_thrown_away(company: dict[str, AccessRequest], olivia: User) -> None:
    one = company["alice elsewhere"]
    order = deliveries.claim(factories.delivery(one).pk, worker="w")
    assert order
    kept, _ = at_once(
        lambda: deliveries.record(order, factories.minted(order), worker="w"),
        lambda: end(Everything(), olivia),
        held=(AccessRequest._meta.db_table, one.pk),
    )
    assert one.issued_sessions.get().discarded is not kept
    assert Revocation.objects.filter(access_request=one).exists()
    assert not deliveries.seal_down(order, "x.y.z.a.b")
