"""What ends a session, and whose parent its keys were scoped from; what preflights know of scoping."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('requests_app', '0012_second_factor_demanded'),
    ]

    operations = [
        migrations.AddField(
            model_name='awsclock',
            name='scoped_console',
            field=models.BooleanField(null=True),
        ),
        migrations.AddField(
            model_name='issuedsession',
            name='ends_by',
            field=models.CharField(choices=[('sts', 'STS, to the second'), ('policy', 'its policy')], db_default='policy', default='policy', max_length=6),
        ),
        migrations.AddField(
            model_name='issuedsession',
            name='fell_back',
            field=models.CharField(blank=True, db_default='', max_length=100),
        ),
        migrations.AddField(
            model_name='issuedsession',
            name='parent_access_key_id',
            field=models.CharField(blank=True, db_default='', max_length=128),
        ),
        migrations.AddField(
            model_name='issuedsession',
            name='parent_expires_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='issuedsession',
            name='session_token_utilization',
            field=models.PositiveSmallIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='preflight',
            name='scoping',
            field=models.CharField(blank=True, choices=[('', 'not known'), ('works', 'Works'), ('refused', 'Refused')], db_default='', default='', max_length=7),
        ),
        migrations.AlterField(
            model_name='notice',
            name='kind',
            field=models.CharField(choices=[('asked', 'Asked'), ('reminded', 'Reminded'), ('decided', 'Decided'), ('issued', 'Issued'), ('ending_soon', 'Ending Soon'), ('ended', 'Ended'), ('not_denied', 'Not Denied'), ('unproved', 'Unproved'), ('lifted', 'Lifted'), ('unexplained', 'Unexplained'), ('held', 'Held'), ('role_held', 'Role Held'), ('frozen', 'Frozen'), ('thawed', 'Thawed'), ('restored', 'Restored'), ('stopped', 'Stopped'), ('trouble', 'Trouble'), ('only_one', 'Only One'), ('accept', 'Accept'), ('more_asked', 'More Asked'), ('more_decided', 'More Decided'), ('stuck', 'Stuck'), ('no_use', 'No Use'), ('nobody', 'Nobody'), ('unconfirmed', 'Unconfirmed'), ('proxy', 'Proxy'), ('factors', 'Factors'), ('not_scoped', 'Not Scoped'), ('invited', 'Invited'), ('new_password', 'New Password'), ('account', 'Account'), ('guessed', 'Guessed')], max_length=12),
        ),
        migrations.AddConstraint(
            model_name='issuedsession',
            constraint=models.UniqueConstraint(condition=models.Q(('parent_access_key_id', ''), _negated=True), fields=('parent_access_key_id',), name='session_parent_key_unique'),
        ),
        migrations.AddConstraint(
            model_name='issuedsession',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('ends_by', 'sts'), _negated=True), models.Q(models.Q(('parent_access_key_id', ''), _negated=True), ('parent_expires_at__isnull', False)), _connector='OR'), name='session_ended_by_sts_has_parent'),
        ),
        migrations.AddConstraint(
            model_name='issuedsession',
            constraint=models.CheckConstraint(condition=models.Q(('ends_by__in', ['sts', 'policy'])), name='session_end_known'),
        ),
        migrations.AddConstraint(
            model_name='preflight',
            constraint=models.CheckConstraint(condition=models.Q(('scoping__in', ['', 'works', 'refused'])), name='preflight_scoping_known'),
        ),
    ]
