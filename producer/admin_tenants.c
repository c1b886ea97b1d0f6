/* SPDX-License-Identifier: Apache-2.0 */
/* /admin/v1/tenants: made, listed, changed; the webhook secret rotated. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/io/http_server.h"
#include "common/model/tenant_store.h"
#include "producer/admin.h"
#include "producer/admin_handlers.h"
#include "producer/admin_secret.h"
#include "producer/producer.h"
#include "producer/reply.h"

#define NO_TENANT "no tenant has this id"

static void put_tenant(struct buf *out, const struct tenant *tenant)
{
    admin_put_text(out, "id", tenant->id);
    admin_put_text(out, "object", "tenant");
    admin_put_text(out, "name", tenant->name);
    admin_put_int(out, "weight", tenant->weight);
    admin_put_bool(out, "disabled", tenant->is_disabled);
    admin_put_time(out, "created_at", tenant->created_at_us);
}

static void reply_tenant(struct request_context *context, int status,
                         const struct admin_reply *reply, const char *secret)
{
    struct tenant tenant;
    struct buf body;

    tenant_read(reply, 0, &tenant);
    buf_init(&body, ADMIN_ANSWER_MAX);
    buf_putc(&body, '{');
    put_tenant(&body, &tenant);
    if (secret)
        admin_put_text(&body, "webhook_secret", secret);
    buf_putc(&body, '}');
    reply_json(context->http, status, &body);
}

/* --- POST /admin/v1/tenants ------------------------------------------------------------------- */

static void on_created(const struct admin_reply *reply, void *arg)
{
    struct admin_secret *wait = arg;
    struct request_context *context = wait->context;
    struct tenant tenant;
    char location[sizeof("/admin/v1/tenants/") + TENANT_ID_MAX];

    if (!admin_refused(context, reply->outcome, NO_TENANT, "a tenant with this id exists")) {
        tenant_read(reply, 0, &tenant);
        snprintf(location, sizeof(location), "/admin/v1/tenants/%s", tenant.id);
        http_add_header(context->http, "location", location);
        reply_tenant(context, 201, reply, wait->text);
    }
    admin_secret_free(wait);
}

static bool read_tenant(const json_t *body, struct tenant *out, struct err *err)
{
    int64_t weight = 1;

    if (!json_read_string_required(body, "", "id", TENANT_ID_MAX, &out->id, err))
        return false;
    if (!tenant_id_is_valid(out->id))
        return err_input(err, "invalid_value", "id",
                         "id: expected 1 to %d characters of A-Z, a-z, 0-9, '.', '_' and '-'",
                         TENANT_ID_MAX);
    out->name = out->id;
    if (!json_read_string(body, "", "name", TENANT_NAME_MAX, &out->name, err) ||
        !json_read_i64(body, "", "weight", 1, TENANT_WEIGHT_MAX, &weight, err))
        return false;
    out->weight = (int)weight;
    return true;
}

void tenant_create_handle(struct request_context *context)
{
    static const char *const names[] = {"id", "name", "weight"};
    struct admin_secret *wait = NULL;
    json_t *body = admin_body(context, names, 3);
    struct tenant tenant = {0};
    struct err err = {0};
    char actor[ADMIN_ACTOR_SIZE];

    if (!body)
        goto done;
    if (!read_tenant(body, &tenant, &err) ||
        !(wait = admin_secret_new(context, "tenant", tenant.id, &err))) {
        reply_err(context->http, &err);
        goto done;
    }
    admin_actor(context, actor);
    if (tenant_create(context->producer->api_pg, &tenant, admin_secret_sealed(wait), actor,
                      on_created, wait))
        wait = NULL;
    else
        admin_started(context, false);
done:
    json_decref(body);
    admin_secret_free(wait);
}

/* --- GET and PATCH ---------------------------------------------------------------------------- */

static void on_tenant(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;

    if (!admin_refused(context, reply->outcome, NO_TENANT, ""))
        reply_tenant(context, 200, reply, NULL);
}

void tenant_get_handle(struct request_context *context)
{
    if (admin_params(context, NULL, 0))
        admin_started(
            context, tenant_get(context->producer->api_pg, context->params[0], on_tenant, context));
}

void tenant_change_handle(struct request_context *context)
{
    static const char *const names[] = {"name", "weight", "disabled"};
    json_t *body = admin_body(context, names, 3);
    struct tenant_change change = {0};
    int64_t weight = 0;
    bool is_disabled = false;
    struct err err = {0};
    char actor[ADMIN_ACTOR_SIZE];

    if (!body)
        return;
    if (json_read_string(body, "", "name", TENANT_NAME_MAX, &change.name, &err) &&
        json_read_i64(body, "", "weight", 1, TENANT_WEIGHT_MAX, &weight, &err) &&
        json_read_bool(body, "", "disabled", &is_disabled, &err)) {
        change.weight = weight > 0 ? &weight : NULL;
        change.is_disabled =
            json_is_boolean(json_object_get(body, "disabled")) ? &is_disabled : NULL;
        admin_actor(context, actor);
        admin_started(context, tenant_change(context->producer->api_pg, context->params[0], &change,
                                             actor, on_tenant, context));
    } else {
        reply_err(context->http, &err);
    }
    json_decref(body);
}

/* The limit that was asked for waits in data. */
static void on_tenants(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;
    int limit = (int)(intptr_t)context->data;
    struct tenant tenant;
    struct buf body;

    if (admin_refused(context, reply->outcome, NO_TENANT, ""))
        return;
    admin_list_begin(&body);
    for (int row = 0; row < reply->count && row < limit; row++) {
        tenant_read(reply, row, &tenant);
        admin_list_item(&body);
        put_tenant(&body, &tenant);
        buf_putc(&body, '}');
    }
    admin_list_end(&body);
    admin_put_bool(&body, "has_more", reply->count > limit);
    buf_putc(&body, '}');
    reply_json(context->http, 200, &body);
}

void tenant_list_handle(struct request_context *context)
{
    struct admin_param params[] = {{.name = "limit"}, {.name = "after"}};
    int limit = ADMIN_LIST_MAX;
    struct err err = {0};

    if (!admin_params(context, params, 2))
        return;
    if (!admin_limit(&params[0], ADMIN_LIST_MAX, &limit, &err)) {
        reply_err(context->http, &err);
        return;
    }
    context->data = (void *)(intptr_t)limit;
    admin_started(context, tenant_list(context->producer->api_pg,
                                       params[1].is_given ? params[1].value : NULL, limit + 1,
                                       on_tenants, context));
}

/* --- POST /admin/v1/tenants/{id}/webhook-secret/rotate ---------------------------------------- */

static void on_rotated(const struct admin_reply *reply, void *arg)
{
    struct admin_secret *wait = arg;

    if (!admin_refused(wait->context, reply->outcome, NO_TENANT, ""))
        admin_secret_reply(wait);
    admin_secret_free(wait);
}

void tenant_rotate_handle(struct request_context *context)
{
    const char *tenant = context->params[0];
    struct err err = {0};
    char actor[ADMIN_ACTOR_SIZE];
    struct admin_secret *wait = admin_secret_new(context, "tenant", tenant, &err);

    if (!wait) {
        reply_err(context->http, &err);
        return;
    }
    admin_actor(context, actor);
    if (tenant_rotate_secret(context->producer->api_pg, tenant, admin_secret_sealed(wait), actor,
                             on_rotated, wait))
        return;
    admin_secret_free(wait);
    admin_started(context, false);
}
