/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the HTTP API, several at once or one that is waited for. */
#include "producer/cli/api.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "common/io/http_client.h"
#include "producer/cli/cli.h"

enum {
    TIMEOUT_DEFAULT_MS = 90000,
    CONNECT_TIMEOUT_MS = 5000,
    SILENCE_MAX_MS = 45000, /* event streams have a comment every 15 s */
    HEADERS_MAX = 8,
    HEADER_SIZE = 8192, /* a JWT is longer than a key */
    ERROR_BODY_MAX = 1024 * 1024,
    CALLS_MAX = 1024,
    REPEATS_MAX = 4,
    REPEAT_PAUSE_MS = 500,
    REPEAT_PAUSE_MAX_MS = 5000,
};

struct api {
    struct cli *cli;
    struct event_base *base;
    struct http_client *client;
};

struct api_call {
    struct http_call *http;
    api_done_fn *done;
    void *arg;
    bool (*on_data)(const char *data, size_t len, void *arg);
    void *data_arg;
    struct buf body;
    char content_type[128];
    char next_after[API_NEXT_SIZE];
    int64_t retry_after_ms, date_us, asked_us;
    bool is_replayed;
};

struct api *api_of(struct cli *cli)
{
    const struct http_client_options options = {.max_calls = CALLS_MAX,
                                                .ca_file = getenv("NIGHTSHIFT_CA_FILE")};
    struct err err = {0};
    struct api *api = cli->api;

    if (api)
        return api;
    api = xcalloc(1, sizeof(*api));
    api->cli = cli;
    api->base = event_base_new();
    api->client = api->base ? http_client_new(api->base, &options, &err) : NULL;
    if (!api->client) {
        cli_fail(cli, CLI_FAILED, "%s", err.message);
        api_free(api);
        return NULL;
    }
    cli->api = api;
    return api;
}

void api_free(struct api *api)
{
    if (!api)
        return;
    http_client_free(api->client);
    if (api->base)
        event_base_free(api->base);
    free(api);
}

struct event_base *api_base(struct api *api)
{
    return api->base;
}

/* --- the answer ------------------------------------------------------------------------------- */

static void on_header(struct http_call *http, const char *name, const char *value, void *arg)
{
    struct api_call *call = arg;
    int64_t seconds;

    (void)http;
    if (strcmp(name, "content-type") == 0)
        snprintf(call->content_type, sizeof(call->content_type), "%s", value);
    else if (strcmp(name, "retry-after") == 0 && str_to_i64(value, strlen(value), &seconds) &&
             seconds > 0 && seconds < 1000000)
        call->retry_after_ms = seconds * 1000;
    else if (strcmp(name, "x-next-after") == 0)
        snprintf(call->next_after, sizeof(call->next_after), "%s", value);
    else if (strcmp(name, "idempotent-replayed") == 0)
        call->is_replayed = strcmp(value, "true") == 0;
    else if (strcmp(name, "date") == 0 &&
             !clock_parse_http_date(value, strlen(value), &call->date_us))
        call->date_us = 0;
}

static bool on_data(struct http_call *http, const char *data, size_t len, void *arg)
{
    struct api_call *call = arg;
    int status = http_call_status(http);

    if (call->on_data && status >= 200 && status < 300)
        return call->on_data(data, len, call->data_arg);
    return buf_append(&call->body, data, len);
}

/* The error object's message and code, where the body is one. */
static json_t *read_error(const struct api_call *call, struct api_answer *answer)
{
    struct err err = {0};
    json_t *root = NULL;
    const json_t *error;

    if (call->body.len > 0 && call->body.len <= ERROR_BODY_MAX)
        root = json_parse(call->body.data, call->body.len, JSON_READ_LENIENT, &err);
    error = json_object_get(root, "error");
    if (json_string_or_null(error, "message"))
        answer->message = json_string_or_null(error, "message");
    if (json_string_or_null(error, "code"))
        answer->code = json_string_or_null(error, "code");
    return root;
}

static void on_done(struct http_call *http, const struct http_answer *http_answer, void *arg)
{
    struct api_call *call = arg;
    bool is_whole = http_answer->outcome == HTTP_DONE;
    struct api_answer answer = {
        .status = is_whole || http_answer->outcome == HTTP_STOPPED ? http_answer->status : 0,
        .body = call->body.len ? call->body.data : "",
        .body_len = call->body.len,
        .message = http_answer->message && *http_answer->message
                       ? http_answer->message
                       : http_outcome_name(http_answer->outcome),
        .code = "",
        .content_type = call->content_type,
        .next_after = call->next_after,
        .retry_after_ms = call->retry_after_ms,
        .date_us = call->date_us,
        .asked_us = call->asked_us,
        .answered_us = clock_now_us(),
        .is_replayed = call->is_replayed,
        .was_stopped = http_answer->outcome == HTTP_STOPPED,
        .is_truncated = !is_whole && http_answer->status > 0,
    };
    json_t *root = NULL;

    (void)http;
    if (answer.status >= 300 || (is_whole && answer.status == 0)) {
        answer.message = "the answer is not Nightshift's";
        root = read_error(call, &answer);
    }
    call->done(&answer, call->arg);
    json_decref(root);
    buf_release(&call->body);
    free(call);
}

/* --- the request ------------------------------------------------------------------------------ */

struct request_head {
    char lines[HEADERS_MAX][HEADER_SIZE];
    const char *list[HEADERS_MAX + 1];
    int count;
};

static void put_header(struct request_head *head, const char *name, const char *value)
{
    if (!value || head->count == HEADERS_MAX)
        return;
    snprintf(head->lines[head->count], HEADER_SIZE, "%s: %s", name, value);
    head->list[head->count] = head->lines[head->count];
    head->count++;
}

static bool choose_key(const struct cli *cli, enum api_who who, const char **key, struct err *err)
{
    *key = who == WHO_TENANT  ? cli->profile.api_key
           : who == WHO_ADMIN ? cli->profile.admin_key
                              : NULL;
    if (who == WHO_NOBODY || *key)
        return true;
    return err_set(err, "no %s key: set %s, or %s in a profile (nightshift --help says where)",
                   who == WHO_TENANT ? "API" : "admin",
                   who == WHO_TENANT ? "NIGHTSHIFT_API_KEY" : "NIGHTSHIFT_ADMIN_KEY",
                   who == WHO_TENANT ? "api_key" : "admin_key");
}

static void make_head(const struct api_request *request, const char *key, struct request_head *head)
{
    char authorization[HEADER_SIZE - 64];

    put_header(head, "user-agent", "nightshift-cli/" NIGHTSHIFT_VERSION);
    if (key) {
        snprintf(authorization, sizeof(authorization), "Bearer %s", key);
        put_header(head, "authorization", authorization);
        crypto_wipe(authorization, sizeof(authorization));
    }
    if (request->body)
        put_header(head, "content-type",
                   request->content_type ? request->content_type : "application/json");
    put_header(head, "accept", request->accept);
    put_header(head, "idempotency-key", request->idempotency_key);
    put_header(head, "last-event-id", request->last_event_id);
    head->list[head->count] = NULL;
}

static struct http_call *start_http(struct api *api, const struct api_request *request,
                                    const struct request_head *head, const char *url,
                                    struct api_call *call, struct err *err)
{
    static const struct http_callbacks callbacks = {on_header, on_data, on_done};
    int64_t timeout_ms = request->timeout_ms > 0 ? request->timeout_ms : TIMEOUT_DEFAULT_MS;
    const struct http_call_spec spec = {
        .method = request->method,
        .url = url,
        .headers = head->list,
        .body = request->body,
        .body_len = request->body ? request->body_len : 0,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .first_byte_timeout_ms = timeout_ms,
        .idle_timeout_ms = request->is_endless ? SILENCE_MAX_MS : timeout_ms,
        .max_body_bytes = request->on_data ? SIZE_MAX / 2 : API_BODY_MAX,
    };

    return http_call_start(api->client, &spec, &callbacks, call, err);
}

struct api_call *api_start(struct cli *cli, const struct api_request *request, api_done_fn *done,
                           void *arg, struct err *err)
{
    struct api *api = api_of(cli);
    struct request_head *head = xcalloc(1, sizeof(*head));
    struct api_call *call = xcalloc(1, sizeof(*call));
    const char *key = NULL;
    struct buf url;

    buf_init(&url, 64 * 1024);
    buf_init(&call->body, API_BODY_MAX);
    call->done = done;
    call->arg = arg;
    call->on_data = request->on_data;
    call->data_arg = request->arg;
    call->asked_us = clock_now_us();
    if (!api) {
        err_set(err, "no client");
    } else if (choose_key(cli, request->who, &key, err)) {
        make_head(request, key, head);
        if (buf_printf(&url, "%s%s", cli->profile.url, request->path))
            call->http = start_http(api, request, head, url.data, call, err);
        else
            err_set(err, "the address is too long");
    }
    crypto_wipe(head, sizeof(*head));
    free(head);
    buf_release(&url);
    if (call->http)
        return call;
    free(call);
    return NULL;
}

void api_cancel(struct api_call *call)
{
    if (!call)
        return;
    http_call_cancel(call->http);
    buf_release(&call->body);
    free(call);
}

/* --- one that is waited for ------------------------------------------------------------------- */

int api_exit(const struct api_answer *answer)
{
    if (answer->was_stopped || (answer->status >= 200 && answer->status < 300))
        return CLI_DONE;
    return answer->status >= 300 && answer->status < 500 ? CLI_REFUSED : CLI_UNREACHABLE;
}

int api_tell(const struct cli *cli, const struct api_answer *answer)
{
    int code = api_exit(answer);

    if (code == CLI_DONE)
        return code;
    if (answer->status == 0)
        return cli_fail(cli, code, "%s: no answer%s: %s", cli->profile.url,
                        answer->is_truncated ? " to its end" : "", answer->message);
    if (*answer->code)
        return cli_fail(cli, code, "%s (%d %s)", answer->message, answer->status, answer->code);
    return cli_fail(cli, code, "%s: HTTP %d: %s", cli->profile.url, answer->status,
                    answer->message);
}

struct waiting {
    struct cli *cli;
    api_done_fn *done;
    void *arg;
    bool may_repeat;
    bool is_over;
    int code;
    int64_t pause_ms; /* ask again after it; 0: do not */
};

static void on_waited(const struct api_answer *answer, void *arg)
{
    struct waiting *waiting = arg;

    waiting->is_over = true;
    waiting->pause_ms = 0;
    if (waiting->may_repeat && (answer->status == 503 || answer->is_truncated)) {
        waiting->pause_ms = answer->retry_after_ms > 0 ? answer->retry_after_ms : REPEAT_PAUSE_MS;
        if (waiting->pause_ms <= REPEAT_PAUSE_MAX_MS)
            return;
        waiting->pause_ms = 0;
    }
    waiting->code = api_tell(waiting->cli, answer);
    if (waiting->code == CLI_DONE && waiting->done)
        waiting->done(answer, waiting->arg);
}

void api_pause(struct api *api, int64_t ms)
{
    struct timeval pause = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    if (event_base_loopexit(api->base, &pause) == 0)
        event_base_dispatch(api->base);
}

int api_run(struct cli *cli, const struct api_request *request, api_done_fn *done, void *arg)
{
    struct waiting waiting = {.cli = cli, .done = done, .arg = arg};
    struct err err = {0};

    for (int tries = 1;; tries++) {
        waiting.may_repeat = request->is_repeatable && tries < REPEATS_MAX;
        waiting.is_over = false;
        if (!api_start(cli, request, on_waited, &waiting, &err))
            return cli->api ? cli_fail(cli, CLI_USAGE, "%s", err.message) : CLI_FAILED;
        while (!waiting.is_over)
            event_base_loop(cli->api->base, EVLOOP_ONCE);
        if (waiting.pause_ms == 0)
            return waiting.code;
        api_pause(cli->api, waiting.pause_ms);
    }
}

/* --- JSON ------------------------------------------------------------------------------------- */

struct json_waiting {
    struct cli *cli;
    json_t *root;
    struct err err;
    bool is_raw;
    bool is_ok;
};

static void on_json(const struct api_answer *answer, void *arg)
{
    struct json_waiting *waiting = arg;

    if (waiting->is_raw) {
        output_text(&waiting->cli->out, answer->body, answer->body_len);
        if (answer->body_len > 0 && answer->body[answer->body_len - 1] != '\n')
            putchar('\n');
        waiting->is_ok = true;
        return;
    }
    if (answer->body_len == 0)
        waiting->root = json_object();
    else
        waiting->root =
            json_parse(answer->body, answer->body_len, JSON_READ_LENIENT, &waiting->err);
    waiting->is_ok = waiting->root != NULL;
}

static int run_json(struct cli *cli, const struct api_request *request, bool is_raw, json_t **out)
{
    struct json_waiting waiting = {.cli = cli, .is_raw = is_raw};
    int code = api_run(cli, request, on_json, &waiting);

    *out = waiting.root;
    if (code == CLI_DONE && !waiting.is_ok)
        return cli_fail(cli, CLI_UNREACHABLE, "%s: the answer is no JSON: %s", cli->profile.url,
                        waiting.err.message);
    return code;
}

int api_json(struct cli *cli, const struct api_request *request, json_t **out)
{
    return run_json(cli, request, cli->out.is_json, out);
}

int api_fetch(struct cli *cli, const struct api_request *request, json_t **out)
{
    return run_json(cli, request, false, out);
}

/* --- addresses -------------------------------------------------------------------------------- */

bool api_put_escaped(struct buf *path, const char *text)
{
    bool ok = true;

    for (; *text && ok; text++) {
        unsigned char c = (unsigned char)*text;

        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
            strchr("-._~", c))
            ok = buf_putc(path, (char)c);
        else
            ok = buf_printf(path, "%%%02X", c);
    }
    return ok;
}

bool api_put_query(struct buf *path, const char *name, const char *value)
{
    if (!value)
        return true;
    return buf_putc(path, path->data && memchr(path->data, '?', path->len) ? '&' : '?') &&
           api_put_escaped(path, name) && buf_putc(path, '=') && api_put_escaped(path, value);
}
