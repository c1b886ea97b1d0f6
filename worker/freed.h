/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the feeder that calls under limits of concurrency have ended.
 *
 * A courtesy: without it the place is found free at the feeder's next look.  However many calls
 * end, no more than a hundred messages a second are sent. */
#ifndef WORKER_FREED_H
#define WORKER_FREED_H

struct event_base;
struct freed;
struct redis;

/* NULL: out of memory. */
struct freed *freed_new(struct event_base *base, struct redis *redis);
void freed_free(struct freed *freed); /* before redis; NULL is fine */

/* A place is free, in Postgres, too: says so at once, or a moment later with others. */
void freed_note(struct freed *freed); /* NULL is fine */

#endif
