/* SPDX-License-Identifier: Apache-2.0 */
/* How much room there is, what of it the fast lane gets, and whose turn it is. */
#include "scheduler/fair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct feed_look look_of(int64_t slots, int64_t dealt, int64_t credits, bool has_backlog)
{
    struct feed_look look = {.slots = slots};

    for (int p = 0; p < PRIORITY_COUNT; p++) {
        look.of[p].dealt = dealt;
        look.of[p].credits = credits;
        look.of[p].has_backlog = has_backlog;
    }
    return look;
}

static void test_room_is_twice_the_slots_less_what_is_out(void **state)
{
    static const struct {
        int64_t slots, dealt, credits;
        int room;
    } cases[] = {
        {0, 0, 0, 0},   {10, 0, 0, 20}, {10, 5, 0, 15}, {10, 5, 5, 10},
        {10, 20, 0, 0}, {10, 5, 15, 0}, {10, 19, 5, 0}, {1, 1, 0, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct feed_look look = look_of(cases[i].slots, cases[i].dealt, cases[i].credits, true);
        int room[PRIORITY_COUNT];

        fair_room(&look, room);
        for (int p = 0; p < PRIORITY_COUNT; p++)
            assert_int_equal(room[p], cases[i].room);
    }
}

static void test_room_of_all_fits_one_batch(void **state)
{
    struct feed_look look = look_of(1000000, 0, 0, true);
    int room[PRIORITY_COUNT];

    (void)state;
    fair_room(&look, room);
    assert_int_equal(room[0] + room[1] + room[2], FEED_BATCH_MAX);
}

static void test_big_room_of_high_leaves_some_for_the_others(void **state)
{
    struct feed_look look = look_of(1000000, 0, 0, true);
    int room[PRIORITY_COUNT];

    (void)state;
    fair_room(&look, room);
    for (int p = 0; p < PRIORITY_COUNT; p++)
        assert_true(room[p] > 0);
    look.of[PRIORITY_HIGH].has_backlog = false; /* nobody there to take it */
    look.of[PRIORITY_NORMAL].has_backlog = false;
    fair_room(&look, room);
    assert_int_equal(room[PRIORITY_LOW], FEED_BATCH_MAX);
}

static void test_credits_leave_some_for_the_feeder(void **state)
{
    static const struct {
        int64_t slots, dealt;
        bool has_backlog;
        int64_t credits;
    } cases[] = {
        {0, 0, false, 0},     {100, 0, false, 175}, {100, 0, true, 50},
        {100, 200, false, 0}, {100, 300, true, 0},  {1, 0, false, 1},
        {1, 1, false, 0},     {1, 0, true, 0},      {2, 0, true, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct feed_look look = look_of(cases[i].slots, cases[i].dealt, 7, cases[i].has_backlog);
        int64_t credits[PRIORITY_COUNT];

        fair_credits(&look, credits);
        for (int p = 0; p < PRIORITY_COUNT; p++)
            assert_int_equal(credits[p], cases[i].credits);
    }
}

static struct feed_candidate candidate(int number, enum priority priority, int64_t ready_at_us)
{
    return (struct feed_candidate){
        .job = {.bytes = {(uint8_t)number}},
        .priority = priority,
        .ready_at_us = ready_at_us,
    };
}

static void assert_picks(const struct feed_candidate *candidates, size_t count, const int *room,
                         const int *numbers, size_t number_count)
{
    const struct feed_candidate *picks[FEED_BATCH_MAX];

    assert_int_equal(fair_pick(candidates, count, room, picks), number_count);
    for (size_t i = 0; i < number_count; i++)
        assert_int_equal(picks[i]->job.bytes[0], numbers[i]);
}

static void test_longest_ready_is_picked_first(void **state)
{
    const struct feed_candidate candidates[] = {
        candidate(3, PRIORITY_NORMAL, 30),
        candidate(1, PRIORITY_NORMAL, 10),
        candidate(2, PRIORITY_NORMAL, 20),
    };

    (void)state;
    assert_picks(candidates, 3, (const int[]){0, 3, 0}, (const int[]){1, 2, 3}, 3);
    assert_picks(candidates, 3, (const int[]){9, 2, 9}, (const int[]){1, 2}, 2);
    assert_picks(candidates, 3, (const int[]){9, 0, 9}, NULL, 0);
    assert_picks(candidates, 0, (const int[]){9, 9, 9}, NULL, 0);
}

static void test_older_job_goes_first_of_two_ready_together(void **state)
{
    const struct feed_candidate candidates[] = {
        candidate(2, PRIORITY_LOW, 10),
        candidate(1, PRIORITY_LOW, 10),
    };

    (void)state;
    assert_picks(candidates, 2, (const int[]){0, 0, 2}, (const int[]){1, 2}, 2);
}

static void test_priorities_do_not_take_each_others_room(void **state)
{
    const struct feed_candidate candidates[] = {
        candidate(5, PRIORITY_LOW, 1),    candidate(3, PRIORITY_NORMAL, 2),
        candidate(1, PRIORITY_HIGH, 9),   candidate(2, PRIORITY_HIGH, 10),
        candidate(4, PRIORITY_NORMAL, 3), candidate(6, PRIORITY_LOW, 4),
    };

    (void)state;
    assert_picks(candidates, 6, (const int[]){1, 1, 1}, (const int[]){1, 3, 5}, 3);
    assert_picks(candidates, 6, (const int[]){0, 9, 1}, (const int[]){3, 4, 5}, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_room_is_twice_the_slots_less_what_is_out),
        cmocka_unit_test(test_room_of_all_fits_one_batch),
        cmocka_unit_test(test_big_room_of_high_leaves_some_for_the_others),
        cmocka_unit_test(test_credits_leave_some_for_the_feeder),
        cmocka_unit_test(test_longest_ready_is_picked_first),
        cmocka_unit_test(test_older_job_goes_first_of_two_ready_together),
        cmocka_unit_test(test_priorities_do_not_take_each_others_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
