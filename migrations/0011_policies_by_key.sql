-- SPDX-License-Identifier: Apache-2.0
-- A tenant's policy judges the rows that a statement finds; it is not a way to find them.
--
-- `tenant = current_setting('app.tenant')` fits the indexes that begin with the tenant.  A connection
-- serves all tenants with one plan, made for whoever came first: of a tenant with few jobs it looked
-- as cheap to read them all as to look one up by its id, and the next tenant may have millions.  So
-- the condition is written as one that fits no index, with the same estimate.  Statements name the
-- tenant themselves where they mean a tenant's index.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['jobs', 'queue', 'runs', 'calls'] LOOP
        EXECUTE format('ALTER POLICY own ON %I'
                       ' USING ((tenant = current_setting(''app.tenant'')) IS TRUE)', name);
    END LOOP;
END
$$;

-- A one-element ANY cannot be hashed (SQL_KEYED in common/model/sql.h): hashed are all jobs of the
-- tenant.
ALTER POLICY own ON events
    USING (EXISTS (SELECT FROM jobs WHERE jobs.id = ANY (ARRAY[events.job])
                   AND (jobs.tenant = current_setting('app.tenant')) IS TRUE));
