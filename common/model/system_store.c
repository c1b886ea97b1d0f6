/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of looking at queues and workers. */
#include "common/model/system_store.h"

/* The oldest row of each priority by the indexes queue_waiting and queue_dealt. */
PG_STATEMENT(queue_list_statement,
    "WITH sums AS MATERIALIZED ("
    "    SELECT priority, state, sum(delta)::int8 AS n"
    "    FROM counts"
    "    WHERE state IN ('queued', 'running')"
    "    GROUP BY priority, state"
    ")"
    "SELECT true, p.p,"
    "    greatest(coalesce((SELECT n FROM sums WHERE priority = p.p AND state = 'queued'), 0), 0),"
    "    greatest(coalesce((SELECT n FROM sums WHERE priority = p.p AND state = 'running'), 0), 0),"
    "    greatest((extract(epoch FROM now() - least(w.at, d.at)) * 1000000)::int8, 0),"
    "    EXISTS (SELECT FROM pauses WHERE kind = 'priority'"
    "              AND name = (ARRAY['high', 'normal', 'low'])[p.p + 1]) "
    "FROM generate_series(0, 2) AS p(p) "
    "LEFT JOIN LATERAL ("
    "    SELECT ready_at AS at FROM queue"
    "    WHERE priority = p.p AND dispatched_at IS NULL"
    "    ORDER BY ready_at, job"
    "    LIMIT 1"
    ") AS w ON w.at <= now() "
    "LEFT JOIN LATERAL ("
    "    SELECT ready_at AS at FROM queue"
    "    WHERE priority = p.p AND dispatched_at IS NOT NULL"
    "    ORDER BY dispatched_at, job"
    "    LIMIT 1"
    ") AS d ON true "
    "ORDER BY p.p");

PG_STATEMENT(worker_list_statement,
    "SELECT true, id, name, slots, used[1], used[2], used[3], is_draining,"
    "    beat_at > clock_timestamp() - interval '6 s', started_at, beat_at "
    "FROM workers "
    "ORDER BY name, started_at");

void queue_info_read(const struct admin_reply *reply, int row, struct queue_info *out)
{
    *out = (struct queue_info){
        .priority = (enum priority)pg_get_int(reply->rows, row, 1),
        .queued = pg_get_int(reply->rows, row, 2),
        .running = pg_get_int(reply->rows, row, 3),
        .oldest_waiting_us = pg_get_int(reply->rows, row, 4),
        .is_paused = pg_get_bool(reply->rows, row, 5),
    };
}

bool queue_list(struct pg *pg, admin_done_fn *done, void *arg)
{
    return admin_query(pg, &queue_list_statement, NULL, 0, ADMIN_DONE, done, arg);
}

void worker_info_read(const struct admin_reply *reply, int row, struct worker_info *out)
{
    *out = (struct worker_info){
        .id = pg_get_uuid(reply->rows, row, 1),
        .name = pg_get_text(reply->rows, row, 2, NULL),
        .slots = (int)pg_get_int(reply->rows, row, 3),
        .is_draining = pg_get_bool(reply->rows, row, 7),
        .is_alive = pg_get_bool(reply->rows, row, 8),
        .started_at_us = pg_get_time(reply->rows, row, 9),
        .beat_at_us = pg_get_time(reply->rows, row, 10),
    };
    for (int i = 0; i < PRIORITY_COUNT; i++)
        out->used[i] = (int)pg_get_int(reply->rows, row, 4 + i);
}

bool worker_list(struct pg *pg, admin_done_fn *done, void *arg)
{
    return admin_query(pg, &worker_list_statement, NULL, 0, ADMIN_DONE, done, arg);
}
