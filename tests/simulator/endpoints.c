/* SPDX-License-Identifier: Apache-2.0 */
/* What each path stands for. */
#include <stdio.h>
#include <string.h>

#include "common/io/http_server.h"
#include "tests/simulator/chat.h"
#include "tests/simulator/control.h"
#include "tests/simulator/hooks.h"
#include "tests/simulator/query.h"
#include "tests/simulator/scenario.h"
#include "tests/simulator/simulator.h"

typedef void endpoint_fn(struct simulator *simulator, struct http_request *http, const char *name);

static void models(struct simulator *simulator, struct http_request *http, const char *name)
{
    (void)name;
    chat_models(simulator, http);
}

static void hook_receive(struct simulator *simulator, struct http_request *http, const char *name)
{
    hooks_receive(simulator->hooks, http, name);
}

static void hook_list(struct simulator *simulator, struct http_request *http, const char *name)
{
    hooks_list(simulator->hooks, http, name);
}

static void health(struct simulator *simulator, struct http_request *http, const char *name)
{
    (void)simulator;
    (void)name;
    http_reply(http, 200, "text/plain", "ok\n", 3);
}

/* A path is prefix + one segment + suffix; the segment is handed over as the name. */
static const struct endpoint {
    const char *method;
    const char *prefix;
    const char *suffix;
    bool has_name;
    endpoint_fn *fn;
} endpoints[] = {
    {"POST", "/v1/chat/completions", "", false, chat_handle},
    {"POST", "/", "/v1/chat/completions", true, chat_handle},
    {"GET", "/v1/models", "", false, models},
    {"GET", "/", "/v1/models", true, models},
    {"GET", "/healthz", "", false, health},
    {"GET", "/sim/calls", "", false, control_calls},
    {"GET", "/sim/stats", "", false, control_stats},
    {"POST", "/sim/reset", "", false, control_reset},
    {"GET", "/sim/faults", "", false, control_faults_get},
    {"POST", "/sim/faults", "", false, control_faults_post},
    {"DELETE", "/sim/faults", "", false, control_faults_delete},
    {"DELETE", "/sim/faults/", "", true, control_faults_delete},
    {"POST", "/sim/release/", "", true, control_release},
    {"DELETE", "/sim/release/", "", true, control_unrelease},
    {"POST", "/hook/", "", true, hook_receive},
    {"GET", "/hook/", "/log", true, hook_list},
};

/* Fills name with the segment between prefix and suffix. */
static bool path_matches(const struct endpoint *endpoint, const char *path, char *name, size_t size)
{
    size_t prefix = strlen(endpoint->prefix), suffix = strlen(endpoint->suffix);
    size_t len = strlen(path);

    name[0] = '\0';
    if (!endpoint->has_name)
        return strcmp(path, endpoint->prefix) == 0;
    if (len <= prefix + suffix || len - prefix - suffix >= size ||
        strncmp(path, endpoint->prefix, prefix) != 0 ||
        strcmp(path + len - suffix, endpoint->suffix) != 0)
        return false;
    snprintf(name, size, "%.*s", (int)(len - prefix - suffix), path + prefix);
    return strchr(name, '/') == NULL;
}

void endpoints_handle(struct http_request *request, void *arg)
{
    const char *path = http_path(request);
    bool is_known = false;
    char name[SCENARIO_NAME_SIZE];

    for (size_t i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++) {
        const struct endpoint *endpoint = &endpoints[i];

        if (!path_matches(endpoint, path, name, sizeof(name)))
            continue;
        is_known = true;
        if (strcmp(endpoint->method, http_method(request)) != 0)
            continue;
        endpoint->fn(arg, request, name);
        return;
    }
    if (is_known)
        query_refuse(request, 405, "Not allowed to use this method on this path.");
    else
        query_refuse(request, 404, "Invalid URL: no such path.");
}
