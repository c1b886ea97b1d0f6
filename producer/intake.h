/* SPDX-License-Identifier: Apache-2.0 */
/* The limits that stand in front of a submit, and what every answer says of them. */
#ifndef PRODUCER_INTAKE_H
#define PRODUCER_INTAKE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/model/admission.h"
#include "common/model/job.h"
#include "common/model/limits.h"

struct caller;
struct http_request;
struct producer;

/* Meters of submits and tokens for the headers of an answer. */
struct intake_meters {
    bool is_known;
    struct intake_meter submits;
    struct intake_meter tokens;
};

/* --- what needs no question ------------------------------------------------------------------- */

/* Sets the job's worst case where it is not known (a replay), and judges what no waiting helps:
 * size, tokens (of the sets and of the route's accounts), money, price-changing fields under a
 * budget.  False: err has the code.  body_bytes 0: there is no body.  *shadows: what sets in shadow
 * would have refused it for (limit_judge_shadows). */
bool intake_judge(const struct producer *producer, struct job_new *job, size_t body_bytes,
                  unsigned *shadows, struct err *err) MUST_CHECK;

/* For nightshift_intake_refusals_total. */
void intake_count_refusal(const char *code);

/* For nightshift_shadow_refusals_total, once the job is accepted. */
void intake_count_shadows(unsigned shadows);

/* max_queued by scope for submit_store; false: none. */
bool intake_queues(const struct producer *producer, const struct job_new *job,
                   int64_t most_queued[LIMIT_SCOPE_COUNT]) MUST_CHECK;

/* --- what Redis is asked ---------------------------------------------------------------------- */

/* Takes a submit of all sets the job is under.  While Redis is away a limiter of this process alone
 * judges, with its share of the limit. */
struct intake_verdict {
    bool is_refused;
    int retry_after_s;
    struct err err; /* rate_limited */
    struct intake_meters meters;
};
typedef void intake_verdict_fn(const struct intake_verdict *verdict, void *arg);

enum intake_asked {
    INTAKE_FREE,      /* no set counts it: nothing to wait for */
    INTAKE_ASKED,     /* done is called exactly once, never from inside */
    INTAKE_NO_MEMORY, /* it must be refused */
};

/* Tokens of the tenant's and the key's own sets are no reason to ask: intake_look tells them. */
enum intake_asked intake_take(struct producer *producer, const struct job_new *job,
                              intake_verdict_fn *done, void *arg) MUST_CHECK;

/* The meters of a caller, without taking anything: of the tenant's and the key's own sets.  True:
 * Redis is asked, done is called exactly once, never from inside.  False: done will not be called;
 * *known has what Redis said no longer than METER_CACHE_FRESH_MS ago, and is not known when there
 * are no such limits, when memory is out, or when the process stops. */
bool intake_look(struct producer *producer, const struct caller *caller,
                 struct intake_meters *known, intake_verdict_fn *done, void *arg);

/* --- headers ---------------------------------------------------------------------------------- */

/* x-ratelimit-*-requests, x-ratelimit-*-tokens, RateLimit-Policy and RateLimit. */
void intake_add_headers(struct http_request *http, const struct intake_meters *meters);

enum { RESET_TEXT_SIZE = 64 };
/* "0s", "850ms", "1m3.5s": as OpenAI writes x-ratelimit-reset-*. */
void intake_format_reset(int64_t us, char out[RESET_TEXT_SIZE]);

#endif
