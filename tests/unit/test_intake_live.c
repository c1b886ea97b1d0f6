/* SPDX-License-Identifier: Apache-2.0 */
/* The intake with a real broker and a real Postgres: every ticket ends as one of four things.  The
 * runs are stand-ins: they hold their slot until the test ends them. */
#include "worker/intake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <event2/event.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/io/kafka.h"
#include "common/io/metrics.h"
#include "common/model/end_store.h"
#include "common/model/topics.h"
#include "tests/unit/kafka_fixture.h"
#include "tests/unit/metric_fixture.h"
#include "tests/unit/postgres_fixture.h"
#include "tests/unit/store_fixture.h"
#include "worker/run.h"
#include "worker/worker.h"

enum { SLOTS = 20, RUNS_MAX = 1000, TURNS_MAX = 5000 };

static struct kafka_fixture broker;
static struct kafka_producer *producer;
static struct worker worker;

/* --- runs that do nothing --------------------------------------------------------------------- */

struct run {
    struct claimed_job *claimed;
    bool is_ended;
    int cancels, cuts, watches;
};

static struct run runs[RUNS_MAX];
static int started; /* runs[0] to runs[started - 1] */

struct run *run_start(struct worker *of, struct claimed_job *claimed)
{
    assert_ptr_equal(of, &worker);
    assert_true(started < RUNS_MAX);
    runs[started].claimed = claimed;
    return &runs[started++];
}

static void end(struct run *run)
{
    if (run->is_ended)
        return;
    run->is_ended = true;
    worker_run_ended(&worker, run, run->claimed);
}

void run_cancel(struct run *run)
{
    run->cancels++;
}

void run_watch(struct run *run)
{
    run->watches++;
}

void run_cut(struct run *run, enum cut_reason reason)
{
    (void)reason;
    run->cuts++;
    end(run);
}

/* --- tickets ---------------------------------------------------------------------------------- */

static int delivered;

static void on_delivered(bool ok, void *arg)
{
    (void)arg;
    assert_true(ok);
    delivered++;
}

static void publish_raw(enum priority priority, const char *text, size_t len)
{
    int before = delivered;

    assert_true(kafka_produce(producer, topic_name(priority), text, len, on_delivered, NULL));
    await_count(&delivered, before + 1);
}

static void publish(enum priority priority, struct id job, int seq)
{
    struct ticket ticket = {.job = job, .dispatch_seq = seq, .tenant = "acme"};
    char text[TICKET_TEXT_MAX];

    publish_raw(priority, text, ticket_write(&ticket, text));
}

/* A job with its ticket; not dealt long enough to be taken without it. */
static struct id queue_and_publish(enum priority priority)
{
    struct id job = fixture_queue_job((int)priority);

    sql_run("UPDATE queue SET dispatched_at = now() + interval '1 h' WHERE job = '%s'", hex(job));
    publish(priority, job, 0);
    return job;
}

/* The claim of a ticket, and of nothing else, waits until the other session ends its transaction: a
 * look for dealt rows passes locked ones by. */
static void publish_for_blocked_claim(void)
{
    struct id job = fixture_queue_job((int)PRIORITY_NORMAL);

    other_run("BEGIN; SELECT FROM queue FOR UPDATE");
    publish(PRIORITY_NORMAL, job, 0);
    await_blocked();
}

/* Turns the loop until so many slots are used. */
static void await_slots(int want)
{
    for (int turns = 0; slots_used(&worker.slots) != want; turns++) {
        assert_true(turns < TURNS_MAX);
        turn_loop_ms(2);
    }
}

static void await_quiet(void)
{
    for (int turns = 0; !intake_is_quiet(worker.intake); turns++) {
        assert_true(turns < TURNS_MAX);
        turn_loop_ms(2);
    }
}

/* Turns the loop until the database has such a number. */
static void await_sql(int64_t want, const char *query)
{
    for (int turns = 0; sql_number("%s", query) != want; turns++) {
        assert_true(turns < TURNS_MAX);
        turn_loop_ms(2);
    }
}

/* --- set-up ----------------------------------------------------------------------------------- */

static int group_start(void **state)
{
    struct kafka_options options;
    struct err err = {0};

    if (!metrics_setup(&err))
        fail_msg("%s", err.message);
    fixture_start(state);
    if (!kafka_fixture_start(&broker, KAFKA_EMBEDDED, topic_names, PRIORITY_COUNT, &err))
        fail_msg("%s", err.message);
    options = kafka_fixture_options(&broker);
    producer = kafka_producer_new(fixture_base, &options, &err);
    if (!producer)
        fail_msg("%s", err.message);
    return 0;
}

static int group_stop(void **state)
{
    kafka_producer_free(producer, 1000);
    kafka_fixture_stop(&broker);
    return fixture_stop(state);
}

static const struct worker_settings settings = {.slots = SLOTS, .max_request_bytes = 1000000};

static int set_up(void **state)
{
    struct kafka_options options = kafka_fixture_options(&broker);
    struct err err = {0};

    fixture_reset(state);
    memset(&worker, 0, sizeof(worker));
    memset(runs, 0, sizeof(runs));
    started = 0;
    worker.base = fixture_base;
    worker.options = &settings;
    worker.boot_id = fixture_worker;
    worker.intake_pg = fixture_pg[0];
    worker.completion_pg = fixture_pg[1];
    worker.claims = claim_store_new(fixture_pg[0], fixture_worker);
    worker.ends = end_store_new(fixture_pg[1]);
    worker.runs = map_new(SLOTS);
    worker.runs_by_job = map_new(SLOTS);
    slots_init(&worker.slots, SLOTS);
    worker.intake = intake_start(&worker, &options, &err);
    if (!worker.intake)
        fail_msg("%s", err.message);
    intake_resume(worker.intake);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    intake_stop(worker.intake);
    /* A claim under way is answered, and its slots come back. */
    for (int ended = 0, turns = 0; turns == 0 || slots_used(&worker.slots) > 0; turns++) {
        assert_true(turns < TURNS_MAX);
        for (; ended < started; ended++) {
            end(&runs[ended]);
            claimed_job_free(runs[ended].claimed);
        }
        turn_loop_ms(2);
    }
    claim_store_free(worker.claims);
    assert_int_equal(slots_used(&worker.slots), 0);
    assert_int_equal(worker.request_bytes, 0);
    assert_int_equal(map_count(worker.runs) + map_count(worker.runs_by_job), 0);
    end_store_free(worker.ends);
    intake_free(worker.intake);
    map_free(worker.runs);
    map_free(worker.runs_by_job);
    return 0;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_tickets_of_every_priority_become_runs(void **state)
{
    struct id jobs[PRIORITY_COUNT];

    (void)state;
    for (int p = 0; p < PRIORITY_COUNT; p++)
        jobs[p] = queue_and_publish((enum priority)p);
    await_count(&started, PRIORITY_COUNT);
    for (int p = 0; p < PRIORITY_COUNT; p++) {
        assert_non_null(worker_find_run(&worker, jobs[p]));
        assert_int_equal(worker.slots.used[p], 1);
    }
    assert_true(intake_has_joined(worker.intake));
    assert_counts_balance();
}

static void test_no_more_is_taken_than_there_are_slots(void **state)
{
    (void)state;
    for (int i = 0; i < SLOTS * 2; i++)
        queue_and_publish(PRIORITY_LOW);
    /* All but the reserves of high and normal. */
    await_count(&started, SLOTS - 2);
    turn_loop_ms(500); /* what is left where it is leaves no trace: only time can show it */
    assert_int_equal(started, SLOTS - 2);
    assert_int_equal(sql_number("SELECT count(*) FROM runs"), SLOTS - 2);
    queue_and_publish(PRIORITY_HIGH);
    await_count(&started, SLOTS - 1);
    /* What ends makes room for the rest. */
    for (int ended = 0; ended < SLOTS * 2 + 1; ended++) {
        await_count(&started, ended + 1);
        end(&runs[ended]);
    }
    assert_int_equal(sql_number("SELECT count(*) FROM queue"), 0);
}

static int64_t tickets_dropped(void)
{
    static const char name[] = "nightshift_tickets_total{priority=\"normal\",outcome=\"dropped\"}";
    int64_t value = metric_value(name);

    return value < 0 ? 0 : value; /* it is shown once there was one */
}

static void test_stale_and_double_tickets_are_dropped(void **state)
{
    int64_t before = tickets_dropped();
    struct id job = queue_and_publish(PRIORITY_NORMAL);

    (void)state;
    publish(PRIORITY_NORMAL, job, 0);
    publish(PRIORITY_NORMAL, job, 7);
    await_count(&started, 1);
    for (int turns = 0; tickets_dropped() < before + 2; turns++) {
        assert_true(turns < TURNS_MAX);
        turn_loop_ms(2);
    }
    assert_int_equal(started, 1);
    assert_int_equal(slots_used(&worker.slots), 1);
}

static void test_unreadable_tickets_are_kept_aside(void **state)
{
    (void)state;
    publish_raw(PRIORITY_HIGH, "no ticket", 9);
    queue_and_publish(PRIORITY_HIGH);
    await_count(&started, 1);
    await_sql(1, "SELECT count(*) FROM unreadable_tickets "
                 "WHERE topic = 'nightshift.high' AND data = 'no ticket'");
}

static void test_rows_whose_ticket_was_lost_are_taken_all_the_same(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        fixture_queue_job(PRIORITY_NORMAL); /* dealt 3 s ago, and no ticket */
    await_count(&started, 5);
    assert_int_equal(worker.slots.used[PRIORITY_NORMAL], 5);
    assert_counts_balance();
}

static void test_tickets_taken_while_postgres_is_away_come_again(void **state)
{
    enum { JOBS = 5 };
    struct id jobs[JOBS];

    (void)state;
    queue_and_publish(PRIORITY_NORMAL);
    await_count(&started, 1); /* the group stands */
    for (int i = 0; i < JOBS; i++)
        jobs[i] = fixture_queue_job(PRIORITY_NORMAL);
    sql_run("UPDATE queue SET dispatched_at = now() + interval '1 h'");
    other_run("BEGIN; SELECT FROM queue FOR UPDATE"); /* claims are under way when it dies */
    for (int i = 0; i < JOBS; i++)
        publish(PRIORITY_NORMAL, jobs[i], 0);
    await_blocked();
    assert_false(intake_is_quiet(worker.intake));
    postgres_fixture_crash(fixture_postgres);
    await_slots(1);
    fixture_restart();
    await_count(&started, 1 + JOBS);
    assert_int_equal(sql_number("SELECT count(*) FROM runs"), 1 + JOBS);
    assert_counts_balance();
}

/* A claim's answer is lost, so the intake asks for its runs; here stands one it does not know. */
static void test_runs_that_nobody_here_knows_are_given_up(void **state)
{
    struct id job = queue_and_publish(PRIORITY_NORMAL);
    struct run *run;

    (void)state;
    await_count(&started, 1);
    run = worker_find_run(&worker, job);
    assert_ptr_equal(run, &runs[0]);
    map_remove(worker.runs, &run->claimed->run_token, sizeof(run->claimed->run_token));
    publish_for_blocked_claim();
    assert_false(intake_is_quiet(worker.intake));
    sql_run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE '%%first%%'");
    other_run("COMMIT");
    await_count(&started, 2);
    await_sql(1, "SELECT count(*) FROM runs WHERE lease_until < now()");
    sql_assert_text(hex(job), "SELECT replace(job::text, '-', '') FROM runs"
                              " WHERE lease_until < now()");
}

static void test_suspended_intake_takes_nothing(void **state)
{
    (void)state;
    queue_and_publish(PRIORITY_NORMAL);
    await_count(&started, 1);
    intake_suspend(worker.intake);
    queue_and_publish(PRIORITY_NORMAL);
    fixture_queue_job(PRIORITY_NORMAL);
    turn_loop_ms(1500); /* longer than from one look for dealt rows to the next */
    assert_int_equal(started, 1);
    intake_resume(worker.intake);
    await_count(&started, 3);
}

static void test_large_requests_hold_the_intake_back(void **state)
{
    (void)state;
    queue_and_publish(PRIORITY_NORMAL);
    await_count(&started, 1);
    worker.request_bytes += settings.max_request_bytes;
    await_quiet(); /* what may be claimed is so from here on */
    queue_and_publish(PRIORITY_NORMAL);
    turn_loop_ms(500); /* as above: only time can show it */
    assert_int_equal(started, 1);
    worker.request_bytes -= settings.max_request_bytes;
    await_count(&started, 2);
}

static void test_draining_hands_claims_under_way_back(void **state)
{
    (void)state;
    queue_and_publish(PRIORITY_NORMAL);
    await_count(&started, 1);
    publish_for_blocked_claim();
    assert_false(intake_is_quiet(worker.intake));
    worker.is_draining = true;
    intake_stop(worker.intake);
    other_run("COMMIT");
    await_quiet();
    assert_int_equal(started, 1);
    assert_int_equal(slots_used(&worker.slots), 1);
    await_sql(1, "SELECT count(*) FROM queue WHERE dispatch_seq = 1 AND run = 1");
    assert_counts_balance();
}

static void test_messages_reach_the_run_they_name(void **state)
{
    struct id job = queue_and_publish(PRIORITY_NORMAL);
    char text[64];

    (void)state;
    await_count(&started, 1);
    snprintf(text, sizeof(text), "cancel %s", hex(job));
    worker_hear(&worker, text, strlen(text));
    snprintf(text, sizeof(text), "watch %s", hex(job));
    worker_hear(&worker, text, strlen(text));
    worker_hear(&worker, "cancel nobody", 13);
    worker_hear(&worker, "", 0);
    worker_hear(&worker, "watch 0123", 10);
    assert_int_equal(runs[0].cancels, 1);
    assert_int_equal(runs[0].watches, 1);
}

#define LIVE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIVE(test_tickets_of_every_priority_become_runs),
        LIVE(test_no_more_is_taken_than_there_are_slots),
        LIVE(test_stale_and_double_tickets_are_dropped),
        LIVE(test_unreadable_tickets_are_kept_aside),
        LIVE(test_rows_whose_ticket_was_lost_are_taken_all_the_same),
        LIVE(test_tickets_taken_while_postgres_is_away_come_again),
        LIVE(test_runs_that_nobody_here_knows_are_given_up),
        LIVE(test_suspended_intake_takes_nothing),
        LIVE(test_large_requests_hold_the_intake_back),
        LIVE(test_draining_hands_claims_under_way_back),
        LIVE(test_messages_reach_the_run_they_name),
    };

    return cmocka_run_group_tests(tests, group_start, group_stop);
}
