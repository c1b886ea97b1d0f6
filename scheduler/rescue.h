/* SPDX-License-Identifier: Apache-2.0 */
/* Takes runs away from workers that are gone or hang, and ends what waited past its deadline. */
#ifndef SCHEDULER_RESCUE_H
#define SCHEDULER_RESCUE_H

#include "scheduler/tasks.h"

/* See rescue_store.h for what happens to a run, rescue_rules.h for when nothing does. */
void rescue_run(struct task *task);

/* Ends waiting jobs whose deadline has passed as expired. */
void deadlines_run(struct task *task);

void rescue_declare_metrics(void);

#endif
