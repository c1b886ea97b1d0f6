/* SPDX-License-Identifier: Apache-2.0 */
/* The task that looks for webhooks that are due: retries, and what a dead worker left. */
#ifndef SCHEDULER_WEBHOOKS_H
#define SCHEDULER_WEBHOOKS_H

struct task;

/* Every scheduler process does it: claims keep them out of each other's way. */
void webhooks_run(struct task *task);

#endif
