"""Mail about how people sign in, and no rows of allauth's about addresses: operators keep these."""

from typing import Any

from django.db import migrations, models

BATCH = 5000
KINDS = [
    "asked", "reminded", "decided", "issued", "ending_soon", "ended", "not_denied", "lifted", "held", "frozen",
    "thawed", "restored", "stopped", "trouble", "accept", "more_asked", "more_decided", "stuck", "nobody",
    "unconfirmed", "invited", "new_password", "account",
]  # fmt: skip


def forget_addresses(apps: Any, schema_editor: Any) -> None:
    """They came of asking for a new password, by anybody, and kept the person from setting up a second factor."""
    addresses = apps.get_model("account", "EmailAddress").objects.using(schema_editor.connection.alias)
    while some := list(addresses.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        addresses.filter(pk__in=some).delete()


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("requests_app", "0031_normal_names"), ("account", "0002_email_max_length")]

    operations = [
        migrations.AlterField(
            model_name="notice",
            name="kind",
            field=models.CharField(choices=[(one, one.replace("_", " ").title()) for one in KINDS], max_length=12),
        ),
        migrations.RunPython(forget_addresses, migrations.RunPython.noop),
    ]
