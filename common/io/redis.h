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
    /* redis://[[user]:password@]host[:port][/db] or unix:///path.  Host names are looked up again
     * for each connection, outside the loop. */
    const char *url;
    int64_t command_timeout_ms; /* 0: 1000.  On it the whole connection is dropped (replies are
                                   positional) and every command outstanding fails. */
    int max_outstanding;        /* 0: 10000 */
};

enum redis_kind { REDIS_LOST, REDIS_ERROR, REDIS_NIL, REDIS_INT, REDIS_TEXT, REDIS_LIST };

/* REDIS_LOST: no reply will come, the command may have run.  Status replies are REDIS_TEXT.  Lives
 * until the callback returns. */
struct redis_reply {
    enum redis_kind kind;
    int64_t number;
    const char *text;
    size_t len;
    const struct redis_reply *items; /* REDIS_LIST */
    size_t count;
};

typedef void redis_done_fn(const struct redis_reply *reply, void *arg);

/* Connects in the background and reconnects for ever; NULL when the URL is bad or memory is out.
 * The program must ignore SIGPIPE. */
struct redis *redis_new(struct event_base *base, const struct redis_options *options,
                        struct err *err) MUST_CHECK;
/* Outstanding commands end with REDIS_LOST, from inside this call.  May be called from a done. */
void redis_free(struct redis *redis);
bool redis_is_ready(const struct redis *redis); /* an idle connection is tried once a second */

/* The loop it lives on; NULL from within redis_free on, when nothing must be tried again. */
struct event_base *redis_base(const struct redis *redis);

/* run_id of the server the present connection goes to, "" when there is none or it is unknown.  It
 * changes when another server (or the same, started anew) answers; commands given now go to that
 * server or end with REDIS_LOST. */
const char *redis_run_id(const struct redis *redis);

/* done may be NULL (fire and forget); called exactly once, never from inside.  lens may be NULL
 * (strings).  When there is no connection, or too much is outstanding, the command ends with
 * REDIS_LOST in the next turn. */
void redis_command(struct redis *redis, const char *const *args, const size_t *lens, int count,
                   redis_done_fn *done, void *arg);

/* PUBLISH; done gets REDIS_INT, the number of receivers. */
void redis_publish(struct redis *redis, const char *channel, const void *data, size_t len,
                   redis_done_fn *done, void *arg);

/* A connection of its own for SUBSCRIBE.  on_message is called for each message; it may subscribe,
 * unsubscribe and free.  Messages sent while the connection is away are lost. */
typedef void redis_message_fn(const char *channel, const char *data, size_t len, void *arg);
typedef void redis_subscribed_fn(bool ready, void *arg);
struct redis_subscriber *redis_subscriber_new(struct event_base *base,
                                              const struct redis_options *options,
                                              redis_message_fn *on_message, void *arg,
                                              struct err *err) MUST_CHECK;
/* Whoever still waits for a subscription is told false, from inside this call. */
void redis_subscriber_free(struct redis_subscriber *subscriber);

/* Counted: as many unsubscribes end it.  Subscribes again after a reconnect.  done (may be NULL) is
 * called exactly once, never from inside: with true when the subscription stands, with false when
 * it does not (Redis is away: it will stand after the reconnect, untold; or all have unsubscribed;
 * or over 100000 channels, when the call had no effect). */
void redis_subscribe(struct redis_subscriber *subscriber, const char *channel,
                     redis_subscribed_fn *done, void *arg);
void redis_unsubscribe(struct redis_subscriber *subscriber, const char *channel);
/* Unsubscribes, and no done that was given with this arg for this channel will be called. */
void redis_subscribe_cancel(struct redis_subscriber *subscriber, const char *channel,
                            const void *arg);
bool redis_subscriber_is_ready(const struct redis_subscriber *subscriber);

#endif
