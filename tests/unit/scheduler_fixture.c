/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of the scheduler's tasks: schedulers without timers, whose tickets are kept. */
#include "tests/unit/scheduler_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"

static void keep_ticket(struct scheduler *scheduler, const struct ticket *ticket,
                        enum priority priority)
{
    struct fixture_scheduler *one = (struct fixture_scheduler *)scheduler;

    (void)priority;
    if (one->ticket_count < FIXTURE_TICKETS_MAX)
        one->tickets[one->ticket_count++] = *ticket;
}

static void on_change(bool is_leading, void *arg)
{
    struct fixture_scheduler *one = arg;

    (void)is_leading;
    one->changes++;
}

struct fixture_scheduler *fixture_scheduler_new(const char *name)
{
    struct fixture_scheduler *one = calloc(1, sizeof(*one));
    struct leader_options options = {
        .url = fixture_url(),
        .holder = name,
        .on_change = on_change,
        .arg = one,
    };
    struct err err = {0};

    assert_non_null(one);
    one->settings.retention_days = 60;
    one->scheduler = (struct scheduler){
        .base = fixture_base,
        .options = &one->settings,
        .feed_pg = fixture_pg[0],
        .rescue_pg = fixture_pg[0],
        .upkeep_pg = fixture_pg[0],
        .publish = keep_ticket,
    };
    one->scheduler.leader = leader_new(fixture_base, &options, &err);
    if (!one->scheduler.leader)
        fail_msg("%s", err.message);
    return one;
}

void fixture_scheduler_free(struct fixture_scheduler *one)
{
    leader_free(one->scheduler.leader);
    free(one);
}

void fixture_lead(struct fixture_scheduler *one)
{
    sql_run("UPDATE leadership SET beat_at = 'epoch', has_lock = false, epoch = epoch + 1");
    for (int tries = 0; leader_epoch(one->scheduler.leader) == 0; tries++) {
        assert_true(tries < 1000);
        turn_loop_ms(10);
    }
}

static const struct task_spec *find_spec(const char *name)
{
    for (size_t i = 0; i < task_table_count; i++)
        if (strcmp(task_table[i].name, name) == 0)
            return &task_table[i];
    fail_msg("no task is called %s", name);
    return NULL;
}

bool fixture_pass(struct fixture_scheduler *one, const char *name)
{
    int64_t deadline_us = clock_monotonic_us() + 20 * US_PER_S;

    one->task = (struct task){.spec = find_spec(name), .scheduler = &one->scheduler};
    task_start(&one->task);
    if (one->task.spec->needs_leader)
        assert_int_not_equal(one->task.epoch, 0);
    while (one->task.is_running) {
        assert_true(clock_monotonic_us() < deadline_us);
        turn_loop_ms(1);
    }
    return !one->task.has_failed;
}

struct id fixture_backlog_job(const char *tenant, int priority, int ago_s)
{
    struct id job = id_make(clock_now_us());

    sql_run("INSERT INTO jobs (id, tenant, key_id, priority, model, request, deadline,"
            "                  max_attempts, timeout_s, est_tokens) "
            "VALUES ('%s', '%s', 'k1', %d, 'fast', '{}', now() + interval '14 d', 5, 600, 100);"
            "INSERT INTO queue (job, tenant, priority, ready_at, deadline, est_tokens) "
            "SELECT id, tenant, priority, now() - %d * interval '1 s', deadline, est_tokens "
            "FROM jobs WHERE id = '%s';"
            "INSERT INTO counts VALUES ('%s', %d, 'queued', 1)",
            hex(job), tenant, priority, ago_s, hex(job), tenant, priority);
    return job;
}
