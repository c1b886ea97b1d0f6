/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL by which jobs leave a run or the queue, with event, webhooks and counts in one statement.
 */
#include "common/model/end_store.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/io/metrics.h"
#include "common/model/call_sql.h"
#include "common/model/end_sql.h"
#include "common/model/gate_sql.h"
#include "common/model/tenant_scope_store.h"

enum { END_BATCH_BYTES = 8 * 1024 * 1024 };

static const struct metric jobs_ended = {
    .name = "nightshift_jobs_ended_total",
    .type = METRIC_COUNTER,
    .help = "Jobs that reached a terminal state.",
    .labels = {"priority", "state"},
};

/* The live run behind a token, locked against everybody; read again after a wait, so that a cancel
 * flag which was set meanwhile counts. */
#define SQL_LOCK_RUN \
    SQL(                                                                                  \
    "locked AS MATERIALIZED ("                                                            \
    "    SELECT i.*, r.*"                                                                 \
    "    FROM (SELECT * FROM input ORDER BY job) AS i"                                    \
    "    CROSS JOIN LATERAL ("                                                            \
    "        SELECT tenant, priority, run, calls, crashes, started_at, cancel_requested," \
    "               deadline, dispatch_seq, est_tokens, key_id, workflow, end_user, model" \
    "        FROM runs"                                                                   \
    "        WHERE runs.job = i.job AND runs.run_token = i.run_token"                     \
    "        FOR UPDATE"                                                                  \
    "    ) AS r"                                                                          \
    "), gone AS ("                                                                        \
    "    DELETE FROM runs r USING locked l WHERE " SQL_KEYED("r.job", "l.job") ")")

PG_STATEMENT(run_end_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::int8[], $3::text[], $4::int4[], $5::int4[],"
    "        $6::text[], $7::text[], $8::text[], $9::bool[], $10::text[], $11::bytea[],"
    "        $12::text[], $13::int4[], $14::text[], $15::int4[], $16::text[],"
    "        $17::int4[], $18::int4[], $19::int8[], $20::int8[], $21::int8[],"
    "        $22::bool[], $23::int8[], $24::int4[], $25::int4[], $26::int4[],"
    "        $27::text[])"
    "    WITH ORDINALITY AS input(job, run_token, end_state, attempts, deferrals,"
    "        error_type, error_code, error_message, error_retryable, result,"
    "        result_sha256, finish_reason, " CALL_SQL_COLUMNS ", " CHUNK_SQL_COLUMNS
    "        , ord)"
    "), " SQL_LOCK_RUN
    ", ended AS MATERIALIZED ("
    "    SELECT job, tenant, priority, run, 'running' AS from_state, end_state AS state,"
    "           attempts, deferrals, crashes, started_at, cancel_requested, error_type,"
    "           error_code, error_message, error_retryable, result, result_sha256,"
    "           finish_reason"
    "    FROM locked"
    "    WHERE NOT cancel_requested"
    "    UNION ALL"
    "    SELECT job, tenant, priority, run, 'running', 'cancelled', attempts, deferrals,"
    "           crashes, started_at, cancel_requested, " END_SQL_CANCELLED
    "    FROM locked"
    "    WHERE cancel_requested"
    "), " CHUNK_SQL_STORE ", " END_SQL_CLOSE ", " CALL_SQL_BOOK
    "SELECT ord, priority,"
    "       CASE WHEN cancel_requested THEN 'cancelled' ELSE end_state END,"
    "       " END_SQL_HAS_DELIVERIES("job")
    " FROM locked");

/* Back to the queue with a new dispatch_seq: tickets of before are worthless from here on.  Behind
 * a gate the job keeps its place by its age, and the gate closes for its siblings.  The feeder lets
 * them through ever faster while nobody is refused; each refusal slows it down again, never below
 * the pace that is sure to pass. */
PG_STATEMENT(run_requeue_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::int8[], $3::int8[], $4::text[], $5::text[],"
    "        $6::text[], $7::int4[], $8::int4[], $9::int4[], $10::int8[], $11::text[],"
    "        $12::text[], $13::int8[], $14::int8[], $15::int8[], $16::int4[], $17::text[],"
    "        $18::int4[], $19::text[], $20::int4[], $21::int4[], $22::int8[], $23::int8[],"
    "        $24::int8[], $25::bool[], $26::int8[], $27::int4[], $28::int4[], $29::int4[],"
    "        $30::text[])"
    "    WITH ORDINALITY AS input(job, run_token, delay_ms, wait_reason, wait_detail, reason,"
    "        attempts, deferrals, superseded, valid_bytes, gate_kind, gate_name, gate_us,"
    "        gate_interval_us, gate_most, " CALL_SQL_COLUMNS ","
    "        " CHUNK_SQL_COLUMNS ", ord)"
    "), " SQL_LOCK_RUN
    ", back AS MATERIALIZED ("
    "    SELECT *, now() + delay_ms * interval '1 ms' AS ready_at,"
    "           CASE WHEN gate_kind IS NULL THEN now() + delay_ms * interval '1 ms'"
    "                ELSE least(id_time(job), now()) END AS place"
    "    FROM locked"
    "    WHERE NOT cancel_requested"
    "), queued AS ("
    "    INSERT INTO queue (job, tenant, priority, ready_at, deadline, dispatch_seq, est_tokens,"
    "                       wait_reason, wait_detail, run, calls, attempts, deferrals, crashes,"
    "                       started_at, key_id, workflow, end_user, model)"
    "    SELECT job, tenant, priority, place, deadline, dispatch_seq + 1, est_tokens,"
    "           wait_reason, wait_detail, run, calls, attempts, deferrals, crashes, started_at,"
    "           key_id, workflow, end_user, model"
    "    FROM back"
    "), shut AS ("
    "    INSERT INTO gates AS g (tenant, kind, name, until, interval_us, most, reason, detail)"
    "    SELECT tenant, gate_kind, gate_name, now() + max(gate_us) * interval '1 us',"
    "           max(gate_interval_us), max(gate_most), max(wait_reason), max(wait_detail)"
    "    FROM back"
    "    WHERE gate_kind IS NOT NULL"
    "    GROUP BY tenant, gate_kind, gate_name"
    "    ORDER BY tenant, gate_kind, gate_name"
    "    ON CONFLICT (tenant, kind, name) DO UPDATE"
    "    SET until = greatest(g.until, excluded.until),"
    "        interval_us = CASE WHEN g.interval_us = 0 THEN excluded.interval_us"
    "                           ELSE least(g.interval_us * 3 / 2 + 1000, excluded.interval_us)"
    "                      END,"
    "        refused_at = excluded.refused_at,"
    "        most = excluded.most,"
    "        reason = excluded.reason,"
    "        detail = excluded.detail,"
    "        closed_at = CASE WHEN g.until < now() - interval '" GATE_SQL_IDLE "'"
    "                         THEN clock_timestamp() ELSE g.closed_at END"
    "), " CHUNK_SQL_STORE
    ", superseded AS ("
    "    INSERT INTO events (job, run, seq, kind, attempt, data)"
    "    SELECT job, run, " SQL_SEQ_SUPERSEDED ", 'attempt.superseded', superseded,"
    "           json_build_object('attempt', superseded, 'valid_bytes', valid_bytes,"
    "                             'reason', reason)"
    "    FROM back"
    "    WHERE superseded IS NOT NULL"
    "    ON CONFLICT DO NOTHING"
    "), retrying AS ("
    "    INSERT INTO events (job, run, seq, kind, attempt, data)"
    "    SELECT job, run, " SQL_SEQ_RETRYING ", 'job.retrying', calls,"
    "           json_build_object('attempt', calls, 'reason', reason,"
    "                             'at', " SQL_RFC3339("ready_at") ")"
    "    FROM back"
    "    ON CONFLICT DO NOTHING"
    "), moved AS ("
    "    INSERT INTO counts (tenant, priority, state, delta)"
    "    SELECT tenant, priority, s.state, sum(s.sign)"
    "    FROM back, (VALUES ('running', -1), ('queued', 1)) AS s(state, sign)"
    "    GROUP BY tenant, priority, s.state"
    "), ended AS MATERIALIZED ("
    "    SELECT job, tenant, priority, run, 'running' AS from_state, 'cancelled' AS state,"
    "           attempts, deferrals, crashes, started_at, cancel_requested,"
    "           error_type, error_code, error_message, error_retryable, result, result_sha256,"
    "           finish_reason"
    "    FROM locked, (SELECT " END_SQL_CANCELLED ") AS cancelled(error_type, error_code,"
    "         error_message, error_retryable, result, result_sha256, finish_reason)"
    "    WHERE cancel_requested"
    "), " END_SQL_CLOSE ", " CALL_SQL_BOOK
    "SELECT ord, priority, CASE WHEN cancel_requested THEN 'cancelled' ELSE 'queued' END,"
    "       " END_SQL_HAS_DELIVERIES("job")
    " FROM locked");

/* After `locked`, the queue rows that end: both statements on queue rows share the rest. */
#define SQL_END_QUEUED(state, outcome) \
    SQL(                                                                                        \
    "), gone AS ("                                                                              \
    "    DELETE FROM queue q USING locked l WHERE " SQL_KEYED("q.job", "l.job")                 \
    "), ended AS MATERIALIZED ("                                                                \
    "    SELECT job, tenant, priority, run, 'queued' AS from_state, " state " AS state,"        \
    "           attempts, deferrals, crashes, started_at, cancel_requested,"                    \
    "           error_type, error_code, error_message, error_retryable, result, result_sha256," \
    "           finish_reason"                                                                  \
    "    FROM locked, (SELECT " outcome ") AS o(error_type, error_code,"                        \
    "         error_message, error_retryable, result, result_sha256, finish_reason)"            \
    "), " END_SQL_CLOSE)

/* By queue_pkey; waits for the row. */
PG_STATEMENT(queue_cancel_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::text[])"
    "    WITH ORDINALITY AS input(job, tenant, ord)"
    "), locked AS MATERIALIZED ("
    "    SELECT i.ord, q.*"
    "    FROM (SELECT * FROM input ORDER BY job) AS i"
    "    CROSS JOIN LATERAL ("
    "        SELECT job, tenant, priority, run, attempts, deferrals, crashes, started_at,"
    "               true AS cancel_requested"
    "        FROM queue"
    "        WHERE queue.job = i.job AND queue.tenant = i.tenant"
    "        FOR UPDATE"
    "    ) AS q"
    SQL_END_QUEUED("'cancelled'", END_SQL_CANCELLED)
    "SELECT ord, priority, 'cancelled', " END_SQL_HAS_DELIVERIES("job")
    " FROM locked");

/* By the index queue_deadline. */
PG_STATEMENT(queue_expire_due_statement,
    "WITH locked AS MATERIALIZED ("
    "    SELECT job, tenant, priority, run, attempts, deferrals, crashes, started_at,"
    "           cancel_requested"
    "    FROM queue"
    "    WHERE deadline <= now()"
    "    ORDER BY deadline"
    "    LIMIT $1::int4"
    "    FOR UPDATE SKIP LOCKED"
    SQL_END_QUEUED("'expired'", END_SQL_EXPIRED)
    "SELECT job, priority, 'expired', " END_SQL_HAS_DELIVERIES("job")
    " FROM locked");

const struct pg_statement *queue_expire_statement(void)
{
    return &queue_expire_due_statement;
}

void end_count(enum priority priority, enum job_state state)
{
    metric_add(&jobs_ended, METRIC_LABELS(priority_name(priority), job_state_name(state)), 1);
}

/* --- the store -------------------------------------------------------------------------------- */

enum { CANCEL_BATCHES = 8, RUN_END_COLUMNS = 12, RUN_REQUEUE_COLUMNS = 15 };

struct end_store {
    struct pg_batch *ends;
    struct pg_batch *requeues;
    struct pg_batch *cancels;
};

#define CALL_TYPES                                                                            \
    PG_INT4, PG_TEXT, PG_INT4, PG_TEXT, PG_INT4, PG_INT4, PG_INT8, PG_INT8, PG_INT8, PG_BOOL, \
        PG_INT8
#define CHUNK_TYPES PG_INT4, PG_INT4, PG_INT4, PG_TEXT

static const struct pg_batch_kind end_kind = {
    .statement = &run_end_statement,
    .column_count = RUN_END_COLUMNS + CALL_OUTCOME_COLUMNS + EVENT_CHUNK_COLUMNS,
    .columns = {PG_UUID, PG_INT8, PG_TEXT, PG_INT4, PG_INT4, PG_TEXT, PG_TEXT, PG_TEXT, PG_BOOL,
                PG_TEXT, PG_BYTEA, PG_TEXT, CALL_TYPES, CHUNK_TYPES},
    .key_columns = 1,
    .is_repeatable = true,
    .max_bytes = END_BATCH_BYTES,
    .retry_ms = STORE_RETRY_MS,
};

static const struct pg_batch_kind requeue_kind = {
    .statement = &run_requeue_statement,
    .column_count = RUN_REQUEUE_COLUMNS + CALL_OUTCOME_COLUMNS + EVENT_CHUNK_COLUMNS,
    .columns = {PG_UUID, PG_INT8, PG_INT8, PG_TEXT, PG_TEXT, PG_TEXT, PG_INT4, PG_INT4, PG_INT4,
                PG_INT8, PG_TEXT, PG_TEXT, PG_INT8, PG_INT8, PG_INT8, CALL_TYPES, CHUNK_TYPES},
    .key_columns = 1,
    .is_repeatable = true,
    .max_bytes = END_BATCH_BYTES,
    .retry_ms = STORE_RETRY_MS,
};

static const struct pg_batch_kind cancel_kind = {
    .statement = &queue_cancel_statement,
    .column_count = 2,
    .columns = {PG_UUID, PG_TEXT},
    .key_columns = 1,
    .is_repeatable = true,
    .max_in_flight = CANCEL_BATCHES,
    .scope_column = 1,
};

struct end_store *end_store_new(struct pg *pg)
{
    struct end_store *store = calloc(1, sizeof(*store));
    struct pg_batch_kind cancels = cancel_kind;

    if (!store)
        return NULL;
    store->ends = pg_batch_new(pg, &end_kind, NULL, 0);
    store->requeues = pg_batch_new(pg, &requeue_kind, NULL, 0);
    cancels.scope = tenant_scope;
    store->cancels = pg_batch_new(pg, &cancels, NULL, 0);
    if (store->ends && store->requeues && store->cancels)
        return store;
    end_store_free(store);
    return NULL;
}

void end_store_free(struct end_store *store)
{
    if (!store)
        return;
    if (store->ends)
        pg_batch_free(store->ends);
    if (store->requeues)
        pg_batch_free(store->requeues);
    if (store->cancels)
        pg_batch_free(store->cancels);
    free(store);
}

struct end_wait {
    run_end_fn *done;
    void *arg;
};

/* Columns: ord, priority, state, has_deliveries. */
static struct end_reply end_reply_read(const struct pg_batch_reply *reply)
{
    struct end_reply out = {.outcome = STORE_DONE};
    const char *state = pg_get_text(reply->result, reply->row, 2, NULL);

    if (!state || !job_state_parse(state, &out.state))
        out.outcome = STORE_REFUSED;
    out.has_deliveries = pg_get_bool(reply->result, reply->row, 3);
    if (out.outcome == STORE_DONE && job_state_is_terminal(out.state))
        end_count((enum priority)pg_get_int(reply->result, reply->row, 1), out.state);
    return out;
}

static void on_ended(const struct pg_batch_reply *reply, void *arg)
{
    struct end_wait wait = *(struct end_wait *)arg;
    struct end_reply out = {.outcome = store_outcome_of(reply)};

    free(arg);
    if (out.outcome == STORE_DONE)
        out = end_reply_read(reply);
    wait.done(&out, wait.arg);
}

/* A job that is not in the queue is no stale write. */
static void on_queue_cancelled(const struct pg_batch_reply *reply, void *arg)
{
    struct end_wait wait = *(struct end_wait *)arg;
    struct end_reply out = {.outcome = STORE_STALE};

    if (reply->status != PG_OK || reply->row >= 0) {
        on_ended(reply, arg);
        return;
    }
    free(arg);
    wait.done(&out, wait.arg);
}

static bool end_add(struct pg_batch *batch, const struct pg_value *values,
                    pg_batch_done_fn *on_reply, run_end_fn *done, void *arg)
{
    struct end_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct end_wait){.done = done, .arg = arg};
    if (pg_batch_add(batch, values, on_reply, wait))
        return true;
    free(wait);
    return false;
}

bool run_end(struct end_store *store, const struct run_end *end, run_end_fn *done, void *arg)
{
    uint8_t sha256[SHA256_SIZE];
    struct pg_value values[RUN_END_COLUMNS + CALL_OUTCOME_COLUMNS + EVENT_CHUNK_COLUMNS] = {
        pg_uuid(end->job),
        pg_int8(end->run_token),
        pg_text(job_state_name(end->state)),
        pg_int4(end->attempts),
        pg_int4(end->deferrals),
        pg_text(error_type_name(end->error)),
        pg_text(end->error_code),
        pg_text(end->error_message),
        end->error == ERROR_NONE ? pg_null(PG_BOOL) : pg_bool(end->is_retryable),
        end->result ? pg_text_len(end->result, end->result_len) : pg_null(PG_TEXT),
        pg_null(PG_BYTEA),
        pg_text(end->finish_reason),
    };

    if (end->result) {
        crypto_sha256(end->result, end->result_len, sha256);
        values[10] = pg_bytea(sha256, sizeof(sha256));
    }
    call_outcome_values(end->call, values + RUN_END_COLUMNS);
    event_chunk_values(end->chunk, values + RUN_END_COLUMNS + CALL_OUTCOME_COLUMNS);
    return end_add(store->ends, values, on_ended, done, arg);
}

bool run_requeue(struct end_store *store, const struct run_requeue *requeue, run_end_fn *done,
                 void *arg)
{
    bool is_superseding = requeue->superseded_attempt > 0;
    const struct shut_gate *gate = requeue->gate;
    struct pg_value values[RUN_REQUEUE_COLUMNS + CALL_OUTCOME_COLUMNS + EVENT_CHUNK_COLUMNS] = {
        pg_uuid(requeue->job),
        pg_int8(requeue->run_token),
        pg_int8(requeue->delay_ms),
        pg_text(requeue->wait_reason),
        pg_text(requeue->wait_detail),
        pg_text(requeue->reason),
        pg_int4(requeue->attempts),
        pg_int4(requeue->deferrals),
        is_superseding ? pg_int4(requeue->superseded_attempt) : pg_null(PG_INT4),
        is_superseding ? pg_int8(requeue->valid_bytes) : pg_null(PG_INT8),
        gate ? pg_text(limit_scope_name(gate->kind)) : pg_null(PG_TEXT),
        gate ? pg_text(gate->name) : pg_null(PG_TEXT),
        gate ? pg_int8(requeue->delay_ms * US_PER_MS) : pg_null(PG_INT8),
        gate ? pg_int8(gate->interval_us) : pg_null(PG_INT8),
        gate && gate->most >= 0 ? pg_int8(gate->most) : pg_null(PG_INT8),
    };

    call_outcome_values(requeue->call, values + RUN_REQUEUE_COLUMNS);
    event_chunk_values(requeue->chunk, values + RUN_REQUEUE_COLUMNS + CALL_OUTCOME_COLUMNS);
    return end_add(store->requeues, values, on_ended, done, arg);
}

bool queue_cancel(struct end_store *store, struct id job, const char *tenant, run_end_fn *done,
                  void *arg)
{
    struct pg_value values[] = {pg_uuid(job), pg_text(tenant)};

    return end_add(store->cancels, values, on_queue_cancelled, done, arg);
}
