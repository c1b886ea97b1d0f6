/* SPDX-License-Identifier: Apache-2.0 */
/* Books of budgets through trouble, against a real Postgres and a real Redis: lost, flushed, torn,
 * old, raced for; they always end as the ledger says, and no call is paid for meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/money.h"
#include "common/model/book_store.h"
#include "common/model/call_resolve_store.h"
#include "tests/unit/book_fixture.h"
#include "tests/unit/redis_fixture.h"

enum { TENANTS = 1000, ROWS_EACH = 100 };

static void await_no_redis(const struct redis *redis)
{
    for (int tries = 0; redis_is_ready(redis); tries++) {
        assert_true(tries < 2000);
        turn_loop_ms(5);
    }
}

/* --- rebuilding ------------------------------------------------------------------------------- */

static void test_first_call_makes_the_binding_and_the_book(void **state)
{
    struct call call = running_call(10 * CENT);

    (void)state;
    assert_int_equal(process_ask(&one, &call), ADMISSION_STALE);
    process_rebuild(&one);
    assert_string_equal(limit_cache_run_id(one.cache), redis_run_id(one.redis));
    assert_int_equal(process_ask(&one, &call), ADMISSION_GO);
    assert_true(intend(&call));
    assert_day("0 100000000 0");
    process_settle(&one, &call, 3 * CENT);
    assert_day("30000000 0 0");
    assert_book_is_ledger("acme");
}

static void test_reserved_flushed_rebuilt_then_sent_is_refused(void **state)
{
    struct call late = running_call(60 * CENT), next = running_call(60 * CENT);

    (void)state;
    assert_int_equal(process_reserve(&one, &late), ADMISSION_GO);
    flush_redis();
    process_rebuild(&one);
    assert_int_equal(try_intent(&late), INTENT_STALE_BOOK); /* its reservation is gone */
    assert_int_equal(sql_number("SELECT count(*) FROM calls"), 0);
    assert_day("0 0 0");
    process_tell(&one, &late, ADMISSION_UNDONE, 0);
    process_await_settled(&one);
    assert_int_equal(process_ask(&one, &next), ADMISSION_GO);
    assert_true(intend(&next));
    assert_day("0 600000000 0");
    assert_int_equal(process_ask(&one, &late), ADMISSION_WAIT); /* both never fit together */
}

/* An intent as the statement of call_store makes it, for transactions left open. */
#define INTENT                                                                                   \
    "WITH binding AS (SELECT generation FROM budget_binding FOR SHARE),"                         \
    "     book AS (SELECT generation FROM budget_books WHERE tenant = 'acme' FOR SHARE) "        \
    "INSERT INTO calls (job, call, run, tenant, key_id, workflow, route, provider, model,"       \
    "                   input_nano_per_mtok, cached_nano_per_mtok, output_nano_per_mtok,"        \
    "                   reserved_nano, state, cost_nano, budget_day, budget_generation) "        \
    "SELECT '%s'::uuid, 1, 1, 'acme', 'k1', 'nightly', 'fast', 'p', 'm', 1, 1, 1, %lld, 'sent'," \
    "       %lld, '%s', '%s' "                                                                   \
    "FROM binding, book "                                                                        \
    "WHERE binding.generation || '.' || book.generation = '%s'"

#define INTENT_OF(call)                                                                  \
    hex((call)->job), (long long)(call)->amount, (long long)(call)->amount, (call)->day, \
        (call)->generation, (call)->generation

static void test_intent_under_way_is_waited_for_and_summed(void **state)
{
    struct call call = running_call(60 * CENT);

    (void)state;
    assert_int_equal(process_reserve(&one, &call), ADMISSION_GO);
    other_run("BEGIN");
    other_run(INTENT, INTENT_OF(&call));
    flush_redis();
    process_begin_rebuild(&one);
    await_blocked();
    assert_true(book_rebuild_outstanding(one.books) > 0);
    other_run("COMMIT");
    process_await_current(&one);
    assert_day("0 600000000 0");
    process_settle(&one, &call, 7 * CENT); /* by its name, which the ledger gave back */
    assert_day("70000000 0 0");
}

static void test_flush_in_the_middle_of_a_rebuild_begins_again(void **state)
{
    struct call call = running_call(60 * CENT);

    (void)state;
    assert_int_equal(process_reserve(&one, &call), ADMISSION_GO);
    assert_true(intend(&call));
    flush_redis();
    other_run("BEGIN; LOCK TABLE usage_deltas IN ACCESS EXCLUSIVE MODE"); /* holds up the sums */
    process_begin_rebuild(&one);
    for (int tries = 0; strncmp(book_field("gen").text, "building:", 9) != 0; tries++) {
        assert_true(tries < 500);
        turn_loop_ms(2);
    }
    flush_redis();
    other_run("COMMIT");
    process_await_current(&one);
    assert_day("0 600000000 0");
    assert_book_is_ledger("acme");
}

static void test_settlement_between_mark_and_publish_is_kept_and_taken(void **state)
{
    struct call call = running_call(60 * CENT), next = running_call(CENT);

    (void)state;
    assert_int_equal(process_reserve(&one, &call), ADMISSION_GO);
    assert_true(intend(&call));
    flush_redis();
    other_run("BEGIN; LOCK TABLE usage_deltas IN EXCLUSIVE MODE"); /* lets the sums pass, not it */
    other_run("LOCK TABLE usage_days IN ACCESS EXCLUSIVE MODE");
    process_begin_rebuild(&one);
    for (int tries = 0; strncmp(book_field("gen").text, "building:", 9) != 0; tries++) {
        assert_true(tries < 500);
        turn_loop_ms(2);
    }
    other_run("UPDATE calls SET state = 'settled', cost_nano = 70000000 WHERE job = '%s'",
              hex(call.job));
    process_tell(&one, &call, ADMISSION_SETTLED, 7 * CENT);
    assert_int_equal(process_ask(&one, &next), ADMISSION_STALE); /* answered after it */
    assert_int_equal(admission_settles_kept(one.admission), 1);
    other_run("COMMIT");
    process_await_current(&one);
    process_await_settled(&one);
    assert_day("70000000 0 0");
    assert_book_is_ledger("acme");
}

static void test_settlement_after_the_sums_moves_the_record_that_they_found(void **state)
{
    struct call call = running_call(60 * CENT);

    (void)state;
    assert_int_equal(process_reserve(&one, &call), ADMISSION_GO);
    assert_true(intend(&call));
    flush_redis();
    process_rebuild(&one); /* it was sent when summed */
    process_settle(&one, &call, 7 * CENT);
    process_settle(&one, &call, 7 * CENT); /* told twice */
    assert_day("70000000 0 0");
    assert_book_is_ledger("acme");
}

static void test_mark_of_a_dead_rebuilder_is_built_over(void **state)
{
    struct call call = running_call(60 * CENT);
    char mark[BOOK_TEXT_SIZE];
    int64_t since_us = clock_monotonic_us();

    (void)state;
    assert_int_equal(process_reserve(&one, &call), ADMISSION_GO);
    assert_true(intend(&call));
    sql_run("UPDATE budget_books SET generation = generation + 1 WHERE tenant = 'acme'");
    process_refresh(&one);
    COMMAND("DEL", "{t:acme}:book");
    snprintf(mark, sizeof(mark), "building:%s", limit_cache_tenant(one.cache, "acme")->generation);
    book_set_field("gen", mark);
    book_rebuild_want(one.books, "acme", limit_cache_tenant(one.cache, "acme")->generation,
                      BOOK_STALE);
    process_await_no_wants(&one);
    assert_true(clock_monotonic_us() - since_us > 1900 * US_PER_MS); /* it had its time */
    assert_day("0 600000000 0");
    assert_book_is_ledger("acme");
}

static void test_two_rebuilders_at_once_agree(void **state)
{
    struct call call = running_call(60 * CENT);

    (void)state;
    process_start(&two, 1);
    assert_int_equal(process_reserve(&one, &call), ADMISSION_GO);
    assert_true(intend(&call));
    for (int round = 0; round < 10; round++) {
        flush_redis();
        process_begin_rebuild(&one);
        process_begin_rebuild(&two);
        process_await_rebuilt(&one);
        process_await_rebuilt(&two);
        assert_book_is_ledger("acme");
    }
    assert_day("0 600000000 0");
}

static void on_bumped(const struct pg_reply *reply, void *arg)
{
    int *rows = arg;

    assert_int_equal(reply->status, PG_OK);
    *rows = pg_rows(reply->result);
}

/* All saw the same loss; one makes the book anew, the others find it made. */
static void test_one_of_many_raises_the_generation(void **state)
{
    enum { PROCESSES = 8 };
    struct book_seen seen = {
        .tenant = "acme",
        .generation = sql_number("SELECT generation FROM budget_books WHERE tenant = 'acme'")};
    int rows[PROCESSES], raised = 0;

    (void)state;
    for (int i = 0; i < PROCESSES; i++) {
        rows[i] = -1;
        book_bump(fixture_pg[i % 2], &seen, 1, on_bumped, &rows[i]);
    }
    for (int i = 0; i < PROCESSES; i++) {
        for (int tries = 0; rows[i] < 0; tries++) {
            assert_true(tries < 2000);
            turn_loop_ms(5);
        }
        raised += rows[i];
    }
    assert_int_equal(raised, 1);
    assert_int_equal(sql_number("SELECT generation FROM budget_books WHERE tenant = 'acme'"),
                     seen.generation + 1);
}

static void test_old_copy_of_redis_is_not_believed(void **state)
{
    struct call before = running_call(10 * CENT), after = running_call(80 * CENT),
                third = running_call(20 * CENT);
    struct err err = {0};

    (void)state;
    assert_int_equal(process_reserve(&one, &before), ADMISSION_GO);
    assert_true(intend(&before));
    process_settle(&one, &before, 10 * CENT);
    COMMAND("SAVE");
    assert_int_equal(process_ask(&one, &after), ADMISSION_GO);
    assert_true(intend(&after));
    process_settle(&one, &after, 80 * CENT);
    redis_fixture_crash(fixture_redis);
    await_no_redis(fixture_side);
    await_no_redis(one.redis);
    assert_true(redis_fixture_restart(fixture_redis, &err));
    await_redis(fixture_side);
    await_redis(one.redis);
    assert_day("100000000 0 0"); /* the copy: as if 80 cents had never been spent */
    assert_string_equal(book_field("gen").text, after.generation);
    assert_int_equal(process_ask(&one, &third), ADMISSION_STALE);
    assert_true(third.answer.is_other_redis);
    process_rebuild(&one);
    assert_int_equal(process_ask(&one, &third), ADMISSION_WAIT);
    assert_day("900000000 0 0");
    assert_book_is_ledger("acme");
}

static void test_new_budget_counts_what_was_spent_before(void **state)
{
    struct call first = running_call(50 * CENT), second = running_call(50 * CENT),
                third = running_call(60 * CENT);

    (void)state;
    put_limits("acme", "{\"requests_per_minute\": 1000}");
    process_ask(&one, &first);
    process_ask(&one, &second);
    assert_true(intend(&first));
    assert_true(intend(&second));
    settle_in_postgres(&first, 30 * CENT);
    put_limits("acme", "{\"budget_usd\": {\"total\": \"1.000000000\"}, \"workflows\": "
                       "{\"*\": {\"budget_usd\": {\"month\": \"0.900000000\"}}}}");
    assert_int_equal(process_reserve(&one, &third), ADMISSION_WAIT);
    assert_string_equal(book_field("a:tenant|t").text, "300000000 500000000 0");
    process_settle(&one, &second,
                   5 * CENT); /* its reservation was not made there, and is settled there */
    assert_string_equal(book_field("a:tenant|t").text, "350000000 0 0");
    assert_int_equal(process_ask(&one, &third), ADMISSION_WAIT);
    assert_int_equal(third.answer.scope, LIMIT_WORKFLOW);
    assert_book_is_ledger("acme");
}

static void test_call_over_midnight_stays_in_its_day(void **state)
{
    struct call call = running_call(60 * CENT), next = running_call(90 * CENT);

    (void)state;
    assert_int_equal(process_reserve(&one, &call), ADMISSION_GO);
    assert_true(intend(&call));
    sql_run("UPDATE calls SET budget_day = budget_day - 1 WHERE job = '%s'", hex(call.job));
    flush_redis();
    process_rebuild(&one);
    assert_day("0 0 0");
    assert_int_equal(process_ask(&one, &next), ADMISSION_GO);
    assert_true(intend(&next));
    process_settle(&one, &call, 30 * CENT);
    assert_day("0 900000000 0");
    sql_assert_text("300000000",
                    "SELECT sum(cost_nano)::text FROM calls WHERE budget_day = '%s'::date - 1",
                    call.day);
    assert_book_is_ledger("acme"); /* yesterday's account too */
}

static void test_totals_outlive_the_ledger(void **state)
{
    struct call call = running_call(10 * CENT), next = running_call(90 * CENT);

    (void)state;
    put_limits("acme", "{\"budget_usd\": {\"total\": \"1.000000000\"}}");
    assert_int_equal(process_reserve(&one, &call), ADMISSION_GO);
    assert_true(intend(&call));
    process_settle(&one, &call, 20 * CENT);
    sql_run("DELETE FROM calls"); /* as a partition goes */
    flush_redis();
    process_rebuild(&one);
    assert_string_equal(book_field("a:tenant|t").text, "200000000 0 0");
    assert_int_equal(process_ask(&one, &next), ADMISSION_WAIT);
}

/* --- resolving -------------------------------------------------------------------------------- */

struct resolved {
    bool is_told;
    enum admin_outcome outcome;
    int64_t cost;
};

static void on_resolved(const struct admin_reply *reply, void *arg)
{
    struct resolved *resolved = arg;
    struct resolved_call call;

    resolved->outcome = reply->outcome;
    if (reply->outcome == ADMIN_DONE) {
        resolved_call_read(reply, &call);
        resolved->cost = call.cost_nano;
        assert_string_equal(call.tenant, "acme");
        assert_int_equal(call.run, 1);
    }
    resolved->is_told = true;
}

static struct resolved resolve(const struct call *call, const struct call_resolution *resolution)
{
    struct resolved resolved = {.is_told = false};

    assert_true(
        call_resolve(fixture_pg[0], call->job, 1, resolution, "key:admin", on_resolved, &resolved));
    await_flag(&resolved.is_told);
    return resolved;
}

static void test_unknown_call_is_resolved_once_by_cost_or_usage(void **state)
{
    struct call sent = running_call(10 * CENT), by_cost = running_call(10 * CENT),
                by_usage = running_call(10 * CENT);
    const struct call_resolution cost = {.cost_nano = 123};
    /* at the prices of the row, rounded up once */
    const struct call_resolution usage = {
        .cost_nano = -1, .input_tokens = 100, .cached_input_tokens = 30, .output_tokens = 7};
    const struct price price = {1000001, 2000000, 3000000};

    (void)state;
    assert_int_equal(process_reserve(&one, &sent), ADMISSION_GO);
    assert_int_equal(process_ask(&one, &by_cost), ADMISSION_GO);
    assert_int_equal(process_ask(&one, &by_usage), ADMISSION_GO);
    assert_int_equal(resolve(&sent, &cost).outcome, ADMIN_MISSING);
    assert_true(intend(&sent) && intend(&by_cost) && intend(&by_usage));
    assert_int_equal(resolve(&sent, &cost).outcome, ADMIN_CONFLICT);
    sql_run("UPDATE calls SET input_nano_per_mtok = 1000001, cached_nano_per_mtok = 2000000,"
            "    output_nano_per_mtok = 3000000;"
            "UPDATE calls SET state = 'unknown' WHERE job IN ('%s', '%s')",
            hex(by_cost.job), hex(by_usage.job));
    assert_int_equal(resolve(&by_cost, &cost).cost, 123);
    assert_int_equal(resolve(&by_cost, &cost).outcome, ADMIN_CONFLICT);
    assert_int_equal(resolve(&by_usage, &usage).cost, money_cost(&price, 100, 30, 7));
    assert_int_equal(sql_number("SELECT sum(cost_nano)::int8 FROM usage_deltas"),
                     123 + money_cost(&price, 100, 30, 7));
    assert_int_equal(sql_number("SELECT sum(unknown_nano)::int8 FROM usage_deltas"), 0);
    assert_int_equal(sql_number("SELECT count(*) FROM audit WHERE action = 'call.resolve'"
                                "  AND object = 'call:%s_1'",
                                hex(by_usage.job)),
                     1);
}

/* --- many ------------------------------------------------------------------------------------- */

static bool want_tenant(const char *tenant, const struct tenant_limits *limits, void *arg)
{
    (void)arg;
    book_rebuild_want(one.books, tenant, limits->generation, BOOK_STALE);
    return true;
}

static void make_many(void)
{
    sql_run("INSERT INTO tenants (id, name, webhook_secret) "
            "SELECT 't' || n, 't', '' FROM generate_series(1, %d) AS n;"
            "INSERT INTO limits (owner_kind, owner, document) "
            "SELECT 'tenant', id, '{\"budget_usd\": {\"day\": \"5.000000000\", \"month\":"
            "    \"50.000000000\"}, \"workflows\": {\"*\": {\"budget_usd\":"
            "    {\"day\": \"1.000000000\"}}}}' "
            "FROM tenants WHERE id <> 'acme';"
            "INSERT INTO budget_books (tenant) SELECT id FROM tenants WHERE id <> 'acme'",
            TENANTS);
    sql_run("INSERT INTO calls (job, call, run, tenant, key_id, workflow, end_user, route,"
            "                   provider, model, input_nano_per_mtok, cached_nano_per_mtok,"
            "                   output_nano_per_mtok, reserved_nano, state, cost_nano, budget_day,"
            "                   started_at) "
            "SELECT id_make(), 1, 1, 't' || t, 'k', 'w' || r %% 5, 'u' || r %% 20, 'fast', 'p',"
            "       'm', 1, 1, 1, 1000 + r, CASE WHEN r %% 50 = 0 THEN 'unknown'"
            "       WHEN r %% 33 = 0 THEN 'sent' ELSE 'settled' END, 1000 + r,"
            "       (now() AT TIME ZONE 'UTC')::date - r %% 3, now() - r %% 3 * interval '1 day' "
            "FROM generate_series(1, %d) AS t, generate_series(1, %d) AS r",
            TENANTS, ROWS_EACH);
    process_refresh(&one);
}

static void test_a_thousand_books_of_100000_rows_are_current_within_5_s(void **state)
{
    int64_t since_us, took_us;

    (void)state;
    make_many();
    since_us = clock_monotonic_us();
    limit_cache_each_budget(one.cache, want_tenant, NULL);
    assert_true(book_rebuild_outstanding(one.books) >= TENANTS);
    while (book_rebuild_outstanding(one.books) > 0) {
        assert_true(clock_monotonic_us() - since_us < 30 * US_PER_S);
        turn_loop_ms(2);
    }
    took_us = clock_monotonic_us() - since_us;
    print_message("%d books of %d rows made anew in %lld ms\n", TENANTS, TENANTS * ROWS_EACH,
                  (long long)(took_us / US_PER_MS));
    assert_true(took_us < 5 * US_PER_S);
    assert_book_is_ledger("t1");
    assert_book_is_ledger("t777");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, book_set_up, book_tear_down)
        TEST(test_first_call_makes_the_binding_and_the_book),
        TEST(test_reserved_flushed_rebuilt_then_sent_is_refused),
        TEST(test_intent_under_way_is_waited_for_and_summed),
        TEST(test_flush_in_the_middle_of_a_rebuild_begins_again),
        TEST(test_settlement_between_mark_and_publish_is_kept_and_taken),
        TEST(test_settlement_after_the_sums_moves_the_record_that_they_found),
        TEST(test_mark_of_a_dead_rebuilder_is_built_over),
        TEST(test_two_rebuilders_at_once_agree),
        TEST(test_one_of_many_raises_the_generation),
        TEST(test_old_copy_of_redis_is_not_believed),
        TEST(test_new_budget_counts_what_was_spent_before),
        TEST(test_call_over_midnight_stays_in_its_day),
        TEST(test_totals_outlive_the_ledger),
        TEST(test_unknown_call_is_resolved_once_by_cost_or_usage),
        TEST(test_a_thousand_books_of_100000_rows_are_current_within_5_s),
    };

    return cmocka_run_group_tests(tests, book_group_start, book_group_stop);
}
