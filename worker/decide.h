/* SPDX-License-Identifier: Apache-2.0 */
/* What to do after a call failed, and how a call is booked.  Pure: facts and the time in, a choice
 * out. */
#ifndef WORKER_DECIDE_H
#define WORKER_DECIDE_H

#include <stdint.h>

#include "common/io/http_client.h"
#include "common/model/call_store.h"
#include "common/model/job.h"
#include "common/model/settings.h"
#include "worker/providers/retry_after.h"

/* --- booking ---------------------------------------------------------------------------------- */

/* A call that is over, as far as the ledger minds. */
struct booked_call {
    enum http_outcome outcome;
    int status;       /* 0: no head came */
    bool was_sent;    /* the request may have left */
    bool is_complete; /* end marker and finish reason came */
    bool has_usage;   /* and nothing was generated after it */
};

/* settled: it ended well, or told what it cost.  released: proven that nothing was processed.
 * unknown: nobody can know. */
enum call_state decide_booking(const struct booked_call *call);

/* --- after a failure -------------------------------------------------------------------------- */

/* A target as this run sees it. */
struct target_state {
    bool is_out;     /* will not do for this job */
    bool never_fits; /* is_out, because the job takes more than a limit of the account ever has */
    bool is_tried;   /* failed in this pass over the targets */
    bool is_paused;  /* by an admin */
    int64_t
        ready_at_us; /* not before (Retry-After, a limit of the account); monotonic; 0: any time */
    const char *wait_reason; /* of ready_at_us */
    int64_t context_tokens;  /* 0: unknown */
};

struct job_facts {
    int attempts; /* used so far, the last call included */
    int max_attempts;
    int deferrals; /* the same */
    struct target_state targets[TARGETS_MAX];
    int target_count;
    int64_t now_us;  /* monotonic */
    uint64_t random; /* any bits */
};

struct failed_call {
    int target;
    enum error_type error;
    bool may_fall_back; /* another target may do better */
    enum should_retry should_retry;
    int64_t retry_after_ms; /* -1: not said */
};

/* A provider's 429 delays the job and burns no attempt. */
bool decide_is_deferral(enum error_type error);
/* Might a replay of the job help, when it ends with this error? */
bool decide_is_retryable(enum error_type error);

/* Notes in facts what the failure says of the targets.  False: no target will do, the job fails. */
bool decide_after_failure(struct job_facts *facts, const struct failed_call *failed);

enum next_step {
    NEXT_CALL,    /* target */
    NEXT_WAIT,    /* wait_ms in place (under a second), then a new pass */
    NEXT_REQUEUE, /* back to the queue for wait_ms */
    NEXT_NEVER,   /* no account can ever take it: back to the queue until one is given more */
    NEXT_FAIL,    /* no attempt left, or no target */
};

struct next {
    enum next_step step;
    int target;
    int64_t wait_ms;
    const char *wait_reason; /* NEXT_REQUEUE: "retry", "rate_limit", "provider", "concurrency" */
};

/* Targets in their order; when all were tried, backs off and begins again (a new pass: the caller
 * clears is_tried). */
struct next decide_next(const struct job_facts *facts);

#endif
