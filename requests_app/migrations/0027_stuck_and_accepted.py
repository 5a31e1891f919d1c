"""Whom the stages of a request still need, in all and in time; and what was asked for somebody counts once accepted."""

from django.db import migrations

# As `policy` and `facts.enough_people` have it.
LACKS_PEOPLE = """
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

-- As code from before asks it.
CREATE OR REPLACE FUNCTION requests_app_lacks_deciders(a_request bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN coalesce(requests_app_request_lacks_people(a_request, clock_timestamp()), false);
END $$;
"""

# Between the moment and the sweep that writes it into the row.
FURTHER = """
CREATE FUNCTION requests_app_asks_further(terms jsonb, a_stage int, groups bigint[], a_person bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce(terms->'stages'->(a_stage - 1)->'more_users' @> to_jsonb(a_person), false)
        OR EXISTS (SELECT FROM jsonb_array_elements_text(terms->'stages'->(a_stage - 1)->'more_groups') AS g(id)
                   WHERE g.id::bigint = ANY(groups))
$$;
"""

AT_ONCE = """
CREATE OR REPLACE FUNCTION requests_app_guard_at_once() RETURNS trigger
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
CREATE TRIGGER at_once_accepted BEFORE UPDATE ON requests_app_accessrequest
    FOR EACH ROW WHEN (OLD.accepted_at IS NULL AND NEW.accepted_at IS NOT NULL)
    EXECUTE FUNCTION requests_app_guard_at_once();
"""


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0026_memberships_of_others")]

    operations = [migrations.RunSQL(sql, migrations.RunSQL.noop) for sql in (LACKS_PEOPLE, FURTHER, AT_ONCE)]
