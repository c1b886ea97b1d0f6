/* SPDX-License-Identifier: Apache-2.0 */
/* SQL fragments of usage: what the statements that end jobs must add, and the columns of sums.
 * (Statements on calls add nothing: migrations/0003_usage.sql has a trigger on the ledger.) */
#ifndef COMMON_MODEL_USAGE_SQL_H
#define COMMON_MODEL_USAGE_SQL_H

#include "common/model/sql.h"

/* CTE `used`: counts the jobs of `closed` where their last call counts, by calls_pkey. */
#define USAGE_SQL_JOBS \
    SQL(                                                                                     \
    "used AS ("                                                                              \
    "    INSERT INTO usage_deltas (tenant, day, hour, route, workflow, provider, model,"     \
    "                              key_id, end_user, jobs, queue_wait_ms)"                   \
    "    SELECT c.tenant, coalesce(l.budget_day, usage_day(c.tenant, c.ended_at)),"          \
    "           date_trunc('hour', coalesce(l.started_at, c.ended_at), 'UTC'), c.route,"     \
    "           c.workflow, l.provider, l.model, c.key_id, c.end_user, 1,"                   \
    "           coalesce(greatest(extract(epoch FROM c.started_at"                           \
    "                                                - greatest(id_time(c.job), c.run_at))"  \
    "                             * 1000, 0), 0)"                                            \
    "    FROM closed c"                                                                      \
    "    LEFT JOIN LATERAL ("                                                                \
    "        SELECT budget_day, started_at, provider, model"                                 \
    "        FROM calls"                                                                     \
    "        WHERE " SQL_KEYED("calls.job", "c.job")                                         \
    "        ORDER BY call DESC"                                                             \
    "        LIMIT 1"                                                                        \
    "    ) AS l ON true"                                                                     \
    ")")

/* The columns that are sums, in deltas and roll-ups alike; summing them; and adding to a roll-up
 * (called u) what is there already. */
#define USAGE_SQL_COLUMNS \
    SQL(\
    " jobs, calls, retries, errors, input_tokens, output_tokens," \
    " cached_input_tokens, cache_hits, cost_nano, unknown_calls, unknown_nano," \
    " queue_wait_ms")

#define USAGE_SQL_SUMS \
    SQL(\
    " usage_sum(jobs) AS jobs, usage_sum(calls) AS calls," \
    " usage_sum(retries) AS retries, usage_sum(errors) AS errors," \
    " usage_sum(input_tokens) AS input_tokens," \
    " usage_sum(output_tokens) AS output_tokens," \
    " usage_sum(cached_input_tokens) AS cached_input_tokens," \
    " usage_sum(cache_hits) AS cache_hits, usage_sum(cost_nano) AS cost_nano," \
    " usage_sum(unknown_calls) AS unknown_calls," \
    " usage_sum(unknown_nano) AS unknown_nano," \
    " usage_sum(queue_wait_ms) AS queue_wait_ms")

#define USAGE_SQL_ADD \
    SQL(\
    " DO UPDATE SET" \
    " jobs = u.jobs + excluded.jobs, calls = u.calls + excluded.calls," \
    " retries = u.retries + excluded.retries, errors = u.errors + excluded.errors," \
    " input_tokens = u.input_tokens + excluded.input_tokens," \
    " output_tokens = u.output_tokens + excluded.output_tokens," \
    " cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens," \
    " cache_hits = u.cache_hits + excluded.cache_hits," \
    " cost_nano = u.cost_nano + excluded.cost_nano," \
    " unknown_calls = u.unknown_calls + excluded.unknown_calls," \
    " unknown_nano = u.unknown_nano + excluded.unknown_nano," \
    " queue_wait_ms = u.queue_wait_ms + excluded.queue_wait_ms")

#endif
