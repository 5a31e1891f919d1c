from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0022_terms_guards")]

    operations = [
        migrations.AddField(
            model_name="denypolicy",
            name="probe_code",
            field=models.CharField(blank=True, db_default="", max_length=100),
        ),
        migrations.AddField(
            model_name="denypolicy",
            name="probe_message",
            field=models.CharField(blank=True, db_default="", max_length=2000),
        ),
    ]
