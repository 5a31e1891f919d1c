"""The guards for richer terms: schedules, shortening, escalation, extensions, asking on behalf, own edits.

Each function replaces one of 0002. What code from before this stores is still taken: terms without the newer keys
count as having their defaults.
"""

from django.db import migrations

# Nobody profits from their own edit: a membership in a group in which someone put themselves does not count.
OWN_EDITS = """
CREATE FUNCTION requests_app_has_edited(a_person bigint, an_entitlement bigint, a_role bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM requests_app_edit e
        WHERE e.editor_id = a_person AND e.confirmed_at IS NULL
          AND (e.entitlement_id = an_entitlement OR e.role_id = a_role
               OR e.account_id = (SELECT r.account_id FROM requests_app_role r WHERE r.id = a_role)
               OR e.unit_id IN (
                   SELECT above.id
                   FROM requests_app_role r
                   JOIN requests_app_account a ON a.id = r.account_id
                   JOIN requests_app_organisationalunit u ON u.id = a.unit_id
                   JOIN requests_app_organisationalunit above ON u.path LIKE above.path || '%'
                   WHERE r.id = a_role)))
$$;

CREATE FUNCTION requests_app_counts_in(a_person bigint, a_group bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM requests_app_membership m WHERE m.user_id = a_person AND m.group_id = a_group)
       AND NOT EXISTS (SELECT FROM requests_app_edit e
                       WHERE e.editor_id = a_person AND e.group_id = a_group AND e.confirmed_at IS NULL)
$$;

CREATE OR REPLACE FUNCTION requests_app_reaches(an_entitlement bigint, a_person bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT (EXISTS (SELECT FROM requests_app_entitlementuser n
                    WHERE n.entitlement_id = an_entitlement AND n.user_id = a_person)
            OR EXISTS (SELECT FROM requests_app_entitlementgroup n
                       WHERE n.entitlement_id = an_entitlement AND requests_app_counts_in(a_person, n.group_id)))
       AND NOT EXISTS (SELECT FROM requests_app_excludeduser x
                       WHERE x.entitlement_id = an_entitlement AND x.user_id = a_person)
       -- Whoever left an excluded group by their own hand is still excluded.
       AND NOT EXISTS (SELECT FROM requests_app_excludedgroup x
                       WHERE x.entitlement_id = an_entitlement
                         AND (EXISTS (SELECT FROM requests_app_membership m
                                      WHERE m.user_id = a_person AND m.group_id = x.group_id)
                              OR EXISTS (SELECT FROM requests_app_edit e
                                         WHERE e.editor_id = a_person AND e.group_id = x.group_id
                                           AND e.confirmed_at IS NULL)))
$$;

-- Whether someone whose request was approved may still use it, freezes apart.
CREATE FUNCTION requests_app_holds(an_entitlement bigint, a_person bigint, a_role bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM requests_app_entitlement e WHERE e.id = an_entitlement AND e.is_active)
       AND EXISTS (SELECT FROM requests_app_user u WHERE u.id = a_person AND u.deactivated_at IS NULL)
       AND EXISTS (SELECT FROM requests_app_role r JOIN requests_app_account a ON a.id = r.account_id
                   WHERE r.id = a_role AND r.is_active AND a.is_active)
       AND requests_app_gives(an_entitlement, a_role) AND requests_app_reaches(an_entitlement, a_person)
       AND NOT requests_app_has_edited(a_person, an_entitlement, a_role)
$$;

CREATE FUNCTION requests_app_guard_edit() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.confirmed_at IS NOT NULL OR NEW.confirmed_by_id IS NOT NULL THEN
            PERFORM requests_app_refuse('an edit begins unconfirmed');
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.id, NEW.editor_id, NEW.entitlement_id, NEW.role_id, NEW.account_id, NEW.unit_id, NEW.group_id,
        NEW.made_at, NEW.change)
       IS DISTINCT FROM
       (OLD.id, OLD.editor_id, OLD.entitlement_id, OLD.role_id, OLD.account_id, OLD.unit_id, OLD.group_id,
        OLD.made_at, OLD.change)
       OR OLD.confirmed_at IS NOT NULL THEN
        PERFORM requests_app_refuse('an edit changes only by being confirmed, once');
    END IF;
    IF NEW.confirmed_by_id = NEW.editor_id OR NOT EXISTS (
        SELECT FROM requests_app_user u
        WHERE u.id = NEW.confirmed_by_id AND u.is_superuser AND u.deactivated_at IS NULL) THEN
        PERFORM requests_app_refuse('another operator confirms an edit');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON requests_app_edit
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_edit();
CREATE TRIGGER for_ever BEFORE DELETE OR TRUNCATE ON requests_app_edit
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
"""

# The stages for a role as an entitlement has them now, in the shape a request stores them (without the names).
STAGES = """
DROP FUNCTION requests_app_stages(bigint);
CREATE FUNCTION requests_app_stages_for(an_entitlement bigint, a_role bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'position', n, 'quorum', quorum, 'groups', asked_groups, 'users', asked_users,
               'escalate_seconds', escalate_seconds, 'more_groups', more_groups, 'more_users', more_users)
               ORDER BY n), '[]')
    FROM (
        SELECT row_number() OVER (ORDER BY s.position) AS n, s.quorum, s.escalate_seconds,
               (SELECT coalesce(jsonb_agg(asked ORDER BY asked), '[]') FROM (
                    SELECT g.group_id FROM requests_app_stagegroup g WHERE g.stage_id = s.id
                    UNION
                    SELECT CASE s.owners WHEN 'account' THEN a.owners_id WHEN 'role' THEN r.owners_id END
                    FROM requests_app_role r JOIN requests_app_account a ON a.id = r.account_id WHERE r.id = a_role
                ) AS groups(asked) WHERE asked IS NOT NULL) AS asked_groups,
               (SELECT coalesce(jsonb_agg(u.user_id ORDER BY u.user_id), '[]')
                FROM requests_app_stageuser u WHERE u.stage_id = s.id) AS asked_users,
               (SELECT coalesce(jsonb_agg(g.group_id ORDER BY g.group_id), '[]')
                FROM requests_app_stagemoregroup g WHERE g.stage_id = s.id) AS more_groups,
               (SELECT coalesce(jsonb_agg(u.user_id ORDER BY u.user_id), '[]')
                FROM requests_app_stagemoreuser u WHERE u.stage_id = s.id) AS more_users
        FROM requests_app_stage s WHERE s.entitlement_id = an_entitlement
    ) stages
$$;
"""

# What decides in the terms, the stages apart.
TERMS = """
CREATE FUNCTION requests_app_terms(e requests_app_entitlement) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT jsonb_build_object(
        'entitlement', e.id, 'revision', e.revision, 'approval', e.approval, 'longest_seconds', e.longest_seconds,
        'session_ceiling_seconds', e.session_ceiling_seconds, 'pending_seconds', e.pending_seconds,
        'start_within_seconds', e.start_within_seconds, 'narrowing_statements', e.narrowing_statements,
        'narrowing_policy_arns', e.narrowing_policy_arns, 'lifted', e.lifted,
        'schedule_ahead_seconds', e.schedule_ahead_seconds, 'extensions_most', e.extensions_most,
        'extension_total_seconds', e.extension_total_seconds, 'channels', e.channels, 'most_at_once', e.most_at_once,
        'hours', CASE WHEN cardinality(e.hours_days) > 0 THEN jsonb_build_object(
            'zone', e.hours_zone, 'days', to_jsonb(e.hours_days),
            'begin', to_char(e.hours_begin, 'HH24:MI'), 'end', to_char(e.hours_end, 'HH24:MI')) END)
$$;

-- What the terms of requests from before these keys say.
CREATE FUNCTION requests_app_older_terms() RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT '{"schedule_ahead_seconds": 0, "extensions_most": 0, "extension_total_seconds": 0, "channels": "both",
             "most_at_once": null, "hours": null}'::jsonb
$$;

CREATE FUNCTION requests_app_older_stage() RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT '{"escalate_seconds": null, "more_groups": [], "more_users": []}'::jsonb
$$;
"""

REQUEST_INSERT = """
CREATE OR REPLACE FUNCTION requests_app_guard_request_insert() RETURNS trigger
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
    IF NEW.requester_id <> NEW.beneficiary_id AND NOT EXISTS (
        SELECT FROM requests_app_entitlementasker k
        WHERE k.entitlement_id = e.id AND requests_app_counts_in(NEW.requester_id, k.group_id)) THEN
        PERFORM requests_app_refuse('the entitlement does not let this person ask for others');
    END IF;
    IF requests_app_has_edited(NEW.beneficiary_id, e.id, NEW.role_id)
       OR requests_app_has_edited(NEW.requester_id, e.id, NEW.role_id) THEN
        PERFORM requests_app_refuse('nobody uses their own change before another operator has confirmed it');
    END IF;
    RETURN NEW;
END $$;
"""

REQUEST_UPDATE = """
CREATE OR REPLACE FUNCTION requests_app_guard_request_update() RETURNS trigger
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
"""

DECISION_INSERT = """
CREATE OR REPLACE FUNCTION requests_app_guard_decision_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    r requests_app_accessrequest%ROWTYPE;
    x requests_app_extension%ROWTYPE;
    asked jsonb;
    stage_began timestamptz;
    is_escalated boolean;
BEGIN
    PERFORM requests_app_require_the_present();
    -- The lock puts whoever decides, withdraws or sweeps at once into one order.
    SELECT * INTO r FROM requests_app_accessrequest WHERE id = NEW.access_request_id FOR NO KEY UPDATE;
    IF NEW.extension_id IS NULL THEN
        IF r.state <> 'pending' OR NEW.stage <> r.stage OR NEW.decided_at NOT BETWEEN r.asked_at AND r.decide_by THEN
            PERFORM requests_app_refuse('only the present stage of a pending request is decided');
        END IF;
        IF r.requester_id <> r.beneficiary_id AND r.accepted_at IS NULL THEN
            PERFORM requests_app_refuse('whoever it is for has to accept it first');
        END IF;
        stage_began := coalesce(r.stage_since, r.asked_at);
    ELSE
        SELECT * INTO x FROM requests_app_extension WHERE id = NEW.extension_id;
        IF r.state <> 'active' OR x.access_request_id <> r.id OR x.state <> 'pending' OR NEW.stage <> x.stage
           OR NEW.decided_at NOT BETWEEN x.asked_at AND x.decide_by THEN
            PERFORM requests_app_refuse('only the present stage of a pending extension is decided');
        END IF;
        stage_began := x.stage_since;
    END IF;
    -- A time to come would let those decide whom only time lets.
    IF NEW.decided_at < stage_began
       OR NEW.decided_at > clock_timestamp() + requests_app_clock_may_step_back() THEN
        PERFORM requests_app_refuse('decided since the stage began, and not in the future');
    END IF;
    IF NEW.approver_id IN (r.requester_id, r.beneficiary_id) THEN
        PERFORM requests_app_refuse('nobody decides on a request they made or benefit from');
    END IF;
    asked := requests_app_older_stage() || (r.terms_document->'stages'->(NEW.stage - 1));
    is_escalated := coalesce(
        NEW.decided_at >= stage_began + make_interval(secs => (asked->>'escalate_seconds')::bigint), false);
    IF asked IS NULL OR NOT (
        asked->'users' @> to_jsonb(NEW.approver_id)
        OR EXISTS (SELECT FROM requests_app_membership m
                   WHERE m.user_id = NEW.approver_id AND asked->'groups' @> to_jsonb(m.group_id)
                     AND requests_app_counts_in(NEW.approver_id, m.group_id))
        OR is_escalated AND (
            asked->'more_users' @> to_jsonb(NEW.approver_id)
            OR EXISTS (SELECT FROM requests_app_membership m
                       WHERE m.user_id = NEW.approver_id AND asked->'more_groups' @> to_jsonb(m.group_id)
                         AND requests_app_counts_in(NEW.approver_id, m.group_id)))) THEN
        PERFORM requests_app_refuse('this person is not asked at this stage');
    END IF;
    IF EXISTS (SELECT FROM requests_app_user u WHERE u.id = NEW.approver_id AND u.deactivated_at IS NOT NULL) THEN
        PERFORM requests_app_refuse('a deactivated person decides nothing');
    END IF;
    IF requests_app_has_edited(NEW.approver_id, r.entitlement_id, r.role_id) THEN
        PERFORM requests_app_refuse('nobody decides by their own change before another operator has confirmed it');
    END IF;
    NEW.recorded_at := clock_timestamp();
    RETURN NEW;
END $$;
"""

EXTENSION = """
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
CREATE TRIGGER for_ever BEFORE DELETE OR TRUNCATE ON requests_app_extension
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
"""

# Some terms give keys only, or the console only.
CHANNELS = """
CREATE FUNCTION requests_app_guard_channel() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF coalesce((SELECT terms_document->>'channels' FROM requests_app_accessrequest WHERE id = NEW.access_request_id),
                'both') NOT IN ('both', CASE NEW.kind WHEN 'console' THEN 'console' ELSE 'keys' END) THEN
        PERFORM requests_app_refuse('the terms do not give this');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER channel BEFORE INSERT ON requests_app_delivery
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_channel();
"""

# For the sweeps, which ask it of many rows.
LACKS_DECIDERS = """
CREATE FUNCTION requests_app_lacks_deciders(a_request bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    r requests_app_accessrequest%ROWTYPE;
    asked jsonb;
    needed int;
    person bigint;
    able bigint[] := '{}';
BEGIN
    SELECT * INTO r FROM requests_app_accessrequest WHERE id = a_request;
    asked := requests_app_older_stage() || (r.terms_document->'stages'->(r.stage - 1));
    IF r.state <> 'pending' OR r.stage = 0 OR asked IS NULL THEN
        RETURN false;
    END IF;
    needed := (asked->>'quorum')::int - (
        SELECT count(*) FROM requests_app_decision d
        WHERE d.access_request_id = r.id AND d.extension_id IS NULL AND d.stage = r.stage AND d.verdict = 'approve');
    -- A group may have ten thousand members, and two are needed: no further than that.
    FOR person IN
        SELECT p.id
        FROM (
            SELECT m.user_id AS id
            FROM jsonb_array_elements_text((asked->'groups') || (asked->'more_groups')) AS g(id)
            JOIN requests_app_membership m ON m.group_id = g.id::bigint
            WHERE NOT EXISTS (SELECT FROM requests_app_edit e
                              WHERE e.editor_id = m.user_id AND e.group_id = m.group_id AND e.confirmed_at IS NULL)
            UNION ALL
            SELECT u.id::bigint FROM jsonb_array_elements_text((asked->'users') || (asked->'more_users')) AS u(id)
        ) AS p
        JOIN requests_app_user u ON u.id = p.id
        WHERE u.deactivated_at IS NULL AND p.id NOT IN (r.requester_id, r.beneficiary_id)
          AND NOT EXISTS (SELECT FROM requests_app_decision d
                          WHERE d.access_request_id = r.id AND d.extension_id IS NULL AND d.approver_id = p.id)
          AND NOT requests_app_has_edited(p.id, r.entitlement_id, r.role_id)
    LOOP
        EXIT WHEN cardinality(able) >= needed;
        IF NOT person = ANY(able) THEN
            able := able || person;
        END IF;
    END LOOP;
    RETURN cardinality(able) < needed;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0021_terms")]

    operations = [
        migrations.RunSQL(sql, migrations.RunSQL.noop)
        for sql in (
            OWN_EDITS,
            STAGES,
            TERMS,
            REQUEST_INSERT,
            REQUEST_UPDATE,
            DECISION_INSERT,
            EXTENSION,
            CHANNELS,
            LACKS_DECIDERS,
        )
    ]
