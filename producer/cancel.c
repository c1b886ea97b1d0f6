/* SPDX-License-Identifier: Apache-2.0 */
/* POST /v1/jobs/{id}/cancel: out of the queue, or flagged in its run, or ended already. */
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/io/redis.h"
#include "common/model/cancel_store.h"
#include "common/model/channels.h"
#include "common/model/end_store.h"
#include "common/model/job_store.h"
#include "producer/handlers.h"
#include "producer/job_reply.h"
#include "producer/producer.h"
#include "producer/reply.h"

/* A job can slip from queue to run or back between two looks; it cannot do so for ever. */
enum { ROUNDS_MAX = 20, MESSAGE_MAX = 128 };

struct cancel {
    struct request_context *context;
    struct id job;
    int rounds;
};

static void look_in_queue(struct cancel *cancel);

static void overloaded(struct cancel *cancel)
{
    reply_error(cancel->context->http, "overloaded", NULL, "Too many jobs are being cancelled");
    free(cancel);
}

static void failed(struct cancel *cancel, enum pg_status status, const char *sqlstate,
                   const char *message)
{
    reply_pg_failure(cancel->context->http, "cancel a job", status, sqlstate, message);
    free(cancel);
}

static void answer(struct cancel *cancel)
{
    struct request_context *context = cancel->context;
    struct id job = cancel->job;

    free(cancel);
    job_reply_send(context, job, false);
}

/* Who does not hear of it reads it in Postgres within a second, or with the next heartbeat. */
static void tell_watchers(struct cancel *cancel)
{
    struct live_message message = {.kind = LIVE_CHANGED};
    char channel[CHANNEL_SIZE];
    struct buf text;

    channel_of_job(cancel->job, channel);
    buf_init(&text, MESSAGE_MAX);
    if (live_message_write(&message, &text))
        redis_publish(cancel->context->producer->redis, channel, text.data, text.len, NULL, NULL);
    buf_release(&text);
}

static void tell_worker(struct cancel *cancel, struct id worker)
{
    char channel[CHANNEL_SIZE], hex[ID_TEXT_SIZE];
    struct buf text;

    channel_of_worker(worker, channel);
    id_format(cancel->job, "", hex);
    buf_init(&text, MESSAGE_MAX);
    if (buf_printf(&text, "cancel %s", hex))
        redis_publish(cancel->context->producer->redis, channel, text.data, text.len, NULL, NULL);
    buf_release(&text);
}

/* The third look: ended, or never there, or slipped through. */
static void on_state(const struct job_state_reply *reply, void *arg)
{
    struct cancel *cancel = arg;

    if (reply->status != PG_OK) {
        failed(cancel, reply->status, reply->sqlstate, reply->message);
    } else if (!reply->is_found) {
        job_reply_not_found(cancel->context);
        free(cancel);
    } else if (job_state_is_terminal(reply->state)) {
        answer(cancel);
    } else if (++cancel->rounds < ROUNDS_MAX) {
        look_in_queue(cancel);
    } else {
        reply_error(cancel->context->http, "unavailable", NULL,
                    "The job moved too fast to be cancelled");
        free(cancel);
    }
}

static void on_flagged(const struct run_flag_reply *reply, void *arg)
{
    struct cancel *cancel = arg;
    struct producer *producer = cancel->context->producer;

    if (reply->status != PG_OK) {
        failed(cancel, reply->status, reply->sqlstate, reply->message);
    } else if (reply->is_flagged) {
        tell_worker(cancel, reply->worker);
        tell_watchers(cancel);
        answer(cancel);
    } else if (!job_read_state(producer->jobs, cancel->job, cancel->context->caller.tenant,
                               on_state, cancel)) {
        overloaded(cancel);
    }
}

static void on_queue_cancelled(const struct end_reply *reply, void *arg)
{
    struct cancel *cancel = arg;
    struct producer *producer = cancel->context->producer;

    switch (reply->outcome) {
    case STORE_DONE:
        tell_watchers(cancel);
        answer(cancel);
        break;
    case STORE_STALE:
        if (!run_flag_cancel(producer->cancel_pg, cancel->job, cancel->context->caller.tenant,
                             on_flagged, cancel))
            overloaded(cancel);
        break;
    case STORE_REFUSED:
    case STORE_AWAY:
        failed(cancel, reply->outcome == STORE_AWAY ? PG_UNAVAILABLE : PG_FAILED, "",
               store_outcome_name(reply->outcome));
        break;
    }
}

static void look_in_queue(struct cancel *cancel)
{
    if (!queue_cancel(cancel->context->producer->ends, cancel->job, cancel->context->caller.tenant,
                      on_queue_cancelled, cancel))
        overloaded(cancel);
}

void cancel_handle(struct request_context *context)
{
    struct cancel *cancel;
    struct id job;

    if (!job_reply_take_id(context, &job) || !job_reply_no_arguments(context))
        return;
    cancel = calloc(1, sizeof(*cancel));
    if (!cancel) {
        reply_error(context->http, "overloaded", NULL, "Out of memory");
        return;
    }
    *cancel = (struct cancel){.context = context, .job = job};
    look_in_queue(cancel);
}
