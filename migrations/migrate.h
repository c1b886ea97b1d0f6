/* SPDX-License-Identifier: Apache-2.0 */
/* Brings a database to this program's schema. */
#ifndef MIGRATIONS_MIGRATE_H
#define MIGRATIONS_MIGRATE_H

#include <stdio.h>

#include "migrations/history.h"

struct pg_session;

/* Applies what is pending, each in a transaction of its own, under an advisory lock (a second
 * program waits).  notices gets a line for each; what was applied before a failure stays. */
bool migrate_apply(struct pg_session *session, const struct migration *table, FILE *notices,
                   struct err *err) MUST_CHECK;

/* Prints each migration and when it was applied; *is_current is false when some are pending.
 * Changes nothing. */
bool migrate_status(struct pg_session *session, const struct migration *table, FILE *out,
                    bool *is_current, struct err *err) MUST_CHECK;

/* Gives role what the daemons need and no more: rows of all tables (of `audit` and its head only
 * reading: audit_append() adds; of its checkpoints only reading and adding; of `schema_migrations`
 * only reading), sequences and functions.  May be repeated. */
bool migrate_grant(struct pg_session *session, const char *role, struct err *err) MUST_CHECK;

#endif
