/* SPDX-License-Identifier: Apache-2.0 */
/* Makes room ahead for the days to come, and lets go of what has been kept long enough. */
#include "scheduler/retain.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/model/partition_store.h"
#include "scheduler/scheduler.h"

enum { SWEEP_BATCH = 1000 };

static const struct log_context log_retain = {.component = "retain"};

/* --- partitions ------------------------------------------------------------------------------- */

/* The old days of one pass, dropped one after the other. */
struct drop_pass {
    struct task *task;
    int count, next;
    int64_t days[PARTITION_DAYS_MAX];
};

static void drop_next(struct drop_pass *pass);

static void drop_end(struct drop_pass *pass, const struct pg_reply *failed)
{
    struct task *task = pass->task;

    free(pass);
    task_end(task, failed, false);
}

static void on_dropped(const struct pg_reply *reply, void *arg)
{
    struct drop_pass *pass = arg;
    int64_t day = pass->days[pass->next];

    if (reply->status != PG_OK) {
        drop_end(pass, reply);
        return;
    }
    if (pg_get_bool(reply->result, 0, 0))
        log_info(&log_retain, "dropped the partitions of a day: days_since_1970=%lld",
                 (long long)day);
    else
        log_warn(&log_retain, "a day past its retention has live jobs: days_since_1970=%lld",
                 (long long)day);
    pass->next++;
    drop_next(pass);
}

static void drop_next(struct drop_pass *pass)
{
    if (pass->next == pass->count)
        drop_end(pass, NULL);
    else
        partition_drop(pass->task->scheduler->upkeep_pg, pass->task->epoch, pass->days[pass->next],
                       on_dropped, pass);
}

static void on_old_days(const struct pg_reply *reply, void *arg)
{
    struct drop_pass *pass = reply->status == PG_OK ? calloc(1, sizeof(*pass)) : NULL;

    if (!pass) {
        task_end(arg, reply->status == PG_OK ? NULL : reply, false);
        return;
    }
    pass->task = arg;
    for (int row = 0; row < pg_rows(reply->result) && row < PARTITION_DAYS_MAX; row++)
        pass->days[pass->count++] = pg_get_int(reply->result, row, 0);
    drop_next(pass);
}

static void on_ensured(const struct pg_reply *reply, void *arg)
{
    struct task *task = arg;
    struct scheduler *scheduler = task->scheduler;

    if (reply->status != PG_OK) {
        task_end(task, reply, false);
        return;
    }
    if (pg_get_int(reply->result, 0, 0) > 0)
        log_info(&log_retain, "made partitions: count=%d", (int)pg_get_int(reply->result, 0, 0));
    partition_old_days(scheduler->upkeep_pg, task->epoch, scheduler->options->retention_days,
                       on_old_days, task);
}

void partitions_run(struct task *task)
{
    partition_ensure(task->scheduler->upkeep_pg, task->epoch, on_ensured, task);
}

/* --- retention -------------------------------------------------------------------------------- */

static void on_swept(const struct pg_reply *reply, void *arg)
{
    bool ok = reply->status == PG_OK;

    task_end(arg, ok ? NULL : reply, ok && pg_get_int(reply->result, 0, 0) == SWEEP_BATCH);
}

void retention_run(struct task *task)
{
    struct scheduler *scheduler = task->scheduler;

    partition_sweep(scheduler->upkeep_pg, task->epoch, scheduler->options->retention_days,
                    SWEEP_BATCH, on_swept, task);
}
