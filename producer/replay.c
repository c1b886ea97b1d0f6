/* SPDX-License-Identifier: Apache-2.0 */
/* POST /v1/jobs/{id}/replay: a new job like an ended one. */
#include <stdio.h>

#include "common/model/submit_store.h"
#include "producer/handlers.h"
#include "producer/job_reply.h"
#include "producer/producer.h"
#include "producer/reply.h"
#include "producer/submit.h"

/* The fingerprint of a replay names the job that is replayed: it is part of the path. */
static void submit(struct request_context *context, struct job_new *job)
{
    char path[64 + JOB_LABEL_MAX];
    struct err err = {{0}, {0}, {0}};

    snprintf(path, sizeof(path), "POST /v1/jobs/%s/replay", context->params[0]);
    if (!submit_sign(context, job, path, &err)) {
        job_new_free(job);
        reply_err(context->http, &err);
        return;
    }
    if (!submit_job(context->producer, job, 0, submit_reply_to, context))
        reply_error(context->http, "overloaded", NULL, "Too many jobs are being submitted");
}

static void on_copied(const struct submit_copy_reply *reply, void *arg)
{
    struct request_context *context = arg;

    if (reply->status != PG_OK) {
        reply_pg_failure(context->http, "copy a job", reply->status, "", "");
    } else if (!reply->job) {
        job_reply_not_found(context);
    } else if (!reply->has_ended) {
        job_new_free(reply->job);
        reply_error(context->http, "conflict", NULL, "The job has not ended yet");
    } else {
        submit(context, reply->job);
    }
}

void replay_handle(struct request_context *context)
{
    struct id job;

    if (!job_reply_take_id(context, &job) || !job_reply_no_arguments(context))
        return;
    if (!submit_copy(context->producer->submits, job, context->caller.tenant, on_copied, context))
        reply_error(context->http, "overloaded", NULL, "Out of memory");
}
