-- What was recorded stays, as it was.

CREATE FUNCTION requests_app_stamp_event() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    NEW.recorded_at := clock_timestamp();
    NEW.transaction_id := pg_current_xact_id();
    RETURN NEW;
END $$;
CREATE TRIGGER stamp BEFORE INSERT ON requests_app_auditevent
    FOR EACH ROW EXECUTE FUNCTION requests_app_stamp_event();

CREATE TRIGGER for_ever BEFORE UPDATE OR DELETE OR TRUNCATE ON requests_app_auditevent
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE UPDATE OR DELETE OR TRUNCATE ON requests_app_decision
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE UPDATE OR DELETE OR TRUNCATE ON requests_app_issuedsession
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE DELETE OR TRUNCATE ON requests_app_user
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE DELETE OR TRUNCATE ON requests_app_accessrequest
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE DELETE OR TRUNCATE ON requests_app_delivery
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE DELETE OR TRUNCATE ON requests_app_notice
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE DELETE OR TRUNCATE ON requests_app_revocation
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE DELETE OR TRUNCATE ON requests_app_denypolicy
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE UPDATE OR DELETE OR TRUNCATE ON requests_app_ownsession
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE UPDATE OR DELETE OR TRUNCATE ON requests_app_confirmation
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE DELETE OR TRUNCATE ON requests_app_freeze
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE DELETE OR TRUNCATE ON requests_app_edit
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
CREATE TRIGGER for_ever BEFORE DELETE OR TRUNCATE ON requests_app_extension
    FOR EACH STATEMENT EXECUTE FUNCTION requests_app_refuse_statement();
