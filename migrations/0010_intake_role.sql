-- SPDX-License-Identifier: Apache-2.0
-- Submits come in batches of many tenants, one statement for all: no policy of one tenant fits them.
-- They go through a role of their own instead, which has no right to any table; it may call the
-- functions below, which run as their owner.  Like the tenants' role (0009) it belongs to the whole
-- server, and databases of Nightshift beside each other share it.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nightshift_intake') THEN
        CREATE ROLE nightshift_intake NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL; -- another database's migration made it
END
$$;

GRANT USAGE ON SCHEMA public TO nightshift_intake;

-- plpgsql keeps the plan as long as the session lives, and makes it under the session's settings,
-- as if the statement had been prepared; a function in SQL would be planned on each call.
--
-- One statement, so that each row of a batch is a whole job or none; one element of each array is
-- one job.  The key's row waits for another transaction that holds the same key (lock_timeout) and
-- then gives way; a job without a row in `fresh` was there before, and is not answered.
--
-- The fast lane (from `ready` to `fast`): a job that may run now, of a tenant with nothing waiting
-- at its priority, with nothing paused and no gate closed, is dealt at once as far as credits go.
-- Credits come from one row of lanes per priority, whichever no other submit holds: they are a
-- bound, not a right.  Index queue_backlog.
CREATE FUNCTION submit_jobs(ids uuid[], tenants text[], key_ids text[], priorities int[],
                            workflows text[], end_users text[], purposes text[],
                            data_classes text[], metadatas text[], models text[],
                            requests text[], run_ats timestamptz[], deadlines timestamptz[],
                            max_attempts_each int[], timeouts_s int[], max_costs_nano bigint[],
                            webhook_urls text[], webhook_event_lists text[], replays_of uuid[],
                            est_tokens_each int[], keys text[], body_hashes bytea[],
                            worst_cases_nano bigint[], caps_each text[])
RETURNS TABLE (ord bigint, is_fast boolean, full_scope int)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        WITH input AS MATERIALIZED (
            SELECT * FROM unnest(ids, tenants, key_ids, priorities, workflows, end_users, purposes,
                data_classes, metadatas, models, requests, run_ats, deadlines, max_attempts_each,
                timeouts_s, max_costs_nano, webhook_urls, webhook_event_lists, replays_of,
                est_tokens_each, keys, body_hashes, worst_cases_nano, caps_each)
            WITH ORDINALITY AS input(id, tenant, key_id, priority, workflow, end_user, purpose,
                data_class, metadata, model, request, run_at, deadline, max_attempts, timeout_s,
                max_cost_nano, webhook_url, webhook_events, replay_of, est_tokens, key, body_hash,
                worst_case_nano, caps, ord)
        ), overflow AS MATERIALIZED (
            SELECT o.job, o.scope
            FROM (SELECT array_agg(id) AS ids, array_agg(tenant) AS tenants,
                         array_agg(key_id) AS key_ids, array_agg(workflow) AS workflows,
                         array_agg(end_user) AS end_users, array_agg(model) AS models,
                         array_agg(key) AS keys, array_agg(caps) AS caps
                  FROM input
                  WHERE caps IS NOT NULL
                  HAVING count(*) > 0) AS c,
                 submit_overflow(c.ids, c.tenants, c.key_ids, c.workflows, c.end_users, c.models,
                                 c.keys, c.caps) AS o
        ), keyed AS (
            INSERT INTO idempotency (tenant, key, job, body_hash)
            SELECT tenant, key, id, body_hash FROM input
            WHERE key IS NOT NULL AND id NOT IN (SELECT job FROM overflow)
            ORDER BY tenant, key
            ON CONFLICT DO NOTHING
            RETURNING job
        ), fresh AS MATERIALIZED (
            SELECT *, greatest(run_at, now()) AS ready_at
            FROM input
            WHERE CASE WHEN key IS NULL THEN id NOT IN (SELECT job FROM overflow)
                       ELSE id IN (SELECT job FROM keyed) END
        ), ready AS MATERIALIZED (
            SELECT f.id, f.priority,
                   row_number() OVER (PARTITION BY f.priority ORDER BY f.id) AS place
            FROM fresh f
            WHERE f.ready_at <= now()
              AND NOT EXISTS (SELECT FROM pauses WHERE kind = 'priority'
                      AND name = (ARRAY['high', 'normal', 'low'])[f.priority + 1])
              AND NOT EXISTS (SELECT FROM pauses WHERE kind = 'tenant' AND name = f.tenant)
              AND NOT EXISTS (SELECT FROM tenants t WHERE t.id = f.tenant AND t.is_disabled)
              AND NOT EXISTS (SELECT FROM gates g WHERE g.tenant = f.tenant
                      AND (g.kind, g.name) IN (('tenant', ''), ('key', f.key_id),
                          ('workflow', f.workflow), ('user', f.end_user),
                          ('model', f.model)))
              AND NOT EXISTS (SELECT FROM queue q WHERE q.tenant = f.tenant
                      AND q.priority = f.priority AND q.ready_at <= now()
                      AND q.dispatched_at IS NULL)
        ), credit AS MATERIALIZED (
            SELECT w.priority, l.shard, least(l.credits, w.wanted) AS used
            FROM (SELECT priority, count(*) AS wanted FROM ready GROUP BY priority
                  ORDER BY priority) AS w
            CROSS JOIN LATERAL (
                SELECT shard, credits FROM lanes
                WHERE lanes.priority = w.priority AND credits > 0 AND expires_at > now()
                ORDER BY credits DESC
                LIMIT 1
                FOR UPDATE SKIP LOCKED
            ) AS l
        ), spent AS (
            UPDATE lanes SET credits = lanes.credits - c.used FROM credit c
            WHERE lanes.priority = c.priority AND lanes.shard = c.shard
        ), fast AS MATERIALIZED (
            SELECT r.id FROM ready r JOIN credit c ON c.priority = r.priority
            WHERE r.place <= c.used
        ), stored AS (
            INSERT INTO jobs (id, tenant, key_id, priority, workflow, end_user, purpose, data_class,
                              metadata, model, request, run_at, deadline, max_attempts, timeout_s,
                              max_cost_nano, webhook_url, webhook_events, replay_of, est_tokens,
                              worst_case_nano)
            SELECT id, tenant, key_id, priority, workflow, end_user, purpose, data_class,
                   metadata::jsonb, model, request, run_at, deadline, max_attempts, timeout_s,
                   max_cost_nano, webhook_url, string_to_array(webhook_events, ','), replay_of,
                   est_tokens, worst_case_nano
            FROM fresh
            ORDER BY id
        ), queued AS (
            INSERT INTO queue (job, tenant, priority, ready_at, deadline, dispatched_at,
                               published_at, est_tokens, wait_reason, key_id, workflow, end_user,
                               model)
            SELECT f.id, f.tenant, f.priority, f.ready_at, f.deadline, d.at, d.at, f.est_tokens,
                   CASE WHEN f.run_at > now() THEN 'run_at' END, f.key_id, f.workflow, f.end_user,
                   f.model
            FROM fresh f
            LEFT JOIN LATERAL (SELECT now() AS at FROM fast WHERE fast.id = f.id) AS d ON true
            ORDER BY f.id
        ), told AS (
            INSERT INTO events (job, run, seq, kind)
            SELECT id, 0, 0, 'job.queued' FROM fresh
            ORDER BY id
        ), tallied AS (
            INSERT INTO counts (tenant, priority, state, delta)
            SELECT tenant, priority, 'queued', count(*) FROM fresh GROUP BY tenant, priority
        )
        SELECT ord, id IN (SELECT id FROM fast), NULL::int4 FROM fresh
        UNION ALL
        SELECT i.ord, false, o.scope FROM input i JOIN overflow o ON o.job = i.id;
END
$$;

-- Who has this key?  worst_case_nano is null where the job's row is gone.
CREATE FUNCTION submit_find_key(owner text, wanted text)
RETURNS TABLE (job uuid, body_hash bytea, worst_case_nano bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT i.job, i.body_hash, j.worst_case_nano
        FROM idempotency i
        LEFT JOIN jobs j ON j.id = ANY (ARRAY[i.job]) -- a lookup by index, whatever is planned
        WHERE i.tenant = owner AND i.key = wanted;
END
$$;

-- By jobs_pkey.
CREATE FUNCTION submit_find_job(wanted uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM jobs WHERE id = wanted);
END
$$;

-- They are the daemons' only: what runs as the owner is not for everybody.
DO $$
DECLARE
    app text;
    item record;
BEGIN
    FOR item IN
        SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
          AND proname IN ('submit_jobs', 'submit_find_key', 'submit_find_job')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', item.name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO nightshift_intake', item.name);
    END LOOP;
    FOR app IN
        SELECT DISTINCT grantee::regrole::text
        FROM pg_class c, aclexplode(c.relacl)
        WHERE c.oid = 'jobs'::regclass AND grantee <> 0 AND grantee <> c.relowner
          AND grantee <> 'nightshift_tenant'::regrole
    LOOP
        EXECUTE format('GRANT nightshift_intake TO %s', app);
    END LOOP;
END
$$;
