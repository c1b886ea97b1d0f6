/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of rescue: workers that went silent, and the runs they or a hang left behind. */
#include "common/model/rescue_store.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/model/end_sql.h"
#include "common/model/leader_store.h"
#include "common/model/sql.h"

_Static_assert(RESCUE_STALE_S == 6 && RESCUE_CRASHES_COUNTED == 8 && RESCUE_WORKERS_MAX == 64,
               "the SQL repeats them");

PG_STATEMENT(rescue_look_statement,
    "SELECT t.workers, t.stale, w.id, w.name,"
    "       (extract(epoch FROM now() - w.beat_at) * 1000)::int8 "
    "FROM (SELECT count(*) AS workers,"
    "             count(*) FILTER (WHERE beat_at < now() - interval '6 s') AS stale"
    "      FROM workers) AS t "
    "LEFT JOIN (SELECT id, name, beat_at FROM workers"
    "           WHERE beat_at < now() - interval '6 s'"
    "           ORDER BY beat_at"
    "           LIMIT 64) AS w ON true");

/* A beat that came meanwhile saves the worker. */
PG_STATEMENT(rescue_declare_lost_statement,
    "DELETE FROM workers "
    "WHERE id = ANY ($1::uuid[])"
    "  AND beat_at < now() - interval '6 s'");

/* Walks the index runs_worker from one worker to the next: a step per worker, not per run. */
#define SQL_LOST_WORKERS                                                 \
    "owners AS ("                                                        \
    "    (SELECT worker FROM runs ORDER BY worker LIMIT 1)"              \
    "    UNION ALL"                                                      \
    "    SELECT (SELECT r.worker FROM runs r WHERE r.worker > o.worker"  \
    "            ORDER BY r.worker LIMIT 1)"                             \
    "    FROM owners o"                                                  \
    "    WHERE o.worker IS NOT NULL"                                     \
    "), lost AS MATERIALIZED ("                                          \
    "    SELECT o.worker FROM owners o"                                  \
    "    WHERE o.worker IS NOT NULL"                                     \
    "      AND NOT EXISTS (SELECT FROM workers w WHERE w.id = o.worker)" \
    ")"

/* What tells that a run is lost; the second and third read all of runs, which is as narrow as the
 * fleet has slots.  An event newer than the call is looked for only where the call is old. */
#define SQL_FOUND                                                            \
    "found AS MATERIALIZED ("                                                \
    "    SELECT DISTINCT ON (job) job, run_token, detector"                  \
    "    FROM ("                                                             \
    "        SELECT r.job, r.run_token, 'heartbeat' AS detector"             \
    "        FROM lost l"                                                    \
    "        CROSS JOIN LATERAL (SELECT job, run_token FROM runs"            \
    "                            WHERE runs.worker = l.worker"               \
    "                            LIMIT $1::int4) AS r"                       \
    "        UNION ALL"                                                      \
    "        (SELECT job, run_token, 'lease' FROM runs"                      \
    "         WHERE lease_until < now()"                                     \
    "         LIMIT $1::int4)"                                               \
    "        UNION ALL"                                                      \
    "        (SELECT r.job, r.run_token, 'silent' FROM runs r"               \
    "         WHERE $2::bool"                                                \
    "           AND r.silent_s > 0"                                          \
    "           AND r.call_started_at + r.silent_s * interval '1 s' < now()" \
    "           AND coalesce((SELECT e.at FROM events e"                     \
    "                         WHERE e.job = r.job AND e.run = r.run"         \
    "                         ORDER BY e.seq DESC"                           \
    "                         LIMIT 1), r.call_started_at)"                  \
    "               + r.silent_s * interval '1 s' < now()"                   \
    "         LIMIT $1::int4)"                                               \
    "    ) AS f"                                                             \
    "    ORDER BY job, detector"                                             \
    "    LIMIT $1::int4"                                                     \
    ")"

/* Judged again under the lock.  A run in somebody's hands just now is not lost, or is next time. */
#define SQL_LOCKED \
    SQL(                                                                                  \
    "locked AS MATERIALIZED ("                                                            \
    "    SELECT f.detector, r.*, r.crashes + 1 AS crashed,"                               \
    "           CASE WHEN r.cancel_requested THEN 'cancelled'"                            \
    "                WHEN r.deadline <= now() THEN 'expired'"                             \
    "                ELSE 'queued' END AS fate,"                                          \
    "           now() + (d.low + random() * (d.high - d.low)) * interval '1 ms' AS ready" \
    "    FROM (SELECT * FROM found ORDER BY job) AS f"                                    \
    "    CROSS JOIN LATERAL ("                                                            \
    "        SELECT job, tenant, priority, run, calls, attempts, deferrals, crashes,"     \
    "               started_at, cancel_requested, deadline, dispatch_seq, est_tokens,"    \
    "               key_id, workflow, end_user, model"                                           \
    "        FROM runs"                                                                   \
    "        WHERE runs.job = f.job"                                                      \
    "          AND runs.run_token = f.run_token"                                          \
    "          AND (f.detector <> 'lease' OR runs.lease_until < now())"                   \
    "          AND (f.detector <> 'silent'"                                               \
    "               OR runs.call_started_at + runs.silent_s * interval '1 s' < now())"    \
    "        FOR UPDATE SKIP LOCKED"                                                      \
    "    ) AS r"                                                                          \
    "    CROSS JOIN LATERAL (SELECT ($3::int8[])[least(r.crashes, 7) + 1] AS low,"        \
    "                               ($4::int8[])[least(r.crashes, 7) + 1] AS high) AS d"  \
    "), gone AS ("                                                                        \
    "    DELETE FROM runs r USING locked l WHERE " SQL_KEYED("r.job", "l.job") ")")

/* The ledger: nobody knows what the provider did, so the whole worst case stays booked. */
#define SQL_DOUBT \
    SQL(                                                                                 \
    "doubtful AS MATERIALIZED ("                                                         \
    "    SELECT c.*"                                                                     \
    "    FROM (SELECT job FROM locked ORDER BY job) AS l"                                \
    "    CROSS JOIN LATERAL ("                                                           \
    "        SELECT job, call FROM calls"                                                \
    "        WHERE calls.job = l.job AND calls.state = 'sent'"                           \
    "        ORDER BY call"                                                              \
    "        FOR NO KEY UPDATE"                                                          \
    "    ) AS c"                                                                         \
    "), doubted AS ("                                                                    \
    "    UPDATE calls c"                                                                 \
    "    SET state = 'unknown', error_type = 'worker_lost', cost_nano = c.reserved_nano" \
    "    FROM doubtful d"                                                                \
    "    WHERE " SQL_KEYED("c.job", "d.job")                                             \
    "      AND " SQL_KEYED("c.call", "d.call") ")")

/* Back to the queue, if it does not end.  Either way the attempt that was cut is void past what was
 * stored of it, unless the worker had said so itself before it was lost.  Of a call under way
 * nobody knows what was shown live, so it is void even where nothing of it was stored. */
#define SQL_BACK \
    SQL(                                                                                      \
    "queued AS ("                                                                             \
    "    INSERT INTO queue (job, tenant, priority, ready_at, deadline, dispatch_seq,"         \
    "                       est_tokens, wait_reason, wait_detail, run, calls, attempts,"      \
    "                       deferrals, crashes, started_at, key_id, workflow, end_user,"      \
    "                       model)"                                                           \
    "    SELECT job, tenant, priority, ready, deadline, dispatch_seq + 1, est_tokens,"        \
    "           'retry', 'worker_lost', run, calls, attempts, deferrals, crashed, started_at," \
    "           key_id, workflow, end_user, model"                                            \
    "    FROM locked"                                                                         \
    "    WHERE fate = 'queued'"                                                               \
    "), superseded AS ("                                                                      \
    "    INSERT INTO events (job, run, seq, kind, attempt, data)"                             \
    "    SELECT l.job, l.run, " SQL_SEQ_SUPERSEDED ", 'attempt.superseded', l.calls,"         \
    "           json_build_object('attempt', l.calls, 'valid_bytes', coalesce(o.bytes, 0),"   \
    "                             'reason', 'worker_lost')"                                   \
    "    FROM locked l"                                                                       \
    "    CROSS JOIN LATERAL ("                                                                \
    "        SELECT max(e.byte_offset + octet_length(e.text))"                                \
    "                   FILTER (WHERE e.kind = 'output.delta') AS bytes,"                     \
    "               bool_or(e.kind LIKE 'output.%') AS has_output,"                           \
    "               bool_or(e.kind = 'attempt.superseded') AS is_void"                        \
    "        FROM events e"                                                                   \
    "        WHERE e.job = l.job AND e.run = l.run AND e.attempt = l.calls"                   \
    "    ) AS o"                                                                              \
    "    WHERE o.is_void IS NOT TRUE"                                                         \
    "      AND (o.has_output OR (l.job, l.calls) IN (SELECT job, call FROM doubtful))"        \
    "    ON CONFLICT DO NOTHING"                                                              \
    "), retrying AS ("                                                                        \
    "    INSERT INTO events (job, run, seq, kind, attempt, data)"                             \
    "    SELECT job, run, " SQL_SEQ_RETRYING ", 'job.retrying', calls,"                       \
    "           json_build_object('attempt', calls, 'reason', 'worker_lost',"                 \
    "                             'at', " SQL_RFC3339("ready") ")"                            \
    "    FROM locked"                                                                         \
    "    WHERE fate = 'queued'"                                                               \
    "    ON CONFLICT DO NOTHING"                                                              \
    "), moved AS ("                                                                           \
    "    INSERT INTO counts (tenant, priority, state, delta)"                                 \
    "    SELECT tenant, priority, s.state, sum(s.sign)"                                       \
    "    FROM locked, (VALUES ('running', -1), ('queued', 1)) AS s(state, sign)"              \
    "    WHERE fate = 'queued'"                                                               \
    "    GROUP BY tenant, priority, s.state"                                                  \
    ")")

#define SQL_ENDED_AS(state, outcome)                                                        \
    "SELECT job, tenant, priority, run, 'running' AS from_state, '" state "' AS state,"     \
    "       attempts, deferrals, crashed AS crashes, started_at, cancel_requested,"         \
    "       error_type, error_code, error_message, error_retryable, result, result_sha256," \
    "       finish_reason "                                                                 \
    "FROM locked, (SELECT " outcome ") AS o(error_type, error_code, error_message,"         \
    "     error_retryable, result, result_sha256, finish_reason) "                          \
    "WHERE fate = '" state "'"

PG_STATEMENT(rescue_runs_statement,
    "WITH RECURSIVE " SQL_LOST_WORKERS ", " SQL_FOUND ", " SQL_LOCKED ", " SQL_DOUBT ", " SQL_BACK
    ", ended AS MATERIALIZED (" SQL_ENDED_AS("cancelled", END_SQL_CANCELLED)
    " UNION ALL " SQL_ENDED_AS("expired", END_SQL_EXPIRED) "), " END_SQL_CLOSE
    "SELECT job, priority, fate, detector, crashed "
    "FROM locked ORDER BY job");

void rescue_look(struct pg *pg, pg_done_fn *done, void *arg)
{
    pg_query(pg, &rescue_look_statement, NULL, 0, done, arg);
}

bool rescue_look_read(const struct pg_result *result, struct rescue_look *out)
{
    int rows = pg_rows(result);

    memset(out, 0, sizeof(*out));
    if (rows < 1 || rows > RESCUE_WORKERS_MAX)
        return false;
    out->workers = pg_get_int(result, 0, 0);
    out->stale = pg_get_int(result, 0, 1);
    for (int row = 0; row < rows && !pg_is_null(result, row, 2); row++) {
        out->of[row].id = pg_get_uuid(result, row, 2);
        snprintf(out->of[row].name, sizeof(out->of[row].name), "%s",
                 pg_get_text(result, row, 3, NULL));
        out->of[row].silent_ms = pg_get_int(result, row, 4);
        out->count++;
    }
    return true;
}

void rescue_runs(struct pg *pg, int64_t epoch, const struct rescue_order *order, pg_done_fn *done,
                 void *arg)
{
    struct pg_value workers[RESCUE_WORKERS_MAX];
    struct pg_value low[RESCUE_CRASHES_COUNTED], high[RESCUE_CRASHES_COUNTED];
    struct pg_value lost, found[4];
    struct pg_step steps[] = {
        {.statement = &rescue_declare_lost_statement, .values = &lost, .count = 1},
        {.statement = &rescue_runs_statement, .values = found, .count = 4},
    };

    assert(order->worker_count <= RESCUE_WORKERS_MAX);
    for (int i = 0; i < order->worker_count; i++)
        workers[i] = pg_uuid(order->workers[i]);
    for (int i = 0; i < RESCUE_CRASHES_COUNTED; i++) {
        low[i] = pg_int8(order->delays[i].min_ms);
        high[i] = pg_int8(order->delays[i].max_ms);
    }
    lost = pg_array(PG_UUID, workers, (size_t)order->worker_count);
    found[0] = pg_int4(order->limit);
    found[1] = pg_bool(order->looks_for_silence);
    found[2] = pg_array(PG_INT8, low, RESCUE_CRASHES_COUNTED);
    found[3] = pg_array(PG_INT8, high, RESCUE_CRASHES_COUNTED);
    if (order->worker_count > 0)
        leader_transaction(pg, epoch, steps, 2, done, arg);
    else
        leader_transaction(pg, epoch, steps + 1, 1, done, arg);
}

bool rescued_read(const struct pg_result *result, int row, struct rescued *out)
{
    const char *state = pg_get_text(result, row, 2, NULL);

    out->job = pg_get_uuid(result, row, 0);
    out->priority = (enum priority)pg_get_int(result, row, 1);
    out->detector = pg_get_text(result, row, 3, NULL);
    out->crashes = (int)pg_get_int(result, row, 4);
    return state && job_state_parse(state, &out->state);
}
