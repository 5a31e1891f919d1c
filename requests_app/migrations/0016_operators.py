"""Operators by a column of Daypass's own. Who was one as Django's superuser is one by it.

The code of before goes on with the column of before: a trigger (`domain/database/operators.sql`) follows it. That column is
emptied by the next `migrate`, when that code serves no more.
"""

from django.db import migrations, models

KINDS = [
    *("asked", "reminded", "decided", "issued", "ending_soon", "ended", "not_denied", "unproved", "lifted"),
    *("unexplained", "held", "role_held", "frozen", "thawed", "restored", "stopped", "trouble", "only_one", "accept"),
    *("more_asked", "more_decided", "stuck", "no_use", "nobody", "unconfirmed", "proxy", "factors", "not_scoped"),
    *("operator", "invited", "new_password", "account", "guessed"),
]


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0015_console_and_sign_ins")]

    operations = [
        migrations.AddField(
            model_name="user",
            name="is_operator",
            field=models.BooleanField(db_default=False, default=False, verbose_name="operator"),
        ),
        migrations.RunSQL(
            "UPDATE requests_app_user SET is_operator = true WHERE is_superuser", migrations.RunSQL.noop
        ),
        migrations.AlterField(
            model_name="notice",
            name="kind",
            field=models.CharField(choices=[(kind, kind.replace("_", " ").title()) for kind in KINDS], max_length=12),
        ),
    ]
