/* SPDX-License-Identifier: Apache-2.0 */
/* Waits grow by doubling up to the cap, and jitter reaches both ends. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/backoff.h"

static void test_ceiling_doubles_up_to_the_cap(void **state)
{
    static const struct {
        struct backoff_policy policy;
        int failures;
        int64_t ceiling;
    } cases[] = {
        {{100, 10000}, 1, 100},
        {{100, 10000}, 2, 200},
        {{100, 10000}, 7, 6400},
        {{100, 10000}, 8, 10000},
        {{100, 10000}, INT_MAX, 10000},
        {{100, 50}, 1, 50},
        {{100, 0}, 3, 0},
        {{1, INT64_MAX}, 63, INT64_C(1) << 62},
        {{1, INT64_MAX}, 64, INT64_MAX},
        {{1, INT64_MAX}, INT_MAX, INT64_MAX},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct backoff_policy *policy = &cases[i].policy;
        uint64_t ceiling = (uint64_t)cases[i].ceiling;

        assert_true(backoff_full_jitter_ms(policy, cases[i].failures, ceiling) == cases[i].ceiling);
        assert_true(backoff_full_jitter_ms(policy, cases[i].failures, ceiling + 1) == 0);
        assert_true(backoff_full_jitter_ms(policy, cases[i].failures, 0) == 0);
    }
}

static void test_spread_reaches_both_ends(void **state)
{
    (void)state;
    assert_int_equal(backoff_spread_ms(1000, 10, 0), 900);
    assert_int_equal(backoff_spread_ms(1000, 10, 200), 1100);
    assert_int_equal(backoff_spread_ms(1000, 10, 201), 900);
    assert_int_equal(backoff_spread_ms(1000, 0, 77), 1000);
    assert_int_equal(backoff_spread_ms(0, 50, 77), 0);
    for (int i = 0; i < 1000; i++) {
        int64_t wait = backoff_spread_ms(86400000, 20, backoff_random());

        assert_true(wait >= 69120000 && wait <= 103680000);
    }
}

static void test_random_covers_its_bits(void **state)
{
    uint64_t ones = 0;
    uint64_t zeros = 0;

    (void)state;
    for (int i = 0; i < 200; i++) {
        uint64_t random = backoff_random();

        ones |= random;
        zeros |= ~random;
    }
    assert_true(ones == UINT64_MAX && zeros == UINT64_MAX);
}

static void test_child_does_not_repeat_its_parent(void **state)
{
    uint64_t mine, other;
    int ends[2];
    pid_t pid;

    (void)state;
    backoff_random();
    assert_int_equal(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
        mine = backoff_random();
        _exit(write(ends[1], &mine, sizeof(mine)) == sizeof(mine) ? 0 : 1);
    }
    assert_true(pid > 0);
    mine = backoff_random();
    assert_int_equal(read(ends[0], &other, sizeof(other)), sizeof(other));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(mine != other);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ceiling_doubles_up_to_the_cap),
        cmocka_unit_test(test_spread_reaches_both_ends),
        cmocka_unit_test(test_random_covers_its_bits),
        cmocka_unit_test(test_child_does_not_repeat_its_parent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
