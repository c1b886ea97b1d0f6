/* SPDX-License-Identifier: Apache-2.0 */
/* Takes runs away from workers that are gone or hang, and ends what waited past its deadline. */
#include "scheduler/rescue.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/metrics.h"
#include "common/model/admission.h"
#include "common/model/book_store.h"
#include "common/model/end_store.h"
#include "common/model/leader_store.h"
#include "common/model/rescue_store.h"
#include "scheduler/rescue_rules.h"
#include "scheduler/scheduler.h"

enum { RESCUE_BATCH = 500, DEADLINES_BATCH = 500, SILENCE_EVERY_S = 5 };
_Static_assert((int)RESCUE_BATCH <= (int)BOOK_BATCH_MAX, "one statement takes their jobs");

static const struct metric rescued_total = {
    .name = "nightshift_rescued_total",
    .type = METRIC_COUNTER,
    .help = "Runs taken away from workers that were gone or hung.",
    .labels = {"detector"},
};

static const struct metric lost_workers_total = {
    .name = "nightshift_lost_workers_total",
    .type = METRIC_COUNTER,
    .help = "Workers declared lost because their heartbeat had stopped.",
};

static const struct metric withheld_total = {
    .name = "nightshift_rescue_withheld_total",
    .type = METRIC_COUNTER,
    .help = "Passes in which rescue held back: errors, a gap, or most workers silent at once.",
};

static const struct log_context log_rescue = {.component = "rescue"};

void rescue_declare_metrics(void)
{
    static const char *const detectors[] = {"heartbeat", "lease", "silent"};

    for (size_t i = 0; i < sizeof(detectors) / sizeof(detectors[0]); i++)
        metric_declare(&rescued_total, METRIC_LABELS(detectors[i]));
    metric_declare(&lost_workers_total, NULL);
    metric_declare(&withheld_total, NULL);
}

/* --- rescue ----------------------------------------------------------------------------------- */

static void count_rescued(const struct pg_result *result)
{
    int ended = 0;

    for (int row = 0; row < pg_rows(result); row++) {
        struct rescued rescued;

        if (!rescued_read(result, row, &rescued))
            continue;
        metric_add(&rescued_total, METRIC_LABELS(rescued.detector), 1);
        if (job_state_is_terminal(rescued.state)) {
            end_count(rescued.priority, rescued.state);
            ended++;
        }
    }
    if (pg_rows(result) > 0)
        log_warn(&log_rescue, "rescued runs: runs=%d, ended=%d", pg_rows(result), ended);
}

/* Best effort: what Redis is not told now it is told by reconcile. */
static void on_doubtful(const struct pg_reply *reply, void *arg)
{
    struct scheduler *scheduler = arg;
    struct book_doubtful call;

    for (int row = 0; reply->status == PG_OK && row < pg_rows(reply->result); row++) {
        book_doubtful_read(reply->result, row, &call);
        admission_settle(scheduler->admission,
                         &(struct admission_settlement){
                             .tenant = call.tenant,
                             .job = call.job,
                             .run = call.run,
                             .call = call.call,
                             .holds = ADMISSION_HOLDS_MONEY | ADMISSION_HOLDS_RATES,
                             .end = ADMISSION_UNKNOWN,
                             .tokens = -1,
                         });
    }
}

/* Their calls hold leases of concurrency and reservations as if they were still out. */
static void tell_redis(struct scheduler *scheduler, const struct pg_result *result)
{
    struct id jobs[RESCUE_BATCH];
    struct rescued rescued;
    size_t count = 0;

    for (int row = 0; row < pg_rows(result) && count < RESCUE_BATCH; row++)
        if (rescued_read(result, row, &rescued))
            jobs[count++] = rescued.job;
    if (scheduler->admission && count > 0)
        book_doubtful(scheduler->books_pg, jobs, count, on_doubtful, scheduler);
}

static void on_rescued(const struct pg_reply *reply, void *arg)
{
    const struct task *task = arg;
    bool ok = reply->status == PG_OK;

    if (ok) {
        count_rescued(reply->result);
        tell_redis(task->scheduler, reply->result);
    }
    task_end(arg, ok ? NULL : reply, ok && pg_rows(reply->result) == RESCUE_BATCH);
}

static void tell_lost(const struct rescue_look *look)
{
    for (int i = 0; i < look->count; i++)
        log_warn(&log_rescue, "worker %s is lost: no beat for %lld ms", look->of[i].name,
                 (long long)look->of[i].silent_ms);
    metric_add(&lost_workers_total, NULL, look->count);
}

/* The events of every run that is silent by the call's age must be looked at: not each second. */
static bool silence_is_due(struct scheduler *scheduler, int64_t now_us)
{
    if (now_us - scheduler->silence_looked_us < SILENCE_EVERY_S * US_PER_S)
        return false;
    scheduler->silence_looked_us = now_us;
    return true;
}

static void rescue(struct task *task, const struct rescue_look *look)
{
    struct scheduler *scheduler = task->scheduler;
    int64_t now_us = clock_monotonic_us();
    struct id workers[RESCUE_WORKERS_MAX];
    struct rescue_order order = {
        .workers = workers,
        .limit = RESCUE_BATCH,
        .looks_for_silence = silence_is_due(scheduler, now_us),
    };

    for (int i = 0; i < RESCUE_CRASHES_COUNTED; i++)
        order.delays[i] = rescue_delay(i + 1);
    if (rescue_may_declare(&scheduler->rescue_memory, now_us, look->workers, look->stale)) {
        for (int i = 0; i < look->count; i++)
            workers[order.worker_count++] = look->of[i].id;
        tell_lost(look);
    } else {
        log_warn(&log_rescue, "most workers look lost at once; waiting for a second look: %d of %d",
                 (int)look->stale, (int)look->workers);
        metric_add(&withheld_total, NULL, 1);
    }
    rescue_runs(scheduler->rescue_pg, task->epoch, &order, on_rescued, task);
}

static void on_looked(const struct pg_reply *reply, void *arg)
{
    struct rescue_look look;

    if (reply->status == PG_OK && rescue_look_read(reply->result, &look))
        rescue(arg, &look);
    else
        task_end(arg, reply, false);
}

void rescue_run(struct task *task)
{
    struct scheduler *scheduler = task->scheduler;
    struct rescue_facts facts = {
        .now_us = clock_monotonic_us(),
        .last_error_us = pg_last_error_us(scheduler->rescue_pg),
        .connected_us = scheduler->rescue_connected_us,
    };

    if (rescue_may_pass(&scheduler->rescue_memory, &facts)) {
        rescue_look(scheduler->rescue_pg, on_looked, task);
        return;
    }
    metric_add(&withheld_total, NULL, 1);
    task_end(task, NULL, false);
}

/* --- deadlines -------------------------------------------------------------------------------- */

static void on_expired(const struct pg_reply *reply, void *arg)
{
    int rows = reply->status == PG_OK ? pg_rows(reply->result) : 0;

    for (int row = 0; row < rows; row++)
        end_count((enum priority)pg_get_int(reply->result, row, 1), JOB_EXPIRED);
    if (rows > 0)
        log_info(&log_rescue, "expired in the queue: jobs=%d", rows);
    task_end(arg, reply->status == PG_OK ? NULL : reply, rows == DEADLINES_BATCH);
}

void deadlines_run(struct task *task)
{
    struct pg_value limit = pg_int4(DEADLINES_BATCH);
    struct pg_step step = {.statement = queue_expire_statement(), .values = &limit, .count = 1};

    leader_transaction(task->scheduler->rescue_pg, task->epoch, &step, 1, on_expired, task);
}
