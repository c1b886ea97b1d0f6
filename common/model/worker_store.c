/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of a worker's own row, for the blocking session of its heartbeat thread, and how many
 * there are. */
#include "common/model/worker_store.h"

#include <string.h>

PG_STATEMENT(worker_register_statement,
    "WITH before AS (DELETE FROM workers WHERE id = $4::uuid) "
    "INSERT INTO workers (id, name, slots) VALUES ($1::uuid, $2::text, $3::int4)");

/* HOT: no index holds what changes.  The runs by the index runs_cancelled. */
PG_STATEMENT(worker_beat_statement,
    "WITH beat AS ("
    "    UPDATE workers"
    "    SET beat_at = clock_timestamp(),"
    "        used = ARRAY[$2::int4, $3::int4, $4::int4],"
    "        is_draining = $5::bool"
    "    WHERE id = $1::uuid"
    "    RETURNING id"
    ")"
    "SELECT r.job "
    "FROM beat b "
    "LEFT JOIN runs r ON r.worker = b.id AND r.cancel_requested "
    "LIMIT $6::int4");

PG_STATEMENT(worker_unregister_statement, "DELETE FROM workers WHERE id = $1::uuid");

PG_STATEMENT(worker_count_statement,
    "SELECT count(*) FROM workers WHERE beat_at > now() - interval '6 s'");

void worker_count(struct pg *pg, pg_done_fn *done, void *arg)
{
    pg_query(pg, &worker_count_statement, NULL, 0, done, arg);
}

struct pg_session *worker_session_open(const char *url, struct err *err)
{
    struct pg_session *session = pg_session_open(url, "nightshift-worker heartbeat", err);

    if (!session)
        return NULL;
    if (pg_session_run(session,
                       "SET synchronous_commit = off; SET statement_timeout = '2s';"
                       "SET enable_seqscan = off",
                       NULL, 0, NULL, err))
        return session;
    pg_session_close(session);
    return NULL;
}

bool worker_register(struct pg_session *session, const struct worker_row *row, struct id old,
                     struct err *err)
{
    struct pg_value values[] = {
        pg_uuid(row->id),
        pg_text(row->name),
        pg_int4(row->slots),
        pg_uuid(old),
    };

    if (!pg_session_run(session, worker_register_statement.sql, values, 4, NULL, err))
        return err_wrap(err, "register worker %s", row->name);
    return true;
}

bool worker_beat(struct pg_session *session, struct id id, const int used[PRIORITY_COUNT],
                 bool is_draining, struct worker_beat *out, struct err *err)
{
    struct pg_value values[] = {
        pg_uuid(id),
        pg_int4(used[PRIORITY_HIGH]),
        pg_int4(used[PRIORITY_NORMAL]),
        pg_int4(used[PRIORITY_LOW]),
        pg_bool(is_draining),
        pg_int4(WORKER_BEAT_CANCELS_MAX),
    };
    struct pg_result *result = NULL;

    out->is_there = false;
    out->cancel_count = 0;
    if (!pg_session_run(session, worker_beat_statement.sql, values, 6, &result, err))
        return err_wrap(err, "beat");
    for (int row = 0; row < pg_rows(result); row++) {
        out->is_there = true;
        if (!pg_is_null(result, row, 0))
            out->cancels[out->cancel_count++] = pg_get_uuid(result, row, 0);
    }
    pg_result_free(result);
    return true;
}

bool worker_unregister(struct pg_session *session, struct id id, struct err *err)
{
    struct pg_value value = pg_uuid(id);

    if (!pg_session_run(session, worker_unregister_statement.sql, &value, 1, NULL, err))
        return err_wrap(err, "unregister worker");
    return true;
}
