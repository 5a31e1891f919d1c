-- How something is refused, and what every guard asks first.
--
-- What must never be stored, whoever writes it, is refused here: plain triggers without an off-switch. They fire for the
-- application's role and for the owner; only a superuser can set them aside. Every function pins its search_path with
-- pg_temp last: otherwise a temporary table named like ours would be read in its place. Refusals carry SQLSTATE 23514
-- (Django: IntegrityError).

CREATE FUNCTION requests_app_refuse(message text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '%', message USING ERRCODE = 'check_violation';
END $$;

CREATE FUNCTION requests_app_refuse_statement() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_refuse(format('%s on %s is never allowed', TG_OP, TG_TABLE_NAME));
    RETURN NULL;
END $$;

-- A guard looks at other rows, and must see them as they are now: under a snapshot from before, whoever left a group
-- would still be in it, and a pass that has ended would still be active.
CREATE FUNCTION requests_app_require_the_present() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        PERFORM requests_app_refuse('decided by what is so now: use READ COMMITTED');
    END IF;
END $$;

CREATE FUNCTION requests_app_may_follow(a_machine text, a_before text, an_after text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM requests_app_transition t
        WHERE t.machine = a_machine AND t.before = a_before AND t.after = an_after)
$$;

-- Whoever holds an address must not come to something else by it.
CREATE FUNCTION requests_app_keep_public_id() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_refuse('a public id never changes');
    RETURN NULL;
END $$;
CREATE TRIGGER public_id BEFORE UPDATE ON requests_app_entitlement
    FOR EACH ROW WHEN (NEW.public_id IS DISTINCT FROM OLD.public_id) EXECUTE FUNCTION requests_app_keep_public_id();
CREATE TRIGGER public_id BEFORE UPDATE ON requests_app_extension
    FOR EACH ROW WHEN (NEW.public_id IS DISTINCT FROM OLD.public_id) EXECUTE FUNCTION requests_app_keep_public_id();
CREATE TRIGGER public_id BEFORE UPDATE ON requests_app_freeze
    FOR EACH ROW WHEN (NEW.public_id IS DISTINCT FROM OLD.public_id) EXECUTE FUNCTION requests_app_keep_public_id();
