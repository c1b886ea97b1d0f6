/* SPDX-License-Identifier: Apache-2.0 */
/* The progress line fits, and says what matters first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "producer/cli/progress.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct progress half = {.done = 50,
                                     .total = 100,
                                     .is_total_known = true,
                                     .failed = 2,
                                     .cost_nano = INT64_C(1234567890),
                                     .rate = 4.5};

static void test_what_matters_less_goes_first(void **state)
{
    static const struct {
        int width;
        const char *line;
    } cases[] = {
        {80, "###############--------------- 50/100  2 failed  4.5/s  $1.2345  12 s left"},
        {60, "########-------- 50/100  2 failed  4.5/s  $1.2345  12 s left"},
        {48, "50/100  2 failed  4.5/s  $1.2345  12 s left"},
        {40, "50/100  2 failed  $1.2345  12 s left"},
        {20, "50/100  2 failed"},
        {8, "50/100"},
        {3, ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf out;

        buf_init(&out, 4096);
        assert_true(progress_line(&half, cases[i].width, false, &out));
        assert_true((int)out.len <= cases[i].width);
        assert_string_equal(out.len ? out.data : "", cases[i].line);
        buf_release(&out);
    }
}

static void test_no_width_is_ever_passed(void **state)
{
    (void)state;
    for (int width = 0; width < 130; width++) {
        struct buf out;

        buf_init(&out, 4096);
        assert_true(progress_line(&half, width, false, &out));
        assert_true((int)out.len <= width);
        buf_release(&out);
    }
}

static void test_an_end_that_is_not_known_is_not_guessed(void **state)
{
    const struct progress reading = {.done = 5, .total = 10, .rate = 1};
    struct buf out;

    (void)state;
    buf_init(&out, 4096);
    assert_true(progress_line(&reading, 79, false, &out));
    assert_non_null(strstr(out.data, "5/10+"));
    assert_null(strstr(out.data, "left"));
    buf_release(&out);
}

static void test_times_read_well(void **state)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } cases[] = {{0, "0 s"}, {59, "59 s"}, {61, "1m 01s"}, {3600, "1h 00m"}, {90061, "25h 01m"}};
    char out[PROGRESS_TIME_SIZE];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        progress_time(cases[i].seconds, out);
        assert_string_equal(out, cases[i].text);
    }
}

static void test_rate_is_of_the_last_ten_seconds(void **state)
{
    struct rate rate = {0};

    (void)state;
    assert_true(rate_now(&rate, 0, 0) == 0);
    /* A thousand at once, as after a resume, then five a second. */
    for (int64_t second = 0; second <= 30; second++)
        rate_note(&rate, second * US_PER_S, second == 0 ? 0 : 1000 + 5 * second);
    assert_true(rate_now(&rate, 30 * US_PER_S, 1150) > 4.9);
    assert_true(rate_now(&rate, 30 * US_PER_S, 1150) < 5.1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_matters_less_goes_first),
        cmocka_unit_test(test_no_width_is_ever_passed),
        cmocka_unit_test(test_an_end_that_is_not_known_is_not_guessed),
        cmocka_unit_test(test_times_read_well),
        cmocka_unit_test(test_rate_is_of_the_last_ten_seconds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
