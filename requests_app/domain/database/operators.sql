-- Who operates Daypass, and who says so: another operator, on record, or whoever has the owner's role on the server.

-- Whether whoever asks could change the tables themselves: `manage.py` with DATABASE_OWNER_URL. No serving process can.
CREATE FUNCTION requests_app_is_owner() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT pg_has_role(current_user, c.relowner, 'MEMBER') FROM pg_class c WHERE c.oid = 'requests_app_user'::regclass
$$;

CREATE FUNCTION requests_app_operates(a_user bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM requests_app_user u WHERE u.id = a_user AND u.is_operator AND u.deactivated_at IS NULL)
$$;

-- Who counts as an operator where it is asked whether there is another one: those too whose part somebody ended, or whose
-- rights somebody took, before another operator has confirmed that. Or whoever removes the others would be alone.
CREATE FUNCTION requests_app_counted_operators() RETURNS TABLE (person_id bigint, operates boolean)
LANGUAGE sql STABLE AS $$
    SELECT u.id, true FROM public.requests_app_user u WHERE u.is_operator AND u.deactivated_at IS NULL
    UNION ALL
    SELECT DISTINCT e.person_id, false
    FROM public.requests_app_edit e JOIN public.requests_app_user u ON u.id = e.person_id
    WHERE e.person_id IS NOT NULL AND e.confirmed_at IS NULL
      AND NOT (u.is_operator AND u.deactivated_at IS NULL)
      -- The code of before has it under the other name.
      AND (u.is_operator OR e.change ?| '{is_operator,is_superuser}')
$$;

-- Django's superuser is an operator, and nothing more. The code of before knows only that column, and is followed.
CREATE FUNCTION requests_app_keep_operator() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.is_operator := NEW.is_operator OR NEW.is_superuser;
    ELSIF NEW.is_superuser AND NOT OLD.is_superuser THEN
        NEW.is_operator := true;
    ELSIF OLD.is_operator AND NOT NEW.is_operator THEN
        NEW.is_superuser := false;
    ELSIF OLD.is_superuser AND NOT NEW.is_superuser AND NOT requests_app_is_owner() THEN
        NEW.is_operator := false;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER operator BEFORE INSERT OR UPDATE OF is_operator, is_superuser ON requests_app_user
    FOR EACH ROW EXECUTE FUNCTION requests_app_keep_operator();

-- Nobody becomes an operator, nor is one again, by the application's word alone: an edit says which operator did it, who
-- is in one hand with them until another has confirmed it; or it is the owner. What no code of ours puts on record is put
-- there here: who was made a superuser of Django's, or an operator by the owner's own SQL. It is looked at when the
-- transaction ends, for the edit and the event come after the change.
CREATE FUNCTION requests_app_guard_operator_made() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    is_new boolean := NOT coalesce(OLD.is_operator, false);
    is_super boolean := NEW.is_superuser AND NOT coalesce(OLD.is_superuser, false);
    named text[] := CASE WHEN is_new OR is_super THEN '{is_operator,is_superuser}' ELSE '{deactivated_at}' END;
BEGIN
    IF requests_app_is_history(clock_timestamp()) THEN
        RETURN NULL;
    END IF;
    IF NOT requests_app_is_owner() AND NOT EXISTS (
        SELECT FROM requests_app_edit e
        WHERE e.person_id = NEW.id AND e.confirmed_at IS NULL AND e.change ?| named
          AND e.editor_id <> NEW.id AND requests_app_operates(e.editor_id)
    ) THEN
        PERFORM requests_app_refuse('an operator is made by another one, on record, or by the owner of the database');
    END IF;
    IF is_super OR is_new AND requests_app_is_owner() AND NOT EXISTS (
        SELECT FROM requests_app_auditevent a
        WHERE a.beneficiary_id = NEW.id AND a.action = 'operator.made' AND a.transaction_id = pg_current_xact_id()
    ) THEN
        PERFORM requests_app_tell_of_operator(NEW.id, CASE WHEN is_super THEN 'superuser.made' ELSE 'operator.made' END);
    END IF;
    RETURN NULL;
END $$;

-- One event, by the role in the database that did it, and mail to all operators and auditors.
CREATE FUNCTION requests_app_tell_of_operator(a_person bigint, an_action text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, public, pg_temp AS $$
    WITH event AS (
        INSERT INTO requests_app_auditevent (at, action, actor_name, beneficiary_id, beneficiary_name, subject, channel,
                                             user_agent, detail)
        SELECT clock_timestamp(), an_action, current_user, u.id, coalesce(nullif(u.name, ''), u.username), u.email,
               'database', '', '{}'::jsonb
        FROM requests_app_user u WHERE u.id = a_person
        RETURNING id, at
    )
    INSERT INTO requests_app_notice (kind, recipient_id, moment, event_id, due_at, attempts, last_error)
    SELECT 'operator', u.id, e.at, e.id, e.at, 0, ''
    FROM event e, requests_app_user u
    WHERE u.deactivated_at IS NULL AND (u.is_operator OR EXISTS (
        SELECT FROM requests_app_user_groups m JOIN auth_group g ON g.id = m.group_id
        WHERE m.user_id = u.id AND g.name = 'Auditors'))
    ON CONFLICT DO NOTHING
$$;
CREATE CONSTRAINT TRIGGER operator_made AFTER INSERT ON requests_app_user
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.is_operator)
    EXECUTE FUNCTION requests_app_guard_operator_made();
CREATE CONSTRAINT TRIGGER operator_made_later AFTER UPDATE ON requests_app_user
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        NEW.is_operator AND (NOT OLD.is_operator OR OLD.deactivated_at IS NOT NULL AND NEW.deactivated_at IS NULL)
        OR NEW.is_superuser AND NOT OLD.is_superuser)
    EXECUTE FUNCTION requests_app_guard_operator_made();

-- Nor is somebody left as the only operator, who may lift alone, because the others are made none past all of our code. By
-- an edit they count until another operator has confirmed it. As long as two are left nobody's end is refused.
CREATE FUNCTION requests_app_guard_operator_ended() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF requests_app_is_owner() OR requests_app_is_history(clock_timestamp()) THEN
        RETURN NULL;
    END IF;
    -- One after the other: of two ends at once neither would see the other one.
    PERFORM pg_advisory_xact_lock(x'6f70657261746f72'::bigint);
    IF (SELECT count(*) = 1 AND bool_and(o.operates) FROM requests_app_counted_operators() o) THEN
        PERFORM requests_app_refuse('nobody becomes the only operator but on record, or by the owner of the database');
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER operator_ended AFTER UPDATE ON requests_app_user
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        OLD.is_operator AND OLD.deactivated_at IS NULL AND NOT (NEW.is_operator AND NEW.deactivated_at IS NULL))
    EXECUTE FUNCTION requests_app_guard_operator_ended();

-- Nor do they get another way in: another address, to which links for a password go, or other second factors. Their own
-- doing is an event of theirs, another operator's an edit, in the same transaction. (A password is no such thing: it is
-- hashed anew by itself, where the library has learnt to; nor is a seed, which is sealed anew by itself.)
CREATE FUNCTION requests_app_guard_operators_way_in() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    of_people bigint[];
    named text;
BEGIN
    IF TG_TABLE_NAME = 'requests_app_user' THEN
        of_people := ARRAY[NEW.id];
        named := 'email';
    ELSE
        of_people := ARRAY[OLD.user_id, NEW.user_id];
        named := 'second factor';
    END IF;
    IF requests_app_is_owner() OR requests_app_is_history(clock_timestamp()) THEN
        RETURN NULL;
    END IF;
    IF EXISTS (
        SELECT FROM requests_app_user u
        WHERE u.id = ANY(of_people) AND u.is_operator
          AND NOT EXISTS (
              SELECT FROM requests_app_auditevent a
              WHERE a.beneficiary_id = u.id AND a.actor_id = u.id AND a.transaction_id = pg_current_xact_id())
          AND NOT EXISTS (
              SELECT FROM requests_app_edit e
              WHERE e.person_id = u.id AND e.confirmed_at IS NULL AND e.change ? named
                AND e.editor_id <> u.id AND requests_app_operates(e.editor_id))
    ) THEN
        PERFORM requests_app_refuse('how an operator signs in changes on record, or by the owner of the database');
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER operators_address AFTER UPDATE ON requests_app_user
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.is_operator AND OLD.is_operator AND NEW.email <> OLD.email)
    EXECUTE FUNCTION requests_app_guard_operators_way_in();
CREATE CONSTRAINT TRIGGER operators_factor AFTER INSERT OR DELETE ON mfa_authenticator
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION requests_app_guard_operators_way_in();
CREATE CONSTRAINT TRIGGER operators_factor_moved AFTER UPDATE ON mfa_authenticator
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        OLD.user_id IS DISTINCT FROM NEW.user_id OR OLD.type IS DISTINCT FROM NEW.type
        OR OLD.data->'credential' IS DISTINCT FROM NEW.data->'credential')
    EXECUTE FUNCTION requests_app_guard_operators_way_in();
