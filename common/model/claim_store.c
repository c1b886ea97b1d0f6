/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of claims: queue row out, runs row in, in one statement. */
#include "common/model/claim_store.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/io/pg_batch.h"
#include "common/model/gate_sql.h"
#include "common/model/sql.h"
#include "common/model/store.h"

enum {
    CLAIM_BATCH_ROWS = 100, /* each answer carries a whole request of up to megabytes */
    UNREADABLE_BYTES_MAX = 1024,
};

static const struct log_context log_claims = {.component = "claims"};

/* The parts of both claims after `locked` (ord and a queue row); $3 is the worker.  Without its
 * row in workers nothing is claimed: such a run would have nobody to rescue it.  Columns are named,
 * never `l.*`: a later migration may give queue one that jobs has, too. */
#define SQL_NOT_PAUSED_AND_ALIVE                                                          \
    "EXISTS (SELECT FROM workers WHERE id = $3::uuid)"                                    \
    "  AND NOT EXISTS (SELECT FROM pauses WHERE kind = 'priority'"                        \
    "     AND name = (ARRAY['high', 'normal', 'low'])[q.priority + 1])"                   \
    "     AND NOT EXISTS (SELECT FROM pauses WHERE kind = 'tenant' AND name = q.tenant)"  \
    "     AND NOT EXISTS (SELECT FROM tenants t WHERE t.id = q.tenant AND t.is_disabled)" \
    "     AND NOT " GATE_SQL_SHUTS("q")

#define SQL_CLAIM_LOCKED \
    SQL(                                                                                       \
    "), gone AS ("                                                                             \
    "    DELETE FROM queue q USING locked l WHERE " SQL_KEYED("q.job", "l.job")                \
    "), facts AS MATERIALIZED ("                                                               \
    "    SELECT l.ord, l.job, l.tenant, l.priority, l.run, l.deadline, l.dispatch_seq,"        \
    "           l.est_tokens, l.calls, l.attempts, l.deferrals, l.crashes, l.started_at,"      \
    "           l.cancel_requested, l.ready_at, j.key_id, j.workflow, j.end_user, j.model,"    \
    "           j.request, j.max_attempts, j.timeout_s, j.max_cost_nano,"                      \
    "           CASE WHEN l.calls > 0"                                                         \
    "                THEN (SELECT sum(c.cost_nano)::int8 FROM calls c WHERE c.job = l.job)"    \
    "           END AS spent_nano"                                                             \
    "    FROM locked l"                                                                        \
    "    JOIN jobs j ON " SQL_KEYED("j.id", "l.job")                                           \
    "), taken AS ("                                                                            \
    "    INSERT INTO runs (job, tenant, priority, run, run_token, worker, deadline,"           \
    "                      dispatch_seq, est_tokens, lease_until, calls, attempts, deferrals," \
    "                      crashes, started_at, cancel_requested, key_id, workflow,"           \
    "                      end_user, model)"                                                   \
    "    SELECT job, tenant, priority, run + 1, nextval('run_tokens'), $3::uuid, deadline,"    \
    "           dispatch_seq, est_tokens, now() + (timeout_s + 120) * interval '1 s', calls,"  \
    "           attempts, deferrals, crashes, coalesce(started_at, clock_timestamp()),"        \
    "           cancel_requested, key_id, workflow, end_user, model"                           \
    "    FROM facts"                                                                           \
    "    RETURNING job, run, run_token, started_at"                                            \
    "), tallied AS ("                                                                          \
    "    INSERT INTO counts (tenant, priority, state, delta)"                                  \
    "    SELECT tenant, priority, s.state, sum(s.sign)"                                        \
    "    FROM facts, (VALUES ('queued', -1), ('running', 1)) AS s(state, sign)"                \
    "    GROUP BY tenant, priority, s.state"                                                   \
    ")"                                                                                        \
    "SELECT f.ord, f.job, f.priority, t.run, t.run_token, f.tenant, f.key_id, f.workflow,"     \
    "       f.end_user, f.model, f.request, f.calls, f.attempts, f.deferrals, f.crashes,"      \
    "       f.max_attempts, f.timeout_s, f.deadline, t.started_at, f.max_cost_nano,"           \
    "       f.spent_nano, f.est_tokens,"                                                       \
    "       (extract(epoch FROM clock_timestamp() - f.ready_at) * 1000000)::int8 "             \
    "FROM facts f "                                                                            \
    "JOIN taken t ON t.job = f.job")

enum claim_column {
    COLUMN_ORD,
    COLUMN_JOB,
    COLUMN_PRIORITY,
    COLUMN_RUN,
    COLUMN_RUN_TOKEN,
    COLUMN_TENANT,
    COLUMN_KEY_ID,
    COLUMN_WORKFLOW,
    COLUMN_END_USER,
    COLUMN_MODEL,
    COLUMN_REQUEST,
    COLUMN_CALLS,
    COLUMN_ATTEMPTS,
    COLUMN_DEFERRALS,
    COLUMN_CRASHES,
    COLUMN_MAX_ATTEMPTS,
    COLUMN_TIMEOUT_S,
    COLUMN_DEADLINE,
    COLUMN_STARTED_AT,
    COLUMN_MAX_COST,
    COLUMN_SPENT,
    COLUMN_EST_TOKENS,
    COLUMN_QUEUE_WAIT,
};

/* By ticket.  LATERAL with FOR UPDATE is a wall to the planner: every row is found by queue_pkey,
 * in the order of the sorted input, whatever the statistics say.  Waits for a row's lock:
 * SKIP LOCKED would lose the ticket beside a republish. */
PG_STATEMENT(claim_ticket_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::int4[])"
    "    WITH ORDINALITY AS input(job, seq, ord)"
    "), locked AS MATERIALIZED ("
    "    SELECT i.ord, q.*"
    "    FROM (SELECT * FROM input ORDER BY job) AS i"
    "    CROSS JOIN LATERAL ("
    "        SELECT * FROM queue"
    "        WHERE queue.job = i.job"
    "          AND dispatch_seq = i.seq"
    "          AND ready_at <= now()"
    "          AND (deadline > now()) IS TRUE"
    "        FOR UPDATE"
    "    ) AS q"
    "    WHERE " SQL_NOT_PAUSED_AND_ALIVE
    SQL_CLAIM_LOCKED);

/* Straight from the queue: rows dealt over 2 s ago, by the index queue_dealt.  (The IS TRUE keeps
 * the deadline's own index out of the planner's sight.) */
PG_STATEMENT(claim_dealt_statement,
    "WITH locked AS MATERIALIZED ("
    "    SELECT 0::int8 AS ord, q.*"
    "    FROM queue q"
    "    WHERE q.priority = $1::int4"
    "      AND q.dispatched_at < now() - interval '2 s'"
    "      AND (q.ready_at <= now()) IS TRUE"
    "      AND (q.deadline > now()) IS TRUE"
    "      AND " SQL_NOT_PAUSED_AND_ALIVE
    "    ORDER BY q.dispatched_at, q.job"
    "    LIMIT $2::int8"
    "    FOR UPDATE OF q SKIP LOCKED"
    SQL_CLAIM_LOCKED);

/* By the index runs_worker. */
PG_STATEMENT(claim_list_runs_statement, "SELECT job, run_token FROM runs WHERE worker = $1::uuid");

/* The scheduler's rescue does the rest: whatever the run did, it is handled in one place. */
PG_STATEMENT(claim_disown_statement,
    "UPDATE runs SET lease_until = now() - interval '1 s' "
    "WHERE job = $1::uuid AND run_token = $2::int8 AND worker = $3::uuid");

/* The first thousand are kept, until somebody has looked and deletes them. */
PG_STATEMENT(claim_keep_unreadable_statement,
    "INSERT INTO unreadable_tickets (topic, kafka_partition, kafka_offset, data) "
    "SELECT $1::text, $2::int4, $3::int8, $4::bytea "
    "WHERE (SELECT count(*) FROM (SELECT FROM unreadable_tickets LIMIT 1000) AS t) < 1000 "
    "ON CONFLICT DO NOTHING");

struct claim_store {
    struct pg *pg;
    struct id worker;
    struct pg_batch *tickets;
};

/* --- results ---------------------------------------------------------------------------------- */

static const enum claim_column string_columns[] = {COLUMN_TENANT,   COLUMN_KEY_ID, COLUMN_WORKFLOW,
                                                   COLUMN_END_USER, COLUMN_MODEL,  COLUMN_REQUEST};
enum { STRING_COUNT = sizeof(string_columns) / sizeof(string_columns[0]) };

static void claimed_job_fill(struct claimed_job *job, const struct pg_result *result, int row)
{
    job->job = pg_get_uuid(result, row, COLUMN_JOB);
    job->priority = (enum priority)pg_get_int(result, row, COLUMN_PRIORITY);
    job->run = (int)pg_get_int(result, row, COLUMN_RUN);
    job->run_token = pg_get_int(result, row, COLUMN_RUN_TOKEN);
    job->calls = (int)pg_get_int(result, row, COLUMN_CALLS);
    job->attempts = (int)pg_get_int(result, row, COLUMN_ATTEMPTS);
    job->deferrals = (int)pg_get_int(result, row, COLUMN_DEFERRALS);
    job->crashes = (int)pg_get_int(result, row, COLUMN_CRASHES);
    job->max_attempts = (int)pg_get_int(result, row, COLUMN_MAX_ATTEMPTS);
    job->timeout_s = (int)pg_get_int(result, row, COLUMN_TIMEOUT_S);
    job->deadline_us = pg_get_time(result, row, COLUMN_DEADLINE);
    job->started_at_us = pg_get_time(result, row, COLUMN_STARTED_AT);
    job->max_cost_nano =
        pg_is_null(result, row, COLUMN_MAX_COST) ? -1 : pg_get_int(result, row, COLUMN_MAX_COST);
    job->spent_nano = pg_get_int(result, row, COLUMN_SPENT);
    job->est_tokens = pg_get_int(result, row, COLUMN_EST_TOKENS);
    job->queue_wait_us = pg_get_int(result, row, COLUMN_QUEUE_WAIT);
}

/* NULL: out of memory. */
static struct claimed_job *claimed_job_read(const struct pg_result *result, int row)
{
    const char *texts[STRING_COUNT];
    size_t lens[STRING_COUNT] = {0};
    size_t size = sizeof(struct claimed_job);
    struct claimed_job *job;
    char *at;

    for (int i = 0; i < STRING_COUNT; i++) {
        texts[i] = pg_get_text(result, row, (int)string_columns[i], &lens[i]);
        size += texts[i] ? lens[i] + 1 : 0;
    }
    job = calloc(1, size);
    if (!job)
        return NULL;
    claimed_job_fill(job, result, row);
    at = (char *)(job + 1);
    for (int i = 0; i < STRING_COUNT; i++) {
        const char **const members[STRING_COUNT] = {&job->tenant,   &job->key_id, &job->workflow,
                                                    &job->end_user, &job->model,  &job->request};
        if (!texts[i])
            continue;
        memcpy(at, texts[i], lens[i]);
        *members[i] = at;
        at += lens[i] + 1;
    }
    job->request_len = lens[STRING_COUNT - 1];
    return job;
}

void claimed_job_free(struct claimed_job *job)
{
    free(job);
}

static enum claim_outcome outcome_of(enum pg_status status, const char *sqlstate)
{
    if (status == PG_UNKNOWN)
        return CLAIM_UNKNOWN;
    if (status == PG_FAILED && !store_is_passing(sqlstate))
        return CLAIM_BAD;
    return status == PG_OK ? CLAIM_MINE : CLAIM_FAILED;
}

/* --- by ticket -------------------------------------------------------------------------------- */

struct claim_store *claim_store_new(struct pg *pg, struct id worker)
{
    static const struct pg_batch_kind kind = {
        .statement = &claim_ticket_statement,
        .column_count = 2,
        .columns = {PG_UUID, PG_INT4},
        .key_columns = 1,
        .max_rows = CLAIM_BATCH_ROWS,
        .max_in_flight = 2,
    };
    struct claim_store *store = calloc(1, sizeof(*store));
    struct pg_value constant = pg_uuid(worker);

    if (!store)
        return NULL;
    store->pg = pg;
    store->worker = worker;
    store->tickets = pg_batch_new(pg, &kind, &constant, 1);
    if (!store->tickets) {
        free(store);
        return NULL;
    }
    return store;
}

void claim_store_free(struct claim_store *store)
{
    if (!store)
        return;
    pg_batch_free(store->tickets);
    free(store);
}

struct ticket_wait {
    claim_ticket_fn *done;
    void *arg;
};

static void on_ticket_claimed(const struct pg_batch_reply *reply, void *arg)
{
    struct ticket_wait wait = *(struct ticket_wait *)arg;
    enum claim_outcome outcome = outcome_of(reply->status, reply->sqlstate);
    struct claimed_job *job = NULL;

    free(arg);
    if (outcome == CLAIM_BAD)
        log_error(&log_claims, "claim refused: sqlstate=%s %s", reply->sqlstate, reply->message);
    if (outcome == CLAIM_MINE) {
        if (reply->row < 0) {
            outcome = CLAIM_NOT;
        } else {
            job = claimed_job_read(reply->result, reply->row);
            if (!job)
                outcome = CLAIM_UNKNOWN; /* it is ours, but not here: found as an orphan */
        }
    }
    wait.done(outcome, job, wait.arg);
}

bool claim_ticket(struct claim_store *store, const struct ticket *ticket, claim_ticket_fn *done,
                  void *arg)
{
    struct pg_value values[] = {pg_uuid(ticket->job), pg_int4(ticket->dispatch_seq)};
    struct ticket_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct ticket_wait){.done = done, .arg = arg};
    if (pg_batch_add(store->tickets, values, on_ticket_claimed, wait))
        return true;
    free(wait);
    return false;
}

/* --- dealt rows ------------------------------------------------------------------------------- */

struct dealt_wait {
    claim_dealt_fn *done;
    void *arg;
};

static void on_dealt_claimed(const struct pg_reply *reply, void *arg)
{
    struct dealt_wait *wait = arg;
    struct claimed_job *jobs[CLAIM_DEALT_MAX];
    enum claim_outcome outcome = outcome_of(reply->status, reply->sqlstate);
    size_t count = 0;

    if (outcome == CLAIM_BAD)
        log_error(&log_claims, "claim of dealt rows refused: sqlstate=%s %s", reply->sqlstate,
                  reply->message);
    if (outcome == CLAIM_MINE) {
        for (int row = 0; row < pg_rows(reply->result) && count < CLAIM_DEALT_MAX; row++) {
            jobs[count] = claimed_job_read(reply->result, row);
            if (jobs[count])
                count++;
            else
                outcome = CLAIM_UNKNOWN;
        }
    }
    wait->done(outcome, jobs, count, wait->arg);
    free(wait);
}

bool claim_dealt(struct claim_store *store, enum priority priority, int limit, claim_dealt_fn *done,
                 void *arg)
{
    struct pg_value values[] = {
        pg_int4((int)priority),
        pg_int8(limit < CLAIM_DEALT_MAX ? limit : CLAIM_DEALT_MAX),
        pg_uuid(store->worker),
    };
    struct dealt_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct dealt_wait){.done = done, .arg = arg};
    pg_query(store->pg, &claim_dealt_statement, values, 3, on_dealt_claimed, wait);
    return true;
}

/* --- what the database says is ours ----------------------------------------------------------- */

struct list_wait {
    claim_run_fn *visit;
    void (*done)(void *arg);
    void *arg;
};

static void on_runs_listed(const struct pg_reply *reply, void *arg)
{
    struct list_wait *wait = arg;
    int rows = reply->status == PG_OK ? pg_rows(reply->result) : 0;

    for (int row = 0; row < rows; row++)
        wait->visit(pg_get_uuid(reply->result, row, 0), pg_get_int(reply->result, row, 1),
                    wait->arg);
    wait->done(wait->arg);
    free(wait);
}

bool claim_list_runs(struct claim_store *store, claim_run_fn *visit, void (*done)(void *arg),
                     void *arg)
{
    struct pg_value value = pg_uuid(store->worker);
    struct list_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct list_wait){.visit = visit, .done = done, .arg = arg};
    pg_query(store->pg, &claim_list_runs_statement, &value, 1, on_runs_listed, wait);
    return true;
}

/* Nobody waits for these: what fails is tried again at the next occasion, or lost. */
static void on_aside(const struct pg_reply *reply, void *arg)
{
    if (reply->status != PG_OK)
        log_warn(&log_claims, "%s: %s", (const char *)arg, reply->message);
}

void claim_disown(struct claim_store *store, struct id job, int64_t run_token)
{
    static char what[] = "run not disowned";
    struct pg_value values[] = {pg_uuid(job), pg_int8(run_token), pg_uuid(store->worker)};

    pg_query(store->pg, &claim_disown_statement, values, 3, on_aside, what);
}

void claim_keep_unreadable(struct claim_store *store, const char *topic, int partition,
                           int64_t offset, const void *data, size_t len)
{
    static char what[] = "unreadable ticket not kept";
    struct pg_value values[] = {
        pg_text(topic),
        pg_int4(partition),
        pg_int8(offset),
        pg_bytea(data, len < UNREADABLE_BYTES_MAX ? len : UNREADABLE_BYTES_MAX),
    };

    pg_query(store->pg, &claim_keep_unreadable_statement, values, 4, on_aside, what);
}
