/* SPDX-License-Identifier: Apache-2.0 */
/* GET and PUT of the limits of a tenant or a key. */
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "common/base/json.h"
#include "common/base/log.h"
#include "common/io/metrics.h"
#include "common/model/limit_store.h"
#include "producer/admin.h"
#include "producer/admin_handlers.h"
#include "producer/producer.h"
#include "producer/reply.h"

enum {
    PUT_TRIES = 5,       /* when others replace the same document meanwhile */
    WAKE_JOBS = 5000,    /* of one statement */
    WAKE_ROUNDS = 1000,  /* statements at most */
    WAKINGS_MAX = 10000, /* at once */
    /* A worker that knew the old limits may have sent a job back, and closed its gate, a moment
     * after they were replaced: its jobs are woken again when all know the new ones. */
    WAKE_AGAIN_MS = 1500,
};

static const struct metric lost_wakings = {
    .name = "nightshift_limit_wakings_lost_total",
    .type = METRIC_COUNTER,
    .help = "Changes of limits after which waiting jobs were not woken: they come when they would "
            "have.",
};

static const struct log_context log_limits = {.component = "limits"};

static const char *missing_of(enum limits_owner owner)
{
    return owner == LIMITS_OF_KEY ? "no key of a tenant has this id" : "no tenant has this id";
}

/* --- GET -------------------------------------------------------------------------------------- */

static void reply_limits(struct request_context *context, const struct limits *limits)
{
    struct buf body;

    buf_init(&body, ADMIN_ANSWER_MAX);
    if (!limits_render(limits, &body))
        body.is_broken = true;
    reply_json(context->http, 200, &body);
}

static void reply_stored(struct request_context *context, enum limits_owner owner,
                         const struct admin_reply *reply)
{
    size_t len = 0;
    const char *text = limits_document(reply, &len);
    struct err err = {{0}, {0}, {0}};
    struct limits *limits = text ? limits_parse_text(text, len, owner, &err) : NULL;

    if (text && !limits) { /* by a newer version: as it stands there */
        struct buf body;

        buf_init(&body, ADMIN_ANSWER_MAX);
        buf_append(&body, text, len);
        reply_json(context->http, 200, &body);
        return;
    }
    reply_limits(context, limits);
    limits_unref(limits);
}

static void on_tenant_limits(const struct admin_reply *reply, void *arg)
{
    if (!admin_refused(arg, reply->outcome, missing_of(LIMITS_OF_TENANT), ""))
        reply_stored(arg, LIMITS_OF_TENANT, reply);
}

static void on_key_limits(const struct admin_reply *reply, void *arg)
{
    if (!admin_refused(arg, reply->outcome, missing_of(LIMITS_OF_KEY), ""))
        reply_stored(arg, LIMITS_OF_KEY, reply);
}

void tenant_limits_get_handle(struct request_context *context)
{
    if (admin_params(context, NULL, 0))
        admin_started(context, limits_get(context->producer->api_pg, LIMITS_OF_TENANT,
                                          context->params[0], on_tenant_limits, context));
}

void key_limits_get_handle(struct request_context *context)
{
    if (admin_params(context, NULL, 0))
        admin_started(context, limits_get(context->producer->api_pg, LIMITS_OF_KEY,
                                          context->params[0], on_key_limits, context));
}

/* --- waking ----------------------------------------------------------------------------------- */

/* Jobs that wait for a limit, made ready in pieces.  Nobody waits for it. */
struct waking {
    struct waking *next, **link; /* of producer->wakings */
    struct producer *producer;
    enum limits_owner owner;
    int rounds;
    bool is_again;
    struct event *timer;
    char id[JOB_LABEL_MAX + 1];
};

static void waking_free(struct waking *waking)
{
    if (waking->timer)
        event_free(waking->timer);
    *waking->link = waking->next;
    if (waking->next)
        waking->next->link = waking->link;
    waking->producer->waking_count--;
    free(waking);
}

void limits_wakings_free(struct producer *producer)
{
    while (producer->wakings)
        waking_free(producer->wakings);
}

static void tell_lost(const char *why)
{
    metric_add(&lost_wakings, NULL, 1);
    log_warn(&log_limits, "waiting jobs not woken: %s", why);
}

static void wake(struct waking *waking);

static void wake_again(struct waking *waking)
{
    const struct timeval wait = {.tv_sec = WAKE_AGAIN_MS / 1000,
                                 .tv_usec = WAKE_AGAIN_MS % 1000 * 1000};

    waking->is_again = true;
    waking->rounds = 0;
    if (event_add(waking->timer, &wait) == 0)
        return;
    tell_lost("no timer");
    waking_free(waking);
}

static void on_woken(const struct admin_reply *reply, void *arg)
{
    struct waking *waking = arg;

    if (reply->outcome == ADMIN_DONE && limits_woken(reply) == WAKE_JOBS &&
        ++waking->rounds < WAKE_ROUNDS)
        wake(waking);
    else if (!waking->is_again && reply->outcome != ADMIN_MISSING)
        wake_again(waking);
    else
        waking_free(waking);
}

static void wake(struct waking *waking)
{
    if (limits_wake(waking->producer->api_pg, waking->owner, waking->id, WAKE_JOBS, on_woken,
                    waking))
        return;
    tell_lost("out of memory");
    waking_free(waking);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    wake(arg);
}

static void wake_all(struct producer *producer, enum limits_owner owner, const char *id)
{
    bool has_room = producer->waking_count < WAKINGS_MAX;
    struct waking *waking = has_room ? calloc(1, sizeof(*waking)) : NULL;

    if (!waking) {
        tell_lost(has_room ? "out of memory" : "too many limits change at once");
        return;
    }
    *waking = (struct waking){.producer = producer,
                              .owner = owner,
                              .next = producer->wakings,
                              .link = &producer->wakings};
    if (waking->next)
        waking->next->link = &waking->next;
    producer->wakings = waking;
    producer->waking_count++;
    snprintf(waking->id, sizeof(waking->id), "%s", id);
    waking->timer = evtimer_new(producer->base, on_again, waking);
    if (waking->timer) {
        wake(waking);
        return;
    }
    tell_lost("out of memory");
    waking_free(waking);
}

/* --- PUT -------------------------------------------------------------------------------------- */

/* A document on its way: its zone is asked for, the old document read, and both are judged. */
struct putting {
    struct request_context *context;
    enum limits_owner owner;
    struct limits *limits;
    struct buf document;
    int tries;
};

static struct request_context *putting_free(struct putting *putting)
{
    struct request_context *context = putting->context;

    limits_unref(putting->limits);
    buf_release(&putting->document);
    free(putting);
    return context;
}

static void put_read(struct putting *putting);

static void refuse_started(struct putting *putting)
{
    admin_started(putting_free(putting), false);
}

static void on_put(const struct admin_reply *reply, void *arg)
{
    struct putting *putting = arg;
    struct request_context *context = putting->context;

    if (reply->outcome == ADMIN_CONFLICT && ++putting->tries < PUT_TRIES) {
        put_read(putting);
        return;
    }
    if (reply->outcome == ADMIN_CONFLICT) {
        reply_error_retry(context->http, "conflict", NULL, 1,
                          "Others replace these limits at the same time: try again");
    } else if (!admin_refused(context, reply->outcome, missing_of(putting->owner), "")) {
        wake_all(context->producer, putting->owner, context->params[0]);
        reply_limits(context, putting->limits);
    }
    putting_free(putting);
}

/* A document that only a newer version can read may have had any accounts. */
static bool is_new_accounts(const struct putting *putting, const char *old, size_t len)
{
    struct err err = {{0}, {0}, {0}};
    struct limits *before = old ? limits_parse_text(old, len, putting->owner, &err) : NULL;
    bool is_new = (old && !before) || !limits_same_accounts(before, putting->limits);

    limits_unref(before);
    return is_new;
}

static void on_read(const struct admin_reply *reply, void *arg)
{
    struct putting *putting = arg;
    struct request_context *context = putting->context;
    char actor[ADMIN_ACTOR_SIZE];
    size_t len = 0;

    if (admin_refused(context, reply->outcome, missing_of(putting->owner), "")) {
        putting_free(putting);
        return;
    }
    admin_actor(context, actor);
    struct limits_put put = {
        .owner = putting->owner,
        .id = context->params[0],
        .document = putting->document.data,
        .old_document = limits_document(reply, &len),
        .actor = actor,
    };
    put.is_new_accounts = is_new_accounts(putting, put.old_document, len);
    if (!limits_put(context->producer->api_pg, &put, on_put, putting))
        refuse_started(putting);
}

static void put_read(struct putting *putting)
{
    struct request_context *context = putting->context;

    if (!limits_get(context->producer->api_pg, putting->owner, context->params[0], on_read,
                    putting))
        refuse_started(putting);
}

static void on_zone(const struct admin_reply *reply, void *arg)
{
    struct putting *putting = arg;
    struct request_context *context = putting->context;
    const char *zone = limits_time_zone(putting->limits);

    if (admin_refused(context, reply->outcome, "", "")) {
        putting_free(putting);
    } else if (!limits_zone_is_known(reply)) {
        reply_error(context->http, "invalid_value", "time_zone",
                    "time_zone: expected the name of a time zone like \"Europe/Berlin\", got "
                    "\"%s\"",
                    zone);
        putting_free(putting);
    } else {
        put_read(putting);
    }
}

static bool read_document(struct putting *putting, struct err *err)
{
    struct request_context *context = putting->context;

    if (context->body_len > LIMITS_DOCUMENT_MAX)
        return err_input(err, "too_large", "", "The limits are over the limit of %d bytes",
                         LIMITS_DOCUMENT_MAX);
    putting->limits = limits_parse_text(context->body, context->body_len, putting->owner, err);
    return putting->limits && (limits_render(putting->limits, &putting->document) ||
                               err_set(err, "write limits: out of memory"));
}

static void put_limits(struct request_context *context, enum limits_owner owner)
{
    struct putting *putting = calloc(1, sizeof(*putting));
    struct err err = {{0}, {0}, {0}};
    const char *zone;

    if (!putting) {
        admin_started(context, false);
        return;
    }
    putting->context = context;
    putting->owner = owner;
    buf_init(&putting->document, ADMIN_ANSWER_MAX);
    if (!read_document(putting, &err)) {
        reply_err(context->http, &err);
        putting_free(putting);
        return;
    }
    zone = limits_time_zone(putting->limits);
    if (!zone)
        put_read(putting);
    else if (!limits_zone_check(context->producer->api_pg, zone, on_zone, putting))
        refuse_started(putting);
}

void tenant_limits_put_handle(struct request_context *context)
{
    put_limits(context, LIMITS_OF_TENANT);
}

void key_limits_put_handle(struct request_context *context)
{
    put_limits(context, LIMITS_OF_KEY);
}
