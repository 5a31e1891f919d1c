-- Whom an entitlement reaches and which roles it gives, by what they are like.
--
-- Nothing is resolved in advance. Which roles a selector means is found when somebody asks, so it is never out of date.

CREATE FUNCTION requests_app_selecting(a_role bigint) RETURNS SETOF bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT s.entitlement_id
    FROM requests_app_role r JOIN requests_app_account a ON a.id = r.account_id
    LEFT JOIN requests_app_organisationalunit u ON u.id = a.unit_id
    JOIN requests_app_roleselector s ON
        (s.account_id IS NULL OR s.account_id = r.account_id)
    AND (s.unit_id IS NULL OR u.path LIKE '%/' || s.unit_id || '/%')
    AND (s.environment = '' OR s.environment = a.environment)
    AND (s.account_tag_key = '' OR CASE WHEN s.account_tag_value IS NULL THEN a.tags ? s.account_tag_key
                                        ELSE a.tags->>s.account_tag_key = s.account_tag_value END)
    AND (s.role_name = '' OR upper(r.name) LIKE upper(
            replace(replace(replace(s.role_name, '_', '\_'), '?', '_'), '*', '%')))
    AND (s.role_tag_key = '' OR CASE WHEN s.role_tag_value IS NULL THEN r.tags ? s.role_tag_key
                                     ELSE r.tags->>s.role_tag_key = s.role_tag_value END)
    -- Refused when it is stored. Here once more, because it would give everything.
    AND (s.account_id IS NOT NULL OR s.unit_id IS NOT NULL
         OR (s.environment, s.account_tag_key, s.role_name, s.role_tag_key) <> ('', '', '', ''))

    WHERE r.id = a_role
$$;

CREATE FUNCTION requests_app_gives(an_entitlement bigint, a_role bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM requests_app_entitlementrole n
                   WHERE n.entitlement_id = an_entitlement AND n.role_id = a_role)
        OR EXISTS (SELECT FROM requests_app_role r JOIN requests_app_account a ON a.id = r.account_id
                   LEFT JOIN requests_app_organisationalunit u ON u.id = a.unit_id
                   JOIN requests_app_roleselector s ON
        (s.account_id IS NULL OR s.account_id = r.account_id)
    AND (s.unit_id IS NULL OR u.path LIKE '%/' || s.unit_id || '/%')
    AND (s.environment = '' OR s.environment = a.environment)
    AND (s.account_tag_key = '' OR CASE WHEN s.account_tag_value IS NULL THEN a.tags ? s.account_tag_key
                                        ELSE a.tags->>s.account_tag_key = s.account_tag_value END)
    AND (s.role_name = '' OR upper(r.name) LIKE upper(
            replace(replace(replace(s.role_name, '_', '\_'), '?', '_'), '*', '%')))
    AND (s.role_tag_key = '' OR CASE WHEN s.role_tag_value IS NULL THEN r.tags ? s.role_tag_key
                                     ELSE r.tags->>s.role_tag_key = s.role_tag_value END)
    -- Refused when it is stored. Here once more, because it would give everything.
    AND (s.account_id IS NOT NULL OR s.unit_id IS NOT NULL
         OR (s.environment, s.account_tag_key, s.role_name, s.role_tag_key) <> ('', '', '', ''))

                   WHERE s.entitlement_id = an_entitlement AND r.id = a_role)
$$;

CREATE FUNCTION requests_app_reaches(an_entitlement bigint, a_person bigint) RETURNS boolean
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
                              OR requests_app_has_changed(ARRAY[a_person], a_person, x.group_id)))
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

CREATE FUNCTION requests_app_guard_placed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF requests_app_has_placed(NEW.requester_id, ARRAY[NEW.beneficiary_id], NEW.entitlement_id) OR NOT EXISTS (
        SELECT FROM requests_app_entitlementasker k
        WHERE k.entitlement_id = NEW.entitlement_id
          AND requests_app_counts_for(NEW.requester_id, k.group_id, ARRAY[NEW.beneficiary_id])) THEN
        PERFORM requests_app_refuse('nobody asks for somebody else by what one of them changed');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER placed BEFORE INSERT ON requests_app_accessrequest
    FOR EACH ROW WHEN (NEW.requester_id <> NEW.beneficiary_id) EXECUTE FUNCTION requests_app_guard_placed();
