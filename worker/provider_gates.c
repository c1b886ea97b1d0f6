/* SPDX-License-Identifier: Apache-2.0 */
/* By provider name (a name outlives a reload): the pauses of Postgres, the words of the provider.
 */
#include "worker/provider_gates.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/model/admission.h"
#include "common/model/pause_store.h"

#include <event2/event.h>

/* Names of providers that a reload took away stay. */
enum { NAMES_MAX = 4 * PROVIDERS_MAX, TELL_EVERY_MS = 1000 };

struct gate {
    bool is_paused;
    int64_t open_us; /* 0: not closed */
    int64_t told_us; /* when the fleet was told last */
};

struct provider_gates {
    struct pg *pg;
    struct admission *admission;
    struct event *tick;
    struct map *by_name; /* struct gate */
    bool is_looking;
};

static struct gate *find(const struct provider_gates *gates, const char *name)
{
    return map_get(gates->by_name, name, strlen(name));
}

static struct gate *find_or_make(struct provider_gates *gates, const char *name, size_t len)
{
    struct gate *gate = map_get(gates->by_name, name, len);

    if (gate)
        return gate;
    gate = calloc(1, sizeof(*gate));
    if (gate && map_put(gates->by_name, name, len, gate))
        return gate;
    free(gate);
    return NULL;
}

/* --- pauses ----------------------------------------------------------------------------------- */

static bool forget_pause(const void *key, size_t key_len, void *value, void *arg)
{
    (void)key;
    (void)key_len;
    (void)arg;
    ((struct gate *)value)->is_paused = false;
    return true;
}

static void on_pauses(const struct admin_reply *reply, void *arg)
{
    struct provider_gates *gates = arg;

    gates->is_looking = false;
    if (reply->outcome != ADMIN_DONE)
        return; /* what was known last still stands */
    map_each(gates->by_name, forget_pause, NULL);
    for (int row = 0; row < reply->count; row++) {
        struct pause pause;
        struct gate *gate;

        pause_read(reply, row, &pause);
        gate = find_or_make(gates, pause.name, strlen(pause.name));
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

bool provider_gates_is_paused(const struct provider_gates *gates, const struct provider *provider)
{
    const struct gate *gate = find(gates, provider->name);

    return gate && gate->is_paused;
}

/* --- what the provider says ------------------------------------------------------------------- */

int64_t provider_gates_open_us(const struct provider_gates *gates, const struct provider *provider)
{
    const struct gate *gate = find(gates, provider->name);

    return gate ? gate->open_us : 0;
}

static int64_t us_or_unsaid(int64_t ms)
{
    return ms < 0 ? -1 : ms * US_PER_MS;
}

static void tell_fleet(struct provider_gates *gates, const struct provider *provider,
                       const struct rate_seen *seen)
{
    struct admission_seen told = {
        .limit_requests = seen->requests.limit,
        .remaining_requests = seen->requests.remaining,
        .reset_requests_us = us_or_unsaid(seen->requests.reset_ms),
        .limit_tokens = seen->tokens.limit,
        .remaining_tokens = seen->tokens.remaining,
        .reset_tokens_us = us_or_unsaid(seen->tokens.reset_ms),
        .retry_after_us = -1, /* one 429 delays its own job only */
    };

    admission_learn(gates->admission, provider->name, &told);
}

void provider_gates_learn(struct provider_gates *gates, const struct provider *provider,
                          const struct rate_seen *seen)
{
    int64_t now = clock_monotonic_us();
    struct gate *gate;

    if (seen->requests.limit < 0 && seen->requests.remaining < 0 && seen->tokens.limit < 0 &&
        seen->tokens.remaining < 0)
        return;
    gate = find_or_make(gates, provider->name, strlen(provider->name));
    if (!gate)
        return;
    if (seen->closed_ms > 0)
        gate->open_us = now + seen->closed_ms * US_PER_MS;
    if (!gates->admission || (seen->closed_ms <= 0 && gate->told_us > 0 &&
                              now - gate->told_us < TELL_EVERY_MS * US_PER_MS))
        return;
    gate->told_us = now;
    tell_fleet(gates, provider, seen);
}

void provider_gates_hear(struct provider_gates *gates, const char *data, size_t len)
{
    const char *space = memchr(data, ' ', len);
    int64_t closed_us, open_us;
    struct gate *gate;

    if (!space || !str_to_i64(data, (size_t)(space - data), &closed_us) || closed_us <= 0 ||
        closed_us > RATE_RESET_MAX_MS * US_PER_MS)
        return;
    open_us = clock_monotonic_us() + closed_us;
    gate = find_or_make(gates, space + 1, len - (size_t)(space + 1 - data));
    if (gate && gate->open_us < open_us)
        gate->open_us = open_us;
}

/* --- life ------------------------------------------------------------------------------------- */

struct provider_gates *provider_gates_new(struct event_base *base, struct pg *pg,
                                          struct admission *admission)
{
    static const struct timeval second = {.tv_sec = 1};
    struct provider_gates *gates = calloc(1, sizeof(*gates));

    if (!gates)
        return NULL;
    gates->pg = pg;
    gates->admission = admission;
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
