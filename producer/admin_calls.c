/* SPDX-License-Identifier: Apache-2.0 */
/* POST /admin/v1/calls/{id}/resolve: books a call of unknown outcome as an admin found it. */
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/money.h"
#include "common/model/admission.h"
#include "common/model/call_resolve_store.h"
#include "producer/admin.h"
#include "producer/admin_handlers.h"
#include "producer/producer.h"
#include "producer/reply.h"

#define TOKENS_MAX INT64_C(1000000000)
#define COST_MAX "9000000" /* MONEY_MAX_NANO */

struct resolve_wait {
    struct request_context *context;
    struct id job;
    int call;
};

/* Redis hears of it by name; should it not, the scheduler's reconcile tells it. */
static void tell_redis(const struct resolve_wait *wait, const struct resolved_call *call)
{
    struct admission_settlement settlement = {
        .tenant = call->tenant,
        .job = wait->job,
        .run = call->run,
        .call = wait->call,
        .holds = ADMISSION_HOLDS_MONEY,
        .end = ADMISSION_SETTLED,
        .cost_nano = call->cost_nano,
        .tokens = -1,
        .counts_overrun = true,
    };

    admission_settle(wait->context->producer->admission, &settlement);
}

static void put_tokens(struct buf *out, const char *name, int64_t tokens)
{
    if (tokens >= 0)
        admin_put_int(out, name, tokens);
    else
        admin_put_json(out, name, NULL);
}

static void put_money(struct buf *out, const char *name, int64_t nano)
{
    char text[MONEY_TEXT_SIZE];

    money_format(nano, text);
    admin_put_text(out, name, text);
}

static void put_call(struct buf *out, const struct resolve_wait *wait,
                     const struct resolved_call *call)
{
    char id[CALL_ID_SIZE], job[ID_TEXT_SIZE];

    id_format_call(wait->job, wait->call, id);
    id_format(wait->job, "job_", job);
    admin_put_text(out, "id", id);
    admin_put_text(out, "object", "call");
    admin_put_text(out, "job", job);
    admin_put_text(out, "tenant", call->tenant);
    admin_put_int(out, "attempt", wait->call);
    admin_put_text(out, "provider", call->provider);
    admin_put_text(out, "model", call->model);
    admin_put_text(out, "state", "settled");
    admin_put_time(out, "started_at", call->started_us);
    put_tokens(out, "input_tokens", call->input_tokens);
    put_tokens(out, "cached_input_tokens", call->cached_input_tokens);
    put_tokens(out, "output_tokens", call->output_tokens);
    put_money(out, "cost_usd", call->cost_nano);
    put_money(out, "reserved_usd", call->reserved_nano);
}

static void on_resolved(const struct admin_reply *reply, void *arg)
{
    struct resolve_wait *wait = arg;
    struct request_context *context = wait->context;
    struct resolved_call call;
    struct buf body;

    if (admin_refused(context, reply->outcome, "no call has this id",
                      "the call is not unknown: it is under way, or booked already")) {
        free(wait);
        return;
    }
    resolved_call_read(reply, &call);
    if (call.is_too_dear) {
        reply_error(context->http, "invalid_value", "usage",
                    "usage: at the prices of this call that is more than the " COST_MAX
                    " US dollars a call may cost; check the counts, or state cost_usd");
    } else {
        tell_redis(wait, &call);
        buf_init(&body, ADMIN_ANSWER_MAX);
        buf_putc(&body, '{');
        put_call(&body, wait, &call);
        buf_putc(&body, '}');
        reply_json(context->http, 200, &body);
    }
    free(wait);
}

static bool read_usage(const json_t *usage, struct call_resolution *out, struct err *err)
{
    static const char *const known[] = {"input_tokens", "cached_input_tokens", "output_tokens"};

    if (!json_is_object(usage))
        return err_input(err, "invalid_value", "usage", "usage: expected an object");
    if (!json_known_members(usage, "usage", known, 3, err) ||
        !json_read_i64_required(usage, "usage", "input_tokens", 0, TOKENS_MAX, &out->input_tokens,
                                err) ||
        !json_read_i64(usage, "usage", "cached_input_tokens", 0, TOKENS_MAX,
                       &out->cached_input_tokens, err) ||
        !json_read_i64_required(usage, "usage", "output_tokens", 0, TOKENS_MAX, &out->output_tokens,
                                err))
        return false;
    if (out->cached_input_tokens > out->input_tokens)
        return err_input(err, "invalid_value", "usage.cached_input_tokens",
                         "usage.cached_input_tokens: more than the input tokens");
    return true;
}

static const json_t *member(const json_t *body, const char *name)
{
    const json_t *value = json_object_get(body, name);

    return json_is_null(value) ? NULL : value;
}

static bool read_resolution(const json_t *body, struct call_resolution *out, struct err *err)
{
    const json_t *cost = member(body, "cost_usd");
    const json_t *usage = member(body, "usage");

    *out = (struct call_resolution){.cost_nano = -1};
    if (!cost == !usage)
        return err_input(err, cost ? "invalid_value" : "missing_field", "cost_usd",
                         "expected either cost_usd or usage");
    if (usage)
        return read_usage(usage, out, err);
    if (json_is_string(cost) &&
        money_parse(json_string_value(cost), json_string_length(cost), &out->cost_nano))
        return true;
    return err_input(err, "invalid_value", "cost_usd",
                     "cost_usd: expected US dollars as a decimal string like \"12.50\", at most "
                     "nine places and at most " COST_MAX "; state what the provider billed");
}

void call_resolve_handle(struct request_context *context)
{
    static const char *const known[] = {"cost_usd", "usage"};
    struct resolve_wait *wait;
    struct call_resolution resolution;
    char actor[ADMIN_ACTOR_SIZE];
    struct err err = {0};
    struct id job;
    int call;
    json_t *body = admin_body(context, known, 2);
    bool ok;

    if (!body)
        return;
    ok = read_resolution(body, &resolution, &err);
    json_decref(body);
    if (!ok) {
        reply_err(context->http, &err);
        return;
    }
    if (!id_parse_call(context->params[0], strlen(context->params[0]), &job, &call)) {
        reply_error(context->http, "not_found", NULL, "no call has this id");
        return;
    }
    wait = malloc(sizeof(*wait));
    if (wait)
        *wait = (struct resolve_wait){.context = context, .job = job, .call = call};
    admin_actor(context, actor);
    if (wait &&
        call_resolve(context->producer->api_pg, job, call, &resolution, actor, on_resolved, wait))
        return;
    free(wait);
    admin_started(context, false);
}
