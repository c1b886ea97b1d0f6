/* SPDX-License-Identifier: Apache-2.0 */
/* SQL fragments of the statements that show jobs: one look at jobs, queue, runs and calls. */
#ifndef COMMON_MODEL_JOB_SQL_H
#define COMMON_MODEL_JOB_SQL_H

#include "common/io/pg.h"
#include "common/model/gate_sql.h"
#include "common/model/job_view.h"
#include "common/model/sql.h"

/* A CTE: is there a worker that takes jobs? */
#define JOB_SQL_ALIVE                                                      \
    "alive AS MATERIALIZED ("                                              \
    "    SELECT EXISTS (SELECT FROM workers WHERE NOT is_draining"         \
    "                   AND beat_at > now() - interval '6 s') AS is_there" \
    ")"

/* After `jobs j`, with `alive`.  A job is in exactly one of queue and runs, or has a state; one
 * statement sees one of the three.  Columns of the ledger come as l.*, of the waiting as w.*.
 *
 * The place in the queue is among the tenant's own jobs of the priority: the dealt ones first, as
 * they were dealt (index queue_dealt), then the others as they became ready (queue_backlog).  It is
 * counted up to 1,000. */
#define JOB_SQL_JOINS \
    SQL(                                                                                        \
    " LEFT JOIN queue q ON " SQL_KEYED("q.job", "j.id")                                         \
    " LEFT JOIN runs r ON " SQL_KEYED("r.job", "j.id")                                          \
    " LEFT JOIN LATERAL ("                                                                      \
    "    SELECT count(*) FILTER (WHERE c.state = 'settled'"                                     \
    "                            AND (c.input_tokens IS NOT NULL"                               \
    "                                 OR c.output_tokens IS NOT NULL)) > 0 AS has_usage,"       \
    "           sum(c.input_tokens) FILTER (WHERE c.state = 'settled')::int8 AS input,"         \
    "           sum(c.output_tokens) FILTER (WHERE c.state = 'settled')::int8 AS output,"       \
    "           sum(c.cached_input_tokens) FILTER (WHERE c.state = 'settled')::int8 AS cached," \
    "           bool_or(c.is_usage_estimated) FILTER (WHERE c.state = 'settled') AS"            \
    "               is_estimated,"                                                              \
    "           sum(c.cost_nano) FILTER (WHERE c.state = 'settled')::int8 AS cost,"             \
    "           sum(c.cost_nano) FILTER (WHERE c.state = 'unknown')::int8 AS unknown_cost"      \
    "    FROM calls c"                                                                          \
    "    WHERE c.job = j.id"                                                                    \
    " ) AS l ON true"                                                                           \
    " LEFT JOIN LATERAL ("                                                                      \
    "    SELECT q.ready_at > now() AS is_early,"                                                \
    "           EXISTS (SELECT FROM pauses WHERE kind = 'priority'"                             \
    "               AND name = (ARRAY['high', 'normal',"                                        \
    "                   'low'])[q.priority + 1]) AS is_class_paused,"                           \
    "           EXISTS (SELECT FROM pauses WHERE kind = 'tenant' AND name = q.tenant)"          \
    "               AS is_tenant_paused,"                                                       \
    "           EXISTS (SELECT FROM tenants t WHERE t.id = q.tenant AND t.is_disabled)"         \
    "               AS is_tenant_disabled"                                                      \
    "    WHERE q.job IS NOT NULL"                                                               \
    " ) AS w ON true"                                                                           \
    " LEFT JOIN LATERAL ("                                                                      \
    "    SELECT g.reason, g.detail, CASE WHEN g.until > now() THEN g.until END AS until"        \
    "    FROM gates g"                                                                          \
    "    WHERE q.job IS NOT NULL AND g.tenant = q.tenant"                                       \
    "      AND (g.until > now() OR g.interval_us > 0)"                                          \
    "      AND (q.dispatched_at < g.closed_at) IS NOT FALSE"                                    \
    "      AND " GATE_SQL_MATCHES("g", "q")                                                     \
    "    ORDER BY g.until DESC"                                                                 \
    "    LIMIT 1"                                                                               \
    " ) AS shut ON NOT w.is_early"                                                              \
    " LEFT JOIN LATERAL ("                                                                      \
    "    SELECT count(*) AS before"                                                             \
    "    FROM ("                                                                                \
    "        (SELECT 1 FROM queue d"                                                            \
    "         WHERE d.priority = q.priority AND d.dispatched_at IS NOT NULL"                    \
    "           AND d.tenant = q.tenant"                                                        \
    "           AND (q.dispatched_at IS NULL"                                                   \
    "                OR (d.dispatched_at, d.job) < (q.dispatched_at, q.job))"                   \
    "         LIMIT 1000)"                                                                      \
    "        UNION ALL"                                                                         \
    "        (SELECT 1 FROM queue u"                                                            \
    "         WHERE u.tenant = q.tenant AND u.priority = q.priority"                            \
    "           AND u.dispatched_at IS NULL AND q.dispatched_at IS NULL"                        \
    "           AND u.ready_at <= q.ready_at"                                                   \
    "           AND (u.ready_at, u.job) < (q.ready_at, q.job)"                                  \
    "         LIMIT 1000)"                                                                      \
    "    ) AS others"                                                                           \
    "    WHERE NOT w.is_early"                                                                  \
    " ) AS place ON NOT w.is_early")

/* What job_view_of_row reads, from JOB_SQL_JOINS. */
#define JOB_SQL_COLUMNS                                                                        \
    "j.id,"                                                                                    \
    " coalesce(j.state, CASE WHEN r.job IS NOT NULL THEN 'running' ELSE 'queued' END),"        \
    " j.priority, j.workflow, j.end_user, j.purpose, j.data_class, j.metadata::text, j.model," \
    " coalesce(j.started_at, r.started_at, q.started_at), j.ended_at, j.run_at, j.deadline,"   \
    " coalesce(r.attempts, q.attempts, j.attempts),"                                           \
    " coalesce(r.deferrals, q.deferrals, j.deferrals),"                                        \
    " coalesce(r.crashes, q.crashes, j.crashes),"                                              \
    " coalesce(r.cancel_requested, q.cancel_requested, j.cancel_requested), j.replay_of,"      \
    " coalesce(j.max_cost_nano, j.worst_case_nano), j.worst_case_nano, j.key_id,"              \
    " CASE WHEN w.is_early THEN coalesce(q.wait_reason, 'retry')"                              \
    "      WHEN w.is_class_paused OR w.is_tenant_paused OR w.is_tenant_disabled"               \
    "          THEN 'paused'"                                                                  \
    "      WHEN q.job IS NULL THEN NULL"                                                       \
    "      WHEN shut.reason IS NOT NULL THEN shut.reason"                                      \
    "      WHEN NOT (SELECT is_there FROM alive) THEN 'no_worker'"                             \
    "      ELSE 'position' END,"                                                               \
    " CASE WHEN w.is_early THEN q.wait_detail"                                                 \
    "      WHEN w.is_class_paused THEN 'the priority is paused'"                               \
    "      WHEN w.is_tenant_paused THEN 'the tenant is paused'"                                \
    "      WHEN w.is_tenant_disabled THEN 'the tenant is disabled'"                            \
    "      ELSE shut.detail END,"                                                              \
    " CASE WHEN w.is_early THEN q.ready_at"                                                    \
    "      WHEN NOT (w.is_class_paused OR w.is_tenant_paused OR w.is_tenant_disabled)"         \
    "           THEN shut.until END,"                                                          \
    " CASE WHEN q.job IS NOT NULL AND place.before < 1000 THEN place.before + 1 END,"          \
    " j.error_type, j.error_code, j.error_message, j.error_retryable,"                         \
    " l.has_usage, l.input, l.output, l.cached, l.is_estimated, l.cost, l.unknown_cost"
enum { JOB_SQL_COLUMN_COUNT = 36 };

/* The columns from `first` on; pointers are borrowed from the result.  False: nonsense stands there
 * (a state of a newer version). */
bool job_view_of_row(const struct pg_result *result, int row, int first,
                     struct job_view *out) MUST_CHECK;

#endif
