/* SPDX-License-Identifier: Apache-2.0 */
/* Money is exact or refused, and costs are rounded up once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/money.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_format_has_nine_places(void **state)
{
    static const struct {
        int64_t nano;
        const char *text;
    } cases[] = {
        {0, "0.000000000"},
        {1, "0.000000001"},
        {123400, "0.000123400"},
        {NANO_PER_USD, "1.000000000"},
        {-1, "-0.000000001"},
        {-1500000000, "-1.500000000"},
        {MONEY_MAX_NANO, "9000000.000000000"},
        {INT64_MAX, "9223372036.854775807"},
        {INT64_MIN, "-9223372036.854775808"},
    };
    char out[MONEY_TEXT_SIZE];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        money_format(cases[i].nano, out);
        assert_string_equal(out, cases[i].text);
    }
}

struct reading {
    const char *text;
    int64_t nano; /* -1: refused */
};

static void test_plain_decimals_are_read(void **state)
{
    static const struct reading cases[] = {
        {"0", 0},
        {"3", 3 * NANO_PER_USD},
        {"0.25", 250000000},
        {"0.000000001", 1},
        {"0.100000000", 100000000},
        {"007.5", 7500000000},
        {"9000000", MONEY_MAX_NANO},
        {"9000000.000000000", MONEY_MAX_NANO},
        {"9000000.000000001", -1},
        {"9000001", -1},
        {"90000000", -1},
        {"0.0000000001", -1},
        {"0.0000000000", -1}, /* ten places */
        {"99999999999999999999999999", -1},
        {"100000000000000000000000001", -1},
        {"9223372036854775807", -1},
        {"9223372036854775808", -1},
        {"", -1},
        {".5", -1},
        {"5.", -1},
        {"-1", -1},
        {"+1", -1},
        {"1e-5", -1},
        {"1 ", -1},
        {" 1", -1},
        {"1.2.3", -1},
        {"1,5", -1},
        {"abc", -1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t nano = -1;
        bool ok = money_parse(cases[i].text, strlen(cases[i].text), &nano);

        if (ok != (cases[i].nano >= 0) || nano != cases[i].nano)
            fail_msg("%s: got %lld", cases[i].text, (long long)nano);
    }
}

static void test_json_numbers_are_exact_or_refused(void **state)
{
    static const struct reading cases[] = {
        {"0", 0},
        {"0.0", 0},
        {"0e999999999999", 0},
        {"0.15", 150000000},
        {"1.5e-7", 150},
        {"1.5E-7", 150},
        {"15e-8", 150},
        {"1e-9", 1},
        {"1e-10", -1},
        {"10e-10", 1},
        {"1.00000000000000000000000000000", NANO_PER_USD},
        {"0.00000000100000000000000000000", 1},
        {"1.00000000000000000000000000001", -1},
        {"9e6", MONEY_MAX_NANO},
        {"9e+6", MONEY_MAX_NANO},
        {"9000000e0", MONEY_MAX_NANO},
        {"9.000001e6", -1},
        {"1e7", -1},
        {"1e99999999999999999999", -1},
        {"1e-99999999999999999999", -1},
        {"123456.789012345", 123456789012345},
        {"12345678901234567890123", -1},
        {"01", -1},
        {"00", -1},
        {"-1", -1},
        {"-0", -1},
        {"+1", -1},
        {"1e", -1},
        {"1e+", -1},
        {"1e5x", -1},
        {"1x", -1},
        {"1.e5", -1},
        {".5", -1},
        {"", -1},
        {"NaN", -1},
        {"1.5e-7 ", -1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t nano = -1;
        bool ok = money_parse_number(cases[i].text, strlen(cases[i].text), &nano);

        if (ok != (cases[i].nano >= 0) || nano != cases[i].nano)
            fail_msg("%s: got %lld", cases[i].text, (long long)nano);
    }
}

static void test_what_is_written_is_read_back(void **state)
{
    char text[MONEY_TEXT_SIZE];

    (void)state;
    for (int64_t nano = 1; nano < MONEY_MAX_NANO / 7; nano = nano * 7 + 3) {
        int64_t back = -1;

        money_format(nano, text);
        assert_true(money_parse(text, strlen(text), &back));
        assert_true(back == nano);
        assert_true(money_parse_number(text, strlen(text), &back));
        assert_true(back == nano);
    }
}

static void test_cost_is_exact_and_rounded_up_once(void **state)
{
    static const struct {
        struct price price;
        int64_t input, cached, output, cost;
    } cases[] = {
        {{150000000, 75000000, 600000000}, 0, 0, 0, 0},
        {{150000000, 75000000, 600000000}, 1000, 0, 500, 450000},
        {{150000000, 75000000, 600000000}, 1000, 400, 500, 420000},
        {{150000000, 75000000, 600000000}, 1000, 5000, 0, 75000}, /* cached is part of input */
        {{150000000, 75000000, 600000000}, -1, -1, -1, 0},
        {{1, 1, 1}, 1, 0, 0, 1},
        {{1, 1, 1}, 400000, 200000, 600000, 1},
        {{1, 1, 1}, 400000, 200000, 600001, 2},
        {{0, 0, 0}, INT64_MAX, 0, INT64_MAX, 0},
        {{-5, -5, -5}, 1000000, 0, 1000000, 0},
        {{INT64_MAX, INT64_MAX, INT64_MAX}, INT64_MAX, 1, INT64_MAX, INT64_MAX},
        {{1000000, 0, 0}, INT64_MAX, 0, 0, INT64_MAX},
        {{1000000, 0, 1000000}, INT64_MAX, 0, 1, INT64_MAX},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_true(money_cost(&cases[i].price, cases[i].input, cases[i].cached, cases[i].output) ==
                    cases[i].cost);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_has_nine_places),
        cmocka_unit_test(test_plain_decimals_are_read),
        cmocka_unit_test(test_json_numbers_are_exact_or_refused),
        cmocka_unit_test(test_what_is_written_is_read_back),
        cmocka_unit_test(test_cost_is_exact_and_rounded_up_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
