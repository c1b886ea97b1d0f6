/* SPDX-License-Identifier: Apache-2.0 */
/* Times are written in one form and read in all the forms that the RFCs allow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/base/clock.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NOV_21 (INT64_C(1795230245) * US_PER_S) /* 2026-11-21T03:04:05Z */
#define NOV_94 (INT64_C(784111777) * US_PER_S)  /* 1994-11-06T08:49:37Z */

static void test_format_rounds_down_to_milliseconds(void **state)
{
    static const struct {
        int64_t us;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {NOV_21 + 678999, "2026-11-21T03:04:05.678Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {-US_PER_S, "1969-12-31T23:59:59.000Z"},
        {INT64_C(253402300799) * US_PER_S + 999999, "9999-12-31T23:59:59.999Z"},
    };
    char out[CLOCK_RFC3339_SIZE];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        clock_format_rfc3339(cases[i].us, out);
        assert_string_equal(out, cases[i].text);
    }
    clock_format_rfc3339(INT64_MAX, out); /* fits */
    clock_format_rfc3339(INT64_MIN, out);
}

static void test_rfc3339_forms_are_read(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-11-21T03:04:05Z", NOV_21},
        {"2026-11-21t03:04:05z", NOV_21},
        {"2026-11-21T03:04:05.678Z", NOV_21 + 678000},
        {"2026-11-21T03:04:05.6Z", NOV_21 + 600000},
        {"2026-11-21T03:04:05.123456789123Z", NOV_21 + 123456},
        {"2026-11-21T04:04:05+01:00", NOV_21},
        {"2026-11-20T21:34:05-05:30", NOV_21},
        {"2026-11-21T03:04:05-00:00", NOV_21},
        {"1969-12-31T23:30:00-01:00", INT64_C(1800) * US_PER_S},
        {"2024-02-29T00:00:00Z", INT64_C(1709164800) * US_PER_S},
        {"2000-02-29T00:00:00Z", INT64_C(951782400) * US_PER_S},
        {"2016-12-31T23:59:60Z", INT64_C(1483228800) * US_PER_S},
        {"2016-12-31T18:59:60.5-05:00", INT64_C(1483228800) * US_PER_S + 500000},
        {"9999-12-31T23:59:59.999999Z", INT64_C(253402300799) * US_PER_S + 999999},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t us = -1;

        assert_true(clock_parse_rfc3339(cases[i].text, strlen(cases[i].text), &us));
        assert_true(us == cases[i].us);
    }
}

static void test_what_is_not_rfc3339_is_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "2026-11-21",
        "2026-11-21T03:04:05",
        "2026-11-21 03:04:05Z",
        "2026-11-21T03:04Z",
        "2026-11-21T03:04:05.Z",
        "2026-11-21T03:04:05,5Z",
        "2026-11-21T03:04:05Zx",
        "2026-11-21T03:04:05+0100",
        "2026-11-21T03:04:05+24:00",
        "2026-11-21T03:04:05+01:60",
        "2026-11-21T03:04:05+1:00",
        "2026-11-21T03:04:05+01:",
        "2026-13-21T03:04:05Z",
        "2026-00-21T03:04:05Z",
        "2026-11-31T03:04:05Z",
        "2026-11-00T03:04:05Z",
        "2026-02-29T03:04:05Z",
        "1900-02-29T03:04:05Z",
        "2100-02-29T03:04:05Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T03:60:05Z",
        "2026-11-21T03:04:61Z",
        "2026-11-21T03:04:60Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "9999-12-31T23:59:60Z",
        "20261-11-21T03:04:05Z",
        "-026-11-21T03:04:05Z",
        "2026-1-21T03:04:05Z",
        "2026x11-21T03:04:05Z",
        "2026-11x21T03:04:05Z",
        "2026-11-2xT03:04:05Z",
        "2026-11-21T0x:04:05Z",
        "2026-11-21T03x04:05Z",
        "2026-11-21T03:0x:05Z",
        "2026-11-21T03:04x05Z",
    };
    int64_t us = 77;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (clock_parse_rfc3339(cases[i], strlen(cases[i]), &us))
            fail_msg("accepted: %s", cases[i]);
    }
    assert_true(us == 77);
}

static void test_a_prefix_is_never_a_time(void **state)
{
    const char *text = "2026-11-21T03:04:05.678+01:00";
    int64_t us;

    (void)state;
    for (size_t len = 0; len < strlen(text); len++)
        assert_false(clock_parse_rfc3339(text, len, &us));
    assert_true(clock_parse_rfc3339(text, strlen(text), &us));
}

static void test_http_date_forms_are_read(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
    } cases[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", NOV_94},
        {"Mon, 06 Nov 1994 08:49:37 GMT", NOV_94}, /* wrong weekday */
        {"Sunday, 06-Nov-94 08:49:37 GMT", NOV_94},
        {"Sun Nov  6 08:49:37 1994", NOV_94},
        {"Wed Nov 16 08:49:37 1994", NOV_94 + 10 * US_PER_DAY},
        {"Sat, 21 Nov 2026 03:04:05 GMT", NOV_21},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t us = -1;

        assert_true(clock_parse_http_date(cases[i].text, strlen(cases[i].text), &us));
        assert_true(us == cases[i].us);
        for (size_t len = 0; len < strlen(cases[i].text); len++)
            assert_false(clock_parse_http_date(cases[i].text, len, &us));
    }
}

static void test_two_digit_years_within_50_ahead_are_of_this_century(void **state)
{
    time_t now = time(NULL);
    struct tm tm;

    (void)state;
    gmtime_r(&now, &tm);
    for (int digits = 0; digits < 100; digits++) {
        int this_year = tm.tm_year + 1900;
        int year = this_year - this_year % 100 + digits;
        char text[64], rfc3339[CLOCK_RFC3339_SIZE];
        int64_t us = 0;

        if (year > this_year + 50)
            year -= 100;
        snprintf(text, sizeof(text), "Monday, 01-Jun-%02d 00:00:00 GMT", digits);
        assert_int_equal(clock_parse_http_date(text, strlen(text), &us), year >= 1970);
        clock_format_rfc3339(us, rfc3339);
        assert_int_equal(atoi(rfc3339), year >= 1970 ? year : 1970);
    }
}

static void test_what_is_not_an_http_date_is_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "0",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Abc 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1969 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 UTC",
        "Sunday, 06-Nov-94 08:49:37 GMT ",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06 Nov 94 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sun Nov  6 24:49:37 1994",
    };
    int64_t us = 77;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (clock_parse_http_date(cases[i], strlen(cases[i]), &us))
            fail_msg("accepted: %s", cases[i]);
    }
    assert_true(us == 77);
}

static void test_clocks_run(void **state)
{
    int64_t wall = clock_now_us();
    int64_t mono = clock_monotonic_us();

    (void)state;
    assert_true(wall > NOV_94);
    assert_true(clock_monotonic_us() >= mono);
    clock_set_db_us(clock_now_us() - US_PER_DAY);
    assert_true(llabs(clock_db_us() + US_PER_DAY - clock_now_us()) < 60 * US_PER_S);
    clock_set_db_us(0);
    assert_true(llabs(clock_db_us() - clock_now_us()) < 60 * US_PER_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_rounds_down_to_milliseconds),
        cmocka_unit_test(test_rfc3339_forms_are_read),
        cmocka_unit_test(test_what_is_not_rfc3339_is_refused),
        cmocka_unit_test(test_a_prefix_is_never_a_time),
        cmocka_unit_test(test_http_date_forms_are_read),
        cmocka_unit_test(test_two_digit_years_within_50_ahead_are_of_this_century),
        cmocka_unit_test(test_what_is_not_an_http_date_is_refused),
        cmocka_unit_test(test_clocks_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
