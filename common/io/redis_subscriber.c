/* SPDX-License-Identifier: Apache-2.0 */
/* Subscriptions: counted by channel, made again after every reconnect. */
#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/io/redis.h"
#include "common/io/redis_link.h"

#include <event2/event.h>

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/time.h>

enum { CHANNELS_MAX = 100000 };

/* Somebody to tell whether the subscription stands. */
struct waiter {
    STAILQ_ENTRY(waiter) link;
    redis_subscribed_fn *done;
    void *arg;
    const struct channel *channel; /* NULL: it never was one */
    bool ready;
};

STAILQ_HEAD(waiter_list, waiter);

/* Redis answers SUBSCRIBE and UNSUBSCRIBE in order, so the last of the pending confirmations tells
 * the state: only when pending is 0 does the subscription stand (wanted > 0) or is the channel gone
 * (then it leaves the map). */
struct channel {
    int wanted;
    int pending;
    struct waiter_list waiters;
    size_t name_len;
    char name[];
};

struct redis_subscriber {
    struct redis_link *link;
    struct map *channels;
    redis_message_fn *on_message;
    void *arg;
    struct waiter_list told; /* those who know and are to be called */
    struct event *tell;      /* calls them in the next turn */
    struct event *tick;
    bool is_expecting;
    int busy;      /* below us on the stack the told are walked */
    bool is_freed; /* free the memory when no longer busy */
};

static void leave(struct redis_subscriber *subscriber)
{
    if (--subscriber->busy == 0 && subscriber->is_freed)
        free(subscriber);
}

/* Calls those who are told by now; those a callback adds wait for the next turn. */
static void call_told(struct redis_subscriber *subscriber)
{
    struct waiter *waiter;
    int count = 0;

    subscriber->busy++;
    STAILQ_FOREACH(waiter, &subscriber->told, link)
    count++;
    while (count-- > 0 && (waiter = STAILQ_FIRST(&subscriber->told)) != NULL) {
        STAILQ_REMOVE_HEAD(&subscriber->told, link);
        waiter->done(waiter->ready, waiter->arg);
        free(waiter);
    }
    leave(subscriber);
}

static void on_tell(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    call_told(arg);
}

static void tell_next_turn(struct redis_subscriber *subscriber)
{
    event_add(subscriber->tell, &(struct timeval){.tv_sec = 0});
}

static void tell_all(struct redis_subscriber *subscriber, struct channel *channel, bool ready)
{
    struct waiter *waiter;

    STAILQ_FOREACH(waiter, &channel->waiters, link)
    waiter->ready = ready;
    STAILQ_CONCAT(&subscriber->told, &channel->waiters);
}

static void channel_remove(struct redis_subscriber *subscriber, struct channel *channel)
{
    struct waiter *waiter;

    STAILQ_FOREACH(waiter, &subscriber->told, link)
    if (waiter->channel == channel)
        waiter->channel = NULL;
    map_remove(subscriber->channels, channel->name, channel->name_len);
    free(channel);
}

/* NULL also while the subscriber is being freed. */
static struct channel *find(const struct redis_subscriber *subscriber, const char *name)
{
    return subscriber->is_freed ? NULL : map_get(subscriber->channels, name, strlen(name));
}

static struct channel *channel_add(struct redis_subscriber *subscriber, const char *name)
{
    size_t len = strlen(name);
    struct channel *channel = xcalloc(1, sizeof(*channel) + len + 1);

    STAILQ_INIT(&channel->waiters);
    channel->name_len = len;
    memcpy(channel->name, name, len + 1);
    if (map_put(subscriber->channels, name, len, channel))
        return channel;
    free(channel);
    return NULL;
}

/* One command, expected to be answered in time.  Any reply shows that the connection lives, and a
 * PING goes out every second, so one date is enough. */
static bool ask(struct redis_subscriber *subscriber, const char *const *args, int count)
{
    if (!redis_link_send(subscriber->link, args, NULL, count)) {
        redis_link_drop(subscriber->link, "too much waits to be written");
        return false;
    }
    if (!subscriber->is_expecting)
        redis_link_expect_by(subscriber->link,
                             clock_monotonic_us() + redis_link_timeout_us(subscriber->link));
    subscriber->is_expecting = true;
    return true;
}

static void ask_about(struct redis_subscriber *subscriber, const char *verb,
                      struct channel *channel)
{
    const char *const args[] = {verb, channel->name};

    channel->pending++; /* before: a drop sets it to 0 */
    ask(subscriber, args, 2);
}

static bool subscribe_again(const void *name, size_t name_len, void *value, void *arg)
{
    struct redis_subscriber *subscriber = arg;

    (void)name;
    (void)name_len;
    ask_about(subscriber, "SUBSCRIBE", value);
    return redis_link_is_ready(subscriber->link);
}

static void on_ready(void *arg)
{
    struct redis_subscriber *subscriber = arg;

    subscriber->is_expecting = false;
    map_each(subscriber->channels, subscribe_again, subscriber);
}

/* The connection is gone: nothing is pending, and who waits hears that it does not stand. */
static bool forget_pending(const void *name, size_t name_len, void *value, void *arg)
{
    struct channel *channel = value;

    (void)name;
    (void)name_len;
    channel->pending = 0;
    tell_all(arg, channel, false);
    if (channel->wanted == 0)
        channel_remove(arg, channel);
    return true;
}

static void on_lost(void *arg)
{
    struct redis_subscriber *subscriber = arg;

    map_each(subscriber->channels, forget_pending, subscriber);
    if (!STAILQ_EMPTY(&subscriber->told))
        tell_next_turn(subscriber);
}

static void on_confirmed(struct redis_subscriber *subscriber, const struct redis_reply *name)
{
    struct channel *channel = map_get(subscriber->channels, name->text, name->len);

    if (!channel || channel->pending == 0 || --channel->pending > 0)
        return;
    if (channel->wanted == 0) {
        channel_remove(subscriber, channel);
        return;
    }
    tell_all(subscriber, channel, true);
    call_told(subscriber); /* now, so that no message comes before */
}

static void on_reply(const struct redis_reply *reply, void *arg)
{
    struct redis_subscriber *subscriber = arg;
    const struct redis_reply *items = reply->items;
    const struct channel *channel;

    subscriber->is_expecting = false;
    redis_link_expect_by(subscriber->link, 0);
    if (reply->kind == REDIS_ERROR) {
        redis_link_drop(subscriber->link, reply->text);
    } else if (reply->kind != REDIS_LIST || reply->count != 3 || items[0].kind != REDIS_TEXT ||
               items[1].kind != REDIS_TEXT) {
        /* the answer to a PING */
    } else if (strcmp(items[0].text, "message") != 0) {
        on_confirmed(subscriber, &items[1]);
    } else if (items[2].kind == REDIS_TEXT) {
        channel = map_get(subscriber->channels, items[1].text, items[1].len);
        if (channel && channel->wanted > 0)
            subscriber->on_message(items[1].text, items[2].text, items[2].len, subscriber->arg);
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct redis_subscriber *subscriber = arg;
    const char *const ping[] = {"PING"};

    (void)fd;
    (void)what;
    if (redis_link_is_ready(subscriber->link))
        ask(subscriber, ping, 1);
}

struct redis_subscriber *redis_subscriber_new(struct event_base *base,
                                              const struct redis_options *options,
                                              redis_message_fn *on_message, void *arg,
                                              struct err *err)
{
    static const struct redis_link_events events = {
        .on_ready = on_ready, .on_reply = on_reply, .on_lost = on_lost};
    const struct timeval second = {.tv_sec = 1};
    struct redis_subscriber *subscriber = xcalloc(1, sizeof(*subscriber));

    STAILQ_INIT(&subscriber->told);
    subscriber->on_message = on_message;
    subscriber->arg = arg;
    subscriber->channels = map_new(CHANNELS_MAX);
    subscriber->tell = evtimer_new(base, on_tell, subscriber);
    subscriber->tick = event_new(base, -1, EV_PERSIST, on_tick, subscriber);
    if (!subscriber->channels || !subscriber->tell || !subscriber->tick ||
        event_add(subscriber->tick, &second) != 0)
        err_set(err, "make a Redis subscriber: out of memory");
    else
        subscriber->link = redis_link_new(base, options, &events, subscriber, err);
    if (subscriber->link)
        return subscriber;
    redis_subscriber_free(subscriber);
    return NULL;
}

static bool give_up(const void *name, size_t name_len, void *value, void *arg)
{
    (void)name;
    (void)name_len;
    tell_all(arg, value, false);
    channel_remove(arg, value);
    return true;
}

void redis_subscriber_free(struct redis_subscriber *subscriber)
{
    if (!subscriber || subscriber->is_freed)
        return;
    subscriber->busy++;
    subscriber->is_freed = true;
    redis_link_free(subscriber->link);
    subscriber->link = NULL;
    if (subscriber->channels)
        map_each(subscriber->channels, give_up, subscriber);
    map_free(subscriber->channels);
    subscriber->channels = NULL;
    while (!STAILQ_EMPTY(&subscriber->told))
        call_told(subscriber);
    if (subscriber->tell)
        event_free(subscriber->tell);
    if (subscriber->tick)
        event_free(subscriber->tick);
    leave(subscriber);
}

static void add_waiter(struct redis_subscriber *subscriber, struct waiter_list *list,
                       const struct channel *channel, bool ready, redis_subscribed_fn *done,
                       void *arg)
{
    struct waiter *waiter;

    if (!done)
        return;
    waiter = xcalloc(1, sizeof(*waiter));
    *waiter = (struct waiter){.done = done, .arg = arg, .channel = channel, .ready = ready};
    STAILQ_INSERT_TAIL(list, waiter, link);
    if (list == &subscriber->told)
        tell_next_turn(subscriber);
}

bool redis_subscriber_is_ready(const struct redis_subscriber *subscriber)
{
    return subscriber->link && redis_link_is_ready(subscriber->link);
}

void redis_subscribe(struct redis_subscriber *subscriber, const char *name,
                     redis_subscribed_fn *done, void *arg)
{
    struct channel *channel = find(subscriber, name);
    bool is_ready = redis_subscriber_is_ready(subscriber);

    if (!channel && !subscriber->is_freed)
        channel = channel_add(subscriber, name);
    if (!channel || !is_ready) {
        if (channel)
            channel->wanted++;
        add_waiter(subscriber, &subscriber->told, channel, false, done, arg);
        return;
    }
    if (channel->wanted > 0 && channel->pending == 0) {
        channel->wanted++;
        add_waiter(subscriber, &subscriber->told, channel, true, done, arg);
        return;
    }
    add_waiter(subscriber, &channel->waiters, channel, false, done, arg);
    if (channel->wanted++ == 0)
        ask_about(subscriber, "SUBSCRIBE", channel);
}

void redis_unsubscribe(struct redis_subscriber *subscriber, const char *name)
{
    struct channel *channel = find(subscriber, name);

    if (!channel || channel->wanted == 0 || --channel->wanted > 0)
        return;
    if (!STAILQ_EMPTY(&channel->waiters)) {
        tell_all(subscriber, channel, false);
        tell_next_turn(subscriber);
    }
    if (redis_link_is_ready(subscriber->link))
        ask_about(subscriber, "UNSUBSCRIBE", channel);
    else
        channel_remove(subscriber, channel);
}

static void drop_waiters(struct waiter_list *list, const struct channel *channel, const void *arg)
{
    struct waiter_list kept = STAILQ_HEAD_INITIALIZER(kept);
    struct waiter *waiter;

    while ((waiter = STAILQ_FIRST(list)) != NULL) {
        STAILQ_REMOVE_HEAD(list, link);
        if (waiter->arg == arg && (!waiter->channel || waiter->channel == channel))
            free(waiter);
        else
            STAILQ_INSERT_TAIL(&kept, waiter, link);
    }
    STAILQ_CONCAT(list, &kept);
}

void redis_subscribe_cancel(struct redis_subscriber *subscriber, const char *name, const void *arg)
{
    struct channel *channel = find(subscriber, name);

    drop_waiters(&subscriber->told, channel, arg);
    if (channel)
        drop_waiters(&channel->waiters, channel, arg);
    redis_unsubscribe(subscriber, name);
}
