-- What the application dates as now is now.
--
-- Rules that only time opens (further approvers, a deadline that has passed, an entry that may go) are worth what the
-- moments in the rows are worth, and the application writes those. So each is held to the database's own clock. Nothing
-- here is switched by the application.

-- How far a clock that was set back, or another server's, may make an honest time look like the future.
CREATE FUNCTION requests_app_clock_may_step_back() RETURNS interval
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT interval '5 s'
$$;

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

-- Whether the owner lets a history be written, in a row that the application may only read: the demo's, or a test's,
-- which move their clock.
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
