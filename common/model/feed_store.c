/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of the feeder: how much room there is, who waits, dealing, credits of the fast lane. */
#include "common/model/feed_store.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/model/gate_sql.h"
#include "common/model/leader_store.h"
#include "common/model/sql.h"

enum { CREDITS_PER_SHARD = 64 }; /* fewer credits are spread over fewer shards */

/* What was dealt of a paused tenant is on its way back (feed_recall). */
#define SQL_TENANT_RUNS(column) column " <> ALL (ARRAY(" GATE_SQL_TENANTS_AT_REST "))"
#define SQL_PRIORITY_RUNS(column)                            \
    "NOT EXISTS (SELECT FROM pauses WHERE kind = 'priority'" \
    "  AND name = (ARRAY['high', 'normal', 'low'])[" column " + 1])"

/* By the indexes queue_dealt and queue_waiting. */
PG_STATEMENT(feed_look_statement,
    "WITH fleet AS MATERIALIZED ("
    "    SELECT coalesce(sum(slots), 0)::int8 AS slots"
    "    FROM workers"
    "    WHERE NOT is_draining AND beat_at > now() - interval '6 s'"
    ") "
    "SELECT fleet.slots,"
    "       (SELECT count(*) FROM ("
    "            SELECT FROM queue q"
    "            WHERE q.priority = p.priority"
    "              AND q.dispatched_at IS NOT NULL"
    "              AND " SQL_TENANT_RUNS("q.tenant")
    "            LIMIT 2 * fleet.slots"
    "        ) AS d),"
    "       (SELECT coalesce(sum(credits), 0)::int8"
    "        FROM lanes l"
    "        WHERE l.priority = p.priority AND l.expires_at > now()),"
    "       EXISTS (SELECT FROM queue q"
    "               WHERE q.priority = p.priority"
    "                 AND q.dispatched_at IS NULL"
    "                 AND q.ready_at <= now()),"
    "       EXISTS (" GATE_SQL_TENANTS_AT_REST "),"
    "       EXISTS (SELECT FROM gates) "
    "FROM (VALUES (0::int2), (1::int2), (2::int2)) AS p(priority) "
    "CROSS JOIN fleet "
    "ORDER BY p.priority");

/* By the index queue_waiting, which also gives the order.  (The IS TRUE keeps the deadline's own
 * index out of the planner's sight; an expired job is no candidate but due to end.) */
PG_STATEMENT(feed_candidates_statement,
    "SELECT q.job, q.tenant, q.priority, q.dispatch_seq, q.ready_at, q.deadline,"
    "       q.est_tokens, q.key_id, q.workflow, q.end_user, q.model "
    "FROM unnest($1::int4[]) WITH ORDINALITY AS room(jobs, number) "
    "CROSS JOIN LATERAL ("
    "    SELECT * FROM queue"
    "    WHERE queue.priority = (room.number - 1)::int2"
    "      AND dispatched_at IS NULL"
    "      AND ready_at <= now()"
    "      AND (deadline > now()) IS TRUE"
    "      AND " SQL_TENANT_RUNS("queue.tenant")
    "    ORDER BY ready_at, job"
    "    LIMIT room.jobs"
    ") AS q "
    "WHERE " SQL_PRIORITY_RUNS("(room.number - 1)::int4"));

/* The same tenant by tenant, by the index queue_backlog: a step per tenant that waits, and none for
 * the rows of one that is closed.  Of a tenant with gates a bounded part is looked at ($2). */
PG_STATEMENT(feed_walk_statement,
    "WITH RECURSIVE names AS ("
    "    (SELECT tenant FROM queue WHERE dispatched_at IS NULL ORDER BY tenant LIMIT 1)"
    "    UNION ALL"
    "    SELECT (SELECT q.tenant FROM queue q"
    "            WHERE q.dispatched_at IS NULL AND q.tenant > n.tenant"
    "            ORDER BY q.tenant LIMIT 1)"
    "    FROM names n"
    "    WHERE n.tenant IS NOT NULL"
    "), able AS MATERIALIZED ("
    "    SELECT n.tenant, g.is_there AS is_gated, count(*) OVER () AS tenants"
    "    FROM names n"
    "    CROSS JOIN LATERAL ("
    "        SELECT count(*) > 0 AS is_there,"
    "               bool_or(kind = 'tenant' AND until > now() AND most IS NULL) IS TRUE"
    "               AS is_closed"
    "        FROM gates"
    "        WHERE gates.tenant = n.tenant"
    "    ) AS g"
    "    WHERE n.tenant IS NOT NULL"
    "      AND NOT g.is_closed"
    "      AND " SQL_TENANT_RUNS("n.tenant")
    ") "
    "SELECT q.job, q.tenant, q.priority, q.dispatch_seq, q.ready_at, q.deadline,"
    "       q.est_tokens, q.key_id, q.workflow, q.end_user, q.model "
    "FROM unnest($1::int4[]) WITH ORDINALITY AS room(jobs, number) "
    "CROSS JOIN able a "
    "CROSS JOIN LATERAL ("
    "    SELECT * FROM queue"
    "    WHERE queue.tenant = a.tenant"
    "      AND queue.priority = (room.number - 1)::int2"
    "      AND dispatched_at IS NULL"
    "      AND ready_at <= now()"
    "      AND (deadline > now()) IS TRUE"
    "    ORDER BY ready_at"
    "    LIMIT least(room.jobs, CASE WHEN a.is_gated THEN $2::int4"
    "                                ELSE greatest(16, 2 * room.jobs / a.tenants) END)"
    ") AS q "
    "WHERE " SQL_PRIORITY_RUNS("(room.number - 1)::int4")
    " LIMIT $3::int4");

/* By queue_pkey.  A row that somebody else holds is being cancelled or expired. */
PG_STATEMENT(feed_deal_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::int4[])"
    "    WITH ORDINALITY AS input(job, seq, ord)"
    "), locked AS MATERIALIZED ("
    "    SELECT i.ord, q.*"
    "    FROM (SELECT * FROM input ORDER BY job) AS i"
    "    CROSS JOIN LATERAL ("
    "        SELECT job, tenant, priority, dispatch_seq FROM queue"
    "        WHERE queue.job = i.job"
    "          AND dispatch_seq = i.seq"
    "          AND dispatched_at IS NULL"
    "        FOR UPDATE SKIP LOCKED"
    "    ) AS q"
    "), dealt AS ("
    "    UPDATE queue q"
    "    SET dispatched_at = now() + l.ord * interval '1 us',"
    "        published_at = now(),"
    "        wait_reason = NULL,"
    "        wait_detail = NULL"
    "    FROM locked l"
    "    WHERE " SQL_KEYED("q.job", "l.job") ")"
    "SELECT job, tenant, priority, dispatch_seq FROM locked ORDER BY ord");

/* By the index queue_dealt; published_at is in no index, so the update is HOT. */
PG_STATEMENT(feed_republish_statement,
    "WITH stale AS MATERIALIZED ("
    "    SELECT q.job"
    "    FROM (VALUES (0::int2), (1::int2), (2::int2)) AS p(priority)"
    "    CROSS JOIN LATERAL ("
    "        SELECT job FROM queue"
    "        WHERE queue.priority = p.priority"
    "          AND dispatched_at < now() - interval '60 s'"
    "          AND coalesce(published_at, dispatched_at) < now() - interval '60 s'"
    "          AND (deadline > now()) IS TRUE"
    "          AND " SQL_TENANT_RUNS("queue.tenant")
    "        ORDER BY dispatched_at, job"
    "        LIMIT $1::int4"
    "    ) AS q"
    "    WHERE " SQL_PRIORITY_RUNS("p.priority")
    "    LIMIT $1::int4"
    "), locked AS MATERIALIZED ("
    "    SELECT q.*"
    "    FROM (SELECT * FROM stale ORDER BY job) AS s"
    "    CROSS JOIN LATERAL ("
    "        SELECT job, tenant, priority, dispatch_seq, dispatched_at FROM queue"
    "        WHERE queue.job = s.job AND dispatched_at IS NOT NULL"
    "        FOR UPDATE SKIP LOCKED"
    "    ) AS q"
    "), published AS ("
    "    UPDATE queue q SET published_at = clock_timestamp()"
    "    FROM locked l"
    "    WHERE " SQL_KEYED("q.job", "l.job") ")"
    "SELECT job, tenant, priority, dispatch_seq "
    "FROM locked ORDER BY dispatched_at, job");

/* By the index queue_dealt_tenant: what is dealt is bounded, what a tenant has waiting is not. */
PG_STATEMENT(feed_recall_statement,
    "WITH dealt AS MATERIALIZED ("
    "    SELECT q.job"
    "    FROM (SELECT tenant, bool_or(is_at_rest) AS is_at_rest"
    "          FROM (SELECT name AS tenant, true AS is_at_rest"
    "                FROM (" GATE_SQL_TENANTS_AT_REST ") AS r(name)"
    "                UNION ALL"
    "                SELECT tenant, false FROM gates"
    "                WHERE until > now() OR interval_us > 0) AS s"
    "          GROUP BY tenant) AS t"
    "    CROSS JOIN LATERAL ("
    "        SELECT job FROM queue"
    "        WHERE queue.tenant = t.tenant"
    "          AND dispatched_at IS NOT NULL"
    "          AND (t.is_at_rest OR " GATE_SQL_SHUTS("queue") ")"
    "        LIMIT $1::int4"
    "    ) AS q"
    "    LIMIT $1::int4"
    "), locked AS MATERIALIZED ("
    "    SELECT q.*"
    "    FROM (SELECT * FROM dealt ORDER BY job) AS d"
    "    CROSS JOIN LATERAL ("
    "        SELECT job FROM queue"
    "        WHERE queue.job = d.job AND dispatched_at IS NOT NULL"
    "        FOR UPDATE SKIP LOCKED"
    "    ) AS q"
    ")"
    "UPDATE queue q SET dispatched_at = NULL, published_at = NULL "
    "FROM locked l "
    "WHERE " SQL_KEYED("q.job", "l.job")
    " RETURNING q.job");

PG_STATEMENT(feed_grant_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::int4[], $2::int4[], $3::int4[])"
    "    AS input(priority, shard, credits)"
    "), locked AS MATERIALIZED ("
    "    SELECT i.*"
    "    FROM (SELECT * FROM input ORDER BY priority, shard) AS i"
    "    CROSS JOIN LATERAL ("
    "        SELECT FROM lanes l"
    "        WHERE l.priority = i.priority"
    "          AND l.shard = i.shard"
    "          AND (l.credits < i.credits - i.credits / 4"
    "               OR l.credits > i.credits"
    "               OR l.expires_at < now() + interval '240 s')"
    "        FOR UPDATE SKIP LOCKED"
    "    ) AS l"
    ")"
    "UPDATE lanes l "
    "SET credits = i.credits, expires_at = now() + interval '300 s' "
    "FROM locked i "
    "WHERE l.priority = i.priority AND l.shard = i.shard");

void feed_look(struct pg *pg, pg_done_fn *done, void *arg)
{
    pg_query(pg, &feed_look_statement, NULL, 0, done, arg);
}

bool feed_look_read(const struct pg_result *result, struct feed_look *out)
{
    memset(out, 0, sizeof(*out));
    if (pg_rows(result) != PRIORITY_COUNT)
        return false;
    out->slots = pg_get_int(result, 0, 0);
    out->has_tenants_at_rest = pg_get_bool(result, 0, 4);
    out->has_gates = pg_get_bool(result, 0, 5);
    for (int p = 0; p < PRIORITY_COUNT; p++) {
        out->of[p].dealt = pg_get_int(result, p, 1);
        out->of[p].credits = pg_get_int(result, p, 2);
        out->of[p].has_backlog = pg_get_bool(result, p, 3);
    }
    return true;
}

void feed_candidates(struct pg *pg, const int limits[PRIORITY_COUNT], bool has_gates,
                     pg_done_fn *done, void *arg)
{
    struct pg_value elements[PRIORITY_COUNT];
    struct pg_value values[3] = {[1] = pg_int4(FEED_GATED_ROWS), [2] = pg_int4(FEED_WALK_MAX)};

    for (int p = 0; p < PRIORITY_COUNT; p++)
        elements[p] = pg_int4(limits[p]);
    values[0] = pg_array(PG_INT4, elements, PRIORITY_COUNT);
    if (has_gates)
        pg_query(pg, &feed_walk_statement, values, 3, done, arg);
    else
        pg_query(pg, &feed_candidates_statement, values, 1, done, arg);
}

static void copy_label(char *out, size_t size, const struct pg_result *result, int row, int column)
{
    const char *text = pg_get_text(result, row, column, NULL);

    snprintf(out, size, "%s", text ? text : "");
}

void feed_candidate_read(const struct pg_result *result, int row, struct feed_candidate *out)
{
    const char *tenant = pg_get_text(result, row, 1, NULL);

    out->job = pg_get_uuid(result, row, 0);
    snprintf(out->tenant, sizeof(out->tenant), "%s", tenant ? tenant : "");
    out->priority = (enum priority)pg_get_int(result, row, 2);
    out->dispatch_seq = (int)pg_get_int(result, row, 3);
    out->ready_at_us = pg_get_time(result, row, 4);
    out->deadline_us = pg_get_time(result, row, 5);
    out->est_tokens = pg_get_int(result, row, 6);
    copy_label(out->key_id, sizeof(out->key_id), result, row, 7);
    copy_label(out->workflow, sizeof(out->workflow), result, row, 8);
    copy_label(out->end_user, sizeof(out->end_user), result, row, 9);
    copy_label(out->model, sizeof(out->model), result, row, 10);
}

void feed_deal(struct pg *pg, int64_t epoch, const struct feed_candidate *const *jobs, size_t count,
               pg_done_fn *done, void *arg)
{
    struct pg_value ids[FEED_BATCH_MAX], seqs[FEED_BATCH_MAX];
    struct pg_value values[2];

    assert(count <= FEED_BATCH_MAX);
    for (size_t i = 0; i < count; i++) {
        ids[i] = pg_uuid(jobs[i]->job);
        seqs[i] = pg_int4(jobs[i]->dispatch_seq);
    }
    values[0] = pg_array(PG_UUID, ids, count);
    values[1] = pg_array(PG_INT4, seqs, count);
    leader_statement(pg, epoch, &feed_deal_statement, values, 2, done, arg);
}

void feed_republish(struct pg *pg, int64_t epoch, int limit, pg_done_fn *done, void *arg)
{
    struct pg_value value = pg_int4(limit);

    leader_statement(pg, epoch, &feed_republish_statement, &value, 1, done, arg);
}

void feed_ticket_read(const struct pg_result *result, int row, struct ticket *out,
                      enum priority *priority)
{
    const char *tenant = pg_get_text(result, row, 1, NULL);

    out->job = pg_get_uuid(result, row, 0);
    snprintf(out->tenant, sizeof(out->tenant), "%s", tenant ? tenant : "");
    *priority = (enum priority)pg_get_int(result, row, 2);
    out->dispatch_seq = (int)pg_get_int(result, row, 3);
}

void feed_recall(struct pg *pg, int64_t epoch, int limit, pg_done_fn *done, void *arg)
{
    struct pg_value value = pg_int4(limit);

    leader_statement(pg, epoch, &feed_recall_statement, &value, 1, done, arg);
}

/* Few credits go to few shards: a submit takes those of one row only. */
static int64_t shard_credits(int64_t credits, int shard)
{
    int64_t shards = credits / CREDITS_PER_SHARD;

    shards = shards < 1 ? 1 : shards > LANE_SHARDS ? LANE_SHARDS : shards;
    if (shard >= shards)
        return 0;
    return credits / shards + (shard < credits % shards);
}

void feed_grant(struct pg *pg, int64_t epoch, const int64_t credits[PRIORITY_COUNT],
                pg_done_fn *done, void *arg)
{
    enum { ROWS = PRIORITY_COUNT * LANE_SHARDS };
    struct pg_value columns[3][ROWS];
    struct pg_value values[3];

    for (int row = 0; row < ROWS; row++) {
        int priority = row / LANE_SHARDS, shard = row % LANE_SHARDS;

        columns[0][row] = pg_int4(priority);
        columns[1][row] = pg_int4(shard);
        columns[2][row] = pg_int4((int32_t)shard_credits(credits[priority], shard));
    }
    for (int i = 0; i < 3; i++)
        values[i] = pg_array(PG_INT4, columns[i], ROWS);
    leader_statement(pg, epoch, &feed_grant_statement, values, 3, done, arg);
}
