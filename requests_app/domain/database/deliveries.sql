-- A wish for credentials, and the sessions that came of it.

CREATE FUNCTION requests_app_guard_delivery_moments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM requests_app_require_now(NEW.asked_at);
        PERFORM requests_app_require_readable(NEW.finished_at);
    ELSE
        IF NEW.claimed_at IS DISTINCT FROM OLD.claimed_at THEN
            PERFORM requests_app_require_now(NEW.claimed_at);
        END IF;
        IF NEW.sealed_at IS DISTINCT FROM OLD.sealed_at THEN
            PERFORM requests_app_require_now(NEW.sealed_at);
        END IF;
        IF NEW.finished_at IS DISTINCT FROM OLD.finished_at THEN
            PERFORM requests_app_require_past(NEW.finished_at);
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER as_of_now BEFORE INSERT OR UPDATE ON requests_app_delivery
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_delivery_moments();

CREATE FUNCTION requests_app_guard_delivery_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_the_present();
    -- Or it could end between this look and the commit.
    PERFORM FROM requests_app_accessrequest WHERE id = NEW.access_request_id FOR SHARE;
    IF NEW.state <> 'asked' OR NEW.claimed_at IS NOT NULL OR NEW.sealed_at IS NOT NULL OR NEW.envelope_sha256 <> ''
       OR NOT EXISTS (SELECT FROM requests_app_accessrequest r WHERE r.id = NEW.access_request_id
                      AND r.beneficiary_id = NEW.beneficiary_id AND r.role_id = NEW.role_id AND r.state = 'active'
                      AND NEW.asked_at >= r.activated_at AND NEW.asked_at < r.expires_at)
       OR NEW.asked_at > clock_timestamp() + requests_app_clock_may_step_back() THEN
        PERFORM requests_app_refuse('a delivery begins as asked, for the beneficiary of an active request');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_insert BEFORE INSERT ON requests_app_delivery
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_delivery_insert();

-- Some terms give keys only, or the console only; and where an account's console asks for what sessions are denied, it is
-- for terms that lift that: `policy.console_is_closed`.
CREATE FUNCTION requests_app_guard_channel() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF coalesce((SELECT terms_document->>'channels' FROM requests_app_accessrequest WHERE id = NEW.access_request_id),
                'both') NOT IN ('both', CASE NEW.kind WHEN 'console' THEN 'console' ELSE 'keys' END) THEN
        PERFORM requests_app_refuse('the terms do not give this');
    END IF;
    IF NEW.kind = 'console' AND EXISTS (
        SELECT FROM requests_app_accessrequest r
            JOIN requests_app_role o ON o.id = r.role_id
            JOIN requests_app_account a ON a.id = o.account_id
        WHERE r.id = NEW.access_request_id AND a.console_authorization = 'on'
            AND NOT coalesce(r.terms_document->'lifted' ? 'sign-in-tokens', false)
    ) THEN
        PERFORM requests_app_refuse('the console of this account is closed to these terms');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER channel BEFORE INSERT ON requests_app_delivery
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_channel();

CREATE FUNCTION requests_app_guard_delivery_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF (NEW.id, NEW.public_id, NEW.access_request_id, NEW.beneficiary_id, NEW.role_id, NEW.kind, NEW.destination,
        NEW.recipient_key, NEW.thumbprint, NEW.sign_in, NEW.asked_at)
       IS DISTINCT FROM
       (OLD.id, OLD.public_id, OLD.access_request_id, OLD.beneficiary_id, OLD.role_id, OLD.kind, OLD.destination,
        OLD.recipient_key, OLD.thumbprint, OLD.sign_in, OLD.asked_at) THEN
        PERFORM requests_app_refuse('what was asked to be delivered, and to whom, never changes');
    END IF;
    IF NEW.state = OLD.state THEN
        IF NEW IS DISTINCT FROM OLD THEN
            PERFORM requests_app_refuse('a delivery changes only with its state');
        END IF;
    ELSIF NOT requests_app_may_follow('delivery', OLD.state, NEW.state) THEN
        PERFORM requests_app_refuse(format('a delivery may not go from %s to %s', OLD.state, NEW.state));
    END IF;
    IF OLD.envelope_sha256 <> '' AND NEW.envelope_sha256 <> OLD.envelope_sha256 THEN
        PERFORM requests_app_refuse('an envelope is never replaced');
    END IF;
    IF NEW.state = 'sealed' AND NOT EXISTS (
        SELECT FROM requests_app_issuedsession s WHERE s.delivery_id = NEW.id AND NOT s.discarded) THEN
        PERFORM requests_app_refuse('nothing is sealed before its session is recorded');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_update BEFORE UPDATE ON requests_app_delivery
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_delivery_update();

CREATE FUNCTION requests_app_guard_session_moments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_now(NEW.issued_at);
    PERFORM requests_app_require_readable(NEW.cut_off, NEW.sts_expires_at, NEW.parent_expires_at);
    -- What nobody is given is recorded whatever a clock that was set says of it.
    IF NEW.discarded THEN
        RETURN NEW;
    END IF;
    -- Its early end is wanted for as long as the session lasts, and a margin of five minutes. STS gives a quarter of an
    -- hour or more; what ends sooner by itself ends at its cut-off.
    IF (CASE NEW.ends_by WHEN 'sts' THEN NEW.parent_expires_at ELSE NEW.sts_expires_at END)
       < least(NEW.cut_off, NEW.issued_at + interval '10 min') THEN
        PERFORM requests_app_refuse('a session lasts until its cut-off, or as long as STS gives at least');
    END IF;
    -- And what STS ends, ends with its parent or at most some seconds before its cut-off.
    IF NEW.ends_by = 'sts' AND (NEW.sts_expires_at > least(NEW.cut_off, NEW.parent_expires_at)
       OR NEW.sts_expires_at < least(NEW.cut_off, NEW.parent_expires_at) - interval '1 min') THEN
        PERFORM requests_app_refuse('a session that STS ends, ends at its cut-off');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER as_of_now BEFORE INSERT ON requests_app_issuedsession
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_session_moments();

CREATE FUNCTION requests_app_guard_session_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_the_present();
    -- Whoever has a key asks for it in either column, and finds one session. In one order, so that nobody waits in turn.
    PERFORM pg_advisory_xact_lock(hashtextextended('session key ' || key, 0))
    FROM (SELECT key FROM unnest(ARRAY[NEW.access_key_id, nullif(NEW.parent_access_key_id, '')]) key ORDER BY key) ours
    WHERE key IS NOT NULL;
    IF NEW.access_key_id = NEW.parent_access_key_id OR EXISTS (
        SELECT FROM requests_app_issuedsession s
        WHERE s.parent_access_key_id = NEW.access_key_id AND s.parent_access_key_id <> ''
    ) OR NEW.parent_access_key_id <> '' AND EXISTS (
        SELECT FROM requests_app_issuedsession s WHERE s.access_key_id = NEW.parent_access_key_id
    ) THEN
        PERFORM requests_app_refuse('a key belongs to one session');
    END IF;
    -- A parent is there where STS ends what was scoped from it, or where AWS refused to scope.
    IF NOT NEW.discarded
       AND (NEW.ends_by = 'sts', NEW.fell_back <> '', NEW.parent_access_key_id <> '')
           NOT IN ((true, false, true), (false, true, true), (false, false, false)) THEN
        PERFORM requests_app_refuse('a session has a parent where STS ends it, or AWS refused to');
    END IF;
    -- Or it could end between this look and the commit.
    PERFORM FROM requests_app_accessrequest WHERE id = NEW.access_request_id FOR SHARE;
    IF NOT NEW.discarded AND NEW.ends_by <> 'sts' AND EXISTS (
        SELECT FROM requests_app_accessrequest r JOIN requests_app_role o ON o.id = r.role_id
        WHERE r.id = NEW.access_request_id
          AND ((r.terms_document->>'ends_by_sts_only')::boolean
               -- Nothing but its own end stops what is proved by identity alone. By AWS's clock, as below.
               OR o.identity_is_access AND NEW.sts_expires_at > r.expires_at + interval '30 s')) THEN
        PERFORM requests_app_refuse('STS itself must end this session with its pass');
    END IF;
    IF NOT EXISTS (
        SELECT FROM requests_app_delivery d JOIN requests_app_accessrequest r ON r.id = d.access_request_id
        WHERE d.id = NEW.delivery_id AND r.id = NEW.access_request_id
          AND d.beneficiary_id = NEW.beneficiary_id AND d.thumbprint = NEW.thumbprint
          -- AWS may answer after we gave the delivery up: that session is recorded too, as discarded.
          AND (d.state = 'claimed' AND (NEW.discarded OR r.state = 'active'
               -- By AWS's clock, which is at most 30 s from ours.
               AND NEW.issued_at < r.expires_at AND NEW.cut_off <= r.expires_at + interval '30 s')
               OR d.state = 'unknown' AND NEW.discarded)) THEN
        PERFORM requests_app_refuse('a session belongs to a claimed delivery of an active request');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_insert BEFORE INSERT ON requests_app_issuedsession
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_session_insert();
