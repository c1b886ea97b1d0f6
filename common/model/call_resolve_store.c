/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL that books a call of unknown outcome as an admin found it. */
#include "common/model/call_resolve_store.h"

#include "common/base/money.h"

/* Counted in numeric, so that no usage and price overflow before they are compared.
 *
 * A worker that settles the same call late waits for the lock and then finds it booked (or we do).
 * Usage follows by the trigger on the ledger.  The cost is rounded up once, as money_cost() does.
 */
PG_STATEMENT(call_resolve_statement,
    "WITH found AS MATERIALIZED ("
    "    SELECT *, coalesce($3::int8::numeric,"
    "            ceil((($4::int8 - $5::int8)::numeric * input_nano_per_mtok"
    "                  + $5::int8::numeric * cached_nano_per_mtok"
    "                  + $6::int8::numeric * output_nano_per_mtok) / 1000000)) AS told_nano"
    "    FROM calls WHERE job = $1::uuid AND call = $2::int4 FOR NO KEY UPDATE"
    "), resolved AS ("
    "    UPDATE calls c"
    "    SET state = 'settled',"
    "        cost_nano = f.told_nano::int8,"
    "        input_tokens = coalesce($4::int8, c.input_tokens),"
    "        cached_input_tokens = coalesce($5::int8, c.cached_input_tokens),"
    "        output_tokens = coalesce($6::int8, c.output_tokens),"
    "        is_usage_estimated = false"
    "    FROM found f"
    "    WHERE c.job = $1::uuid AND c.call = $2::int4"
    "      AND f.state = 'unknown' AND f.told_nano <= $8::int8"
    "    RETURNING c.*"
    ")"
    "SELECT f.state = 'unknown', f.tenant, f.provider, f.model, f.run, r.cost_nano, f.reserved_nano,"
    "       r.input_tokens, r.cached_input_tokens, r.output_tokens, f.started_at,"
    "       CASE WHEN r.job IS NOT NULL THEN"
    "           audit_append($7::text, 'call.resolve',"
    "               'call:' || replace(f.job::text, '-', '') || '_' || f.call,"
    "               json_build_object("
    "                   'tenant', f.tenant,"
    "                   'before', json_build_object('state', f.state, 'cost_nano', f.cost_nano,"
    "                       'input_tokens', f.input_tokens, 'output_tokens', f.output_tokens),"
    "                   'after', json_build_object('state', r.state, 'cost_nano', r.cost_nano,"
    "                       'input_tokens', r.input_tokens,"
    "                       'output_tokens', r.output_tokens))::text)"
    "       END,"
    "       r.job IS NULL "
    "FROM found f "
    "LEFT JOIN resolved r ON true");

bool call_resolve(struct pg *pg, struct id job, int call, const struct call_resolution *resolution,
                  const char *actor, admin_done_fn *done, void *arg)
{
    bool is_cost = resolution->cost_nano >= 0;
    struct pg_value values[] = {
        pg_uuid(job),
        pg_int4(call),
        is_cost ? pg_int8(resolution->cost_nano) : pg_null(PG_INT8),
        is_cost ? pg_null(PG_INT8) : pg_int8(resolution->input_tokens),
        is_cost ? pg_null(PG_INT8) : pg_int8(resolution->cached_input_tokens),
        is_cost ? pg_null(PG_INT8) : pg_int8(resolution->output_tokens),
        pg_text(actor),
        pg_int8(MONEY_MAX_NANO),
    };

    return admin_query(pg, &call_resolve_statement, values, sizeof(values) / sizeof(values[0]),
                       ADMIN_MISSING, done, arg);
}

static int64_t int_or_minus(const struct admin_reply *reply, int column)
{
    return pg_is_null(reply->rows, 0, column) ? -1 : pg_get_int(reply->rows, 0, column);
}

void resolved_call_read(const struct admin_reply *reply, struct resolved_call *out)
{
    *out = (struct resolved_call){
        .tenant = pg_get_text(reply->rows, 0, 1, NULL),
        .provider = pg_get_text(reply->rows, 0, 2, NULL),
        .model = pg_get_text(reply->rows, 0, 3, NULL),
        .run = (int)pg_get_int(reply->rows, 0, 4),
        .cost_nano = pg_get_int(reply->rows, 0, 5),
        .reserved_nano = pg_get_int(reply->rows, 0, 6),
        .input_tokens = int_or_minus(reply, 7),
        .cached_input_tokens = int_or_minus(reply, 8),
        .output_tokens = int_or_minus(reply, 9),
        .started_us = pg_get_time(reply->rows, 0, 10),
        .is_too_dear = pg_get_bool(reply->rows, 0, 12),
    };
}
