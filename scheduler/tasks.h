/* SPDX-License-Identifier: Apache-2.0 */
/* The table of what the scheduler does, and when: name, period, who may, function. */
#ifndef SCHEDULER_TASKS_H
#define SCHEDULER_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"

struct scheduler;
struct task;

/* Begins one pass, which ends with exactly one task_end, now or later. */
typedef void task_fn(struct task *task);

struct task_spec {
    const char *name; /* as in metrics and logs */
    int period_ms;    /* from start to start */
    bool needs_leader;
    task_fn *fn;
};

extern const struct task_spec task_table[];
extern const size_t task_table_count;

/* One task of one process.  Passes of a task never overlap. */
struct task {
    const struct task_spec *spec;
    struct scheduler *scheduler;
    struct event *timer; /* NULL: only task_start starts it (tests) */
    int64_t epoch;       /* of the pass; 0 where no leader is needed */
    int64_t started_us;
    int64_t due_us;    /* when the timer starts it */
    int64_t rested_us; /* who hurries it does not start it before */
    bool is_running;
    bool is_hurried; /* while it ran */
    bool has_failed; /* the last pass did */
};

/* When a pass that is wanted then begins: tasks begin on common turns, 50 ms apart, so that an idle
 * scheduler wakes up once for many; never before rested_us, and what is wanted at once is not put
 * off.  All in microseconds of the monotonic clock. */
int64_t task_due_us(int64_t wanted_us, int64_t now_us, int64_t rested_us);

/* Begins a pass, unless one runs or the task needs a leader that we are not. */
void task_start(struct task *task);

/* The pass is over.  reply is that of the statement which failed, or NULL: all went well.
 * has_more: there is work for another pass at once.  A pass that failed is followed by a whole
 * period, at most ten seconds; one that was slow by twice its time, so that no task without more to
 * do uses more than a third of its connection. */
void task_end(struct task *task, const struct pg_reply *reply, bool has_more);

struct tasks;

/* Starts the timers of the table.  Freed after the connections that passes wait for. */
struct tasks *tasks_new(struct scheduler *scheduler, const struct task_spec *table, size_t count);
void tasks_free(struct tasks *tasks);

/* We lead now: what needs that is done at once. */
void tasks_wake(struct tasks *tasks);

/* There is something to do for the task of that function: its next pass, or one more behind that
 * which runs, comes soon.  Its share of its connection stays what it is. */
void tasks_hurry(struct tasks *tasks, task_fn *fn);

/* Begins no more passes; idle is called once, from the loop, when none runs. */
void tasks_stop(struct tasks *tasks, void (*idle)(void *arg), void *arg);

#endif
