-- Who somebody is: one spelling of their names, and sign-ins that end for good with their part, their password or their
-- second factor, whichever door changed it.

-- Python knows more of it (a domain's other letters, and small letters where the database was made with the locale C).
-- Without a backslash: what one means in quotes is a setting of the session.
CREATE FUNCTION requests_app_normal(typed text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT regexp_replace(normalize(lower(normalize(typed, NFKC)), NFKC), '^[[:space:]]+|[[:space:]]+$', '', 'g')
$$;

CREATE FUNCTION requests_app_normalise_user() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.username <> OLD.username THEN
        NEW.username := requests_app_normal(NEW.username);
    END IF;
    IF TG_OP = 'INSERT' OR NEW.email <> OLD.email THEN
        NEW.email := requests_app_normal(NEW.email);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER normal_names BEFORE INSERT OR UPDATE OF username, email ON requests_app_user
    FOR EACH ROW EXECUTE FUNCTION requests_app_normalise_user();

CREATE FUNCTION requests_app_guard_user_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF (NEW.id, NEW.public_id, NEW.source_identity) IS DISTINCT FROM (OLD.id, OLD.public_id, OLD.source_identity) THEN
        PERFORM requests_app_refuse('a person''s keys never change');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_update BEFORE UPDATE ON requests_app_user
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_user_update();

-- A sign-in carries the epoch in which it began (`User.get_session_auth_hash`), so it is dead whatever becomes of its row.
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
    -- Whoever has another address may be somebody else.
    IF NEW.deactivated_at IS DISTINCT FROM OLD.deactivated_at OR NEW.email <> OLD.email THEN
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
        OLD.user_id IS DISTINCT FROM NEW.user_id OR OLD.type IS DISTINCT FROM NEW.type
        OR OLD.data - '{used_mask,migrated_codes,viewed_at}'::text[]
           IS DISTINCT FROM NEW.data - '{used_mask,migrated_codes,viewed_at}'::text[])
    EXECUTE FUNCTION requests_app_factor_changed();
