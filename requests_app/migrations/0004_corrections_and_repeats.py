"""The catalog can be corrected, texts are stored whole, and what is asked a second time is found.

None of these rewrites a row, and code from before goes on writing what it wrote.
"""

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
import requests_app.domain.models.catalog
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [
        ("requests_app", "0036_correctable_catalog"),
        ("requests_app", "0040_whole_texts"),
        ("requests_app", "0041_idempotency_keys"),
    ]
    dependencies = [("requests_app", "0003_one_spelling")]

    operations = [
        migrations.AlterField(
            model_name="account",
            name="external_id",
            field=models.CharField(
                blank=True,
                max_length=1224,
                validators=[
                    django.core.validators.RegexValidator(
                        "\\A[A-Za-z0-9_+=,.@:/-]{2,}\\Z",
                        "As STS takes it: 2 characters or more, letters, digits and _+=,.@:/-.",
                    )
                ],
            ),
        ),
        migrations.AlterField(
            model_name="role",
            name="name",
            field=models.CharField(max_length=64, validators=[requests_app.domain.models.catalog.check_role_name]),
        ),
        migrations.AlterField(
            model_name="role",
            name="path",
            field=models.CharField(
                default="/elevated/", max_length=512, validators=[requests_app.domain.models.catalog.check_path]
            ),
        ),
        migrations.AddIndex(
            model_name="role",
            index=models.Index(
                django.db.models.functions.text.Lower("name"), models.F("account"), name="role_by_name_in_account"
            ),
        ),
        migrations.AddConstraint(
            model_name="role",
            constraint=models.UniqueConstraint(
                fields=("account", "path", "name"),
                name="role_arn_unique",
                violation_error_message="This role is in the catalog already.",
            ),
        ),
        migrations.AddConstraint(
            model_name="role",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("name"),
                models.F("account"),
                condition=models.Q(("is_active", True)),
                name="role_name_unique_in_use",
                violation_error_message="A role of this name is in use in this account.",
            ),
        ),
        migrations.RemoveConstraint(model_name="role", name="role_name_unique_in_account"),
        migrations.AlterField("accessrequest", "end_reason", models.CharField(blank=True, editable=False, max_length=1000)),
        migrations.AlterField("notice", "about", models.TextField(blank=True, db_default="")),
        migrations.AlterField("auditevent", "subject", models.CharField(blank=True, max_length=300)),
        migrations.CreateModel(
            "IdempotencyKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=64)),
                ("digest", models.CharField(max_length=64)),
                ("result", models.CharField(max_length=64)),
                ("made_at", models.DateTimeField()),
                (
                    "person",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["made_at"], name="idempotency_key_old")],
                "constraints": [models.UniqueConstraint(fields=("person", "key"), name="idempotency_key_once")],
            },
        ),
    ]
