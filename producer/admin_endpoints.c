/* SPDX-License-Identifier: Apache-2.0 */
/* Webhook endpoints of a tenant: made, listed, rotated, tried, deleted. */
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/json.h"
#include "common/model/endpoint_store.h"
#include "common/model/job.h"
#include "common/model/webhook_url.h"
#include "producer/admin.h"
#include "producer/admin_deliveries.h"
#include "producer/admin_handlers.h"
#include "producer/admin_secret.h"
#include "producer/producer.h"
#include "producer/reply.h"

#define NO_TENANT "no tenant has this id"
#define NO_ENDPOINT "the tenant has no endpoint with this id"

static void put_endpoint(struct buf *out, const struct endpoint *endpoint)
{
    admin_put_text(out, "id", endpoint->id);
    admin_put_text(out, "object", "endpoint");
    admin_put_text(out, "url", endpoint->url);
    admin_put_json(out, "events", endpoint->events);
    admin_put_bool(out, "disabled", endpoint->disabled_at_us > 0);
    admin_put_time(out, "disabled_at", endpoint->disabled_at_us);
    admin_put_text(out, "disabled_reason", endpoint->disabled_reason);
    admin_put_time(out, "created_at", endpoint->created_at_us);
}

static void reply_endpoint(struct request_context *context, int status,
                           const struct admin_reply *reply, const char *secret)
{
    struct endpoint endpoint;
    struct buf body;

    endpoint_read(reply, 0, &endpoint);
    buf_init(&body, ADMIN_ANSWER_MAX);
    buf_putc(&body, '{');
    put_endpoint(&body, &endpoint);
    if (secret)
        admin_put_text(&body, "secret", secret);
    buf_putc(&body, '}');
    reply_json(context->http, status, &body);
}

/* --- POST ------------------------------------------------------------------------------------- */

static void on_created(const struct admin_reply *reply, void *arg)
{
    struct admin_secret *wait = arg;

    if (!admin_refused(wait->context, reply->outcome, NO_TENANT,
                       "the tenant has as many endpoints as it may have; delete one first"))
        reply_endpoint(wait->context, 201, reply, wait->text);
    admin_secret_free(wait);
}

static bool read_endpoint(const struct request_context *context, const json_t *body,
                          struct endpoint_new *out, const char **events, struct err *err)
{
    const struct webhook_policy *webhooks = &context->producer->webhooks;

    return json_read_string_required(body, "", "url", URL_MAX, &out->url, err) &&
           webhook_url_check(out->url, webhooks->allow, webhooks->allow_count, "url", err) &&
           admin_read_names(body, "events", admin_event_names, ADMIN_EVENT_COUNT, events,
                            ENDPOINT_EVENTS_MAX, &out->event_count, err);
}

void endpoint_create_handle(struct request_context *context)
{
    static const char *const names[] = {"url", "events"};
    json_t *body = admin_body(context, names, 2);
    const char *events[ENDPOINT_EVENTS_MAX];
    struct endpoint_new row = {.tenant = context->params[0], .events = events};
    struct admin_secret *wait = NULL;
    struct err err = {0};
    char actor[ADMIN_ACTOR_SIZE], id[ID_TEXT_SIZE];

    if (!body)
        return;
    id_format(id_make(clock_db_us()), "ep_", id);
    if (read_endpoint(context, body, &row, events, &err))
        wait = admin_secret_new(context, "endpoint", id, &err);
    if (wait) {
        admin_actor(context, actor);
        row.id = id;
        row.secret = admin_secret_sealed(wait);
        if (!endpoint_create(context->producer->api_pg, &row, actor, on_created, wait)) {
            admin_secret_free(wait);
            admin_started(context, false);
        }
    } else {
        reply_err(context->http, &err);
    }
    json_decref(body);
}

/* --- GET -------------------------------------------------------------------------------------- */

static void on_endpoints(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;
    struct endpoint endpoint;
    struct buf body;

    if (admin_refused(context, reply->outcome, NO_TENANT, ""))
        return;
    admin_list_begin(&body);
    for (int row = 0; row < reply->count; row++) {
        endpoint_read(reply, row, &endpoint);
        if (!endpoint.id)
            break;
        admin_list_item(&body);
        put_endpoint(&body, &endpoint);
        buf_putc(&body, '}');
    }
    admin_list_end(&body);
    buf_putc(&body, '}');
    reply_json(context->http, 200, &body);
}

void endpoint_list_handle(struct request_context *context)
{
    if (admin_params(context, NULL, 0))
        admin_started(context, endpoint_list(context->producer->api_pg, context->params[0],
                                             on_endpoints, context));
}

static void on_endpoint(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;

    if (!admin_refused(context, reply->outcome, NO_ENDPOINT, ""))
        reply_endpoint(context, 200, reply, NULL);
}

void endpoint_get_handle(struct request_context *context)
{
    if (admin_params(context, NULL, 0))
        admin_started(context, endpoint_get(context->producer->api_pg, context->params[0],
                                            context->params[1], on_endpoint, context));
}

/* --- DELETE, rotate, test --------------------------------------------------------------------- */

static void on_deleted(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;

    if (!admin_refused(context, reply->outcome, NO_ENDPOINT, ""))
        reply_empty(context->http, 204);
}

void endpoint_delete_handle(struct request_context *context)
{
    char actor[ADMIN_ACTOR_SIZE];

    admin_actor(context, actor);
    admin_started(context, endpoint_delete(context->producer->api_pg, context->params[0],
                                           context->params[1], actor, on_deleted, context));
}

static void on_rotated(const struct admin_reply *reply, void *arg)
{
    struct admin_secret *wait = arg;

    if (!admin_refused(wait->context, reply->outcome, NO_ENDPOINT, ""))
        reply_endpoint(wait->context, 200, reply, wait->text);
    admin_secret_free(wait);
}

void endpoint_rotate_handle(struct request_context *context)
{
    const char *endpoint = context->params[1];
    struct err err = {0};
    struct admin_secret *wait = admin_secret_new(context, "endpoint", endpoint, &err);
    char actor[ADMIN_ACTOR_SIZE];

    if (!wait) {
        reply_err(context->http, &err);
        return;
    }
    admin_actor(context, actor);
    if (endpoint_rotate(context->producer->api_pg, context->params[0], endpoint,
                        admin_secret_sealed(wait), actor, on_rotated, wait))
        return;
    admin_secret_free(wait);
    admin_started(context, false);
}

static void on_tested(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;

    if (!admin_refused(context, reply->outcome, NO_ENDPOINT, "the endpoint is disabled"))
        delivery_reply(context, 201, reply);
}

void endpoint_test_handle(struct request_context *context)
{
    char actor[ADMIN_ACTOR_SIZE];

    admin_actor(context, actor);
    admin_started(context, endpoint_test(context->producer->api_pg, context->params[0],
                                         context->params[1], actor, on_tested, context));
}
