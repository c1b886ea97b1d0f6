/* SPDX-License-Identifier: Apache-2.0 */
/* Makes books of budgets in Redis anew from the ledger in Postgres, and says when they are current.
 *
 * Any process may do it, also several at once for the same tenant; FLUSHALL, a kill of either
 * server or of the rebuilder at any point costs time and nothing else:
 *
 *   1. raise   the book's generation in Postgres, only from the one that was seen: one wins.  It
 *              waits for intents that were checked against the old one; from here on none can
 *              commit, so no paid call of the tenant starts
 *   2. mark    the book in Redis as being built for that generation: settlements wait
 *   3. sum     the ledger, in a statement of its own: it sees every intent, and every settlement
 *              that Redis was told of before the mark
 *   4. write   absolute values, in chunks, each only while the mark is ours
 *   5. publish the generation, only if the mark is still ours and nothing of the book is missing
 *
 * Who finds somebody else's mark waits for it; one that has not become a book after a while (2 s at
 * first, twice as long each time) is built over with a new generation.
 *
 * A Redis whose run_id is not the one that the books are bound to is another one, or an old copy:
 * the binding in Postgres is moved to it first, which makes every book stale. */
#ifndef COMMON_MODEL_BOOK_REBUILD_H
#define COMMON_MODEL_BOOK_REBUILD_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct book_rebuild;
struct event_base;
struct limit_cache;
struct pg;
struct redis;

enum {
    BOOK_WANTED_MAX = 1000000, /* tenants whose book is wanted and not current */
};

/* All are borrowed: pg and redis may serve others too. */
struct book_rebuild *book_rebuild_new(struct event_base *base, struct pg *pg, struct redis *redis,
                                      struct limit_cache *cache) MUST_CHECK;
/* Before what it borrows. */
void book_rebuild_free(struct book_rebuild *rebuild);

/* Why; only for the metric nightshift_budget_rebuilds_total{reason} and the log. */
enum book_reason {
    BOOK_STALE, /* somebody was told that it is: found out here whether it is lost, old or bound to
                   another Redis */
    BOOK_DRIFT, /* it differs from the ledger */
    BOOK_REASON_COUNT,
};

/* The book of this tenant was found stale by who asked with `generation` (tenant_limits.generation,
 * as given to admission_ask).  Looks first whether it is current by now.  Cheap to repeat. */
void book_rebuild_want(struct book_rebuild *rebuild, const char *tenant, const char *generation,
                       enum book_reason reason);

/* Tenants whose book is wanted and not known to be current. */
size_t book_rebuild_outstanding(const struct book_rebuild *rebuild);

void book_rebuild_declare_metrics(void);

#endif
