"""Whether a history may be written, in which epoch of sign-ins somebody is, and whether they have chosen their time zone."""

from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("requests_app", "0028_moments"), ("requests_app", "0030_sign_ins_end")]
    dependencies = [
        ("requests_app", "0001_tables"),
        # Triggers of ours are on their tables.
        ("sessions", "0001_initial"),
        ("usersessions", "0001_initial"),
        ("mfa", "0003_authenticator_type_uniq"),
    ]

    operations = [
        migrations.AddField("installation", "history_from", models.DateTimeField(null=True)),
        migrations.AddField(
            "user", "sign_in_epoch", models.PositiveIntegerField(db_default=0, default=0, editable=False)
        ),
        migrations.AddField(
            "user", "time_zone_chosen", models.BooleanField(db_default=False, default=False, editable=False)
        ),
    ]
