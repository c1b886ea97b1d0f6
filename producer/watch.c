/* SPDX-License-Identifier: Apache-2.0 */
/* Shares one Redis subscription among all requests of this process that watch jobs. */
#include "producer/watch.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/io/redis.h"

/* All who watch one job.  While its messages are being told (depth > 0) nobody leaves the list:
 * who stops is marked, and swept after. */
struct watched {
    struct watches *watches;
    struct id job;
    struct watch *first;
    int depth;
};

struct watch {
    struct watched *watched;
    struct watch *next;
    watch_fn *on_message;
    watch_ready_fn *on_ready;
    void *arg;
    bool is_stopped;
};

struct watches {
    struct redis_subscriber *subscriber;
    struct map *jobs; /* by channel */
};

static void sweep(struct watched *watched)
{
    struct watch **at = &watched->first;
    char channel[CHANNEL_SIZE];

    while (*at) {
        struct watch *watch = *at;

        if (!watch->is_stopped) {
            at = &watch->next;
            continue;
        }
        *at = watch->next;
        free(watch);
    }
    if (watched->first)
        return;
    channel_of_job(watched->job, channel);
    map_remove(watched->watches->jobs, channel, strlen(channel));
    free(watched);
}

static void on_message(const char *channel, const char *data, size_t len, void *arg)
{
    struct watches *watches = arg;
    struct watched *watched = map_get(watches->jobs, channel, strlen(channel));
    struct live_message message;

    if (!watched || !live_message_read(data, len, &message))
        return;
    watched->depth++;
    for (struct watch *watch = watched->first; watch; watch = watch->next)
        if (!watch->is_stopped)
            watch->on_message(&message, watch->arg);
    if (--watched->depth == 0)
        sweep(watched);
}

struct watches *watches_new(struct event_base *base, const char *redis_url, struct err *err)
{
    struct redis_options options = {.url = redis_url};
    struct watches *watches = calloc(1, sizeof(*watches));

    if (!watches) {
        err_set(err, "watch jobs: out of memory");
        return NULL;
    }
    watches->jobs = map_new(WATCHES_MAX);
    watches->subscriber = redis_subscriber_new(base, &options, on_message, watches, err);
    if (watches->jobs && watches->subscriber)
        return watches;
    watches_free(watches);
    return NULL;
}

void watches_free(struct watches *watches)
{
    if (!watches)
        return;
    if (watches->subscriber)
        redis_subscriber_free(watches->subscriber);
    map_free(watches->jobs);
    free(watches);
}

static void on_subscribed(bool ready, void *arg)
{
    struct watch *watch = arg;

    if (watch->on_ready)
        watch->on_ready(ready, watch->arg);
}

static struct watched *watched_get(struct watches *watches, struct id job, const char *channel)
{
    struct watched *watched = map_get(watches->jobs, channel, strlen(channel));

    if (watched)
        return watched;
    watched = calloc(1, sizeof(*watched));
    if (!watched)
        return NULL;
    watched->watches = watches;
    watched->job = job;
    if (map_put(watches->jobs, channel, strlen(channel), watched))
        return watched;
    free(watched);
    return NULL;
}

struct watch *watch_start(struct watches *watches, struct id job, watch_fn *on_told,
                          watch_ready_fn *on_ready, void *arg)
{
    struct watch *watch = calloc(1, sizeof(*watch));
    char channel[CHANNEL_SIZE];

    if (!watch)
        return NULL;
    channel_of_job(job, channel);
    watch->watched = watched_get(watches, job, channel);
    if (!watch->watched) {
        free(watch);
        return NULL;
    }
    watch->on_message = on_told;
    watch->on_ready = on_ready;
    watch->arg = arg;
    watch->next = watch->watched->first;
    watch->watched->first = watch;
    redis_subscribe(watches->subscriber, channel, on_subscribed, watch);
    return watch;
}

void watch_stop(struct watch *watch)
{
    char channel[CHANNEL_SIZE];

    if (!watch)
        return;
    channel_of_job(watch->watched->job, channel);
    redis_subscribe_cancel(watch->watched->watches->subscriber, channel, watch);
    watch->is_stopped = true;
    if (watch->watched->depth == 0)
        sweep(watch->watched);
}
