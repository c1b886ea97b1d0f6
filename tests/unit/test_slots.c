/* SPDX-License-Identifier: Apache-2.0 */
/* Shares of a worker's slots: guaranteed, lent, given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/base/backoff.h"
#include "worker/slots.h"

static int take_all(struct slots *slots, enum priority priority)
{
    int taken = 0;

    while (slots_room(slots, priority) > 0) {
        slots_take(slots, priority);
        taken++;
    }
    return taken;
}

static void test_shares_add_up_to_all_slots(void **state)
{
    (void)state;
    for (int total = 1; total <= 3000; total++) {
        struct slots slots;
        int sum = 0;

        slots_init(&slots, total);
        for (int p = 0; p < PRIORITY_COUNT; p++) {
            sum += slots.share[p];
            assert_true(slots.share[p] >= 0);
            assert_true(slots.reserve[p] <= slots.share[p]);
            if (total >= PRIORITY_COUNT)
                assert_true(slots.reserve[p] >= 1);
        }
        assert_int_equal(sum, total);
    }
}

static void test_shares_are_half_a_third_and_the_rest(void **state)
{
    static const struct {
        int total, high, normal, low;
    } cases[] = {
        {2000, 1000, 700, 300}, {100, 50, 35, 15}, {10, 6, 3, 1},
        {3, 1, 1, 1},           {2, 2, 0, 0},      {1, 1, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slots slots;

        slots_init(&slots, cases[i].total);
        assert_int_equal(slots.share[PRIORITY_HIGH], cases[i].high);
        assert_int_equal(slots.share[PRIORITY_NORMAL], cases[i].normal);
        assert_int_equal(slots.share[PRIORITY_LOW], cases[i].low);
    }
}

static void test_idle_shares_are_lent_but_for_the_reserves(void **state)
{
    struct slots slots;

    (void)state;
    slots_init(&slots, 100);
    assert_int_equal(take_all(&slots, PRIORITY_LOW), 100 - 5 - 3); /* high keeps 5, normal 3 */
    assert_int_equal(take_all(&slots, PRIORITY_HIGH), 5);
    assert_int_equal(take_all(&slots, PRIORITY_NORMAL), 3);
    assert_int_equal(slots_used(&slots), 100);
}

static void test_one_slot_serves_everybody(void **state)
{
    (void)state;
    for (int p = 0; p < PRIORITY_COUNT; p++) {
        struct slots slots;

        slots_init(&slots, 1);
        assert_int_equal(take_all(&slots, (enum priority)p), 1);
    }
}

static void test_lent_share_returns_to_its_hungry_owner(void **state)
{
    struct slots slots;

    (void)state;
    slots_init(&slots, 100);
    take_all(&slots, PRIORITY_LOW); /* 92 */
    take_all(&slots, PRIORITY_HIGH);
    slots.is_hungry[PRIORITY_HIGH] = true;
    slots.is_hungry[PRIORITY_LOW] = true;
    for (int ended = 0; ended < 45; ended++) {
        slots_give(&slots, PRIORITY_LOW);
        assert_int_equal(slots_room(&slots, PRIORITY_LOW), 0);
        assert_int_equal(slots_room(&slots, PRIORITY_HIGH), 1);
        slots_take(&slots, PRIORITY_HIGH);
    }
    /* High has its 50; what ends now may be borrowed again, but for normal's reserve. */
    assert_int_equal(slots.used[PRIORITY_HIGH], 50);
    slots_give(&slots, PRIORITY_LOW);
    assert_int_equal(slots_room(&slots, PRIORITY_LOW), 1);
}

static void test_borrower_above_its_share_yields_to_hungry_low(void **state)
{
    struct slots slots;

    (void)state;
    slots_init(&slots, 100);
    take_all(&slots, PRIORITY_HIGH);
    slots.is_hungry[PRIORITY_LOW] = true;
    slots_give(&slots, PRIORITY_HIGH);
    assert_int_equal(slots_room(&slots, PRIORITY_HIGH), 0);
    assert_int_equal(slots_room(&slots, PRIORITY_LOW), 2); /* its reserve of one, and this one */
}

static void test_hungry_neighbours_leave_the_own_share_alone(void **state)
{
    struct slots slots;

    (void)state;
    slots_init(&slots, 100);
    for (int p = 0; p < PRIORITY_COUNT; p++)
        slots.is_hungry[p] = true;
    assert_int_equal(take_all(&slots, PRIORITY_LOW), 15);
    assert_int_equal(take_all(&slots, PRIORITY_NORMAL), 35);
    assert_int_equal(take_all(&slots, PRIORITY_HIGH), 50);
}

static void test_room_never_passes_what_is_free(void **state)
{
    (void)state;
    for (int total = 1; total <= 40; total++) {
        struct slots slots;

        slots_init(&slots, total);
        for (int step = 0; step < 2000; step++) {
            uint64_t random = backoff_random();
            enum priority p = (enum priority)(random % PRIORITY_COUNT);

            slots.is_hungry[(random >> 8) % PRIORITY_COUNT] = (random >> 16) & 1;
            assert_true(slots_room(&slots, p) <= total - slots_used(&slots));
            assert_true(slots_room(&slots, p) >= 0);
            if ((random >> 20) & 1 && slots_room(&slots, p) > 0)
                slots_take(&slots, p);
            else if (slots.used[p] > 0)
                slots_give(&slots, p);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_add_up_to_all_slots),
        cmocka_unit_test(test_shares_are_half_a_third_and_the_rest),
        cmocka_unit_test(test_idle_shares_are_lent_but_for_the_reserves),
        cmocka_unit_test(test_one_slot_serves_everybody),
        cmocka_unit_test(test_lent_share_returns_to_its_hungry_owner),
        cmocka_unit_test(test_borrower_above_its_share_yields_to_hungry_low),
        cmocka_unit_test(test_hungry_neighbours_leave_the_own_share_alone),
        cmocka_unit_test(test_room_never_passes_what_is_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
