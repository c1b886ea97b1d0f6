/* SPDX-License-Identifier: Apache-2.0 */
/* Counts, partitions and retention against a real Postgres. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/model/count_store.h"
#include "tests/unit/scheduler_fixture.h"

#define TODAY "(now() AT TIME ZONE 'UTC')::date"

static struct fixture_scheduler *one; /* leads */

static int set_up(void **state)
{
    fixture_reset(state);
    sql_run("TRUNCATE idempotency");
    one = fixture_scheduler_new("one");
    fixture_lead(one);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_scheduler_free(one);
    return 0;
}

/* --- counts ----------------------------------------------------------------------------------- */

static void test_folding_keeps_every_sum(void **state)
{
    (void)state;
    sql_run("INSERT INTO counts "
            "SELECT 't' || n %% 7, n %% 3, (ARRAY['queued', 'running'])[n %% 2 + 1], n %% 5 - 2 "
            "FROM generate_series(1, 5000) AS n;"
            "INSERT INTO counts VALUES ('gone', 1, 'queued', 3), ('gone', 1, 'queued', -3);"
            "CREATE TEMP TABLE before AS "
            "SELECT tenant, priority, state, sum(delta) AS n FROM counts GROUP BY 1, 2, 3 "
            "HAVING sum(delta) <> 0");
    assert_true(fixture_pass(one, "counts"));
    assert_int_equal(sql_number("SELECT count(*) FROM ("
                                "  SELECT tenant, priority, state, sum(delta) AS n FROM counts"
                                "  GROUP BY 1, 2, 3"
                                ") AS now FULL JOIN before USING (tenant, priority, state, n) "
                                "WHERE now.tenant IS NULL OR before.tenant IS NULL"),
                     0);
    assert_int_equal(sql_number("SELECT count(*) FROM counts"),
                     sql_number("SELECT count(*) FROM before"));
    sql_run("DROP TABLE before");
}

static void test_few_deltas_are_not_worth_folding(void **state)
{
    (void)state;
    sql_run("INSERT INTO counts SELECT 'acme', 1, 'queued', 1 FROM generate_series(1, 100)");
    assert_true(fixture_pass(one, "counts"));
    assert_int_equal(sql_number("SELECT count(*) FROM counts"), 100);
}

static struct count_look seen;
static int looks;

static void on_look(const struct pg_reply *reply, void *arg)
{
    (void)arg;
    assert_int_equal(reply->status, PG_OK);
    assert_true(count_look_read(reply->result, &seen));
    looks++;
}

static void test_gauges_tell_depth_and_age_of_each_priority(void **state)
{
    (void)state;
    looks = 0;
    fixture_backlog_job("acme", PRIORITY_HIGH, 30);
    fixture_backlog_job("other", PRIORITY_HIGH, 50);
    fixture_backlog_job("acme", PRIORITY_NORMAL, -600); /* for later */
    fixture_queue_job(PRIORITY_LOW);                    /* dealt, ready for 4 s */
    count_look(fixture_pg[0], on_look, NULL);
    await_count(&looks, 1);
    assert_int_equal(seen.of[PRIORITY_HIGH].queued, 2);
    assert_int_equal(seen.of[PRIORITY_HIGH].oldest_waiting_us / 10000000, 5);
    assert_int_equal(seen.of[PRIORITY_NORMAL].queued, 1);
    assert_int_equal(seen.of[PRIORITY_NORMAL].oldest_waiting_us, 0);
    assert_int_equal(seen.of[PRIORITY_LOW].queued, 1);
    assert_true(seen.of[PRIORITY_LOW].oldest_waiting_us >= 4000000);
}

/* --- partitions ------------------------------------------------------------------------------- */

static int64_t days_between(const char *from, const char *to)
{
    return sql_number("SELECT count(*) FROM partitions_days() AS day "
                      "WHERE day BETWEEN " TODAY " + %s AND " TODAY " + %s",
                      from, to);
}

static void test_partitions_are_made_ahead(void **state)
{
    (void)state;
    sql_run("DO $$ DECLARE name text; BEGIN "
            "FOR name IN SELECT p || to_char(" TODAY " + 14, '_YYYYMMDD') "
            "            FROM unnest(ARRAY['jobs', 'events', 'calls']) AS p LOOP "
            "    EXECUTE 'DROP TABLE ' || name; "
            "END LOOP; END $$");
    assert_int_equal(days_between("14", "14"), 0);
    assert_true(fixture_pass(one, "partitions"));
    assert_int_equal(days_between("-1", "14"), 16);
    assert_int_equal(sql_number("SELECT count(*) FROM pg_inherits WHERE inhparent IN "
                                "('events'::regclass, 'calls'::regclass)"),
                     2 * days_between("-100", "100"));
}

static void test_days_past_their_retention_are_dropped(void **state)
{
    (void)state;
    sql_run("SELECT partitions_ensure(" TODAY " - 63, 5)");
    assert_true(fixture_pass(one, "partitions"));
    assert_int_equal(days_between("-100", "-61"), 0);
    assert_int_equal(days_between("-60", "-59"), 2);
    one->settings.retention_days = 30;
    assert_true(fixture_pass(one, "partitions"));
    assert_int_equal(days_between("-100", "-31"), 0);
}

/* A job made on a day long past. */
static void old_job(int days_ago)
{
    sql_run("INSERT INTO jobs (id, tenant, key_id, priority, model, request, deadline,"
            "                  max_attempts, timeout_s, est_tokens) "
            "SELECT id_floor(now() - interval '%d days'), 'acme', 'k1', 1, 'fast', '{}',"
            "       now() + interval '1 d', 5, 600, 1",
            days_ago);
}

static void test_day_with_live_rows_is_kept(void **state)
{
    (void)state;
    sql_run("SELECT partitions_ensure(" TODAY " - 71, 4)");
    for (int days_ago = 68; days_ago <= 71; days_ago++)
        old_job(days_ago);
    sql_run("INSERT INTO queue (job, tenant, priority, ready_at, deadline, est_tokens) "
            "SELECT id, tenant, 1, now(), deadline, 1 FROM jobs "
            "WHERE id_time(id)::date = " TODAY " - 71;"
            "INSERT INTO runs (job, tenant, priority, run, run_token, worker, deadline,"
            "                  dispatch_seq, est_tokens, lease_until, calls, attempts, deferrals,"
            "                  crashes, started_at) "
            "SELECT id, tenant, 1, 1, 1, gen_random_uuid(), deadline, 0, 1, now(), 0, 0, 0, 0,"
            "       now() FROM jobs WHERE id_time(id)::date = " TODAY " - 70;"
            "INSERT INTO deliveries (id, tenant, url, type, job) "
            "SELECT id_make(), tenant, 'x', 'job.failed', id FROM jobs "
            "WHERE id_time(id)::date = " TODAY " - 69");
    assert_true(fixture_pass(one, "partitions"));
    assert_int_equal(days_between("-71", "-69"), 3);
    assert_int_equal(days_between("-68", "-68"), 0);
    sql_run("TRUNCATE queue, runs; UPDATE deliveries SET state = 'delivered'");
    assert_true(fixture_pass(one, "partitions"));
    assert_int_equal(days_between("-71", "-68"), 0);
    assert_int_equal(sql_number("SELECT count(*) FROM deliveries"), 0);
}

static void test_younger_days_cannot_be_dropped(void **state)
{
    (void)state;
    one->settings.retention_days = 3; /* no option lets this through */
    sql_run("SELECT partitions_ensure(" TODAY " - 10, 1)");
    assert_false(fixture_pass(one, "partitions"));
    assert_int_equal(days_between("-10", "-10"), 1);
    sql_run("DO $$ DECLARE name text; BEGIN "
            "FOR name IN SELECT p || to_char(" TODAY " - 10, '_YYYYMMDD') "
            "            FROM unnest(ARRAY['jobs', 'events', 'calls']) AS p LOOP "
            "    EXECUTE 'DROP TABLE ' || name; "
            "END LOOP; END $$");
}

/* --- retention -------------------------------------------------------------------------------- */

static void test_old_idempotency_keys_go_in_small_batches(void **state)
{
    (void)state;
    sql_run("INSERT INTO idempotency (tenant, key, job, body_hash, created_at) "
            "SELECT 'acme', 'old' || n, id_make(), ''::bytea, now() - interval '16 days' "
            "FROM generate_series(1, 1200) AS n "
            "UNION ALL "
            "SELECT 'acme', 'young' || n, id_make(), ''::bytea, now() - interval '14 days' "
            "FROM generate_series(1, 5) AS n");
    assert_true(fixture_pass(one, "retention"));
    assert_int_equal(sql_number("SELECT count(*) FROM idempotency"), 205);
    assert_true(fixture_pass(one, "retention"));
    assert_int_equal(sql_number("SELECT count(*) FROM idempotency"), 5);
}

static void test_what_is_in_no_partition_goes_when_it_is_old(void **state)
{
    (void)state;
    sql_run("INSERT INTO unreadable_tickets "
            "VALUES ('t', 0, 1, '', now() - interval '61 days'), ('t', 0, 2, '', now());"
            "INSERT INTO deliveries (id, tenant, url, type, state) "
            "SELECT id_floor(now() - age * interval '1 day'), 'acme', 'x', 'test', state "
            "FROM (VALUES (61, 'delivered'), (62, 'waiting'), (59, 'failed')) AS d(age, state)");
    assert_true(fixture_pass(one, "retention"));
    assert_int_equal(sql_number("SELECT count(*) FROM unreadable_tickets"), 1);
    assert_int_equal(sql_number("SELECT count(*) FROM deliveries"), 2);
}

static void test_alerts_of_budgets_stay_as_long_as_their_window(void **state)
{
    (void)state;
    one->settings.retention_days = 30;
    sql_run("INSERT INTO budget_alerts (tenant, scope, window_id, percent, limit_nano, spent_nano,"
            "                           reserved_nano, unknown_nano, created_at) "
            "SELECT 'acme', 'tenant', id, 50, 1, 1, 0, 0, now() - age * interval '1 day' "
            "FROM (VALUES ('d20260101', 63), ('m202601', 63), ('m202602', 61), ('t', 63))"
            "    AS a(id, age)");
    assert_true(fixture_pass(one, "retention"));
    assert_int_equal(sql_number("SELECT count(*) FROM budget_alerts"), 2);
    assert_int_equal(sql_number("SELECT count(*) FROM budget_alerts WHERE window_id = 't'"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_folding_keeps_every_sum),
        TEST(test_few_deltas_are_not_worth_folding),
        TEST(test_gauges_tell_depth_and_age_of_each_priority),
        TEST(test_partitions_are_made_ahead),
        TEST(test_days_past_their_retention_are_dropped),
        TEST(test_day_with_live_rows_is_kept),
        TEST(test_younger_days_cannot_be_dropped),
        TEST(test_old_idempotency_keys_go_in_small_batches),
        TEST(test_what_is_in_no_partition_goes_when_it_is_old),
        TEST(test_alerts_of_budgets_stay_as_long_as_their_window),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
