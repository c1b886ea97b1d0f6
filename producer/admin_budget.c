/* SPDX-License-Identifier: Apache-2.0 */
/* GET /admin/v1/tenants/{id}/budget and GET /v1/budget. */
#include <string.h>

#include "common/base/money.h"
#include "common/io/http_server.h"
#include "common/model/tenant_store.h"
#include "producer/admin.h"
#include "producer/admin_handlers.h"
#include "producer/budget.h"
#include "producer/handlers.h"
#include "producer/producer.h"
#include "producer/reply.h"

static void put_money(struct buf *out, const char *name, int64_t nano)
{
    char text[MONEY_TEXT_SIZE];

    money_format(nano > 0 ? nano : 0, text);
    admin_put_text(out, name, text);
}

static void put_line(struct buf *out, const struct budget_line *line)
{
    admin_list_item(out);
    admin_put_text(out, "scope", line->scope_text);
    admin_put_text(out, "window", budget_window_name(line->window));
    put_money(out, "limit_usd", line->limit_nano);
    put_money(out, "spent_usd", line->spent_nano);
    put_money(out, "reserved_usd", line->reserved_nano);
    put_money(out, "unknown_usd", line->unknown_nano);
    put_money(out, "free_usd",
              line->limit_nano - line->spent_nano - line->reserved_nano - line->unknown_nano);
    admin_put_time(out, "resets_at", line->window == BUDGET_TOTAL ? 0 : line->end_us);
    buf_putc(out, '}');
}

static void on_lines(const struct budget_line *const *lines, size_t count, void *arg)
{
    struct request_context *context = arg;
    struct buf body;

    if (!lines) {
        reply_error(context->http, "unavailable", NULL, "The budgets cannot be read just now");
        return;
    }
    admin_list_begin(&body);
    for (size_t i = 0; i < count; i++)
        put_line(&body, lines[i]);
    admin_list_end(&body);
    buf_putc(&body, '}');
    reply_json(context->http, 200, &body);
}

static void list(struct request_context *context, const char *tenant)
{
    admin_started(context, budget_list(context->producer, tenant, on_lines, context));
}

static void on_tenant(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;

    if (!admin_refused(context, reply->outcome, "no tenant has this id", ""))
        list(context, context->params[0]);
}

void tenant_budget_handle(struct request_context *context)
{
    if (admin_params(context, NULL, 0))
        admin_started(
            context, tenant_get(context->producer->api_pg, context->params[0], on_tenant, context));
}

void budget_handle(struct request_context *context)
{
    if (admin_params(context, NULL, 0))
        list(context, context->caller.tenant);
}
