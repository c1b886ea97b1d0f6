/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the table of counts small and tells how many jobs wait, and how long. */
#include "scheduler/counts.h"

#include "common/base/clock.h"
#include "common/io/metrics.h"
#include "common/model/count_store.h"
#include "scheduler/leader.h"
#include "scheduler/scheduler.h"

enum { FOLD_BATCH = 50000, SLACK_ROWS = 200 };

static const struct metric queue_depth = {
    .name = "nightshift_queue_depth",
    .type = METRIC_GAUGE,
    .help = "Jobs that wait, those for a later time included; shown by the leader.",
    .labels = {"priority"},
};

static const struct metric oldest_waiting = {
    .name = "nightshift_oldest_waiting_seconds",
    .type = METRIC_GAUGE,
    .help = "How long the longest waiting job has been ready; shown by the leader.",
    .labels = {"priority"},
};

static void show(const struct count_look *look)
{
    for (int p = 0; p < PRIORITY_COUNT; p++) {
        const char *const *labels = METRIC_LABELS(priority_name((enum priority)p));

        metric_set(&queue_depth, labels, look->of[p].queued);
        metric_set(&oldest_waiting, labels, look->of[p].oldest_waiting_us / US_PER_S);
    }
}

void counts_forget(void)
{
    static const struct count_look nothing;

    show(&nothing);
}

static void on_folded(const struct pg_reply *reply, void *arg)
{
    task_end(arg, reply->status == PG_OK ? NULL : reply, false);
}

/* Folding rewrites a row for each group: only when there is at least as much to gain. */
static void on_looked(const struct pg_reply *reply, void *arg)
{
    struct task *task = arg;
    struct count_look look;

    if (reply->status != PG_OK || !count_look_read(reply->result, &look)) {
        task_end(task, reply, false);
        return;
    }
    if (leader_epoch(task->scheduler->leader) == task->epoch)
        show(&look);
    if (look.rows > 2 * look.groups + SLACK_ROWS)
        count_fold(task->scheduler->upkeep_pg, task->epoch, FOLD_BATCH, on_folded, task);
    else
        task_end(task, NULL, false);
}

void counts_run(struct task *task)
{
    count_look(task->scheduler->upkeep_pg, on_looked, task);
}
