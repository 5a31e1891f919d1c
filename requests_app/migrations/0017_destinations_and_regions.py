"""Longer addresses in the console, and the region that is copied along with an account's keys."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('requests_app', '0016_operators'),
    ]

    operations = [
        migrations.AlterField(
            model_name='delivery',
            name='destination',
            field=models.CharField(blank=True, max_length=2000),
        ),
        migrations.AddField(
            model_name='account',
            name='region',
            field=models.CharField(blank=True, db_default='', default='', help_text='Where people mostly work in it, such as eu-central-1: copied along with keys for it. Left empty, whoever uses keys keeps the region they have.', max_length=25),
        ),
        migrations.AddConstraint(
            model_name='account',
            constraint=models.CheckConstraint(condition=models.Q(('region', ''), ('region__regex', '^[a-z0-9-]+$'), _connector='OR'), name='account_region_as_aws_writes_it'),
        ),
    ]
