"""The tables as they were when what PostgreSQL knows beside them moved to `requests_app/domain/database`.

It stands for the migrations that it replaces: a database that has them has it.
"""

import django.contrib.auth.models
import django.contrib.auth.validators
import django.contrib.postgres.fields
import django.contrib.postgres.functions
import django.contrib.postgres.indexes
import django.contrib.postgres.operations
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.functions.text
import requests_app.domain.codes
import requests_app.domain.models.audit
import requests_app.domain.models.catalog
import requests_app.domain.models.entitlements
import uuid
from django.conf import settings
from django.db import migrations, models


# Tags are as AWS has them. In strict mode, or the array in {"a": ["b"]} would be looked into.
FLAT_TAGS = "".join(
    f"""
ALTER TABLE requests_app_{table} ADD CONSTRAINT {table}_tags_flat CHECK (
    jsonb_typeof(tags) = 'object'
    AND NOT jsonb_path_exists(tags, 'strict $.* ? (@.type() <> "string")', '{{}}', true));
"""
    for table in ("account", "role")
)


class Migration(migrations.Migration):

    replaces = [
        ('requests_app', '0001_initial'),
        ('requests_app', '0002_guards'),
        ('requests_app', '0003_early_end'),
        ('requests_app', '0004_early_end_guards'),
        ('requests_app', '0005_freezes_and_checks'),
        ('requests_app', '0006_freeze_guards'),
        ('requests_app', '0007_preflight_schedule'),
        ('requests_app', '0008_home'),
        ('requests_app', '0020_reach'),
        ('requests_app', '0021_terms'),
        ('requests_app', '0022_terms_guards'),
        ('requests_app', '0023_probe_words'),
        ('requests_app', '0024_public_ids'),
        ('requests_app', '0025_at_once_guard'),
        ('requests_app', '0026_memberships_of_others'),
        ('requests_app', '0027_stuck_and_accepted'),
    ]

    initial = True

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
    ]

    operations = [
        # A trusted extension: the owner of a database may create it.
        django.contrib.postgres.operations.TrigramExtension(),
        migrations.CreateModel(
            name='AwsClock',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('region', models.CharField(max_length=32, unique=True)),
                ('low_seconds', models.FloatField()),
                ('high_seconds', models.FloatField()),
                ('measured_at', models.DateTimeField()),
                ('identity_arn', models.CharField(max_length=2048)),
                ('chained', models.BooleanField()),
            ],
            options={
                'verbose_name': 'AWS clock',
            },
        ),
        migrations.CreateModel(
            name='Entitlement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=150)),
                ('is_active', models.BooleanField(default=True)),
                ('revision', models.PositiveIntegerField(default=1, editable=False)),
                ('approval', models.CharField(choices=[('automatic', 'automatic (nobody is asked)'), ('staged', 'staged (each stage must agree)')], max_length=10)),
                ('longest_seconds', models.PositiveIntegerField(default=3600, validators=[django.core.validators.MinValueValidator(60), django.core.validators.MaxValueValidator(2592000)], verbose_name='longest duration (s)')),
                ('session_ceiling_seconds', models.PositiveIntegerField(default=3600, validators=[django.core.validators.MinValueValidator(900), django.core.validators.MaxValueValidator(43200)], verbose_name='longest STS session (s)')),
                ('pending_seconds', models.PositiveIntegerField(default=86400, validators=[django.core.validators.MinValueValidator(60)], verbose_name='time to decide (s)')),
                ('start_within_seconds', models.PositiveIntegerField(default=28800, validators=[django.core.validators.MinValueValidator(60)], verbose_name='time to start (s)')),
                ('ticket', models.CharField(choices=[('none', 'not asked for'), ('optional', 'optional'), ('required', 'required')], default='optional', max_length=10)),
                ('justification_min', models.PositiveSmallIntegerField(default=10, verbose_name='shortest justification')),
                ('narrowing_statements', models.JSONField(blank=True, default=list, help_text='Session policy statements; with these, nothing else is allowed.')),
                ('narrowing_policy_arns', models.JSONField(blank=True, default=list, help_text="Managed policies of the role's account, at most 10.")),
                ('lifted', models.JSONField(blank=True, default=list, help_text='Names of always-denied ways out that this one allows.', verbose_name='lifted denies')),
                ('channels', models.CharField(choices=[('both', 'the console and keys'), ('console', 'the console only'), ('keys', 'keys only')], db_default='both', default='both', max_length=8, verbose_name='gives')),
                ('default_seconds', models.PositiveIntegerField(db_default=1800, default=1800, help_text='What the form offers first.', validators=[django.core.validators.MinValueValidator(60)], verbose_name='usual duration (s)')),
                ('extension_total_seconds', models.PositiveIntegerField(db_default=0, default=0, help_text='Of the whole pass, from its start; only counts where extensions are allowed.', validators=[django.core.validators.MaxValueValidator(7776000)], verbose_name='longest with extensions (s)')),
                ('extensions_most', models.PositiveSmallIntegerField(db_default=0, default=0, validators=[django.core.validators.MaxValueValidator(100)], verbose_name='extensions at most')),
                ('hours_begin', models.TimeField(blank=True, null=True, verbose_name='from')),
                ('hours_days', django.contrib.postgres.fields.ArrayField(base_field=models.PositiveSmallIntegerField(), blank=True, db_default=[], default=list, size=None, verbose_name='days')),
                ('hours_end', models.TimeField(blank=True, null=True, verbose_name='to')),
                ('hours_zone', models.CharField(db_default='UTC', default='UTC', max_length=64, validators=[requests_app.domain.models.entitlements.check_zone], verbose_name='time zone')),
                ('justification_pattern', models.CharField(blank=True, db_default='', max_length=300, validators=[requests_app.domain.models.entitlements.check_pattern])),
                ('most_at_once', models.PositiveSmallIntegerField(blank=True, help_text='How many requests and passes of one person may be open together; empty: no limit here.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='at once per person')),
                ('schedule_ahead_seconds', models.PositiveIntegerField(db_default=0, default=0, help_text='How far ahead a start may be asked for; 0: not at all.', validators=[django.core.validators.MaxValueValidator(7776000)], verbose_name='may be scheduled ahead (s)')),
                ('ticket_pattern', models.CharField(blank=True, db_default='', max_length=300, validators=[requests_app.domain.models.entitlements.check_pattern])),
                ('public_id', models.UUIDField(db_default=django.contrib.postgres.functions.RandomUUID(), default=uuid.uuid4, editable=False, unique=True)),
            ],
            options={
                'constraints': [models.UniqueConstraint(django.db.models.functions.text.Lower('name'), name='entitlement_name_unique'), models.CheckConstraint(condition=models.Q(('approval__in', ['automatic', 'staged'])), name='entitlement_approval_is_chosen'), models.CheckConstraint(condition=models.Q(('longest_seconds__gte', 60), ('longest_seconds__lte', 2592000)), name='entitlement_longest'), models.CheckConstraint(condition=models.Q(('channels__in', ['both', 'console', 'keys'])), name='entitlement_channels_known'), models.CheckConstraint(condition=models.Q(('hours_days', []), models.Q(('hours_begin__isnull', False), ('hours_days__contained_by', [1, 2, 3, 4, 5, 6, 7]), ('hours_end__isnull', False)), _connector='OR'), name='entitlement_hours_are_whole')],
            },
        ),
        migrations.CreateModel(
            name='Group',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=150)),
                ('description', models.CharField(blank=True, max_length=300)),
            ],
            options={
                'constraints': [models.UniqueConstraint(django.db.models.functions.text.Lower('name'), name='group_name_unique', violation_error_message='A group has this name.')],
            },
        ),
        migrations.CreateModel(
            name='User',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('password', models.CharField(max_length=128, verbose_name='password')),
                ('last_login', models.DateTimeField(blank=True, null=True, verbose_name='last login')),
                ('is_superuser', models.BooleanField(default=False, help_text='Designates that this user has all permissions without explicitly assigning them.', verbose_name='superuser status')),
                ('public_id', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('username', models.CharField(max_length=150, validators=[django.contrib.auth.validators.UnicodeUsernameValidator()])),
                ('email', models.EmailField(max_length=254)),
                ('name', models.CharField(blank=True, max_length=150)),
                ('time_zone', models.CharField(default='UTC', max_length=64)),
                ('source_identity', models.CharField(default=requests_app.domain.codes.new_source_identity, editable=False, max_length=64, unique=True)),
                ('is_staff', models.BooleanField(default=False, verbose_name='may open the admin')),
                ('date_joined', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('deactivated_at', models.DateTimeField(blank=True, null=True)),
                ('is_active', models.GeneratedField(db_persist=True, expression=models.Case(models.When(deactivated_at__isnull=True, then=True), default=False), output_field=models.BooleanField())),
                ('groups', models.ManyToManyField(blank=True, help_text='The groups this user belongs to. A user will get all permissions granted to each of their groups.', related_name='user_set', related_query_name='user', to='auth.group', verbose_name='groups')),
                ('user_permissions', models.ManyToManyField(blank=True, help_text='Specific permissions for this user.', related_name='user_set', related_query_name='user', to='auth.permission', verbose_name='user permissions')),
            ],
            options={
                'verbose_name': 'person',
                'verbose_name_plural': 'people',
                'indexes': [models.Index(fields=['username'], name='user_by_username'), django.contrib.postgres.indexes.GinIndex(django.contrib.postgres.indexes.OpClass(django.db.models.functions.text.Upper('username'), name='gin_trgm_ops'), name='user_username_search'), django.contrib.postgres.indexes.GinIndex(django.contrib.postgres.indexes.OpClass(django.db.models.functions.text.Upper('email'), name='gin_trgm_ops'), name='user_email_search'), django.contrib.postgres.indexes.GinIndex(django.contrib.postgres.indexes.OpClass(django.db.models.functions.text.Upper('name'), name='gin_trgm_ops'), name='user_name_search')],
                'constraints': [models.UniqueConstraint(django.db.models.functions.text.Lower('username'), name='user_username_unique', violation_error_message='Someone has this user name.'), models.UniqueConstraint(django.db.models.functions.text.Lower('email'), name='user_email_unique', violation_error_message='Someone has this address.'), models.CheckConstraint(condition=models.Q(('source_identity__regex', '^[A-Za-z0-9_+=,.@-]{2,64}$')), name='user_source_identity_alphabet')],
            },
            managers=[
                ('objects', django.contrib.auth.models.UserManager()),
            ],
        ),
        migrations.CreateModel(
            name='Transition',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('machine', models.CharField(max_length=16)),
                ('before', models.CharField(max_length=16)),
                ('after', models.CharField(max_length=16)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('machine', 'before', 'after'), name='transition_unique')],
            },
        ),
        migrations.CreateModel(
            name='Installation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.CharField(max_length=24, unique=True)),
                ('home', models.CharField(blank=True, db_default='', max_length=64)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('pk', 1)), name='installation_is_one')],
            },
        ),
        migrations.CreateModel(
            name='Identity',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('worker', models.CharField(choices=[('minter', 'Minter'), ('revoker', 'Revoker')], max_length=8)),
                ('region', models.CharField(max_length=32)),
                ('arn', models.CharField(blank=True, max_length=2048)),
                ('chained', models.BooleanField(default=False)),
                ('endpoint', models.CharField(blank=True, max_length=300)),
                ('regional', models.BooleanField(default=False)),
                ('seen_at', models.DateTimeField(null=True)),
                ('failed_at', models.DateTimeField(null=True)),
                ('aws_code', models.CharField(blank=True, max_length=100)),
                ('aws_message', models.CharField(blank=True, max_length=2000)),
            ],
            options={
                'verbose_name_plural': 'identities',
                'constraints': [models.UniqueConstraint(fields=('worker', 'region'), name='identity_once')],
            },
        ),
        migrations.CreateModel(
            name='Trouble',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('task', models.CharField(max_length=64)),
                ('subject', models.CharField(blank=True, max_length=64)),
                ('error', models.CharField(max_length=200)),
                ('where', models.CharField(max_length=200)),
                ('times', models.PositiveIntegerField(default=1)),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
                ('over_at', models.DateTimeField(null=True)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('over_at', None)), fields=['-last_at'], name='trouble_now')],
                'constraints': [models.UniqueConstraint(fields=('task', 'subject'), name='trouble_once')],
            },
        ),
        migrations.CreateModel(
            name='OrganisationalUnit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=128)),
                ('path', models.TextField(db_collation='C', db_default='', default='', editable=False)),
                ('parent', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='children', to='requests_app.organisationalunit')),
            ],
            options={
                'verbose_name': 'unit',
                'verbose_name_plural': 'organisational units',
                'indexes': [models.Index(fields=['path'], name='unit_by_path')],
                'constraints': [models.UniqueConstraint(django.db.models.functions.text.Lower('name'), models.F('parent'), name='unit_name_unique_in_parent', nulls_distinct=False, violation_error_message='There is a unit of this name at this place.')],
            },
        ),
        migrations.CreateModel(
            name='Account',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('partition', models.CharField(choices=[('aws', 'aws'), ('aws-us-gov', 'aws-us-gov'), ('aws-cn', 'aws-cn')], default='aws', max_length=16)),
                ('number', models.CharField(max_length=12, validators=[django.core.validators.RegexValidator('\\A[0-9]{12}\\Z', 'An account id has 12 digits.')], verbose_name='account id')),
                ('name', models.CharField(max_length=100)),
                ('is_active', models.BooleanField(default=True)),
                ('external_id', models.CharField(blank=True, max_length=1224)),
                ('allows_source_identity', models.BooleanField(default=False, help_text='The trust policies here allow sts:SetSourceIdentity for Daypass.')),
                ('environment', models.CharField(blank=True, db_default='', help_text='Such as prod or staging.', max_length=32, validators=[django.core.validators.RegexValidator('\\A[a-z0-9][a-z0-9._-]*\\Z', 'Lower case, such as prod or staging-eu.')])),
                ('owners', models.ForeignKey(blank=True, help_text='Whom to ask about it. A stage can leave the decision to them.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='owned_accounts', to='requests_app.group')),
                ('tags', models.JSONField(blank=True, db_default={}, default=dict, validators=[requests_app.domain.models.catalog.check_tags])),
                ('unit', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='accounts', to='requests_app.organisationalunit')),
            ],
            options={
                'indexes': [models.Index(fields=['name'], name='account_by_name'), django.contrib.postgres.indexes.GinIndex(django.contrib.postgres.indexes.OpClass(django.db.models.functions.text.Upper('name'), name='gin_trgm_ops'), name='account_name_search'), models.Index(fields=['environment'], name='account_by_environment'), django.contrib.postgres.indexes.GinIndex(fields=['tags'], name='account_tags')],
                'constraints': [models.UniqueConstraint(fields=('partition', 'number'), name='account_number_unique'), models.UniqueConstraint(django.db.models.functions.text.Lower('name'), name='account_name_unique'), models.CheckConstraint(condition=models.Q(('number__regex', '^[0-9]{12}$')), name='account_number_12_digits'), models.CheckConstraint(condition=models.Q(('environment', ''), ('environment__regex', '\\A[a-z0-9][a-z0-9._-]*\\Z'), _connector='OR'), name='account_environment_lower_case')],
            },
        ),
        migrations.CreateModel(
            name='EntitlementUser',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('entitlement', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='requests_app.entitlement')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'entitled person',
                'verbose_name_plural': 'entitled people',
                'constraints': [models.UniqueConstraint(fields=('entitlement', 'user'), name='entitlement_user_once')],
            },
        ),
        migrations.CreateModel(
            name='EntitlementGroup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('entitlement', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='requests_app.entitlement')),
                ('group', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='requests_app.group')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('entitlement', 'group'), name='entitlement_group_once')],
            },
        ),
        migrations.CreateModel(
            name='Membership',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('source', models.CharField(choices=[('hand', 'Hand'), ('claim', 'Claim'), ('scim', 'Scim')], default='hand', max_length=8)),
                ('added_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('added_by', models.ForeignKey(blank=True, editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('group', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='memberships', to='requests_app.group')),
                ('user', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='memberships', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'indexes': [models.Index(fields=['user', 'group'], name='membership_of_user')],
                'constraints': [models.UniqueConstraint(fields=('group', 'user', 'source'), name='membership_unique')],
            },
        ),
        migrations.CreateModel(
            name='Stage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField(validators=[django.core.validators.MinValueValidator(1)])),
                ('quorum', models.PositiveSmallIntegerField(default=1, validators=[django.core.validators.MinValueValidator(1)])),
                ('entitlement', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='stages', to='requests_app.entitlement')),
                ('escalate_seconds', models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(60)], verbose_name='ask further ones after (s)')),
                ('owners', models.CharField(blank=True, choices=[('account', "the account's owners"), ('role', "the role's owners")], db_default='', max_length=8)),
            ],
            options={
                'ordering': ['position'],
                'constraints': [models.UniqueConstraint(fields=('entitlement', 'position'), name='stage_position_unique'), models.CheckConstraint(condition=models.Q(('position__gte', 1), ('quorum__gte', 1)), name='stage_asks_someone'), models.CheckConstraint(condition=models.Q(('owners__in', ['', 'account', 'role'])), name='stage_owners_known')],
            },
        ),
        migrations.CreateModel(
            name='ExcludedGroup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('entitlement', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='requests_app.entitlement')),
                ('group', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='requests_app.group')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('entitlement', 'group'), name='excluded_group_once')],
            },
        ),
        migrations.CreateModel(
            name='ExcludedUser',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('entitlement', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='requests_app.entitlement')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'excluded person',
                'verbose_name_plural': 'excluded people',
                'constraints': [models.UniqueConstraint(fields=('entitlement', 'user'), name='excluded_user_once')],
            },
        ),
        migrations.CreateModel(
            name='EntitlementAsker',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('entitlement', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='requests_app.entitlement')),
                ('group', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='requests_app.group')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('entitlement', 'group'), name='entitlement_asker_once')],
            },
        ),
        migrations.CreateModel(
            name='Role',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('path', models.CharField(default='/', max_length=512, validators=[django.core.validators.RegexValidator('\\A/([\\x21-\\x7e]+/)?\\Z', 'A path such as /elevated/.')])),
                ('name', models.CharField(max_length=64, validators=[django.core.validators.RegexValidator('\\A[A-Za-z0-9_+=,.@-]{1,64}\\Z', 'As IAM writes role names.')])),
                ('description', models.CharField(blank=True, max_length=300)),
                ('power', models.CharField(choices=[('read', 'reads only'), ('change', 'changes things'), ('powerful', 'powerful')], default='change', max_length=8)),
                ('longest_session_seconds', models.PositiveIntegerField(default=3600, help_text="The role's MaxSessionDuration in IAM.", validators=[django.core.validators.MinValueValidator(3600), django.core.validators.MaxValueValidator(43200)])),
                ('identity_is_access', models.BooleanField(default=False, help_text='EKS, Vault and the like take sts:GetCallerIdentity as proof, which cannot be denied: minted only while at least 15 minutes of the pass remain.')),
                ('is_active', models.BooleanField(default=True)),
                ('account', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='roles', to='requests_app.account')),
                ('owners', models.ForeignKey(blank=True, help_text="Whom to ask about it, where that is not the account's owners.", null=True, on_delete=django.db.models.deletion.PROTECT, related_name='owned_roles', to='requests_app.group')),
                ('tags', models.JSONField(blank=True, db_default={}, default=dict, validators=[requests_app.domain.models.catalog.check_tags])),
            ],
            options={
                'indexes': [models.Index(fields=['account', 'name'], name='role_by_account'), django.contrib.postgres.indexes.GinIndex(django.contrib.postgres.indexes.OpClass(django.db.models.functions.text.Upper('name'), name='gin_trgm_ops'), name='role_name_search'), django.contrib.postgres.indexes.GinIndex(django.contrib.postgres.indexes.OpClass(django.db.models.functions.text.Upper('description'), name='gin_trgm_ops'), name='role_description_search'), models.Index(fields=['power'], name='role_by_power'), models.Index(condition=models.Q(('is_active', False)), fields=['account', 'name'], name='role_out_of_use'), models.Index(condition=models.Q(('identity_is_access', True)), fields=['account', 'name'], name='role_identity'), django.contrib.postgres.indexes.GinIndex(fields=['tags'], name='role_tags')],
                'constraints': [models.UniqueConstraint(django.db.models.functions.text.Lower('name'), models.F('account'), name='role_name_unique_in_account'), models.CheckConstraint(condition=models.Q(('longest_session_seconds__gte', 3600), ('longest_session_seconds__lte', 43200)), name='role_longest_session_as_iam')],
            },
        ),
        migrations.CreateModel(
            name='StageGroup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('group', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='requests_app.group')),
                ('stage', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='requests_app.stage')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('stage', 'group'), name='stage_group_once')],
            },
        ),
        migrations.CreateModel(
            name='StageUser',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('stage', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='requests_app.stage')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('stage', 'user'), name='stage_user_once')],
            },
        ),
        migrations.CreateModel(
            name='RoleSelector',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('environment', models.CharField(blank=True, max_length=32, validators=[django.core.validators.RegexValidator('\\A[a-z0-9][a-z0-9._-]*\\Z', 'Lower case, such as prod or staging-eu.')])),
                ('account_tag_key', models.CharField(blank=True, max_length=128, verbose_name='account tag')),
                ('account_tag_value', models.CharField(blank=True, help_text='Left empty, any value.', max_length=256, null=True, verbose_name="account tag's value")),
                ('role_name', models.CharField(blank=True, help_text='* is any text, ? one character.', max_length=64, validators=[django.core.validators.RegexValidator('\\A[A-Za-z0-9_+=,.@*?-]+\\Z', 'As IAM writes role names; * is any text, ? one character.')], verbose_name='role name')),
                ('role_tag_key', models.CharField(blank=True, max_length=128, verbose_name='role tag')),
                ('role_tag_value', models.CharField(blank=True, help_text='Left empty, any value.', max_length=256, null=True, verbose_name="role tag's value")),
                ('account', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='requests_app.account')),
                ('entitlement', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='selectors', to='requests_app.entitlement')),
                ('unit', models.ForeignKey(blank=True, db_index=False, help_text='With everything below it.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='requests_app.organisationalunit')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('account__isnull', False), ('unit__isnull', False), models.Q(('account_tag_key', ''), ('environment', ''), ('role_name', ''), ('role_tag_key', ''), _negated=True), _connector='OR'), name='selector_says_something', violation_error_message='Say at least one thing: a selector that says nothing would give every role.'), models.CheckConstraint(condition=models.Q(models.Q(('account_tag_value', None), models.Q(('account_tag_key', ''), _negated=True), _connector='OR'), models.Q(('role_tag_value', None), models.Q(('role_tag_key', ''), _negated=True), _connector='OR')), name='selector_value_of_a_tag', violation_error_message="A tag's value needs the tag's name."), models.CheckConstraint(condition=models.Q(('role_name', ''), ('role_name__regex', '\\A[A-Za-z0-9_+=,.@*?-]+\\Z'), _connector='OR'), name='selector_role_name_as_iam'), models.CheckConstraint(condition=models.Q(('environment', ''), ('environment__regex', '\\A[a-z0-9][a-z0-9._-]*\\Z'), _connector='OR'), name='selector_environment_lower_case')],
            },
        ),
        migrations.CreateModel(
            name='StageMoreGroup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('group', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='requests_app.group')),
                ('stage', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='requests_app.stage')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('stage', 'group'), name='stage_more_group_once')],
            },
        ),
        migrations.CreateModel(
            name='StageMoreUser',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('stage', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='requests_app.stage')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('stage', 'user'), name='stage_more_user_once')],
            },
        ),
        migrations.CreateModel(
            name='AccessRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.CharField(default=requests_app.domain.codes.new_code, editable=False, max_length=11)),
                ('terms_document', models.JSONField(editable=False)),
                ('justification', models.TextField(max_length=2000)),
                ('ticket', models.CharField(blank=True, max_length=100)),
                ('duration_seconds', models.PositiveIntegerField()),
                ('start', models.CharField(choices=[('on_demand', 'when I press Start'), ('at_once', 'at once'), ('at_time', 'at a time')], default='on_demand', max_length=10)),
                ('state', models.CharField(choices=[('pending', 'Pending'), ('approved', 'Approved'), ('active', 'Active'), ('denied', 'Denied'), ('withdrawn', 'Withdrawn'), ('lapsed', 'Lapsed'), ('expired', 'Expired'), ('returned', 'Returned'), ('revoked', 'Revoked')], default='pending', max_length=10)),
                ('asked_at', models.DateTimeField()),
                ('decide_by', models.DateTimeField()),
                ('stage', models.PositiveSmallIntegerField(default=0)),
                ('deciding_groups', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list, editable=False, size=None)),
                ('deciding_users', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list, editable=False, size=None)),
                ('approved_at', models.DateTimeField(editable=False, null=True)),
                ('approved_seconds', models.PositiveIntegerField(editable=False, null=True)),
                ('start_by', models.DateTimeField(editable=False, null=True)),
                ('activated_at', models.DateTimeField(editable=False, null=True)),
                ('expires_at', models.DateTimeField(editable=False, null=True)),
                ('ended_at', models.DateTimeField(editable=False, null=True)),
                ('end_reason', models.CharField(blank=True, editable=False, max_length=500)),
                ('reminded_at', models.DateTimeField(editable=False, null=True)),
                ('beneficiary', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='requests', to=settings.AUTH_USER_MODEL)),
                ('ended_by', models.ForeignKey(db_index=False, editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('requester', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='requests_made', to=settings.AUTH_USER_MODEL)),
                ('entitlement', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='requests', to='requests_app.entitlement')),
                ('role', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='requests', to='requests_app.role')),
                ('accepted_at', models.DateTimeField(editable=False, null=True)),
                ('escalate_at', models.DateTimeField(editable=False, null=True)),
                ('offered_seconds', models.PositiveIntegerField(editable=False, null=True)),
                ('scheduled_at', models.DateTimeField(editable=False, null=True)),
                ('stage_since', models.DateTimeField(editable=False, null=True)),
                ('wanted_start_at', models.DateTimeField(null=True)),
            ],
            options={
                'indexes': [models.Index(fields=['beneficiary', '-asked_at'], name='request_of_beneficiary'), models.Index(fields=['requester', '-asked_at'], name='request_of_requester'), models.Index(fields=['role', '-asked_at'], name='request_of_role'), models.Index(fields=['beneficiary', '-id'], name='request_newest_of_beneficiary'), models.Index(fields=['requester', '-id'], name='request_newest_of_requester'), models.Index(condition=models.Q(('state', 'pending')), fields=['decide_by'], name='request_pending_due'), models.Index(condition=models.Q(('state', 'approved')), fields=['start_by'], name='request_approved_due'), models.Index(condition=models.Q(('start', 'at_once'), ('state', 'approved')), fields=['start_by'], name='request_to_be_started'), models.Index(condition=models.Q(('state', 'active')), fields=['expires_at'], name='request_active_due'), django.contrib.postgres.indexes.GinIndex(condition=models.Q(('state', 'pending')), fields=['deciding_groups'], name='request_asks_groups'), django.contrib.postgres.indexes.GinIndex(condition=models.Q(('state', 'pending')), fields=['deciding_users'], name='request_asks_users'), models.Index(condition=models.Q(('escalate_at__isnull', False), ('state', 'pending')), fields=['escalate_at'], name='request_escalates'), models.Index(condition=models.Q(('start', 'at_time'), ('state', 'approved')), fields=['scheduled_at'], name='request_scheduled_due')],
                'constraints': [models.UniqueConstraint(fields=('code',), name='request_code_unique'), models.CheckConstraint(condition=models.Q(('code__regex', '^DP-[0123456789ABCDEFGHJKMNPQRSTVWXYZ]{8}$')), name='request_code_form'), models.CheckConstraint(condition=models.Q(('duration_seconds__gte', 60)), name='request_lasts_a_minute'), models.CheckConstraint(condition=models.Q(('state__in', ['pending', 'approved', 'active', 'denied', 'withdrawn', 'lapsed', 'expired', 'returned', 'revoked'])), name='request_state_known'), models.CheckConstraint(condition=models.Q(models.Q(('approved_at', None), ('state__in', ['pending', 'denied'])), ('state__in', ['withdrawn', 'lapsed']), models.Q(('approved_at__isnull', False), ('state__in', ['approved', 'active', 'expired', 'returned', 'revoked'])), _connector='OR'), name='request_approved_at_fits_state'), models.CheckConstraint(condition=models.Q(models.Q(('activated_at__isnull', False), ('state__in', ['active', 'expired', 'returned'])), models.Q(('activated_at', None), ('state__in', ['pending', 'approved', 'denied', 'withdrawn', 'lapsed'])), ('state', 'revoked'), _connector='OR'), name='request_activated_at_fits_state'), models.CheckConstraint(condition=models.Q(models.Q(('ended_at', None), ('state__in', ['pending', 'approved', 'active'])), models.Q(('ended_at__isnull', False), ('state__in', ['denied', 'withdrawn', 'lapsed', 'expired', 'returned', 'revoked'])), _connector='OR'), name='request_ended_at_fits_state'), models.CheckConstraint(condition=models.Q(models.Q(('activated_at', None), ('approved_at', None), ('approved_seconds', None), ('start_by', None)), models.Q(('approved_at__isnull', False), ('approved_seconds__isnull', False), ('start_by__isnull', False)), _connector='OR'), name='request_approval_is_whole'), models.CheckConstraint(condition=models.Q(models.Q(('activated_at', None), ('expires_at', None)), models.Q(('activated_at__isnull', False), ('expires_at__gt', models.F('activated_at'))), _connector='OR'), name='request_has_an_end'), models.CheckConstraint(condition=models.Q(models.Q(('state', 'expired'), _negated=True), ('ended_at', models.F('expires_at')), _connector='OR'), name='request_expired_at_its_end')],
            },
        ),
        migrations.CreateModel(
            name='EntitlementRole',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('entitlement', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='requests_app.entitlement')),
                ('role', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='requests_app.role')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('entitlement', 'role'), name='entitlement_role_once')],
            },
        ),
        migrations.CreateModel(
            name='DenyPolicy',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('generation', models.PositiveIntegerField(default=0)),
                ('expected', models.JSONField(default=list)),
                ('denied', models.JSONField(default=list)),
                ('unknown', models.JSONField(default=dict)),
                ('written_at', models.DateTimeField(null=True)),
                ('looked_at', models.DateTimeField(null=True)),
                ('looks', models.PositiveIntegerField(default=0)),
                ('due_at', models.DateTimeField(null=True)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('changed_outside_at', models.DateTimeField(null=True)),
                ('aws_code', models.CharField(blank=True, max_length=100)),
                ('aws_message', models.CharField(blank=True, max_length=2000)),
                ('advice', models.CharField(blank=True, max_length=1000)),
                ('probe_action', models.CharField(blank=True, max_length=100)),
                ('probe_due_at', models.DateTimeField(null=True)),
                ('probes', models.PositiveSmallIntegerField(default=0)),
                ('role', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='deny_policy', to='requests_app.role')),
                ('denied_before', models.DateTimeField(null=True)),
                ('held_until', models.DateTimeField(null=True)),
                ('left_out', models.JSONField(db_default=models.Value([], models.JSONField()), default=list)),
                ('probe_code', models.CharField(blank=True, db_default='', max_length=100)),
                ('probe_message', models.CharField(blank=True, db_default='', max_length=2000)),
            ],
            options={
                'verbose_name_plural': 'deny policies',
                'indexes': [models.Index(condition=models.Q(('due_at__isnull', False)), fields=['due_at'], name='deny_policy_due'), models.Index(condition=models.Q(('probe_due_at__isnull', False)), fields=['probe_due_at'], name='deny_policy_probe_due')],
            },
        ),
        migrations.CreateModel(
            name='Freeze',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('cause', models.CharField(choices=[('operator', 'by an operator'), ('restored', 'the database was restored')], default='operator', max_length=10)),
                ('reason', models.CharField(max_length=500)),
                ('begun_at', models.DateTimeField()),
                ('lift_asked_at', models.DateTimeField(null=True)),
                ('lifted_at', models.DateTimeField(null=True)),
                ('account', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='freezes', to='requests_app.account')),
                ('begun_by', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('lift_asked_by', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('lifted_by', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('role', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='freezes', to='requests_app.role')),
                ('public_id', models.UUIDField(db_default=django.contrib.postgres.functions.RandomUUID(), default=uuid.uuid4, editable=False, unique=True)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('account', None), ('role', None), _connector='OR'), name='freeze_has_one_scope'), models.CheckConstraint(condition=models.Q(('cause__in', ['operator', 'restored'])), name='freeze_cause_known'), models.CheckConstraint(condition=models.Q(models.Q(('begun_by__isnull', False), ('cause', 'operator')), models.Q(('account', None), ('cause', 'restored'), ('role', None)), _connector='OR'), name='freeze_begun_by_someone'), models.CheckConstraint(condition=models.Q(models.Q(('lifted_at', None), ('lifted_by', None)), models.Q(('lift_asked_by__isnull', False), ('lifted_at__isnull', False), ('lifted_by__isnull', False)), _connector='OR'), name='freeze_lifted_by_someone'), models.UniqueConstraint(condition=models.Q(('lifted_at', None)), fields=('account', 'role', 'cause'), name='freeze_once_in_force', nulls_distinct=False)],
            },
        ),
        migrations.CreateModel(
            name='OwnSession',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('purpose', models.CharField(choices=[('preflight', 'Preflight'), ('probe', 'Probe')], max_length=10)),
                ('session_name', models.CharField(max_length=64)),
                ('access_key_id', models.CharField(max_length=128)),
                ('assumed_role_arn', models.CharField(max_length=2048)),
                ('issued_at', models.DateTimeField()),
                ('sts_expires_at', models.DateTimeField()),
                ('role', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='own_sessions', to='requests_app.role')),
            ],
            options={
                'indexes': [models.Index(fields=['role', '-id'], name='own_session_of_role')],
                'constraints': [models.UniqueConstraint(fields=('access_key_id',), name='own_session_key_unique'), models.CheckConstraint(condition=models.Q(('purpose__in', ['preflight', 'probe'])), name='own_session_purpose_known')],
            },
        ),
        migrations.CreateModel(
            name='Preflight',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('minter_findings', models.JSONField(default=list)),
                ('minter_at', models.DateTimeField(null=True)),
                ('minter_due_at', models.DateTimeField()),
                ('revoker_findings', models.JSONField(default=list)),
                ('revoker_at', models.DateTimeField(null=True)),
                ('revoker_due_at', models.DateTimeField()),
                ('usable', models.CharField(choices=[('good', 'Good'), ('bad', 'Bad'), ('unknown', 'Unknown')], default='unknown', max_length=8)),
                ('verdict', models.CharField(choices=[('good', 'Good'), ('bad', 'Bad'), ('unknown', 'Unknown')], default='unknown', max_length=8)),
                ('harmless_action', models.CharField(blank=True, max_length=100)),
                ('aws_role_id', models.CharField(blank=True, max_length=128)),
                ('longest_session_seconds', models.PositiveIntegerField(null=True)),
                ('room', models.IntegerField(null=True)),
                ('doors', models.JSONField(default=list)),
                ('role', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='preflight', to='requests_app.role')),
                ('minter_attempts', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('revoker_attempts', models.PositiveSmallIntegerField(db_default=0, default=0)),
            ],
            options={
                'indexes': [models.Index(fields=['minter_due_at'], name='preflight_minter_due'), models.Index(fields=['revoker_due_at'], name='preflight_revoker_due'), models.Index(condition=models.Q(('verdict', 'bad')), fields=['role'], name='preflight_bad'), models.Index(fields=['usable', '-id'], name='preflight_by_usable'), models.Index(fields=['verdict', '-id'], name='preflight_by_verdict')],
                'constraints': [models.CheckConstraint(condition=models.Q(('usable__in', ['good', 'bad', 'unknown'])), name='preflight_usable_known'), models.CheckConstraint(condition=models.Q(('verdict__in', ['good', 'bad', 'unknown'])), name='preflight_verdict_known')],
            },
        ),
        migrations.CreateModel(
            name='Edit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('change', models.JSONField(default=dict)),
                ('made_at', models.DateTimeField()),
                ('confirmed_at', models.DateTimeField(null=True)),
                ('account', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='edits', to='requests_app.account')),
                ('confirmed_by', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('editor', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='edits', to=settings.AUTH_USER_MODEL)),
                ('entitlement', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='edits', to='requests_app.entitlement')),
                ('group', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='edits', to='requests_app.group')),
                ('role', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='edits', to='requests_app.role')),
                ('unit', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='edits', to='requests_app.organisationalunit')),
                ('member', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'indexes': [models.Index(fields=['editor', '-id'], name='edit_newest_of_editor'), models.Index(fields=['confirmed_by', '-id'], name='edit_newest_confirmed_by'), models.Index(condition=models.Q(('confirmed_at', None), ('member', None)), fields=['editor'], name='edit_unconfirmed_rules'), models.Index(condition=models.Q(('confirmed_at', None)), fields=['member', 'group', 'editor'], name='edit_unconfirmed_of_member'), models.Index(condition=models.Q(('confirmed_at', None)), fields=['group', 'editor', '-id'], name='edit_unconfirmed_in'), models.Index(condition=models.Q(('confirmed_at', None)), fields=['id'], name='edit_to_confirm')],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('confirmed_at', None), ('confirmed_by', None)), models.Q(('confirmed_at__isnull', False), ('confirmed_by__isnull', False)), _connector='OR'), name='edit_confirmed_by_someone'), models.CheckConstraint(condition=models.Q(('confirmed_by', models.F('editor')), _negated=True), name='edit_confirmed_by_another'), models.CheckConstraint(condition=models.Q(models.Q(('group', None), ('member', None)), models.Q(('group__isnull', False), ('member__isnull', False)), _connector='OR'), name='edit_of_a_group_names_the_member')],
            },
        ),
        migrations.CreateModel(
            name='AuditEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('recorded_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('transaction_id', requests_app.domain.models.audit.TransactionIdField(db_default=requests_app.domain.models.audit.CurrentTransactionId(), editable=False)),
                ('action', models.CharField(max_length=64)),
                ('actor_name', models.CharField(max_length=150)),
                ('beneficiary_name', models.CharField(blank=True, max_length=150)),
                ('subject', models.CharField(blank=True, max_length=200)),
                ('channel', models.CharField(max_length=16)),
                ('ip', models.GenericIPAddressField(null=True)),
                ('user_agent', models.CharField(blank=True, max_length=300)),
                ('detail', models.JSONField(default=dict)),
                ('access_request', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='events', to='requests_app.accessrequest')),
                ('actor', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('beneficiary', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'indexes': [models.Index(fields=['access_request', 'id'], name='event_of_request'), models.Index(fields=['actor', '-id'], name='event_of_actor'), models.Index(fields=['beneficiary', '-id'], name='event_of_beneficiary'), models.Index(fields=['action', '-id'], name='event_of_action')],
            },
        ),
        migrations.CreateModel(
            name='Delivery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('kind', models.CharField(choices=[('credentials', 'Credentials'), ('console', 'Console')], max_length=12)),
                ('destination', models.CharField(blank=True, max_length=500)),
                ('recipient_key', models.JSONField()),
                ('thumbprint', models.CharField(max_length=64)),
                ('sign_in', models.CharField(max_length=64)),
                ('state', models.CharField(choices=[('asked', 'Asked'), ('claimed', 'Claimed'), ('sealed', 'Sealed'), ('delivered', 'Delivered'), ('refused', 'Refused'), ('unavailable', 'Unavailable'), ('discarded', 'Discarded'), ('stale', 'Stale'), ('unknown', 'Unknown'), ('lost', 'Lost')], default='asked', max_length=12)),
                ('asked_at', models.DateTimeField()),
                ('claimed_at', models.DateTimeField(null=True)),
                ('claimed_by', models.CharField(blank=True, max_length=100)),
                ('sealed_at', models.DateTimeField(null=True)),
                ('envelope_sha256', models.CharField(blank=True, max_length=64)),
                ('finished_at', models.DateTimeField(null=True)),
                ('message', models.CharField(blank=True, max_length=1000)),
                ('advice', models.CharField(blank=True, max_length=1000)),
                ('aws_code', models.CharField(blank=True, max_length=100)),
                ('aws_message', models.CharField(blank=True, max_length=2000)),
                ('access_request', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='deliveries', to='requests_app.accessrequest')),
                ('beneficiary', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='deliveries', to=settings.AUTH_USER_MODEL)),
                ('role', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='deliveries', to='requests_app.role')),
            ],
            options={
                'verbose_name_plural': 'deliveries',
                'indexes': [models.Index(fields=['beneficiary', '-asked_at'], name='delivery_of_person'), models.Index(fields=['beneficiary', '-id'], name='delivery_newest_of_person'), models.Index(fields=['role', '-asked_at'], name='delivery_of_role'), models.Index(fields=['access_request', '-asked_at'], name='delivery_of_request'), models.Index(condition=models.Q(('state__in', ['asked', 'claimed', 'sealed'])), fields=['asked_at'], name='delivery_unfinished')],
                'constraints': [models.CheckConstraint(condition=models.Q(('kind__in', ['credentials', 'console'])), name='delivery_kind_known'), models.CheckConstraint(condition=models.Q(('state__in', ['asked', 'claimed', 'sealed', 'delivered', 'refused', 'unavailable', 'discarded', 'stale', 'unknown', 'lost'])), name='delivery_state_known'), models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['sealed', 'delivered']), _negated=True), models.Q(('envelope_sha256__regex', '^[0-9a-f]{64}$'), ('sealed_at__isnull', False)), _connector='OR'), name='delivery_sealed_is_hashed')],
            },
        ),
        migrations.CreateModel(
            name='Notice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('asked', 'Asked'), ('reminded', 'Reminded'), ('decided', 'Decided'), ('issued', 'Issued'), ('ending_soon', 'Ending Soon'), ('ended', 'Ended'), ('not_denied', 'Not Denied'), ('lifted', 'Lifted'), ('held', 'Held'), ('frozen', 'Frozen'), ('thawed', 'Thawed'), ('restored', 'Restored'), ('stopped', 'Stopped'), ('trouble', 'Trouble'), ('accept', 'Accept'), ('more_asked', 'More Asked'), ('more_decided', 'More Decided'), ('stuck', 'Stuck'), ('nobody', 'Nobody'), ('unconfirmed', 'Unconfirmed')], max_length=12)),
                ('key', models.CharField(max_length=120)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('due_at', models.DateTimeField()),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('last_error', models.CharField(blank=True, max_length=300)),
                ('sent_at', models.DateTimeField(null=True)),
                ('gave_up_at', models.DateTimeField(null=True)),
                ('access_request', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='notices', to='requests_app.accessrequest')),
                ('recipient', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='notices', to=settings.AUTH_USER_MODEL)),
                ('about', models.CharField(blank=True, db_default='', max_length=500)),
            ],
            options={
                'indexes': [models.Index(fields=['recipient', '-id'], name='notice_of_person'), models.Index(condition=models.Q(('gave_up_at', None), ('sent_at', None)), fields=['due_at'], name='notice_due'), models.Index(condition=models.Q(('gave_up_at__isnull', False)), fields=['-gave_up_at'], name='notice_given_up')],
                'constraints': [models.UniqueConstraint(fields=('key',), name='notice_once')],
            },
        ),
        migrations.CreateModel(
            name='Revocation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('asked_at', models.DateTimeField()),
                ('keep_until', models.DateTimeField()),
                ('state', models.CharField(choices=[('wanted', 'Wanted'), ('written', 'Written'), ('proved', 'Proved'), ('unprovable', 'Unprovable'), ('over', 'Over')], default='wanted', max_length=12)),
                ('written_at', models.DateTimeField(null=True)),
                ('proved_at', models.DateTimeField(null=True)),
                ('access_request', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='revocation', to='requests_app.accessrequest')),
                ('role', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='revocations', to='requests_app.role')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('state', 'over'), _negated=True), fields=['role'], name='revocation_of_role'), models.Index(condition=models.Q(('state', 'over'), _negated=True), fields=['keep_until'], name='revocation_ends')],
                'constraints': [models.CheckConstraint(condition=models.Q(('state__in', ['wanted', 'written', 'proved', 'unprovable', 'over'])), name='revocation_state_known'), models.CheckConstraint(condition=models.Q(models.Q(('state', 'written'), _negated=True), ('written_at__isnull', False), _connector='OR'), name='revocation_written_when'), models.CheckConstraint(condition=models.Q(models.Q(('state', 'proved'), _negated=True), models.Q(('proved_at__isnull', False), ('written_at__isnull', False)), _connector='OR'), name='revocation_proved_when')],
            },
        ),
        migrations.CreateModel(
            name='Confirmation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('confirmed_at', models.DateTimeField()),
                ('access_request', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='confirmations', to='requests_app.accessrequest')),
                ('confirmed_by', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('freeze', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='confirmations', to='requests_app.freeze')),
            ],
            options={
                'indexes': [models.Index(fields=['access_request'], name='confirmation_of_request')],
                'constraints': [models.UniqueConstraint(fields=('freeze', 'access_request'), name='confirmation_once')],
            },
        ),
        migrations.CreateModel(
            name='Extension',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('seconds', models.PositiveIntegerField()),
                ('justification', models.TextField(max_length=2000)),
                ('state', models.CharField(choices=[('pending', 'Pending'), ('granted', 'Granted'), ('denied', 'Denied'), ('withdrawn', 'Withdrawn'), ('lapsed', 'Lapsed')], default='pending', max_length=10)),
                ('asked_at', models.DateTimeField()),
                ('decide_by', models.DateTimeField()),
                ('stage', models.PositiveSmallIntegerField(default=0)),
                ('stage_since', models.DateTimeField()),
                ('escalate_at', models.DateTimeField(editable=False, null=True)),
                ('deciding_groups', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list, editable=False, size=None)),
                ('deciding_users', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list, editable=False, size=None)),
                ('previous_end', models.DateTimeField(editable=False, null=True)),
                ('new_end', models.DateTimeField(editable=False, null=True)),
                ('finished_at', models.DateTimeField(editable=False, null=True)),
                ('access_request', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='extensions', to='requests_app.accessrequest')),
                ('asked_by', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('public_id', models.UUIDField(db_default=django.contrib.postgres.functions.RandomUUID(), default=uuid.uuid4, editable=False, unique=True)),
            ],
            options={
                'indexes': [models.Index(fields=['access_request', 'id'], name='extension_of_request'), models.Index(condition=models.Q(('state', 'pending')), fields=['decide_by'], name='extension_pending_due'), models.Index(condition=models.Q(('escalate_at__isnull', False), ('state', 'pending')), fields=['escalate_at'], name='extension_escalates'), django.contrib.postgres.indexes.GinIndex(condition=models.Q(('state', 'pending')), fields=['deciding_groups'], name='extension_asks_groups'), django.contrib.postgres.indexes.GinIndex(condition=models.Q(('state', 'pending')), fields=['deciding_users'], name='extension_asks_users'), models.Index(fields=['asked_by', '-id'], name='extension_newest_of_person')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('state', 'pending')), fields=('access_request',), name='extension_one_pending'), models.CheckConstraint(condition=models.Q(('state__in', ['pending', 'granted', 'denied', 'withdrawn', 'lapsed'])), name='extension_state_known'), models.CheckConstraint(condition=models.Q(models.Q(('finished_at', None), ('state', 'pending')), models.Q(models.Q(('state', 'pending'), _negated=True), ('finished_at__isnull', False)), _connector='OR'), name='extension_finished_when_decided'), models.CheckConstraint(condition=models.Q(models.Q(('new_end__gt', models.F('previous_end')), ('previous_end__isnull', False), ('state', 'granted')), models.Q(('state', 'granted'), _negated=True), _connector='OR'), name='extension_granted_moves_the_end')],
            },
        ),
        migrations.CreateModel(
            name='Decision',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('stage', models.PositiveSmallIntegerField()),
                ('approver_name', models.CharField(max_length=150)),
                ('verdict', models.CharField(choices=[('approve', 'Approve'), ('deny', 'Deny')], max_length=8)),
                ('comment', models.CharField(blank=True, max_length=1000)),
                ('decided_at', models.DateTimeField()),
                ('recorded_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('access_request', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='all_decisions', to='requests_app.accessrequest')),
                ('approver', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='decisions', to=settings.AUTH_USER_MODEL)),
                ('extension', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='decisions', to='requests_app.extension')),
            ],
            options={
                'ordering': ['decided_at', 'pk'],
                'indexes': [models.Index(fields=['approver', '-id'], name='decision_of_approver')],
                'constraints': [models.CheckConstraint(condition=models.Q(('verdict__in', ['approve', 'deny'])), name='decision_verdict_known'), models.UniqueConstraint(fields=('access_request', 'extension', 'approver'), name='decision_once', nulls_distinct=False)],
            },
        ),
        migrations.CreateModel(
            name='IssuedSession',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('role_arn', models.CharField(max_length=2048)),
                ('session_name', models.CharField(max_length=64)),
                ('source_identity', models.CharField(blank=True, max_length=64)),
                ('access_key_id', models.CharField(max_length=128)),
                ('assumed_role_id', models.CharField(max_length=200)),
                ('minted_by', models.CharField(max_length=100)),
                ('thumbprint', models.CharField(max_length=64)),
                ('issued_at', models.DateTimeField()),
                ('cut_off', models.DateTimeField()),
                ('sts_expires_at', models.DateTimeField()),
                ('packed_policy_size', models.PositiveSmallIntegerField(null=True)),
                ('discarded', models.BooleanField(default=False)),
                ('access_request', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='issued_sessions', to='requests_app.accessrequest')),
                ('beneficiary', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('delivery', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='issued_session', to='requests_app.delivery')),
            ],
            options={
                'indexes': [models.Index(fields=['access_request', '-issued_at'], name='session_of_request'), models.Index(fields=['beneficiary', '-id'], name='session_of_person')],
                'constraints': [models.UniqueConstraint(fields=('access_key_id',), name='session_key_unique')],
            },
        ),
        migrations.AddField(
            model_name='entitlement',
            name='users',
            field=models.ManyToManyField(blank=True, related_name='entitlements', through='requests_app.EntitlementUser', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='entitlement',
            name='groups',
            field=models.ManyToManyField(blank=True, related_name='entitlements', through='requests_app.EntitlementGroup', to='requests_app.group'),
        ),
        migrations.AddField(
            model_name='entitlement',
            name='roles',
            field=models.ManyToManyField(related_name='entitlements', through='requests_app.EntitlementRole', to='requests_app.role'),
        ),
        migrations.AddField(
            model_name='entitlement',
            name='excluded_groups',
            field=models.ManyToManyField(blank=True, related_name='excluded_from', through='requests_app.ExcludedGroup', to='requests_app.group'),
        ),
        migrations.AddField(
            model_name='entitlement',
            name='excluded_users',
            field=models.ManyToManyField(blank=True, related_name='excluded_from', through='requests_app.ExcludedUser', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='entitlement',
            name='askers',
            field=models.ManyToManyField(blank=True, related_name='+', through='requests_app.EntitlementAsker', to='requests_app.group'),
        ),
        migrations.AddField(
            model_name='group',
            name='members',
            field=models.ManyToManyField(related_name='+', through='requests_app.Membership', through_fields=('group', 'user'), to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='stage',
            name='groups',
            field=models.ManyToManyField(blank=True, related_name='stages', through='requests_app.StageGroup', to='requests_app.group'),
        ),
        migrations.AddField(
            model_name='stage',
            name='users',
            field=models.ManyToManyField(blank=True, related_name='stages', through='requests_app.StageUser', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='stage',
            name='more_groups',
            field=models.ManyToManyField(blank=True, related_name='+', through='requests_app.StageMoreGroup', to='requests_app.group'),
        ),
        migrations.AddField(
            model_name='stage',
            name='more_users',
            field=models.ManyToManyField(blank=True, related_name='+', through='requests_app.StageMoreUser', to=settings.AUTH_USER_MODEL),
        ),
        migrations.RunSQL(FLAT_TAGS, migrations.RunSQL.noop),
    ]
