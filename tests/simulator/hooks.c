/* SPDX-License-Identifier: Apache-2.0 */
/* A sink for webhooks: answers as its query says and keeps what it got. */
#include "tests/simulator/hooks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/io/http_server.h"
#include "tests/simulator/pacer.h"
#include "tests/simulator/query.h"
#include "tests/simulator/simulator.h"

enum {
    LIST_MAX = 768 << 20,
    KEPT_MAX = 512 << 20, /* bytes of all records; the oldest go first */
    RECORD_MAX = 16 << 20,
    KEY_SIZE = 256,
    BIG_BYTES = 8 << 20
};

static const char *const kept_headers[] = {
    "webhook-id",   "webhook-timestamp", "webhook-signature",
    "content-type", "user-agent",        "content-length",
};

/* One delivery received; json is the object without its braces. */
struct hook_record {
    int64_t seq;
    char name[HOOKS_NAME_SIZE];
    char *json;
    size_t len;
};

struct hooks {
    struct simulator *simulator;
    struct hook_record *ring; /* HOOKS_RECORDS_MAX, by seq modulo */
    int64_t last_seq;
    int64_t oldest_seq; /* everything before it was dropped */
    size_t kept;        /* bytes of all records */
    struct map *tries;  /* count by name, or by name and webhook-id */
};

/* What the query asks for. */
struct hook_wish {
    int64_t status;
    int64_t delay_ms;
    int64_t times; /* the wish is for the first so many tries; 0: for all */
    int64_t is_hanging;
    int64_t is_big;
    int64_t is_reset;
    char redirect[512];
    char retry_after[64];
    char per[16]; /* what `times` counts by: "name" or "id" */
};

/* A delivery being answered. */
struct visit {
    struct hooks *hooks;
    struct http_request *http;
    struct hook_wish wish;
    struct pacer_entry timer;
    char name[HOOKS_NAME_SIZE];
};

struct hooks *hooks_new(struct simulator *simulator)
{
    struct hooks *hooks = xcalloc(1, sizeof(*hooks));

    hooks->simulator = simulator;
    hooks->ring = xcalloc(HOOKS_RECORDS_MAX, sizeof(*hooks->ring));
    hooks->tries = map_new(HOOKS_RECORDS_MAX * 10);
    return hooks;
}

/* Empties the place in the ring. */
static void record_drop(struct hooks *hooks, struct hook_record *record)
{
    free(record->json);
    hooks->kept -= record->len;
    *record = (struct hook_record){.seq = 0};
}

void hooks_reset(struct hooks *hooks)
{
    for (size_t i = 0; i < HOOKS_RECORDS_MAX; i++)
        record_drop(hooks, &hooks->ring[i]);
    map_free(hooks->tries);
    hooks->tries = map_new(HOOKS_RECORDS_MAX * 10);
}

void hooks_free(struct hooks *hooks)
{
    if (!hooks)
        return;
    hooks_reset(hooks);
    map_free(hooks->tries);
    free(hooks->ring);
    free(hooks);
}

/* --- the record ------------------------------------------------------------------------------- */

static void put_body(struct buf *out, const char *body, size_t len)
{
    if (str_utf8_valid(body, len)) {
        buf_puts(out, ",\"body\":");
        buf_put_json_string(out, body, len);
        return;
    }
    char *base64 = xcalloc(1, BASE64_SIZE(len));
    crypto_base64(body, len, base64);
    buf_printf(out, ",\"body\":null,\"body_base64\":\"%s\"", base64);
    free(base64);
}

static void put_headers(struct buf *out, const struct http_request *http)
{
    const char *comma = "";

    buf_puts(out, ",\"headers\":{");
    for (size_t i = 0; i < sizeof(kept_headers) / sizeof(kept_headers[0]); i++) {
        const char *value = http_header(http, kept_headers[i]);

        if (!value || !str_utf8_valid(value, strlen(value)))
            continue;
        buf_printf(out, "%s\"%s\":", comma, kept_headers[i]);
        buf_put_json_string(out, value, strlen(value));
        comma = ",";
    }
    buf_putc(out, '}');
}

/* status 0: no answer will be given. */
static void hook_record(struct visit *visit, int status, const char *body, size_t len)
{
    struct hooks *hooks = visit->hooks;
    int64_t seq = ++hooks->last_seq;
    struct hook_record *record = &hooks->ring[seq % HOOKS_RECORDS_MAX];
    char at[CLOCK_RFC3339_SIZE];
    struct buf json;

    buf_init(&json, RECORD_MAX);
    clock_format_rfc3339(clock_now_us(), at);
    buf_printf(&json, "\"seq\":%" PRId64 ",\"at\":\"%s\",\"name\":", seq, at);
    buf_put_json_string(&json, visit->name, strlen(visit->name));
    buf_puts(&json, ",\"method\":");
    buf_put_json_string(&json, http_method(visit->http), strlen(http_method(visit->http)));
    buf_printf(&json, ",\"status\":%d", status);
    put_headers(&json, visit->http);
    put_body(&json, body, len);
    record_drop(hooks, record);
    record->seq = seq;
    memcpy(record->name, visit->name, sizeof(record->name));
    record->json = json.is_broken ? NULL : buf_detach(&json, &record->len);
    hooks->kept += record->len;
    buf_release(&json);
    for (; hooks->kept > KEPT_MAX && hooks->oldest_seq < seq; hooks->oldest_seq++) {
        struct hook_record *oldest = &hooks->ring[hooks->oldest_seq % HOOKS_RECORDS_MAX];

        if (oldest->seq == hooks->oldest_seq)
            record_drop(hooks, oldest);
    }
}

/* --- the answer ------------------------------------------------------------------------------- */

/* Which try this is, from 1, by name or by name and webhook-id. */
static int64_t count_try(struct visit *visit)
{
    const char *id = http_header(visit->http, "webhook-id");
    char key[KEY_SIZE];

    snprintf(key, sizeof(key), "%s\n%s", visit->name,
             id && strcmp(visit->wish.per, "id") == 0 ? id : "");
    uintptr_t count = (uintptr_t)map_get(visit->hooks->tries, key, strlen(key)) + 1;
    if (!map_put(visit->hooks->tries, key, strlen(key), (void *)count))
        return INT64_MAX;
    return (int64_t)count;
}

static void visit_free(struct visit *visit)
{
    pacer_cancel(visit->hooks->simulator->pacer, &visit->timer);
    free(visit);
}

static void answer(void *arg)
{
    struct visit *visit = arg;
    const struct hook_wish *wish = &visit->wish;
    char *big = wish->is_big ? xcalloc(1, BIG_BYTES) : NULL;

    if (wish->redirect[0])
        http_add_header(visit->http, "location", wish->redirect);
    if (wish->retry_after[0])
        http_add_header(visit->http, "retry-after", wish->retry_after);
    if (big)
        memset(big, 'x', BIG_BYTES);
    if (wish->is_reset)
        http_abort(visit->http, true);
    else
        http_reply(visit->http, (int)wish->status, "text/plain", big ? big : "ok\n",
                   big ? BIG_BYTES : 3);
    free(big);
    visit_free(visit);
}

static void on_body(struct http_request *http, const char *body, size_t len, void *arg)
{
    struct visit *visit = arg;
    struct hook_wish *wish = &visit->wish;

    (void)http;
    if (wish->times > 0 && count_try(visit) > wish->times)
        *wish = (struct hook_wish){.status = 200};
    if (wish->redirect[0] && wish->status == 200)
        wish->status = 302;
    hook_record(visit, wish->is_hanging || wish->is_reset ? 0 : (int)wish->status, body, len);
    if (wish->is_hanging)
        return; /* until the client leaves */
    if (wish->delay_ms > 0 && pacer_set(visit->hooks->simulator->pacer, &visit->timer,
                                        clock_monotonic_us() + wish->delay_ms * US_PER_MS))
        return;
    answer(visit);
}

static void on_close(struct http_request *http, void *arg)
{
    visit_free(arg);
    http_end(http);
}

void hooks_receive(struct hooks *hooks, struct http_request *http, const char *name)
{
    struct visit *visit = xcalloc(1, sizeof(*visit));
    struct hook_wish *wish = &visit->wish;
    const struct query_field fields[] = {
        {.name = "status", .number = &wish->status, .min = 200, .max = 599},
        {.name = "delay_ms", .number = &wish->delay_ms, .max = 3600000},
        {.name = "times", .number = &wish->times, .max = INT32_MAX},
        {.name = "hang", .number = &wish->is_hanging, .max = 1},
        {.name = "big", .number = &wish->is_big, .max = 1},
        {.name = "reset", .number = &wish->is_reset, .max = 1},
        {.name = "redirect", .text = wish->redirect, .size = sizeof(wish->redirect)},
        {.name = "retry_after", .text = wish->retry_after, .size = sizeof(wish->retry_after)},
        {.name = "per", .text = wish->per, .size = sizeof(wish->per)},
    };

    wish->status = 200;
    if (!query_read(http, fields, sizeof(fields) / sizeof(fields[0]))) {
        free(visit);
        return;
    }
    visit->hooks = hooks;
    visit->http = http;
    snprintf(visit->name, sizeof(visit->name), "%s", name);
    pacer_entry_init(&visit->timer, answer, visit);
    http_on_close(http, on_close, visit);
    http_on_half_close(http, on_close, visit);
    http_read_body(http, HOOKS_BODY_MAX, on_body, visit);
}

/* --- the log ---------------------------------------------------------------------------------- */

void hooks_list(struct hooks *hooks, struct http_request *http, const char *name)
{
    int64_t after = 0, limit = 10000, count = 0;
    const struct query_field fields[] = {
        {.name = "after", .number = &after, .max = INT64_MAX},
        {.name = "limit", .number = &limit, .min = 1, .max = HOOKS_RECORDS_MAX},
    };
    int64_t seq = hooks->last_seq - HOOKS_RECORDS_MAX + 1;
    struct buf out;

    if (!query_read(http, fields, sizeof(fields) / sizeof(fields[0])))
        return;
    buf_init(&out, LIST_MAX);
    buf_puts(&out, "{\"object\":\"list\",\"data\":[");
    for (seq = seq > after ? seq : after + 1; seq <= hooks->last_seq && count < limit; seq++) {
        const struct hook_record *record = &hooks->ring[seq % HOOKS_RECORDS_MAX];

        if (record->seq != seq || !record->json || strcmp(record->name, name) != 0)
            continue;
        buf_printf(&out, "%s{%s}", count++ > 0 ? "," : "", record->json);
    }
    buf_printf(&out, "],\"last_seq\":%" PRId64 "}\n", hooks->last_seq);
    if (out.is_broken)
        http_reply(http, 500, "text/plain", "too large\n", 10);
    else
        http_reply(http, 200, "application/json", out.data, out.len);
    buf_release(&out);
}
