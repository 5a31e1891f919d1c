"""What pages and addresses call by a public id, and the indexes by which the admin finds edits and extensions.

Code from before this leaves the new columns to their defaults.
"""

import uuid

import django.contrib.postgres.functions
from django.db import migrations, models

# Whoever holds an address must not come to something else by it.
KEEP = """
CREATE FUNCTION requests_app_keep_public_id() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_refuse('a public id never changes');
    RETURN NULL;
END $$;
""" + "".join(
    f"""
CREATE TRIGGER public_id BEFORE UPDATE ON requests_app_{table}
    FOR EACH ROW WHEN (NEW.public_id IS DISTINCT FROM OLD.public_id) EXECUTE FUNCTION requests_app_keep_public_id();
"""
    for table in ("entitlement", "extension", "freeze")
)


def _public_id() -> models.Field:
    made = django.contrib.postgres.functions.RandomUUID()
    return models.UUIDField(db_default=made, default=uuid.uuid4, editable=False, unique=True)


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0023_probe_words")]

    operations = [
        *(migrations.AddField(name, "public_id", _public_id()) for name in ("entitlement", "extension", "freeze")),
        migrations.RunSQL(KEEP, migrations.RunSQL.noop),
        migrations.AddIndex("edit", models.Index(fields=["editor", "-id"], name="edit_newest_of_editor")),
        migrations.AddIndex("edit", models.Index(fields=["confirmed_by", "-id"], name="edit_newest_confirmed_by")),
        migrations.AddIndex("extension", models.Index(fields=["asked_by", "-id"], name="extension_newest_of_person")),
    ]
