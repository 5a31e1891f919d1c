"""Which role or account at AWS a row means can be corrected while nothing depends on it; and no two rows mean one.

Code from before this corrects nothing. Where an operator enters a role with it, or brings one back into use, what is
refused now (a path such as /team:a/, a second row for a name) is an error page to it, and nothing is stored. Rows whose
path would be refused now stay as they are until somebody changes it, or brings them back into use.
"""

import django.core.validators
import django.db.models.functions.text
import requests_app.domain.models.catalog
from django.db import migrations, models

# As `arns` has it, for what is typed and what is sent.
ADDRESS = """
CREATE FUNCTION requests_app_is_role_address(a_path text, a_name text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT a_path ~ '^/([A-Za-z0-9_+=,.@/-]+/)?$' AND a_name ~ '^[A-Za-z0-9_+=,.@-]{1,64}$'
$$;
"""

DEPENDED_ON = """
-- What has come to depend on it that this row means just this role at AWS; NULL while nothing has. What belongs to a
-- request, its deliveries and sessions, cannot be without one.
CREATE FUNCTION requests_app_role_depended_on(a_role bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT CASE
        WHEN EXISTS (SELECT FROM requests_app_accessrequest q WHERE q.role_id = a_role) THEN 'request'
        WHEN EXISTS (SELECT FROM requests_app_freeze f WHERE f.role_id = a_role) THEN 'freeze'
        WHEN EXISTS (SELECT FROM requests_app_denypolicy d WHERE d.role_id = a_role) THEN 'deny policy'
        WHEN EXISTS (SELECT FROM requests_app_revocation v WHERE v.role_id = a_role) THEN 'deny policy'
        WHEN EXISTS (SELECT FROM requests_app_ownsession s WHERE s.role_id = a_role) THEN 'own session'
    END
$$;

CREATE FUNCTION requests_app_account_depended_on(an_account bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT CASE
        WHEN EXISTS (SELECT FROM requests_app_freeze f WHERE f.account_id = an_account) THEN 'freeze'
        ELSE (SELECT found.what
              FROM requests_app_role r CROSS JOIN LATERAL requests_app_role_depended_on(r.id) AS found(what)
              WHERE r.account_id = an_account AND found.what IS NOT NULL LIMIT 1)
    END
$$;

-- What of this row may still come to, or stand at, AWS; NULL when it is at rest.
CREATE FUNCTION requests_app_role_at_work(a_role bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT CASE
        WHEN EXISTS (SELECT FROM requests_app_accessrequest q
                     WHERE q.role_id = a_role AND q.state IN ('pending', 'approved', 'active')) THEN 'request'
        WHEN EXISTS (SELECT FROM requests_app_revocation v WHERE v.role_id = a_role AND v.state <> 'over')
          OR EXISTS (SELECT FROM requests_app_denypolicy d WHERE d.role_id = a_role AND d.due_at IS NOT NULL)
        THEN 'deny policy'
    END
$$;
"""

ROLE = """
CREATE OR REPLACE FUNCTION requests_app_guard_role_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF (NEW.id, NEW.public_id) IS DISTINCT FROM (OLD.id, OLD.public_id) THEN
        PERFORM requests_app_refuse('which role this is never changes');
    END IF;
    IF (NEW.account_id, NEW.path, NEW.name) IS DISTINCT FROM (OLD.account_id, OLD.path, OLD.name) THEN
        PERFORM requests_app_require_the_present();
        -- A path is no key, so the lock of an ordinary change would let those pass who make a row that points here.
        PERFORM FROM requests_app_role WHERE id = OLD.id FOR UPDATE;
        IF requests_app_role_depended_on(OLD.id) IS NOT NULL THEN
            PERFORM requests_app_refuse('which role at AWS this is never changes once something depends on it');
        END IF;
    END IF;
    RETURN NEW;
END $$;

-- IAM's names are unique in an account, and a role's policies are written by its name: of the rows that are alike one
-- alone has to do with AWS.
CREATE FUNCTION requests_app_guard_role_address() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.account_id, NEW.path, NEW.name) = (OLD.account_id, OLD.path, OLD.name)
       AND (NEW.is_active = OLD.is_active OR NOT NEW.is_active) THEN
        RETURN NEW;
    END IF;
    PERFORM requests_app_require_the_present();
    IF NOT requests_app_is_role_address(NEW.path, NEW.name) THEN
        PERFORM requests_app_refuse('this path or name cannot stand in the policies of sessions');
    END IF;
    IF NEW.is_active THEN
        -- Waits for those who are asking for one of them, and whoever asks later sees that it is out of use.
        PERFORM FROM requests_app_role r
            WHERE r.account_id = NEW.account_id AND lower(r.name) = lower(NEW.name) AND r.id <> NEW.id
            ORDER BY r.id FOR UPDATE;
        IF EXISTS (SELECT FROM requests_app_role r
                   WHERE r.account_id = NEW.account_id AND lower(r.name) = lower(NEW.name) AND r.id <> NEW.id
                     AND (r.is_active OR requests_app_role_at_work(r.id) IS NOT NULL)) THEN
            PERFORM requests_app_refuse('another row still stands for the role of this name');
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_address BEFORE INSERT OR UPDATE ON requests_app_role
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_role_address();
"""

ACCOUNT = """
CREATE OR REPLACE FUNCTION requests_app_guard_account_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.id <> OLD.id THEN
        PERFORM requests_app_refuse('which account this is never changes');
    END IF;
    IF (NEW.partition, NEW.number) IS DISTINCT FROM (OLD.partition, OLD.number) THEN
        PERFORM requests_app_require_the_present();
        PERFORM FROM requests_app_account WHERE id = OLD.id FOR UPDATE;
        PERFORM FROM requests_app_role WHERE account_id = OLD.id ORDER BY id FOR UPDATE;
        IF requests_app_account_depended_on(OLD.id) IS NOT NULL THEN
            PERFORM requests_app_refuse('which account at AWS this is never changes once something depends on it');
        END IF;
    END IF;
    RETURN NEW;
END $$;
"""

# Of a request's triggers the first that waits for a lock, `as_of_now` alone being before it: those that follow, and the
# terms, are then about the role as it stays.
ASKED = """
CREATE FUNCTION requests_app_guard_role_asked() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    in_use boolean;
BEGIN
    PERFORM requests_app_require_the_present();
    SELECT r.is_active INTO in_use FROM requests_app_role r WHERE r.id = NEW.role_id FOR KEY SHARE;
    IF NOT in_use THEN
        PERFORM requests_app_refuse('this role is out of use');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER asks_role BEFORE INSERT ON requests_app_accessrequest
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_role_asked();

CREATE FUNCTION requests_app_guard_one_policy() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.due_at IS NOT NULL THEN
        RETURN NEW;
    END IF;
    PERFORM requests_app_require_the_present();
    PERFORM FROM requests_app_role WHERE id = NEW.role_id FOR KEY SHARE;
    IF EXISTS (SELECT FROM requests_app_role r JOIN requests_app_role o
               ON o.account_id = r.account_id AND lower(o.name) = lower(r.name) AND o.id <> r.id
               WHERE r.id = NEW.role_id AND NOT r.is_active AND o.is_active) THEN
        PERFORM requests_app_refuse('another row stands for the role of this name');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER one_policy BEFORE INSERT OR UPDATE ON requests_app_denypolicy
    FOR EACH ROW WHEN (NEW.due_at IS NOT NULL) EXECUTE FUNCTION requests_app_guard_one_policy();
"""

# A freeze of a role holds for whatever row is entered for it.
THAWED = """
CREATE OR REPLACE FUNCTION requests_app_require_thawed(a_role bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_the_present();
    PERFORM pg_advisory_xact_lock_shared(x'667265657A65'::bigint);
    IF EXISTS (SELECT FROM requests_app_freeze f JOIN requests_app_role r ON r.id = a_role
               LEFT JOIN requests_app_role o ON o.id = f.role_id
               WHERE f.lifted_at IS NULL
                 AND (o.account_id = r.account_id AND lower(o.name) = lower(r.name) OR f.account_id = r.account_id
                      OR f.role_id IS NULL AND f.account_id IS NULL)) THEN
        PERFORM requests_app_refuse('operators have frozen this');
    END IF;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0033_notices_with_links")]

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
        *(
            migrations.RunSQL(sql, migrations.RunSQL.noop)
            for sql in (ADDRESS, DEPENDED_ON, ROLE, ACCOUNT, ASKED, THAWED)
        ),
        # Only now: until the guards stand this alone keeps two rows from one role.
        migrations.RemoveConstraint(model_name="role", name="role_name_unique_in_account"),
    ]
