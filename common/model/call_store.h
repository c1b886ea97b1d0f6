/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger: one row per provider call, durable before the bytes leave, settled after. */
#ifndef COMMON_MODEL_CALL_STORE_H
#define COMMON_MODEL_CALL_STORE_H

#include <stdint.h>

#include "common/base/money.h"
#include "common/io/pg.h"
#include "common/model/job.h"
#include "common/model/store.h"

struct call_store;

struct call_store *call_store_new(struct pg *pg);
void call_store_free(struct call_store *store);

/* --- intent ----------------------------------------------------------------------------------- */

/* A call about to be made.  Strings are borrowed until call_intent returns. */
struct call_intent {
    struct id job;
    int64_t run_token;
    int call; /* ordinal over the job's life */
    /* The counters as they stand before this call (settling or ending counts it): a call that dies
     * with its worker is a crash, not an attempt. */
    int attempts;
    int deferrals;
    int lease_s;   /* the run's hard deadline from now on: the call's total timeout and a margin */
    int silent_s;  /* rescue the run when no event came for so long; 0: never */
    int event_seq; /* of the job.started event, in this run */
    const char *tenant;
    const char *key_id;
    const char *workflow; /* or NULL */
    const char *end_user; /* or NULL */
    const char *route;
    const char *provider;
    const char *model;
    struct price price;
    int64_t reserved_nano;  /* the worst case */
    const char *budget_day; /* the tenant's own, "2026-11-21"; NULL: UTC's */
    /* Where a budget applies, else NULL: the windows that were reserved in ("d20261121,t"), and the
     * generation of the book. */
    const char *budget_windows;
    const char *budget_generation;
    /* Without budget_generation: tenant_limits.book_generation as it was when the caller found that
     * nothing need be reserved; INT64_MAX: whatever it is by now. */
    int64_t known_generation;
};

enum intent_outcome {
    INTENT_GO,         /* durable: the call may leave */
    INTENT_CANCELLED,  /* the run's cancel flag is set: end it */
    INTENT_EXPIRED,    /* the job's deadline has passed: end it */
    INTENT_STALE_BOOK, /* the tenant's book was made anew since the reservation, or is newer than
                          known_generation: nothing was written; release it and look again */
    INTENT_LOST,       /* the run is not ours any more: forget it */
    INTENT_FAILED,     /* not durable, or nobody can know: do not call.  Settle as released (does no
                          harm if the row is not there) and use the next ordinal. */
};

typedef void call_intent_fn(enum intent_outcome outcome, void *arg);

/* done is called exactly once, never from inside; the caller must outlive it.  False: too much is
 * out, done will not be called. */
bool call_intent(struct call_store *store, const struct call_intent *intent, call_intent_fn *done,
                 void *arg) MUST_CHECK;

/* --- settle ----------------------------------------------------------------------------------- */

enum call_state { CALL_SENT, CALL_SETTLED, CALL_RELEASED, CALL_UNKNOWN };
const char *call_state_name(enum call_state state); /* "settled" */

/* How a call went.  -1 (or 0 for status, ERROR_NONE for error) where nothing is known. */
struct call_outcome {
    int call;
    enum call_state state; /* not CALL_SENT.  released: proven that nothing was processed */
    int status;            /* HTTP; 0: none came */
    enum error_type error;
    int64_t first_token_ms;
    int64_t duration_ms;
    int64_t input_tokens;
    int64_t cached_input_tokens;
    int64_t output_tokens;
    bool is_usage_estimated;
    int64_t cost_nano; /* of a settled one; unknown keeps its reservation, released costs nothing */
};

typedef void call_settle_fn(enum store_outcome outcome, void *arg);

/* Books a call by its own key, also when the run is not ours any more; the run's counters (attempts
 * and deferrals as they stand now, this call included) only by its token.  A row already settled or
 * released stays as it is.  STORE_DONE even then.  done may be NULL. */
bool call_settle(struct call_store *store, struct id job, int64_t run_token, int attempts,
                 int deferrals, const struct call_outcome *outcome, call_settle_fn *done,
                 void *arg) MUST_CHECK;

/* Fills the eleven columns of an outcome that travel in settle, end and requeue statements (all
 * null for none): call, state, status, error_type, first_token_ms, duration_ms, input, cached,
 * output, is_estimated, cost. */
enum { CALL_OUTCOME_COLUMNS = 11 };
void call_outcome_values(const struct call_outcome *outcome, struct pg_value *out);

#endif
