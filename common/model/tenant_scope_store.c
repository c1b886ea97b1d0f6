/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL by which a transaction acts for one tenant. */
#include "common/model/tenant_scope_store.h"

/* Local to the transaction: nothing of it is left for whoever uses the connection next. */
PG_STATEMENT(tenant_scope_statement, "SELECT set_config('app.tenant', $1::text, true)");

const struct pg_statement *const tenant_scope = &tenant_scope_statement;

void tenant_query(struct pg *pg, const char *tenant, const struct pg_statement *statement,
                  const struct pg_value *values, size_t count, pg_done_fn *done, void *arg)
{
    struct pg_value own = pg_text(tenant);
    const struct pg_step steps[] = {{&tenant_scope_statement, &own, 1}, {statement, values, count}};

    pg_transaction(pg, steps, 2, done, arg);
}
