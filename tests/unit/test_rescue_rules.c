/* SPDX-License-Identifier: Apache-2.0 */
/* When rescue holds back, and how long jobs wait after crashes. */
#include "scheduler/rescue_rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/base/clock.h"

/* A pass at at_s seconds; the database has been there since 0 s. */
static bool pass(struct rescue_memory *memory, int at_s, int error_at_s)
{
    struct rescue_facts facts = {
        .now_us = at_s * US_PER_S,
        .last_error_us = error_at_s * US_PER_S,
        .connected_us = 0,
    };

    return rescue_may_pass(memory, &facts);
}

static void test_first_pass_of_a_leader_only_looks_around(void **state)
{
    struct rescue_memory memory = {0};

    (void)state;
    assert_false(pass(&memory, 100, 0));
    assert_true(pass(&memory, 101, 0));
}

static void test_pass_after_a_gap_is_skipped(void **state)
{
    struct rescue_memory memory = {.last_us = 100 * US_PER_S};

    (void)state;
    assert_true(pass(&memory, 103, 0));
    assert_false(pass(&memory, 107, 0));
    assert_true(pass(&memory, 108, 0));
}

static void test_pass_after_an_error_is_skipped_but_not_for_ever(void **state)
{
    struct rescue_memory memory = {.last_us = 100 * US_PER_S};

    (void)state;
    assert_true(pass(&memory, 101, 99));
    assert_false(pass(&memory, 102, 101));
    assert_true(pass(&memory, 103, 103)); /* it failed again, as it always does */
    assert_false(pass(&memory, 104, 104));
    assert_true(pass(&memory, 105, 104));
    assert_true(pass(&memory, 106, 104));
}

static void test_database_that_just_came_back_gives_workers_a_moment(void **state)
{
    struct rescue_memory memory = {.last_us = 100 * US_PER_S};
    struct rescue_facts facts = {.now_us = 101 * US_PER_S, .connected_us = 100 * US_PER_S};

    (void)state;
    assert_false(rescue_may_pass(&memory, &facts));
    facts.now_us = 103 * US_PER_S;
    assert_true(rescue_may_pass(&memory, &facts));
}

static void test_most_workers_are_lost_only_on_the_second_look(void **state)
{
    static const struct {
        int workers, stale;
        bool at_once;
    } cases[] = {
        {0, 0, true},  {1, 1, true},  {2, 0, true},  {2, 1, true},
        {2, 2, false}, {3, 2, false}, {10, 5, true}, {10, 6, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rescue_memory memory = {0};
        int64_t now_us = 50 * US_PER_S;

        assert_int_equal(rescue_may_declare(&memory, now_us, cases[i].workers, cases[i].stale),
                         cases[i].at_once);
        if (cases[i].at_once)
            continue;
        assert_false(
            rescue_may_declare(&memory, now_us + US_PER_S, cases[i].workers, cases[i].stale));
        assert_true(
            rescue_may_declare(&memory, now_us + 2 * US_PER_S, cases[i].workers, cases[i].stale));
    }
}

static void test_suspicion_ends_when_most_beat_again(void **state)
{
    struct rescue_memory memory = {0};

    (void)state;
    assert_false(rescue_may_declare(&memory, 1 * US_PER_S, 4, 4));
    assert_true(rescue_may_declare(&memory, 2 * US_PER_S, 4, 1));
    assert_false(rescue_may_declare(&memory, 3 * US_PER_S, 4, 4));
    assert_false(rescue_may_declare(&memory, 4 * US_PER_S, 4, 4));
}

static void test_delay_grows_with_each_crash(void **state)
{
    static const struct rescue_delay expected[] = {
        {0, 1000},        {4000, 8000},     {16000, 32000},   {64000, 128000},
        {256000, 512000}, {300000, 600000}, {300000, 600000},
    };

    (void)state;
    for (int i = 0; i < (int)(sizeof(expected) / sizeof(expected[0])); i++) {
        assert_int_equal(rescue_delay(i + 1).min_ms, expected[i].min_ms);
        assert_int_equal(rescue_delay(i + 1).max_ms, expected[i].max_ms);
    }
    assert_int_equal(rescue_delay(1000000).max_ms, 600000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_pass_of_a_leader_only_looks_around),
        cmocka_unit_test(test_pass_after_a_gap_is_skipped),
        cmocka_unit_test(test_pass_after_an_error_is_skipped_but_not_for_ever),
        cmocka_unit_test(test_database_that_just_came_back_gives_workers_a_moment),
        cmocka_unit_test(test_most_workers_are_lost_only_on_the_second_look),
        cmocka_unit_test(test_suspicion_ends_when_most_beat_again),
        cmocka_unit_test(test_delay_grows_with_each_crash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
