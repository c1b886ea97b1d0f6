/* SPDX-License-Identifier: Apache-2.0 */
/* What a process knows of all limits: read from Postgres every half second, asked without waiting.
 */
#ifndef COMMON_MODEL_LIMIT_CACHE_H
#define COMMON_MODEL_LIMIT_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/model/limits.h"

struct event_base;
struct limit_cache;
struct pg;

enum {
    LIMIT_CACHE_POLL_MS = 500,
    LIMIT_CACHE_ENTRIES_MAX = 1000000, /* tenants or keys that are not as everybody */
    RUN_ID_MAX = 64,
    GENERATION_TEXT_SIZE = 44, /* "<binding>.<book>" */
    WINDOW_ID_SIZE = 12,       /* "d20261121", "m202611", "t" */
    BUDGET_DAY_SIZE = 12,      /* "2026-11-21" */
};

/* One per process.  Asks over pg (borrowed) at once, then every LIMIT_CACHE_POLL_MS for what
 * changed: documents of limits, tenants, generations of books, the binding.  A change is known here
 * within a second of its commit.  While Postgres is away the cache stays as it was. */
struct limit_cache *limit_cache_new(struct event_base *base, struct pg *pg) MUST_CHECK;
/* Before its pg.  Who waits for a poll is told false, from inside this call. */
void limit_cache_free(struct limit_cache *cache);

/* False until everything was read once (or if it does not fit): until then nobody may be taken for
 * a tenant without limits. */
bool limit_cache_is_ready(const struct limit_cache *cache);

/* Polls as soon as may be and calls done (once, from the loop, never from inside) after a poll that
 * was sent after this call: ok says whether it succeeded.  For who found a generation stale; done
 * is NULL where nobody waits.  False: out of memory, done will not be called. */
typedef void limit_cache_polled_fn(bool ok, void *arg);
bool limit_cache_poll(struct limit_cache *cache, limit_cache_polled_fn *done, void *arg) MUST_CHECK;
/* No done that was given with this arg will be called. */
void limit_cache_cancel(struct limit_cache *cache, const void *arg);

/* What is known of a tenant.  Lives until the loop turns; take limits_ref() of a document that must
 * live longer. */
struct tenant_limits {
    struct limits *limits; /* NULL: none */
    bool is_disabled;
    int weight;
    int64_t book_generation; /* 0: it has no book yet */
    /* "<binding>.<book>": what Redis's book must carry to be believed. */
    char generation[GENERATION_TEXT_SIZE];
};
/* Never NULL: a tenant nobody heard of is as everybody. */
const struct tenant_limits *limit_cache_tenant(const struct limit_cache *cache, const char *tenant);
/* The document of a key; NULL: none.  Lives as long as the above. */
struct limits *limit_cache_key(const struct limit_cache *cache, const char *key_id);

/* limits_apply with what the cache knows. */
int limit_cache_apply(const struct limit_cache *cache, const char *tenant, const char *key_id,
                      const char *workflow, const char *user, const char *model,
                      struct applied_limit out[LIMIT_SCOPE_COUNT]);
/* BUDGET_FAIL when the tenant's or the key's document says so. */
enum budget_policy limit_cache_policy(const struct limit_cache *cache, const char *tenant,
                                      const char *key_id);

/* The windows of a tenant at a moment of the database's clock (clock_db_us), in its own zone or
 * UTC. */
struct budget_windows {
    char day[BUDGET_DAY_SIZE];                    /* for calls.budget_day */
    char id[BUDGET_WINDOW_COUNT][WINDOW_ID_SIZE]; /* by enum budget_window */
    int64_t end_us[BUDGET_WINDOW_COUNT];          /* INT64_MAX for the total */
};
/* False: the cache was not told of that moment (Postgres has been away for more than a day). */
bool limit_cache_windows(const struct limit_cache *cache, const char *tenant, int64_t now_us,
                         struct budget_windows *out) MUST_CHECK;

/* The Redis that all books are bound to: "" none yet. */
const char *limit_cache_run_id(const struct limit_cache *cache);

/* Visits each tenant that has a budget, its own or of one of its keys, until visit returns false;
 * for tasks over all books.  visit may not keep what it is given. */
typedef bool limit_cache_visit_fn(const char *tenant, const struct tenant_limits *limits,
                                  void *arg);
void limit_cache_each_budget(struct limit_cache *cache, limit_cache_visit_fn *visit, void *arg);

/* Visits each key of a tenant that has a document. */
typedef bool limit_cache_key_fn(const char *key_id, struct limits *limits, void *arg);
void limit_cache_each_key(struct limit_cache *cache, const char *tenant, limit_cache_key_fn *visit,
                          void *arg);

#endif
