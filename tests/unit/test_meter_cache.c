/* SPDX-License-Identifier: Apache-2.0 */
/* What is remembered of meters, how long, and what submits take off it. */
#include "producer/meter_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "producer/routes.h"

enum { FRESH_US = METER_CACHE_FRESH_MS * 1000 };

static const int64_t start_us = 5 * US_PER_S;

static struct intake_meters meters_of(int64_t limit, int64_t remaining, int64_t reset_us)
{
    return (struct intake_meters){.is_known = true,
                                  .submits = {limit, remaining, reset_us},
                                  .tokens = {1000, 70, reset_us / 2}};
}

static int set_up(void **state)
{
    *state = meter_cache_new();
    return *state ? 0 : -1;
}

static int tear_down(void **state)
{
    meter_cache_free(*state);
    return 0;
}

static void put(struct meter_cache *cache, int64_t now_us, int64_t limit, int64_t remaining,
                int64_t reset_us)
{
    const struct intake_meters meters = meters_of(limit, remaining, reset_us);

    meter_cache_put(cache, "acme", "k1", now_us, &meters);
}

static struct intake_meters get(const struct meter_cache *cache, int64_t now_us)
{
    struct intake_meters meters = {.is_known = false};

    assert_true(meter_cache_get(cache, "acme", "k1", now_us, &meters));
    assert_true(meters.is_known);
    return meters;
}

static bool is_known(const struct meter_cache *cache, const char *tenant, const char *key_id,
                     int64_t now_us)
{
    struct intake_meters meters;

    return meter_cache_get(cache, tenant, key_id, now_us, &meters);
}

static void test_meters_are_known_for_a_quarter_of_a_second(void **state)
{
    static const struct {
        int64_t age_us;
        bool is_known;
    } cases[] = {
        {0, true}, {1, true}, {FRESH_US - 1, true}, {FRESH_US, false}, {10 * US_PER_S, false}};

    assert_int_equal(METER_CACHE_FRESH_MS, 250);
    assert_false(is_known(*state, "acme", "k1", start_us));
    put(*state, start_us, 60, 5, 900);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(is_known(*state, "acme", "k1", start_us + cases[i].age_us),
                         cases[i].is_known);
}

static void test_each_key_of_each_tenant_is_its_own(void **state)
{
    put(*state, start_us, 60, 5, 900);
    assert_false(is_known(*state, "acme", "k2", start_us));
    assert_false(is_known(*state, "acm", "ek1", start_us));
    assert_false(is_known(*state, "acmek", "1", start_us));
    assert_false(is_known(*state, "", "acmek1", start_us));
    assert_true(is_known(*state, "acme", "k1", start_us));
}

static void test_what_was_said_last_is_what_is_known(void **state)
{
    put(*state, start_us, 60, 5, 900);
    put(*state, start_us + 100, 120, 9, 0);
    assert_int_equal(get(*state, start_us + 200).submits.limit, 120);
    assert_int_equal(get(*state, start_us + 200).submits.remaining, 9);
    assert_int_equal(meter_cache_count(*state), 1);
    /* And it is good for as long again. */
    assert_true(is_known(*state, "acme", "k1", start_us + FRESH_US + 99));
    assert_false(is_known(*state, "acme", "k1", start_us + FRESH_US + 100));
}

static void test_a_reset_comes_nearer_and_what_is_left_stays(void **state)
{
    struct intake_meters meters;

    put(*state, start_us, 60, 5, 100000);
    meters = get(*state, start_us);
    assert_int_equal(meters.submits.reset_us, 100000);
    assert_int_equal(meters.tokens.reset_us, 50000);
    meters = get(*state, start_us + 60000);
    assert_int_equal(meters.submits.reset_us, 40000);
    assert_int_equal(meters.tokens.reset_us, 0);
    assert_int_equal(meters.submits.remaining, 5);
    assert_int_equal(meters.tokens.remaining, 70);
    assert_int_equal(get(*state, start_us + 200000).submits.reset_us, 0);
}

static void test_a_submit_is_taken_off_and_moves_the_reset(void **state)
{
    struct intake_meters meters;

    put(*state, start_us, 60, 5, 900000);
    meter_cache_take(*state, "acme", "k1", start_us + 10);
    meters = get(*state, start_us + 10);
    assert_int_equal(meters.submits.limit, 60);
    assert_int_equal(meters.submits.remaining, 4);
    assert_int_equal(meters.submits.reset_us, 1899990);
    assert_int_equal(meters.tokens.remaining, 70);
    /* A reset that has passed begins anew. */
    put(*state, start_us, 600, 60, 0);
    meter_cache_take(*state, "acme", "k1", start_us + 1000);
    assert_int_equal(get(*state, start_us + 1000).submits.reset_us, 100000);
}

static void test_a_submit_makes_nothing_fresh(void **state)
{
    put(*state, start_us, 60, 5, 900);
    meter_cache_take(*state, "acme", "k1", start_us + FRESH_US - 1);
    assert_true(is_known(*state, "acme", "k1", start_us + FRESH_US - 1));
    assert_false(is_known(*state, "acme", "k1", start_us + FRESH_US));
    meter_cache_take(*state, "acme", "k1", start_us + FRESH_US);
    assert_false(is_known(*state, "acme", "k1", start_us + FRESH_US));
    meter_cache_take(*state, "acme", "k2", start_us);
    assert_false(is_known(*state, "acme", "k2", start_us));
}

static void test_what_is_left_is_never_below_nothing(void **state)
{
    put(*state, start_us, 60, 1, 900);
    for (int i = 0; i < 3; i++)
        meter_cache_take(*state, "acme", "k1", start_us);
    assert_int_equal(get(*state, start_us).submits.remaining, 0);
}

static void test_where_submits_are_not_limited_nothing_is_taken(void **state)
{
    static const int64_t limits[] = {-1, 0};

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        put(*state, start_us, limits[i], 0, 0);
        meter_cache_take(*state, "acme", "k1", start_us);
        assert_int_equal(get(*state, start_us).submits.limit, limits[i]);
        assert_int_equal(get(*state, start_us).submits.remaining, 0);
        assert_int_equal(get(*state, start_us).submits.reset_us, 0);
    }
}

static void put_number(struct meter_cache *cache, int number, int64_t now_us)
{
    const struct intake_meters meters = meters_of(60, number, 0);
    char key_id[CALLER_KEY_SIZE];

    snprintf(key_id, sizeof(key_id), "k%d", number);
    meter_cache_put(cache, "acme", key_id, now_us, &meters);
    assert_true(is_known(cache, "acme", key_id, now_us));
    assert_in_range(meter_cache_count(cache), 1, METER_CACHE_ENTRIES_MAX);
}

static void test_of_too_many_the_old_ones_are_forgotten(void **state)
{
    for (int i = 0; i < METER_CACHE_ENTRIES_MAX; i++)
        put_number(*state, i, i < 3000 ? start_us : start_us + 1000);
    assert_int_equal(meter_cache_count(*state), METER_CACHE_ENTRIES_MAX);
    put_number(*state, 3500, start_us + 1000); /* known already: nobody has to go */
    assert_int_equal(meter_cache_count(*state), METER_CACHE_ENTRIES_MAX);
    put_number(*state, 9999, start_us + FRESH_US);
    assert_int_equal(meter_cache_count(*state), METER_CACHE_ENTRIES_MAX - 3000 + 1);
    assert_true(is_known(*state, "acme", "k3000", start_us + FRESH_US));
    assert_false(is_known(*state, "acme", "k2999", start_us + FRESH_US));
}

static void test_of_too_many_at_once_all_are_forgotten(void **state)
{
    /* To forget the hundred old ones alone would make every newcomer look through all. */
    for (int i = 0; i < METER_CACHE_ENTRIES_MAX; i++)
        put_number(*state, i, i < 100 ? start_us : start_us + 1000);
    put_number(*state, METER_CACHE_ENTRIES_MAX, start_us + FRESH_US);
    assert_int_equal(meter_cache_count(*state), 1);
    for (int i = 0; i < 3 * METER_CACHE_ENTRIES_MAX; i++)
        put_number(*state, i, start_us + FRESH_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_meters_are_known_for_a_quarter_of_a_second, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_each_key_of_each_tenant_is_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_said_last_is_what_is_known, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_reset_comes_nearer_and_what_is_left_stays, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_submit_is_taken_off_and_moves_the_reset, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_submit_makes_nothing_fresh, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_left_is_never_below_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_where_submits_are_not_limited_nothing_is_taken, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_of_too_many_the_old_ones_are_forgotten, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_of_too_many_at_once_all_are_forgotten, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
