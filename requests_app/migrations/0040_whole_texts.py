"""Room to store whole what was cut before.

None of these rewrites a row, and code from before goes on writing shorter ones.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0036_correctable_catalog")]

    operations = [
        migrations.AlterField("accessrequest", "end_reason", models.CharField(blank=True, editable=False, max_length=1000)),
        migrations.AlterField("notice", "about", models.TextField(blank=True, db_default="")),
        migrations.AlterField("auditevent", "subject", models.CharField(blank=True, max_length=300)),
    ]
