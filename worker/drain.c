/* SPDX-License-Identifier: Apache-2.0 */
/* The drain: grace, hand-back, goodbye. */
#include "worker/drain.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/io/daemon.h"
#include "common/io/pg.h"
#include "common/model/webhook_sender.h"
#include "worker/admit.h"
#include "worker/heartbeat.h"
#include "worker/intake.h"
#include "worker/worker.h"

#include <event2/event.h>

enum {
    TICK_MS = 50,
    HAND_BACK_MS = 5000, /* after the grace, for what was cut */
    OTHERS_MS = 2000,    /* after the last run, for webhooks and settlements on their way */
    HEARTBEAT_STOP_MS = 1000,
};

static const struct log_context log_drain = {.component = "drain"};

static bool is_idle(const struct worker *worker)
{
    return map_count(worker->runs) == 0 && intake_is_quiet(worker->intake) &&
           pg_outstanding(worker->completion_pg) == 0 && pg_outstanding(worker->partials_pg) == 0;
}

/* A try that is cut is made again a minute later, and what Redis was not told is found in the
 * ledger: neither is worth a long wait. */
static bool others_are_done(struct worker *worker)
{
    int64_t now_us = clock_monotonic_us();

    if (!worker->idle_since_us)
        worker->idle_since_us = now_us;
    return (webhook_sender_outstanding(worker->webhooks) == 0 && admit_is_quiet(worker->admit)) ||
           now_us - worker->idle_since_us >= OTHERS_MS * US_PER_MS;
}

static void finish(struct worker *worker)
{
    if (!is_idle(worker))
        log_warn(&log_drain, "leaving %zu jobs to rescue", map_count(worker->runs));
    event_del(worker->drain_tick);
    /* Deletes the row: what is left is rescued at once. */
    heartbeat_stop(worker->heartbeat, HEARTBEAT_STOP_MS);
    worker->heartbeat = NULL;
    daemon_finish(worker->daemon);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct worker *worker = arg;
    int64_t grace_us = daemon_common(worker->daemon)->drain_ms * US_PER_MS;
    int64_t since_us = clock_monotonic_us() - worker->drain_since_us;

    (void)fd;
    (void)what;
    if (is_idle(worker)) {
        if (others_are_done(worker))
            finish(worker);
        return;
    }
    if (since_us >= grace_us + HAND_BACK_MS * US_PER_MS) {
        finish(worker);
        return;
    }
    if (since_us >= grace_us && !worker->is_cut) {
        worker->is_cut = true;
        log_info(&log_drain, "grace is over: handing %zu jobs back", map_count(worker->runs));
        worker_cut_runs(worker, CUT_DRAIN);
    }
}

void drain_start(struct worker *worker)
{
    static const struct timeval period = {.tv_usec = TICK_MS * 1000};

    worker->is_draining = true;
    worker->drain_since_us = clock_monotonic_us();
    intake_stop(worker->intake);
    webhook_sender_drain(worker->webhooks);
    worker->drain_tick = event_new(worker->base, -1, EV_PERSIST, on_tick, worker);
    if (!worker->drain_tick || event_add(worker->drain_tick, &period) != 0)
        daemon_finish(worker->daemon); /* what runs is rescued */
}
