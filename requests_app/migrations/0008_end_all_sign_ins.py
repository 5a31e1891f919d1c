"""The rows of sign-ins so far are keys that open them; those from now on are not, and who is signed in signs in anew."""

from django.db import migrations

FORGET = "DELETE FROM django_session; DELETE FROM usersessions_usersession;"


class Migration(migrations.Migration):
    dependencies = [
        ("requests_app", "0007_troubles_of_rows"),
        ("sessions", "0001_initial"),
        ("usersessions", "0001_initial"),
    ]

    operations = [migrations.RunSQL(FORGET, migrations.RunSQL.noop)]
