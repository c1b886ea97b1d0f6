/* SPDX-License-Identifier: Apache-2.0 */
/* How jobs leave a run or the queue: ended for ever, or back to the queue until a time. */
#ifndef COMMON_MODEL_END_STORE_H
#define COMMON_MODEL_END_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/call_store.h"
#include "common/model/event_store.h"
#include "common/model/job.h"
#include "common/model/limits.h"
#include "common/model/store.h"

struct end_store;

struct end_store *end_store_new(struct pg *pg);
void end_store_free(struct end_store *store);

/* Counts nightshift_jobs_ended_total; the functions below do it by themselves, statements of other
 * stores that end jobs call it. */
void end_count(enum priority priority, enum job_state state);

/* --- runs (the worker) ------------------------------------------------------------------------ */

/* The end of a run and of its job.  All pointers are borrowed until run_end returns. */
struct run_end {
    struct id job;
    int64_t run_token;
    enum job_state state; /* a terminal one; a cancel flag on the run makes it JOB_CANCELLED */
    int attempts;         /* final counters, the last call included */
    int deferrals;
    const char *result; /* JOB_SUCCEEDED: the chat.completion, clean UTF-8; else NULL */
    size_t result_len;
    const char *finish_reason; /* or NULL */
    enum error_type error;     /* ERROR_NONE when it succeeded */
    const char *error_code;    /* the provider's own, or NULL */
    const char *error_message;
    bool is_retryable;               /* might a replay help? */
    const struct call_outcome *call; /* the last call, booked also when the run is stale; or NULL */
    const struct event_chunk *chunk; /* text not stored yet, or NULL */
};

struct end_reply {
    enum store_outcome outcome;
    enum job_state state; /* STORE_DONE: what it became.  run_requeue: JOB_QUEUED or
                             JOB_CANCELLED */
    bool has_deliveries;  /* webhook rows were made: kick the sender */
};

typedef void run_end_fn(const struct end_reply *reply, void *arg);

/* done is called exactly once, never from inside.  The slot is held until then.  False: too much is
 * out; done will not be called. */
bool run_end(struct end_store *store, const struct run_end *end, run_end_fn *done,
             void *arg) MUST_CHECK;

/* A scope of the tenant that closes for the siblings, too, for the requeue's delay_ms. */
struct shut_gate {
    enum limit_scope kind;
    const char *name;    /* "" for the tenant */
    int64_t interval_us; /* then one job each interval; 0: all at once */
    int64_t most;        /* of concurrency: calls at once; -1: another limit */
};

/* A run that gives its job back.  Under a cancel flag it ends cancelled instead. */
struct run_requeue {
    struct id job;
    int64_t run_token;
    int64_t delay_ms;        /* from the database's now */
    const char *wait_reason; /* what the job says while it waits: "retry", "rate_limit", "budget",
                                "provider"; NULL: nothing but its place (drain) */
    const char *wait_detail; /* or NULL */
    const char *reason;      /* of the job.retrying event: "rate_limited", "drain" */
    int attempts;
    int deferrals;
    int superseded_attempt;          /* an attempt with deltas that is given up; 0: none */
    int64_t valid_bytes;             /* of it */
    const struct shut_gate *gate;    /* or NULL.  Then the job waits in its place, by its age */
    const struct call_outcome *call; /* or NULL */
    const struct event_chunk *chunk; /* or NULL */
};

bool run_requeue(struct end_store *store, const struct run_requeue *requeue, run_end_fn *done,
                 void *arg) MUST_CHECK;

/* --- queue rows (producer, scheduler) --------------------------------------------------------- */

/* Ends a waiting job as cancelled if it is in the queue and the tenant's: STORE_DONE, else
 * STORE_STALE (then look at runs, then at jobs, and again). */
bool queue_cancel(struct end_store *store, struct id job, const char *tenant, run_end_fn *done,
                  void *arg) MUST_CHECK;

/* Ends up to $1 (int4) waiting jobs whose deadline has passed as expired, without waiting for
 * locks.  One row per job: job uuid, priority int2, state text, has_deliveries bool.  For a
 * pg_step behind the leader's epoch check; call end_count for each row. */
const struct pg_statement *queue_expire_statement(void);

#endif
