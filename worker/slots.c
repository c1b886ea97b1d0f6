/* SPDX-License-Identifier: Apache-2.0 */
/* Shares of the slots by priority: arithmetic without any I/O. */
#include "worker/slots.h"

#include <assert.h>
#include <string.h>

static const int share_percent[PRIORITY_COUNT] = {
    [PRIORITY_HIGH] = 50,
    [PRIORITY_NORMAL] = 35,
    [PRIORITY_LOW] = 15,
};

/* A tenth of the share, at least one; with fewer slots than priorities nobody can have one of his
 * own. */
static int reserve_of(int share, int total)
{
    if (total < PRIORITY_COUNT)
        return 0;
    return share / 10 > 1 ? share / 10 : 1;
}

void slots_init(struct slots *slots, int total)
{
    int given = 0;

    memset(slots, 0, sizeof(*slots));
    slots->total = total;
    for (int p = PRIORITY_COUNT - 1; p > PRIORITY_HIGH; p--) {
        slots->share[p] = total * share_percent[p] / 100;
        if (slots->share[p] == 0 && total >= PRIORITY_COUNT)
            slots->share[p] = 1;
        given += slots->share[p];
    }
    slots->share[PRIORITY_HIGH] = total - given; /* and what rounding left over */
    for (int p = 0; p < PRIORITY_COUNT; p++)
        slots->reserve[p] = reserve_of(slots->share[p], total);
}

int slots_used(const struct slots *slots)
{
    int used = 0;

    for (int p = 0; p < PRIORITY_COUNT; p++)
        used += slots->used[p];
    return used;
}

static int positive(int n)
{
    return n > 0 ? n : 0;
}

/* Slots that another priority must find free: its reserve, or all that its share still lacks when
 * it has work waiting. */
static int held_for(const struct slots *slots, int owner)
{
    int up_to = slots->is_hungry[owner] ? slots->share[owner] : slots->reserve[owner];

    return positive(up_to - slots->used[owner]);
}

int slots_room(const struct slots *slots, enum priority priority)
{
    int unused = slots->total - slots_used(slots);
    int within_share = positive(slots->share[priority] - slots->used[priority]);
    int kept = 0;   /* by the reserves of the others: out of reach for anybody else */
    int wanted = 0; /* and by their claims to their shares: out of reach for a borrower */

    for (int p = 0; p < PRIORITY_COUNT; p++) {
        if (p == (int)priority)
            continue;
        kept += positive(slots->reserve[p] - slots->used[p]);
        wanted += held_for(slots, p);
    }
    if (unused - kept <= within_share)
        return positive(unused - kept);
    /* Past its share it borrows: only what nobody else has a claim to. */
    return unused - wanted > within_share ? unused - wanted : within_share;
}

void slots_take(struct slots *slots, enum priority priority)
{
    assert(slots_used(slots) < slots->total);
    slots->used[priority]++;
}

void slots_give(struct slots *slots, enum priority priority)
{
    assert(slots->used[priority] > 0);
    slots->used[priority]--;
}
