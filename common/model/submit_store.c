/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of submits: every row of a batch is a whole job, or was there before. */
#include "common/model/submit_store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/io/pg_batch.h"
#include "common/model/sql.h"
#include "common/model/store.h"
#include "common/model/tenant_scope_store.h"

enum {
    SUBMIT_COLUMNS = 24,
    CAPS_SIZE = 128,
    SUBMIT_BATCH_BYTES = 8 * 1024 * 1024,
    SUBMIT_QUEUED_BYTES = 128 * 1024 * 1024,
    SUBMIT_QUEUED_ROWS = 20000,
};

static const struct log_context log_submits = {.component = "submits"};

/* What the intake connection says calls functions of the database
 * (migrations/0010_intake_role.sql), which are all that its role may do.  Columns: ord, is_fast,
 * full_scope. */
PG_STATEMENT(submit_store_statement,
    "SELECT ord, is_fast, full_scope FROM submit_jobs("
    "$1::uuid[], $2::text[], $3::text[], $4::int4[], $5::text[],"
    " $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],"
    " $12::timestamptz[], $13::timestamptz[], $14::int4[], $15::int4[], $16::int8[],"
    " $17::text[], $18::text[], $19::uuid[], $20::int4[], $21::text[], $22::bytea[],"
    " $23::int8[], $24::text[])");

PG_STATEMENT(submit_find_key_statement,
    "SELECT job, body_hash, worst_case_nano FROM submit_find_key($1::text, $2::text)");

PG_STATEMENT(submit_find_job_statement, "SELECT submit_find_job($1::uuid)");

PG_STATEMENT(submit_unpublish_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::int4[])"
    "    WITH ORDINALITY AS input(job, dispatch_seq, ord)"
    "), locked AS MATERIALIZED ("
    "    SELECT i.ord, q.job"
    "    FROM (SELECT * FROM input ORDER BY job) AS i"
    "    CROSS JOIN LATERAL ("
    "        SELECT job FROM queue"
    "        WHERE queue.job = i.job AND queue.dispatch_seq = i.dispatch_seq"
    "        FOR UPDATE"
    "    ) AS q"
    "), done AS ("
    "    UPDATE queue q SET dispatched_at = NULL, published_at = NULL FROM locked l"
    "    WHERE " SQL_KEYED("q.job", "l.job") ")"
    "SELECT ord FROM locked");

/* By jobs_pkey. */
PG_STATEMENT(submit_copy_statement,
    "SELECT tenant, key_id, priority, workflow, end_user, purpose, data_class,"
    "       metadata::text, model, request, max_attempts, timeout_s, max_cost_nano,"
    "       webhook_url, array_to_string(webhook_events, ','), est_tokens,"
    "       state IS NOT NULL"
    " FROM jobs WHERE id = $1::uuid AND tenant = $2::text");

static const struct pg_batch_kind submit_kind = {
    .statement = &submit_store_statement,
    .column_count = SUBMIT_COLUMNS,
    .columns = {PG_UUID, PG_TEXT, PG_TEXT, PG_INT4, PG_TEXT, PG_TEXT,  PG_TEXT, PG_TEXT,
                PG_TEXT, PG_TEXT, PG_TEXT, PG_TIME, PG_TIME, PG_INT4,  PG_INT4, PG_INT8,
                PG_TEXT, PG_TEXT, PG_UUID, PG_INT4, PG_TEXT, PG_BYTEA, PG_INT8, PG_TEXT},
    .key_columns = 1,
    .max_bytes = SUBMIT_BATCH_BYTES,
    .max_queued = SUBMIT_QUEUED_ROWS,
    .max_queued_bytes = SUBMIT_QUEUED_BYTES,
};

static const struct pg_batch_kind unpublish_kind = {
    .statement = &submit_unpublish_statement,
    .column_count = 2,
    .columns = {PG_UUID, PG_INT4},
    .key_columns = 1,
    .is_repeatable = true,
    .retry_ms = STORE_RETRY_MS,
};

struct submit_store {
    struct pg *intake;
    struct pg *read;
    struct pg_batch *submits;
    struct pg_batch *unpublishes;
};

struct submit_store *submit_store_new(struct pg *intake, struct pg *read, struct pg *api)
{
    struct submit_store *store = calloc(1, sizeof(*store));

    if (!store)
        return NULL;
    store->intake = intake;
    store->read = read;
    store->submits = pg_batch_new(intake, &submit_kind, NULL, 0);
    store->unpublishes = pg_batch_new(api, &unpublish_kind, NULL, 0);
    if (store->submits && store->unpublishes)
        return store;
    submit_store_free(store);
    return NULL;
}

void submit_store_free(struct submit_store *store)
{
    if (!store)
        return;
    if (store->submits)
        pg_batch_free(store->submits);
    if (store->unpublishes)
        pg_batch_free(store->unpublishes);
    free(store);
}

/* Who waits for an answer: one of the four kinds. */
struct submit_wait {
    union {
        submit_stored_fn *stored;
        submit_key_fn *key;
        submit_job_fn *job;
        submit_copy_fn *copy;
    } done;
    void *arg;
    struct id job; /* of a copy */
};

static struct submit_wait *wait_new(void *arg)
{
    struct submit_wait *wait = calloc(1, sizeof(*wait));

    if (wait)
        wait->arg = arg;
    return wait;
}

/* --- store ------------------------------------------------------------------------------------ */

static enum submit_result result_of(const struct pg_batch_reply *reply)
{
    enum { OVERFLOW_COLUMN = 2 };
    static const char lock_not_available[] = "55P03";

    switch (reply->status) {
    case PG_OK:
        if (reply->row < 0)
            return SUBMIT_KEY_KNOWN;
        return pg_is_null(reply->result, reply->row, OVERFLOW_COLUMN) ? SUBMIT_STORED
                                                                      : SUBMIT_QUEUE_FULL;
    case PG_FAILED:
        if (strcmp(reply->sqlstate, lock_not_available) == 0)
            return SUBMIT_KEY_BUSY;
        return store_is_passing(reply->sqlstate) ? SUBMIT_AWAY : SUBMIT_BROKEN;
    case PG_UNKNOWN:
        return SUBMIT_UNSURE;
    case PG_UNAVAILABLE:
        break;
    }
    return SUBMIT_AWAY;
}

static void on_stored(const struct pg_batch_reply *reply, void *arg)
{
    struct submit_wait wait = *(struct submit_wait *)arg;
    struct submit_reply out = {.result = result_of(reply), .message = reply->message};

    free(arg);
    if (out.result == SUBMIT_STORED)
        out.is_fast = pg_get_bool(reply->result, reply->row, 1);
    if (out.result == SUBMIT_QUEUE_FULL)
        out.full = (enum limit_scope)(pg_get_int(reply->result, reply->row, 2) - 1);
    if (out.result == SUBMIT_BROKEN)
        log_error(&log_submits, "job not stored: %s (%s)", reply->message, reply->sqlstate);
    wait.done.stored(&out, wait.arg);
}

/* "10,,5,,": null where there is no cap at all. */
static struct pg_value format_caps(const int64_t most_queued[LIMIT_SCOPE_COUNT],
                                   char out[CAPS_SIZE])
{
    bool is_any = false;
    size_t len = 0;

    for (int i = 0; most_queued && i < LIMIT_SCOPE_COUNT; i++) {
        if (i > 0)
            out[len++] = ',';
        if (most_queued[i] >= 0)
            len += (size_t)snprintf(out + len, CAPS_SIZE - len, "%" PRId64, most_queued[i]);
        is_any = is_any || most_queued[i] >= 0;
    }
    return is_any ? pg_text_len(out, len) : pg_null(PG_TEXT);
}

bool submit_store(struct submit_store *store, const struct job_new *job,
                  const int64_t most_queued[LIMIT_SCOPE_COUNT], submit_stored_fn *done, void *arg)
{
    bool has_key = job->idempotency_key != NULL;
    char caps[CAPS_SIZE];
    struct pg_value values[SUBMIT_COLUMNS] = {
        pg_uuid(job->id),
        pg_text(job->tenant),
        pg_text(job->key_id),
        pg_int4((int32_t)job->priority),
        pg_text(job->workflow),
        pg_text(job->user),
        pg_text(job->purpose),
        pg_text(job->data_class),
        pg_text(job->metadata),
        pg_text(job->model),
        pg_text_len(job->request, job->request_len),
        pg_time_or_null(job->run_at_us),
        pg_time(job->deadline_us),
        pg_int4(job->max_attempts),
        pg_int4(job->timeout_s),
        job->max_cost_nano < 0 ? pg_null(PG_INT8) : pg_int8(job->max_cost_nano),
        pg_text(job->webhook_url),
        pg_text(job->webhook_events),
        id_is_zero(job->replay_of) ? pg_null(PG_UUID) : pg_uuid(job->replay_of),
        pg_int4((int32_t)job->est_tokens),
        pg_text(job->idempotency_key),
        has_key ? pg_bytea(job->body_hash, sizeof(job->body_hash)) : pg_null(PG_BYTEA),
        job->worst_case_nano < 0 ? pg_null(PG_INT8) : pg_int8(job->worst_case_nano),
        format_caps(most_queued, caps),
    };
    struct submit_wait *wait = wait_new(arg);

    if (!wait)
        return false;
    wait->done.stored = done;
    if (pg_batch_add(store->submits, values, on_stored, wait))
        return true;
    free(wait);
    return false;
}

/* --- find ------------------------------------------------------------------------------------- */

static void on_key_found(const struct pg_reply *reply, void *arg)
{
    struct submit_wait wait = *(struct submit_wait *)arg;
    struct submit_key_reply out = {.status = reply->status};
    const char *hash;
    size_t len = 0;

    free(arg);
    if (reply->status == PG_OK && pg_rows(reply->result) > 0) {
        out.is_found = true;
        out.job = pg_get_uuid(reply->result, 0, 0);
        hash = pg_get_text(reply->result, 0, 1, &len);
        if (hash && len == sizeof(out.body_hash))
            memcpy(out.body_hash, hash, len);
        out.worst_case_nano =
            pg_is_null(reply->result, 0, 2) ? -1 : pg_get_int(reply->result, 0, 2);
    }
    wait.done.key(&out, wait.arg);
}

bool submit_find_key(struct submit_store *store, const char *tenant, const char *key,
                     submit_key_fn *done, void *arg)
{
    struct pg_value values[] = {pg_text(tenant), pg_text(key)};
    struct submit_wait *wait = wait_new(arg);

    if (!wait)
        return false;
    wait->done.key = done;
    pg_query(store->intake, &submit_find_key_statement, values, 2, on_key_found, wait);
    return true;
}

static void on_job_found(const struct pg_reply *reply, void *arg)
{
    struct submit_wait wait = *(struct submit_wait *)arg;
    bool is_found = reply->status == PG_OK && pg_get_bool(reply->result, 0, 0);

    free(arg);
    wait.done.job(reply->status, is_found, wait.arg);
}

bool submit_find_job(struct submit_store *store, struct id job, submit_job_fn *done, void *arg)
{
    struct pg_value values[] = {pg_uuid(job)};
    struct submit_wait *wait = wait_new(arg);

    if (!wait)
        return false;
    wait->done.job = done;
    pg_query(store->intake, &submit_find_job_statement, values, 1, on_job_found, wait);
    return true;
}

/* --- unpublish -------------------------------------------------------------------------------- */

static void on_unpublished(const struct pg_batch_reply *reply, void *arg)
{
    (void)arg;
    if (reply->status != PG_OK)
        log_warn(&log_submits, "ticket not taken back: %s (a worker will claim without it)",
                 reply->message);
}

void submit_unpublish(struct submit_store *store, struct id job, int dispatch_seq)
{
    struct pg_value values[] = {pg_uuid(job), pg_int4(dispatch_seq)};

    if (!pg_batch_add(store->unpublishes, values, on_unpublished, NULL))
        log_warn(&log_submits, "ticket not taken back: too much is out");
}

/* --- copy ------------------------------------------------------------------------------------- */

static bool copy_text(const struct pg_result *result, int column, char **out, size_t *len_out)
{
    size_t len = 0;
    const char *text = pg_get_text(result, 0, column, &len);

    if (len_out)
        *len_out = len;
    if (!text)
        return true;
    *out = malloc(len + 1);
    if (!*out)
        return false;
    memcpy(*out, text, len + 1);
    return true;
}

/* Columns as in submit_copy_statement. */
static struct job_new *copy_read(const struct pg_result *result, struct id of)
{
    struct job_new *job = calloc(1, sizeof(*job));

    if (!job)
        return NULL;
    job->priority = (enum priority)pg_get_int(result, 0, 2);
    job->max_attempts = (int)pg_get_int(result, 0, 10);
    job->timeout_s = (int)pg_get_int(result, 0, 11);
    job->max_cost_nano = pg_is_null(result, 0, 12) ? -1 : pg_get_int(result, 0, 12);
    job->est_tokens = pg_get_int(result, 0, 15);
    job->worst_case_nano = -1; /* prices may be others by now: judged anew */
    job->replay_of = of;
    if (copy_text(result, 0, &job->tenant, NULL) && copy_text(result, 1, &job->key_id, NULL) &&
        copy_text(result, 3, &job->workflow, NULL) && copy_text(result, 4, &job->user, NULL) &&
        copy_text(result, 5, &job->purpose, NULL) && copy_text(result, 6, &job->data_class, NULL) &&
        copy_text(result, 7, &job->metadata, NULL) && copy_text(result, 8, &job->model, NULL) &&
        copy_text(result, 9, &job->request, &job->request_len) &&
        copy_text(result, 13, &job->webhook_url, NULL) &&
        copy_text(result, 14, &job->webhook_events, NULL))
        return job;
    job_new_free(job);
    return NULL;
}

static void on_copied(const struct pg_reply *reply, void *arg)
{
    struct submit_wait wait = *(struct submit_wait *)arg;
    struct submit_copy_reply out = {.status = reply->status};

    free(arg);
    if (reply->status == PG_OK && pg_rows(reply->result) > 0) {
        out.job = copy_read(reply->result, wait.job);
        out.has_ended = pg_get_bool(reply->result, 0, 16);
        if (!out.job)
            out.status = PG_UNAVAILABLE;
    }
    wait.done.copy(&out, wait.arg);
}

bool submit_copy(struct submit_store *store, struct id job, const char *tenant,
                 submit_copy_fn *done, void *arg)
{
    struct pg_value values[] = {pg_uuid(job), pg_text(tenant)};
    struct submit_wait *wait = wait_new(arg);

    if (!wait)
        return false;
    wait->done.copy = done;
    wait->job = job;
    tenant_query(store->read, tenant, &submit_copy_statement, values, 2, on_copied, wait);
    return true;
}
