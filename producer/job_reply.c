/* SPDX-License-Identifier: Apache-2.0 */
/* Answers with a job. */
#include "producer/job_reply.h"

#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/model/job_json.h"
#include "common/model/job_store.h"
#include "producer/producer.h"
#include "producer/reply.h"

void job_reply_not_found(struct request_context *context)
{
    reply_error(context->http, "not_found", NULL, "There is no such job");
}

bool job_reply_take_id(struct request_context *context, struct id *job)
{
    const char *text = context->params[0];

    if (id_parse(text, strlen(text), "job_", job))
        return true;
    job_reply_not_found(context);
    return false;
}

static void on_read(const struct job_read_reply *reply, void *arg)
{
    struct request_context *context = arg;
    struct buf body;

    if (reply->status != PG_OK) {
        reply_pg_failure(context->http, "read a job", reply->status, reply->sqlstate,
                         reply->message);
        return;
    }
    if (!reply->view) {
        job_reply_not_found(context);
        return;
    }
    buf_init(&body, JOB_JSON_MAX);
    if (!job_json_write(reply->view, &body))
        body.is_broken = true;
    reply_json(context->http, 200, &body);
}

void job_reply_send(struct request_context *context, struct id job, bool with_request)
{
    if (!job_read(context->producer->jobs, job, context->caller.tenant, with_request, on_read,
                  context))
        reply_error(context->http, "overloaded", NULL, "Too many jobs are being read");
}

bool job_reply_no_arguments(struct request_context *context)
{
    struct err err = {{0}, {0}, {0}};
    json_t *body;
    bool ok;

    if (context->body_len == 0)
        return true;
    body = json_parse(context->body, context->body_len, JSON_READ_STRICT, &err);
    if (body && !json_is_object(body))
        err_input(&err, "invalid_value", "", "the body must be empty or an empty JSON object");
    ok = json_is_object(body) && json_known_members(body, "", NULL, 0, &err);
    json_decref(body);
    if (!ok)
        reply_err(context->http, &err);
    return ok;
}
