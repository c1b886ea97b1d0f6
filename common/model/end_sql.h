/* SPDX-License-Identifier: Apache-2.0 */
/* SQL fragments of every statement that ends jobs: one meaning of "ended" for worker, producer and
 * scheduler. */
#ifndef COMMON_MODEL_END_SQL_H
#define COMMON_MODEL_END_SQL_H

#include "common/model/job.h"
#include "common/model/sql.h"
#include "common/model/usage_sql.h"

/* Closing events have fixed numbers, see enum event_closing_seq. */
#define SQL_SEQ_SUPERSEDED "2147418112"
#define SQL_SEQ_RETRYING "2147418113"
#define SQL_SEQ_ENDED "2147418114"
_Static_assert(SEQ_SUPERSEDED == 2147418112 && SEQ_RETRYING == 2147418113 &&
                   SEQ_ENDED == 2147418114,
               "the SQL fragments repeat these");

/* What a job without an answer of its own has in the columns of `ended` from error_type on, in
 * their order: error_type, error_code, error_message, error_retryable, result, result_sha256,
 * finish_reason. */
#define END_SQL_NO_RESULT "NULL::text, NULL::bytea, NULL::text"
#define END_SQL_CANCELLED \
    "'cancelled', NULL::text, 'The job was cancelled.', false, " END_SQL_NO_RESULT
#define END_SQL_EXPIRED                                                         \
    "'deadline', NULL::text, 'The deadline passed before the job had ended.', " \
    "true, " END_SQL_NO_RESULT

/* The columns that the CTE before END_SQL_CLOSE must have, which is called `ended`: the rows that
 * left queue or runs for good in this statement, one per job.  from_state is 'queued' or
 * 'running', state the terminal one, run the number of the last run (0: never claimed). */
#define END_SQL_COLUMNS                                                                        \
    "job, tenant, priority, run, from_state, state, attempts, deferrals, crashes, started_at," \
    " cancel_requested, error_type, error_code, error_message, error_retryable, result,"       \
    " result_sha256, finish_reason"

/* CTEs `closed`, `told`, `owed`, `tallied`, `used`: the jobs row finished, the closing event, the
 * webhook rows, the counts, the usage.  A terminal state absorbs.  `owed` has a row (job) per
 * delivery. */
#define END_SQL_CLOSE \
    SQL(                                                                                 \
    "closed AS ("                                                                        \
    "    UPDATE jobs j"                                                                  \
    "    SET state = e.state,"                                                           \
    "        started_at = e.started_at,"                                                 \
    "        ended_at = clock_timestamp(),"                                              \
    "        runs = e.run,"                                                              \
    "        attempts = e.attempts,"                                                     \
    "        deferrals = e.deferrals,"                                                   \
    "        crashes = e.crashes,"                                                       \
    "        cancel_requested = e.cancel_requested,"                                     \
    "        error_type = e.error_type,"                                                 \
    "        error_code = e.error_code,"                                                 \
    "        error_message = e.error_message,"                                           \
    "        error_retryable = e.error_retryable,"                                       \
    "        result = e.result,"                                                         \
    "        result_sha256 = e.result_sha256,"                                           \
    "        finish_reason = e.finish_reason"                                            \
    "    FROM ended e"                                                                   \
    "    WHERE " SQL_KEYED("j.id", "e.job")                                              \
    "      AND j.state IS NULL"                                                          \
    "    RETURNING j.id AS job, j.tenant, 'job.' || j.state AS kind, j.webhook_url,"     \
    "              j.webhook_events, j.key_id, j.workflow, j.end_user, j.model AS route,"\
    "              j.started_at, j.ended_at, j.run_at"                                   \
    "), told AS ("                                                                       \
    "    INSERT INTO events (job, run, seq, kind)"                                       \
    "    SELECT job, run, " SQL_SEQ_ENDED ", 'job.' || state FROM ended"                 \
    "    ON CONFLICT DO NOTHING"                                                         \
    "), owed AS ("                                                                       \
    "    INSERT INTO deliveries (id, tenant, endpoint, url, type, job)"                  \
    "    SELECT id_make(), c.tenant, t.endpoint, t.url, c.kind, c.job"                   \
    "    FROM closed c"                                                                  \
    "    CROSS JOIN LATERAL ("                                                           \
    "        SELECT id AS endpoint, url, events"                                         \
    "        FROM endpoints"                                                             \
    "        WHERE endpoints.tenant = c.tenant"                                          \
    "          AND deleted_at IS NULL"                                                   \
    "          AND disabled_at IS NULL"                                                  \
    "        UNION ALL"                                                                  \
    "        SELECT NULL, c.webhook_url, c.webhook_events"                               \
    "        WHERE c.webhook_url IS NOT NULL"                                            \
    "    ) AS t"                                                                         \
    "    WHERE t.events IS NULL OR c.kind = ANY (t.events)"                              \
    "    RETURNING job"                                                                  \
    "), tallied AS ("                                                                    \
    "    INSERT INTO counts (tenant, priority, state, delta)"                            \
    "    SELECT tenant, priority, s.state, sum(s.sign)"                                  \
    "    FROM ended"                                                                     \
    "    CROSS JOIN LATERAL (VALUES (from_state, -1), (ended.state, 1))"                 \
    "        AS s(state, sign)"                                                          \
    "    GROUP BY tenant, priority, s.state"                                             \
    "), " USAGE_SQL_JOBS)

/* In the SELECT list of a statement with END_SQL_CLOSE: does the job have webhooks to send? */
#define END_SQL_HAS_DELIVERIES(job) "(" job ") IN (SELECT job FROM owed)"

#endif
