"""One spelling of each person's address and user name, for those who are there and for whoever comes by any door.

What code from before stores is brought into it by the trigger. Where two people turn out to have one address, spelled
otherwise, both stay: whoever is active, then whoever signed in last, then who was made first keeps it. The other gets one
under `duplicate.invalid`, to which no mail goes and by which nobody gets in, until an operator enters the right one; a
user name gets the person's number. Each change is an event of the record.
"""

import itertools
from collections import defaultdict
from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models, transaction
from django.db.models.functions import Now

import django.contrib.auth.validators
import requests_app.domain.models.people
from requests_app.domain import normal_form

# Here too, so that code that serves meanwhile is held to it. Python knows more of it (a domain's other letters, and small
# letters where the database was made with the locale C).
TRIGGER = r"""
CREATE OR REPLACE FUNCTION requests_app_normal(typed text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT regexp_replace(normalize(lower(normalize(typed, NFKC)), NFKC), '^\s+|\s+$', '', 'g')
$$;
CREATE OR REPLACE FUNCTION requests_app_normalise_user() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.username <> OLD.username THEN
        NEW.username := requests_app_normal(NEW.username);
    END IF;
    IF TG_OP = 'INSERT' OR NEW.email <> OLD.email THEN
        NEW.email := requests_app_normal(NEW.email);
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS normal_names ON requests_app_user;
CREATE TRIGGER normal_names BEFORE INSERT OR UPDATE OF username, email ON requests_app_user
    FOR EACH ROW EXECUTE FUNCTION requests_app_normalise_user();
"""
# What is in no transaction may stop anywhere, and is then run again from its beginning. This is one by itself.
UNIQUE = """
ALTER TABLE requests_app_user
    DROP CONSTRAINT IF EXISTS user_one_username, DROP CONSTRAINT IF EXISTS user_one_email;
ALTER TABLE requests_app_user
    ADD CONSTRAINT user_one_username UNIQUE (username), ADD CONSTRAINT user_one_email UNIQUE (email);
DROP INDEX IF EXISTS user_username_unique, user_email_unique, user_by_username;
"""
BECAUSE = "another person had it, spelled otherwise"
BATCH = 5000
KINDS = [
    "asked", "reminded", "decided", "issued", "ending_soon", "ended", "not_denied", "lifted", "held", "frozen",
    "thawed", "restored", "stopped", "trouble", "accept", "more_asked", "more_decided", "stuck", "nobody",
    "unconfirmed", "invited", "new_password", "account",
]  # fmt: skip
FORMS = {"username": normal_form.user_name, "email": normal_form.address}


def normalise(apps: Any, schema_editor: Any) -> None:
    """May be run again: each person is a transaction of their own."""
    people = apps.get_model("requests_app", "User").objects.using(schema_editor.connection.alias)
    for field, form in FORMS.items():
        others = defaultdict(list)
        for pk, value in people.values_list("pk", field).iterator(2000):
            if form(value) != value:
                others[form(value)].append(pk)
        for value, keys in others.items():
            # Who has it already is not among those.
            concerned = people.filter(models.Q(pk__in=keys) | models.Q(**{field: value})).order_by(
                models.F("deactivated_at").asc(nulls_first=True), models.F("last_login").desc(nulls_last=True), "pk"
            )
            first, *more = concerned.values_list("pk", flat=True)
            for pk in more:
                _give(apps, people, pk, field, _free(people, field, value, pk), because=BECAUSE)
            _give(apps, people, first, field, value)


def _free(people: Any, field: str, taken: str, pk: int) -> str:
    for more in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
        value = f"{taken.partition('@')[0][:60]}-{pk}{more}" + ("@duplicate.invalid" if field == "email" else "")
        if not people.filter(**{field: value}).exists():
            return value
    raise AssertionError


def _give(apps: Any, people: Any, pk: int, field: str, value: str, **detail: str) -> None:
    with transaction.atomic(using=people.db):
        person = people.select_for_update(no_key=True).get(pk=pk)
        before = getattr(person, field)
        if before == value:
            return
        people.filter(pk=pk).update(**{field: value})
        if field == "email":
            # By what they had before nobody is found any more.
            addresses = apps.get_model("account", "EmailAddress").objects.using(people.db)
            addresses.filter(user_id=pk).exclude(email=value).delete()
        events = apps.get_model("requests_app", "AuditEvent").objects.using(people.db)
        events.create(
            at=Now(),
            action="person.changed",
            actor_name="Daypass",
            beneficiary_id=pk,
            beneficiary_name=(person.name or person.username)[:150],
            subject=(person.name or person.username)[:200],
            channel="system",
            detail={"kind": "person", "id": pk, "changes": {field: [before, value]}, **detail},
        )


def _one(field: str, sentence: str) -> models.UniqueConstraint:
    return models.UniqueConstraint(
        fields=[field], name=f"user_one_{field}", violation_error_code="unique", violation_error_message=sentence
    )


def forget_addresses(apps: Any, schema_editor: Any) -> None:
    """They came of asking for a new password, by anybody, and kept the person from setting up a second factor."""
    addresses = apps.get_model("account", "EmailAddress").objects.using(schema_editor.connection.alias)
    while some := list(addresses.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        addresses.filter(pk__in=some).delete()


class Migration(migrations.Migration):
    atomic = False
    replaces = [
        ("requests_app", "0031_normal_names"),
        ("requests_app", "0032_account_mail"),
        ("requests_app", "0033_notices_with_links"),
    ]
    dependencies = [
        ("requests_app", "0002_sign_ins_and_moments"),
        ("account", "0009_emailaddress_unique_primary_email"),
    ]

    operations = [
        migrations.RunSQL(TRIGGER, migrations.RunSQL.noop),
        migrations.AlterField(
            "user",
            "username",
            requests_app.domain.models.people.UserName(
                max_length=150, validators=[django.contrib.auth.validators.UnicodeUsernameValidator()]
            ),
        ),
        migrations.AlterField("user", "email", requests_app.domain.models.people.Address(max_length=254)),
        migrations.AlterModelManagers("user", [("objects", requests_app.domain.models.people.People())]),
        migrations.RunPython(normalise, migrations.RunPython.noop),
        # By which they are looked for now, too.
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL(UNIQUE, migrations.RunSQL.noop)],
            [
                migrations.AddConstraint("user", _one("username", "Someone has this user name.")),
                migrations.AddConstraint("user", _one("email", "Someone has this address.")),
                migrations.RemoveConstraint("user", "user_username_unique"),
                migrations.RemoveConstraint("user", "user_email_unique"),
                migrations.RemoveIndex("user", "user_by_username"),
            ],
        ),
        migrations.AlterField(
            model_name="notice",
            name="kind",
            field=models.CharField(choices=[(one, one.replace("_", " ").title()) for one in KINDS], max_length=12),
        ),
        migrations.RunPython(forget_addresses, migrations.RunPython.noop),
        # One that stopped half-way is there, and of no use.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS notice_of_link", migrations.RunSQL.noop),
        # How many links somebody was sent lately, and when they were invited: without reading all of their mail, which
        # goes on being written.
        AddIndexConcurrently(
            "notice",
            models.Index(
                fields=["recipient", "kind", "-id"],
                condition=models.Q(kind__in=["invited", "new_password"]),
                name="notice_of_link",
            ),
        ),
    ]
