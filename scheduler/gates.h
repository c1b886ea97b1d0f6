/* SPDX-License-Identifier: Apache-2.0 */
/* Who may be dealt while tenants are at their limits.  Pure: facts in, a choice out. */
#ifndef SCHEDULER_GATES_H
#define SCHEDULER_GATES_H

#include "common/model/feed_store.h"
#include "common/model/gate_store.h"

/* A pass over what waits.  A job goes if every gate of its scopes lets it; of a gate with an
 * interval as many as the time since it was last used allows, of concurrency as many as have room.
 * Who is stopped by the tenant's own gate stays where it is: the tenant is not looked at again
 * before.  Who is stopped by a scope is put off, each after the one before it, so that the next
 * look finds others: nobody is looked at again and again.  Of a scope at its concurrency the first
 * stay, too, as many as may run at once: when calls end their successors are there, and need not
 * come due just then. */
struct gates {
    struct gate *all; /* sorted */
    int64_t *quota;   /* of each: how many more may go in this pass */
    int64_t *used;
    int64_t *tail_us;
    struct gate_kept *kept;
    int64_t kept_max[PRIORITY_COUNT]; /* of a tenant: half of what is looked at */
    size_t count;
    size_t told; /* how many of them gates_next_uses went through */
    struct gate_delay delays[GATE_DELAYS_MAX];
    size_t delay_count;
    bool is_full; /* somebody waits until a call ends */
    bool is_cut;  /* more were to be put off than there is room for: they stay for the next look */
};

/* Takes all over (malloc'd); NULL is fine with count 0.  room is that of feed_candidates.  False:
 * out of memory. */
bool gates_init(struct gates *gates, const int room[PRIORITY_COUNT], struct gate *all,
                size_t count) MUST_CHECK;
void gates_release(struct gates *gates);

/* Keeps of candidates those that may go, in their order, and returns how many. */
size_t gates_filter(struct gates *gates, struct feed_candidate *candidates, size_t count);

/* Notes what was dealt after all. */
void gates_count_uses(struct gates *gates, const struct feed_candidate *const *picks, size_t count);

/* The gates that were used, GATE_USES_MAX of them at a time: that many uses has room for.  Returns
 * how many; 0 when all were told.  Each of a batch may have gates of its own, in every scope. */
size_t gates_next_uses(struct gates *gates, struct gate_use *uses);

#endif
