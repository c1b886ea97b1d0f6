/* SPDX-License-Identifier: Apache-2.0 */
/* Wakes this process's sender of webhooks. */
#include "scheduler/webhooks.h"

#include "common/model/webhook_sender.h"
#include "scheduler/scheduler.h"
#include "scheduler/tasks.h"

void webhooks_run(struct task *task)
{
    if (task->scheduler->webhooks)
        webhook_sender_sweep(task->scheduler->webhooks);
    task_end(task, NULL, false); /* the sender goes on by itself */
}
