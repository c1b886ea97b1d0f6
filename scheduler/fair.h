/* SPDX-License-Identifier: Apache-2.0 */
/* Whose turn it is.  Pure: facts in, a choice out; nothing here asks a server or a clock. */
#ifndef SCHEDULER_FAIR_H
#define SCHEDULER_FAIR_H

#include "common/model/feed_store.h"

/* How deep the topics may be.  With one of each slot's job running and one waiting for it, a slot
 * that becomes free finds work while the feeder's next turn is still to come; what is dealt beyond
 * that could no longer be dealt in a better order. */
enum { FAIR_DEPTH = 2 };

/* How many more tickets of each priority the topics can take: what the fast lane may still add on
 * its own counts as taken.  At most FEED_BATCH_MAX in all; none where nobody waits. */
void fair_room(const struct feed_look *look, int room[PRIORITY_COUNT]);

/* How many tickets of each priority the fast lane may add without asking.  With a backlog a quarter
 * of what is free, so that a newcomer's tenant need not wait behind it; else all but an eighth,
 * which is there for what comes back to the queue. */
void fair_credits(const struct feed_look *look, int64_t credits[PRIORITY_COUNT]);

/* Puts into picks, which has room for FEED_BATCH_MAX, those to be dealt now, in the order in which
 * they are to be dealt, and returns how many they are: never more than room[p] of a priority.
 * Candidates are all that is known of who waits; the choice is theirs alone, so that tenants'
 * shares, weights and deadlines can decide here without a change elsewhere.  Today: high before
 * normal before low (they go to topics of their own, so that this decides nothing), and first
 * ready, first served. */
size_t fair_pick(const struct feed_candidate *candidates, size_t count,
                 const int room[PRIORITY_COUNT], const struct feed_candidate **picks);

#endif
