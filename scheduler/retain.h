/* SPDX-License-Identifier: Apache-2.0 */
/* Makes room ahead for the days to come, and lets go of what has been kept long enough. */
#ifndef SCHEDULER_RETAIN_H
#define SCHEDULER_RETAIN_H

#include "scheduler/tasks.h"

/* Partitions for the days to come, then drops those of days past their retention, oldest first; a
 * day on which a job still lives is kept. */
void partitions_run(struct task *task);

/* Deletes old idempotency keys and what else is in no partition, in small batches. */
void retention_run(struct task *task);

#endif
