/* SPDX-License-Identifier: Apache-2.0 */
/* The endpoint of Chat Completions: key, request, scenario, faults, and off the call goes. */
#include "tests/simulator/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/buf.h"
#include "common/base/str.h"
#include "common/io/http_server.h"
#include "tests/simulator/call.h"
#include "tests/simulator/faults.h"
#include "tests/simulator/simulator.h"

/* Request fields worth a place in the log, besides those the log has names for. */
static const char *const logged_headers[] = {
    "x-request-id",         "x-nightshift-call",   "x-nightshift-job", "x-nightshift-run",
    "x-nightshift-attempt", "x-client-request-id", "idempotency-key",  "x-sim-scenario",
    "openai-organization",  "user-agent",
};

/* What arrives with the body. */
struct arrival {
    struct simulator *simulator;
    char provider[SCENARIO_NAME_SIZE];
};

/* --- refusals --------------------------------------------------------------------------------- */

/* The key, or NULL.  Anything but "Bearer KEY" counts as none. */
static const char *bearer(const struct http_request *http)
{
    const char *value = http_header(http, "authorization");

    if (!value || strncasecmp(value, "bearer ", 7) != 0)
        return NULL;
    value += 7;
    while (*value == ' ')
        value++;
    return *value ? value : NULL;
}

static bool key_is_good(const char *key, struct buf *body)
{
    if (!key) {
        chat_error(body,
                   "You didn't provide an API key. You need to provide your API key in an "
                   "Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
                   "invalid_request_error", NULL, NULL);
        return false;
    }
    if (strcmp(key, "bad-key") == 0) {
        chat_error_for(body, 401, NULL);
        return false;
    }
    return true;
}

/* Answers and logs a call that never became one. */
static void refuse(struct simulator *simulator, struct http_request *http,
                   const struct call_facts *facts, int status, const struct buf *body)
{
    const struct call_end end = {.status = status, .outcome = CALL_ERROR};
    int64_t seq = call_log_begin(simulator->calls, facts);

    if (seq > 0)
        call_log_end(simulator->calls, seq, &end);
    http_reply(http, status, "application/json", body->data, body->len);
}

/* --- a call ----------------------------------------------------------------------------------- */

static void collect_headers(const struct http_request *http, struct call_facts *facts)
{
    for (size_t i = 0; i < sizeof(logged_headers) / sizeof(logged_headers[0]) &&
                       facts->header_count < CALL_LOG_HEADERS_MAX;
         i++) {
        const char *value = http_header(http, logged_headers[i]);

        if (!value)
            continue;
        facts->header_names[facts->header_count] = logged_headers[i];
        facts->header_values[facts->header_count++] = value;
    }
    facts->job = http_header(http, "idempotency-key");
    if (!facts->job)
        facts->job = http_header(http, "x-request-id");
}

static void collect_marker(const struct chat_request *request, struct call_facts *facts)
{
    size_t offset = 0, start, length;

    if (request->last_user.len == 0 ||
        !scenario_next_marker(request->last_user.data, request->last_user.len, &offset, &start,
                              &length))
        return;
    facts->marker = request->last_user.data + start;
    facts->marker_len = length;
}

/* Model name, then header, then the prompt's markers; the later wins. */
static bool read_scenario(const struct http_request *http, const char *provider,
                          const struct chat_request *request, struct scenario *scenario,
                          struct err *err)
{
    const char *header = http_header(http, "x-sim-scenario");
    char marker[512];

    scenario_init(scenario);
    scenario_from_model(scenario, request->model);
    if (header) {
        snprintf(marker, sizeof(marker), "[[sim %s]]", header);
        if (!scenario_from_text(scenario, provider, marker, strlen(marker), err))
            return false;
    }
    return request->last_user.len == 0 ||
           scenario_from_text(scenario, provider, request->last_user.data, request->last_user.len,
                              err);
}

static void start_call(struct simulator *simulator, struct http_request *http, const char *provider,
                       struct chat_request *request, struct scenario *scenario,
                       const struct call_facts *facts)
{
    char sha[2 * SHA256_SIZE + 1];
    struct call *call;

    str_hex(request->prompt_sha256, SHA256_SIZE, sha);
    faults_apply(simulator->faults, provider, sha, scenario);
    call = call_begin(simulator, http, request, scenario, facts);
    if (call) {
        call_advance(call);
        return;
    }
    struct buf body;
    buf_init(&body, 4096);
    chat_error(&body, "The simulator's call log is full of calls in flight.", "server_error", NULL,
               "simulator_full");
    http_reply(http, 503, "application/json", body.data, body.len);
    buf_release(&body);
}

static void on_body(struct http_request *http, const char *data, size_t len, void *arg)
{
    struct arrival *arrival = arg;
    struct call_facts facts = {.provider = arrival->provider, .bytes = len};
    struct chat_request request;
    struct scenario scenario;
    struct buf body;
    struct err err = {.message = ""};

    buf_init(&body, 64 << 10);
    chat_request_init(&request);
    facts.key = bearer(http);
    collect_headers(http, &facts);
    if (!key_is_good(facts.key, &body)) {
        refuse(arrival->simulator, http, &facts, 401, &body);
        goto done;
    }
    bool ok = chat_request_parse(&request, data, len, arrival->simulator->is_lenient, &err);
    facts.model = request.model;
    facts.prompt_sha256 = request.prompt_bytes > 0 ? request.prompt_sha256 : NULL;
    facts.is_stream = request.is_stream;
    collect_marker(&request, &facts);
    if (!ok || !read_scenario(http, arrival->provider, &request, &scenario, &err)) {
        chat_error(&body, err.message, "invalid_request_error", err.param, err.code);
        refuse(arrival->simulator, http, &facts, 400, &body);
        goto done;
    }
    start_call(arrival->simulator, http, arrival->provider, &request, &scenario, &facts);
done:
    chat_request_release(&request);
    buf_release(&body);
    free(arrival);
}

/* The client left before its body was whole, or the body was too large. */
static void on_early_close(struct http_request *http, void *arg)
{
    free(arg);
    http_end(http);
}

void chat_handle(struct simulator *simulator, struct http_request *http, const char *provider)
{
    struct arrival *arrival = xcalloc(1, sizeof(*arrival));

    arrival->simulator = simulator;
    snprintf(arrival->provider, sizeof(arrival->provider), "%s", provider);
    http_on_close(http, on_early_close, arrival);
    http_read_body(http, CHAT_BODY_MAX, on_body, arrival);
}

void chat_models(struct simulator *simulator, struct http_request *http)
{
    static const char *const models[] = {"gpt-4o", "gpt-4o-mini", "sim-model"};
    struct buf body;

    (void)simulator;
    buf_init(&body, 64 << 10);
    if (!key_is_good(bearer(http), &body)) {
        http_reply(http, 401, "application/json", body.data, body.len);
    } else {
        buf_puts(&body, "{\"object\":\"list\",\"data\":[");
        for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++)
            buf_printf(&body,
                       "%s{\"id\":\"%s\",\"object\":\"model\",\"created\":1785000000,"
                       "\"owned_by\":\"simulator\"}",
                       i > 0 ? "," : "", models[i]);
        buf_puts(&body, "]}\n");
        http_reply(http, 200, "application/json", body.data, body.len);
    }
    buf_release(&body);
}
