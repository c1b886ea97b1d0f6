/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of appended events: behind the live run's key lock, a repeat changes nothing. */
#include "common/model/event_store.h"

#include <stdlib.h>

enum { EVENT_BATCH_BYTES = 8 * 1024 * 1024 };

/* The key lock holds off whoever ends or rescues the run until this commits, and waits for them:
 * a zombie's text can never land after its superseding. */
PG_STATEMENT(event_append_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::int8[], $3::int4[], $4::int4[], $5::text[],"
    "        $6::int4[], $7::int4[], $8::text[], $9::text[])"
    "    WITH ORDINALITY AS input(job, run_token, run, seq, kind, attempt, byte_offset,"
    "        text, data, ord)"
    "), locked AS MATERIALIZED ("
    "    SELECT i.*"
    "    FROM (SELECT * FROM input ORDER BY job, ord) AS i"
    "    CROSS JOIN LATERAL ("
    "        SELECT FROM runs"
    "        WHERE runs.job = i.job AND runs.run_token = i.run_token"
    "        FOR KEY SHARE"
    "    ) AS r"
    "), appended AS ("
    "    INSERT INTO events (job, run, seq, kind, attempt, byte_offset, text, data)"
    "    SELECT job, run, seq, kind, attempt, byte_offset, text, data::json"
    "    FROM locked"
    "    ORDER BY ord"
    "    ON CONFLICT DO NOTHING"
    ")"
    "SELECT ord FROM locked");

struct event_store {
    struct pg_batch *appends;
};

struct event_store *event_store_new(struct pg *pg)
{
    static const struct pg_batch_kind kind = {
        .statement = &event_append_statement,
        .column_count = 9,
        .columns = {PG_UUID, PG_INT8, PG_INT4, PG_INT4, PG_TEXT, PG_INT4, PG_INT4, PG_TEXT,
                    PG_TEXT},
        .key_columns = 1,
        .allow_equal_keys = true,
        .is_repeatable = true,
        .max_bytes = EVENT_BATCH_BYTES,
        .retry_ms = STORE_RETRY_MS,
    };
    struct event_store *store = calloc(1, sizeof(*store));

    if (!store)
        return NULL;
    store->appends = pg_batch_new(pg, &kind, NULL, 0);
    if (store->appends)
        return store;
    free(store);
    return NULL;
}

void event_store_free(struct event_store *store)
{
    if (!store)
        return;
    pg_batch_free(store->appends);
    free(store);
}

struct append_wait {
    event_append_fn *done;
    void *arg;
};

static void on_appended(const struct pg_batch_reply *reply, void *arg)
{
    struct append_wait wait = *(struct append_wait *)arg;
    enum store_outcome outcome = store_outcome_of(reply);

    free(arg);
    if (wait.done)
        wait.done(outcome, wait.arg);
}

bool event_append(struct event_store *store, const struct event_row *row, event_append_fn *done,
                  void *arg)
{
    struct pg_value values[] = {
        pg_uuid(row->job),
        pg_int8(row->run_token),
        pg_int4(row->run),
        pg_int4(row->seq),
        pg_text(row->kind),
        row->attempt > 0 ? pg_int4(row->attempt) : pg_null(PG_INT4),
        row->byte_offset >= 0 ? pg_int4((int32_t)row->byte_offset) : pg_null(PG_INT4),
        row->text ? pg_text_len(row->text, row->text_len) : pg_null(PG_TEXT),
        row->data ? pg_text_len(row->data, row->data_len) : pg_null(PG_TEXT),
    };
    struct append_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct append_wait){.done = done, .arg = arg};
    if (pg_batch_add(store->appends, values, on_appended, wait))
        return true;
    free(wait);
    return false;
}

void event_chunk_values(const struct event_chunk *chunk, struct pg_value *out)
{
    if (!chunk) {
        out[0] = out[1] = out[2] = pg_null(PG_INT4);
        out[3] = pg_null(PG_TEXT);
        return;
    }
    out[0] = pg_int4(chunk->seq);
    out[1] = pg_int4(chunk->attempt);
    out[2] = pg_int4((int32_t)chunk->byte_offset);
    out[3] = pg_text_len(chunk->text, chunk->text_len);
}
