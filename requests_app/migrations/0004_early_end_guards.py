"""Revocations begin as wanted, for a request that was ended early, and follow the table of transitions."""

from django.db import migrations

REVOCATION = """
CREATE FUNCTION requests_app_guard_revocation() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'wanted' OR NEW.written_at IS NOT NULL OR NEW.proved_at IS NOT NULL
           OR NOT EXISTS (SELECT FROM requests_app_accessrequest r WHERE r.id = NEW.access_request_id
                          AND r.role_id = NEW.role_id AND r.state IN ('returned', 'revoked')) THEN
            PERFORM requests_app_refuse('a revocation begins as wanted, of a request that was ended early');
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.id, NEW.access_request_id, NEW.role_id, NEW.asked_at, NEW.keep_until)
       IS DISTINCT FROM (OLD.id, OLD.access_request_id, OLD.role_id, OLD.asked_at, OLD.keep_until) THEN
        PERFORM requests_app_refuse('what is to be revoked, and until when, never changes');
    END IF;
    IF NEW.state = OLD.state THEN
        IF NEW IS DISTINCT FROM OLD THEN
            PERFORM requests_app_refuse('a revocation changes only with its state');
        END IF;
    ELSIF NOT requests_app_may_follow('revocation', OLD.state, NEW.state) THEN
        PERFORM requests_app_refuse(format('a revocation may not go from %s to %s', OLD.state, NEW.state));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON requests_app_revocation
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_revocation();
CREATE TRIGGER for_ever BEFORE DELETE OR TRUNCATE ON requests_app_revocation
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE DELETE OR TRUNCATE ON requests_app_denypolicy
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
"""


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0003_early_end")]

    operations = [migrations.RunSQL(REVOCATION, migrations.RunSQL.noop)]
