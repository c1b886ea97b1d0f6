/* SPDX-License-Identifier: Apache-2.0 */
/* Names and legal moves of jobs. */
#include "common/model/job.h"

#include <stdlib.h>
#include <string.h>

static const char *const priority_names[PRIORITY_COUNT] = {
    [PRIORITY_HIGH] = "high",
    [PRIORITY_NORMAL] = "normal",
    [PRIORITY_LOW] = "low",
};

static const char *const state_names[JOB_STATE_COUNT] = {
    [JOB_QUEUED] = "queued", [JOB_RUNNING] = "running",     [JOB_SUCCEEDED] = "succeeded",
    [JOB_FAILED] = "failed", [JOB_CANCELLED] = "cancelled", [JOB_EXPIRED] = "expired",
};

static const char *const error_names[ERROR_TYPE_COUNT] = {
    [ERROR_NONE] = NULL,
    [ERROR_RATE_LIMITED] = "rate_limited",
    [ERROR_OVERLOADED] = "overloaded",
    [ERROR_TIMEOUT] = "timeout",
    [ERROR_NETWORK] = "network",
    [ERROR_AUTH] = "auth",
    [ERROR_BAD_REQUEST] = "bad_request",
    [ERROR_CONTEXT_LENGTH] = "context_length",
    [ERROR_CONTENT_FILTER] = "content_filter",
    [ERROR_QUOTA] = "quota",
    [ERROR_PROTOCOL] = "protocol",
    [ERROR_WORKER_LOST] = "worker_lost",
    [ERROR_DEADLINE] = "deadline",
    [ERROR_BUDGET] = "budget",
    [ERROR_CANCELLED] = "cancelled",
};

/* Every legal move.  SQL repeats each in the WHERE of the statement that makes it: a row leaves
 * queue or runs exactly once, and jobs.state is only written together with such a leave. */
static const struct {
    enum job_state from, to;
    const char *reason;
} moves[] = {
    {JOB_QUEUED, JOB_RUNNING, "a worker claims it"},
    {JOB_RUNNING, JOB_QUEUED, "retry later, drain, or its worker is lost"},
    {JOB_RUNNING, JOB_SUCCEEDED, "the provider's whole answer is stored"},
    {JOB_RUNNING, JOB_FAILED, "an error that no retry may mend, or attempts are used up"},
    {JOB_RUNNING, JOB_CANCELLED, "cancelled while running"},
    {JOB_RUNNING, JOB_EXPIRED, "its deadline cut it"},
    {JOB_QUEUED, JOB_CANCELLED, "cancelled while waiting"},
    {JOB_QUEUED, JOB_EXPIRED, "its deadline passed while waiting"},
};

static int name_index(const char *name, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (names[i] && strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

const char *priority_name(enum priority priority)
{
    return priority_names[priority];
}

bool priority_parse(const char *name, enum priority *out)
{
    int i = name_index(name, priority_names, PRIORITY_COUNT);

    if (i < 0)
        return false;
    *out = (enum priority)i;
    return true;
}

const char *job_state_name(enum job_state state)
{
    return state_names[state];
}

bool job_state_parse(const char *name, enum job_state *out)
{
    int i = name_index(name, state_names, JOB_STATE_COUNT);

    if (i < 0)
        return false;
    *out = (enum job_state)i;
    return true;
}

bool job_state_is_terminal(enum job_state state)
{
    return state >= JOB_SUCCEEDED;
}

bool job_may_move(enum job_state from, enum job_state to)
{
    for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++)
        if (moves[i].from == from && moves[i].to == to)
            return true;
    return false;
}

const char *error_type_name(enum error_type type)
{
    return error_names[type];
}

void job_new_free(struct job_new *job)
{
    if (!job)
        return;
    free(job->tenant);
    free(job->key_id);
    free(job->workflow);
    free(job->user);
    free(job->purpose);
    free(job->data_class);
    free(job->metadata);
    free(job->model);
    free(job->request);
    free(job->webhook_url);
    free(job->webhook_events);
    free(job->idempotency_key);
    free(job);
}
