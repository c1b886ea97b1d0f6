/* SPDX-License-Identifier: Apache-2.0 */
/* Redis on the event loop: commands with deadlines, and subscriptions; reconnects by itself. */
#ifndef COMMON_IO_REDIS_H
#define COMMON_IO_REDIS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct event_base;
struct redis;
struct redis_subscriber;

struct redis_options {
    const char *url; /* redis://[user:password@]host:port[/db] or unix:///path; resolved before */
    int64_t command_timeout_ms; /* 0: 1000.  On it the whole connection is dropped (replies are
                                   positional) and every command outstanding fails. */
    int max_outstanding;        /* 0: 10000 */
};

enum redis_kind { REDIS_LOST, REDIS_ERROR, REDIS_NIL, REDIS_INT, REDIS_TEXT, REDIS_LIST };

/* REDIS_LOST: no reply will come, the command may have run. */
struct redis_reply {
    enum redis_kind kind;
    int64_t number;
    const char *text;
    size_t len;
    const struct redis_reply *items; /* REDIS_LIST */
    size_t count;
};

typedef void redis_done_fn(const struct redis_reply *reply, void *arg);

struct redis *redis_new(struct event_base *base, const struct redis_options *options,
                        struct err *err) MUST_CHECK;
void redis_free(struct redis *redis); /* outstanding commands end with REDIS_LOST */
bool redis_is_ready(const struct redis *redis);

/* done may be NULL (fire and forget); never called from inside.  When there is no connection the
 * command ends with REDIS_LOST in the next turn. */
void redis_command(struct redis *redis, const char *const *args, const size_t *lens, int count,
                   redis_done_fn *done, void *arg);

/* PUBLISH; done gets REDIS_INT, the number of receivers. */
void redis_publish(struct redis *redis, const char *channel, const void *data, size_t len,
                   redis_done_fn *done, void *arg);

/* A connection of its own for SUBSCRIBE.  on_message is called for each message. */
typedef void redis_message_fn(const char *channel, const char *data, size_t len, void *arg);
struct redis_subscriber *redis_subscriber_new(struct event_base *base,
                                              const struct redis_options *options,
                                              redis_message_fn *on_message, void *arg,
                                              struct err *err) MUST_CHECK;
void redis_subscriber_free(struct redis_subscriber *subscriber);
/* Counted: as many unsubscribes end it.  Re-subscribes after a reconnect.  done (may be NULL) is
 * called when the subscription stands (ready true), or at once in the next turn with false when
 * Redis is away. */
void redis_subscribe(struct redis_subscriber *subscriber, const char *channel,
                     void (*done)(bool ready, void *arg), void *arg);
void redis_unsubscribe(struct redis_subscriber *subscriber, const char *channel);
bool redis_subscriber_is_ready(const struct redis_subscriber *subscriber);

#endif
