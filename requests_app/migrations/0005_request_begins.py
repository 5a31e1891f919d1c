"""Which of those that start at once could begin by now: made beside the old code, which does not look at it."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("requests_app", "0004_corrections_and_repeats")]

    operations = [
        AddIndexConcurrently(
            "accessrequest",
            models.Index(
                Cast(KeyTextTransform("start_within_seconds", "terms_document"), models.IntegerField()),
                "start_by",
                condition=models.Q(state="approved", start="at_once"),
                name="request_begins",
            ),
        ),
    ]
