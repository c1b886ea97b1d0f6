/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of counts: sums per priority for the gauges, and folding delta rows. */
#include "common/model/count_store.h"

#include <string.h>

#include "common/model/leader_store.h"

/* The longest waiting ones by the indexes queue_waiting and, nearly (in the order of dealing),
 * queue_dealt. */
PG_STATEMENT(count_look_statement,
    "WITH sums AS MATERIALIZED ("
    "    SELECT priority, state, sum(delta) AS jobs, count(*) AS rows"
    "    FROM counts"
    "    GROUP BY tenant, priority, state"
    ") "
    "SELECT (SELECT coalesce(sum(rows), 0)::int8 FROM sums),"
    "       (SELECT count(*) FROM sums),"
    "       (SELECT coalesce(sum(jobs), 0)::int8"
    "        FROM sums s"
    "        WHERE s.priority = p.priority AND s.state = 'queued'),"
    "       (extract(epoch FROM now() - least("
    "            (SELECT ready_at FROM queue q"
    "             WHERE q.priority = p.priority"
    "               AND q.dispatched_at IS NULL"
    "               AND q.ready_at <= now()"
    "             ORDER BY q.ready_at, q.job"
    "             LIMIT 1),"
    "            (SELECT ready_at FROM queue q"
    "             WHERE q.priority = p.priority AND q.dispatched_at IS NOT NULL"
    "             ORDER BY q.dispatched_at, q.job"
    "             LIMIT 1))) * 1000000)::int8 "
    "FROM (VALUES (0::int2), (1::int2), (2::int2)) AS p(priority) "
    "ORDER BY p.priority");

PG_STATEMENT(count_fold_statement,
    "WITH taken AS ("
    "    DELETE FROM counts"
    "    WHERE ctid = ANY (ARRAY(SELECT ctid FROM counts LIMIT $1::int4))"
    "    RETURNING tenant, priority, state, delta"
    ") "
    "INSERT INTO counts (tenant, priority, state, delta) "
    "SELECT tenant, priority, state, sum(delta) "
    "FROM taken "
    "GROUP BY tenant, priority, state "
    "HAVING sum(delta) <> 0");

void count_look(struct pg *pg, pg_done_fn *done, void *arg)
{
    pg_query(pg, &count_look_statement, NULL, 0, done, arg);
}

bool count_look_read(const struct pg_result *result, struct count_look *out)
{
    memset(out, 0, sizeof(*out));
    if (pg_rows(result) != PRIORITY_COUNT)
        return false;
    out->rows = pg_get_int(result, 0, 0);
    out->groups = pg_get_int(result, 0, 1);
    for (int p = 0; p < PRIORITY_COUNT; p++) {
        out->of[p].queued = pg_get_int(result, p, 2);
        out->of[p].oldest_waiting_us = pg_get_int(result, p, 3);
    }
    return true;
}

void count_fold(struct pg *pg, int64_t epoch, int limit, pg_done_fn *done, void *arg)
{
    struct pg_value value = pg_int4(limit);
    struct pg_step step = {.statement = &count_fold_statement, .values = &value, .count = 1};

    leader_transaction(pg, epoch, &step, 1, done, arg);
}
