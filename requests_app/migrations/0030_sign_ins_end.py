"""Sign-ins end for good with somebody's part, their password or their second factor, whichever door changed it.

Code from before this leaves the epoch to the triggers and does not look at it. While it still serves, the triggers end
sign-ins for it too, by their rows: a second factor added or removed there signs its owner out everywhere, the browser in
which they did it among them, for only code from here on keeps that one. A new password does the same.
"""

from django.db import migrations, models

# A sign-in carries the epoch in which it began (`User.get_session_auth_hash`), so it is dead whatever becomes of its row.
EPOCH = """
CREATE FUNCTION requests_app_guard_sign_in_epoch() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    -- The next one or none: an epoch that is as large as can be would have no next one, and no end may be refused.
    IF TG_OP = 'INSERT' THEN
        NEW.sign_in_epoch := 0;
        RETURN NEW;
    END IF;
    -- Whoever saves a person whole, as they read it before, sets nothing back.
    IF NEW.sign_in_epoch <> OLD.sign_in_epoch + 1 THEN
        NEW.sign_in_epoch := OLD.sign_in_epoch;
    END IF;
    IF NEW.deactivated_at IS DISTINCT FROM OLD.deactivated_at THEN
        NEW.sign_in_epoch := OLD.sign_in_epoch + 1;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER sign_in_epoch BEFORE INSERT OR UPDATE ON requests_app_user
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_sign_in_epoch();

-- A new password needs no epoch: it is in what a sign-in carries, by Django.
CREATE FUNCTION requests_app_end_sign_ins() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM django_session s USING usersessions_usersession u
        WHERE u.user_id = NEW.id AND s.session_key = u.session_key;
    DELETE FROM usersessions_usersession WHERE user_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER end_sign_ins AFTER UPDATE ON requests_app_user
    FOR EACH ROW WHEN (NEW.sign_in_epoch <> OLD.sign_in_epoch OR NEW.password <> OLD.password)
    EXECUTE FUNCTION requests_app_end_sign_ins();
"""

FACTORS = """
CREATE FUNCTION requests_app_factor_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE requests_app_user SET sign_in_epoch = sign_in_epoch + 1
        WHERE id IN (CASE WHEN TG_OP <> 'INSERT' THEN OLD.user_id END, CASE WHEN TG_OP <> 'DELETE' THEN NEW.user_id END);
    RETURN NULL;
END $$;
CREATE TRIGGER factor_added_or_removed AFTER INSERT OR DELETE ON mfa_authenticator
    FOR EACH ROW EXECUTE FUNCTION requests_app_factor_changed();
-- Which of the codes are used is no other factor.
CREATE TRIGGER factor_replaced AFTER UPDATE ON mfa_authenticator
    FOR EACH ROW WHEN (
        (OLD.user_id, OLD.type, OLD.data - '{used_mask,migrated_codes,viewed_at}'::text[])
        IS DISTINCT FROM (NEW.user_id, NEW.type, NEW.data - '{used_mask,migrated_codes,viewed_at}'::text[]))
    EXECUTE FUNCTION requests_app_factor_changed();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("requests_app", "0028_moments"),
        ("sessions", "0001_initial"),
        ("usersessions", "0001_initial"),
        ("mfa", "0003_authenticator_type_uniq"),
    ]

    operations = [
        migrations.AddField(
            "user", "sign_in_epoch", models.PositiveIntegerField(db_default=0, default=0, editable=False)
        ),
        # Of people's time zones: whether they have chosen theirs.
        migrations.AddField(
            "user", "time_zone_chosen", models.BooleanField(db_default=False, default=False, editable=False)
        ),
        *(migrations.RunSQL(sql, migrations.RunSQL.noop) for sql in (EPOCH, FACTORS)),
    ]
