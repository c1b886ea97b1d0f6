/* SPDX-License-Identifier: Apache-2.0 */
/* Messages to the feeder: the first at once, those close behind it as one. */
#include "worker/freed.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/io/redis.h"
#include "common/model/channels.h"

#include <event2/event.h>

enum { APART_MS = 10 };

struct freed {
    struct redis *redis;
    struct event *timer;
    int64_t told_us; /* 0: never */
};

static void tell(struct freed *freed)
{
    freed->told_us = clock_monotonic_us();
    redis_publish(freed->redis, CHANNEL_FREED, "", 0, NULL, NULL);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    tell(arg);
}

void freed_note(struct freed *freed)
{
    struct timeval wait = {0};
    int64_t wait_us;

    if (!freed || event_pending(freed->timer, EV_TIMEOUT, NULL))
        return;
    wait_us = freed->told_us + APART_MS * US_PER_MS - clock_monotonic_us();
    if (freed->told_us == 0 || wait_us <= 0) {
        tell(freed);
        return;
    }
    wait.tv_usec = (suseconds_t)wait_us;
    event_add(freed->timer, &wait);
}

struct freed *freed_new(struct event_base *base, struct redis *redis)
{
    struct freed *freed = calloc(1, sizeof(*freed));

    if (!freed)
        return NULL;
    freed->redis = redis;
    freed->timer = event_new(base, -1, 0, on_timer, freed);
    if (freed->timer)
        return freed;
    free(freed);
    return NULL;
}

void freed_free(struct freed *freed)
{
    if (!freed)
        return;
    event_free(freed->timer);
    free(freed);
}
