/* SPDX-License-Identifier: Apache-2.0 */
/* The table of what the scheduler does, and the timers that do it. */
#include "scheduler/tasks.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/number.h"
#include "common/io/metrics.h"
#include "common/model/leader_store.h"
#include "scheduler/audit.h"
#include "scheduler/books.h"
#include "scheduler/counts.h"
#include "scheduler/feed.h"
#include "scheduler/leader.h"
#include "scheduler/reconcile.h"
#include "scheduler/rescue.h"
#include "scheduler/retain.h"
#include "scheduler/scheduler.h"
#include "scheduler/usage.h"
#include "scheduler/webhooks.h"

enum { FAILED_PAUSE_MS = 10000, SLOW_FACTOR = 2, HURRIED_PAUSE_MS = 10, TURN_MS = 50 };

const struct task_spec task_table[] = {
    {"feed", 50, true, feed_run},
    {"lanes", 200, true, feed_lanes_run},
    {"recall", 250, true, feed_recall_run},
    {"gates", 1000, true, feed_gates_run},
    {"republish", 5000, true, feed_republish_run},
    {"deadlines", 500, true, deadlines_run},
    {"rescue", 1000, true, rescue_run},
    {"counts", 1000, true, counts_run},
    {"usage", 1000, true, usage_fold_run},
    {"partitions", 3600 * 1000, true, partitions_run},
    {"retention", 600 * 1000, true, retention_run},
    {"audit", 10 * 1000, true, audit_run},
    {"books", 500, true, books_run},
    {"reconcile", 5000, true, reconcile_run},
    {"webhooks", 500, false, webhooks_run},
};
const size_t task_table_count = sizeof(task_table) / sizeof(task_table[0]);

static const struct metric task_seconds = {
    .name = "nightshift_task_seconds",
    .type = METRIC_HISTOGRAM,
    .help = "How long a pass of a scheduler's task took.",
    .labels = {"task"},
};

static const struct metric task_errors = {
    .name = "nightshift_task_errors_total",
    .type = METRIC_COUNTER,
    .help = "Passes of a scheduler's task that failed.",
    .labels = {"task"},
};

static const struct log_context log_tasks = {.component = "tasks"};

struct tasks {
    bool is_stopping;
    void (*idle)(void *arg);
    void *idle_arg;
    struct event *tell_idle;
    size_t count;
    struct task all[];
};

/* --- one task --------------------------------------------------------------------------------- */

int64_t task_due_us(int64_t wanted_us, int64_t now_us, int64_t rested_us)
{
    int64_t turn = TURN_MS * US_PER_MS, due = (wanted_us + turn / 2) / turn * turn;

    if (wanted_us - now_us < turn / 2)
        return wanted_us;
    return due < rested_us ? due + turn : due;
}

static void schedule(struct task *task, int64_t wait_us)
{
    int64_t now = clock_monotonic_us();
    struct timeval wait;

    if (!task->timer || (task->scheduler->tasks && task->scheduler->tasks->is_stopping))
        return;
    task->due_us = task_due_us(now + larger(wait_us, 0), now, task->rested_us);
    wait_us = task->due_us - now;
    wait = (struct timeval){.tv_sec = wait_us / US_PER_S, .tv_usec = wait_us % US_PER_S};
    event_add(task->timer, &wait);
}

void task_start(struct task *task)
{
    if (task->is_running)
        return;
    task->epoch = task->spec->needs_leader ? leader_epoch(task->scheduler->leader) : 0;
    if (task->spec->needs_leader && task->epoch == 0) {
        schedule(task, task->spec->period_ms * US_PER_MS);
        return;
    }
    task->is_running = true;
    task->is_hurried = false;
    task->started_us = clock_monotonic_us();
    task->spec->fn(task);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    task_start(arg);
}

/* Once per outage: the next passes come soon. */
static void task_failed(struct task *task, const struct pg_reply *reply)
{
    const char *name = task->spec->name;

    metric_add(&task_errors, METRIC_LABELS(name), 1);
    if (strcmp(reply->sqlstate, LEADER_SQLSTATE) == 0)
        leader_lost(task->scheduler->leader, task->epoch, reply->message);
    else if (!task->has_failed)
        log_warn(&log_tasks, "%s failed: sqlstate=%s %s", name, reply->sqlstate, reply->message);
    task->has_failed = true;
}

static void task_went_well(struct task *task)
{
    if (task->has_failed)
        log_info(&log_tasks, "%s works again", task->spec->name);
    task->has_failed = false;
}

static int64_t pause_us(const struct task *task, int64_t took_us, bool has_more)
{
    int64_t period_us = task->spec->period_ms * US_PER_MS;
    int64_t pause = period_us - took_us;

    if (task->has_failed)
        return period_us < FAILED_PAUSE_MS * US_PER_MS ? period_us : FAILED_PAUSE_MS * US_PER_MS;
    if (has_more)
        return 0;
    return pause > SLOW_FACTOR * took_us ? pause : SLOW_FACTOR * took_us;
}

/* The least pause behind a pass, which nobody can hurry. */
static int64_t rest_us(const struct task *task, int64_t took_us, int64_t pause)
{
    int64_t rest = SLOW_FACTOR * took_us;

    if (rest < HURRIED_PAUSE_MS * US_PER_MS)
        rest = HURRIED_PAUSE_MS * US_PER_MS;
    return task->has_failed || rest > pause ? pause : rest;
}

static void tell_when_idle(struct tasks *tasks)
{
    for (size_t i = 0; i < tasks->count; i++)
        if (tasks->all[i].is_running)
            return;
    if (tasks->idle)
        event_active(tasks->tell_idle, EV_TIMEOUT, 0);
}

void task_end(struct task *task, const struct pg_reply *reply, bool has_more)
{
    int64_t now = clock_monotonic_us(), took_us = now - task->started_us, pause, rest;
    struct tasks *tasks = task->scheduler->tasks;

    task->is_running = false;
    metric_observe_us(&task_seconds, METRIC_LABELS(task->spec->name), took_us);
    if (reply)
        task_failed(task, reply);
    else
        task_went_well(task);
    pause = pause_us(task, took_us, has_more);
    rest = rest_us(task, took_us, pause);
    task->rested_us = now + rest;
    schedule(task, task->is_hurried ? rest : pause);
    if (tasks && tasks->is_stopping)
        tell_when_idle(tasks);
}

/* --- all of them ------------------------------------------------------------------------------ */

static void on_idle(evutil_socket_t fd, short what, void *arg)
{
    struct tasks *tasks = arg;
    void (*idle)(void *arg) = tasks->idle;

    (void)fd, (void)what;
    tasks->idle = NULL;
    if (idle)
        idle(tasks->idle_arg);
}

struct tasks *tasks_new(struct scheduler *scheduler, const struct task_spec *table, size_t count)
{
    struct tasks *tasks = calloc(1, sizeof(*tasks) + count * sizeof(struct task));

    if (!tasks)
        return NULL;
    tasks->tell_idle = event_new(scheduler->base, -1, 0, on_idle, tasks);
    for (size_t i = 0; i < count; i++) {
        struct task *task = &tasks->all[tasks->count++];

        *task = (struct task){.spec = &table[i], .scheduler = scheduler};
        task->timer = event_new(scheduler->base, -1, 0, on_timer, task);
        if (!task->timer || !tasks->tell_idle) {
            tasks_free(tasks);
            return NULL;
        }
        metric_declare(&task_errors, METRIC_LABELS(table[i].name));
        schedule(task, table[i].period_ms * US_PER_MS);
    }
    return tasks;
}

void tasks_free(struct tasks *tasks)
{
    if (!tasks)
        return;
    for (size_t i = 0; i < tasks->count; i++)
        if (tasks->all[i].timer)
            event_free(tasks->all[i].timer);
    if (tasks->tell_idle)
        event_free(tasks->tell_idle);
    free(tasks);
}

void tasks_wake(struct tasks *tasks)
{
    for (size_t i = 0; i < tasks->count; i++)
        if (!tasks->all[i].is_running)
            schedule(&tasks->all[i], 0);
}

static void hurry(struct task *task)
{
    int64_t now = clock_monotonic_us();
    int64_t at = task->rested_us > now ? task->rested_us : now;

    if (task->is_running)
        task->is_hurried = true;
    else if (at < task->due_us)
        schedule(task, at - now);
}

void tasks_hurry(struct tasks *tasks, task_fn *fn)
{
    for (size_t i = 0; i < tasks->count; i++)
        if (tasks->all[i].spec->fn == fn)
            hurry(&tasks->all[i]);
}

void tasks_stop(struct tasks *tasks, void (*idle)(void *arg), void *arg)
{
    tasks->is_stopping = true;
    tasks->idle = idle;
    tasks->idle_arg = arg;
    for (size_t i = 0; i < tasks->count; i++)
        event_del(tasks->all[i].timer);
    tell_when_idle(tasks);
}
