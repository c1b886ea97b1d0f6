/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of usage: what is a range, and that its slices are all of it, each part once. */
#include "common/model/usage_range.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"

#define US_PER_HOUR (3600 * US_PER_S)

static int64_t at(const char *text)
{
    int64_t us;

    assert_true(clock_parse_rfc3339(text, strlen(text), &us));
    return us;
}

static int32_t day(const char *text)
{
    int32_t out;

    assert_true(usage_day_parse(text, &out));
    return out;
}

static struct usage_range parse(const char *from, const char *to)
{
    struct usage_range range;
    struct err err = {0};

    if (!usage_range_parse(from, to, at("2026-11-21T12:34:56Z"), &range, &err))
        fail_msg("%s", err.message);
    return range;
}

/* --- ranges ----------------------------------------------------------------------------------- */

static void test_days_are_the_tenants_own(void **state)
{
    struct usage_range range = parse("2026-11-01", "2026-12-01");
    char text[USAGE_DAY_SIZE];

    (void)state;
    assert_true(range.is_days);
    assert_int_equal(range.end_day - range.first_day, 30);
    usage_day_format(range.first_day, text);
    assert_string_equal(text, "2026-11-01");
    /* Wherever the tenant is, its hours are in. */
    assert_int_equal(range.from_us, at("2026-10-31T10:00:00Z"));
    assert_int_equal(range.to_us, at("2026-12-01T12:00:00Z"));
}

static void test_times_are_taken_to_whole_hours(void **state)
{
    struct usage_range range = parse("2026-11-20T03:04:05.678Z", "2026-11-20T06:00:01+02:00");

    (void)state;
    assert_false(range.is_days);
    assert_int_equal(range.from_us, at("2026-11-20T03:00:00Z"));
    assert_int_equal(range.to_us, at("2026-11-20T05:00:00Z"));
    assert_int_equal(range.first_day, day("2026-11-19"));
    assert_int_equal(range.end_day, day("2026-11-22"));
}

static void test_without_bounds_it_is_the_last_days(void **state)
{
    struct usage_range range = parse(NULL, NULL);

    (void)state;
    assert_true(range.is_days);
    assert_int_equal(range.end_day, day("2026-11-23")); /* tomorrow somewhere, and that day whole */
    assert_int_equal(range.end_day - range.first_day, USAGE_DEFAULT_DAYS);
    range = parse("2026-11-20T00:00:00Z", NULL);
    assert_int_equal(range.to_us, at("2026-11-21T14:00:00Z"));
    range = parse(NULL, "2026-11-20");
    assert_int_equal(range.first_day, day("2026-10-21"));
}

static void test_bad_ranges_are_refused_by_name(void **state)
{
    static const struct {
        const char *from, *to, *param, *message;
    } cases[] = {
        {"2026-11-21", "2026-11-20", "to", "to: expected later"},
        {"2026-11-21", "2026-11-21", "to", "to: expected later"},
        {"2026-11-21T01:00:00Z", "2026-11-21T00:59:59Z", "to", "to: expected later"},
        {"2026-12-21", NULL, "to", "to: expected later"},
        {"1970-01-02", "2026-11-21", "from", "from: the range is longer than 1830 days"},
        {"2026-11-21", "9999-12-31", "from", "from: the range is longer"},
        {"1926-11-21", NULL, "from",
         "from: expected a day like 2026-11-21 or an RFC 3339 time like 2026-11-21T03:00:00Z, "
         "from 1970 to 9999, got \"1926-11-21\""},
        {"yesterday", NULL, "from", "from: expected a day like"},
        {"2026-02-30", NULL, "from", "from: expected a day like"},
        {"2026-11-2", NULL, "from", "from: expected a day like"},
        {"", NULL, "from", "from: expected a day like"},
        {NULL, "2026-11-21T00:00:00", "to", "to: expected a day like"},
        {"2026-11-20", "2026-11-21T00:00:00Z", "to", "to: expected a day like 2026-11-21, as"},
        {"2026-11-20T00:00:00Z", "2026-11-21", "to", "to: expected a time like"},
    };
    struct usage_range range;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err err = {0};

        assert_false(usage_range_parse(cases[i].from, cases[i].to, at("2026-11-21T12:00:00Z"),
                                       &range, &err));
        if (strncmp(err.message, cases[i].message, strlen(cases[i].message)) != 0)
            fail_msg("%zu: %s", i, err.message);
        assert_string_equal(err.param, cases[i].param);
        assert_string_equal(err.code, "invalid_value");
    }
}

/* --- slices ----------------------------------------------------------------------------------- */

static int has(const int32_t *days, int count, int32_t wanted)
{
    int found = 0;

    for (int i = 0; i < count; i++)
        found += days[i] == wanted;
    return found;
}

static int32_t first_of_month(int32_t of)
{
    char text[USAGE_DAY_SIZE];

    usage_day_format(of, text);
    text[8] = '0';
    text[9] = '1';
    return day(text);
}

/* How often the slices count an hour that is on that day for the tenant. */
static int counted(const struct usage_range *range, const struct usage_slices *slices,
                   int32_t on_day, int64_t hour_us)
{
    bool is_in_hours = hour_us >= range->from_us && hour_us < range->to_us;

    return has(slices->months, slices->month_count, first_of_month(on_day)) +
           has(slices->days, slices->day_count, on_day) +
           (is_in_hours ? has(slices->edges, slices->edge_count, on_day) : 0);
}

static void check_slices(const struct usage_range *range, bool by_day, bool by_hour)
{
    struct usage_slices slices;
    int64_t begin = range->from_us - 40 * US_PER_HOUR, end = range->to_us + 40 * US_PER_HOUR;

    usage_slices_of(range, by_day, by_hour, &slices);
    for (int64_t hour = begin; hour < end; hour += US_PER_HOUR) {
        for (int zone = -12; zone <= 14; zone += 13) {
            int32_t on_day = (int32_t)((hour + zone * US_PER_HOUR) / US_PER_DAY);
            bool is_in = range->is_days ? on_day >= range->first_day && on_day < range->end_day
                                        : hour >= range->from_us && hour < range->to_us;

            assert_int_equal(counted(range, &slices, on_day, hour), is_in);
            if (is_in)
                assert_int_equal(has(slices.covers, slices.cover_count, first_of_month(on_day)), 1);
        }
    }
}

static void test_slices_are_the_range_and_nothing_twice(void **state)
{
    (void)state;
    srandom(20261121);
    for (int i = 0; i < 120; i++) {
        int64_t from = at("2024-01-01T00:00:00Z") + random() % 800 * US_PER_DAY;
        int64_t length = i % 3 == 0 ? random() % 5 : random() % 140;
        struct usage_range range;
        struct err err = {0};
        char a[CLOCK_RFC3339_SIZE], b[CLOCK_RFC3339_SIZE];

        if (i % 2 == 0)
            from += random() % 24 * US_PER_HOUR;
        clock_format_rfc3339(from, a);
        clock_format_rfc3339(from + (length + 1) * US_PER_DAY - random() % 20 * US_PER_HOUR, b);
        if (i % 2 == 1)
            a[10] = b[10] = '\0';
        if (!usage_range_parse(a, b, 0, &range, &err))
            continue; /* one day, less some hours */
        check_slices(&range, false, false);
        check_slices(&range, true, false);
        check_slices(&range, true, true);
    }
}

static void test_year_is_few_slices(void **state)
{
    struct usage_range range = parse("2025-11-21", "2026-11-21");
    struct usage_slices slices;

    (void)state;
    usage_slices_of(&range, false, false, &slices);
    assert_int_equal(slices.month_count, 11);
    assert_int_equal(slices.day_count, 30);
    assert_int_equal(slices.edge_count, 0);
    range = parse("2025-01-01", "2026-01-01");
    usage_slices_of(&range, false, false, &slices);
    assert_int_equal(slices.month_count, 12);
    assert_int_equal(slices.day_count, 0);
    range = parse("2025-11-21T05:00:00Z", "2026-11-21T05:00:00Z");
    usage_slices_of(&range, false, false, &slices);
    assert_int_equal(slices.month_count, 11);
    assert_true(slices.day_count <= 30 && slices.edge_count <= 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_days_are_the_tenants_own),
        cmocka_unit_test(test_times_are_taken_to_whole_hours),
        cmocka_unit_test(test_without_bounds_it_is_the_last_days),
        cmocka_unit_test(test_bad_ranges_are_refused_by_name),
        cmocka_unit_test(test_slices_are_the_range_and_nothing_twice),
        cmocka_unit_test(test_year_is_few_slices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
