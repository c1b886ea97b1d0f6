/* SPDX-License-Identifier: Apache-2.0 */
/* Acting for one tenant: row-level security shows a statement that tenant's rows, and no others. */
#ifndef COMMON_MODEL_TENANT_SCOPE_STORE_H
#define COMMON_MODEL_TENANT_SCOPE_STORE_H

#include "common/io/pg.h"

/* The role of connections that act for tenants (pg_options.role); migrations/0009_tenant_role.sql
 * says what it may see and do.  A statement without a tenant fails there. */
#define TENANT_ROLE "nightshift_tenant"

/* For struct pg_batch_kind.scope: takes the tenant's id. */
extern const struct pg_statement *const tenant_scope;

/* pg_query for a tenant: in one transaction with the setting of the tenant. */
void tenant_query(struct pg *pg, const char *tenant, const struct pg_statement *statement,
                  const struct pg_value *values, size_t count, pg_done_fn *done, void *arg);

#endif
