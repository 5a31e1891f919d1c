"""Whoever made a person, or changed how they sign in or what they may, is noted as an edit of theirs."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('requests_app', '0009_attempts_in_rows'),
    ]

    operations = [
        migrations.AddField(
            model_name='edit',
            name='person',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='edits_of', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddIndex(
            model_name='edit',
            index=models.Index(condition=models.Q(('confirmed_at', None), ('person__isnull', False)), fields=['person', 'editor'], name='edit_unconfirmed_of_person'),
        ),
        migrations.AddIndex(
            model_name='edit',
            index=models.Index(condition=models.Q(('confirmed_at', None), ('person__isnull', False)), fields=['editor', 'person'], name='edit_unconfirmed_placing'),
        ),
        migrations.AlterField(
            model_name='notice',
            name='kind',
            field=models.CharField(choices=[('asked', 'Asked'), ('reminded', 'Reminded'), ('decided', 'Decided'), ('issued', 'Issued'), ('ending_soon', 'Ending Soon'), ('ended', 'Ended'), ('not_denied', 'Not Denied'), ('unproved', 'Unproved'), ('lifted', 'Lifted'), ('unexplained', 'Unexplained'), ('held', 'Held'), ('role_held', 'Role Held'), ('frozen', 'Frozen'), ('thawed', 'Thawed'), ('restored', 'Restored'), ('stopped', 'Stopped'), ('trouble', 'Trouble'), ('only_one', 'Only One'), ('accept', 'Accept'), ('more_asked', 'More Asked'), ('more_decided', 'More Decided'), ('stuck', 'Stuck'), ('no_use', 'No Use'), ('nobody', 'Nobody'), ('unconfirmed', 'Unconfirmed'), ('proxy', 'Proxy'), ('invited', 'Invited'), ('new_password', 'New Password'), ('account', 'Account'), ('guessed', 'Guessed')], max_length=12),
        ),
    ]
