/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of what time makes: partitions ahead, and what is old enough to go. */
#include "common/model/partition_store.h"

#include "common/model/job.h"
#include "common/model/leader_store.h"

_Static_assert(PARTITION_DAYS_AHEAD == 14 && PARTITION_DAYS_MAX == 64 && IDEMPOTENCY_DAYS == 15,
               "the SQL repeats them");

PG_STATEMENT(partition_ensure_statement,
    "SELECT partitions_ensure((now() AT TIME ZONE 'UTC')::date - 1, 16)");

PG_STATEMENT(partition_old_days_statement,
    "SELECT day - date '1970-01-01' "
    "FROM partitions_days() AS day "
    "WHERE day < (now() AT TIME ZONE 'UTC')::date - $1::int4 "
    "ORDER BY day "
    "LIMIT 64");

PG_STATEMENT(partition_drop_statement, "SELECT partitions_drop(date '1970-01-01' + $1::int4)");

/* By the indexes idempotency_age, deliveries_pkey and budget_alerts_age; unreadable tickets are
 * few. An alert is kept while its window may last, that of a total for ever: it is told once. */
PG_STATEMENT(partition_sweep_statement,
    "WITH keys AS ("
    "    DELETE FROM idempotency"
    "    WHERE ctid = ANY (ARRAY("
    "        SELECT ctid FROM idempotency"
    "        WHERE created_at < now() - interval '15 days'"
    "        ORDER BY created_at"
    "        LIMIT $2::int4))"
    "    RETURNING 1"
    "), tickets AS ("
    "    DELETE FROM unreadable_tickets"
    "    WHERE ctid = ANY (ARRAY("
    "        SELECT ctid FROM unreadable_tickets"
    "        WHERE at < now() - $1::int4 * interval '1 day'"
    "        LIMIT $2::int4))"
    "    RETURNING 1"
    "), webhooks AS ("
    "    DELETE FROM deliveries"
    "    WHERE id = ANY (ARRAY("
    "        SELECT id FROM deliveries"
    "        WHERE id < id_floor(now() - $1::int4 * interval '1 day')"
    "          AND job IS NULL"
    "          AND state <> 'waiting'"
    "        ORDER BY id"
    "        LIMIT $2::int4))"
    "    RETURNING 1"
    "), alerts AS ("
    "    DELETE FROM budget_alerts"
    "    WHERE ctid = ANY (ARRAY("
    "        SELECT ctid FROM budget_alerts"
    "        WHERE created_at < now() - greatest($1::int4, 62) * interval '1 day'"
    "          AND window_id <> 't'"
    "        ORDER BY created_at"
    "        LIMIT $2::int4))"
    "    RETURNING 1"
    ") "
    "SELECT greatest((SELECT count(*) FROM keys), (SELECT count(*) FROM tickets),"
    "                (SELECT count(*) FROM webhooks), (SELECT count(*) FROM alerts))");

void partition_ensure(struct pg *pg, int64_t epoch, pg_done_fn *done, void *arg)
{
    leader_statement(pg, epoch, &partition_ensure_statement, NULL, 0, done, arg);
}

void partition_old_days(struct pg *pg, int64_t epoch, int64_t retention_days, pg_done_fn *done,
                        void *arg)
{
    struct pg_value value = pg_int4((int32_t)retention_days);

    leader_statement(pg, epoch, &partition_old_days_statement, &value, 1, done, arg);
}

void partition_drop(struct pg *pg, int64_t epoch, int64_t day, pg_done_fn *done, void *arg)
{
    struct pg_value value = pg_int4((int32_t)day);

    leader_statement(pg, epoch, &partition_drop_statement, &value, 1, done, arg);
}

void partition_sweep(struct pg *pg, int64_t epoch, int64_t retention_days, int limit,
                     pg_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_int4((int32_t)retention_days), pg_int4(limit)};

    leader_statement(pg, epoch, &partition_sweep_statement, values, 2, done, arg);
}
