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
#include "producer/intake_sets.h"
#include "producer/meter_cache.h"
#include "producer/producer.h"
#include "producer/routes.h"

/* A question under way.  The documents are held: an answer names a set of theirs. */
struct asking {
    struct producer *producer;
    struct limits *tenant, *key;
    const char *tenant_name, *key_id;
    char *text; /* these two and the names of the sets, one after the other */
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

static void move_name(const char **name, char **at)
{
    const char *from = *name;

    *name = *at;
    *at = stpcpy(*at, from) + 1;
}

/* Copies all names, which belong to the job or the caller. */
static bool copy_names(struct asking *asking)
{
    size_t size = strlen(asking->tenant_name) + 1 + strlen(asking->key_id) + 1;
    char *at;

    for (int i = 0; i < asking->limit_count; i++)
        size += strlen(asking->limits[i].name) + 1;
    at = asking->text = malloc(size);
    if (!at)
        return false;
    move_name(&asking->tenant_name, &at);
    move_name(&asking->key_id, &at);
    for (int i = 0; i < asking->limit_count; i++)
        move_name(&asking->limits[i].name, &at);
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

/* What can be said without Redis: the limits, as if nothing of them was used, or all when this
 * process refuses. */
static void guess_meters(const struct asking *asking, const struct intake_answer *answer,
                         struct intake_meters *out)
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
    if (answer->is_refused) {
        out->submits.remaining = 0;
        out->submits.reset_us = answer->retry_after_us;
    }
}

/* For the looks that follow.  What a limiter of this process says is not remembered: Redis may be
 * back for the next one. */
static void remember(const struct asking *asking, const struct intake_answer *answer,
                     const struct intake_meters *meters)
{
    struct meter_cache *cache = asking->producer->meters;
    int64_t now_us = clock_monotonic_us();

    if (answer->is_away)
        return;
    if (intake_sets_are_of_caller(asking->limits, asking->limit_count))
        meter_cache_put(cache, asking->tenant_name, asking->key_id, now_us, meters);
    else if (asking->submits > 0 && !answer->is_refused)
        meter_cache_take(cache, asking->tenant_name, asking->key_id, now_us);
}

static void on_answer(const struct intake_answer *answer, void *arg)
{
    struct asking *asking = arg;
    struct intake_verdict verdict = {0};

    if (answer->is_away)
        guess_meters(asking, answer, &verdict.meters);
    else
        verdict.meters = (struct intake_meters){
            .is_known = true, .submits = answer->submits, .tokens = answer->tokens};
    remember(asking, answer, &verdict.meters);
    if (answer->is_refused)
        refuse(&verdict, set_of(asking, answer->scope), answer->retry_after_us);
    asking->done(&verdict, asking->arg);
    asking_free(asking);
}

static bool ask(struct asking *asking)
{
    struct intake_request request = {
        .limits = asking->limits, .limit_count = asking->limit_count, .submits = asking->submits};

    if (!copy_names(asking))
        return false;
    request.tenant = asking->tenant_name;
    return admission_intake(asking->producer->admission, &request, on_answer, asking) != NULL;
}

static bool start(const struct asking *asking)
{
    const struct limit_cache *cache = asking->producer->limits;
    struct asking *copy = malloc(sizeof(*copy));

    if (!copy)
        return false;
    *copy = *asking;
    copy->tenant = limits_ref(limit_cache_tenant(cache, asking->tenant_name)->limits);
    copy->key = limits_ref(limit_cache_key(cache, asking->key_id));
    if (ask(copy))
        return true;
    asking_free(copy);
    return false;
}

enum intake_asked intake_take(struct producer *producer, const struct job_new *job,
                              intake_verdict_fn *done, void *arg)
{
    struct asking asking = {.producer = producer,
                            .tenant_name = job->tenant,
                            .key_id = job->key_id,
                            .submits = 1,
                            .done = done,
                            .arg = arg};

    asking.limit_count = limit_cache_apply(producer->limits, job->tenant, job->key_id,
                                           job->workflow, job->user, job->model, asking.limits);
    if (!producer->admission || !intake_sets_need_taking(asking.limits, asking.limit_count))
        return INTAKE_FREE;
    return start(&asking) ? INTAKE_ASKED : INTAKE_NO_MEMORY;
}

bool intake_look(struct producer *producer, const struct caller *caller,
                 struct intake_meters *known, intake_verdict_fn *done, void *arg)
{
    struct asking asking = {.producer = producer,
                            .tenant_name = caller->tenant,
                            .key_id = caller->key_id,
                            .done = done,
                            .arg = arg};

    *known = (struct intake_meters){.is_known = false};
    asking.limit_count = limit_cache_apply(producer->limits, caller->tenant, caller->key_id, NULL,
                                           NULL, NULL, asking.limits);
    return producer->admission && intake_sets_have_meters(asking.limits, asking.limit_count) &&
           !meter_cache_get(producer->meters, caller->tenant, caller->key_id, clock_monotonic_us(),
                            known) &&
           start(&asking);
}
