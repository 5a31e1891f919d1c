"""Terms that allow so many at once hold for whoever writes, as they do in the verbs."""

from django.db import migrations

AT_ONCE = """
CREATE FUNCTION requests_app_guard_at_once() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    most int := (SELECT e.most_at_once FROM requests_app_entitlement e WHERE e.id = NEW.entitlement_id);
BEGIN
    IF most IS NOT NULL THEN
        -- Whoever asks in several places at once asks one after the other, or all would count too few.
        PERFORM FROM requests_app_user WHERE id = NEW.beneficiary_id FOR NO KEY UPDATE;
        IF (SELECT count(*) FROM requests_app_accessrequest r
            WHERE r.beneficiary_id = NEW.beneficiary_id AND r.entitlement_id = NEW.entitlement_id
              AND (r.state = 'pending' AND r.decide_by > NEW.asked_at
                   OR r.state = 'approved' AND r.start_by > NEW.asked_at
                   OR r.state = 'active' AND r.expires_at > NEW.asked_at)) >= most THEN
            PERFORM requests_app_refuse('as many as these terms allow at once are open');
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER at_once BEFORE INSERT ON requests_app_accessrequest
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_at_once();
"""


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0024_public_ids")]

    operations = [migrations.RunSQL(AT_ONCE, migrations.RunSQL.noop)]
