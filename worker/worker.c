/* SPDX-License-Identifier: Apache-2.0 */
/* The runs of this process: begun, found, ended, cut. */
#include "worker/worker.h"

#include <string.h>

#include "common/base/log.h"
#include "common/base/map.h"
#include "common/io/metrics.h"
#include "common/model/end_store.h"
#include "common/model/webhook_sender.h"
#include "worker/intake.h"

static const struct metric queue_wait = {
    .name = "nightshift_queue_wait_seconds",
    .type = METRIC_HISTOGRAM,
    .help = "From the moment a job could run to its claim.",
    .labels = {"priority"},
};

static const struct log_context log_worker = {.component = "worker"};

/* --- begin ------------------------------------------------------------------------------------ */

static void on_handed_back(const struct end_reply *reply, void *arg)
{
    (void)arg;
    if (reply->outcome != STORE_DONE && reply->outcome != STORE_STALE)
        log_warn(&log_worker, "job not handed back: %s (its lease will end)",
                 store_outcome_name(reply->outcome));
}

/* As if it had never been claimed, but for its run number. */
static void hand_back(struct worker *worker, struct claimed_job *claimed)
{
    struct run_requeue requeue = {
        .job = claimed->job,
        .run_token = claimed->run_token,
        .reason = "drain",
        .attempts = claimed->attempts,
        .deferrals = claimed->deferrals,
    };

    if (!run_requeue(worker->ends, &requeue, on_handed_back, NULL))
        log_warn(&log_worker, "job not handed back: too much is out (its lease will end)");
    slots_give(&worker->slots, claimed->priority);
    claimed_job_free(claimed);
}

static void forget(struct worker *worker, struct run *run, const struct claimed_job *claimed)
{
    const void *job = &claimed->job;

    map_remove(worker->runs, &claimed->run_token, sizeof(claimed->run_token));
    if (map_get(worker->runs_by_job, job, sizeof(claimed->job)) == run)
        map_remove(worker->runs_by_job, job, sizeof(claimed->job));
}

void worker_start_run(struct worker *worker, struct claimed_job *claimed)
{
    struct run *run;

    metric_observe_us(&queue_wait, METRIC_LABELS(priority_name(claimed->priority)),
                      claimed->queue_wait_us);
    run = worker->is_draining ? NULL : run_start(worker, claimed);
    if (!run) {
        hand_back(worker, claimed);
        return;
    }
    worker->request_bytes += (int64_t)claimed->request_len;
    /* The maps are as large as the slots are many; without memory a run is just not found, and its
     * cancel waits for its next write. */
    if (!map_put(worker->runs, &claimed->run_token, sizeof(claimed->run_token), run) ||
        !map_put(worker->runs_by_job, &claimed->job, sizeof(claimed->job), run))
        log_error(&log_worker, "run not noted: out of memory");
}

/* --- end -------------------------------------------------------------------------------------- */

void worker_run_ended(struct worker *worker, struct run *run, const struct claimed_job *claimed)
{
    forget(worker, run, claimed);
    worker->request_bytes -= (int64_t)claimed->request_len;
    slots_give(&worker->slots, claimed->priority);
    intake_kick(worker->intake);
}

static bool cut_drain(const void *key, size_t key_len, void *value, void *arg)
{
    (void)key;
    (void)key_len;
    (void)arg;
    run_cut(value, CUT_DRAIN);
    return true;
}

static bool cut_lost(const void *key, size_t key_len, void *value, void *arg)
{
    (void)key;
    (void)key_len;
    (void)arg;
    run_cut(value, CUT_LOST);
    return true;
}

void worker_cut_runs(struct worker *worker, enum cut_reason reason)
{
    map_each(worker->runs, reason == CUT_DRAIN ? cut_drain : cut_lost, NULL);
}

/* --- messages --------------------------------------------------------------------------------- */

struct run *worker_find_run(const struct worker *worker, struct id job)
{
    return map_get(worker->runs_by_job, &job, sizeof(job));
}

void worker_hear(struct worker *worker, const char *data, size_t len)
{
    static const char cancel[] = "cancel ", watch[] = "watch ";
    bool is_cancel = len > strlen(cancel) && memcmp(data, cancel, strlen(cancel)) == 0;
    bool is_watch = len > strlen(watch) && memcmp(data, watch, strlen(watch)) == 0;
    size_t skip = is_cancel ? strlen(cancel) : strlen(watch);
    struct run *run;
    struct id job;

    if ((!is_cancel && !is_watch) || !id_parse(data + skip, len - skip, "", &job))
        return;
    run = worker_find_run(worker, job);
    if (run && is_cancel)
        run_cancel(run);
    else if (run)
        run_watch(run);
}

void worker_deliveries_due(struct worker *worker)
{
    if (worker->webhooks)
        webhook_sender_sweep(worker->webhooks);
}
