/* SPDX-License-Identifier: Apache-2.0 */
/* Leadership against a real Postgres: one leads, and is succeeded however it ends. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <event2/event.h>

#include "common/base/clock.h"
#include "common/model/leader_store.h"
#include "tests/unit/postgres_fixture.h"
#include "tests/unit/scheduler_fixture.h"

static struct fixture_scheduler *one; /* of this process, not started by set_up */

static int set_up(void **state)
{
    (void)state;
    sql_run("UPDATE leadership SET beat_at = 'epoch', has_lock = false, holder = ''");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (one)
        fixture_scheduler_free(one);
    one = NULL;
    return 0;
}

static bool leads(const struct fixture_scheduler *scheduler)
{
    return leader_epoch(scheduler->scheduler.leader) != 0;
}

/* How long it took, in ms. */
static int64_t await_lead(const struct fixture_scheduler *scheduler)
{
    int64_t since_us = clock_monotonic_us();

    while (!leads(scheduler)) {
        turn_loop_ms(10);
        assert_true(clock_monotonic_us() - since_us < 20 * US_PER_S);
    }
    return (clock_monotonic_us() - since_us) / US_PER_MS;
}

static void await_sql(const char *query)
{
    int64_t since_us = clock_monotonic_us();

    while (sql_number("%s", query) != 1) {
        turn_loop_ms(20);
        assert_true(clock_monotonic_us() - since_us < 20 * US_PER_S);
    }
}

/* --- another process that wants to lead ------------------------------------------------------- */

static void on_change(bool is_leading, void *arg)
{
    (void)is_leading, (void)arg;
}

static void rival_main(void)
{
    struct event_base *base = event_base_new();
    struct leader_options options = {
        .url = fixture_url(), .holder = "rival", .on_change = on_change};
    struct err err = {0};
    const struct leader *leader = leader_new(base, &options, &err);

    if (leader)
        event_base_dispatch(base);
    _exit(1);
}

/* A process that leads. */
static pid_t rival_start(void)
{
    pid_t pid = fork();

    if (pid == 0)
        rival_main();
    assert_true(pid > 0);
    await_sql("SELECT (holder = 'rival' AND has_lock)::int::int8 FROM leadership");
    return pid;
}

static void rival_kill(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_only_one_leads(void **state)
{
    struct fixture_scheduler *two;

    (void)state;
    one = fixture_scheduler_new("one");
    await_lead(one);
    two = fixture_scheduler_new("two");
    turn_loop_ms(2500);
    assert_true(leads(one));
    assert_false(leads(two));
    sql_assert_text("one", "SELECT holder FROM leadership WHERE has_lock");
    fixture_scheduler_free(two);
}

static void test_epoch_grows_with_each_leader(void **state)
{
    int64_t epoch = sql_number("SELECT epoch FROM leadership");

    (void)state;
    one = fixture_scheduler_new("one");
    await_lead(one);
    assert_int_equal(leader_epoch(one->scheduler.leader), epoch + 1);
    assert_int_equal(sql_number("SELECT epoch FROM leadership"), epoch + 1);
}

static void on_resigned(void *arg)
{
    *(bool *)arg = true;
}

static void test_who_resigns_is_succeeded_at_once_and_never_leads_again(void **state)
{
    struct fixture_scheduler *two;
    bool has_resigned = false;

    (void)state;
    one = fixture_scheduler_new("one");
    await_lead(one);
    two = fixture_scheduler_new("two");
    turn_loop_ms(100);
    leader_resign(one->scheduler.leader, on_resigned, &has_resigned);
    assert_false(leads(one));
    await_flag(&has_resigned);
    assert_true(await_lead(two) < 2000);
    assert_int_equal(one->changes, 2);
    fixture_scheduler_free(two);
    turn_loop_ms(1500);
    assert_false(leads(one));
}

static void test_killed_leader_is_succeeded_within_seconds(void **state)
{
    pid_t rival = rival_start();

    (void)state;
    one = fixture_scheduler_new("one");
    turn_loop_ms(500);
    assert_false(leads(one));
    rival_kill(rival);
    assert_true(await_lead(one) < 3000);
}

static void test_frozen_leader_is_succeeded_and_steps_down_when_it_wakes(void **state)
{
    pid_t rival = rival_start();
    int64_t took_ms, epoch;

    (void)state;
    kill(rival, SIGSTOP);
    one = fixture_scheduler_new("one");
    took_ms = await_lead(one);
    assert_true(took_ms > 3000 && took_ms < 8000);
    epoch = leader_epoch(one->scheduler.leader);
    assert_int_equal(sql_number("SELECT has_lock::int FROM leadership"), 0); /* the frozen has it */
    kill(rival, SIGCONT);
    await_sql("SELECT (holder = 'one' AND has_lock)::int::int8 FROM leadership");
    assert_int_equal(leader_epoch(one->scheduler.leader), epoch);
    rival_kill(rival);
}

static void test_leader_whose_connection_dies_steps_down_and_may_lead_again(void **state)
{
    int64_t epoch;

    (void)state;
    one = fixture_scheduler_new("one");
    await_lead(one);
    epoch = leader_epoch(one->scheduler.leader);
    sql_run("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'");
    while (leader_epoch(one->scheduler.leader) == epoch)
        turn_loop_ms(10);
    await_lead(one);
    assert_true(leader_epoch(one->scheduler.leader) > epoch);
    assert_int_equal(one->changes, 3);
}

static void test_leader_does_nothing_while_the_database_hangs(void **state)
{
    int64_t since_us;

    (void)state;
    one = fixture_scheduler_new("one");
    await_lead(one);
    postgres_fixture_freeze(fixture_postgres, true);
    since_us = clock_monotonic_us();
    while (leads(one) && clock_monotonic_us() - since_us < 8 * US_PER_S)
        turn_loop_ms(20);
    postgres_fixture_freeze(fixture_postgres, false);
    assert_false(leads(one));
    await_lead(one);
}

struct answer {
    int count;
    enum pg_status status;
    char sqlstate[6];
};

static void on_answer(const struct pg_reply *reply, void *arg)
{
    struct answer *answer = arg;

    answer->count++;
    answer->status = reply->status;
    strncpy(answer->sqlstate, reply->sqlstate, sizeof(answer->sqlstate) - 1);
}

PG_STATEMENT(test_write_statement, "INSERT INTO pauses (kind, name) SELECT 'tenant', 'x'");

static void write_as(struct pg *pg, int64_t epoch, struct answer *answer)
{
    struct pg_step step = {.statement = &test_write_statement};

    leader_transaction(pg, epoch, &step, 1, on_answer, answer);
}

static void test_transaction_of_an_old_epoch_fails_whole(void **state)
{
    struct answer answer = {0};

    (void)state;
    sql_run("DELETE FROM pauses");
    write_as(fixture_pg[0], sql_number("SELECT epoch - 1 FROM leadership"), &answer);
    await_count(&answer.count, 1);
    assert_int_equal(answer.status, PG_FAILED);
    assert_string_equal(answer.sqlstate, LEADER_SQLSTATE);
    assert_int_equal(sql_number("SELECT count(*) FROM pauses"), 0);
}

/* A transaction that has begun ends before the next leader begins. */
static void test_next_leader_waits_for_the_old_ones_transaction(void **state)
{
    int64_t epoch = sql_number("SELECT epoch FROM leadership");
    struct answer take = {0};

    (void)state;
    other_run("BEGIN; SELECT leadership_check(%lld)", (long long)epoch);
    leader_take(fixture_pg[0], epoch, "next", on_answer, &take);
    await_blocked();
    assert_int_equal(take.count, 0);
    sql_run("UPDATE leadership SET beat_at = now()"); /* a beat does not wait */
    other_run("COMMIT");
    await_count(&take.count, 1);
    assert_int_equal(sql_number("SELECT epoch FROM leadership"), epoch + 1);
}

/* One that begins while the next leader takes over sees that it is over. */
static void test_check_during_a_takeover_waits_and_fails(void **state)
{
    int64_t epoch = sql_number("SELECT epoch FROM leadership");
    struct answer answer = {0};

    (void)state;
    sql_run("DELETE FROM pauses");
    other_run("BEGIN; SELECT FROM leadership FOR UPDATE; UPDATE leadership SET epoch = epoch + 1");
    write_as(fixture_pg[0], epoch, &answer);
    await_blocked();
    assert_int_equal(answer.count, 0);
    other_run("COMMIT");
    await_count(&answer.count, 1);
    assert_string_equal(answer.sqlstate, LEADER_SQLSTATE);
    assert_int_equal(sql_number("SELECT count(*) FROM pauses"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_only_one_leads),
        TEST(test_epoch_grows_with_each_leader),
        TEST(test_who_resigns_is_succeeded_at_once_and_never_leads_again),
        TEST(test_killed_leader_is_succeeded_within_seconds),
        TEST(test_frozen_leader_is_succeeded_and_steps_down_when_it_wakes),
        TEST(test_leader_whose_connection_dies_steps_down_and_may_lead_again),
        TEST(test_leader_does_nothing_while_the_database_hangs),
        TEST(test_transaction_of_an_old_epoch_fails_whole),
        TEST(test_next_leader_waits_for_the_old_ones_transaction),
        TEST(test_check_during_a_takeover_waits_and_fails),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
