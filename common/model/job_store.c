/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of reading one job: all that a person may ask about it, in one statement. */
#include "common/model/job_store.h"

#include <stdlib.h>

#include "common/io/pg_batch.h"
#include "common/model/job_sql.h"
#include "common/model/job_store_private.h"
#include "common/model/tenant_scope_store.h"

enum {
    READ_BATCH_ROWS = 100, /* each answer may carry a whole request and result */
    STATE_BATCH_ROWS = 2000,
    READ_QUEUED = 20000,
    BATCHES = 8, /* a batch is of one tenant: others need not wait for its answer */
};

/* The ledger as an array of arrays in the order of enum job_call_column. */
#define SQL_CALLS \
    SQL(                                                                                   \
    " LEFT JOIN LATERAL ("                                                                 \
    "    SELECT json_agg(json_build_array(c.call, c.provider, c.model, c.state, c.status," \
    "               c.error_type, " SQL_RFC3339("c.started_at") ", c.first_token_ms,"      \
    "                   c.duration_ms,"                                                    \
    "               c.input_tokens, c.output_tokens, c.cached_input_tokens,"               \
    "               c.cost_nano, c.is_usage_estimated)"                                    \
    "           ORDER BY c.call)::text AS list"                                            \
    "    FROM calls c"                                                                     \
    "    WHERE c.job = j.id"                                                               \
    " ) AS k ON true")

/* Text that is not a result: of the running attempt, or of the last one that said something. */
#define SQL_PARTIAL                                                              \
    " LEFT JOIN LATERAL ("                                                       \
    "    SELECT e.attempt, string_agg(e.text, '' ORDER BY e.run, e.seq) AS text" \
    "    FROM events e"                                                          \
    "    WHERE e.job = j.id"                                                     \
    "      AND e.kind = 'output.delta'"                                          \
    "      AND e.attempt = CASE WHEN r.job IS NOT NULL THEN r.calls"             \
    "          ELSE (SELECT max(m.attempt) FROM events m"                        \
    "                WHERE m.job = j.id AND m.kind = 'output.delta') END"        \
    "      AND q.job IS NULL"                                                    \
    "      AND j.state IS DISTINCT FROM 'succeeded'"                             \
    "    GROUP BY e.attempt"                                                     \
    " ) AS p ON true"

PG_STATEMENT(job_read_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bool[])"
    "    WITH ORDINALITY AS input(job, tenant, with_request, ord)"
    "), " JOB_SQL_ALIVE
    " SELECT i.ord, " JOB_SQL_COLUMNS ","
    " coalesce(p.attempt, CASE WHEN r.calls > 0 THEN r.calls END), p.text,"
    " j.result, j.result_sha256, j.finish_reason, k.list,"
    " CASE WHEN i.with_request THEN j.request END"
    " FROM input i"
    " JOIN jobs j ON " SQL_KEYED("j.id", "i.job")
    "   AND j.tenant = i.tenant"
    JOB_SQL_JOINS
    SQL_CALLS
    SQL_PARTIAL);

PG_STATEMENT(job_state_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::text[])"
    "    WITH ORDINALITY AS input(job, tenant, ord)"
    ")"
    "SELECT i.ord,"
    "       coalesce(j.state, CASE WHEN r.job IS NOT NULL THEN 'running'"
    "                              ELSE 'queued' END),"
    "       r.worker"
    " FROM input i"
    " JOIN jobs j ON " SQL_KEYED("j.id", "i.job")
    "   AND j.tenant = i.tenant"
    " LEFT JOIN runs r ON " SQL_KEYED("r.job", "j.id"));

static const struct pg_batch_kind read_kind = {
    .statement = &job_read_statement,
    .column_count = 3,
    .columns = {PG_UUID, PG_TEXT, PG_BOOL},
    .key_columns = 1,
    .allow_equal_keys = true,
    .is_repeatable = true,
    .max_rows = READ_BATCH_ROWS,
    .max_in_flight = BATCHES,
    .max_queued = READ_QUEUED,
    .scope_column = 1,
};

static const struct pg_batch_kind state_kind = {
    .statement = &job_state_statement,
    .column_count = 2,
    .columns = {PG_UUID, PG_TEXT},
    .key_columns = 1,
    .allow_equal_keys = true,
    .is_repeatable = true,
    .max_rows = STATE_BATCH_ROWS,
    .max_in_flight = BATCHES,
    .scope_column = 1,
};

struct job_store *job_store_new(struct pg *pg)
{
    struct job_store *store = calloc(1, sizeof(*store));
    struct pg_batch_kind reads = read_kind, states = state_kind;

    if (!store)
        return NULL;
    reads.scope = states.scope = tenant_scope;
    store->pg = pg;
    store->reads = pg_batch_new(pg, &reads, NULL, 0);
    store->states = pg_batch_new(pg, &states, NULL, 0);
    if (store->reads && store->states)
        return store;
    job_store_free(store);
    return NULL;
}

void job_store_free(struct job_store *store)
{
    if (!store)
        return;
    if (store->reads)
        pg_batch_free(store->reads);
    if (store->states)
        pg_batch_free(store->states);
    free(store);
}

struct job_wait {
    union {
        job_read_fn *read;
        job_state_fn *state;
    } done;
    void *arg;
};

/* --- read ------------------------------------------------------------------------------------- */

/* The columns past those that lists have too. */
static void read_rest(const struct pg_result *result, int row, struct job_view *view)
{
    int column = 1 + JOB_SQL_COLUMN_COUNT;

    view->is_full = true;
    view->partial_attempt = (int)pg_get_int(result, row, column++);
    view->partial_text = pg_get_text(result, row, column++, &view->partial_len);
    view->result = pg_get_text(result, row, column++, &view->result_len);
    view->result_sha256 = pg_get_text(result, row, column++, NULL);
    view->finish_reason = pg_get_text(result, row, column++, NULL);
    view->calls = pg_get_text(result, row, column++, NULL);
    view->request = pg_get_text(result, row, column++, &view->request_len);
}

static void on_read(const struct pg_batch_reply *reply, void *arg)
{
    struct job_wait wait = *(struct job_wait *)arg;
    struct job_view view;
    struct job_read_reply out = {
        .status = reply->status, .sqlstate = reply->sqlstate, .message = reply->message};

    free(arg);
    if (reply->status == PG_OK && reply->row >= 0) {
        if (job_view_of_row(reply->result, reply->row, 1, &view)) {
            read_rest(reply->result, reply->row, &view);
            out.view = &view;
        } else {
            out.status = PG_FAILED;
            out.message = "the job's row makes no sense";
        }
    }
    wait.done.read(&out, wait.arg);
}

bool job_read(struct job_store *store, struct id job, const char *tenant, bool with_request,
              job_read_fn *done, void *arg)
{
    struct pg_value values[] = {pg_uuid(job), pg_text(tenant), pg_bool(with_request)};
    struct job_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct job_wait){.done.read = done, .arg = arg};
    if (pg_batch_add(store->reads, values, on_read, wait))
        return true;
    free(wait);
    return false;
}

/* --- state ------------------------------------------------------------------------------------ */

static void on_state(const struct pg_batch_reply *reply, void *arg)
{
    struct job_wait wait = *(struct job_wait *)arg;
    struct job_state_reply out = {
        .status = reply->status, .sqlstate = reply->sqlstate, .message = reply->message};
    const char *state = NULL;

    free(arg);
    if (reply->status == PG_OK && reply->row >= 0) {
        state = pg_get_text(reply->result, reply->row, 1, NULL);
        out.is_found = state && job_state_parse(state, &out.state);
        out.worker = pg_get_uuid(reply->result, reply->row, 2);
    }
    wait.done.state(&out, wait.arg);
}

bool job_read_state(struct job_store *store, struct id job, const char *tenant, job_state_fn *done,
                    void *arg)
{
    struct pg_value values[] = {pg_uuid(job), pg_text(tenant)};
    struct job_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct job_wait){.done.state = done, .arg = arg};
    if (pg_batch_add(store->states, values, on_state, wait))
        return true;
    free(wait);
    return false;
}
