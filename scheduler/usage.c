/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the deltas of usage few, by folding them into the roll-ups. */
#include "scheduler/usage.h"

#include "common/model/usage_store.h"
#include "scheduler/scheduler.h"

enum { FOLD_BATCH = 20000 };

static void on_folded(const struct pg_reply *reply, void *arg)
{
    bool ok = reply->status == PG_OK;

    task_end(arg, ok ? NULL : reply, ok && pg_get_int(reply->result, 0, 0) == FOLD_BATCH);
}

void usage_fold_run(struct task *task)
{
    usage_fold(task->scheduler->upkeep_pg, task->epoch, FOLD_BATCH, on_folded, task);
}
