-- Whom an entitlement reaches and which roles it gives: each said once, as a relation. `domain/facts.py` reads these, and
-- the booleans that guards and lists ask are made of them.
--
-- Nothing is resolved in advance. Which roles a selector means is found when somebody asks, so it is never out of date.

-- Which roles an entitlement gives now: by name, and those that one of its selectors means. All that a selector says
-- must hold; a unit is meant with everything below it. A pattern is IAM's; of what LIKE reads otherwise, only `_` can
-- stand in it.
CREATE VIEW requests_app_given_role WITH (security_invoker = true) AS
SELECT n.entitlement_id, n.role_id
FROM requests_app_entitlementrole n
UNION ALL
SELECT s.entitlement_id, r.id
FROM requests_app_role r
    JOIN requests_app_account a ON a.id = r.account_id
    LEFT JOIN requests_app_organisationalunit u ON u.id = a.unit_id
    JOIN requests_app_roleselector s ON
        (s.account_id IS NULL OR s.account_id = r.account_id)
        AND (s.unit_id IS NULL OR u.path LIKE '%/' || s.unit_id || '/%')
        AND (s.environment = '' OR s.environment = a.environment)
        AND (s.account_tag_key = '' OR CASE
            WHEN s.account_tag_value IS NULL THEN a.tags ? s.account_tag_key
            ELSE a.tags->>s.account_tag_key = s.account_tag_value
        END)
        AND (s.role_name = '' OR upper(r.name) LIKE upper(
            replace(replace(replace(s.role_name, '_', '\_'), '?', '_'), '*', '%')
        ))
        AND (s.role_tag_key = '' OR CASE
            WHEN s.role_tag_value IS NULL THEN r.tags ? s.role_tag_key
            ELSE r.tags->>s.role_tag_key = s.role_tag_value
        END)
        -- Refused when it is stored. Here once more, because it would give everything.
        AND (
            s.account_id IS NOT NULL OR s.unit_id IS NOT NULL
            OR (s.environment, s.account_tag_key, s.role_name, s.role_tag_key) <> ('', '', '', '')
        );

-- Whom an entitlement names: themselves, or a group of theirs in which they are not by their own doing.
CREATE VIEW requests_app_named_person WITH (security_invoker = true) AS
SELECT n.entitlement_id, n.user_id AS person_id
FROM requests_app_entitlementuser n
UNION ALL
SELECT n.entitlement_id, m.user_id
FROM requests_app_entitlementgroup n
    JOIN requests_app_memberships('{}') m ON m.group_id = n.group_id;

-- Whom an entitlement excludes, whatever else names them. Whoever left an excluded group by their own hand is excluded.
CREATE VIEW requests_app_excluded_person WITH (security_invoker = true) AS
SELECT x.entitlement_id, x.user_id AS person_id
FROM requests_app_excludeduser x
UNION ALL
SELECT x.entitlement_id, m.user_id
FROM requests_app_excludedgroup x
    JOIN requests_app_membership m ON m.group_id = x.group_id
UNION ALL
SELECT x.entitlement_id, e.member_id
FROM requests_app_excludedgroup x
    JOIN requests_app_edit e ON e.group_id = x.group_id
WHERE e.confirmed_at IS NULL
    AND EXISTS (SELECT FROM requests_app_behind(ARRAY[e.editor_id]) b WHERE b.person_id = e.member_id);

-- Under which terms in use somebody might ask, for themselves or for others: candidates for what `policy` decides, by names
-- and memberships as they are, whoever made them. What somebody changed themselves is refused later, in words.
CREATE VIEW requests_app_candidate WITH (security_invoker = true) AS
SELECT e.id AS entitlement_id, n.person_id, false AS for_others
FROM requests_app_entitlement e
    JOIN (
        SELECT u.entitlement_id, u.user_id AS person_id
        FROM requests_app_entitlementuser u
        UNION
        SELECT g.entitlement_id, m.user_id
        FROM requests_app_entitlementgroup g
            JOIN requests_app_membership m ON m.group_id = g.group_id
    ) n ON n.entitlement_id = e.id
WHERE e.is_active
    AND NOT EXISTS (
        SELECT FROM requests_app_excludeduser x WHERE x.entitlement_id = e.id AND x.user_id = n.person_id
    )
    AND NOT EXISTS (
        SELECT FROM requests_app_excludedgroup x
            JOIN requests_app_membership m ON m.group_id = x.group_id
        WHERE x.entitlement_id = e.id AND m.user_id = n.person_id
    )
UNION ALL
SELECT e.id, m.user_id, true
FROM requests_app_entitlement e
    JOIN requests_app_entitlementasker a ON a.entitlement_id = e.id
    JOIN requests_app_membership m ON m.group_id = a.group_id
WHERE e.is_active;

-- How a person stands to a role under an entitlement, fact by fact: `policy.Standing`. Always asked of one of each.
CREATE VIEW requests_app_standing WITH (security_invoker = true) AS
SELECT
    e.id AS entitlement_id,
    p.id AS person_id,
    r.id AS role_id,
    p.deactivated_at IS NULL AS person_is_active,
    r.is_active AND a.is_active AS role_is_usable,
    (
        SELECT f.reason FROM requests_app_frozen_role f WHERE f.role_id = r.id ORDER BY f.freeze_id LIMIT 1
    ) AS frozen_because,
    EXISTS (
        SELECT FROM requests_app_editors(e.id, r.id) t WHERE t.person_id = p.id
    ) AS has_own_edit,
    e.is_active AS terms_are_active,
    EXISTS (
        SELECT FROM requests_app_given_role g WHERE g.entitlement_id = e.id AND g.role_id = r.id
    ) AS gives_role,
    EXISTS (
        SELECT FROM requests_app_named_person n WHERE n.entitlement_id = e.id AND n.person_id = p.id
    ) AS names_person,
    EXISTS (
        SELECT FROM requests_app_excluded_person x WHERE x.entitlement_id = e.id AND x.person_id = p.id
    ) AS excludes_person
FROM requests_app_entitlement e
    CROSS JOIN requests_app_user p
    CROSS JOIN requests_app_role r
    JOIN requests_app_account a ON a.id = r.account_id;

-- The same for the questions of `domain/facts.py`. Its plan is made once for each connection, whichever of them asks: it is
-- the greater part of what planning them takes, and as good without the values, for the view says every condition of an
-- index by itself.
CREATE FUNCTION requests_app_stands(an_entitlement bigint, a_person bigint, a_role bigint) RETURNS TABLE (
    entitlement_id bigint, person_id bigint, role_id bigint, person_is_active boolean, role_is_usable boolean,
    frozen_because text, has_own_edit boolean, terms_are_active boolean, gives_role boolean, names_person boolean,
    excludes_person boolean
)
LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY
        SELECT
            s.entitlement_id, s.person_id, s.role_id, s.person_is_active, s.role_is_usable, s.frozen_because::text,
            s.has_own_edit, s.terms_are_active, s.gives_role, s.names_person, s.excludes_person
        FROM requests_app_standing s
        WHERE s.entitlement_id = an_entitlement AND s.person_id = a_person AND s.role_id = a_role;
END $$;

-- How somebody who asks on behalf of a person stands to that under an entitlement. Always asked of one of each.
CREATE VIEW requests_app_asker WITH (security_invoker = true) AS
SELECT
    e.id AS entitlement_id,
    b.id AS asker_id,
    p.id AS person_id,
    EXISTS (
        SELECT FROM requests_app_placers(ARRAY[p.id], e.id) c WHERE c.person_id = b.id
    ) AS placed_person,
    -- By a membership that neither of them made.
    EXISTS (
        SELECT FROM requests_app_entitlementasker n
            JOIN requests_app_memberships(ARRAY[p.id]) m ON m.group_id = n.group_id
        WHERE n.entitlement_id = e.id AND m.user_id = b.id
    ) AS is_named
FROM requests_app_entitlement e
    CROSS JOIN requests_app_user b
    CROSS JOIN requests_app_user p;

CREATE FUNCTION requests_app_gives(an_entitlement bigint, a_role bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM requests_app_given_role g WHERE g.entitlement_id = an_entitlement AND g.role_id = a_role
    );
END $$;

CREATE FUNCTION requests_app_reaches(an_entitlement bigint, a_person bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM requests_app_named_person n WHERE n.entitlement_id = an_entitlement AND n.person_id = a_person
    ) AND NOT EXISTS (
        SELECT FROM requests_app_excluded_person x WHERE x.entitlement_id = an_entitlement AND x.person_id = a_person
    );
END $$;

-- Who may still use which role under which terms once a request was approved, as `policy.STILL_ENTITLED` has it, freezes
-- apart. Always asked of one of each.
CREATE VIEW requests_app_holding WITH (security_invoker = true) AS
SELECT s.entitlement_id, s.person_id, s.role_id
FROM requests_app_standing s
WHERE s.person_is_active AND s.role_is_usable AND NOT s.has_own_edit AND s.terms_are_active AND s.gives_role
    AND s.names_person AND NOT s.excludes_person;

CREATE FUNCTION requests_app_holds(an_entitlement bigint, a_person bigint, a_role bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM requests_app_holding h
        WHERE h.entitlement_id = an_entitlement AND h.person_id = a_person AND h.role_id = a_role
    );
END $$;

CREATE FUNCTION requests_app_guard_placed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM requests_app_asker k
        WHERE k.entitlement_id = NEW.entitlement_id AND k.asker_id = NEW.requester_id
            AND k.person_id = NEW.beneficiary_id AND k.is_named AND NOT k.placed_person
    ) THEN
        PERFORM requests_app_refuse('nobody asks for somebody else by what one of them changed');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER placed BEFORE INSERT ON requests_app_accessrequest
    FOR EACH ROW WHEN (NEW.requester_id <> NEW.beneficiary_id) EXECUTE FUNCTION requests_app_guard_placed();
