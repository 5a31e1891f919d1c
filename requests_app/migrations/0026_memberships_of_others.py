"""An edit of a group says whose membership was changed, and counts for whoever did it to somebody else, too.

What code from before this stores is still taken: it notes only what people do to their own membership.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# The guard of before takes no change of an edit, so this one comes first, and lets through what is filled in.
FILL = """
CREATE OR REPLACE FUNCTION requests_app_guard_edit() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$ BEGIN RETURN NEW; END $$;

LOCK TABLE requests_app_edit IN SHARE ROW EXCLUSIVE MODE;
UPDATE requests_app_edit SET member_id = editor_id WHERE group_id IS NOT NULL;
-- Or what is filled in would be checked at the end, and the table could not be altered before.
SET CONSTRAINTS ALL IMMEDIATE;

CREATE OR REPLACE FUNCTION requests_app_guard_edit() RETURNS trigger
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
        NEW.member_id, NEW.made_at, NEW.change)
       IS DISTINCT FROM
       (OLD.id, OLD.editor_id, OLD.entitlement_id, OLD.role_id, OLD.account_id, OLD.unit_id, OLD.group_id,
        OLD.member_id, OLD.made_at, OLD.change)
       OR OLD.confirmed_at IS NOT NULL THEN
        PERFORM requests_app_refuse('an edit changes only by being confirmed, once');
    END IF;
    IF NEW.confirmed_by_id = NEW.editor_id OR NEW.confirmed_by_id IS NOT DISTINCT FROM NEW.member_id OR NOT EXISTS (
        SELECT FROM requests_app_user u
        WHERE u.id = NEW.confirmed_by_id AND u.is_superuser AND u.deactivated_at IS NULL) THEN
        PERFORM requests_app_refuse('another operator confirms an edit, and nobody their own membership');
    END IF;
    RETURN NEW;
END $$;
"""

MEMBERSHIPS = """
-- Whether one of these people changed this membership, and no other operator has confirmed it.
CREATE FUNCTION requests_app_has_changed(editors bigint[], a_person bigint, a_group bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM requests_app_edit e
                   WHERE e.member_id = a_person AND e.group_id = a_group AND e.editor_id = ANY(editors)
                     AND e.confirmed_at IS NULL)
$$;

-- Whether a person may act in favour of `others` as a member of this group: by neither's own doing.
CREATE FUNCTION requests_app_counts_for(a_person bigint, a_group bigint, others bigint[]) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM requests_app_membership m WHERE m.user_id = a_person AND m.group_id = a_group)
       AND NOT requests_app_has_changed(others || a_person, a_person, a_group)
$$;

CREATE OR REPLACE FUNCTION requests_app_counts_in(a_person bigint, a_group bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT requests_app_counts_for(a_person, a_group, '{}')
$$;

-- Whether this person put one of the people into a group that the entitlement names, or took them out of one.
CREATE FUNCTION requests_app_has_placed(an_editor bigint, people bigint[], an_entitlement bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM requests_app_edit e
        WHERE e.member_id = ANY(people) AND e.editor_id = an_editor AND e.confirmed_at IS NULL
          AND e.group_id IN (
              SELECT n.group_id FROM requests_app_entitlementgroup n WHERE n.entitlement_id = an_entitlement
              UNION ALL
              SELECT n.group_id FROM requests_app_excludedgroup n WHERE n.entitlement_id = an_entitlement
              UNION ALL
              SELECT n.group_id FROM requests_app_entitlementasker n WHERE n.entitlement_id = an_entitlement))
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
                              OR requests_app_has_changed(ARRAY[a_person], a_person, x.group_id)))
$$;
"""

ON_BEHALF = """
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
"""

DECISION_INSERT = """
CREATE OR REPLACE FUNCTION requests_app_guard_decision_insert() RETURNS trigger
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
"""

LACKS_DECIDERS = """
CREATE OR REPLACE FUNCTION requests_app_lacks_deciders(a_request bigint) RETURNS boolean
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
                              WHERE e.member_id = m.user_id AND e.group_id = m.group_id AND e.confirmed_at IS NULL
                                AND e.editor_id IN (m.user_id, r.requester_id, r.beneficiary_id))
            UNION ALL
            SELECT u.id::bigint FROM jsonb_array_elements_text((asked->'users') || (asked->'more_users')) AS u(id)
        ) AS p
        JOIN requests_app_user u ON u.id = p.id
        WHERE u.deactivated_at IS NULL AND p.id NOT IN (r.requester_id, r.beneficiary_id)
          AND NOT EXISTS (SELECT FROM requests_app_decision d
                          WHERE d.access_request_id = r.id AND d.extension_id IS NULL AND d.approver_id = p.id)
          AND NOT requests_app_has_edited(p.id, r.entitlement_id, r.role_id)
          AND NOT requests_app_has_placed(p.id, ARRAY[r.requester_id, r.beneficiary_id], r.entitlement_id)
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
    dependencies = [("requests_app", "0025_at_once_guard")]

    operations = [
        migrations.AddField(
            "edit",
            "member",
            models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.AddConstraint(
            "edit",
            models.CheckConstraint(
                condition=models.Q(group=None, member=None) | models.Q(group__isnull=False, member__isnull=False),
                name="edit_of_a_group_names_the_member",
            ),
        ),
        migrations.RemoveIndex("edit", "edit_unconfirmed"),
        migrations.AddIndex(
            "edit",
            models.Index(
                fields=["editor"], condition=models.Q(confirmed_at=None, member=None), name="edit_unconfirmed_rules"
            ),
        ),
        migrations.AddIndex(
            "edit",
            models.Index(
                fields=["member", "group", "editor"],
                condition=models.Q(confirmed_at=None),
                name="edit_unconfirmed_of_member",
            ),
        ),
        migrations.AddIndex(
            "edit",
            models.Index(
                fields=["group", "editor", "-id"],
                condition=models.Q(confirmed_at=None),
                name="edit_unconfirmed_in",
            ),
        ),
        migrations.AddIndex(
            "edit", models.Index(fields=["id"], condition=models.Q(confirmed_at=None), name="edit_to_confirm")
        ),
        *(
            migrations.RunSQL(sql, migrations.RunSQL.noop)
            for sql in (MEMBERSHIPS, ON_BEHALF, DECISION_INSERT, LACKS_DECIDERS)
        ),
    ]
