/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of webhook deliveries: claims that no busy receiver can clog, and the record of tries. */
#include "common/model/delivery_store.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/io/pg_batch.h"
#include "common/model/sql.h"

enum { TRY_JSON_MAX = 1024, LANES_MAX = 1024 };

/* So many due job URLs of a tenant are looked at for one that is not busy. */
#define JOB_URLS_SEEN "64"

/* What is due is looked for lane by lane (index deliveries_lane, one step per lane with waiting
 * rows), so that the cost does not grow with the backlog of a receiver that hangs.  When nothing is
 * due one look into deliveries_due ends it. */
#define SQL_LANES                                                                                  \
    "lanes(tenant, lane) AS ("                                                                     \
    "    (SELECT tenant, coalesce(endpoint, '')"                                                   \
    "     FROM deliveries"                                                                         \
    "     WHERE state = 'waiting'"                                                                 \
    "       AND (SELECT next_at FROM deliveries WHERE state = 'waiting'"                           \
    "            ORDER BY next_at LIMIT 1) <= now()"                                               \
    "     ORDER BY tenant, coalesce(endpoint, '')"                                                 \
    "     LIMIT 1)"                                                                                \
    "    UNION ALL"                                                                                \
    "    SELECT n.tenant, n.lane"                                                                  \
    "    FROM lanes l"                                                                             \
    "    CROSS JOIN LATERAL ("                                                                     \
    "        SELECT tenant, coalesce(endpoint, '') AS lane"                                        \
    "        FROM deliveries"                                                                      \
    "        WHERE state = 'waiting'"                                                              \
    "          AND (tenant, coalesce(endpoint, '')) > (l.tenant, l.lane)"                          \
    "        ORDER BY tenant, coalesce(endpoint, '')"                                              \
    "        LIMIT 1"                                                                              \
    "    ) AS n"                                                                                   \
    "), busy AS MATERIALIZED ("                                                                    \
    "    SELECT tenant, lane, url, count(*) AS used"                                               \
    "    FROM unnest($1::text[], $2::text[], $8::text[]) AS b(tenant, lane, url)"                  \
    "    GROUP BY tenant, lane, url"                                                               \
    "), due AS MATERIALIZED ("                                                                     \
    "    SELECT d.id, d.next_at, d.url, l.tenant, l.lane"                                          \
    "    FROM lanes l"                                                                             \
    "    CROSS JOIN LATERAL ("                                                                     \
    "        SELECT id, next_at, url"                                                              \
    "        FROM deliveries"                                                                      \
    "        WHERE state = 'waiting'"                                                              \
    "          AND tenant = l.tenant"                                                              \
    "          AND coalesce(endpoint, '') = l.lane"                                                \
    "          AND next_at <= now()"                                                               \
    "          AND (attempts > 0 OR created_at + $7::int8 * interval '1 ms' <= now())"             \
    "        ORDER BY next_at"                                                                     \
    "        LIMIT CASE WHEN l.lane = '' THEN " JOB_URLS_SEEN " ELSE $3::int4 END"                 \
    "    ) AS d"                                                                                   \
    "), by_url AS ("                                                                               \
    "    SELECT id, next_at, tenant,"                                                              \
    "           coalesce((SELECT used FROM busy b WHERE b.tenant = due.tenant"                     \
    "                     AND b.lane = due.lane AND b.url = due.url), 0)"                          \
    "               + row_number() OVER (PARTITION BY tenant, lane, url ORDER BY next_at) AS rank" \
    "    FROM due"                                                                                 \
    "), by_tenant AS ("                                                                            \
    "    SELECT id, next_at,"                                                                      \
    "           coalesce((SELECT sum(used)::int8 FROM busy b WHERE b.tenant = u.tenant), 0)"       \
    "               + row_number() OVER (PARTITION BY tenant ORDER BY rank, next_at) AS rank"      \
    "    FROM by_url u"                                                                            \
    "    WHERE rank <= $3::int4"                                                                   \
    "), picked AS MATERIALIZED ("                                                                  \
    "    SELECT id FROM by_tenant WHERE rank <= $4::int4 ORDER BY rank, next_at LIMIT $5::int4"    \
    ")"

/* (The IS TRUE keeps the partial indexes out of the planner's sight where a row is looked up by its
 * id.)  Usage and cost are those of the settled calls at this moment. */
PG_STATEMENT(delivery_claim_statement,
    "WITH RECURSIVE " SQL_LANES
    ", locked AS MATERIALIZED ("
    "    SELECT d.id"
    "    FROM (SELECT id FROM picked ORDER BY id) AS p"
    "    CROSS JOIN LATERAL ("
    "        SELECT id"
    "        FROM deliveries"
    "        WHERE deliveries.id = p.id"
    "          AND (state = 'waiting' AND next_at <= now()) IS TRUE"
    "        FOR UPDATE SKIP LOCKED"
    "    ) AS d"
    "), claimed AS ("
    "    UPDATE deliveries d"
    "    SET attempts = d.attempts + 1, next_at = now() + $6::int8 * interval '1 ms'"
    "    FROM locked l"
    "    WHERE " SQL_KEYED("d.id", "l.id")
    "    RETURNING d.*"
    ")"
    "SELECT c.id, c.tenant, c.endpoint, c.url, c.type, c.attempts, c.body, c.sequence,"
    "       CASE WHEN c.endpoint IS NULL"
    "            THEN t.id IS NULL"
    "            ELSE e.id IS NULL OR e.disabled_at IS NOT NULL OR e.deleted_at IS NOT NULL"
    "       END"
    "           OR (c.body IS NULL AND j.state IS NULL),"
    "       CASE WHEN c.endpoint IS NULL THEN t.webhook_secret ELSE e.secret END,"
    "       CASE WHEN c.endpoint IS NULL"
    "            THEN CASE WHEN t.old_webhook_secret_until > now()"
    "                      THEN t.old_webhook_secret END"
    "            ELSE CASE WHEN e.old_secret_until > now() THEN e.old_secret END END,"
    "       c.job, j.state, j.ended_at, j.workflow, j.metadata::text, j.result_sha256,"
    "       u.input, u.output, u.cached, u.is_estimated, u.cost "
    "FROM claimed c "
    "LEFT JOIN endpoints e ON " SQL_KEYED("e.id", "c.endpoint")
    "  AND e.tenant = c.tenant "
    "LEFT JOIN tenants t ON " SQL_KEYED("t.id", "c.tenant") " "
    "LEFT JOIN LATERAL ("
    "    SELECT state, ended_at, workflow, metadata, result_sha256"
    "    FROM jobs"
    "    WHERE jobs.id = c.job AND jobs.tenant = c.tenant AND c.body IS NULL"
    ") AS j ON true "
    "LEFT JOIN LATERAL ("
    "    SELECT sum(input_tokens)::int8 AS input, sum(output_tokens)::int8 AS output,"
    "           sum(cached_input_tokens)::int8 AS cached,"
    "           bool_or(is_usage_estimated) AS is_estimated,"
    "           sum(cost_nano)::int8 AS cost"
    "    FROM calls"
    "    WHERE calls.job = c.job AND calls.state = 'settled' AND c.body IS NULL"
    ") AS u ON true");

enum claim_column {
    COLUMN_ID,
    COLUMN_TENANT,
    COLUMN_ENDPOINT,
    COLUMN_URL,
    COLUMN_TYPE,
    COLUMN_ATTEMPT,
    COLUMN_BODY,
    COLUMN_SEQUENCE,
    COLUMN_IS_CLOSED,
    COLUMN_SECRET,
    COLUMN_OLD_SECRET,
    COLUMN_JOB,
    COLUMN_STATE,
    COLUMN_ENDED_AT,
    COLUMN_WORKFLOW,
    COLUMN_METADATA,
    COLUMN_SHA256,
    COLUMN_INPUT,
    COLUMN_OUTPUT,
    COLUMN_CACHED,
    COLUMN_IS_ESTIMATED,
    COLUMN_COST,
};

/* Who delivered wins over who claimed again meanwhile; else only the newest claim may speak. */
PG_STATEMENT(delivery_record_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::int4[], $3::text[], $4::int8[], $5::text[],"
    "        $6::text[], $7::text[])"
    "    WITH ORDINALITY AS input(id, attempt, state, wait_ms, try, body, disabled, ord)"
    "), locked AS MATERIALIZED ("
    "    SELECT i.*"
    "    FROM (SELECT * FROM input ORDER BY id) AS i"
    "    CROSS JOIN LATERAL ("
    "        SELECT"
    "        FROM deliveries"
    "        WHERE deliveries.id = i.id"
    "          AND state = 'waiting'"
    "          AND (attempts = i.attempt OR i.state = 'delivered')"
    "        FOR UPDATE"
    "    ) AS d"
    "), recorded AS ("
    "    UPDATE deliveries d"
    "    SET state = l.state,"
    "        next_at = now() + l.wait_ms * interval '1 ms',"
    "        tries = CASE WHEN d.tries @> jsonb_build_array(l.try::jsonb) THEN d.tries"
    "                     WHEN jsonb_array_length(d.tries) < 100 THEN d.tries || l.try::jsonb"
    "                     ELSE d.tries - 0 || l.try::jsonb END,"
    "        body = coalesce(d.body, l.body),"
    "        ended_at = CASE WHEN l.state <> 'waiting' THEN now() END"
    "    FROM locked l"
    "    WHERE " SQL_KEYED("d.id", "l.id")
    "), disabled AS ("
    "    UPDATE endpoints e"
    "    SET disabled_at = now(), disabled_reason = 'it answered 410 Gone'"
    "    FROM (SELECT DISTINCT disabled AS id FROM locked WHERE disabled IS NOT NULL) AS l"
    "    WHERE " SQL_KEYED("e.id", "l.id")
    "      AND e.disabled_at IS NULL"
    ")"
    "SELECT ord FROM locked");

struct delivery_store {
    struct pg *pg;
    struct pg_batch *records;
};

struct delivery_store *delivery_store_new(struct pg *pg)
{
    static const struct pg_batch_kind kind = {
        .statement = &delivery_record_statement,
        .column_count = 7,
        .columns = {PG_UUID, PG_INT4, PG_TEXT, PG_INT8, PG_TEXT, PG_TEXT, PG_TEXT},
        .key_columns = 1,
        .is_repeatable = true,
        .retry_ms = STORE_RETRY_MS,
    };
    struct delivery_store *store = calloc(1, sizeof(*store));

    if (!store)
        return NULL;
    store->pg = pg;
    store->records = pg_batch_new(pg, &kind, NULL, 0);
    if (store->records)
        return store;
    free(store);
    return NULL;
}

void delivery_store_free(struct delivery_store *store)
{
    if (!store)
        return;
    pg_batch_free(store->records);
    free(store);
}

/* --- claiming --------------------------------------------------------------------------------- */

void delivery_claim(struct delivery_store *store, const struct delivery_claim *claim,
                    pg_done_fn *done, void *arg)
{
    struct pg_value tenants[LANES_MAX], lanes[LANES_MAX], urls[LANES_MAX];
    size_t count = claim->busy_count < LANES_MAX ? claim->busy_count : LANES_MAX;

    for (size_t i = 0; i < count; i++) {
        tenants[i] = pg_text(claim->busy[i].tenant);
        lanes[i] = pg_text(claim->busy[i].endpoint ? claim->busy[i].endpoint : "");
        urls[i] = pg_text(claim->busy[i].url);
    }
    struct pg_value values[] = {
        pg_array(PG_TEXT, tenants, count),
        pg_array(PG_TEXT, lanes, count),
        pg_int4(claim->per_url),
        pg_int4(claim->per_tenant),
        pg_int4(claim->limit),
        pg_int8(claim->lease_ms),
        pg_int8(claim->first_wait_ms),
        pg_array(PG_TEXT, urls, count),
    };
    pg_query(store->pg, &delivery_claim_statement, values, sizeof(values) / sizeof(values[0]), done,
             arg);
}

static void read_job(const struct pg_result *result, int row, struct webhook_job *out)
{
    const char *state = pg_get_text(result, row, COLUMN_STATE, NULL);
    size_t len = 0;
    const char *digest = pg_get_text(result, row, COLUMN_SHA256, &len);

    *out = (struct webhook_job){
        .id = pg_get_uuid(result, row, COLUMN_JOB),
        .ended_us = pg_get_time(result, row, COLUMN_ENDED_AT),
        .workflow = pg_get_text(result, row, COLUMN_WORKFLOW, NULL),
        .metadata = pg_get_text(result, row, COLUMN_METADATA, NULL),
        .has_usage =
            !pg_is_null(result, row, COLUMN_INPUT) || !pg_is_null(result, row, COLUMN_OUTPUT),
        .is_usage_estimated = pg_get_bool(result, row, COLUMN_IS_ESTIMATED),
        .input_tokens = pg_get_int(result, row, COLUMN_INPUT),
        .output_tokens = pg_get_int(result, row, COLUMN_OUTPUT),
        .cached_input_tokens = pg_get_int(result, row, COLUMN_CACHED),
        .cost_nano = pg_get_int(result, row, COLUMN_COST),
        .result_sha256 = digest && len == SHA256_SIZE ? (const uint8_t *)digest : NULL,
        .sequence = (int)pg_get_int(result, row, COLUMN_SEQUENCE),
    };
    if (!state || !job_state_parse(state, &out->state))
        out->state = JOB_FAILED;
}

void delivery_read(const struct pg_result *result, int row, struct delivery *out)
{
    *out = (struct delivery){
        .id = pg_get_uuid(result, row, COLUMN_ID),
        .tenant = pg_get_text(result, row, COLUMN_TENANT, NULL),
        .endpoint = pg_get_text(result, row, COLUMN_ENDPOINT, NULL),
        .url = pg_get_text(result, row, COLUMN_URL, NULL),
        .type = pg_get_text(result, row, COLUMN_TYPE, NULL),
        .attempt = (int)pg_get_int(result, row, COLUMN_ATTEMPT),
        .is_closed = pg_get_bool(result, row, COLUMN_IS_CLOSED),
    };
    out->body = pg_get_text(result, row, COLUMN_BODY, &out->body_len);
    out->secret = pg_get_text(result, row, COLUMN_SECRET, &out->secret_len);
    out->old_secret = pg_get_text(result, row, COLUMN_OLD_SECRET, &out->old_secret_len);
    if (!out->body && !out->is_closed)
        read_job(result, row, &out->job);
}

/* --- recording -------------------------------------------------------------------------------- */

static const char *state_name(enum delivery_state state)
{
    static const char *const names[] = {
        [DELIVERY_WAITING] = "waiting",
        [DELIVERY_DELIVERED] = "delivered",
        [DELIVERY_FAILED] = "failed",
    };

    return names[state];
}

static bool write_try(const struct delivery_try *try, struct buf *out)
{
    char at[CLOCK_RFC3339_SIZE];

    clock_format_rfc3339(try->at_us, at);
    buf_printf(out, "{\"at\":\"%s\",\"status\":", at);
    if (try->status > 0)
        buf_printf(out, "%d", try->status);
    else
        buf_puts(out, "null");
    buf_puts(out, ",\"error\":");
    buf_put_json_text(out, try->error);
    return buf_printf(out, ",\"duration_ms\":%" PRId64 "}", try->duration_ms);
}

struct record_wait {
    delivery_recorded_fn *done;
    void *arg;
};

static void on_recorded(const struct pg_batch_reply *reply, void *arg)
{
    struct record_wait wait = *(struct record_wait *)arg;
    bool is_stale = reply->status == PG_OK && reply->row < 0; /* no run's: not counted there */

    free(arg);
    wait.done(is_stale ? STORE_STALE : store_outcome_of(reply), wait.arg);
}

static bool add_record(struct delivery_store *store, const struct delivery_try *try,
                       const struct buf *json, struct record_wait *wait)
{
    struct pg_value values[] = {
        pg_uuid(try->id),
        pg_int4(try->attempt),
        pg_text(state_name(try->state)),
        pg_int8(try->state == DELIVERY_WAITING ? try->wait_ms : 0),
        pg_text_len(json->data, json->len),
        try->body ? pg_text_len(try->body, try->body_len) : pg_null(PG_TEXT),
        pg_text(try->disable),
    };

    return pg_batch_add(store->records, values, on_recorded, wait);
}

bool delivery_record(struct delivery_store *store, const struct delivery_try *try,
                     delivery_recorded_fn *done, void *arg)
{
    struct record_wait *wait = malloc(sizeof(*wait));
    struct buf json;
    bool ok;

    if (!wait)
        return false;
    *wait = (struct record_wait){.done = done, .arg = arg};
    buf_init(&json, TRY_JSON_MAX);
    ok = write_try(try, &json) && add_record(store, try, &json, wait);
    buf_release(&json);
    if (!ok)
        free(wait);
    return ok;
}
