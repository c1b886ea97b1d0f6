/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL that folds the deltas of usage into its roll-ups. */
#include "common/model/usage_store.h"

#include "common/model/leader_store.h"
#include "common/model/usage_sql.h"

/* One statement: no snapshot has a delta in both places, or in none.  Only the leader folds, so
 * nobody waits for its row locks. */
PG_STATEMENT(usage_fold_statement,
    "WITH taken AS ("
    "    DELETE FROM usage_deltas"
    "    WHERE ctid = ANY (ARRAY(SELECT ctid FROM usage_deltas LIMIT $1::int4))"
    "    RETURNING *"
    "), named AS ("
    "    SELECT tenant, day, hour, route, coalesce(workflow, '') AS workflow,"
    "           coalesce(provider, '') AS provider, coalesce(model, '') AS model, key_id,"
    "           coalesce(end_user, '') AS end_user,"
    "          " USAGE_SQL_SUMS
    "    FROM taken"
    "    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9"
    "), fine AS MATERIALIZED ("
    "    SELECT *, usage_cell(tenant, route, workflow, provider, model, key_id) AS cell"
    "    FROM named"
    "), cells AS ("
    "    INSERT INTO usage_cells (cell, tenant, route, workflow, provider, model, key_id)"
    "    SELECT DISTINCT cell, tenant, route, workflow, provider, model, key_id"
    "    FROM fine"
    "    ORDER BY cell"
    "    ON CONFLICT DO NOTHING"
    "), totals AS ("
    "    INSERT INTO usage_totals AS u (tenant, day, hour,"
    "       " USAGE_SQL_COLUMNS ")"
    "    SELECT tenant, day, hour,"
    "          " USAGE_SQL_SUMS
    "    FROM fine"
    "    GROUP BY 1, 2, 3"
    "    ORDER BY 1, 2, 3"
    "    ON CONFLICT (tenant, day, hour)" USAGE_SQL_ADD
    "), hours AS ("
    "    INSERT INTO usage_hours AS u (tenant, day, hour, cell,"
    "       " USAGE_SQL_COLUMNS ")"
    "    SELECT tenant, day, hour, cell,"
    "          " USAGE_SQL_SUMS
    "    FROM fine"
    "    GROUP BY 1, 2, 3, 4"
    "    ORDER BY 1, 2, 3, 4"
    "    ON CONFLICT (tenant, day, hour, cell)" USAGE_SQL_ADD
    "), days AS ("
    "    INSERT INTO usage_days AS u (tenant, day, cell,"
    "       " USAGE_SQL_COLUMNS ")"
    "    SELECT tenant, day, cell,"
    "          " USAGE_SQL_SUMS
    "    FROM fine"
    "    GROUP BY 1, 2, 3"
    "    ORDER BY 1, 2, 3"
    "    ON CONFLICT (tenant, day, cell)" USAGE_SQL_ADD
    "), months AS ("
    "    INSERT INTO usage_months AS u (tenant, day, cell,"
    "       " USAGE_SQL_COLUMNS ")"
    "    SELECT tenant, date_trunc('month', day)::date, cell,"
    "          " USAGE_SQL_SUMS
    "    FROM fine"
    "    GROUP BY 1, 2, 3"
    "    ORDER BY 1, 2, 3"
    "    ON CONFLICT (tenant, day, cell)" USAGE_SQL_ADD
    "), user_hours AS ("
    "    INSERT INTO usage_user_hours AS u (tenant, day, end_user, hour, cell,"
    "       " USAGE_SQL_COLUMNS ")"
    "    SELECT tenant, day, end_user, hour, cell,"
    "          " USAGE_SQL_SUMS
    "    FROM fine"
    "    GROUP BY 1, 2, 3, 4, 5"
    "    ORDER BY 1, 2, 3, 4, 5"
    "    ON CONFLICT (tenant, day, end_user, hour, cell)" USAGE_SQL_ADD
    "), user_days AS ("
    "    INSERT INTO usage_user_days AS u (tenant, day, end_user, cell,"
    "       " USAGE_SQL_COLUMNS ")"
    "    SELECT tenant, day, end_user, cell,"
    "          " USAGE_SQL_SUMS
    "    FROM fine"
    "    GROUP BY 1, 2, 3, 4"
    "    ORDER BY 1, 2, 3, 4"
    "    ON CONFLICT (tenant, day, end_user, cell)" USAGE_SQL_ADD
    "), user_months AS ("
    "    INSERT INTO usage_user_months AS u (tenant, day, end_user, cell,"
    "       " USAGE_SQL_COLUMNS ")"
    "    SELECT tenant, date_trunc('month', day)::date, end_user, cell,"
    "          " USAGE_SQL_SUMS
    "    FROM fine"
    "    GROUP BY 1, 2, 3, 4"
    "    ORDER BY 1, 2, 3, 4"
    "    ON CONFLICT (tenant, day, end_user, cell)" USAGE_SQL_ADD
    ") "
    "SELECT count(*) FROM taken");

void usage_fold(struct pg *pg, int64_t epoch, int limit, pg_done_fn *done, void *arg)
{
    struct pg_value value = pg_int4(limit);

    leader_statement(pg, epoch, &usage_fold_statement, &value, 1, done, arg);
}
