"""Who operates: by Daypass's own column and rights, made by another operator on record or by the owner of the database,
never by the application's word alone; and Django's superuser is nothing more."""

import io
import sys
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, connections
from django.test import Client
from django.urls import reverse

from requests_app.background import mail
from requests_app.domain import clock, deciders, doctor, workflow
from requests_app.domain.audit import Action
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import AuditEvent, Edit, Entitlement, Notice, User
from requests_app.domain.workflow import freezes, operators, own_edits
from requests_app.domain.workflow.freezes import Everything
from tests import factories, letters, servers
from tests.admin.filling import save
from tests.domain.meeting import in_background, wait_until_stuck
from tests.domain.test_installed import Scratch, at_0027  # noqa: F401 - a fixture
from tests.web.pages import signed_in
from tests.web.test_lost_factors import has_factors, with_factor

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])
REFUSED = "made by another one, on record, or by the owner"
LINK = "INSERT INTO requests_app_edit (editor_id, person_id, made_at, change) VALUES (%s, %s, now(), %s)"
MADE = '{"is_operator": [false, true]}'


@pytest.fixture
def peter(db: Any) -> User:
    """Operates too, and is made by nobody here."""
    return factories.person("peter", is_staff=True, is_operator=True)


def told(kind: str = "operator") -> list[str]:
    return sorted(Notice.objects.filter(kind=kind).values_list("recipient__username", flat=True))


def refused_at_the_end(
    connection: psycopg.Connection, *statements: tuple[str, list[Any]], because: str = REFUSED
) -> None:
    def together() -> None:
        with connection.transaction():
            for statement, values in statements:
                connection.execute(statement, values)

    with pytest.raises(psycopg.errors.CheckViolation, match=because):
        together()


def of_now(person: User) -> tuple[bool, bool]:
    person.refresh_from_db()
    return person.is_operator, person.is_superuser


# --- raw SQL, as the application's own role -----------------------------------------------------


@pytest.mark.parametrize("column", ["is_operator", "is_superuser"])
def test_the_application_makes_nobody_an_operator(
    column: str, olivia: User, mallory: User, alice: User, app_connection: psycopg.Connection
) -> None:
    put = app_connection.execute
    with pytest.raises(psycopg.errors.CheckViolation, match=REFUSED):
        put(f"UPDATE requests_app_user SET {column} = true WHERE id = %s", [mallory.pk])
    with pytest.raises(psycopg.errors.CheckViolation, match=REFUSED):
        put(
            f"INSERT INTO requests_app_user (public_id, username, email, name, time_zone, source_identity, is_staff, "
            f"is_superuser, is_operator, password) VALUES (gen_random_uuid(), 'eve', 'eve@example.com', '', 'UTC', "
            f"'eve', true, {column == 'is_superuser'}, {column == 'is_operator'}, '')"
        )
    # However late it is looked at, and whatever is switched.
    for before in ("SET CONSTRAINTS ALL DEFERRED", "SET CONSTRAINTS ALL IMMEDIATE", "SAVEPOINT a"):
        becomes = f"UPDATE requests_app_user SET {column} = true WHERE id = %s"
        refused_at_the_end(app_connection, (before, []), (becomes, [mallory.pk]))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        put("SET session_replication_role = replica")
    # Nor for as long as it takes to confirm something.
    edit = own_edits.note(alice, by=olivia, change={"email": ["a", "b"]})
    refused_at_the_end(
        app_connection,
        (f"UPDATE requests_app_user SET {column} = true WHERE id = %s", [mallory.pk]),
        (
            "UPDATE requests_app_edit SET confirmed_at = now(), confirmed_by_id = %s WHERE id = %s",
            [mallory.pk, edit.pk],
        ),
        ("UPDATE requests_app_user SET is_operator = false, is_superuser = false WHERE id = %s", [mallory.pk]),
    )
    assert set(User.objects.filter(is_operator=True)) == {olivia}
    assert not User.objects.filter(is_superuser=True).exists()


def test_nor_by_an_edit_of_who_is_no_other_operator(
    olivia: User, peter: User, mallory: User, alice: User, app_connection: psycopg.Connection
) -> None:
    put = app_connection.execute
    workflow.people.deactivate(peter, by=olivia)
    confirmed = own_edits.note(mallory, by=olivia, change={"is_operator": [False, True]})
    oscar = factories.person("oscar", is_staff=True, is_operator=True)
    own_edits.confirm(confirmed, by=oscar)
    for editor, change in ((mallory, MADE), (alice, MADE), (peter, MADE), (olivia, '{"name": ["a", "b"]}')):
        becomes = "UPDATE requests_app_user SET is_operator = true WHERE id = %s"
        refused_at_the_end(app_connection, (LINK, [editor.pk, mallory.pk, change]), (becomes, [mallory.pk]))
    assert of_now(mallory) == (False, False)

    # With one it counts, and is in one hand with whoever it names.
    with app_connection.transaction():
        put("UPDATE requests_app_user SET is_operator = true WHERE id = %s", [mallory.pk])
        put(LINK, [olivia.pk, mallory.pk, MADE])
    assert deciders.same_hand(mallory, olivia)
    assert told() == [], "that operators hear of by the edit"


def test_nor_is_one_brought_back(olivia: User, peter: User, app_connection: psycopg.Connection) -> None:
    with factories.vouched():
        workflow.people.deactivate(peter, by=None)
    back = "UPDATE requests_app_user SET deactivated_at = NULL WHERE id = %s"
    with pytest.raises(psycopg.errors.CheckViolation, match=REFUSED):
        app_connection.execute(back, [peter.pk])
    signed_in(olivia).post(reverse("admin:bring_back_person", args=[peter.pk]))
    assert User.objects.get(pk=peter.pk).is_active
    assert deciders.same_hand(peter, olivia)


WAYS = {
    "address": "UPDATE requests_app_user SET email = 'eve@example.com' WHERE id = {}",
    "factor gone": "DELETE FROM mfa_authenticator WHERE user_id = {}",
    "factor new": "INSERT INTO mfa_authenticator (user_id, type, data, created_at) "
    "VALUES ({}, 'webauthn', '{{}}', now())",
    "factor replaced": "UPDATE mfa_authenticator SET data = '{{\"credential\": {{}}}}' WHERE user_id = {}",
    "factor of another kind": "UPDATE mfa_authenticator SET type = 'webauthn' WHERE user_id = {}",
    "factor moved": "UPDATE mfa_authenticator SET user_id = (SELECT max(id) FROM requests_app_user) WHERE user_id = {}",
}


@pytest.mark.parametrize("way", WAYS)
def test_nor_gets_a_way_in_as_one(
    way: str, olivia: User, peter: User, mallory: User, app_connection: psycopg.Connection
) -> None:
    with_factor(peter)
    with_factor(mallory)
    last = factories.person("zoe")
    put, change = app_connection.execute, WAYS[way]
    with pytest.raises(psycopg.errors.CheckViolation, match="changes on record, or by the owner"):
        put(change.format(peter.pk))
    peter.refresh_from_db()
    assert (peter.email, has_factors(peter), has_factors(last)) == ("peter@example.com", True, False)
    if way != "factor moved":  # that one would have two
        put(change.format(mallory.pk))

    # On record, it is known who: another operator, who is in one hand with them then.
    with app_connection.transaction():
        put(change.format(peter.pk).replace("eve", "eve2"))
        put(LINK, [olivia.pk, peter.pk, '{"email": ["a", "b"], "second factor": ["a", ""]}'])
    assert deciders.same_hand(olivia, peter)


ENDS = {
    "their part": "UPDATE requests_app_user SET is_operator = false WHERE id = ANY(%s)",
    "themselves": "UPDATE requests_app_user SET deactivated_at = now() WHERE id = ANY(%s)",
}


@pytest.mark.parametrize("end", ENDS)
def test_nobody_becomes_the_only_one_past_our_code(
    end: str, olivia: User, peter: User, mallory: User, app_connection: psycopg.Connection
) -> None:
    """Who is alone may lift what they froze; so others are made none only by who says so."""
    quinn = factories.person("quinn", is_staff=True, is_operator=True)
    put = app_connection.execute
    refused = "becomes the only operator but on record"
    for before in (("SELECT 1", []), (LINK, [mallory.pk, olivia.pk, MADE])):
        refused_at_the_end(app_connection, before, (ENDS[end], [[peter.pk, quinn.pk]]), because=refused)
    # No end is refused while there are two.
    put(ENDS[end], [[quinn.pk]])
    with pytest.raises(psycopg.errors.CheckViolation, match=refused):
        put(ENDS[end], [[peter.pk]])
    assert of_now(peter) == (True, False)

    # On record they count, until another has confirmed it.
    with app_connection.transaction():
        put(ENDS[end], [[peter.pk]])
        put(LINK, [olivia.pk, peter.pk, '{"is_operator": [true, false]}'])
    assert not operators.operates_alone(olivia)
    # And the last one may go too.
    put(ENDS[end], [[olivia.pk]])


def test_of_two_whose_end_nobody_recorded_at_once_one_stays(
    olivia: User, peter: User, app_connection: psycopg.Connection
) -> None:
    quinn = factories.person("quinn", is_staff=True, is_operator=True)
    with app_connection.transaction():
        app_connection.execute(ENDS["their part"], [[quinn.pk]])
        app_connection.execute("SET CONSTRAINTS ALL IMMEDIATE")

        def end_of_peter() -> None:
            User.objects.filter(pk=peter.pk).update(is_operator=False)

        second = in_background(end_of_peter)
        wait_until_stuck([second])
    with pytest.raises(IntegrityError, match="becomes the only operator"):
        second.result(timeout=20)
    assert set(User.objects.operators()) == {olivia, peter}


def test_what_an_operator_changes_of_their_own_goes_on(olivia: User, peter: User, dave: User, alice: User) -> None:
    hers = signed_in(olivia)
    assert (
        save(hers, reverse("admin:requests_app_user_change", args=[olivia.pk]), email="o@example.com").status_code
        == 302
    )
    olivia.refresh_from_db()
    assert olivia.email == "o@example.com"
    # It is another way in, and so all operators and auditors hear of it.
    assert told("factors") == ["dave", "peter"]
    assert letters.sentence(Notice.objects.filter(kind="factors")[0]) == (
        "The operator Olivia gave their own account another address. Mail to them, and links to choose a password, "
        "go there now."
    )


# --- the owner, and the server -------------------------------------------------------------------


def test_what_the_owner_does_by_hand_is_on_record_and_told(
    olivia: User, dave: User, alice: User, owner_connection: psycopg.Connection
) -> None:
    owner_connection.execute("UPDATE requests_app_user SET is_operator = true WHERE id = %s", [alice.pk])

    event = AuditEvent.objects.get(action=Action.OPERATOR_MADE)
    assert (event.actor, event.actor_name, event.beneficiary) == (None, "daypass_owner", alice)
    assert (event.channel, event.subject) == ("database", alice.email)
    assert told() == ["alice", "dave", "olivia"]
    mail.send_due()
    assert {one.subject for one in letters.sent()} == {"A new operator: Alice (Daypass)"}
    first = letters.text(Notice.objects.filter(kind="operator")[0])
    assert "Alice is an operator now. No operator made them one" in first
    assert "daypass_owner" in first


def test_the_server_makes_one_and_all_operators_and_auditors_hear_at_once(
    olivia: User, dave: User, alice: User, bob: User
) -> None:
    call_command("make_operator", alice.email, stdout=io.StringIO())

    assert of_now(alice) == (True, False)
    assert AuditEvent.objects.filter(action=Action.OPERATOR_MADE, channel="command").count() == 1
    assert not AuditEvent.objects.filter(channel="database").exists(), "it is told once"
    assert told() == ["alice", "dave", "olivia"]
    assert not deciders.same_hand(alice, olivia)


@pytest.mark.parametrize("command", [["make_operator", "new@example.com"], ["make_operator", "mallory@example.com"]])
def test_without_the_owner_the_server_makes_nobody(
    command: list[str], mallory: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a serving container, or for whoever got hold of the application's password."""
    monkeypatch.delitem(connections.databases, "owner")
    monkeypatch.setattr(sys, "stdin", io.StringIO("correct horse battery staple\n"))
    with pytest.raises(CommandError, match="DATABASE_OWNER_URL"):
        call_command(*command, stdout=io.StringIO())
    assert not User.objects.filter(is_operator=True).exists()
    assert User.objects.count() == 1


def test_nor_takes_anybodys_factor(olivia: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(connections.databases, "owner")
    with pytest.raises(CommandError, match="DATABASE_OWNER_URL"):
        call_command("remove_second_factors", olivia.email, reason="lost", stdout=io.StringIO())


def test_where_one_role_is_both_it_works_and_doctor_says_so(
    alice: User, monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any
) -> None:
    owner, default = connections["owner"], connections["default"]
    assert not list(doctor._roles_in_the_database())
    monkeypatch.delitem(connections.databases, "owner")
    connections["default"] = owner
    try:
        call_command("make_operator", alice.email, stdout=io.StringIO())
        (finding,) = doctor._roles_in_the_database()
    finally:
        connections["default"] = default
    assert of_now(alice) == (True, False)
    assert finding.verdict == doctor.Outcome.BAD
    assert "owns the tables" in finding.sentence


# --- Django's superuser ---------------------------------------------------------------------------


def make_superuser() -> User:
    call_command(
        "createsuperuser", database="owner", interactive=False, username="root", email="root@example.com",
        stdout=io.StringIO(),
    )  # fmt: skip
    return User.objects.get(username="root")


def test_making_a_superuser_leaves_an_event_and_a_notice(olivia: User, dave: User, alice: User) -> None:
    root = make_superuser()

    assert of_now(root) == (True, True)
    event = AuditEvent.objects.get(action=Action.SUPERUSER_MADE)
    assert (event.actor_name, event.beneficiary, event.channel) == ("daypass_owner", root, "database")
    assert told() == ["dave", "olivia", "root"]
    assert "root was made a superuser of Django's" in letters.text(Notice.objects.filter(kind="operator")[0])
    (finding,) = doctor._superusers()
    assert (finding.verdict, "root" in finding.sentence) == (doctor.Outcome.BAD, True)

    with pytest.raises(CommandError, match="make_operator"):
        call_command("createsuperuser", interactive=False, username="two", email="two@example.com")


def test_a_superuser_may_nothing_that_an_operator_may_not(
    olivia: User, peter: User, dave: User, alice: User, staged: Entitlement
) -> None:
    root = make_superuser()
    known = Permission.objects.values_list("content_type__app_label", "codename")
    every = {f"{app}.{codename}" for app, codename in known}
    may = {person.username: {one for one in every if person.has_perm(one)} for person in (olivia, root, dave, alice)}
    assert may["root"] == may["olivia"] > may["dave"] > may["alice"] == set()
    assert not any(".delete_" in one for one in may["root"])
    assert not any(root.has_module_perms(app) for app in ("account", "mfa", "sessions", "usersessions"))
    # Nor past the second pair of eyes: their own edit, their own freeze.
    edit = own_edits.note(staged, by=root, change={"name": ["a", "b"]})
    with pytest.raises(NotAllowed):
        own_edits.confirm(edit, by=root)
    freeze = freezes.freeze(Everything(), by=root, reason="x")
    freezes.lift(freeze, by=root)
    with pytest.raises(NotAllowed):
        freezes.lift(freeze, by=root)
    # Nor their own rights in the admin.
    at = reverse("admin:requests_app_user_change", args=[root.pk])
    assert save(signed_in(root), at, is_operator=None, is_superuser="on").status_code == 302
    assert of_now(root) == (True, True)


def test_no_form_makes_a_superuser_and_taking_the_operator_takes_that_too(olivia: User, peter: User) -> None:
    root, hers = make_superuser(), signed_in(olivia)
    at = reverse("admin:requests_app_user_change", args=[peter.pk])
    assert save(hers, at, is_superuser="on", name="Pete").status_code == 302
    assert of_now(peter) == (True, False)

    save(hers, reverse("admin:requests_app_user_change", args=[root.pk]), is_operator=None)
    assert of_now(root) == (False, False)


def test_nobody_deactivated_may_anything(olivia: User) -> None:
    olivia.deactivated_at = clock.now()
    olivia.save()
    olivia.refresh_from_db()
    assert not olivia.has_perm("requests_app.view_user")
    assert not olivia.has_module_perms("requests_app")


# --- while the code of before serves --------------------------------------------------------------


def test_the_code_of_before_makes_and_unmakes_operators_by_its_column(
    olivia: User, alice: User, app_connection: psycopg.Connection
) -> None:
    put = app_connection.execute
    with app_connection.transaction():
        put("UPDATE requests_app_user SET is_superuser = true, is_staff = true WHERE id = %s", [alice.pk])
        put(LINK, [olivia.pk, alice.pk, '{"is_superuser": [false, true]}'])
    assert of_now(alice) == (True, True)
    assert "alice" in told()
    put("UPDATE requests_app_user SET is_superuser = false WHERE id = %s", [alice.pk])
    assert of_now(alice) == (False, False)


def test_an_upgrade_keeps_operators_and_the_next_migrate_ends_superusers(at_0027: Scratch) -> None:  # noqa: F811
    who = "SELECT username, is_operator, is_superuser FROM requests_app_user WHERE is_operator OR is_superuser"
    before = at_0027.execute("SELECT username FROM requests_app_user WHERE is_superuser ORDER BY 1")
    assert before
    servers._migrate(at_0027.name)
    servers.point_django_at(at_0027.name)
    assert at_0027.execute(f"{who} ORDER BY 1") == [(name, True, True) for (name,) in before]

    servers._migrate(at_0027.name)
    assert at_0027.execute(f"{who} ORDER BY 1") == [(name, True, False) for (name,) in before]
    assert at_0027.execute("SELECT count(*) FROM requests_app_auditevent WHERE channel = 'database'") == [(0,)]


def test_whom_somebody_made_a_superuser_stays_one(olivia: User) -> None:
    root = make_superuser()
    call_command("migrate", database="owner", verbosity=0, interactive=False)
    assert of_now(root) == (True, True)


# --- how many there are ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["nobody", "deactivated", "untaken", "confirmed", "new"])
def test_one_relation_says_how_many_operate_and_how_many_count(
    how: str, olivia: User, peter: User, alice: User, client: Client
) -> None:
    """`operates`: who does now. Counted: those too whom somebody removed, before another has confirmed that."""
    third = factories.person("third", is_staff=True, is_operator=True) if how == "confirmed" else None
    if how in ("deactivated", "confirmed"):
        workflow.people.deactivate(peter, by=olivia)
    elif how == "untaken":
        save(signed_in(olivia), reverse("admin:requests_app_user_change", args=[peter.pk]), is_operator=None)
    elif how == "new":
        save(
            signed_in(olivia),
            reverse("admin:requests_app_user_change", args=[alice.pk]),
            is_operator="on",
            is_staff="on",
        )
    if third:
        for edit in Edit.objects.all():
            own_edits.confirm(edit, by=third)
        with factories.vouched():
            workflow.people.deactivate(third, by=None)

    operate = set(User.objects.operators())
    assert operators.the_only_one() == (olivia if operate == {olivia} else None)
    assert (operators.the_only_one() is not None) is (how in ("deactivated", "untaken", "confirmed"))
    assert operators.operates_alone(olivia) is (how == "confirmed")
    assert not operators.operates_alone(alice)
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT person_id, operates FROM requests_app_counted_operators()")
        rows = cursor.fetchall()
    assert len({key for key, _ in rows}) == len(rows)
    assert {key for key, does in rows if does} == {one.pk for one in operate}
    assert {key for key, does in rows if not does} == ({peter.pk} if how in ("deactivated", "untaken") else set())
