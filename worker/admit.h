/* SPDX-License-Identifier: Apache-2.0 */
/* What this process needs to admit calls: limits, Redis for them, and the making of books anew. */
#ifndef WORKER_ADMIT_H
#define WORKER_ADMIT_H

#include "common/base/err.h"

struct admission;
struct admit;
struct book_rebuild;
struct event_base;
struct limit_cache;

/* Opens connections of its own to both: a limit's answer waits for no batch, and a deadline of
 * Redis drops nobody else's connection.  NULL with err. */
struct admit *admit_start(struct event_base *base, const char *database_url, const char *redis_url,
                          struct err *err) MUST_CHECK;
/* After the last run and after everything that may still settle; NULL is fine. */
void admit_free(struct admit *admit);

struct admission *admit_admission(struct admit *admit);
const struct limit_cache *admit_limits(const struct admit *admit);
struct book_rebuild *admit_books(struct admit *admit);
/* Somebody knows of newer limits than we do: reads them as soon as may be. */
void admit_reread(struct admit *admit);

/* Is there nothing left to tell Redis? */
bool admit_is_quiet(const struct admit *admit);

#endif
