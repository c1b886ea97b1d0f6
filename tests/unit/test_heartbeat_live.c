/* SPDX-License-Identifier: Apache-2.0 */
/* The heartbeat against a real Postgres: rows kept alive, leases lost in time, cancels heard. */
#include "worker/heartbeat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <event2/event.h>

#include "common/base/clock.h"
#include "tests/unit/postgres_fixture.h"
#include "tests/unit/store_fixture.h"

static struct heartbeat *heartbeat;
static struct id boot_id;
static int ups, losses, cancels;
static int64_t lost_at_us;
static struct id cancelled;
static atomic_bool is_deaf;

static void on_up(struct id id, void *arg)
{
    (void)arg;
    boot_id = id;
    ups++;
}

static void on_lost(void *arg)
{
    (void)arg;
    losses++;
    lost_at_us = clock_monotonic_us();
}

static void on_cancel(struct id job, void *arg)
{
    (void)arg;
    cancelled = job;
    cancels++;
}

static int64_t last_turn_us(const void *arg)
{
    (void)arg;
    return atomic_load(&is_deaf) ? clock_monotonic_us() - 60 * US_PER_S : clock_monotonic_us();
}

static int set_up(void **state)
{
    struct heartbeat_options options = {
        .database_url = fixture_url(),
        .name = "host/1",
        .slots = 7,
        .last_turn_us = last_turn_us,
        .on_up = on_up,
        .on_lost = on_lost,
        .on_cancel = on_cancel,
    };
    struct err err = {0};

    fixture_reset(state);
    ups = losses = cancels = 0;
    atomic_store(&is_deaf, false);
    heartbeat = heartbeat_start(fixture_base, &options, &err);
    if (!heartbeat)
        fail_msg("%s", err.message);
    await_count(&ups, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    heartbeat_stop(heartbeat, 2000);
    heartbeat = NULL;
    return 0;
}

static int64_t beat_age_ms(void)
{
    return sql_number("SELECT (extract(epoch FROM clock_timestamp() - beat_at) * 1000)::int8 "
                      "FROM workers WHERE id = '%s'",
                      hex(boot_id));
}

static int64_t beaten_us(void)
{
    return sql_number("SELECT (extract(epoch FROM beat_at) * 1000000)::int8 FROM workers "
                      "WHERE id = '%s'",
                      hex(boot_id));
}

/* Turns the loop until the row is beaten again, in time. */
static void await_beat(void)
{
    int64_t before_us = beaten_us(), now_us;

    for (int tries = 0; (now_us = beaten_us()) == before_us; tries++) {
        assert_true(tries < 500);
        turn_loop_ms(10);
    }
    assert_in_range(now_us - before_us, 1, 1500 * US_PER_MS);
}

static void test_row_is_made_and_beaten(void **state)
{
    static const int used[PRIORITY_COUNT] = {3, 2, 1};

    (void)state;
    sql_assert_text("host/1 7", "SELECT concat_ws(' ', name, slots) FROM workers WHERE id = '%s'",
                    hex(boot_id));
    heartbeat_report(heartbeat, used, true);
    await_beat();
    await_beat(); /* begun after the report */
    assert_in_range(beat_age_ms(), 0, 1500);
    sql_assert_text("{3,2,1} t",
                    "SELECT concat_ws(' ', used, is_draining) FROM workers"
                    " WHERE id = '%s'",
                    hex(boot_id));
    assert_int_equal(losses, 0);
}

static void test_cancel_flags_are_heard_with_a_beat(void **state)
{
    struct id job = fixture_queue_job(PRIORITY_HIGH);

    (void)state;
    sql_run("INSERT INTO runs (job, tenant, priority, run, run_token, worker, deadline,"
            "                  dispatch_seq, est_tokens, lease_until, calls, attempts, deferrals,"
            "                  crashes, started_at, cancel_requested) "
            "SELECT job, tenant, priority, 1, 1, '%s', deadline, 0, 1, now(), 0, 0, 0, 0, now(),"
            "       true FROM queue",
            hex(boot_id));
    await_count(&cancels, 1);
    assert_true(id_equal(cancelled, job));
    await_count(&cancels, 2); /* until the run is gone */
}

static void test_deleted_row_loses_the_lease_and_makes_a_new_boot_id(void **state)
{
    struct id first = boot_id;

    (void)state;
    sql_run("DELETE FROM workers WHERE id = '%s'", hex(first));
    await_count(&losses, 1);
    await_count(&ups, 2);
    assert_false(id_equal(first, boot_id));
    assert_int_equal(sql_number("SELECT count(*) FROM workers WHERE name = 'host/1'"), 1);
    await_beat();
    await_beat(); /* the new row lives on */
    assert_int_equal(losses, 1);
}

static void test_frozen_database_loses_the_lease_before_rescue_would_come(void **state)
{
    struct id first = boot_id;
    int64_t frozen_us = clock_monotonic_us();

    (void)state;
    postgres_fixture_freeze(fixture_postgres, true);
    await_count(&losses, 1);
    assert_in_range(lost_at_us - frozen_us, 3500 * US_PER_MS, 5600 * US_PER_MS);
    assert_int_equal(ups, 1);
    postgres_fixture_freeze(fixture_postgres, false);
    await_count(&ups, 2);
    assert_false(id_equal(first, boot_id));
    /* The row of before is gone, so that rescue finds what ran under it. */
    assert_int_equal(sql_number("SELECT count(*) FROM workers WHERE id = '%s'", hex(first)), 0);
    assert_int_equal(losses, 1);
}

static void test_crashed_database_is_waited_for(void **state)
{
    (void)state;
    postgres_fixture_crash(fixture_postgres);
    await_count(&losses, 1);
    fixture_restart();
    await_count(&ups, 2);
    assert_int_equal(sql_number("SELECT count(*) FROM workers WHERE name = 'host/1'"), 1);
}

/* A heartbeat that outlives a deaf loop is worse than none. */
static void test_loop_that_does_not_turn_gets_no_beat(void **state)
{
    (void)state;
    atomic_store(&is_deaf, true);
    await_count(&losses, 1);
    assert_in_range(beat_age_ms(), 4900, 9000);
    atomic_store(&is_deaf, false);
    await_count(&ups, 2);
}

static void test_stop_deletes_the_row(void **state)
{
    (void)state;
    heartbeat_stop(heartbeat, 2000);
    heartbeat = NULL;
    assert_int_equal(sql_number("SELECT count(*) FROM workers WHERE name = 'host/1'"), 0);
}

#define LIVE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIVE(test_row_is_made_and_beaten),
        LIVE(test_cancel_flags_are_heard_with_a_beat),
        LIVE(test_deleted_row_loses_the_lease_and_makes_a_new_boot_id),
        LIVE(test_frozen_database_loses_the_lease_before_rescue_would_come),
        LIVE(test_crashed_database_is_waited_for),
        LIVE(test_loop_that_does_not_turn_gets_no_beat),
        LIVE(test_stop_deletes_the_row),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
