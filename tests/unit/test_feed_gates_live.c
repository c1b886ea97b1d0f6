/* SPDX-License-Identifier: Apache-2.0 */
/* The feeder beside closed gates, against a real Postgres: who is dealt, put off, taken back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/scheduler_fixture.h"

static struct fixture_scheduler *one; /* leads */

static int set_up(void **state)
{
    fixture_reset(state);
    sql_run("UPDATE lanes SET credits = 0, expires_at = 'epoch'");
    sql_run("UPDATE workers SET slots = 100, beat_at = now()");
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

static void wait_here(const char *tenant, const char *workflow, int jobs)
{
    for (int i = 0; i < jobs; i++)
        fixture_backlog_job(tenant, PRIORITY_NORMAL, 10 + i);
    sql_run("UPDATE queue SET workflow = '%s', key_id = 'k1', model = 'fast'"
            " WHERE tenant = '%s' AND key_id IS NULL",
            workflow, tenant);
}

/* until_ms from now. */
static void shut(const char *tenant, const char *kind, const char *name, int until_ms,
                 int interval_us)
{
    sql_run("INSERT INTO gates (tenant, kind, name, until, interval_us, reason, detail)"
            " VALUES ('%s', '%s', '%s', now() + %d * interval '1 ms', %d, 'rate_limit', 'why')",
            tenant, kind, name, until_ms, interval_us);
}

static int64_t dealt(const char *tenant)
{
    return sql_number("SELECT count(*) FROM queue WHERE dispatched_at IS NOT NULL"
                      " AND tenant = '%s'",
                      tenant);
}

static void test_a_closed_tenant_is_passed_over_and_others_are_dealt(void **state)
{
    (void)state;
    wait_here("acme", "w", 20);
    wait_here("other", "w", 3);
    shut("acme", "tenant", "", 60000, 0);
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt("acme"), 0);
    assert_int_equal(dealt("other"), 3);
    assert_int_equal(sql_number("SELECT count(*) FROM queue WHERE ready_at > now()"), 0);
}

static void test_a_metered_tenant_gets_one_each_interval(void **state)
{
    (void)state;
    wait_here("acme", "w", 20);
    shut("acme", "tenant", "", -2500, 1000000);
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt("acme"), 3);
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt("acme"), 3);
    assert_int_equal(sql_number("SELECT count(*) FROM gates WHERE until > now()"), 1);
}

static void test_a_gate_opens_faster_while_nobody_is_refused(void **state)
{
    (void)state;
    wait_here("acme", "w", 20);
    shut("acme", "tenant", "", -1500, 1000000);
    sql_run("UPDATE gates SET refused_at = now() - interval '1 s'");
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(sql_number("SELECT interval_us FROM gates"), 900000);
}

static void test_concurrency_leaves_as_many_as_have_room(void **state)
{
    (void)state;
    wait_here("acme", "w", 20);
    shut("acme", "workflow", "w", -1, 20000);
    sql_run("UPDATE gates SET most = 5");
    sql_run("UPDATE queue SET dispatched_at = now() WHERE job IN"
            " (SELECT job FROM queue ORDER BY ready_at LIMIT 2)");
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt("acme"), 5);
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt("acme"), 5);
}

/* Nobody needs to come due for a call that ends. */
static void test_a_scope_at_its_concurrency_has_successors_ready(void **state)
{
    (void)state;
    wait_here("acme", "w", 20);
    shut("acme", "workflow", "w", -1, 20000);
    sql_run("UPDATE gates SET most = 5");
    for (int pass = 0; pass < 3; pass++)
        assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt("acme"), 5);
    sql_run("DELETE FROM queue WHERE dispatched_at IS NOT NULL");
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt("acme"), 5);
}

static void test_rows_of_a_closed_scope_are_put_off_once_and_in_order(void **state)
{
    (void)state;
    wait_here("acme", "night", 20);
    wait_here("acme", "day", 2);
    sql_run("UPDATE queue SET workflow = 'day' WHERE job IN"
            " (SELECT job FROM queue ORDER BY job DESC LIMIT 2)");
    shut("acme", "workflow", "night", 60000, 1000000);
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt("acme"), 2);
    assert_int_equal(
        sql_number("SELECT count(*) FROM queue WHERE ready_at > now() + interval '60 s'"
                   " AND wait_reason = 'rate_limit' AND wait_detail = 'why'"),
        20);
    assert_int_equal(sql_number("SELECT count(DISTINCT ready_at) FROM queue"
                                " WHERE workflow = 'night'"),
                     20);
    assert_int_equal(sql_number("SELECT count(*) FROM gates WHERE tail > until"), 1);
    wait_here("acme", "night", 1); /* the next one is behind them all */
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(sql_number("SELECT count(*) FROM queue q, gates g WHERE q.ready_at = g.tail"),
                     1);
}

static void test_what_was_dealt_before_the_gate_closed_is_taken_back(void **state)
{
    (void)state;
    wait_here("acme", "w", 4);
    wait_here("other", "w", 2);
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt("acme"), 4);
    shut("acme", "tenant", "", 60000, 1000000);
    assert_true(fixture_pass(one, "feed")); /* sees the gate */
    assert_true(fixture_pass(one, "recall"));
    assert_int_equal(dealt("acme"), 0);
    assert_int_equal(dealt("other"), 2);
    /* What goes through the gate is not taken back. */
    sql_run("UPDATE gates SET until = now() - interval '1 ms'");
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt("acme"), 1);
    assert_true(fixture_pass(one, "recall"));
    assert_int_equal(dealt("acme"), 1);
}

static void test_disabled_tenants_are_not_dealt_and_what_was_is_taken_back(void **state)
{
    (void)state;
    wait_here("acme", "w", 2);
    assert_true(fixture_pass(one, "feed"));
    sql_run("UPDATE tenants SET is_disabled = true WHERE id = 'acme'");
    assert_true(fixture_pass(one, "feed"));
    assert_true(fixture_pass(one, "recall"));
    assert_int_equal(dealt("acme"), 0);
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt("acme"), 0);
    sql_run("UPDATE tenants SET is_disabled = false");
}

static const struct {
    const char *kind, *column, *elsewhere; /* where the same name is another thing's */
} kinds[] = {
    {"key", "key_id", "model"},
    {"workflow", "workflow", "key_id"},
    {"user", "end_user", "workflow"},
    {"model", "model", "end_user"},
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* Jobs of the scope "mine" and two beside it, one of which bears the name elsewhere. */
static void wait_around(int kind, int mine)
{
    sql_run("DELETE FROM queue; DELETE FROM runs; DELETE FROM gates");
    wait_here("acme", "w", mine + 2);
    sql_run("UPDATE queue SET %s = 'mine' WHERE job IN"
            " (SELECT job FROM queue ORDER BY job LIMIT %d)",
            kinds[kind].column, mine);
    sql_run("UPDATE queue SET %s = 'mine' WHERE job ="
            " (SELECT job FROM queue ORDER BY job DESC LIMIT 1)",
            kinds[kind].elsewhere);
}

static int64_t dealt_mine(int kind)
{
    return sql_number("SELECT count(*) FROM queue WHERE dispatched_at IS NOT NULL AND %s = 'mine'",
                      kinds[kind].column);
}

static void test_a_gate_of_each_kind_takes_back_its_own_jobs_only(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        wait_around(kind, 3);
        assert_true(fixture_pass(one, "feed"));
        assert_int_equal(dealt_mine(kind), 3);
        shut("acme", kinds[kind].kind, "mine", 60000, 1000000);
        assert_true(fixture_pass(one, "feed")); /* sees the gate */
        assert_true(fixture_pass(one, "recall"));
        assert_int_equal(dealt_mine(kind), 0);
        assert_int_equal(dealt("acme"), 2);
    }
}

/* Those that were dealt and those that run: one each. */
static void test_a_gate_of_each_kind_counts_its_own_jobs_only(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        wait_around(kind, 6);
        sql_run("WITH gone AS (DELETE FROM queue WHERE job ="
                "              (SELECT job FROM queue ORDER BY job LIMIT 1) RETURNING *)"
                " INSERT INTO runs (job, tenant, priority, run, run_token, worker, deadline,"
                "                   dispatch_seq, est_tokens, lease_until, calls, attempts,"
                "                   deferrals, crashes, started_at, key_id, workflow, end_user,"
                "                   model)"
                " SELECT job, tenant, priority, 1, nextval('run_tokens'), gen_random_uuid(),"
                "        deadline, 0, 1, now() + interval '1 h', 0, 0, 0, 0, now(), key_id,"
                "        workflow, end_user, model FROM gone");
        sql_run("UPDATE queue SET dispatched_at = now() WHERE job ="
                " (SELECT job FROM queue ORDER BY job LIMIT 1)");
        shut("acme", kinds[kind].kind, "mine", -1, 20000);
        sql_run("UPDATE gates SET most = 4");
        assert_true(fixture_pass(one, "feed"));
        assert_int_equal(dealt_mine(kind), 3); /* and one runs */
        assert_int_equal(dealt("acme"), 5);
    }
    sql_run("DELETE FROM runs");
}

static void test_gates_stay_while_somebody_waits_and_go_then(void **state)
{
    (void)state;
    wait_here("acme", "w", 1);
    shut("acme", "tenant", "", -20000, 1000000);
    shut("acme", "workflow", "w", -1, 0);
    shut("gone", "tenant", "", -20000, 1000000);
    shut("gone", "workflow", "w", -5000, 1000000);
    one->scheduler.has_gates = true;
    assert_true(fixture_pass(one, "gates"));
    sql_assert_text("acme tenant, gone workflow",
                    "SELECT string_agg(tenant || ' ' || kind, ', ' ORDER BY tenant) FROM gates");
}

int main(void)
{
#define LIVE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        LIVE(test_a_closed_tenant_is_passed_over_and_others_are_dealt),
        LIVE(test_a_metered_tenant_gets_one_each_interval),
        LIVE(test_a_gate_opens_faster_while_nobody_is_refused),
        LIVE(test_concurrency_leaves_as_many_as_have_room),
        LIVE(test_a_scope_at_its_concurrency_has_successors_ready),
        LIVE(test_rows_of_a_closed_scope_are_put_off_once_and_in_order),
        LIVE(test_what_was_dealt_before_the_gate_closed_is_taken_back),
        LIVE(test_disabled_tenants_are_not_dealt_and_what_was_is_taken_back),
        LIVE(test_a_gate_of_each_kind_takes_back_its_own_jobs_only),
        LIVE(test_a_gate_of_each_kind_counts_its_own_jobs_only),
        LIVE(test_gates_stay_while_somebody_waits_and_go_then),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
