/* SPDX-License-Identifier: Apache-2.0 */
/* What the statements of the admin calls have in common: how they run and how they can end. */
#ifndef COMMON_MODEL_ADMIN_QUERY_H
#define COMMON_MODEL_ADMIN_QUERY_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"

/* Every change writes its audit row in its own statement, by audit_append(actor, action, object,
 * detail) of migrations/0004_audit.sql: who did what to which object.  actor is what admin_actor()
 * of the producer writes (who, key, address and id of the request), or the plain name of a program.
 * detail is a JSON object without secrets or text of prompts; its members "before" and "after"
 * become columns of their own. */

enum admin_outcome {
    ADMIN_DONE,
    ADMIN_MISSING,  /* no such object, or it is gone */
    ADMIN_CONFLICT, /* it exists already, is full, or is in a state that forbids this */
    ADMIN_AWAY,     /* Postgres was not there; a change may have been made */
    ADMIN_BROKEN,   /* the server refused the statement: our mistake, and logged */
};

/* Each store has a function that reads one of its rows. */
struct admin_reply {
    enum admin_outcome outcome;
    const struct pg_result *rows; /* NULL unless ADMIN_DONE; lives until done returns */
    int count;
};

typedef void admin_done_fn(const struct admin_reply *reply, void *arg);

enum { ADMIN_LIST_MAX = 1000 };

/* Runs one statement.  Its first column is a bool; false in the first row means ADMIN_CONFLICT
 * (what was asked about is there, but nothing was done), no row at all means `otherwise`.  done is
 * called exactly once, never from inside.  False: out of memory, done will not be called; so it is
 * with all functions of the stores that end in an admin_done_fn. */
bool admin_query(struct pg *pg, const struct pg_statement *statement, const struct pg_value *values,
                 size_t count, enum admin_outcome otherwise, admin_done_fn *done,
                 void *arg) MUST_CHECK;

/* The same for several as one transaction; what the last one says counts. */
bool admin_transaction(struct pg *pg, const struct pg_step *steps, size_t count,
                       enum admin_outcome otherwise, admin_done_fn *done, void *arg) MUST_CHECK;

#endif
