/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/jobs: the tenant's jobs by filters, page by page. */
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/http_server.h"
#include "common/model/job_json.h"
#include "common/model/job_store.h"
#include "producer/handlers.h"
#include "producer/producer.h"
#include "producer/reply.h"

enum { METADATA_TEXT_MAX = 16 * 1024, LIST_BODY_MAX = 16 * 1024 * 1024 };

/* --- the query -------------------------------------------------------------------------------- */

struct list_query {
    struct job_filter filter;
    enum job_state state;
    enum priority priority;
    char workflow[JOB_LABEL_MAX + 1];
    struct buf metadata; /* an open JSON object */
};

typedef bool take_fn(struct list_query *query, const char *name, const char *value,
                     struct err *err);

static bool refuse(struct err *err, const char *name, const char *expected, const char *value)
{
    return err_input(err, "invalid_value", name, "%s: expected %s, got \"%.64s\"", name, expected,
                     value);
}

static bool take_state(struct list_query *query, const char *name, const char *value,
                       struct err *err)
{
    if (!job_state_parse(value, &query->state))
        return refuse(err, name, "queued, running, succeeded, failed, cancelled or expired", value);
    query->filter.state = (int)query->state;
    return true;
}

static bool take_priority(struct list_query *query, const char *name, const char *value,
                          struct err *err)
{
    if (!priority_parse(value, &query->priority))
        return refuse(err, name, "high, normal or low", value);
    query->filter.priority = (int)query->priority;
    return true;
}

static bool take_workflow(struct list_query *query, const char *name, const char *value,
                          struct err *err)
{
    if (!str_is_label(value, strlen(value), JOB_LABEL_MAX))
        return refuse(err, name, "1 to 128 of A-Z a-z 0-9 . _ / @ : -", value);
    memcpy(query->workflow, value, strlen(value) + 1);
    query->filter.workflow = query->workflow;
    return true;
}

static bool take_time(const char *name, const char *value, int64_t *us, struct err *err)
{
    return (clock_parse_rfc3339(value, strlen(value), us) && *us > 0) ||
           refuse(err, name, "an RFC 3339 time like 2026-11-21T03:04:05Z", value);
}

static bool take_created_after(struct list_query *query, const char *name, const char *value,
                               struct err *err)
{
    return take_time(name, value, &query->filter.created_after_us, err);
}

static bool take_created_before(struct list_query *query, const char *name, const char *value,
                                struct err *err)
{
    return take_time(name, value, &query->filter.created_before_us, err);
}

static bool take_limit(struct list_query *query, const char *name, const char *value,
                       struct err *err)
{
    int64_t limit;

    if (!str_to_i64(value, strlen(value), &limit) || limit < 1 || limit > JOB_LIST_MAX)
        return refuse(err, name, "a number from 1 to 100", value);
    query->filter.limit = (int)limit;
    return true;
}

static bool take_after(struct list_query *query, const char *name, const char *value,
                       struct err *err)
{
    return id_parse(value, strlen(value), "job_", &query->filter.after) ||
           refuse(err, name, "the id of a job", value);
}

static bool take_order(struct list_query *query, const char *name, const char *value,
                       struct err *err)
{
    query->filter.is_ascending = strcmp(value, "asc") == 0;
    return query->filter.is_ascending || strcmp(value, "desc") == 0 ||
           refuse(err, name, "asc or desc", value);
}

static const struct {
    const char *name;
    take_fn *take;
} parameters[] = {
    {"state", take_state},
    {"priority", take_priority},
    {"workflow", take_workflow},
    {"created_after", take_created_after},
    {"created_before", take_created_before},
    {"limit", take_limit},
    {"after", take_after},
    {"order", take_order},
};

/* metadata[k]=v; several of them must all hold. */
static bool take_metadata(struct list_query *query, const char *name, const char *value,
                          struct err *err)
{
    static const char prefix[] = "metadata[";
    size_t skip = sizeof(prefix) - 1, len = strlen(name);

    if (len < skip + 2 || name[len - 1] != ']')
        return refuse(err, name, "metadata[NAME]=VALUE", value);
    buf_putc(&query->metadata, query->metadata.len ? ',' : '{');
    buf_put_json_string(&query->metadata, name + skip, len - skip - 1);
    buf_putc(&query->metadata, ':');
    buf_put_json_string(&query->metadata, value, strlen(value));
    return !query->metadata.is_broken ||
           err_input(err, "invalid_value", "metadata", "metadata: expected less to filter by");
}

static bool on_parameter(const char *name, const char *value, void *arg, struct err *err)
{
    struct list_query *query = arg;

    if (strncmp(name, "metadata[", strlen("metadata[")) == 0)
        return take_metadata(query, name, value, err);
    for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++)
        if (strcmp(name, parameters[i].name) == 0)
            return parameters[i].take(query, name, value, err);
    return err_input(err, "invalid_value", name,
                     "%.64s: unknown query parameter (known: state, priority, workflow, "
                     "metadata[NAME], created_after, created_before, limit, after, order)",
                     name);
}

/* --- the answer ------------------------------------------------------------------------------- */

static void put_id(struct buf *body, const char *name, const struct job_view *view)
{
    char id[ID_TEXT_SIZE];

    if (view)
        id_format(view->id, "job_", id);
    if (view)
        buf_printf(body, ",\"%s\":\"%s\"", name, id);
    else
        buf_printf(body, ",\"%s\":null", name);
}

static void send_list(struct http_request *http, const struct job_list_reply *reply)
{
    const struct job_view *views = reply->views;
    bool ok = true;
    struct buf body;

    buf_init(&body, LIST_BODY_MAX);
    buf_puts(&body, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < reply->count; i++)
        ok = (i == 0 || buf_putc(&body, ',')) && job_json_write(&views[i], &body) && ok;
    buf_putc(&body, ']');
    put_id(&body, "first_id", reply->count ? &views[0] : NULL);
    put_id(&body, "last_id", reply->count ? &views[reply->count - 1] : NULL);
    buf_printf(&body, ",\"has_more\":%s}", reply->has_more ? "true" : "false");
    body.is_broken = body.is_broken || !ok;
    reply_json(http, 200, &body);
}

static void on_listed(const struct job_list_reply *reply, void *arg)
{
    struct request_context *context = arg;

    if (reply->status != PG_OK)
        reply_pg_failure(context->http, "list jobs", reply->status, reply->sqlstate,
                         reply->message);
    else if (reply->is_after_unknown)
        reply_error(context->http, "invalid_value", "after", "after: there is no such job");
    else
        send_list(context->http, reply);
}

static bool list_start(struct request_context *context, struct list_query *query, struct err *err)
{
    query->filter = (struct job_filter){
        .tenant = context->caller.tenant, .state = -1, .priority = -1, .limit = JOB_LIST_DEFAULT};
    if (!http_query_each(context->http, on_parameter, query, err))
        return false;
    if (query->metadata.len > 0 && buf_putc(&query->metadata, '}'))
        query->filter.metadata = query->metadata.data;
    return job_list(context->producer->jobs, &query->filter, on_listed, context) ||
           err_input(err, "overloaded", "", "Out of memory");
}

void list_handle(struct request_context *context)
{
    struct err err = {{0}, {0}, {0}};
    struct list_query query = {0};

    buf_init(&query.metadata, METADATA_TEXT_MAX);
    if (!list_start(context, &query, &err))
        reply_err(context->http, &err);
    buf_release(&query.metadata);
}
