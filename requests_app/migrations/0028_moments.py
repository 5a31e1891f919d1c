"""What the application dates as now is now, and what no page could read is not stored.

Rules that only time opens (further approvers, a deadline that has passed, an entry that may go) are worth what the
moments in the rows are worth, and the application writes those. So each is held to the database's own clock. Nothing
here is switched by the application: only the owner of the tables can say that a history is being written, in a row
that the application may read. Functions and triggers of before stay as they are; code from before is still taken.

What is stored as JSON is read by pages whole, unknown parts of it too: so it has no number and no depth at which that
fails. What was stored before stays, until that column is written again.
"""

from django.db import migrations, models

MOMENTS = """
-- So long may lie between reading the clock, after the lock, and the row that says so. Shorter than the least time after
-- which further approvers are asked, longer than a transaction may stand still.
CREATE FUNCTION requests_app_clock_may_lag() RETURNS interval
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT interval '30 s'
$$;

-- Python's times end before 10000, and nobody's clock is that far off.
CREATE FUNCTION requests_app_is_readable(at timestamptz) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT at IS NULL OR at >= '2000-01-01Z' AND at < '2200-01-01Z'
$$;

-- Whether the owner lets a history be written: the demo's, or a test's, which move their clock.
CREATE FUNCTION requests_app_is_history(at timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM requests_app_installation i WHERE i.history_from <= at)
$$;

CREATE FUNCTION requests_app_require_now(at timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF at NOT BETWEEN clock_timestamp() - requests_app_clock_may_lag()
                  AND clock_timestamp() + requests_app_clock_may_step_back()
       AND NOT (requests_app_is_readable(at) AND requests_app_is_history(at)) THEN
        PERFORM requests_app_refuse('what happens now is dated now');
    END IF;
END $$;

-- For what ends something: nobody is refused for being late, nor for a clock that was set back since it began.
CREATE FUNCTION requests_app_require_past(at timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NOT requests_app_is_readable(at)
       OR at > clock_timestamp() + requests_app_clock_may_step_back() AND NOT requests_app_is_history(at) THEN
        PERFORM requests_app_refuse('what is over is not so only later');
    END IF;
END $$;

CREATE FUNCTION requests_app_require_readable(VARIADIC moments timestamptz[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    at timestamptz;
BEGIN
    FOREACH at IN ARRAY moments LOOP
        IF NOT requests_app_is_readable(at) THEN
            PERFORM requests_app_refuse('a time that no page can read');
        END IF;
    END LOOP;
END $$;
"""

# As `texts.is_readable` has it, for what is typed.
DOCUMENTS = """
-- Python reads no integer of more than 4300 digits and no thousand brackets in each other, both of which PostgreSQL
-- takes; and a page that is asked for again and again does not grow without end.
CREATE FUNCTION requests_app_is_readable_document(document jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT CASE
        WHEN length(document::text) > 4000000 THEN false
        WHEN jsonb_path_exists(document, 'strict $.**{51 to last}') THEN false
        ELSE NOT jsonb_path_exists(
            document, 'strict $.** ? (@.type() == "number" && (@ > 1000000000000000 || @ < -1000000000000000))')
    END
$$;

CREATE FUNCTION requests_app_guard_document() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_refuse('a document that no page can read');
    RETURN NULL;
END $$;
"""

# All that the application writes as JSON of its own, but a request's terms, which are written once: see `REQUESTS`.
READ_BY_PAGES = {
    "account": ("tags",),
    "auditevent": ("detail",),
    "delivery": ("recipient_key",),
    "denypolicy": ("expected", "denied", "left_out", "unknown"),
    "edit": ("change",),
    "entitlement": ("narrowing_statements", "narrowing_policy_arns", "lifted"),
    "preflight": ("minter_findings", "revoker_findings", "doors"),
    "role": ("tags",),
}
DOCUMENTS += "".join(
    f"""
CREATE TRIGGER readable BEFORE INSERT OR UPDATE OF {", ".join(columns)} ON requests_app_{table}
    FOR EACH ROW WHEN (NOT ({" AND ".join(f"requests_app_is_readable_document(NEW.{column})" for column in columns)}))
    EXECUTE FUNCTION requests_app_guard_document();
"""
    for table, columns in READ_BY_PAGES.items()
)

# What `Terms.from_document` needs, beside what the guard of before compares with the entitlement.
TERMS = """
CREATE FUNCTION requests_app_terms_are_readable(terms jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT requests_app_is_readable_document(terms)
       AND jsonb_typeof(terms->'name') = 'string' AND jsonb_typeof(terms->'ticket') = 'string'
       AND jsonb_path_exists(terms, 'strict $.justification_min ? (@ >= 0 && @ <= 2147483647)', silent => true)
       AND jsonb_path_exists(
           '{"default_seconds": 0}' || terms, 'strict $.default_seconds ? (@ >= 0 && @ <= 2147483647)',
           silent => true)
       AND jsonb_typeof(coalesce(terms->'justification_pattern', '""')) = 'string'
       AND jsonb_typeof(coalesce(terms->'ticket_pattern', '""')) = 'string'
       AND CASE WHEN jsonb_typeof(terms->'stages') = 'array' THEN NOT EXISTS (
           SELECT FROM jsonb_array_elements(terms->'stages') AS s(stage)
           WHERE jsonb_typeof(stage->'asks') IS DISTINCT FROM 'string'
              OR jsonb_typeof(coalesce(stage->'more_asks', '""')) <> 'string') ELSE false END
$$;
"""

REQUESTS = """
CREATE FUNCTION requests_app_guard_request_moments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM requests_app_require_now(NEW.asked_at);
        IF NEW.decide_by < NEW.asked_at THEN
            PERFORM requests_app_refuse('to be decided after it was asked');
        END IF;
        IF requests_app_terms_are_readable(NEW.terms_document) IS NOT TRUE THEN
            PERFORM requests_app_refuse('terms that no page can read');
        END IF;
    ELSE
        IF NEW.accepted_at IS DISTINCT FROM OLD.accepted_at THEN
            PERFORM requests_app_require_now(NEW.accepted_at);
        END IF;
        IF NEW.stage_since IS DISTINCT FROM OLD.stage_since THEN
            PERFORM requests_app_require_now(NEW.stage_since);
        END IF;
        IF NEW.approved_at IS DISTINCT FROM OLD.approved_at THEN
            PERFORM requests_app_require_now(NEW.approved_at);
        END IF;
        IF NEW.activated_at IS DISTINCT FROM OLD.activated_at THEN
            PERFORM requests_app_require_now(NEW.activated_at);
        END IF;
        IF NEW.ended_at IS DISTINCT FROM OLD.ended_at THEN
            PERFORM requests_app_require_past(NEW.ended_at);
        END IF;
    END IF;
    PERFORM requests_app_require_readable(
        NEW.decide_by, NEW.wanted_start_at, NEW.scheduled_at, NEW.escalate_at, NEW.start_by, NEW.expires_at,
        NEW.reminded_at);
    RETURN NEW;
END $$;
-- Before the others, which may wait for a lock.
CREATE TRIGGER as_of_now BEFORE INSERT OR UPDATE ON requests_app_accessrequest
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_request_moments();

CREATE FUNCTION requests_app_guard_extension_moments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM requests_app_require_now(NEW.asked_at);
        IF NEW.decide_by < NEW.asked_at THEN
            PERFORM requests_app_refuse('to be decided after it was asked');
        END IF;
    ELSE
        IF NEW.stage_since IS DISTINCT FROM OLD.stage_since THEN
            PERFORM requests_app_require_now(NEW.stage_since);
        END IF;
        IF NEW.finished_at IS DISTINCT FROM OLD.finished_at THEN
            PERFORM requests_app_require_past(NEW.finished_at);
            IF NEW.state = 'granted' THEN
                PERFORM requests_app_require_now(NEW.finished_at);
            END IF;
        END IF;
    END IF;
    PERFORM requests_app_require_readable(NEW.decide_by, NEW.escalate_at);
    RETURN NEW;
END $$;
CREATE TRIGGER as_of_now BEFORE INSERT OR UPDATE ON requests_app_extension
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_extension_moments();

CREATE FUNCTION requests_app_guard_decision_moments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_now(NEW.decided_at);
    RETURN NEW;
END $$;
CREATE TRIGGER as_of_now BEFORE INSERT ON requests_app_decision
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_decision_moments();
"""

DELIVERIES = """
CREATE FUNCTION requests_app_guard_delivery_moments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM requests_app_require_now(NEW.asked_at);
        PERFORM requests_app_require_readable(NEW.finished_at);
    ELSE
        IF NEW.claimed_at IS DISTINCT FROM OLD.claimed_at THEN
            PERFORM requests_app_require_now(NEW.claimed_at);
        END IF;
        IF NEW.sealed_at IS DISTINCT FROM OLD.sealed_at THEN
            PERFORM requests_app_require_now(NEW.sealed_at);
        END IF;
        IF NEW.finished_at IS DISTINCT FROM OLD.finished_at THEN
            PERFORM requests_app_require_past(NEW.finished_at);
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER as_of_now BEFORE INSERT OR UPDATE ON requests_app_delivery
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_delivery_moments();

CREATE FUNCTION requests_app_guard_session_moments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM requests_app_require_now(NEW.issued_at);
    PERFORM requests_app_require_readable(NEW.cut_off, NEW.sts_expires_at);
    -- Its early end is wanted for as long as the session lasts, and a margin of five minutes. STS gives a quarter of an
    -- hour or more; what ends sooner by itself ends at its cut-off. What nobody is given is recorded whatever a clock
    -- that was set says of it.
    IF NOT NEW.discarded AND NEW.sts_expires_at < least(NEW.cut_off, NEW.issued_at + interval '10 min') THEN
        PERFORM requests_app_refuse('a session lasts until its cut-off, or as long as STS gives at least');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER as_of_now BEFORE INSERT ON requests_app_issuedsession
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_session_moments();
"""

REVOCATIONS = """
CREATE FUNCTION requests_app_guard_revocation_moments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- Many at once may take their time, and an end is never refused, whatever a clock was set to: so it is put right.
        -- It denies what was issued until it was asked for, for as long as that lasts.
        PERFORM requests_app_require_past(NEW.asked_at);
        PERFORM requests_app_require_readable(NEW.keep_until);
        SELECT greatest(NEW.asked_at, max(s.issued_at)), greatest(NEW.keep_until, max(s.sts_expires_at))
        INTO NEW.asked_at, NEW.keep_until
        FROM requests_app_issuedsession s WHERE s.access_request_id = NEW.access_request_id;
    ELSE
        PERFORM requests_app_require_readable(NEW.written_at, NEW.proved_at);
        IF NEW.state = 'over' AND OLD.state <> 'over' THEN
            PERFORM requests_app_require_past(NEW.keep_until);
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER as_of_now BEFORE INSERT OR UPDATE ON requests_app_revocation
    FOR EACH ROW EXECUTE FUNCTION requests_app_guard_revocation_moments();
"""


class Migration(migrations.Migration):
    dependencies = [("requests_app", "0027_stuck_and_accepted")]

    operations = [
        migrations.AddField("installation", "history_from", models.DateTimeField(null=True)),
        *(
            migrations.RunSQL(sql, migrations.RunSQL.noop)
            for sql in (MOMENTS, DOCUMENTS, TERMS, REQUESTS, DELIVERIES, REVOCATIONS)
        ),
    ]
