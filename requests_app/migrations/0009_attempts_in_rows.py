"""How often somebody guessed a password or a code, and which codes were used: in rows, for all web processes."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('requests_app', '0008_end_all_sign_ins'),
    ]

    operations = [
        migrations.CreateModel(
            name='UsedStep',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('person', models.BigIntegerField(unique=True)),
                ('step', models.BigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name='Attempts',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('bucket', models.CharField(max_length=64, unique=True)),
                ('used', models.PositiveIntegerField()),
                ('begun_at', models.DateTimeField()),
                ('next_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['begun_at'], name='attempts_old')],
            },
        ),
    ]
