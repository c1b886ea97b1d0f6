/* SPDX-License-Identifier: Apache-2.0 */
/* Every form of Retry-After, and nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "worker/providers/retry_after.h"

/* Sun, 06 Nov 1994 08:49:37 GMT */
#define NOW_US (INT64_C(784111777) * US_PER_S)

static const struct {
    const char *name, *value;
    int64_t wait_ms;
} cases[] = {
    {"retry-after", "2", 2000},
    {"retry-after", "0", 0},
    {"retry-after", "0.5", 500},
    {"retry-after", "1.2345", 1235},
    {"retry-after", "0.0001", 1},
    {"retry-after", "599.9999", 600000},
    {"retry-after", "601", 600000},
    {"retry-after", "999999999999999999999999999999999", 600000},
    {"retry-after", "-1", -1},
    {"retry-after", "+1", -1},
    {"retry-after", "1e3", -1},
    {"retry-after", "nan", -1},
    {"retry-after", "inf", -1},
    {"retry-after", "soon", -1},
    {"retry-after", "", -1},
    {"retry-after", "1.", -1},
    {"retry-after", ".5", -1},
    {"retry-after", "1 s", -1},
    {"retry-after", "Sun, 06 Nov 1994 08:49:40 GMT", 3000},
    {"retry-after", "Sun, 06 Nov 1994 08:49:30 GMT", 0},
    {"retry-after", "Sun, 06 Nov 2094 08:49:30 GMT", 600000},
    {"retry-after-ms", "250", 250},
    {"retry-after-ms", "250.5", 251},
    {"retry-after-ms", "1e9", -1},
    {"x-other", "250", -1},
};

static void test_each_form_is_understood_or_ignored(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct retry_headers headers;

        retry_headers_init(&headers);
        retry_headers_add(&headers, cases[i].name, cases[i].value);
        if (retry_headers_wait_ms(&headers, NOW_US) != cases[i].wait_ms)
            fail_msg("case %zu: %s: %lld", i, cases[i].value,
                     (long long)retry_headers_wait_ms(&headers, NOW_US));
    }
}

static void test_dates_count_from_the_providers_own_clock(void **state)
{
    struct retry_headers headers;

    (void)state;
    retry_headers_init(&headers);
    retry_headers_add(&headers, "date", "Sun, 06 Nov 1994 08:00:00 GMT");
    retry_headers_add(&headers, "retry-after", "Sun, 06 Nov 1994 08:00:05 GMT");
    assert_int_equal(retry_headers_wait_ms(&headers, NOW_US), 5000);
}

static void test_milliseconds_win(void **state)
{
    struct retry_headers headers;

    (void)state;
    retry_headers_init(&headers);
    retry_headers_add(&headers, "retry-after", "5");
    retry_headers_add(&headers, "retry-after-ms", "20");
    assert_int_equal(retry_headers_wait_ms(&headers, NOW_US), 20);
}

static void test_should_retry_is_true_or_false_or_unsaid(void **state)
{
    struct retry_headers headers;

    (void)state;
    retry_headers_init(&headers);
    retry_headers_add(&headers, "x-should-retry", "maybe");
    assert_int_equal(headers.should_retry, SHOULD_RETRY_UNSAID);
    retry_headers_add(&headers, "x-should-retry", "False");
    assert_int_equal(headers.should_retry, SHOULD_RETRY_NO);
    retry_headers_add(&headers, "x-should-retry", "true");
    assert_int_equal(headers.should_retry, SHOULD_RETRY_YES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_form_is_understood_or_ignored),
        cmocka_unit_test(test_dates_count_from_the_providers_own_clock),
        cmocka_unit_test(test_milliseconds_win),
        cmocka_unit_test(test_should_retry_is_true_or_false_or_unsaid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
