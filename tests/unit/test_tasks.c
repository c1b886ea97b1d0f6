/* SPDX-License-Identifier: Apache-2.0 */
/* When tasks run: by their period, or sooner when hurried, never without a rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <event2/event.h>

#include "common/base/clock.h"
#include "scheduler/scheduler.h"
#include "scheduler/tasks.h"

enum { LONG_MS = 3600 * 1000, GIVE_UP_S = 20, PASSES_MAX = 64 };

static struct scheduler scheduler;
static struct task *running; /* a pass that was not ended yet */
static int64_t began_us[PASSES_MAX];
static int passes;
static bool ends_at_once;

static void run(struct task *task)
{
    assert_true(passes < PASSES_MAX);
    began_us[passes++] = clock_monotonic_us();
    if (ends_at_once)
        task_end(task, NULL, false);
    else
        running = task;
}

static void run_other(struct task *task)
{
    task_end(task, NULL, false);
}

static const struct task_spec table[] = {
    {"hurried", LONG_MS, false, run},
    {"other", LONG_MS, false, run_other},
};

static int set_up(void **state)
{
    passes = 0;
    ends_at_once = true;
    running = NULL;
    scheduler = (struct scheduler){.base = event_base_new()};
    scheduler.tasks = tasks_new(&scheduler, table, 2);
    *state = scheduler.tasks;
    return scheduler.base && scheduler.tasks ? 0 : -1;
}

static int tear_down(void **state)
{
    tasks_free(*state);
    event_base_free(scheduler.base);
    return 0;
}

static void turn_until(int count)
{
    int64_t deadline_us = clock_monotonic_us() + GIVE_UP_S * US_PER_S;

    while (passes < count) {
        assert_true(clock_monotonic_us() < deadline_us);
        event_base_loop(scheduler.base, EVLOOP_ONCE);
    }
}

static void test_who_is_hurried_need_not_wait_for_the_period(void **state)
{
    tasks_hurry(*state, run);
    turn_until(1);
    tasks_hurry(*state, run);
    tasks_hurry(*state, run);
    turn_until(2);
    event_base_loop(scheduler.base, EVLOOP_NONBLOCK);
    assert_int_equal(passes, 2);
}

static void test_who_is_hurried_while_it_runs_runs_once_more(void **state)
{
    ends_at_once = false;
    tasks_hurry(*state, run);
    turn_until(1);
    tasks_hurry(*state, run);
    assert_int_equal(passes, 1);
    ends_at_once = true;
    task_end(running, NULL, false);
    turn_until(2);
    event_base_loop(scheduler.base, EVLOOP_NONBLOCK);
    assert_int_equal(passes, 2);
}

static void test_the_hurried_rests_between_its_passes(void **state)
{
    enum { PASSES = 5, REST_MS = 10, FINE_MS = 1 };

    for (int i = 1; i <= PASSES; i++) {
        tasks_hurry(*state, run);
        turn_until(i);
    }
    for (int i = 1; i < PASSES; i++)
        assert_true(began_us[i] - began_us[i - 1] >= (REST_MS - FINE_MS) * US_PER_MS);
}

static void test_who_is_stopped_cannot_be_hurried(void **state)
{
    tasks_stop(*state, NULL, NULL);
    tasks_hurry(*state, run);
    event_base_loop(scheduler.base, EVLOOP_NONBLOCK);
    assert_int_equal(passes, 0);
}

static void test_tasks_of_many_periods_begin_on_common_turns(void **state)
{
    static const struct {
        int64_t wanted_ms, now_ms, rested_ms, due_ms;
    } cases[] = {
        {149, 100, 110, 150},                         /* the turn next to it, be it later */
        {351, 101, 111, 350},                         /* or sooner */
        {1099, 100, 110, 1100}, {160, 100, 160, 200}, /* but not before the rest is over */
        {110, 100, 110, 110},   {100, 100, 90, 100},  /* at once is at once */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(task_due_us(cases[i].wanted_ms * US_PER_MS, cases[i].now_ms * US_PER_MS,
                                     cases[i].rested_ms * US_PER_MS),
                         cases[i].due_ms * US_PER_MS);
}

int main(void)
{
#define TASKS(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TASKS(test_who_is_hurried_need_not_wait_for_the_period),
        TASKS(test_who_is_hurried_while_it_runs_runs_once_more),
        TASKS(test_the_hurried_rests_between_its_passes),
        TASKS(test_who_is_stopped_cannot_be_hurried),
        cmocka_unit_test(test_tasks_of_many_periods_begin_on_common_turns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
