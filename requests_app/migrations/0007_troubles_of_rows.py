"""When a row that a sweep could not move is tried again. A small table; code from before writes none of it."""

from django.db import migrations, models

# Those that are known by now, at once: whoever finds them by these names then says when they are over.
KNOWN = r"""
UPDATE requests_app_trouble
SET sweep = split_part(subject, ' ', 1), row = split_part(subject, ' ', 2)::bigint, due_at = last_at
WHERE over_at IS NULL AND subject ~ '^[a-z_]+ [0-9]{1,18}$'
"""


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0006_notices_by_columns")]

    operations = [
        migrations.AddField("trouble", "sweep", models.CharField(editable=False, max_length=64, null=True)),
        migrations.AddField("trouble", "row", models.BigIntegerField(editable=False, null=True)),
        migrations.AddField("trouble", "due_at", models.DateTimeField(editable=False, null=True)),
        migrations.RunSQL(KNOWN, migrations.RunSQL.noop),
    ]
