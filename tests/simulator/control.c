/* SPDX-License-Identifier: Apache-2.0 */
/* What tests ask the simulator itself: calls, counts, standing faults, gates, reset. */
#include "tests/simulator/control.h"

#include <stdint.h>

#include "common/base/buf.h"
#include "common/io/http_server.h"
#include "tests/simulator/call_log.h"
#include "tests/simulator/faults.h"
#include "tests/simulator/gates.h"
#include "tests/simulator/hooks.h"
#include "tests/simulator/query.h"
#include "tests/simulator/simulator.h"

enum { LIST_MAX = 512 << 20, SMALL_MAX = 4 << 20, LIST_LIMIT = 10000, FAULT_BODY_MAX = 64 << 10 };

/* Sends what out holds and releases it. */
static void reply(struct http_request *http, struct buf *out)
{
    if (out->is_broken)
        query_refuse(http, 500, "the answer is too large: ask for fewer");
    else
        http_reply(http, 200, "application/json", out->data, out->len);
    buf_release(out);
}

void control_calls(struct simulator *simulator, struct http_request *http, const char *name)
{
    int64_t after = 0, limit = 1000;
    const struct query_field fields[] = {
        {.name = "after", .number = &after, .max = INT64_MAX - 1},
        {.name = "limit", .number = &limit, .min = 1, .max = LIST_LIMIT},
    };
    struct buf out;

    (void)name;
    if (!query_read(http, fields, sizeof(fields) / sizeof(fields[0])))
        return;
    buf_init(&out, LIST_MAX);
    call_log_list(simulator->calls, after, limit, &out);
    reply(http, &out);
}

void control_stats(struct simulator *simulator, struct http_request *http, const char *name)
{
    struct buf out;

    (void)name;
    buf_init(&out, SMALL_MAX);
    buf_putc(&out, '{');
    call_log_stats(simulator->calls, &out);
    buf_puts(&out, ",\"holding\":");
    gates_describe(simulator->gates, &out);
    buf_puts(&out, "}\n");
    reply(http, &out);
}

void control_reset(struct simulator *simulator, struct http_request *http, const char *name)
{
    static const char body[] = "{\"reset\":true}\n";

    (void)name;
    call_log_reset(simulator->calls);
    faults_reset(simulator->faults);
    hooks_reset(simulator->hooks);
    gates_reset(simulator->gates);
    http_reply(http, 200, "application/json", body, sizeof(body) - 1);
}

/* --- standing faults -------------------------------------------------------------------------- */

void control_faults_get(struct simulator *simulator, struct http_request *http, const char *name)
{
    struct buf out;

    (void)name;
    buf_init(&out, SMALL_MAX);
    faults_describe(simulator->faults, &out);
    reply(http, &out);
}

static void on_fault(struct http_request *http, const char *body, size_t len, void *arg)
{
    struct simulator *simulator = arg;
    struct err err = {.message = ""};

    if (faults_stand(simulator->faults, body, len, &err))
        control_faults_get(simulator, http, "");
    else
        query_refuse(http, 400, err.message);
}

static void on_close(struct http_request *http, void *arg)
{
    (void)arg;
    http_end(http);
}

void control_faults_post(struct simulator *simulator, struct http_request *http, const char *name)
{
    (void)name;
    http_on_close(http, on_close, NULL);
    http_read_body(http, FAULT_BODY_MAX, on_fault, simulator);
}

void control_faults_delete(struct simulator *simulator, struct http_request *http, const char *name)
{
    faults_clear(simulator->faults, name[0] ? name : NULL);
    control_faults_get(simulator, http, "");
}

/* --- gates ------------------------------------------------------------------------------------ */

void control_release(struct simulator *simulator, struct http_request *http, const char *name)
{
    size_t count = gates_open(simulator->gates, name);
    struct buf out;

    buf_init(&out, SMALL_MAX);
    buf_printf(&out, "{\"released\":%zu}\n", count);
    reply(http, &out);
}

void control_unrelease(struct simulator *simulator, struct http_request *http, const char *name)
{
    static const char body[] = "{\"closed\":true}\n";

    gates_close(simulator->gates, name);
    http_reply(http, 200, "application/json", body, sizeof(body) - 1);
}
