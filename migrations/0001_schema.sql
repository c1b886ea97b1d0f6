-- SPDX-License-Identifier: Apache-2.0
-- The tables of Nightshift.  Wide rows are written once and finished once; narrow hot rows carry the
-- changing state, so that a busy queue does not bloat the history.  See migrations/README.md.

-- Small tables: who may do what. ------------------------------------------------------------------

CREATE TABLE tenants (
    id                       text PRIMARY KEY,
    name                     text NOT NULL,
    weight                   integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),
    is_disabled              boolean NOT NULL DEFAULT false,
    webhook_secret           bytea NOT NULL,            -- sealed with the data key, aad "tenant:<id>"
    old_webhook_secret       bytea,                     -- signs along until old_webhook_secret_until
    old_webhook_secret_until timestamptz,
    created_at               timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id           text PRIMARY KEY,                      -- the public part of the key
    tenant       text REFERENCES tenants (id),          -- null: an admin key, of no tenant
    name         text NOT NULL,
    scopes       text[] NOT NULL,
    hash         bytea NOT NULL,                        -- HMAC-SHA256(pepper, secret)
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);
CREATE INDEX api_keys_tenant ON api_keys (tenant, created_at);

CREATE TABLE limits (
    owner_kind text NOT NULL CHECK (owner_kind IN ('tenant', 'key')),
    owner      text NOT NULL,
    document   jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_kind, owner)
);

CREATE TABLE endpoints (
    id               text PRIMARY KEY,                  -- "ep_" + 32 hex
    tenant           text NOT NULL REFERENCES tenants (id),
    url              text NOT NULL,
    events           text[],                            -- null: all
    secret           bytea NOT NULL,                    -- sealed, aad "endpoint:<id>"
    old_secret       bytea,
    old_secret_until timestamptz,
    disabled_at      timestamptz,
    disabled_reason  text,
    deleted_at       timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX endpoints_tenant ON endpoints (tenant) WHERE deleted_at IS NULL;

CREATE TABLE pauses (
    kind       text NOT NULL CHECK (kind IN ('priority', 'tenant', 'provider')),
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name)
);

-- Jobs: wide, partitioned by the day in the UUIDv7 id. ---------------------------------------------
-- A job without a state is in `queue` or in `runs`; a state here is terminal and never changes.
-- Usage and cost are not stored: they are sums over `calls`, so that the ledger is the only truth
-- and a late settlement shows at once.

CREATE TABLE jobs (
    id               uuid NOT NULL,
    tenant           text NOT NULL,
    key_id           text NOT NULL,
    priority         smallint NOT NULL CHECK (priority BETWEEN 0 AND 2), -- 0 high, 1 normal, 2 low
    workflow         text,
    end_user         text,
    purpose          text,
    data_class       text,
    metadata         jsonb,
    model            text NOT NULL,                     -- the route's name
    request          text NOT NULL,                     -- the bytes as received
    run_at           timestamptz,
    deadline         timestamptz NOT NULL,
    max_attempts     integer NOT NULL,
    timeout_s        integer NOT NULL,
    max_cost_nano    bigint,
    webhook_url      text,
    webhook_events   text[],                            -- null: all
    replay_of        uuid,
    est_tokens       integer NOT NULL,
    state            text CHECK (state IN ('succeeded', 'failed', 'cancelled', 'expired')),
    started_at       timestamptz,
    ended_at         timestamptz,
    runs             integer NOT NULL DEFAULT 0,
    attempts         integer NOT NULL DEFAULT 0,
    deferrals        integer NOT NULL DEFAULT 0,
    crashes          integer NOT NULL DEFAULT 0,
    cancel_requested boolean NOT NULL DEFAULT false,
    result           text,                              -- the chat.completion, exact bytes
    result_sha256    bytea,
    finish_reason    text,
    error_type       text,
    error_code       text,
    error_message    text,
    error_retryable  boolean,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX jobs_tenant ON jobs (tenant, id);
CREATE INDEX jobs_tenant_state ON jobs (tenant, state, id) WHERE state IS NOT NULL AND state <> 'succeeded';
CREATE INDEX jobs_tenant_workflow ON jobs (tenant, workflow, id) WHERE workflow IS NOT NULL;
CREATE INDEX jobs_metadata ON jobs USING gin (metadata jsonb_path_ops) WHERE metadata IS NOT NULL;

CREATE TABLE events (
    job         uuid NOT NULL,
    run         integer NOT NULL,                       -- 0 before the first claim
    seq         integer NOT NULL,                       -- of the run; a closing event has a high one
    kind        text NOT NULL,
    attempt     integer,                                -- ordinal of the provider call
    byte_offset integer,                                -- of text in the attempt's output
    text        text,
    data        json,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (job, run, seq)
) PARTITION BY RANGE (job);

-- The ledger.  (job, call) is unique over the job's whole life, hence (job, run, call) too.
CREATE TABLE calls (
    job                   uuid NOT NULL,
    call                  integer NOT NULL,
    run                   integer NOT NULL,
    tenant                text NOT NULL,
    key_id                text NOT NULL,
    workflow              text,
    end_user              text,
    route                 text NOT NULL,
    provider              text NOT NULL,
    model                 text NOT NULL,
    input_nano_per_mtok   bigint NOT NULL,
    cached_nano_per_mtok  bigint NOT NULL,
    output_nano_per_mtok  bigint NOT NULL,
    reserved_nano         bigint NOT NULL,              -- the worst case
    budget_windows        text[],
    state                 text NOT NULL CHECK (state IN ('sent', 'settled', 'released', 'unknown')),
    status                integer,
    error_type            text,
    started_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_token_ms        integer,
    duration_ms           integer,
    input_tokens          bigint,
    cached_input_tokens   bigint,
    output_tokens         bigint,
    is_usage_estimated    boolean NOT NULL DEFAULT false,
    cost_nano             bigint NOT NULL DEFAULT 0,    -- settled: spent; sent and unknown: reserved
    PRIMARY KEY (job, call)
) PARTITION BY RANGE (job);

-- Hot rows. ---------------------------------------------------------------------------------------

CREATE TABLE queue (
    job              uuid PRIMARY KEY,
    tenant           text NOT NULL,
    priority         smallint NOT NULL,
    ready_at         timestamptz NOT NULL,
    deadline         timestamptz NOT NULL,
    dispatch_seq     integer NOT NULL DEFAULT 0,        -- changes only with a new queue row
    dispatched_at    timestamptz,                       -- dealt: a ticket went out or a worker may take it
    published_at     timestamptz,                       -- the ticket was last (re)published
    est_tokens       integer NOT NULL,
    wait_reason      text,                              -- run_at, retry, rate_limit, provider, ...
    wait_detail      text,
    run              integer NOT NULL DEFAULT 0,        -- counters that travel
    calls            integer NOT NULL DEFAULT 0,
    attempts         integer NOT NULL DEFAULT 0,
    deferrals        integer NOT NULL DEFAULT 0,
    crashes          integer NOT NULL DEFAULT 0,
    started_at       timestamptz,
    cancel_requested boolean NOT NULL DEFAULT false
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX queue_waiting ON queue (priority, ready_at, job) WHERE dispatched_at IS NULL;
CREATE INDEX queue_backlog ON queue (tenant, priority, ready_at) WHERE dispatched_at IS NULL;
CREATE INDEX queue_dealt ON queue (priority, dispatched_at, job) WHERE dispatched_at IS NOT NULL;
CREATE INDEX queue_deadline ON queue (deadline);
CREATE INDEX queue_tenant ON queue (tenant, job);

CREATE SEQUENCE run_tokens;

CREATE TABLE runs (
    job              uuid PRIMARY KEY,
    tenant           text NOT NULL,
    priority         smallint NOT NULL,
    run              integer NOT NULL,
    run_token        bigint NOT NULL,                   -- the fence: only grows
    worker           uuid NOT NULL,
    deadline         timestamptz NOT NULL,
    dispatch_seq     integer NOT NULL,
    est_tokens       integer NOT NULL,
    claimed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until      timestamptz NOT NULL,              -- hard deadline of this run; moved by each call
    call_started_at  timestamptz,
    silent_s         integer NOT NULL DEFAULT 0,        -- rescue after so long without an event; 0: not
    calls            integer NOT NULL,
    attempts         integer NOT NULL,
    deferrals        integer NOT NULL,
    crashes          integer NOT NULL,
    started_at       timestamptz NOT NULL,              -- the first claim of all
    cancel_requested boolean NOT NULL DEFAULT false
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX runs_worker ON runs (worker);
CREATE INDEX runs_tenant ON runs (tenant, job);
CREATE INDEX runs_cancelled ON runs (worker) WHERE cancel_requested; -- asked with every beat

-- What came out of a topic and is no ticket, kept for people to look at.
CREATE TABLE unreadable_tickets (
    topic           text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset    bigint NOT NULL,
    data            bytea NOT NULL,                     -- the first KiB
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, kafka_partition, kafka_offset)
);

CREATE TABLE workers (
    id          uuid PRIMARY KEY,                       -- of this boot, never reused
    name        text NOT NULL,
    slots       integer NOT NULL,
    used        integer[] NOT NULL DEFAULT '{0,0,0}',   -- by priority
    is_draining boolean NOT NULL DEFAULT false,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat_at     timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- Fast-lane credits: granted by the scheduler, taken by submits with SKIP LOCKED, hence the shards.
CREATE TABLE lanes (
    priority   smallint NOT NULL,
    shard      smallint NOT NULL,
    credits    integer NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT 'epoch',
    PRIMARY KEY (priority, shard)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
INSERT INTO lanes (priority, shard)
SELECT p, s FROM generate_series(0, 2) AS p, generate_series(0, 7) AS s;

-- Who leads the schedulers.  The epoch is the truth: every transaction of a leader starts with
-- leadership_check().  The advisory lock that a leader holds only makes its death known sooner than
-- its beat, which stops also when the process is frozen with its session, and the lock, alive.
CREATE TABLE leadership (
    name     text PRIMARY KEY,
    epoch    bigint NOT NULL,
    holder   text NOT NULL,
    since    timestamptz NOT NULL,
    beat_at  timestamptz NOT NULL,
    has_lock boolean NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
INSERT INTO leadership (name, epoch, holder, since, beat_at, has_lock)
VALUES ('scheduler', 0, '', 'epoch', 'epoch', false);

-- Fails with NS001 unless this is the epoch, and holds the next leader off until the transaction
-- ends.  The leader's own beat may pass: FOR KEY SHARE, which only the epoch's FOR UPDATE stops.
CREATE FUNCTION leadership_check(mine bigint) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM leadership WHERE name = 'scheduler' AND epoch = mine FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'epoch % is over: another scheduler leads', mine USING ERRCODE = 'NS001';
    END IF;
END
$$;

CREATE TABLE idempotency (
    tenant     text NOT NULL,
    key        text NOT NULL,
    job        uuid NOT NULL,
    body_hash  bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);

-- Delta rows; the scheduler folds them.  No dashboard ever counts the big table.
CREATE TABLE counts (
    tenant   text NOT NULL,
    priority smallint NOT NULL,
    state    text NOT NULL,
    delta    bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Webhooks: the outbox. ---------------------------------------------------------------------------

CREATE TABLE deliveries (
    id         uuid PRIMARY KEY,                        -- webhook-id is "msg_" + its hex
    tenant     text NOT NULL,
    endpoint   text,                                    -- null: the job's own webhook.url
    url        text NOT NULL,
    type       text NOT NULL,
    job        uuid,
    sequence   integer NOT NULL DEFAULT 1,
    body       text,                                    -- null: rendered from the ended job, always the same
    state      text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'failed')),
    attempts   integer NOT NULL DEFAULT 0,
    next_at    timestamptz NOT NULL DEFAULT now(),      -- also the lease of the try under way
    tries      jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 'waiting';
-- A lane is an endpoint, or all job URLs of a tenant: a claim steps from lane to lane.
CREATE INDEX deliveries_lane ON deliveries (tenant, coalesce(endpoint, ''), next_at) WHERE state = 'waiting';
CREATE INDEX deliveries_tenant ON deliveries (tenant, id);
CREATE INDEX deliveries_job ON deliveries (job);

-- Bulk files and batches (OpenAI Files and Batches contracts). -------------------------------------

CREATE TABLE files (
    id         text PRIMARY KEY,
    tenant     text NOT NULL,
    purpose    text NOT NULL,
    filename   text NOT NULL,
    bytes      bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
CREATE INDEX files_tenant ON files (tenant, created_at);

CREATE TABLE batches (
    id         text PRIMARY KEY,
    tenant     text NOT NULL,
    input_file text NOT NULL,
    state      text NOT NULL,
    document   jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX batches_tenant ON batches (tenant, created_at);

-- Audit: append-only, each row's hash covers the one before. ---------------------------------------

CREATE TABLE audit (
    seq       bigint PRIMARY KEY,
    at        timestamptz NOT NULL,
    actor     text NOT NULL,
    action    text NOT NULL,
    object    text NOT NULL,
    detail    text NOT NULL,
    prev_hash bytea NOT NULL,
    hash      bytea NOT NULL
);

-- What a row's hash covers: the hash before it and the fields as netstrings ("3:abc,"), so that no
-- two rows can have the same bytes.
CREATE FUNCTION audit_hash(prev_hash bytea, VARIADIC fields text[]) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT sha256(prev_hash || convert_to(string_agg(octet_length(field) || ':' || field || ',',
                                                     '' ORDER BY n), 'UTF8'))
    FROM unnest(fields) WITH ORDINALITY AS f(field, n)
$$;

-- Appends a row, in the transaction of the change that it tells of; one session at a time, so that
-- the chain has no forks (a volatile function sees what was committed while it waited).
CREATE FUNCTION audit_append(actor text, action text, object text, detail text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    last_seq bigint;
    last_hash bytea;
    made_at timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('nightshift audit'));
    SELECT a.seq, a.hash INTO last_seq, last_hash FROM audit a ORDER BY a.seq DESC LIMIT 1;
    last_seq := coalesce(last_seq, 0) + 1;
    last_hash := coalesce(last_hash, decode(repeat('00', 32), 'hex'));
    made_at := clock_timestamp();
    INSERT INTO audit (seq, at, actor, action, object, detail, prev_hash, hash)
    VALUES (last_seq, made_at, actor, action, object, detail, last_hash,
            audit_hash(last_hash, last_seq::text,
                       (extract(epoch FROM made_at) * 1000000)::bigint::text,
                       actor, action, object, detail));
    RETURN last_seq;
END
$$;

-- Ids and partitions. -----------------------------------------------------------------------------

-- The smallest UUIDv7 of a moment.
CREATE FUNCTION id_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;

CREATE FUNCTION id_time(id uuid) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT to_timestamp((('x' || lpad(left(replace(id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint) / 1000.0)
$$;

-- A UUIDv7 of now for rows that SQL makes by itself (deliveries).
CREATE FUNCTION id_make() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$
    SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
            || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14, 3)
            || '8' || substr(replace(gen_random_uuid()::text, '-', ''), 18, 15))::uuid
$$;

-- Makes the partitions of jobs, events and calls for days (UTC) first_day .. first_day + days - 1.
-- Runs as its owner: the daemons' role may not create tables.
CREATE FUNCTION partitions_ensure(first_day date, days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    parent text;
    day date;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('nightshift partitions'));
    FOR day IN SELECT first_day + n FROM generate_series(0, days - 1) AS n LOOP
        FOREACH parent IN ARRAY ARRAY['jobs', 'events', 'calls'] LOOP
            CONTINUE WHEN to_regclass(format('%I', parent || to_char(day, '_YYYYMMDD'))) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                           parent || to_char(day, '_YYYYMMDD'), parent,
                           id_floor(day::timestamp AT TIME ZONE 'UTC'),
                           id_floor((day + 1)::timestamp AT TIME ZONE 'UTC'));
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

-- Drops the partitions of a day that is over and holds no live job; true when they are gone.
CREATE FUNCTION partitions_drop(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    parent text;
    low uuid := id_floor(day::timestamp AT TIME ZONE 'UTC');
    high uuid := id_floor((day + 1)::timestamp AT TIME ZONE 'UTC');
BEGIN
    IF day > (now() AT TIME ZONE 'UTC')::date - 30 THEN
        RAISE EXCEPTION 'day % is younger than the least retention of 30 days', day;
    END IF;
    IF EXISTS (SELECT FROM queue WHERE job >= low AND job < high)
       OR EXISTS (SELECT FROM runs WHERE job >= low AND job < high)
       OR EXISTS (SELECT FROM deliveries WHERE job >= low AND job < high AND state = 'waiting') THEN
        RETURN false;
    END IF;
    DELETE FROM deliveries WHERE job >= low AND job < high;
    FOREACH parent IN ARRAY ARRAY['events', 'calls', 'jobs'] LOOP
        EXECUTE format('DROP TABLE IF EXISTS %I', parent || to_char(day, '_YYYYMMDD'));
    END LOOP;
    RETURN true;
END
$$;

-- Days that have partitions, oldest first.
CREATE FUNCTION partitions_days() RETURNS SETOF date
LANGUAGE sql STABLE
AS $$
    SELECT to_date(right(c.relname, 8), 'YYYYMMDD')
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'jobs'::regclass
    ORDER BY 1
$$;

SELECT partitions_ensure((now() AT TIME ZONE 'UTC')::date - 1, 16);
