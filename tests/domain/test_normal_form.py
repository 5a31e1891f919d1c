"""One spelling of an address and of a user name, at every door."""

import importlib
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from allauth.account.models import EmailAddress
from django.apps import apps
from django.core import mail
from django.core.mail.message import sanitize_address
from django.core.validators import EmailValidator
from django.db import IntegrityError, connections, transaction
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from requests_app.domain import normal_form, workflow
from requests_app.domain.errors import Invalid
from requests_app.domain.models import AuditEvent, Notice, User

PASSWORD = "correct horse battery staple"
SPELLINGS = [
    "max.muster@example.com",
    "Max.Muster@Example.com",
    " MAX.MUSTER@EXAMPLE.COM ",
    "max.muster@example.com",
]
migration = importlib.import_module("requests_app.migrations.0003_one_spelling")


def _make() -> User:
    return workflow.people.make_person("Max.Muster@Example.com", username="Max.Muster", password=PASSWORD)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("typed", [*SPELLINGS, "max.muster", "MAX.Muster", "ｍａｘ．muster"])
def test_whoever_was_entered_with_capitals_signs_in_however_they_type(typed: str, client: Client) -> None:
    _make()
    client.post("/accounts/login/", {"login": typed, "password": PASSWORD})
    assert client.get("/").status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("typed", SPELLINGS)
def test_whoever_was_entered_with_capitals_is_sent_a_new_password(typed: str, client: Client) -> None:
    person = _make()
    client.post("/accounts/password/reset/", {"email": typed})
    written_to = [address for one in mail.outbox for address in one.to]
    assert written_to == [person.email] or Notice.objects.filter(recipient=person).exists()


def by_create_user(address: str) -> None:
    User.objects.create_user("max", address)


def by_save(address: str) -> None:
    User(username="max", email=address).save()


def by_bulk_create(address: str) -> None:
    User.objects.bulk_create([User(username="max", email=address)])


def by_update(address: str) -> None:
    by_save("somebody@example.com")
    User.objects.update(email=address)


@pytest.mark.django_db
@pytest.mark.parametrize("make", [by_create_user, by_save, by_bulk_create, by_update])
def test_no_door_of_ours_stores_another_spelling(make: Any) -> None:
    make(" Max.MUSTER@Exämple.com\n")
    assert User.objects.get(username="MAX").email == "max.muster@xn--exmple-cua.com"
    assert User.objects.get(email="max.muster@exämple.COM")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("strings", ["on", "off"])
def test_nor_does_sql(strings: str, app_connection: psycopg.Connection) -> None:
    """Code from before among it: it stores what was typed. Nor by a setting that reads a pattern of ours otherwise."""
    app_connection.execute(f"SET standard_conforming_strings = {strings}")
    app_connection.execute(
        "INSERT INTO requests_app_user (public_id, username, email, name, time_zone, source_identity, is_staff, "
        "is_superuser, password) VALUES (gen_random_uuid(), 'ＭAX ', '\tMax@Example.com ', '', 'UTC', 'abc', false, "
        "false, '')"
    )
    assert User.objects.values_list("username", "email").get() == ("max", "max@example.com")
    with pytest.raises(psycopg.errors.UniqueViolation):
        app_connection.execute(
            "INSERT INTO requests_app_user (public_id, username, email, name, time_zone, source_identity, is_staff, "
            "is_superuser, password) SELECT gen_random_uuid(), 'else', 'MAX@example.com', '', 'UTC', 'abd', false, "
            "false, ''"
        )


@pytest.mark.django_db
def test_two_who_differ_by_case_only_are_one() -> None:
    _make()
    with pytest.raises(Invalid) as refused:
        workflow.people.make_person("MAX.MUSTER@example.com", username="MAX.muster", password=PASSWORD)
    assert refused.value.fields == {
        "email": ["Someone has this address."],
        "username": ["Someone has this user name."],
    }
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user("other", "Max.Muster@EXAMPLE.com")


@pytest.mark.django_db
def test_what_is_recorded_is_what_is_stored() -> None:
    person = _make()
    assert (person.email, person.username) == ("max.muster@example.com", "max.muster")
    assert AuditEvent.objects.get(action="person.made").subject == "max.muster@example.com"


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("x@Straße.de", "x@xn--strae-oqa.de"),
        ("x@STRASSE.de", "x@strasse.de"),
        ("x@βόλος.com", "x@xn--nxasmm1c.com"),
        ("x@نامه\u200cای.com", "x@xn--mgba3gch31f060k.com"),
        ("x@mail。straße.exämple.de", "x@mail.xn--strae-oqa.xn--exmple-cua.de"),
    ],
)
def test_a_domain_is_the_one_that_mail_servers_look_up_today(typed: str, stored: str) -> None:
    """Where it was another's by the rules of 2003: `straße.de` and `strasse.de` may be two owners'."""
    assert normal_form.address(typed) == stored
    assert sanitize_address(normal_form.address(typed), "utf-8") == stored
    EmailValidator()(stored)


@given(st.text() | st.text("@.。aßςſ\u200c\u200d ÖΣ").map("x@{}".format))
def test_a_normal_form_is_its_own(text: str) -> None:
    for form in (normal_form.address, normal_form.user_name):
        assert form(form(text)) == form(text)
        assert form(f" {text}\n") == form(text)


@given(st.text(st.characters(max_codepoint=0x24F)))
def test_capitals_make_no_other_name(text: str) -> None:
    assert normal_form.user_name(text.lower()) == normal_form.user_name(text)


# --- people from before ------------------------------------------------------------------------


def migrate() -> None:
    migration.normalise(apps, SimpleNamespace(connection=connections["owner"]))


@pytest.fixture
def stored(superuser_connection: psycopg.Connection) -> Any:
    """People as rows, as code from before stored them."""

    def store(*people: tuple[str, str], **values: Any) -> list[int]:
        with superuser_connection.transaction():
            superuser_connection.execute("SET LOCAL session_replication_role = replica")
            keys = []
            for username, email in people:
                (key,) = superuser_connection.execute(  # type: ignore[misc]
                    "INSERT INTO requests_app_user (public_id, username, email, name, time_zone, source_identity, "
                    "is_staff, is_superuser, password, deactivated_at, last_login) VALUES (gen_random_uuid(), %s, %s, "
                    "'', 'UTC', left(gen_random_uuid()::text, 20), false, false, '', %s, %s) RETURNING id",
                    [username, email, values.get("deactivated_at"), values.get("last_login")],
                ).fetchone()
                keys.append(key)
            return keys

    return store


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_people_from_before_get_it_and_that_is_on_record(stored: Any) -> None:
    max_, anna = stored(("Max", "Max.Muster@Example.com"), ("anna", "anna@example.com"))
    migrate()
    migrate()

    person = User.objects.get(pk=max_)
    assert (person.username, person.email) == ("max", "max.muster@example.com")
    events = list(AuditEvent.objects.order_by("pk"))
    assert {(event.action, event.actor_name, event.beneficiary_id) for event in events} == {
        ("person.changed", "Daypass", max_)
    }
    assert [event.detail["changes"] for event in events] == [
        {"username": ["Max", "max"]},
        {"email": ["Max.Muster@Example.com", "max.muster@example.com"]},
    ]
    assert User.objects.get(pk=anna).email == "anna@example.com"


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_two_from_before_who_turn_out_to_be_one_stay_two(stored: Any) -> None:
    """Whoever is active, and then whoever signed in last, keeps it; the other's mail goes nowhere, least of all to the
    first one, until an operator has said who they are."""
    (gone,) = stored(("Max", "Max@Example.com"), deactivated_at="2026-01-01", last_login="2026-10-01")
    (used,) = stored(("max ", "max@example.com "), last_login="2026-09-01")
    (never,) = stored(("ｍax", "\tmax@example.com"))
    EmailAddress.objects.create(user_id=never, email="max@example.com", primary=True)
    migrate()
    migrate()

    found = {person.pk: (person.username, person.email) for person in User.objects.all()}
    assert found == {
        used: ("max", "max@example.com"),
        gone: (f"max-{gone}", f"max-{gone}@duplicate.invalid"),
        never: (f"max-{never}", f"max-{never}@duplicate.invalid"),
    }
    assert not EmailAddress.objects.exists()
    event = AuditEvent.objects.filter(beneficiary_id=gone).latest("pk")
    assert event.detail["changes"]["email"] == ["Max@Example.com", f"max-{gone}@duplicate.invalid"]
    assert event.detail["because"] == "another person had it, spelled otherwise"


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_an_address_that_is_none_does_not_stop_it(stored: Any) -> None:
    stored(("", ""), ("A B", "no address"), ("x" * 150, "@"))
    migrate()
    assert set(User.objects.values_list("email", flat=True)) == {"", "no address", "@"}
