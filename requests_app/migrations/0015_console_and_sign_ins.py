"""What an account's console asks for, and whether sign-in sessions of ended passes were ended too."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('requests_app', '0014_terms_of_agents_and_ends'),
    ]

    operations = [
        migrations.AddField(
            model_name='account',
            name='console_authorization',
            field=models.CharField(blank=True, choices=[('', 'not known'), ('off', 'Off'), ('on', 'On')], db_default='', default='', editable=False, max_length=3),
        ),
        migrations.AddConstraint(
            model_name='account',
            constraint=models.CheckConstraint(condition=models.Q(('console_authorization__in', ['', 'off', 'on'])), name='account_console_authorization_known'),
        ),
        migrations.AddField(
            model_name='denypolicy',
            name='refused_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='denypolicy',
            name='signed_out',
            field=models.JSONField(db_default=models.Value([], models.JSONField()), default=list),
        ),
        migrations.AddField(
            model_name='denypolicy',
            name='sign_in_code',
            field=models.CharField(blank=True, db_default='', max_length=100),
        ),
        migrations.AddField(
            model_name='denypolicy',
            name='sign_in_message',
            field=models.CharField(blank=True, db_default='', max_length=2000),
        ),
        migrations.AddField(
            model_name='denypolicy',
            name='sign_in_advice',
            field=models.CharField(blank=True, db_default='', max_length=1000),
        ),
        migrations.AddField(
            model_name='denypolicy',
            name='sign_in_attempts',
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
    ]
