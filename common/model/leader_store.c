/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of leadership: who leads, taking over, beating, and the fence before each transaction. */
#include "common/model/leader_store.h"

#include <assert.h>
#include <string.h>

#define LEADER_LOCK "hashtextextended('nightshift scheduler', 0)"

_Static_assert(LEADER_STALE_S == 5, "the SQL repeats it");

/* A leader that had the lock and does not have it now is gone, however fresh its beat. */
PG_STATEMENT(leader_look_statement,
    "SELECT epoch,"
    "       CASE"
    "       WHEN beat_at < clock_timestamp() - interval '5 s'"
    "       THEN true"
    "       WHEN has_lock"
    "       THEN pg_try_advisory_lock(" LEADER_LOCK ")"
    "       ELSE false"
    "       END "
    "FROM leadership "
    "WHERE name = 'scheduler'");

/* FOR UPDATE, to wait for the transactions of the old epoch (see leadership_check). */
PG_STATEMENT(leader_take_statement,
    "WITH seen AS MATERIALIZED ("
    "    SELECT name FROM leadership"
    "    WHERE name = 'scheduler' AND epoch = $1::int8"
    "    FOR UPDATE"
    ") "
    "UPDATE leadership l "
    "SET epoch = l.epoch + 1,"
    "    holder = $2::text,"
    "    since = clock_timestamp(),"
    "    beat_at = clock_timestamp(),"
    "    has_lock = pg_try_advisory_lock(" LEADER_LOCK ") "
    "FROM seen "
    "WHERE l.name = seen.name "
    "RETURNING l.epoch");

PG_STATEMENT(leader_beat_statement,
    "UPDATE leadership "
    "SET beat_at = clock_timestamp(),"
    "    has_lock = CASE WHEN has_lock THEN true"
    "                    ELSE pg_try_advisory_lock(" LEADER_LOCK ") END "
    "WHERE name = 'scheduler' AND epoch = $1::int8 "
    "RETURNING epoch");

PG_STATEMENT(leader_resign_statement,
    "UPDATE leadership "
    "SET beat_at = 'epoch', has_lock = false "
    "WHERE name = 'scheduler' AND epoch = $1::int8");

PG_STATEMENT(leader_unlock_statement, "SELECT pg_advisory_unlock_all()");

PG_STATEMENT(leader_check_statement, "SELECT leadership_check($1::int8)");

void leader_look(struct pg *pg, pg_done_fn *done, void *arg)
{
    pg_query(pg, &leader_look_statement, NULL, 0, done, arg);
}

bool leader_look_read(const struct pg_result *result, struct leader_view *out)
{
    if (pg_rows(result) != 1)
        return false;
    out->epoch = pg_get_int(result, 0, 0);
    out->may_take = pg_get_bool(result, 0, 1);
    return true;
}

void leader_take(struct pg *pg, int64_t seen_epoch, const char *holder, pg_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_int8(seen_epoch), pg_text(holder)};

    pg_query(pg, &leader_take_statement, values, 2, done, arg);
}

void leader_beat(struct pg *pg, int64_t epoch, pg_done_fn *done, void *arg)
{
    struct pg_value value = pg_int8(epoch);

    pg_query(pg, &leader_beat_statement, &value, 1, done, arg);
}

void leader_resign_epoch(struct pg *pg, int64_t epoch, pg_done_fn *done, void *arg)
{
    struct pg_value value = pg_int8(epoch);

    pg_query(pg, &leader_resign_statement, &value, 1, done, arg);
}

void leader_unlock(struct pg *pg, pg_done_fn *done, void *arg)
{
    pg_query(pg, &leader_unlock_statement, NULL, 0, done, arg);
}

void leader_transaction(struct pg *pg, int64_t epoch, const struct pg_step *steps, size_t count,
                        pg_done_fn *done, void *arg)
{
    struct pg_value value = pg_int8(epoch);
    struct pg_step fenced[1 + LEADER_STEPS_MAX] = {
        {.statement = &leader_check_statement, .values = &value, .count = 1},
    };

    assert(count <= LEADER_STEPS_MAX);
    memcpy(fenced + 1, steps, count * sizeof(*steps));
    pg_transaction(pg, fenced, count + 1, done, arg);
}

void leader_statement(struct pg *pg, int64_t epoch, const struct pg_statement *statement,
                      const struct pg_value *values, size_t count, pg_done_fn *done, void *arg)
{
    struct pg_step step = {.statement = statement, .values = values, .count = count};

    leader_transaction(pg, epoch, &step, 1, done, arg);
}
