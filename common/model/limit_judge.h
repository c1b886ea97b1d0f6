/* SPDX-License-Identifier: Apache-2.0 */
/* What a limit says of a job before it is one: too large, or such that it can never run.  Limits
 * are the tenant's sets, and those of the providers' accounts.  Pure. */
#ifndef COMMON_MODEL_LIMIT_JUDGE_H
#define COMMON_MODEL_LIMIT_JUDGE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/model/limits.h"

struct request_facts;
struct route;

struct limit_facts {
    size_t body_bytes;  /* 0: not known (a replay has none) */
    int64_t tokens;     /* estimate for tokens per minute */
    int64_t least_nano; /* worst case of one call at the cheapest target; -1: not known */
};

/* True when the job may run some day under all sets.  Else err has `too_large` or `never_fits`, and
 * names the set and the limit.  A limit of 0 tokens or 0 money lets nothing pass.  Shadow sets
 * refuse nothing. */
bool limit_judge_job(const struct applied_limit *applied, int count,
                     const struct limit_facts *facts, struct err *err) MUST_CHECK;

/* What a set in shadow would have refused a submit for. */
enum limit_shadow {
    LIMIT_SHADOW_BODY,       /* max_body_bytes */
    LIMIT_SHADOW_JOB_COST,   /* max_job_cost_usd */
    LIMIT_SHADOW_NEVER_FITS, /* tokens_per_minute, budget_usd */
    LIMIT_SHADOW_COUNT,
};

/* A bit, 1 << enum limit_shadow, for each that limit_judge_job would have refused the job for, were
 * the sets in shadow enforced.  0: none would have. */
unsigned limit_judge_shadows(const struct applied_limit *applied, int count,
                             const struct limit_facts *facts);

/* Do the accounts of all targets have limits of tokens per minute?  Else any size fits. */
bool limit_judge_has_accounts(const struct route *route);

/* True when some target of the route can take the request: its provider's account has no limit of
 * tokens per minute, or one that holds what the worker will ask for.  Else err has `never_fits`,
 * and names the account that has the most. */
bool limit_judge_accounts(const struct route *route, const struct request_facts *facts,
                          struct err *err) MUST_CHECK;

/* The most that a job may cost in all: max_cost_nano (-1: not asked for), or what the sets give it
 * (max_job_cost_usd; shadow sets do not) if that is less.  -1: there is no ceiling. */
int64_t limit_judge_ceiling(const struct applied_limit *applied, int count, int64_t max_cost_nano);

/* max_queued of each scope, for submit_store; -1 where there is none.  False: there is none at all.
 */
bool limit_judge_queues(const struct applied_limit *applied, int count,
                        int64_t most_queued[LIMIT_SCOPE_COUNT]) MUST_CHECK;

#endif
