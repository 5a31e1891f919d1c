"""A kind of mail to those who answer for Daypass: an operator's second factors changed, or somebody's were removed."""

from django.db import migrations, models

KINDS = [
    *("asked", "reminded", "decided", "issued", "ending_soon", "ended", "not_denied", "unproved", "lifted"),
    *("unexplained", "held", "role_held", "frozen", "thawed", "restored", "stopped", "trouble", "only_one", "accept"),
    *("more_asked", "more_decided", "stuck", "no_use", "nobody", "unconfirmed", "proxy", "factors", "invited"),
    *("new_password", "account", "guessed"),
]


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0010_who_placed_whom")]

    operations = [
        migrations.AlterField(
            model_name="notice",
            name="kind",
            field=models.CharField(choices=[(kind, kind.replace("_", " ").title()) for kind in KINDS], max_length=12),
        ),
    ]
