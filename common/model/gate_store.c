/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of gates, for the feeder. */
#include "common/model/gate_store.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/model/gate_sql.h"
#include "common/model/leader_store.h"

#define SQL_FROM_NOW(at) "(extract(epoch FROM " at " - now()) * 1000000)::int8"

/* In the order of gates_pkey, so that passes which cannot look at all look at the same; what is in
 * flight by runs_tenant and queue_dealt_tenant. */
PG_STATEMENT(gate_list_statement,
    "SELECT g.tenant, g.kind, g.name, " SQL_FROM_NOW("least(g.until, now() + interval '100 d')") ","
    "       g.interval_us, g.most, " SQL_FROM_NOW("CASE WHEN g.tail < now() + interval '100 d' THEN g.tail END") ","
    "       CASE WHEN g.most IS NOT NULL THEN"
    "           (SELECT count(*) FROM runs r"
    "            WHERE r.tenant = g.tenant AND " GATE_SQL_MATCHES("g", "r") ")"
    "           + (SELECT count(*) FROM queue q"
    "              WHERE q.tenant = g.tenant AND q.dispatched_at IS NOT NULL"
    "                AND " GATE_SQL_MATCHES("g", "q") ")"
    "       END, g.reason, g.detail "
    "FROM gates g "
    "WHERE g.until > now() OR g.interval_us > 0 "
    "ORDER BY g.tenant, g.kind, g.name "
    "LIMIT $1::int4");

/* A pass may let through what the passes before it could have, for six seconds back: that is the
 * burst of every limit.  Then faster, where nobody was refused of late. */
PG_STATEMENT(gate_use_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::int8[])"
    "    AS input(tenant, kind, name, jobs)"
    "), locked AS MATERIALIZED ("
    "    SELECT i.*"
    "    FROM (SELECT * FROM input ORDER BY tenant, kind, name) AS i"
    "    CROSS JOIN LATERAL ("
    "        SELECT FROM gates g"
    "        WHERE g.tenant = i.tenant AND g.kind = i.kind AND g.name = i.name"
    "        FOR NO KEY UPDATE"
    "    ) AS g"
    ")"
    "UPDATE gates g "
    "SET until = greatest(g.until, now() - interval '6 s')"
    "            + l.jobs * g.interval_us * interval '1 us',"
    "    interval_us = CASE WHEN g.most IS NULL AND g.refused_at < now() - interval '300 ms'"
    "                       THEN g.interval_us * 9 / 10 ELSE g.interval_us END "
    "FROM locked l "
    "WHERE g.tenant = l.tenant AND g.kind = l.kind AND g.name = l.name");

/* By queue_pkey. */
PG_STATEMENT(gate_put_off_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::int4[], $3::int8[], $4::text[], $5::text[],"
    "                         $6::text[], $7::text[], $8::text[])"
    "    AS input(job, seq, after_us, tenant, kind, name, reason, detail)"
    "), locked AS MATERIALIZED ("
    "    SELECT i.*"
    "    FROM (SELECT * FROM input ORDER BY job) AS i"
    "    CROSS JOIN LATERAL ("
    "        SELECT FROM queue"
    "        WHERE queue.job = i.job AND dispatch_seq = i.seq AND dispatched_at IS NULL"
    "        FOR UPDATE SKIP LOCKED"
    "    ) AS q"
    "), moved AS ("
    "    UPDATE queue q"
    "    SET ready_at = now() + l.after_us * interval '1 us',"
    "        wait_reason = l.reason,"
    "        wait_detail = l.detail"
    "    FROM locked l"
    "    WHERE " SQL_KEYED("q.job", "l.job")
    "), tails AS MATERIALIZED ("
    "    SELECT t.*"
    "    FROM (SELECT tenant, kind, name, max(after_us) AS after_us FROM input"
    "          GROUP BY tenant, kind, name"
    "          ORDER BY tenant, kind, name) AS t"
    "    CROSS JOIN LATERAL ("
    "        SELECT FROM gates g"
    "        WHERE g.tenant = t.tenant AND g.kind = t.kind AND g.name = t.name"
    "        FOR NO KEY UPDATE"
    "    ) AS g"
    ")"
    "UPDATE gates g "
    "SET tail = greatest(g.tail, now() + t.after_us * interval '1 us') "
    "FROM tails t "
    "WHERE g.tenant = t.tenant AND g.kind = t.kind AND g.name = t.name");

/* By gates_until.  While somebody waits a gate stays, or all who wait would be dealt at once. */
PG_STATEMENT(gate_sweep_statement,
    "DELETE FROM gates g "
    "WHERE g.until < now()"
    "  AND (g.interval_us = 0"
    "       OR (g.until < now() - interval '10 s'"
    "           AND NOT EXISTS (SELECT FROM queue q"
    "                           WHERE q.tenant = g.tenant AND q.dispatched_at IS NULL)))");

void gate_list(struct pg *pg, pg_done_fn *done, void *arg)
{
    struct pg_value value = pg_int4(GATES_MAX);

    pg_query(pg, &gate_list_statement, &value, 1, done, arg);
}

static void copy(char *out, size_t size, const struct pg_result *result, int row, int column)
{
    const char *text = pg_get_text(result, row, column, NULL);

    snprintf(out, size, "%s", text ? text : "");
}

bool gate_read(const struct pg_result *result, int row, struct gate *out)
{
    const char *kind = pg_get_text(result, row, 1, NULL);

    *out = (struct gate){.kind = LIMIT_SCOPE_COUNT};
    for (int scope = 0; kind && scope < LIMIT_SCOPE_COUNT; scope++)
        if (strcmp(kind, limit_scope_name((enum limit_scope)scope)) == 0)
            out->kind = (enum limit_scope)scope;
    copy(out->tenant, sizeof(out->tenant), result, row, 0);
    copy(out->name, sizeof(out->name), result, row, 2);
    out->until_us = pg_get_int(result, row, 3);
    out->interval_us = pg_get_int(result, row, 4);
    out->most = pg_is_null(result, row, 5) ? -1 : pg_get_int(result, row, 5);
    out->tail_us = pg_is_null(result, row, 6) ? -1 : pg_get_int(result, row, 6);
    out->in_flight = pg_get_int(result, row, 7);
    copy(out->reason, sizeof(out->reason), result, row, 8);
    copy(out->detail, sizeof(out->detail), result, row, 9);
    return out->kind != LIMIT_SCOPE_COUNT;
}

void gate_note_uses(struct pg *pg, int64_t epoch, const struct gate_use *uses, size_t count,
                    pg_done_fn *done, void *arg)
{
    struct pg_value columns[4][GATE_USES_MAX];
    struct pg_value values[4];

    assert(count <= GATE_USES_MAX);
    for (size_t i = 0; i < count; i++) {
        columns[0][i] = pg_text(uses[i].gate->tenant);
        columns[1][i] = pg_text(limit_scope_name(uses[i].gate->kind));
        columns[2][i] = pg_text(uses[i].gate->name);
        columns[3][i] = pg_int8(uses[i].jobs);
    }
    for (int i = 0; i < 4; i++)
        values[i] = pg_array(i < 3 ? PG_TEXT : PG_INT8, columns[i], count);
    leader_statement(pg, epoch, &gate_use_statement, values, 4, done, arg);
}

void gate_put_off(struct pg *pg, int64_t epoch, const struct gate_delay *delays, size_t count,
                  pg_done_fn *done, void *arg)
{
    static const enum pg_type types[] = {PG_UUID, PG_INT4, PG_INT8, PG_TEXT,
                                         PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT};
    struct pg_value columns[8][GATE_DELAYS_MAX];
    struct pg_value values[8];

    assert(count <= GATE_DELAYS_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct gate_delay *delay = &delays[i];

        columns[0][i] = pg_uuid(delay->job);
        columns[1][i] = pg_int4(delay->dispatch_seq);
        columns[2][i] = pg_int8(delay->after_us);
        columns[3][i] = pg_text(delay->gate->tenant);
        columns[4][i] = pg_text(limit_scope_name(delay->gate->kind));
        columns[5][i] = pg_text(delay->gate->name);
        columns[6][i] = pg_text(delay->gate->reason);
        columns[7][i] = pg_text(delay->gate->detail);
    }
    for (int i = 0; i < 8; i++)
        values[i] = pg_array(types[i], columns[i], count);
    leader_statement(pg, epoch, &gate_put_off_statement, values, 8, done, arg);
}

void gate_sweep(struct pg *pg, int64_t epoch, pg_done_fn *done, void *arg)
{
    leader_statement(pg, epoch, &gate_sweep_statement, NULL, 0, done, arg);
}
