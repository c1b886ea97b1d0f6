/* SPDX-License-Identifier: Apache-2.0 */
/* Watching jobs: many requests hear of one job's changes over one Redis subscription. */
#ifndef PRODUCER_WATCH_H
#define PRODUCER_WATCH_H

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/model/channels.h"

struct event_base;
struct redis_subscriber;
struct watch;
struct watches;

enum { WATCHES_MAX = 50000 }; /* jobs watched at a time in one process */

struct watches *watches_new(struct event_base *base, const char *redis_url,
                            struct err *err) MUST_CHECK;
void watches_free(struct watches *watches); /* all watches must be stopped */

/* on_message is called for each message on the job's channel, from the loop.  It may stop this and
 * any other watch.  Messages get lost (Redis may be away): look at Postgres once a second anyway.
 */
typedef void watch_fn(const struct live_message *message, void *arg);
/* on_ready (may be NULL) is called once, never from inside, when messages are coming from now on
 * (true), or when Redis is away (false; they may come later, untold): read Postgres then. */
typedef void watch_ready_fn(bool is_listening, void *arg);

/* NULL: over the maximum, or no memory. */
struct watch *watch_start(struct watches *watches, struct id job, watch_fn *on_message,
                          watch_ready_fn *on_ready, void *arg) MUST_CHECK;
void watch_stop(struct watch *watch); /* NULL is fine; no callback comes after */

#endif
