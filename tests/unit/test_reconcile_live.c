/* SPDX-License-Identifier: Apache-2.0 */
/* Reconciling books of budgets with the ledger, against a real Postgres and a real Redis: what is
 * dead, resolved, lost or drifted is found and mended, and thresholds are told once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "scheduler/reconcile.h"
#include "tests/unit/book_fixture.h"
#include "tests/unit/metric_fixture.h"
#include "tests/unit/scheduler_fixture.h"

static struct fixture_scheduler *scheduler;

static void scheduler_start(void)
{
    reconcile_declare_metrics();
    scheduler = fixture_scheduler_new("one");
    scheduler->scheduler.books_pg = fixture_pg[0];
    scheduler->scheduler.limits = one.cache;
    scheduler->scheduler.budget_redis = one.redis;
    scheduler->scheduler.admission = one.admission;
    scheduler->scheduler.books = one.books;
    scheduler->scheduler.reconcile = reconcile_new();
    fixture_lead(scheduler);
}

static void scheduler_stop(void)
{
    reconcile_free(scheduler->scheduler.reconcile);
    fixture_scheduler_free(scheduler);
}

static int64_t drift_told(void)
{
    return metric_value("nightshift_budget_drift_nano_total");
}

/* Makes a reservation look as if it was made long ago. */
static void age_record(const struct call *call)
{
    char name[ADMISSION_NAME_SIZE + 2] = "r:", state, accounts[BOOK_TEXT_SIZE],
                                    aged[2 * BOOK_TEXT_SIZE];
    long long amount, at, owner;
    struct side_answer answer;

    admission_name_format(call->job, 1, 1, name + 2);
    answer = book_field(name);
    assert_int_equal(
        sscanf(answer.text, "%c %lld %lld %lld %399[^\n]", &state, &amount, &at, &owner, accounts),
        5);
    snprintf(aged, sizeof(aged), "%c %lld %lld %lld %s", state, amount, at - 60 * US_PER_S, owner,
             accounts);
    book_set_field(name, aged);
}

/* The call from its reservation to its intent: it is out. */
static void send_out(struct call *call)
{
    assert_int_equal(process_reserve(&one, call), ADMISSION_GO);
    assert_true(intend(call));
}

/* The call from its reservation to what it cost. */
static void pay(struct call *call, int64_t cost)
{
    send_out(call);
    process_settle(&one, call, cost);
}

static void reconcile(void)
{
    assert_true(fixture_pass(scheduler, "reconcile"));
    process_await_settled(&one);
}

static void test_dead_reservations_become_what_the_ledger_says(void **state)
{
    struct call settled = running_call(10 * CENT), never_sent = running_call(11 * CENT),
                lost = running_call(12 * CENT), live = running_call(13 * CENT),
                undecided = running_call(14 * CENT);

    (void)state;
    scheduler_start();
    assert_int_equal(process_reserve(&one, &settled), ADMISSION_GO);
    assert_int_equal(process_ask(&one, &never_sent), ADMISSION_GO);
    assert_int_equal(process_ask(&one, &lost), ADMISSION_GO);
    assert_int_equal(process_ask(&one, &live), ADMISSION_GO);
    assert_int_equal(process_ask(&one, &undecided), ADMISSION_GO);
    assert_true(intend(&settled) && intend(&lost) && intend(&live));
    settle_in_postgres(&settled, 3 * CENT);
    sql_run("UPDATE calls SET state = 'unknown' WHERE job = '%s'", hex(lost.job));
    sql_run("DELETE FROM runs WHERE job IN ('%s', '%s')", hex(lost.job), hex(never_sent.job));
    assert_day("0 600000000 0");
    reconcile(); /* all are young: their workers may be about to speak */
    assert_day("0 600000000 0");
    age_record(&settled);
    age_record(&never_sent);
    age_record(&lost);
    age_record(&live);
    age_record(&undecided);
    reconcile();
    assert_day("30000000 270000000 120000000"); /* live and undecided are still out */
    process_settle(&one, &live, 1 * CENT);
    sql_run("DELETE FROM runs WHERE job = '%s'", hex(undecided.job));
    reconcile();
    assert_day("40000000 0 120000000");
    assert_book_is_ledger("acme");
    scheduler_stop();
}

static void test_unknown_call_that_was_resolved_behind_redis_is_moved(void **state)
{
    struct call call = running_call(10 * CENT);

    (void)state;
    scheduler_start();
    send_out(&call);
    sql_run("UPDATE calls SET state = 'unknown' WHERE job = '%s'", hex(call.job));
    process_tell(&one, &call, ADMISSION_UNKNOWN, 0);
    process_await_settled(&one);
    assert_day("0 0 100000000");
    settle_in_postgres(&call, 4 * CENT);
    reconcile();
    assert_day("40000000 0 0");
    assert_book_is_ledger("acme");
    scheduler_stop();
}

static void test_drift_is_found_counted_and_mended(void **state)
{
    struct call call = running_call(10 * CENT);
    int64_t before;

    (void)state;
    scheduler_start();
    before = drift_told();
    pay(&call, 4 * CENT);
    reconcile();
    reconcile();
    assert_int_equal(drift_told(), before);
    book_set_field(book_account_today("tenant"), "39999000 0 0");
    book_set_field("ver", "1000000");
    reconcile(); /* perhaps somebody is just late to tell Redis */
    assert_int_equal(drift_told(), before);
    reconcile();
    assert_int_equal(drift_told(), before + 1000);
    process_await_no_wants(&one);
    assert_day("40000000 0 0");
    assert_book_is_ledger("acme");
    reconcile();
    assert_int_equal(drift_told(), before + 1000);
    scheduler_stop();
}

static void test_shadow_budget_beside_an_enforced_one_is_no_drift(void **state)
{
    struct call call = running_call(10 * CENT);
    int64_t before;

    (void)state;
    scheduler_start();
    before = drift_told();
    put_limits("acme", "{\"budget_usd\": {\"day\": \"1.000000000\"}, \"workflows\": {\"nightly\": "
                       "{\"shadow\": true, \"budget_usd\": {\"day\": \"0.010000000\"}}}}");
    pay(&call, 4 * CENT);
    assert_string_equal(book_field(book_account_today("workflow:nightly")).text, "40000000 0 0");
    reconcile();
    reconcile();
    assert_int_equal(book_rebuild_outstanding(one.books), 0);
    assert_int_equal(drift_told(), before);
    assert_string_equal(book_field(book_account_today("workflow:nightly")).text, "40000000 0 0");
    assert_book_is_ledger("acme");
    process_rebuild_lost(&one);
    assert_string_equal(book_field(book_account_today("workflow:nightly")).text, "40000000 0 0");
    scheduler_stop();
}

static void test_calls_that_a_shadow_budget_missed_are_summed_and_no_drift(void **state)
{
    struct call missed = running_call(10 * CENT);
    struct budget_windows windows;
    int64_t before;

    (void)state;
    scheduler_start();
    before = drift_told();
    put_limits("acme", "{\"shadow\": true, \"budget_usd\": {\"day\": \"1.000000000\"}}");
    process_rebuild_lost(&one);
    sql_run("UPDATE budget_books SET bumped_at = now() - interval '1 h'");
    assert_true(limit_cache_windows(one.cache, "acme", clock_now_us(), &windows));
    snprintf(missed.day, sizeof(missed.day), "%s", windows.day);
    assert_true(intend(&missed)); /* as while Redis is away */
    process_settle(&one, &missed, 4 * CENT);
    assert_day("0 0 0");
    reconcile();
    reconcile();
    process_await_no_wants(&one);
    assert_day("40000000 0 0");
    assert_int_equal(drift_told(), before);
    scheduler_stop();
}

static void test_call_that_had_not_heard_of_the_new_budget_is_summed_later(void **state)
{
    struct call call = running_call(10 * CENT), late = running_call(20 * CENT);
    int64_t before;

    (void)state;
    scheduler_start();
    before = drift_told();
    pay(&call, 4 * CENT);
    late = (struct call){.job = late.job, .token = late.token, .amount = late.amount};
    snprintf(late.day, sizeof(late.day), "%s", call.day);
    assert_true(intend(&late)); /* without a generation */
    process_settle(&one, &late, 20 * CENT);
    assert_day("40000000 0 0");
    reconcile();
    process_await_no_wants(&one);
    assert_day("240000000 0 0");
    assert_book_is_ledger("acme");
    reconcile();
    assert_int_equal(drift_told(), before);
    scheduler_stop();
}

static void test_call_outside_any_budget_hides_no_drift(void **state)
{
    struct call call = running_call(10 * CENT), outside = running_call(20 * CENT);
    int64_t before;

    (void)state;
    scheduler_start();
    before = drift_told();
    put_limits("acme",
               "{\"workflows\": {\"nightly\": {\"budget_usd\": {\"day\": \"1.000000000\"}}}}");
    pay(&call, 4 * CENT);
    snprintf(outside.day, sizeof(outside.day), "%s", call.day);
    assert_true(intend(&outside));
    sql_run("UPDATE calls SET workflow = 'free' WHERE job = '%s'", hex(outside.job));
    /* A call that is out, and of no account: no record of it is kept. */
    assert_book_is_ledger("acme");
    process_settle(&one, &outside, 20 * CENT);
    reconcile();
    book_set_field(book_account_today("workflow:nightly"), "39999000 0 0");
    book_set_field("ver", "1000000");
    reconcile();
    assert_string_equal(book_field(book_account_today("workflow:nightly")).text,
                        "39999000 0 0"); /* perhaps somebody is just late */
    reconcile();
    assert_int_equal(drift_told(), before + 1000);
    process_await_no_wants(&one);
    assert_string_equal(book_field(book_account_today("workflow:nightly")).text, "40000000 0 0");
    assert_book_is_ledger("acme");
    scheduler_stop();
}

static void test_lost_book_is_noticed_without_a_job(void **state)
{
    struct call call = running_call(10 * CENT);

    (void)state;
    scheduler_start();
    pay(&call, 4 * CENT);
    flush_redis();
    assert_true(fixture_pass(scheduler, "books"));
    process_await_no_wants(&one);
    assert_day("40000000 0 0");
    scheduler_stop();
}

static void test_rescue_tells_redis_at_once(void **state)
{
    static const char told[] = "0 0 100000000";
    struct call call = running_call(10 * CENT);

    (void)state;
    scheduler_start();
    send_out(&call);
    sql_run("UPDATE runs SET calls = 1 WHERE job = '%s';"
            "UPDATE workers SET beat_at = now() - interval '7 s'",
            hex(call.job));
    scheduler->scheduler.rescue_memory.last_us = clock_monotonic_us();
    scheduler->scheduler.rescue_memory.skipped_an_error = true;
    assert_true(fixture_pass(scheduler, "rescue"));
    for (int tries = 0; strcmp(book_field(book_account_today("tenant")).text, told) != 0; tries++) {
        assert_true(tries < 2000);
        turn_loop_ms(2);
    }
    process_await_settled(&one);
    assert_day(told);
    assert_book_is_ledger("acme");
    scheduler_stop();
}

/* --- alerts ----------------------------------------------------------------------------------- */

static int64_t alerts(int percent)
{
    return sql_number("SELECT count(*) FROM budget_alerts WHERE percent = %d", percent);
}

static void spend(int64_t cost)
{
    struct call call = running_call(cost);

    pay(&call, cost);
}

static void test_each_threshold_is_told_once(void **state)
{
    (void)state;
    scheduler_start();
    sql_run("INSERT INTO endpoints (id, tenant, url, events, secret) VALUES "
            "('ep_all', 'acme', 'http://a/', NULL, ''),"
            "('ep_money', 'acme', 'http://b/', '{budget.threshold}', ''),"
            "('ep_jobs', 'acme', 'http://c/', '{job.failed}', '')");
    spend(49 * CENT);
    reconcile();
    assert_int_equal(sql_number("SELECT count(*) FROM budget_alerts"), 0);
    spend(2 * CENT);
    reconcile();
    reconcile();
    assert_int_equal(alerts(50), 1);
    assert_int_equal(alerts(80), 0);
    assert_int_equal(sql_number("SELECT count(*) FROM deliveries WHERE type = 'budget.threshold'"),
                     2);
    sql_assert_text("0.510000000 1.000000000 tenant day 50",
                    "SELECT (b -> 'data' ->> 'spent_usd') || ' ' || (b -> 'data' ->> 'limit_usd')"
                    "    || ' ' || (b -> 'data' ->> 'scope') || ' ' || (b -> 'data' ->> 'window')"
                    "    || ' ' || (b -> 'data' ->> 'threshold_percent') "
                    "FROM (SELECT body::jsonb AS b FROM deliveries LIMIT 1) AS d");
    spend(39 * CENT);
    reconcile();
    assert_int_equal(alerts(80), 1);
    assert_int_equal(alerts(100), 0);
    sql_run("INSERT INTO gates (tenant, kind, name, until, reason) "
            "VALUES ('acme', 'tenant', '', now() + interval '1 h', 'budget')");
    spend(1 * CENT); /* so little fits, but not what waits */
    reconcile();
    assert_int_equal(alerts(100), 1);
    spend(9 * CENT);
    reconcile();
    reconcile_free(scheduler->scheduler.reconcile); /* another scheduler leads */
    scheduler->scheduler.reconcile = reconcile_new();
    reconcile();
    assert_int_equal(sql_number("SELECT count(*) FROM budget_alerts"), 3);
    assert_int_equal(sql_number("SELECT count(*) FROM deliveries WHERE type = 'budget.threshold'"),
                     6);
    scheduler_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, book_set_up, book_tear_down)
        TEST(test_dead_reservations_become_what_the_ledger_says),
        TEST(test_unknown_call_that_was_resolved_behind_redis_is_moved),
        TEST(test_drift_is_found_counted_and_mended),
        TEST(test_shadow_budget_beside_an_enforced_one_is_no_drift),
        TEST(test_calls_that_a_shadow_budget_missed_are_summed_and_no_drift),
        TEST(test_call_that_had_not_heard_of_the_new_budget_is_summed_later),
        TEST(test_call_outside_any_budget_hides_no_drift),
        TEST(test_lost_book_is_noticed_without_a_job),
        TEST(test_rescue_tells_redis_at_once),
        TEST(test_each_threshold_is_told_once),
    };

    return cmocka_run_group_tests(tests, book_group_start, book_group_stop);
}
