-- Who is asked, who may decide, and whether enough people are left: one text for one person and for all, for a request and
-- for more time, for what is stored and for what could be asked for.

-- What is or was to be decided, with the stage that it has come to; `asks` is that stage as the terms have it.
CREATE VIEW requests_app_matter WITH (security_invoker = true) AS
SELECT m.*,
       CASE WHEN m.stage > 0 THEN m.stages->(m.stage - 1) END AS asks
FROM (
    SELECT r.id AS access_request_id, NULL::bigint AS extension_id, r.state, ARRAY[r.requester_id, r.beneficiary_id] AS asking,
           r.entitlement_id, r.role_id, r.requester_id = r.beneficiary_id OR r.accepted_at IS NOT NULL AS accepted,
           r.terms_document->'stages' AS stages, r.stage::int, r.asked_at, coalesce(r.stage_since, r.asked_at) AS since,
           r.decide_by
    FROM requests_app_accessrequest r
    UNION ALL
    -- More time is only for an active pass.
    SELECT r.id, x.id, CASE WHEN r.state = 'active' THEN x.state ELSE r.state END,
           ARRAY[r.requester_id, r.beneficiary_id], r.entitlement_id, r.role_id, true,
           r.terms_document->'stages', x.stage::int, x.asked_at, x.stage_since, x.decide_by
    FROM requests_app_extension x JOIN requests_app_accessrequest r ON r.id = x.access_request_id
) m;

-- Whom a stage asks: by name, or by a membership that counts for those who ask too; `further` once its time is over.
CREATE FUNCTION requests_app_asked(stage jsonb, asking bigint[]) RETURNS TABLE (person_id bigint, further boolean)
LANGUAGE sql STABLE AS $$
    SELECT named.id::bigint, a.further
    FROM (VALUES (stage->'users', false), (stage->'more_users', true)) AS a (people, further),
         jsonb_array_elements_text(a.people) AS named (id)
    UNION ALL
    SELECT m.user_id, a.further
    FROM (VALUES (stage->'groups', false), (stage->'more_groups', true)) AS a (groups, further)
         -- As an array: joined, these few groups would have all memberships read that there are.
         JOIN public.requests_app_memberships(asking) m ON m.group_id = ANY(ARRAY(
             SELECT named.id::bigint FROM jsonb_array_elements_text(a.groups) AS named (id)
         ))
$$;

-- Who of them could decide: active, in no hand with those who ask, and by no edit of theirs that nobody has confirmed.
CREATE FUNCTION requests_app_deciders(stage jsonb, asking bigint[], an_entitlement bigint, a_role bigint)
RETURNS TABLE (person_id bigint, further boolean)
LANGUAGE sql STABLE AS $$
    SELECT a.person_id, a.further
    FROM public.requests_app_asked(stage, asking) a
    JOIN public.requests_app_user u ON u.id = a.person_id
    WHERE u.deactivated_at IS NULL AND a.person_id <> ALL(asking)
      -- Only of those whom somebody placed, and nobody confirmed, is more to be asked.
      AND NOT CASE
          WHEN EXISTS (SELECT FROM public.requests_app_edit e WHERE e.person_id = ANY(asking) AND e.confirmed_at IS NULL)
            OR EXISTS (SELECT FROM public.requests_app_edit e
                       WHERE e.person_id = a.person_id AND e.confirmed_at IS NULL)
          THEN public.requests_app_same_hand(a.person_id, asking) ELSE false END
      AND NOT EXISTS (SELECT FROM public.requests_app_editors(an_entitlement, a_role) e WHERE e.person_id = a.person_id)
      AND NOT EXISTS (SELECT FROM public.requests_app_placers(asking, an_entitlement) p WHERE p.person_id = a.person_id)
$$;

-- All that is asked before one person decides one matter: `policy.may_decide` says it in sentences, in this order.
CREATE FUNCTION requests_app_deciding(a_person bigint) RETURNS TABLE (
    access_request_id bigint, extension_id bigint, state text, stage int, asked_at timestamptz, since timestamptz,
    decide_by timestamptz, asks jsonb,
    is_active boolean, is_asking boolean, has_decided boolean, nobody_is_asked boolean, is_accepted boolean,
    has_edited boolean, has_placed boolean, is_same_hand boolean, is_asked boolean, is_asked_from timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT m.access_request_id, m.extension_id, m.state::text, m.stage, m.asked_at, m.since, m.decide_by, m.asks,
           EXISTS (SELECT FROM public.requests_app_user u WHERE u.id = a_person AND u.deactivated_at IS NULL),
           a_person = ANY(m.asking),
           EXISTS (SELECT FROM public.requests_app_decision d
                   WHERE d.access_request_id = m.access_request_id AND d.approver_id = a_person
                     AND d.extension_id IS NOT DISTINCT FROM m.extension_id),
           m.asks IS NULL,
           m.accepted,
           EXISTS (SELECT FROM public.requests_app_editors(m.entitlement_id, m.role_id) e WHERE e.person_id = a_person),
           EXISTS (SELECT FROM public.requests_app_placers(m.asking, m.entitlement_id) p WHERE p.person_id = a_person),
           public.requests_app_same_hand(a_person, m.asking),
           EXISTS (SELECT FROM public.requests_app_asked(m.asks, m.asking) a
                   WHERE a.person_id = a_person AND NOT a.further),
           -- Further approvers are asked from then on.
           CASE WHEN EXISTS (SELECT FROM public.requests_app_asked(m.asks, m.asking) a
                             WHERE a.person_id = a_person AND a.further)
                THEN m.since + make_interval(secs => (m.asks->>'escalate_seconds')::bigint) END
    FROM public.requests_app_matter m
$$;

-- What a person may decide, at a time: for lists, of the rows that an index has found.
CREATE FUNCTION requests_app_decidable(a_person bigint, at timestamptz)
RETURNS TABLE (access_request_id bigint, extension_id bigint)
LANGUAGE sql STABLE AS $$
    SELECT d.access_request_id, d.extension_id
    FROM public.requests_app_deciding(a_person) d
    WHERE d.state = 'pending' AND d.decide_by > at AND d.is_active AND NOT d.is_asking AND NOT d.has_decided
      AND NOT d.nobody_is_asked AND d.is_accepted AND NOT d.has_edited AND NOT d.has_placed
      AND NOT d.is_same_hand
      AND (d.is_asked OR d.is_asked_from <= at)
$$;

CREATE FUNCTION requests_app_may_decide(a_person bigint, a_request bigint, an_extension bigint, at timestamptz)
RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM requests_app_decidable(a_person, at) d
        WHERE d.access_request_id = a_request AND d.extension_id IS NOT DISTINCT FROM an_extension);
END $$;

-- What could wait for a person: what asks them by name, by a group of theirs or by its time. By the indexes of just that,
-- whatever the planner thinks: it may as well read all that is pending, and most people decide nothing.
CREATE FUNCTION requests_app_perhaps_waiting(a_person bigint, at timestamptz, most bigint)
RETURNS TABLE (id bigint, decide_by timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_indexscan = off SET enable_seqscan = off AS $$
DECLARE
    theirs bigint[] := ARRAY(SELECT m.group_id FROM requests_app_membership m WHERE m.user_id = a_person);
BEGIN
    RETURN QUERY
    SELECT r.id, r.decide_by
    FROM requests_app_accessrequest r
    WHERE r.state = 'pending' AND (
        r.deciding_users @> ARRAY[a_person] OR r.deciding_groups && theirs
        -- Further people whose time has come since the sweep last wrote them into the row.
        OR r.escalate_at <= at)
    LIMIT most;
END $$;

CREATE FUNCTION requests_app_perhaps_waiting_more(a_person bigint, at timestamptz, most bigint) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_indexscan = off SET enable_seqscan = off AS $$
DECLARE
    theirs bigint[] := ARRAY(SELECT m.group_id FROM requests_app_membership m WHERE m.user_id = a_person);
BEGIN
    RETURN QUERY
    SELECT x.id
    FROM requests_app_extension x
    WHERE x.state = 'pending'
      AND (x.deciding_users @> ARRAY[a_person] OR x.deciding_groups && theirs OR x.escalate_at <= at)
    LIMIT most;
END $$;

-- What waits for a person, the most urgent first: `most` of it, all of it where that is null; what follows `after_id`,
-- which is to be decided by `after`. Each is asked exactly, in this order and only until there are enough. Planned once:
-- what partial indexes ask is written out, and to plan this takes longer than to run it.
CREATE FUNCTION requests_app_waiting(
    a_person bigint, at timestamptz, most bigint, after timestamptz DEFAULT '-infinity', after_id bigint DEFAULT 0,
    few bigint DEFAULT 500)
RETURNS TABLE (id bigint, decide_by timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    perhaps bigint[];
    until timestamptz[];
BEGIN
    SELECT array_agg(p.id), array_agg(p.decide_by) INTO perhaps, until
    FROM requests_app_perhaps_waiting(a_person, at, few) p;
    IF coalesce(cardinality(perhaps), 0) < few THEN
        RETURN QUERY
        SELECT r.id, r.decide_by
        FROM (
            SELECT r.id, r.decide_by
            FROM unnest(perhaps, until) AS r (id, decide_by)
            WHERE (r.decide_by, r.id) > (after, after_id)
            ORDER BY r.decide_by, r.id
            OFFSET 0
        ) r CROSS JOIN LATERAL (
            SELECT FROM requests_app_decidable(a_person, at) d
            WHERE d.access_request_id = r.id AND d.extension_id IS NULL
            OFFSET 0
        ) d
        LIMIT most;
    ELSE
        -- They are so many that some of them come soon among all that is pending.
        RETURN QUERY
        SELECT r.id, r.decide_by
        FROM (
            SELECT r.id, r.decide_by
            FROM requests_app_accessrequest r
            WHERE r.state = 'pending' AND r.decide_by > at AND (r.decide_by, r.id) > (after, after_id) AND (
                r.deciding_users @> ARRAY[a_person]
                OR r.deciding_groups && ARRAY(
                    SELECT m.group_id FROM requests_app_membership m WHERE m.user_id = a_person)
                OR r.escalate_at <= at)
            ORDER BY r.decide_by, r.id
            OFFSET 0
        ) r CROSS JOIN LATERAL (
            SELECT FROM requests_app_decidable(a_person, at) d
            WHERE d.access_request_id = r.id AND d.extension_id IS NULL
            OFFSET 0
        ) d
        LIMIT most;
    END IF;
END $$;

-- The same of more time, of which there is less: only active passes are extended.
CREATE FUNCTION requests_app_waiting_more(a_person bigint, at timestamptz, most bigint)
RETURNS TABLE (id bigint, decide_by timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    perhaps bigint[] := ARRAY(SELECT requests_app_perhaps_waiting_more(a_person, at, NULL));
BEGIN
    RETURN QUERY
    SELECT x.id, x.decide_by
    FROM (
        SELECT x.id, x.decide_by, x.access_request_id
        FROM requests_app_extension x
        WHERE x.id = ANY (perhaps)
        ORDER BY x.decide_by, x.id
        OFFSET 0
    ) x CROSS JOIN LATERAL (
        SELECT FROM requests_app_decidable(a_person, at) d
        WHERE d.access_request_id = x.access_request_id AND d.extension_id = x.id
        OFFSET 0
    ) d
    LIMIT most;
END $$;

-- Whether somebody has agreed to this who may be one and the same with this person: agreement is counted in people, and
-- two whom one person could act as are one. (A no is always possible.)
CREATE FUNCTION requests_app_agreed_with(a_person bigint, a_request bigint, an_extension bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN requests_app_same_hand(a_person, ARRAY(
        SELECT d.approver_id FROM requests_app_decision d
        WHERE d.access_request_id = a_request AND d.extension_id IS NOT DISTINCT FROM an_extension
          AND d.verdict = 'approve' AND d.approver_id <> a_person));
END $$;

CREATE FUNCTION requests_app_guard_decision_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    d record;
BEGIN
    PERFORM requests_app_require_the_present();
    -- The lock puts whoever decides, withdraws or sweeps at once into one order. Two statements: what is asked is asked after it.
    PERFORM FROM requests_app_accessrequest WHERE id = NEW.access_request_id FOR NO KEY UPDATE;
    SELECT * INTO d FROM requests_app_deciding(NEW.approver_id) m
    WHERE m.access_request_id = NEW.access_request_id AND m.extension_id IS NOT DISTINCT FROM NEW.extension_id;
    IF NOT FOUND OR d.state <> 'pending' OR NEW.stage <> d.stage OR d.nobody_is_asked
       OR NEW.decided_at NOT BETWEEN d.asked_at AND d.decide_by THEN
        PERFORM requests_app_refuse('only the present stage of what is pending is decided');
    END IF;
    IF NOT d.is_accepted THEN
        PERFORM requests_app_refuse('whoever it is for has to accept it first');
    END IF;
    -- A time to come would let those decide whom only time lets.
    IF NEW.decided_at < d.since
       OR NEW.decided_at > clock_timestamp() + requests_app_clock_may_step_back() THEN
        PERFORM requests_app_refuse('decided since the stage began, and not in the future');
    END IF;
    IF d.is_asking THEN
        PERFORM requests_app_refuse('nobody decides on a request they made or benefit from');
    END IF;
    IF NOT (d.is_asked OR coalesce(NEW.decided_at >= d.is_asked_from, false)) THEN
        PERFORM requests_app_refuse('this person is not asked at this stage');
    END IF;
    IF NOT d.is_active THEN
        PERFORM requests_app_refuse('a deactivated person decides nothing');
    END IF;
    IF d.is_same_hand THEN
        PERFORM requests_app_refuse('nobody decides for those who made them, or whom they made, before a third has confirmed it');
    END IF;
    IF NEW.verdict = 'approve'
       AND requests_app_agreed_with(NEW.approver_id, NEW.access_request_id, NEW.extension_id) THEN
        PERFORM requests_app_refuse('nobody agrees a second time through somebody whom they made, or who made them');
    END IF;
    IF d.has_edited OR d.has_placed THEN
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

-- For which of the stages there are too few people, counted from 1. Each person has one say: so for any of these stages
-- together there must be as many people as they need (Hall's theorem), and what one of them lacks is its own.
-- `agreed`: so many have at the first of them, which began at `since`; the others begin at `at` at the earliest. Further
-- people count where they are asked before `decide_by`. `outside`: who has had their say; whoever may be one and the same
-- with one of them is not left either. (Of those who are left each counts, until one who is the same as another has agreed.)
CREATE FUNCTION requests_app_lacking(
    stages jsonb, agreed int, asking bigint[], outside bigint[], an_entitlement bigint, a_role bigint,
    since timestamptz, decide_by timestamptz, at timestamptz) RETURNS int[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    quorums int[] := ARRAY(
        SELECT greatest((s.stage->>'quorum')::int - CASE WHEN s.n = 1 THEN agreed ELSE 0 END, 0)
        FROM jsonb_array_elements(stages) WITH ORDINALITY AS s (stage, n) ORDER BY s.n);
    needed int := (SELECT sum(q) FROM unnest(quorums) AS q);
    asked jsonb;
    number int;
    in_time boolean;
    person bigint;
    able bigint[];
    -- Of the stages for which there are not enough people for all of them: which, who, and how many are seated so far.
    scarce int[] := '{}';
    people jsonb[] := '{}';
    seated int := 0;
    most int;
    lacking int[] := '{}';
BEGIN
    FOR asked, number IN
        SELECT s.stage, s.n FROM jsonb_array_elements(stages) WITH ORDINALITY AS s (stage, n) ORDER BY s.n
    LOOP
        in_time := coalesce(
            (CASE WHEN number = 1 THEN since ELSE at END) + make_interval(secs => (asked->>'escalate_seconds')::bigint)
            < decide_by, false);
        able := '{}';
        -- A group may have ten thousand members, and two are needed: nobody is asked about beyond that.
        FOR person IN
            SELECT d.person_id FROM requests_app_deciders(asked, asking, an_entitlement, a_role) d
            WHERE in_time OR NOT d.further
        LOOP
            EXIT WHEN cardinality(able) >= needed;
            CONTINUE WHEN person = ANY(able) OR person = ANY(outside)
                OR outside <> '{}' AND requests_app_same_hand(person, outside);
            able := able || person;
        END LOOP;
        CONTINUE WHEN cardinality(able) >= needed;
        scarce := scarce || number;
        people := people || to_jsonb(able);
        -- So many of these stages' seats can be filled together.
        most := NULL;
        FOR part IN 0 .. (1 << cardinality(scarce)) - 1 LOOP
            most := least(most, (
                SELECT count(DISTINCT p.id)
                FROM generate_subscripts(scarce, 1) AS n, jsonb_array_elements(people[n]) AS p (id)
                WHERE part & (1 << n - 1) <> 0
            ) + (
                SELECT coalesce(sum(quorums[scarce[n]]), 0)
                FROM generate_subscripts(scarce, 1) AS n WHERE part & (1 << n - 1) = 0
            ));
        END LOOP;
        IF most < seated + quorums[number] THEN
            lacking := lacking || number;
        END IF;
        seated := most;
    END LOOP;
    RETURN lacking;
END $$;

-- Whether too few people are left for a stage of what is pending, the present one or a later one.
CREATE FUNCTION requests_app_lacks_people(a_request bigint, an_extension bigint, at timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN coalesce((
        SELECT cardinality(requests_app_lacking(
            jsonb_path_query_array(m.stages, '$[$from to last]', jsonb_build_object('from', m.stage - 1)),
            (SELECT count(*)::int FROM requests_app_decision d
             WHERE d.access_request_id = m.access_request_id AND d.extension_id IS NOT DISTINCT FROM m.extension_id
               AND d.stage = m.stage AND d.verdict = 'approve'),
            m.asking,
            ARRAY(SELECT d.approver_id FROM requests_app_decision d
                  WHERE d.access_request_id = m.access_request_id AND d.extension_id IS NOT DISTINCT FROM m.extension_id),
            m.entitlement_id, m.role_id, CASE WHEN m.accepted THEN m.since ELSE at END, m.decide_by, at)) > 0
        FROM requests_app_matter m
        WHERE m.access_request_id = a_request AND m.extension_id IS NOT DISTINCT FROM an_extension
          AND m.state = 'pending' AND m.stage > 0), false);
END $$;
