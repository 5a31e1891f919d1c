"""How many links somebody was sent lately, and when they were invited: without reading all of their mail."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # mail goes on being written
    dependencies = [("requests_app", "0032_account_mail")]

    operations = [
        AddIndexConcurrently(
            "notice",
            models.Index(
                fields=["recipient", "kind", "-id"],
                condition=models.Q(kind__in=["invited", "new_password"]),
                name="notice_of_link",
            ),
        )
    ]
