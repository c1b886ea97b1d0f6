/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/usage and /admin/v1/tenants/{id}/usage: what was spent on what, and the unknown calls. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/money.h"
#include "common/io/http_server.h"
#include "common/model/usage_read_store.h"
#include "producer/admin.h"
#include "producer/admin_handlers.h"
#include "producer/handlers.h"
#include "producer/producer.h"
#include "producer/reply.h"
#include "producer/usage_write.h"

enum { UNKNOWN_MAX = 100, UNKNOWN_DEFAULT = 20 };

#define NO_TENANT "no tenant has this id"

enum param { FROM, TO, GROUP_BY, AFTER, UNKNOWN, LIMIT, PARAM_COUNT };

/* What was asked, until it is answered. */
struct usage_request {
    struct request_context *context;
    struct admin_param params[PARAM_COUNT];
    struct usage_question question;
    struct usage_names names;
    struct unknown_filter unknown;
    bool is_csv;
};

static const char *given(const struct admin_param *param)
{
    return param->is_given ? param->value : NULL;
}

/* --- sums: the answer ------------------------------------------------------------------------- */

static void put_bounds(struct buf *out, const struct usage_range *range)
{
    char day[USAGE_DAY_SIZE];

    if (!range->is_days) {
        admin_put_time(out, "from", range->from_us);
        admin_put_time(out, "to", range->to_us);
        return;
    }
    usage_day_format(range->first_day, day);
    admin_put_text(out, "from", day);
    usage_day_format(range->end_day, day);
    admin_put_text(out, "to", day);
}

static void answer_json(const struct usage_request *request, const struct admin_reply *reply,
                        bool has_more, const char *after)
{
    struct usage_row row;
    struct buf body;

    admin_list_begin(&body);
    for (int i = 0; i < reply->count; i++)
        if (usage_row_read(reply, i, &row))
            usage_row_put_json(&body, &request->names, &row);
    admin_list_end(&body);
    put_bounds(&body, &request->question.range);
    admin_put_bool(&body, "has_more", has_more);
    admin_put_text(&body, "next_after", has_more ? after : NULL);
    buf_putc(&body, '}');
    reply_json(request->context->http, 200, &body);
}

static void answer_csv(const struct usage_request *request, const struct admin_reply *reply,
                       bool has_more, const char *after)
{
    struct http_request *http = request->context->http;
    struct usage_row row;
    struct buf body;

    buf_init(&body, ADMIN_ANSWER_MAX);
    usage_titles_put_csv(&body, &request->names);
    for (int i = 0; i < reply->count; i++)
        if (usage_row_read(reply, i, &row))
            usage_row_put_csv(&body, &request->names, &row);
    http_add_header(http, "content-disposition", "attachment; filename=\"usage.csv\"");
    if (has_more)
        http_add_header(http, "x-next-after", after);
    if (body.is_broken)
        reply_error(http, "internal", NULL, "The answer does not fit into memory");
    else
        http_reply(http, 200, "text/csv; charset=utf-8", body.data, body.len);
    buf_release(&body);
}

static bool has_any(const struct admin_reply *reply)
{
    struct usage_row row;

    return usage_row_read(reply, 0, &row);
}

/* Without names there is one row, also when it is all zeros. */
static void answer_nothing(const struct usage_request *request)
{
    const struct usage_row none = {.day = 0};
    struct buf body;

    if (request->is_csv) {
        buf_init(&body, ADMIN_ANSWER_MAX);
        usage_titles_put_csv(&body, &request->names);
        usage_row_put_csv(&body, &request->names, &none);
        http_reply(request->context->http, 200, "text/csv; charset=utf-8", body.data, body.len);
        buf_release(&body);
        return;
    }
    admin_list_begin(&body);
    usage_row_put_json(&body, &request->names, &none);
    admin_list_end(&body);
    put_bounds(&body, &request->question.range);
    admin_put_bool(&body, "has_more", false);
    admin_put_text(&body, "next_after", NULL);
    buf_putc(&body, '}');
    reply_json(request->context->http, 200, &body);
}

static void on_usage(const struct admin_reply *reply, void *arg)
{
    struct usage_request *request = arg;
    char after[USAGE_AFTER_SIZE];
    bool has_more;

    if (admin_refused(request->context, reply->outcome, NO_TENANT, "")) {
        free(request);
        return;
    }
    has_more = usage_has_more(&request->question, reply, after);
    if (request->names.count == 0 && !has_any(reply))
        answer_nothing(request);
    else if (request->is_csv)
        answer_csv(request, reply, has_more, after);
    else
        answer_json(request, reply, has_more, after);
    free(request);
}

/* --- unknown calls ---------------------------------------------------------------------------- */

static void put_unknown(struct buf *out, const struct unknown_call *call)
{
    char id[CALL_ID_SIZE], job[ID_TEXT_SIZE], cost[MONEY_TEXT_SIZE];

    id_format_call(call->job, call->call, id);
    id_format(call->job, "job_", job);
    money_format(call->reserved_nano, cost);
    admin_list_item(out);
    admin_put_text(out, "id", id);
    admin_put_text(out, "object", "call");
    admin_put_text(out, "job", job);
    admin_put_int(out, "attempt", call->call);
    admin_put_text(out, "state", "unknown");
    admin_put_text(out, "provider", call->provider);
    admin_put_text(out, "model", call->model);
    admin_put_text(out, "workflow", call->workflow);
    admin_put_text(out, "user", call->end_user);
    admin_put_text(out, "key", call->key_id);
    admin_put_text(out, "error_type", call->error_type);
    if (call->status > 0)
        admin_put_int(out, "status", call->status);
    else
        admin_put_text(out, "status", NULL);
    admin_put_time(out, "started_at", call->started_at_us);
    admin_put_text(out, "unknown_cost_usd", cost);
    buf_putc(out, '}');
}

static void put_call_id(struct buf *out, const char *name, const struct unknown_call *call)
{
    char id[CALL_ID_SIZE];
    bool is_there = !id_is_zero(call->job);

    if (is_there)
        id_format_call(call->job, call->call, id);
    admin_put_text(out, name, is_there ? id : NULL);
}

/* One row more than the page was asked for; one without a call: there are none. */
static void on_unknown(const struct admin_reply *reply, void *arg)
{
    struct usage_request *request = arg;
    int limit = request->unknown.limit - 1;
    struct unknown_call first = {.call = 0}, last = {.call = 0};
    struct buf body;

    if (admin_refused(request->context, reply->outcome, NO_TENANT, "")) {
        free(request);
        return;
    }
    unknown_call_read(reply, 0, &first);
    admin_list_begin(&body);
    for (int i = 0; i < reply->count && i < limit && !id_is_zero(first.job); i++) {
        unknown_call_read(reply, i, &last);
        put_unknown(&body, &last);
    }
    admin_list_end(&body);
    put_call_id(&body, "first_id", &first);
    put_call_id(&body, "last_id", &last);
    admin_put_bool(&body, "has_more", reply->count > limit);
    buf_putc(&body, '}');
    reply_json(request->context->http, 200, &body);
    free(request);
}

/* --- the question ----------------------------------------------------------------------------- */

static bool is_unknown_asked(const struct admin_param *param, bool *out, struct err *err)
{
    *out = param->is_given && strcmp(param->value, "true") == 0;
    if (!param->is_given || *out || strcmp(param->value, "false") == 0)
        return true;
    return err_input(err, "invalid_value", param->name, "%s: expected true or false, got \"%.64s\"",
                     param->name, param->value);
}

static bool read_unknown(struct usage_request *request, struct err *err)
{
    const struct admin_param *params = request->params;
    struct unknown_filter *filter = &request->unknown;
    const char *after = given(&params[AFTER]);

    if (params[GROUP_BY].is_given)
        return err_input(err, "invalid_value", "group_by",
                         "group_by: unknown calls are listed one by one");
    filter->limit = UNKNOWN_DEFAULT;
    filter->has_range = params[FROM].is_given || params[TO].is_given;
    if (!admin_limit(&params[LIMIT], UNKNOWN_MAX, &filter->limit, err) ||
        !usage_range_parse(given(&params[FROM]), given(&params[TO]), clock_db_us(), &filter->range,
                           err))
        return false;
    filter->limit++;
    if (!after || id_parse_call(after, strlen(after), &filter->after_job, &filter->after_call))
        return true;
    return err_input(err, "invalid_value", "after",
                     "after: expected a call's id like call_0193...");
}

static bool read_question(struct usage_request *request, struct err *err)
{
    const struct admin_param *params = request->params;
    struct usage_question *question = &request->question;

    if (params[LIMIT].is_given)
        return err_input(err, "invalid_value", "limit",
                         "limit: only the list of unknown calls (unknown=true) takes one");
    if (!usage_range_parse(given(&params[FROM]), given(&params[TO]), clock_db_us(),
                           &question->range, err) ||
        !usage_names_parse(given(&params[GROUP_BY]), &request->names, err))
        return false;
    for (int i = 0; i < request->names.count; i++)
        question->by[request->names.of[i]] = true;
    question->after = given(&params[AFTER]);
    return usage_read_check(question, err);
}

static bool wants_csv(const struct http_request *http)
{
    const char *accept = http_header(http, "accept");

    return accept && strcasestr(accept, "text/csv");
}

/* False: answered.  Else the request is the callback's to free. */
static bool start(struct usage_request *request, bool is_unknown)
{
    const struct request_context *context = request->context;
    /* A tenant's own key asks by the tenants' role. */
    struct pg *pg =
        *context->caller.tenant ? context->producer->read_pg : context->producer->api_pg;

    return is_unknown ? unknown_calls_list(pg, &request->unknown, on_unknown, request)
                      : usage_read(pg, &request->question, on_usage, request);
}

static void handle(struct request_context *context, const char *tenant)
{
    struct usage_request *request = calloc(1, sizeof(*request));
    struct err err = {{0}, {0}, {0}};
    bool is_unknown;

    if (!request) {
        admin_started(context, false);
        return;
    }
    request->context = context;
    request->is_csv = wants_csv(context->http);
    request->question.tenant = request->unknown.tenant = tenant;
    request->params[FROM].name = "from";
    request->params[TO].name = "to";
    request->params[GROUP_BY].name = "group_by";
    request->params[AFTER].name = "after";
    request->params[UNKNOWN].name = "unknown";
    request->params[LIMIT].name = "limit";
    if (!admin_params(context, request->params, PARAM_COUNT)) {
        free(request);
        return;
    }
    if (!is_unknown_asked(&request->params[UNKNOWN], &is_unknown, &err) ||
        !(is_unknown ? read_unknown(request, &err) : read_question(request, &err))) {
        reply_err(context->http, &err);
        free(request);
        return;
    }
    if (start(request, is_unknown))
        return;
    admin_started(context, false);
    free(request);
}

void usage_handle(struct request_context *context)
{
    handle(context, context->caller.tenant);
}

void tenant_usage_handle(struct request_context *context)
{
    handle(context, context->params[0]);
}
