/* SPDX-License-Identifier: Apache-2.0 */
/* What all fenced writes have in common: how they can end. */
#ifndef COMMON_MODEL_STORE_H
#define COMMON_MODEL_STORE_H

#include "common/io/pg_batch.h"

/* Every write after a claim carries the claim's run_token.  The stores repeat by themselves what a
 * lost connection left open (all their statements are idempotent), for STORE_RETRY_MS. */
enum { STORE_RETRY_MS = 30000 };

enum store_outcome {
    STORE_DONE,    /* committed */
    STORE_STALE,   /* the token is not that of a live run: nothing of the run was changed.  (Also
                      what a repeat sees whose first try did commit before the connection died.) */
    STORE_REFUSED, /* the server refused this very row (data it cannot hold); nothing was done */
    STORE_AWAY,    /* Postgres stayed away, or the queue was full; it may have been done */
};

const char *store_outcome_name(enum store_outcome outcome); /* "stale" */

/* What a batch's reply means; counts nightshift_stale_writes_total. */
enum store_outcome store_outcome_of(const struct pg_batch_reply *reply);

/* Does this sqlstate tell of the server's trouble (shutdown, disk full, lock timeout, conflict),
 * not of the row? */
bool store_is_passing(const char *sqlstate);

/* Shows the stores' counters at zero before anything happened. */
void store_declare_metrics(void);

#endif
