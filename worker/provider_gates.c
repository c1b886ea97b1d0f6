/* SPDX-License-Identifier: Apache-2.0 */
/* Calls in flight by provider name (a name outlives a reload), and the pauses of Postgres. */
#include "worker/provider_gates.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/str.h"
#include "common/model/pause_store.h"

#include <event2/event.h>

/* Names of providers that a reload took away stay until their calls are over. */
enum { NAMES_MAX = 4 * PROVIDERS_MAX };

struct gate {
    int calls;
    bool is_paused;
};

struct provider_gates {
    struct pg *pg;
    struct event *tick;
    int processes;
    struct map *by_name; /* struct gate */
    bool is_looking;
};

static struct gate *find(const struct provider_gates *gates, const char *name)
{
    return map_get(gates->by_name, name, strlen(name));
}

static struct gate *find_or_make(struct provider_gates *gates, const char *name)
{
    struct gate *gate = find(gates, name);

    if (gate)
        return gate;
    gate = calloc(1, sizeof(*gate));
    if (gate && map_put(gates->by_name, name, strlen(name), gate))
        return gate;
    free(gate);
    return NULL;
}

/* --- pauses ----------------------------------------------------------------------------------- */

static bool forget_pause(const void *key, size_t key_len, void *value, void *arg)
{
    struct provider_gates *gates = arg;
    struct gate *gate = value;

    gate->is_paused = false;
    if (gate->calls == 0)
        free(map_remove(gates->by_name, key, key_len));
    return true;
}

static void on_pauses(const struct admin_reply *reply, void *arg)
{
    struct provider_gates *gates = arg;

    gates->is_looking = false;
    if (reply->outcome != ADMIN_DONE)
        return; /* what was known last still stands */
    map_each(gates->by_name, forget_pause, gates);
    for (int row = 0; row < reply->count; row++) {
        struct pause pause;
        struct gate *gate;

        pause_read(reply, row, &pause);
        gate = find_or_make(gates, pause.name);
        if (gate)
            gate->is_paused = true;
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct provider_gates *gates = arg;

    (void)fd;
    (void)what;
    if (!gates->is_looking)
        gates->is_looking = pause_list(gates->pg, "provider", on_pauses, gates);
}

/* --- calls ------------------------------------------------------------------------------------ */

bool provider_gates_is_paused(const struct provider_gates *gates, const struct provider *provider)
{
    const struct gate *gate = find(gates, provider->name);

    return gate && gate->is_paused;
}

bool provider_gates_is_full(const struct provider_gates *gates, const struct provider *provider)
{
    const struct gate *gate = find(gates, provider->name);
    int share = (provider->max_concurrency + gates->processes - 1) / gates->processes;

    return provider->max_concurrency > 0 && gate && gate->calls >= share;
}

void provider_gates_enter(struct provider_gates *gates, const struct provider *provider)
{
    struct gate *gate = find_or_make(gates, provider->name);

    if (gate)
        gate->calls++;
}

void provider_gates_leave(struct provider_gates *gates, const struct provider *provider)
{
    struct gate *gate = find(gates, provider->name);

    if (!gate || gate->calls == 0)
        return;
    if (--gate->calls == 0 && !gate->is_paused)
        free(map_remove(gates->by_name, provider->name, strlen(provider->name)));
}

/* --- life ------------------------------------------------------------------------------------- */

struct provider_gates *provider_gates_new(struct event_base *base, struct pg *pg, int processes)
{
    static const struct timeval second = {.tv_sec = 1};
    struct provider_gates *gates = calloc(1, sizeof(*gates));

    if (!gates)
        return NULL;
    gates->pg = pg;
    gates->processes = processes > 0 ? processes : 1;
    gates->by_name = map_new(NAMES_MAX);
    gates->tick = event_new(base, -1, EV_PERSIST, on_tick, gates);
    if (!gates->by_name || !gates->tick || event_add(gates->tick, &second) != 0) {
        provider_gates_free(gates);
        return NULL;
    }
    on_tick(-1, 0, gates);
    return gates;
}

static bool free_gate(const void *key, size_t key_len, void *value, void *arg)
{
    (void)key;
    (void)key_len;
    (void)arg;
    free(value);
    return true;
}

void provider_gates_free(struct provider_gates *gates)
{
    if (!gates)
        return;
    if (gates->tick)
        event_free(gates->tick);
    if (gates->by_name)
        map_each(gates->by_name, free_gate, NULL);
    map_free(gates->by_name);
    free(gates);
}
