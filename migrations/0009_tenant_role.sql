-- SPDX-License-Identifier: Apache-2.0
-- Row-level security: what a tenant reads or cancels goes through a role of its own, which sees the
-- rows of one tenant only, whatever a statement forgets to ask for.
--
-- `app.tenant` is set with set_config(..., true) in the same transaction as the statement; where it
-- is not set, current_setting() is an error, so that nothing is shown.  The daemons' own role has
-- policies that show all (nightshift-migrate --grant makes them), and so has the owner.  The role
-- belongs to the whole server, and databases of Nightshift beside each other share it.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nightshift_tenant') THEN
        CREATE ROLE nightshift_tenant NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL; -- another database's migration made it
END
$$;

GRANT USAGE ON SCHEMA public TO nightshift_tenant;

-- Rows that say whose they are.
DO $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT * FROM (VALUES
            ('jobs', 'SELECT, UPDATE', 'tenant'),
            ('queue', 'SELECT, UPDATE, DELETE', 'tenant'),
            ('runs', 'SELECT, UPDATE', 'tenant'),
            ('calls', 'SELECT', 'tenant'),
            ('gates', 'SELECT', 'tenant'),
            ('deliveries', 'SELECT, INSERT', 'tenant'),
            ('counts', 'INSERT', 'tenant'),
            ('usage_deltas', 'SELECT, INSERT', 'tenant'),
            ('usage_cells', 'SELECT', 'tenant'),
            ('usage_totals', 'SELECT', 'tenant'),
            ('usage_hours', 'SELECT', 'tenant'),
            ('usage_days', 'SELECT', 'tenant'),
            ('usage_months', 'SELECT', 'tenant'),
            ('usage_user_hours', 'SELECT', 'tenant'),
            ('usage_user_days', 'SELECT', 'tenant'),
            ('usage_user_months', 'SELECT', 'tenant'),
            ('tenants', NULL, 'id'),
            ('endpoints', NULL, 'tenant')
        ) AS t(name, rights, own)
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', item.name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', item.name);
        EXECUTE format('CREATE POLICY own ON %I TO nightshift_tenant'
                       ' USING (%I = current_setting(''app.tenant''))', item.name, item.own);
        EXECUTE format('CREATE POLICY owner ON %I TO CURRENT_USER USING (true)', item.name);
        IF item.rights IS NOT NULL THEN
            EXECUTE format('GRANT %s ON %I TO nightshift_tenant', item.rights, item.name);
        END IF;
    END LOOP;
END
$$;

-- Events belong to whom their job belongs.
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
ALTER TABLE events FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON events TO nightshift_tenant
    USING (EXISTS (SELECT FROM jobs WHERE jobs.id = events.job
                   AND jobs.tenant = current_setting('app.tenant')));
CREATE POLICY owner ON events TO CURRENT_USER USING (true);
GRANT SELECT, INSERT ON events TO nightshift_tenant;

-- A pause of another tenant is nobody's business.
ALTER TABLE pauses ENABLE ROW LEVEL SECURITY;
ALTER TABLE pauses FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON pauses TO nightshift_tenant
    USING (kind <> 'tenant' OR name = current_setting('app.tenant'));
CREATE POLICY owner ON pauses TO CURRENT_USER USING (true);
GRANT SELECT ON pauses TO nightshift_tenant;

-- The tenant's time zone stands among its limits.
ALTER TABLE limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE limits FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON limits TO nightshift_tenant
    USING (owner_kind = 'tenant' AND owner = current_setting('app.tenant'));
CREATE POLICY owner ON limits TO CURRENT_USER USING (true);
GRANT SELECT ON limits TO nightshift_tenant;

-- Columns only: no secret leaves by this role, and of workers only whether there are any.
GRANT SELECT (id, is_disabled) ON tenants TO nightshift_tenant;
GRANT SELECT (id, tenant, url, events, deleted_at, disabled_at) ON endpoints TO nightshift_tenant;
GRANT SELECT (is_draining, beat_at) ON workers TO nightshift_tenant;

GRANT EXECUTE ON FUNCTION id_make(), id_time(uuid), usage_day(text, timestamptz),
    budget_windows_at(text, timestamptz) TO nightshift_tenant;

-- jsonb's @> is not leakproof, so that behind a policy it cannot be looked up in an index.  This does
-- for lists what the statement would: as the owner, but for the tenant of the transaction only.
CREATE FUNCTION jobs_with_metadata(wanted jsonb, first_id uuid, last_id uuid, wanted_workflow text,
                                   wanted_state text, wanted_priority int, is_ascending boolean,
                                   most int)
RETURNS TABLE (id uuid, priority smallint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT j.id, j.priority
        FROM jobs j
        WHERE j.tenant = current_setting('app.tenant')
          AND j.metadata @> wanted
          AND j.id >= first_id AND j.id < last_id
          AND (wanted_workflow IS NULL OR j.workflow = wanted_workflow)
          AND (wanted_state IS NULL OR j.state = wanted_state)
          AND (wanted_priority IS NULL OR j.priority = wanted_priority)
        ORDER BY CASE WHEN is_ascending THEN j.id END, CASE WHEN NOT is_ascending THEN j.id END DESC
        LIMIT most;
END
$$;
GRANT EXECUTE ON FUNCTION jobs_with_metadata(jsonb, uuid, uuid, text, text, int, boolean, int)
    TO nightshift_tenant;

-- Daemons that run meanwhile go on: whoever had rights to jobs before sees all rows as before.
DO $$
DECLARE
    app text;
    item record;
BEGIN
    FOR app IN
        SELECT DISTINCT grantee::regrole::text
        FROM pg_class c, aclexplode(c.relacl)
        WHERE c.oid = 'jobs'::regclass AND grantee <> 0 AND grantee <> c.relowner
          AND grantee <> 'nightshift_tenant'::regrole
    LOOP
        FOR item IN
            SELECT relname AS name FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relrowsecurity AND NOT relispartition
        LOOP
            EXECUTE format('CREATE POLICY %I ON %I TO %s USING (true)', 'daemons ' || app, item.name, app);
        END LOOP;
        EXECUTE format('GRANT nightshift_tenant TO %s', app);
    END LOOP;
END
$$;
