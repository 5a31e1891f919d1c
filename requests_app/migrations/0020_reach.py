"""Whom an entitlement reaches and which roles it gives, by what they are like: the same rules in the database.

Nothing is resolved in advance. Which roles a selector means is found when somebody asks, so it is never out of date.
"""

import django.contrib.postgres.indexes
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
import requests_app.domain.models.catalog
from django.conf import settings
from django.db import migrations, models

# Tags are as AWS has them. In strict mode, or the array in {"a": ["b"]} would be looked into.
FLAT = "".join(
    f"""
ALTER TABLE requests_app_{table} ADD CONSTRAINT {table}_tags_flat CHECK (
    jsonb_typeof(tags) = 'object'
    AND NOT jsonb_path_exists(tags, 'strict $.* ? (@.type() <> "string")', '{{}}', true));
"""
    for table in ("account", "role")
)

# A unit that is moved takes along what is below it, one level after the other. One change of the tree at a time:
# two moves that cross would close a circle which neither of them sees. The lock comes before any row's.
UNITS = """
CREATE FUNCTION requests_app_hold_units() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_the_present();
    PERFORM pg_advisory_xact_lock(x'756E697473'::bigint);
    RETURN NULL;
END $$;
CREATE TRIGGER hold BEFORE INSERT OR UPDATE ON requests_app_organisationalunit
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_hold_units();

CREATE FUNCTION requests_app_place_unit() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    above text := '/';
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.id <> OLD.id THEN
        PERFORM requests_app_refuse('which unit this is never changes');
    END IF;
    IF NEW.parent_id IS NOT NULL THEN
        SELECT path INTO above FROM requests_app_organisationalunit WHERE id = NEW.parent_id;
        IF above LIKE '%/' || NEW.id || '/%' OR NEW.parent_id = NEW.id THEN
            PERFORM requests_app_refuse('a unit is not below itself');
        END IF;
    END IF;
    NEW.path := above || NEW.id || '/';
    RETURN NEW;
END $$;
CREATE TRIGGER place BEFORE INSERT OR UPDATE ON requests_app_organisationalunit
    FOR EACH ROW EXECUTE FUNCTION requests_app_place_unit();

CREATE FUNCTION requests_app_move_units_below() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE requests_app_organisationalunit SET path = '' WHERE parent_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER moved AFTER UPDATE ON requests_app_organisationalunit
    FOR EACH ROW WHEN (NEW.path <> OLD.path) EXECUTE FUNCTION requests_app_move_units_below();
"""

# What a selector `s` says of a role `r`, its account `a` and that account's unit `u`. A pattern is IAM's; of what
# LIKE reads otherwise, only `_` can stand in it.
SELECTS = r"""
        (s.account_id IS NULL OR s.account_id = r.account_id)
    AND (s.unit_id IS NULL OR u.path LIKE '%/' || s.unit_id || '/%')
    AND (s.environment = '' OR s.environment = a.environment)
    AND (s.account_tag_key = '' OR CASE WHEN s.account_tag_value IS NULL THEN a.tags ? s.account_tag_key
                                        ELSE a.tags->>s.account_tag_key = s.account_tag_value END)
    AND (s.role_name = '' OR upper(r.name) LIKE upper(
            replace(replace(replace(s.role_name, '_', '\_'), '?', '_'), '*', '%')))
    AND (s.role_tag_key = '' OR CASE WHEN s.role_tag_value IS NULL THEN r.tags ? s.role_tag_key
                                     ELSE r.tags->>s.role_tag_key = s.role_tag_value END)
    -- Refused when it is stored. Here once more, because it would give everything.
    AND (s.account_id IS NOT NULL OR s.unit_id IS NOT NULL
         OR (s.environment, s.account_tag_key, s.role_name, s.role_tag_key) <> ('', '', '', ''))
"""

REACH = f"""
CREATE FUNCTION requests_app_selecting(a_role bigint) RETURNS SETOF bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT s.entitlement_id
    FROM requests_app_role r JOIN requests_app_account a ON a.id = r.account_id
    LEFT JOIN requests_app_organisationalunit u ON u.id = a.unit_id
    JOIN requests_app_roleselector s ON {SELECTS}
    WHERE r.id = a_role
$$;

CREATE FUNCTION requests_app_gives(an_entitlement bigint, a_role bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM requests_app_entitlementrole n
                   WHERE n.entitlement_id = an_entitlement AND n.role_id = a_role)
        OR EXISTS (SELECT FROM requests_app_role r JOIN requests_app_account a ON a.id = r.account_id
                   LEFT JOIN requests_app_organisationalunit u ON u.id = a.unit_id
                   JOIN requests_app_roleselector s ON {SELECTS}
                   WHERE s.entitlement_id = an_entitlement AND r.id = a_role)
$$;

CREATE FUNCTION requests_app_reaches(an_entitlement bigint, a_person bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT (EXISTS (SELECT FROM requests_app_entitlementuser n
                    WHERE n.entitlement_id = an_entitlement AND n.user_id = a_person)
            OR EXISTS (SELECT FROM requests_app_entitlementgroup n
                       JOIN requests_app_membership m ON m.group_id = n.group_id
                       WHERE n.entitlement_id = an_entitlement AND m.user_id = a_person))
       AND NOT EXISTS (SELECT FROM requests_app_excludeduser x
                       WHERE x.entitlement_id = an_entitlement AND x.user_id = a_person)
       AND NOT EXISTS (SELECT FROM requests_app_excludedgroup x
                       JOIN requests_app_membership m ON m.group_id = x.group_id
                       WHERE x.entitlement_id = an_entitlement AND m.user_id = a_person)
$$;
"""

REQUEST_INSERT = """
CREATE OR REPLACE FUNCTION requests_app_guard_request_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    e requests_app_entitlement%ROWTYPE;
    stored jsonb;
BEGIN
    PERFORM requests_app_require_the_present();
    IF NEW.state <> 'pending' OR NEW.approved_at IS NOT NULL OR NEW.approved_seconds IS NOT NULL
       OR NEW.start_by IS NOT NULL OR NEW.activated_at IS NOT NULL OR NEW.expires_at IS NOT NULL
       OR NEW.ended_at IS NOT NULL OR NEW.ended_by_id IS NOT NULL OR NEW.end_reason <> '' THEN
        PERFORM requests_app_refuse('a request begins as pending');
    END IF;
    SELECT * INTO e FROM requests_app_entitlement WHERE id = NEW.entitlement_id FOR SHARE;
    IF NOT e.is_active
       OR (NEW.terms_document->>'entitlement')::bigint IS DISTINCT FROM e.id
       OR (NEW.terms_document->>'revision')::bigint IS DISTINCT FROM e.revision
       OR NEW.terms_document->>'approval' IS DISTINCT FROM e.approval
       OR (NEW.terms_document->>'longest_seconds')::bigint IS DISTINCT FROM e.longest_seconds
       OR (NEW.terms_document->>'session_ceiling_seconds')::bigint IS DISTINCT FROM e.session_ceiling_seconds
       OR (NEW.terms_document->>'pending_seconds')::bigint IS DISTINCT FROM e.pending_seconds
       OR (NEW.terms_document->>'start_within_seconds')::bigint IS DISTINCT FROM e.start_within_seconds
       OR NEW.terms_document->'narrowing_statements' IS DISTINCT FROM e.narrowing_statements
       OR NEW.terms_document->'narrowing_policy_arns' IS DISTINCT FROM e.narrowing_policy_arns
       OR NEW.terms_document->'lifted' IS DISTINCT FROM e.lifted THEN
        PERFORM requests_app_refuse('the terms are not those of the entitlement');
    END IF;
    IF e.approval = 'staged' THEN
        SELECT coalesce(jsonb_agg(s.stage - 'asks' ORDER BY s.n), '[]') INTO stored
        FROM jsonb_array_elements(NEW.terms_document->'stages') WITH ORDINALITY AS s(stage, n);
        IF stored IS DISTINCT FROM requests_app_stages(e.id) OR jsonb_array_length(stored) = 0 THEN
            PERFORM requests_app_refuse('the stages are not those of the entitlement');
        END IF;
        IF NEW.stage <> 1 THEN
            PERFORM requests_app_refuse('a staged request begins at its first stage');
        END IF;
    ELSIF NEW.terms_document->'stages' IS DISTINCT FROM '[]' OR NEW.stage <> 0 THEN
        PERFORM requests_app_refuse('an automatic request has no stages');
    END IF;
    IF NEW.asked_at > clock_timestamp() + requests_app_clock_may_step_back()
       OR NEW.decide_by > NEW.asked_at + make_interval(secs => e.pending_seconds) THEN
        PERFORM requests_app_refuse('asked now, and to be decided within the time that the terms give');
    END IF;
    IF NEW.duration_seconds > e.longest_seconds THEN
        PERFORM requests_app_refuse('longer than the entitlement allows');
    END IF;
    IF NOT requests_app_gives(e.id, NEW.role_id) THEN
        PERFORM requests_app_refuse('the entitlement does not give this role');
    END IF;
    IF NOT requests_app_reaches(e.id, NEW.beneficiary_id) THEN
        PERFORM requests_app_refuse('the entitlement does not reach this person');
    END IF;
    RETURN NEW;
END $$;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('requests_app', '0008_home'),
    ]

    operations = [
        migrations.CreateModel(
            name='ExcludedGroup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
            ],
        ),
        migrations.CreateModel(
            name='ExcludedUser',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
            ],
            options={
                'verbose_name': 'excluded person',
                'verbose_name_plural': 'excluded people',
            },
        ),
        migrations.CreateModel(
            name='OrganisationalUnit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=128)),
                ('path', models.TextField(db_collation='C', db_default='', default='', editable=False)),
            ],
            options={
                'verbose_name': 'unit',
                'verbose_name_plural': 'organisational units',
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
            ],
        ),
        migrations.AddField(
            model_name='account',
            name='environment',
            field=models.CharField(blank=True, db_default='', help_text='Such as prod or staging.', max_length=32, validators=[django.core.validators.RegexValidator('\\A[a-z0-9][a-z0-9._-]*\\Z', 'Lower case, such as prod or staging-eu.')]),
        ),
        migrations.AddField(
            model_name='account',
            name='owners',
            field=models.ForeignKey(blank=True, help_text='Whom to ask about it. A stage can leave the decision to them.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='owned_accounts', to='requests_app.group'),
        ),
        migrations.AddField(
            model_name='account',
            name='tags',
            field=models.JSONField(blank=True, db_default={}, default=dict, validators=[requests_app.domain.models.catalog.check_tags]),
        ),
        migrations.AddField(
            model_name='role',
            name='owners',
            field=models.ForeignKey(blank=True, help_text="Whom to ask about it, where that is not the account's owners.", null=True, on_delete=django.db.models.deletion.PROTECT, related_name='owned_roles', to='requests_app.group'),
        ),
        migrations.AddField(
            model_name='role',
            name='tags',
            field=models.JSONField(blank=True, db_default={}, default=dict, validators=[requests_app.domain.models.catalog.check_tags]),
        ),
        migrations.AddIndex(
            model_name='role',
            index=django.contrib.postgres.indexes.GinIndex(fields=['tags'], name='role_tags'),
        ),
        migrations.AddField(
            model_name='excludedgroup',
            name='entitlement',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='requests_app.entitlement'),
        ),
        migrations.AddField(
            model_name='excludedgroup',
            name='group',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='requests_app.group'),
        ),
        migrations.AddField(
            model_name='entitlement',
            name='excluded_groups',
            field=models.ManyToManyField(blank=True, related_name='excluded_from', through='requests_app.ExcludedGroup', to='requests_app.group'),
        ),
        migrations.AddField(
            model_name='excludeduser',
            name='entitlement',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='requests_app.entitlement'),
        ),
        migrations.AddField(
            model_name='excludeduser',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='entitlement',
            name='excluded_users',
            field=models.ManyToManyField(blank=True, related_name='excluded_from', through='requests_app.ExcludedUser', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='organisationalunit',
            name='parent',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='children', to='requests_app.organisationalunit'),
        ),
        migrations.AddField(
            model_name='account',
            name='unit',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='accounts', to='requests_app.organisationalunit'),
        ),
        migrations.AddIndex(
            model_name='account',
            index=models.Index(fields=['environment'], name='account_by_environment'),
        ),
        migrations.AddIndex(
            model_name='account',
            index=django.contrib.postgres.indexes.GinIndex(fields=['tags'], name='account_tags'),
        ),
        migrations.AddConstraint(
            model_name='account',
            constraint=models.CheckConstraint(condition=models.Q(('environment', ''), ('environment__regex', '\\A[a-z0-9][a-z0-9._-]*\\Z'), _connector='OR'), name='account_environment_lower_case'),
        ),
        migrations.AddField(
            model_name='roleselector',
            name='account',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='requests_app.account'),
        ),
        migrations.AddField(
            model_name='roleselector',
            name='entitlement',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='selectors', to='requests_app.entitlement'),
        ),
        migrations.AddField(
            model_name='roleselector',
            name='unit',
            field=models.ForeignKey(blank=True, db_index=False, help_text='With everything below it.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='requests_app.organisationalunit'),
        ),
        migrations.AddConstraint(
            model_name='excludedgroup',
            constraint=models.UniqueConstraint(fields=('entitlement', 'group'), name='excluded_group_once'),
        ),
        migrations.AddConstraint(
            model_name='excludeduser',
            constraint=models.UniqueConstraint(fields=('entitlement', 'user'), name='excluded_user_once'),
        ),
        migrations.AddIndex(
            model_name='organisationalunit',
            index=models.Index(fields=['path'], name='unit_by_path'),
        ),
        migrations.AddConstraint(
            model_name='organisationalunit',
            constraint=models.UniqueConstraint(django.db.models.functions.text.Lower('name'), models.F('parent'), name='unit_name_unique_in_parent', nulls_distinct=False, violation_error_message='There is a unit of this name at this place.'),
        ),
        migrations.AddConstraint(
            model_name='roleselector',
            constraint=models.CheckConstraint(condition=models.Q(('account__isnull', False), ('unit__isnull', False), models.Q(('account_tag_key', ''), ('environment', ''), ('role_name', ''), ('role_tag_key', ''), _negated=True), _connector='OR'), name='selector_says_something', violation_error_message='Say at least one thing: a selector that says nothing would give every role.'),
        ),
        migrations.AddConstraint(
            model_name='roleselector',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('account_tag_value', None), models.Q(('account_tag_key', ''), _negated=True), _connector='OR'), models.Q(('role_tag_value', None), models.Q(('role_tag_key', ''), _negated=True), _connector='OR')), name='selector_value_of_a_tag', violation_error_message="A tag's value needs the tag's name."),
        ),
        migrations.AddConstraint(
            model_name='roleselector',
            constraint=models.CheckConstraint(condition=models.Q(('role_name', ''), ('role_name__regex', '\\A[A-Za-z0-9_+=,.@*?-]+\\Z'), _connector='OR'), name='selector_role_name_as_iam'),
        ),
        migrations.AddConstraint(
            model_name='roleselector',
            constraint=models.CheckConstraint(condition=models.Q(('environment', ''), ('environment__regex', '\\A[a-z0-9][a-z0-9._-]*\\Z'), _connector='OR'), name='selector_environment_lower_case'),
        ),
        *(migrations.RunSQL(sql, migrations.RunSQL.noop) for sql in (FLAT, UNITS, REACH, REQUEST_INSERT)),
    ]
