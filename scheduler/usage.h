/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the deltas of usage few, by folding them into the roll-ups. */
#ifndef SCHEDULER_USAGE_H
#define SCHEDULER_USAGE_H

#include "scheduler/tasks.h"

void usage_fold_run(struct task *task);

#endif
