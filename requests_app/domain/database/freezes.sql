-- What operators have frozen stays as it is; endings always go through.

-- What operators hold, role by role. A freeze of a role holds for whatever row is entered for it.
CREATE VIEW requests_app_frozen_role WITH (security_invoker = true) AS
SELECT r.id AS role_id, f.id AS freeze_id, f.reason
FROM requests_app_freeze f
    LEFT JOIN requests_app_role o ON o.id = f.role_id
    JOIN requests_app_role r ON
        (o.account_id = r.account_id AND lower(o.name) = lower(r.name))
        OR f.account_id = r.account_id
        OR (f.role_id IS NULL AND f.account_id IS NULL)
WHERE f.lifted_at IS NULL;

-- Whoever freezes waits for those who have looked, and whoever looks later sees the freeze.
CREATE FUNCTION requests_app_require_thawed(a_role bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_the_present();
    PERFORM pg_advisory_xact_lock_shared(x'667265657A65'::bigint);
    IF EXISTS (SELECT FROM requests_app_frozen_role f WHERE f.role_id = a_role) THEN
        PERFORM requests_app_refuse('operators have frozen this');
    END IF;
END $$;

CREATE FUNCTION requests_app_guard_frozen() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_thawed(NEW.role_id);
    RETURN NEW;
END $$;
CREATE TRIGGER frozen_insert BEFORE INSERT ON requests_app_accessrequest
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_frozen();
CREATE TRIGGER frozen_update BEFORE UPDATE ON requests_app_accessrequest
    FOR EACH ROW WHEN (NEW.stage <> OLD.stage OR NEW.state <> OLD.state AND NEW.state = ANY ('{approved,active}'))
    EXECUTE FUNCTION requests_app_guard_frozen();
CREATE TRIGGER frozen_insert BEFORE INSERT ON requests_app_delivery
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_frozen();
CREATE TRIGGER frozen_update BEFORE UPDATE ON requests_app_delivery
    FOR EACH ROW WHEN (NEW.state <> OLD.state AND NEW.state = ANY ('{claimed,sealed,delivered}'))
    EXECUTE FUNCTION requests_app_guard_frozen();

-- A no ends something, so it is always possible.
CREATE FUNCTION requests_app_guard_decision_frozen() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_thawed((SELECT role_id FROM requests_app_accessrequest
                                         WHERE id = NEW.access_request_id));
    RETURN NEW;
END $$;
CREATE TRIGGER frozen_insert BEFORE INSERT ON requests_app_decision
    FOR EACH ROW WHEN (NEW.verdict = 'approve') EXECUTE FUNCTION requests_app_guard_decision_frozen();

CREATE FUNCTION requests_app_guard_session_frozen() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    of_role bigint := (SELECT role_id FROM requests_app_accessrequest WHERE id = NEW.access_request_id);
BEGIN
    PERFORM requests_app_require_thawed(of_role);
    -- The deny policy refuses it by the time at which it was issued.
    IF EXISTS (SELECT FROM requests_app_denypolicy d WHERE d.role_id = of_role AND d.held_until > NEW.issued_at) THEN
        PERFORM requests_app_refuse('nothing is minted on this role while everything of it is denied');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER frozen_insert BEFORE INSERT ON requests_app_issuedsession
    FOR EACH ROW WHEN (NOT NEW.discarded) EXECUTE FUNCTION requests_app_guard_session_frozen();

CREATE FUNCTION requests_app_guard_freeze() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    operators bigint;
BEGIN
    PERFORM requests_app_require_the_present();
    IF TG_OP = 'INSERT' THEN
        IF NEW.lifted_at IS NOT NULL OR NEW.lift_asked_at IS NOT NULL OR NEW.lift_asked_by_id IS NOT NULL THEN
            PERFORM requests_app_refuse('a freeze begins in force');
        END IF;
        -- Or each later restoration would seem to be known already.
        IF NEW.begun_at > clock_timestamp() + requests_app_clock_may_step_back() THEN
            PERFORM requests_app_refuse('a freeze begins now');
        END IF;
        IF NEW.begun_by_id IS NOT NULL AND NOT requests_app_operates(NEW.begun_by_id) THEN
            PERFORM requests_app_refuse('only an operator freezes');
        END IF;
        -- Waits for those who have looked and not committed yet.
        PERFORM pg_advisory_xact_lock(x'667265657A65'::bigint);
        RETURN NEW;
    END IF;
    IF (NEW.id, NEW.account_id, NEW.role_id, NEW.cause, NEW.reason, NEW.begun_at, NEW.begun_by_id)
       IS DISTINCT FROM
       (OLD.id, OLD.account_id, OLD.role_id, OLD.cause, OLD.reason, OLD.begun_at, OLD.begun_by_id)
       OR OLD.lifted_at IS NOT NULL THEN
        PERFORM requests_app_refuse('a freeze changes only by being lifted, once');
    END IF;
    IF NEW.lift_asked_by_id IS DISTINCT FROM OLD.lift_asked_by_id
       AND NOT requests_app_operates(NEW.lift_asked_by_id) THEN
        PERFORM requests_app_refuse('only an operator asks to lift a freeze');
    END IF;
    IF NEW.lifted_at IS NULL THEN
        RETURN NEW;
    END IF;
    IF NOT requests_app_operates(NEW.lifted_by_id) THEN
        PERFORM requests_app_refuse('only an operator lifts a freeze');
    END IF;
    SELECT count(*) INTO operators FROM requests_app_counted_operators();
    -- Whoever asked and was deactivated since does not count.
    IF operators > 1 AND (OLD.lift_asked_by_id IS NULL OR NEW.lift_asked_by_id IS DISTINCT FROM OLD.lift_asked_by_id
                          OR requests_app_same_hand(NEW.lifted_by_id, ARRAY[NEW.lift_asked_by_id])
                          OR NOT requests_app_operates(NEW.lift_asked_by_id)) THEN
        PERFORM requests_app_refuse('one operator asks to lift a freeze and another lifts it');
    END IF;
    IF NEW.cause = 'restored' AND EXISTS (
        SELECT FROM requests_app_accessrequest r
        WHERE (r.state = 'approved' AND r.start_by > clock_timestamp()
               OR r.state = 'active' AND r.expires_at > clock_timestamp())
          AND NOT EXISTS (SELECT FROM requests_app_confirmation c
                          WHERE c.freeze_id = NEW.id AND c.access_request_id = r.id)) THEN
        PERFORM requests_app_refuse('a pass in the restored database is neither confirmed nor ended');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON requests_app_freeze
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_freeze();

CREATE FUNCTION requests_app_guard_confirmation() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_the_present();
    IF NOT EXISTS (SELECT FROM requests_app_freeze f
                   WHERE f.id = NEW.freeze_id AND f.cause = 'restored' AND f.lifted_at IS NULL)
       OR NOT requests_app_operates(NEW.confirmed_by_id) THEN
        PERFORM requests_app_refuse('an operator confirms passes of a restored database while it is frozen');
    END IF;
    IF EXISTS (SELECT FROM requests_app_accessrequest r
               WHERE r.id = NEW.access_request_id
                 AND requests_app_same_hand(NEW.confirmed_by_id, ARRAY[r.requester_id, r.beneficiary_id])) THEN
        PERFORM requests_app_refuse('nobody confirms a pass they asked for or benefit from');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON requests_app_confirmation
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_confirmation();
