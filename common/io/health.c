/* SPDX-License-Identifier: Apache-2.0 */
/* Answers whether the process lives, whether it is ready, and what it has counted. */
#include "common/io/health.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/io/daemon.h"
#include "common/io/http_server.h"
#include "common/io/metrics.h"

enum { METRICS_SIZE_MAX = 64 * 1024 * 1024, ERROR_SIZE_MAX = 4096, WHY_SIZE = 256 };

struct health {
    struct daemon *daemon;
    struct http_server *server;
};

/* The error object of the API, as the HTTP server asks for it. */
static void put_error(struct buf *body, int status, const char *code, const char *param,
                      const char *message)
{
    buf_puts(body, "{\"error\":{\"message\":");
    buf_put_json_string(body, message, strlen(message));
    buf_printf(
        body, ",\"type\":\"%s\",\"param\":", status >= 500 ? "api_error" : "invalid_request_error");
    buf_put_json_text(body, param && *param ? param : NULL);
    buf_puts(body, ",\"code\":");
    buf_put_json_string(body, code, strlen(code));
    buf_puts(body, "}}");
}

static void reply_error(struct http_request *request, int status, const char *code,
                        const char *message)
{
    struct buf body;

    buf_init(&body, ERROR_SIZE_MAX);
    put_error(&body, status, code, NULL, message);
    http_reply(request, status, "application/json", body.data, body.len);
    buf_release(&body);
}

void health_reply_live(struct http_request *request)
{
    static const char text[] = "{\"status\":\"ok\"}";

    http_reply(request, 200, "application/json", text, sizeof(text) - 1);
}

void health_reply_ready(struct http_request *request, const struct daemon *daemon)
{
    static const char text[] = "{\"status\":\"ready\"}";
    char why[WHY_SIZE] = "not ready";

    if (daemon_is_ready(daemon, why, sizeof(why))) {
        http_reply(request, 200, "application/json", text, sizeof(text) - 1);
        return;
    }
    http_add_header(request, "retry-after", "1");
    reply_error(request, 503, "unavailable", why);
}

void health_reply_metrics(struct http_request *request)
{
    struct buf body;

    buf_init(&body, METRICS_SIZE_MAX);
    if (metrics_render(&body))
        http_reply(request, 200, "text/plain; version=0.0.4; charset=utf-8",
                   body.len ? body.data : "", body.len);
    else
        reply_error(request, 500, "internal", "the metrics could not be rendered");
    buf_release(&body);
}

static void on_request(struct http_request *request, void *arg)
{
    const struct health *health = arg;
    const char *method = http_method(request), *path = http_path(request);

    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        http_add_header(request, "allow", "GET, HEAD");
        reply_error(request, 405, "method_not_allowed", "only GET and HEAD are served here");
    } else if (strcmp(path, "/metrics") == 0) {
        health_reply_metrics(request);
    } else if (strcmp(path, "/healthz") == 0) {
        health_reply_live(request);
    } else if (strcmp(path, "/readyz") == 0) {
        health_reply_ready(request, health->daemon);
    } else {
        reply_error(request, 404, "not_found", "served here: /metrics, /healthz and /readyz");
    }
}

struct health *health_new(struct daemon *daemon, int listener, struct err *err)
{
    struct health *health = calloc(1, sizeof(*health));
    struct http_server_options options = {
        .limits = {.max_connections = 256},
        .handler = on_request,
        .arg = health,
        .refuse = put_error,
    };

    if (!health) {
        err_set(err, "serve metrics: out of memory");
        return NULL;
    }
    health->daemon = daemon;
    health->server = http_server_new(daemon_base(daemon), &options, &listener, 1, err);
    if (!health->server) {
        free(health);
        return NULL;
    }
    return health;
}

void health_free(struct health *health)
{
    if (health)
        http_server_free(health->server);
    free(health);
}
