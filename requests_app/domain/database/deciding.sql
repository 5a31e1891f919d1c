-- Who is asked, who may decide, and whether enough people are left.

CREATE FUNCTION requests_app_guard_decision_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    r requests_app_accessrequest%ROWTYPE;
    x requests_app_extension%ROWTYPE;
    asked jsonb;
    asking bigint[];
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
    asking := ARRAY[r.requester_id, r.beneficiary_id];
    IF NEW.approver_id = ANY(asking) THEN
        PERFORM requests_app_refuse('nobody decides on a request they made or benefit from');
    END IF;
    asked := requests_app_older_stage() || (r.terms_document->'stages'->(NEW.stage - 1));
    is_escalated := coalesce(
        NEW.decided_at >= stage_began + make_interval(secs => (asked->>'escalate_seconds')::bigint), false);
    IF asked IS NULL OR NOT (
        asked->'users' @> to_jsonb(NEW.approver_id) OR is_escalated AND asked->'more_users' @> to_jsonb(NEW.approver_id)
        OR EXISTS (SELECT FROM requests_app_membership m
                   WHERE m.user_id = NEW.approver_id
                     AND (asked->'groups' @> to_jsonb(m.group_id)
                          OR is_escalated AND asked->'more_groups' @> to_jsonb(m.group_id))
                     AND requests_app_counts_for(m.user_id, m.group_id, asking))) THEN
        PERFORM requests_app_refuse('this person is not asked at this stage');
    END IF;
    IF EXISTS (SELECT FROM requests_app_user u WHERE u.id = NEW.approver_id AND u.deactivated_at IS NOT NULL) THEN
        PERFORM requests_app_refuse('a deactivated person decides nothing');
    END IF;
    IF requests_app_has_edited(NEW.approver_id, r.entitlement_id, r.role_id)
       OR requests_app_has_placed(NEW.approver_id, asking, r.entitlement_id) THEN
        PERFORM requests_app_refuse('nobody decides by their own change before another operator has confirmed it');
    END IF;
    NEW.recorded_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER guard_insert BEFORE INSERT ON requests_app_decision
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_decision_insert();

CREATE FUNCTION requests_app_guard_decision_moments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_now(NEW.decided_at);
    RETURN NEW;
END $$;
CREATE TRIGGER as_of_now BEFORE INSERT ON requests_app_decision
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_decision_moments();

-- Between the moment and the sweep that writes it into the row.
CREATE FUNCTION requests_app_asks_further(terms jsonb, a_stage int, groups bigint[], a_person bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce(terms->'stages'->(a_stage - 1)->'more_users' @> to_jsonb(a_person), false)
        OR EXISTS (SELECT FROM jsonb_array_elements_text(terms->'stages'->(a_stage - 1)->'more_groups') AS g(id)
                   WHERE g.id::bigint = ANY(groups))
$$;

-- As `policy` and `facts.enough_people` have it.
-- Whether too few people are left for the stages from `a_stage` on, of a request or of an extension of it. Each person
-- has one say: so for any of these stages together there must be as many people as they need (Hall's theorem).
-- Further people count where they are asked before `decide_by`; the stage that is decided began at `since`.
CREATE FUNCTION requests_app_lacks_people(
    r requests_app_accessrequest, an_extension bigint, a_stage int, since timestamptz, decide_by timestamptz,
    at timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    asking bigint[] := ARRAY[r.requester_id, r.beneficiary_id];
    decided bigint[] := ARRAY(
        SELECT d.approver_id FROM requests_app_decision d
        WHERE d.access_request_id = r.id AND d.extension_id IS NOT DISTINCT FROM an_extension);
    agreed int := (
        SELECT count(*) FROM requests_app_decision d
        WHERE d.access_request_id = r.id AND d.extension_id IS NOT DISTINCT FROM an_extension
          AND d.stage = a_stage AND d.verdict = 'approve');
    needed int := (
        SELECT sum((s.stage->>'quorum')::int) - agreed
        FROM jsonb_array_elements(r.terms_document->'stages') WITH ORDINALITY AS s(stage, n) WHERE s.n >= a_stage);
    asked jsonb;
    number int;
    person bigint;
    through bigint;
    able bigint[];
    -- Of each stage for which there are not enough people for all of them.
    scarce jsonb[] := '{}';
    quorums int[] := '{}';
BEGIN
    FOR asked, number IN
        SELECT requests_app_older_stage() || s.stage, s.n
        FROM jsonb_array_elements(r.terms_document->'stages') WITH ORDINALITY AS s(stage, n) WHERE s.n >= a_stage
    LOOP
        IF (CASE WHEN number = a_stage THEN since ELSE at END)
           + make_interval(secs => (asked->>'escalate_seconds')::bigint) < decide_by THEN
            asked := asked || jsonb_build_object(
                'groups', (asked->'groups') || (asked->'more_groups'),
                'users', (asked->'users') || (asked->'more_users'));
        END IF;
        able := '{}';
        -- A group may have ten thousand members, and two are needed: nobody is asked about beyond that.
        FOR person, through IN
            SELECT m.user_id, m.group_id
            FROM jsonb_array_elements_text(asked->'groups') AS g(id)
            JOIN requests_app_membership m ON m.group_id = g.id::bigint
            UNION ALL
            SELECT u.id::bigint, NULL FROM jsonb_array_elements_text(asked->'users') AS u(id)
        LOOP
            EXIT WHEN cardinality(able) >= needed;
            CONTINUE WHEN person = ANY (asking || decided || able)
                OR EXISTS (SELECT FROM requests_app_user u WHERE u.id = person AND u.deactivated_at IS NOT NULL)
                OR requests_app_has_changed(asking || person, person, through)
                OR requests_app_has_edited(person, r.entitlement_id, r.role_id)
                OR requests_app_has_placed(person, asking, r.entitlement_id);
            able := able || person;
        END LOOP;
        IF cardinality(able) < needed THEN
            scarce := scarce || to_jsonb(able);
            quorums := quorums || (asked->>'quorum')::int - CASE WHEN number = a_stage THEN agreed ELSE 0 END;
        END IF;
    END LOOP;
    FOR part IN 1 .. (1 << cardinality(scarce)) - 1 LOOP
        IF (SELECT count(DISTINCT p.id)
            FROM generate_subscripts(scarce, 1) AS n, jsonb_array_elements(scarce[n]) AS p(id)
            WHERE part & (1 << n - 1) <> 0)
           < (SELECT sum(quorums[n]) FROM generate_subscripts(quorums, 1) AS n WHERE part & (1 << n - 1) <> 0) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- For the sweeps, which ask these of many rows.
CREATE FUNCTION requests_app_request_lacks_people(a_request bigint, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT requests_app_lacks_people(
        r, NULL, r.stage,
        CASE WHEN r.requester_id <> r.beneficiary_id AND r.accepted_at IS NULL THEN at
             ELSE coalesce(r.stage_since, r.asked_at) END,
        r.decide_by, at)
    FROM requests_app_accessrequest r WHERE r.id = a_request AND r.state = 'pending' AND r.stage > 0
$$;

CREATE FUNCTION requests_app_extension_lacks_people(an_extension bigint, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT requests_app_lacks_people(r, x.id, x.stage, x.stage_since, x.decide_by, at)
    FROM requests_app_extension x JOIN requests_app_accessrequest r ON r.id = x.access_request_id
    WHERE x.id = an_extension AND x.state = 'pending' AND x.stage > 0
$$;
