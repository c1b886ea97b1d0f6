/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics: the exact text, sums over processes, overflow, and death in the middle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/io/metrics.h"

static const struct metric calls = {.name = "test_calls_total",
                                    .type = METRIC_COUNTER,
                                    .help = "Calls\\ made.\nReally.",
                                    .labels = {"provider", "outcome"}};
static const struct metric slots = {.name = "test_slots", .type = METRIC_GAUGE, .help = "Slots."};
static const struct metric waits = {.name = "test_wait_seconds",
                                    .type = METRIC_HISTOGRAM,
                                    .help = "Waits.",
                                    .labels = {"priority"}};

static int fresh_page(void **state)
{
    struct err err;

    (void)state;
    return metrics_setup(&err) ? 0 : -1;
}

static char *render(void)
{
    struct buf out;

    buf_init(&out, 16 * 1024 * 1024);
    assert_true(metrics_render(&out));
    assert_true(buf_puts(&out, ""));
    return buf_detach(&out, NULL);
}

static void assert_rendered(const char *expected)
{
    char *text = render();

    if (!strstr(text, expected))
        fail_msg("expected\n%s\nin\n%s", expected, text);
    free(text);
}

/* Runs fn in a process of its own that attaches as `process`. */
static void run_process(int process, void (*fn)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        metrics_attach(process);
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_counters_and_gauges_render_with_escapes(void **state)
{
    char *text;

    (void)state;
    metric_add(&calls, METRIC_LABELS("b", "ok"), 2);
    metric_add(&calls, METRIC_LABELS("a\"\\\n", "ok"), 1);
    metric_add(&calls, METRIC_LABELS("b", "ok"), 3);
    metric_set(&slots, NULL, -7);
    text = render();
    assert_string_equal(text, "# HELP test_calls_total Calls\\\\ made.\\nReally.\n"
                              "# TYPE test_calls_total counter\n"
                              "test_calls_total{provider=\"a\\\"\\\\\\n\",outcome=\"ok\"} 1\n"
                              "test_calls_total{provider=\"b\",outcome=\"ok\"} 5\n"
                              "# HELP test_slots Slots.\n"
                              "# TYPE test_slots gauge\n"
                              "test_slots -7\n");
    free(text);
}

static void test_histogram_is_cumulative_in_seconds(void **state)
{
    (void)state;
    metric_observe_us(&waits, METRIC_LABELS("high"), 1000);
    metric_observe_us(&waits, METRIC_LABELS("high"), 1001);
    metric_observe_us(&waits, METRIC_LABELS("high"), INT64_C(1800000001));
    metric_observe_us(&waits, METRIC_LABELS("high"), -5);
    assert_rendered("# TYPE test_wait_seconds histogram\n"
                    "test_wait_seconds_bucket{priority=\"high\",le=\"0.001\"} 2\n"
                    "test_wait_seconds_bucket{priority=\"high\",le=\"0.005\"} 3\n"
                    "test_wait_seconds_bucket{priority=\"high\",le=\"0.01\"} 3\n");
    assert_rendered("test_wait_seconds_bucket{priority=\"high\",le=\"1800\"} 3\n"
                    "test_wait_seconds_bucket{priority=\"high\",le=\"+Inf\"} 4\n"
                    "test_wait_seconds_sum{priority=\"high\"} 1800.002002\n"
                    "test_wait_seconds_count{priority=\"high\"} 4\n");
}

static void test_declared_series_show_zero(void **state)
{
    (void)state;
    metric_declare(&slots, NULL);
    metric_declare(&calls, METRIC_LABELS("main", "ok"));
    assert_rendered("test_slots 0\n");
    assert_rendered("test_calls_total{provider=\"main\",outcome=\"ok\"} 0\n");
}

static void child_work(void)
{
    metric_add(&calls, METRIC_LABELS("main", "ok"), 10);
    metric_set(&slots, NULL, 5);
}

static void test_processes_are_summed_and_gauges_of_the_dead_forgotten(void **state)
{
    (void)state;
    metric_set(&slots, NULL, 1);
    run_process(1, child_work);
    run_process(2, child_work);
    run_process(1, child_work);
    assert_rendered("test_calls_total{provider=\"main\",outcome=\"ok\"} 30\n");
    assert_rendered("test_slots 11\n");
    metrics_forget(1);
    assert_rendered("test_calls_total{provider=\"main\",outcome=\"ok\"} 30\n");
    assert_rendered("test_slots 6\n");
}

static void test_long_values_are_cut_at_a_character(void **state)
{
    char value[101];

    (void)state;
    memset(value, 'x', 63);
    strcpy(value + 63, "\xc3\xa9tail"); /* the character would end at byte 65 */
    metric_add(&calls, METRIC_LABELS(value, "ok"), 1);
    value[63] = '\0';
    metric_add(&calls, METRIC_LABELS(value, "ok"), 1);
    value[60] = '\0';
    assert_rendered("xxx\",outcome=\"ok\"} 2\n");
}

static void test_full_table_counts_under_other(void **state)
{
    char value[32];

    (void)state;
    for (int i = 0; i < METRICS_SERIES_MAX + 100; i++) {
        snprintf(value, sizeof(value), "p%d", i);
        metric_add(&calls, METRIC_LABELS(value, "ok"), 1);
    }
    metric_add(&slots, NULL, 4);
    metric_observe_us(&waits, METRIC_LABELS("late"), 1);
    assert_rendered("test_calls_total{provider=\"other\",outcome=\"other\"} 228\n");
    assert_rendered("test_slots 4\n");
    assert_rendered("test_wait_seconds_count{priority=\"other\"} 1\n");
}

static void fill_and_die(void)
{
    char value[32];

    for (int i = 0;; i++) {
        snprintf(value, sizeof(value), "p%d", i % 3000);
        metric_add(&calls, METRIC_LABELS(value, "x"), 1);
    }
}

static void test_killed_writer_leaves_the_page_usable(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        pid_t pid = fork();

        if (pid == 0)
            fill_and_die();
        for (int turn = 0; turn < 2000 * i; turn++)
            metric_add(&slots, NULL, 0); /* lets the writer get somewhere, each time further */
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        metric_add(&calls, METRIC_LABELS("after", "x"), 1);
    }
    assert_rendered("test_calls_total{provider=\"after\",outcome=\"x\"} 5\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_counters_and_gauges_render_with_escapes, fresh_page),
        cmocka_unit_test_setup(test_histogram_is_cumulative_in_seconds, fresh_page),
        cmocka_unit_test_setup(test_declared_series_show_zero, fresh_page),
        cmocka_unit_test_setup(test_processes_are_summed_and_gauges_of_the_dead_forgotten,
                               fresh_page),
        cmocka_unit_test_setup(test_long_values_are_cut_at_a_character, fresh_page),
        cmocka_unit_test_setup(test_full_table_counts_under_other, fresh_page),
        cmocka_unit_test_setup(test_killed_writer_leaves_the_page_usable, fresh_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
