/* SPDX-License-Identifier: Apache-2.0 */
/* Admission: asks Redis whether a call may be made now under all limits of its tenant and of the
 * provider's account, and reserves what it may cost.
 *
 * A reservation has a name, <job hex>:<run>:<call>; everything is idempotent by it, so that an
 * answer that was lost is asked for again.  What a call holds has three parts:
 *
 *   money     a record in the tenant's book (book_redis.h) over all its accounts: settled, released
 *             or unknown by name.  Never given up by time alone.
 *   rates     what was taken of requests and tokens per minute, and leases of concurrency, of the
 *             tenant's scopes.  Gives itself up after lease_s.
 *   provider  the same for the provider's account.
 *
 * The order for a call: admission_ask, intent in Postgres (with the generation asked with), call,
 * settlement in Postgres, admission_settle.  Time is Redis's own (TIME); windows of budgets come
 * from the caller and are fixed in the record. */
#ifndef COMMON_MODEL_ADMISSION_H
#define COMMON_MODEL_ADMISSION_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/model/limits.h"

struct admission;
struct budget_windows; /* limit_cache.h */
struct event_base;
struct redis;

enum {
    ADMISSION_NAME_SIZE = 56, /* 32 hex, ':', two numbers */
    ADMISSION_DETAIL_SIZE = 256,
    ADMISSION_GENERATION_SIZE = 64,
    ADMISSION_SETTLES_MAX = 50000, /* settlements kept while Redis is away or a book is rebuilt */
};

/* redis is borrowed and outlives it; give it a client of its own, because a deadline drops its
 * whole connection.  workers says how many processes of this kind share the limits while Redis is
 * away (1 at first). */
struct admission *admission_new(struct event_base *base, struct redis *redis) MUST_CHECK;
/* What was asked is told ADMISSION_AWAY, from inside; settlements still kept are dropped: whoever
 * reconciles finds them in the ledger. */
void admission_free(struct admission *admission);
void admission_set_workers(struct admission *admission, int workers);
size_t admission_settles_kept(const struct admission *admission); /* 0: all are taken */

/* --- names ------------------------------------------------------------------------------------ */

void admission_name_format(struct id job, int run, int call, char out[ADMISSION_NAME_SIZE]);
bool admission_name_parse(const char *text, size_t len, struct id *job, int *run,
                          int *call) MUST_CHECK;

/* --- ask -------------------------------------------------------------------------------------- */

/* All is copied or used before admission_ask returns, except that done may read nothing of it. */
struct admission_request {
    const char *tenant;
    struct id job;
    int run;
    int call;          /* ordinal over the job's life */
    int64_t run_token; /* the owner */
    int lease_s;       /* rates and concurrency give themselves up then; 0: 900 */
    int64_t tokens;    /* estimate for tokens per minute */
    int64_t amount_nano;

    const struct applied_limit *limits; /* limits_apply; shadow sets too */
    int limit_count;
    /* For who is under a budget (shadow ones too); else NULL.  generation:
     * tenant_limits.generation; run_id: limit_cache_run_id. */
    const struct budget_windows *windows;
    int64_t now_us; /* clock_db_us(), to say when a window ends */
    const char *generation;
    const char *run_id;

    /* The provider's account, shared by the fleet; NULL: nothing of it is asked. */
    const char *provider;
    int64_t provider_requests_per_minute; /* -1: no limit */
    int64_t provider_tokens_per_minute;
    int64_t provider_max_concurrency;
};

enum admission_outcome {
    ADMISSION_GO,    /* reserved; holds says what is held and must be settled */
    ADMISSION_WAIT,  /* nothing is held: wait_us, interval_us and why */
    ADMISSION_NEVER, /* does not fit even when all is free: why */
    ADMISSION_STALE, /* nothing is held: the book is not of this generation, or this is another
                        Redis; generation says what was found */
    ADMISSION_AWAY,  /* Redis did not answer, or with an error; nobody under a budget may call.
                        Should the reservation have been made after all, it is taken back as soon as
                        Redis is there again: a later try must take another name (the call's next
                        ordinal), as after every settlement.  A name whose taking back is not yet
                        confirmed is answered with AWAY. */
};

/* What refused.  ADMISSION_CLOSED: the provider said so itself (admission_learn). */
enum admission_dimension {
    ADMISSION_REQUESTS,
    ADMISSION_TOKENS,
    ADMISSION_CONCURRENCY,
    ADMISSION_BUDGET,
    ADMISSION_CLOSED,
    ADMISSION_DIMENSION_COUNT,
};
const char *admission_dimension_name(enum admission_dimension dimension); /* "requests" */

/* Parts of a reservation. */
enum {
    ADMISSION_HOLDS_MONEY = 1,
    ADMISSION_HOLDS_RATES = 2,
    ADMISSION_HOLDS_PROVIDER = 4,
    ADMISSION_HOLDS_LOCAL = 8, /* by this process alone: Redis is away, no budget applies */
};

struct admission_answer {
    enum admission_outcome outcome;
    unsigned holds; /* GO */

    /* WAIT and NEVER: of the refusal that lasts longest. */
    enum admission_dimension dimension;
    bool is_provider;                   /* the account's limit, not the tenant's */
    enum limit_scope scope;             /* which set refused, when not is_provider */
    enum budget_window window;          /* ADMISSION_BUDGET */
    int64_t wait_us;                    /* for the gate's `until` */
    int64_t interval_us;                /* then one call each interval; 0: all at once */
    int64_t limit;                      /* per minute, calls, or nano-dollars */
    int64_t free;                       /* of it, now; tokens and requests: 0 */
    char detail[ADMISSION_DETAIL_SIZE]; /* "budget_usd.day of workflow:nightly: ..." */

    /* STALE.  "" for none; "building:<generation>" while it is being rebuilt. */
    char generation[ADMISSION_GENERATION_SIZE];
    bool is_other_redis; /* the run_id of the connection is not the one given */
};

/* Called exactly once, never from inside; answer lives until it returns. */
typedef void admission_done_fn(const struct admission_answer *answer, void *arg);

/* One round trip for tenant and provider.  A lost answer is asked for again by name for up to 2 s.
 * When one of the two refuses, what the other gave is given back before done is called.  NULL: out
 * of memory, done will not be called. */
struct admission_ask *admission_ask(struct admission *admission,
                                    const struct admission_request *request,
                                    admission_done_fn *done, void *arg) MUST_CHECK;
/* done will not be called; what is granted nevertheless is given back.  Only before done. */
void admission_cancel(struct admission_ask *ask);

/* --- settle ----------------------------------------------------------------------------------- */

enum admission_end {
    ADMISSION_UNDONE,   /* the call was never tried: everything is given back */
    ADMISSION_RELEASED, /* proven that nothing was processed: money and tokens are given back */
    ADMISSION_UNKNOWN,  /* the money stays booked as unknown, and may be settled later by name */
    ADMISSION_SETTLED,
};

struct admission_settlement {
    const char *tenant;
    struct id job;
    int run;
    int call;
    unsigned holds;       /* of the answer.  Who knows only the name (rescue, reconcile, resolve):
                             ADMISSION_HOLDS_MONEY, or MONEY | RATES */
    const char *provider; /* for ADMISSION_HOLDS_PROVIDER */
    enum admission_end end;
    int64_t cost_nano;   /* ADMISSION_SETTLED */
    int64_t tokens;      /* that were really used; -1: not known, the estimate stays taken */
    bool counts_overrun; /* nobody has held cost_nano against the reservation yet */
};

/* Tells Redis how a call ended, after Postgres has it.  Idempotent by name: who has no record (it
 * was settled before, or the book was rebuilt from the ledger since) changes nothing.  Returns at
 * once; the telling is repeated until Redis has taken it, also over a rebuild.  Strings are copied.
 * With over ADMISSION_SETTLES_MAX waiting it is dropped (and counted); reconcile mends. */
void admission_settle(struct admission *admission, const struct admission_settlement *settlement);

/* --- the provider's own word ------------------------------------------------------------------ */

/* What a provider's headers said of its account; -1 where they did not.  When something remaining
 * is 0 and its reset is known, the account is closed to the fleet for so long: in Redis, for who is
 * admitted there, and by a message on CHANNEL_CLOSED to all workers. */
struct admission_seen {
    int64_t limit_requests, remaining_requests, reset_requests_us; /* reset: from now */
    int64_t limit_tokens, remaining_tokens, reset_tokens_us;
    int64_t retry_after_us; /* of a 429: closed for so long (at most 60 s) */
};
/* Fire and forget. */
void admission_learn(struct admission *admission, const char *provider,
                     const struct admission_seen *seen);

/* What was learned last, for GET /admin/v1/providers.  done is called exactly once, never from
 * inside; ok false: Redis is away.  age_us -1: nothing was learned in the last hour. */
typedef void admission_seen_fn(bool ok, const struct admission_seen *seen, int64_t age_us,
                               int64_t closed_us, void *arg);
void admission_read_seen(struct redis *redis, const char *provider, admission_seen_fn *done,
                         void *arg);

/* --- intake ----------------------------------------------------------------------------------- */

/* submits_per_minute of all sets, and what the headers say of it and of tokens_per_minute. */
struct intake_request {
    const char *tenant;
    const struct applied_limit *limits;
    int limit_count;
    int64_t submits; /* to take; 0: only look */
};

/* Of the set that has least left. */
struct intake_meter {
    int64_t limit; /* per minute; -1: there is no such limit */
    int64_t remaining;
    int64_t reset_us; /* until all of the burst is there again */
};

struct intake_answer {
    bool is_away;    /* Redis is; all else is empty.  Nothing is repeated: a limit of intake
                        fails open, to a limit of this process alone */
    bool is_refused; /* nothing was taken */
    bool is_never;   /* more at once than the burst ever holds */
    int64_t retry_after_us;
    enum limit_scope scope; /* that refused */
    bool is_shadow_refused; /* a shadow set would have */
    struct intake_meter submits;
    struct intake_meter tokens;
};

/* Called exactly once, never from inside. */
typedef void intake_done_fn(const struct intake_answer *answer, void *arg);
/* NULL when out of memory. */
struct intake_ask *admission_intake(struct admission *admission,
                                    const struct intake_request *request, intake_done_fn *done,
                                    void *arg) MUST_CHECK;

/* A submit that a limit in shadow would have refused, for nightshift_shadow_refusals_total. */
void admission_count_shadow(const char *dimension);

#endif
