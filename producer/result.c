/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/jobs/{id}/result: the stored chat.completion, byte for byte. */
#include <stdio.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/io/http_server.h"
#include "common/model/job_store.h"
#include "producer/handlers.h"
#include "producer/job_reply.h"
#include "producer/producer.h"
#include "producer/reply.h"

static void send_result(struct http_request *http, const struct job_view *view)
{
    char base64[BASE64_SIZE(SHA256_SIZE)], digest[sizeof(base64) + 16];
    uint8_t sha256[SHA256_SIZE];

    if (view->result_sha256)
        memcpy(sha256, view->result_sha256, sizeof(sha256));
    else
        crypto_sha256(view->result, view->result_len, sha256);
    crypto_base64(sha256, sizeof(sha256), base64);
    snprintf(digest, sizeof(digest), "sha-256=:%s:", base64);
    http_add_header(http, "content-digest", digest);
    http_reply(http, 200, "application/json", view->result, view->result_len);
}

static void on_read(const struct job_read_reply *reply, void *arg)
{
    struct request_context *context = arg;

    if (reply->status != PG_OK)
        reply_pg_failure(context->http, "read a result", reply->status, reply->sqlstate,
                         reply->message);
    else if (!reply->view)
        job_reply_not_found(context);
    else if (reply->view->state != JOB_SUCCEEDED || !reply->view->result)
        reply_error(context->http, "no_result", NULL, "The job is %s and has no result",
                    job_state_name(reply->view->state));
    else
        send_result(context->http, reply->view);
}

void result_handle(struct request_context *context)
{
    struct id job;

    if (!job_reply_take_id(context, &job))
        return;
    if (!job_read(context->producer->jobs, job, context->caller.tenant, false, on_read, context))
        reply_error(context->http, "overloaded", NULL, "Too many jobs are being read");
}
