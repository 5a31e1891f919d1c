"""The database's last line: what must never be stored, whoever writes it, is refused here.

Plain triggers without an off-switch. They fire for the application's role and for the owner; only a
superuser can set them aside. Every function pins its search_path with pg_temp last: otherwise a temporary
table named like ours would be read in its place. Refusals carry SQLSTATE 23514 (Django: IntegrityError).
"""

from django.db import migrations

REFUSE = """
CREATE FUNCTION requests_app_refuse(message text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '%', message USING ERRCODE = 'check_violation';
END $$;
"""

# How far a clock that was set back, or another server's, may make an honest time look like the future.
MAY_STEP_BACK = """
CREATE FUNCTION requests_app_clock_may_step_back() RETURNS interval
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT interval '5 s'
$$;
"""

# A guard looks at other rows, and must see them as they are now: under a snapshot from before, whoever left a group
# would still be in it, and a pass that has ended would still be active.
PRESENT = """
CREATE FUNCTION requests_app_require_the_present() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        PERFORM requests_app_refuse('decided by what is so now: use READ COMMITTED');
    END IF;
END $$;
"""

TRANSITIONS = """
CREATE FUNCTION requests_app_may_follow(a_machine text, a_before text, an_after text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM requests_app_transition t
        WHERE t.machine = a_machine AND t.before = a_before AND t.after = an_after)
$$;
"""

# The stages as an entitlement has them now, in the shape a request stores them (without the names).
STAGES = """
CREATE FUNCTION requests_app_stages(an_entitlement bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'position', n, 'quorum', quorum, 'groups', asked_groups, 'users', asked_users) ORDER BY n), '[]')
    FROM (
        SELECT row_number() OVER (ORDER BY s.position) AS n, s.quorum,
               (SELECT coalesce(jsonb_agg(g.group_id ORDER BY g.group_id), '[]')
                FROM requests_app_stagegroup g WHERE g.stage_id = s.id) AS asked_groups,
               (SELECT coalesce(jsonb_agg(u.user_id ORDER BY u.user_id), '[]')
                FROM requests_app_stageuser u WHERE u.stage_id = s.id) AS asked_users
        FROM requests_app_stage s WHERE s.entitlement_id = an_entitlement
    ) stages
$$;
"""

REQUEST_INSERT = """
CREATE FUNCTION requests_app_guard_request_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    e requests_app_entitlement%ROWTYPE;
    stored jsonb;
BEGIN
    PERFORM requests_app_require_the_present();
    IF NEW.state <> 'pending' OR NEW.approved_at IS NOT NULL OR NEW.approved_seconds IS NOT NULL
       OR NEW.start_by IS NOT NULL OR NEW.activated_at IS NOT NULL OR NEW.expires_at IS NOT NULL
       OR NEW.ended_at IS NOT NULL OR NEW.ended_by_id IS NOT NULL OR NEW.end_reason <> '' THEN
        PERFORM requests_app_refuse('a request begins as pending');
    END IF;
    SELECT * INTO e FROM requests_app_entitlement WHERE id = NEW.entitlement_id FOR SHARE;
    IF NOT e.is_active
       OR (NEW.terms_document->>'entitlement')::bigint IS DISTINCT FROM e.id
       OR (NEW.terms_document->>'revision')::bigint IS DISTINCT FROM e.revision
       OR NEW.terms_document->>'approval' IS DISTINCT FROM e.approval
       OR (NEW.terms_document->>'longest_seconds')::bigint IS DISTINCT FROM e.longest_seconds
       OR (NEW.terms_document->>'session_ceiling_seconds')::bigint IS DISTINCT FROM e.session_ceiling_seconds
       OR (NEW.terms_document->>'pending_seconds')::bigint IS DISTINCT FROM e.pending_seconds
       OR (NEW.terms_document->>'start_within_seconds')::bigint IS DISTINCT FROM e.start_within_seconds
       OR NEW.terms_document->'narrowing_statements' IS DISTINCT FROM e.narrowing_statements
       OR NEW.terms_document->'narrowing_policy_arns' IS DISTINCT FROM e.narrowing_policy_arns
       OR NEW.terms_document->'lifted' IS DISTINCT FROM e.lifted THEN
        PERFORM requests_app_refuse('the terms are not those of the entitlement');
    END IF;
    IF e.approval = 'staged' THEN
        SELECT coalesce(jsonb_agg(s.stage - 'asks' ORDER BY s.n), '[]') INTO stored
        FROM jsonb_array_elements(NEW.terms_document->'stages') WITH ORDINALITY AS s(stage, n);
        IF stored IS DISTINCT FROM requests_app_stages(e.id) OR jsonb_array_length(stored) = 0 THEN
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
    IF NOT EXISTS (SELECT FROM requests_app_entitlementrole r
                   WHERE r.entitlement_id = e.id AND r.role_id = NEW.role_id) THEN
        PERFORM requests_app_refuse('the entitlement does not give this role');
    END IF;
    IF NOT EXISTS (SELECT FROM requests_app_entitlementuser u
                   WHERE u.entitlement_id = e.id AND u.user_id = NEW.beneficiary_id)
       AND NOT EXISTS (SELECT FROM requests_app_entitlementgroup g
                       JOIN requests_app_membership m ON m.group_id = g.group_id
                       WHERE g.entitlement_id = e.id AND m.user_id = NEW.beneficiary_id) THEN
        PERFORM requests_app_refuse('the entitlement does not reach this person');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_insert BEFORE INSERT ON requests_app_accessrequest
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_request_insert();
"""

REQUEST_UPDATE = """
CREATE FUNCTION requests_app_guard_request_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_the_present();
    IF (NEW.id, NEW.code, NEW.requester_id, NEW.beneficiary_id, NEW.role_id, NEW.entitlement_id, NEW.terms_document,
        NEW.justification, NEW.ticket, NEW.duration_seconds, NEW.start, NEW.asked_at, NEW.decide_by)
       IS DISTINCT FROM
       (OLD.id, OLD.code, OLD.requester_id, OLD.beneficiary_id, OLD.role_id, OLD.entitlement_id, OLD.terms_document,
        OLD.justification, OLD.ticket, OLD.duration_seconds, OLD.start, OLD.asked_at, OLD.decide_by) THEN
        PERFORM requests_app_refuse('what was asked never changes');
    END IF;
    IF OLD.ended_at IS NOT NULL AND NEW IS DISTINCT FROM OLD THEN
        PERFORM requests_app_refuse('an ended request never changes');
    END IF;
    IF NEW.state <> OLD.state AND NOT requests_app_may_follow('request', OLD.state, NEW.state) THEN
        PERFORM requests_app_refuse(format('%s may not become %s', OLD.state, NEW.state));
    END IF;
    IF NEW.stage <> OLD.stage AND (
        NEW.stage <> OLD.stage + 1 OR NEW.state <> 'pending'
        OR NEW.stage > jsonb_array_length(OLD.terms_document->'stages')
        OR (SELECT count(*) FROM requests_app_decision d
            WHERE d.access_request_id = OLD.id AND d.verdict = 'approve' AND d.stage = OLD.stage)
           < (OLD.terms_document->'stages'->(OLD.stage - 1)->>'quorum')::int) THEN
        PERFORM requests_app_refuse('a stage is left when it has agreed, for the next one');
    END IF;
    IF OLD.approved_at IS NOT NULL AND (NEW.approved_at, NEW.approved_seconds, NEW.start_by)
       IS DISTINCT FROM (OLD.approved_at, OLD.approved_seconds, OLD.start_by) THEN
        PERFORM requests_app_refuse('an approval never changes');
    END IF;
    IF OLD.approved_at IS NULL AND NEW.approved_at IS NOT NULL THEN
        IF NEW.state <> 'approved' OR NEW.approved_seconds > OLD.duration_seconds THEN
            PERFORM requests_app_refuse('approved for no longer than was asked');
        END IF;
        IF NEW.approved_at NOT BETWEEN OLD.asked_at AND OLD.decide_by
           OR NEW.approved_at > clock_timestamp() + requests_app_clock_may_step_back()
           OR NEW.start_by > NEW.approved_at
              + make_interval(secs => (OLD.terms_document->>'start_within_seconds')::bigint) THEN
            PERFORM requests_app_refuse('approved in time, and to be started within the time that the terms give');
        END IF;
        IF OLD.terms_document->>'approval' = 'staged' AND EXISTS (
            SELECT FROM jsonb_array_elements(OLD.terms_document->'stages') AS s(stage)
            WHERE (SELECT count(*) FROM requests_app_decision d
                   WHERE d.access_request_id = OLD.id AND d.verdict = 'approve'
                     AND d.stage = (s.stage->>'position')::int) < (s.stage->>'quorum')::int) THEN
            PERFORM requests_app_refuse('the decisions that the terms demand are missing');
        END IF;
        IF EXISTS (SELECT FROM requests_app_decision d WHERE d.access_request_id = OLD.id AND d.verdict = 'deny') THEN
            PERFORM requests_app_refuse('it was denied');
        END IF;
    END IF;
    IF NEW.state = 'denied' AND NOT EXISTS (
        SELECT FROM requests_app_decision d WHERE d.access_request_id = OLD.id AND d.verdict = 'deny') THEN
        PERFORM requests_app_refuse('denied without a denial');
    END IF;
    IF OLD.activated_at IS NOT NULL AND (NEW.activated_at, NEW.expires_at)
       IS DISTINCT FROM (OLD.activated_at, OLD.expires_at) THEN
        PERFORM requests_app_refuse('the end is fixed once it began');
    END IF;
    IF OLD.activated_at IS NULL AND NEW.activated_at IS NOT NULL AND (
        NEW.state <> 'active' OR NEW.activated_at NOT BETWEEN OLD.approved_at AND OLD.start_by
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
"""

DECISION_INSERT = """
CREATE FUNCTION requests_app_guard_decision_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    r requests_app_accessrequest%ROWTYPE;
    asked jsonb;
BEGIN
    PERFORM requests_app_require_the_present();
    -- The lock puts whoever decides, withdraws or sweeps at once into one order.
    SELECT * INTO r FROM requests_app_accessrequest WHERE id = NEW.access_request_id FOR NO KEY UPDATE;
    IF r.state <> 'pending' OR NEW.stage <> r.stage OR NEW.decided_at NOT BETWEEN r.asked_at AND r.decide_by THEN
        PERFORM requests_app_refuse('only the present stage of a pending request is decided');
    END IF;
    IF NEW.approver_id IN (r.requester_id, r.beneficiary_id) THEN
        PERFORM requests_app_refuse('nobody decides on a request they made or benefit from');
    END IF;
    asked := r.terms_document->'stages'->(r.stage - 1);
    IF asked IS NULL OR NOT (
        asked->'users' @> to_jsonb(NEW.approver_id)
        OR EXISTS (SELECT FROM requests_app_membership m
                   WHERE m.user_id = NEW.approver_id AND asked->'groups' @> to_jsonb(m.group_id))) THEN
        PERFORM requests_app_refuse('this person is not asked at this stage');
    END IF;
    IF EXISTS (SELECT FROM requests_app_user u WHERE u.id = NEW.approver_id AND u.deactivated_at IS NOT NULL) THEN
        PERFORM requests_app_refuse('a deactivated person decides nothing');
    END IF;
    NEW.recorded_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER guard_insert BEFORE INSERT ON requests_app_decision
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_decision_insert();
"""

DELIVERY = """
CREATE FUNCTION requests_app_guard_delivery_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_the_present();
    -- Or it could end between this look and the commit.
    PERFORM FROM requests_app_accessrequest WHERE id = NEW.access_request_id FOR SHARE;
    IF NEW.state <> 'asked' OR NEW.claimed_at IS NOT NULL OR NEW.sealed_at IS NOT NULL OR NEW.envelope_sha256 <> ''
       OR NOT EXISTS (SELECT FROM requests_app_accessrequest r WHERE r.id = NEW.access_request_id
                      AND r.beneficiary_id = NEW.beneficiary_id AND r.role_id = NEW.role_id AND r.state = 'active'
                      AND NEW.asked_at >= r.activated_at AND NEW.asked_at < r.expires_at)
       OR NEW.asked_at > clock_timestamp() + requests_app_clock_may_step_back() THEN
        PERFORM requests_app_refuse('a delivery begins as asked, for the beneficiary of an active request');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_insert BEFORE INSERT ON requests_app_delivery
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_delivery_insert();

CREATE FUNCTION requests_app_guard_delivery_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF (NEW.id, NEW.public_id, NEW.access_request_id, NEW.beneficiary_id, NEW.role_id, NEW.kind, NEW.destination,
        NEW.recipient_key, NEW.thumbprint, NEW.sign_in, NEW.asked_at)
       IS DISTINCT FROM
       (OLD.id, OLD.public_id, OLD.access_request_id, OLD.beneficiary_id, OLD.role_id, OLD.kind, OLD.destination,
        OLD.recipient_key, OLD.thumbprint, OLD.sign_in, OLD.asked_at) THEN
        PERFORM requests_app_refuse('what was asked to be delivered, and to whom, never changes');
    END IF;
    IF NEW.state = OLD.state THEN
        IF NEW IS DISTINCT FROM OLD THEN
            PERFORM requests_app_refuse('a delivery changes only with its state');
        END IF;
    ELSIF NOT requests_app_may_follow('delivery', OLD.state, NEW.state) THEN
        PERFORM requests_app_refuse(format('a delivery may not go from %s to %s', OLD.state, NEW.state));
    END IF;
    IF OLD.envelope_sha256 <> '' AND NEW.envelope_sha256 <> OLD.envelope_sha256 THEN
        PERFORM requests_app_refuse('an envelope is never replaced');
    END IF;
    IF NEW.state = 'sealed' AND NOT EXISTS (
        SELECT FROM requests_app_issuedsession s WHERE s.delivery_id = NEW.id AND NOT s.discarded) THEN
        PERFORM requests_app_refuse('nothing is sealed before its session is recorded');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_update BEFORE UPDATE ON requests_app_delivery
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_delivery_update();
"""

SESSION = """
CREATE FUNCTION requests_app_guard_session_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_the_present();
    -- Or it could end between this look and the commit.
    PERFORM FROM requests_app_accessrequest WHERE id = NEW.access_request_id FOR SHARE;
    IF NOT EXISTS (
        SELECT FROM requests_app_delivery d JOIN requests_app_accessrequest r ON r.id = d.access_request_id
        WHERE d.id = NEW.delivery_id AND r.id = NEW.access_request_id
          AND d.beneficiary_id = NEW.beneficiary_id AND d.thumbprint = NEW.thumbprint
          -- AWS may answer after we gave the delivery up: that session is recorded too, as discarded.
          AND (d.state = 'claimed' AND (NEW.discarded OR r.state = 'active'
               -- By AWS's clock, which is at most 30 s from ours.
               AND NEW.issued_at < r.expires_at AND NEW.cut_off <= r.expires_at + interval '30 s')
               OR d.state = 'unknown' AND NEW.discarded)) THEN
        PERFORM requests_app_refuse('a session belongs to a claimed delivery of an active request');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_insert BEFORE INSERT ON requests_app_issuedsession
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_session_insert();
"""

PEOPLE = """
CREATE FUNCTION requests_app_guard_user_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF (NEW.id, NEW.public_id, NEW.source_identity) IS DISTINCT FROM (OLD.id, OLD.public_id, OLD.source_identity) THEN
        PERFORM requests_app_refuse('a person''s keys never change');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_update BEFORE UPDATE ON requests_app_user
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_user_update();
"""

# A request names its role by key: what was approved for one role must not become a pass for another.
CATALOG = """
CREATE FUNCTION requests_app_guard_role_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF (NEW.id, NEW.public_id, NEW.account_id, NEW.path, NEW.name)
       IS DISTINCT FROM (OLD.id, OLD.public_id, OLD.account_id, OLD.path, OLD.name) THEN
        PERFORM requests_app_refuse('which role at AWS this is never changes');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_update BEFORE UPDATE ON requests_app_role
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_role_update();

CREATE FUNCTION requests_app_guard_account_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF (NEW.id, NEW.partition, NEW.number) IS DISTINCT FROM (OLD.id, OLD.partition, OLD.number) THEN
        PERFORM requests_app_refuse('which account at AWS this is never changes');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_update BEFORE UPDATE ON requests_app_account
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_account_update();
"""

AUDIT = """
CREATE FUNCTION requests_app_stamp_event() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    NEW.recorded_at := clock_timestamp();
    NEW.transaction_id := pg_current_xact_id();
    RETURN NEW;
END $$;
CREATE TRIGGER stamp BEFORE INSERT ON requests_app_auditevent
    FOR EACH ROW EXECUTE FUNCTION requests_app_stamp_event();
"""

FOR_EVER = """
CREATE FUNCTION requests_app_refuse_statement() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_refuse(format('%s on %s is never allowed', TG_OP, TG_TABLE_NAME));
    RETURN NULL;
END $$;
""" + "".join(
    f"""
CREATE TRIGGER for_ever BEFORE {events} ON requests_app_{table}
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
"""
    for events, tables in {
        "UPDATE OR DELETE OR TRUNCATE": ("auditevent", "decision", "issuedsession"),
        "DELETE OR TRUNCATE": ("user", "accessrequest", "delivery", "notice"),
    }.items()
    for table in tables
)


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0001_initial")]

    operations = [
        migrations.RunSQL(sql, migrations.RunSQL.noop)
        for sql in (
            REFUSE,
            MAY_STEP_BACK,
            PRESENT,
            TRANSITIONS,
            STAGES,
            REQUEST_INSERT,
            REQUEST_UPDATE,
            DECISION_INSERT,
            DELIVERY,
            SESSION,
            PEOPLE,
            CATALOG,
            AUDIT,
            FOR_EVER,
        )
    ]
