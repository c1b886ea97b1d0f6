/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of counts: sums per priority for the gauges, and folding delta rows. */
#ifndef COMMON_MODEL_COUNT_STORE_H
#define COMMON_MODEL_COUNT_STORE_H

#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/job.h"

struct count_look {
    int64_t rows;   /* of the table */
    int64_t groups; /* what they would be, folded */
    struct {
        int64_t queued;
        int64_t oldest_waiting_us; /* since the longest waiting one was ready; 0: none waits */
    } of[PRIORITY_COUNT];
};
void count_look(struct pg *pg, pg_done_fn *done, void *arg);
bool count_look_read(const struct pg_result *result, struct count_look *out) MUST_CHECK;

/* A transaction of the leader: up to limit rows become one per (tenant, priority, state).  Whoever
 * sums the table sees the same before, meanwhile and after. */
void count_fold(struct pg *pg, int64_t epoch, int limit, pg_done_fn *done, void *arg);

#endif
