-- SPDX-License-Identifier: Apache-2.0
-- Usage: what was spent on what, by hour, by the tenant's own day and by month, without ever reading
-- the ledger.  Sum (roll-ups) + sum (deltas) = ledger, in every snapshot, to the nano-dollar.
--
-- Whatever changes rows of the ledger also writes delta rows, by the trigger below: so in the same
-- statement, with no word of it in the statement, and none can be forgotten.  (Jobs end in one place,
-- END_SQL_CLOSE of common/model/end_sql.h, and deltas of jobs are written there: a trigger by the row
-- costs four times as much.)  The scheduler folds deltas into roll-ups in one statement; whoever
-- reads sums both in one snapshot.
--
-- What counts when: a call counts from when it is booked (it is not `sent` any more), at the hour
-- and the day of its start, also when it is settled much later.  A job counts when it has ended,
-- where its last call counts, or at its end if it never made one.

CREATE TABLE usage_deltas (
    tenant              text NOT NULL,
    day                 date NOT NULL,                  -- the tenant's own: calls.budget_day
    hour                timestamptz NOT NULL,           -- its begin, in UTC
    route               text NOT NULL,
    workflow            text,
    provider            text,                           -- null: of a job that made no call
    model               text,
    key_id              text NOT NULL,
    end_user            text,
    jobs                bigint NOT NULL DEFAULT 0,      -- ended
    calls               bigint NOT NULL DEFAULT 0,      -- booked
    retries             bigint NOT NULL DEFAULT 0,      -- of them, not the first of their job
    errors              bigint NOT NULL DEFAULT 0,      -- of them, that failed
    input_tokens        bigint NOT NULL DEFAULT 0,
    output_tokens       bigint NOT NULL DEFAULT 0,
    cached_input_tokens bigint NOT NULL DEFAULT 0,
    cache_hits          bigint NOT NULL DEFAULT 0,
    cost_nano           bigint NOT NULL DEFAULT 0,      -- of settled calls
    unknown_calls       bigint NOT NULL DEFAULT 0,
    unknown_nano        bigint NOT NULL DEFAULT 0,      -- their reservations
    queue_wait_ms       bigint NOT NULL DEFAULT 0       -- of jobs that started: until they did
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_threshold = -1);

-- A combination of all names but the user's.  There are few, and roll-ups of many years name them
-- by the hash of what they are: narrow rows, and no lookup to fold.  '' is none.
CREATE TABLE usage_cells (
    cell     uuid PRIMARY KEY,
    tenant   text NOT NULL,
    route    text NOT NULL,
    workflow text NOT NULL,
    provider text NOT NULL,
    model    text NOT NULL,
    key_id   text NOT NULL
);

CREATE FUNCTION usage_cell(tenant text, route text, workflow text, provider text, model text,
                           key_id text) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT encode(substr(sha256(convert_to(
               length(tenant) || ':' || tenant || length(route) || ':' || route
               || length(workflow) || ':' || workflow || length(provider) || ':' || provider
               || length(model) || ':' || model || length(key_id) || ':' || key_id, 'UTF8')),
               1, 16), 'hex')::uuid
$$;

-- sum(bigint) makes numerics, which takes three times as long and twenty times the memory.  These
-- sums stay in 64 bits or fail.
CREATE AGGREGATE usage_sum(bigint) (SFUNC = int8pl, STYPE = bigint, INITCOND = '0',
                                    COMBINEFUNC = int8pl, PARALLEL = SAFE);

-- The roll-ups.  A year of one tenant must be summed in well under 100 ms for any grouping, so each
-- question reads months, days at the two ends and, where the range is not of whole days, hours at
-- the very ends; users, of whom there are many, are kept apart from all the rest; and the sums of
-- all are there by the hour, since a year has 8,760 of these.
CREATE TABLE usage_totals (
    tenant              text NOT NULL,
    day                 date NOT NULL,
    hour                timestamptz NOT NULL,
    jobs                bigint NOT NULL,
    calls               bigint NOT NULL,
    retries             bigint NOT NULL,
    errors              bigint NOT NULL,
    input_tokens        bigint NOT NULL,
    output_tokens       bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    cache_hits          bigint NOT NULL,
    cost_nano           bigint NOT NULL,
    unknown_calls       bigint NOT NULL,
    unknown_nano        bigint NOT NULL,
    queue_wait_ms       bigint NOT NULL,
    PRIMARY KEY (tenant, day, hour)
) WITH (fillfactor = 80);

CREATE TABLE usage_hours (LIKE usage_totals, cell uuid NOT NULL,
                          PRIMARY KEY (tenant, day, hour, cell)) WITH (fillfactor = 80);
CREATE TABLE usage_days (LIKE usage_totals, cell uuid NOT NULL,
                         PRIMARY KEY (tenant, day, cell)) WITH (fillfactor = 80);
CREATE TABLE usage_months (LIKE usage_totals, cell uuid NOT NULL,
                           PRIMARY KEY (tenant, day, cell)) WITH (fillfactor = 80);
ALTER TABLE usage_days DROP COLUMN hour;
ALTER TABLE usage_months DROP COLUMN hour;              -- day: the first of the month

-- Users are asked for page by page, in the order of bytes, from all their slices of time.
CREATE TABLE usage_user_hours (LIKE usage_hours, end_user text COLLATE "C" NOT NULL,
                               PRIMARY KEY (tenant, day, end_user, hour, cell))
    WITH (fillfactor = 80);
CREATE TABLE usage_user_days (LIKE usage_days, end_user text COLLATE "C" NOT NULL,
                              PRIMARY KEY (tenant, day, end_user, cell)) WITH (fillfactor = 80);
CREATE TABLE usage_user_months (LIKE usage_months, end_user text COLLATE "C" NOT NULL,
                                PRIMARY KEY (tenant, day, end_user, cell)) WITH (fillfactor = 80);

-- Deltas. -----------------------------------------------------------------------------------------

-- What a row of the ledger was is taken off, what it is now is put on; while it was `sent` it was
-- nothing.  Definer: who may book a call need not be able to write here by other means.
CREATE FUNCTION usage_calls_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    INSERT INTO usage_deltas (tenant, day, hour, route, workflow, provider, model, key_id, end_user,
                              calls, retries, errors, input_tokens, output_tokens,
                              cached_input_tokens, cost_nano, unknown_calls, unknown_nano)
    SELECT tenant, budget_day, date_trunc('hour', started_at, 'UTC'), route, workflow, provider,
           model, key_id, end_user,
           sign,
           CASE WHEN call > 1 THEN sign ELSE 0 END,
           CASE WHEN error_type <> 'cancelled' THEN sign ELSE 0 END,
           sign * coalesce(input_tokens, 0),
           sign * coalesce(output_tokens, 0),
           sign * coalesce(cached_input_tokens, 0),
           CASE WHEN state = 'settled' THEN sign * cost_nano ELSE 0 END,
           CASE WHEN state = 'unknown' THEN sign ELSE 0 END,
           CASE WHEN state = 'unknown' THEN sign * cost_nano ELSE 0 END
    FROM (SELECT 1 AS sign, n.* FROM new_calls n WHERE n.state <> 'sent'
          UNION ALL
          SELECT -1 AS sign, o.* FROM old_calls o WHERE o.state <> 'sent') AS changed;
    RETURN NULL;
END
$$;
CREATE TRIGGER usage_calls_changed AFTER UPDATE ON calls
    REFERENCING OLD TABLE AS old_calls NEW TABLE AS new_calls
    FOR EACH STATEMENT EXECUTE FUNCTION usage_calls_changed();

-- Rows that are born booked: no daemon makes such, people who mend or restore a ledger may.
CREATE FUNCTION usage_call_inserted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    INSERT INTO usage_deltas (tenant, day, hour, route, workflow, provider, model, key_id, end_user,
                              calls, retries, errors, input_tokens, output_tokens,
                              cached_input_tokens, cost_nano, unknown_calls, unknown_nano)
    VALUES (NEW.tenant, NEW.budget_day, date_trunc('hour', NEW.started_at, 'UTC'), NEW.route,
            NEW.workflow, NEW.provider, NEW.model, NEW.key_id, NEW.end_user,
            1,
            (NEW.call > 1)::int,
            coalesce(NEW.error_type <> 'cancelled', false)::int,
            coalesce(NEW.input_tokens, 0),
            coalesce(NEW.output_tokens, 0),
            coalesce(NEW.cached_input_tokens, 0),
            CASE WHEN NEW.state = 'settled' THEN NEW.cost_nano ELSE 0 END,
            (NEW.state = 'unknown')::int,
            CASE WHEN NEW.state = 'unknown' THEN NEW.cost_nano ELSE 0 END);
    RETURN NULL;
END
$$;
CREATE TRIGGER usage_call_inserted AFTER INSERT ON calls
    FOR EACH ROW WHEN (NEW.state <> 'sent') EXECUTE FUNCTION usage_call_inserted();

-- The tenant's day at a moment, for jobs that never made a call.
CREATE FUNCTION usage_day(owner_id text, at timestamptz) RETURNS date
LANGUAGE sql STABLE
AS $$
    SELECT (budget_windows_at(coalesce((SELECT document ->> 'time_zone'
                                        FROM limits
                                        WHERE owner_kind = 'tenant' AND owner = owner_id),
                                       'UTC'), at)).day
$$;

-- What there was before this migration. -------------------------------------------------------------

INSERT INTO usage_deltas (tenant, day, hour, route, workflow, provider, model, key_id, end_user,
                          calls, retries, errors, input_tokens, output_tokens,
                          cached_input_tokens, cost_nano, unknown_calls, unknown_nano)
SELECT tenant, budget_day, date_trunc('hour', started_at, 'UTC'), route, workflow, provider, model,
       key_id, end_user, count(*), count(*) FILTER (WHERE call > 1),
       count(*) FILTER (WHERE error_type <> 'cancelled'),
       coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
       coalesce(sum(cached_input_tokens), 0),
       coalesce(sum(cost_nano) FILTER (WHERE state = 'settled'), 0),
       count(*) FILTER (WHERE state = 'unknown'),
       coalesce(sum(cost_nano) FILTER (WHERE state = 'unknown'), 0)
FROM calls
WHERE state <> 'sent'
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;

INSERT INTO usage_deltas (tenant, day, hour, route, workflow, provider, model, key_id, end_user,
                          jobs, queue_wait_ms)
SELECT j.tenant, coalesce(c.budget_day, usage_day(j.tenant, j.ended_at)),
       date_trunc('hour', coalesce(c.started_at, j.ended_at), 'UTC'), j.model, j.workflow,
       c.provider, c.model, j.key_id, j.end_user, count(*),
       coalesce(sum(greatest(extract(epoch FROM j.started_at
                                                - greatest(id_time(j.id), j.run_at)) * 1000, 0)), 0)
FROM jobs j
LEFT JOIN LATERAL (SELECT budget_day, started_at, provider, model
                   FROM calls
                   WHERE job = j.id
                   ORDER BY call DESC
                   LIMIT 1) AS c ON true
WHERE j.state IS NOT NULL
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;
