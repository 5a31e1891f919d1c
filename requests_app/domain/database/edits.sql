-- Nobody profits from their own edit: what somebody changed does not count in their favour, nor does a membership in
-- which they had a hand, before another operator has confirmed it. And nobody is the second pair of eyes of whoever
-- made them.

-- Whoever made somebody, or changed how they sign in or what they may, could act as them: has placed them. So whoever
-- could have acted as one of these people, they themselves first.
CREATE FUNCTION requests_app_behind(people bigint[]) RETURNS TABLE (person_id bigint)
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE behind (person_id) AS (
        SELECT unnest(people)
        UNION
        SELECT e.editor_id
        FROM behind b JOIN public.requests_app_edit e ON e.person_id = b.person_id
        WHERE e.confirmed_at IS NULL
    )
    SELECT b.person_id FROM behind b
$$;

-- Whether one of these could have acted as whoever edited something. Mostly nobody placed them, and then nobody could.
CREATE FUNCTION requests_app_is_behind(an_editor bigint, a_person bigint, others bigint[]) RETURNS boolean
LANGUAGE plpgsql STABLE COST 1 SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT FROM requests_app_behind(ARRAY[an_editor]) b
                   WHERE b.person_id = a_person OR b.person_id = ANY(others));
END $$;

-- Whether a person may be one and the same with one of these: one placed the other, or somebody could have acted as both.
-- (Where there is one operator and never was another, nobody could confirm anything: whom that one made are strangers to
-- one another.) Most people were placed by nobody, or that was confirmed: then only who is behind the others matters.
CREATE FUNCTION requests_app_same_hand(a_person bigint, others bigint[]) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    behind_them bigint[] := ARRAY(SELECT b.person_id FROM requests_app_behind(others) b);
    behind_one bigint[];
BEGIN
    IF a_person = ANY(behind_them) THEN
        RETURN true;
    END IF;
    IF NOT EXISTS (SELECT FROM requests_app_edit e WHERE e.person_id = a_person AND e.confirmed_at IS NULL) THEN
        RETURN false;
    END IF;
    behind_one := ARRAY(SELECT b.person_id FROM requests_app_behind(ARRAY[a_person]) b);
    RETURN behind_one && others
        OR behind_one && behind_them AND (SELECT count(*) > 1 FROM requests_app_counted_operators());
END $$;

-- Who edited one of the rules by which this role is had on these terms, or could have acted as who did. Branch by
-- branch, for each has its index.
CREATE FUNCTION requests_app_editors(an_entitlement bigint, a_role bigint) RETURNS TABLE (person_id bigint)
LANGUAGE sql STABLE AS $$
    SELECT b.person_id FROM public.requests_app_behind(ARRAY(
    SELECT e.editor_id FROM public.requests_app_edit e
    WHERE e.entitlement_id = an_entitlement AND e.confirmed_at IS NULL AND e.member_id IS NULL
    UNION ALL
    SELECT e.editor_id FROM public.requests_app_edit e
    WHERE e.role_id = a_role AND e.confirmed_at IS NULL AND e.member_id IS NULL
    UNION ALL
    SELECT e.editor_id
    FROM public.requests_app_role r JOIN public.requests_app_edit e ON e.account_id = r.account_id
    WHERE r.id = a_role AND e.confirmed_at IS NULL AND e.member_id IS NULL
    UNION ALL
    SELECT e.editor_id
    FROM public.requests_app_role r
    JOIN public.requests_app_account a ON a.id = r.account_id
    JOIN public.requests_app_organisationalunit u ON u.id = a.unit_id
    -- Its own unit and all above it.
    JOIN public.requests_app_edit e ON e.unit_id = ANY(string_to_array(btrim(u.path, '/'), '/')::bigint[])
    WHERE r.id = a_role AND e.confirmed_at IS NULL AND e.member_id IS NULL
    )) b
$$;

-- Who put one of these people into a group that the entitlement names, or took them out of one.
CREATE FUNCTION requests_app_placers(people bigint[], an_entitlement bigint) RETURNS TABLE (person_id bigint)
LANGUAGE sql STABLE AS $$
    SELECT b.person_id FROM public.requests_app_behind(ARRAY(
    SELECT e.editor_id
    FROM public.requests_app_edit e
    WHERE e.member_id = ANY(people) AND e.confirmed_at IS NULL
      AND e.group_id IN (
          SELECT n.group_id FROM public.requests_app_entitlementgroup n WHERE n.entitlement_id = an_entitlement
          UNION ALL
          SELECT n.group_id FROM public.requests_app_excludedgroup n WHERE n.entitlement_id = an_entitlement
          UNION ALL
          SELECT n.group_id FROM public.requests_app_entitlementasker n WHERE n.entitlement_id = an_entitlement)
    )) b
$$;

-- The memberships that count in favour of their member and of these others: none of them had a hand in it.
CREATE FUNCTION requests_app_memberships(others bigint[]) RETURNS TABLE (group_id bigint, user_id bigint)
LANGUAGE sql STABLE AS $$
    SELECT m.group_id, m.user_id
    FROM public.requests_app_membership m
    WHERE NOT EXISTS (
        SELECT FROM public.requests_app_edit e
        WHERE e.member_id = m.user_id AND e.group_id = m.group_id AND e.confirmed_at IS NULL
          AND (e.editor_id = m.user_id OR e.editor_id = ANY(others)
               OR public.requests_app_is_behind(e.editor_id, m.user_id, others)))
$$;

CREATE FUNCTION requests_app_has_edited(a_person bigint, an_entitlement bigint, a_role bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT FROM requests_app_editors(an_entitlement, a_role) e WHERE e.person_id = a_person);
END $$;

CREATE FUNCTION requests_app_guard_edit() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.confirmed_at IS NOT NULL OR NEW.confirmed_by_id IS NOT NULL THEN
            PERFORM requests_app_refuse('an edit begins unconfirmed');
        END IF;
        -- Code from before knows only people who change their own membership.
        IF NEW.group_id IS NOT NULL THEN
            NEW.member_id := coalesce(NEW.member_id, NEW.editor_id);
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.id, NEW.editor_id, NEW.entitlement_id, NEW.role_id, NEW.account_id, NEW.unit_id, NEW.group_id,
        NEW.member_id, NEW.person_id, NEW.made_at, NEW.change)
       IS DISTINCT FROM
       (OLD.id, OLD.editor_id, OLD.entitlement_id, OLD.role_id, OLD.account_id, OLD.unit_id, OLD.group_id,
        OLD.member_id, OLD.person_id, OLD.made_at, OLD.change)
       OR OLD.confirmed_at IS NOT NULL THEN
        PERFORM requests_app_refuse('an edit changes only by being confirmed, once');
    END IF;
    IF NOT requests_app_operates(NEW.confirmed_by_id) OR requests_app_same_hand(
        NEW.confirmed_by_id, array_remove(ARRAY[NEW.editor_id, NEW.member_id, NEW.person_id], NULL)
    ) THEN
        PERFORM requests_app_refuse('another operator confirms an edit, and nobody their own membership');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON requests_app_edit
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_edit();
