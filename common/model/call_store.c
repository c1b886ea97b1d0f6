/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of the ledger: intents behind the live run, settlements by the row's own key. */
#include "common/model/call_store.h"

#include <stdlib.h>

#include "common/model/call_sql.h"

/* The row of the ledger, the run's counters and lease, and the event that announces the call, if
 * the run is live, not cancelled and within its deadline, and the tenant's book is still the one
 * that the money was reserved in: whoever makes it anew waits for us, or we see that it did.  Where
 * nothing was reserved, the book must be none that the caller had not heard of: a budget may be
 * newer than what it knows.  A repeat changes nothing more, and its answer is the same: bytes leave
 * only after the answer. */
PG_STATEMENT(call_intent_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::int8[], $3::int4[], $4::int4[], $5::int4[],"
    "        $6::int4[], $7::int4[], $8::int4[], $9::text[], $10::text[], $11::text[],"
    "        $12::text[], $13::text[], $14::text[], $15::text[], $16::int8[], $17::int8[],"
    "        $18::int8[], $19::int8[], $20::text[], $21::text[], $22::text[], $23::int8[])"
    "    WITH ORDINALITY AS input(job, run_token, call, attempts, deferrals, lease_s,"
    "        silent_s, event_seq, tenant, key_id, workflow, end_user, route, provider,"
    "        model, input_price, cached_price, output_price, reserved_nano, budget_day,"
    "        windows, generation, known_generation, ord)"
    "), books AS MATERIALIZED ("
    "    SELECT i.tenant, k.generation, b.generation || '.' || k.generation AS full_generation"
    "    FROM (SELECT tenant, bool_or(generation IS NOT NULL) AS has_money FROM input"
    "          GROUP BY tenant ORDER BY tenant) AS i"
    "    LEFT JOIN LATERAL ("
    "        SELECT generation FROM budget_binding WHERE i.has_money FOR SHARE"
    "    ) AS b ON true"
    "    CROSS JOIN LATERAL ("
    "        SELECT generation FROM budget_books"
    "        WHERE budget_books.tenant = i.tenant"
    "        FOR SHARE"
    "    ) AS k"
    "), locked AS MATERIALIZED ("
    "    SELECT i.*, r.run, r.is_live AND i.is_believed AS is_go, r.is_live, r.cancel_requested"
    "    FROM (SELECT *,"
    "                 CASE WHEN generation IS NOT NULL"
    "                      THEN (tenant, generation) IN (SELECT tenant, full_generation FROM books)"
    "                      ELSE NOT EXISTS (SELECT FROM books b WHERE b.tenant = input.tenant"
    "                                           AND b.generation > input.known_generation)"
    "                 END AS is_believed"
    "          FROM input"
    "          ORDER BY job) AS i"
    "    CROSS JOIN LATERAL ("
    "        SELECT run, cancel_requested,"
    "               NOT cancel_requested AND deadline > clock_timestamp() AS is_live"
    "        FROM runs"
    "        WHERE runs.job = i.job AND runs.run_token = i.run_token"
    "        FOR NO KEY UPDATE"
    "    ) AS r"
    "), moved AS ("
    "    UPDATE runs r"
    "    SET calls = l.call,"
    "        attempts = l.attempts,"
    "        deferrals = l.deferrals,"
    "        lease_until = now() + l.lease_s * interval '1 s',"
    "        call_started_at = clock_timestamp(),"
    "        silent_s = l.silent_s"
    "    FROM locked l"
    "    WHERE " SQL_KEYED("r.job", "l.job")
    "      AND l.is_go"
    "), sent AS ("
    "    INSERT INTO calls (job, call, run, tenant, key_id, workflow, end_user, route,"
    "                       provider, model, input_nano_per_mtok, cached_nano_per_mtok,"
    "                       output_nano_per_mtok, reserved_nano, state, cost_nano, budget_day,"
    "                       budget_windows, budget_generation)"
    "    SELECT job, call, run, tenant, key_id, workflow, end_user, route, provider,"
    "           model, input_price, cached_price, output_price, reserved_nano, 'sent',"
    "           reserved_nano, coalesce(budget_day::date, (now() AT TIME ZONE 'UTC')::date),"
    "           string_to_array(windows, ','), generation"
    "    FROM locked"
    "    WHERE is_go"
    "    ON CONFLICT DO NOTHING"
    "), told AS ("
    "    INSERT INTO events (job, run, seq, kind, attempt, data)"
    "    SELECT job, run, event_seq, 'job.started', call,"
    "           json_build_object('attempt', call, 'provider', provider, 'model', model)"
    "    FROM locked"
    "    WHERE is_go"
    "    ON CONFLICT DO NOTHING"
    ")"
    "SELECT ord, is_go, cancel_requested, is_live FROM locked");

/* By the call's own key: a worker that was rescued by mistake still books what it spent.  The
 * counters go by the token.  Every row is answered. */
PG_STATEMENT(call_settle_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::int4[], $3::text[], $4::int4[], $5::text[],"
    "        $6::int4[], $7::int4[], $8::int8[], $9::int8[], $10::int8[], $11::bool[],"
    "        $12::int8[], $13::int8[], $14::int4[], $15::int4[])"
    "    WITH ORDINALITY AS input(job, " CALL_SQL_COLUMNS ","
    "        run_token, attempts, deferrals, ord)"
    "), locked AS MATERIALIZED ("
    "    SELECT i.job, i.attempts, i.deferrals"
    "    FROM (SELECT * FROM input ORDER BY job, call) AS i"
    "    CROSS JOIN LATERAL ("
    "        SELECT FROM runs"
    "        WHERE runs.job = i.job AND runs.run_token = i.run_token"
    "        FOR NO KEY UPDATE"
    "    ) AS r"
    "), counted AS ("
    "    UPDATE runs r"
    "    SET attempts = l.attempts, deferrals = l.deferrals"
    "    FROM (SELECT job, max(attempts) AS attempts, max(deferrals) AS deferrals"
    "          FROM locked GROUP BY job) AS l"
    "    WHERE " SQL_KEYED("r.job", "l.job") ""
    "), " CALL_SQL_BOOK
    "SELECT ord FROM input");

struct call_store {
    struct pg_batch *intents;
    struct pg_batch *settlements;
};

struct call_store *call_store_new(struct pg *pg)
{
    static const struct pg_batch_kind intent_kind = {
        .statement = &call_intent_statement,
        .column_count = 23,
        .columns = {PG_UUID, PG_INT8, PG_INT4, PG_INT4, PG_INT4, PG_INT4, PG_INT4, PG_INT4,
                    PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_INT8,
                    PG_INT8, PG_INT8, PG_INT8, PG_TEXT, PG_TEXT, PG_TEXT, PG_INT8},
        .key_columns = 1,
        .is_repeatable = true,
        .retry_ms = STORE_RETRY_MS,
    };
    static const struct pg_batch_kind settle_kind = {
        .statement = &call_settle_statement,
        .column_count = 15,
        .columns = {PG_UUID, PG_INT4, PG_TEXT, PG_INT4, PG_TEXT, PG_INT4, PG_INT4, PG_INT8, PG_INT8,
                    PG_INT8, PG_BOOL, PG_INT8, PG_INT8, PG_INT4, PG_INT4},
        .key_columns = 2,
        .is_repeatable = true,
        .retry_ms = STORE_RETRY_MS,
    };
    struct call_store *store = calloc(1, sizeof(*store));

    if (!store)
        return NULL;
    store->intents = pg_batch_new(pg, &intent_kind, NULL, 0);
    store->settlements = pg_batch_new(pg, &settle_kind, NULL, 0);
    if (store->intents && store->settlements)
        return store;
    call_store_free(store);
    return NULL;
}

void call_store_free(struct call_store *store)
{
    if (!store)
        return;
    if (store->intents)
        pg_batch_free(store->intents);
    if (store->settlements)
        pg_batch_free(store->settlements);
    free(store);
}

/* --- intent ----------------------------------------------------------------------------------- */

struct intent_wait {
    call_intent_fn *done;
    void *arg;
};

static void on_intent(const struct pg_batch_reply *reply, void *arg)
{
    struct intent_wait wait = *(struct intent_wait *)arg;
    enum intent_outcome outcome = INTENT_FAILED;

    free(arg);
    switch (store_outcome_of(reply)) {
    case STORE_DONE:
        if (pg_get_bool(reply->result, reply->row, 1))
            outcome = INTENT_GO;
        else if (pg_get_bool(reply->result, reply->row, 2))
            outcome = INTENT_CANCELLED;
        else if (pg_get_bool(reply->result, reply->row, 3))
            outcome = INTENT_STALE_BOOK;
        else
            outcome = INTENT_EXPIRED;
        break;
    case STORE_STALE:
        outcome = INTENT_LOST;
        break;
    case STORE_REFUSED:
    case STORE_AWAY:
        break;
    }
    wait.done(outcome, wait.arg);
}

bool call_intent(struct call_store *store, const struct call_intent *intent, call_intent_fn *done,
                 void *arg)
{
    struct pg_value values[] = {
        pg_uuid(intent->job),
        pg_int8(intent->run_token),
        pg_int4(intent->call),
        pg_int4(intent->attempts),
        pg_int4(intent->deferrals),
        pg_int4(intent->lease_s),
        pg_int4(intent->silent_s),
        pg_int4(intent->event_seq),
        pg_text(intent->tenant),
        pg_text(intent->key_id),
        pg_text(intent->workflow),
        pg_text(intent->end_user),
        pg_text(intent->route),
        pg_text(intent->provider),
        pg_text(intent->model),
        pg_int8(intent->price.input_nano_per_mtok),
        pg_int8(intent->price.cached_input_nano_per_mtok),
        pg_int8(intent->price.output_nano_per_mtok),
        pg_int8(intent->reserved_nano),
        pg_text(intent->budget_day),
        pg_text(intent->budget_windows),
        pg_text(intent->budget_generation),
        pg_int8(intent->known_generation),
    };
    struct intent_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct intent_wait){.done = done, .arg = arg};
    if (pg_batch_add(store->intents, values, on_intent, wait))
        return true;
    free(wait);
    return false;
}

/* --- settle ----------------------------------------------------------------------------------- */

const char *call_state_name(enum call_state state)
{
    static const char *const names[] = {
        [CALL_SENT] = "sent",
        [CALL_SETTLED] = "settled",
        [CALL_RELEASED] = "released",
        [CALL_UNKNOWN] = "unknown",
    };

    return names[state];
}

static struct pg_value int_or_null(enum pg_type type, int64_t value, bool is_known)
{
    if (!is_known)
        return pg_null(type);
    return type == PG_INT4 ? pg_int4((int32_t)value) : pg_int8(value);
}

void call_outcome_values(const struct call_outcome *outcome, struct pg_value *out)
{
    static const enum pg_type types[CALL_OUTCOME_COLUMNS] = {PG_INT4, PG_TEXT, PG_INT4, PG_TEXT,
                                                             PG_INT4, PG_INT4, PG_INT8, PG_INT8,
                                                             PG_INT8, PG_BOOL, PG_INT8};

    if (!outcome) {
        for (int i = 0; i < CALL_OUTCOME_COLUMNS; i++)
            out[i] = pg_null(types[i]);
        return;
    }
    out[0] = pg_int4(outcome->call);
    out[1] = pg_text(call_state_name(outcome->state));
    out[2] = int_or_null(PG_INT4, outcome->status, outcome->status > 0);
    out[3] = pg_text(error_type_name(outcome->error));
    out[4] = int_or_null(PG_INT4, outcome->first_token_ms, outcome->first_token_ms >= 0);
    out[5] = int_or_null(PG_INT4, outcome->duration_ms, outcome->duration_ms >= 0);
    out[6] = int_or_null(PG_INT8, outcome->input_tokens, outcome->input_tokens >= 0);
    out[7] = int_or_null(PG_INT8, outcome->cached_input_tokens, outcome->cached_input_tokens >= 0);
    out[8] = int_or_null(PG_INT8, outcome->output_tokens, outcome->output_tokens >= 0);
    out[9] = pg_bool(outcome->is_usage_estimated);
    out[10] = pg_int8(outcome->cost_nano);
}

struct settle_wait {
    call_settle_fn *done;
    void *arg;
};

static void on_settled(const struct pg_batch_reply *reply, void *arg)
{
    struct settle_wait wait = *(struct settle_wait *)arg;

    free(arg);
    if (wait.done)
        wait.done(store_outcome_of(reply), wait.arg);
}

bool call_settle(struct call_store *store, struct id job, int64_t run_token, int attempts,
                 int deferrals, const struct call_outcome *outcome, call_settle_fn *done, void *arg)
{
    struct pg_value values[1 + CALL_OUTCOME_COLUMNS + 3];
    struct settle_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct settle_wait){.done = done, .arg = arg};
    values[0] = pg_uuid(job);
    call_outcome_values(outcome, values + 1);
    values[1 + CALL_OUTCOME_COLUMNS] = pg_int8(run_token);
    values[2 + CALL_OUTCOME_COLUMNS] = pg_int4(attempts);
    values[3 + CALL_OUTCOME_COLUMNS] = pg_int4(deferrals);
    if (pg_batch_add(store->settlements, values, on_settled, wait))
        return true;
    free(wait);
    return false;
}
