-- The terms of a request are those of its entitlement, copied.

-- The stages for a role as an entitlement has them now, in the shape a request stores them (without the names).
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

-- What decides in the terms, the stages apart.
CREATE FUNCTION requests_app_terms(e requests_app_entitlement) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT jsonb_build_object(
        'entitlement', e.id, 'revision', e.revision, 'approval', e.approval, 'longest_seconds', e.longest_seconds,
        'session_ceiling_seconds', e.session_ceiling_seconds, 'pending_seconds', e.pending_seconds,
        'start_within_seconds', e.start_within_seconds, 'narrowing_statements', e.narrowing_statements,
        'narrowing_policy_arns', e.narrowing_policy_arns, 'lifted', e.lifted,
        'schedule_ahead_seconds', e.schedule_ahead_seconds, 'extensions_most', e.extensions_most,
        'extension_total_seconds', e.extension_total_seconds, 'channels', e.channels, 'most_at_once', e.most_at_once,
        'not_through_mcp', e.not_through_mcp, 'ends_by_sts_only', e.ends_by_sts_only,
        'hours', CASE WHEN cardinality(e.hours_days) > 0 THEN jsonb_build_object(
            'zone', e.hours_zone, 'days', to_jsonb(e.hours_days),
            'begin', to_char(e.hours_begin, 'HH24:MI'), 'end', to_char(e.hours_end, 'HH24:MI')) END)
$$;

-- What the terms of requests from before these keys say.
CREATE FUNCTION requests_app_older_terms() RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT '{"schedule_ahead_seconds": 0, "extensions_most": 0, "extension_total_seconds": 0, "channels": "both",
             "most_at_once": null, "hours": null, "not_through_mcp": false, "ends_by_sts_only": false}'::jsonb
$$;

CREATE FUNCTION requests_app_older_stage() RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT '{"escalate_seconds": null, "more_groups": [], "more_users": []}'::jsonb
$$;
