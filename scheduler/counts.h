/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the table of counts small and tells how many jobs wait, and how long. */
#ifndef SCHEDULER_COUNTS_H
#define SCHEDULER_COUNTS_H

#include "scheduler/tasks.h"

void counts_run(struct task *task);

/* Sets the gauges to zero: at the start, and when another leads, who shows them now. */
void counts_forget(void);

#endif
