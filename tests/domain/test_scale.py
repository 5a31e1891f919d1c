"""What stays cheap when there is much of everything: the plans on a grown company, and sweeps that count no rows.

That a page makes no more statements for more rows is tested with the pages, in tests/web and tests/admin.
`make bench-scale` looks at every page with a hundred thousand requests.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F

from requests_app.background import mail
from requests_app.delivery.web import request_options
from requests_app.delivery.web.context import MOST_COUNTED
from requests_app.delivery.web.views import approvals
from requests_app.domain import audit, clock, deciders, facts, lags, notices, reading, workflow
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    AwsClock,
    Delivery,
    Edit,
    Entitlement,
    Extension,
    Group,
    IssuedSession,
    Notice,
    Preflight,
    Role,
    User,
)
from requests_app.domain.transitions import State
from requests_app.domain.workflow import deliveries, operators, preflights, sweeps
from requests_app.domain.workflow.preflights import Half
from tests import crowd, factories, plans, servers
from tests.web.pages import signed_in

SOME = crowd.Crowd(
    accounts=1_000,
    roles=30_000,
    people=1_500,
    entitlements=60,
    ended=9_000,
    pending=300,
    approved=100,
    active=300,
    deliveries=8_000,
    sign_ins=4_000,
    placed=20_000,
)
# Too many rows here to be read for a page; the others are small, and read whole where that is cheapest.
BIG = {
    model._meta.db_table
    for model in (
        *(Role, Entitlement.roles.through, AccessRequest, AuditEvent, Delivery, IssuedSession, Notice, Preflight),
        *(Edit, Extension),
    )
} | {"requests_app_decision"}


@pytest.fixture(scope="module")
def company(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """A database of its own, filled once."""
    name = f"scale_daypass_{servers.worker()}"
    with django_db_blocker.unblock():
        servers.make_filled_database(name, like="scale_daypass", fill=_fill)
    yield name
    servers.drop_database(name)


def _fill() -> None:
    with servers.as_superuser(servers.database_name_of_django()) as superuser:
        crowd.fill(superuser, SOME)
        crowd.look_at_roles(superuser)


@pytest.fixture
def in_company(company: str, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        servers.point_django_at(company)
        try:
            yield
        finally:
            servers.point_django_at(servers.database_name())


def indexes_for(act: Callable[[], object]) -> set[str]:
    """The indexes that were used for what this asks of the database; no big table may be read whole for it."""
    with plans.watched() as statements:
        act()
    used: set[str] = set()
    for statement in statements:
        if statement.can_be_explained:
            plan = plans.plan(statement)
            assert not plan.read_whole() & BIG, statement.sql
            used |= plan.indexes()
    return used


def indexes_for_standing(entitlement: int, person: int, role: int) -> set[str]:
    """As `indexes_for`, of what the function behind `facts.standing_of` asks."""
    plan = plans.plan_of_standing(entitlement, person, role)
    assert not plan.read_whole() & BIG
    return plan.indexes()


@pytest.mark.parametrize(
    ("sweep", "index"),
    [
        (sweeps.expire_due, {"request_active_due"}),
        (sweeps.lapse_due, {"request_pending_due", "request_approved_due"}),
        (sweeps.activate_due, {"request_begins"}),
        (sweeps.announce_endings, {"request_active_due", "notice_told_once"}),
        (deliveries.sweep, {"delivery_unfinished"}),
        (mail.send_due, {"notice_due"}),
        (partial(preflights.sweep, Half.MINTER), {"preflight_minter_due"}),
        (partial(preflights.sweep, Half.REVOKER), {"preflight_revoker_due"}),
    ],
)
def test_a_sweep_reads_what_is_due_and_nothing_else(
    sweep: Callable[[], int], index: set[str], in_company: None
) -> None:
    assert index <= indexes_for(sweep)
    with plans.watched() as statements:
        assert sweep() == 0
    looked_at = [plans.plan(one, carried_out=True).rows_looked_at() for one in statements if one.only_reads]
    assert sum(looked_at) <= len(looked_at)  # the clock's own row


def test_how_late_each_sweep_is_takes_a_row_each(in_company: None) -> None:
    with plans.watched() as statements:
        found = lags.lags(clock.now())
    assert len(statements) >= len(found) > 10
    for one in statements:
        plan = plans.plan(one, carried_out=True)
        assert not plan.read_whole() & BIG, one.sql
        assert plan.rows_looked_at() <= 1, one.sql


def test_roles_without_a_preflight_are_looked_for_among_a_few_each_minute(in_company: None) -> None:
    with plans.watched() as statements:
        assert preflights.make_missing() == 0
    looked_at = [plans.plan(one, carried_out=True).rows_looked_at() for one in statements if one.can_be_explained]
    # Of a part of them the role, its account and its row. The accounts may be read whole.
    assert SOME.roles > 4 * preflights.A_PART
    assert sum(looked_at) <= 3 * preflights.A_PART + SOME.accounts


@pytest.mark.parametrize(
    ("sweep", "index"),
    [
        (sweeps.escalate_due, {"request_escalates"}),
        (sweeps.lapse_hopeless, {"request_pending_due"}),
        (sweeps.tell_stuck, {"request_pending_due"}),
        (
            sweeps.tell_of_no_use,
            {"request_pending_due", "request_approved_due", "request_active_due", "notice_told_once"},
        ),
    ],
)
def test_a_sweep_of_what_is_pending_reads_no_more_than_that(
    sweep: Callable[[], int], index: set[str], in_company: None
) -> None:
    assert index <= indexes_for(sweep)
    with plans.watched() as statements:
        sweep()
    found = [plans.plan(one, carried_out=True) for one in statements if one.only_reads]
    if sweep in (sweeps.tell_stuck, sweeps.tell_of_no_use):
        # What is open with its role, and of those who ask what nobody has confirmed about them. Small tables are read
        # for each, and not by functions of which no plan tells.
        open_ = SOME.pending + SOME.approved + SOME.active
        assert sum(plan.rows_looked_at(BIG) for plan in found) <= 6 * open_ + SOME.placed / 3
    else:
        # Three hundred with their roles, and the small tables whole: accounts, and here people too.
        assert sum(plan.rows_looked_at() for plan in found) <= 5 * SOME.pending + SOME.accounts + 2 * SOME.people


def test_what_was_told_is_found_by_what_it_is_about(in_company: None) -> None:
    operator = User.objects.get(pk=crowd.ALICE)
    entitlement, role = Entitlement.objects.earliest("pk"), Role.objects.earliest("pk")
    told = partial(operators._told_enough, operator, entitlement, role, notices.day_of(clock.now()))
    assert indexes_for(told) == {"notice_told_once"}
    of_request = Notice.objects.filter(access_request=AccessRequest.objects.latest("pk"))
    assert indexes_for(lambda: list(of_request)) == {"notice_told_once"}


@pytest.mark.parametrize("who", [crowd.BOB, crowd.ALICE, crowd.OLIVIA])
def test_what_waits_for_someone_is_found_by_what_asks_them(who: int, in_company: None) -> None:
    """And never by all that is pending, whether much waits for them or nothing."""
    person = User.objects.get(pk=who)
    for look in (
        lambda: list(AccessRequest.objects.waiting_for(person, clock.now())),
        lambda: reading.waiting(person, clock.now(), 31),
        lambda: reading.count_waiting(person, clock.now(), 21),
    ):
        # By the statistics of this transaction: no plan tells what a function does.
        with transaction.atomic(), connection.cursor() as cursor:
            look()
            cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'i' AND pg_stat_get_xact_numscans(oid) > 0")
            used = {name for (name,) in cursor.fetchall()}
            cursor.execute("SELECT relname FROM pg_stat_xact_user_tables WHERE seq_scan > 0")
            read_whole = {name for (name,) in cursor.fetchall()}
        assert {"request_asks_groups", "request_asks_users"} <= used
        assert "request_pending_due" not in used
        assert not read_whole & BIG


@pytest.mark.parametrize(
    ("who", "words", "index"),
    [
        (crowd.ALICE, "incident payments", "role_name_search"),
        (crowd.ALICE, "part 97 nowhere", "role_description_search"),
        (crowd.ALICE, "zq", "role_name_search"),
        # Much is found by these: role after role in the order of names, and soon enough of them.
        (crowd.ALICE, "prod", "account_by_name"),
        (crowd.ALICE, "a", "account_by_name"),
        (crowd.ALICE, "payments prod", "role_by_account"),
        # From the few that she may ask for.
        (crowd.CAROL, "incident payments", "entitlement_role_once"),
        (crowd.CAROL, "prod", "entitlement_role_once"),
    ],
)
def test_no_search_reads_every_role(who: int, words: str, index: str, in_company: None) -> None:
    person = User.objects.get(pk=who)
    assert index in indexes_for(lambda: request_options.find_roles(person, words))


def test_roles_are_found_as_the_plain_question_finds_them(in_company: None) -> None:
    """Whatever way was taken: against all roles, word by word, in Python."""
    every = [
        (role, f"{role.name}\n{role.description}\n{role.account.name}\n{role.account.number}".upper())
        for role in Role.objects.filter(is_active=True).select_related("account").order_by("account__name", "name")
    ]
    alice = User.objects.get(pk=crowd.ALICE)
    for words in ("payments prod", "incident risk", "prod on", "analyst-1 part 9", "4210", "PART dev", "ledger zzz"):
        plain = [role for role, text in every if all(word in text for word in words.upper().split())]
        assert request_options.find_roles(alice, words) == plain[: request_options.MOST_FOUND], words


@pytest.mark.parametrize("who", ["alice", "carol", "frank"])
@pytest.mark.parametrize(
    "words", ["incidnet", "databaseadmni", "pord", "ledgre keycustodain", "ptoduction analist pat"]
)
def test_what_is_mistyped_is_looked_for_by_the_indexes(words: str, who: str, in_company: None) -> None:
    person = User.objects.get(username=who)
    indexes_for(lambda: request_options.search(person, words))
    with plans.watched() as statements:
        found = request_options.search(person, words)
    assert len(statements) <= 20
    read = sum(plans.plan(one, carried_out=True).buffers() for one in statements if one.only_reads)
    # A fifteenth of all roles is like that name; of each it is looked up whether it reaches her.
    assert read < SOME.roles / 4
    assert {role.pk for role in found.roles} <= {role.pk for role in request_options._open_to(person)}


@pytest.mark.parametrize("who", ["alice", "carol", "frank"])
def test_browsing_and_pasting_read_a_part_of_the_roles(who: str, in_company: None) -> None:
    person = User.objects.get(username=who)
    middle, last = (Account.objects.order_by("name")[number].name for number in (SOME.accounts // 2, SOME.accounts - 1))
    arn = Role.objects.latest("pk").arn
    for act in (
        lambda: request_options.browse(person),
        lambda: request_options.browse(person, after=middle),
        lambda: request_options.browse(person, after=last),
        lambda: request_options.search(person, arn),
        lambda: request_options.search(person, arn.replace("role/", "role/no")),
        lambda: request_options.browse_account(person, "aws", Account.objects.latest("pk").number),
    ):
        indexes_for(act)
        with plans.watched() as statements:
            act()
        assert len(statements) <= 14
        read = sum(plans.plan(one, carried_out=True).buffers() for one in statements if one.only_reads)
        assert read < SOME.roles / 3
    accounts = sorted({role.account.name for role in request_options._open_to(person)})
    assert [one.account.name for one in request_options.browse(person)[0]] == accounts[: request_options.MOST_BROWSED]
    beyond = [name for name in accounts if name > middle]
    found = [one.account.name for one in request_options.browse(person, after=middle)[0]]
    assert found == beyond[: request_options.MOST_BROWSED]


@pytest.mark.parametrize("words", ["incident payments", "adm", "a", "prod", "zq", "4210", "custodian-2"])
def test_what_selectors_give_is_found_without_reading_every_role(words: str, in_company: None) -> None:
    frank = User.objects.get(username="frank")  # his entitlements name no role
    indexes_for(lambda: request_options.find_roles(frank, words))
    with plans.watched() as statements:
        request_options.find_roles(frank, words)
    # An index that finds nothing is looked through for each word and selector; a role after the other is a page each.
    read = sum(plans.plan(one, carried_out=True).buffers() for one in statements if one.only_reads)
    assert read < SOME.roles / 3
    every = request_options._open_to(frank).order_by("account__name", "name")
    plain = [
        role
        for role in every
        if all(one in f"{role.name} {role.description} {role.account}".lower() for one in words.split())
        and (len(words) > 2 or role.name.lower().startswith(words) or words in role.account.name)
    ]
    assert request_options.find_roles(frank, words) == plain[: request_options.MOST_FOUND]


def test_the_terms_for_a_selected_role_are_found_by_their_indexes(in_company: None) -> None:
    frank = User.objects.get(username="frank")
    role = request_options.find_roles(frank, "custodian-2")[0]
    found: list[Any] = []
    indexes_for(lambda: found.extend(request_options.choices(frank, role)))
    assert found
    indexes_for_standing(found[0].entitlement.pk, frank.pk, role.pk)
    assert indexes_for(lambda: request_options.find_role(frank, str(role.public_id))) & {
        "requests_app_role_public_id_key"
    }


@pytest.mark.parametrize(
    ("address", "index"),
    [
        ("auditevent/?q=erin", {"event_of_actor", "event_of_beneficiary"}),
        ("auditevent/?q=erin+request.granted", {"event_of_actor", "event_of_beneficiary"}),
        ("auditevent/?action=sign_in.ended", {"event_of_action"}),
        ("auditevent/?id__lt=5000", {"requests_app_auditevent_pkey"}),
        ("accessrequest/?q=erin", {"request_newest_of_beneficiary", "request_newest_of_requester"}),
        ("issuedsession/?q=erin", {"session_of_person"}),
        ("delivery/?q=erin", {"delivery_newest_of_person"}),
        ("notice/?q=erin", {"notice_of_person"}),
        ("decision/?q=olivia", {"decision_of_approver"}),
        ("extension/?q=erin", {"extension_newest_of_person"}),
        ("edit/?q=erin", {"edit_newest_of_editor", "edit_newest_confirmed_by"}),
        ("edit/?q=made:erin", {"edit_newest_of_editor"}),
        ("edit/?q=confirmed:erin", {"edit_newest_confirmed_by"}),
        ("role/?q=incident", {"role_name_search"}),
        ("role/?preflight=refused", {"preflight_by_usable"}),
        ("role/?preflight=good", {"role_by_account"}),
        ("preflight/?usable__exact=bad", {"preflight_by_usable"}),
        ("preflight/?verdict__exact=bad", {"preflight_by_verdict"}),
    ],
)
def test_lists_of_the_record_read_the_rows_that_they_show(address: str, index: set[str], in_company: None) -> None:
    client = signed_in(User.objects.get(pk=crowd.DAVE))
    assert index <= indexes_for(lambda: client.get(f"/admin/requests_app/{address}"))


@pytest.mark.parametrize("who", [crowd.ALICE, crowd.BOB, crowd.ERIN, crowd.OLIVIA])
@pytest.mark.parametrize("address", ["/", "/request/", "/approvals/"])
def test_no_page_reads_a_big_table_whole(who: int, address: str, in_company: None) -> None:
    client = signed_in(User.objects.get(pk=who))
    indexes_for(lambda: client.get(address))


@pytest.mark.parametrize("address", ["/approvals/", "/approvals/updates"])
def test_no_page_loads_more_requests_than_it_shows(
    address: str, in_company: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "MOST_SHOWN", 5)
    bob = User.objects.get(pk=crowd.BOB)
    assert AccessRequest.objects.waiting_for(bob, clock.now()).count() > 30
    client = signed_in(bob)
    with plans.watched() as statements:
        assert client.get(address).status_code == 200
    of_requests = [one for one in statements if one.only_reads and "requests_app_accessrequest" in one.sql]
    assert of_requests
    for one in of_requests:
        # Those that are shown and one more; the number beside "Approvals" counts to 20.
        assert plans.plan(one, carried_out=True).root["Actual Rows"] <= MOST_COUNTED + 1, one.sql


def test_what_an_operator_who_was_alone_left_unconfirmed_holds_nobody_up(in_company: None) -> None:
    olivia, bob = (User.objects.get(pk=key) for key in (crowd.OLIVIA, crowd.BOB))
    by_group = AccessRequest.objects.filter(entitlement__groups__memberships__user=F("beneficiary"))
    pending = by_group.filter(state="pending", stage=1).select_related("role__account__unit")[0]
    for who in (olivia, bob, pending.beneficiary):
        under, role = pending.entitlement_id, pending.role_id
        assert "edit_unconfirmed_of_member" in indexes_for_standing(under, who.pk, role)
    assert facts.standing_of(pending.entitlement_id, olivia.pk, pending.role_id).has_own_edit
    now = clock.now()
    assert "edit_unconfirmed_of_member" in indexes_for(lambda: deciders.facts_of_deciding(pending, olivia, now))
    assert deciders.facts_of_deciding(pending, olivia, now).has_placed
    assert not deciders.facts_of_deciding(pending, bob, now).has_placed
    indexes_for(lambda: workflow.who_can_decide(pending))
    indexes_for(lambda: list(AccessRequest.objects.waiting_for(olivia, clock.now())[:50]))
    client = signed_in(olivia)
    for address in (
        "edit/to-confirm/",
        "edit/?confirmed=no",
        f"group/{bob.memberships.values('group')[:1].get()['group']}/change/",
    ):
        indexes_for(lambda address=address: client.get(f"/admin/requests_app/{address}"))  # type: ignore[misc]


def test_the_own_newest_are_found_by_their_index(in_company: None) -> None:
    # Erin's are all old: whoever went through everybody's, newest first, would read nearly all.
    erin = User.objects.get(pk=crowd.ERIN)
    newest: list[AccessRequest] = []
    used = indexes_for(lambda: newest.extend(reading.newest_of(erin, State, 10)))
    assert {"request_of_beneficiary", "request_of_requester"} <= used
    assert newest == list(AccessRequest.objects.filter(beneficiary=erin).order_by("-asked_at")[:10])


@pytest.mark.django_db
def test_approvers_by_group_and_by_name_are_found_once_in_order(bob: User, carol: User, alice: User) -> None:
    leads = bob.memberships.get().group
    entitlement = factories.entitlement(factories.role(), users=[alice], stages=[([leads, bob, alice], 1)])
    (stage,) = entitlement.terms_now().stages
    assert deciders.approvers(deciders.Question(stage, asking=[alice.pk])) == [bob, carol]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("sweep", "wait"),
    [
        (sweeps.expire_due, timedelta(hours=1)),
        (sweeps.lapse_due, timedelta(days=1)),
        (sweeps.announce_endings, timedelta(minutes=20)),
        (deliveries.sweep, timedelta(hours=1)),
    ],
)
def test_a_sweep_takes_as_many_statements_for_many(
    sweep: Callable[[], int],
    wait: timedelta,
    alice: User,
    bob: User,
    read_only: Role,
    automatic: Entitlement,
    staged: Entitlement,
    aws_clock: AwsClock,
    settings: Any,
) -> None:
    settings.DELIVERIES_PER_PERSON_PER_MINUTE = settings.DELIVERIES_PER_ROLE_PER_MINUTE = 1000

    def statements_for(number: int) -> int:
        for _ in range(number):
            active = factories.wish(alice, read_only, automatic, start="at_once")
            factories.wish(alice, staged.roles.get(), staged)
            factories.delivery(active)
        with clock.moved(wait), plans.watched() as statements:
            assert sweep() == number
        return len(statements)

    assert statements_for(60) == statements_for(3)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "address", ["/approvals/updates?shown={codes}", "/approvals/decide?verdict=approve&code={codes}", "/request/"]
)
def test_other_pages_take_as_many_statements_for_many(
    address: str, alice: User, bob: User, read_only: Role, engineers: Group, leads: Group
) -> None:
    entitlement = factories.entitlement(read_only, groups=[engineers], stages=[(leads, 1)])
    client = signed_in(bob if address.startswith("/approvals") else alice)

    def statements_with(number: int) -> int:
        codes = [factories.wish(alice, read_only, entitlement).code for _ in range(number)]
        name = "shown" if "shown" in address else "code"
        with plans.watched() as statements:
            answer = client.get(address.format(codes=f"&{name}=".join(codes)))
        assert answer.status_code == 200
        return len(statements)

    statements_with(1)
    few = statements_with(3)
    assert statements_with(60) == few


@pytest.mark.django_db
def test_what_a_sweep_writes_for_many_is_what_is_written_for_one(active_request: AccessRequest) -> None:
    User.objects.filter(pk=active_request.beneficiary_id).update(name="")
    active_request.beneficiary.refresh_from_db()
    with clock.moved(timedelta(hours=1)), audit.context(channel="sweep", ip="192.0.2.7", user_agent="beat"):
        assert sweeps.expire_due() == 1
        event = AuditEvent.objects.get(action="request.expired")
        key = audit.record("request.expired", active_request, by=None, at=event.at)
        notices.announce(notices.Kind.ENDED, [active_request], at=event.at)

    by_one = AuditEvent.objects.get(pk=key)
    unlike = {"id", "recorded_at", "transaction_id"}
    fields = [field.attname for field in AuditEvent._meta.fields if field.attname not in unlike]
    assert {name: getattr(event, name) for name in fields} == {name: getattr(by_one, name) for name in fields}
    assert Notice.objects.filter(kind="ended").count() == 1  # it was about the same
