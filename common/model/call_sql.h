/* SPDX-License-Identifier: Apache-2.0 */
/* SQL fragments of the ledger and of the last chunk of text, for the statements that end runs. */
#ifndef COMMON_MODEL_CALL_SQL_H
#define COMMON_MODEL_CALL_SQL_H

#include "common/model/sql.h"

/* The input columns of struct call_outcome and their array types (see call_outcome_values). */
#define CALL_SQL_COLUMNS                                                               \
    "call, call_state, status, call_error, first_token_ms, duration_ms, input_tokens," \
    " cached_input_tokens, output_tokens, is_usage_estimated, cost_nano"

/* CTEs `booking` and `booked`: settle the calls that `input` names, by their own key, after the
 * runs rows of `locked` (a CTE before) are locked: one order for everybody. */
#define CALL_SQL_BOOK \
    SQL(                                                                            \
    "booking AS MATERIALIZED ("                                                     \
    "    SELECT i.*"                                                                \
    "    FROM (SELECT * FROM input WHERE call IS NOT NULL ORDER BY job, call) AS i" \
    "    CROSS JOIN LATERAL ("                                                      \
    "        SELECT FROM calls"                                                     \
    "        WHERE calls.job = i.job AND calls.call = i.call"                       \
    "          AND calls.state IN ('sent', 'unknown')"                              \
    "        FOR NO KEY UPDATE"                                                     \
    "    ) AS c"                                                                    \
    "    WHERE (SELECT count(*) FROM locked) >= 0"                                  \
    "), booked AS ("                                                                \
    "    UPDATE calls c"                                                            \
    "    SET state = b.call_state,"                                                 \
    "        status = b.status,"                                                    \
    "        error_type = b.call_error,"                                            \
    "        first_token_ms = b.first_token_ms,"                                    \
    "        duration_ms = b.duration_ms,"                                          \
    "        input_tokens = b.input_tokens,"                                        \
    "        cached_input_tokens = b.cached_input_tokens,"                          \
    "        output_tokens = b.output_tokens,"                                      \
    "        is_usage_estimated = b.is_usage_estimated,"                            \
    "        cost_nano = CASE b.call_state WHEN 'settled' THEN b.cost_nano"         \
    "                                      WHEN 'released' THEN 0"                  \
    "                                      ELSE c.reserved_nano END"                \
    "    FROM booking b"                                                            \
    "    WHERE " SQL_KEYED("c.job", "b.job")                                        \
    "      AND " SQL_KEYED("c.call", "b.call") ")")

/* The input columns of struct event_chunk (see event_chunk_values), and the CTE that stores it for
 * the runs of `locked`. */
#define CHUNK_SQL_COLUMNS "chunk_seq, chunk_attempt, chunk_offset, chunk_text"

#define CHUNK_SQL_STORE                                                                       \
    "chunked AS ("                                                                            \
    "    INSERT INTO events (job, run, seq, kind, attempt, byte_offset, text)"                \
    "    SELECT job, run, chunk_seq, 'output.delta', chunk_attempt, chunk_offset, chunk_text" \
    "    FROM locked"                                                                         \
    "    WHERE chunk_seq IS NOT NULL"                                                         \
    "    ON CONFLICT DO NOTHING"                                                              \
    ")"

#endif
