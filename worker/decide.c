/* SPDX-License-Identifier: Apache-2.0 */
/* Retry, fallback, requeue or failure; settled, released or unknown. */
#include "worker/decide.h"

#include <string.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"

enum {
    IN_PLACE_MS = 1000,        /* a slot is held for no longer */
    RATE_LIMIT_LEAST_MS = 250, /* "retry after 0" must not spin through the queue */
    PAUSED_MS = 5000,
};

static const struct backoff_policy retry_policy = {.base_ms = 500, .cap_ms = 60000};
static const struct backoff_policy rate_limit_policy = {.base_ms = 1000, .cap_ms = 60000};

/* --- booking ---------------------------------------------------------------------------------- */

enum call_state decide_booking(const struct booked_call *call)
{
    int status = call->status;

    if (call->is_complete || call->has_usage)
        return CALL_SETTLED;
    if (!call->was_sent || !http_outcome_sent(call->outcome))
        return CALL_RELEASED;
    /* Refused before it was processed: redirects, everything that is the caller's fault or too
     * much, and the two that mean "overloaded".  Behind a 500, 502 or 504 a model may have run. */
    if ((status >= 300 && status < 500) || status == 503 || status == 529)
        return CALL_RELEASED;
    return CALL_UNKNOWN;
}

/* --- after a failure -------------------------------------------------------------------------- */

bool decide_is_deferral(enum error_type error)
{
    return error == ERROR_RATE_LIMITED;
}

/* Will the same request fare better at the same target, later? */
static bool is_passing(enum error_type error)
{
    return error == ERROR_RATE_LIMITED || error == ERROR_OVERLOADED || error == ERROR_TIMEOUT ||
           error == ERROR_NETWORK || error == ERROR_PROTOCOL;
}

bool decide_is_retryable(enum error_type error)
{
    return is_passing(error) || error == ERROR_QUOTA || error == ERROR_WORKER_LOST ||
           error == ERROR_DEADLINE;
}

/* All targets that can take no longer a prompt than this one. */
static void rule_out_small(struct job_facts *facts, int target)
{
    int64_t tokens = facts->targets[target].context_tokens;

    for (int i = 0; i < facts->target_count; i++)
        if (tokens > 0 && facts->targets[i].context_tokens > 0 &&
            facts->targets[i].context_tokens <= tokens)
            facts->targets[i].is_out = true;
}

static void delay_target(struct job_facts *facts, const struct failed_call *failed)
{
    struct target_state *target = &facts->targets[failed->target];
    int64_t wait_ms = failed->retry_after_ms;

    target->is_tried = true;
    target->ready_at_us = 0;
    if (decide_is_deferral(failed->error)) {
        if (wait_ms < 0)
            wait_ms = backoff_full_jitter_ms(
                &rate_limit_policy, facts->deferrals > 0 ? facts->deferrals : 1, facts->random);
        if (wait_ms < RATE_LIMIT_LEAST_MS)
            wait_ms = RATE_LIMIT_LEAST_MS;
    }
    if (wait_ms >= 0)
        target->ready_at_us = facts->now_us + wait_ms * US_PER_MS;
    target->wait_reason = decide_is_deferral(failed->error) ? "rate_limit" : "retry";
}

bool decide_after_failure(struct job_facts *facts, const struct failed_call *failed)
{
    bool is_retry = is_passing(failed->error);

    if (failed->should_retry != SHOULD_RETRY_UNSAID)
        is_retry = failed->should_retry == SHOULD_RETRY_YES;
    if (is_retry) {
        delay_target(facts, failed);
        return true;
    }
    facts->targets[failed->target].is_out = true;
    if (failed->error == ERROR_CONTEXT_LENGTH)
        rule_out_small(facts, failed->target);
    return failed->may_fall_back;
}

/* When a target of a pass that is over may be called, and why not earlier. */
static int64_t ready_in_ms(const struct job_facts *facts, const struct target_state *target,
                           int64_t backoff_ms, const char **reason)
{
    int64_t wait_ms = 0;

    *reason = "retry";
    if (target->is_tried)
        wait_ms = backoff_ms;
    if (target->ready_at_us > facts->now_us + wait_ms * US_PER_MS) {
        wait_ms = (target->ready_at_us - facts->now_us + US_PER_MS - 1) / US_PER_MS;
        *reason = target->wait_reason;
    }
    if (target->is_paused && wait_ms < PAUSED_MS) {
        wait_ms = PAUSED_MS;
        *reason = "provider";
    }
    return wait_ms;
}

static bool is_callable(const struct job_facts *facts, const struct target_state *target)
{
    return !target->is_out && !target->is_tried && !target->is_paused &&
           target->ready_at_us <= facts->now_us;
}

static bool fits_nowhere(const struct job_facts *facts)
{
    for (int i = 0; i < facts->target_count; i++)
        if (!facts->targets[i].never_fits)
            return false;
    return facts->target_count > 0;
}

/* Every target was tried or cannot be: when does the earliest of them come back? */
static struct next decide_wait(const struct job_facts *facts)
{
    int failures = facts->attempts > 0 ? facts->attempts : 1;
    int64_t backoff_ms = backoff_full_jitter_ms(&retry_policy, failures, facts->random);
    struct next next = {.step = NEXT_FAIL};

    if (fits_nowhere(facts))
        return (struct next){.step = NEXT_NEVER};
    for (int i = 0; i < facts->target_count; i++) {
        const char *reason;
        int64_t wait_ms = ready_in_ms(facts, &facts->targets[i], backoff_ms, &reason);

        if (facts->targets[i].is_out || (next.step != NEXT_FAIL && wait_ms >= next.wait_ms))
            continue;
        next = (struct next){.step = NEXT_REQUEUE, .wait_ms = wait_ms, .wait_reason = reason};
        if (strcmp(reason, "retry") == 0 && wait_ms < IN_PLACE_MS)
            next.step = NEXT_WAIT;
    }
    return next;
}

struct next decide_next(const struct job_facts *facts)
{
    if (facts->attempts >= facts->max_attempts)
        return (struct next){.step = NEXT_FAIL};
    for (int i = 0; i < facts->target_count; i++)
        if (is_callable(facts, &facts->targets[i]))
            return (struct next){.step = NEXT_CALL, .target = i};
    return decide_wait(facts);
}
