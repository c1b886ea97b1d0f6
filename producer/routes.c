/* SPDX-License-Identifier: Apache-2.0 */
/* From a request's head to its handler: route, key, scope, body. */
#include "producer/routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/buf.h"
#include "common/io/http_server.h"
#include "common/io/metrics.h"
#include "producer/admin.h"
#include "producer/admin_handlers.h"
#include "producer/auth.h"
#include "producer/bulk.h"
#include "producer/handlers.h"
#include "producer/openapi.h"
#include "producer/producer.h"
#include "producer/reply.h"
#include "producer/stream.h"

static const struct route_entry routes[] = {
    {"POST", "/v1/jobs", SCOPE_JOBS_WRITE, BODY_JSON, submit_handle},
    {"GET", "/v1/jobs", SCOPE_JOBS_READ, BODY_NONE, list_handle},
    {"POST", "/v1/jobs/bulk", SCOPE_JOBS_WRITE, BODY_STREAM, bulk_handle},
    {"GET", "/v1/jobs/{id}", SCOPE_JOBS_READ, BODY_NONE, status_handle},
    {"GET", "/v1/jobs/{id}/events", SCOPE_JOBS_READ, BODY_NONE, events_handle},
    {"GET", "/v1/jobs/{id}/result", SCOPE_JOBS_READ, BODY_NONE, result_handle},
    {"POST", "/v1/jobs/{id}/cancel", SCOPE_JOBS_WRITE, BODY_OPTIONAL, cancel_handle},
    {"POST", "/v1/jobs/{id}/replay", SCOPE_JOBS_WRITE, BODY_OPTIONAL, replay_handle},
    {"GET", "/v1/usage", SCOPE_JOBS_READ, BODY_NONE, usage_handle},
    {"GET", "/v1/budget", SCOPE_JOBS_READ, BODY_NONE, budget_handle},
    {"POST", "/admin/v1/tenants", SCOPE_ADMIN, BODY_JSON, tenant_create_handle},
    {"GET", "/admin/v1/tenants", SCOPE_ADMIN, BODY_NONE, tenant_list_handle},
    {"GET", "/admin/v1/tenants/{id}", SCOPE_ADMIN, BODY_NONE, tenant_get_handle},
    {"PATCH", "/admin/v1/tenants/{id}", SCOPE_ADMIN, BODY_JSON, tenant_change_handle},
    {"POST", "/admin/v1/tenants/{id}/webhook-secret/rotate", SCOPE_ADMIN, BODY_OPTIONAL,
     tenant_rotate_handle},
    {"GET", "/admin/v1/tenants/{id}/usage", SCOPE_ADMIN, BODY_NONE, tenant_usage_handle},
    {"POST", "/admin/v1/tenants/{id}/keys", SCOPE_ADMIN, BODY_JSON, key_create_handle},
    {"GET", "/admin/v1/tenants/{id}/keys", SCOPE_ADMIN, BODY_NONE, key_list_handle},
    {"DELETE", "/admin/v1/keys/{id}", SCOPE_ADMIN, BODY_NONE, key_revoke_handle},
    {"GET", "/admin/v1/tenants/{id}/limits", SCOPE_ADMIN, BODY_NONE, tenant_limits_get_handle},
    {"PUT", "/admin/v1/tenants/{id}/limits", SCOPE_ADMIN, BODY_JSON, tenant_limits_put_handle},
    {"GET", "/admin/v1/tenants/{id}/budget", SCOPE_ADMIN, BODY_NONE, tenant_budget_handle},
    {"GET", "/admin/v1/keys/{id}/limits", SCOPE_ADMIN, BODY_NONE, key_limits_get_handle},
    {"PUT", "/admin/v1/keys/{id}/limits", SCOPE_ADMIN, BODY_JSON, key_limits_put_handle},
    {"POST", "/admin/v1/tenants/{id}/endpoints", SCOPE_ADMIN, BODY_JSON, endpoint_create_handle},
    {"GET", "/admin/v1/tenants/{id}/endpoints", SCOPE_ADMIN, BODY_NONE, endpoint_list_handle},
    {"GET", "/admin/v1/tenants/{id}/endpoints/{endpoint}", SCOPE_ADMIN, BODY_NONE,
     endpoint_get_handle},
    {"DELETE", "/admin/v1/tenants/{id}/endpoints/{endpoint}", SCOPE_ADMIN, BODY_NONE,
     endpoint_delete_handle},
    {"POST", "/admin/v1/tenants/{id}/endpoints/{endpoint}/rotate", SCOPE_ADMIN, BODY_OPTIONAL,
     endpoint_rotate_handle},
    {"POST", "/admin/v1/tenants/{id}/endpoints/{endpoint}/test", SCOPE_ADMIN, BODY_OPTIONAL,
     endpoint_test_handle},
    {"GET", "/admin/v1/deliveries", SCOPE_ADMIN, BODY_NONE, delivery_list_handle},
    {"GET", "/admin/v1/deliveries/{id}", SCOPE_ADMIN, BODY_NONE, delivery_get_handle},
    {"POST", "/admin/v1/deliveries/{id}/redeliver", SCOPE_ADMIN, BODY_OPTIONAL,
     delivery_redeliver_handle},
    {"GET", "/admin/v1/audit", SCOPE_ADMIN, BODY_NONE, audit_list_handle},
    {"GET", "/admin/v1/audit/verify", SCOPE_ADMIN, BODY_NONE, audit_verify_handle},
    {"POST", "/admin/v1/calls/{id}/resolve", SCOPE_ADMIN, BODY_JSON, call_resolve_handle},
    {"GET", "/admin/v1/queues", SCOPE_ADMIN, BODY_NONE, queues_handle},
    {"GET", "/admin/v1/workers", SCOPE_ADMIN, BODY_NONE, workers_handle},
    {"GET", "/admin/v1/providers", SCOPE_ADMIN, BODY_NONE, providers_handle},
    {"POST", "/admin/v1/pause", SCOPE_ADMIN, BODY_JSON, pause_handle},
    {"POST", "/admin/v1/resume", SCOPE_ADMIN, BODY_JSON, resume_handle},
    {"GET", "/healthz", SCOPE_NONE, BODY_NONE, live_handle},
    {"GET", "/readyz", SCOPE_NONE, BODY_NONE, ready_handle},
    {"GET", "/openapi.json", SCOPE_NONE, BODY_NONE, openapi_handle},
    {"GET", "/metrics", SCOPE_ADMIN, BODY_NONE, metrics_handle},
};
enum { ROUTE_COUNT = sizeof(routes) / sizeof(routes[0]) };

enum { PATH_LABEL_SIZE = 64 };

static const struct metric requests_total = {
    .name = "nightshift_http_requests_total",
    .type = METRIC_COUNTER,
    .help = "Requests answered, by route; status none: the client had left.",
    .labels = {"method", "path", "status"},
};

static const struct metric request_seconds = {
    .name = "nightshift_http_request_seconds",
    .type = METRIC_HISTOGRAM,
    .help = "From a request's head to the end of its answer.",
    .labels = {"path"},
};

/* --- finding the route ------------------------------------------------------------------------ */

/* Segment by segment; a {name} takes one that is not empty. */
static bool path_matches(const char *pattern, const char *path,
                         char params[ROUTE_PARAMS_MAX][JOB_LABEL_MAX + 1])
{
    int count = 0;

    for (;;) {
        size_t want = strcspn(pattern, "/"), got = strcspn(path, "/");

        if (*pattern == '{' && got > 0 && count < ROUTE_PARAMS_MAX) {
            size_t fits = got <= JOB_LABEL_MAX ? got : 0;

            memcpy(params[count], path, fits);
            params[count++][fits] = '\0';
        } else if (want != got || strncmp(pattern, path, want) != 0) {
            return false;
        }
        pattern += want;
        path += got;
        if (*pattern != *path)
            return false;
        if (!*pattern)
            return true;
        pattern++;
        path++;
    }
}

static void add_method(char allow[ALLOW_SIZE], const char *method)
{
    size_t len = strlen(allow);

    snprintf(allow + len, ALLOW_SIZE - len, "%s%s%s", len ? ", " : "", method,
             strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

/* A path that stands in the table as it is, is the {name} of no other: "bulk" is no job's id. */
static bool stands_as_it_is(const char *path)
{
    for (int i = 0; i < ROUTE_COUNT; i++)
        if (!strchr(routes[i].pattern, '{') && strcmp(routes[i].pattern, path) == 0)
            return true;
    return false;
}

const struct route_entry *routes_find(const char *method, const char *path,
                                      char params[ROUTE_PARAMS_MAX][JOB_LABEL_MAX + 1],
                                      char allow[ALLOW_SIZE])
{
    bool is_whole = stands_as_it_is(path);

    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    allow[0] = '\0';
    for (int i = 0; i < ROUTE_COUNT; i++) {
        if (is_whole ? strcmp(routes[i].pattern, path) != 0
                     : !path_matches(routes[i].pattern, path, params))
            continue;
        if (strcmp(routes[i].method, method) == 0)
            return &routes[i];
        add_method(allow, routes[i].method);
    }
    return NULL;
}

/* --- the body --------------------------------------------------------------------------------- */

static bool is_json_type(const char *type)
{
    static const char json[] = "application/json";
    size_t len = strlen(json);

    return !type || (strncasecmp(type, json, len) == 0 && strchr("; \t", type[len]));
}

static void on_body(struct http_request *http, const char *data, size_t len, void *arg)
{
    struct request_context *context = arg;

    (void)http;
    context->body = data;
    context->body_len = len;
    context->route->handler(context);
}

/* All bodies together have a limit too: past it the newcomer is told to come back. */
static void read_body(struct request_context *context)
{
    struct producer *producer = context->producer;
    int64_t max = producer->options->max_body_bytes;
    int64_t len = http_content_length(context->http);
    int64_t charge = len >= 0 && len < max ? len : max;

    if (!is_json_type(http_header(context->http, "content-type"))) {
        reply_error(context->http, "unsupported_media_type", NULL,
                    "The body must be application/json");
        return;
    }
    if (len <= max && producer->body_bytes + charge > producer->options->max_inflight_bytes) {
        reply_error(context->http, "overloaded", NULL, "Too many bodies are being read just now");
        return;
    }
    producer->body_bytes += charge;
    context->body_charge = charge;
    http_read_body(context->http, (size_t)max, on_body, context);
}

static void take_body(struct request_context *context)
{
    enum body_kind kind = context->route->body;
    bool is_chunked = http_is_chunked(context->http);
    int64_t len = http_content_length(context->http);
    bool is_without = kind == BODY_NONE || (kind == BODY_OPTIONAL && len <= 0 && !is_chunked);

    if (!is_without && len < 0 && !is_chunked)
        reply_error(context->http, "length_required", NULL, "Send a body with a Content-Length");
    else if (is_without || kind == BODY_STREAM)
        context->route->handler(context);
    else
        read_body(context);
}

/* --- the query -------------------------------------------------------------------------------- */

/* The handlers that read a query check its names themselves; all others have none to know. */
static bool refuse_parameter(const char *name, const char *value, void *arg, struct err *err)
{
    (void)value;
    (void)arg;
    return err_input(err, "invalid_value", name, "%.64s: unknown query parameter", name);
}

static bool takes_query(const struct route_entry *route)
{
    return (strcmp(route->method, "GET") == 0 && route->handler != result_handle) ||
           route->handler == bulk_handle;
}

static void take_query(struct request_context *context)
{
    struct err err;

    if (takes_query(context->route) || http_query_each(context->http, refuse_parameter, NULL, &err))
        take_body(context);
    else
        reply_err(context->http, &err);
}

/* --- the request ------------------------------------------------------------------------------ */

static void refuse_route(struct request_context *context)
{
    char allow[ALLOW_SIZE];

    (void)routes_find(http_method(context->http), http_path(context->http), context->params, allow);
    if (!*allow) {
        reply_error(context->http, "not_found", NULL, "There is nothing at this path");
        return;
    }
    http_add_header(context->http, "allow", allow);
    reply_error(context->http, "method_not_allowed", NULL, "The method must be one of %s", allow);
}

/* The caller and the meters are known as far as they will be. */
static void go_on(struct request_context *context)
{
    if (!context->route)
        refuse_route(context);
    else if (context->refusal)
        reply_err(context->http, context->refusal);
    else
        take_query(context);
}

static void on_meters(const struct intake_verdict *verdict, void *arg)
{
    struct request_context *context = arg;

    context->meters = verdict->meters;
    go_on(context);
}

/* False: out of memory, and answered. */
static bool keep_refusal(struct request_context *context, const struct err *err)
{
    context->refusal = malloc(sizeof(*context->refusal));
    if (context->refusal)
        *context->refusal = *err;
    else
        reply_err(context->http, err);
    return context->refusal != NULL;
}

static bool is_for_admins(const struct request_context *context)
{
    return context->route && context->route->scope == SCOPE_ADMIN;
}

/* Whoever is known is told his limits, with a refusal too. */
static void on_authenticated(bool ok, const struct caller *caller, const struct err *err, void *arg)
{
    struct request_context *context = arg;
    struct err refusal = {{0}, {0}, {0}};

    if (caller)
        context->caller = *caller;
    if (ok && is_for_admins(context) && !admin_headers_check(context->http, &refusal)) {
        ok = false;
        err = &refusal;
    }
    if (!ok && !keep_refusal(context, err))
        return;
    if (!*context->caller.tenant ||
        !intake_look(context->producer, caller, &context->meters, on_meters, context))
        go_on(context);
}

void routes_handle(struct http_request *http, void *arg)
{
    struct producer *producer = arg;
    struct request_context *context = calloc(1, sizeof(*context));
    char allow[ALLOW_SIZE];

    if (!context) {
        reply_error(http, "overloaded", NULL, "Out of memory");
        return;
    }
    context->producer = producer;
    context->http = http;
    http_set_data(http, context);
    context->route = routes_find(http_method(http), http_path(http), context->params, allow);
    if (context->route && context->route->scope == SCOPE_NONE)
        take_body(context);
    else
        auth_check(
            producer->auth, http_header(http, "authorization"), http_header(http, "x-api-key"),
            context->route ? context->route->scope : SCOPE_JOBS_READ, on_authenticated, context);
}

void routes_head(struct http_request *http, void *arg)
{
    const struct request_context *context = http_data(http);

    (void)arg;
    if (context)
        intake_add_headers(http, &context->meters);
}

/* --- afterwards ------------------------------------------------------------------------------- */

static const char *method_label(const char *method)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"};

    for (size_t i = 0; method && i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(method, known[i]) == 0)
            return known[i];
    return "other";
}

/* "/v1/jobs/:id": braces inside a label's value confuse simple readers of the text format. */
static void path_label(const struct request_context *context, char out[PATH_LABEL_SIZE])
{
    const char *pattern = context && context->route ? context->route->pattern : "other";
    size_t len = 0;

    for (; *pattern && len < PATH_LABEL_SIZE - 1; pattern++)
        if (*pattern != '}')
            out[len++] = (char)(*pattern == '{' ? ':' : *pattern);
    out[len] = '\0';
}

void routes_answered(const struct http_request *http, int status, int64_t duration_us, void *arg)
{
    struct request_context *context = http_data(http);
    char label[16] = "none", path[PATH_LABEL_SIZE];

    (void)arg;
    path_label(context, path);
    if (status > 0)
        snprintf(label, sizeof(label), "%d", status);
    metric_add(&requests_total, METRIC_LABELS(method_label(http_method(http)), path, label), 1);
    metric_observe_us(&request_seconds, METRIC_LABELS(path), duration_us);
    if (!context)
        return;
    context->producer->body_bytes -= context->body_charge;
    free(context->refusal);
    free(context);
}
