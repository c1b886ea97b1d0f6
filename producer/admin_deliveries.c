/* SPDX-License-Identifier: Apache-2.0 */
/* /admin/v1/deliveries: the history of webhooks, and delivering once more. */
#include "producer/admin_deliveries.h"

#include <string.h>

#include "common/base/id.h"
#include "common/base/str.h"
#include "common/model/delivery_admin_store.h"
#include "common/model/tenant_store.h"
#include "producer/admin.h"
#include "producer/admin_handlers.h"
#include "producer/producer.h"
#include "producer/reply.h"

#define DELIVERY_PREFIX "dlv_"
#define NO_DELIVERY "no delivery has this id"

enum { LIMIT_MAX = 100, LIMIT_DEFAULT = 20 };

static void put_id(struct buf *out, const char *name, const char *prefix, struct id id)
{
    char text[ID_TEXT_SIZE];

    id_format(id, prefix, text);
    admin_put_text(out, name, id_is_zero(id) ? NULL : text);
}

static void put_delivery(struct buf *out, const struct delivery_info *delivery)
{
    put_id(out, "id", DELIVERY_PREFIX, delivery->id);
    admin_put_text(out, "object", "delivery");
    put_id(out, "webhook_id", "msg_", delivery->id);
    admin_put_text(out, "tenant", delivery->tenant);
    admin_put_text(out, "endpoint", delivery->endpoint);
    put_id(out, "job", "job_", delivery->job);
    admin_put_text(out, "type", delivery->type);
    admin_put_int(out, "sequence", delivery->sequence);
    admin_put_text(out, "url", delivery->url);
    admin_put_text(out, "state", delivery->state);
    admin_put_time(out, "created_at", delivery->created_at_us);
    admin_put_time(out, "next_at", delivery->ended_at_us > 0 ? 0 : delivery->next_at_us);
    admin_put_time(out, "ended_at", delivery->ended_at_us);
    admin_put_json(out, "tries", delivery->tries);
}

void delivery_reply(struct request_context *context, int status, const struct admin_reply *reply)
{
    struct delivery_info delivery;
    struct buf body;

    delivery_info_read(reply, 0, &delivery);
    buf_init(&body, ADMIN_ANSWER_MAX);
    buf_putc(&body, '{');
    put_delivery(&body, &delivery);
    buf_putc(&body, '}');
    reply_json(context->http, status, &body);
}

/* --- GET /admin/v1/deliveries ----------------------------------------------------------------- */

static void put_page_ends(struct buf *out, const struct admin_reply *reply, int shown)
{
    struct delivery_info delivery = {0};

    if (shown > 0)
        delivery_info_read(reply, 0, &delivery);
    put_id(out, "first_id", DELIVERY_PREFIX, delivery.id);
    if (shown > 0)
        delivery_info_read(reply, shown - 1, &delivery);
    put_id(out, "last_id", DELIVERY_PREFIX, delivery.id);
}

/* The limit that was asked for waits in data.  One row without a delivery: the page is empty. */
static void on_deliveries(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;
    int limit = (int)(intptr_t)context->data;
    struct delivery_info delivery;
    struct buf body;
    int shown = 0;

    if (reply->outcome == ADMIN_CONFLICT) {
        reply_error(context->http, "invalid_value", "after", "after: no delivery has this id");
        return;
    }
    if (admin_refused(context, reply->outcome, NO_DELIVERY, ""))
        return;
    admin_list_begin(&body);
    for (int row = 0; row < reply->count && row < limit; row++) {
        delivery_info_read(reply, row, &delivery);
        if (id_is_zero(delivery.id))
            break;
        admin_list_item(&body);
        put_delivery(&body, &delivery);
        buf_putc(&body, '}');
        shown++;
    }
    admin_list_end(&body);
    put_page_ends(&body, reply, shown);
    admin_put_bool(&body, "has_more", reply->count > limit);
    buf_putc(&body, '}');
    reply_json(context->http, 200, &body);
}

static bool read_id(const struct admin_param *param, const char *prefix, struct id *out,
                    struct err *err)
{
    if (!param->is_given || id_parse(param->value, strlen(param->value), prefix, out))
        return true;
    return err_input(err, "invalid_value", param->name, "%s: expected an id like %s0193...",
                     param->name, prefix);
}

/* A value of a known set. */
static bool read_choice(const struct admin_param *param, const char *const *known, size_t count,
                        const char **out, struct err *err)
{
    const char *nearest;

    if (!param->is_given)
        return true;
    for (size_t i = 0; i < count; i++)
        if (strcmp(param->value, known[i]) == 0) {
            *out = known[i];
            return true;
        }
    nearest = str_nearest(param->value, known, count);
    return err_input(err, "invalid_value", param->name, "%s: unknown value%s%s%s", param->name,
                     nearest ? " (did you mean \"" : "", nearest ? nearest : "",
                     nearest ? "\"?)" : "");
}

enum param { TENANT, JOB, ENDPOINT, STATE, TYPE, LIMIT, AFTER, PARAM_COUNT };

static bool read_filter(const struct admin_param *params, struct delivery_filter *out,
                        struct err *err)
{
    static const char *const states[] = {"waiting", "delivered", "failed"};
    const char *state = NULL, *type = NULL;

    if (params[TENANT].is_given && !tenant_id_is_valid(params[TENANT].value))
        return err_input(err, "invalid_value", "tenant", "tenant: cannot be a tenant's id");
    if (!read_id(&params[JOB], "job_", &out->job, err) ||
        !read_id(&params[AFTER], DELIVERY_PREFIX, &out->after, err) ||
        !read_choice(&params[STATE], states, 3, &state, err) ||
        !read_choice(&params[TYPE], admin_event_names, ADMIN_EVENT_COUNT, &type, err) ||
        !admin_limit(&params[LIMIT], LIMIT_MAX, &out->limit, err))
        return false;
    out->tenant = params[TENANT].is_given ? params[TENANT].value : NULL;
    out->endpoint = params[ENDPOINT].is_given ? params[ENDPOINT].value : NULL;
    out->state = state;
    out->type = type;
    return true;
}

void delivery_list_handle(struct request_context *context)
{
    struct admin_param params[PARAM_COUNT] = {
        [TENANT] = {.name = "tenant"}, [JOB] = {.name = "job"},   [ENDPOINT] = {.name = "endpoint"},
        [STATE] = {.name = "state"},   [TYPE] = {.name = "type"}, [LIMIT] = {.name = "limit"},
        [AFTER] = {.name = "after"},
    };
    struct delivery_filter filter = {.limit = LIMIT_DEFAULT};
    struct err err = {0};

    if (!admin_params(context, params, PARAM_COUNT))
        return;
    if (!read_filter(params, &filter, &err)) {
        reply_err(context->http, &err);
        return;
    }
    context->data = (void *)(intptr_t)filter.limit;
    filter.limit++;
    admin_started(context,
                  delivery_list(context->producer->api_pg, &filter, on_deliveries, context));
}

/* --- one delivery ----------------------------------------------------------------------------- */

static bool read_path(struct request_context *context, struct id *out)
{
    if (id_parse(context->params[0], strlen(context->params[0]), DELIVERY_PREFIX, out))
        return true;
    reply_error(context->http, "not_found", NULL, NO_DELIVERY);
    return false;
}

static void on_delivery(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;

    if (!admin_refused(context, reply->outcome, NO_DELIVERY,
                       "the delivery's endpoint was deleted or is disabled"))
        delivery_reply(context, 200, reply);
}

void delivery_get_handle(struct request_context *context)
{
    struct id id;

    if (admin_params(context, NULL, 0) && read_path(context, &id))
        admin_started(context, delivery_get(context->producer->api_pg, id, on_delivery, context));
}

void delivery_redeliver_handle(struct request_context *context)
{
    char actor[ADMIN_ACTOR_SIZE];
    struct id id;

    if (!read_path(context, &id))
        return;
    admin_actor(context, actor);
    admin_started(context,
                  delivery_redeliver(context->producer->api_pg, id, actor, on_delivery, context));
}
