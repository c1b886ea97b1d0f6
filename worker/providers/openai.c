/* SPDX-License-Identifier: Apache-2.0 */
/* The `openai` wire format: Chat Completions, at OpenAI and at the many that speak alike. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "worker/providers/openai_error.h"
#include "worker/providers/openai_stream.h"
#include "worker/providers/provider.h"

enum { REQUEST_GROWTH = 64 * 1024, URL_SIZE_MAX = 4096 };

/* "{base}/chat/completions"; a base that is only a host gets its "/v1". */
static char *write_url(const char *base)
{
    const char *host = strstr(base, "://");
    const char *version = host && strchr(host + 3, '/') ? "" : "/v1";
    struct buf url;
    size_t len;

    buf_init(&url, URL_SIZE_MAX);
    if (buf_printf(&url, "%s%s/chat/completions", base, version))
        return buf_detach(&url, &len);
    buf_release(&url);
    return NULL;
}

static bool add_header(struct wire_call *call, size_t index, const char *name, const char *value)
{
    struct buf line;
    size_t len;

    buf_init(&line, 16 * 1024);
    if (buf_printf(&line, "%s%s", name, value))
        call->headers[index] = buf_detach(&line, &len);
    buf_release(&line);
    return call->headers[index] != NULL;
}

static bool add_headers(struct wire_call *call, const char *api_key, const char *call_id)
{
    return add_header(call, 0, "content-type: ", "application/json") &&
           add_header(call, 1, "accept: ", "text/event-stream") &&
           add_header(call, 2, "user-agent: ", "Nightshift/" NIGHTSHIFT_VERSION) &&
           add_header(call, 3, "x-nightshift-call: ", call_id) &&
           (!*api_key || add_header(call, 4, "authorization: Bearer ", api_key));
}

/* What the caller said of the stream stays, but for the usage, which we need. */
static bool write_stream_options(const char *request, size_t len, struct buf *out)
{
    const struct json_edit edit = {.name = "include_usage", .value = "true"};
    struct json_slice given;

    if (json_member_slice(request, len, "stream_options", &given) && given.len > 0 &&
        given.text[0] == '{')
        return json_splice(given.text, given.len, &edit, 1, out, NULL);
    return buf_puts(out, "{\"include_usage\":true}");
}

/* The caller's bytes with only what must change spliced in: numbers stay digit for digit. */
static bool write_body(const struct target *target, const char *request, size_t len,
                       struct buf *out, struct err *err)
{
    struct buf model, options;
    bool ok;

    buf_init(&model, 2048);
    buf_init(&options, REQUEST_GROWTH + len);
    ok = buf_put_json_string(&model, target->model, strlen(target->model)) &&
         write_stream_options(request, len, &options);
    if (ok) {
        const struct json_edit edits[] = {
            {.name = "model", .value = model.data},
            {.name = "stream", .value = "true"},
            {.name = "stream_options", .value = options.data},
        };

        ok = json_splice(request, len, edits, sizeof(edits) / sizeof(edits[0]), out, err);
    } else {
        err_set(err, "write request: out of memory");
    }
    buf_release(&model);
    buf_release(&options);
    return ok;
}

static bool openai_write_call(const struct target *target, const char *request, size_t len,
                              const char *call_id, struct wire_call *out, struct err *err)
{
    *out = (struct wire_call){0};
    buf_init(&out->body, len * 2 + REQUEST_GROWTH);
    out->url = write_url(target->provider->base_url);
    if (!out->url || !add_headers(out, target->provider->api_key, call_id)) {
        wire_call_release(out);
        return err_set(err, "write request: out of memory");
    }
    if (write_body(target, request, len, &out->body, err))
        return true;
    wire_call_release(out);
    return false;
}

void wire_call_release(struct wire_call *call)
{
    free(call->url);
    for (size_t i = 0; i < WIRE_HEADERS_MAX; i++) {
        if (call->headers[i])
            crypto_wipe(call->headers[i], strlen(call->headers[i]));
        free(call->headers[i]);
    }
    buf_release(&call->body);
    *call = (struct wire_call){0};
}

const struct wire_format openai_format = {
    .name = "openai",
    .write_call = openai_write_call,
    .answer_new = openai_answer_new,
    .answer_free = openai_answer_free,
    .answer_feed = openai_answer_feed,
    .answer_events = openai_answer_events,
    .answer_is_done = openai_answer_is_done,
    .answer_finish = openai_answer_finish,
    .read_failure = openai_read_failure,
};

const struct wire_format *wire_format_find(const char *name)
{
    static const struct wire_format *const formats[] = {&openai_format};

    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (strcmp(formats[i]->name, name) == 0)
            return formats[i];
    return NULL;
}
