-- What is stored as JSON is read by pages whole, unknown parts of it too: so it has no number and no depth at which that
-- fails. What was stored before stays, until that column is written again.

-- As `texts.is_readable` has it, for what is typed.
--
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
CREATE TRIGGER readable BEFORE INSERT OR UPDATE OF tags ON requests_app_account
    FOR EACH ROW WHEN (NOT (requests_app_is_readable_document(NEW.tags)))
    EXECUTE FUNCTION requests_app_guard_document();
CREATE TRIGGER readable BEFORE INSERT OR UPDATE OF detail ON requests_app_auditevent
    FOR EACH ROW WHEN (NOT (requests_app_is_readable_document(NEW.detail)))
    EXECUTE FUNCTION requests_app_guard_document();
CREATE TRIGGER readable BEFORE INSERT OR UPDATE OF recipient_key ON requests_app_delivery
    FOR EACH ROW WHEN (NOT (requests_app_is_readable_document(NEW.recipient_key)))
    EXECUTE FUNCTION requests_app_guard_document();
CREATE TRIGGER readable BEFORE INSERT OR UPDATE OF expected, denied, left_out, unknown, signed_out ON requests_app_denypolicy
    FOR EACH ROW WHEN (NOT (
        requests_app_is_readable_document(NEW.expected) AND
        requests_app_is_readable_document(NEW.denied) AND
        requests_app_is_readable_document(NEW.left_out) AND
        requests_app_is_readable_document(NEW.unknown) AND
        requests_app_is_readable_document(NEW.signed_out)))
    EXECUTE FUNCTION requests_app_guard_document();
CREATE TRIGGER readable BEFORE INSERT OR UPDATE OF change ON requests_app_edit
    FOR EACH ROW WHEN (NOT (requests_app_is_readable_document(NEW.change)))
    EXECUTE FUNCTION requests_app_guard_document();
CREATE TRIGGER readable BEFORE INSERT OR UPDATE OF narrowing_statements, narrowing_policy_arns, lifted ON requests_app_entitlement
    FOR EACH ROW WHEN (NOT (
        requests_app_is_readable_document(NEW.narrowing_statements) AND
        requests_app_is_readable_document(NEW.narrowing_policy_arns) AND
        requests_app_is_readable_document(NEW.lifted)))
    EXECUTE FUNCTION requests_app_guard_document();
CREATE TRIGGER readable BEFORE INSERT OR UPDATE OF detail ON requests_app_notice
    FOR EACH ROW WHEN (NOT (requests_app_is_readable_document(NEW.detail)))
    EXECUTE FUNCTION requests_app_guard_document();
CREATE TRIGGER readable BEFORE INSERT OR UPDATE OF minter_findings, revoker_findings, doors ON requests_app_preflight
    FOR EACH ROW WHEN (NOT (
        requests_app_is_readable_document(NEW.minter_findings) AND
        requests_app_is_readable_document(NEW.revoker_findings) AND
        requests_app_is_readable_document(NEW.doors)))
    EXECUTE FUNCTION requests_app_guard_document();
CREATE TRIGGER readable BEFORE INSERT OR UPDATE OF tags ON requests_app_role
    FOR EACH ROW WHEN (NOT (requests_app_is_readable_document(NEW.tags)))
    EXECUTE FUNCTION requests_app_guard_document();

-- What `Terms.from_document` needs, beside what the guard of before compares with the entitlement.
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
