/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/jobs/{id}: at once, or with ?wait when the job has ended or the time is over. */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/daemon.h"
#include "common/io/http_server.h"
#include "common/model/job_store.h"
#include "producer/handlers.h"
#include "producer/job_reply.h"
#include "producer/producer.h"
#include "producer/reply.h"
#include "producer/watch.h"

enum { WAIT_MAX_S = 60, LOOK_EVERY_S = 1 };

/* --- the query -------------------------------------------------------------------------------- */

struct status_query {
    int64_t wait_s;
    bool with_request;
};

static bool on_parameter(const char *name, const char *value, void *arg, struct err *err)
{
    struct status_query *query = arg;

    if (strcmp(name, "wait") == 0) {
        if (str_to_i64(value, strlen(value), &query->wait_s) && query->wait_s >= 0 &&
            query->wait_s <= WAIT_MAX_S)
            return true;
        return err_input(err, "invalid_value", name, "wait: expected whole seconds from 0 to %d",
                         WAIT_MAX_S);
    }
    if (strcmp(name, "include") == 0) {
        query->with_request = strcmp(value, "request") == 0;
        return query->with_request ||
               err_input(err, "invalid_value", name, "include: expected request");
    }
    return err_input(err, "invalid_value", name,
                     "%.64s: unknown query parameter (known: wait, "
                     "include)",
                     name);
}

/* --- waiting ---------------------------------------------------------------------------------- */

/* A request that waits for its job's end.  It looks (a narrow read, shared by all who look in that
 * moment) when a message says that something changed, and once a second since messages get lost.
 * Only at the end is the whole job read. */
struct status_wait {
    struct request_context *context;
    struct id job;
    bool with_request;
    bool is_looking; /* a look is under way: only its answer may free this */
    bool has_news;   /* something happened meanwhile: look again */
    bool is_closed;  /* the client left */
    int64_t until_us;
    struct watch *watch;
    struct event *tick;
};

static void look(struct status_wait *wait);

static struct request_context *wait_free(struct status_wait *wait)
{
    struct request_context *context = wait->context;

    http_on_close(context->http, NULL, NULL);
    watch_stop(wait->watch);
    event_free(wait->tick);
    free(wait);
    return context;
}

static void answer(struct status_wait *wait)
{
    struct id job = wait->job;
    bool with_request = wait->with_request;

    job_reply_send(wait_free(wait), job, with_request);
}

static bool is_over(const struct status_wait *wait)
{
    return clock_monotonic_us() >= wait->until_us ||
           daemon_is_draining(wait->context->producer->daemon);
}

static void on_looked(const struct job_state_reply *reply, void *arg)
{
    struct status_wait *wait = arg;

    wait->is_looking = false;
    if (wait->is_closed)
        http_end(wait_free(wait)->http);
    else if (reply->status != PG_OK && is_over(wait))
        reply_pg_failure(wait_free(wait)->http, "wait for a job", reply->status, reply->sqlstate,
                         reply->message);
    else if (reply->status == PG_OK && !reply->is_found)
        job_reply_not_found(wait_free(wait));
    else if ((reply->status == PG_OK && job_state_is_terminal(reply->state)) || is_over(wait))
        answer(wait);
    else if (wait->has_news)
        look(wait);
}

static void look(struct status_wait *wait)
{
    struct request_context *context = wait->context;

    wait->has_news = wait->is_looking;
    if (wait->is_looking)
        return;
    wait->is_looking =
        job_read_state(context->producer->jobs, wait->job, context->caller.tenant, on_looked, wait);
}

static void on_told(const struct live_message *message, void *arg)
{
    if (message->kind == LIVE_CHANGED)
        look(arg);
}

static void on_listening(bool is_listening, void *arg)
{
    (void)is_listening;
    look(arg);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct status_wait *wait = arg;

    (void)fd;
    (void)what;
    look(wait);
    if (!wait->is_looking && is_over(wait)) /* too many look: not even this one could */
        answer(wait);
}

static void on_close(struct http_request *http, void *arg)
{
    struct status_wait *wait = arg;

    wait->is_closed = true;
    if (!wait->is_looking) {
        wait_free(wait);
        http_end(http);
    }
}

/* The time to wait is in whole seconds: a tick falls on its end. */
static bool start_tick(struct status_wait *wait)
{
    struct timeval every = {.tv_sec = LOOK_EVERY_S};

    wait->tick = event_new(wait->context->producer->base, -1, EV_PERSIST, on_tick, wait);
    return wait->tick && event_add(wait->tick, &every) == 0;
}

static bool wait_start(struct request_context *context, struct id job,
                       const struct status_query *query)
{
    struct status_wait *wait = calloc(1, sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct status_wait){.context = context,
                                 .job = job,
                                 .with_request = query->with_request,
                                 .until_us = clock_monotonic_us() + query->wait_s * US_PER_S};
    if (start_tick(wait))
        wait->watch = watch_start(context->producer->watches, job, on_told, on_listening, wait);
    if (wait->watch) {
        http_on_close(context->http, on_close, wait);
        look(wait);
        return true;
    }
    if (wait->tick)
        event_free(wait->tick);
    free(wait);
    return false;
}

void status_handle(struct request_context *context)
{
    struct status_query query = {0};
    struct err err = {{0}, {0}, {0}};
    struct id job;

    if (!http_query_each(context->http, on_parameter, &query, &err)) {
        reply_err(context->http, &err);
        return;
    }
    if (!job_reply_take_id(context, &job))
        return;
    if (query.wait_s == 0)
        job_reply_send(context, job, query.with_request);
    else if (!wait_start(context, job, &query))
        reply_error(context->http, "overloaded", NULL, "Too many jobs are being watched");
}
