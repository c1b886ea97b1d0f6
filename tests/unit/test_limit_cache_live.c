/* SPDX-License-Identifier: Apache-2.0 */
/* The copy of all limits beside a real Postgres: what is seen, how soon, and over which commits. */
#include "common/model/limit_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/model/book_redis.h"
#include "common/model/budget_alert_store.h"
#include "common/model/limit_store.h"
#include "tests/unit/postgres_fixture.h"
#include "tests/unit/store_fixture.h"

#define NANO_PER_CENT INT64_C(10000000)

enum { SOON_US = 2 * 1000 * 1000 };

static struct limit_cache *cache;

static void on_polled(bool ok, void *arg)
{
    *(int *)arg = ok ? 1 : 2;
}

static void poll_now(void)
{
    int told = 0;

    assert_true(limit_cache_poll(cache, on_polled, &told));
    await_count(&told, 1);
    assert_int_equal(told, 1);
}

static int set_up(void **state)
{
    fixture_reset(state);
    sql_run("DELETE FROM limits; DELETE FROM budget_books; DELETE FROM api_keys;"
            "UPDATE budget_binding SET run_id = '', generation = 0;"
            "UPDATE tenants SET weight = 1, is_disabled = false");
    cache = limit_cache_new(fixture_base, fixture_pg[0]);
    assert_non_null(cache);
    poll_now();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    limit_cache_free(cache);
    return 0;
}

static void put_limits(const char *kind, const char *owner, const char *document)
{
    sql_run("INSERT INTO limits (owner_kind, owner, document) VALUES ('%s', '%s', '%s')"
            " ON CONFLICT (owner_kind, owner) DO UPDATE SET document = excluded.document",
            kind, owner, document);
}

static void make_key(const char *id, const char *tenant)
{
    sql_run("INSERT INTO api_keys (id, tenant, name, scopes, hash)"
            " VALUES ('%s', '%s', 'n', '{jobs:write}', '\\x00')",
            id, tenant);
}

static int64_t tenant_queued(const char *tenant)
{
    struct applied_limit out[LIMIT_SCOPE_COUNT];
    int count = limit_cache_apply(cache, tenant, "k", NULL, NULL, "m", out);

    return count > 0 ? out[0].set->max_queued : -1;
}

static void test_a_new_limit_is_known_within_two_seconds(void **state)
{
    int64_t since_us = clock_monotonic_us();

    (void)state;
    assert_true(limit_cache_is_ready(cache));
    assert_int_equal(tenant_queued("acme"), -1);
    put_limits("tenant", "acme", "{\"max_queued\":7}");
    while (tenant_queued("acme") != 7) {
        assert_true(clock_monotonic_us() - since_us < SOON_US);
        turn_loop_ms(10);
    }
    put_limits("tenant", "acme", "{}");
    poll_now();
    assert_int_equal(tenant_queued("acme"), -1);
}

/* A transaction that was begun first and commits last is seen all the same. */
static void test_a_late_commit_is_not_missed(void **state)
{
    (void)state;
    other_run("BEGIN; INSERT INTO limits (owner_kind, owner, document)"
              " VALUES ('tenant', 'acme', '{\"max_queued\":5}')");
    sql_run("INSERT INTO tenants (id, name, webhook_secret, weight)"
            " VALUES ('late', 'late', '\\x00', 3) ON CONFLICT (id) DO UPDATE SET weight = 3");
    poll_now();
    poll_now();
    assert_int_equal(limit_cache_tenant(cache, "late")->weight, 3);
    assert_int_equal(tenant_queued("acme"), -1);
    other_run("COMMIT");
    poll_now();
    assert_int_equal(tenant_queued("acme"), 5);
}

static void test_generations_follow_binding_and_book(void **state)
{
    (void)state;
    assert_string_equal(limit_cache_tenant(cache, "acme")->generation, "0.0");
    sql_run("INSERT INTO budget_books (tenant, generation) VALUES ('acme', 4)");
    poll_now();
    assert_string_equal(limit_cache_tenant(cache, "acme")->generation, "0.4");
    sql_run("UPDATE budget_binding SET run_id = 'abc', generation = 9");
    poll_now();
    assert_string_equal(limit_cache_run_id(cache), "abc");
    assert_string_equal(limit_cache_tenant(cache, "acme")->generation, "9.4");
    assert_string_equal(limit_cache_tenant(cache, "nobody")->generation, "9.0");
    sql_run("UPDATE budget_books SET generation = generation + 1");
    poll_now();
    assert_string_equal(limit_cache_tenant(cache, "acme")->generation, "9.5");
}

static void test_a_disabled_tenant_and_its_return(void **state)
{
    (void)state;
    sql_run("UPDATE tenants SET is_disabled = true WHERE id = 'acme'");
    poll_now();
    assert_true(limit_cache_tenant(cache, "acme")->is_disabled);
    sql_run("UPDATE tenants SET is_disabled = false WHERE id = 'acme'");
    poll_now();
    assert_false(limit_cache_tenant(cache, "acme")->is_disabled);
}

/* What cannot be read came from a newer version: better no calls than calls without limits. */
static void test_a_document_nobody_can_read_makes_the_tenant_rest(void **state)
{
    (void)state;
    put_limits("tenant", "acme", "{\"max_queued\":7}");
    poll_now();
    put_limits("tenant", "acme", "{\"max_novelty\":7}");
    poll_now();
    assert_true(limit_cache_tenant(cache, "acme")->is_disabled);
    assert_int_equal(tenant_queued("acme"), 7);
    put_limits("tenant", "acme", "{\"max_queued\":8}");
    poll_now();
    assert_false(limit_cache_tenant(cache, "acme")->is_disabled);
    assert_int_equal(tenant_queued("acme"), 8);
}

static bool count_tenant(const char *tenant, const struct tenant_limits *limits, void *arg)
{
    (void)limits;
    assert_string_equal(tenant, "acme");
    ++*(int *)arg;
    return true;
}

static bool count_key(const char *key_id, struct limits *limits, void *arg)
{
    assert_string_equal(key_id, "key1");
    assert_true(limits_has_budget(limits));
    ++*(int *)arg;
    return true;
}

static void test_a_key_with_a_budget_makes_its_tenant_one_of_them(void **state)
{
    struct applied_limit out[LIMIT_SCOPE_COUNT];
    int tenants = 0, its_keys = 0;

    (void)state;
    make_key("key1", "acme");
    put_limits("key", "key1", "{\"budget_usd\":{\"total\":\"2\"},\"budget_policy\":\"fail\"}");
    poll_now();
    assert_int_equal(limit_cache_apply(cache, "acme", "key1", NULL, NULL, "m", out), 1);
    assert_int_equal(out[0].scope, LIMIT_KEY);
    assert_int_equal(limit_cache_policy(cache, "acme", "key1"), BUDGET_FAIL);
    assert_int_equal(limit_cache_policy(cache, "acme", "key2"), BUDGET_WAIT);
    limit_cache_each_budget(cache, count_tenant, &tenants);
    limit_cache_each_key(cache, "acme", count_key, &its_keys);
    limit_cache_each_key(cache, "other", count_key, &its_keys);
    assert_int_equal(tenants, 1);
    assert_int_equal(its_keys, 1);
    put_limits("key", "key1", "{}");
    poll_now();
    assert_null(limit_cache_key(cache, "key1"));
    limit_cache_each_budget(cache, count_tenant, &tenants);
    assert_int_equal(tenants, 1);
}

static void test_names_that_are_hashed_have_their_own_ceilings(void **state)
{
    static const struct {
        const char *name, *told;
        int64_t limit;
    } cases[] = {
        {"a|b", "a|b", 100 * NANO_PER_CENT},
        {"m\xc3\xbcller", "m\xc3\xbcller", 200 * NANO_PER_CENT},
        {"plain", "plain", 300 * NANO_PER_CENT},
        {"other one", NULL, 400 * NANO_PER_CENT}, /* of "*": nobody knows what it was hashed from */
    };
    struct budget_alert due[BUDGET_ALERT_LEVELS];
    char account[BOOK_ACCOUNT_SIZE];

    (void)state;
    put_limits("tenant", "acme",
               "{\"models\": {\"a|b\": {\"budget_usd\": {\"total\": \"1.000000000\"}},"
               "\"m\xc3\xbcller\": {\"budget_usd\": {\"total\": \"2.000000000\"}},"
               "\"plain\": {\"budget_usd\": {\"total\": \"3.000000000\"}},"
               "\"*\": {\"budget_usd\": {\"total\": \"4.000000000\"}}}}");
    poll_now();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct book_account spent = {.account = account, .spent_nano = cases[i].limit / 2};

        book_account_format(LIMIT_MODEL, cases[i].name, "t", account);
        assert_int_equal(budget_alerts_due(cache, "acme", &spent, clock_now_us(), due), 1);
        assert_int_equal(due[0].limit_nano, cases[i].limit);
        if (cases[i].told)
            assert_string_equal(due[0].name, cases[i].told);
        else
            assert_int_equal(due[0].name[0], '#');
    }
}

static int64_t us_of(const char *sql)
{
    return sql_number("SELECT (extract(epoch FROM %s) * 1000000)::bigint", sql);
}

static void test_windows_are_those_of_the_tenants_zone(void **state)
{
    int64_t end_us = us_of("((now() AT TIME ZONE 'Pacific/Auckland')::date + 1)"
                           "::timestamp AT TIME ZONE 'Pacific/Auckland'");
    struct budget_windows now, next;
    char day[32];

    (void)state;
    put_limits("tenant", "acme",
               "{\"time_zone\":\"Pacific/Auckland\",\"budget_usd\":{\"day\":\"1\"}}");
    poll_now();
    assert_true(limit_cache_windows(cache, "acme", clock_db_us(), &now));
    assert_int_equal(now.end_us[BUDGET_DAY], end_us);
    assert_true(now.end_us[BUDGET_TOTAL] == INT64_MAX);
    assert_string_equal(now.id[BUDGET_TOTAL], "t");
    snprintf(day, sizeof(day), "d%.4s%.2s%.2s", now.day, now.day + 5, now.day + 8);
    assert_string_equal(now.id[BUDGET_DAY], day);
    sql_assert_text(now.day, "SELECT (now() AT TIME ZONE 'Pacific/Auckland')::date::text");
    assert_memory_equal(now.id[BUDGET_MONTH] + 1, day + 1, 6);

    /* The next day is known too; what comes after it is not. */
    assert_true(limit_cache_windows(cache, "acme", end_us, &next));
    assert_string_not_equal(next.day, now.day);
    assert_true(limit_cache_windows(cache, "acme", end_us - 1, &next));
    assert_string_equal(next.day, now.day);
    assert_false(limit_cache_windows(cache, "acme", end_us + 3 * US_PER_DAY, &next));

    /* Without a zone it is UTC's day. */
    assert_true(limit_cache_windows(cache, "other", clock_db_us(), &now));
    sql_assert_text(now.day, "SELECT (now() AT TIME ZONE 'UTC')::date::text");
}

static void assert_window(const char *zone, const char *at, const char *expected)
{
    sql_assert_text(expected,
                    "SELECT day || ' ' || to_char(day_end AT TIME ZONE 'UTC', 'MM-DD HH24:MI')"
                    " || ' ' || to_char(month, 'MM') FROM budget_windows_at('%s', '%s')",
                    zone, at);
}

static void test_days_over_clock_changes_have_no_gap_and_no_overlap(void **state)
{
    (void)state;
    assert_window("Europe/Berlin", "2026-03-28T23:00Z", "2026-03-29 03-29 22:00 03"); /* 23 h */
    assert_window("Europe/Berlin", "2026-10-24T22:00Z", "2026-10-25 10-25 23:00 10"); /* 25 h */
    assert_window("Asia/Beirut", "2026-03-28T21:59Z", "2026-03-28 03-28 22:00 03");
    assert_window("Asia/Beirut", "2026-03-28T22:00Z", "2026-03-29 03-29 21:00 03");
    /* Midnight comes twice: the day ends with the second. */
    assert_window("America/Havana", "2026-11-01T04:30Z", "2026-10-31 11-01 05:00 10");
    assert_window("America/Havana", "2026-11-01T05:00Z", "2026-11-01 11-02 05:00 11");
    assert_window("No/Such", "2026-11-01T05:00Z", "2026-11-01 11-02 00:00 11");
}

static void test_who_waits_is_told_when_postgres_is_away(void **state)
{
    int told = 0;

    (void)state;
    put_limits("tenant", "acme", "{\"max_queued\":7}");
    poll_now();
    postgres_fixture_crash(fixture_postgres);
    assert_true(limit_cache_poll(cache, on_polled, &told));
    await_count(&told, 2);
    assert_int_equal(tenant_queued("acme"), 7);
    assert_true(limit_cache_is_ready(cache));
    fixture_restart();
    put_limits("tenant", "acme", "{\"max_queued\":9}");
    while (tenant_queued("acme") != 9)
        turn_loop_ms(10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_a_new_limit_is_known_within_two_seconds),
        TEST(test_a_late_commit_is_not_missed),
        TEST(test_generations_follow_binding_and_book),
        TEST(test_a_disabled_tenant_and_its_return),
        TEST(test_a_document_nobody_can_read_makes_the_tenant_rest),
        TEST(test_a_key_with_a_budget_makes_its_tenant_one_of_them),
        TEST(test_names_that_are_hashed_have_their_own_ceilings),
        TEST(test_windows_are_those_of_the_tenants_zone),
        TEST(test_days_over_clock_changes_have_no_gap_and_no_overlap),
        TEST(test_who_waits_is_told_when_postgres_is_away),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
