-- Units, accounts and roles: where they stand in the tree, and which role at AWS a row means.

-- A unit that is moved takes along what is below it, one level after the other. One change of the tree at a time:
-- two moves that cross would close a circle which neither of them sees. The lock comes before any row's.
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

-- As `arns` has it, for what is typed and what is sent.
CREATE FUNCTION requests_app_is_role_address(a_path text, a_name text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT a_path ~ '^/([A-Za-z0-9_+=,.@/-]+/)?$' AND a_name ~ '^[A-Za-z0-9_+=,.@-]{1,64}$'
$$;

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

CREATE FUNCTION requests_app_guard_role_update() RETURNS trigger
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
CREATE TRIGGER guard_update BEFORE UPDATE ON requests_app_role
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_role_update();

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

CREATE FUNCTION requests_app_guard_account_update() RETURNS trigger
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
CREATE TRIGGER guard_update BEFORE UPDATE ON requests_app_account
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_account_update();
