-- SPDX-License-Identifier: Apache-2.0
-- Limits and budgets: what changed since a poll, the generations of the books that Redis keeps, the
-- gates of tenants that must wait, and what the ledger needs so that books can be summed from it.

-- Versions. ---------------------------------------------------------------------------------------
-- A row's version is the transaction that wrote it last.  Who polls asks for the rows at or above
-- the oldest transaction that was still open at its last look (pg_snapshot_xmin): none is missed,
-- in whatever order transactions commit; some are read twice.

CREATE FUNCTION row_version() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.version := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END
$$;

ALTER TABLE limits ADD COLUMN version bigint NOT NULL DEFAULT 0;
CREATE INDEX limits_version ON limits (version);
CREATE TRIGGER limits_row_version BEFORE INSERT OR UPDATE ON limits
    FOR EACH ROW EXECUTE FUNCTION row_version();

ALTER TABLE tenants ADD COLUMN version bigint NOT NULL DEFAULT 0;
CREATE INDEX tenants_version ON tenants (version);
CREATE TRIGGER tenants_row_version BEFORE INSERT OR UPDATE ON tenants
    FOR EACH ROW EXECUTE FUNCTION row_version();

-- Books. ------------------------------------------------------------------------------------------
-- The book of a tenant is what Redis knows of its money: all accounts.  It counts only while it
-- carries the text '<binding.generation>.<book.generation>'; a tenant without a row has generation
-- 0.  Every intent of a call under a budget reads both rows FOR SHARE.

CREATE TABLE budget_books (
    tenant     text PRIMARY KEY REFERENCES tenants (id),
    generation bigint NOT NULL DEFAULT 1,
    bumped_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    version    bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE INDEX budget_books_version ON budget_books (version);
CREATE TRIGGER budget_books_row_version BEFORE INSERT OR UPDATE ON budget_books
    FOR EACH ROW EXECUTE FUNCTION row_version();

-- Which Redis the books are in: another run_id makes all of them stale.  One row.
CREATE TABLE budget_binding (
    is_only    boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    run_id     text NOT NULL DEFAULT '',                -- '': none yet
    generation bigint NOT NULL DEFAULT 0,
    bound_at   timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 20);
INSERT INTO budget_binding DEFAULT VALUES;

-- The tenant's day and month at a moment, and the ones after.  A day begins at the first moment
-- that its zone calls midnight, or what stands for it where clocks jump over it; where the clock
-- shows midnight twice, at the second (so says Postgres), and until then it is still yesterday.
CREATE FUNCTION budget_windows_at(zone text, at timestamptz,
                                  OUT day date, OUT day_end timestamptz, OUT next_day_end timestamptz,
                                  OUT month date, OUT month_end timestamptz,
                                  OUT next_month_end timestamptz)
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    BEGIN
        day := (at AT TIME ZONE zone)::date;
    EXCEPTION WHEN invalid_parameter_value THEN         -- a zone that this server has no more
        zone := 'UTC';
        day := (at AT TIME ZONE zone)::date;
    END;
    IF day::timestamp AT TIME ZONE zone > at THEN
        day := day - 1;
    END IF;
    month := date_trunc('month', day)::date;
    day_end := (day + 1)::timestamp AT TIME ZONE zone;
    next_day_end := (day + 2)::timestamp AT TIME ZONE zone;
    month_end := (month + interval '1 month') AT TIME ZONE zone;
    next_month_end := (month + interval '2 months') AT TIME ZONE zone;
END
$$;

-- Gates. ------------------------------------------------------------------------------------------
-- A scope of a tenant that is over a limit: its jobs wait in the queue and nobody deals them.

CREATE TABLE gates (
    tenant      text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('tenant', 'key', 'workflow', 'user', 'model')),
    name        text NOT NULL,                          -- '' for kind 'tenant'
    until       timestamptz NOT NULL,                   -- closed until then
    interval_us bigint NOT NULL DEFAULT 0,              -- then one job each; 0: open
    reason      text NOT NULL,                          -- rate_limit, concurrency, budget
    detail      text,
    closed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, kind, name)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
CREATE INDEX gates_until ON gates (until);

-- What a gate is matched with, without a look at the wide row.  Null in rows of daemons before this.
ALTER TABLE queue
    ADD COLUMN key_id text,
    ADD COLUMN workflow text,
    ADD COLUMN end_user text,
    ADD COLUMN model text;
CREATE INDEX queue_workflow ON queue (tenant, workflow) WHERE workflow IS NOT NULL;
CREATE INDEX queue_end_user ON queue (tenant, end_user) WHERE end_user IS NOT NULL;

-- Which of these new jobs find a queue that is as long as it may be, and the scope (1 tenant, 2 key,
-- 3 workflow, 4 user, 5 model) whose it is.  caps is "tenant,key,workflow,user,model", each a number
-- or nothing.  Exact whoever submits at the same time: what is limited goes one at a time per tenant,
-- and this function is volatile, so that it sees what was committed while it waited.  A job whose
-- idempotency key is known already takes no room and is never named.
CREATE FUNCTION submit_overflow(ids uuid[], tenants text[], key_ids text[], workflows text[],
                                end_users text[], models text[], idempotency_keys text[], caps text[])
RETURNS TABLE (job uuid, scope integer)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    one record;
    most bigint[];
    names text[];
    slots text[];
    rooms jsonb := '{}';
    held bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(28275, locks.name)
    FROM (SELECT DISTINCT hashtext(name) AS name FROM unnest(tenants) AS name ORDER BY 1) AS locks;
    FOR one IN SELECT * FROM unnest(ids, tenants, key_ids, workflows, end_users, models,
                                    idempotency_keys, caps)
               AS row(id, tenant, key_id, workflow, end_user, model, key, caps) ORDER BY id LOOP
        CONTINUE WHEN EXISTS (SELECT FROM idempotency i
                              WHERE i.tenant = one.tenant AND i.key = one.key);
        most := string_to_array(one.caps, ',', '')::bigint[];
        names := ARRAY['', one.key_id, one.workflow, one.end_user, one.model];
        slots := '{}';
        job := NULL;
        FOR n IN 1..5 LOOP
            CONTINUE WHEN most[n] IS NULL;
            slots := slots || (n || ':' || one.tenant || ':' || names[n]);
            IF NOT rooms ? slots[cardinality(slots)] THEN
                CASE n
                WHEN 1 THEN
                    SELECT count(*) INTO held
                    FROM (SELECT FROM queue q WHERE q.tenant = one.tenant LIMIT most[n]) AS held_rows;
                WHEN 2 THEN
                    SELECT count(*) INTO held
                    FROM (SELECT FROM queue q
                          WHERE q.tenant = one.tenant AND q.key_id = names[n] LIMIT most[n]) AS held_rows;
                WHEN 3 THEN
                    SELECT count(*) INTO held
                    FROM (SELECT FROM queue q
                          WHERE q.tenant = one.tenant AND q.workflow = names[n] LIMIT most[n]) AS held_rows;
                WHEN 4 THEN
                    SELECT count(*) INTO held
                    FROM (SELECT FROM queue q
                          WHERE q.tenant = one.tenant AND q.end_user = names[n] LIMIT most[n]) AS held_rows;
                ELSE
                    SELECT count(*) INTO held
                    FROM (SELECT FROM queue q
                          WHERE q.tenant = one.tenant AND q.model = names[n] LIMIT most[n]) AS held_rows;
                END CASE;
                rooms := rooms || jsonb_build_object(slots[cardinality(slots)], most[n] - held);
            END IF;
            IF (rooms ->> slots[cardinality(slots)])::bigint <= 0 THEN
                job := one.id;
                scope := n;
                RETURN NEXT;
                EXIT;
            END IF;
        END LOOP;
        CONTINUE WHEN job IS NOT NULL;
        FOR n IN 1..cardinality(slots) LOOP
            rooms := jsonb_set(rooms, ARRAY[slots[n]], to_jsonb((rooms ->> slots[n])::bigint - 1));
        END LOOP;
    END LOOP;
END
$$;

-- Jobs and the ledger. ----------------------------------------------------------------------------

-- The worst case of one call on the dearest target of the route, as it was at submit.
ALTER TABLE jobs ADD COLUMN worst_case_nano bigint;

-- The tenant's own day at the reservation (UTC where it has no zone), the windows that were
-- reserved in (null: no budget applied) and the generation of the book they were reserved in.
ALTER TABLE calls
    ADD COLUMN budget_day date DEFAULT (now() AT TIME ZONE 'UTC')::date,
    ADD COLUMN budget_generation text;
UPDATE calls SET budget_day = (started_at AT TIME ZONE 'UTC')::date;
ALTER TABLE calls ALTER COLUMN budget_day SET NOT NULL;
CREATE INDEX calls_tenant ON calls (tenant, started_at);
CREATE INDEX calls_open ON calls (tenant) WHERE state IN ('sent', 'unknown');
