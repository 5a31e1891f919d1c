"""Terms that refuse what comes through AWS's AI gateway, and keys that only their policy would end."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('requests_app', '0013_sessions_ended_by_sts'),
    ]

    operations = [
        migrations.AddField(
            model_name='entitlement',
            name='ends_by_sts_only',
            field=models.BooleanField(db_default=False, default=False, help_text="To the second, by STS (sts:GetScopedCredentials): never by the session's policy alone. Where AWS refuses that, nothing is issued.", verbose_name='only where AWS itself ends the keys'),
        ),
        migrations.AddField(
            model_name='entitlement',
            name='not_through_mcp',
            field=models.BooleanField(db_default=False, default=False, help_text="Denies what comes through AWS's MCP server. That is all it catches: an AI agent that has the keys and calls AWS by itself looks like the person.", verbose_name="not through AWS's AI gateway"),
        ),
    ]
