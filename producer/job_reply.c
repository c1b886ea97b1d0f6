/* SPDX-License-Identifier: Apache-2.0 */
/* Answers with a job. */
#include "producer/job_reply.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/model/job_json.h"
#include "common/model/job_store.h"
#include "common/model/limit_cache.h"
#include "producer/budget.h"
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

/* A job object that waits for what its budgets say. */
struct fitting {
    struct request_context *context;
    struct buf body;
};

static void send_fitting(struct fitting *fitting)
{
    struct request_context *context = fitting->context;
    struct buf body = fitting->body;

    free(fitting);
    reply_json(context->http, 200, &body);
}

/* Puts the verdict where the object says null. */
static void on_fit(const struct budget_verdict *verdict, void *arg)
{
    static const char unknown[] = JOB_JSON_FITS "null";
    struct fitting *fitting = arg;
    struct buf whole = fitting->body;
    const char *at = whole.data ? strstr(whole.data, unknown) : NULL;
    size_t head;

    if (at && verdict->fit != JOB_FIT_UNKNOWN) {
        head = (size_t)(at - whole.data) + strlen(JOB_JSON_FITS);
        buf_init(&fitting->body, JOB_JSON_MAX);
        buf_append(&fitting->body, whole.data, head);
        buf_puts(&fitting->body, verdict->fit == JOB_FITS ? "true" : "false");
        buf_append(&fitting->body, whole.data + head + 4, whole.len - head - 4);
        buf_release(&whole);
    }
    send_fitting(fitting);
}

/* A queued job says whether a call of it fits just now. */
static bool ask_fit(struct request_context *context, const struct job_view *view, struct buf *body)
{
    const struct budget_question question = {.tenant = context->caller.tenant,
                                             .key_id = view->key_id,
                                             .workflow = view->workflow,
                                             .user = view->user,
                                             .model = view->model,
                                             .nano = view->worst_case_nano};
    struct fitting *fitting;

    if (view->state != JOB_QUEUED || view->worst_case_nano < 0)
        return false;
    fitting = malloc(sizeof(*fitting));
    if (!fitting)
        return false;
    *fitting = (struct fitting){.context = context, .body = *body};
    if (budget_ask(context->producer, &question, on_fit, fitting))
        return true;
    free(fitting);
    return false;
}

static bool has_budget(const struct request_context *context, const struct job_view *view)
{
    struct applied_limit applied[LIMIT_SCOPE_COUNT];
    int count = limit_cache_apply(context->producer->limits, context->caller.tenant, view->key_id,
                                  view->workflow, view->user, view->model, applied);

    return limits_applied_budget(applied, count);
}

static void on_read(const struct job_read_reply *reply, void *arg)
{
    struct request_context *context = arg;
    struct job_view view;
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
    view = *reply->view;
    view.fits_now = has_budget(context, &view) ? JOB_FIT_UNKNOWN : JOB_FITS;
    buf_init(&body, JOB_JSON_MAX);
    if (!job_json_write(&view, &body))
        body.is_broken = true;
    if (view.fits_now == JOB_FITS || body.is_broken || !ask_fit(context, &view, &body))
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
