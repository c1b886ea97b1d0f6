/* SPDX-License-Identifier: Apache-2.0 */
/* Submits per minute, judged by Redis, or by this process alone while it is away. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/model/admission.h"
#include "common/model/limit_cache.h"
#include "producer/intake.h"
#include "producer/producer.h"
#include "producer/routes.h"

/* A question under way.  The documents are held: an answer names a set of theirs. */
struct asking {
    struct producer *producer;
    struct limits *tenant, *key;
    char *text; /* tenant and the names of the sets, one after the other */
    struct applied_limit limits[LIMIT_SCOPE_COUNT];
    int limit_count;
    int64_t submits;
    intake_verdict_fn *done;
    void *arg;
};

static void asking_free(struct asking *asking)
{
    limits_unref(asking->tenant);
    limits_unref(asking->key);
    free(asking->text);
    free(asking);
}

/* Copies the tenant's and the sets' names, which belong to the job or the caller. */
static bool copy_names(struct asking *asking, const char *tenant)
{
    size_t size = strlen(tenant) + 1;
    char *at;

    for (int i = 0; i < asking->limit_count; i++)
        size += strlen(asking->limits[i].name) + 1;
    at = asking->text = malloc(size);
    if (!at)
        return false;
    at = stpcpy(at, tenant) + 1;
    for (int i = 0; i < asking->limit_count; i++) {
        const char *name = asking->limits[i].name;

        asking->limits[i].name = at;
        at = stpcpy(at, name) + 1;
    }
    return true;
}

static void refuse(struct intake_verdict *verdict, const struct applied_limit *limit,
                   int64_t retry_after_us)
{
    char scope[LIMIT_SCOPE_TEXT_SIZE];

    limit_scope_format(limit->scope, limit->name, scope);
    verdict->is_refused = true;
    verdict->retry_after_s = (int)((retry_after_us + US_PER_S - 1) / US_PER_S);
    if (verdict->retry_after_s < 1)
        verdict->retry_after_s = 1;
    err_input(&verdict->err, "rate_limited", "",
              "Over the limit of %" PRId64 " submits per minute of %.160s: try again in %d s",
              limit->set->submits_per_minute, scope, verdict->retry_after_s);
}

static const struct applied_limit *set_of(const struct asking *asking, enum limit_scope scope)
{
    for (int i = 0; i < asking->limit_count; i++)
        if (asking->limits[i].scope == scope)
            return &asking->limits[i];
    return &asking->limits[0];
}

/* What can be said without Redis: the limits, as if nothing of them was used. */
static void guess_meters(const struct asking *asking, struct intake_meters *out)
{
    *out = (struct intake_meters){.is_known = true, .submits.limit = -1, .tokens.limit = -1};
    for (int i = 0; i < asking->limit_count; i++) {
        const struct limit_set *set = asking->limits[i].set;

        if (set->is_shadow)
            continue;
        if (set->submits_per_minute >= 0 &&
            (out->submits.limit < 0 || set->submits_per_minute < out->submits.limit))
            out->submits.limit = out->submits.remaining = set->submits_per_minute;
        if (set->tokens_per_minute >= 0 &&
            (out->tokens.limit < 0 || set->tokens_per_minute < out->tokens.limit))
            out->tokens.limit = out->tokens.remaining = set->tokens_per_minute;
    }
}

static void on_answer(const struct intake_answer *answer, void *arg)
{
    struct asking *asking = arg;
    struct intake_verdict verdict = {0};

    if (answer->is_away)
        guess_meters(asking, &verdict.meters);
    else
        verdict.meters = (struct intake_meters){
            .is_known = true, .submits = answer->submits, .tokens = answer->tokens};
    if (answer->is_refused)
        refuse(&verdict, set_of(asking, answer->scope), answer->retry_after_us);
    asking->done(&verdict, asking->arg);
    asking_free(asking);
}

static bool ask(struct asking *asking, const char *tenant)
{
    struct intake_request request = {
        .limits = asking->limits, .limit_count = asking->limit_count, .submits = asking->submits};

    if (!copy_names(asking, tenant))
        return false;
    request.tenant = asking->text;
    return admission_intake(asking->producer->admission, &request, on_answer, asking) != NULL;
}

static bool has_meters(const struct applied_limit *applied, int count)
{
    for (int i = 0; i < count; i++)
        if (applied[i].set->submits_per_minute >= 0 || applied[i].set->tokens_per_minute >= 0)
            return true;
    return false;
}

static bool start(struct asking *asking, const char *tenant, const char *key_id)
{
    const struct limit_cache *cache = asking->producer->limits;
    struct asking *copy;

    if (!asking->producer->admission || !has_meters(asking->limits, asking->limit_count))
        return false;
    copy = malloc(sizeof(*copy));
    if (!copy)
        return false;
    *copy = *asking;
    copy->tenant = limits_ref(limit_cache_tenant(cache, tenant)->limits);
    copy->key = limits_ref(limit_cache_key(cache, key_id));
    if (ask(copy, tenant))
        return true;
    asking_free(copy);
    return false;
}

bool intake_take(struct producer *producer, const struct job_new *job, intake_verdict_fn *done,
                 void *arg)
{
    struct asking asking = {.producer = producer, .submits = 1, .done = done, .arg = arg};

    asking.limit_count = limit_cache_apply(producer->limits, job->tenant, job->key_id,
                                           job->workflow, job->user, job->model, asking.limits);
    return start(&asking, job->tenant, job->key_id);
}

bool intake_look(struct producer *producer, const struct caller *caller, intake_verdict_fn *done,
                 void *arg)
{
    struct asking asking = {.producer = producer, .done = done, .arg = arg};

    asking.limit_count = limit_cache_apply(producer->limits, caller->tenant, caller->key_id, NULL,
                                           NULL, "", asking.limits);
    return start(&asking, caller->tenant, caller->key_id);
}
