-- How a request and an extension of it go from one state to the next.

CREATE FUNCTION requests_app_guard_request_moments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM requests_app_require_now(NEW.asked_at);
        IF NEW.decide_by < NEW.asked_at THEN
            PERFORM requests_app_refuse('to be decided after it was asked');
        END IF;
        IF requests_app_terms_are_readable(NEW.terms_document) IS NOT TRUE THEN
            PERFORM requests_app_refuse('terms that no page can read');
        END IF;
    ELSE
        IF NEW.accepted_at IS DISTINCT FROM OLD.accepted_at THEN
            PERFORM requests_app_require_now(NEW.accepted_at);
        END IF;
        IF NEW.stage_since IS DISTINCT FROM OLD.stage_since THEN
            PERFORM requests_app_require_now(NEW.stage_since);
        END IF;
        IF NEW.approved_at IS DISTINCT FROM OLD.approved_at THEN
            PERFORM requests_app_require_now(NEW.approved_at);
        END IF;
        IF NEW.activated_at IS DISTINCT FROM OLD.activated_at THEN
            PERFORM requests_app_require_now(NEW.activated_at);
        END IF;
        IF NEW.ended_at IS DISTINCT FROM OLD.ended_at THEN
            PERFORM requests_app_require_past(NEW.ended_at);
        END IF;
    END IF;
    PERFORM requests_app_require_readable(
        NEW.decide_by, NEW.wanted_start_at, NEW.scheduled_at, NEW.escalate_at, NEW.start_by, NEW.expires_at,
        NEW.reminded_at);
    RETURN NEW;
END $$;
-- Before the others, which may wait for a lock.
CREATE TRIGGER as_of_now BEFORE INSERT OR UPDATE ON requests_app_accessrequest
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_request_moments();

CREATE FUNCTION requests_app_guard_request_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    e requests_app_entitlement%ROWTYPE;
    stored jsonb;
BEGIN
    PERFORM requests_app_require_the_present();
    IF NEW.state <> 'pending' OR NEW.approved_at IS NOT NULL OR NEW.approved_seconds IS NOT NULL
       OR NEW.start_by IS NOT NULL OR NEW.activated_at IS NOT NULL OR NEW.expires_at IS NOT NULL
       OR NEW.ended_at IS NOT NULL OR NEW.ended_by_id IS NOT NULL OR NEW.end_reason <> ''
       OR NEW.accepted_at IS NOT NULL OR NEW.offered_seconds IS NOT NULL
       OR NEW.scheduled_at IS DISTINCT FROM NEW.wanted_start_at THEN
        PERFORM requests_app_refuse('a request begins as pending');
    END IF;
    SELECT * INTO e FROM requests_app_entitlement WHERE id = NEW.entitlement_id FOR SHARE;
    IF NOT e.is_active
       OR NOT requests_app_older_terms() || NEW.terms_document @> requests_app_terms(e)
       -- Containment is not equality where a document has lists or objects in it.
       OR NEW.terms_document->'narrowing_statements' IS DISTINCT FROM e.narrowing_statements
       OR NEW.terms_document->'narrowing_policy_arns' IS DISTINCT FROM e.narrowing_policy_arns
       OR NEW.terms_document->'lifted' IS DISTINCT FROM e.lifted
       OR coalesce(NEW.terms_document->'hours', 'null') IS DISTINCT FROM requests_app_terms(e)->'hours' THEN
        PERFORM requests_app_refuse('the terms are not those of the entitlement');
    END IF;
    IF e.approval = 'staged' THEN
        SELECT coalesce(jsonb_agg(requests_app_older_stage() || (s.stage - 'asks' - 'more_asks') ORDER BY s.n), '[]')
        INTO stored FROM jsonb_array_elements(NEW.terms_document->'stages') WITH ORDINALITY AS s(stage, n);
        IF stored IS DISTINCT FROM requests_app_stages_for(e.id, NEW.role_id) OR jsonb_array_length(stored) = 0 THEN
            PERFORM requests_app_refuse('the stages are not those of the entitlement');
        END IF;
        IF NEW.stage <> 1 THEN
            PERFORM requests_app_refuse('a staged request begins at its first stage');
        END IF;
    ELSIF NEW.terms_document->'stages' IS DISTINCT FROM '[]' OR NEW.stage <> 0 THEN
        PERFORM requests_app_refuse('an automatic request has no stages');
    END IF;
    IF NEW.asked_at > clock_timestamp() + requests_app_clock_may_step_back()
       OR NEW.decide_by > NEW.asked_at + make_interval(secs => e.pending_seconds) THEN
        PERFORM requests_app_refuse('asked now, and to be decided within the time that the terms give');
    END IF;
    IF NEW.duration_seconds > e.longest_seconds THEN
        PERFORM requests_app_refuse('longer than the entitlement allows');
    END IF;
    IF (NEW.start = 'at_time') IS DISTINCT FROM (NEW.wanted_start_at IS NOT NULL)
       OR NEW.wanted_start_at < NEW.asked_at
       OR NEW.wanted_start_at > NEW.asked_at + make_interval(secs => e.schedule_ahead_seconds) THEN
        PERFORM requests_app_refuse('begins at a time from now on, no later than the entitlement allows');
    END IF;
    IF coalesce(NEW.stage_since, NEW.asked_at) <> NEW.asked_at THEN
        PERFORM requests_app_refuse('its first stage begins when it is asked for');
    END IF;
    IF NOT requests_app_gives(e.id, NEW.role_id) THEN
        PERFORM requests_app_refuse('the entitlement does not give this role');
    END IF;
    IF NOT requests_app_reaches(e.id, NEW.beneficiary_id) THEN
        PERFORM requests_app_refuse('the entitlement does not reach this person');
    END IF;
    IF requests_app_has_edited(NEW.beneficiary_id, e.id, NEW.role_id)
       OR requests_app_has_edited(NEW.requester_id, e.id, NEW.role_id) THEN
        PERFORM requests_app_refuse('nobody uses their own change before another operator has confirmed it');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_insert BEFORE INSERT ON requests_app_accessrequest
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_request_insert();

-- Of a request's triggers the first that waits for a lock, `as_of_now` alone being before it: those that follow, and the
-- terms, are then about the role as it stays.
CREATE FUNCTION requests_app_guard_role_asked() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    in_use boolean;
BEGIN
    PERFORM requests_app_require_the_present();
    SELECT r.is_active INTO in_use FROM requests_app_role r WHERE r.id = NEW.role_id FOR KEY SHARE;
    IF NOT in_use THEN
        PERFORM requests_app_refuse('this role is out of use');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER asks_role BEFORE INSERT ON requests_app_accessrequest
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_role_asked();

CREATE FUNCTION requests_app_guard_at_once() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    most int := (NEW.terms_document->>'most_at_once')::int;
    at timestamptz := coalesce(NEW.accepted_at, NEW.asked_at);
BEGIN
    -- What somebody else asks for does not count before it is wanted.
    IF most IS NOT NULL AND (NEW.requester_id = NEW.beneficiary_id OR NEW.accepted_at IS NOT NULL) THEN
        -- Whoever asks in several places at once asks one after the other, or all would count too few.
        PERFORM FROM requests_app_user WHERE id = NEW.beneficiary_id FOR NO KEY UPDATE;
        IF (SELECT count(*) FROM requests_app_accessrequest r
            WHERE r.beneficiary_id = NEW.beneficiary_id AND r.entitlement_id = NEW.entitlement_id AND r.id <> NEW.id
              AND (r.requester_id = r.beneficiary_id OR r.accepted_at IS NOT NULL)
              AND (r.state = 'pending' AND r.decide_by > at
                   OR r.state = 'approved' AND r.start_by > at
                   OR r.state = 'active' AND r.expires_at > at)) >= most THEN
            PERFORM requests_app_refuse('as many as these terms allow at once are open');
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER at_once BEFORE INSERT ON requests_app_accessrequest
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_at_once();
CREATE TRIGGER at_once_accepted BEFORE UPDATE ON requests_app_accessrequest
    FOR EACH ROW WHEN (OLD.accepted_at IS NULL AND NEW.accepted_at IS NOT NULL)
    EXECUTE FUNCTION requests_app_guard_at_once();

CREATE FUNCTION requests_app_guard_request_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_the_present();
    IF (NEW.id, NEW.code, NEW.requester_id, NEW.beneficiary_id, NEW.role_id, NEW.entitlement_id, NEW.terms_document,
        NEW.justification, NEW.ticket, NEW.duration_seconds, NEW.start, NEW.asked_at, NEW.decide_by,
        NEW.wanted_start_at)
       IS DISTINCT FROM
       (OLD.id, OLD.code, OLD.requester_id, OLD.beneficiary_id, OLD.role_id, OLD.entitlement_id, OLD.terms_document,
        OLD.justification, OLD.ticket, OLD.duration_seconds, OLD.start, OLD.asked_at, OLD.decide_by,
        OLD.wanted_start_at) THEN
        PERFORM requests_app_refuse('what was asked never changes');
    END IF;
    IF OLD.ended_at IS NOT NULL AND NEW IS DISTINCT FROM OLD THEN
        PERFORM requests_app_refuse('an ended request never changes');
    END IF;
    IF NEW.state <> OLD.state AND NOT requests_app_may_follow('request', OLD.state, NEW.state) THEN
        PERFORM requests_app_refuse(format('%s may not become %s', OLD.state, NEW.state));
    END IF;
    IF NEW.accepted_at IS DISTINCT FROM OLD.accepted_at AND (
        OLD.accepted_at IS NOT NULL OR OLD.state <> 'pending' OR OLD.requester_id = OLD.beneficiary_id
        OR NEW.accepted_at NOT BETWEEN OLD.asked_at AND OLD.decide_by
        OR NEW.accepted_at > clock_timestamp() + requests_app_clock_may_step_back()) THEN
        PERFORM requests_app_refuse('what somebody asked for another is accepted once, in time');
    END IF;
    IF NEW.accepted_at IS DISTINCT FROM OLD.accepted_at
       AND requests_app_same_hand(NEW.requester_id, ARRAY[NEW.beneficiary_id]) THEN
        PERFORM requests_app_refuse('nobody accepts from whoever made them before a third has confirmed it');
    END IF;
    -- An approver shortens or moves back; never more than was asked for.
    IF NEW.offered_seconds IS DISTINCT FROM OLD.offered_seconds AND (
        OLD.state <> 'pending' OR NEW.offered_seconds IS NULL OR NEW.offered_seconds < 60
        OR NEW.offered_seconds > coalesce(OLD.offered_seconds, OLD.duration_seconds)) THEN
        PERFORM requests_app_refuse('an approver may only shorten it, while it is pending');
    END IF;
    IF NEW.scheduled_at IS DISTINCT FROM OLD.scheduled_at AND (
        OLD.state <> 'pending' OR NEW.scheduled_at IS NULL OR OLD.scheduled_at IS NULL
        OR NEW.scheduled_at < OLD.scheduled_at
        OR NEW.scheduled_at > OLD.asked_at
           + make_interval(secs => (OLD.terms_document->>'schedule_ahead_seconds')::bigint)) THEN
        PERFORM requests_app_refuse('an approver may only move it back, while it is pending, and as the terms allow');
    END IF;
    -- Or a stage could be called so old that further people may decide it.
    IF NEW.stage = OLD.stage AND NEW.accepted_at IS NOT DISTINCT FROM OLD.accepted_at
       AND NEW.stage_since IS DISTINCT FROM OLD.stage_since
       OR NEW.accepted_at IS DISTINCT FROM OLD.accepted_at AND NEW.stage_since IS DISTINCT FROM NEW.accepted_at
       OR NEW.stage <> OLD.stage AND (
           NEW.stage_since IS NULL OR NEW.stage_since > clock_timestamp() + requests_app_clock_may_step_back()
           OR NEW.stage_since < (SELECT max(d.decided_at) FROM requests_app_decision d
                                 WHERE d.access_request_id = OLD.id AND d.extension_id IS NULL
                                   AND d.stage = OLD.stage)) THEN
        PERFORM requests_app_refuse('a stage begins when the one before it has agreed');
    END IF;
    IF NEW.stage <> OLD.stage AND (
        NEW.stage <> OLD.stage + 1 OR NEW.state <> 'pending'
        OR NEW.stage > jsonb_array_length(OLD.terms_document->'stages')
        OR (SELECT count(*) FROM requests_app_decision d
            WHERE d.access_request_id = OLD.id AND d.extension_id IS NULL AND d.verdict = 'approve'
              AND d.stage = OLD.stage)
           < (OLD.terms_document->'stages'->(OLD.stage - 1)->>'quorum')::int) THEN
        PERFORM requests_app_refuse('a stage is left when it has agreed, for the next one');
    END IF;
    IF OLD.approved_at IS NOT NULL AND (NEW.approved_at, NEW.approved_seconds, NEW.start_by)
       IS DISTINCT FROM (OLD.approved_at, OLD.approved_seconds, OLD.start_by) THEN
        PERFORM requests_app_refuse('an approval never changes');
    END IF;
    IF OLD.approved_at IS NULL AND NEW.approved_at IS NOT NULL THEN
        IF NEW.state <> 'approved' OR NEW.approved_seconds > coalesce(NEW.offered_seconds, OLD.duration_seconds) THEN
            PERFORM requests_app_refuse('approved for no longer than was asked');
        END IF;
        IF OLD.requester_id <> OLD.beneficiary_id AND NEW.accepted_at IS NULL THEN
            PERFORM requests_app_refuse('whoever it is for has to accept it first');
        END IF;
        IF NEW.approved_at NOT BETWEEN OLD.asked_at AND OLD.decide_by
           OR NEW.approved_at > clock_timestamp() + requests_app_clock_may_step_back()
           OR NEW.start_by > greatest(NEW.approved_at, NEW.scheduled_at)
              + make_interval(secs => (OLD.terms_document->>'start_within_seconds')::bigint)
              -- Where the terms keep hours it counts from when they open, which is at most so far ahead.
              + (CASE WHEN coalesce(OLD.terms_document->'hours', 'null') = 'null' THEN interval '0'
                      ELSE interval '16 days' END) THEN
            PERFORM requests_app_refuse('approved in time, and to be started within the time that the terms give');
        END IF;
        IF OLD.terms_document->>'approval' = 'staged' AND EXISTS (
            SELECT FROM jsonb_array_elements(OLD.terms_document->'stages') AS s(stage)
            WHERE (SELECT count(*) FROM requests_app_decision d
                   WHERE d.access_request_id = OLD.id AND d.extension_id IS NULL AND d.verdict = 'approve'
                     AND d.stage = (s.stage->>'position')::int) < (s.stage->>'quorum')::int) THEN
            PERFORM requests_app_refuse('the decisions that the terms demand are missing');
        END IF;
        IF EXISTS (SELECT FROM requests_app_decision d
                   WHERE d.access_request_id = OLD.id AND d.extension_id IS NULL AND d.verdict = 'deny') THEN
            PERFORM requests_app_refuse('it was denied');
        END IF;
    END IF;
    IF NEW.state = 'denied' AND NOT EXISTS (
        SELECT FROM requests_app_decision d
        WHERE d.access_request_id = OLD.id AND d.extension_id IS NULL AND d.verdict = 'deny') THEN
        PERFORM requests_app_refuse('denied without a denial');
    END IF;
    IF OLD.activated_at IS NOT NULL AND NEW.activated_at IS DISTINCT FROM OLD.activated_at THEN
        PERFORM requests_app_refuse('it began when it began');
    END IF;
    IF OLD.activated_at IS NOT NULL AND NEW.expires_at IS DISTINCT FROM OLD.expires_at AND (
        OLD.state <> 'active' OR NEW.state <> 'active'
        OR NOT EXISTS (SELECT FROM requests_app_extension x
                       WHERE x.access_request_id = OLD.id AND x.state = 'granted'
                         AND x.previous_end = OLD.expires_at AND x.new_end = NEW.expires_at)) THEN
        PERFORM requests_app_refuse('the end moves only with the decision of an extension');
    END IF;
    IF OLD.activated_at IS NULL AND NEW.activated_at IS NOT NULL AND (
        NEW.state <> 'active' OR NEW.activated_at NOT BETWEEN OLD.approved_at AND OLD.start_by
        OR NEW.activated_at < OLD.scheduled_at
        -- Or a pass "activated" in ten years would be open until then.
        OR NEW.activated_at > clock_timestamp() + requests_app_clock_may_step_back()
        -- A comparison with nothing is no refusal, in a CHECK neither.
        OR NEW.expires_at IS NULL OR NEW.expires_at <= NEW.activated_at
        OR NEW.expires_at > NEW.activated_at + make_interval(secs => NEW.approved_seconds)) THEN
        PERFORM requests_app_refuse('begins in time and lasts no longer than approved');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_update BEFORE UPDATE ON requests_app_accessrequest
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_request_update();

CREATE FUNCTION requests_app_guard_extension_moments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM requests_app_require_now(NEW.asked_at);
        IF NEW.decide_by < NEW.asked_at THEN
            PERFORM requests_app_refuse('to be decided after it was asked');
        END IF;
    ELSE
        IF NEW.stage_since IS DISTINCT FROM OLD.stage_since THEN
            PERFORM requests_app_require_now(NEW.stage_since);
        END IF;
        IF NEW.finished_at IS DISTINCT FROM OLD.finished_at THEN
            PERFORM requests_app_require_past(NEW.finished_at);
            IF NEW.state = 'granted' THEN
                PERFORM requests_app_require_now(NEW.finished_at);
            END IF;
        END IF;
    END IF;
    PERFORM requests_app_require_readable(NEW.decide_by, NEW.escalate_at);
    RETURN NEW;
END $$;
CREATE TRIGGER as_of_now BEFORE INSERT OR UPDATE ON requests_app_extension
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_extension_moments();

CREATE FUNCTION requests_app_guard_extension() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    r requests_app_accessrequest%ROWTYPE;
    granted bigint;
BEGIN
    PERFORM requests_app_require_the_present();
    -- The lock puts whoever extends, ends or sweeps at once into one order.
    SELECT * INTO r FROM requests_app_accessrequest WHERE id = NEW.access_request_id FOR NO KEY UPDATE;
    IF TG_OP = 'INSERT' THEN
        PERFORM requests_app_require_thawed(r.role_id);
        IF NEW.state <> 'pending' OR NEW.previous_end IS NOT NULL OR NEW.new_end IS NOT NULL
           OR NEW.finished_at IS NOT NULL THEN
            PERFORM requests_app_refuse('an extension begins as pending');
        END IF;
        SELECT coalesce(sum(e.seconds), 0) INTO granted
        FROM requests_app_extension e WHERE e.access_request_id = r.id AND e.state = 'granted';
        IF r.state <> 'active' OR NEW.asked_by_id <> r.beneficiary_id
           OR NEW.asked_at NOT BETWEEN r.activated_at AND r.expires_at
           OR NEW.decide_by > least(r.expires_at, NEW.asked_at + make_interval(
                  secs => (r.terms_document->>'pending_seconds')::bigint))
           OR NEW.stage_since IS DISTINCT FROM NEW.asked_at
           OR NEW.asked_at > clock_timestamp() + requests_app_clock_may_step_back()
           OR NEW.stage <> least(1, jsonb_array_length(r.terms_document->'stages'))
           OR NEW.seconds < 60
           OR r.approved_seconds + granted + NEW.seconds
              > coalesce((r.terms_document->>'extension_total_seconds')::bigint, 0)
           OR (SELECT count(*) FROM requests_app_extension e WHERE e.access_request_id = r.id AND e.state = 'granted')
              >= coalesce((r.terms_document->>'extensions_most')::int, 0) THEN
            PERFORM requests_app_refuse('the beneficiary of an active pass asks for more, as its terms allow');
        END IF;
        IF NOT requests_app_holds(r.entitlement_id, r.beneficiary_id, r.role_id) THEN
            PERFORM requests_app_refuse('this person may not have this role on these terms any more');
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.id, NEW.access_request_id, NEW.asked_by_id, NEW.seconds, NEW.justification, NEW.asked_at, NEW.decide_by)
       IS DISTINCT FROM
       (OLD.id, OLD.access_request_id, OLD.asked_by_id, OLD.seconds, OLD.justification, OLD.asked_at, OLD.decide_by)
       THEN
        PERFORM requests_app_refuse('what was asked never changes');
    END IF;
    IF OLD.state <> 'pending' AND NEW IS DISTINCT FROM OLD THEN
        PERFORM requests_app_refuse('a decided extension never changes');
    END IF;
    IF NEW.state <> OLD.state AND NOT requests_app_may_follow('extension', OLD.state, NEW.state) THEN
        PERFORM requests_app_refuse(format('an extension may not go from %s to %s', OLD.state, NEW.state));
    END IF;
    IF NEW.stage = OLD.stage AND NEW.stage_since <> OLD.stage_since
       OR NEW.stage <> OLD.stage AND (
           NEW.stage_since > clock_timestamp() + requests_app_clock_may_step_back()
           OR NEW.stage_since < (SELECT max(d.decided_at) FROM requests_app_decision d
                                 WHERE d.extension_id = OLD.id AND d.stage = OLD.stage)) THEN
        PERFORM requests_app_refuse('a stage begins when the one before it has agreed');
    END IF;
    IF NEW.stage <> OLD.stage THEN
        PERFORM requests_app_require_thawed(r.role_id);
    END IF;
    IF NEW.stage <> OLD.stage AND (
        NEW.stage <> OLD.stage + 1 OR NEW.state <> 'pending'
        OR NEW.stage > jsonb_array_length(r.terms_document->'stages')
        OR (SELECT count(*) FROM requests_app_decision d
            WHERE d.extension_id = OLD.id AND d.verdict = 'approve' AND d.stage = OLD.stage)
           < (r.terms_document->'stages'->(OLD.stage - 1)->>'quorum')::int) THEN
        PERFORM requests_app_refuse('a stage is left when it has agreed, for the next one');
    END IF;
    IF NEW.state = 'granted' THEN
        PERFORM requests_app_require_thawed(r.role_id);
        IF r.state <> 'active' OR NEW.finished_at NOT BETWEEN OLD.asked_at AND OLD.decide_by
           OR NEW.finished_at > clock_timestamp() + requests_app_clock_may_step_back()
           OR NEW.previous_end IS DISTINCT FROM r.expires_at
           OR NEW.new_end IS DISTINCT FROM r.expires_at + make_interval(secs => OLD.seconds) THEN
            PERFORM requests_app_refuse('an active pass goes on from its end, for as long as was asked');
        END IF;
        IF EXISTS (
            SELECT FROM jsonb_array_elements(r.terms_document->'stages') AS s(stage)
            WHERE (SELECT count(*) FROM requests_app_decision d
                   WHERE d.extension_id = OLD.id AND d.verdict = 'approve'
                     AND d.stage = (s.stage->>'position')::int) < (s.stage->>'quorum')::int)
           OR EXISTS (SELECT FROM requests_app_decision d WHERE d.extension_id = OLD.id AND d.verdict = 'deny') THEN
            PERFORM requests_app_refuse('the decisions that the terms demand are missing');
        END IF;
    ELSIF NEW.previous_end IS NOT NULL OR NEW.new_end IS NOT NULL THEN
        PERFORM requests_app_refuse('only a granted extension moves the end');
    END IF;
    IF NEW.state = 'denied' AND NOT EXISTS (
        SELECT FROM requests_app_decision d WHERE d.extension_id = OLD.id AND d.verdict = 'deny') THEN
        PERFORM requests_app_refuse('denied without a denial');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON requests_app_extension
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_extension();
