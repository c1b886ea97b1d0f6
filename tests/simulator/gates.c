/* SPDX-License-Identifier: Apache-2.0 */
/* Named gates at which answers wait until a test lets them pass. */
#include "tests/simulator/gates.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/map.h"
#include "common/base/str.h"

TAILQ_HEAD(gate_waits, gate_wait);

struct gate {
    struct gate_waits waits;
    size_t waiting;
    bool is_open;
};

struct gates {
    struct map *by_name;
};

struct gates *gates_new(void)
{
    struct gates *gates = xcalloc(1, sizeof(*gates));

    gates->by_name = map_new(GATES_MAX);
    return gates;
}

static bool gate_forget(const void *key, size_t key_len, void *value, void *arg)
{
    struct gates *gates = arg;

    map_remove(gates->by_name, key, key_len);
    free(value);
    return true;
}

void gates_free(struct gates *gates)
{
    if (!gates)
        return;
    map_each(gates->by_name, gate_forget, gates);
    map_free(gates->by_name);
    free(gates);
}

/* NULL when there are too many names. */
static struct gate *gate_of(struct gates *gates, const char *name)
{
    struct gate *gate = map_get(gates->by_name, name, strlen(name));

    if (gate)
        return gate;
    gate = xcalloc(1, sizeof(*gate));
    TAILQ_INIT(&gate->waits);
    if (!map_put(gates->by_name, name, strlen(name), gate)) {
        free(gate);
        return NULL;
    }
    return gate;
}

bool gates_wait(struct gates *gates, const char *name, struct gate_wait *wait)
{
    struct gate *gate = gate_of(gates, name);

    if (!gate || gate->is_open)
        return false;
    TAILQ_INSERT_TAIL(&gate->waits, wait, link);
    wait->gate = gate;
    gate->waiting++;
    return true;
}

void gates_leave(struct gate_wait *wait)
{
    if (!wait->gate)
        return;
    TAILQ_REMOVE(&wait->gate->waits, wait, link);
    wait->gate->waiting--;
    wait->gate = NULL;
}

static size_t gate_open(struct gate *gate)
{
    size_t count = gate->waiting;
    struct gate_wait *wait;

    gate->is_open = true;
    while ((wait = TAILQ_FIRST(&gate->waits))) {
        gates_leave(wait);
        wait->fn(wait->arg);
    }
    return count;
}

size_t gates_open(struct gates *gates, const char *name)
{
    struct gate *gate = gate_of(gates, name);

    return gate ? gate_open(gate) : 0;
}

void gates_close(struct gates *gates, const char *name)
{
    struct gate *gate = map_get(gates->by_name, name, strlen(name));

    if (gate)
        gate->is_open = false;
}

static bool gate_open_each(const void *key, size_t key_len, void *value, void *arg)
{
    (void)key;
    (void)key_len;
    (void)arg;
    gate_open(value);
    return true;
}

void gates_reset(struct gates *gates)
{
    map_each(gates->by_name, gate_open_each, NULL);
    map_each(gates->by_name, gate_forget, gates);
}

static bool gate_describe(const void *key, size_t key_len, void *value, void *arg)
{
    const struct gate *gate = value;
    struct buf *out = arg;

    if (gate->waiting == 0)
        return true;
    if (out->data[out->len - 1] != '{')
        buf_putc(out, ',');
    buf_put_json_string(out, key, key_len);
    buf_printf(out, ":%zu", gate->waiting);
    return !out->is_broken;
}

void gates_describe(const struct gates *gates, struct buf *out)
{
    if (!buf_putc(out, '{'))
        return;
    map_each(gates->by_name, gate_describe, out);
    buf_putc(out, '}');
}
