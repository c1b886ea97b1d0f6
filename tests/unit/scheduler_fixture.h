/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of the scheduler's tasks: schedulers without timers, whose tickets are kept.  Upon
 * store_fixture. */
#ifndef TESTS_UNIT_SCHEDULER_FIXTURE_H
#define TESTS_UNIT_SCHEDULER_FIXTURE_H

#include "scheduler/leader.h"
#include "scheduler/scheduler.h"
#include "scheduler/tasks.h"
#include "tests/unit/store_fixture.h"

enum { FIXTURE_TICKETS_MAX = 5000 };

struct fixture_scheduler {
    struct scheduler scheduler;
    struct scheduler_settings settings;
    struct task task; /* the last pass */
    int changes;      /* of leadership */
    int ticket_count;
    struct ticket tickets[FIXTURE_TICKETS_MAX];
};

/* With a leader of its own, which tries to lead as soon as the loop turns; all duties share one
 * connection of the fixture. */
struct fixture_scheduler *fixture_scheduler_new(const char *name);
void fixture_scheduler_free(struct fixture_scheduler *one);

/* Makes whoever leads now give up, and waits until one leads. */
void fixture_lead(struct fixture_scheduler *one);

/* One pass of the task called name, to its end.  False: it failed. */
bool fixture_pass(struct fixture_scheduler *one, const char *name);

/* A job of tenant that waits, ready since ago_s seconds (before now), not dealt. */
struct id fixture_backlog_job(const char *tenant, int priority, int ago_s);

#endif
