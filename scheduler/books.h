/* SPDX-License-Identifier: Apache-2.0 */
/* Notices soon when the books of budgets are lost, and has them all made anew. */
#ifndef SCHEDULER_BOOKS_H
#define SCHEDULER_BOOKS_H

#include "common/model/job.h"
#include "scheduler/tasks.h"

enum { BOOKS_SAMPLE = 8 };

/* What a pass keeps, and where the next one begins. */
struct books_pass {
    size_t next; /* in the order of the cache */
    size_t seen;
    int outstanding;
    bool is_lost;
    int sample_count;
    char sample[BOOKS_SAMPLE][JOB_LABEL_MAX + 1];
};

/* Looks at the Redis that the books are bound to and at a few books in turn.  If it is another
 * Redis, or one of the books is not there, the books of all tenants with a budget are wanted,
 * before their next jobs find out one by one. */
void books_run(struct task *task);

#endif
