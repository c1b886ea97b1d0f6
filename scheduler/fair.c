/* SPDX-License-Identifier: Apache-2.0 */
/* Whose turn it is: first ready, first served, inside each priority. */
#include "scheduler/fair.h"

#include <stdlib.h>

/* What is free of a priority, the fast lane's credits not counted. */
static int64_t space(const struct feed_look *look, int priority)
{
    int64_t left = FAIR_DEPTH * look->slots - look->of[priority].dealt;

    return left > 0 ? left : 0;
}

/* A batch is shared by those who have somebody to deal, and what one of them leaves goes on to the
 * next. */
void fair_room(const struct feed_look *look, int room[PRIORITY_COUNT])
{
    int64_t batch = FEED_BATCH_MAX;
    int sharers = 0;

    for (int p = 0; p < PRIORITY_COUNT; p++)
        sharers += look->of[p].has_backlog;
    for (int p = 0; p < PRIORITY_COUNT; p++) {
        int64_t left = space(look, p) - look->of[p].credits;
        int64_t share = look->of[p].has_backlog ? batch / sharers : 0;

        room[p] = (int)(left < 0 ? 0 : left > share ? share : left);
        batch -= room[p];
        sharers -= look->of[p].has_backlog;
    }
}

void fair_credits(const struct feed_look *look, int64_t credits[PRIORITY_COUNT])
{
    for (int p = 0; p < PRIORITY_COUNT; p++) {
        int64_t left = space(look, p);

        credits[p] = look->of[p].has_backlog ? left / 4 : left - (left + 7) / 8;
    }
}

static int compare(const void *a, const void *b)
{
    const struct feed_candidate *one = *(const struct feed_candidate *const *)a;
    const struct feed_candidate *two = *(const struct feed_candidate *const *)b;

    if (one->priority != two->priority)
        return one->priority < two->priority ? -1 : 1;
    if (one->ready_at_us != two->ready_at_us)
        return one->ready_at_us < two->ready_at_us ? -1 : 1;
    return id_compare(one->job, two->job);
}

static size_t keep_within(const int room[PRIORITY_COUNT], const struct feed_candidate **sorted,
                          size_t count, const struct feed_candidate **picks)
{
    int used[PRIORITY_COUNT] = {0};
    size_t kept = 0;

    for (size_t i = 0; i < count && kept < FEED_BATCH_MAX; i++)
        if (used[sorted[i]->priority] < room[sorted[i]->priority]) {
            used[sorted[i]->priority]++;
            picks[kept++] = sorted[i];
        }
    return kept;
}

size_t fair_pick(const struct feed_candidate *candidates, size_t count,
                 const int room[PRIORITY_COUNT], const struct feed_candidate **picks)
{
    const struct feed_candidate **sorted = calloc(count ? count : 1, sizeof(const void *));
    size_t kept;

    if (!sorted)
        return 0;
    for (size_t i = 0; i < count; i++)
        sorted[i] = &candidates[i];
    qsort(sorted, count, sizeof(const void *), compare);
    kept = keep_within(room, sorted, count, picks);
    free(sorted);
    return kept;
}
