/* SPDX-License-Identifier: Apache-2.0 */
/* One connection to Redis that comes back by itself: what redis.c and redis_subscriber.c stand on.
 *
 * hiredis serves as parser and formatter only.  Its asynchronous layer (0.14) looks names up while
 * the loop waits, has no timeouts and frees its context on its own; sockets, deadlines and lives
 * are kept here. */
#ifndef COMMON_IO_REDIS_LINK_H
#define COMMON_IO_REDIS_LINK_H

#include "common/io/redis.h"

struct redis_link;

/* All are called from the loop, and each may free the link. */
struct redis_link_events {
    void (*on_ready)(void *arg);                                  /* connected and greeted */
    void (*on_reply)(const struct redis_reply *reply, void *arg); /* after on_ready, in order */
    void (*on_lost)(void *arg);                                   /* once for each on_ready */
};

/* Starts connecting at once; retries for ever (full jitter up to 2 s). */
struct redis_link *redis_link_new(struct event_base *base, const struct redis_options *options,
                                  const struct redis_link_events *events, void *arg,
                                  struct err *err) MUST_CHECK;
void redis_link_free(struct redis_link *link); /* calls nothing back */

bool redis_link_is_ready(const struct redis_link *link);
const char *redis_link_run_id(const struct redis_link *link); /* "": unknown */

/* Queues one command.  False when there is no connection or too much waits to be written; then
 * nothing of it was queued. */
bool redis_link_send(struct redis_link *link, const char *const *args, const size_t *lens,
                     int count) MUST_CHECK;

/* The connection is dropped unless this is called again by then (monotonic; 0: expect nothing). */
void redis_link_expect_by(struct redis_link *link, int64_t due_us);

/* Closes the connection, calls on_lost, and begins anew.  why goes to the log. */
void redis_link_drop(struct redis_link *link, const char *why);

int64_t redis_link_timeout_us(const struct redis_link *link); /* of one command */

#endif
