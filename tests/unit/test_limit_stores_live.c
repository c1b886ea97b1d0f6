/* SPDX-License-Identifier: Apache-2.0 */
/* What limits add to intents and requeues, against a real Postgres. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/model/end_store.h"
#include "tests/unit/run_fixture.h"

static struct end_store *ends;
static struct call_store *calls;

static int set_up(void **state)
{
    fixture_reset(state);
    ends = end_store_new(fixture_pg[0]);
    calls = call_store_new(fixture_pg[0]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    end_store_free(ends);
    call_store_free(calls);
    return 0;
}

/* --- intents ---------------------------------------------------------------------------------- */

static void test_intent_of_a_stale_book_writes_nothing(void **state)
{
    struct live live = fixture_run_job();

    (void)state;
    sql_run("INSERT INTO budget_books (tenant, generation) VALUES ('acme', 3)"
            " ON CONFLICT (tenant) DO UPDATE SET generation = 3");
    sql_run("UPDATE budget_binding SET generation = 2");
    assert_int_equal(fixture_intend(calls, live, 1, "2.2"), INTENT_STALE_BOOK);
    assert_int_equal(fixture_intend(calls, live, 1, "1.3"), INTENT_STALE_BOOK);
    assert_int_equal(sql_number("SELECT count(*) FROM calls"), 0);
    assert_int_equal(sql_number("SELECT calls FROM runs"), 0);
    assert_int_equal(fixture_intend(calls, live, 1, "2.3"), INTENT_GO);
    sql_assert_text("2026-11-21 d20261121,t 2.3",
                    "SELECT concat_ws(' ', budget_day, array_to_string(budget_windows, ','),"
                    " budget_generation) FROM calls");
    sql_run("DELETE FROM budget_books");
    assert_int_equal(fixture_intend(calls, live, 2, "2.0"), INTENT_STALE_BOOK);
}

static void test_intent_without_a_budget_books_on_the_day_of_utc(void **state)
{
    struct live live = fixture_run_job();

    (void)state;
    assert_int_equal(fixture_intend(calls, live, 1, NULL), INTENT_GO);
    assert_int_equal(sql_number("SELECT count(*) FROM calls WHERE budget_windows IS NULL"
                                " AND budget_day = (now() AT TIME ZONE 'UTC')::date"
                                " AND budget_generation IS NULL"),
                     1);
}

static void test_intent_without_a_reservation_needs_to_have_heard_of_the_book(void **state)
{
    struct live live = fixture_run_job();

    (void)state;
    assert_int_equal(fixture_intend_knowing(calls, live, 1, NULL, 0), INTENT_GO);
    sql_run("INSERT INTO budget_books (tenant, generation) VALUES ('acme', 3)");
    assert_int_equal(fixture_intend_knowing(calls, live, 2, NULL, 0), INTENT_STALE_BOOK);
    assert_int_equal(fixture_intend_knowing(calls, live, 2, NULL, 2), INTENT_STALE_BOOK);
    assert_int_equal(sql_number("SELECT count(*) FROM calls"), 1);
    assert_int_equal(fixture_intend_knowing(calls, live, 2, NULL, 3), INTENT_GO);
    assert_int_equal(fixture_intend_knowing(calls, live, 3, NULL, INT64_MAX), INTENT_GO);
    sql_run("DELETE FROM budget_books");
    assert_int_equal(fixture_intend_knowing(calls, live, 4, NULL, 3), INTENT_GO);
}

/* --- gates ------------------------------------------------------------------------------------ */

struct told {
    bool is_told;
    struct end_reply reply;
};

static void on_end(const struct end_reply *reply, void *arg)
{
    *(struct told *)arg = (struct told){.is_told = true, .reply = *reply};
}

static struct end_reply requeue_run(const struct run_requeue *requeue)
{
    struct told told = {0};

    assert_true(run_requeue(ends, requeue, on_end, &told));
    await_flag(&told.is_told);
    return told.reply;
}

/* One job after the other refused: the gate's closing for each. */
static void refuse(const struct shut_gate *gate, int64_t delay_ms)
{
    struct live live = fixture_run_job();
    struct run_requeue requeue = {.job = live.job,
                                  .run_token = live.token,
                                  .delay_ms = delay_ms,
                                  .wait_reason = "rate_limit",
                                  .wait_detail = "60 requests",
                                  .reason = "rate_limit",
                                  .gate = gate};

    sql_run("UPDATE runs SET workflow = 'night', key_id = 'k1', model = 'fast', end_user = 'u'");
    assert_int_equal(requeue_run(&requeue).state, JOB_QUEUED);
}

static void test_refused_job_closes_the_gate_for_its_siblings(void **state)
{
    struct shut_gate gate = {
        .kind = LIMIT_WORKFLOW, .name = "night", .interval_us = 1000000, .most = -1};

    (void)state;
    refuse(&gate, 90000);
    sql_assert_text("acme workflow night rate_limit 60 requests 1000000 90",
                    "SELECT concat_ws(' ', tenant, kind, name, reason, detail, interval_us,"
                    " round(extract(epoch FROM until - now()))) FROM gates");
    /* It keeps its place, and what gates are matched with. */
    sql_assert_text("rate_limit night k1 fast u t",
                    "SELECT concat_ws(' ', wait_reason, workflow, key_id, model, end_user,"
                    " ready_at <= now()) FROM queue");
    sql_run("UPDATE gates SET closed_at = '2026-01-01', interval_us = 100000");
    refuse(&gate, 1000);
    sql_assert_text("151000 90 2026", /* slower, but not later, and still the same closing */
                    "SELECT concat_ws(' ', interval_us, round(extract(epoch FROM until - now())),"
                    " extract(year FROM closed_at)) FROM gates");
    assert_int_equal(sql_number("SELECT count(*) FROM gates WHERE closed_at < '2026-01-02'"), 1);
    sql_run("UPDATE gates SET until = now() - interval '7 s'");
    refuse(&gate, 1000); /* nobody was let through for long: it closes anew */
    assert_int_equal(sql_number("SELECT count(*) FROM gates WHERE closed_at < '2026-01-02'"), 0);
    sql_run("DELETE FROM gates");
}

int main(void)
{
#define LIVE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        LIVE(test_intent_of_a_stale_book_writes_nothing),
        LIVE(test_intent_without_a_budget_books_on_the_day_of_utc),
        LIVE(test_intent_without_a_reservation_needs_to_have_heard_of_the_book),
        LIVE(test_refused_job_closes_the_gate_for_its_siblings),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
