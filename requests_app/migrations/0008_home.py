from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0007_preflight_schedule")]

    operations = [
        migrations.AddField("installation", "home", models.CharField(blank=True, db_default="", max_length=64)),
    ]
