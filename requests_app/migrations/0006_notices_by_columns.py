"""A notice says in columns what it is about, and these make that it is told once; no text is built for that or read.

Code from before goes on writing its `key`, and `about` in words. A trigger gives such rows the columns too, so that what
either version has told the other does not tell again. Trigger, `key` and `about` go with the next version.

No lock is waited for long, none is held while rows are read, and what stopped half-way goes on when it is run again.
"""

import time
from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import OperationalError, migrations, models, transaction

KINDS = [
    "asked", "reminded", "decided", "issued", "ending_soon", "ended", "not_denied", "unproved", "lifted", "unexplained",
    "held", "role_held", "frozen", "thawed", "restored", "stopped", "trouble", "only_one", "accept", "more_asked",
    "more_decided", "stuck", "no_use", "nobody", "unconfirmed", "invited", "new_password", "account",
]  # fmt: skip
POINTS_AT = {
    "extension": "extension",
    "delivery": "delivery",
    "freeze": "freeze",
    "edit": "edit",
    "role": "role",
    "entitlement": "entitlement",
    "event": "auditevent",
}
# A column that is new and empty is not looked through for what it points at; only the check is, later.
COLUMNS = ", ".join(
    [
        *(
            f"ADD COLUMN {name}_id bigint NULL CONSTRAINT requests_app_notice_{name}_id_fk "
            f"REFERENCES requests_app_{table} (id) DEFERRABLE INITIALLY DEFERRED"
            for name, table in POINTS_AT.items()
        ),
        "ADD COLUMN stage smallint NULL",
        "ADD CONSTRAINT requests_app_notice_stage_check CHECK (stage >= 0) NOT VALID",
        "ADD COLUMN state varchar(12) NOT NULL DEFAULT ''",
        "ADD COLUMN moment timestamptz NULL",
        "ADD COLUMN detail jsonb NOT NULL DEFAULT '{}'::jsonb",
        "ALTER COLUMN key DROP NOT NULL",
        # Then code from before does not send what it could not word: it tries again, and another worker has it.
        "ALTER COLUMN about DROP NOT NULL",
        "ALTER COLUMN about DROP DEFAULT",
    ]
)
# Keys were `kind:request:recipient:occasion`. What is in no form that was ever written is told apart by its key.
TRIGGER = r"""
CREATE OR REPLACE FUNCTION notice_of_before() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    told text := split_part(NEW.key, ':', 1);
    about text := concat_ws(':', told, coalesce(NEW.access_request_id::text, ''), NEW.recipient_id, '');
    occasion text := CASE WHEN starts_with(NEW.key, about) THEN substr(NEW.key, length(about) + 1) END;
    number bigint := substring(occasion FROM '([0-9]{1,18})$');
    is_known boolean := false;
BEGIN
    IF told IN ('ended', 'accept') THEN
        is_known := occasion = '';
    ELSIF told = 'decided' THEN
        is_known := occasion IN ('approved', 'denied');
    ELSIF told = 'asked' AND occasion ~ '^stage [0-9]{1,4}$' OR told = 'stuck' AND occasion ~ '^[0-9]{1,4}$' THEN
        NEW.stage := number;
        is_known := true;
    ELSIF told IN ('more_asked', 'stuck') AND occasion ~ '^stage [0-9]{1,4} of extension [0-9]+$' THEN
        NEW.stage := substring(occasion FROM '^stage ([0-9]+)');
        NEW.extension_id := (SELECT id FROM requests_app_extension WHERE id = number);
        is_known := NEW.extension_id IS NOT NULL;
    ELSIF told = 'stuck' AND occasion IN ('pending', 'approved', 'active') THEN
        NEW.kind := 'no_use';
        NEW.state := occasion;
        is_known := true;
    ELSIF told = 'more_decided' AND occasion ~ '^extension [0-9]+$' THEN
        NEW.extension_id := (SELECT id FROM requests_app_extension WHERE id = number);
        is_known := NEW.extension_id IS NOT NULL;
    ELSIF told = 'issued' AND occasion ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
        NEW.delivery_id := (SELECT id FROM requests_app_delivery WHERE public_id = occasion::uuid);
        is_known := NEW.delivery_id IS NOT NULL;
    ELSIF told = 'ending_soon' AND occasion ~ '^[0-9]{1,10}([.][0-9]{1,6})?$' THEN
        NEW.moment := to_timestamp(occasion::double precision);
        is_known := true;
    ELSIF told IN ('frozen', 'thawed', 'restored') AND occasion ~ '^[0-9]+$' THEN
        NEW.freeze_id := (SELECT id FROM requests_app_freeze WHERE id = number);
        is_known := NEW.freeze_id IS NOT NULL;
    ELSIF told = 'not_denied' AND NEW.access_request_id IS NULL AND occasion ~ '^[0-9]{1,18}:[0-9]{1,9}:unproved$' THEN
        NEW.kind := 'unproved';
        NEW.role_id := (SELECT id FROM requests_app_role WHERE id = split_part(occasion, ':', 1)::bigint);
        NEW.detail := jsonb_build_object('generation', split_part(occasion, ':', 2)::bigint);
        is_known := NEW.role_id IS NOT NULL;
    ELSIF told = 'held' AND NEW.access_request_id IS NULL THEN
        NEW.kind := 'role_held';
    ELSIF told = 'unconfirmed' AND occasion ~ '^edit [0-9]+$' THEN
        NEW.edit_id := (SELECT id FROM requests_app_edit WHERE id = number);
        is_known := NEW.edit_id IS NOT NULL;
    END IF;
    IF is_known IS NOT TRUE THEN
        NEW.detail := jsonb_build_object('key', NEW.key);
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER of_before BEFORE INSERT OR UPDATE OF key ON requests_app_notice
    FOR EACH ROW WHEN (NEW.key IS NOT NULL) EXECUTE FUNCTION notice_of_before();
"""
# By the trigger. Of these three kinds the columns from before say all there is, so most rows are left as they are.
CARRY_OVER = """
UPDATE requests_app_notice SET key = key
WHERE id > %(after)s AND id <= %(upto)s AND key IS NOT NULL
  AND num_nonnulls(stage, moment, extension_id, delivery_id, freeze_id, edit_id) = 0 AND state = '' AND detail = '{}'
  AND NOT (kind IN ('ended', 'accept') AND key = concat_ws(':', kind, access_request_id, recipient_id, ''))
  AND NOT (kind = 'decided' AND key IN (concat_ws(':', kind, access_request_id, recipient_id, 'approved'),
                                        concat_ws(':', kind, access_request_id, recipient_id, 'denied')))
"""
ONCE = [
    *("access_request", "kind", "recipient", "moment", "extension", "stage", "state", "delivery"),
    *("freeze", "edit", "role", "entitlement", "detail"),
]
IN_THE_INDEX = ", ".join(
    name if name in ("kind", "moment", "stage", "state", "detail") else f"{name}_id" for name in ONCE
)
UNIQUE = f"""
CREATE UNIQUE INDEX CONCURRENTLY notice_told_once ON requests_app_notice ({IN_THE_INDEX}) NULLS NOT DISTINCT
"""
# Which the new one begins with.
OF_REQUEST = """
SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = 'requests_app_notice'::regclass AND i.indnatts = 1 AND NOT i.indisunique AND i.indpred IS NULL
  AND a.attname = 'access_request_id'
"""
BATCH = 5000
# Shorter than PostgreSQL waits before it looks for a deadlock, and then another try.
WAITS = "500ms"
TRIES = 240
BUSY = ("55P03", "40P01")


def add_columns(apps: Any, schema_editor: Any) -> None:
    there = "SELECT FROM pg_attribute WHERE attrelid = 'requests_app_notice'::regclass AND attname = 'detail'"
    if not _ask(schema_editor, there):
        _gently(schema_editor, f"ALTER TABLE requests_app_notice {COLUMNS}")
    _gently(schema_editor, "ALTER TABLE requests_app_notice VALIDATE CONSTRAINT requests_app_notice_stage_check")
    _gently(schema_editor, TRIGGER)


def carry_over(apps: Any, schema_editor: Any) -> None:
    ((last,),) = _ask(schema_editor, "SELECT coalesce(max(id), 0) FROM requests_app_notice")
    for after in range(0, last, BATCH):
        _gently(schema_editor, CARRY_OVER, {"after": after, "upto": after + BATCH})


def tell_once(apps: Any, schema_editor: Any) -> None:
    if not _ask(schema_editor, "SELECT FROM pg_constraint WHERE conname = 'notice_told_once'"):
        with schema_editor.connection.cursor() as cursor:
            # One that stopped half-way is there, and of no use.
            cursor.execute("DROP INDEX CONCURRENTLY IF EXISTS notice_told_once")
            cursor.execute(UNIQUE)
        _gently(
            schema_editor,
            "ALTER TABLE requests_app_notice ADD CONSTRAINT notice_told_once UNIQUE USING INDEX notice_told_once",
        )
    for (name,) in _ask(schema_editor, OF_REQUEST):
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def _ask(schema_editor: Any, sql: str) -> list[Any]:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _gently(schema_editor: Any, sql: str, values: dict[str, int] | None = None) -> None:
    """In a transaction of its own, which gives way to whoever works, and is tried again."""
    using = schema_editor.connection.alias
    for last in (*(False,) * (TRIES - 1), True):
        try:
            with transaction.atomic(using=using), schema_editor.connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{WAITS}'")
                cursor.execute(sql, values)
            return
        except OperationalError as busy:
            if last or getattr(busy.__cause__, "sqlstate", "") not in BUSY:
                raise
            time.sleep(0.5)


def _points_at(table: str) -> models.ForeignKey:
    return models.ForeignKey(
        db_index=False,
        null=True,
        on_delete=django.db.models.deletion.PROTECT,
        related_name="+",
        to=f"requests_app.{table}",
    )


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("requests_app", "0005_request_begins"), migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.SeparateDatabaseAndState(
            [
                migrations.RunPython(add_columns, migrations.RunPython.noop),
                migrations.RunPython(carry_over, migrations.RunPython.noop),
                migrations.RunPython(tell_once, migrations.RunPython.noop),
            ],
            [
                *(migrations.AddField("notice", name, _points_at(table)) for name, table in POINTS_AT.items()),
                migrations.AddField("notice", "stage", models.PositiveSmallIntegerField(null=True)),
                migrations.AddField(
                    "notice", "state", models.CharField(blank=True, db_default="", default="", max_length=12)
                ),
                migrations.AddField("notice", "moment", models.DateTimeField(null=True)),
                migrations.AddField(
                    "notice",
                    "detail",
                    models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict),
                ),
                migrations.AlterField("notice", "key", models.CharField(editable=False, max_length=120, null=True)),
                migrations.AlterField("notice", "about", models.TextField(editable=False, null=True)),
                migrations.AlterField(
                    "notice",
                    "kind",
                    models.CharField(choices=[(one, one.replace("_", " ").title()) for one in KINDS], max_length=12),
                ),
                migrations.AlterField(
                    "notice",
                    "access_request",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="notices",
                        to="requests_app.accessrequest",
                    ),
                ),
                migrations.AddConstraint(
                    "notice", models.UniqueConstraint(fields=ONCE, name="notice_told_once", nulls_distinct=False)
                ),
            ],
        ),
    ]
