-- What AWS is told to refuse, and when it may be told no more.

CREATE FUNCTION requests_app_guard_revocation_moments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- Many at once may take their time, and an end is never refused, whatever a clock was set to: so it is put right.
        -- It denies what was issued until it was asked for, for as long as that lasts.
        PERFORM requests_app_require_past(NEW.asked_at);
        PERFORM requests_app_require_readable(NEW.keep_until);
        SELECT greatest(NEW.asked_at, max(s.issued_at)), greatest(NEW.keep_until, max(s.sts_expires_at))
        INTO NEW.asked_at, NEW.keep_until
        FROM requests_app_issuedsession s WHERE s.access_request_id = NEW.access_request_id;
    ELSE
        PERFORM requests_app_require_readable(NEW.written_at, NEW.proved_at);
        IF NEW.state = 'over' AND OLD.state <> 'over' THEN
            PERFORM requests_app_require_past(NEW.keep_until);
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER as_of_now BEFORE INSERT OR UPDATE ON requests_app_revocation
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_revocation_moments();

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
