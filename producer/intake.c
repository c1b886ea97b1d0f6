/* SPDX-License-Identifier: Apache-2.0 */
/* What limits say of a submit without asking anybody. */
#include "producer/intake.h"

#include "common/io/metrics.h"
#include "common/model/limit_cache.h"
#include "common/model/limit_judge.h"
#include "common/model/price_guard.h"
#include "common/model/request_facts.h"
#include "common/model/settings.h"
#include "common/model/worst_case.h"
#include "producer/producer.h"

static const struct metric refused_total = {
    .name = "nightshift_intake_refusals_total",
    .type = METRIC_COUNTER,
    .help = "Submits refused by a limit: rate_limited, queue_full, budget_exceeded, never_fits, "
            "too_large.",
    .labels = {"code"},
};

void intake_count_refusal(const char *code)
{
    metric_add(&refused_total, METRIC_LABELS(code), 1);
}

void intake_count_shadows(unsigned shadows)
{
    static const char *const dimensions[] = {
        [LIMIT_SHADOW_BODY] = "body",
        [LIMIT_SHADOW_JOB_COST] = "job_cost",
        [LIMIT_SHADOW_NEVER_FITS] = "never_fits",
    };

    for (int i = 0; i < LIMIT_SHADOW_COUNT; i++)
        if (shadows & 1U << i)
            admission_count_shadow(dimensions[i]);
}

static int apply(const struct producer *producer, const struct job_new *job,
                 struct applied_limit out[LIMIT_SCOPE_COUNT])
{
    return limit_cache_apply(producer->limits, job->tenant, job->key_id, job->workflow, job->user,
                             job->model, out);
}

/* Is there money that the job must not pass? */
static bool has_ceiling(const struct job_new *job, const struct applied_limit *applied, int count)
{
    return limits_applied_budget(applied, count) ||
           limit_judge_ceiling(applied, count, job->max_cost_nano) >= 0;
}

bool intake_judge(const struct producer *producer, struct job_new *job, size_t body_bytes,
                  unsigned *shadows, struct err *err)
{
    const struct route *route = settings_route(producer->settings, job->model);
    struct limit_facts limits = {
        .body_bytes = body_bytes, .tokens = job->est_tokens, .least_nano = -1};
    struct applied_limit applied[LIMIT_SCOPE_COUNT];
    int count = apply(producer, job, applied);
    struct request_facts facts;

    *shadows = 0;
    if (count == 0 && job->worst_case_nano >= 0 && job->max_cost_nano < 0 &&
        !(route && limit_judge_has_accounts(route)))
        return true;
    request_facts_read(job->request, job->request_len, &facts);
    job->worst_case_nano = route ? worst_case_most_nano(route, &facts) : -1;
    if (route)
        limits.least_nano = worst_case_least_nano(route, &facts);
    *shadows = limit_judge_shadows(applied, count, &limits);
    if (!limit_judge_job(applied, count, &limits, err) ||
        (route && !limit_judge_accounts(route, &facts, err)))
        return false;
    return !route || !has_ceiling(job, applied, count) || price_guard_route(route, &facts, err);
}

bool intake_queues(const struct producer *producer, const struct job_new *job,
                   int64_t most_queued[LIMIT_SCOPE_COUNT])
{
    struct applied_limit applied[LIMIT_SCOPE_COUNT];

    return limit_judge_queues(applied, apply(producer, job, applied), most_queued);
}
