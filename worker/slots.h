/* SPDX-License-Identifier: Apache-2.0 */
/* Which priority may take a slot: guaranteed shares, idle ones lent.  Pure. */
#ifndef WORKER_SLOTS_H
#define WORKER_SLOTS_H

#include <stdbool.h>

#include "common/model/job.h"

/* Each priority owns a share of the slots (high 50 %, normal 35 %, low 15 %; at least one each when
 * there are three).  What a share leaves idle is lent to whoever has work, except a tenth of it (at
 * least one slot), which always stands ready for its owner: long low-priority calls can never hold
 * the whole pool.  A slot that comes back goes first to the priorities that have work waiting and
 * are below their share, so a lent share returns as fast as calls end. */
struct slots {
    int total;
    int share[PRIORITY_COUNT];
    int reserve[PRIORITY_COUNT]; /* part of share that is never lent */
    int used[PRIORITY_COUNT];
    bool is_hungry[PRIORITY_COUNT]; /* has work waiting that found no room */
};

void slots_init(struct slots *slots, int total);

/* How many slots the priority may take now. */
int slots_room(const struct slots *slots, enum priority priority);

void slots_take(struct slots *slots, enum priority priority);
void slots_give(struct slots *slots, enum priority priority);
int slots_used(const struct slots *slots);

#endif
