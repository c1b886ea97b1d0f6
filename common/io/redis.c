/* SPDX-License-Identifier: Apache-2.0 */
/* Commands to Redis: pipelined, answered in order, lost together when the connection is. */
#include "common/io/redis.h"

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/redis_link.h"

#include <event2/event.h>

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/time.h>

enum { MAX_OUTSTANDING_DEFAULT = 10000 };

struct command {
    STAILQ_ENTRY(command) link;
    redis_done_fn *done;
    void *arg;
    int64_t sent_us;
};

STAILQ_HEAD(command_list, command);

struct redis {
    struct redis_link *link;
    struct command_list sent; /* in the order of the replies to come */
    struct command_list lost; /* to be told so in the next turn */
    int sent_count;
    int max_outstanding;
    struct event *tell; /* the next turn */
    struct event *tick;
    int busy;      /* below us on the stack the commands are walked */
    bool is_freed; /* free the memory when no longer busy */
};

static struct command *pop(struct command_list *list)
{
    struct command *command = STAILQ_FIRST(list);

    if (command)
        STAILQ_REMOVE_HEAD(list, link);
    return command;
}

static void finish(struct command *command, const struct redis_reply *reply)
{
    if (command->done)
        command->done(reply, command->arg);
    free(command);
}

static void lose(struct command *command)
{
    const struct redis_reply lost = {.kind = REDIS_LOST};

    finish(command, &lost);
}

static void leave(struct redis *redis)
{
    if (--redis->busy == 0 && redis->is_freed)
        free(redis);
}

static void expect_first(struct redis *redis)
{
    const struct command *first = STAILQ_FIRST(&redis->sent);

    redis_link_expect_by(redis->link,
                         first ? first->sent_us + redis_link_timeout_us(redis->link) : 0);
}

static void on_reply(const struct redis_reply *reply, void *arg)
{
    struct redis *redis = arg;
    struct command *command = pop(&redis->sent);

    if (!command) {
        redis_link_drop(redis->link, "a reply nobody asked for");
        return;
    }
    redis->sent_count--;
    expect_first(redis);
    finish(command, reply); /* may free redis */
}

static void on_ready(void *arg)
{
    (void)arg;
}

static void tell_next_turn(struct redis *redis)
{
    event_add(redis->tell, &(struct timeval){.tv_sec = 0});
}

static void on_lost(void *arg)
{
    struct redis *redis = arg;

    STAILQ_CONCAT(&redis->lost, &redis->sent);
    redis->sent_count = 0;
    tell_next_turn(redis);
}

/* Those that are lost by now; a callback that tries again at once waits for the next turn. */
static void on_tell(evutil_socket_t fd, short what, void *arg)
{
    struct redis *redis = arg;
    struct command *command;
    int count = 0;

    (void)fd;
    (void)what;
    redis->busy++;
    STAILQ_FOREACH(command, &redis->lost, link)
    count++;
    while (count-- > 0 && (command = pop(&redis->lost)) != NULL)
        lose(command);
    leave(redis);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct redis *redis = arg;
    const char *const ping[] = {"PING"};

    (void)fd;
    (void)what;
    if (STAILQ_EMPTY(&redis->sent) && redis_link_is_ready(redis->link))
        redis_command(redis, ping, NULL, 1, NULL, NULL);
}

struct redis *redis_new(struct event_base *base, const struct redis_options *options,
                        struct err *err)
{
    static const struct redis_link_events events = {
        .on_ready = on_ready, .on_reply = on_reply, .on_lost = on_lost};
    const struct timeval second = {.tv_sec = 1};
    struct redis *redis = xcalloc(1, sizeof(*redis));

    STAILQ_INIT(&redis->sent);
    STAILQ_INIT(&redis->lost);
    redis->max_outstanding =
        options->max_outstanding > 0 ? options->max_outstanding : MAX_OUTSTANDING_DEFAULT;
    redis->tell = evtimer_new(base, on_tell, redis);
    redis->tick = event_new(base, -1, EV_PERSIST, on_tick, redis);
    if (!redis->tell || !redis->tick || event_add(redis->tick, &second) != 0)
        err_set(err, "make a Redis client: out of memory");
    else
        redis->link = redis_link_new(base, options, &events, redis, err);
    if (redis->link)
        return redis;
    redis_free(redis);
    return NULL;
}

void redis_free(struct redis *redis)
{
    struct command *command;

    if (!redis || redis->is_freed)
        return;
    redis->busy++;
    redis->is_freed = true;
    redis_link_free(redis->link);
    redis->link = NULL;
    STAILQ_CONCAT(&redis->lost, &redis->sent);
    while ((command = pop(&redis->lost)) != NULL)
        lose(command);
    if (redis->tell)
        event_free(redis->tell);
    if (redis->tick)
        event_free(redis->tick);
    redis->tell = NULL;
    leave(redis);
}

bool redis_is_ready(const struct redis *redis)
{
    return redis->link && redis_link_is_ready(redis->link);
}

struct event_base *redis_base(const struct redis *redis)
{
    return redis->is_freed ? NULL : event_get_base(redis->tick);
}

const char *redis_run_id(const struct redis *redis)
{
    return redis->link ? redis_link_run_id(redis->link) : "";
}

void redis_command(struct redis *redis, const char *const *args, const size_t *lens, int count,
                   redis_done_fn *done, void *arg)
{
    struct command *command = xcalloc(1, sizeof(*command));

    command->done = done;
    command->arg = arg;
    command->sent_us = clock_monotonic_us();
    if (redis->link && redis->sent_count < redis->max_outstanding &&
        redis_link_send(redis->link, args, lens, count)) {
        STAILQ_INSERT_TAIL(&redis->sent, command, link);
        if (redis->sent_count++ == 0)
            expect_first(redis);
        return;
    }
    STAILQ_INSERT_TAIL(&redis->lost, command, link);
    if (!redis->is_freed)
        tell_next_turn(redis);
}

void redis_publish(struct redis *redis, const char *channel, const void *data, size_t len,
                   redis_done_fn *done, void *arg)
{
    const char *const args[] = {"PUBLISH", channel, data};
    const size_t lens[] = {strlen("PUBLISH"), strlen(channel), len};

    redis_command(redis, args, lens, 3, done, arg);
}
